"""Stalls are never lost, whatever the event queue does: IHI 0070 3.12.2, 6.3.9.6, 7.2.1, 7.4."""

from __future__ import annotations

from typing import Any

from tests.smmu.world import PA, RICH, SID, World, world
from wizard.arch.command import Op, build
from wizard.arch.event import EventType
from wizard.arch.idr import IDR5
from wizard.arch.registers import QueueBase
from wizard.arch.ste import STE
from wizard.smmu import How, Ids
from wizard.smmu.cases import run_plain

EVENTS = 0x7000_0000


def small(entries_log2: int = 0, **fields: Any) -> World:
    w = world("1", cd={"S": 1}, **fields)
    w.set_base("EVENTQ", QueueBase.build(LOG2SIZE=entries_log2, ADDR=EVENTS).value)
    return w


def test_a_stall_neither_overflows_a_full_queue_nor_is_lost() -> None:
    w = small()
    first, second = w.dma(0x1000), w.dma(0x2000)
    assert (first.stag, second.stag) == (0, None)
    assert second.how is How.STALLED
    assert w.smmu.read("EVENTQ_PROD") >> 31 == 0, "only a discarded record overflows"
    assert [event.fields()["InputAddr"] for event in w.smmu.events()] == [0x1000]
    (event,) = w.smmu.events()
    assert (event.fields()["InputAddr"], event.fields()["STAG"]) == (0x2000, 1)


def test_what_waits_is_tried_again_and_may_pass() -> None:
    w = small()
    assert w.first is not None
    w.dma(0x1000)
    w.dma(0x2000)
    w.first.map(0x2000, PA, 0x1000)
    w.smmu.write("EVENTQ_CONS", 1)
    ((transaction, outcome),) = w.smmu.resumed
    assert (transaction.iova, outcome.pa) == (0x2000, PA)
    assert w.smmu.events() == ()


def test_a_disabled_queue_holds_stalls_until_it_is_enabled() -> None:
    w = small(4)
    w.smmu.write("CR0", 0x9)
    w.dma(0x1000)
    assert w.smmu.read("EVENTQ_PROD") == 0
    w.smmu.write("CR0", 0xD)
    assert w.smmu.read("EVENTQ_PROD") == 1


def test_no_more_than_stall_max_are_recorded_at_a_time() -> None:
    w = small(4, ids=Ids(RICH.idr0, RICH.idr1, RICH.idr3, IDR5(RICH.idr5).replace(STALL_MAX=1).value, RICH.aidr))
    w.dma(0x1000)
    w.dma(0x2000)
    assert len(w.smmu.stalled) == 1
    w.smmu.command(*build(Op.RESUME, StreamID=SID, STAG=0, Abort=1).words)
    assert [transaction.iova for transaction in w.smmu.stalled.values()] == [0x2000]
    assert [event.fields()["InputAddr"] for event in w.smmu.events()] == [0x1000, 0x2000]


def test_turning_the_smmu_off_terminates_every_stall() -> None:
    w = small()
    w.dma(0x1000)
    w.dma(0x2000)
    w.smmu.write("CR0", 0xC)
    assert [outcome.how for _, outcome in w.smmu.resumed] == [How.ABORTED, How.ABORTED]
    assert not w.smmu.stalled
    w.smmu.write("CR0", 0xD)
    assert [event.Type for event in w.smmu.events()] == [EventType.F_TRANSLATION], "what waited leaves no record"


def test_stall_term_reaches_what_waits() -> None:
    w = small()
    w.dma(0x1000)
    w.dma(0x2000)
    w.smmu.command(*build(Op.STALL_TERM, StreamID=SID).words)
    assert len(w.smmu.resumed) == 2


def test_a_case_shows_stalls_and_how_they_ended() -> None:
    """Stage 2 only, stalling (S2S), one page missing; the second DMA finds no room for its record."""
    ste = STE.build(V=1, Config=6, S2T0SZ=25, S2SL0=1, S2PS=4, S2AA64=1, S2S=1, S2VMID=7, S2TTB=0x4020_0000)
    case = {
        "ids": {"idr0": "0x0c44101b", "idr5": "0x00010074"},
        "strtab_base": "0x40100000", "strtab_base_cfg": "0x4",
        "mem": {"0x40100200": [hex(word) for word in ste.words]},
        "steps": [
            {"reg": {"eventq_base": "0x48000000"}},
            {"dma": {"sid": 8, "iova": "0x1000"}},
            {"dma": {"sid": 8, "iova": "0x2000"}},
            {"events": True},
            {"cmd": [[0x8_0000_2044, 0]]},
            {"events": True},
        ],
    }  # fmt: skip
    first, second, events, cmd, more = run_plain(case)["steps"]
    assert (first["fault"]["stall"], first["fault"]["stag"], first["stalled"]) == (1, 0, True)
    assert second == {"fault": None, "stalled": True}
    assert len(events["events"]) == 1
    assert cmd == {"cmd": {"consumed": 1, "error": None}, "resumed": [{"fault": None}]}
    assert [record["addr"] for record in more["events"]] == ["0x2000"]
