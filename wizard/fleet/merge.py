"""Indexes as sources: all entries of one that was made elsewhere, and several merged into one.

A site, or a batch of workers, makes its own; merged they answer for all, without the snapshots being here. They are believed if they were made
by the same version of the program, with the same form of summaries; what a row says is checked as everywhere (``wizard.fleet.index``).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import msgspec

from wizard.base.errors import InputError
from wizard.base.text import visible
from wizard.fleet.entry import Entry
from wizard.fleet.index import APPLICATION, TABLES, Index, checksum_of, made_by, stamp_of
from wizard.fleet.machines import NEVER, when

SUFFIX = ".sqlite"
"""The end of the name of an index that is given in place of snapshots."""

_ENTRY = msgspec.msgpack.Decoder(Entry)
_FIX = "Make it again there: smmu-wizard baseline DIRECTORY --index FILE."


def entries_in(path: str) -> Iterator[tuple[str, str, Entry]]:
    """Path, stamp and entry of each file in an index, by path; it is only read. InputError where it is none, damaged, or of another version."""
    name = visible(path)
    if not os.path.isfile(path):
        raise InputError(f"There is no file {name}.", "Check the path.")
    try:
        # mode=ro: neither made nor changed; trusted_schema off, and its tables are held against ours before anything is asked of them.
        with closing(sqlite3.connect(f"file:{quote(os.path.abspath(path))}?mode=ro", uri=True, timeout=30)) as database:
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 16 << 20)
            database.execute("PRAGMA trusted_schema = OFF")
            (application,) = database.execute("PRAGMA application_id").fetchone()
            if application != APPLICATION or sorted(database.execute("SELECT name, sql FROM sqlite_master").fetchall()) != sorted(TABLES.items()):
                raise InputError(f"{name} is no index of smmu-wizard.", "Name one that --index FILE wrote.")
            program = str((database.execute("SELECT program FROM made_by LIMIT 1").fetchone() or ("",))[0])
            if made_by(program) != made_by():
                raise InputError(f"{name} was made by another version of smmu-wizard ({visible(made_by(program))}).", _FIX)
            for key, stamp, data, checksum in database.execute("SELECT path, stamp, entry, sum FROM files ORDER BY path"):
                if not isinstance(key, str) or not isinstance(stamp, str) or not isinstance(data, bytes) or checksum != checksum_of(key, stamp, data):
                    raise InputError(f"{name} has a damaged row.", _FIX)
                yield key, stamp, msgspec.structs.replace(_ENTRY.decode(data), name=key)
    except (sqlite3.Error, msgspec.DecodeError) as error:
        raise InputError(f"{name} can't be read as an index: {visible(str(error))}.", _FIX) from error


def merge(target: Path, sources: Sequence[str]) -> int:
    """Put the rows of the sources into the target, which is made where it is missing; how many files it holds of them. All or nothing.

    Of two rows of one path counts what the file here says; where it is not here, the snapshot that was recorded later.
    """
    found: dict[str, tuple[str, Entry]] = {}
    if target.is_file():
        found = {key: (stamp, entry) for key, stamp, entry in entries_in(str(target))}
    for source in sources:
        for key, stamp, entry in entries_in(source):
            before = found.get(key)
            if before is None or _rank(key, stamp, entry) > _rank(key, *before):
                found[key] = stamp, entry
    index = Index(target)
    try:
        index.keep(((entry, stamp) for stamp, entry in found.values()), tidy=False)
    finally:
        index.close()
    return len(found)


def _rank(path: str, stamp: str, entry: Entry) -> tuple[bool, bool, object, str]:
    return stamp == stamp_of(path), entry.summary is not None, when(entry.time) or NEVER, stamp
