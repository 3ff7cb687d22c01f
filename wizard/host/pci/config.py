"""One function's PCI configuration space: its header and the two lists of capabilities.

Bytes come without trailing zeros and with the length that could be read. Everything is decoded when it is asked for,
since most questions about most functions touch a few words only. A damaged list never raises: what could be walked is
given, and ``notes`` says where it broke.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import msgspec

from wizard.arch import pci
from wizard.arch.pci import Cap, CapabilityHeader, ExtCap, ExtendedHeader
from wizard.base.alike import Alike
from wizard.base.once import once


class Presence(Enum):
    """Whether a capability is there. ABSENT is a statement; UNKNOWN is the lack of one."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"


class Note(msgspec.Struct, frozen=True):
    """A defect of configuration space: the byte offset it was seen at, and what it is."""

    offset: int
    what: str


class Capability(NamedTuple):
    """One entry of a list. ``version`` is that of the extended header, 0 for a standard capability."""

    id: int
    offset: int
    version: int
    extended: bool

    @property
    def name(self) -> str:
        """The specification's name, or the number where there is none."""
        names = pci.EXTENDED_NAMES if self.extended else pci.CAPABILITY_NAMES
        return names.get(self.id) or f"capability {self.id:#06x}"


# The registers that this program reads of a capability end here (bytes from its start). One whose structure does not fit
# into configuration space is listed but not decoded.
_SIZES: dict[int, int] = {Cap.PM: 8, Cap.MSI: 10, Cap.VENDOR: 3, Cap.SSVID: 8, Cap.EXPRESS: 0x14, Cap.MSIX: 12, Cap.AF: 6}
_EXTENDED_SIZES: dict[int, int] = {
    ExtCap.AER: 0x2C, ExtCap.DSN: 12, ExtCap.VSEC: 8, ExtCap.ACS: 8, ExtCap.ARI: 8, ExtCap.ATS: 8, ExtCap.SRIOV: 0x40, ExtCap.PRI: 16,
    ExtCap.REBAR: 12, ExtCap.TPH: 12, ExtCap.PASID: 8, ExtCap.DPC: 12, ExtCap.DVSEC: 10, ExtCap.VF_REBAR: 12,
}  # fmt: skip


