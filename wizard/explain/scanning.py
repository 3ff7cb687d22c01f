"""One pass over a log: each line is filtered by its words, and looked at where it may be a message. What a paste has wrapped is joined again."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

from wizard.explain.hits import SHOWN, Hit, Hits, Scan
from wizard.explain.matcher import Matcher, said
from wizard.explain.model import Message
from wizard.explain.reading import PIECE, THOROUGH, blocks, is_hidden, pieces, texts
from wizard.explain.shapes import Shapes
from wizard.explain.strerror import read_error
from wizard.explain.template import SPLIT_BYTES, Found

if TYPE_CHECKING:
    from wizard.explain.kernel_log import KernelLog

_JOINED = 5  # lines that one message may have been wrapped into
_LONGEST = 2048  # characters of a line that may be a part of one
_ADDRESS = re.compile(r"(?<![\w:.])[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7](?![\w:.]\w)")
_WORDS_OF_EVENT = re.compile(r"\s*0x[0-9a-f]{16}\b")


def scan(matcher: Matcher, stream: BinaryIO) -> Scan:
    """All messages of a stream, in order. Never raises for what stands in it."""
    scanner = _Scanner(matcher)
    started = blocks(stream)
    begun: list[list[bytes]] = []
    for lines in started:
        begun.append(lines)
        if len(begun) > 2 or sum(map(len, lines)) > THOROUGH:
            break
    else:
        # A last line without its end comes alone.
        scanner.thorough(list(itertools.chain.from_iterable(begun)))
        return scanner.result()
    for lines in itertools.chain(begun, started):
        scanner.fast(lines)
    return scanner.result()


class _Scanner:
    """What has been found so far; only while a log is read."""

    def __init__(self, matcher: Matcher) -> None:
        self.matcher = matcher
        self.hits = Hits()
        self.lines = 0
        self._seen: set[int] = set()  # lines of this block that a message was found in
        self._seen_before = 0
        self._tail: list[bytes] = []  # the last lines of the block before
        self._kernel: KernelLog | None = None
        self._shapes = Shapes()

    def result(self) -> Scan:
        """The hits in order."""
        if self._kernel is not None:
            self._kernel.finish(self.lines)
        return Scan(self.hits.ordered(), self.lines, self._seen_before + len(self._seen), self.hits.merged)

    # In a large log each line by itself: one that has most words of a message is put together with its neighbours.

    def fast(self, lines: list[bytes]) -> None:
        """A block of many."""
        known, split = self.matcher.words, SPLIT_BYTES
        window = [*self._tail, *lines]
        before = len(self._tail)
        for place, line in enumerate(lines, before):
            words = line.translate(split).split()
            if not known.isdisjoint(words) or is_hidden(line):
                self._line(line, words, self.lines + place - before + 1, window, place)
        self.lines += len(lines)
        self._tail = window[-2:]
        self._seen_before += len(self._seen)  # the lines of this block are behind us
        self._seen.clear()

    def _line(self, line: bytes, words: list[bytes], number: int, window: Sequence[bytes], place: int) -> None:
        if len(line) > PIECE or line[:1] == b"{" or b"\\n" in line:
            for piece in pieces(line):
                for text in texts(piece):
                    if not self._say(text, self.matcher.in_text(text), number):
                        self._of_kernel(text, number)
            return
        alone = self._kernel is None or not self._kernel.pending
        if alone and (known := self._shapes.count(line, words)) is not None:
            if known:
                self._seen.add(number)
            return
        self.hits.touched.clear()
        may = self.matcher.may_be(words)
        if may.templates or may.of_kernel:
            [text] = texts(line)
            if self._say(text, said(text, may.templates), number) or (may.of_kernel and self._of_kernel(text, number)):
                if alone and self.hits.touched:  # an event record has none yet
                    self._shapes.learn(line, words, self.hits.touched, merged=self.hits.stand_for_more(self.hits.touched))
                return
        if may.cut and not may.of_kernel:
            near = [texts(each)[0] for each in window[max(0, place - 1) : place + 3]]
            self._across(near[:3], number - 1)
            self._across(near[1:], number)
        elif alone:
            self._shapes.learn(line, words, [], merged=False)

    # In a paste, wherever lines may have been wrapped.

    def thorough(self, lines: list[bytes]) -> None:
        """A whole small input."""
        told = [text for line in lines for piece in pieces(line) for text in texts(piece)]
        numbers = [number for number, line in enumerate(lines, 1) for piece in pieces(line) for _ in texts(piece)]
        self.lines = len(lines) - (1 if lines and not lines[-1] else 0)
        place = 0
        by_words: set[int] = set()
        while place < len(told):
            if self._say(told[place], self.matcher.in_text(told[place]), numbers[place], after=told[place + 1 : place + 2]):
                by_words.add(numbers[place])
                place += 1
                continue
            used = self._across(told[place : place + _JOINED], numbers[place]) if place + 1 < len(told) else 0
            by_words.update(numbers[place : place + used])
            place += used or 1
        if len(by_words) < len(set(numbers)):
            self._kernel_lines(told, numbers, by_words)

    def _kernel_lines(self, told: list[str], numbers: list[int], by_words: set[int]) -> None:
        from wizard.facts.logtext import placed

        for place, joined in placed(told):
            goes_on = self._kernel is not None and self._kernel.open and _WORDS_OF_EVENT.search(joined)
            if numbers[place] not in by_words and (goes_on or self.matcher.of(joined).of_kernel):
                self._of_kernel(joined, numbers[place])

    def _across(self, some: Sequence[str], number: int) -> int:
        """Messages that begin in the first of some lines and end in a later one; how many lines they took."""
        from wizard.facts.logtext import plain, unstamped

        first = plain(some[0]).rstrip() if some else ""
        if not first or len(first) > _LONGEST:
            return 0
        complete = {one.id for template, one in self.matcher.of(first).templates if template.find(first) is not None}
        rest: list[str] = []
        for count in range(2, len(some) + 1):
            behind = plain(some[count - 1])
            if not behind.strip() or unstamped(behind) != behind.rstrip():
                return 0  # an empty line, or one with a time stamp of its own: nothing goes on there
            rest.append(behind.strip())
            for gap in (" ", ""):
                joined = first + gap + gap.join(rest)
                found = [(hit, one) for hit, one in self.matcher.in_text(joined) if hit.start < len(first) < hit.end and one.id not in complete]
                if self._say(joined, found, number):
                    self._seen.update(range(number, number + count))
                    return count
        return 0

    def _of_kernel(self, text: str, number: int) -> bool:
        from wizard.explain.kernel_log import KernelLog
        from wizard.facts.logtext import message

        if self._kernel is None:
            self._kernel = KernelLog(self.hits)
        if not self._kernel.read(message(text[:_LONGEST]), number):
            return False
        self._seen.add(number)
        return True

    def _say(self, text: str, found: list[tuple[Found, Message]], number: int, after: Sequence[str] = ()) -> bool:
        for hit, one in found:
            shown = text[hit.start : hit.end]
            if after and hit.end >= len(text.rstrip()) and "errno" not in hit.words and (again := self._with_error(text, hit, one, after[0])):
                hit, shown = again
                self._seen.add(number + 1)
            self.hits.add(Hit(one, number, hit.start, shown[:SHOWN], _more(hit, text)))
            self._seen.add(number)
        return bool(found)

    def _with_error(self, text: str, hit: Found, one: Message, behind: str) -> tuple[Found, str] | None:
        """The same message with its error, which stands on the next line."""
        from wizard.facts.logtext import plain, unstamped

        if not any("{errno}" in wording for wording in one.wordings):
            return None
        joined = text.rstrip() + " " + unstamped(plain(behind)).strip()
        again = next((found for found, same in self.matcher.in_text(joined) if same is one and found.start == hit.start), None)
        return (again, joined[again.start : again.end]) if again is not None and "errno" in again.words else None


def _more(hit: Found, text: str) -> dict[str, str]:
    """What stands around a message and belongs to it: the function that QEMU was about to set up, the error behind it."""
    words = dict(hit.words)
    if "function" not in words and (named := _ADDRESS.findall(text, max(0, hit.start - SHOWN), hit.start)):
        words["function"] = named[-1]
    if "errno" not in words and text[hit.end : hit.end + 2] == ": " and (told := read_error(text[hit.end + 2 :])):
        words["errno"] = text[hit.end + 2 : hit.end + 2 + told[1]]
    return words
