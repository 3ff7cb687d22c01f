"""The PRI queue: page requests of endpoints, and the responses that the SMMU gives by itself. IHI 0070, chapter 8."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wizard.arch.event import PageRequest
from wizard.arch.registers import PriqIrqCfg2
from wizard.smmu.config import Configuration
from wizard.smmu.outcome import Ats, Fault, Transaction
from wizard.smmu.queue import OutputQueue
from wizard.smmu.report import Report

REQUEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class PageResponse:
    """A PRG Response Message that the SMMU made itself: ``code`` is 0 (success) or 15 (failure); ``ssid`` None is without PASID."""

    sid: int
    ssid: int | None
    index: int
    code: int


SUCCESS, FAILURE = 0, 15

PasidOfResponse = Callable[[int], bool | None]
"""Tells of a StreamID whether a response on overflow carries the PASID (STE.PPAR); None when there is no valid STE."""


@dataclass(slots=True)
class PriQueue(OutputQueue):
    """The queue, and what becomes of a request that it can't take.

    Stop markers (Last with neither R nor W) are never answered. An overflow holds until it is acknowledged, unlike an event queue's (8.1); a
    disabled or aborted queue answers failure (8.2).
    """

    def put(self, request: PageRequest, carries_pasid: PasidOfResponse) -> PageResponse | None:
        """Take one request; answers the automatic response, if it makes one."""
        marker = request.Last and not request.R and not request.W
        if self.enabled and not self.aborted:
            if self.overflowed or self.indices.full:
                if not self.overflowed:
                    self.overflow ^= 1
                return self._discarded(request, carries_pasid) if request.Last and not marker else None
            if self.append(request.words):
                return None
        return None if marker else PageResponse(request.StreamID, None, request.PRGIndex, FAILURE)

    def _discarded(self, request: PageRequest, carries_pasid: PasidOfResponse) -> PageResponse:
        """The response to the last request of a group that an overflow threw away: success, so that the endpoint asks anew (8.1)."""
        ssid, code = None, SUCCESS
        if request.SSV:
            carries = carries_pasid(request.StreamID)
            code = FAILURE if carries is None else SUCCESS
            ssid = request.SubstreamID if carries else None
        return PageResponse(request.StreamID, ssid, request.PRGIndex, code)

    def take(self) -> tuple[PageRequest, ...]:
        """Read every request, as software does, and acknowledge an overflow."""
        return tuple(PageRequest.of_words(words) for words in self.drain())


class PagePort:
    """Where Page Request Messages of endpoints arrive (chapter 8)."""

    __slots__ = ("configuration", "queue", "report")

    def __init__(self, queue: PriQueue, configuration: Configuration, report: Report) -> None:
        self.queue, self.configuration, self.report = queue, configuration, report

    def take(self, request: PageRequest) -> PageResponse | None:
        """One request; answers the response that the SMMU makes by itself, where it makes one."""
        queue, interrupts = self.queue, self.report.interrupts
        was_empty, taking = queue.indices.empty, queue.enabled and not queue.aborted
        response = queue.put(request, self._carries_pasid)
        if queue.aborted:
            interrupts.raise_error("PRIQ_ABT_ERR")
        elif PriqIrqCfg2(self.report.registers["PRIQ_IRQ_CFG2"]).LO:
            # The last request of a group, also when an overflow discards it (6.3.36).
            if taking and request.Last:
                interrupts.signal("PRIQ")
        elif was_empty and not queue.indices.empty:
            interrupts.signal("PRIQ")
        return response

    def _carries_pasid(self, sid: int) -> bool | None:
        """Whether an automatic response carries the PASID (IDR3.PPS, STE.PPAR); None without a valid STE (8.1)."""
        features = self.report.registers.features
        if not features.ssidsize:
            return False
        if features.pps:
            return True
        try:
            return bool(self.configuration.ste(sid, None).PPAR)
        except Fault as fault:
            self.report.end(fault, Transaction(sid, 0, ats=Ats.REQUEST), None)
            return None
