"""An index of summaries, so that a second question reads no snapshot again: SQLite, one row a file.

A row holds as long as the file's size, times and inode, and the program that made it, are the same. It is a cache: losing it costs time only.
A database of somebody else's is never written to: ours says so in its header (``application_id``).
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from wizard import __version__
from wizard.base.errors import OutputError
from wizard.base.places import own
from wizard.base.text import visible
from wizard.facts.model import VERSION as SNAPSHOT_VERSION
from wizard.fleet.entry import Entry
from wizard.fleet.summary import VERSION as SUMMARY_VERSION

APPLICATION = 0x534D4D55  # "SMMU"
TICK = 0.02
"""Seconds in which a file may change twice with one time: the kernel's clock for files stands still for up to a jiffy, 10 ms at HZ=100."""

_FORM = 2
_ENTRY = msgspec.msgpack.Decoder(Entry)
_SCHEMA = (
    "DROP TABLE IF EXISTS files",
    "DROP TABLE IF EXISTS made_by",
    "CREATE TABLE files (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, entry BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE made_by (program TEXT NOT NULL)",
    f"PRAGMA application_id = {APPLICATION}",
)


def default_path() -> Path:
    """In the XDG cache directory of the effective user."""
    return own("XDG_CACHE_HOME", ".cache") / "fleet.sqlite"


def stamp_of(path: str) -> str | None:
    """Size, times and inode of a file; None when it can't be asked (the reading of it will say why)."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return f"{found.st_size}.{found.st_mtime_ns}.{found.st_ctime_ns}.{found.st_ino}"


def settle(stamps: Iterable[str | None]) -> None:
    """Wait until a file that was written just now can't be written again with the time that it has."""
    newest = max((int(stamp.split(".")[2]) for stamp in stamps if stamp), default=0)
    left = TICK - (time.time() - newest / 1e9)
    if 0 < left <= TICK:
        time.sleep(left)


class Damaged(OutputError):
    """What is in the file is no database, or not a whole one."""


class Index:
    """Open for the length of one command. Raises OutputError when it can't be opened or written, or is somebody else's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept: set[str] = set()  # directories
        with self._named():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
            try:
                if not self._is_whole():
                    self._make()
            except BaseException:
                self._db.close()
                raise

    def _is_whole(self) -> bool:
        if self._ask("PRAGMA application_id") == APPLICATION:
            return self._ask("SELECT program FROM made_by") == _program()
        if self._ask("SELECT count(*) FROM sqlite_master"):
            raise OutputError(
                f"{visible(str(self.path))} is a database of another program, and no index of smmu-wizard.",
                "Name another file with --index FILE, or do without it: --no-index.",
            )
        return False

    def _make(self) -> None:
        with self._writing():
            if self._is_whole():  # another process was quicker
                return
            for statement in _SCHEMA:
                self._db.execute(statement)
            self._db.execute("INSERT INTO made_by VALUES (?)", (_program(),))

    def _ask(self, question: str) -> object:
        row = self._db.execute(question).fetchone()
        return row[0] if row else None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """All or nothing; another process waits."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors by the name of the file, with the next step."""
        try:
            yield
        except (OSError, sqlite3.Error, msgspec.DecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            kind = Damaged if type(error) in (sqlite3.DatabaseError, msgspec.DecodeError, msgspec.ValidationError) else OutputError
            raise kind(
                f"The index {visible(str(self.path))} can't be used: {visible(reason)}.",
                "Delete it, name another file with --index FILE, or do without it: --no-index.",
            ) from error

    def close(self) -> None:
        """Let go of the file; of the directories that were read, rows of files that are gone go first."""
        try:
            if self._kept:
                with self._named(), self._writing():
                    for directory in sorted(self._kept):
                        rows = self._db.execute("SELECT path FROM files WHERE path > ? AND path < ?", (f"{directory}/", f"{directory}0")).fetchall()
                        self._db.executemany("DELETE FROM files WHERE path = ?", [row for row in rows if not os.path.lexists(row[0])])
        finally:
            self._db.close()

    def known(self, paths: Iterable[str]) -> dict[str, Entry]:
        """The entries of those files that have not changed since they were read."""
        found: dict[str, Entry] = {}
        with self._named():
            for path in paths:
                row = self._db.execute("SELECT stamp, entry FROM files WHERE path = ?", (_key(path),)).fetchone()
                if row is not None and row[0] == stamp_of(path):
                    entry = _ENTRY.decode(row[1])
                    found[path] = entry if entry.name == path else msgspec.structs.replace(entry, name=path)
        return found

    def keep(self, entries: Iterable[tuple[Entry, str | None]]) -> None:
        """Store entries with the stamps that their files had before they were read."""
        rows = [(_key(entry.name), stamp, msgspec.msgpack.encode(entry)) for entry, stamp in entries if stamp is not None]
        with self._named(), self._writing():
            self._db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)
        self._kept |= {os.path.dirname(path) for path, _, _ in rows}


class Spare:
    """The index that nobody named: where it fails that is said once, and the question is answered without it; damaged, it is made anew."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._say = say
        self._index: Index | None = None
        try:
            self._index = Index(path)
        except Damaged:
            self._anew(path)
        except OutputError as error:
            self._gone(error)

    def _anew(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
            self._index = Index(path)
        except OSError as error:
            self._gone(OutputError(f"The index {visible(str(path))} is damaged and can't be replaced: {error.strerror}.", "Delete it."))
        except OutputError as error:
            self._gone(error)

    def _gone(self, error: OutputError) -> None:
        self._index = None
        self._say(f"{error.what} Every snapshot is read anew.")

    def known(self, paths: Iterable[str]) -> dict[str, Entry]:
        """As ``Index.known``; nothing where it fails."""
        try:
            return self._index.known(paths) if self._index else {}
        except Damaged:
            assert self._index is not None
            path = self._index.path
            self._index.close()
            self._anew(path)
        except OutputError as error:
            self._gone(error)
        return {}

    def keep(self, entries: Iterable[tuple[Entry, str | None]]) -> None:
        """As ``Index.keep``, if it can."""
        try:
            if self._index:
                self._index.keep(entries)
        except OutputError as error:
            self._gone(error)

    def close(self) -> None:
        """As ``Index.close``, if it can."""
        try:
            if self._index:
                self._index.close()
        except OutputError as error:
            self._gone(error)


def _key(path: str) -> str:
    # A path that is not UTF-8 has surrogates, which SQLite's text can't hold.
    return os.path.abspath(path).encode("utf-8", "backslashreplace").decode()


def _program() -> str:
    """What decides what a summary says: the formats, and the very code that reads and judges."""
    package = Path(__file__).resolve().parents[1]
    rooms = ("arch", "base", "facts", "host", "plan", "fleet")
    newest = max((entry.stat().st_mtime_ns for room in rooms for entry in (package / room).rglob("*.py")), default=0)
    return f"{__version__}.{_FORM}.{SNAPSHOT_VERSION}.{SUMMARY_VERSION}.{newest}"
