"""Extended PCI capabilities, decoded when asked for.

Each function takes a configuration space and gives None where the capability is absent or could not be read;
``ConfigSpace.presence`` tells the two apart.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import msgspec

from wizard.arch import pci_caps as regs
from wizard.arch.pci import ExtCap, Register
from wizard.host.pci.bars import Bar, decode_bars
from wizard.host.pci.config import Capability, ConfigSpace


class Acs(msgspec.Struct, frozen=True):
    """Access Control Services: the letters ``SV TB RR CR UF EC DT`` that the function can do, and those switched on."""

    capable: frozenset[str]
    enabled: frozenset[str]


class Ats(msgspec.Struct, frozen=True):
    """Address Translation Service. ``queue_depth`` counts outstanding invalidations, ``stu`` is log2 of 4 KiB pages."""

    queue_depth: int
    page_aligned: bool
    global_invalidate: bool
    enabled: bool
    stu: int


class Pri(msgspec.Struct, frozen=True):
    """Page Request Interface; capacity and allocation in outstanding requests."""

    enabled: bool
    stopped: bool
    pasid_required: bool
    capacity: int
    allocation: int


class Pasid(msgspec.Struct, frozen=True):
    """Process Address Space IDs: what the function can do, the width in bits, and what is switched on."""

    execute: bool
    privileged: bool
    width: int
    enabled: bool
    execute_enabled: bool
    privileged_enabled: bool


class Ari(msgspec.Struct, frozen=True):
    """Alternative Routing-ID Interpretation."""

    next_function: int


class VfRouting(NamedTuple):
    """Where the VFs of a PF are: the first by ``offset`` from the PF's requester ID, each next by ``stride``."""

    offset: int
    stride: int

    def vf_rid(self, pf_rid: int, index: int) -> int:
        """Requester ID of VF ``index`` (0 is the first) under the PF at ``pf_rid``: PCIe 9.3.3.9, pci_iov_virtfn_bus().

        ``ValueError`` when it leaves the 16 bits of a requester ID.
        """
        rid = pf_rid + self.offset + self.stride * index
        if index < 0 or rid > 0xFFFF:
            raise ValueError(f"VF {index} of PF {pf_rid:#06x} has no requester ID")
        return rid


class Sriov(msgspec.Struct, frozen=True):
    """Single Root I/O Virtualization of a PF. Page sizes in bytes; ``bars`` are those of the VFs, address of the first VF's."""

    enabled: bool
    memory_enabled: bool
    ari: bool
    total: int
    initial: int
    number: int
    dependency: int
    offset: int
    stride: int
    vf_device: int
    page_sizes: tuple[int, ...]
    page_size: int
    bars: tuple[Bar, ...]

    def vf_rid(self, pf_rid: int, index: int) -> int:
        """As ``VfRouting`` says it."""
        return VfRouting(self.offset, self.stride).vf_rid(pf_rid, index)


class ResizableBar(msgspec.Struct, frozen=True):
    """One resizable BAR: sizes in bytes."""

    bar: int
    size: int
    sizes: tuple[int, ...]


class Tph(msgspec.Struct, frozen=True):
    """Transaction Processing Hints: steering tag modes and table."""

    interrupt_vector: bool
    device_specific: bool
    table: str
    entries: int


class Dpc(msgspec.Struct, frozen=True):
    """Downstream Port Containment: ``trigger`` is ``disabled``, ``fatal`` or ``non-fatal and fatal``."""

    trigger: str
    triggered: bool


class Vsec(msgspec.Struct, frozen=True):
    """A vendor-specific extended capability; ``vendor`` is the function's own for VSEC, the named one for DVSEC."""

    vendor: int
    id: int
    revision: int
    length: int
    designated: bool


class Aer(msgspec.Struct, frozen=True):
    """Advanced Error Reporting: names (lspci's) of the uncorrectable errors that are pending, masked, and fatal."""

    pending: frozenset[str]
    masked: frozenset[str]
    fatal: frozenset[str]


