"""SubstreamIDs: linear and two-level tables of context descriptors, S1DSS, and what goes wrong. IHI 0070 5.2 (S1CDMax, S1DSS, S1Fmt), 7.3."""

from __future__ import annotations

import pytest

from tests.smmu.world import PA, SID, VA, world
from wizard.arch.cd import CD, L1CD
from wizard.arch.command import Op, build
from wizard.arch.event import EventType
from wizard.arch.ste import STE
from wizard.smmu import Transaction
from wizard.smmu.tables import PageTable, context_descriptor


@pytest.mark.parametrize("two_level", [False, True])
@pytest.mark.parametrize("mode", ["1", "nested"])
def test_each_substream_has_its_own_tables(mode: str, two_level: bool) -> None:
    w = world(mode, cdmax=8, two_level=two_level)
    assert w.contexts is not None
    other = PageTable(w.view, w.space, stage=1)
    other.map(VA, 0x4100_3000 if mode == "nested" else PA + 0x3000, 0x1000)
    w.contexts.set(200, context_descriptor(other, asid=2))
    assert w.dma(ssid=200).pa == PA + 0x3000
    assert w.dma(ssid=0).pa == PA
    assert not w.dma(ssid=201).ok
    (event,) = w.smmu.events()
    if two_level:
        # The level 2 table of 192 to 255 is there, descriptor 201 in it has V 0.
        assert (event.Type, event.SSV, event.SubstreamID) == (EventType.C_BAD_CD, 1, 201)
    assert not w.dma(ssid=100).ok
    assert w.types() == [EventType.C_BAD_SUBSTREAMID if two_level else EventType.C_BAD_CD]


@pytest.mark.parametrize(
    ("s1dss", "ssid", "ends"),
    [
        (0, None, EventType.F_STREAM_DISABLED),
        (3, None, EventType.F_STREAM_DISABLED),
        (1, None, "bypasses stage 1"),
        (2, None, "uses CD 0"),
        (2, 0, EventType.F_STREAM_DISABLED),
        (1, 0, "uses CD 0"),
        (0, 1 << 4, EventType.C_BAD_SUBSTREAMID),
    ],
)
def test_s1dss_decides_what_comes_without_a_substream(s1dss: int, ssid: int | None, ends: EventType | str) -> None:
    w = world("nested", cdmax=4, ste={"S1DSS": s1dss})
    if ends == "bypasses stage 1":
        assert w.dma(0x4100_0000, ssid=ssid).pa == PA
        assert w.dma(1 << 48, ssid=ssid).event is not None
        assert w.types() == [EventType.F_ADDR_SIZE]
    elif ends == "uses CD 0":
        assert w.dma(ssid=ssid).pa == PA
    else:
        assert not w.dma(ssid=ssid).ok
        (event,) = w.smmu.events()
        assert event.Type == ends
        if ends is EventType.C_BAD_SUBSTREAMID:
            assert (event.SubstreamID, event.SSV) == (ssid, 0)
        else:
            assert (event.SubstreamID, event.SSV) == (0, 0), "7.3.7: the record has neither field"


@pytest.mark.parametrize("mode", ["2", "1", "nested"])
def test_substream_where_there_are_none_is_refused(mode: str) -> None:
    w = world(mode)
    assert not w.dma(ssid=0).ok
    assert w.types() == [EventType.C_BAD_SUBSTREAMID]


def test_s1cdmax_above_ssidsize_is_illegal() -> None:
    w = world("1", cdmax=8)
    w.streams.set(SID, STE.of_words(w.memory.read_words(w.streams.address(SID), 8) or []).replace(S1CDMax=9))
    outcome = w.dma(ssid=0)
    assert "S1CDMax 9 is above IDR1.SSIDSIZE 8" in outcome.reason
    assert w.types() == [EventType.C_BAD_STE]


def test_level_1_descriptor_that_points_beyond_memory_names_the_substream() -> None:
    w = world("1", cdmax=8, two_level=True)
    assert w.contexts is not None
    w.view.write(w.contexts.base + 8, L1CD.build(V=1, L2Ptr=1 << 50).value)
    assert not w.dma(ssid=64).ok
    assert w.types() == [EventType.C_BAD_SUBSTREAMID]


def test_level_1_descriptor_stays_cached_until_a_non_leaf_invalidation() -> None:
    w = world("1", cdmax=8, two_level=True)
    assert w.contexts is not None
    assert w.dma(ssid=0).ok
    w.view.write(w.contexts.base, 0)
    leaf, whole = build(Op.CFGI_CD, StreamID=SID, Leaf=1), build(Op.CFGI_CD, StreamID=SID)
    w.smmu.command(*leaf.words)
    assert w.dma(ssid=0).ok, "a leaf invalidation lets the level 1 descriptor stay"
    w.smmu.command(*whole.words)
    assert not w.dma(ssid=0).ok
    assert w.types() == [EventType.C_BAD_SUBSTREAMID]


def test_stage_2_fault_on_a_level_1_descriptor_is_a_cd_fault() -> None:
    w = world("nested", cdmax=8, two_level=True)
    w.streams.set(SID, STE.of_words(w.memory.read_words(w.streams.address(SID), 8) or []).replace(S1ContextPtr=0x7000_0000))
    assert not w.dma(ssid=70).ok
    (event,) = w.smmu.events()
    fields = event.fields()
    assert (event.Type, fields["S2"], fields["CLASS"], fields["IPA"]) == (EventType.F_TRANSLATION, 1, 0, 0x7000_0000)


def test_the_context_descriptor_is_found_through_stage_2() -> None:
    w = world("nested")
    assert w.contexts is not None
    assert w.second is not None
    outcome = w.smmu.translate(Transaction(SID, VA), trace=True)
    assert outcome.trace is not None
    step = next(step for step in outcome.trace.steps if step.what == "cd")
    assert step.address == w.second.lookup(w.contexts.base)
    assert CD.of_words(step.words).ASID == 1
