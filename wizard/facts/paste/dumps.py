"""The dumps of ``lspci -xxxx`` in a paste, packed before anything else reads it.

A function's 4 KiB are 256 lines, nearly all of them zeros: of a host with thousands of functions they are 98 of 100 bytes, and no reader
but that of lspci has a use for them. Of a dump that stands as lspci prints it (pciutils 3.14, show_hex_dump()), at the end of its paragraph,
the first rows stay, and one line takes the place of the others:

    30: 00 00 00 00 50 00 00 00 00 00 00 00 00 00 00 00
    NUL 17                          which of the dumps that the text carries along

The text has no NUL, so that nobody else can write such a line. What is not exactly so stays as it is, and is read row by row.
"""

from __future__ import annotations

from wizard.facts.paste.text import plain

_BYTES = 4096
_KEPT = 4  # rows: as many as may be taken for the rest of a line of the kernel's log before them, and one
_FIRST = b"\n00: "
_LABELS = [f"{at:02x}: " for at in range(0, _BYTES, 16)]
_ZEROS = " ".join(["00"] * 16)
_EMPTY = "\n".join(label + _ZEROS for label in _LABELS).encode()
_STARTS = [0]  # of each row, and behind the last
for _label in _LABELS:
    _STARTS.append(_STARTS[-1] + len(_label) + len(_ZEROS) + 1)
_SHORT = 16  # rows whose labels have two digits

_ACROSS = (b"/dts-v1/", b"<capability type=")  # in texts that are read across lines
_HEAD = 400  # lines, by which ``plain`` tells what stands around all of them


class Paste(str):
    """A text whose dumps are packed: ``dumps`` are their bytes, without the zeros at their ends, in the order of the lines that stand for them."""

    dumps: list[bytes]


def text_of(data: bytes) -> str:
    """``plain`` of a paste; its dumps are packed where nothing stands around their lines."""
    dumps: list[bytes] = []
    packed = None if b"\0" in data else _packed(data, dumps)
    if packed is None or any(word in packed for word in _ACROSS):
        return plain(data)
    end = 0
    for _ in range(_HEAD):
        end = data.find(b"\n", end) + 1 or len(data)
    head = data[:end]
    if any(plain(part) != part.decode(errors="backslashreplace") for part in (head, packed)):
        return plain(data)
    text = Paste(packed.decode(errors="backslashreplace"))
    text.dumps = dumps
    return text


def _packed(data: bytes, dumps: list[bytes]) -> bytes | None:
    """The text with its dumps packed; None where it has none. They are added to ``dumps``."""
    parts: list[bytes] = []
    done, at, odd = 0, -1, -1
    while (at := data.find(_FIRST, at + 1)) >= 0:
        start, end = at + 1, at + _STARTS[-1]
        # A paragraph ends behind it, and before it nothing in its paragraph looks like a dump as well.
        alone = data[end : end + 2] in (b"\n\n", b"\n", b"") and (odd < 0 or data.find(b"\n\n", odd, start) >= 0)
        if alone and (dump := _dump(data[start:end])) is not None:
            parts += (data[done : start + _STARTS[_KEPT]], b"\0%d" % len(dumps))
            dumps.append(dump)
            done, at, odd = end, end - 1, -1
        else:
            odd = at
    return b"".join((*parts, data[done:])) if parts else None


def _dump(dump: bytes) -> bytes | None:
    """What a dump says, without the zeros at its end; None where it is not as lspci prints it."""
    if len(dump) != len(_EMPTY):
        return None
    count = _filled(dump)
    try:
        lines = dump[: max(_STARTS[count] - 1, 0)].decode("ascii").split("\n")[:count]
        if [line[:4] for line in lines[:_SHORT]] + [line[:5] for line in lines[_SHORT:]] != _LABELS[:count]:
            return None
        data = bytes.fromhex("".join([line[4:] for line in lines]))
    except ValueError:
        return None
    return data.rstrip(b"\0") if len(data) == 16 * count else None


def _filled(dump: bytes) -> int:
    """How many rows there are before those at the end that hold nothing but zeros."""
    least, most = 0, len(_LABELS)
    while least < most:
        middle = (least + most) // 2
        if dump[_STARTS[middle] :] == _EMPTY[_STARTS[middle] :]:
            most = middle
        else:
            least = middle + 1
    return least


def unpacked(lines: str, text: str) -> bytes:
    """The bytes of the dump that a line among these stands for in a text; empty where there is none."""
    if not isinstance(text, Paste):
        return b""
    place = lines.partition("\n\0")[2]
    return text.dumps[int(place)].ljust(_BYTES, b"\0") if place else b""
