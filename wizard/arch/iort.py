"""The I/O Remapping Table: its header, its nodes and what is in them, each declared once for decoding and for building.

Source: Arm DEN 0049 (IO Remapping Table), issues A (revision 0) to E.f (revision 6), and ACPICA's actbl2.h for names. Bit numbers
count from the start of each structure; node data begins behind the 16 bytes of the node header.
"""

from __future__ import annotations

from enum import IntEnum

from wizard.arch.bits import Record, field

SIGNATURE = b"IORT"
NEWEST_REVISION = 6
TABLE_SIZE = 48
NODE_SIZE = 16
MAPPING_SIZE = 20
RMR_SIZE = 20


class NodeType(IntEnum):
    """Node types (DEN 0049E.f, table 3)."""

    ITS_GROUP = 0
    NAMED_COMPONENT = 1
    ROOT_COMPLEX = 2
    SMMU = 3
    SMMU_V3 = 4
    PMCG = 5
    RMR = 6
    IWB = 7


NODE_NAMES: dict[int, str] = {
    NodeType.ITS_GROUP: "ITS group",
    NodeType.NAMED_COMPONENT: "named component",
    NodeType.ROOT_COMPLEX: "root complex",
    NodeType.SMMU: "SMMUv1/v2",
    NodeType.SMMU_V3: "SMMUv3",
    NodeType.PMCG: "PMCG",
    NodeType.RMR: "RMR",
    NodeType.IWB: "IWB",
}


class Table(Record, bits=384):
    """ACPI table header and the three IORT fields behind it."""

    SIGNATURE = field(31, 0)
    LENGTH = field(63, 32, "bytes, this header included")
    REVISION = field(71, 64)
    CHECKSUM = field(79, 72, "makes all bytes of the table add up to 0 modulo 256")
    OEM_ID = field(127, 80)
    OEM_TABLE_ID = field(191, 128)
    OEM_REVISION = field(223, 192)
    CREATOR_ID = field(255, 224)
    CREATOR_REVISION = field(287, 256)
    NODE_COUNT = field(319, 288)
    NODE_OFFSET = field(351, 320, "of the first node, from the start of the table")


class Node(Record, bits=128):
    """Header of every node."""

    TYPE = field(7, 0, codes=NODE_NAMES)
    LENGTH = field(23, 8, "bytes, header, data and mappings")
    REVISION = field(31, 24)
    IDENTIFIER = field(63, 32, "unique from table revision 3 on, reserved before")
    MAPPING_COUNT = field(95, 64)
    MAPPING_OFFSET = field(127, 96, "from the start of the node")


class Mapping(Record, bits=160):
    """One ID mapping. The count is one less than the number of IDs: ``INPUT_BASE + ID_COUNT`` is still a hit."""

    INPUT_BASE = field(31, 0)
    ID_COUNT = field(63, 32, "number of IDs minus one")
    OUTPUT_BASE = field(95, 64)
    OUTPUT_REFERENCE = field(127, 96, "of the parent node, from the start of the table")
    SINGLE = field(128, doc="every input ID becomes OUTPUT_BASE")


class MemoryAccess(Record, bits=64):
    """Memory access properties of named components and root complexes."""

    COHERENT = field(31, 0, "1: the device is fully coherent (CCA)")
    TRANSIENT = field(32)
    WRITE_ALLOCATE = field(33)
    READ_ALLOCATE = field(34)
    OVERRIDE = field(35)
    CPM = field(56, doc="coherent path to memory")
    DACS = field(57, doc="device attributes are cacheable and inner-shareable")
    CANWBS = field(58, doc="coherency of accesses is ensured, whatever attributes stage 1 asks for")


MEMORY_FLAGS_BYTE = 7  # of the memory access properties: bit 2 of this byte is CANWBS


class ItsGroup(Record, bits=32):
    """ITS group node data; ``COUNT`` 32-bit ITS identifiers follow."""

    COUNT = field(31, 0)


