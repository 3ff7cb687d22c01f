"""Text as pieces: what a drawing is made of before anybody knows the terminal.

A role says what a piece means (``wizard.tui.lines.ROLES``); a key names the thing that the piece stands for, so that a cursor can be put on it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

from wizard.base.text import visible


class Piece(NamedTuple):
    """Some cells of a row."""

    text: str
    role: str = ""
    key: Hashable | None = None


Row = tuple[Piece, ...]
Drawing = Sequence[Row]


def width_of(text: str) -> int:
    """Cells that a text takes: two for each wide character of East Asia (UAX 11), none for one that combines."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in text)


def fit(text: str, width: int, more: str = "…") -> str:
    """``text``, made safe to show, in exactly ``width`` cells: padded, or cut with a sign that there is more."""
    text = visible(text)
    wide = width_of(text)
    if wide <= width:
        return text + " " * (width - wide)
    room = width - width_of(more)
    if room < 0:
        return more[: max(0, width)]
    kept = used = 0
    for character in text:
        cells = width_of(character)
        if used + cells > room:
            break
        kept, used = kept + 1, used + cells
    return text[:kept] + more + " " * (room - used)


def fit_end(text: str, width: int, more: str = "…") -> str:
    """The same, cut at its beginning: what tells one address from the next stands at the end."""
    text = visible(text)
    if width_of(text) <= width:
        return fit(text, width, more)
    kept = text
    while kept and width_of(kept) > width - width_of(more):
        kept = kept[1:]
    return fit(more + kept, width, more)


def row(*pieces: Piece | str) -> Row:
    """A row; a plain string has no role and no key."""
    return tuple(Piece(one) if isinstance(one, str) else one for one in pieces)


def row_width(pieces: Iterable[Piece]) -> int:
    """Cells of a row."""
    return sum(width_of(piece.text) for piece in pieces)


def plain(drawing: Iterable[Row]) -> str:
    """As text, without roles."""
    return "\n".join("".join(piece.text for piece in one).rstrip() for one in drawing)


def keys_of(drawing: Iterable[Row]) -> list[Hashable]:
    """Every key, in reading order, each once."""
    return list(dict.fromkeys(piece.key for one in drawing for piece in one if piece.key is not None))
