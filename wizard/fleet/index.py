"""An index of summaries, so that a second question reads no snapshot again: SQLite, one row a file.

A row holds as long as the file's size, times and inode, and the program that made it, are the same. It is a cache: losing it costs time only,
and it is believed only as far: it lies in a directory that nobody else can write to, no link leads to it, its tables are the ones declared here to
the letter (a view could answer for ever), and each row has a checksum. What is ours and damaged is made anew.
A database of somebody else's is never written to: ours says so in its header (``application_id``).
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import msgspec

from wizard import __version__
from wizard.base.directories import opened, writable_by_others
from wizard.base.errors import OutputError
from wizard.base.places import own
from wizard.base.text import visible
from wizard.facts.model import VERSION as SNAPSHOT_VERSION
from wizard.fleet.entry import Entry
from wizard.fleet.summary import VERSION as SUMMARY_VERSION

APPLICATION = 0x534D4D55  # "SMMU"
TICK = 0.02
"""Seconds in which a file may change twice with one time: the kernel's clock for files stands still for up to a jiffy, 10 ms at HZ=100."""

_FORM = 4
_ENTRY = msgspec.msgpack.Decoder(Entry)
TABLES = {
    "files": "CREATE TABLE files (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, entry BLOB NOT NULL, sum BLOB NOT NULL) WITHOUT ROWID",
    "made_by": "CREATE TABLE made_by (program TEXT NOT NULL)",
}
_PASSING = (
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN),
    *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT),
)
_ROW_LIMIT = 16 << 20  # bytes; a summary has a few thousand


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
    """Open for the length of one command. Raises OutputError when it can't be opened or written, or is somebody else's.

    ``spare``: nobody named it, so whatever stands in its place may be replaced.
    """

    def __init__(self, path: Path, *, spare: bool = False) -> None:
        self.path = path
        self._spare = spare
        self._kept: set[str] = set()  # directories
        try:
            self._db = self._opened()
        except Damaged:
            self._remove_damaged()
            self._db = self._opened()

    def _opened(self) -> sqlite3.Connection:
        with self._named():
            found = self._file()
            database = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            try:
                if (now := os.lstat(self.path)) and (now.st_dev, now.st_ino) != (found.st_dev, found.st_ino):
                    raise self._unfit("was put in another's place while it was opened")
                database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _ROW_LIMIT)
                database.execute("PRAGMA trusted_schema = OFF")
                # Nothing waits for the disk: what a power failure leaves half-written fails a checksum, or SQLite, and is made anew.
                database.execute("PRAGMA synchronous = OFF")
                with self._transaction(database, "BEGIN"):  # one look: between two, another process may make it
                    whole = self._is_whole(database)
                if not whole:
                    self._make(database)
            except BaseException:
                database.close()
                raise
        return database

    def _file(self) -> os.stat_result:
        """The file, made where it is missing: the caller's own, in a directory that nobody else can write to, and no link."""
        with opened(self.path.parent, make=0o700) as directory:
            if writable_by_others(os.fstat(directory)):
                raise self._unfit("would be in a directory that others can write to")
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(self.path.name, flags, 0o600, dir_fd=directory)
            try:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
                    raise self._unfit("is no file, or not only yours")
                os.fchmod(descriptor, 0o600)
            finally:
                os.close(descriptor)
        return found

    def _unfit(self, why: str) -> OutputError:
        return OutputError(
            f"The index {visible(str(self.path))} {why}.",
            "Name another file with --index FILE in a directory of your own, or do without it: --no-index.",
        )

    def _is_whole(self, database: sqlite3.Connection) -> bool:
        ours = _answer(database, "PRAGMA application_id") == APPLICATION
        # Nothing but their text is looked at before the tables are known to be ours: what a view does it does when it is asked.
        rows = database.execute("SELECT name, sql FROM sqlite_master").fetchall()
        if not rows:
            return False
        if not ours:
            raise OutputError(
                f"{visible(str(self.path))} is a database of another program, and no index of smmu-wizard.",
                "Name another file with --index FILE, or do without it: --no-index.",
            )
        if sorted(map(str, rows)) != sorted(map(str, TABLES.items())):
            raise Damaged(f"The index {visible(str(self.path))} has not the tables that it should have.", "Delete it.")
        return _answer(database, "SELECT program FROM made_by LIMIT 1") == _program()

    def _make(self, database: sqlite3.Connection) -> None:
        with self._writing(database):
            if self._is_whole(database):  # another process was quicker
                return
            for kind, name in database.execute("SELECT type, name FROM sqlite_master WHERE type IN ('table', 'view')").fetchall():
                database.execute(f'DROP {kind} "{str(name).replace(chr(34), chr(34) * 2)}"')
            for statement in (*TABLES.values(), f"PRAGMA application_id = {APPLICATION}"):
                database.execute(statement)
            database.execute("INSERT INTO made_by VALUES (?)", (_program(),))

    def _remove_damaged(self) -> None:
        """Of what is ours by its header nothing is worth keeping; what is not, and has been named, stays as it is."""
        with self._named(), opened(self.path.parent) as directory:
            name = self.path.name
            if not self._spare and not _is_ours(directory, name):
                raise OutputError(
                    f"The index {visible(str(self.path))} can't be used: file is not a database.",
                    "Delete it, name another file with --index FILE, or do without it: --no-index.",
                )
            # What a killed writer left beside it belongs to the damaged one: SQLite would play it into the new one.
            for one in (f"{name}-journal", f"{name}-wal", f"{name}-shm", name):
                with suppress(FileNotFoundError):
                    os.unlink(one, dir_fd=directory)

    def _anew(self) -> None:
        self._db.close()
        self._remove_damaged()
        self._db = self._opened()

    def _writing(self, database: sqlite3.Connection) -> AbstractContextManager[None]:
        """All or nothing; another process waits."""
        return self._transaction(database, "BEGIN IMMEDIATE")

    @contextmanager
    def _transaction(self, database: sqlite3.Connection, begin: str) -> Iterator[None]:
        database.execute(begin)
        try:
            yield
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors by the name of the file, with the next step."""
        try:
            yield
        except (OSError, sqlite3.Error, msgspec.DecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            # SQLite's own: what is wrong with the file, or only with the moment (its primary result code, sqlite.org/rescode.html).
            passing = isinstance(error, OSError) or getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _PASSING
            kind = OutputError if passing else Damaged
            raise kind(
                f"The index {visible(str(self.path))} can't be used: {visible(reason)}.",
                "Delete it, name another file with --index FILE, or do without it: --no-index.",
            ) from error

    def close(self) -> None:
        """Let go of the file; of the directories that were read, rows of files that are gone go first."""
        try:
            if self._kept:
                with suppress(Damaged), self._named(), self._writing(self._db):  # the next command finds it damaged, and makes it anew
                    for directory in sorted(self._kept):
                        rows = self._db.execute("SELECT path FROM files WHERE path > ? AND path < ?", (f"{directory}/", f"{directory}0")).fetchall()
                        self._db.executemany("DELETE FROM files WHERE path = ?", [row for row in rows if not os.path.lexists(row[0])])
        finally:
            self._db.close()

    def known(self, paths: Iterable[str]) -> dict[str, Entry]:
        """The entries of those files that have not changed since they were read; none of an index that is damaged, which is made anew."""
        try:
            return self._known(paths)
        except Damaged:
            self._anew()
            return {}

    def _known(self, paths: Iterable[str]) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        with self._named():
            for path in paths:
                key = _key(path)
                row = self._db.execute("SELECT stamp, entry, sum FROM files WHERE path = ?", (key,)).fetchone()
                if row is None:
                    continue
                stamp, data, checksum = row
                if not isinstance(stamp, str) or not isinstance(data, bytes) or checksum != checksum_of(key, stamp, data):
                    raise Damaged(f"The index {visible(str(self.path))} has a damaged row.", "Delete it.")
                if stamp == stamp_of(path):
                    entry = _ENTRY.decode(data)
                    found[path] = entry if entry.name == path else msgspec.structs.replace(entry, name=path)
        return found

    def keep(self, entries: Iterable[tuple[Entry, str | None]], *, tidy: bool = True) -> None:
        """Store entries with the stamps that their files had before they were read. ``tidy``: rows beside them whose files are gone go in the end."""
        told = [(_key(entry.name), stamp, msgspec.msgpack.encode(entry)) for entry, stamp in entries if stamp is not None]
        rows = [(*row, checksum_of(*row)) for row in told]
        try:
            self._store(rows)
        except Damaged:
            self._anew()
            self._store(rows)
        if tidy:
            self._kept |= {os.path.dirname(row[0]) for row in rows}

    def _store(self, rows: list[tuple[str, str, bytes, bytes]]) -> None:
        with self._named(), self._writing(self._db):
            self._db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)


class Spare:
    """The index that nobody named: where it fails that is said once, and the question is answered without it."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._say = say
        self._index: Index | None = None
        try:
            self._index = Index(path, spare=True)
        except OutputError as error:
            self._gone(error)

    def _gone(self, error: OutputError) -> None:
        self._index = None
        self._say(f"{error.what} Every snapshot is read anew.")

    def known(self, paths: Iterable[str]) -> dict[str, Entry]:
        """As ``Index.known``; nothing where it fails."""
        try:
            return self._index.known(paths) if self._index else {}
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


