"""Registers inside the PCI capabilities that decide whether and how a function can be given to a VM.

Offsets (``at``) are from the start of the capability. PCI Express Base 6.0, section named in each docstring.
"""

from __future__ import annotations

from wizard.arch.bits import field
from wizard.arch.pci import Register

PORT_TYPES: dict[int, str] = {
    0x0: "Endpoint",
    0x1: "Legacy Endpoint",
    0x4: "Root Port",
    0x5: "Upstream Port",
    0x6: "Downstream Port",
    0x7: "PCI-Express to PCI/PCI-X Bridge",
    0x8: "PCI/PCI-X to PCI-Express Bridge",
    0x9: "Root Complex Integrated Endpoint",
    0xA: "Root Complex Event Collector",
}
LINK_SPEEDS: dict[int, str] = {1: "2.5GT/s", 2: "5GT/s", 3: "8GT/s", 4: "16GT/s", 5: "32GT/s", 6: "64GT/s"}
PAYLOADS: dict[int, str] = {code: str(128 << code) for code in range(6)}


class PmCapabilities(Register, bits=16, at=0x2):
    """Power Management Capabilities (7.5.2.1)."""

    VERSION = field(2, 0)
    D1 = field(9)
    D2 = field(10)
    PME = field(15, 11, "states that PME# can be asserted from, D0 lowest")


class PmStatus(Register, bits=16, at=0x4):
    """Power Management Control/Status (7.5.2.2)."""

    STATE = field(1, 0, codes={0: "D0", 1: "D1", 2: "D2", 3: "D3hot"})
    NO_SOFT_RESET = field(3, doc="1: going D3hot to D0 does not reset, so PM reset is no reset")


class MsiControl(Register, bits=16, at=0x2):
    """MSI Message Control (7.7.1.2)."""

    ENABLE = field(0)
    MMC = field(3, 1, "log2 of the vectors that the function can use")
    MME = field(6, 4, "log2 of the vectors that are allocated")
    ADDRESS_64 = field(7)
    MASKING = field(8, doc="per-vector masking")


class MsixControl(Register, bits=16, at=0x2):
    """MSI-X Message Control (7.7.2.2)."""

    TABLE_SIZE = field(10, 0, "vectors minus one")
    FUNCTION_MASK = field(14)
    ENABLE = field(15)


class MsixTable(Register, bits=32, at=0x4):
    """MSI-X Table Offset/BIR (7.7.2.3)."""

    BIR = field(2, 0)
    OFFSET = field(31, 3, shift=3)


class MsixPba(MsixTable, bits=32, at=0x8):
    """MSI-X PBA Offset/BIR (7.7.2.4)."""


class SubsystemIds(Register, bits=32, at=0x4):
    """Subsystem ids of a bridge (7.9, SSID/SSVID)."""

    VENDOR = field(15, 0)
    DEVICE = field(31, 16)


class VendorSpecific(Register, bits=8, at=0x2):
    """Length of a vendor-specific capability (7.9.4)."""

    LENGTH = field(7, 0, "bytes, header included")


class AfCapabilities(Register, bits=8, at=0x3):
    """Conventional PCI Advanced Features (PCI Engineering Change Notice, 27 July 2006)."""

    TP = field(0, doc="transactions pending bit")
    FLR = field(1, doc="function level reset")


class ExpressCapabilities(Register, bits=16, at=0x02):
    """PCI Express Capabilities (7.5.3.2)."""

    VERSION = field(3, 0)
    TYPE = field(7, 4, "device/port type", codes=PORT_TYPES)
    SLOT = field(8, doc="slot implemented")


class DeviceCapabilities(Register, bits=32, at=0x04):
    """Device Capabilities (7.5.3.3)."""

    MAX_PAYLOAD = field(2, 0, codes=PAYLOADS)
    EXTENDED_TAG = field(5)
    FLR = field(28, doc="function level reset")


class DeviceControl(Register, bits=16, at=0x08):
    """Device Control (7.5.3.4)."""

    MAX_PAYLOAD = field(7, 5, codes=PAYLOADS)
    EXTENDED_TAG = field(8)
    MAX_READ_REQUEST = field(14, 12, codes=PAYLOADS)


class DeviceStatus(Register, bits=16, at=0x0A):
    """Device Status (7.5.3.5)."""

    TRANSACTIONS_PENDING = field(5)


class LinkCapabilities(Register, bits=32, at=0x0C):
    """Link Capabilities (7.5.3.6)."""

    SPEED = field(3, 0, codes=LINK_SPEEDS)
    WIDTH = field(9, 4, "lanes")
    PORT = field(31, 24)


