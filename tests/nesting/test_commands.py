"""Invalidation: which commands pass, what is substituted, and where a batch stops."""

from __future__ import annotations

import pytest

from tests.nesting.machine import RAM, Guest, Machine
from wizard.arch import command
from wizard.arch.command import Op, StreamCommand, Tlbi
from wizard.nesting import Kernel, KernelError, Vintf, ViommuType, Vsmmu
from wizard.nesting.invalidate import BATCH, Words, convert, encode, issue
from wizard.smmu import Transaction

PASSES = {  # hardware's opcode by the guest's; arm_vsmmu_convert_user_cmd()
    Op.TLBI_NSNH_ALL: Op.TLBI_NH_ALL,
    Op.TLBI_NH_ALL: Op.TLBI_NH_ALL,
    Op.TLBI_NH_ASID: Op.TLBI_NH_ASID,
    Op.TLBI_NH_VA: Op.TLBI_NH_VA,
    Op.TLBI_NH_VAA: Op.TLBI_NH_VAA,
    Op.ATC_INV: Op.ATC_INV,
    Op.CFGI_CD: Op.CFGI_CD,
    Op.CFGI_CD_ALL: Op.CFGI_CD_ALL,
}


def streams(vsid: int) -> int | None:
    return {0x900: 0x1300}.get(vsid)


@pytest.mark.parametrize("op", list(Op))
def test_every_opcode(op: Op) -> None:
    record = command.FORMATS[op].build(Opcode=op.value)
    if isinstance(record, StreamCommand):
        record = record.replace(StreamID=0x900)
    low, high = record.words
    if op not in PASSES:
        with pytest.raises(KernelError, match="EIO"):
            convert((low, high), 7, streams)
        return
    got = command.decode(*convert((low, high), 7, streams))
    assert got.Opcode == PASSES[op]
    if isinstance(got, Tlbi):
        assert got.VMID == 7
    if isinstance(got, StreamCommand):
        assert got.StreamID == 0x1300


def test_a_guests_own_vmid_is_overwritten_and_the_rest_kept() -> None:
    low, high = convert(encode(Op.TLBI_NH_VA, VMID=0xFFFF, ASID=3, Address=0x1000, TG=1, TTL=3, NUM=4, SCALE=1, Leaf=1), 7, streams)
    assert command.decode(low, high) == command.build(
        Op.TLBI_NH_VA, VMID=7, ASID=3, Address=0x1000, TG=1, TTL=3, NUM=4, SCALE=1, Leaf=1
    )  # fmt: skip
    wide = convert(encode(Op.TLBI_NSNH_ALL), 7, streams)
    assert wide == encode(Op.TLBI_NH_ALL, VMID=7)


def test_an_unknown_vsid_is_eio_with_the_count_before_it() -> None:
    batches: list[tuple[Words, ...]] = []
    commands = [encode(Op.CFGI_CD, StreamID=0x900), encode(Op.ATC_INV, StreamID=0x901), encode(Op.CFGI_CD, StreamID=0x900)]
    with pytest.raises(KernelError) as error:
        issue(commands, 7, streams, batches.append)
    assert (error.value.errno, error.value.done, batches) == ("EIO", 1, [])


def test_batches_of_63_and_the_count_at_an_error() -> None:
    batches: list[tuple[Words, ...]] = []
    good, bad = encode(Op.TLBI_NH_VA, ASID=1), encode(Op.TLBI_EL2_ALL)
    assert issue([good] * 130, 7, streams, batches.append) == 130
    assert [len(batch) for batch in batches] == [BATCH, BATCH, 4]
    batches.clear()
    with pytest.raises(KernelError) as error:
        issue([good] * 70 + [bad] + [good] * 9, 7, streams, batches.append)
    # entry_num is 70 although only the first 63 were submitted: the open batch is dropped.
    assert error.value.done == 70
    assert [len(batch) for batch in batches] == [BATCH]


@pytest.fixture
def running() -> tuple[Vsmmu, Guest]:
    host = Machine()
    vsmmu = host.vsmmu(host.vm())
    vsmmu.plug(host.function(host.smmu(), "a", 0x1300), 0x900)
    guest = Guest(vsmmu)
    return vsmmu, guest


def test_a_missing_invalidation_shows_and_the_right_one_mends_it(running: tuple[Vsmmu, Guest]) -> None:
    vsmmu, guest = running
    table = guest.table(0x900, asid=5)
    table.map(0x10_0000, RAM + 0x80_0000, 0x1000)
    vsmmu.consume([encode(Op.CFGI_STE, StreamID=0x900)])
    smmu = vsmmu.behind[0x900].device.smmu
    dma = Transaction(0x1300, 0x10_0000, write=True)
    assert smmu.smmu.translate(dma).ok
    table.unmap(0x10_0000, 0x1000)
    assert smmu.smmu.translate(dma).ok
    vsmmu.consume([encode(Op.TLBI_NH_VA, ASID=6, Address=0x10_0000)])
    assert smmu.smmu.translate(dma).ok
    vsmmu.consume([encode(Op.TLBI_NH_VA, ASID=5, Address=0x10_0000)])
    assert not smmu.smmu.translate(dma).ok


