"""ATS: requests, translated traffic, ATC invalidation. IHI 0070 3.9, 4.5.1, 13.6, 13.7."""

from __future__ import annotations

from typing import Any

import pytest

from tests.smmu.world import IPA, PA, RICH, SID, VA, World, world
from wizard.arch.command import CommandError, Op, build
from wizard.arch.event import EventType
from wizard.smmu import Ats, AtsResponse, How, Ids
from wizard.smmu.tables import abort_entry, bypass_entry

ON, CHECKED = 0xD, 0x1D


def ask(w: World, va: int = VA, **fields: Any) -> AtsResponse:
    outcome = w.dma(va, ats=Ats.REQUEST, **fields)
    assert outcome.ats is not None
    return outcome.ats


@pytest.mark.parametrize(
    ("leaf", "fields", "granted"),
    [
        # The table of 13.7: R, W, Exe for what is asked and what the page allows. Exe and Priv count with a PASID only.
        ({"AP": 1}, {"write": False}, (True, True, False)),
        ({"AP": 3}, {"write": True}, (True, False, False)),
        ({"AP": 0}, {"write": True}, (False, False, False)),
        ({"AP": 3, "UXN": 1}, {"write": False, "instruction": True}, (True, False, False)),
    ],
)
def test_request_without_pasid(leaf: dict[str, int], fields: dict[str, bool], granted: tuple[bool, bool, bool]) -> None:
    response = ask(world("1", leaf1=leaf, ste={"EATS": 1}), **fields)
    assert response.status == "success"
    assert (response.read, response.write, response.execute) == granted
    if any(granted):
        assert (response.address, response.size) == (PA, 12)


@pytest.mark.parametrize(
    ("leaf", "fields", "granted"),
    [
        ({"AP": 3}, {"write": False, "instruction": True}, (True, False, True)),
        ({"AP": 0}, {"write": True, "privileged": True}, (True, True, False)),
        ({"AP": 0}, {"write": True, "instruction": True}, (False, False, False)),
    ],
)
def test_request_with_pasid(leaf: dict[str, int], fields: dict[str, bool], granted: tuple[bool, bool, bool]) -> None:
    response = ask(world("1", cdmax=4, leaf1=leaf, ste={"EATS": 1}), ssid=0, **fields)
    assert (response.read, response.write, response.execute) == granted
    assert response.privileged == fields.get("privileged", False)


def test_nested_request_answers_with_physical_or_with_split_stage_intermediate_addresses() -> None:
    full = world("nested", ste={"EATS": 1})
    assert ask(full).address == PA
    split = world("nested", ste={"EATS": 2})
    split.smmu.write("CR0", CHECKED)
    assert ask(split).address == IPA
    assert split.dma(IPA + 8, ats=Ats.TRANSLATED).pa == PA + 8
    assert not split.dma(0x7000_0000, ats=Ats.TRANSLATED).ok
    assert split.types() == [EventType.F_TRANSLATION]


def test_split_stage_without_atschk_counts_as_no_ats() -> None:
    w = world("nested", ste={"EATS": 2})
    assert ask(w).status == "UR"
    assert w.types() == [EventType.F_BAD_ATS_TREQ]


def test_split_stage_where_ns1ats_forbids_it_is_illegal() -> None:
    w = world("nested", Ids(RICH.idr0 | 1 << 11, RICH.idr1, RICH.idr3, RICH.idr5, RICH.aidr), ste={"EATS": 2})
    assert ask(w).status == "CA"
    assert w.types() == []
    assert not w.dma().ok
    assert w.types() == [EventType.C_BAD_STE]


def test_refusals_and_their_records() -> None:
    w = world("1")
    assert ask(w, ssid=None).status == "UR", "EATS 0"
    (event,) = w.smmu.events()
    assert (event.Type, event.fields()["R"], event.fields()["W"], event.fields()["InputAddr"]) == (EventType.F_BAD_ATS_TREQ, 1, 1, VA)
    w.streams.set(SID, bypass_entry(EATS=1))
    w.smmu.command(*build(Op.CFGI_STE, StreamID=SID).words)
    assert ask(w).status == "UR"
    w.streams.set(SID, abort_entry())
    w.smmu.command(*build(Op.CFGI_STE, StreamID=SID).words)
    assert ask(w).status == "UR"
    assert ask(w, sid=SID + 0x4000).status == "CA"
    assert w.types() == [EventType.F_BAD_ATS_TREQ], "abort and errors leave no record"
    w.set_cr2(0xA)
    assert ask(w, sid=SID + 0x4000).status == "CA"
    assert w.types() == [EventType.C_BAD_STREAMID], "unless CR2.REC_CFG_ATS asks for it"
    w.smmu.write("CR0", 0xC)
    assert ask(w).status == "UR"
    assert w.types() == [EventType.F_BAD_ATS_TREQ]


