"""QEMU's side of plugging and of the SMMU's switch: smmuv3-accel.c and smmu_writel() of QEMU 11.1, read and followed."""

from __future__ import annotations

import pytest

from tests.nesting.machine import RAM, RAM_SIZE, Guest, Machine, translated
from wizard.arch.command import CommandError, Op
from wizard.arch.registers import CR0, GBPA, StrtabBaseCfg
from wizard.arch.ste import L1STD, STE, StreamConfig
from wizard.nesting import Device, KernelError, Parent, Vsmmu
from wizard.nesting.invalidate import encode
from wizard.smmu import Transaction
from wizard.smmu.tables import Allocator, StreamTable

ABORT, BYPASS = GBPA.build(ABORT=1, Update=1).value, GBPA.build(SHCFG=1, Update=1).value


def two() -> tuple[Vsmmu, Device, Device]:
    """A vSMMU, and two functions of one SMMU that are not plugged yet."""
    host = Machine()
    smmu = host.smmu()
    return host.vsmmu(host.vm()), host.function(smmu, "first", 0x1300), host.function(smmu, "second", 0x1400)


def reaches(device: Device) -> bool:
    """Whether the function gets at the guest's memory by guest physical address."""
    return device.smmu.smmu.translate(Transaction(device.sid, RAM, write=True)).ok


# -- plugging ---------------------------------------------------------------------------------------------------------


def test_gbpa_reaches_the_function_that_the_viommu_is_made_with_and_no_later_one() -> None:
    """smmuv3_accel_set_iommu_device(): with a vIOMMU there it goes to ``done`` without attaching anything."""
    vsmmu, first, second = two()
    vsmmu.write_gbpa(ABORT)
    vsmmu.plug(first, 0x900)
    vsmmu.plug(second, 0xA00)
    assert (reaches(first), reaches(second)) == (False, True)
    assert isinstance(second.group.hwpt, Parent)
    beyond = second.smmu.smmu.translate(Transaction(second.sid, RAM + RAM_SIZE))
    assert not beyond.ok  # stage 2 holds all the same


@pytest.mark.parametrize("how", ["gbpa", "reset", "ste"])
def test_what_brings_a_later_function_under_the_guests_rule(how: str) -> None:
    vsmmu, first, second = two()
    vsmmu.plug(first, 0x900)
    guest = Guest(vsmmu)
    vsmmu.plug(second, 0xA00)
    assert reaches(second)  # SMMUEN is 1, and bare hardware would abort: the guest has no entry for it
    if how == "gbpa":
        vsmmu.write_gbpa(ABORT)
    elif how == "reset":
        vsmmu.reset()
    else:
        guest.table(0xA00)
        vsmmu.consume([encode(Op.CFGI_STE, StreamID=0xA00, Leaf=1)])
    assert reaches(second) is (how == "reset")
    assert not isinstance(second.group.hwpt, Parent)


def test_the_viommu_goes_with_the_last_function_and_the_next_one_gets_a_new_one() -> None:
    """smmuv3_accel_unset_iommu_device(): smmuv3_accel_free_viommu() when the list is empty."""
    host = Machine()
    here, there = host.smmu("here"), host.smmu("there")
    first, second, far = host.function(here, "a", 0x1300), host.function(here, "b", 0x1400), host.function(there, "c", 0x1500)
    vsmmu = host.vsmmu(host.vm())
    vsmmu.plug(first, 0x900)
    vsmmu.plug(second, 0xA00)
    vsmmu.write_cr0(CR0.build(EVENTQEN=1).value)
    old = vsmmu.viommu
    assert old is not None
    assert old.veventq is not None
    vsmmu.unplug(0x900)
    assert vsmmu.viommu is old
    vsmmu.unplug(0xA00)
    assert not any((vsmmu.viommu, vsmmu.bypass, vsmmu.abort))
    vsmmu.write_gbpa(ABORT)
    vsmmu.plug(far, 0x900)
    assert vsmmu.viommu is not None
    assert (vsmmu.viommu.smmu, vsmmu.viommu.parent.smmu) == (there, there)
    assert vsmmu.viommu.veventq is not None
    assert vsmmu.viommu.veventq is not old.veventq
    assert not reaches(far)
    Guest(vsmmu).table(0x900).map(0x10_0000, RAM, 0x1000)
    assert vsmmu.consume([encode(Op.CFGI_STE, StreamID=0x900, Leaf=1)]).count == 1
    assert there.smmu.translate(Transaction(far.sid, 0x10_0000)).ok


def test_a_viommu_that_can_not_be_finished_is_given_back() -> None:
    """smmuv3_accel_alloc_viommu(): its goto chain; here the attach fails, since SubstreamIDs of the function are in use."""
    vsmmu, first, second = two()
    first.pasids = frozenset({1})
    with pytest.raises(KernelError, match="EBUSY"):
        vsmmu.plug(first, 0x900)
    assert vsmmu.viommu is None
    assert vsmmu.behind == {}
    vsmmu.plug(second, 0xA00)
    assert vsmmu.viommu is not None