def acs(space: ConfigSpace) -> Acs | None:
    """Access Control Services (id 0x0d)."""
    found = space.find(ExtCap.ACS)
    if found is None:
        return None
    return _acs(space.data[found.offset : found.offset + 8])


@lru_cache(maxsize=1024)  # the same on most ports, and on most functions, of a host
def _acs(data: bytes) -> Acs:
    return Acs(_set(regs.AcsCapabilities.read(data)), _set(regs.AcsControl.read(data)))


def ats(space: ConfigSpace) -> Ats | None:
    """Address Translation Service (id 0x0f)."""
    found = space.find(ExtCap.ATS)
    if found is None:
        return None
    caps, control = regs.AtsCapabilities.read(space.data, found.offset), regs.AtsControl.read(space.data, found.offset)
    return Ats(caps.QUEUE_DEPTH or 32, bool(caps.PAGE_ALIGNED), bool(caps.GLOBAL_INVALIDATE), bool(control.ENABLE), control.STU)


def pri(space: ConfigSpace) -> Pri | None:
    """Page Request Interface (id 0x13)."""
    found = space.find(ExtCap.PRI)
    if found is None:
        return None
    control, status = regs.PriControl.read(space.data, found.offset), regs.PriStatus.read(space.data, found.offset)
    sizes = regs.PriCapacity.read(space.data, found.offset)
    return Pri(bool(control.ENABLE), bool(status.STOPPED), bool(status.PASID_REQUIRED), sizes.CAPACITY, sizes.ALLOCATION)


def pasid(space: ConfigSpace) -> Pasid | None:
    """Process Address Space ID (id 0x1b). A VF has none of its own: the PF's counts (PCIe 9.3.7.14)."""
    found = space.find(ExtCap.PASID)
    if found is None:
        return None
    caps, control = regs.PasidCapabilities.read(space.data, found.offset), regs.PasidControl.read(space.data, found.offset)
    return Pasid(bool(caps.EXEC), bool(caps.PRIV), caps.WIDTH, bool(control.ENABLE), bool(control.EXEC), bool(control.PRIV))


def ari(space: ConfigSpace) -> Ari | None:
    """Alternative Routing-ID Interpretation (id 0x0e)."""
    found = space.find(ExtCap.ARI)
    return None if found is None else Ari(regs.AriCapabilities.read(space.data, found.offset).NEXT_FUNCTION)


def vf_routing(space: ConfigSpace) -> VfRouting | None:
    """Of Single Root I/O Virtualization only where the VFs are: what is asked of every PF of a host."""
    found = space.find(ExtCap.SRIOV)
    if found is None:
        return None
    routing = regs.SriovRouting.read(space.data, found.offset)
    return VfRouting(routing.OFFSET, routing.STRIDE)


def sriov(space: ConfigSpace) -> Sriov | None:
    """Single Root I/O Virtualization (id 0x10)."""
    found = space.find(ExtCap.SRIOV)
    if found is None:
        return None
    data, base = space.data, found.offset
    control, counts, routing = regs.SriovControl.read(data, base), regs.SriovCounts.read(data, base), regs.SriovRouting.read(data, base)
    pages = regs.SriovPages.read(data, base)
    system = _bits(pages.SYSTEM)
    return Sriov(
        enabled=bool(control.VF_ENABLE),
        memory_enabled=bool(control.VF_MEM),
        ari=bool(control.ARI),
        total=counts.TOTAL,
        initial=counts.INITIAL,
        number=counts.NUMBER,
        dependency=counts.DEPENDENCY,
        offset=routing.OFFSET,
        stride=routing.STRIDE,
        vf_device=regs.SriovDevice.read(data, base).ID,
        page_sizes=tuple(4096 << bit for bit in _bits(pages.SUPPORTED)),
        page_size=4096 << system[0] if system else 4096,
        bars=decode_bars(tuple(space.word(base + regs.SRIOV_BARS + 4 * index) for index in range(6))),
    )


