"""The SMMUv3 identification registers: IHI 0070, sections 6.3.1 to 6.3.8 and 6.3.45.

Field names and positions are those of the non-secure programming interface. ``ABI_FIELDS`` adds what the kernel's ABI promises
of the words that ``IOMMU_GET_HW_INFO`` returns.
"""

from __future__ import annotations

from wizard.arch.bits import Record, field

ADDRESS_BITS = {0: 32, 1: 36, 2: 40, 3: 42, 4: 44, 5: 48, 6: 52, 7: 56}
"""Address size in bits of the 3-bit encoding shared by IDR5.OAS, CD.IPS and STE.S2PS (IHI 0070 6.3.6, 5.4, 5.2)."""


class IDR0(Record, bits=32):
    """SMMU_IDR0 (0x00), IHI 0070 6.3.1."""

    S2P = field(0, doc="stage 2 translation")
    S1P = field(1, doc="stage 1 translation")
    TTF = field(3, 2, "translation table formats", codes={1: "VMSAv8-32 LPAE", 2: "VMSAv8-64", 3: "VMSAv8-32 LPAE and VMSAv8-64"})
    COHACC = field(4, doc="coherent access to tables and queues")
    BTM = field(5, doc="broadcast TLB maintenance")
    HTTU = field(7, 6, "hardware update of tables", codes={0: "none", 1: "access flag", 2: "access flag, dirty state", 3: "also table access flag"})
    DORMHINT = field(8, doc="dormant hint")
    HYP = field(9, doc="EL2 stage 1 contexts")
    ATS = field(10, doc="PCIe Address Translation Service")
    NS1ATS = field(11, doc="split-stage ATS not supported")
    ASID16 = field(12, doc="16-bit ASID", codes={0: "8-bit ASID", 1: "16-bit ASID"})
    MSI = field(13, doc="the SMMU sends message signalled interrupts")
    SEV = field(14, doc="wake-up events on CMD_SYNC")
    ATOS = field(15, doc="address translation operations")
    PRI = field(16, doc="PCIe Page Request Interface")
    VMW = field(17, doc="VMID wildcard in TLB invalidation")
    VMID16 = field(18, doc="16-bit VMID", codes={0: "8-bit VMID", 1: "16-bit VMID"})
    CD2L = field(19, doc="two-level context descriptor tables")
    VATOS = field(20, doc="virtual ATOS page")
    TTENDIAN = field(22, 21, "endianness of table walks", codes={0: "mixed", 2: "little", 3: "big"})
    ATSRECERR = field(23, doc="events recorded for ATS and PRI requests")
    STALL_MODEL = field(25, 24, "fault models", codes={0: "stall and terminate", 1: "terminate only", 2: "stall forced"})
    TERM_MODEL = field(26, doc="a terminated transaction is always aborted", codes={0: "abort or RAZ/WI", 1: "abort only"})
    ST_LEVEL = field(28, 27, "stream table formats", codes={0: "linear", 1: "linear and two-level"})
    RME_IMPL = field(30, doc="Realm Management Extension")


class IDR1(Record, bits=32):
    """SMMU_IDR1 (0x04), IHI 0070 6.3.2. Queue sizes are log2 of entries."""

    SIDSIZE = field(5, 0, "StreamID bits")
    SSIDSIZE = field(10, 6, "SubstreamID bits")
    PRIQS = field(15, 11, "largest PRI queue, log2 entries")
    EVENTQS = field(20, 16, "largest event queue, log2 entries")
    CMDQS = field(25, 21, "largest command queue, log2 entries")
    ATTR_PERMS_OVR = field(26, doc="incoming permission attributes can be overridden")
    ATTR_TYPES_OVR = field(27, doc="incoming memory attributes can be overridden")
    REL = field(28, doc="preset base addresses are relative")
    QUEUES_PRESET = field(29, doc="queue base addresses are fixed")
    TABLES_PRESET = field(30, doc="stream table base is fixed")
    ECMDQ = field(31, doc="enhanced command queues")


class IDR2(Record, bits=32):
    """SMMU_IDR2 (0x08), IHI 0070 6.3.3."""

    BA_VATOS = field(9, 0, "VATOS page offset")