def test_a_function_of_another_smmu_is_taken_and_stays_on_stage_2() -> None:
    """QEMU 11.1.2 starts with it, prints "error attach … to id=6: Invalid argument" at each reset, and its guest finds CERROR_ILL."""
    host = Machine()
    near, far = host.function(host.smmu("here"), "a", 0x1300), host.function(host.smmu("there"), "b", 0x1400)
    vsmmu = host.vsmmu(host.vm())
    vsmmu.plug(near, 0x900)
    vsmmu.plug(far, 0xA00)
    vsmmu.reset()
    assert len(vsmmu.errors) == 1
    assert "EINVAL" in vsmmu.errors[0]
    assert reaches(far)
    Guest(vsmmu).table(0xA00)
    assert vsmmu.consume([encode(Op.CFGI_STE, StreamID=0xA00, Leaf=1)]).count == 0
    assert reaches(far)


# -- SMMUEN and GBPA --------------------------------------------------------------------------------------------------


def test_smmuen_cleared_without_a_reset_leaves_the_old_stage_1_in_force() -> None:
    """smmu_writel() writes CR0 and attaches nothing: kexec and arm_smmu_device_shutdown()."""
    device, vsmmu = translated()
    entry = device.installed
    assert entry.Config == StreamConfig.NESTED
    vsmmu.write_cr0(0)
    assert device.installed == entry
    vsmmu.write_cr0(CR0.build(CMDQEN=1, EVENTQEN=1, SMMUEN=1).value)
    assert device.installed == entry


def test_an_entry_that_is_announced_while_the_smmu_is_off_brings_gbpa() -> None:
    device, vsmmu = translated()
    vsmmu.write_cr0(0)
    vsmmu.consume([encode(Op.CFGI_STE, StreamID=0x900, Leaf=1)])
    assert (device.installed.Config, reaches(device)) == (StreamConfig.STAGE2, True)


def test_gbpa_counts_for_qemu_while_the_smmu_is_on() -> None:
    """IHI 0070 6.3.14: only while SMMUEN is 0. QEMU attaches its HWPT at once, and so ends the guest's stage 1."""
    device, vsmmu = translated()
    vsmmu.write_gbpa(BYPASS & ~GBPA.build(Update=1).value)
    assert device.installed.Config == StreamConfig.NESTED  # without Update the write is ignored
    vsmmu.write_gbpa(ABORT)
    assert device.installed.Config == StreamConfig.ABORT
    vsmmu.write_gbpa(BYPASS)
    assert device.installed.Config == StreamConfig.STAGE2


# -- the guest's stream table -----------------------------------------------------------------------------------------


def found(vsmmu: Vsmmu, table: StreamTable, sid: int) -> bool:
    """Whether QEMU finds an entry; the table is the guest's."""
    vsmmu.strtab_base = vsmmu.strtab_base.replace(ADDR=table.base)
    vsmmu.strtab_cfg = StrtabBaseCfg(table.config)
    return vsmmu.find_ste(sid) is not None


@pytest.mark.parametrize(("log2size", "last"), [(4, 0xF), (16, 0xFFFF), (20, 0xFFFF)])
def test_a_linear_table_ends_at_its_size_and_at_the_streamids_that_the_vsmmu_has(log2size: int, last: int) -> None:
    """smmu_find_ste(): MIN(log2size, SMMU_IDR1_SIDSIZE), which is 16."""
    vsmmu, _, _ = two()
    table = StreamTable(vsmmu.memory, Allocator(RAM + 0x10_0000, RAM + RAM_SIZE), log2size=min(log2size, 16))
    table.config = StrtabBaseCfg(table.config).replace(LOG2SIZE=log2size).value
    assert [found(vsmmu, table, sid) for sid in (0, last, last + 1)] == [True, True, False]


def test_a_two_level_table_has_the_entries_that_qemu_reads_in_its_span() -> None:
    """IHI 0070 5.1: 2^(Span-1). QEMU takes 2^Span (row 18 of fixtures/translation/qemu-departures.md): one more bit of StreamIDs is installed."""
    vsmmu, _, _ = two()
    space = Allocator(RAM + 0x10_0000, RAM + RAM_SIZE)
    table = StreamTable(vsmmu.memory, space, log2size=16, split=8)
    table.set(0x900, STE.build(V=1))
    assert [found(vsmmu, table, sid) for sid in (0x8FF, 0x900, 0x9FF, 0xA00)] == [False, True, True, False]
    span = L1STD.build(Span=3, L2Ptr=table.address(0x900)).value
    vsmmu.memory.write(table.base + 8 * 9, span)
    assert [found(vsmmu, table, sid) for sid in (0x900, 0x907, 0x908)] == [True, True, False]
    vsmmu.memory.write(table.base + 8 * 9, L1STD.build(Span=3, L2Ptr=1 << 40).value)  # where the guest has no memory
    assert not found(vsmmu, table, 0x900)
    table.base = 1 << 40
    assert not found(vsmmu, table, 0x900)


