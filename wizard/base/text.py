"""Text that came from outside, made safe to show.

A snapshot or a profile may come from a stranger: control characters, escape sequences and bidirectional overrides in
its names are shown as text (``\\x1b``), never sent to the terminal.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import islice

# Everything printable in ASCII passes at once; only what is left is looked at character by character.
_PLAIN = re.compile(r"[ -~]*")


def visible(text: str) -> str:
    """``text`` with control, format, surrogate and private-use characters written as escapes."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join(c if unicodedata.category(c) not in _ESCAPED else _escape(c) for c in text)


_ESCAPED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def visible_lines(text: str) -> str:
    """``visible`` line by line."""
    return "\n".join(map(visible, text.split("\n")))


COLOUR = r"(?:\x1b|#033|\\x1b|\\u001b|\^\[|\bESC)\[[\d;?]{0,20}[A-Za-z]"
"""Colour and the like in a log: as the terminal got it, as syslog and JSON escape it, as ``cat -v`` and less show it."""

_UNSHOWN = re.compile(r"[^ -~\n]")
_SHOWN = bytes((*range(0x20, 0x7F), 0x0A))


def visible_json(text: str) -> str:
    """The same JSON with escapes for what a terminal would act on: JSON allows all but the first 32 characters as they are."""
    if not text.encode("utf-8", "surrogatepass").translate(None, _SHOWN):
        return text  # of most: a pattern takes three times as long to find that out
    return _UNSHOWN.sub(lambda found: found[0] if visible(found[0]) == found[0] else _utf16(found[0]), text)


def _utf16(character: str) -> str:
    return "".join(f"\\u{unit:04x}" for unit in memoryview(character.encode("utf-16-le")).cast("H"))


def visible_xml(text: str) -> str:
    """The same XML with character references for what a terminal would act on; for attributes and text, comments have none."""
    return _UNSHOWN.sub(lambda found: found[0] if visible(found[0]) == found[0] or found[0] == "\t" else f"&#x{ord(found[0]):x};", text)


def shell_word(text: str) -> str:
    """One word of a bash script. What a terminal would act on, when somebody looks at the script, is written as bytes (``$'\\x9b'``)."""
    import shlex  # for those who write a script alone

    if visible(text) == text:
        return shlex.quote(text)
    return "$'" + "".join(_SHELL.get(c) or (c if visible(c) == c else _bytes(c)) for c in text) + "'"


_SHELL = {"'": "\\'", "\\": "\\\\", "\n": "\\n", "\t": "\\t"}


def _bytes(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def disk_name(count: int) -> str:
    """The virtio disk of a number from 0 as the kernel and libvirt name it: ``vda`` to ``vdz``, then ``vdaa``."""
    letters = ""
    count += 1
    while count:
        count, rest = divmod(count - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return f"vd{letters}"


def size(count: int) -> str:
    """A number of bytes as QEMU and people write it: the largest binary unit that divides it (``1536M``, ``4G``)."""
    for shift, unit in ((40, "T"), (30, "G"), (20, "M"), (10, "K")):
        if count and count % (1 << shift) == 0:
            return f"{count >> shift}{unit}"
    return str(count)


_NUMBER = re.compile(r"[0-9]{1,18}")


def is_number(text: str) -> bool:
    """Whether ``int()`` takes it as a plain number: str.isdigit() is true of ``²``, which int() refuses, as it does 5,000 digits."""
    return _NUMBER.fullmatch(text) is not None


_SIZE = re.compile(r"([0-9]{1,18})\s*([KMGTP]?)(?:i?B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes from ``4G``, ``512M``, ``2048`` (binary units); ``ValueError`` for anything else."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a size: {text!r} (write for example 4G or 512M)")
    shift = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50}[match[2].upper()]
    return int(match[1]) << shift


FEW = 16
"""Names that are written out in one sentence."""


def few(names: Iterable[str], count: int) -> str:
    """``a, b, c``; of more than ``FEW`` the first, and how many of the ``count`` are left: ``a, b, … and 7,983 more``."""
    told = ", ".join(islice(names, FEW))
    return f"{told} and {count - FEW} more" if count > FEW else told


def plural(count: int, one: str, many: str | None = None) -> str:
    """``1 function``, ``3 functions``."""
    return f"{count} {one if count == 1 else many or one + 's'}"
