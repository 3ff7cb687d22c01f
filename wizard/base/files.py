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
    staged: list[tuple[Path, Path]] = []
    current = Path()
    try:
        for path, data in files.items():
            current = path
            staged.append((_stage(path, data.encode() if isinstance(data, str) else data, mode), path))
        for temporary, path in staged:
            current = path
            os.replace(temporary, path)
        for directory in {path.parent for path in files}:
            _sync_directory(directory)
    except BaseException as error:
        for temporary, _ in staged:
            with suppress(OSError):
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


def _stage(path: Path, data: bytes, mode: int) -> Path:
    # An existing file keeps its permissions: somebody may have narrowed them on purpose.
    with suppress(OSError):
        mode = stat.S_IMODE(path.stat().st_mode)
    temporary = path.parent / f".{path.name[:200]}.{os.urandom(6).hex()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    return temporary


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
