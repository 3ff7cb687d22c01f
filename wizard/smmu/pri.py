"""The PRI queue: page requests of endpoints, and the responses that the SMMU gives by itself. IHI 0070, chapter 8."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from wizard.arch.event import PageRequest
from wizard.arch.registers import QueueBase
from wizard.smmu.memory import Memory
from wizard.smmu.queue import Indices

REQUEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class PageResponse:
    """A PRG Response Message that the SMMU made itself: ``code`` is 0 (success) or 15 (failure); ``ssid`` None is without PASID."""

    sid: int
    ssid: int | None
    index: int
    code: int


SUCCESS, FAILURE = 0, 15


@dataclass(slots=True)
class PriQueue:
    """The queue. ``stop_marker`` requests (Last with neither R nor W) are never answered."""

    memory: Memory
    largest: int
    base: QueueBase | None = None
    enabled: bool = False
    indices: Indices = field(default_factory=lambda: Indices(0))
    overflow: int = 0
    acknowledged: int = 0
    aborted: bool = False
    aside: dict[int, PageRequest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.indices = Indices(self.largest)

    def configure(self, base: QueueBase) -> None:
        """PRIQ_BASE was written: the queue starts over."""
        self.base = base
        self.indices = Indices(min(base.LOG2SIZE, self.largest))

    def put(self, request: PageRequest, answer_pasid: Callable[[int], bool | None]) -> PageResponse | None:
        """Take one request; answers the automatic response, if it makes one.

        ``answer_pasid`` tells of a StreamID whether a response on overflow carries the PASID (STE.PPAR), None when there is no valid STE. An
        overflow holds until it is acknowledged, unlike an event queue's (8.1); a disabled or aborted queue answers failure (8.2).
        """
        marker = request.Last and not request.R and not request.W
        if not self.enabled or self.aborted:
            return None if marker else self._response(request, None, FAILURE)
        if self.overflow != self.acknowledged or self.indices.full:
            if self.overflow == self.acknowledged:
                self.overflow ^= 1
            return self._overflowed(request, answer_pasid) if request.Last and not marker else None
        slot = self.indices.slot(self.indices.prod)
        if self.base is None:
            self.aside[slot] = request
        else:
            where = (self.base.ADDR & -max(32, REQUEST_BYTES << self.indices.log2)) + slot * REQUEST_BYTES
            if not self.memory.answers(where):
                self.aborted = True
                return None if marker else self._response(request, None, FAILURE)
            self.memory.write_words(where, request.words)
        self.indices.prod = self.indices.after(self.indices.prod)
        return None

    def _overflowed(self, request: PageRequest, answer_pasid: Callable[[int], bool | None]) -> PageResponse:
        if not request.SSV:
            return self._response(request, None, SUCCESS)
        carries = answer_pasid(request.StreamID)
        if carries is None:
            return self._response(request, None, FAILURE)
        return self._response(request, request.SubstreamID if carries else None, SUCCESS)

    @staticmethod
    def _response(request: PageRequest, ssid: int | None, code: int) -> PageResponse:
        return PageResponse(request.StreamID, ssid, request.PRGIndex, code)

    def take(self) -> tuple[PageRequest, ...]:
        """Read every request, as software does, and acknowledge an overflow."""
        taken: list[PageRequest] = []
        while not self.indices.empty and len(taken) < 1 << self.indices.log2:
            slot = self.indices.slot(self.indices.cons)
            if self.base is None:
                taken.append(self.aside.pop(slot, PageRequest(0)))
            else:
                where = (self.base.ADDR & -max(32, REQUEST_BYTES << self.indices.log2)) + slot * REQUEST_BYTES
                taken.append(PageRequest.of_words(self.memory.read_words(where, 2) or ()))
            self.indices.cons = self.indices.after(self.indices.cons)
        self.indices.cons = self.indices.prod
        self.acknowledged = self.overflow
        return tuple(taken)
