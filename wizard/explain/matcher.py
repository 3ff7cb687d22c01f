"""The messages in a log: one pass over its lines, filtered by their words; patterns are tried where a line holds a message's own word."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from functools import cached_property
from typing import BinaryIO

import msgspec

from wizard.arch.event import EventType
from wizard.explain import events as room
from wizard.explain.messages import by_words
from wizard.explain.messages.kernel import LINE_MESSAGES
from wizard.explain.model import Message
from wizard.explain.reading import PIECE, THOROUGH, blocks, is_hidden, pieces, texts
from wizard.explain.strerror import read_error
from wizard.explain.template import SPLIT_BYTES, Found, Template
from wizard.facts.logtext import LINE, message, placed, plain, unstamped
from wizard.host.log import lines as klog_lines
from wizard.host.log.events import EventReader
from wizard.host.log.model import Event

_DIFFERENT = 2000  # hits that are told apart; beyond, only the message counts
_JOINED = 5  # lines that one message may have been wrapped into
_SHOWN = 400  # characters of a line that a hit keeps
# Words of which a line that the kernel's table knows has one row (a test holds the two together), the rarest first; and of event records.
_OF_KERNEL = """
arm-smmu-v3
vfio-pci
vfio_pci
nvgrace-gpu-vfio-pci
mlx5_vfio_pci
DPC
AER error
AER recovery
pciehp Down
pciehp present
iommu-map
RLIMIT_MEMLOCK
IORT
tegra241_cmdqv
iommufd
CMD_SYNC
CMDQ
EVTQ
PRIQ
GERROR
Failure Service
inaccessible
reserve can
giving ready
header ROM
incompatible domain
attach SMMU
Failed iommu group
retaining IOMMU
remapping interrupt
secure not
received event
2-level strtab
cr0 clear
global error
restoring BARs
Relaying request
channel request
irq no
currently SMMU
register iommu
state change power
"""
_NAMES = re.compile(r"\b(" + "|".join(sorted((kind.name for kind in EventType), key=len, reverse=True)) + r")\b")
_RECEIVED = re.compile(r"\bevent:? (0x[0-9a-f]{1,2})\b(?: received)?")
_PLACEHOLDER = re.compile(r"\bN\b|…|%[dux]")
_ADDRESS = re.compile(r"(?<![\w:.])[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7](?![\w:.]\w)")
_ANY_SMMU = re.compile(r"arm-smmu-v3 (?:…|\.\.\.|\S{1,128}): ")
_ANY_DRIVER = re.compile(r"[\w.+-]{1,64} (?:…|\.\.\.|\S{1,128}): ")


class Hit(msgspec.Struct):
    """A message that was found: where first, how often, and what stood in its places."""

    message: Message
    line: int  # from 1
    column: int  # from 0
    text: str  # the line's part that says it
    words: dict[str, str]
    count: int = 1
    events: list[Event] = []
    smmu: str = ""  # the driver's name of the SMMU that an event is of


class Scan(msgspec.Struct):
    """What a log holds."""

    hits: list[Hit]
    lines: int = 0
    recognised: int = 0  # lines that a message was found in
    merged: bool = False  # there were more different ones than are told apart


_Wanted = tuple[frozenset[bytes], Template | None, Message | None]
"""The words that a line needs, and what it may be then; None for a line of the kernel's own table."""


