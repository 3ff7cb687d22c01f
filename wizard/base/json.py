"""Bounds of JSON from outside, counted over its bytes before any of it is decoded: an object every two bytes can fill a machine.

And JSON of ours that is too much to be made at once: indented by two, as ``msgspec.json.format`` indents the whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

import msgspec

DEPTH = 32  # levels of nesting
OBJECTS = 1 << 20
VALUES = 4 << 20  # a host of 65,536 functions has half as many

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_SOME_STRINGS = re.compile(rb'(?:[^"]*+"(?:[^"\\]|\\.)*+"){1,65536}', re.DOTALL)
_OTHER = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = bytes(1 if byte in b"[{" else 0xFF for byte in range(256))  # as signed bytes: +1 and -1


def out_of_bounds(data: bytes) -> str | None:
    """What passes the bounds, as the end of a sentence that begins with the file's name; None when nothing does."""
    # Brackets and commas inside strings are counted at first: that can only say "look closer", and then strings are left out.
    return _beyond([data]) and _beyond(_outside_strings(data))


def _beyond(pieces: Iterable[bytes]) -> str | None:
    values = objects = depth = 0
    for piece in pieces:
        values += piece.count(b",")
        objects += piece.count(b"{")
        if values > VALUES:
            return f"has more than {VALUES} values"
        if objects > OBJECTS:
            return f"has more than {OBJECTS} objects"
        steps = memoryview(piece.translate(_STEPS, _OTHER)).cast("b")
        if depth + max(accumulate(steps), default=0) > DEPTH:
            return f"is nested deeper than {DEPTH} levels"
        depth += sum(steps)
    return None


def _outside_strings(data: bytes) -> Iterator[bytes]:
    # Piece by piece: all that lies between strings of 64 MiB would take many times as much at once.
    at = 0
    while found := _SOME_STRINGS.match(data, at):
        yield _STRING.sub(b"", found[0])
        at = found.end()
    yield data[at:]


_BEFORE, _AFTER = b'{\n  "": [', b"\n  ]\n}"


def elements(values: Sequence[object]) -> bytes:
    """Elements of a list below the outermost object, without what stands before and after them."""
    return msgspec.json.format(msgspec.json.encode({"": values}), indent=2)[len(_BEFORE) : -len(_AFTER)] if values else b""


def within(frame: bytes, name: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The object ``frame`` with the elements of ``pieces`` in its list ``name``, which is empty in it."""
    # A line break is never within a text, and so deep only the outermost object's names stand.
    before, empty, after = frame.partition(f'\n  "{name}": []'.encode())
    yield before + empty[:-1]
    some = False
    for piece in filter(None, pieces):
        yield from (b",", piece) if some else (piece,)
        some = True
    yield (b"\n  ]" if some else b"]") + after
