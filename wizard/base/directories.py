"""Directories, opened so that nobody else leads this program somewhere else.

What root writes, root writes where the path says. A symbolic link is followed only where nobody but root and the caller could have put it:
in a directory that others can write to, one that somebody else owns ends the command (what fs.protected_symlinks of the kernel does in
sticky directories alone, Documentation/admin-guide/sysctl/fs.rst). Everything that follows happens through the open directory, so that a
link that is put on the way meanwhile changes nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LINKS = 40  # MAXSYMLINKS of the kernel
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class ForeignLink(OSError):
    """A link on the way that somebody else could have put there."""

    def __init__(self, name: str) -> None:
        super().__init__(errno.ELOOP, f"{name} is a symbolic link of somebody else, in a directory that others can write to", name)


def writable_by_others(found: os.stat_result) -> bool:
    """Whether a user who is neither root nor the caller can put a name into this directory."""
    return found.st_uid not in (0, os.geteuid()) or bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


@contextmanager
def opened(path: Path, *, make: int | None = None) -> Iterator[int]:
    """A descriptor of the directory; ``make`` makes what is missing of it, with that mode. OSError where it can't be opened."""
    descriptor = _walk(path, make)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make_directory(path: Path, mode: int = 0o777) -> None:
    """The directory and those above it, as ``mkdir -p`` makes them; OSError."""
    with opened(path, make=mode):
        pass


def _walk(path: Path, make: int | None) -> int:
    parts = list(reversed(path.parts))
    here = os.open("/" if path.is_absolute() else ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    links = 0
    try:
        while parts:
            name = parts.pop()
            if name == "/":
                above, here = here, os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                os.close(above)
                continue
            try:
                below = os.open(name, _PATH, dir_fd=here)
            except FileNotFoundError:
                if make is None:
                    raise
                os.mkdir(name, make, dir_fd=here)
                below = os.open(name, _PATH, dir_fd=here)
            found = os.fstat(below)
            if not stat.S_ISLNK(found.st_mode):
                above, here = here, below  # first known by its name, then the other closed: an interrupt may fall between
                os.close(above)
                if not stat.S_ISDIR(found.st_mode):
                    reason = errno.ENOTDIR if make is None else errno.EEXIST  # what mkdir would have said
                    raise OSError(reason, os.strerror(reason), str(path))
                continue
            os.close(below)
            links += 1
            if links > _LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            if found.st_uid not in (0, os.geteuid()) and writable_by_others(os.fstat(here)):
                raise ForeignLink(name)
            parts += reversed(Path(os.readlink(name, dir_fd=here)).parts)
        # To be listed and synced it has to be open for reading.
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
    finally:
        os.close(here)