def test_nothing_is_fetched_while_the_smmu_is_off() -> None:
    """3.9.1.2: SMMUEN 0 refuses by itself; an entry that was read for it would still be held when the SMMU is on."""
    w = world("1", ste={"EATS": 1})
    w.smmu.write("CR0", 0xC)
    assert ask(w).status == "UR"
    w.streams.set(SID, abort_entry())
    w.smmu.write("CR0", ON)
    assert w.dma().how is How.ABORTED


def test_faults_of_translation_grant_nothing_and_are_not_recorded() -> None:
    w = world("nested", ste={"EATS": 1})
    response = ask(w, 0x1000)
    assert (response.status, response.read, response.write) == ("success", False, False)
    assert w.types() == []


def test_translated_traffic_passes_as_it_is_or_is_checked() -> None:
    w = world("1")
    assert w.dma(0xDEAD_0000, ats=Ats.TRANSLATED).pa == 0xDEAD_0000, "without ATSCHK a device reaches what it likes"
    assert w.dma(1 << 50, ats=Ats.TRANSLATED).how is How.ABORTED
    assert w.types() == []
    w.smmu.write("CR0", CHECKED)
    assert not w.dma(0xDEAD_0000, ats=Ats.TRANSLATED).ok
    (event,) = w.smmu.events()
    assert (event.Type, event.fields()["InputAddr"]) == (EventType.F_TRANSL_FORBIDDEN, 0xDEAD_0000)
    allowed = world("1", ste={"EATS": 1})
    allowed.smmu.write("CR0", CHECKED)
    assert allowed.dma(0xDEAD_0000, ats=Ats.TRANSLATED).pa == 0xDEAD_0000
    allowed.smmu.write("CR0", 0xC)
    assert not allowed.dma(0xDEAD_0000, ats=Ats.TRANSLATED).ok
    assert allowed.types() == [EventType.F_TRANSL_FORBIDDEN]


def test_s1dss_bypass_answers_one_to_one() -> None:
    response = ask(world("1", cdmax=4, ste={"EATS": 1, "S1DSS": 1}), 0x7777_7000)
    assert (response.address, response.read, response.write) == (0x7777_7000, True, True)


def test_endpoint_keeps_what_it_got_until_the_right_invalidation() -> None:
    w = world("1", cdmax=4, ste={"EATS": 1})
    ask(w, ssid=0)
    atc = w.smmu.endpoints
    assert atc.find(SID, 0, VA) is not None
    w.smmu.command(*build(Op.ATC_INV, StreamID=SID, Address=VA).words)
    w.smmu.command(*build(Op.ATC_INV, StreamID=SID, SSV=1, SubstreamID=1, Address=VA).words)
    w.smmu.command(*build(Op.ATC_INV, StreamID=SID, SSV=1, Address=VA + 0x1000).words)
    w.smmu.command(*build(Op.ATC_INV, StreamID=SID + 1, SSV=1, Address=VA).words)
    assert atc.find(SID, 0, VA) is not None, "another PASID, page or stream"
    w.smmu.command(*build(Op.ATC_INV, StreamID=SID, SSV=1, Size=4, Address=VA + 0x3000).words)
    assert atc.find(SID, 0, VA) is None
    ask(w, ssid=0)
    w.smmu.command(*build(Op.ATC_INV, StreamID=SID, SSV=1, Global=1, SubstreamID=9, Size=52).words)
    assert atc.find(SID, 0, VA) is None


def test_endpoint_that_never_answers_fails_the_sync() -> None:
    w = world("1", ste={"EATS": 1})
    w.smmu.endpoints.silent.add(SID)
    consumed = w.smmu.submit([build(Op.ATC_INV, StreamID=SID, Size=52).words[:2], build(Op.SYNC).words[:2]])  # type: ignore[list-item]
    assert (consumed.count, consumed.error) == (1, CommandError.CERROR_ATC_INV_SYNC)


def test_read_only_request_does_not_dirty_a_page() -> None:
    w = world("1", leaf1={"AP": 3, "DBM": 1}, cd={"HA": 1, "HD": 1}, ste={"EATS": 1})
    assert w.first is not None
    leaf = w.first.entry_address(VA) or 0
    before = w.memory.read(leaf)
    assert not ask(w, write=False).write
    assert w.memory.read(leaf) == before
    assert ask(w, write=True).write
    assert w.memory.read(leaf) != before


