"""The feature and option masks that the kernel's arm-smmu-v3 driver prints, and what a clear bit proves.

Bits and setting rules: drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.h and .c of Linux 7.2. A driver that does not know a feature prints its
bit as clear, so a clear bit counts only from the release on that is known to set it. A set bit counts always: distributions bring
features to older releases, and use the same bits.
"""

from __future__ import annotations

from enum import IntFlag

from wizard.base.release import reached, release_of


class Feature(IntFlag):
    """ARM_SMMU_FEAT_*: the ``features`` mask."""

    TWO_LVL_STRTAB = 1 << 0
    TWO_LVL_CDTAB = 1 << 1
    TT_LE = 1 << 2
    TT_BE = 1 << 3
    PRI = 1 << 4
    ATS = 1 << 5
    SEV = 1 << 6
    MSI = 1 << 7
    COHERENCY = 1 << 8
    TRANS_S1 = 1 << 9
    TRANS_S2 = 1 << 10
    STALLS = 1 << 11
    HYP = 1 << 12
    STALL_FORCE = 1 << 13
    VAX = 1 << 14
    RANGE_INV = 1 << 15
    BTM = 1 << 16
    SVA = 1 << 17
    E2H = 1 << 18
    NESTING = 1 << 19
    ATTR_TYPES_OVR = 1 << 20
    HA = 1 << 21
    HD = 1 << 22
    S2FWB = 1 << 23
    BBML2 = 1 << 24
    HAFT = 1 << 25
    DS = 1 << 26


class Option(IntFlag):
    """ARM_SMMU_OPT_*: the ``option mask``, printed before the erratum rules by IIDR are applied.

    So MSIPOLL and CMDQ_FORCE_SYNC never show in it, and their absence proves nothing.
    """

    SKIP_PREFETCH = 1 << 0
    PAGE0_REGS_ONLY = 1 << 1
    MSIPOLL = 1 << 2
    CMDQ_FORCE_SYNC = 1 << 3
    TEGRA241_CMDQV = 1 << 4


KNOWN_SINCE: dict[Feature, tuple[int, int]] = {
    Feature.VAX: (4, 17),
    Feature.RANGE_INV: (5, 7),
    Feature.SVA: (5, 11),
    Feature.E2H: (5, 13),
    Feature.NESTING: (6, 5),
    # Not in 6.8, in 6.16 (the same Grace under both).
    Feature.ATTR_TYPES_OVR: (6, 16),
    Feature.HA: (6, 12),
    Feature.HD: (6, 12),
    # The bit is older than what sets it: "iommu/arm-smmu-v3: Add missing S2FWB feature detection" came with 6.15.
    Feature.S2FWB: (6, 15),
    Feature.BBML2: (6, 17),
    Feature.HAFT: (6, 13),
    Feature.DS: (7, 3),
}
"""First release of which a clear bit is known to mean no; features not named here are as old as the mask."""

NOT_BY_SILICON_ALONE: dict[Feature, str] = {
    Feature.PRI: "needs CONFIG_PCI_PRI",
    Feature.ATS: "needs CONFIG_PCI_ATS",
    Feature.COHERENCY: "is the firmware's word, not IDR0.COHACC",
    Feature.SVA: "needs CONFIG_ARM_SMMU_V3_SVA, coherent walks, the CPU's page size and address width",
    Feature.E2H: "needs a host that runs at EL2 with VHE",
    Feature.NESTING: "is cleared by erratum rules for MMU-600 before r2 and MMU-700 before r1p1",
    Feature.SEV: "is cleared by an erratum rule for MMU-600 up to r0p2",
    Feature.HA: "is the firmware's word under ACPI",
    Feature.HD: "is the firmware's word under ACPI",
    Feature.HAFT: "is the firmware's word under ACPI",
    Feature.TWO_LVL_STRTAB: "is not used with 8 or fewer StreamID bits",
}
"""Why a clear bit need not mean that the hardware lacks the feature: what else the driver asks for."""


def knows(bit: Feature, release: str | None) -> bool:
    """Whether a kernel of this release is known to look for a feature.

    A release candidate of the first release that has it may have been cut before: S2FWB's detection came with 6.15-rc4.
    """
    if bit is Feature.BTM:
        return False  # probed by no kernel up to 7.3
    since = KNOWN_SINCE.get(bit)
    return since is None or reached(release, since) is True


def feature(mask: int, bit: Feature, release: str | None) -> bool | None:
    """Whether the kernel uses a feature, by its mask. None: the bit is clear, and this kernel may not have known it."""
    if mask & bit.value:  # of the number alone: a Flag would be made of each answer
        return True
    return False if knows(bit, release) else None


def feature_names(mask: int) -> str:
    """The features of a mask by name, lowest bit first; bits without a name as one number."""
    names = [bit.name or "" for bit in Feature if mask & bit]
    return " ".join([*names, *([f"{unnamed(mask):#x}"] if unnamed(mask) else [])])


def unnamed(mask: int) -> int:
    """Bits of a features mask that have no name here: shown raw, since a newer kernel may have given them one."""
    return mask & ~int(sum(Feature))


__all__ = ["KNOWN_SINCE", "NOT_BY_SILICON_ALONE", "Feature", "Option", "feature", "feature_names", "knows", "release_of", "unnamed"]
