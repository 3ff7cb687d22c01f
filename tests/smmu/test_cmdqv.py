"""CMDQV's virtual interfaces: which commands pass, and with whose StreamID and VMID. Linux 7.2 tegra241-cmdqv.c."""

from __future__ import annotations

import pytest

from tests.smmu.world import PA, SID, VA, world
from wizard.arch.command import CommandError, Op, build
from wizard.smmu import Ats
from wizard.smmu.cmdqv import LARGEST_SIDS, Vintf

VIRTUAL = 0x21


def pair(op: Op, **fields: int) -> tuple[int, int]:
    first, second = build(op, **fields).words
    return first, second


def test_guest_cannot_reach_another_vm() -> None:
    w = world("nested")
    stranger = Vintf(w.smmu, vmid=8)
    owner = Vintf(w.smmu, vmid=7)
    assert w.first is not None
    assert w.dma().pa == PA
    w.view.write(w.first.entry_address(VA) or 0, 0)
    stranger.submit([pair(Op.TLBI_NH_VA, VMID=7, ASID=1, Address=VA), pair(Op.SYNC)])
    assert w.dma().pa == PA, "the VMID of the command was replaced by the stranger's"
    owner.submit([pair(Op.TLBI_NH_VA, VMID=0, ASID=1, Address=VA), pair(Op.SYNC)])
    assert not w.dma().ok


def test_virtual_stream_ids_are_replaced() -> None:
    w = world("nested", ste={"EATS": 1})
    vintf = Vintf(w.smmu, vmid=7)
    w.dma(ats=Ats.REQUEST)
    unknown = vintf.submit([pair(Op.SYNC), pair(Op.ATC_INV, StreamID=VIRTUAL, Size=52)])
    assert (unknown.count, unknown.error) == (1, CommandError.CERROR_ILL)
    vintf.match(VIRTUAL, SID)
    assert vintf.submit([pair(Op.ATC_INV, StreamID=VIRTUAL, Size=52)]).count == 1
    assert w.smmu.endpoints.find(SID, None, VA) is None


@pytest.mark.parametrize("op", [op for op in Op if op not in (Op.TLBI_NH_ASID, Op.TLBI_NH_VA, Op.ATC_INV, Op.SYNC)])
def test_everything_else_is_illegal(op: Op) -> None:
    w = world("nested")
    assert Vintf(w.smmu, vmid=7).submit([pair(op)]).error is CommandError.CERROR_ILL


def test_guest_cannot_send_messages() -> None:
    w = world("nested")
    Vintf(w.smmu, vmid=7).submit([pair(Op.SYNC, CS=1, MSIAddress=0x7200_0000)])
    assert w.smmu.msis == []


def test_there_is_room_for_sixteen_functions() -> None:
    vintf = Vintf(world("nested").smmu, vmid=7)
    for index in range(LARGEST_SIDS):
        vintf.match(index, index)
    with pytest.raises(ValueError, match="16 StreamID pairs"):
        vintf.match(99, 99)


def test_a_guests_error_does_not_stop_the_hosts_queue() -> None:
    """TG without range or level is reserved (IHI 0070 4.4.1.1); the interface has an error state of its own."""
    w = world("nested")
    vintf = Vintf(w.smmu, vmid=7)
    assert vintf.submit([pair(Op.TLBI_NH_VA, ASID=1, Address=VA, TG=1)]).error is CommandError.CERROR_ILL
    assert not w.smmu.active("CMDQ_ERR")
    assert w.smmu.read("CMDQ_CONS") == 0
    w.smmu.write("CR0", 0x5)
    assert vintf.submit([pair(Op.SYNC)]).count == 1, "nor does the host's CMDQEN stop the interface's queue"
