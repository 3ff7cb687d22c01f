"""A walk as text: the path with the stations that it met, its steps, and one step whole.

Keys: ``("stop", number of the walk, number of the step)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wizard.base.glyphs import Glyphs
from wizard.base.text import visible
from wizard.picture.pieces import Drawing, Piece, Row, fit, row
from wizard.picture.walk import STATIONS, Stop, Walk

STATION_ROLE = {"access": "head", "STE": "c0", "CD": "c1", "stage 1": "c2", "stage 2": "c3", "memory": "good", "fault": "bad"}
_PATH = STATIONS[1:-1]


def draw(walks: Sequence[Walk], width: int, glyphs: Glyphs) -> Drawing:
    """All walks below each other; each begins with its title, its path and how it ended."""
    lines: list[Row] = []
    for number, walk in enumerate(walks):
        if lines:
            lines.append(())
        lines.append(row(Piece(fit(walk.title, width, glyphs.more).rstrip(), "head")))
        if any(station in _PATH for station in walk.stations):
            lines.append(tuple(_path(walk, glyphs)))
        lines.append(row(Piece(fit(f"  {walk.outcome}", width, glyphs.more).rstrip(), "bad" if walk.fault is not None else "good")))
        lines += [_stop(number, stop, width, glyphs) for stop in walk.stops]
    return lines


def _path(walk: Walk, glyphs: Glyphs) -> Iterator[Piece]:
    met = walk.stations
    yield Piece("  ")
    for number, station in enumerate(_PATH):
        if number:
            yield Piece(f" {glyphs.arrow} ", "dim")
        yield Piece(station, STATION_ROLE[station] if station in met else "dim")
        # The fault stands where it happened: behind the last station before it.
        if walk.fault is not None and station == _before(walk):
            yield Piece(f" {glyphs.no} fault", "bad")


def _before(walk: Walk) -> str:
    met = [stop.station for stop in walk.stops[: walk.fault] if stop.station in _PATH]
    return met[-1] if met else _PATH[0]


def _stop(number: int, stop: Stop, width: int, glyphs: Glyphs) -> Row:
    key = ("stop", number, stop.number)
    where = f"@{stop.address} " if stop.address else ""
    text = fit(f"{where}{stop.text}", max(8, width - 17), glyphs.more).rstrip()
    role = "bad" if stop.what in ("fault", "event") else ""
    return row(Piece(f"{stop.number + 1:>3} ", "dim", key), Piece(f"{stop.station:<8} ", STATION_ROLE[stop.station], key), Piece(text, role, key))


def told(stop: Stop, walk: Walk) -> Iterator[tuple[str, str]]:
    """(label, words) of one step: the address, the words, every field by its name; the event record of the walk behind it."""
    yield stop.what, visible(stop.text)
    if stop.address:
        yield "at", stop.address
    for place, word in enumerate(stop.words):
        if place < 2 or int(word, 16):
            yield f"word {place}" if len(stop.words) > 1 else "word", word
    yield from _fields(stop)
    yield from stop.rest
    record = walk.event
    if record is not None and record is not stop:
        yield "", ""
        yield "event", "the record that came of this walk"
        yield from _fields(record)


def _fields(stop: Stop) -> Iterator[tuple[str, str]]:
    for one in stop.fields:
        meaning = f"  {one.meaning}" if one.meaning else ""
        doc = f" ({one.doc})" if one.doc else ""
        yield one.name, f"{one.value}{meaning}{doc}" + (f", {stop.record}[{one.bits}]" if one.bits else "")
