"""Stalled transactions: those that software knows by a tag, and those that wait for a record. IHI 0070 3.12.2, 4.7, 7.2.1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from wizard.arch.command import Resume
from wizard.smmu.outcome import How, Outcome, Transaction

Ended = tuple[Transaction, Outcome]


@dataclass(slots=True)
class Stalls:
    """At most ``limit`` transactions in ``held``, by the STAG of their event record.

    A stall is never lost: what can't be recorded, because the event queue is not writable or ``limit`` is reached, is in ``waiting`` and
    is tried again as though it had just arrived (3.12.2).
    """

    limit: int
    held: dict[int, Transaction] = field(default_factory=dict)
    waiting: list[Transaction] = field(default_factory=list)
    next_tag: int = 0

    @property
    def full(self) -> bool:
        """No further stall can be recorded."""
        return len(self.held) >= self.limit

    def hold(self, transaction: Transaction) -> int:
        """Keep a transaction; answers its tag, which is no other's until it ends."""
        while self.next_tag in self.held:
            self.next_tag = (self.next_tag + 1) & 0xFFFF
        tag, self.next_tag = self.next_tag, (self.next_tag + 1) & 0xFFFF
        self.held[tag] = transaction
        return tag

    def resume(self, command: Resume, retry: Callable[[Transaction], Outcome], *, abort_only: bool) -> list[Ended]:
        """CMD_RESUME: retry or terminate one; a tag that fits none, or another stream's, does nothing (4.7.1)."""
        transaction = self.held.get(command.STAG)
        if transaction is None or transaction.sid != command.StreamID:
            return []
        del self.held[command.STAG]
        if command.Action:
            return [(transaction, retry(transaction))]
        how = How.ABORTED if command.Abort or abort_only else How.RAZWI
        return [(transaction, Outcome(how, reason="terminated by CMD_RESUME"))]

    def terminate(self, reason: str, sid: int | None = None) -> list[Ended]:
        """Terminate every one with an abort: those of a stream (CMD_STALL_TERM, 4.7.2) or all (SMMUEN became 0, 6.3.9.6)."""
        gone = [tag for tag, transaction in self.held.items() if sid is None or transaction.sid == sid]
        ended = [self.held.pop(tag) for tag in gone] + [one for one in self.waiting if sid is None or one.sid == sid]
        self.waiting = [one for one in self.waiting if sid is not None and one.sid != sid]
        return [(transaction, Outcome(How.ABORTED, reason=reason)) for transaction in ended]

    def retry(self, ready: Callable[[], bool], again: Callable[[Transaction], Outcome]) -> list[Ended]:
        """Try the waiting ones again as long as ``ready`` says that a record could be written; answers those that ended."""
        ended: list[Ended] = []
        queue, self.waiting = self.waiting, []
        while queue and ready():
            transaction = queue.pop(0)
            outcome = again(transaction)
            if outcome.how is not How.STALLED:
                ended.append((transaction, outcome))
        self.waiting += queue
        return ended
