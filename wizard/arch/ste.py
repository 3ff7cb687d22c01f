"""Stream table structures in memory: the level 1 descriptor and the entry itself. IHI 0070, sections 5.1 and 5.2.

Fields that belong only to Secure, Realm, MPAM, permission indirection or 128-bit descriptors are not named here; their bits show up in
``Record.undeclared``.
"""

from __future__ import annotations

from enum import IntEnum

from wizard.arch.bits import Record, address, field

STE_BYTES = 64
L1STD_BYTES = 8


class StreamConfig(IntEnum):
    """STE.Config (IHI 0070 5.2); 0b0xx all behave as ABORT."""

    ABORT = 0
    BYPASS = 4
    STAGE1 = 5
    STAGE2 = 6
    NESTED = 7


GRANULES = {0: 12, 1: 16, 2: 14}
"""log2 of the granule in bytes of STE.S2TG and CD.TG0; 3 is reserved."""

STAGE2_ATTRIBUTES = {0: "non-cacheable", 1: "write-back", 2: "write-through", 3: "write-back, no write-allocate"}
SHAREABILITY = {0: "non-shareable", 2: "outer shareable", 3: "inner shareable"}


class L1STD(Record, bits=64):
    """Level 1 stream table descriptor, IHI 0070 5.1."""

    Span = field(4, 0, "the level 2 array has 2^(Span-1) entries; 0 is invalid, above 11 reserved")
    L2Ptr = address(55, 6, "level 2 array")


class STE(Record, bits=512):
    """Stream table entry, IHI 0070 5.2."""

    V = field(0, doc="valid")
    Config = field(3, 1, "stream configuration", codes={0: "abort", 4: "bypass", 5: "stage 1", 6: "stage 2", 7: "stage 1 and 2"})
    S1Fmt = field(5, 4, "context descriptor table", codes={0: "linear", 1: "two-level, 4 KiB leaves", 2: "two-level, 64 KiB leaves"})
    S1ContextPtr = address(55, 6, "context descriptor or table of them")
    S1CDMax = field(63, 59, "log2 of the number of context descriptors")
    S1DSS = field(65, 64, "transactions without SubstreamID", codes={0: "terminate", 1: "bypass stage 1", 2: "use substream 0"})
    S1CIR = field(67, 66, "inner cacheability of CD fetches", codes=STAGE2_ATTRIBUTES)
    S1COR = field(69, 68, "outer cacheability of CD fetches", codes=STAGE2_ATTRIBUTES)
    S1CSH = field(71, 70, "shareability of CD fetches", codes=SHAREABILITY)
    S2HWU = field(75, 72, "page-based hardware attributes in use")
    DRE = field(76, doc="destructive reads enabled")
    CONT = field(80, 77, "log2 of the run of identical entries")
    DCP = field(81, doc="directed cache prefetch")
    PPAR = field(82, doc="PASID on automatic PRI responses")
    MEV = field(83, doc="merge events")
    SW_RESERVED = field(87, 84, "for software")
    S1PIE = field(88, doc="stage 1 permission indirection")
    S2FWB = field(89, doc="stage 2 controls memory types")
    S1MPAM = field(90, doc="stage 1 controls MPAM")
    S1STALLD = field(91, doc="stage 1 must not stall")
    EATS = field(93, 92, "PCIe ATS", codes={0: "refused", 1: "full", 2: "split-stage", 3: "full, DPT checks"})
    STRW = field(95, 94, "StreamWorld", codes={0: "EL1", 2: "EL2"})
    MemAttr = field(99, 96, "memory attribute override")
    MTCFG = field(100, doc="MemAttr replaces the incoming type")
    ALLOCCFG = field(104, 101, "allocation hints")
    SHCFG = field(109, 108, "shareability", codes={**SHAREABILITY, 1: "incoming"})
    NSCFG = field(111, 110, "non-secure attribute")
    PRIVCFG = field(113, 112, "privilege", codes={0: "incoming", 2: "unprivileged", 3: "privileged"})
    INSTCFG = field(115, 114, "instruction or data", codes={0: "incoming", 2: "data", 3: "instruction"})
    S2VMID = field(143, 128, "VMID")
    S2T0SZ = field(165, 160, "stage 2 input size is 64 - S2T0SZ bits")
    S2SL0 = field(167, 166, "stage 2 start level")
    S2IR0 = field(169, 168, "inner cacheability of stage 2 walks", codes=STAGE2_ATTRIBUTES)
    S2OR0 = field(171, 170, "outer cacheability of stage 2 walks", codes=STAGE2_ATTRIBUTES)
    S2SH0 = field(173, 172, "shareability of stage 2 walks", codes=SHAREABILITY)
    S2TG = field(175, 174, "stage 2 granule", codes={0: "4 KiB", 1: "64 KiB", 2: "16 KiB"})
    S2PS = field(178, 176, "physical address size")
    S2AA64 = field(179, doc="VMSAv8-64 stage 2 tables")
    S2ENDI = field(180, doc="big-endian stage 2 tables")
    S2AFFD = field(181, doc="no stage 2 access flag faults")
    S2PTW = field(182, doc="table walks to Device memory fault")
    S2HD = field(183, doc="hardware update of stage 2 dirty state")
    S2HA = field(184, doc="hardware update of stage 2 access flag")
    S2S = field(185, doc="stage 2 faults stall")
    S2R = field(186, doc="stage 2 faults are recorded")
    S2HAFT = field(187, doc="hardware update of the access flag in table descriptors")
    S2PIE = field(188, doc="stage 2 permission indirection")
    S2POE = field(189, doc="stage 2 permission overlay")
    S2SL0_2 = field(194, doc="bit 2 of S2SL0")
    S2DS = field(195, doc="52-bit addresses with 4 KiB and 16 KiB granules")
    S2TTB = address(243, 196, "stage 2 table; the bits above belong to 128-bit descriptors")
