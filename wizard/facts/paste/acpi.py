"""ACPI tables in text: what acpidump prints, and what iasl -d makes of a table.

    IORT @ 0x0000000000000000                          [000h 0000 004h]                   Signature : "IORT"    [IO Remapping Table]
        0000: 49 4F 52 54 …                            Raw Table Data: Length 332 (0x14C)
                                                           0000: 49 4F 52 54 …  // IORT…

A disassembly without its raw bytes is put together from its fields, each of which names its offset and length. A table that is not as
long as its header says, or whose sum is not zero (ACPI 6.5, 5.2.6), is not taken.
"""

from __future__ import annotations

import re

from wizard.facts.paste.piece import Piece
from wizard.facts.platform import TABLES

_HEADER = 36  # bytes
_LIMIT = 1 << 20
_HEX = r"(?:[ \t]+[0-9A-Fa-f]{4,8}:(?: [0-9A-Fa-f]{2}){1,16}(?:[ \t]{2,}.*|[ \t]*(?://.*)?)?\n?)+"
_DUMPED = re.compile(rf"^[ \t]*([A-Z0-9]{{4}}) @ 0x[0-9A-Fa-f]{{1,16}}[ \t]*\n({_HEX})", re.MULTILINE)
_RAW = re.compile(rf"^Raw Table Data: Length \d+ .*\n\s*\n?({_HEX})", re.MULTILINE)
_BYTES = re.compile(r"^[ \t]+[0-9A-Fa-f]{4,8}:((?: [0-9A-Fa-f]{2}){1,16})", re.MULTILINE)
_FIELD = re.compile(r"^\[([0-9A-F]{3,6})h[ /]+\d+[ /]+([0-9A-F]{1,3})h?\][^:\n]* : (.*)$", re.MULTILINE)
_SIGNATURE = re.compile(r'^\[0+h[ /]+0+[ /]+[0-9]+h?\]\s+Signature : "([A-Z0-9]{4})"', re.MULTILINE)


def read(text: str) -> list[Piece]:
    """A piece for each way that tables came; none where there is no whole table that matters here."""
    pieces = []
    if " @ 0x" in text:
        dumped = {match[1]: _bytes(match[2]) for match in _DUMPED.finditer(text)}
        pieces.append(Piece(kind="acpidump", acpi={name: data for name, data in dumped.items() if name in TABLES and sound(data, name)}))
    if "Signature : " in text:
        pieces.append(Piece(kind="iasl's disassembly", acpi=dict(_disassembled(text))))
    return [piece for piece in pieces if piece.acpi]


def sound(data: bytes, name: str) -> bool:
    """Whether these bytes are a whole table of that signature."""
    return len(data) >= _HEADER and data[:4] == name.encode() and int.from_bytes(data[4:8], "little") == len(data) and sum(data) & 0xFF == 0


def _bytes(text: str) -> bytes:
    return bytes.fromhex("".join(match[1] for match in _BYTES.finditer(text)))


def _disassembled(text: str) -> list[tuple[str, bytes]]:
    starts = [(match.start(), match[1]) for match in _SIGNATURE.finditer(text)]
    found = []
    for (start, name), end in zip(starts, [*(at for at, _ in starts[1:]), len(text)], strict=True):
        one = text[start:end]
        raw = _RAW.search(one)
        data = _bytes(raw[1]) if raw else b""
        if not sound(data, name):
            data = _of_fields(one)
        if name in TABLES and sound(data, name):
            found.append((name, data))
    return found


def _of_fields(text: str) -> bytes:
    """The table out of its fields: numbers are printed most significant byte first, buffers byte by byte, texts in quotes."""
    data = bytearray()
    for match in _FIELD.finditer(text):
        at, length, value = int(match[1], 16), int(match[2], 16 if "h]" in match[0] else 10), match[3].split("  [")[0].strip()
        if at + length > _LIMIT:
            return b""
        if value.startswith('"'):
            content = value.strip('"').encode(errors="replace")[:length].ljust(length, b"\0")
        elif re.fullmatch(r"[0-9A-Fa-f]{2}(?: [0-9A-Fa-f]{2})+", value):
            content = bytes.fromhex(value)[:length].ljust(length, b"\0")
        elif re.fullmatch(r"[0-9A-Fa-f]{1,16}", value):
            content = int(value, 16).to_bytes(max(length, 8), "little")[:length]
        else:
            continue
        data.extend(bytes(max(at + length - len(data), 0)))
        data[at : at + length] = content
    return bytes(data)
