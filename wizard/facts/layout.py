"""Where the bits of a function's configuration space lie that say nothing of what the function is: those that move, and those of one card alone.

Functions of one kind have their capabilities in the same places, and there are very many of a kind. Where they are is found once, and known
again by the very bytes that were read to find it: two functions with equal headers and pointers, byte for byte, have one layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from wizard.arch.pci import STANDARD_SPACE, Cap, ExtCap, ExtendedHeader, HeaderType, Status
from wizard.arch.pci_caps import ExpressCapabilities, MsiControl
from wizard.facts.capabilities import EXTENDED, capabilities

_STATUS_ERRORS = 0xF908  # errors seen and INTx asserted, of the Status register (PCIe 6.0, 7.5.1.1.4)
_SECONDARY_ERRORS = 0xF900
_POWER_STATE = 0x8003  # PowerState and PME_Status (7.5.2.2)
_ROOT_PORT, _DOWNSTREAM_PORT, _EVENT_COLLECTOR, _INTEGRATED = 4, 6, 10, 9
_SECONDARY, _PHYSICAL_16, _DOE = 0x19, 0x26, 0x2E  # extended capabilities

Span = tuple[int, int, int]  # offset, size in bytes, mask of the bits that move


def spans(data: bytes) -> tuple[Span, ...]:
    """The registers that move, of every capability."""
    return _spans(data, capabilities(data))


def _spans(data: bytes, found: Sequence[tuple[int, int]]) -> tuple[Span, ...]:
    words = tuple(data[offset + 2 : offset + 4] for number, offset in found if number in (Cap.EXPRESS, Cap.MSI))
    return _spans_of(HeaderType.read(data).LAYOUT, tuple(found), words)


@lru_cache(maxsize=1024)  # functions of one kind have their capabilities in the same places
def _spans_of(layout: int, found: tuple[tuple[int, int], ...], words: tuple[bytes, ...]) -> tuple[Span, ...]:
    """``words``: the registers that say which others there are, of each PCI Express and MSI capability in ``found``."""
    return tuple(_each_span(layout, found, iter(words)))


def _each_span(layout: int, found: tuple[tuple[int, int], ...], words: Iterator[bytes]) -> Iterator[Span]:
    yield 0x06, 2, _STATUS_ERRORS
    if layout == 1:
        yield 0x1E, 2, _SECONDARY_ERRORS
    port = None
    for number, offset in found:
        if number == Cap.EXPRESS:
            express = ExpressCapabilities.of_bytes(next(words))
            port = express.TYPE
            yield from _express_spans(express, offset)
        elif number == Cap.PM:
            yield offset + 4, 2, _POWER_STATE
        elif number == Cap.VPD:  # address and data registers, as whoever read last left them (7.9.18)
            yield offset + 2, 6, _all(6)
        elif number == Cap.MSI:  # address and data follow interrupt affinity on some machines, pending bits every interrupt
            control = MsiControl.of_bytes(next(words))
            size = 6 + 4 * bool(control.ADDRESS_64) + 10 * bool(control.MASKING)
            yield offset + 4, size, _all(size)
        elif number > EXTENDED:
            yield from _extended_spans(number - EXTENDED, offset, port)


def _express_spans(express: ExpressCapabilities, offset: int) -> Iterator[Span]:
    # A version 1 structure ends where its port type needs no more (7.5.3): what lies behind is not its own.
    whole, port = express.VERSION >= 2, express.TYPE
    yield offset + 0x0A, 2, 0x7F  # Device Status
    if whole or port not in (_INTEGRATED, _EVENT_COLLECTOR):
        yield offset + 0x12, 2, _all(2)  # Link Status
    if whole or port in (_ROOT_PORT, _DOWNSTREAM_PORT):
        yield offset + 0x1A, 2, _all(2)  # Slot Status
    if whole or port in (_ROOT_PORT, _EVENT_COLLECTOR):
        yield offset + 0x20, 4, _all(4)  # Root Status
    if whole:
        yield offset + 0x32, 2, _all(2)  # Link Status 2


def _extended_spans(number: int, offset: int, port: int | None) -> Iterator[Span]:
    if number == ExtCap.AER:
        yield offset + 0x04, 4, _all(4)  # Uncorrectable Error Status
        yield offset + 0x10, 4, _all(4)  # Correctable Error Status
        yield offset + 0x18, 1, 0x1F  # First Error Pointer
        yield offset + 0x1C, 16, _all(16)  # Header Log
        if port in (_ROOT_PORT, _EVENT_COLLECTOR):
            yield offset + 0x30, 8, _all(8)  # Root Error Status, Error Source
    elif number == ExtCap.PRI:
        yield offset + 0x06, 2, 0x0103  # Response Failure, Unexpected Index, Stopped
    elif number == ExtCap.DPC:
        yield offset + 0x08, 4, _all(4)  # status and source
    elif number == _SECONDARY:
        yield offset + 0x08, 4, _all(4)  # Lane Error Status (7.7.3.3)
    elif number == _PHYSICAL_16:
        yield offset + 0x0C, 4, _all(4)  # equalization status (7.7.5.4)
    elif number == _DOE:
        yield offset + 0x0C, 12, _all(12)  # status and mailboxes (7.9.24)


def _all(size: int) -> int:
    return int.from_bytes(b"\xff" * size, "little")


class Layout(NamedTuple):
    """Masks over the bytes as one little-endian number. Where ``number & read == value``, this is the layout."""

    length: int  # bytes
    read: int
    value: int
    spans: tuple[Span, ...]
    moving: int  # what moves from minute to minute
    own: int  # serial number and addresses, what two cards of one kind differ in; 0 where the list is damaged, and nothing may be left out


_KINDS = 4096  # layouts that are kept: a fleet has some hundred
_POINTER, _CARDBUS_POINTER, _FIRST = 0x34, 0x14, 0x40  # where the lists begin, and the first byte that is no header's
# Registers that firmware fills with addresses: of a function, of a bridge and its windows (PCIe 6.0, 7.5.1.2.1, 7.5.1.3), of VFs (9.3.3.14).
_ADDRESSES = {0: ((0x10, 0x18),), 1: ((0x10, 0x08), (0x1C, 0x02), (0x20, 0x14))}
_OF_VFS = (0x24, 0x18)
_NUMBER = (4, 8)  # of the Device Serial Number capability (7.9.3)
_known: dict[tuple[int, bytes], list[Layout]] = {}


def layout_of(data: bytes) -> tuple[Layout, int]:
    """The layout of a configuration space, and its bytes as a number."""
    number = int.from_bytes(data, "little")
    near = _known.setdefault((len(data), data[:4]), [])
    for layout in near:
        if number & layout.read == layout.value:
            return layout, number
    if len(_known) > _KINDS or len(near) > 64:  # of a stranger who has as many kinds as functions, none is known again
        _known.clear()
    found = _found(data, number)
    near.append(found)
    return found, number


def _found(data: bytes, number: int) -> Layout:
    places, within = capabilities(data), (1 << 8 * len(data)) - 1
    moves = _spans(data, places)
    moving = _moving(moves) & within
    if len(data) <= _POINTER or data[HeaderType.at] == 0xFF:  # cut short, or perhaps not answering: these very bytes alone have this layout
        return Layout(len(data), within, number, moves, moving, 0)
    read = _mask(_looked_at(data, places)) & within
    own = _mask(_one_card(data, places)) & within if _apart(data, places) else 0
    return Layout(len(data), read, number & read, moves, moving, own)


def _looked_at(data: bytes, places: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What ``capabilities`` and ``_spans`` look at: flag and kind of header, the first pointers, each header, and what ends a list."""
    yield Status.at, 1
    yield HeaderType.at, 1
    yield (_CARDBUS_POINTER if HeaderType.read(data).LAYOUT == 2 else _POINTER), 1
    yield STANDARD_SPACE, 4
    for number, offset in places:
        yield offset, 4
        if number >= EXTENDED:
            header = int.from_bytes(data[offset : offset + 4], "little")
            yield ExtendedHeader.NEXT.get(header) // 4 * 4, 4


