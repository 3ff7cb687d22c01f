"""Each rule that makes an STE or a CD ILLEGAL, one broken at a time: the pseudocode of IHI 0070 5.2.2 and 5.4.2."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.smmu.world import RICH
from wizard.arch.cd import CD
from wizard.arch.idr import IDR0, IDR5
from wizard.arch.ste import STE, StreamConfig
from wizard.smmu import Ids
from wizard.smmu.regime import STAGE2_START, levels, stage1_start, stage2_start
from wizard.smmu.validity import World, cd_illegal, ste_illegal, world

GOOD_STE = STE.build(
    V=1, Config=StreamConfig.NESTED, S1ContextPtr=0x4000_0000, S2VMID=7, S2T0SZ=24, S2SL0=1, S2TG=0, S2PS=5, S2AA64=1, S2R=1, S2TTB=0x4010_0000
)
GOOD_CD = CD.build(V=1, AA64=1, A=1, R=1, ASID=1, T0SZ=16, T1SZ=16, TG1=2, IPS=5, TTB0=0x4020_0000, TTB1=0x4030_0000)


def idr0(**fields: int) -> Ids:
    return replace(RICH, idr0=IDR0(RICH.idr0).replace(**fields).value)


def idr5(**fields: int) -> Ids:
    return replace(RICH, idr5=IDR5(RICH.idr5).replace(**fields).value)


def test_the_good_ones_are_good() -> None:
    assert ste_illegal(GOOD_STE, RICH.features) is None
    assert cd_illegal(GOOD_CD, GOOD_STE, RICH.features) is None


@pytest.mark.parametrize(
    ("change", "ids", "said"),
    [
        ({"V": 0}, RICH, "V is 0"),
        ({}, idr0(S1P=0), "IDR0.S1P"),
        ({}, idr0(S2P=0), "IDR0.S2P"),
        ({"EATS": 2, "S2S": 1}, RICH, "split-stage"),
        ({"EATS": 2, "Config": 5}, RICH, "split-stage"),
        ({"EATS": 2}, idr0(NS1ATS=1), "split-stage"),
        ({"EATS": 1, "S2S": 1}, RICH, "full ATS while S2S"),
        ({"Config": 5, "STRW": 1}, RICH, "STRW is reserved"),
        ({"Config": 5, "STRW": 3}, RICH, "STRW is reserved"),
        ({"S2VMID": 0x100}, idr0(VMID16=0), "IDR0.VMID16"),
        ({"S1STALLD": 1}, idr0(STALL_MODEL=1), "S1STALLD"),
        ({"S1CDMax": 9}, RICH, "above IDR1.SSIDSIZE"),
        ({"S1CDMax": 4, "S1Fmt": 1}, idr0(CD2L=0), "two-level table"),
        ({"S1ContextPtr": 1 << 48}, RICH, "S1ContextPtr"),
        ({"S2S": 1}, idr0(STALL_MODEL=1), "S2S is 1"),
        ({}, idr0(STALL_MODEL=2), "stall model is forced"),
        ({"S2AA64": 0}, RICH, "S2AA64 is 0"),
        ({}, idr0(TTF=1), "no VMSAv8-64"),
        ({"S2HA": 1}, idr0(HTTU=0), "IDR0.HTTU is 0"),
        ({"S2HA": 1, "S2HD": 1}, idr0(HTTU=1), "no dirty state"),
        ({"S2HAFT": 1}, idr0(HTTU=3), "S2HAFT"),
        ({"S2TG": 3}, RICH, "S2TG"),
        ({"S2TG": 1}, idr5(GRAN64K=0), "S2TG"),
        ({"S2TTB": 1 << 48}, RICH, "S2TTB"),
        ({"S2TTB": 1 << 40, "S2PS": 2}, RICH, "S2TTB"),
        ({"S2T0SZ": 15}, RICH, "S2T0SZ 15 is outside"),
        ({"S2T0SZ": 19}, idr5(OAS=4), "S2T0SZ 19 is outside 20"),
        ({"S2T0SZ": 49}, RICH, "S2T0SZ 49 is outside"),
        ({"S2T0SZ": 40}, RICH, "contradicts"),
        ({"S2SL0": 0}, RICH, "contradicts"),
        ({"S2SL0": 2, "S2T0SZ": 25}, RICH, "contradicts"),
        ({"S2ENDI": 1}, RICH, "TTENDIAN"),
    ],
)
def test_ste_rule(change: dict[str, int], ids: Ids, said: str) -> None:
    why = ste_illegal(GOOD_STE.replace(**change), ids.features)
    assert why is not None
    assert said in why


@pytest.mark.parametrize(
    ("change", "ids"),
    [
        ({"Config": 0, "S2TG": 3}, RICH),
        ({"Config": 4, "S2TG": 3, "S1ContextPtr": 1 << 48, "EATS": 2}, RICH),
        ({"Config": 5, "S2TG": 3, "S2T0SZ": 63}, RICH),
        ({"Config": 6, "S1CDMax": 20, "S1ContextPtr": 1 << 48}, RICH),
        ({"EATS": 2}, idr0(ATS=0)),
        ({"EATS": 3}, RICH),
        ({"STRW": 3}, RICH),
        ({"S2PS": 7}, RICH),
    ],
)
def test_ste_fields_of_a_stage_that_is_off_are_ignored(change: dict[str, int], ids: Ids) -> None:
    assert ste_illegal(GOOD_STE.replace(**change), ids.features) is None


@pytest.mark.parametrize(
    ("change", "ids", "said"),
    [
        ({"V": 0}, RICH, "V is 0"),
        ({"A": 0}, idr0(TERM_MODEL=1), "A is 0"),
        ({"S": 1}, idr0(STALL_MODEL=1), "S is 1"),
        ({"S": 0}, idr0(STALL_MODEL=2), "S is 0"),
        ({"AA64": 0}, RICH, "AA64 is 0"),
        ({}, idr0(TTF=1), "no VMSAv8-64"),
        ({"HA": 1}, idr0(HTTU=0), "IDR0.HTTU is 0"),
        ({"HD": 1}, idr0(HTTU=1), "no dirty state"),
        ({"HAFT": 1}, idr0(HTTU=3), "HAFT"),
        ({"ASID": 0x100}, idr0(ASID16=0), "IDR0.ASID16"),
        ({"ENDI": 1}, RICH, "TTENDIAN"),
        ({"TG0": 3}, RICH, "TG0"),
        ({"TG1": 0}, RICH, "TG1"),
        ({"TG0": 1}, idr5(GRAN64K=0), "TG0"),
        ({"T0SZ": 15}, RICH, "T0SZ 15 is outside 16 to 48"),
        ({"T0SZ": 49}, RICH, "T0SZ 49"),
        ({"T1SZ": 48, "TG1": 3}, RICH, "T1SZ 48 is outside 16 to 47"),
        ({"TTB0": 1 << 40, "IPS": 2}, RICH, "TTB0"),
        ({"TTB1": 1 << 48}, RICH, "TTB1"),
    ],
)
def test_cd_rule(change: dict[str, int], ids: Ids, said: str) -> None:
    why = cd_illegal(GOOD_CD.replace(**change), GOOD_STE, ids.features)
    assert why is not None
    assert said in why


def test_stall_is_refused_where_the_stream_forbids_it() -> None:
    assert cd_illegal(GOOD_CD.replace(S=1), GOOD_STE.replace(S1STALLD=1), RICH.features) is not None


def test_disabled_half_is_not_checked() -> None:
    assert cd_illegal(GOOD_CD.replace(EPD0=1, TG0=3, T0SZ=0, TTB0=1 << 50), GOOD_STE, RICH.features) is None
    assert cd_illegal(GOOD_CD.replace(EPD0=1, EPD1=1, ENDI=1, TG0=3, TG1=0), GOOD_STE, RICH.features) is None
    assert cd_illegal(GOOD_CD.replace(EPD0=1, T0SZ=0), GOOD_STE, RICH.features, World.EL2) is not None, "EL2 has no EPD0"
    assert cd_illegal(GOOD_CD.replace(TG1=0, ASID=0x1FF), GOOD_STE, idr0(ASID16=0).features, World.EL2) is None


def test_52_bit_input_takes_vax_and_64k() -> None:
    wide = idr5(VAX=1, OAS=6)
    assert cd_illegal(GOOD_CD.replace(T0SZ=12, TG0=1, IPS=6), GOOD_STE, wide.features) is None
    assert cd_illegal(GOOD_CD.replace(T0SZ=12), GOOD_STE, wide.features) is not None
    assert cd_illegal(GOOD_CD.replace(T0SZ=12, TG0=1), GOOD_STE, RICH.features) is not None


@pytest.mark.parametrize(("strw", "e2h", "expected"), [(0, False, World.EL1), (2, False, World.EL2), (2, True, World.E2H)])
def test_stream_world(strw: int, e2h: bool, expected: World) -> None:
    ste = GOOD_STE.replace(Config=5, STRW=strw)
    assert world(ste, RICH.features, e2h) is expected
    assert world(ste.replace(Config=7), RICH.features, e2h) is World.EL1


@pytest.mark.parametrize(
    ("granule", "bits", "start"),
    # DDI 0487 D8.2: the start level by granule and input size.
    [(12, 48, 0), (12, 40, 0), (12, 39, 1), (12, 30, 2), (12, 25, 2), (12, 21, 3), (14, 48, 0), (14, 47, 1), (14, 36, 2), (14, 25, 3),
     (16, 52, 1), (16, 48, 1), (16, 42, 2), (16, 29, 3), (16, 25, 3)],
)  # fmt: skip
def test_stage_1_start_level(granule: int, bits: int, start: int) -> None:
    assert stage1_start(granule, bits) == start
    walked = levels(granule, start, bits, False)
    assert [level.number for level in walked] == list(range(start, 4))
    assert sum(level.mask.bit_length() for level in walked) + granule == bits


@pytest.mark.parametrize("granule", [12, 14, 16])
def test_stage_2_start_levels_allow_up_to_sixteen_concatenated_tables(granule: int) -> None:
    stride = {12: 9, 14: 11, 16: 13}[granule]
    for sl0, level in STAGE2_START[granule].items():
        whole = granule + stride * (4 - level)
        allowed = [bits for bits in range(16, 53) if stage2_start(granule, sl0, bits, 52, True) is not None]
        assert allowed == list(range(max(16, whole - stride + 1), min(52, whole + 4) + 1))


def test_small_tables_and_small_outputs_limit_the_start_level() -> None:
    assert stage2_start(12, 3, 20, 48, False) is None
    assert stage2_start(12, 2, 40, 40, True) is None
    assert stage2_start(14, 3, 40, 48, True) is None


def test_base_address_bits_of_128_bit_descriptors_are_ignored() -> None:
    """5.2 S2TTB, 5.4 TTB0 and TTB1: address bits 55:52 are RES0 without VMSAv9-128."""
    assert ste_illegal(STE(GOOD_STE.value | 0xF << 244), RICH.features) is None
    assert cd_illegal(CD(GOOD_CD.value | 0xF << 116 | 0xF << 180), GOOD_STE, RICH.features) is None
    assert ste_illegal(STE(GOOD_STE.value | 1 << 243), RICH.features) is not None
