"""The dumps of ``lspci -xxxx`` in a paste, packed before anything else reads it.

A function's 4 KiB are 256 lines, nearly all of them zeros: of a host with thousands of functions they are 98 of 100 bytes, and no reader
but that of lspci has a use for them. Of a dump that stands as lspci prints it (pciutils 3.14, show_hex_dump()), at the end of its paragraph,
the first rows stay, and one line takes the place of the others:

    30: 00 00 00 00 50 00 00 00 00 00 00 00 00 00 00 00
    NUL 8680631506041000…           all of it, in hexadecimal, without the zeros at its end

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


def text_of(data: bytes) -> str:
    """``plain`` of a paste; its dumps are packed where nothing stands around their lines."""
    packed = None if b"\0" in data else _packed(data)
    if packed is None or any(word in packed for word in _ACROSS):
        return plain(data)
    head = b"\n".join(data.split(b"\n", _HEAD)[:_HEAD])
    if any(plain(part) != part.decode(errors="backslashreplace") for part in (head, packed)):
        return plain(data)
    return packed.decode(errors="backslashreplace")


def _packed(data: bytes) -> bytes | None:
    """The text with its dumps packed; None where it has none."""
    parts: list[bytes] = []
    done, at, odd = 0, -1, -1
    while (at := data.find(_FIRST, at + 1)) >= 0:
        start, end = at + 1, at + _STARTS[-1]
        # A paragraph ends behind it, and before it nothing in its paragraph looks like a dump as well.
        alone = data[end : end + 2] in (b"\n\n", b"\n", b"") and (odd < 0 or data.find(b"\n\n", odd, start) >= 0)
        if alone and (row := _row(data[start:end])):
            parts += (data[done : start + _STARTS[_KEPT]], row)
            done, at, odd = end, end - 1, -1
        else:
            odd = at
    return b"".join((*parts, data[done:])) if parts else None


def _row(dump: bytes) -> bytes:
    """The line that stands for a dump; empty where it is not as lspci prints it."""
    if len(dump) != len(_EMPTY):
        return b""
    count = _filled(dump)
    try:
        lines = dump[: max(_STARTS[count] - 1, 0)].decode("ascii").split("\n")[:count]
        if [line[:4] for line in lines[:_SHORT]] + [line[:5] for line in lines[_SHORT:]] != _LABELS[:count]:
            return b""
        data = bytes.fromhex("".join([line[4:] for line in lines]))
    except ValueError:
        return b""
    return b"\0" + data.rstrip(b"\0").hex().encode() if len(data) == 16 * count else b""


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


def unpacked(lines: str) -> bytes:
    """The bytes of a dump that ``text_of`` has packed; empty where there is none."""
    packed = lines.partition("\n\0")
    return bytes.fromhex(packed[2]).ljust(_BYTES, b"\0") if packed[1] else b""
