"""Error numbers by the words that a message has for them: strerror(3) of glibc 2.36, in English and in the languages of its locales.

QEMU and libvirt print the words of the locale they run in; the number behind them is the same, and decides between the causes of one message.
"""

from __future__ import annotations

import errno
import os
from functools import cache

_LONGEST = 120  # characters of a message that are looked at for the words of an error


@cache
def _words() -> dict[str, list[tuple[str, str]]]:
    """First letter -> words and name, the longest first, all lower case: some programs begin them small."""
    with open(os.path.join(os.path.dirname(__file__), "strerror.txt"), encoding="utf-8") as file:  # pathlib takes longer to load than this to read
        lines = file.read().splitlines()
    rows = [line.split("|") for line in lines if not line.startswith("#")]
    found = {words.lower(): name for name, *translated in rows for words in translated}
    # Several names may have one number (EOPNOTSUPP, ENOTSUP): the last one in alphabetical order is what errorcode keeps.
    found |= {os.strerror(number).lower(): _name(number) for number in errno.errorcode}
    by_letter: dict[str, list[tuple[str, str]]] = {}
    for words, name in sorted(found.items(), key=lambda item: -len(item[0])):
        by_letter.setdefault(words[0], []).append((words, name))
    return by_letter


def _name(number: int) -> str:
    return "EOPNOTSUPP" if number == errno.EOPNOTSUPP else "EAGAIN" if number == errno.EAGAIN else errno.errorcode[number]


def name_of(number: int) -> str | None:
    """``EINVAL`` of 22 or -22; None for a number that is no error of Linux."""
    return _name(abs(number)) if abs(number) in errno.errorcode else None


def read_error(text: str) -> tuple[str, int] | None:
    """The error that a text begins with: its name, and how many characters its words take. None where it begins with none."""
    start = text[:_LONGEST].lower()
    for words, name in _words().get(start[:1], ()):
        if start.startswith(words):
            return name, len(words)
    return None


def meaning(name: str) -> str:
    """The English words of a name."""
    return os.strerror(getattr(errno, name))
