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
from wizard.facts.model import PASTE, Facts
from wizard.facts.snapshot import digest, read_bounded
from wizard.facts.source import SUFFIXES, decode_recording
from wizard.fleet.likeness import summary_like
from wizard.fleet.machines import Traits, traits_of
from wizard.fleet.objects import is_object, read_object
from wizard.fleet.summary import HostSummary
from wizard.fleet.summaryfile import SummaryFile, is_summary, read_summary, write_summary

LIMIT = 8 << 20
"""Bytes of a summary; most hosts have a few thousand, one with 65,536 functions 2 MiB."""

_AGAIN = "Record the host again with `smmu-wizard record -o FILE`; the other hosts are answered."


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """``summary`` is encoded (``summary_of_entry``), equal for hosts that are alike; None where ``problem`` and ``fix`` say what is wrong."""

    name: str
    summary: bytes | None = None
    host: str | None = None  # the same on each record of one host
    digest: str = ""
    time: str = ""
    machine: str = ""  # its architecture, as uname names it
    problem: str = ""
    fix: str = ""
    traits: Traits = Traits()


Made = TypeVar("Made")

_DECODER = msgspec.msgpack.Decoder(HostSummary)


def entry_of(data: bytes, name: str) -> Entry:
    """The entry of a recording's or a summary's bytes. Never raises: among 10,000 files one that is broken must not end the others."""

    def make() -> Entry:
        return _of_summary(read_summary(data, name), name) if is_summary(data) else _of_facts(facts_in(data, name), name)

    found = guarded(make, name)
    return found if isinstance(found, Entry) else Entry(name, problem=found[0], fix=found[1])


def facts_in(data: bytes, name: str) -> Facts:
    """What a recording of this name holds; InputError, also where a file called a snapshot is text that a host could be read out of."""
    facts = decode_recording(data, visible(name))
    if facts.origin == PASTE and name.endswith(SUFFIXES):
        raise InputError(f"{visible(name)} is not a snapshot of smmu-wizard, but text that was found in one, or of another kind.", _AGAIN)
    return facts


def facts_of_file(path: str) -> Facts:
    """The facts in a file, or an object in storage; InputError."""
    return decode_recording(content_of(path), visible(path))


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


def _of_summary(one: SummaryFile, name: str) -> Entry:
    data = _encoded(one.summary, name)
    return Entry(name, summary=data, host=one.host, digest=one.digest, time=one.time, machine=one.machine, traits=one.traits)


def summary_file(data: bytes) -> bytes:
    """The summary of a snapshot's bytes, as a file; InputError where there is none."""
    entry = entry_of(data, "the snapshot")
    if entry.summary is None:
        raise InputError(entry.problem, entry.fix)
    return write_summary(
        SummaryFile(
            host=entry.host,
            digest=entry.digest,
            time=entry.time,
            machine=entry.machine,
            traits=entry.traits,
            summary=summary_of_entry(entry),
        )
    )


def _encoded(summary: HostSummary, name: str) -> bytes:
    try:
        data = msgspec.msgpack.encode(summary)
    except OverflowError as error:
        raise InputError(f"{visible(name)} has a number that no host can have.", _AGAIN) from error
    if len(data) > LIMIT:
        raise InputError(f"{visible(name)} has more than any host: its summary passes {LIMIT >> 20} MiB.", _AGAIN)
    return data


def _of_facts(facts: Facts, name: str) -> Entry:
    """The entry of a host; InputError where its summary is beyond what any host has."""
    summary = summary_like(facts)
    data = _encoded(summary, name)
    return Entry(
        name,
        summary=data,
        host=facts.identity.host,
        digest=digest(facts),
        time=facts.moment.time or "",
        machine=summary.machine,
        traits=traits_of(facts),
    )


def entry_of_file(path: str, name: str | None = None) -> Entry:
    """The same of a file by its path: a snapshot, or a recording of umockdev. ``name`` is what it is called, where that is not its path."""
    name = name or path
    try:
        data = content_of(path, name)
    except InputError as error:
        return Entry(name, problem=error.what, fix=error.fix)
    return entry_of(data, name)


def content_of(path: str, name: str | None = None) -> bytes:
    """The bytes of a snapshot, unpacked; InputError. What is no file is never waited for, but for a pipe of the shell's own (`<(…)`)."""
    shown = visible(name or path)
    if is_object(path):
        return read_object(path)
    before = _status(path)
    if before is None or path.startswith(("/dev/fd/", "/proc/")):
        return read_bounded(path, name=name)[0]  # it says why
    if stat.S_ISDIR(before.st_mode) and os.access(path, os.R_OK | os.X_OK):
        raise InputError(
            f"{shown} is a directory that holds no snapshot.", "Name files that `smmu-wizard record -o FILE` wrote, or a directory of them."
        )
    for is_kind, kind in _NO_FILES:
        if is_kind(before.st_mode):
            raise InputError(f"{shown} is a {kind}, not a file.", "Write what comes out of it to a file first.")
    data = read_bounded(path, name=name)[0]
    if (after := _status(path)) is None or _stamp(after) != _stamp(before):
        raise InputError(f"{shown} is being written: it changed while it was read.", "Ask again when whoever writes it is done.")
    return data


_NO_FILES = ((stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"), (stat.S_ISCHR, "device"), (stat.S_ISBLK, "device"))


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None


def _stamp(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def entries_of_files(paths: tuple[str, ...]) -> list[Entry]:
    """Several files: what one worker is handed at a time."""
    return [entry_of_file(path) for path in paths]


def summary_of_entry(entry: Entry) -> HostSummary:
    """The summary of an entry that has one."""
    if entry.summary is None:
        raise ValueError(f"{entry.name} has no summary")
    return _decoded(entry.summary)


@lru_cache(maxsize=1024)
def _decoded(data: bytes) -> HostSummary:
    return _DECODER.decode(data)