class ConfigSpace(msgspec.Struct, frozen=True, dict=True):
    """Configuration space of one function.

    ``length`` bytes could be read, of which ``data`` holds those up to the last that is not zero. ``length`` is 64 for an
    ordinary user, then 256 or 4096; fewer mean that reading broke off. ``known`` are the ranges [first, end) that a source tells
    which names registers one by one (lspci's words); empty where every byte was read.
    """

    data: bytes
    length: int
    known: tuple[tuple[int, int], ...] = ()

    def tells(self, first: int, end: int) -> bool:
        """Whether the bytes from ``first`` up to ``end`` were read."""
        return end <= self.length and (not self.known or any(start <= first and end <= stop for start, stop in self.known))

    def word(self, offset: int, size: int = 4) -> int:
        """``size`` bytes at ``offset``, little-endian; bytes that are not stored are zero."""
        return int.from_bytes(self.data[offset : offset + size], "little")

    @once
    def vendor(self) -> int:
        """Vendor ID. In a VF it reads 0xffff, and the PF's counts (PCIe 9.3.4.1.1)."""
        return self.word(0, 2)

    @once
    def device(self) -> int:
        """Device ID. In a VF it reads 0xffff, and the PF's VF Device ID counts."""
        return self.word(2, 2)

    @once
    def revision(self) -> int:
        """Revision ID."""
        return pci.ClassRevision.read(self.data).REVISION

    @once
    def class_code(self) -> int:
        """24 bits: base class, sub-class, programming interface."""
        return pci.ClassRevision.read(self.data).CLASS

    @property
    def header_type(self) -> int:
        """0 for a normal function, 1 for a bridge, 2 for CardBus; other values stay numbers."""
        return pci.HeaderType.read(self.data).LAYOUT

    @once
    def multifunction(self) -> bool | None:
        """The header's multi-function bit, None where it was not told. Functions above 0 need not repeat it."""
        if self.known and not self.tells(pci.HeaderType.at, pci.HeaderType.at + 1):
            return None
        return bool(pci.HeaderType.read(self.data).MULTIFUNCTION)

    @once
    def is_bridge(self) -> bool:
        """A type 1 header."""
        return self.header_type == 1

    @property
    def dead(self) -> bool:
        """Every byte of the header reads ones: the function does not answer (removed, failed, or powered down)."""
        return self.length >= 16 and self.data[:16] == b"\xff" * 16

    @property
    def of_vf(self) -> bool:
        """Its own registers name neither vendor nor device, and something else: those of a VF (PCIe 6.0, 9.3.4.1.1)."""
        return self.length >= 16 and self.data[:4] == b"\xff" * 4 and not self.dead

    @once
    def subsystem(self) -> tuple[int, int] | None:
        """Subsystem vendor and device of a type 0 header; a bridge keeps them in a capability, see ``caps.subsystem``."""
        return (self.word(0x2C, 2), self.word(0x2E, 2)) if self.header_type == 0 else None

    @once
    def _lists(self) -> _Lists:
        # What a source tells register by register is told of each function in other parts.
        return _lists_of(self) if self.known else _LISTS.ask(self.data, self.length)

    @property
    def _walked(self) -> _Walk:
        return self._lists.walked

    @property
    def _walked_extended(self) -> _Walk:
        return self._lists.walked_extended

    @property
    def standard(self) -> tuple[Capability, ...]:
        """Standard capabilities in list order."""
        return self._walked.found

    @property
    def extended(self) -> tuple[Capability, ...]:
        """Extended capabilities in list order."""
        return self._walked_extended.found

    @property
    def notes(self) -> tuple[Note, ...]:
        """Defects of the header and of both lists; empty for a sound configuration space."""
        return self._walked.notes + self._walked_extended.notes

    @once
    def is_express(self) -> bool | None:
        """There is a PCI Express capability; None where that part of configuration space could not be read."""
        found = self.presence(Cap.EXPRESS)
        return None if found is Presence.UNKNOWN else found is Presence.PRESENT

    def find(self, wanted: Cap | ExtCap) -> Capability | None:
        """The first capability of this kind that fits into configuration space; None when absent *or* unreadable."""
        return (self._lists.places_extended if isinstance(wanted, ExtCap) else self._lists.places).get(wanted)

    def _first_that_fit(self, listed: tuple[Capability, ...], sizes: dict[int, int], limit: int) -> dict[int, Capability]:
        found: dict[int, Capability] = {}
        for one in listed:
            if one.id in sizes and one.id not in found and self._fits(one, sizes[one.id], limit):
                found[one.id] = one
        return found

    def _fits(self, capability: Capability, size: int, limit: int) -> bool:
        end = capability.offset + size
        return end <= limit and (not self.known or self.tells(capability.offset, end))

    def presence(self, wanted: Cap | ExtCap) -> Presence:
        """PRESENT, ABSENT, or UNKNOWN when its place could not be read, it is cut off, or its list breaks off before it."""
        if self.find(wanted) is not None:
            return Presence.PRESENT
        extended = isinstance(wanted, ExtCap)
        if extended and not self.dead and self.is_express is False:
            return Presence.ABSENT  # a conventional function has 256 bytes and no extended capabilities
        walk = self._walked_extended if extended else self._walked
        if self.known and any(c.id == wanted for c in walk.found):
            return Presence.PRESENT  # it was named, be its registers told or not
        return Presence.ABSENT if walk.complete and all(c.id != wanted for c in walk.found) else Presence.UNKNOWN


def decode_config(data: bytes, length: int, known: tuple[tuple[int, int], ...] = ()) -> ConfigSpace:
    """The configuration space of one function.

    ``data`` may lack its trailing zeros; ``length`` is the number of bytes that was read, ``known`` as in ``ConfigSpace``. Never raises:
    ``data`` beyond ``length`` or beyond 4 KiB is cut off.
    """
    length = min(max(length, 0), pci.EXTENDED_SPACE)
    return ConfigSpace(data[:length] if len(data) > length else data, length, known)


class _Walk(NamedTuple):
    found: tuple[Capability, ...]
    notes: tuple[Note, ...]
    complete: bool  # the end of the list was reached


class _Lists(NamedTuple):
    """Both lists of capabilities, and of each kind the first that fits: a standard and an extended one of one number are equal as keys."""

    walked: _Walk
    walked_extended: _Walk
    places: dict[int, Capability]
    places_extended: dict[int, Capability]


def _lists_of(space: ConfigSpace) -> _Lists:
    standard, extended = _walk_standard(space), _walk_extended(space)
    places = space._first_that_fit(standard.found, _SIZES, min(space.length, pci.STANDARD_SPACE))
    return _Lists(standard, extended, places, space._first_that_fit(extended.found, _EXTENDED_SIZES, space.length))


