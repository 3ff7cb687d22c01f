"""Values as QEMU reads them: sizes, switches, addresses of functions and of slots, lists of numbers. None for what it would refuse."""

from __future__ import annotations

import re

from wizard.base.address import Address

_SIZE = re.compile(r"(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20}(?:\.[0-9]{1,9})?)([BKMGTPEbkmgtpe]?)")
_ON = frozenset({"on", "yes", "true", "y"})
_OFF = frozenset({"off", "no", "false", "n"})
_DEVFN = re.compile(r"(?:0[xX])?([0-9a-fA-F]{1,2})(?:\.(?:0[xX])?([0-7]))?")
_HOST = re.compile(r"(?:([0-9a-fA-F]{1,4}):)?([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2})\.([0-7])")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,15}|[0-9]{1,18}")


def size(text: str, unit: str = "B") -> int | None:
    """Bytes (qemu_strtosz() of util/cutils.c: fractions and hex too); ``unit`` is that of a number without a suffix."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        return None
    shift = 10 * "BKMGTPE".index((match[2] or unit).upper())
    if "." in match[1]:
        whole, _, fraction = match[1].partition(".")
        return (int(whole) << shift) + int(int(fraction) * (1 << shift) / 10 ** len(fraction))
    return int(match[1], 0 if match[1][:2] in ("0x", "0X") else 10) << shift


def switch(text: str) -> bool | None:
    """on, yes, true, y, off, no, false, n (qapi_bool_parse())."""
    return True if text in _ON else False if text in _OFF else None


def number(text: str) -> int | None:
    """A whole number, decimal or 0x."""
    return int(text, 16 if text[:2] in ("0x", "0X") else 10) if _NUMBER.fullmatch(text) else None


def devfn(text: str) -> tuple[int, int] | None:
    """(slot, function) of ``addr=``: both are hexadecimal (set_pci_devfn() of hw/core/qdev-properties-system.c)."""
    match = _DEVFN.fullmatch(text)
    if match is None or int(match[1], 16) > 31:
        return None
    return int(match[1], 16), int(match[2] or "0", 16)


def devfn_of_number(value: int) -> tuple[int, int] | None:
    """(slot, function) of an ``addr`` that is a number in JSON: that is a devfn, not a slot."""
    return (value >> 3, value & 7) if 0 <= value < 256 else None


def host(text: str) -> str | None:
    """``DDDD:BB:DD.F`` of ``host=`` (set_pci_host_devaddr(): the segment may be left out, and has four digits at most)."""
    match = _HOST.fullmatch(text)
    if match is None or int(match[3], 16) > 31:
        return None
    return str(Address(int(match[1] or "0", 16), int(match[2], 16), int(match[3], 16), int(match[4])))


def sysfs(path: str) -> str | None:
    """The function that ``sysfsdev=`` names by the last part of its path."""
    try:
        return str(Address.parse(path.rstrip("/").rpartition("/")[2]))
    except ValueError:
        return None


def numbers(parts: list[str]) -> tuple[int, ...] | None:
    """The numbers of ``0-3``, ``8``."""
    found: list[int] = []
    for part in parts:
        for piece in part.split(","):
            first, dash, last = piece.partition("-")
            low, high = number(first), number(last) if dash else number(first)
            if low is None or high is None or high < low or high - low > 4096:
                return None
            found += range(low, high + 1)
    return tuple(sorted(set(found)))
