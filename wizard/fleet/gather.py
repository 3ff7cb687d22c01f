"""From paths to summaries: found, read by as many workers as there are processors, remembered in the index, duplicates told.

Memory is bounded: a few hundred files are on their way at a time, and of each only its summary stays.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from wizard.base.errors import ProgramError, UsageError
from wizard.base.finding import Finding
from wizard.base.text import plural, visible
from wizard.facts.source import SUFFIXES
from wizard.fleet import codes
from wizard.fleet.entry import Entry, Made, entries_of_files, summary_of_entry
from wizard.fleet.index import Index, Spare, settle, stamp_of
from wizard.fleet.summary import HostSummary

BATCH = 16  # files that a worker is handed at once
AHEAD = 4  # batches on their way for each worker
ROUND = 2048  # files that a worker process lives for: what it has piled up goes with it
ALONE = 24  # so few files are read before a second process would have started
TICK = 0.5  # seconds between two words about progress

Read = Callable[[Sequence[str]], Iterable[list[Entry]]]


@dataclass(frozen=True)
class Fleet:
    """The hosts that could be read, each once, in the order of their names; and what there is to say of the other files."""

    entries: tuple[Entry, ...]
    files: int
    findings: tuple[Finding, ...] = ()
    skipped: dict[str, int] = field(default_factory=dict)  # why -> how many files

    def summaries(self) -> Iterator[tuple[str, HostSummary]]:
        """Name and summary of each host, decoded one at a time."""
        for entry in self.entries:
            yield entry.name, summary_of_entry(entry)


def find(arguments: Iterable[str]) -> list[str]:
    """Files, and what lies in directories (``*.json``, also ``.gz`` and ``.xz``, ``*.umockdev``), sorted, each once."""
    found: dict[str, None] = {}
    for argument in arguments:
        if argument == "-":
            raise UsageError("Standard input can't be one of several snapshots: it can be read once.", "Write it to a file first.")
        if os.path.isdir(argument):
            found |= dict.fromkeys(_inside(argument) or [argument])  # reading a directory as a file says what is wrong with it
        else:
            found[argument] = None
    return sorted(found)


def _inside(directory: str) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(directory) if entry.name.endswith(SUFFIXES) and not entry.name.startswith(".")]
    except OSError:
        return []


def gather(
    paths: Sequence[str],
    *,
    index: Path | Index | Spare | None = None,
    read: Read | None = None,
    say: Callable[[str], None] | None = None,
) -> Fleet:
    """Every file's entry: from the index where it holds (closed at the end), else by ``read`` (default: processes of this machine)."""
    progress = Progress(len(paths), say, "snapshot", "read")
    known: dict[str, Entry] = {}
    store = Index(index) if isinstance(index, Path) else index
    try:
        known |= {path: _unnameable(path) for path in paths if not _is_utf8(path)}
        if store is not None:
            known |= store.known(path for path in paths if path not in known)
        progress.step(len(known))
        missing = [path for path in paths if path not in known]
        stamps = {path: stamp_of(path) for path in missing} if store is not None else {}
        settle(stamps.values())
        for batch in (read or read_here)(missing):
            known |= {entry.name: entry for entry in batch}
            if store is not None:
                store.keep([(entry, stamps.get(entry.name)) for entry in batch])
            progress.step(len(batch))
    finally:
        progress.end()
        if store is not None:
            store.close()
    return _sorted_out([known[path] for path in paths])


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unnameable(path: str) -> Entry:
    """A name that neither JSON nor a profile can carry."""
    return Entry(visible(path), problem=f"The name of {visible(path)} is not UTF-8.", fix="Give the file another name.")


def read_here(paths: Sequence[str]) -> Iterator[list[Entry]]:
    """By processes of this machine, in order; in this very process when there are few files."""
    return spread(paths, entries_of_files)


