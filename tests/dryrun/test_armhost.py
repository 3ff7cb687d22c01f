"""What a real kernel answers through /dev/iommu and VFIO, and what the simulated one answers to the very same: they must not differ.

Runs when the emulated arm64 host is built (scripts/armhost build), else it is skipped loudly.
"""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.nesting.machine import BACKING, DOORBELL, RAM_SIZE, Guest, Machine
from tests.tools.armhost import Boot, boot
from wizard.arch import event
from wizard.arch.command import CommandError, Op
from wizard.arch.event import Event, EventType
from wizard.arch.registers import CmdqCons
from wizard.nesting import Device, Group, Iommufd, Kernel, KernelError, Veventq, ViommuType, Vsmmu
from wizard.nesting.invalidate import encode, issue
from wizard.nesting.iommufd import Area
from wizard.nesting.vste import validate
from wizard.smmu import Ids, Transaction

pytestmark = pytest.mark.armhost
JOB = Path(__file__).parent / "jobs/nesting.py"
VSID, SID = 0x900, 0x1400


def answers(tmp_path_factory: pytest.TempPathFactory, *options: str) -> dict[str, Any]:
    host = boot(JOB, tmp_path_factory.mktemp("nesting"), options)
    found: dict[str, Any] = json.loads((host.out / "answers.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A host with CANWBS, whose kernel allows nesting."""
    return answers(tmp_path_factory, "--canwbs")


def said(action: Any) -> str:
    """The simulated kernel's answer, by the name that Python gives the errno (95 has two)."""
    try:
        action()
    except KernelError as error:
        return "ENOTSUP" if error.errno == "EOPNOTSUPP" else error.errno
    return "ok"


def test_a_viommu_without_canwbs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same host as its firmware made it: neither CANWBS nor S2FWB."""
    real = answers(tmp_path_factory)["viommu"]
    host = Machine()
    device = host.function(host.smmu(), "nvme", SID, canwbs=False)
    vm = host.vm()
    parent = vm.alloc_parent(device)
    assert (real, said(lambda: vm.alloc_viommu(device, parent))) == ("ENOTSUP", "ENOTSUP")


def test_a_viommu_with_canwbs(kernel: dict[str, Any]) -> None:
    host = Machine()
    device = host.function(host.smmu(), "nvme", SID)
    vm = host.vm()
    parent = vm.alloc_parent(device)
    assert kernel["viommu"] == said(lambda: vm.alloc_viommu(device, parent)) == "ok"


def test_every_bit_of_a_guests_entry(kernel: dict[str, Any]) -> None:
    """152 entries: each Config and EATS, and each single bit of the two words."""
    assert len(kernel["entries"]) > 150
    differ = [
        (case["words"], case["answer"]) for case in kernel["entries"] if said(lambda case=case: validate(tuple(case["words"]))) != case["answer"]
    ]
    assert differ == []


def test_every_command(kernel: dict[str, Any]) -> None:
    """255 opcodes in the middle of a batch, an unknown vSID, more than a batch of 63: errno and entry_num."""
    assert len(kernel["commands"]) == 255 + 3
    host = Machine().smmu(ids=Ids(), kernel=Kernel(release=kernel["release"]))
    differ = []
    for case in kernel["commands"]:
        batch = [(low, high) for low, high in case["batch"]]
        try:
            mine = ("ok", issue(batch, 1, {VSID: SID}.get, lambda words: None, host.check))
        except KernelError as error:
            mine = (error.errno, error.done)
        if mine != (case["answer"], case["done"]):
            differ.append((case["batch"][1], case["answer"], case["done"], mine))
    assert differ == []


def test_every_field(kernel: dict[str, Any]) -> None:
    """The opcodes that may pass with every other bit, and the range fields in combination: as the release of the host's kernel has it.

    Where 7.2 lets a command through that the hardware finds ILLEGAL, the queue stands until the driver's interrupt handler has skipped it. The
    emulated host may take longer than the second that the kernel waits for its CMD_SYNC (ARM_SMMU_POLL_TIMEOUT_US), and says ETIMEDOUT then.
    """
    host = Machine().smmu(ids=Ids(), kernel=Kernel(release=kernel["release"]))
    assert len(kernel["fields"]) > 900
    differ = []
    for case in kernel["fields"]:
        words = case["words"][0], case["words"][1]
        host.skipped.clear()
        try:
            mine = {("ok", issue([words], 1, {VSID: SID}.get, host.submit, host.check))}
        except KernelError as error:
            mine = {(error.errno, error.done)}
        if host.skipped:
            mine.add(("ETIMEDOUT", 0))
        if (case["answer"], case["done"]) not in mine:
            differ.append((hex(words[0]), hex(words[1]), case["answer"], case["done"], mine))
    assert differ == []


def test_how_deep_and_how_long(kernel: dict[str, Any]) -> None:
    """Depths of a vEVENTQ, and the length of an array whose first command is refused: errno and entry_num."""
    host = Machine()
    device = host.function(host.smmu(), "nvme", SID)
    vm = host.vm()
    viommu = vm.alloc_viommu(device, vm.alloc_parent(device))

    def queue(depth: int) -> None:
        vm.alloc_veventq(viommu, depth)
        viommu.veventq = None

    assert [[depth, said(lambda depth=depth: queue(depth))] for depth, _ in kernel["depths"]] == kernel["depths"]
    mine = []
    for count, _, _ in kernel["lengths"]:
        with pytest.raises(KernelError) as error:
            vm.invalidate(viommu, [(Op.TLBI_EL2_ALL, 0)] * count)
        mine.append([count, error.value.errno, error.value.done])
    assert mine == kernel["lengths"]


def test_objects_and_attaching(kernel: dict[str, Any]) -> None:
    """The order of the job, step by step."""
    host = Machine()
    first, second = host.smmu("a"), host.smmu("b")
    nvme, vf, nic = host.function(first, "nvme", SID), host.function(first, "vf", 0x1180), host.function(second, "nic", 0x4100)
    vm = host.vm()
    for device in (nvme, vf, nic):
        vm.bind(device)
    parent = vm.alloc_parent(nvme)
    vm.attach(nvme, parent)
    viommu = vm.alloc_viommu(nvme, parent)
    translate, bypass = vm.alloc_nested(viommu, (0x4000_000B, 0)), vm.alloc_nested(viommu, (0b1001, 0))
    plain = vm.alloc_parent(nvme, nest_parent=False)
    steps = {
        "attach_bypass_without_vdevice": lambda: vm.attach(nvme, bypass),
        "attach_stage1_without_vdevice": lambda: vm.attach(nvme, translate),
        "attach_other_smmu": lambda: vm.attach(nic, bypass),
        "viommu_other_smmu": lambda: vm.alloc_viommu(nic, parent),
        "viommu_plain_parent": lambda: vm.alloc_viommu(nvme, plain),
        "viommu_default_type": lambda: vm.alloc_viommu(nvme, parent, ViommuType.DEFAULT),
        "viommu_cmdqv": lambda: vm.alloc_viommu(nvme, parent, ViommuType.TEGRA241_CMDQV),
        "vdevice": lambda: vm.alloc_vdevice(viommu, nvme, VSID),
        "vdevice_again": lambda: vm.alloc_vdevice(viommu, nvme, VSID + 1),
        "vdevice_same_vsid": lambda: vm.alloc_vdevice(viommu, vf, VSID),
        "vdevice_other_smmu": lambda: vm.alloc_vdevice(viommu, nic, VSID + 2),
        "veventq_no_depth": lambda: vm.alloc_veventq(viommu, 0),
        "attach_stage1_with_vdevice": lambda: vm.attach(nvme, translate),
    }
    assert {name: said(step) for name, step in steps.items()} == {name: kernel[name] for name in steps}


def test_the_two_cases_of_a_shared_group(kernel: dict[str, Any]) -> None:
    """Domain problem 31: `Invalid argument` for the second function, and no stage 1 for a single one."""
    host = Machine()
    smmu, group = host.smmu(), Group(11)
    first, second = host.function(smmu, "81:00.0", 0x8100, group=group), host.function(smmu, "81:00.1", 0x8101, group=group)
    vm = host.vm()
    vm.bind(first)
    vm.bind(second)
    parent = vm.alloc_parent(first)
    vm.attach(first, parent)
    viommu = vm.alloc_viommu(first, parent)
    vm.attach(first, vm.alloc_nested(viommu, (0b1001, 0)))
    assert (kernel["second_of_a_group"], said(lambda: vm.attach(second, parent))) == ("EINVAL", "EINVAL")
    vm.alloc_vdevice(viommu, first, VSID)
    translate = vm.alloc_nested(viommu, (0x4000_000B, 0))
    assert (kernel["one_of_a_group"], said(lambda: vm.attach(first, translate))) == ("ENOENT", "ENOENT")


@pytest.mark.parametrize(("name", "place"), [("window", 0x800_0000), ("aperture", 1 << 44)])
def test_memory_where_none_may_be(kernel: dict[str, Any], name: str, place: int) -> None:
    host = Machine()
    device = host.function(host.smmu(), "nvme", SID)
    vm = Iommufd("vm", DOORBELL)
    vm.map(Area(place, BACKING, RAM_SIZE))
    made: list[Any] = []
    assert said(lambda: made.append(vm.alloc_parent(device))) == kernel[f"{name}_parent"]
    if made:
        assert said(lambda: vm.attach(device, made[0])) == kernel[f"{name}_attach"]


def test_the_event_of_a_guests_unmapped_access(kernel: dict[str, Any]) -> None:
    """The NVMe fetches its first command from an address that stage 1 does not map: the record, bit by bit, and the loss behind it."""
    real = bytes.fromhex(kernel["event"]["record"])
    host = Machine()
    device = host.function(host.smmu(ids=Ids(), kernel=Kernel()), "nvme", SID)
    vsmmu = host.vsmmu(host.vm())
    vsmmu.plug(device, VSID)
    guest = Guest(vsmmu)
    guest.table(VSID)
    vsmmu.consume([encode(Op.CFGI_STE, StreamID=VSID)])
    viommu = vsmmu.viommu
    assert viommu is not None
    assert said(lambda: vsmmu.iommufd.alloc_veventq(viommu, 8)) == kernel["event"]["second_queue"] == "EEXIST"
    assert not device.smmu.smmu.translate(Transaction(SID, kernel["event"]["address"])).ok
    device.smmu.handle_events()
    (mine,) = vsmmu.read_events()
    assert int.from_bytes(real[:8], "little") == 0
    theirs = event.decode(Event.of_bytes(real[8:40]).value)
    assert (EventType(theirs.Type), theirs.StreamID) == (EventType.F_TRANSLATION, VSID)
    assert theirs == mine
    # A queue of 8 takes 8, and more where it is read while they come; then a header alone, with the flag for lost events and the last one's number.
    heads, at = [], 0
    while at < len(real):
        flags, sequence = (int.from_bytes(real[at + part : at + part + 4], "little") for part in (0, 4))
        heads.append((flags, sequence))
        at += 8 if flags & 1 else 40
    assert at == len(real)
    assert len(heads) > 8
    assert heads[:-1] == [(0, number) for number in range(len(heads) - 1)]
    flags, sequence = heads[-1]
    assert flags == 1
    assert sequence >= len(heads) - 1
    queue = Veventq(8)
    for _ in range(sequence + 1):
        queue.report(mine)
    assert queue.read()[-1].sequence == sequence
    assert queue.lost == sequence + 1 - 8


# -- the same two cases through a real QEMU ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Boot:
    """jobs/group.sh: a two-function group behind an accelerated vSMMU, both functions and one alone."""
    return boot(JOB.parent / "group.sh", tmp_path_factory.mktemp("group"), ["--canwbs", "--inner", "--mem", "4G"], limit=900)


def twins() -> tuple[Vsmmu, Device, Device]:
    host = Machine()
    smmu, shared = host.smmu(), Group(11)
    first, second = host.function(smmu, "0000:81:00.0", 0x8100, group=shared), host.function(smmu, "0000:81:00.1", 0x8101, group=shared)
    return host.vsmmu(host.vm()), first, second


def test_qemu_does_not_start_with_two_functions_of_a_group(group: Boot) -> None:
    """``error attach 0000:81:00.1 (25) pasid 0 to id=9: Invalid argument``."""
    assert group.status("two") == 1
    assert "error attach 0000:81:00.1" in group.errors("two")
    assert group.errors("two").rstrip().endswith("Invalid argument")
    vsmmu, first, second = twins()
    vsmmu.plug(first, VSID)
    with pytest.raises(KernelError) as error:
        vsmmu.plug(second, VSID + 1)
    assert error.value.number == errno.EINVAL


def test_the_guest_of_one_function_of_a_group_meets_an_illegal_command(group: Boot) -> None:
    """The guest's driver finds CERROR_ILL and prints the command: CFGI_STE of its vSID."""
    console = (group.out / "console").read_text(encoding="utf-8", errors="replace")
    error = re.search(r"CMDQ error \(cons 0x([0-9a-f]+)\): Illegal command", console)
    assert error, console[-3000:]
    assert CmdqCons(int(error[1], 16)).ERR == CommandError.CERROR_ILL
    words = [int(word, 16) for word in re.findall(r"0x([0-9a-f]{16})\b", console[console.index("skipping command") :])]
    vsmmu, first, _ = twins()
    vsmmu.plug(first, VSID)
    guest = Guest(vsmmu)
    guest.table(VSID)
    command = encode(Op.CFGI_STE, StreamID=VSID, Leaf=1)
    consumed = vsmmu.consume([command])
    assert (consumed.count, consumed.error) == (0, CommandError.CERROR_ILL)
    assert command[0] in words


# -- what QEMU attaches, and when -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plugged(tmp_path_factory: pytest.TempPathFactory) -> Boot:
    """jobs/plug.py: a function plugged beside one, first behind its vSMMU, and from behind another SMMU."""
    return boot(JOB.parent / "plug.py", tmp_path_factory.mktemp("plug"), ["--canwbs", "--mem", "4G"], limit=900)


def attached(host: Boot, name: str, function: str) -> dict[str, list[str]]:
    """By phase (device_add, system_reset): what the function was attached to, stage 2 or GBPA's, or the refusal."""
    log = (host.out / f"{name}.log").read_text(encoding="utf-8")
    parents = set(re.findall(r"iommufd_backend_alloc_hwpt .*hwpt_type=0 .*out_hwpt=(\d+) \(0\)", log))
    found = {}
    for phase in log.split("\n-- ")[1:]:
        title, _, text = phase.partition("\n")
        steps = re.findall(rf"(Successfully attached device|error attach) {function} \(\d+\) pasid 0 to id=(\d+)", text)
        found[title] = ["refused" if done == "error attach" else "stage 2" if number in parents else "GBPA" for done, number in steps]
    return found


def test_gbpa_reaches_the_first_function_at_once_and_a_later_one_at_a_reset(plugged: Boot) -> None:
    first, beside = attached(plugged, "first", "0000:41:00.0"), attached(plugged, "beside", "0000:11:10.0")
    assert (first["device_add"], beside["device_add"]) == (["stage 2", "GBPA"], ["stage 2"])
    assert (first["system_reset"], beside["system_reset"]) == (["GBPA"], ["GBPA"])


def test_a_function_of_another_smmu_is_taken_and_refused_at_the_reset(plugged: Boot) -> None:
    said = attached(plugged, "other-smmu", "0000:41:00.0")
    assert said["device_add"] == ["stage 2"]
    assert set(said["system_reset"]) == {"refused"}
