"""The end of a transaction that meets a fault: stall, abort or RAZ/WI, and what is recorded of it. IHI 0070 3.9.1, 3.12, 5.5, 7.2, 7.3."""

from __future__ import annotations

from collections.abc import Callable

from wizard.arch.event import TRANSLATION_FAULTS, Event, EventType
from wizard.arch.ste import STE
from wizard.smmu import ats
from wizard.smmu.context import choice
from wizard.smmu.interrupts import Interrupts
from wizard.smmu.outcome import Ats, AtsResponse, Fault, How, Outcome, Transaction
from wizard.smmu.queue import EventQueue
from wizard.smmu.records import record
from wizard.smmu.registers import Registers
from wizard.smmu.stalls import Ended, Stalls
from wizard.smmu.trace import Trace

_WALK_FAULTS = TRANSLATION_FAULTS | {EventType.F_WALK_EABT}
_REFUSALS = frozenset({EventType.F_BAD_ATS_TREQ, EventType.F_TRANSL_FORBIDDEN})


class Report:
    """The event queue, the stalled transactions, and how the ones that ended meanwhile did (``resumed``)."""

    __slots__ = ("interrupts", "queue", "registers", "resumed", "stalls")

    def __init__(self, registers: Registers, queue: EventQueue, interrupts: Interrupts) -> None:
        self.registers, self.queue, self.interrupts = registers, queue, interrupts
        self.stalls = Stalls(max(1, registers.features.stall_max))
        self.resumed: list[Ended] = []

    def end(self, fault: Fault, transaction: Transaction, story: Trace | None) -> Outcome:
        """End ``transaction`` in ``fault``."""
        if story is not None:
            story.add("fault", (fault.kind.name + ": " if fault.kind is not None else "") + fault.reason)
        if transaction.ats is Ats.REQUEST and fault.kind in ats.DENIED:
            return Outcome(How.ATS, reason=fault.reason, ats=ats.nothing(self.registers.features, transaction), trace=story)
        response = _response(fault) if transaction.ats is Ats.REQUEST else None
        if fault.kind is None:
            return Outcome(How.ABORTED, reason=fault.reason, ats=response, trace=story)
        if fault.stall and fault.kind in TRANSLATION_FAULTS:
            return self._stall(fault, transaction, story)
        event = record(fault, transaction, *_overridden(transaction, fault.ste, self.registers))
        recorded = self._wanted(fault, transaction) and self.write(event, merge=fault.ste is not None and bool(fault.ste.MEV))
        how = How.ABORTED if fault.abort else How.RAZWI
        return Outcome(how, event=event, recorded=recorded, reason=fault.reason, ats=response, trace=story)

    def _stall(self, fault: Fault, transaction: Transaction, story: Trace | None) -> Outcome:
        """A stall is never lost: one that can't be recorded now waits until it can (3.12.2, 7.2.1)."""
        if not self._can_record_stall():
            self.stalls.waiting.append(transaction)
            return Outcome(How.STALLED, reason=f"{fault.reason}; it waits until the stall can be recorded", trace=story)
        stag = self.stalls.hold(transaction)
        event = record(fault, transaction, *_overridden(transaction, fault.ste, self.registers), stag=stag)
        recorded = self.write(event, merge=False)
        return Outcome(How.STALLED, event=event, recorded=recorded, reason=fault.reason, stag=stag, trace=story)

    def _wanted(self, fault: Fault, transaction: Transaction) -> bool:
        """Whether the fault is recorded, the event queue permitting.

        CD.R, STE.S2R and CR2.RECINVSID decide for ordinary traffic and for the stage 2 of split-stage ATS; refusals of ATS are always recorded;
        configuration errors of ATS only with CR2.REC_CFG_ATS, and RECINVSID does not count for translated traffic (3.9.1.2, 3.9.1.3).
        """
        ordinary = transaction.ats is Ats.UNTRANSLATED or (transaction.ats is Ats.TRANSLATED and fault.kind in _WALK_FAULTS)
        invalid = fault.kind is EventType.C_BAD_STREAMID and transaction.ats is not Ats.TRANSLATED
        if not ordinary and fault.kind not in _REFUSALS and not self.registers.cr2.REC_CFG_ATS:
            return False
        return bool(self.registers.cr2.RECINVSID) if invalid else fault.record or fault.stall

    def write(self, event: Event, *, merge: bool) -> bool:
        """Write a record, or merge it; answers whether it is in the queue now. GERROR where nothing answers, an MSI where the queue was empty."""
        was_empty = self.queue.indices.empty
        written = self.queue.put(event, merge=merge)
        if self.queue.aborted and not written:
            self.interrupts.raise_error("EVENTQ_ABT_ERR")
        if written and was_empty:
            self.interrupts.signal("EVENTQ")
        return written

    # -- stalled transactions -----------------------------------------------------------------------------------------

    def _can_record_stall(self) -> bool:
        return self.queue.writable and not self.stalls.full

    def retry(self, again: Callable[[Transaction], Outcome]) -> None:
        """The event queue may have become writable: stalls that could not be recorded are tried again (7.2.1)."""
        if self.stalls.waiting:
            self.resumed += self.stalls.retry(self._can_record_stall, again)

    def terminate(self, reason: str, sid: int | None = None) -> None:
        """End the stalled transactions of a stream, or all, with an abort."""
        self.resumed += self.stalls.terminate(reason, sid)


def _response(fault: Fault) -> AtsResponse:
    """The status of a request that does not succeed: UR where ATS is not allowed, CA for errors (3.9.1.2)."""
    return AtsResponse("UR" if fault.kind is None or fault.kind is EventType.F_BAD_ATS_TREQ else "CA")


def _overridden(transaction: Transaction, ste: STE | None, registers: Registers) -> tuple[bool, bool]:
    """Privilege and instruction after the STE's overrides, as far as an STE was found (7.3)."""
    if ste is None:
        return transaction.privileged, transaction.instruction
    privileged, instruction = choice(ste.PRIVCFG, registers.features), choice(ste.INSTCFG, registers.features)
    return (
        transaction.privileged if privileged is None else privileged,
        transaction.instruction if instruction is None else instruction,
    )
