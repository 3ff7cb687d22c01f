"""The features mask: published masks of real machines, and what a clear bit proves on which kernel."""

from __future__ import annotations

import pytest

from wizard.host.log.parse import NOT_BY_SILICON_ALONE, Feature, Option, feature, release_of, unnamed

F = Feature
COMMON = {"TWO_LVL_STRTAB", "TT_LE", "TT_BE", "COHERENCY", "TRANS_S1", "TRANS_S2"}

# Masks with the bits that their reporters read from them (sources: kernel-masks).
MASKS = [
    (0x001E1FBF, {*COMMON, "TWO_LVL_CDTAB", "PRI", "ATS", "MSI", "STALLS", "HYP", "SVA", "E2H", "NESTING", "ATTR_TYPES_OVR"}),  # Grace, 6.16
    (0x000E1FBF, {*COMMON, "TWO_LVL_CDTAB", "PRI", "ATS", "MSI", "STALLS", "HYP", "SVA", "E2H", "NESTING"}),  # GB300, 6.8
    (0x001C1FFF, {*COMMON, "TWO_LVL_CDTAB", "PRI", "ATS", "SEV", "MSI", "STALLS", "HYP", "E2H", "NESTING", "ATTR_TYPES_OVR"}),  # Altra, 6.18
    (0x0094DFEF, {*COMMON, "TWO_LVL_CDTAB", "ATS", "SEV", "MSI", "STALLS", "HYP", "VAX", "RANGE_INV", "E2H", "ATTR_TYPES_OVR", "S2FWB"}),
    (0x00000FEF, {*COMMON, "TWO_LVL_CDTAB", "ATS", "SEV", "MSI", "STALLS"}),  # Kunpeng 920, 5.x
    (0x0000170D, {*COMMON, "HYP"}),  # ThunderX2
    (0x01FCDFCF, {*COMMON, "TWO_LVL_CDTAB", "SEV", "MSI", "STALLS", "HYP", "VAX", "RANGE_INV", "E2H", "NESTING", "ATTR_TYPES_OVR", "HA", "HD",
                  "S2FWB", "BBML2"}),  # MMU-720AE FVP
]  # fmt: skip


@pytest.mark.parametrize(("mask", "names"), MASKS)
def test_published_masks(mask: int, names: set[str]) -> None:
    assert {member.name for member in Feature if mask & member} == names
    assert unnamed(mask) == 0


def test_bits_are_those_of_the_driver() -> None:
    """arm-smmu-v3.h of Linux 7.3: 27 features, 0 to 26 without a gap, and five options."""
    assert [int(member) for member in Feature] == [1 << bit for bit in range(27)]
    assert [int(member) for member in Option] == [1 << bit for bit in range(5)]
    assert unnamed(0x8C000001) == 0x88000000


@pytest.mark.parametrize(
    ("mask", "bit", "release", "expected"),
    [
        (0x001E1FBF, F.S2FWB, "6.16.0-rc5", False),  # Grace really has none
        (0x001C1FFF, F.S2FWB, "6.14.0-29-generic", None),  # "a clear bit 23 on a 6.13/6.14 kernel proves nothing"
        (0x001C1FFF, F.S2FWB, "6.13.2", None),
        (0x000E1FBF, F.ATTR_TYPES_OVR, "6.8.0-138-generic", None),  # the same hardware shows the bit on 6.16
        (0x001E1FBF, F.ATTR_TYPES_OVR, "6.16.0", True),
        (0x000E1FBF, F.ATTR_TYPES_OVR, "6.16.0", False),
        (0x001E1FBF, F.S2FWB, "6.15.0", False),
        (0x00000FEF, F.NESTING, "5.11.0", None),
        (0x0094DFEF, F.NESTING, "6.16.0-rc3-next-20250627", False),
        (0x001E1FBF, F.RANGE_INV, "6.16.0", False),  # ril=off on Grace
        (0x00000FEF, F.RANGE_INV, "5.4.0", None),
        (0x00000FEF, F.PRI, "4.19.0", False),
        (0x001C1FFF, F.SVA, "6.18.0", False),
        (0x01088705, F.BTM, "7.2.13", None),  # no kernel up to 7.3 probes it
        (0x01088705, F.BTM, "7.3.4", None),
        (0x01088705, F.DS, "7.2.13", None),
        (0x01088705, F.DS, "7.3.0-rc2", None),
        (0x01088705, F.DS, "7.3.4", False),
        (0x01088705, F.BBML2, "7.2.13", True),
        (0x001E1FBF, F.S2FWB, None, None),
        (0x001E1FBF, F.S2FWB, "garbage", None),
        (0x001E1FBF, F.NESTING, None, True),  # a set bit needs no release: distributions bring features to older kernels
        (0x00800000, F.S2FWB, "6.8.0-1030-nvidia-64k", True),
    ],
)
def test_what_a_bit_proves(mask: int, bit: Feature, release: str | None, expected: bool | None) -> None:
    assert feature(mask, bit, release) is expected


@pytest.mark.parametrize(("text", "expected"), [("6.8.0-1138-nvidia", (6, 8)), ("7.2.13", (7, 2)), ("6.16-rc1", (6, 16)), ("", None), ("v6.1", None)])
def test_releases(text: str, expected: tuple[int, int] | None) -> None:
    assert release_of(text) == expected


def test_what_else_decides_is_told() -> None:
    assert "CONFIG_ARM_SMMU_V3_SVA" in NOT_BY_SILICON_ALONE[F.SVA]
    assert "erratum" in NOT_BY_SILICON_ALONE[F.NESTING]
    assert F.S2FWB not in NOT_BY_SILICON_ALONE
