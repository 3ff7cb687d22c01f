"""Event records out of a kernel log: the words, and the decoding that newer kernels print behind them.

arm_smmu_dump_event(), drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c. Until 6.12 a record is a line ``event 0x10 received:`` and one line for each
of its four words; since 6.13 two lines with names and fields follow. A paste may hold either part alone.
"""

from __future__ import annotations

import re
from collections import Counter

import msgspec

from wizard.arch import event as arch
from wizard.arch.command import Command, StreamCommand
from wizard.base.pattern import later
from wizard.host.log.model import Event

_KEPT = 1000  # event records that are kept one by one; beyond, they are only counted
_WORDS = later(r"0x[0-9a-f]{16}(?:\s+0x[0-9a-f]{16}){0,3}")
_RECEIVED = later(r"event (0x[0-9a-f]{1,8}) received:\s*(.*)", re.DOTALL)
_NAMED = later(
    r"event: (?P<name>\w{1,40}) client: (?P<client>\(unassigned sid\)|\S{1,128}) sid: (?P<sid>0x[0-9a-f]{1,8}|0) ssid: (?P<ssid>0x[0-9a-f]{1,5}|0)"
    r"(?: iova: (?P<iova>0x[0-9a-f]{1,16}|0))?(?: ipa: (?P<ipa>0x[0-9a-f]{1,16}|0))?(?: fetch_addr: (?P<fetch>0x[0-9a-f]{1,16}|0))?"
)
_FIELDS = later(
    r"(?P<priv>un)?priv (?P<kind>data|inst) (?P<way>read|write) s(?P<stage>[12]) \"(?P<cls>[^\"]{1,60})\"(?P<ttd> ttd_(?:read|write))?"
    r"(?P<stall> stall)? stag: (?P<stag>0x[0-9a-f]{1,4}|0)"
)
_CLASSES = {"CD fetch": 0, "Stage 1 translation table fetch": 1, "Input address caused fault": 2, "Reserved": 3}  # event_class_str
_SKIPPING = "skipping command in error state"
_UNASSIGNED = "(unassigned sid)"


