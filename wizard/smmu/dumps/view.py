"""What is said of a dump, as ``--json`` and as text. Numbers of addresses and registers are hexadecimal strings, as in ``translate``'s answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from msgspec import UNSET, Struct, UnsetType

from wizard.arch.event import EventType
from wizard.arch.ste import STE
from wizard.base.text import plural, size
from wizard.smmu.caseformat import Record
from wizard.smmu.cases import record_of
from wizard.smmu.dumps.audit import Flaw
from wizard.smmu.dumps.changes import Changed
from wizard.smmu.dumps.mappings import Mapped, Mappings
from wizard.smmu.dumps.state import Dump
from wizard.smmu.validity import stage1_on, stage2_on, ste_illegal


class StreamView(Struct):
    """One valid stream table entry. ``contexts`` counts its context descriptors that are valid or broken."""

    sid: str
    where: str
    config: str
    contexts: int
    vmid: int | None
    stage1: str | None
    stage2: str | None
    illegal: str | None


class RangeView(Struct):
    """``bytes`` from ``iova`` go to ``pa``; ``allowed`` names the permissions, ``memory`` the memory type that comes out."""

    iova: str
    bytes: int
    pa: str
    allowed: str
    memory: str


class UnknownView(Struct):
    """``bytes`` from ``iova`` whose table no image holds: whether they are mapped is not known."""

    iova: str
    bytes: int
    table: str
    stage: int


class MappedView(Struct):
    """What transactions of a StreamID, and of a SubstreamID where one is given, reach.

    ``everything`` is bypass; ``why`` says why they reach nothing, or why that is not known.
    """

    sid: str
    ssid: int | None
    everything: bool
    ranges: list[RangeView]
    unknown: list[UnknownView]
    why: str | None


class ReachView(Struct):
    """One way to the address that was asked for: the part of it that is reached, and from which input address."""

    sid: str
    ssid: int | None
    iova: str
    pa: str
    bytes: int
    allowed: str


class FlawView(Struct):
    """Something wrong; ``kind`` is illegal, inconsistent, exposed, open or unknown (``wizard.smmu.dumps.audit``)."""

    kind: str
    text: str
    where: str | None
    sid: str | None
    ssid: int | None


class ChangeView(Struct):
    """One difference between two dumps; ``before`` or ``after`` is empty where there was or is none."""

    what: str
    before: str
    after: str
    sid: str | None
    ssid: int | None


class DumpView(Struct):
    """What ``tables --json`` says. ``assumed`` are registers that the listing left out, with the value that was taken; one of the others is set."""

    enabled: bool
    assumed: dict[str, str]
    streams: list[StreamView] | UnsetType = UNSET
    mappings: list[MappedView] | UnsetType = UNSET
    reach: list[ReachView] | UnsetType = UNSET
    undecided: list[str] | UnsetType = UNSET
    flaws: list[FlawView] | UnsetType = UNSET
    events: list[Record] | UnsetType = UNSET
    unread: int | UnsetType = UNSET
    changes: list[ChangeView] | UnsetType = UNSET


def head(dump: Dump) -> DumpView:
    """What every answer begins with."""
    return DumpView(dump.enabled, {name: f"{dump.registers.values[name]:#x}" for name in dump.registers.assumed})


def streams(dump: Dump) -> list[StreamView]:
    """Every valid entry, by StreamID."""
    return [_stream(dump, sid) for sid in sorted(dump.inventory.entries)]


def _stream(dump: Dump, sid: int) -> StreamView:
    entry = dump.inventory.entries[sid]
    ste = entry.ste
    contexts = sum(one.ssid is not None or dump.inventory.substreams(ste) == 0 for one in dump.reached(sid)) if stage1_on(ste) else 0
    return StreamView(
        sid=f"{sid:#x}",
        where=f"{entry.where:#x}",
        config=STE.Config.codes.get(ste.Config, "abort"),
        contexts=contexts,
        vmid=ste.S2VMID if stage2_on(ste) else None,
        stage1=f"{ste.S1ContextPtr:#x}" if stage1_on(ste) else None,
        stage2=f"{ste.S2TTB:#x}" if stage2_on(ste) else None,
        illegal=ste_illegal(ste, dump.smmu.features),
    )


def mapped(found: Iterable[Mapped]) -> list[MappedView]:
    """The mappings of streams."""
    return [
        MappedView(
            sid=f"{one.reached.sid:#x}",
            ssid=one.reached.ssid,
            everything=one.everything,
            ranges=[RangeView(f"{r.iova:#x}", r.size, f"{r.pa:#x}", r.allowed, r.kind) for r in one.ranges],
            unknown=[UnknownView(f"{u.iova:#x}", u.size, f"{u.table:#x}", u.stage) for u in one.unknown],
            why=one.why or None,
        )
        for one in found
    ]


def reach(mappings: Mappings, address: int, count: int) -> tuple[list[ReachView], list[str]]:
    """Every stream that reaches one of ``count`` bytes from a physical ``address``, and of which streams that can't be said, with why."""
    found: list[ReachView] = []
    undecided: list[str] = []
    for one in mappings.all():
        sid, ssid = f"{one.reached.sid:#x}", one.reached.ssid
        whose = f"StreamID {sid}" + (f", SubstreamID {ssid}" if ssid is not None else "")
        if one.everything:
            found.append(ReachView(sid, ssid, f"{address:#x}", f"{address:#x}", count, "rw, untranslated"))
        if one.unknown or (one.why and one.reached.context is not None) or one.why.startswith("nothing answers"):
            undecided.append(f"{whose}: {one.why or f'no image holds {len(one.unknown)} of its tables'}")
        for part in one.ranges:
            low, high = max(address, part.pa), min(address + count, part.pa + part.size)
            if low < high:
                found.append(ReachView(sid, ssid, f"{part.iova + low - part.pa:#x}", f"{low:#x}", high - low, part.allowed))
    return found, undecided