class LinkStatus(Register, bits=16, at=0x12):
    """Link Status (7.5.3.8)."""

    SPEED = field(3, 0, codes=LINK_SPEEDS)
    WIDTH = field(9, 4, "lanes")
    ACTIVE = field(13, doc="data link layer active")


class SlotCapabilities(Register, bits=32, at=0x14):
    """Slot Capabilities (7.5.3.9)."""

    SURPRISE = field(5, doc="hot-plug surprise")
    HOTPLUG = field(6)
    NUMBER = field(31, 19, "physical slot")


class SlotStatus(Register, bits=16, at=0x1A):
    """Slot Status (7.5.3.11)."""

    PRESENT = field(6, doc="presence detect state")


class DeviceCapabilities2(Register, bits=32, at=0x24):
    """Device Capabilities 2 (7.5.3.15)."""

    ARI_FORWARDING = field(5)
    ATOMIC_ROUTING = field(6)
    ATOMIC_32 = field(7)
    ATOMIC_64 = field(8)
    ATOMIC_128 = field(9)


class DeviceControl2(Register, bits=16, at=0x28):
    """Device Control 2 (7.5.3.16)."""

    ARI_FORWARDING = field(5)


class AerStatus(Register, bits=32, at=0x04):
    """Uncorrectable Error Status (7.8.4.2)."""

    DLP = field(4, doc="data link protocol error")
    SDES = field(5, doc="surprise down")
    TLP = field(12, doc="poisoned TLP")
    FCP = field(13, doc="flow control protocol error")
    CmpltTO = field(14, doc="completion timeout")
    CmpltAbrt = field(15, doc="completer abort")
    UnxCmplt = field(16, doc="unexpected completion")
    RxOF = field(17, doc="receiver overflow")
    MalfTLP = field(18, doc="malformed TLP")
    ECRC = field(19, doc="ECRC error")
    UnsupReq = field(20, doc="unsupported request")
    ACSViol = field(21, doc="ACS violation")


class AerMask(AerStatus, bits=32, at=0x08):
    """Uncorrectable Error Mask (7.8.4.3)."""


class AerSeverity(AerStatus, bits=32, at=0x0C):
    """Uncorrectable Error Severity (7.8.4.4): 1 is fatal."""


class DsnNumber(Register, bits=64, at=0x4):
    """Device Serial Number (7.9.3): an EUI-64."""

    EUI64 = field(63, 0)


class VsecHeader(Register, bits=32, at=0x4):
    """Vendor-Specific header (7.9.5.2)."""

    ID = field(15, 0)
    REVISION = field(19, 16)
    LENGTH = field(31, 20)


class DvsecHeader1(Register, bits=32, at=0x4):
    """Designated Vendor-Specific header 1 (7.9.6.2)."""

    VENDOR = field(15, 0)
    REVISION = field(19, 16)
    LENGTH = field(31, 20)


class DvsecHeader2(Register, bits=16, at=0x8):
    """Designated Vendor-Specific header 2 (7.9.6.3)."""

    ID = field(15, 0)


class AcsCapabilities(Register, bits=16, at=0x4):
    """ACS Capability (7.7.11.2). The field names are lspci's, in the specification's letters V B R C U E T."""

    SV = field(0, doc="source validation")
    TB = field(1, doc="translation blocking")
    RR = field(2, doc="P2P request redirect")
    CR = field(3, doc="P2P completion redirect")
    UF = field(4, doc="upstream forwarding")
    EC = field(5, doc="P2P egress control")
    DT = field(6, doc="direct translated P2P")


class AcsControl(AcsCapabilities, bits=16, at=0x6):
    """ACS Control (7.7.11.3)."""


class AriCapabilities(Register, bits=16, at=0x4):
    """ARI Capability (7.8.8.2)."""

    MFVC_GROUPS = field(0)
    ACS_GROUPS = field(1)
    NEXT_FUNCTION = field(15, 8)


class AtsCapabilities(Register, bits=16, at=0x4):
    """ATS Capability (10.5.1.2)."""

    QUEUE_DEPTH = field(4, 0, "outstanding invalidations; 0 stands for 32")
    PAGE_ALIGNED = field(5)
    GLOBAL_INVALIDATE = field(6)
    RELAXED_ORDERING = field(7)


