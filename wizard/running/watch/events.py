"""Event records of SMMUs as the kernel prints them, one after the other: whose they are, and where their address lies in the VM."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from wizard.facts.logtext import message
from wizard.host.log.events import EventReader
from wizard.host.log.lines import DRIVER, is_error, match, spoken
from wizard.host.log.model import Event
from wizard.running.watch.places import Map
from wizard.running.watch.records import Record, now

_SUPPRESSED = re.compile(r"(\w+): (\d+) callbacks suppressed")
_PROPAGATED = re.compile(r"(?:(\S{1,40}Z) |\d+@(\d+\.\d+):)?smmuv3_propagate_event.*?SMMU_EVT_(\w+).*?sid=(0x[0-9a-f]{1,8})")
_STAMP = re.compile(r"\[ *(\d+\.\d+)\] ")
_MANY = 500  # records that are kept back at most: their reader keeps 1000


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a function belongs to at this moment: the VM's name, and a map of it; both None for the host's own."""

    vm: str | None = None
    map: Map | None = None


@dataclass(slots=True)
class KernelEvents:
    """Lines of the kernel's log become records. ``owner`` says who has a function, ``function`` which one has a StreamID behind an SMMU's device.

    A record is printed on up to seven lines; while its end may still come it is kept back until ``flush``.
    """

    owner: Callable[[str], Owner]
    function: Callable[[str, int], str | None]
    smmu: Callable[[str], str]
    _reader: EventReader = field(default_factory=EventReader)
    _heard: float = 0.0
    _stamps: list[str | None] = field(default_factory=list)  # of the records that the reader has

    def ready(self) -> None:
        """Whatever names are looked up in is read now, and not while the first event waits."""
        self.smmu("")
        self.function("", 0)

    def read(self, lines: Sequence[str]) -> Iterator[Record]:
        """The records of some lines that are whole."""
        for raw in lines:
            text = message(raw)
            told = spoken(text) if text.startswith(DRIVER) else None
            if (told is not None and self._reader.read(told.device, told.text)) or (told is None and self._reader.bare(text)):
                self._stamped(raw)
                if len(self._reader.events) >= _MANY:
                    yield from self.whole()
                continue
            if (suppressed := _SUPPRESSED.search(text)) is not None and "smmu" in suppressed[1]:
                yield _lost(f"the kernel printed no more: {text}", int(suppressed[2]))
            elif told is not None and "EVTQ overflow" in told.text:
                yield _lost(f"{self.smmu(told.device)}: {told.text}", 1)
            elif (found := match(text, told)) is not None and is_error(found.kind):
                device = found.device or ""
                owner = self.owner(device)
                yield Record(
                    at=now(), source="kernel", kind=found.kind.leads_to.code, text=found.text, vm=owner.vm,
                    function=device if ":" in device else None, explain=f"smmu-wizard explain {found.kind.leads_to.code}",
                )  # fmt: skip

    @property
    def waits(self) -> bool:
        """Whether something is kept back."""
        return bool(self._reader.events or self._reader.pending)

    def _stamped(self, line: str) -> None:
        """The time of a line is that of the record that it completed, if it did."""
        self._heard = time.monotonic()
        missing = len(self._reader.events) - len(self._stamps)
        if missing > 0:
            stamp = _STAMP.match(line)
            self._stamps += [stamp[1] if stamp else None] * missing

    def whole(self) -> Iterator[Record]:
        """What is whole though more may come: in a flood nothing waits for its end."""
        stamps = {id(event): stamp for event, stamp in zip(self._reader.events, self._stamps, strict=True)}
        done = self._reader.take()
        self._stamps = [stamps[id(event)] for event in self._reader.events]
        for event in done:
            yield self._record(event, stamps[id(event)])

    def settled(self, seconds: float) -> bool:
        """Whether nothing came for so long that belongs to what is kept back; other lines may have."""
        return time.monotonic() - self._heard >= seconds

    def flush(self) -> Iterator[Record]:
        """What was kept back: nothing more came that belongs to it."""
        if not self.waits:
            return
        self._reader.finish()
        self._stamped("")
        found, self._stamps = list(zip(self._reader.take(all=True), self._stamps, strict=True)), []
        for event, stamp in found:
            yield self._record(event, stamp)

    def _record(self, event: Event, stamp: str | None) -> Record:
        stream = event.stream_id
        device = event.client or (self.function(event.smmu, stream) if stream is not None else None)
        owner = self.owner(device) if device is not None else Owner()
        fields = event.record.fields() if event.record is not None else {}
        stage = (2 if fields.get("S2") else 1) if event.whole and "S2" in fields else None
        address, ipa = fields.get("InputAddr"), fields.get("IPA") if stage == 2 else None
        wanted = ipa if ipa is not None else address
        map = owner.map if wanted is not None else None
        return Record(
            at=now(), source="kernel", kind=event.name, vm=owner.vm, function=device, smmu=self.smmu(event.smmu),
            text=_said(event, stage, address), stream=None if stream is None else f"{stream:#x}", stage=stage,
            address=None if address is None else f"{address:#x}", ipa=None if ipa is None else f"{ipa:#x}",
            place=map.where(wanted, stage) if map is not None and wanted is not None else None, layout=map.source if map is not None else None,
            stamp=stamp, explain=f"smmu-wizard explain {event.name}",
            trace=map.command(device, wanted) if map is not None and device is not None and wanted is not None else None,
        )  # fmt: skip


def _said(event: Event, stage: int | None, address: int | None) -> str:
    where = f" at {address:#x}" if address is not None else ""
    if stage is None:
        return f"{event.name}{where}"
    of = "stage 2, which QEMU maps" if stage == 2 else "stage 1 of the host: the function is not nested, or its guest's SMMU is off"
    return f"{event.name}{where}, {of}"


def _lost(text: str, count: int) -> Record:
    return Record(at=now(), source="kernel", kind="lost", text=text, count=count)


def propagated(lines: Sequence[str], vm: str, map: Map | None = None) -> Iterator[Record]:
    """Faults that QEMU handed to its guest, out of its log: only where its trace event smmuv3_propagate_event is on.

    QEMU says the StreamID that the guest knows, and no address (hw/arm/trace-events of 11.1: ``%s sid=0x%x``). With ``-msg timestamp=on`` its
    time stands before it: since 10.2 as ISO 8601, until then as seconds behind the process's number.
    """
    for text in lines:
        if (found := _PROPAGATED.search(text)) is not None:
            kind, stream = found[3], found[4]
            function = map.function(int(stream, 16)) if map is not None else None
            told = f"{kind} of the guest's StreamID {stream}, handed to the guest: its log has the address, QEMU's has not"
            yield Record(
                at=now(), source="qemu", kind=kind, text=told, vm=vm, function=function, stream=stream, stage=1, stamp=found[1] or found[2],
                layout=map.source if map is not None and function is not None else None, explain=f"smmu-wizard explain {kind}",
            )  # fmt: skip
