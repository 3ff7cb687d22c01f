"""Accesses of any size, over several pages, and with the attributes that they come with: IHI 0070 13.1."""

from __future__ import annotations

from typing import Any

import pytest

from tests.smmu.world import PA, SID, VA, world
from wizard.arch.event import EventType
from wizard.smmu import Transaction
from wizard.smmu.attributes import Attributes
from wizard.smmu.cases import run_plain


def test_an_access_is_one_transaction_for_each_page() -> None:
    w = world("nested")
    parts = w.smmu.access(Transaction(SID, VA + 0xFF0, write=True), 0x2020)
    assert [(part.iova, part.size, part.outcome.pa) for part in parts] == [
        (VA + 0xFF0, 0x10, PA + 0xFF0),
        (VA + 0x1000, 0x1000, PA + 0x1000),
        (VA + 0x2000, 0x1000, PA + 0x2000),
        (VA + 0x3000, 0x10, PA + 0x3000),
    ]


def test_a_page_that_is_missing_faults_by_itself() -> None:
    w = world("1")
    assert w.first is not None
    w.first.unmap(VA + 0x1000, 0x1000)
    parts = w.smmu.access(Transaction(SID, VA + 0x800, write=True), 0x2000)
    assert [part.outcome.ok for part in parts] == [True, False, True]
    [event] = w.smmu.events()
    assert (event.Type, event.fields()["InputAddr"]) == (EventType.F_TRANSLATION, VA + 0x1000)


@pytest.mark.parametrize(("iova", "size"), [(VA, 0), (VA, -1), ((1 << 64) - 4, 8)])
def test_bytes_that_are_none_or_beyond_the_end(iova: int, size: int) -> None:
    with pytest.raises(ValueError, match="bytes"):
        world("1").smmu.access(Transaction(SID, iova), size)


def case(**dma: Any) -> dict[str, Any]:
    return {"cr0": 0, "gbpa": "0x1000", "sid": 8, "iova": "0x40000ff8", "access": "w", **dma}


def test_a_case_gives_the_size() -> None:
    assert run_plain(case(size=8))["pa"] == "0x40000ff8"
    parts = run_plain(case(size=9))["parts"]
    assert [(part["iova"], part["bytes"], part["pa"]) for part in parts] == [("0x40000ff8", 8, "0x40000ff8"), ("0x40001000", 1, "0x40001000")]


@pytest.mark.parametrize("wrong", [{"size": 0}, {"size": 1 << 64}, {"size": "0x1000000000"}, {"size": 64, "ats": "request"}, {"incoming": "Normal"}])
def test_a_case_that_makes_no_sense_says_so(wrong: dict[str, Any]) -> None:
    assert "case." in run_plain(case(**wrong))["error"] or "case:" in run_plain(case(**wrong))["error"]


@pytest.mark.parametrize("text", ["Device-nGnRnE", "Device-GRE", "Normal-iNC-oNC-OSH", "Normal-iWT-oWB-ISH", "Normal-iWB-oWB-NSH"])
def test_incoming_attributes_pass_where_nothing_overrides_them(text: str) -> None:
    """13.2, GBPA with MTCFG 0 and SHCFG 1."""
    assert run_plain(case(incoming=text))["attributes"] == text
    assert str(Attributes.parse(text)) == text


def test_incoming_shareability_of_device_memory_is_outer() -> None:
    """13.1.7: Normal non-cacheable is outer shareable, whatever comes in."""
    assert run_plain(case(incoming="Normal-iNC-oNC-NSH"))["attributes"] == "Normal-iNC-oNC-OSH"


def test_stage_2_combines_with_what_comes_in() -> None:
    """Stage 2 only, write-back: the weaker of both (DDI 0487 D8.6)."""
    outcome = world("2").smmu.translate(Transaction(SID, 0x4100_0000, write=True, incoming=Attributes.parse("Device-nGRE")))
    assert str(outcome.attributes) == "Device-nGRE"
