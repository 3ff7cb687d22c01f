"""An index of summaries, so that a second question reads no snapshot again: SQLite, one row a file.

A row holds as long as the file's size, time and inode, and the program that made it, are the same. It is a cache: losing it costs time only.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from wizard import __version__
from wizard.base.errors import OutputError
from wizard.base.places import own
from wizard.base.text import visible
from wizard.facts.model import VERSION as SNAPSHOT_VERSION
from wizard.fleet.entry import Entry
from wizard.fleet.summary import VERSION as SUMMARY_VERSION

_FORM = 1
_ENTRY = msgspec.msgpack.Decoder(Entry)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, entry BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS made_by (program TEXT NOT NULL);
"""


def default_path() -> Path:
    """In the XDG cache directory of the effective user."""
    return own("XDG_CACHE_HOME", ".cache") / "fleet.sqlite"


def stamp_of(path: str) -> str | None:
    """Size, time and inode of a file; None when it can't be asked (the reading of it will say why)."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return f"{found.st_size}.{found.st_mtime_ns}.{found.st_ino}"


class Index:
    """Open for the length of one command. Raises OutputError when it can't be opened or written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(path, timeout=30)
            self._db.executescript(_SCHEMA)
            with self._db:
                row = self._db.execute("SELECT program FROM made_by").fetchone()
                if row is None or row[0] != _program():
                    self._db.execute("DELETE FROM files")
                    self._db.execute("DELETE FROM made_by")
                    self._db.execute("INSERT INTO made_by VALUES (?)", (_program(),))
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def known(self, paths: Iterable[str]) -> Iterator[tuple[str, Entry]]:
        """The entries of those files that have not changed since they were read."""
        try:
            with closing(self._db.cursor()) as cursor:
                for path in paths:
                    row = cursor.execute("SELECT stamp, entry FROM files WHERE path = ?", (_key(path),)).fetchone()
                    if row is not None and row[0] == stamp_of(path):
                        entry = _ENTRY.decode(row[1])
                        yield path, entry if entry.name == path else msgspec.structs.replace(entry, name=path)
        except (sqlite3.Error, msgspec.DecodeError) as error:
            raise self._failed(error) from error

    def keep(self, entries: Iterable[tuple[Entry, str | None]]) -> None:
        """Store entries with the stamps that their files had before they were read."""
        rows = [(_key(entry.name), stamp, msgspec.msgpack.encode(entry)) for entry, stamp in entries if stamp is not None]
        try:
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> OutputError:
        return OutputError(
            f"The index {visible(str(self.path))} can't be used: {visible(str(error))}.",
            "Delete it, name another file with --index FILE, or do without it: --no-index.",
        )


def _key(path: str) -> str:
    # A path that is not UTF-8 has surrogates, which SQLite's text can't hold.
    return os.path.abspath(path).encode("utf-8", "backslashreplace").decode()


def _program() -> str:
    """What decides what a summary says: the formats, and the very code that reads and judges."""
    package = Path(__file__).resolve().parents[1]
    rooms = ("arch", "base", "facts", "host", "plan", "fleet")
    newest = max((entry.stat().st_mtime_ns for room in rooms for entry in (package / room).rglob("*.py")), default=0)
    return f"{__version__}.{_FORM}.{SNAPSHOT_VERSION}.{SUMMARY_VERSION}.{newest}"
