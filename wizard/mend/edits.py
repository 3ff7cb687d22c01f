"""Changes of a text by place: what is not named stays as it is, character for character."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import msgspec


class Edit(msgspec.Struct, frozen=True, order=True):
    """The characters from ``start`` to ``end`` become ``new``."""

    start: int
    end: int
    new: str


class Beyond(Exception):
    """A change for which the text has no place: it is not written in one piece, or takes more than a change of values."""


def applied(text: str, edits: Iterable[Edit]) -> str:
    """The text with all of them; ``Beyond`` where two of them meet."""
    at, pieces = 0, []
    for edit in sorted(dict.fromkeys(edits)):
        if edit.start < at:
            raise Beyond("two changes meet in one place")
        pieces += [text[at : edit.start], edit.new]
        at = edit.end
    return "".join([*pieces, text[at:]])


def diff(name: str, old: str, new: str) -> str:
    """A unified difference, as ``patch`` takes it."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), name, f"{name} (mended)", lineterm="")
    return "\n".join(lines)