def _answer(database: sqlite3.Connection, question: str) -> object:
    row = database.execute(question).fetchone()
    return row[0] if row else None


def _is_ours(directory: int, name: str) -> bool:
    """By the header alone: the magic and the application id (sqlite.org/fileformat2.html, 1.3)."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        header = os.read(descriptor, 100)
    finally:
        os.close(descriptor)
    return header[:16] == b"SQLite format 3\0" and header[68:72] == APPLICATION.to_bytes(4, "big")


def checksum_of(key: str, stamp: str, data: bytes) -> bytes:
    """Against damage that SQLite does not see, in a row's own bytes."""
    return hashlib.blake2b(b"\0".join((key.encode(), stamp.encode(), data)), digest_size=16).digest()


def _key(path: str) -> str:
    # A path that is not UTF-8 has surrogates, which SQLite's text can't hold.
    return os.path.abspath(path).encode("utf-8", "backslashreplace").decode()


def made_by(program: str | None = None) -> str:
    """What of a program's name has to be the same for another's summaries to be believed: version and formats, not the times of its files."""
    return ".".join((program or _program()).split(".")[:-1])


def _program() -> str:
    """What decides what a summary says: the formats, and the very code that reads and judges."""
    package = Path(__file__).resolve().parents[1]
    rooms = ("arch", "base", "facts", "host", "plan", "fleet")
    newest = max((entry.stat().st_mtime_ns for room in rooms for entry in (package / room).rglob("*.py")), default=0)
    return f"{__version__}.{_FORM}.{SNAPSHOT_VERSION}.{SUMMARY_VERSION}.{newest}"
