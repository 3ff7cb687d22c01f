"""Memory type and shareability at the output: IHI 0070 chapter 13, DDI 0487 D8.6."""

from __future__ import annotations

import pytest

from tests.smmu.world import PA, SID, world
from wizard.smmu.attributes import DEFAULT, Attributes, Cache, Device, Share, combine, combine_fwb, from_mair, from_memattr
from wizard.smmu.tables import bypass_entry


@pytest.mark.parametrize(
    ("byte", "said"),
    [
        (0xFF, "Normal-iWB-oWB-NSH"),
        (0x44, "Normal-iNC-oNC-OSH"),
        (0xBB, "Normal-iWT-oWT-NSH"),
        (0x4F, "Normal-iWB-oNC-NSH"),
        (0x00, "Device-nGnRnE"),
        (0x04, "Device-nGnRE"),
        (0x08, "Device-nGRE"),
        (0x0C, "Device-GRE"),
        # reserved encodings, IHI 0070 5.4
        (0x07, "Device-nGnRE"),
        (0xF0, "Normal-iWT-oWB-NSH"),
    ],
)
def test_mair(byte: int, said: str) -> None:
    assert str(from_mair(byte).consistent()) == said


@pytest.mark.parametrize(
    ("code", "said"),
    [(0xF, "Normal-iWB-oWB-NSH"), (5, "Normal-iNC-oNC-OSH"), (1, "Device-nGnRE"), (4, "Device-nGnRnE"), (0xE, "Normal-iWT-oWB-NSH")],
)
def test_memattr(code: int, said: str) -> None:
    assert str(from_memattr(code).consistent()) == said


def test_combining_takes_the_stronger_of_each() -> None:
    wb = Attributes(share=Share.ISH)
    assert combine(wb, from_memattr(5)).consistent() == Attributes(inner=Cache.NC, outer=Cache.NC, share=Share.OSH)
    assert combine(wb, Attributes(device=Device.GRE)).device is Device.GRE
    assert combine(Attributes(device=Device.nGRE), Attributes(device=Device.nGnRE)).device is Device.nGnRE
    assert combine(wb, Attributes(share=Share.OSH)).share is Share.OSH


@pytest.mark.parametrize(
    ("first", "memattr", "said"),
    [
        (Attributes(inner=Cache.NC, outer=Cache.NC), 6, "Normal-iWB-oWB-ISH"),
        (Attributes(device=Device.nGnRnE), 6, "Normal-iWB-oWB-ISH"),
        (Attributes(), 5, "Normal-iNC-oNC-OSH"),
        (Attributes(device=Device.GRE), 5, "Device-GRE"),
        (Attributes(), 4, "Normal-iNC-oNC-OSH"),
        (Attributes(inner=Cache.WT, outer=Cache.WT), 7, "Normal-iWT-oWT-ISH"),
        (Attributes(), 1, "Device-nGnRE"),
        (Attributes(device=Device.GRE), 2, "Device-nGRE"),
    ],
)
def test_s2fwb_lets_stage_2_decide(first: Attributes, memattr: int, said: str) -> None:
    """The first two rows are what CANWBS and S2FWB are about: a guest cannot make its DMA bypass the caches."""
    assert str(combine_fwb(first, memattr, Share.ISH).consistent()) == said


@pytest.mark.parametrize(
    ("mode", "leaf1", "leaf2", "ste", "said"),
    [
        ("1", {"attr": 0}, {}, {}, "Normal-iWB-oWB-ISH"),
        ("1", {"attr": 1}, {}, {}, "Device-nGnRE"),
        ("1", {"attr": 2}, {}, {}, "Normal-iNC-oNC-OSH"),
        ("2", {}, {"MemAttr": 15}, {"SHCFG": 1}, "Normal-iWB-oWB-ISH"),
        ("2", {}, {"MemAttr": 15, "SH": 0}, {"SHCFG": 2}, "Normal-iWB-oWB-OSH"),
        ("2", {}, {"MemAttr": 15}, {"MTCFG": 1, "MemAttr": 5}, "Normal-iNC-oNC-OSH"),
        ("nested", {"attr": 2}, {"MemAttr": 15}, {}, "Normal-iNC-oNC-OSH"),
        ("nested", {"attr": 2}, {"MemAttr": 6}, {"S2FWB": 1}, "Normal-iWB-oWB-OSH"),
        ("nested", {"attr": 0}, {"MemAttr": 1}, {}, "Device-nGnRE"),
    ],
)
def test_output_of_a_stream(mode: str, leaf1: dict[str, int], leaf2: dict[str, int], ste: dict[str, int], said: str) -> None:
    # Under S2FWB the tables' own pages need an encoding that exists there: 0b0111 is write-back as stage 1 says.
    w = world(mode, leaf1=leaf1, leaf2=leaf2, ste=ste)
    outcome = w.dma(0x4100_0000) if mode == "2" else w.dma()
    assert outcome.pa == PA
    assert str(outcome.attributes) == said
    again = w.dma(0x4100_0000) if mode == "2" else w.dma()
    assert str(again.attributes) == said, "the same from the TLB"


def test_bypass_and_off_use_their_own_overrides() -> None:
    w = world("1")
    w.streams.set(SID, bypass_entry(MTCFG=1, MemAttr=1))
    assert str(w.dma(0x1000).attributes) == "Device-nGnRE"
    w.smmu.write("CR0", 0)
    w.smmu.write("GBPA", 1 << 31 | 1 << 4 | 5)
    assert str(w.dma(0x1000).attributes) == "Normal-iNC-oNC-OSH"
    w.smmu.write("GBPA", 1 << 31 | 1 << 12)
    assert w.dma(0x1000).attributes == DEFAULT
