"""Lines that are like lines before them: of a log that says the same a million times, all but the first few are counted without being read.

Two lines have one shape when they differ in nothing but digits (and letters that may be digits of hexadecimal numbers) at the same places. Of a shape
that was read once it is known that it holds no message, or in which words of the line its messages differ.
"""

from __future__ import annotations

import msgspec

from wizard.explain.hits import Hit
from wizard.explain.template import SPLIT_BYTES

_SAME = bytes.maketrans(b"123456789abcdef", b"0" * 15)
_MOST = 4096  # shapes, and lines of all of them, that are kept; a log with more of them is read again


class _Shape(msgspec.Struct):
    """What lines of one shape say. Without hits: nothing."""

    size: int = 0  # words
    places: tuple[int, ...] = ()  # of the words that tell one message from another
    hits: dict[tuple[bytes, ...], tuple[Hit, ...]] = {}
    counted: tuple[Hit, ...] = ()  # of messages of which there are so many different ones that they are not told apart


class Shapes:
    """The shapes that were met; only while a log is read."""

    def __init__(self) -> None:
        self._of: dict[bytes, _Shape] = {}
        self._kept = 0

    def count(self, line: bytes, words: list[bytes]) -> bool | None:
        """Count a line that is like one before it: True where it holds a message, False where it holds none, None where it has to be read."""
        shape = self._of.get(line.translate(_SAME))
        if shape is None:
            return None
        hits: tuple[Hit, ...] | None = shape.counted
        if not hits:
            if not shape.size:
                return False
            hits = shape.hits.get(tuple([words[place] for place in shape.places])) if len(words) == shape.size else None
            if hits is None:
                return None
        for hit in hits:
            hit.count += 1
        return True

    def learn(self, line: bytes, words: list[bytes], hits: list[Hit], *, merged: bool) -> None:
        """A line was read, and these were counted. ``merged``: all of them stand for more than they name."""
        if self._kept >= _MOST:
            self._of.clear()
            self._kept = 0
        key = line.translate(_SAME)
        shape = self._of.get(key)
        if not hits:
            self._of[key] = _Shape()
        elif merged:
            self._of[key] = _Shape(len(words), counted=tuple(hits))
        else:
            places = _places(words, hits)
            if places is None:
                return
            if shape is None or shape.counted or shape.places != places or shape.size != len(words):
                shape = self._of[key] = _Shape(len(words), places, {})
            shape.hits[tuple([words[place] for place in places])] = tuple(hits)
        self._kept += 1


def _places(words: list[bytes], hits: list[Hit]) -> tuple[int, ...] | None:
    """Where the words stand that hits differ in; None where one of them is not among the line's."""
    found: set[int] = set()
    for hit in hits:
        for value in hit.words.values():
            for part in value.encode("utf-8", "replace").translate(SPLIT_BYTES).split():
                at = [place for place, word in enumerate(words) if part in word]
                if not at:
                    return None
                found.update(at)
    return tuple(sorted(found))
