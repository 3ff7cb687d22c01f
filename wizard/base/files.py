"""Files, written whole or not at all: temporary file in the same directory, fsync, rename."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from wizard.base.errors import OutputError, UsageError
from wizard.base.text import visible


def write_atomic(path: Path, data: bytes | str, *, force: bool = False, mode: int = 0o644) -> None:
    """Write ``data`` to ``path`` so that a reader sees the old file or the new one, never a part.

    Raises ``UsageError`` when the file exists and ``force`` is not given, ``OutputError`` when it can't be written.
    """
    write_all({path: data}, force=force, mode=mode)


def write_all(files: Mapping[Path, bytes | str], *, force: bool = False, mode: int = 0o644) -> None:
    """Write several files: every one is complete on disk before the first takes its name.

    The names are taken one after the other, so a crash between two renames leaves some files new and some old, each
    of them whole; a failure to write leaves none.
    """
    for path in files:
        _replaceable(path, force)
    # Named before any of them is made: an interrupt may fall between any two steps below, and what it leaves has to be known.
    temporaries = {path: path.parent / f".{path.name[:200]}.{os.urandom(6).hex()}.tmp" for path in files}
    current = Path()
    try:
        for path, data in files.items():
            current = path
            _stage(temporaries[path], path, data.encode() if isinstance(data, str) else data, mode)
        for path, temporary in temporaries.items():
            current = path
            os.replace(temporary, path)
        for directory in {path.parent for path in files}:
            _sync_directory(directory)
    except BaseException as error:
        for temporary in temporaries.values():
            with suppress(OSError):  # most of them were never made, or have their name already
                temporary.unlink()
        if not isinstance(error, OSError):  # an interrupt, above all
            raise
        raise OutputError(
            f"{visible(str(current))} can't be written: {error.strerror or error}.",
            "Nothing was left half-written; name a directory that exists, is writable and has room.",
        ) from error


def _replaceable(path: Path, force: bool) -> None:
    # A rename would put a file in the place of a device: root's /dev/null would be gone.
    try:
        kind = stat.S_IFMT(path.lstat().st_mode)
    except OSError:
        return  # nothing is there, or writing will say why it can't be looked at
    if kind not in (stat.S_IFREG, stat.S_IFLNK):
        raise OutputError(f"{visible(str(path))} is no file that could be replaced.", "Name a file, or leave -o away for standard output.")
    if not force:
        raise UsageError(f"{visible(str(path))} exists already.", "Give --force to replace it, or name another file.")


def _stage(temporary: Path, path: Path, data: bytes, mode: int) -> None:
    # An existing file keeps its permissions, which somebody may have narrowed on purpose, and its owner when root saves for a user.
    before: os.stat_result | None = None
    with suppress(OSError):
        before = path.stat()
    if before is not None:
        mode = stat.S_IMODE(before.st_mode)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        if before is not None:
            if os.geteuid() == 0:
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fchmod(file.fileno(), mode)  # whatever the umask says
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
