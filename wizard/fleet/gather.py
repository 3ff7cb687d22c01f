"""From paths to summaries: found, read by as many workers as there are processors, remembered in the index, duplicates told.

Memory is bounded: a few hundred files are on their way at a time, and of each only its summary stays.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from wizard.base.errors import UsageError
from wizard.base.finding import Finding
from wizard.base.text import plural, visible
from wizard.facts.source import SUFFIXES
from wizard.fleet import codes
from wizard.fleet.entry import Entry, guarded, summary_of_entry
from wizard.fleet.index import Index, Spare, settle, stamp_of
from wizard.fleet.machines import Machine, Record, Traits, machines_of, order_of, when
from wizard.fleet.merge import SUFFIX as INDEX
from wizard.fleet.merge import entries_in
from wizard.fleet.objects import is_object, objects_in
from wizard.fleet.summary import HostSummary
from wizard.fleet.workers import read_here

OLD_DAYS = 30
"""Days after which a snapshot is called old, where nobody says."""

NAMED = (*SUFFIXES, ".json.zst")
"""Ends of names that are looked for in a directory. Not every Python can unpack the last: then that is said."""

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
        if is_object(argument):
            found |= dict.fromkeys(objects_in(argument, NAMED))
        elif os.path.isdir(argument):
            found |= dict.fromkeys(_inside(argument) or [argument])  # reading a directory as a file says what is wrong with it
        else:
            found[argument] = None
    return sorted(found)


def _inside(directory: str) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(directory) if entry.name.endswith(NAMED) and not entry.name.startswith(".")]
    except OSError:
        return []


def gather(
    paths: Sequence[str],
    *,
    index: Path | Index | Spare | None = None,
    read: Read | None = None,
    say: Callable[[str], None] | None = None,
    old_days: int | None = None,
) -> Fleet:
    """Every file's entry: from the index where it holds (closed at the end), else by ``read`` (default: processes of this machine).

    ``old_days``: a host whose snapshot is as old is said to be.
    """
    progress = Progress(len(paths), say, "snapshot", "read")
    known: dict[str, Entry] = {}
    store = Index(index) if isinstance(index, Path) else index
    try:
        known |= {path: _unnameable(path) for path in paths if not _is_utf8(path)}
        places = dict.fromkeys(path for path in paths if not path.endswith(INDEX))
        for source in (path for path in paths if path.endswith(INDEX)):
            for key, entry in _of_index(source).items():
                if key not in places:
                    places[key], known[key] = None, entry
        paths = list(places)
        if store is not None:
            known |= store.known(path for path in paths if path not in known)
        progress.step(len(known))
        missing = [path for path in paths if path not in known]
        stamps = {path: stamp_of(path) for path in missing} if store is not None else {}
        settle(stamps.values())
        with ExitStack() as stack:
            batches = (read or read_here)(missing)
            if isinstance(batches, Generator):
                stack.callback(batches.close)  # now, and with it its workers: not when somebody has read the traceback
            for batch in batches:
                known |= {entry.name: entry for entry in batch}
                if store is not None:
                    store.keep([(entry, stamps.get(entry.name)) for entry in batch])
                progress.step(len(batch))
    finally:
        progress.end()
        if store is not None:
            store.close()
    return _sorted_out([known[path] for path in paths], old_days)


def _of_index(path: str) -> dict[str, Entry]:
    """The entries of an index in place of snapshots; what is wrong with it, where it is none."""
    found = guarded(lambda: {key: entry for key, _, entry in entries_in(path)}, path)
    return found if isinstance(found, dict) else {path: Entry(path, problem=found[0], fix=found[1])}


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unnameable(path: str) -> Entry:
    """A name that neither JSON nor a profile can carry."""
    return Entry(visible(path), problem=f"The name of {visible(path)} is not UTF-8.", fix="Give the file another name.")


def _sorted_out(entries: list[Entry], old_days: int | None) -> Fleet:
    """Broken files, older records of one host, and machines of another architecture are named; the rest is the fleet."""
    findings: list[Finding] = []
    skipped: dict[str, int] = {}
    hosts: dict[str, list[Record]] = {}

    def leave(reason: str, finding: Finding) -> None:
        skipped[reason] = skipped.get(reason, 0) + 1
        findings.append(finding)

    for place, entry in enumerate(entries):
        if entry.summary is None:
            leave("unreadable", codes.UNREADABLE.at(visible(entry.name), problem=entry.problem, fix=entry.fix))
        elif entry.machine not in ("aarch64", "arm64", ""):
            leave("not arm64", codes.NOT_ARM.at(visible(entry.name), machine=visible(entry.machine)))
        else:
            # Without a machine-id serial numbers are redacted to numbers as they come: they can't be compared with another snapshot's.
            traits = entry.traits if entry.host else Traits(model=entry.traits.model)
            hosts.setdefault(entry.host or entry.digest, []).append(Record(place, traits, entry.digest, entry.summary, when(entry.time)))
    kept: list[Entry] = []
    for records in hosts.values():
        machines = machines_of(records)
        for machine in machines:
            newest, older, open_ = order_of(machine.records)
            name = visible(entries[newest.place].name)
            kept += [entries[record.place] for record in (newest, *open_)]
            for record in older:
                entry = entries[record.place]
                leave("duplicate", codes.DUPLICATE.at(visible(entry.name), newer=name, when=_how(entry, entries[newest.place])))
            for record in open_:
                how = "it is the same machine, but neither says which was recorded later, and they differ"
                findings.append(codes.UNSURE.at(visible(entries[record.place].name), other=name, how=how))
            findings += _shared(machine, machines, newest, entries)
    kept.sort(key=lambda entry: entry.name)
    findings += _ages(kept, old_days)
    return Fleet(tuple(kept), len(entries), tuple(findings), skipped)


def _shared(machine: Machine, machines: Sequence[Machine], newest: Record, entries: Sequence[Entry]) -> Iterator[Finding]:
    """What there is to say of a machine that has its machine-id not alone."""
    if len(machines) == 1:
        return
    name = visible(entries[newest.place].name)
    if machine.told:
        how = "by its serial numbers" if newest.traits.machine or newest.traits.serials else "of another model"
        yield codes.SHARED.at(name, others=plural(len(machines) - 1, "host"), how=how)
        return
    other = machines[0] if machines[0] is not machine else machines[1]
    one_id = entries[newest.place].host is not None
    how = "they have one machine-id, and nothing in them tells machines apart" if one_id else "neither has a machine-id, and they are alike"
    yield codes.UNSURE.at(name, other=visible(entries[other.records[0].place].name), how=how)


def _ages(entries: Iterable[Entry], old_days: int | None) -> Iterator[Finding]:
    if not old_days:
        return
    now = datetime.now(UTC)
    for entry in entries:
        time = when(entry.time)
        if time is not None and time < now - timedelta(days=old_days):
            yield codes.OLD.at(visible(entry.name), days=plural(old_days, "day"), time=visible(entry.time))
        elif time is not None and time > now + timedelta(days=1):
            yield codes.AHEAD.at(visible(entry.name), time=visible(entry.time))


def _how(older: Entry, newer: Entry) -> str:
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
