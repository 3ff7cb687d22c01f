"""The host's picture as text.

Keys: ``("smmu", name)``, ``("cell", smmu, capability)``, ``("run", smmu, addresses)``, ``("node", number)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from wizard.base.glyphs import Glyphs
from wizard.base.text import plural, size, visible
from wizard.host.model import KIND_NAMES, Accel
from wizard.picture.hostmap import CAPABILITIES, Band, Cell, HostMap, Mark, Run, SmmuRow, State, kinds, runs
from wizard.picture.pieces import Drawing, Piece, Row, fit, fit_end, row, row_width, width_of

NO_SMMU = "no SMMU in use"
STATE_ROLE = {State.YES: "good", State.NO: "bad", State.UNKNOWN: "warn", State.ASSUMED: "info"}
VERDICT_ROLE = {Accel.YES: "good", Accel.NO: "bad", Accel.UNKNOWN: "warn"}
HELD_BY_HOST = "h"
_BAR = 40  # cells of the node with the most memory
_STRIP_LEAST = 16  # cells beside the matrix in which a strip says something

Letters = Mapping[str, tuple[str, str]]


def cell_text(cell: Cell, glyphs: Glyphs) -> str:
    """A capability in a few cells: its state can be told without colour."""
    signs = {"yes": glyphs.yes, "no": glyphs.no, "unknown": glyphs.unknown}
    if cell.state is State.UNKNOWN:
        return glyphs.unknown if cell.value == "unknown" else cell.value
    if cell.state is State.ASSUMED:
        return f"{signs.get(cell.value, cell.value)}*"
    if cell.state is State.NO and cell.value not in signs:
        return f"{glyphs.no} {cell.value}"
    return signs.get(cell.value, cell.value)


def mark_text(mark: Mark, letters: Letters, glyphs: Glyphs) -> tuple[str, str]:
    """A function in one sign, and its role: the letter of its VM, else whether the host holds it, else its verdict."""
    if mark.vm is not None:
        return letters.get(mark.vm, (glyphs.mark, "accent"))
    if mark.in_use:
        return HELD_BY_HOST, "warn"
    if mark.verdict is None:
        return glyphs.info, "dim"
    return {Accel.YES: glyphs.yes, Accel.NO: glyphs.no, Accel.UNKNOWN: glyphs.unknown}[mark.verdict], VERDICT_ROLE[mark.verdict]


def strip(name: str, marks: Sequence[Mark], letters: Letters, room: int, glyphs: Glyphs) -> Row:
    """Functions of one SMMU in at most ``room`` cells: each a sign; else runs of alike ones with their count; else one for each kind."""
    signs = [(mark, *mark_text(mark, letters, glyphs)) for mark in marks]
    if sum(len(sign) for _, sign, _ in signs) <= room:
        return tuple(Piece(sign, role, ("run", name, (mark.address,))) for mark, sign, role in signs)
    for folded in (runs, kinds):
        pieces = list(_counted(name, folded(marks), letters, glyphs))
        if row_width(pieces) <= room:
            return tuple(pieces)
    kept: list[Piece] = []
    for piece in pieces:
        if row_width(kept) + width_of(piece.text) > room - 2:
            break
        kept.append(piece)
    return (*kept, Piece(glyphs.more, "dim"))


def _counted(name: str, found: Iterator[Run], letters: Letters, glyphs: Glyphs) -> Iterator[Piece]:
    for number, run in enumerate(found):
        sign, role = mark_text(run.first, letters, glyphs)
        count = len(run.marks)
        many = f"{sign}{'x' if glyphs.ascii else '×'}{count}" if count > 1 else sign
        if number:
            yield Piece(" ")
        yield Piece(many, role, ("run", name, tuple(mark.address for mark in run.marks)))


def draw(picture: HostMap, width: int, glyphs: Glyphs) -> Drawing:
    """The whole of it, in ``width`` cells."""
    return [*matrix(picture, width, glyphs), *bands(picture, width, glyphs), *legend(picture, width, glyphs)]


def matrix(picture: HostMap, width: int, glyphs: Glyphs) -> list[Row]:
    """SMMUs by capability, with the strip of each behind it, or below it where there is no room."""
    if not picture.rows and not picture.outside:
        return [row(Piece("No IOMMU and no function is known here.", "dim"))]
    texts = {(one.name, cell.name): cell_text(cell, glyphs) for one in picture.rows for cell in one.cells}
    wide = {name: max([len(name), *(width_of(text) for (_, column), text in texts.items() if column == name)]) for name in CAPABILITIES}
    label = max([4, *(width_of(visible(one.name)) for one in picture.rows), len(NO_SMMU) if picture.outside else 0])
    nodes = 5 if any(one.node is not None for one in picture.rows) else 0  # a column that says something
    rest = nodes + sum(one + 1 for one in wide.values()) + 1  # with the gap before the strip
    label = max(8, min(label, width - rest))
    beside = width - label - rest >= _STRIP_LEAST
    head = [Piece(fit("SMMU", label) + (" NODE" if nodes else ""), "dim")]
    head += [Piece(f" {fit(name, wide[name])}", "dim") for name in CAPABILITIES]
    lines = [row(*head, Piece("  functions" if beside else "", "dim"))] if any(one.cells for one in picture.rows) else []
    for one in picture.rows:
        pieces = [Piece(fit_end(one.name, label, glyphs.more), "head", ("smmu", one.name))]
        if nodes:
            pieces.append(Piece(" " + fit("-" if one.node is None else str(one.node), 4)))
        for cell in one.cells:
            pieces += [Piece(" "), Piece(fit(texts[one.name, cell.name], wide[cell.name]), STATE_ROLE[cell.state], ("cell", one.name, cell.name))]
        if not one.cells:
            words = f" {KIND_NAMES.get(one.kind, one.kind)}: acceleration is an SMMUv3 matter"
            pieces.append(Piece(fit(words, max(1, rest - nodes - 2), glyphs.more), "dim"))
        room = width - label - rest if beside else width - 2
        signs = strip(one.name, one.marks, picture.letters, room, glyphs) or _nobody(one)
        if beside:
            lines.append(row(*pieces, Piece("  "), *signs))
        else:
            lines += [row(*pieces), row(Piece("  "), *signs)]
    if picture.outside:
        lead = Piece(fit(NO_SMMU, label), "dim")
        lines.append(row(lead, Piece("  "), *strip("", picture.outside, picture.letters, width - label - 2, glyphs)))
    return lines


def _nobody(one: SmmuRow) -> Row:
    return (Piece(plural(one.platform_devices, "platform device") if one.platform_devices else "no function", "dim"),)


def bands(picture: HostMap, width: int, glyphs: Glyphs) -> list[Row]:
    """NUMA nodes with their memory as bars: what each VM is to have of it by its letter, what is left as ground."""
    most = max((band.memory or 0 for band in picture.bands), default=0)
    lines = []
    for band in picture.bands:
        name = "host   " if band.node is None else f"node {band.node:<2}"
        bar = _bar(band, picture.letters, max(8, min(_BAR, width - 40)), most, glyphs)
        words = Piece(fit(_band_words(band, picture), max(0, width - len(name) - 2 - row_width(bar)), glyphs.more).rstrip(), "dim")
        key = ("node", "" if band.node is None else str(band.node))
        lines.append(row(Piece(name, "bold", key), Piece(" "), *bar, Piece(" "), words))
    notes = []
    if picture.empty_nodes:
        notes.append(f"{plural(picture.empty_nodes, 'more node')} without memory, CPUs and SMMUs")
    if picture.placeless:
        held = ", ".join(f"{picture.letters.get(name, (name, ''))[0]} {gib(size_)}" for name, size_ in picture.placeless)
        notes.append(f"bound to no node: {held}")
    if picture.available is not None:
        notes.append(f"free at the moment: {gib(picture.available)}")
    if notes:
        lines.append(row(Piece(fit("; ".join(notes), width, glyphs.more).rstrip(), "dim")))
    return lines


def _bar(band: Band, letters: Letters, room: int, most: int, glyphs: Glyphs) -> list[Piece]:
    if not band.memory or not most:
        return []
    whole = max(1, round(room * band.memory / most))
    pieces, used = [], 0
    for name, share in band.given:
        sign, role = letters.get(name, (glyphs.mark, "accent"))
        cells = min(whole - used, max(1, round(whole * share / band.memory)))
        if cells > 0:
            pieces.append(Piece((sign * cells)[:cells], role))
            used += cells
    return [*pieces, Piece(glyphs.track * (whole - used), "dim")]


def _band_words(band: Band, picture: HostMap) -> str:
    words = ["memory not read" if band.memory is None else gib(band.memory)]
    left = band.left
    if band.given and left is not None:
        words.append(f"{gib(left)} left" if left >= 0 else f"{gib(-left)} more promised than there is")
    elif band.given:
        words.append(", ".join(f"{picture.letters.get(name, (name, ''))[0]} {gib(share)}" for name, share in band.given))
    if band.cpus:
        words.append(plural(band.cpus, "CPU"))
    for pool in band.pools:
        words.append(f"{size(pool.page)} pages: {'?' if pool.free is None else pool.free} of {pool.pages} free")
    if band.smmus and band.node is not None:
        words.append(plural(len(band.smmus), "SMMU"))
    return ", ".join(words)


def gib(count: int) -> str:
    """Bytes in GiB, with one place."""
    return f"{count / (1 << 30):.1f} GiB"


def legend(picture: HostMap, width: int, glyphs: Glyphs) -> list[Row]:
    """What the signs mean, those that are there only."""
    cells = {cell.state for one in picture.rows for cell in one.cells}
    marks = [mark for one in picture.rows for mark in one.marks] + list(picture.outside)
    said: list[tuple[str, str, str]] = []
    if cells or marks:
        said += [(glyphs.yes, "good", "yes"), (glyphs.no, "bad", "no"), (glyphs.unknown, "warn", "unknown")]
    if State.ASSUMED in cells:
        said.append(("*", "info", "assumed, nobody measured it"))
    if any(mark.in_use and mark.vm is None for mark in marks):
        said.append((HELD_BY_HOST, "warn", "the host uses it"))
    if any(mark.verdict is None and mark.vm is None and not mark.in_use for mark in marks):
        said.append((glyphs.info, "dim", "not judged yet"))
    said += [(sign, role, visible(name)) for name, (sign, role) in picture.letters.items()]
    rows: list[Row] = []
    line: list[Piece] = []
    for sign, role, words in said:
        one = [Piece(sign, role), Piece(f" {words}  ", "dim")]
        if line and row_width(line) + row_width(one) > width:
            rows.append(tuple(line))
            line = []
        line += one
    return [*rows, tuple(line)] if line else rows
