"""PCI configuration space: the two header types, capability headers, and the numbers that name capabilities.

Sources: PCI Express Base 6.0 sections 7.5 to 7.9, the PCI Code and ID Assignment specification, and Linux
include/uapi/linux/pci_regs.h for the names. The registers inside each capability are in ``pci_caps``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar, Self

from wizard.arch.bits import Record, field

STANDARD_SPACE = 0x100
EXTENDED_SPACE = 0x1000
USER_READABLE = 0x40  # what pci_read_config() of the kernel gives without CAP_SYS_ADMIN


class Register(Record):
    """A record at a fixed offset (``at``, in bytes) of a structure in configuration space."""

    __slots__ = ()
    at: ClassVar[int] = 0

    def __init_subclass__(cls, *, at: int = 0, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.at = at

    @classmethod
    def read(cls, data: bytes, base: int = 0) -> Self:
        """From configuration space bytes; bytes past the end of ``data`` are zero (trailing zeros are not stored)."""
        start = base + cls.at
        return cls(int.from_bytes(data[start : start + cls.bits // 8], "little"))


class Command(Register, bits=16, at=0x04):
    """Command register (PCIe 7.5.1.1.3)."""

    IO = field(0, doc="I/O space enable")
    MEM = field(1, doc="memory space enable; always 0 in a VF")
    MASTER = field(2, doc="bus master enable")
    INTX_DISABLE = field(10)


class Status(Register, bits=16, at=0x06):
    """Status register (PCIe 7.5.1.1.4)."""

    CAP_LIST = field(4, doc="there is a capabilities list")


class ClassRevision(Register, bits=32, at=0x08):
    """Revision ID and class code."""

    REVISION = field(7, 0)
    CLASS = field(31, 8, "base class, sub-class, programming interface")


class HeaderType(Register, bits=8, at=0x0E):
    """Header type register (PCIe 7.5.1.1.9)."""

    LAYOUT = field(6, 0, codes={0: "normal", 1: "bridge", 2: "CardBus"})
    MULTIFUNCTION = field(7)


class BaseAddress(Register, bits=32, at=0x10):
    """One base address register (PCIe 7.5.1.2.1); the address bits differ between I/O and memory."""

    IO = field(0)
    TYPE = field(2, 1, "memory only", codes={0: "32-bit", 1: "below 1M", 2: "64-bit"})
    PREFETCHABLE = field(3, doc="memory only")
    IO_ADDRESS = field(31, 2, shift=2)
    MEMORY_ADDRESS = field(31, 4, shift=4)


class ExpansionRom(Register, bits=32, at=0x30):
    """Expansion ROM base address; at 0x38 in a bridge."""

    ENABLE = field(0)
    ADDRESS = field(31, 11, shift=11)


class BridgeBuses(Register, bits=32, at=0x18):
    """Bus number registers of a type 1 header (PCIe 7.5.1.3)."""

    PRIMARY = field(7, 0)
    SECONDARY = field(15, 8)
    SUBORDINATE = field(23, 16)


class IoWindow(Register, bits=16, at=0x1C):
    """I/O base and limit of a bridge."""

    BASE_TYPE = field(3, 0, codes={0: "16-bit", 1: "32-bit"})
    BASE = field(7, 4, shift=12)
    LIMIT = field(15, 12, shift=12)


class IoWindowUpper(Register, bits=32, at=0x30):
    """Upper 16 bits of the I/O window."""

    BASE = field(15, 0, shift=16)
    LIMIT = field(31, 16, shift=16)


class MemoryWindow(Register, bits=32, at=0x20):
    """Memory base and limit of a bridge; the prefetchable pair at 0x24 has the same layout."""

    BASE_TYPE = field(3, 0, codes={0: "32-bit", 1: "64-bit"})
    BASE = field(15, 4, shift=20)
    LIMIT = field(31, 20, shift=20)


class PrefetchableUpper(Register, bits=64, at=0x28):
    """Upper 32 bits of the prefetchable window."""

    BASE = field(31, 0, shift=32)
    LIMIT = field(63, 32, shift=32)


class CapabilityHeader(Register, bits=16):
    """Header of a standard capability (PCIe 7.5.3)."""

    ID = field(7, 0)
    NEXT = field(15, 8, "offset; 0 ends the list")


class ExtendedHeader(Register, bits=32):
    """Header of an extended capability (PCIe 7.6.3)."""

    ID = field(15, 0)
    VERSION = field(19, 16)
    NEXT = field(31, 20, "offset; 0 ends the list")


class Cap(IntEnum):
    """Standard capabilities that the program looks into."""

    PM = 0x01
    VPD = 0x03
    MSI = 0x05
    VENDOR = 0x09
    SSVID = 0x0D
    EXPRESS = 0x10
    MSIX = 0x11
    AF = 0x13


class ExtCap(IntEnum):
    """Extended capabilities that the program looks into."""

    AER = 0x01
    DSN = 0x03
    VSEC = 0x0B
    ACS = 0x0D
    ARI = 0x0E
    ATS = 0x0F
    SRIOV = 0x10
    PRI = 0x13
    REBAR = 0x15
    TPH = 0x17
    PASID = 0x1B
    DPC = 0x1D
    DVSEC = 0x23
    VF_REBAR = 0x24


CAPABILITY_NAMES: dict[int, str] = {
    0x00: "Null",
    0x01: "Power Management",
    0x02: "AGP",
    0x03: "Vital Product Data",
    0x04: "Slot Identification",
    0x05: "MSI",
    0x06: "CompactPCI Hot Swap",
    0x07: "PCI-X",
    0x08: "HyperTransport",
    0x09: "Vendor Specific Information",
    0x0A: "Debug port",
    0x0B: "CompactPCI Central Resource Control",
    0x0C: "Hot-plug capable",
    0x0D: "Subsystem",
    0x0E: "AGP 8x",
    0x0F: "Secure Device",
    0x10: "Express",
    0x11: "MSI-X",
    0x12: "SATA Data/Index Configuration",
    0x13: "Advanced Features",
    0x14: "Enhanced Allocation",
    0x15: "Flattening Portal Bridge",
}

EXTENDED_NAMES: dict[int, str] = {
    0x00: "Null",
    0x01: "Advanced Error Reporting",
    0x02: "Virtual Channel",
    0x03: "Device Serial Number",
    0x04: "Power Budgeting",
    0x05: "Root Complex Link Declaration",
    0x06: "Root Complex Internal Link Control",
    0x07: "Root Complex Event Collector Endpoint Association",
    0x08: "Multi-Function Virtual Channel",
    0x09: "Virtual Channel (MFVC)",
    0x0A: "Root Complex Register Block",
    0x0B: "Vendor Specific Information",
    0x0C: "Configuration Access Correlation",
    0x0D: "Access Control Services",
    0x0E: "Alternative Routing-ID Interpretation (ARI)",
    0x0F: "Address Translation Service (ATS)",
    0x10: "Single Root I/O Virtualization (SR-IOV)",
    0x11: "Multi-Root I/O Virtualization",
    0x12: "Multicast",
    0x13: "Page Request Interface (PRI)",
    0x15: "Resizable BAR",
    0x16: "Dynamic Power Allocation",
    0x17: "Transaction Processing Hints",
    0x18: "Latency Tolerance Reporting",
    0x19: "Secondary PCI Express",
    0x1A: "Protocol Multiplexing",
    0x1B: "Process Address Space ID (PASID)",
    0x1C: "LN Requester",
    0x1D: "Downstream Port Containment",
    0x1E: "L1 PM Substates",
    0x1F: "Precision Time Measurement",
    0x20: "M-PCIe",
    0x21: "Function Readiness Status Queueing",
    0x22: "Readiness Time Reporting",
    0x23: "Designated Vendor-Specific",
    0x24: "VF Resizable BAR",
    0x25: "Data Link Feature",
    0x26: "Physical Layer 16.0 GT/s",
    0x27: "Lane Margining at the Receiver",
    0x28: "Hierarchy ID",
    0x29: "Native PCIe Enclosure Management",
    0x2A: "Physical Layer 32.0 GT/s",
    0x2B: "Alternate Protocol",
    0x2C: "System Firmware Intermediary",
    0x2D: "Shadow Functions",
    0x2E: "Data Object Exchange",
    0x2F: "Device 3",
    0x30: "Integrity and Data Encryption",
    0x31: "Physical Layer 64.0 GT/s",
    0x32: "Flit Logging",
    0x33: "Flit Performance Measurement",
    0x34: "Flit Error Injection",
}