class AtsControl(Register, bits=16, at=0x6):
    """ATS Control (10.5.1.3)."""

    STU = field(4, 0, "smallest translation unit, log2 of 4 KiB pages")
    ENABLE = field(15)


class PriControl(Register, bits=16, at=0x4):
    """Page Request Control (10.5.2.2)."""

    ENABLE = field(0)


class PriStatus(Register, bits=16, at=0x6):
    """Page Request Status (10.5.2.3)."""

    RESPONSE_FAILURE = field(0)
    STOPPED = field(8)
    PASID_REQUIRED = field(15, doc="PRG response PASID required")


class PriCapacity(Register, bits=64, at=0x8):
    """Outstanding Page Request Capacity and Allocation (10.5.2.4, 10.5.2.5)."""

    CAPACITY = field(31, 0)
    ALLOCATION = field(63, 32)


class PasidCapabilities(Register, bits=16, at=0x4):
    """PASID Capability (7.8.9.2)."""

    EXEC = field(1, doc="execute permission")
    PRIV = field(2, doc="privileged mode")
    WIDTH = field(12, 8, "PASID bits")


class PasidControl(Register, bits=16, at=0x6):
    """PASID Control (7.8.9.3)."""

    ENABLE = field(0)
    EXEC = field(1)
    PRIV = field(2)


class SriovCapabilities(Register, bits=32, at=0x04):
    """SR-IOV Capabilities (9.3.3.2)."""

    MIGRATION = field(0)
    ARI_PRESERVED = field(1, doc="ARI capable hierarchy preserved across a reset")


class SriovControl(Register, bits=16, at=0x08):
    """SR-IOV Control (9.3.3.3)."""

    VF_ENABLE = field(0)
    VF_MEM = field(3, doc="VF memory space enable")
    ARI = field(4, doc="ARI capable hierarchy")


class SriovCounts(Register, bits=64, at=0x0C):
    """InitialVFs, TotalVFs, NumVFs, function dependency link (9.3.3.5 to 9.3.3.8)."""

    INITIAL = field(15, 0)
    TOTAL = field(31, 16)
    NUMBER = field(47, 32)
    DEPENDENCY = field(55, 48)


class SriovRouting(Register, bits=32, at=0x14):
    """First VF Offset and VF Stride (9.3.3.9, 9.3.3.10); both may change with NumVFs and ARI."""

    OFFSET = field(15, 0)
    STRIDE = field(31, 16)


class SriovDevice(Register, bits=16, at=0x1A):
    """VF Device ID (9.3.3.11)."""

    ID = field(15, 0)


class SriovPages(Register, bits=64, at=0x1C):
    """Supported and System Page Sizes (9.3.3.12, 9.3.3.13): bit n stands for 4 KiB << n."""

    SUPPORTED = field(31, 0)
    SYSTEM = field(63, 32)


SRIOV_BARS = 0x24  # six VF base address registers (9.3.3.14)


class RebarCapabilities(Register, bits=32, at=0x4):
    """Resizable BAR Capability (7.8.6.2)."""

    SIZES = field(31, 4, "bit n stands for 1 MiB << n")


class RebarControl(Register, bits=32, at=0x8):
    """Resizable BAR Control (7.8.6.3)."""

    BAR = field(2, 0, "BAR index")
    COUNT = field(7, 5, "resizable BARs; only in the first control register")
    SIZE = field(13, 8, "1 MiB << n")
    SIZES_UPPER = field(31, 16, "bit n stands for 256 TiB << n")


REBAR_STRIDE = 8


class TphRequester(Register, bits=32, at=0x4):
    """TPH Requester Capability (7.9.13.2)."""

    INTERRUPT_VECTOR_MODE = field(1)
    DEVICE_SPECIFIC_MODE = field(2)
    TABLE_LOCATION = field(10, 9, codes={0: "none", 1: "capability", 2: "MSI-X table"})
    TABLE_SIZE = field(26, 16, "entries minus one")


class DpcCapabilities(Register, bits=16, at=0x4):
    """DPC Capability (7.9.14.2)."""

    RP_EXTENSIONS = field(5)
    POISONED_BLOCKING = field(6)
    SOFTWARE_TRIGGER = field(7)


class DpcControl(Register, bits=16, at=0x6):
    """DPC Control (7.9.14.3)."""

    TRIGGER = field(1, 0, codes={0: "disabled", 1: "fatal", 2: "non-fatal and fatal"})


class DpcStatus(Register, bits=16, at=0x8):
    """DPC Status (7.9.14.4)."""

    TRIGGERED = field(0)
