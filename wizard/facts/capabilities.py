"""Where the capabilities lie in a function's configuration space bytes, for what has to be set apart or redacted.

Nothing is decoded here; ``wizard.host.pci`` does that.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple

from wizard.arch.pci import EXTENDED_SPACE, STANDARD_SPACE, CapabilityHeader, ExtendedHeader, HeaderType, Status

EXTENDED = 0x10000  # added to the number of an extended capability
_POINTER = 0x34
_CARDBUS_POINTER = 0x14


class _Walk(NamedTuple):
    """One walk along both lists. Whatever has the same bytes in the places that were looked at, and ends in the same bounds, has the same lists."""

    pick: Callable[[bytes], tuple[Any, ...]]  # the bytes that were looked at
    seen: tuple[Any, ...]
    least: int  # bytes that have to be there
    most: int
    found: tuple[tuple[int, int], ...]


_KINDS, _EACH = 512, 8
_walks: dict[tuple[int, bytes], list[_Walk]] = {}  # by where the lists begin: functions of one kind have theirs in the same places


def capabilities(data: bytes) -> tuple[tuple[int, int], ...]:
    """(number, offset) of every capability, extended ones with EXTENDED added; loops and stray pointers end a list."""
    if len(data) <= _POINTER or data[:16] == b"\xff" * 16:
        return ()
    kind = data[_POINTER], data[STANDARD_SPACE : STANDARD_SPACE + 4]
    known = _walks.get(kind, ())
    for walk in known:
        if walk.least <= len(data) <= walk.most and walk.pick(data) == walk.seen:
            return walk.found
    walk = _walk(data)
    if len(_walks) >= _KINDS:
        _walks.clear()
    _walks[kind] = [walk, *known][:_EACH]
    return walk.found


def _walk(data: bytes) -> _Walk:
    found: list[tuple[int, int]] = []
    places = [Status.at, HeaderType.at]
    most = EXTENDED_SPACE
    if Status.read(data).CAP_LIST:
        places.append(_CARDBUS_POINTER if HeaderType.read(data).LAYOUT == 2 else _POINTER)
        pointer = data[places[-1]]
        while (offset := pointer // 4 * 4) >= 0x40 and len(found) < 48:  # 48 fill the space
            if offset + 2 > len(data):
                most = min(most, offset + 1)
                break
            places += (offset, offset + 1)
            header = int.from_bytes(data[offset : offset + 2], "little")
            found.append((CapabilityHeader.ID.get(header), offset))
            pointer = CapabilityHeader.NEXT.get(header)
    pointer, count = STANDARD_SPACE, 0
    while (offset := pointer // 4 * 4) >= STANDARD_SPACE and count < 480:
        if offset + 4 > len(data):
            most = min(most, offset + 3)
            break
        places += range(offset, offset + 4)
        extended = int.from_bytes(data[offset : offset + 4], "little")
        if extended in (0, 0xFFFF_FFFF):
            break
        found.append((EXTENDED + ExtendedHeader.ID.get(extended), offset))
        pointer, count = ExtendedHeader.NEXT.get(extended), count + 1
    pick = itemgetter(*dict.fromkeys(places))
    return _Walk(pick, pick(data), max(_POINTER, *places) + 1, most, tuple(dict.fromkeys(found)))