def test_qemu_sends_each_command_alone_and_stops_at_what_it_does_not_know(running: tuple[Vsmmu, Guest]) -> None:
    vsmmu, guest = running
    guest.table(0x900)
    vsmmu.consume([encode(Op.CFGI_STE, StreamID=0x900)])
    before = vsmmu.iommufd.ioctls
    commands = [encode(Op.TLBI_NH_VA, ASID=1, Address=page << 12) for page in range(10)]
    assert vsmmu.consume([*commands, encode(Op.SYNC)]).count == 11
    assert vsmmu.iommufd.ioctls - before == 10
    consumed = vsmmu.consume([commands[0], encode(Op.TLBI_S12_VMALL), commands[1]])
    assert (consumed.count, consumed.error.name) == (1, "CERROR_ILL")


def test_qemu_drops_commands_for_a_vsid_that_it_does_not_have(running: tuple[Vsmmu, Guest]) -> None:
    vsmmu, _ = running
    assert vsmmu.consume([encode(Op.CFGI_CD, StreamID=0x123), encode(Op.CFGI_STE, StreamID=0x123)]).count == 2
    assert vsmmu.forwarded == 0


def test_a_vintf_takes_three_commands_without_an_ioctl() -> None:
    host = Machine()
    vsmmu = host.vsmmu(host.vm())
    vsmmu.type = ViommuType.TEGRA241_CMDQV
    vsmmu.plug(host.function(host.smmu(kernel=Kernel(cmdqv=True)), "a", 0x1300), 0x900)
    guest = Guest(vsmmu)
    table = guest.table(0x900, asid=5)
    table.map(0x10_0000, RAM + 0x80_0000, 0x1000)
    vsmmu.consume([encode(Op.CFGI_STE, StreamID=0x900)])
    assert vsmmu.viommu is not None
    vintf, before = Vintf(vsmmu.viommu), vsmmu.iommufd.ioctls
    smmu, dma = vsmmu.viommu.smmu.smmu, Transaction(0x1300, 0x10_0000)
    assert smmu.translate(dma).ok
    table.unmap(0x10_0000, 0x1000)
    assert vintf.submit([encode(Op.TLBI_NH_VA, ASID=5, Address=0x10_0000, VMID=99), encode(Op.SYNC)]).count == 2
    assert not smmu.translate(dma).ok
    stopped = vintf.submit([encode(Op.TLBI_NH_ASID, ASID=5), encode(Op.TLBI_NH_ALL), encode(Op.SYNC)])
    assert (stopped.count, stopped.error.name) == (1, "CERROR_ILL")
    assert vintf.submit([encode(Op.CFGI_CD, StreamID=0x900)]).count == 0
    assert vsmmu.iommufd.ioctls == before


def test_nsnh_all_becomes_nh_all_with_nothing_of_the_guests_left() -> None:
    """arm_vsmmu_convert_user_cmd() writes both words anew."""
    ones = (1 << 64) - 1
    assert convert((ones & ~0xFF | Op.TLBI_NSNH_ALL, ones), 7, lambda vsid: None) == (0x10 | 7 << 32, 0)


@pytest.mark.parametrize(
    ("count", "answer"),
    [(0, ("EINVAL", 0)), (1, ("EIO", 0)), (1 << 18, ("EIO", 0)), (1 << 19, ("ENOMEM", 1 << 19)), ((1 << 19) + 1, ("EINVAL", 0))],
)
def test_how_long_an_array_of_commands_may_be(count: int, answer: tuple[str, int]) -> None:
    """As Linux 7.2.13 with 4 KiB pages answered."""
    host = Machine()
    device = host.function(host.smmu(), "a", 0x1300)
    vm = host.vm()
    viommu = vm.alloc_viommu(device, vm.alloc_parent(device))
    with pytest.raises(KernelError) as error:
        vm.invalidate(viommu, [(Op.TLBI_EL2_ALL, 0)] * count)
    assert (error.value.errno, error.value.done) == answer


@pytest.mark.parametrize(("depth", "passes"), [(0, False), (1, True), (1 << 19, True), ((1 << 19) + 1, False)])
def test_how_deep_a_veventq_may_be(depth: int, passes: bool) -> None:
    host = Machine()
    device = host.function(host.smmu(), "a", 0x1300)
    vm = host.vm()
    viommu = vm.alloc_viommu(device, vm.alloc_parent(device))
    if passes:
        assert vm.alloc_veventq(viommu, depth).depth == depth
        return
    with pytest.raises(KernelError, match="EINVAL"):
        vm.alloc_veventq(viommu, depth)
