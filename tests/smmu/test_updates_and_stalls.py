"""Hardware update of access flag and dirty state, the stall model, PRI responses: IHI 0070 3.12, 3.13, 4.5.2, 4.7. No guest has them today."""

from __future__ import annotations

import pytest

from tests.smmu.world import IPA, PA, RICH, SID, VA, world
from wizard.arch.command import CommandError, Op, build
from wizard.arch.descriptor import Stage1Leaf, Stage2Leaf
from wizard.arch.event import EventType, FaultClass, PageRequest
from wizard.arch.registers import QueueBase
from wizard.smmu import How, Ids
from wizard.smmu.pri import PageResponse


def test_access_flag_is_set_instead_of_faulting() -> None:
    w = world("nested", leaf1={"AF": 0}, leaf2={"AF": 0}, cd={"HA": 1}, ste={"S2HA": 1})
    assert w.first is not None
    assert w.second is not None
    assert w.dma(write=False).pa == PA
    assert Stage1Leaf(w.view.read(w.first.entry_address(VA) or 0) or 0).AF == 1
    assert Stage2Leaf(w.memory.read(w.second.entry_address(IPA) or 0) or 0).AF == 1


def test_first_write_dirties_a_clean_page_even_from_the_tlb() -> None:
    w = world("1", leaf1={"AP": 3, "DBM": 1}, cd={"HA": 1, "HD": 1})
    assert w.first is not None
    leaf = w.first.entry_address(VA) or 0
    assert w.dma(write=False).ok
    assert Stage1Leaf(w.memory.read(leaf) or 0).AP == 3
    assert w.dma(write=True).ok
    assert Stage1Leaf(w.memory.read(leaf) or 0).AP == 1
    assert not world("1", leaf1={"AP": 3, "DBM": 1}, cd={"HA": 1}).dma().ok, "without HD the page is read-only"


def test_where_stage_2_forbids_the_update_nothing_becomes_dirty() -> None:
    """3.13.5: the update of a stage 1 descriptor is a write, which stage 2 has to allow; the page itself is not written then either."""
    w = world("nested", leaf1={"AP": 3, "DBM": 1}, leaf2={"S2AP": 1, "DBM": 1}, cd={"HA": 1, "HD": 1}, ste={"S2HA": 1, "S2HD": 1})
    assert w.first is not None
    assert w.second is not None
    first, page = w.first.entry_address(VA) or 0, w.second.entry_address(IPA) or 0
    before, block, table = (w.view.read(first), w.memory.read(page)), first & -(2 << 20), first & -0x1000
    pa = w.second.lookup(block) or 0
    w.second.unmap(block, 2 << 20)
    w.second.map(block, pa, table - block, level=3)
    w.second.map(table, pa + table - block, 0x1000, write=False)
    w.second.map(table + 0x1000, pa + table + 0x1000 - block, block + (2 << 20) - table - 0x1000, level=3)
    assert not w.dma(write=True).ok
    [event] = w.smmu.events()
    assert (event.Type, event.fields()["S2"], event.fields()["CLASS"]) == (EventType.F_PERMISSION, 1, FaultClass.TTD)
    assert (w.view.read(first), w.memory.read(page)) == before


def test_stage_2_dirty_state() -> None:
    w = world("2", leaf2={"S2AP": 1, "DBM": 1}, ste={"S2HA": 1, "S2HD": 1})
    assert w.second is not None
    assert w.dma(IPA).ok
    assert Stage2Leaf(w.memory.read(w.second.entry_address(IPA) or 0) or 0).S2AP == 3


def test_updating_a_stage_1_descriptor_needs_stage_2_write_permission() -> None:
    w = world("nested", leaf1={"AF": 0}, cd={"HA": 1})
    assert w.second is not None
    w.second.unmap(0x4000_0000, 16 << 20)
    w.second.map(0x4000_0000, 0x8000_0000, 16 << 20, S2AP=1)
    assert not w.dma().ok
    (event,) = w.smmu.events()
    fields = event.fields()
    assert (event.Type, fields["S2"], fields["CLASS"], fields["TTRnW"]) == (EventType.F_PERMISSION, 1, 1, 0)


@pytest.mark.parametrize(
    ("mode", "cd", "ste", "httu", "kind"),
    [
        ("1", {"HA": 1}, {}, 0, EventType.C_BAD_CD),
        ("1", {"HD": 1}, {}, 1, EventType.C_BAD_CD),
        ("2", {}, {"S2HA": 1}, 0, EventType.C_BAD_STE),
        ("2", {}, {"S2HD": 1}, 1, EventType.C_BAD_STE),
    ],
)
def test_updates_that_the_smmu_does_not_have_are_illegal(mode: str, cd: dict[str, int], ste: dict[str, int], httu: int, kind: EventType) -> None:
    ids = Ids(RICH.idr0 & ~(3 << 6) | httu << 6, RICH.idr1, RICH.idr3, RICH.idr5, RICH.aidr)
    w = world(mode, ids, cd=cd, ste=ste)
    assert not w.dma().ok
    assert w.types() == [kind]