class IDR3(Record, bits=32):
    """SMMU_IDR3 (0x0C), IHI 0070 6.3.4."""

    HAD = field(2, doc="hierarchical attribute disable")
    PBHA = field(3, doc="page-based hardware attributes")
    XNX = field(4, doc="stage 2 execute-never by exception level")
    PPS = field(5, doc="PASID on automatic PRI responses")
    MPAM = field(7, doc="memory partitioning and monitoring")
    FWB = field(8, doc="stage 2 control of memory types (S2FWB)")
    STT = field(9, doc="small translation tables")
    RIL = field(10, doc="range invalidation and level hint")
    BBML = field(12, 11, "break-before-make level", codes={0: "level 0", 1: "level 1", 2: "level 2"})
    E0PD = field(13, doc="prevention of unprivileged access to a half")
    PTWNNC = field(14, doc="table walks to Device memory as Normal Non-cacheable")
    DPT = field(15, doc="device permission table")
    PASIDTT = field(16, doc="PASID on ATS translated traffic")
    EPAN = field(17, doc="enhanced PAN")
    S1PI = field(18, doc="stage 1 permission indirection")
    S2PI = field(19, doc="stage 2 permission indirection")
    S2PO = field(20, doc="stage 2 permission overlays")
    THE = field(21, doc="translation hardening")
    MTEPERM = field(22, doc="stage 2 NoTagAccess encodings")
    AIE = field(23, doc="stage 1 attribute index extension")


class IDR4(Record, bits=32):
    """SMMU_IDR4 (0x10), IHI 0070 6.3.5."""

    IMPDEF = field(31, 0, "implementation defined")


class IDR5(Record, bits=32):
    """SMMU_IDR5 (0x14), IHI 0070 6.3.6."""

    OAS = field(2, 0, "output address size", codes={code: f"{bits} bits" for code, bits in ADDRESS_BITS.items()})
    GRAN4K = field(4, doc="4 KiB granule")
    GRAN16K = field(5, doc="16 KiB granule")
    GRAN64K = field(6, doc="64 KiB granule")
    DS = field(7, doc="52-bit addresses with 4 KiB and 16 KiB granules")
    D128 = field(8, doc="128-bit descriptors")
    VAX = field(11, 10, "virtual address size", codes={0: "48 bits", 1: "52 bits", 2: "56 bits"})
    STALL_MAX = field(31, 16, "most stalled transactions at a time")


class IDR6(Record, bits=32):
    """SMMU_IDR6 (0x190), IHI 0070 6.3.45."""

    CMDQ_CONTROL_PAGE_LOG2NUMQ = field(19, 16, "enhanced command queues per control page, log2")
    CMDQ_CONTROL_PAGE_LOG2NUMP = field(27, 24, "enhanced command queue control pages, log2")


class IIDR(Record, bits=32):
    """SMMU_IIDR (0x18), IHI 0070 6.3.7."""

    Implementer = field(11, 0, "JEP106 code of the implementer", codes={0x43B: "Arm"})
    Revision = field(15, 12, "minor revision")
    Variant = field(19, 16, "major revision")
    ProductID = field(31, 20, "product", codes={0x483: "MMU-600", 0x487: "MMU-700", 0x48A: "MMU-L1", 0x498: "MMU-S3"})


class AIDR(Record, bits=32):
    """SMMU_AIDR (0x1C), IHI 0070 6.3.8."""

    ArchMinorRev = field(3, 0, "minor architecture revision")
    ArchMajorRev = field(7, 4, "major architecture revision", codes={0: "SMMUv3"})


IDS: tuple[type[Record], ...] = (IDR0, IDR1, IDR2, IDR3, IDR4, IDR5)
"""The six words of ``struct iommu_hw_info_arm_smmuv3.idr``, in its order."""

ABI_FIELDS: dict[str, frozenset[str]] = {
    "IDR0": frozenset({"ST_LEVEL", "TERM_MODEL", "STALL_MODEL", "TTENDIAN", "CD2L", "ASID16", "TTF"}),
    "IDR1": frozenset({"SIDSIZE", "SSIDSIZE"}),
    "IDR3": frozenset({"BBML", "RIL"}),
    "IDR5": frozenset({"VAX", "GRAN64K", "GRAN16K", "GRAN4K", "DS"}),
}
"""Fields that the kernel's ABI says may be used of ``struct iommu_hw_info_arm_smmuv3`` (include/uapi/linux/iommufd.h, Linux 7.3,
whose words are those of 7.2 and whose list has IDR5.DS beside it);
every other bit of those words is shown raw."""


def abi_mask(register: type[Record]) -> int:
    """The bits of ``register`` that ``ABI_FIELDS`` allows to be used, as a mask; 0 where it allows none."""
    mask = 0
    for name in ABI_FIELDS.get(register.__name__, frozenset()):
        known = register.layout[name]
        mask |= known.mask << known.lo
    return mask
