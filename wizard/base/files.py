"""Files, written whole or not at all: temporary file in the same directory, fsync, rename.

A file belongs to whoever writes it, whatever stood in its place: no foreign owner, no set-id bit, no permission to write for group or others is
taken over, only what somebody narrowed. A link in its place is replaced, not followed; links on the way are ``wizard.base.directories``'.

Temporary files are called ``.smmu-wizard.TOKEN.N.tmp``, beside ``.smmu-wizard.TOKEN.lock``, which their writer holds locked. What a killed
writer leaves is therefore known by its lock, and goes with the next file that is written there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from wizard.base.directories import opened
from wizard.base.errors import OutputError, UsageError
from wizard.base.text import visible

PLAIN, SCRIPT, PRIVATE = 0o644, 0o700, 0o600
"""Modes: what anybody may read, what its owner runs, and what nobody else is to see."""

_OURS = re.compile(r"\.smmu-wizard\.([0-9a-f]{12})\.(lock|\d{1,6}\.tmp)")


def write_atomic(path: Path, data: bytes | str, *, force: bool = False, mode: int = PLAIN) -> None:
    """Write ``data`` to ``path`` so that a reader sees the old file or the new one, never a part.

    Raises ``UsageError`` when the file exists and ``force`` is not given, ``OutputError`` when it can't be written.
    """
    write_all({path: data}, force=force, modes={path: mode})


def write_all(files: Mapping[Path, bytes | str], *, force: bool = False, modes: Mapping[Path, int] | None = None) -> None:
    """Write several files: every one is complete on disk before the first takes its name.

    ``modes``: who may read and run each (``PLAIN`` unless it says otherwise); of an existing file what was narrowed stays narrow. The names
    are taken one after the other, so a crash between two renames leaves some files new and some old, each of them whole; a failure to
    write leaves none.
    """
    current = Path()
    try:
        with ExitStack() as stack:
            directories: dict[Path, int] = {}
            for path in files:
                current = path
                if path.parent not in directories:
                    directories[path.parent] = stack.enter_context(opened(path.parent))
                _replaceable(directories[path.parent], path, force)
            places = {parent: _Place(directory) for parent, directory in directories.items()}
            try:
                for place in places.values():
                    _remove_leftovers(place.directory)
                    place.lock()
                for path, data in files.items():
                    current = path
                    wanted = (modes or {}).get(path, PLAIN)
                    places[path.parent].stage(path.name, data.encode() if isinstance(data, str) else data, wanted)
                for path in files:
                    current = path
                    places[path.parent].take_name(path.name)
                for parent, directory in directories.items():
                    current = parent
                    os.fsync(directory)
            finally:
                _clear(places)
    except OSError as error:
        raise OutputError(
            f"{visible(str(current))} can't be written: {visible(str(error.strerror or error))}.",
            "Nothing was left half-written; name a directory that exists, is writable and has room.",
        ) from error


class _Place:
    """One directory that is written to: its temporary files, known before they are made, since an interrupt may fall between any two steps."""

    def __init__(self, directory: int) -> None:
        self.directory = directory
        self._token = os.urandom(6).hex()
        self._staged: dict[str, str] = {}
        self._lock = -1

    def lock(self) -> None:
        """Say that what is called by this token is being written."""
        self._lock = _locked(self.directory, f".smmu-wizard.{self._token}.lock")

    def stage(self, name: str, data: bytes, mode: int) -> None:
        temporary = self._staged[name] = f".smmu-wizard.{self._token}.{len(self._staged)}.tmp"
        before = _found(self.directory, name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(temporary, flags, mode, dir_fd=self.directory), "wb") as file:
            if before is not None and stat.S_ISREG(before.st_mode):
                # Its owner's own permissions are asked for anew; those of others stay where they were narrowed on purpose.
                os.fchmod(file.fileno(), mode & (0o700 | stat.S_IMODE(before.st_mode)) & ~0o022)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def take_name(self, name: str) -> None:
        os.replace(self._staged[name], name, src_dir_fd=self.directory, dst_dir_fd=self.directory)
        del self._staged[name]

    def clear(self) -> None:
        for temporary in (*self._staged.values(), f".smmu-wizard.{self._token}.lock"):
            with suppress(OSError):  # it was never made, or the directory is gone: there is nothing to take away
                os.unlink(temporary, dir_fd=self.directory)
        held, self._lock = self._lock, -1
        if held >= 0:
            os.close(held)


def _clear(places: Mapping[Path, _Place]) -> None:
    try:
        for place in places.values():
            place.clear()
    except BaseException:  # an interrupt in the middle of it
        for place in places.values():
            place.clear()
        raise


def _locked(directory: int, name: str) -> int:
    while True:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            # A file system without locks: nothing is ever taken for a leftover there, by the same error.
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                os.close(descriptor)
                raise
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # another writer took it for a leftover before it was locked


def _remove_leftovers(directory: int) -> None:
    left: dict[str, list[str]] = {}
    for name in os.listdir(directory):
        if match := _OURS.fullmatch(name):
            left.setdefault(match[1], []).append(name)
    for token, names in left.items():
        lock = f".smmu-wizard.{token}.lock"
        with suppress(OSError), _unheld(directory, lock):
            # The lock goes last: as long as it is there, nobody thinks these are without an owner.
            for name in sorted(names, key=lambda one: one == lock):
                found = _found(directory, name)
                if found is not None and stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
                    os.unlink(name, dir_fd=directory)


@contextmanager
def _unheld(directory: int, lock: str) -> Iterator[None]:
    """Within it nobody else holds the lock; BlockingIOError where somebody does. A lock that is gone is held by nobody."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        yield
        return
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), lock)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _replaceable(directory: int, path: Path, force: bool) -> None:
    # A rename would put a file in the place of a device: root's /dev/null would be gone.
    found = _found(directory, path.name or ".")
    if found is None:
        return
    if stat.S_IFMT(found.st_mode) not in (stat.S_IFREG, stat.S_IFLNK):
        raise OutputError(f"{visible(str(path))} is no file that could be replaced.", "Name a file, or leave -o away for standard output.")
    if not force:
        raise UsageError(f"{visible(str(path))} exists already.", "Give --force to replace it, or name another file.")


def _found(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