class NamedComponent(Record, bits=104):
    """Named component node data; the ACPI path of the device follows, ending in NUL."""

    STALL = field(0, doc="the device can stall")
    PASID_BITS = field(5, 1, "substream width")
    MEMORY = field(95, 32)
    ADDRESS_LIMIT = field(103, 96, "bits of address that the device can drive")


class RootComplex(Record, bits=160):
    """Root complex node data; address limit from node revision 1, PASID capabilities from 3, flags from 4."""

    MEMORY = field(63, 0)
    ATS = field(64)
    PRI = field(65)
    PASID_FORWARD = field(66, doc="the root complex forwards PASIDs on translated requests")
    SEGMENT = field(127, 96)
    ADDRESS_LIMIT = field(135, 128)
    MAX_PASID_WIDTH = field(140, 136)


class Smmu(Record, bits=352):
    """SMMUv1/v2 node data."""

    BASE = field(63, 0)
    SPAN = field(127, 64, "bytes")
    MODEL = field(
        159,
        128,
        codes={0: "SMMUv1", 1: "SMMUv2", 2: "Corelink MMU-400", 3: "Corelink MMU-500", 4: "Corelink MMU-401", 5: "Cavium ThunderX SMMUv2"},
    )
    DVM = field(160)
    COHERENT_WALK = field(161)
    GLOBAL_OFFSET = field(223, 192, "of the global interrupt array, from the start of the node")
    CONTEXT_COUNT = field(255, 224)
    CONTEXT_OFFSET = field(287, 256)
    PMU_COUNT = field(319, 288)
    PMU_OFFSET = field(351, 320)


class SmmuV3(Record, bits=416):
    """SMMUv3 node data."""

    BASE = field(63, 0)
    COHACC = field(64, doc="COHACC override: overrides IDR0.COHACC")
    HTTU = field(66, 65, "HTTU override", codes={0: "none", 1: "access flag", 2: "access flag and dirty state"})
    PXM_VALID = field(67)
    DEVICEID_VALID = field(68, doc="the DeviceID mapping index is valid; from node revision 5")
    VATOS = field(191, 128)
    MODEL = field(223, 192, codes={0: "generic", 1: "HiSilicon Hi161x", 2: "Cavium CN99xx"})
    EVENT_GSIV = field(255, 224)
    PRI_GSIV = field(287, 256)
    GERR_GSIV = field(319, 288)
    SYNC_GSIV = field(351, 320)
    PXM = field(383, 352, "proximity domain")
    ID_MAPPING_INDEX = field(415, 384, "the mapping that gives the SMMU's own DeviceID; from node revision 1")


class Pmcg(Record, bits=192):
    """Performance monitoring counter group node data; the second page from node revision 1 on."""

    PAGE0_BASE = field(63, 0)
    GSIV = field(95, 64, "overflow interrupt, 0 for an MSI")
    REFERENCE = field(127, 96, "of the monitored node")
    PAGE1_BASE = field(191, 128)


class Rmr(Record, bits=96):
    """Reserved memory range node data."""

    REMAP_PERMITTED = field(0)
    PRIVILEGED = field(1)
    ATTRIBUTES = field(
        9,
        2,
        codes={0: "Device-nGnRnE", 1: "Device-nGnRE", 2: "Device-nGRE", 3: "Device-GRE", 4: "Normal Non-cacheable", 5: "Normal Write-Back"},
    )
    COUNT = field(63, 32)
    OFFSET = field(95, 64, "of the descriptors, from the start of the node")


class RmrDescriptor(Record, bits=160):
    """One reserved memory range; 64 KiB granularity."""

    BASE = field(63, 0)
    LENGTH = field(127, 64, "bytes")


DATA_SIZES: dict[int, int] = {
    NodeType.ITS_GROUP: 4,
    NodeType.NAMED_COMPONENT: 13,
    NodeType.ROOT_COMPLEX: 16,
    NodeType.SMMU: 44,
    NodeType.SMMU_V3: 44,
    NodeType.PMCG: 16,
    NodeType.RMR: 12,
}
"""Bytes of data that the oldest revision of each node type has."""