def spread(paths: Sequence[str], work: Callable[[tuple[str, ...]], list[Made]]) -> Iterator[list[Made]]:
    """``work`` done to every file, in order, by as many processes as there are processors; ``work`` is a function of a module."""
    if len(paths) <= ALONE:
        for path in paths:
            yield work((path,))
        return
    for first in range(0, len(paths), ROUND):
        yield from _round(paths[first : first + ROUND], work)


def _round(paths: Sequence[str], work: Callable[[tuple[str, ...]], list[Made]]) -> Iterator[list[Made]]:
    batches = deque(tuple(paths[at : at + BATCH]) for at in range(0, len(paths), BATCH))
    workers = min(len(os.sched_getaffinity(0)), len(batches))
    # "spawn": the workers get nothing of this process but the module's name, whatever threads or files it has open.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting: deque[Future[list[Made]]] = deque()
        try:
            while batches or waiting:
                with _held_back():
                    while batches and len(waiting) < workers * AHEAD:
                        waiting.append(pool.submit(work, batches.popleft()))
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            fix = "The machine may be out of memory: give it fewer snapshots at a time."
            raise ProgramError("A worker process ended without an answer.", fix) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _held_back() -> Iterator[None]:
    """Ctrl-C goes to the whole process group: workers, which start here and inherit the mask, leave it to us, whatever they are doing."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _sorted_out(entries: list[Entry]) -> Fleet:
    """Broken files, older records of one host, and machines of another architecture are named; the rest is the fleet."""
    findings: list[Finding] = []
    skipped: dict[str, int] = {}
    newest: dict[str, Entry] = {}
    order: list[str] = []

    def leave(reason: str, finding: Finding) -> None:
        skipped[reason] = skipped.get(reason, 0) + 1
        findings.append(finding)

    for entry in entries:
        if entry.summary is None:
            leave("unreadable", codes.UNREADABLE.at(visible(entry.name), problem=entry.problem, fix=entry.fix))
            continue
        if entry.machine not in ("aarch64", "arm64", ""):
            leave("not arm64", codes.NOT_ARM.at(visible(entry.name), machine=visible(entry.machine)))
            continue
        key = entry.host or entry.digest
        kept = newest.get(key)
        if kept is None:
            order.append(key)
            newest[key] = entry
            continue
        newer, older = (entry, kept) if entry.time > kept.time else (kept, entry)
        newest[key] = newer
        leave("duplicate", codes.DUPLICATE.at(visible(older.name), newer=visible(newer.name), when=_when(older, newer)))
    return Fleet(tuple(sorted((newest[key] for key in order), key=lambda entry: entry.name)), len(entries), tuple(findings), skipped)


def _when(older: Entry, newer: Entry) -> str:
    if not older.host:
        return "neither says whose it is, and their facts are the same"
    if older.time and newer.time and older.time != newer.time:
        return f"recorded {visible(newer.time)}, after {visible(older.time)}"
    return "recorded at the same time, as far as they say"


class Progress:
    """A line on standard error, often where a person looks at it, seldom in a log, none for a handful of files."""

    def __init__(self, total: int, say: Callable[[str], None] | None, noun: str, verb: str) -> None:
        self.total, self.done, self.say = total, 0, say
        self.noun, self.verb = noun, verb
        self.live = say is not None and sys.stderr.isatty()
        self.told = time.monotonic() + (TICK if self.live else 4 * TICK)
        self.shown = False

    def step(self, count: int) -> None:
        """So many more."""
        self.done += count
        now = time.monotonic()
        if self.say is None or now < self.told:
            return
        self.told = now + (TICK if self.live else 10 * TICK)
        text = f"{self.done} of {plural(self.total, self.noun)} {self.verb}"
        if self.live:
            print(f"\r{text} ", end="", file=sys.stderr, flush=True)
            self.shown = True
        else:
            self.say(text)

    def end(self) -> None:
        """Take the line away."""
        if self.shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
