"""The words of a command line of the protocol; ``Refused`` says in one sentence what is wrong with one."""

from __future__ import annotations

import re
from collections.abc import Iterable

LARGEST_BYTES = 1 << 16
"""Bytes that one command moves."""

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,16}|0|[1-9][0-9]{0,19}")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,32}")


class Refused(Exception):
    """A command that is not carried out, and why: one sentence without its full stop."""


def number(word: str, what: str, bits: int = 64) -> int:
    """A number as C writes it, decimal or hexadecimal, of at most ``bits`` bits."""
    if not _NUMBER.fullmatch(word):
        raise Refused(f"{what} {shown(word)} is no number")
    value = int(word, 0)
    if value >> bits:
        raise Refused(f"{what} {value:#x} does not fit {bits} bits")
    return value


def size(word: str, smallest: int = 1) -> int:
    """How many bytes a command moves."""
    value = number(word, "size")
    if not smallest <= value <= LARGEST_BYTES:
        raise Refused(f"size {value} is not {smallest} to {LARGEST_BYTES}")
    return value


def data(word: str, length: int) -> bytes:
    """Bytes as hexadecimal digits after 0x, the first byte first, as qtest writes them."""
    try:
        content = bytes.fromhex(word[2:]) if word[:2] in ("0x", "0X") else None
    except ValueError:
        content = None
    if content is None or len(content) * 2 != len(word) - 2:
        raise Refused("data is not 0x and two hexadecimal digits a byte")
    if len(content) != length:
        raise Refused(f"data has {len(content)} bytes, not {length}")
    return content


def name(word: str) -> str:
    """A name that somebody chose."""
    if not _NAME.fullmatch(word):
        raise Refused(f"{shown(word)} is no name: 1 to 32 letters, digits, _, . or -")
    return word


def options(words: Iterable[str], flags: Iterable[str], valued: Iterable[str]) -> dict[str, str]:
    """The options behind the places of a command: flags (value "") and NAME=VALUE, each at most once."""
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in (valued if equals else flags):
            known = ", ".join([*flags, *(f"{one}=" for one in valued)])
            raise Refused(f"option {shown(word)} is not known here; there is {known}")
        if key in found:
            raise Refused(f"option {key} is given twice")
        found[key] = value
    return found


def shown(word: str) -> str:
    """A word of somebody's as an error repeats it."""
    cut = word if len(word) <= 40 else word[:37] + "..."
    return ascii(cut)