@pytest.mark.parametrize(
    ("command", "installed"),
    [
        (encode(Op.CFGI_STE_RANGE, StreamID=0x900, Range=7), {"first"}),  # 0x900 to 0x9ff
        (encode(Op.CFGI_STE_RANGE, StreamID=0xA01, Range=7), {"second"}),  # aligned down to its size
        (encode(Op.CFGI_STE_RANGE, StreamID=0x901, Range=0), {"first"}),  # 0x900 and 0x901
        (encode(Op.CFGI_STE_RANGE, StreamID=0x902, Range=0), set()),
        (encode(Op.CFGI_STE_RANGE, StreamID=0x8FF, Range=7), set()),
        (encode(Op.CFGI_STE_RANGE, Range=31), {"first", "second"}),
    ],
)
def test_a_range_of_streamids_installs_the_functions_in_it_and_no_others(command: tuple[int, int], installed: set[str]) -> None:
    vsmmu, first, second = two()
    vsmmu.plug(first, 0x900)
    vsmmu.plug(second, 0xA00)
    guest = Guest(vsmmu)
    guest.table(0x900)
    guest.table(0xA00)
    assert vsmmu.consume([command]).count == 1
    assert {device.name for device in (first, second) if device.installed.Config == StreamConfig.NESTED} == installed


def test_each_function_of_a_range_that_is_refused_is_named_and_the_others_are_installed() -> None:
    vsmmu, first, second = two()
    vsmmu.plug(first, 0x900)
    vsmmu.plug(second, 0xA00)
    guest = Guest(vsmmu)
    guest.set(0x900, STE.build(V=1, Config=StreamConfig.STAGE2))
    guest.table(0xA00)
    answer = vsmmu.consume([encode(Op.CFGI_STE_RANGE, Range=31)])
    assert (answer.count, answer.error) == (0, CommandError.CERROR_ILL)
    assert vsmmu.errors == ["Device 0x900: Failed to install STE: Invalid STE config for sid 0x900"]
    assert second.installed.Config == StreamConfig.NESTED


@pytest.mark.parametrize(("ste", "config"), [
    (STE.build(V=0, Config=StreamConfig.BYPASS), StreamConfig.ABORT),
    (STE.build(V=1, Config=StreamConfig.ABORT), StreamConfig.ABORT),
    (STE.build(V=1, Config=3), StreamConfig.ABORT),  # reserved: as abort
    (STE.build(V=1, Config=StreamConfig.BYPASS), StreamConfig.STAGE2),  # the guest's bypass is the host's stage 2
])  # fmt: skip
def test_what_an_entry_without_a_stage_1_becomes(ste: STE, config: int) -> None:
    """smmuv3_accel_install_ste()."""
    device, vsmmu = translated()
    guest = Guest(vsmmu)
    guest.set(0x900, ste)
    assert vsmmu.consume([encode(Op.CFGI_STE, StreamID=0x900)]).count == 1
    assert device.installed.Config == config


def test_a_command_for_nobody_is_taken_and_reaches_no_kernel() -> None:
    """An unknown StreamID, and commands that QEMU does not pass on, are no error to it."""
    device, vsmmu = translated()
    before = vsmmu.forwarded
    nobody = encode(Op.CFGI_CD, StreamID=0x901)
    other = encode(Op.TLBI_EL2_ALL)
    assert vsmmu.consume([nobody, other, encode(Op.CFGI_STE, StreamID=0x901), encode(Op.SYNC)]).count == 4
    assert (vsmmu.forwarded, vsmmu.ignored) == (before, [nobody, other])
    assert vsmmu.consume([encode(Op.CFGI_CD, StreamID=0x900)]).count == 1
    assert vsmmu.forwarded == before + 1
    assert device.vdevice is not None


def test_what_the_guests_entries_cost_in_ioctls() -> None:
    """smmuv3_accel_install_ste(): the first one of a function makes its vDEVICE, each a HWPT of its own, and attaches it."""
    vsmmu, first, _ = two()
    vsmmu.plug(first, 0x900)
    Guest(vsmmu).table(0x900)
    counts = []
    for _ in range(2):
        before = vsmmu.iommufd.ioctls
        vsmmu.consume([encode(Op.CFGI_STE, StreamID=0x900)])
        counts.append(vsmmu.iommufd.ioctls - before)
    assert counts == [3, 2]
    before = vsmmu.iommufd.ioctls
    vsmmu.write_gbpa(BYPASS)  # smmuv3_accel_attach_gbpa_hwpt(): the HWPT is there
    assert vsmmu.iommufd.ioctls - before == 1
