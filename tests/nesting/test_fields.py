"""A guest's commands, field by field, against what Linux 7.2.13 and 7.3.4 really answered (data/README.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.nesting.machine import Machine, translated
from wizard.arch import command
from wizard.arch.command import Op
from wizard.nesting import HostSmmu, Kernel, KernelError
from wizard.nesting.fields import FieldCheck
from wizard.nesting.invalidate import Words, convert, encode
from wizard.smmu import Ids

DATA = Path(__file__).parent / "data"
VSID, SID = 0x900, 0x1400
NEW, OLD = Kernel(release="7.3.4"), Kernel(release="7.2.13")


def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / name).read_text(encoding="utf-8"))
    return found


def asked(host: HostSmmu, words: Words, vsid: int = VSID) -> tuple[str, int]:
    """What the simulated kernel says to one command, and entry_num."""
    vm = Machine().vm()
    device = next(iter(host.masters.values()))
    viommu = vm.alloc_viommu(device, vm.alloc_parent(device))
    vm.alloc_vdevice(viommu, device, vsid)
    try:
        return "ok", vm.invalidate(viommu, [words])
    except KernelError as error:
        return error.errno, error.done


def host_of(kernel: Kernel, ids: Ids | None = None) -> HostSmmu:
    machine = Machine()
    smmu = machine.smmu(ids=ids or Ids(), kernel=kernel)
    machine.function(smmu, "nvme", SID)
    return smmu


@pytest.mark.parametrize("name", ["fields-7.2.13.json", "fields-7.3.4.json"])
def test_every_bit_of_every_command_that_may_pass(name: str) -> None:
    real = recorded(name)
    host = host_of(Kernel(release=real["release"]))
    device = host.masters[SID]
    vm = Machine().vm()
    viommu = vm.alloc_viommu(device, vm.alloc_parent(device))
    vm.alloc_vdevice(viommu, device, VSID)
    assert len(real["fields"]) == 996
    differ = []
    for low, high, answer, done in real["fields"]:
        host.skipped.clear()
        try:
            mine = {("ok", vm.invalidate(viommu, [(int(low, 16), int(high, 16))]))}
        except KernelError as error:
            mine = {(error.errno, error.done)}
        if host.skipped:  # ILLEGAL to the hardware: the emulated host may take longer than the kernel waits
            mine.add(("ETIMEDOUT", 0))
        if (answer, done) not in mine:
            differ.append((low, high, answer, done, mine))
    assert differ == []


@pytest.mark.parametrize("kernel", [OLD, NEW])
def test_what_every_release_lets_through(kernel: Kernel) -> None:
    """Well-formed commands, with ASIDs, ranges and hints: a guest's driver sends nothing else."""
    said = {name: (answer, done) for name, low, _, answer, done in recorded("answers-7.3.4.json")["commands"] if low}
    assert len(said) == 13
    mine = {
        name: asked(host_of(kernel), (int(low, 16), int(high, 16)), vsid=0x11)
        for name, low, high, _, _ in recorded("answers-7.3.4.json")["commands"]
        if low
    }
    assert mine == said


def test_a_refusal_is_counted_before_the_bad_command() -> None:
    """The rest of the batch is as in 7.2: entry_num counts what was converted."""
    good, bad = encode(Op.TLBI_NH_ASID, ASID=1), encode(Op.TLBI_NH_VA, TG=1)
    host = host_of(NEW)
    device = host.masters[SID]
    vm = Machine().vm()
    viommu = vm.alloc_viommu(device, vm.alloc_parent(device))
    before = host.commands
    with pytest.raises(KernelError) as error:
        vm.invalidate(viommu, [good] * 70 + [bad, good])
    assert (error.value.errno, error.value.done, error.value.where) == ("EIO", 70, "arm_vsmmu_validate_range()")
    assert host.commands - before == 63


# Other silicon than the emulated host's: arm_vsmmu_validate_user_cmd() of Linux 7.3.4, field by field.
PLAIN = FieldCheck(asid16=False, ril=False, ds=False, ats=False, substreams=False)
RICH = FieldCheck(asid16=True, ril=True, ds=True, ats=True, substreams=True)
RIL = FieldCheck(asid16=True, ril=True, ds=False, ats=False, substreams=False)