class Matcher:
    """Every message, ready to be looked for. Made once; patterns are compiled as they are needed."""

    def __init__(self) -> None:
        self._of_key: dict[bytes, list[_Wanted]] = {}
        for one in by_words():
            for wording in one.wordings:
                template = Template(wording)
                self._of_key.setdefault(template.key.encode(), []).append((template.needs, template, one))
        for words in (*map(str.split, _OF_KERNEL.split("\n")), *([kind.name] for kind in EventType)):
            if words:
                self._of_key.setdefault(words[0].encode(), []).append((frozenset(word.encode() for word in words), None, None))
        self.words = frozenset(self._of_key)

    @cached_property
    def fixed_parts(self) -> list[str]:
        """The longest fixed part of each wording: what ``grep -F`` would be given."""
        found = {max(template.fixed, key=len).strip() for some in self._of_key.values() for _, template, _ in some if template and template.fixed}
        return sorted(found | {kind.example.split(": ", 1)[-1][:20] for kind in klog_lines.LINES})

    def scan(self, stream: BinaryIO) -> Scan:
        """All messages of a stream, in order. Never raises for what stands in it."""
        reading = _Reading(self)
        started = blocks(stream)
        begun: list[list[bytes]] = []
        for lines in started:
            begun.append(lines)
            if len(begun) > 2 or sum(map(len, lines)) > THOROUGH:
                break
        else:
            # A last line without its end comes alone.
            reading.thorough(list(itertools.chain.from_iterable(begun)))
            return reading.result()
        for lines in itertools.chain(begun, started):
            reading.fast(lines)
        return reading.result()

    def may_be(self, words: list[bytes]) -> tuple[list[tuple[Template, Message]], bool, bool]:
        """What a line with these words may be: wordings, a line of the kernel's own table, one that was cut in the middle."""
        held = set(words)
        found: list[tuple[Template, Message]] = []
        of_kernel = cut = False
        for key in self.words.intersection(held):
            for needs, template, one in self._of_key[key]:
                missing = len(needs - held)
                if template is None or one is None:
                    of_kernel = of_kernel or not missing
                elif not missing:
                    found.append((template, one))
                elif not cut and 2 * missing < len(needs) > 3:
                    cut = True
        return found, of_kernel, cut

    def in_text(self, text: str) -> list[tuple[Found, Message]]:
        """The messages that a line says by their words, in order, none inside another."""
        return _in_text(text, self.may_be(_split(text.encode("utf-8", "replace")))[0])


def _split(line: bytes) -> list[bytes]:
    return line.translate(SPLIT_BYTES).split()


def _in_text(text: str, templates: list[tuple[Template, Message]]) -> list[tuple[Found, Message]]:
    if not templates:
        return []
    found: list[tuple[int, Found, Message]] = []
    for template, one in templates:
        place = 0
        while (hit := template.find(text, place)) is not None:
            if _fits(one, text, hit):
                found.append((sum(map(len, template.fixed)), hit, one))
            place = max(hit.end, place + 1)
    if len(found) == 1:
        return [found[0][1:]]
    chosen: list[tuple[Found, Message]] = []
    for _, hit, one in sorted(found, key=lambda item: (-item[0], -len(item[1].words), item[1].start)):
        if not any(hit.start < other.end and other.start < hit.end for other, _ in chosen):
            chosen.append((hit, one))
    return sorted(chosen, key=lambda item: item[0].start)


def _fits(one: Message, text: str, hit: Found) -> bool:
    if not one.context:
        return True
    if any(word in text for word in one.context):
        return True
    if not one.alone:
        return False
    # All that is said, but for a time stamp and the like: somebody has pasted the message alone.
    return not text[: hit.start].strip(" \"'`>|-*") and not text[hit.end :].strip(" \"'`.")


