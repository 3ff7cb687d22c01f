"""Circular queues between software and the SMMU: IHI 0070, sections 3.5, 7.2, 7.4."""

from __future__ import annotations

from dataclasses import dataclass, field

from wizard.arch import event as events
from wizard.arch.event import EVENT_BYTES, Event
from wizard.arch.registers import QueueBase
from wizard.smmu.memory import Memory
from wizard.smmu.records import same_for_merging


@dataclass(slots=True)
class Indices:
    """PROD and CONS of a queue of ``1 << log2`` entries; each has a wrap bit above the index."""

    log2: int
    prod: int = 0
    cons: int = 0

    @property
    def empty(self) -> bool:
        """Nothing to consume."""
        return self.prod == self.cons

    @property
    def held(self) -> int:
        """Entries to be consumed, one queue's worth at most."""
        return min((self.prod - self.cons) & (2 << self.log2) - 1, 1 << self.log2)

    @property
    def full(self) -> bool:
        """No room: same index, other wrap bit."""
        return self.prod ^ self.cons == 1 << self.log2

    def after(self, index: int) -> int:
        """The next index, wrap bit included."""
        return (index + 1) & ((2 << self.log2) - 1)

    def slot(self, index: int) -> int:
        """The entry that an index names."""
        return index & ((1 << self.log2) - 1)


@dataclass(slots=True)
class EventQueue:
    """The event queue. Without a base address the records are kept aside, in a queue of the same size."""

    memory: Memory
    largest: int
    base: QueueBase | None = None
    enabled: bool = True
    indices: Indices = field(default_factory=lambda: Indices(0))
    overflow: int = 0
    acknowledged: int = 0
    lost: int = 0
    merged: int = 0
    aborted: bool = False
    aside: dict[int, Event] = field(default_factory=dict)
    last: Event | None = None

    def __post_init__(self) -> None:
        self.indices = Indices(self.largest)

    def configure(self, base: QueueBase) -> None:
        """EVENTQ_BASE was written: the queue starts over."""
        self.base = base
        self.indices = Indices(min(base.LOG2SIZE, self.largest))
        self.last = None

    @property
    def writable(self) -> bool:
        """Whether a record would be written now (7.2.1)."""
        return self.enabled and not self.aborted and not self.indices.full

    def put(self, record: Event, *, merge: bool) -> bool:
        """Write one record, or merge it with the newest unread one; False when it is lost.

        A full queue toggles OVFLG once until software acknowledges (7.4); a write that nothing answers raises GERROR.EVENTQ_ABT_ERR, seen
        in ``aborted``, and the queue takes no more until that is acknowledged (7.2).
        """
        if not self.enabled or self.aborted:
            self.lost += 1
            return False
        if merge and self.last is not None and not self.indices.empty and same_for_merging(self.last, record):
            self.merged += 1
            return True
        if self.indices.full:
            self.lost += 1
            if self.overflow == self.acknowledged:
                self.overflow ^= 1
            return False
        slot = self.indices.slot(self.indices.prod)
        if self.base is None:
            self.aside[slot] = record
        else:
            where = (self.base.ADDR & -max(EVENT_BYTES, EVENT_BYTES << self.indices.log2)) + slot * EVENT_BYTES
            if not self.memory.answers(where):
                self.aborted = True
                self.lost += 1
                return False
            self.memory.write_words(where, record.words)
        self.indices.prod = self.indices.after(self.indices.prod)
        self.last = record
        return True

    def take(self) -> tuple[Event, ...]:
        """Read every record, as software does: CONS catches up with PROD and an overflow is acknowledged.

        Indices that software wrote further apart than the queue is long yield one queue's worth; entries never written read as zero.
        """
        taken: list[Event] = []
        while not self.indices.empty and len(taken) < 1 << self.indices.log2:
            slot = self.indices.slot(self.indices.cons)
            if self.base is None:
                taken.append(self.aside.pop(slot, Event(0)))
            else:
                where = (self.base.ADDR & -max(EVENT_BYTES, EVENT_BYTES << self.indices.log2)) + slot * EVENT_BYTES
                taken.append(events.decode(Event.of_words(self.memory.read_words(where, EVENT_BYTES // 8) or ()).value))
            self.indices.cons = self.indices.after(self.indices.cons)
        self.indices.cons = self.indices.prod
        self.acknowledged = self.overflow
        return tuple(taken)
