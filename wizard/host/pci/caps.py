"""Standard PCI capabilities, decoded when asked for.

Each function takes a configuration space and gives None where the capability is absent or could not be read;
``ConfigSpace.presence`` tells the two apart.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import msgspec

from wizard.arch import pci_caps as regs
from wizard.arch.pci import Cap
from wizard.host.pci.config import Capability, ConfigSpace, Presence


class PowerManagement(msgspec.Struct, frozen=True):
    """Power Management. ``state`` is ``D0`` to ``D3hot``; ``soft_reset``: D3hot to D0 resets the function."""

    version: int
    state: str
    soft_reset: bool
    d1: bool
    d2: bool


class Msi(msgspec.Struct, frozen=True):
    """MSI: vectors usable and allocated."""

    enabled: bool
    vectors: int
    allocated: int
    wide: bool
    maskable: bool


class Msix(msgspec.Struct, frozen=True):
    """MSI-X: number of vectors, and where the table and the pending bits lie (BAR index and byte offset)."""

    enabled: bool
    masked: bool
    vectors: int
    table_bar: int
    table_offset: int
    pba_bar: int
    pba_offset: int

    @property
    def table_size(self) -> int:
        """Bytes: 16 for each vector."""
        return 16 * self.vectors


class Link(msgspec.Struct, frozen=True):
    """A link's speed (``16GT/s``) and width (lanes)."""

    speed: str
    width: int


class Slot(msgspec.Struct, frozen=True):
    """A port's slot."""

    number: int
    hotplug: bool
    surprise: bool
    present: bool


DOWNSTREAM = frozenset((0x4, 0x6))
"""Types of ports with a link below them: root port and switch downstream port."""
ENDPOINTS = frozenset((0x0, 0x1, 0x9))
"""Types of endpoints: endpoint, legacy endpoint and root complex integrated endpoint."""


class Kind(NamedTuple):
    """What of the PCI Express capability is of the function for good, and the same for all of its kind. ``flr`` as in ``Express``."""

    type: int
    flr: bool | None

    @property
    def type_name(self) -> str:
        """The type as lspci calls it."""
        return regs.PORT_TYPES.get(self.type) or f"type {self.type:#x}"


class Express(msgspec.Struct, frozen=True):
    """The PCI Express capability. ``type`` is the device/port type's number, ``type_name`` lspci's name for it.

    Payload sizes are bytes; ``slot`` is None where none is implemented, the links where the type has none. ``flr`` is None where only
    the type is told (``lspci -v``): the other fields are zero then.
    """

    version: int
    type: int
    type_name: str
    flr: bool | None
    max_payload_supported: int
    max_payload: int
    max_read_request: int
    transactions_pending: bool
    port: int
    link_capable: Link
    link: Link
    link_active: bool
    slot: Slot | None
    ari_forwarding_supported: bool
    ari_forwarding: bool

    @property
    def is_root_port(self) -> bool:
        """Root port of a root complex."""
        return self.type == 0x4

    @property
    def is_downstream(self) -> bool:
        """A port with a link below it: root port or switch downstream port."""
        return self.type in DOWNSTREAM

    @property
    def is_endpoint(self) -> bool:
        """Endpoint, legacy endpoint or root complex integrated endpoint."""
        return self.type in ENDPOINTS

    @property
    def is_pci_bridge(self) -> bool:
        """PCI Express to conventional PCI or PCI-X."""
        return self.type == 0x7


class AdvancedFeatures(msgspec.Struct, frozen=True):
    """Conventional PCI Advanced Features."""

    flr: bool


def power_management(space: ConfigSpace) -> PowerManagement | None:
    """Power Management (id 0x01)."""
    found = space.find(Cap.PM)
    if found is None:
        return None
    caps, status = regs.PmCapabilities.read(space.data, found.offset), regs.PmStatus.read(space.data, found.offset)
    state = regs.PmStatus.STATE.codes[status.STATE]
    return PowerManagement(caps.VERSION, state, not status.NO_SOFT_RESET, bool(caps.D1), bool(caps.D2))


def msi(space: ConfigSpace) -> Msi | None:
    """MSI (id 0x05)."""
    found = space.find(Cap.MSI)
    if found is None:
        return None
    control = regs.MsiControl.read(space.data, found.offset)
    return Msi(bool(control.ENABLE), 1 << control.MMC, 1 << control.MME, bool(control.ADDRESS_64), bool(control.MASKING))


def msix(space: ConfigSpace) -> Msix | None:
    """MSI-X (id 0x11)."""
    found = space.find(Cap.MSIX)
    if found is None:
        return None
    control = regs.MsixControl.read(space.data, found.offset)
    table, pba = regs.MsixTable.read(space.data, found.offset), regs.MsixPba.read(space.data, found.offset)
    return Msix(bool(control.ENABLE), bool(control.FUNCTION_MASK), control.TABLE_SIZE + 1, table.BIR, table.OFFSET, pba.BIR, pba.OFFSET)