def flaws(found: Iterable[Flaw]) -> list[FlawView]:
    """What an audit found."""
    return [FlawView(one.kind, one.text, _hex(one.where), _hex(one.sid), one.ssid) for one in found]


def changed(found: Iterable[Changed]) -> list[ChangeView]:
    """What two dumps differ in."""
    return [ChangeView(one.what, one.before, one.after, _hex(one.sid), one.ssid) for one in found]


def _hex(value: int | None) -> str | None:
    return None if value is None else f"{value:#x}"


def events(dump: Dump) -> tuple[list[Record], int]:
    """The records of the event queue, oldest first, and how many of the last were unread."""
    found, unread = dump.events()
    return [record_of(one) for one in found], unread


def lines(view: DumpView) -> Iterator[str]:
    """An answer as text."""
    if not view.enabled:
        yield "CR0.SMMUEN is 0: the tables are not in use."
    if view.assumed:
        yield "Assumed, since the listing leaves them out: " + ", ".join(f"{name} {value}" for name, value in view.assumed.items()) + "."
    if view.streams is not UNSET:
        yield from _stream_lines(view.streams)
    if view.mappings is not UNSET:
        for one in view.mappings:
            yield from _mapped_lines(one)
    if view.reach is not UNSET:
        for way in view.reach:
            yield f"{_whose(way.sid, way.ssid)}: {way.iova} goes to {way.pa}, {size(way.bytes)}, {way.allowed}"
        undecided = view.undecided or []
        yield from (f"not known: {one}" for one in undecided)
        if not view.reach and not undecided:
            yield "No stream reaches it."
    if view.flaws is not UNSET:
        yield from _flaw_lines(view.flaws)
    if view.events is not UNSET:
        yield from _event_lines(view.events, view.unread or 0)
    if view.changes is not UNSET:
        for change in view.changes:
            where = f"{_whose(change.sid, change.ssid)}: " if change.sid is not None else ""
            yield f"{where}{change.what}: {change.before or 'none'} → {change.after or 'none'}"
        if not view.changes:
            yield "Both say the same."


def _whose(sid: str | None, ssid: int | None) -> str:
    return f"StreamID {sid}" + (f" SubstreamID {ssid}" if ssid is not None else "")


def _stream_lines(found: list[StreamView]) -> Iterator[str]:
    for shut, group in groupby(found, lambda one: one.config == "abort"):
        if shut:
            yield from _aborts(list(group))
            continue
        for one in group:
            parts = [f"StreamID {one.sid}", one.config]
            parts += [f"VMID {one.vmid}"] if one.vmid is not None else []
            parts += [plural(one.contexts, "context descriptor")] if one.stage1 is not None else []
            parts += [f"stage 2 tables {one.stage2}"] if one.stage2 is not None else []
            parts += [f"ILLEGAL: {one.illegal}"] if one.illegal else []
            yield ", ".join(parts) + f"  (at {one.where})"
    if not found:
        yield "The stream table has no valid entry."


def _aborts(found: list[StreamView]) -> Iterator[str]:
    """Runs of entries that abort, as Linux fills whole level 2 tables with: a line each."""
    for _, run in groupby(enumerate(found), lambda pair: int(pair[1].sid, 0) - pair[0]):
        members = [one for _, one in run]
        names = f"StreamID {members[0].sid}" if len(members) == 1 else f"StreamIDs {members[0].sid} to {members[-1].sid}"
        yield f"{names}, abort"


def _mapped_lines(one: MappedView) -> Iterator[str]:
    yield _whose(one.sid, one.ssid) + (": everything, untranslated" if one.everything else f": {plural(len(one.ranges), 'range')}")
    if one.why:
        yield f"  {one.why}"
    for part in one.ranges:
        yield f"  {int(part.iova, 0):#018x}  {part.bytes:#12x}  {int(part.pa, 0):#014x}  {part.allowed:<12} {part.memory}"
    for lost in one.unknown:
        yield f"  {int(lost.iova, 0):#018x}  {lost.bytes:#12x}  not known: no image holds the stage {lost.stage} table at {lost.table}"


def _flaw_lines(found: list[FlawView]) -> Iterator[str]:
    for one in found:
        whose = f"{_whose(one.sid, one.ssid)}: " if one.sid is not None else ""
        yield f"{one.kind:<12} {whose}{one.text}" + (f"  (at {one.where})" if one.where is not None else "")
    if not found:
        yield "Nothing is wrong in what the images hold."


def _event_lines(found: list[Record], unread: int) -> Iterator[str]:
    for index, one in enumerate(found):
        mark = "unread  " if index >= len(found) - unread else "read    "
        name = EventType(one.type).name if one.type in set(EventType) else one.name
        where = f" at {one.addr}" if one.addr is not UNSET else ""
        yield f"{mark} {name} StreamID {one.sid:#x}" + (f" SubstreamID {one.ssid}" if one.ssv else "") + where
    if not found:
        yield "The event queue holds no record, or the listing does not say where it is."
