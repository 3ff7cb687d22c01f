"""Context descriptor structures in memory. IHI 0070, sections 5.3 and 5.4."""

from __future__ import annotations

from wizard.arch.bits import Record, address, field
from wizard.arch.ste import SHAREABILITY, STAGE2_ATTRIBUTES

CD_BYTES = 64
L1CD_BYTES = 8

GRANULES0 = {0: 12, 1: 16, 2: 14}
GRANULES1 = {1: 14, 2: 12, 3: 16}
"""log2 of the granule in bytes of CD.TG0 and CD.TG1; the value that is missing is reserved."""


class L1CD(Record, bits=64):
    """Level 1 context descriptor, IHI 0070 5.3."""

    V = field(0, doc="valid")
    L2Ptr = address(55, 12, "level 2 table")


class CD(Record, bits=512):
    """Context descriptor, IHI 0070 5.4."""

    T0SZ = field(5, 0, "TTB0 covers 64 - T0SZ bits")
    TG0 = field(7, 6, "TTB0 granule", codes={0: "4 KiB", 1: "64 KiB", 2: "16 KiB"})
    IR0 = field(9, 8, "inner cacheability of TTB0 walks", codes=STAGE2_ATTRIBUTES)
    OR0 = field(11, 10, "outer cacheability of TTB0 walks", codes=STAGE2_ATTRIBUTES)
    SH0 = field(13, 12, "shareability of TTB0 walks", codes=SHAREABILITY)
    EPD0 = field(14, doc="no walks through TTB0")
    ENDI = field(15, doc="big-endian tables")
    T1SZ = field(21, 16, "TTB1 covers 64 - T1SZ bits")
    TG1 = field(23, 22, "TTB1 granule", codes={1: "16 KiB", 2: "4 KiB", 3: "64 KiB"})
    IR1 = field(25, 24, "inner cacheability of TTB1 walks", codes=STAGE2_ATTRIBUTES)
    OR1 = field(27, 26, "outer cacheability of TTB1 walks", codes=STAGE2_ATTRIBUTES)
    SH1 = field(29, 28, "shareability of TTB1 walks", codes=SHAREABILITY)
    EPD1 = field(30, doc="no walks through TTB1")
    V = field(31, doc="valid")
    IPS = field(34, 32, "output address size")
    AFFD = field(35, doc="no access flag faults")
    WXN = field(36, doc="writable pages are not executable")
    UWXN = field(37, doc="user-writable pages are not executable (VMSAv8-32)")
    TBI0 = field(38, doc="top byte ignored for TTB0")
    TBI1 = field(39, doc="top byte ignored for TTB1")
    PAN = field(40, doc="privileged access never")
    AA64 = field(41, doc="VMSAv8-64 tables")
    HD = field(42, doc="hardware update of dirty state")
    HA = field(43, doc="hardware update of access flag")
    S = field(44, doc="faults stall")
    R = field(45, doc="faults are recorded")
    A = field(46, doc="terminated transactions abort, else RAZ/WI")
    ASET = field(47, doc="ASID not shared with processors")
    ASID = field(63, 48, "ASID")
    NSCFG0 = field(64, doc="non-secure fetch of TTB0's start level")
    HAD0 = field(65, doc="hierarchical attributes disabled for TTB0")
    E0PD0 = field(66, doc="no unprivileged access through TTB0")
    HAFT = field(67, doc="hardware update of the access flag in table descriptors")
    TTB0 = address(115, 68, "table of the lower half; the bits above belong to 128-bit descriptors")
    PnCH = field(122, doc="protected attribute")
    EPAN = field(123, doc="enhanced PAN")
    HWU0 = field(127, 124, "page-based hardware attributes of TTB0")
    NSCFG1 = field(128, doc="non-secure fetch of TTB1's start level")
    HAD1 = field(129, doc="hierarchical attributes disabled for TTB1")
    E0PD1 = field(130, doc="no unprivileged access through TTB1")
    AIE = field(131, doc="attribute index extension")
    TTB1 = address(179, 132, "table of the upper half; the bits above belong to 128-bit descriptors")
    DS = field(186, doc="52-bit addresses with 4 KiB and 16 KiB granules")
    PIE = field(187, doc="permission indirection")
    HWU1 = field(191, 188, "page-based hardware attributes of TTB1")
    MAIR0 = field(223, 192, "memory attributes 0 to 3, a byte each")
    MAIR1 = field(255, 224, "memory attributes 4 to 7, a byte each")
    AMAIR0 = field(287, 256, "auxiliary memory attributes")
    AMAIR1 = field(319, 288, "auxiliary memory attributes")