CLEAN = {"S2AP": 1, "DBM": 1}
"""A stage 2 leaf that is writable-clean."""


@pytest.mark.parametrize("caches", [True, False])
@pytest.mark.parametrize(
    ("leaf1", "leaf2", "write", "dirty"),
    [
        # 3.13.7.1: only a request for write access to a page that both stages let it write makes anything dirty.
        ({"AP": 3, "DBM": 1}, CLEAN, True, (True, True)),
        ({"AP": 3, "DBM": 1}, CLEAN, False, (False, False)),
        ({"AP": 3}, CLEAN, True, (False, False)),
        ({"AP": 1}, CLEAN, True, (False, True)),
        ({"AP": 3, "DBM": 1}, {"S2AP": 1}, True, (False, False)),
        ({"AP": 3, "DBM": 1}, {}, True, (True, False)),
    ],
)
def test_a_request_makes_dirty_what_it_may_write_and_nothing_else(
    leaf1: dict[str, int], leaf2: dict[str, int], write: bool, dirty: tuple[bool, bool], caches: bool
) -> None:
    w = world("nested", leaf1=leaf1, leaf2=leaf2, cd={"HA": 1, "HD": 1}, ste={"EATS": 1, "S2HA": 1, "S2HD": 1}, tlb=caches)
    assert w.first is not None
    assert w.second is not None
    first, second = w.first.entry_address(VA) or 0, w.second.entry_address(IPA) or 0
    before = w.view.read(first), w.memory.read(second)
    ask(w, write=False)
    response = ask(w, write=write)
    assert (w.view.read(first) != before[0], w.memory.read(second) != before[1]) == dirty
    assert response.read
    if any(dirty):
        assert response.write


def test_what_grants_nothing_covers_one_stu_and_says_nothing_of_stage_2() -> None:
    """3.9.1.2: the IPA of a page without permission for the request is not translated; here stage 2 has no such IPA."""
    w = world("nested", leaf1={"AP": 0}, ste={"EATS": 1})
    assert w.second is not None
    w.second.unmap(IPA, 1 << 20)
    assert ask(w) == AtsResponse("success", size=12)
    assert w.types() == []
    execute_only = world("nested", cdmax=4, leaf2={"S2AP": 0}, ste={"EATS": 1})
    response = ask(execute_only, ssid=0, write=False, instruction=True)
    assert (response.status, response.size, response.read, response.execute) == ("success", 12, False, False)


def test_execute_and_privileged_count_with_a_pasid_only() -> None:
    w = world("1")
    assert ask(w, instruction=True, privileged=True).status == "UR"
    (event,) = w.smmu.events()
    assert (event.fields()["X"], event.fields()["PRIV"]) == (0, 0)
    assert not ask(world("1", ste={"EATS": 1}), 0x1000, privileged=True).privileged


def test_translated_traffic_has_no_substream_without_pasidtt() -> None:
    w = world("nested", cdmax=4, ste={"EATS": 2})
    w.smmu.write("CR0", CHECKED)
    assert w.dma(IPA, ats=Ats.TRANSLATED, ssid=3).pa == PA
    assert not w.dma(0x7000_0000, ats=Ats.TRANSLATED, ssid=3, privileged=True, instruction=True, write=False).ok
    (event,) = w.smmu.events()
    assert {name: event.fields()[name] for name in ("SSV", "PnU", "InD", "S2")} == {"SSV": 0, "PnU": 0, "InD": 0, "S2": 1}


def test_without_atsrecerr_errors_of_requests_are_never_recorded() -> None:
    w = world("1", Ids(RICH.idr0 & ~(1 << 23), RICH.idr1, RICH.idr3, RICH.idr5, RICH.aidr), ste={"EATS": 1})
    w.set_cr2(0xA)
    assert w.smmu.cr2.value == 2
    assert ask(w, sid=SID + 0x4000).status == "CA"
    assert w.types() == []


def test_type_overrides_do_not_reach_translated_traffic() -> None:
    w = world("nested", ste={"EATS": 2, "MTCFG": 1, "MemAttr": 0, "SHCFG": 2})
    w.smmu.write("CR0", CHECKED)
    assert str(w.dma(IPA, ats=Ats.TRANSLATED).attributes) == "Normal-iWB-oWB-ISH"