class EventReader:
    """The records that have been understood so far; only while a log is read."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.counts: dict[tuple[str, int, int | None], int] = {}
        self.commands: list[tuple[str, str]] = []  # (SMMU, command that it refused, in words)
        self._open: dict[str, tuple[int, list[int]]] = {}  # SMMU -> event number and the words printed so far
        self._skipped: dict[str, list[int]] = {}  # SMMU -> the words of a refused command
        self._last: dict[str, Event] = {}  # SMMU -> its last complete event, which named lines speak of
        self._place: dict[str, int] = {}  # SMMU -> where that one is kept
        self._speaker: str | None = None

    def read(self, device: str, text: str) -> bool:
        """Take one line of an SMMU's driver; False when it is no part of a record."""
        if _WORDS.fullmatch(text):
            self._words(device, text)
            return True
        if received := _RECEIVED.match(text):
            self.close(device)
            self._open[device] = (int(received[1], 16), [])
            self._speaker = device
            if _WORDS.fullmatch(received[2].strip()):  # a paste that lost its line ends
                self._words(device, received[2].strip())
            return True
        self.close(device)
        self._skipped.pop(device, None)
        if text.startswith(_SKIPPING):
            self._skipped[device] = []
            self._speaker = device
            return True
        if named := _NAMED.match(text):
            self._named(device, named)
            return True
        if fields := _FIELDS.match(text):
            self._fields(device, fields)
            return True
        return False

    @property
    def speaking(self) -> bool:
        """Whether an SMMU has begun to print words, which may go on on lines without its name."""
        return self._speaker is not None

    @property
    def pending(self) -> bool:
        """Whether a record, or a command that was refused, is being printed."""
        return bool(self._open or self._skipped)

    def bare(self, text: str) -> bool:
        """Take a line that is nothing but words, with no driver before them: they belong to who spoke last."""
        if self._speaker is None or not _WORDS.fullmatch(text.strip()):
            return False
        self._words(self._speaker, text.strip())
        return True

    def finish(self) -> None:
        """The log is over."""
        for device in list(self._open):
            self.close(device)

    def take(self, *, all: bool = False) -> list[Event]:
        """The records that no line to come belongs to, which are forgotten here: those that are kept but the last of each SMMU.

        ``all``: the last ones too. A line that comes for them all the same makes no second record, and changes none that was taken.
        """
        may_change = set() if all else set(self._place.values())
        done = [event for place, event in enumerate(self.events) if place not in may_change]
        kept = [event for place, event in enumerate(self.events) if place in may_change]
        self.events, self._place = kept, {event.smmu: place for place, event in enumerate(kept)}
        self.counts = dict(Counter((event.smmu, event.number, event.stream_id) for event in kept))
        if all:
            self._skipped.clear()
        return done

    def _words(self, device: str, text: str) -> None:
        words = [int(word, 16) for word in text.split()]
        if device in self._open:
            kept = self._open[device][1]
            kept += words
            if len(kept) >= 4:
                self.close(device)
        elif device in self._skipped:
            kept = self._skipped[device]
            kept += words
            if len(kept) >= 2:
                self.commands.append((device, _command(self._skipped.pop(device)[:2])))

    def close(self, device: str) -> None:
        """The event that is being printed is over: with all its words, or cut short."""
        opened = self._open.pop(device, None)
        if opened is None:
            return
        number, words = opened
        record = arch.decode(arch.Event.of_words(words).value) if len(words) == 4 else None
        self._add(Event(device, number, record, None))

    def _add(self, event: Event) -> None:
        key = (event.smmu, event.number, event.stream_id)
        self.counts[key] = self.counts.get(key, 0) + 1
        self._last[event.smmu] = event
        self._place.pop(event.smmu, None)
        if len(self.events) < _KEPT:
            self._place[event.smmu] = len(self.events)
            self.events.append(event)

    def _change(self, old: Event, new: Event) -> None:
        if old.stream_id != new.stream_id and (old.smmu, old.number, old.stream_id) in self.counts:
            key = (old.smmu, old.number, old.stream_id)
            self.counts[key] -= 1
            if not self.counts[key]:
                del self.counts[key]
            key = (new.smmu, new.number, new.stream_id)
            self.counts[key] = self.counts.get(key, 0) + 1
        self._last[new.smmu] = new
        place = self._place.get(new.smmu)
        if place is not None:
            self.events[place] = new

    def _named(self, device: str, named: re.Match[str]) -> None:
        client = None if named["client"] == _UNASSIGNED else named["client"]
        number = next((kind.value for kind in arch.EventType if kind.name == named["name"]), None)
        last = self._last.get(device)
        same = last is not None and last.client is None and not last.named and (number is None or last.number == number)
        if last is not None and same and last.stream_id in (None, int(named["sid"], 16)):
            record = last.record or _built(last.number, named)
            self._change(last, Event(device, last.number, record, client, named=True, whole=last.record is not None))
            return
        self._add(Event(device, number or 0, _built(number or 0, named), client, named=True, whole=False))

    def _fields(self, device: str, fields: re.Match[str]) -> None:
        last = self._last.get(device)
        if last is None or not isinstance(last.record, arch.TranslationEvent):
            return
        told = {
            "PnU": int(fields["priv"] is None), "InD": int(fields["kind"] == "inst"), "RnW": int(fields["way"] == "read"),
            "S2": int(fields["stage"] == "2"), "CLASS": _CLASSES.get(fields["cls"], 3), "Stall": int(fields["stall"] is not None),
            "STAG": int(fields["stag"], 16), "TTRnW": int((fields["ttd"] or "").endswith("read")),
        }  # fmt: skip
        self._change(last, msgspec.structs.replace(last, record=last.record.replace(**told), whole=True))


def _built(number: int, named: re.Match[str]) -> arch.Event | None:
    """A record of what the named line says; its other fields are zero until the second line is read."""
    layout = arch.FORMATS[arch.EventType(number)] if number in list(arch.EventType) else arch.Event
    ssid = int(named["ssid"], 16)
    told = {"Type": number, "StreamID": int(named["sid"], 16), "SubstreamID": ssid, "SSV": int(ssid > 0)}
    for field, word, mask in (("InputAddr", "iova", ~0), ("IPA", "ipa", 0xF_FFFF_FFFF_F000), ("FetchAddr", "fetch", 0xFF_FFFF_FFFF_FFF8)):
        if named[word] and field in layout.layout:
            told[field] = int(named[word], 16) & mask
    return layout.build(**told)


def _command(words: list[int]) -> str:
    command = Command.of_words(words)
    name = Command.Opcode.meaning(command.Opcode) or f"opcode {command.Opcode:#x}"
    of_stream = name in ("CMD_CFGI_STE", "CMD_CFGI_CD", "CMD_CFGI_CD_ALL", "CMD_ATC_INV")
    return name + (f" of StreamID {StreamCommand(command.value).StreamID:#x}" if of_stream else "")
