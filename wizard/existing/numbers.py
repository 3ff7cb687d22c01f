"""Numbers as libvirt and QEMU write them; None for what is none."""

from __future__ import annotations

import re

_INTEGER = re.compile(r"[+-]?(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,19})")
_UNITS = {
    "": 1 << 10, "b": 1, "bytes": 1, "kb": 1000, "k": 1 << 10, "kib": 1 << 10, "mb": 1000**2, "m": 1 << 20, "mib": 1 << 20, "gb": 1000**3,
    "g": 1 << 30, "gib": 1 << 30, "tb": 1000**4, "t": 1 << 40, "tib": 1 << 40, "pb": 1000**5, "p": 1 << 50, "pib": 1 << 50, "eb": 1000**6,
    "e": 1 << 60, "eib": 1 << 60,
}  # fmt: skip
"""libvirt's units of memory (virScaleInteger() of src/util/virutil.c); KiB where none is written."""
_LIST = 4096  # numbers in a list


def integer(text: str | None) -> int | None:
    """A number, decimal or with 0x."""
    if text is None or not _INTEGER.fullmatch(text.strip()):
        return None
    return int(text.strip(), 16 if "x" in text.lower() else 10)


def scaled(text: str | None, unit: str | None) -> int | None:
    """Bytes from a number and libvirt's unit."""
    number, scale = integer(text), _UNITS.get((unit or "").strip().lower())
    return None if number is None or scale is None or number < 0 else number * scale


def numbers(text: str | None) -> tuple[int, ...] | None:
    """A list such as ``0-3,8`` or ``1-8,^3``; None where it is none."""
    if text is None:
        return None
    found: dict[int, None] = {}
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"(\^?)([0-9]{1,6})(?:-([0-9]{1,6}))?", part)
        if match is None:
            return None
        first, last = int(match[2]), int(match[3] or match[2])
        if last < first or last - first > _LIST:
            return None
        for number in range(first, last + 1):
            if match[1]:
                found.pop(number, None)
            else:
                found[number] = None
    return tuple(found)
