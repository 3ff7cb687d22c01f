"""Lines out of what somebody pastes: bounded in length, without colour, JSON of the journal or of KubeVirt as the text that it carries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import msgspec

from wizard.base.text import COLOUR

BLOCK = 1 << 20  # bytes that are looked at together
PIECE = 1 << 14  # bytes of a line that are looked at together; a longer one is looked at in pieces
OVERLAP = 512  # bytes that two pieces have in common: longer than any message
THOROUGH = 1 << 18  # bytes of a whole input in which wrapped lines are put together wherever they may be

_COLOUR = re.compile(COLOUR.encode())
_SPACES = re.compile(r" {2,}")  # columns of a table, an audit line: what is looked for has single ones
_SIGNS = (b"\x1b[", b"#033[", b"^[[", b"\\x1b[", b"\\u001b[", b"ESC[")
_JSON_TEXT = ("MESSAGE", "msg", "message", "log")
_JSON_WHO = ("SYSLOG_IDENTIFIER", "component", "_COMM")


def blocks(stream: BinaryIO) -> Iterator[list[bytes]]:
    """A stream's lines, many at a time, without their ends; whoever joins two blocks has to know that pieces of a long line follow each other."""
    rest = b""
    while data := stream.read(BLOCK):
        lines = _plain(rest + data).split(b"\n")
        rest = lines.pop()
        if len(rest) > BLOCK:  # an endless line
            lines.append(rest[:-OVERLAP])
            rest = rest[-OVERLAP:]
        if lines:
            yield lines
    if rest:
        yield [rest]


def _plain(data: bytes) -> bytes:
    return _COLOUR.sub(b"", data) if any(sign in data for sign in _SIGNS) else data


def pieces(line: bytes) -> Iterable[bytes]:
    """A line that is too long in pieces that overlap."""
    if len(line) <= PIECE:
        return (line,)
    return (line[start : start + PIECE + OVERLAP] for start in range(0, len(line), PIECE))


def texts(line: bytes) -> list[str]:
    """The messages that a line carries: itself, or those of the JSON that it is; typographic quotes are plain ones."""
    if line[:1] == b"{" and line.rstrip()[-1:] == b"}":
        told = _of_json(line)
        if told is not None:
            return told
    text = line.decode("utf-8", "replace").rstrip("\r")
    text = text.translate(_QUOTES) if not text.isascii() else text
    if '\\"' in text:
        text = text.replace('\\"', '"')
    return (_SPACES.sub(" ", text) if "  " in text else text).split("\\n")


_QUOTES = {ord(old): new for old, new in zip("‘’‚“”„«»\u00a0\t", '\'\'\'"""""  ', strict=True)}


def is_hidden(line: bytes) -> bool:
    """Whether a line's words do not show: the journal writes what is no plain text as numbers."""
    return line[:1] == b"{" and (b'"MESSAGE":[' in line or b'"MESSAGE": [' in line)


def _of_json(line: bytes) -> list[str] | None:
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    if not isinstance(found, dict):
        return None
    for name in _JSON_TEXT:
        told = found.get(name)
        if isinstance(told, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in told):
            told = bytes(told).decode("utf-8", "replace")  # the journal's way with what is no plain text
        if isinstance(told, str) and told:
            who = next((value for key in _JSON_WHO if isinstance(value := found.get(key), str)), "")
            lines = _COLOUR.sub(b"", told.encode("utf-8", "replace")).decode("utf-8", "replace").translate(_QUOTES).split("\n")
            return [_SPACES.sub(" ", f"{who}: {text}" if who else text) for text in lines]
    return None
