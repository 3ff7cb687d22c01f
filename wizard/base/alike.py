"""One answer for all bytes that are equal where it was looked.

A big host has thousands of functions of a few kinds, no two equal: each has its own serial number, addresses and status bits. A question
about their bytes is worked out once on bytes that note which of them were looked at. Whatever was looked at next was decided by what was
seen before: other bytes that are equal in all those places have the same answer, whatever stands elsewhere.

    capabilities = Alike(walk)          walk(data, *more) looks at data by slices alone
    capabilities.ask(data, length)      as walk(data, length) answers
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar, cast

T = TypeVar("T")

KINDS = 16  # ways to look, for each `more`; a host that has more of them is answered one by one
ANSWERS = 1024  # for each way to look: then they are forgotten
QUESTIONS = 256  # different `more`: then all is forgotten


class Looked:
    """Bytes that note which of them were looked at. They can be sliced from the front, and nothing else; what is missing at the end is zero."""

    __slots__ = ("data", "seen")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.seen = 0  # a byte of ones for each byte that was looked at

    def __getitem__(self, place: slice) -> bytes:
        start, stop = place.start or 0, place.stop
        if place.step is not None or not 0 <= start <= stop:
            raise ValueError(f"only from the front, up to a place: {place}")
        self.seen |= (1 << 8 * stop) - (1 << 8 * start)
        return self.data[start:stop]


class Alike(Generic[T]):
    """Answers of ``work(data, *more)``, shared. ``more`` has to be all else that the answer rests on, and answers must not change."""

    def __init__(self, work: Callable[..., T]) -> None:
        self._work = work
        self._kinds: dict[tuple[Hashable, ...], list[tuple[int, dict[int, T]]]] = {}

    def ask(self, data: bytes | Looked, *more: Hashable) -> T:
        """The answer for these bytes, of which trailing zeros may be left out."""
        # Within another question: what the shared answer rests on, that one rests on too.
        outer, own = (data, data.data) if isinstance(data, Looked) else (None, data)
        number = int.from_bytes(own, "little")
        kinds = self._kinds.get(more)
        if kinds is None:
            if len(self._kinds) >= QUESTIONS:
                self._kinds.clear()
            kinds = self._kinds[more] = []
        for seen, answers in kinds:
            if (found := answers.get(number & seen)) is not None:
                if outer is not None:
                    outer.seen |= seen
                return found
        looked = Looked(own)
        answer = self._work(cast(bytes, looked), *more)
        if outer is not None:
            outer.seen |= looked.seen
        for seen, answers in kinds:
            if seen == looked.seen:
                if len(answers) >= ANSWERS:
                    answers.clear()
                answers[number & seen] = answer
                return answer
        if len(kinds) < KINDS:
            kinds.append((looked.seen, {number & looked.seen: answer}))
        return answer
