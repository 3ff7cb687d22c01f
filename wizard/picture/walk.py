"""A translation as a walk to step through: one table after the other, the word that was read, its fields by name, and how it ended.

Walk
  steps    Stop: one thing that the SMMU did
  stages   the stations that the path leads over: stream table, context, stage 1, stage 2, memory
  event    the record that was written, with its fields; None where none was
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from wizard.arch import event
from wizard.arch.bits import Record
from wizard.arch.cd import CD, L1CD
from wizard.arch.descriptor import Stage1Leaf, Stage2Leaf, TableDescriptor
from wizard.arch.ste import L1STD, STE
from wizard.dryrun.model import Situation, Step

_RECORDS: dict[str, type[Record]] = {"ste": STE, "l1std": L1STD, "cd": CD, "l1cd": L1CD}
_DESCRIPTORS = (TableDescriptor, Stage1Leaf, Stage2Leaf)
_ADDRESS = 0xFFFF_FFFF_F000
_EVENT = re.compile(r"(\w+Event|Event)\((0x[0-9a-f]+)")
STATIONS = ("access", "STE", "CD", "stage 1", "stage 2", "memory", "fault")
"""Where a step belongs; ``memory`` is the output, ``fault`` the other end."""
_STATION = {
    "ste": "STE", "l1std": "STE", "config": "STE", "gbpa": "STE", "cd": "CD", "l1cd": "CD", "ipa": "stage 2", "done": "memory", "where": "memory",
    "fault": "fault", "event": "fault",
}  # fmt: skip


class Field(msgspec.Struct, frozen=True):
    """One field of a word: only those that are not zero, and valid bits."""

    name: str
    bits: str  # 63:59, or one bit
    value: str
    meaning: str
    doc: str


class Stop(msgspec.Struct, frozen=True):
    """One step."""

    number: int
    station: str
    what: str
    text: str
    address: str | None
    words: tuple[str, ...]
    record: str  # what the words are: STE, CD, TableDescriptor; empty where they are nothing that is declared
    fields: tuple[Field, ...]
    rest: tuple[tuple[str, str], ...]  # named numbers that are no field


class Walk(msgspec.Struct, frozen=True):
    """One access."""

    title: str
    outcome: str
    stops: tuple[Stop, ...]
    fault: int | None  # number of the step that it ended at

    @property
    def stations(self) -> tuple[str, ...]:
        """The stations in the order in which they are first met."""
        return tuple(dict.fromkeys(stop.station for stop in self.stops))

    @property
    def event(self) -> Stop | None:
        """The event record that was written last."""
        return next((stop for stop in reversed(self.stops) if stop.record.endswith("Event")), None)


def walk_of(title: str, outcome: str, steps: Sequence[Step]) -> Walk:
    """Steps of a trace as a walk."""
    stops = tuple(_stops(steps))
    fault = next((stop.number for stop in stops if stop.what == "fault"), None)
    return Walk(title, outcome, stops, fault)


_BETWEEN = frozenset({"guest", "command", "host", "kernel"})
"""Steps that are no part of an access: behind one they lead to the next."""


def walks_of(title: str, steps: Sequence[Step]) -> list[Walk]:
    """The trace of a scenario as walks: one for each access, with what was done before it."""
    groups: list[list[Step]] = [[]]
    for step in steps:
        accessed = any(one.what == "dma" for one in groups[-1])
        if accessed and (step.what == "dma" or step.what in _BETWEEN):
            groups.append([])
        groups[-1].append(step)
    return [walk_of(*_named(title, group), group) for group in groups if group]


def _named(title: str, steps: Sequence[Step]) -> tuple[str, str]:
    access = next((step.text for step in steps if step.what == "dma"), title)
    ends = [step.text for step in steps if step.what in ("fault", "done", "where")]
    return access, ends[-1] if ends else steps[-1].text


def walk_of_situation(function: str, iova: str, situation: Situation) -> Walk:
    """One access of ``trace_address``."""
    return walk_of(f"{situation.access} of {iova} by {function}, {situation.situation}", situation.outcome, situation.steps)


def _stops(steps: Sequence[Step]) -> Iterator[Stop]:
    for number, step in enumerate(steps):
        found = _EVENT.search(step.text) if step.what == "event" else None
        record = _record(step, found)
        fields = tuple(_fields(record))
        named = {one.name for one in fields}
        rest = tuple((name, value) for name, value in step.detail.items() if name not in named)
        text = step.text[: found.start(1)].rstrip(": ") + " event record" if found else step.text
        yield Stop(
            number, _station(step), step.what, text, step.address, step.words, type(record).__name__ if record is not None else "", fields, rest
        )


def _station(step: Step) -> str:
    if step.what in ("walk", "tlb", "httu"):
        return "stage 2" if "stage 2" in step.text else "stage 1"
    return _STATION.get(step.what, "access")


def _record(step: Step, found: re.Match[str] | None) -> Record | None:
    if found is not None:
        kind = getattr(event, found[1], event.Event)
        made: Record = kind(int(found[2], 16))
        return made
    layout = _RECORDS.get(step.what) or (_descriptor(step.text) if step.what == "walk" else None)
    return layout.of_words(int(word, 16) for word in step.words) if layout is not None and step.words else None


def _descriptor(text: str) -> type[Record] | None:
    if ": table" in text:
        return TableDescriptor
    if ": page" in text or ": block" in text:
        return Stage1Leaf if text.startswith("stage 1") else Stage2Leaf
    return None


def _fields(record: Record | None) -> Iterator[Field]:
    if record is None:
        return
    words = isinstance(record, _DESCRIPTORS)
    for name, content in record.fields().items():
        if name == "Wide" and words:
            continue  # of 64 KiB granules alone; for the others these are bits of the address
        if content or name == "V":
            placed = type(record).layout[name]
            bits = str(placed.lo) if placed.hi == placed.lo else f"{placed.hi}:{placed.lo}"
            yield Field(name, bits, f"{content:#x}", placed.meaning(content) or "", placed.doc)
    if words:
        yield Field("address", "47:12", f"{record.value & _ADDRESS:#x}", "", "of the next table, or what comes out")
    elif record.undeclared:
        yield Field("undeclared", "", f"{record.undeclared:#x}", "", "bits that the specification gives no name")