@pytest.mark.parametrize(
    ("check", "op", "fields", "passes"),
    [
        (PLAIN, Op.TLBI_NH_ASID, {"ASID": 0xFF}, True),
        (PLAIN, Op.TLBI_NH_ASID, {"ASID": 0x100}, False),
        (RICH, Op.TLBI_NH_ASID, {"ASID": 0xFFFF}, True),
        (PLAIN, Op.TLBI_NH_VA, {"ASID": 1, "Address": 0x1000, "Leaf": 1}, True),
        (PLAIN, Op.TLBI_NH_VA, {"TG": 1, "TTL": 3}, False),
        (PLAIN, Op.TLBI_NH_VA, {"NUM": 1, "TG": 1}, False),
        (RIL, Op.TLBI_NH_VA, {"NUM": 1, "TG": 1}, True),
        (RIL, Op.TLBI_NH_VAA, {"ASID": 1}, False),
        (RIL, Op.TLBI_NH_VA, {"TG": 2, "TTL": 1}, False),
        (RICH, Op.TLBI_NH_VA, {"TG": 2, "TTL": 1}, True),
        (RIL, Op.TLBI_NH_VA, {"TG": 1, "SCALE": 31, "NUM": 31}, True),
        (RIL, Op.TLBI_NH_VA, {"TG": 1, "SCALE": 32}, False),
        (RICH, Op.TLBI_NH_VA, {"TG": 1, "SCALE": 39}, True),
        (RICH, Op.TLBI_NH_VA, {"TG": 1}, False),
        (RICH, Op.TLBI_NH_VA, {"TG": 1, "TTL": 3, "TTL128": 1}, False),
        (PLAIN, Op.ATC_INV, {"StreamID": VSID}, False),
        (RICH, Op.ATC_INV, {"StreamID": VSID, "Size": 52, "SSV": 1, "SubstreamID": 5, "Global": 1}, True),
        (RICH, Op.ATC_INV, {"StreamID": VSID, "Size": 53}, False),
        (RICH, Op.CFGI_CD, {"StreamID": VSID, "SubstreamID": 5, "Leaf": 1}, True),
        (PLAIN, Op.CFGI_CD, {"StreamID": VSID, "SubstreamID": 5}, False),
        (RICH, Op.CFGI_CD, {"StreamID": VSID, "SSV": 1}, False),
        (RICH, Op.CFGI_CD, {"StreamID": VSID, "SSec": 1}, False),
        (RICH, Op.CFGI_CD_ALL, {"StreamID": VSID, "Leaf": 1}, False),
        (RICH, Op.TLBI_NSNH_ALL, {"VMID": 1}, False),
    ],
)
def test_fields_by_what_the_smmu_has(check: FieldCheck, op: Op, fields: dict[str, int], passes: bool) -> None:
    words = encode(op, **fields)
    if passes:
        assert command.decode(*convert(words, 7, {VSID: SID}.get, check)).Opcode == op
        return
    with pytest.raises(KernelError) as error:
        convert(words, 7, {VSID: SID}.get, check)
    assert error.value.errno == "EIO"
    assert error.value.where.startswith("arm_vsmmu_validate_")
    convert(words, 7, {VSID: SID}.get)  # Linux 7.2 lets it through


def test_what_an_atc_inv_needs_is_the_kernels_ats_not_the_registers() -> None:
    """ARM_SMMU_FEAT_ATS also needs CONFIG_PCI_ATS."""
    ids = Ids(idr0=Ids().idr0 | 1 << 10)
    words = encode(Op.ATC_INV, StreamID=VSID)
    assert asked(host_of(Kernel(release="7.3.4", ats=True), ids), words) == ("ok", 1)
    assert asked(host_of(NEW, ids), words) == ("EIO", 0)


@pytest.mark.parametrize(("release", "checks"), [("7.3.4-armhost", True), ("7.2.13", False), ("", None), ("7.3.0-rc3", None)])
def test_a_kernel_whose_release_does_not_tell_is_taken_as_the_older_one(release: str, checks: bool | None) -> None:
    kernel = Kernel(release=release)
    assert kernel.checks_fields is checks
    assert (host_of(kernel).check is not None) is (checks is True)


def test_a_command_that_stops_the_shared_queue_of_7_2_ends_at_its_guest_on_7_3() -> None:
    """Seen on Linux 7.2.13: "CMDQ error (cons 0x010000bc): Illegal command", "skipping command in error state", and "ok" for the guest."""
    words = encode(Op.CFGI_CD, StreamID=VSID, SSec=1)
    old, new = host_of(OLD), host_of(NEW)
    assert asked(old, words) == ("ok", 1)
    assert [low for low, _ in old.skipped] == [words[0] & 0xFFFF_FFFF | SID << 32]
    assert asked(new, words) == ("EIO", 0)
    assert new.skipped == []


def test_qemu_tells_the_guest_of_a_refused_command() -> None:
    """smmuv3_cmdq_consume(): CERROR_ILL for what the kernel answers with EIO; on 7.2 nothing is said."""
    for kernel, count in ((NEW, 0), (OLD, 1)):
        device, vsmmu = translated(kernel)
        assert device.smmu.kernel is kernel
        assert vsmmu.consume([encode(Op.TLBI_NH_VA, TG=1)]).count == count