class _Reading:
    """What has been found so far; only while a log is read."""

    def __init__(self, matcher: Matcher) -> None:
        self.matcher = matcher
        self.hits: dict[tuple[str, ...], Hit] = {}
        self.lines = 0
        self.seen: set[int] = set()
        self.seen_count = 0
        self.merged = False
        self.events = EventReader()
        self.event_lines: dict[tuple[str, int, int | None], int] = {}
        self.tail: list[bytes] = []  # the last lines of the block before

    def result(self) -> Scan:
        """The hits in order, event records joined by kind and stream."""
        self.events.finish()
        self._place_events(self.lines)
        for (smmu, number, stream), count in self.events.counts.items():
            kept = [event for event in self.events.events if (event.smmu, event.number, event.stream_id) == (smmu, number, stream)]
            one = room.message_of(number)
            words = {"event": f"{number:#04x}"} | ({"stream": f"{stream:#x}"} if stream is not None else {})
            line = self.event_lines.get((smmu, number, stream), 1)
            name = one.texts[-1] if one is not room.OTHER else f"event {number:#04x} received"
            self._add(Hit(one, line, 0, f"{name} (arm-smmu-v3 {smmu})" if smmu else name, words, count, kept, smmu))
        ordered = sorted(self.hits.values(), key=lambda hit: (hit.line, hit.column))
        return Scan(ordered, self.lines, self.seen_count + len(self.seen), self.merged)

    # In a large log, each line by itself: one that has most words of a message is put together with its neighbours.

    def fast(self, lines: list[bytes]) -> None:
        """A block of many."""
        known, split = self.matcher.words, SPLIT_BYTES
        window = [*self.tail, *lines]
        before = len(self.tail)
        for place, line in enumerate(lines, before):
            words = line.translate(split).split()
            if not known.isdisjoint(words) or is_hidden(line):
                self._line(line, words, self.lines + place - before + 1, window, place)
        self.lines += len(lines)
        self.tail = window[-2:]
        self.seen_count += len(self.seen)  # the lines of this block are behind us
        self.seen.clear()

    def _line(self, line: bytes, words: list[bytes], number: int, window: Sequence[bytes], place: int) -> None:
        if len(line) > PIECE or line[:1] == b"{" or b"\\n" in line:
            for piece in pieces(line):
                for text in texts(piece):
                    if not self._said(text, self.matcher.in_text(text), number):
                        self._kernel(message(text[:LINE]), number)
            return
        templates, of_kernel, cut = self.matcher.may_be(words)
        if templates or of_kernel:
            [text] = texts(line)
            if self._said(text, _in_text(text, templates), number) or (of_kernel and self._kernel(message(text[:LINE]), number)):
                return
        if cut and not of_kernel:
            near = [texts(each)[0] for each in window[max(0, place - 1) : place + 3]]
            self._across(near[:3], number - 1)
            self._across(near[1:], number)

    def _said(self, text: str, found: list[tuple[Found, Message]], number: int) -> bool:
        for hit, one in found:
            self._found(hit, one, number, text)
        return bool(found)

    # In a paste, wherever lines may have been wrapped.

    def thorough(self, lines: list[bytes]) -> None:
        """A whole small input."""
        told = [text for line in lines for piece in pieces(line) for text in texts(piece)]
        numbers = [number for number, line in enumerate(lines, 1) for piece in pieces(line) for _ in texts(piece)]
        self.lines = len(lines)
        if lines and not lines[-1]:
            self.lines -= 1
        place = 0
        by_words: set[int] = set()
        while place < len(told):
            found = self.matcher.in_text(told[place])
            for hit, one in found:
                self._found(hit, one, numbers[place], told[place], after=told[place + 1 : place + 2])
            if found:
                by_words.add(numbers[place])
                place += 1
                continue
            used = self._across(told[place : place + _JOINED], numbers[place])
            by_words.update(numbers[place : place + used])
            place += used or 1
        self._kernel_lines(told, numbers, by_words)

    def _kernel_lines(self, told: list[str], numbers: list[int], by_words: set[int]) -> None:
        for place, joined in placed(told):
            if numbers[place] not in by_words:
                self._kernel(unstamped(joined), numbers[place])

    def _across(self, some: Sequence[str], number: int) -> int:
        """Messages that begin in the first of some lines and end in a later one; how many lines they took."""
        first = plain(some[0]).rstrip() if some else ""
        if not first or len(first) > LINE:
            return 0
        whole_words = self.matcher.may_be(_split(first.encode("utf-8", "replace")))[0]
        complete = {one.id for template, one in whole_words if template.find(first) is not None}
        rest: list[str] = []
        for count in range(2, len(some) + 1):
            behind = plain(some[count - 1])
            if not behind.strip() or unstamped(behind) != behind.rstrip():
                return 0  # an empty line, or one with a time stamp of its own: nothing goes on there
            rest.append(behind.strip())
            for gap in (" ", ""):
                joined = first + gap + gap.join(rest)
                found = [(hit, one) for hit, one in self.matcher.in_text(joined) if hit.start < len(first) < hit.end and one.id not in complete]
                if found:
                    for hit, one in found:
                        self._found(hit, one, number, joined)
                    self.seen.update(range(number, number + count))
                    return count
        return 0

    def _kernel(self, text: str, number: int) -> bool:
        told = klog_lines.spoken(text)
        if told is not None and told.driver == klog_lines.DRIVER and self.events.read(told.device, told.text):
            self._note_events(number)
            return True
        if told is None and self.events.bare(text):
            self._note_events(number)
            return True
        found = klog_lines.match(text, told)
        if found is not None and found.place not in LINE_MESSAGES:
            found = None
        if found is None and (told is None or told.device.isalnum()):  # "BAR 1: …" is no driver with its device
            found = _bare(text)
        if found is not None:
            one = LINE_MESSAGES[found.place]
            words = {"driver": found.driver, **({"device": found.device} if found.device else {}), **found.words}
            if (error := words.pop("errno", None)) is not None:
                words["error"] = error
            self._add(Hit(one, number, 0, text[:_SHOWN], {name: value for name, value in words.items() if value}))
            self.seen.add(number)
            return True
        return self._event_alone(text, number) if told is None or told.driver != klog_lines.DRIVER else False

    def _event_alone(self, text: str, number: int) -> bool:
        """An event that is only named: ``event 0x10 received`` without its SMMU, C_BAD_STREAMID in somebody's prose."""
        received = _RECEIVED.search(text)
        named = _NAMES.search(text)
        if received is None and named is None:
            return False
        code = int(received[1], 16) if received else EventType[named[1]].value if named else 0
        if received and "received" not in received[0] and "smmu" not in text.lower():
            return False
        self._add(Hit(room.message_of(code), number, 0, text[:_SHOWN], {"event": f"{code:#04x}"}))
        self.seen.add(number)
        return True

    def _note_events(self, number: int) -> None:
        self.seen.add(number)
        self._place_events(number)

    def _place_events(self, number: int) -> None:
        if len(self.events.counts) != len(self.event_lines):
            for key in self.events.counts:
                self.event_lines.setdefault(key, number)

    def _found(self, hit: Found, one: Message, number: int, text: str, after: Sequence[str] = ()) -> None:
        shown = text[hit.start : hit.end]
        if after and hit.end >= len(text.rstrip()) and "errno" not in hit.words and any("{errno}" in wording for wording in one.wordings):
            # The error itself may stand on the next line.
            joined = text.rstrip() + " " + unstamped(plain(after[0])).strip()
            again = next((found for found, same in self.matcher.in_text(joined) if same is one and found.start == hit.start), None)
            if again is not None and "errno" in again.words:
                hit, shown = again, joined[again.start : again.end]
                self.seen.add(number + 1)
        self._add(Hit(one, number, hit.start, shown[:_SHOWN], _more(hit, text)))
        self.seen.add(number)

    def _add(self, hit: Hit) -> None:
        key = (hit.message.id, hit.smmu, *(f"{name}={value}" for name, value in sorted(hit.words.items())))
        if key not in self.hits and len(self.hits) >= _DIFFERENT:
            key = (hit.message.id,)
            self.merged = True
        known = self.hits.get(key)
        if known is None:
            self.hits[key] = hit
        else:
            known.count += hit.count


def _more(hit: Found, text: str) -> dict[str, str]:
    """What stands around a message and belongs to it: the function that QEMU was about to set up, the error behind it."""
    words = dict(hit.words)
    if "function" not in words and (named := _ADDRESS.findall(text, max(0, hit.start - _SHOWN), hit.start)):
        words["function"] = named[-1]
    if "errno" not in words and text[hit.end : hit.end + 2] == ": " and (told := read_error(text[hit.end + 2 :])):
        words["errno"] = text[hit.end + 2 : hit.end + 2 + told[1]]
    return words


def _bare(text: str) -> klog_lines.Match | None:
    """A line of the kernel's without the driver and device that spoke it, as somebody quotes it: with N and … for what varies."""
    texts = [_ANY_SMMU.sub("", text, count=1)]
    if "…" in text or "..." in text:
        texts.append(_ANY_DRIVER.sub("", text, count=1))
    if _PLACEHOLDER.search(text):
        texts += [_PLACEHOLDER.sub("0", one) for one in (text, *texts)]
    found = (klog_lines.match_quoted(one) for one in texts)
    return next((one for one in found if one is not None and one.place in LINE_MESSAGES), None)
