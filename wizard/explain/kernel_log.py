"""A kernel's own lines in a log: those that ``wizard.host.log`` knows as findings, and an SMMU's event records. Loaded where a log has some."""

from __future__ import annotations

import re

from wizard.arch.event import EventType
from wizard.explain import events as room
from wizard.explain.hits import SHOWN, Hit, Hits
from wizard.explain.messages.kernel_lines import LINE_MESSAGES
from wizard.host.log import lines as known_lines
from wizard.host.log.events import EventReader

_STREAMS = 2000  # StreamIDs whose events are told apart
_NAMES = re.compile(r"\b(" + "|".join(sorted((kind.name for kind in EventType), key=len, reverse=True)) + r")\b")
_RECEIVED = re.compile(r"\bevent:? (0x[0-9a-f]{1,2})\b(?: received)?")
_PLACEHOLDER = re.compile(r"\bN\b|…|%[dux]")
_ANY_SMMU = re.compile(r"arm-smmu-v3 (?:…|\.\.\.|\S{1,128}): ")
_ANY_DRIVER = re.compile(r"[\w.+-]{1,64} (?:…|\.\.\.|\S{1,128}): ")
_Key = tuple[str, int, int | None]  # SMMU, event number, StreamID


class KernelLog:
    """What has been understood so far; only while a log is read."""

    def __init__(self, hits: Hits) -> None:
        self._hits = hits
        self._events = EventReader()
        self._lines: dict[_Key, int] = {}

    @property
    def open(self) -> bool:
        """Whether words alone on a line may belong to an event before it."""
        return self._events.speaking

    @property
    def pending(self) -> bool:
        """Whether a record is being printed: any line of the driver ends it."""
        return self._events.pending

    def read(self, text: str, number: int) -> bool:
        """Take a line as the kernel wrote it; False where it is no message."""
        told = known_lines.spoken(text)
        if (told is not None and told.driver == known_lines.DRIVER and self._events.read(told.device, told.text)) or (
            told is None and self._events.bare(text)
        ):
            self._place(number)
            return True
        found = known_lines.match(text, told)
        if found is not None and found.place not in LINE_MESSAGES:
            found = None
        if found is None and (told is None or told.device.isalnum()):  # "BAR 1: …" is no driver with its device
            found = _quoted(text)
        if found is None:
            return (told is None or told.driver != known_lines.DRIVER) and self._alone(text, number)
        words = {"driver": found.driver, "device": found.device or "", **found.words}
        if (error := words.pop("errno", None)) is not None:
            words["error"] = error
        self._hits.add(Hit(LINE_MESSAGES[found.place], number, 0, text[:SHOWN], {name: value for name, value in words.items() if value}))
        return True

    def finish(self, lines: int) -> None:
        """The log is over: records of one kind and stream are one message."""
        self._events.finish()
        self._place(lines)
        kept: dict[_Key, list[object]] = {}
        for event in self._events.events:
            kept.setdefault((event.smmu, event.number, event.stream_id), []).append(event)
        for key, count in self._events.counts.items():
            smmu, number, stream = key
            one = room.message_of(number)
            words = {"event": f"{number:#04x}"} | ({"stream": f"{stream:#x}"} if stream is not None else {})
            name = one.texts[-1] if one is not room.OTHER else f"event {number:#04x} received"
            told = f"{name} (arm-smmu-v3 {smmu})" if smmu else name
            self._hits.add(Hit(one, self._lines.get(key, 1), 0, told, words, count, kept.get(key, []), smmu))

    def _alone(self, text: str, number: int) -> bool:
        """An event that is only named: ``event 0x10 received`` without its SMMU, C_BAD_STREAMID in somebody's prose."""
        received, named = _RECEIVED.search(text), _NAMES.search(text)
        if received is not None and "received" not in received[0] and "smmu" not in text.lower():
            received = None
        if received is None and named is None:
            return False
        code = int(received[1], 16) if received else EventType[named[1]].value if named else 0
        self._hits.add(Hit(room.message_of(code), number, 0, text[:SHOWN], {"event": f"{code:#04x}"}))
        return True

    def _place(self, number: int) -> None:
        counts = self._events.counts
        if len(counts) == len(self._lines):
            return
        for key in counts.keys() - self._lines.keys():
            self._lines[key] = number
        if len(counts) > _STREAMS:
            # A flood of streams: what comes beyond is one message of its kind.
            for key in list(counts)[_STREAMS // 2 :]:
                smmu, event, stream = key
                if stream is not None:
                    counts[smmu, event, None] = counts.get((smmu, event, None), 0) + counts.pop(key)
                    self._lines.setdefault((smmu, event, None), self._lines.pop(key, number))


def _quoted(text: str) -> known_lines.Match | None:
    """A line without the driver and device that spoke it, as somebody quotes it: with N and … for what varies."""
    texts = [_ANY_SMMU.sub("", text, count=1)]
    if "…" in text or "..." in text:
        texts.append(_ANY_DRIVER.sub("", text, count=1))
    if _PLACEHOLDER.search(text):
        texts += [_PLACEHOLDER.sub("0", one) for one in (text, *texts)]
    found = (known_lines.match_quoted(one) for one in texts)
    return next((one for one in found if one is not None and one.place in LINE_MESSAGES), None)
