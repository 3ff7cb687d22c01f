"""Lines of text with roles: what every screen is made of, without a terminal.

A screen's content is built as lines by plain functions of the session, so that it can be tested as text. A role says what
a piece of text means (``bad``, ``dim``, ``head``); the theme says how that looks.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

from wizard.base.action import on_screen
from wizard.base.finding import Finding, Item, Severity
from wizard.base.glyphs import Glyphs
from wizard.base.text import visible
from wizard.host.model import Accel

Span = tuple[str, str]  # (text, role)

# Every role that there is; each widget maps them to component classes of the theme.
ROLES = ("", "dim", "bold", "head", "good", "bad", "warn", "info", "accent", "key", "add", "remove", "c0", "c1", "c2", "c3", "c4", "c5")


@dataclass(frozen=True, slots=True)
class Line:
    """One line. A line with a ``key`` can be chosen; ``rule`` fills the rest of the line with a rule."""

    spans: tuple[Span, ...]
    key: Hashable | None = None

    @property
    def text(self) -> str:
        """Without roles."""
        return "".join(text for text, _ in self.spans)


BLANK = Line(())


def line(*spans: Span | str, key: Hashable | None = None) -> Line:
    """A line; a plain string has no role. Text from outside has to come through ``visible``, which is done here."""
    return Line(tuple((visible(span), "") if isinstance(span, str) else (visible(span[0]), span[1]) for span in spans), key)


def heading(text: str) -> Line:
    """A heading."""
    return line((text, "head"))


def wrap(
    text: str, width: int, role: str = "", *, first: str = "", rest: str | None = None, key: Hashable | None = None, lead: str | None = None
) -> Iterator[Line]:
    """``text`` in lines of ``width`` cells, the first behind ``first``, the others behind ``rest`` (as wide, if not given).

    ``lead`` is the role of the prefix. Words longer than a line are cut: nothing is lost to the right.
    """
    from rich.cells import cell_len

    rest = " " * cell_len(first) if rest is None else rest
    lead = role if lead is None else lead
    prefix, room = first, max(8, width - cell_len(first))
    for words in _rows(visible(text), room):
        yield Line(((prefix, lead), (words, role)), key)
        prefix, room = rest, max(8, width - cell_len(rest))


def _rows(text: str, width: int) -> Iterator[str]:
    from rich.cells import cell_len, chop_cells

    row = ""
    for word in text.split(" "):
        joined = f"{row} {word}" if row else word
        if cell_len(joined) <= width:
            row = joined
            continue
        if row:
            yield row
        *whole, row = chop_cells(word, width) if cell_len(word) > width else [word]
        yield from whole
    yield row


def cut(text: str, width: int, more: str = "…") -> str:
    """``text`` in exactly ``width`` cells: padded, or cut with a sign that there is more."""
    if len(text) <= width and text.isascii():
        return text.ljust(width)
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, max(0, width - len(more))) + more[:width]


SEVERITY_ROLE = {Severity.ERROR: "bad", Severity.WARNING: "warn", Severity.INFO: "info"}
ACCEL_ROLE = {Accel.YES: "good", Accel.NO: "bad", Accel.UNKNOWN: "warn"}


def accel_word(accel: Accel, glyphs: Glyphs) -> str:
    """The verdict with a sign of its own: colour is never the only signal."""
    return f"{ {Accel.YES: glyphs.yes, Accel.NO: glyphs.no, Accel.UNKNOWN: glyphs.unknown}[accel] } {accel.value}"


def severity_mark(severity: Severity, glyphs: Glyphs) -> str:
    """A sign for a severity."""
    return {Severity.ERROR: glyphs.no, Severity.WARNING: glyphs.warning, Severity.INFO: glyphs.info}[severity]


def finding_lines(finding: Finding, width: int, glyphs: Glyphs, *, key: Hashable | None = None, whole: bool = True) -> Iterator[Line]:
    """A finding: what with its mark and code, then why and fix."""
    role = SEVERITY_ROLE[finding.severity]
    yield from wrap(f"{on_screen(finding.what)} [{finding.code}]", width, role, first=f"{severity_mark(finding.severity, glyphs)} ", key=key)
    if whole:
        yield from wrap(on_screen(finding.why), width, "dim", first="  why  ", lead="dim", rest="       ")
        yield from wrap(on_screen(finding.fix), width, "", first="  fix  ", lead="accent", rest="       ")


def item_line(item: Item, width: int, glyphs: Glyphs, *, key: Hashable | None = None, indent: int = 0) -> Line:
    """A cause in one line: the first finding of it, and how many subjects it has."""
    one, times = item.finding, len(item.subjects)
    count = f" {'x' if glyphs.ascii else '×'}{times}" if times > 1 else ""
    mark = f"{' ' * indent}{severity_mark(one.severity, glyphs)} "
    return line(
        (mark, SEVERITY_ROLE[one.severity]),
        cut(on_screen(one.what), width - len(mark) - len(count), glyphs.more).rstrip(),
        (count, "accent"),
        key=key,
    )


def item_lines(item: Item, width: int, glyphs: Glyphs) -> Iterator[Line]:
    """A cause whole: its first finding, and everything that it was found on."""
    yield from finding_lines(item.finding, width, glyphs)
    if len(item.subjects) > 1:
        yield from wrap(", ".join(item.subjects), width, "dim", first="  of   ", lead="accent")


def columns(rows: Iterable[tuple[Span | str, ...]], *, gap: int = 2, indent: int = 2, most: int = 40) -> Iterator[Line]:
    """Rows with columns as wide as they need to be, at most ``most`` cells; the last is free."""
    from rich.cells import cell_len

    made = [[(visible(cell), "") if isinstance(cell, str) else (visible(cell[0]), cell[1]) for cell in row] for row in rows]
    if not made:
        return
    widths = [min(most, max(cell_len(row[column][0]) for row in made if len(row) > column)) for column in range(max(map(len, made)))]
    for row in made:
        spans: list[Span] = [(" " * indent, "")]
        for index, (text, role) in enumerate(row):
            last = index == len(row) - 1
            spans.append((text if last else cut(text, widths[index]) + " " * gap, role))
        yield Line(tuple(spans))


def labelled(rows: Iterable[tuple[str, str]], width: int, title: str = "", *, most: int = 14) -> Iterator[Line]:
    """(label, words) with the words in one column below a title; an empty row is an empty line."""
    found = list(rows)
    wide = min(most, max((len(label) for label, _ in found), default=0))
    if title:
        yield line((title, "head"))
    for label, words in found:
        if not label and not words:
            yield BLANK
        else:
            yield from wrap(words, width, first=f"  {visible(label):<{wide}} ", lead="accent")


def folded(lines: Iterable[Line], width: int, sign: str) -> Iterator[Line]:
    """Lines cut into pieces of ``width`` cells; a piece that goes on from the line above begins with ``sign``."""
    from rich.cells import cell_len, chop_cells

    for one in lines:
        if cell_len(one.text) <= width:
            yield one
            continue
        row: list[Span] = []
        room = width
        for text, role in one.spans:
            while text:
                piece = text if cell_len(text) <= room else (chop_cells(text, room) or [""])[0] if room > 1 else ""
                if piece:
                    row.append((piece, role))
                text, room = text[len(piece) :], room - cell_len(piece)
                if text:
                    yield Line(tuple(row), one.key)
                    row, room = [(f"{sign} ", "dim")], max(4, width - 2)
        yield Line(tuple(row), one.key)


_PLAIN_SIGNS = str.maketrans(
    {"…": "~", "·": "-", "→": ">", "×": "x", "−": "-", "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "✔": "y", "✘": "x", "\u00a0": " "}
)


def in_ascii(text: str) -> str:
    """Text for a terminal that draws ASCII only: the wizard's own signs have a likeness, others are question marks."""
    return text if text.isascii() else text.translate(_PLAIN_SIGNS).encode("ascii", "replace").decode()


def plain(lines: Iterable[Line]) -> str:
    """As text, for tests and the clipboard."""
    return "\n".join(one.text.rstrip() for one in lines)