# Bytes of a capability that this program reads, where they are more than its header.
_READ = {
    Cap.PM: 8, Cap.MSI: 10, Cap.SSVID: 8, Cap.EXPRESS: 0x14, Cap.MSIX: 12, Cap.AF: 6,
    **{EXTENDED + one: size for one, size in {
        ExtCap.AER: 0x2C, ExtCap.DSN: 12, ExtCap.VSEC: 8, ExtCap.ACS: 8, ExtCap.ARI: 8, ExtCap.ATS: 8, ExtCap.SRIOV: 0x40, ExtCap.PRI: 16,
        ExtCap.REBAR: 12, ExtCap.TPH: 12, ExtCap.PASID: 8, ExtCap.DPC: 12, ExtCap.DVSEC: 12, ExtCap.VF_REBAR: 12,
    }.items()},
}  # fmt: skip


def _apart(data: bytes, places: Sequence[tuple[int, int]]) -> bool:
    """Whether no capability reaches into the next. In a damaged list one may lie within another: what moves of the one is a register of the other."""
    express = [place for place in places if place[0] == Cap.EXPRESS][:1]  # which says the registers of ports, in other capabilities too
    shared = set(_spans(data, express))
    for place, (_, following) in pairwise(sorted(places, key=lambda place: place[1])):
        number, offset = place
        spans_of_it = _spans(data, express) if place in express else set(_spans(data, [*express, place])) - shared
        ends = [at + size for at, size, _ in spans_of_it if at >= _FIRST]
        if max(offset + _READ.get(number, 4), *ends, 0) > following:
            return False
    return True


def _one_card(data: bytes, places: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    yield from _ADDRESSES.get(HeaderType.read(data).LAYOUT, ())
    for number, offset in places:
        if number == EXTENDED + ExtCap.DSN:
            yield offset + _NUMBER[0], _NUMBER[1]
        elif number == EXTENDED + ExtCap.SRIOV:
            yield offset + _OF_VFS[0], _OF_VFS[1]


def _mask(places: Iterable[tuple[int, int]]) -> int:
    mask = 0
    for offset, size in places:
        mask |= _all(size) << 8 * offset
    return mask


def _moving(found: Iterable[Span]) -> int:
    mask = 0
    for offset, _, bits in found:
        mask |= bits << 8 * offset
    return mask
