"""Lines for people: what a pipe gets, and what a terminal makes of them.

A pipe gets the text of a line, byte for byte. On a terminal a line is wrapped at words, what goes on hangs below where it began, and pieces
have colours by their roles. A plain string is a line without roles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from wizard.base.glyphs import Glyphs
from wizard.base.text import visible, visible_lines
from wizard.picture.pieces import width_of

Span = tuple[str, str]  # (text, role)

# ECMA-48 "select graphic rendition": of the sixteen colours that a terminal's own theme sets for its ground, dark or light.
_SGR = {"bad": "1;31", "warn": "33", "good": "32", "info": "36", "dim": "2", "head": "1", "accent": "36", "key": "1"}
_SGR |= {"c0": "36", "c1": "35", "c2": "33", "c3": "32", "c4": "34", "c5": "31"}  # of VMs, beside their letters
_NARROWEST = 20  # cells that are left beside what a line hangs on; with fewer it hangs on its indentation


class Face(msgspec.Struct, frozen=True):
    """How lines look. ``width`` None: they are not wrapped; ``glyphs`` None: words alone, without signs."""

    width: int | None = None
    colour: bool = False
    glyphs: Glyphs | None = None


PIPE = Face()


class Line(str):
    """A line with roles: as a string it is what a pipe gets."""

    spans: tuple[Span, ...]
    hang: int | None


SIGN = "sign"
"""The role of a span whose text names a glyph: it is drawn before the next span where there are signs, and is no part of the string."""


def line(*spans: Span | str, hang: int | None = None) -> Line:
    """Text from outside is made safe here. ``hang``: the column below which the line goes on; None: two behind its own indentation."""
    made = tuple((visible(text), role) for text, role in ((span, "") if isinstance(span, str) else span for span in spans))
    found = Line("".join(text for text, role in made if role != SIGN))
    found.spans, found.hang = made, hang
    return found


def _with_signs(spans: tuple[Span, ...], glyphs: Glyphs | None) -> Iterator[Span]:
    sign = ""
    for text, role in spans:
        if role != SIGN:
            yield sign + text, role
            sign = ""
        elif glyphs is not None:
            sign = f"{getattr(glyphs, text)} "


def drawn(text: str, face: Face) -> Iterator[str]:
    """A line, or several plain ones in one string, as rows for a face."""
    if isinstance(text, Line):
        spans = tuple(_with_signs(text.spans, face.glyphs))
        yield from _drawn("".join(part for part, _ in spans), spans, text.hang, face)
        return
    for one in visible_lines(text).split("\n"):
        yield from _drawn(one, _leading(one), None, face)


_WORDS = {
    "pass": "good",
    "FAIL": "bad",
    "n/a": "dim",
    "holds here": "bad",
    "ruled out": "dim",
    "not known here": "warn",
    "means": "accent",
    "fix": "accent",
}
_LEADS = re.compile(rf"( +)({'|'.join(_WORDS)})(?=[ :])")


def _leading(text: str) -> tuple[Span, ...]:
    """A plain line of a report: what stands at the margin and ends with a colon heads what is below it; a word that judges leads its line."""
    if text.endswith(":") and not text.startswith(" "):
        return ((text, "head"),)
    found = _LEADS.match(text)
    if found is None:
        return ((text, ""),)
    return (found[1], ""), (found[2], _WORDS[found[2]]), (text[found.end() :], "")


def _drawn(text: str, spans: tuple[Span, ...], hang: int | None, face: Face) -> Iterator[str]:
    if face.width is None or width_of(text) <= face.width:
        yield _painted(spans, 0, len(text), face) if face.colour else text
        return
    indent = len(text) - len(text.lstrip(" "))
    if hang is None or face.width - hang < _NARROWEST:
        hang = indent + 2
    for place, (start, end) in enumerate(_pieces(text, face.width, indent, hang)):
        row = _painted(spans, start, end, face) if face.colour else text[start:end]
        yield " " * hang + row if place else row


def _pieces(text: str, width: int, indent: int, hang: int) -> Iterator[tuple[int, int]]:
    """Where the rows of a line begin and end. A word that is longer than a row stays whole: a path or a command is copied from there."""
    start, room = 0, width
    end = at = indent
    while at < len(text):
        if text[at] == " ":  # columns of a line are apart by two
            at += 1
            continue
        stop = text.find(" ", at)
        stop = len(text) if stop < 0 else stop
        if end > max(start, indent) and width_of(text[start:stop]) > room:
            yield start, end
            start, room = at, max(1, width - hang)
        end = at = stop
    yield start, end


def _painted(spans: tuple[Span, ...], start: int, end: int, face: Face) -> str:
    """The characters from ``start`` to ``end`` of the spans, with their colours."""
    found, at = [], 0
    for text, role in spans:
        part = text[max(0, start - at) : max(0, end - at)]
        at += len(text)
        if part:
            found.append(f"\x1b[{_SGR[role]}m{part}\x1b[0m" if role in _SGR else part)
    return "".join(found)
