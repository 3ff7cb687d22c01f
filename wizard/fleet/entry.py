"""One file of a fleet: its summary, or why there is none. Pure: the bytes of a file in, a few kilobytes out."""

from __future__ import annotations

import os
import stat
import traceback
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import msgspec

from wizard.base.errors import InputError
from wizard.base.text import visible
from wizard.facts.model import Facts
from wizard.facts.snapshot import read_bounded
from wizard.facts.source import decode_recording
from wizard.fleet.summary import HostSummary, summary_of
from wizard.host.build import host_of


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """``summary`` is encoded (``summary_of_entry``), equal for hosts that are alike; None where ``problem`` and ``fix`` say what is wrong."""

    name: str
    summary: bytes | None = None
    host: str | None = None  # the same on each record of one host
    digest: str = ""
    time: str = ""
    machine: str = ""
    problem: str = ""
    fix: str = ""


Made = TypeVar("Made")

_DECODER = msgspec.msgpack.Decoder(HostSummary)


def entry_of(data: bytes, name: str) -> Entry:
    """The entry of a recording's bytes. Never raises: among 10,000 files one that is broken must not end the others."""
    return _entry(lambda: decode_recording(data, visible(name)), name)


def _entry(read: Callable[[], Facts], name: str) -> Entry:
    def make() -> Entry:
        host = host_of(read())
        summary = summary_of(host)
        return Entry(
            name,
            summary=msgspec.msgpack.encode(summary),
            host=host.facts.identity.host,
            digest=host.digest,
            time=host.facts.moment.time or "",
            machine=summary.machine,
        )

    found = guarded(make, name)
    return found if isinstance(found, Entry) else Entry(name, problem=found[0], fix=found[1])


def guarded(make: Callable[[], Made], name: str) -> Made | tuple[str, str]:
    """What is made of one file; or what is wrong with it and what to do, whatever went wrong: the other files are answered."""
    try:
        return make()
    except InputError as error:
        return error.what, error.fix
    except Exception as error:  # noqa: BLE001 (ours, not the file's: it is named like any other broken file, with the place to report)
        frame = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{visible(name)} can't be understood: an internal error ({type(error).__name__} at {Path(frame.filename).name}:{frame.lineno})."
        return what, "Please report it with this line; the other hosts are answered."


def entry_of_file(path: str) -> Entry:
    """The same of a file by its path: a snapshot, or a recording of umockdev."""
    try:
        data = content_of(path)
    except InputError as error:
        return Entry(path, problem=error.what, fix=error.fix)
    return entry_of(data, path)


def content_of(path: str) -> bytes:
    """The bytes of a snapshot, unpacked; InputError. A pipe in a directory of snapshots would be waited for; one of the shell's (`<(…)`) is read."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        mode = 0  # reading it says why
    if stat.S_ISDIR(mode) and os.access(path, os.R_OK | os.X_OK):
        raise InputError(
            f"{visible(path)} is a directory that holds no snapshot.", "Name files that `smmu-wizard record -o FILE` wrote, or a directory of them."
        )
    if (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)) and not path.startswith(("/dev/fd/", "/proc/")):
        raise InputError(f"{visible(path)} is a pipe or a device, not a file.", "Write what comes out of it to a file first.")
    return read_bounded(path)[0]


def entries_of_files(paths: tuple[str, ...]) -> list[Entry]:
    """Several files: what one worker is handed at a time."""
    return [entry_of_file(path) for path in paths]


def entries_of(files: tuple[tuple[str, bytes], ...]) -> list[Entry]:
    """Several files by name and content: what a worker on another machine is handed."""
    return [entry_of(data, name) for name, data in files]


def summary_of_entry(entry: Entry) -> HostSummary:
    """The summary of an entry that has one."""
    if entry.summary is None:
        raise ValueError(f"{entry.name} has no summary")
    return _decoded(entry.summary)


@lru_cache(maxsize=1024)
def _decoded(data: bytes) -> HostSummary:
    return _DECODER.decode(data)
