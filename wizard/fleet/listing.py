"""The rows of many snapshots, one file after the other: ``list SNAPSHOT… --ndjson|--csv``.

A worker reads a file, makes its rows and hands back their text, so that no more than some files are in memory, whatever their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import msgspec

from wizard.facts.held import Place, why_unread
from wizard.fleet.entry import content_of, facts_in, guarded
from wizard.fleet.rows import Row, as_csv, as_ndjson, rows_of
from wizard.fleet.workers import spread
from wizard.host.build import host_of

FORMS: dict[str, Callable[[Iterable[Row]], str]] = {"ndjson": as_ndjson, "csv": as_csv}


class Listed(msgspec.Struct, frozen=True):
    """The rows of one file as text; ``problem`` and ``fix`` where there are none because it could not be read."""

    name: str
    text: str = ""
    host: str = ""  # which machine, as far as the snapshot says: the same text for the same
    why_empty: str | None = None  # why no function is in it
    problem: str = ""
    fix: str = ""


def listing(paths: Sequence[str], form: str) -> Iterator[list[Listed]]:
    """Every file in order, a few at a time; never raises for a file that is broken."""
    return spread(paths, partial(_files, form), lambda name, problem, fix: Listed(name, problem=problem, fix=fix))


def _files(form: str, paths: tuple[str, ...]) -> list[Listed]:
    return [_file(form, path) for path in paths]


def _file(form: str, path: str) -> Listed:
    def read() -> Listed:
        host = host_of(facts_in(content_of(path), path))
        why = None
        if not host.functions:
            unread = why_unread(host.facts, Place.FUNCTIONS)
            why = "it has no PCI function" if unread is None else f"PCI functions were not read ({unread})"
        identity = host.facts.identity
        return Listed(path, FORMS[form](rows_of(host, path)), f"{identity.host or host.digest} {identity.machine or ''}", why)

    found = guarded(read, path)
    return found if isinstance(found, Listed) else Listed(path, problem=found[0], fix=found[1])