def resizable_bars(space: ConfigSpace, *, vf: bool = False) -> tuple[ResizableBar, ...]:
    """Resizable BARs (id 0x15), or with ``vf`` those of the VFs (id 0x24); empty where there is no such capability."""
    found = space.find(ExtCap.VF_REBAR if vf else ExtCap.REBAR)
    if found is None:
        return ()
    count = regs.RebarControl.read(space.data, found.offset).COUNT
    described = []
    for index in range(min(count, 6)):
        base = found.offset + regs.REBAR_STRIDE * index
        if base + 12 > space.length:
            break
        caps, control = regs.RebarCapabilities.read(space.data, base), regs.RebarControl.read(space.data, base)
        sizes = [1 << 20 + bit for bit in _bits(caps.SIZES)] + [1 << 48 + bit for bit in _bits(control.SIZES_UPPER)]
        described.append(ResizableBar(control.BAR, 1 << 20 + control.SIZE, tuple(sizes)))
    return tuple(described)


def serial_number(space: ConfigSpace) -> str | None:
    """Device Serial Number (id 0x03) as lspci writes it: eight bytes, most significant first, ``52-54-00-ff-ff-00-40-01``."""
    found = space.find(ExtCap.DSN)
    return None if found is None else regs.DsnNumber.read(space.data, found.offset).EUI64.to_bytes(8, "big").hex("-")


def tph(space: ConfigSpace) -> Tph | None:
    """Transaction Processing Hints (id 0x17)."""
    found = space.find(ExtCap.TPH)
    if found is None:
        return None
    caps = regs.TphRequester.read(space.data, found.offset)
    table = regs.TphRequester.TABLE_LOCATION.meaning(caps.TABLE_LOCATION) or f"location {caps.TABLE_LOCATION}"
    return Tph(bool(caps.INTERRUPT_VECTOR_MODE), bool(caps.DEVICE_SPECIFIC_MODE), table, caps.TABLE_SIZE + 1 if table != "none" else 0)


def dpc(space: ConfigSpace) -> Dpc | None:
    """Downstream Port Containment (id 0x1d)."""
    found = space.find(ExtCap.DPC)
    if found is None:
        return None
    trigger = regs.DpcControl.read(space.data, found.offset).TRIGGER
    meaning = regs.DpcControl.TRIGGER.meaning(trigger) or f"trigger {trigger}"
    return Dpc(meaning, bool(regs.DpcStatus.read(space.data, found.offset).TRIGGERED))


def aer(space: ConfigSpace) -> Aer | None:
    """Advanced Error Reporting (id 0x01)."""
    found = space.find(ExtCap.AER)
    if found is None:
        return None
    status, mask, severity = (kind.read(space.data, found.offset) for kind in (regs.AerStatus, regs.AerMask, regs.AerSeverity))
    return Aer(_set(status), _set(mask), _set(severity))


def vendor_specific(space: ConfigSpace) -> tuple[Vsec, ...]:
    """Every VSEC (id 0x0b) and DVSEC (id 0x23), in list order."""
    return tuple(found for c in space.extended if (found := _vsec(space, c)) is not None)


def _vsec(space: ConfigSpace, capability: Capability) -> Vsec | None:
    if capability.id == ExtCap.VSEC:
        header = regs.VsecHeader.read(space.data, capability.offset)
        return Vsec(space.vendor, header.ID, header.REVISION, header.LENGTH, False)
    if capability.id == ExtCap.DVSEC:
        first, second = regs.DvsecHeader1.read(space.data, capability.offset), regs.DvsecHeader2.read(space.data, capability.offset)
        return Vsec(first.VENDOR, second.ID, first.REVISION, first.LENGTH, True)
    return None


def _set(register: Register) -> frozenset[str]:
    return frozenset(name for name, value in register.fields().items() if value)


def _bits(value: int) -> list[int]:
    return [bit for bit in range(value.bit_length()) if value >> bit & 1]