# Functions of one kind have their lists in the same places.
_LISTS: Alike[_Lists] = Alike(lambda data, length: _lists_of(ConfigSpace(data, length)))


def _walk_standard(space: ConfigSpace) -> _Walk:
    """The kernel's __pci_find_next_cap_ttl(): low two bits of a pointer are ignored, nothing lies below 0x40."""
    if space.dead:
        return _Walk((), (Note(0, "configuration space reads all ones: the function does not answer"),), False)
    if space.length < pci.USER_READABLE:
        return _Walk((), (Note(space.length, f"only {space.length} bytes could be read"),), False)
    notes: list[Note] = []
    found: list[Capability] = []
    if space.header_type > 2:
        notes.append(Note(pci.HeaderType.at, f"unknown header type {space.header_type:#x}"))
    if not pci.Status.read(space.data).CAP_LIST:
        return _Walk((), tuple(notes), True)
    at = 0x14 if space.header_type == 2 else 0x34
    offset = space.word(at, 1)
    limit = min(space.length, pci.STANDARD_SPACE)
    seen: set[int] = set()
    while offset:
        if offset & 3:
            notes.append(Note(at, f"misaligned capability pointer {offset:#x}"))
            offset &= 0xFC
        if offset < 0x40:
            notes.append(Note(at, f"capability pointer {offset:#x} points into the header"))
            break
        if offset in seen:
            notes.append(Note(at, f"capability pointer {offset:#x} makes a loop"))
            break
        if offset + 2 > limit:
            # An ordinary user reads 64 bytes: a list that begins beyond them is not a defect.
            if space.length > pci.USER_READABLE:
                notes.append(Note(at, f"capability at {offset:#x} lies beyond the {limit} bytes that were read"))
            break
        if space.known and not space.tells(offset, offset + 2):
            break  # the source does not say how the list goes on
        seen.add(offset)
        header = space.word(offset, 2)
        number = CapabilityHeader.ID.get(header)
        if number == 0xFF:
            notes.append(Note(offset, "capability list runs into bytes that read all ones"))
            break
        if offset + _SIZES.get(number, 2) > limit:
            notes.append(Note(offset, f"capability {number:#04x} at {offset:#x} is cut off"))
        found.append(Capability(number, offset, 0, False))
        at, offset = offset + 1, CapabilityHeader.NEXT.get(header)
    return _Walk(tuple(found), tuple(notes), offset == 0)


def _walk_extended(space: ConfigSpace) -> _Walk:
    """The kernel's pci_find_next_ext_capability(): the list begins at 0x100; zero or all ones there mean none."""
    if space.length <= pci.STANDARD_SPACE or space.dead:
        return _Walk((), (), False)
    data = space.data
    if space.known and not space.tells(0x100, 0x104):
        return _Walk((), (), False)
    header = int.from_bytes(data[0x100:0x104], "little")
    if header == 0:
        return _Walk((), (), True)
    if header == 0xFFFF_FFFF:
        return _Walk((), (Note(0x100, "extended configuration space reads all ones"),), False)
    notes: list[Note] = []
    found: list[Capability] = []
    seen: set[int] = set()
    identity, version, following = ExtendedHeader.ID, ExtendedHeader.VERSION, ExtendedHeader.NEXT
    offset = at = 0x100
    while True:
        seen.add(offset)
        number = identity.get(header)
        if offset + _EXTENDED_SIZES.get(number, 4) > space.length:
            notes.append(Note(offset, f"extended capability {number:#06x} at {offset:#x} is cut off"))
        found.append(Capability(number, offset, version.get(header), True))
        at, offset = offset, following.get(header)
        if not offset:
            break
        if offset & 3:
            notes.append(Note(at, f"misaligned extended capability pointer {offset:#x}"))
            offset &= 0xFFC
        if offset < 0x100:
            notes.append(Note(at, f"extended capability pointer {offset:#x} points below 0x100"))
            break
        if offset in seen:
            notes.append(Note(at, f"extended capability pointer {offset:#x} makes a loop"))
            break
        if offset + 4 > space.length:
            notes.append(Note(at, f"extended capability at {offset:#x} lies beyond the {space.length} bytes that were read"))
            break
        if space.known and not space.tells(offset, offset + 4):
            break
        header = int.from_bytes(data[offset : offset + 4], "little")
        if header == 0xFFFF_FFFF:
            notes.append(Note(offset, "extended capability list runs into bytes that read all ones"))
            break
    return _Walk(tuple(found), tuple(notes), offset == 0)
