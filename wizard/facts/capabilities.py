"""Where the capabilities lie in a function's configuration space bytes, for what has to be set apart or redacted.

Nothing is decoded here; ``wizard.host.pci`` does that.
"""

from __future__ import annotations

from wizard.arch.pci import STANDARD_SPACE, CapabilityHeader, ExtendedHeader, HeaderType, Status

EXTENDED = 0x10000  # added to the number of an extended capability
_POINTER = 0x34
_CARDBUS_POINTER = 0x14


def capabilities(data: bytes) -> list[tuple[int, int]]:
    """(number, offset) of every capability, extended ones with EXTENDED added; loops and stray pointers end a list."""
    found: list[tuple[int, int]] = []
    if len(data) <= _POINTER or data[:16] == b"\xff" * 16:
        return found
    if Status.read(data).CAP_LIST:
        pointer = data[_CARDBUS_POINTER if HeaderType.read(data).LAYOUT == 2 else _POINTER]
        while (offset := pointer // 4 * 4) >= 0x40 and offset + 2 <= len(data) and len(found) < 48:  # 48 fill the space
            header = int.from_bytes(data[offset : offset + 2], "little")
            found.append((CapabilityHeader.ID.get(header), offset))
            pointer = CapabilityHeader.NEXT.get(header)
    pointer, count = STANDARD_SPACE, 0
    while (offset := pointer // 4 * 4) >= STANDARD_SPACE and offset + 4 <= len(data) and count < 480:
        extended = int.from_bytes(data[offset : offset + 4], "little")
        if extended in (0, 0xFFFF_FFFF):
            break
        found.append((EXTENDED + ExtendedHeader.ID.get(extended), offset))
        pointer, count = ExtendedHeader.NEXT.get(extended), count + 1
    return list(dict.fromkeys(found))