def express(space: ConfigSpace) -> Express | None:
    """PCI Express (id 0x10). Registers past the end of a short capability read as zero."""
    found = _find_express(space)
    if found is None:
        return None
    return _express(space.data[found.offset : found.offset + _EXPRESS_BYTES], _flr_told(space, found))


def kind(space: ConfigSpace) -> Kind | None:
    """Of the same capability what does not move; only the two registers that hold it are looked at."""
    found = _find_express(space)
    if found is None:
        return None
    flr = bool(regs.DeviceCapabilities.read(space.data, found.offset).FLR) if _flr_told(space, found) else None
    return Kind(regs.ExpressCapabilities.read(space.data, found.offset).TYPE, flr)


def _find_express(space: ConfigSpace) -> Capability | None:
    found = space.find(Cap.EXPRESS)
    if found is None and space.known:
        return next((c for c in space.standard if c.id == Cap.EXPRESS and space.tells(c.offset, c.offset + 4)), None)
    return found


def _flr_told(space: ConfigSpace, found: Capability) -> bool:
    return space.tells(found.offset + 4, found.offset + 8)


_EXPRESS_BYTES = 0x3C  # the whole structure (PCIe 6.0, 7.5.3)


@lru_cache(maxsize=1024)  # most functions of a host are of a few kinds
def _express(data: bytes, flr_told: bool) -> Express:
    caps, device, control = regs.ExpressCapabilities.read(data), regs.DeviceCapabilities.read(data), regs.DeviceControl.read(data)
    link, status = regs.LinkCapabilities.read(data), regs.LinkStatus.read(data)
    slot = None
    if caps.SLOT and caps.TYPE in (0x4, 0x6):
        slot_caps = regs.SlotCapabilities.read(data)
        present = bool(regs.SlotStatus.read(data).PRESENT)
        slot = Slot(slot_caps.NUMBER, bool(slot_caps.HOTPLUG), bool(slot_caps.SURPRISE), present)
    # Version 1 of the capability ends before Device Capabilities 2, and other things may follow it.
    # ARI forwarding belongs to ports with a link below them only (7.5.3.15).
    forwards = caps.VERSION >= 2 and caps.TYPE in (0x4, 0x6)
    return Express(
        version=caps.VERSION,
        type=caps.TYPE,
        type_name=Kind(caps.TYPE, None).type_name,
        flr=bool(device.FLR) if flr_told else None,
        max_payload_supported=128 << device.MAX_PAYLOAD,
        max_payload=128 << control.MAX_PAYLOAD,
        max_read_request=128 << control.MAX_READ_REQUEST,
        transactions_pending=bool(regs.DeviceStatus.read(data).TRANSACTIONS_PENDING),
        port=link.PORT,
        link_capable=Link(_speed(link.SPEED), link.WIDTH),
        link=Link(_speed(status.SPEED), status.WIDTH),
        link_active=bool(status.ACTIVE),
        slot=slot,
        ari_forwarding_supported=forwards and bool(regs.DeviceCapabilities2.read(data).ARI_FORWARDING),
        ari_forwarding=forwards and bool(regs.DeviceControl2.read(data).ARI_FORWARDING),
    )


def advanced_features(space: ConfigSpace) -> AdvancedFeatures | None:
    """Conventional PCI Advanced Features (id 0x13)."""
    found = space.find(Cap.AF)
    return None if found is None else AdvancedFeatures(bool(regs.AfCapabilities.read(space.data, found.offset).FLR))


def subsystem(space: ConfigSpace) -> tuple[int, int] | None:
    """Subsystem vendor and device, from the header or from a bridge's capability (id 0x0d)."""
    if space.subsystem is not None:
        return space.subsystem
    found = space.find(Cap.SSVID)
    if found is None:
        return None
    ids = regs.SubsystemIds.read(space.data, found.offset)
    return ids.VENDOR, ids.DEVICE


def vendor_specific(space: ConfigSpace) -> tuple[tuple[int, int], ...]:
    """Offset and length (bytes) of every vendor-specific capability (id 0x09)."""
    return tuple((c.offset, regs.VendorSpecific.read(space.data, c.offset).LENGTH) for c in space.standard if c.id == Cap.VENDOR)


def flr(space: ConfigSpace) -> bool | None:
    """Function level reset, by PCI Express or by Advanced Features; None where neither could be read.

    The kernel's quirks may forbid it all the same: sysfs ``reset_method`` has the last word.
    """
    one, other = kind(space), advanced_features(space)
    if (one is not None and one.flr) or (other is not None and other.flr):
        return True
    if space.known and (other is None and space.presence(Cap.AF) is not Presence.ABSENT):
        return None
    if one is None and space.is_express:
        return None
    return False if space.is_express is not None and (one is None or one.flr is not None) else None


def _speed(code: int) -> str:
    return regs.LINK_SPEEDS.get(code) or ("unknown" if code == 0 else f"speed {code}")