def test_stalled_transaction_is_retried_after_the_fix() -> None:
    w = world("1", cd={"S": 1})
    assert w.first is not None
    outcome = w.dma(0x1000)
    assert (outcome.how, outcome.ok) == (How.STALLED, False)
    (event,) = w.smmu.events()
    assert event.fields()["Stall"] == 1
    w.first.map(0x1000, PA, 0x1000)
    other = build(Op.RESUME, StreamID=SID + 1, STAG=event.fields()["STAG"], Action=1)
    w.smmu.command(*other.words)
    assert len(w.smmu.stalled) == 1, "another stream's tag does nothing"
    w.smmu.command(*build(Op.RESUME, StreamID=SID, STAG=event.fields()["STAG"], Action=1).words)
    ((_, again),) = w.smmu.resumed
    assert again.pa == PA
    assert not w.smmu.stalled


def test_stalls_end_by_termination() -> None:
    w = world("2", ste={"S2S": 1})
    first, second, third = (w.dma(0x7000_0000 + page * 0x1000) for page in range(3))
    assert {first.stag, second.stag, third.stag} == {0, 1, 2}
    w.smmu.command(*build(Op.RESUME, StreamID=SID, STAG=0).words)
    w.smmu.command(*build(Op.RESUME, StreamID=SID, STAG=1, Abort=1).words)
    w.smmu.command(*build(Op.STALL_TERM, StreamID=SID).words)
    assert [outcome.how for _, outcome in w.smmu.resumed] == [How.RAZWI, How.ABORTED, How.ABORTED]


def test_faults_may_be_silent_or_complete_without_effect() -> None:
    silent = world("1", cd={"R": 0})
    assert silent.dma(0x1000).how is How.ABORTED
    assert silent.types() == []
    ignoring = world("1", cd={"A": 0})
    assert ignoring.dma(0x1000).how is How.RAZWI
    assert ignoring.types() == [EventType.F_TRANSLATION]
    second = world("2", ste={"S2R": 0})
    assert second.dma(0x7000_0000).how is How.ABORTED
    assert second.types() == []


def test_page_responses_reach_the_endpoint() -> None:
    w = world("1")
    w.smmu.command(*build(Op.PRI_RESP, StreamID=SID, PRGIndex=5, Resp=2).words)
    assert [(response.PRGIndex, response.Resp) for response in w.smmu.responses] == [(5, 2)]
    assert w.smmu.command(*build(Op.PRI_RESP, StreamID=SID, Resp=3).words) is CommandError.CERROR_ILL


def request(sid: int = SID, index: int = 1, *, last: bool = True, pasid: int | None = None) -> PageRequest:
    ssid = {} if pasid is None else {"SSV": 1, "SubstreamID": pasid}
    return PageRequest.build(StreamID=sid, PRGIndex=index, Last=int(last), R=1, Addr=VA, **ssid)


def test_page_requests_wait_in_their_queue() -> None:
    w = world("1")
    w.set_base("PRIQ", QueueBase.build(LOG2SIZE=1, ADDR=0x7000_0000).value)
    assert w.smmu.page_request(request()) == PageResponse(SID, None, 1, 15), "the queue is off"
    w.smmu.write("CR0", 0xF)
    assert w.smmu.page_request(request(index=2, pasid=5)) is None
    assert w.memory.read(0x7000_0000) == 1 << 63 | 1 << 62 | 1 << 60 | 5 << 32 | SID
    assert [(found.PRGIndex, found.Addr) for found in w.smmu.requests.take()] == [(2, VA)]


def test_overflow_answers_by_itself_until_acknowledged() -> None:
    w = world("1", ste={"PPAR": 1})
    w.set_base("PRIQ", QueueBase.build(LOG2SIZE=0, ADDR=0x7000_0000).value)
    w.smmu.write("CR0", 0xF)
    assert w.smmu.page_request(request()) is None
    assert w.smmu.page_request(request(index=2, last=False)) is None
    assert w.smmu.read("PRIQ_PROD") >> 31 == 1
    assert w.smmu.page_request(request(index=3)) == PageResponse(SID, None, 3, 0)
    assert w.smmu.page_request(request(index=4, pasid=9)) == PageResponse(SID, 9, 4, 0), "STE.PPAR"
    assert w.smmu.page_request(request(sid=0x4000, index=5, pasid=9)) == PageResponse(0x4000, None, 5, 15), "no valid STE"
    w.smmu.write("PRIQ_CONS", 1)
    assert w.smmu.page_request(request(index=6)) == PageResponse(SID, None, 6, 0), "read, but not acknowledged"
    w.smmu.write("PRIQ_CONS", 1 << 31 | 1)
    assert w.smmu.page_request(request(index=7)) is None


def test_page_request_queue_where_nothing_answers() -> None:
    w = world("1")
    w.set_base("PRIQ", QueueBase.build(LOG2SIZE=3, ADDR=0x1000).value)
    w.smmu.write("CR0", 0xF)
    assert w.smmu.page_request(request()) == PageResponse(SID, None, 1, 15)
    assert w.smmu.active("PRIQ_ABT_ERR")
