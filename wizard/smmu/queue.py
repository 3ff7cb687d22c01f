"""Circular queues between software and the SMMU: IHI 0070, sections 3.5, 7.2, 7.4."""

from __future__ import annotations

from dataclasses import dataclass, field

from wizard.arch import event as events
from wizard.arch.event import Event
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

    def resize(self, log2: int) -> None:
        """The queue has another size: the indices stay, without the bits that it no longer has (6.3.27, 6.3.28, 6.3.95 to 6.3.98)."""
        self.log2 = log2
        self.prod, self.cons = self.known(self.prod), self.known(self.cons)

    def known(self, index: int) -> int:
        """The bits of an index that a queue of this size has."""
        return index & (2 << self.log2) - 1

    def slot(self, index: int) -> int:
        """The entry that an index names."""
        return index & ((1 << self.log2) - 1)


def slot_address(base: QueueBase, indices: Indices, index: int, entry_bytes: int) -> int:
    """Where the entry that an index names lies; the base is aligned to the queue's size, at least to 32 bytes (6.3.26)."""
    return (base.ADDR & -max(32, entry_bytes << indices.log2)) + indices.slot(index) * entry_bytes


Words = tuple[int, ...]


@dataclass(slots=True)
class OutputQueue:
    """A queue that the SMMU writes and software reads. Without a base address the entries are kept aside, in a queue of the same size.

    ``aborted`` is a write that nothing answered: the queue takes no more until software acknowledges the global error (7.2, 8.2).
    """

    memory: Memory
    largest: int
    entry_bytes: int
    enabled: bool = False
    base: QueueBase | None = None
    overflow: int = 0
    acknowledged: int = 0
    aborted: bool = False
    indices: Indices = field(default_factory=lambda: Indices(0))
    aside: dict[int, Words] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.indices = Indices(self.largest)

    def configure(self, base: QueueBase) -> None:
        """The base register was written."""
        self.base = base
        self.indices.resize(min(base.LOG2SIZE, self.largest))

    @property
    def overflowed(self) -> bool:
        """Whether an overflow is not acknowledged yet."""
        return self.overflow != self.acknowledged

    @property
    def writable(self) -> bool:
        """Whether an entry would be written now (7.2.1)."""
        return self.enabled and not self.aborted and not self.indices.full

    def append(self, words: Words) -> bool:
        """Write one entry into a queue that is writable; False where nothing answers, and then ``aborted`` is set."""
        indices = self.indices
        if self.base is None:
            self.aside[indices.slot(indices.prod)] = words
        else:
            where = slot_address(self.base, indices, indices.prod, self.entry_bytes)
            if not self.memory.answers(where):
                self.aborted = True
                return False
            self.memory.write_words(where, words)
        indices.prod = indices.after(indices.prod)
        return True

    def drain(self) -> list[Words]:
        """Read every entry, as software does: CONS catches up with PROD and an overflow is acknowledged.

        Indices that software wrote further apart than the queue is long yield one queue's worth; entries never written read as zero.
        """
        indices, nothing = self.indices, (0,) * (self.entry_bytes // 8)
        taken: list[Words] = []
        while not indices.empty and len(taken) < 1 << indices.log2:
            if self.base is None:
                taken.append(self.aside.pop(indices.slot(indices.cons), nothing))
            else:
                where = slot_address(self.base, indices, indices.cons, self.entry_bytes)
                taken.append(tuple(self.memory.read_words(where, self.entry_bytes // 8) or nothing))
            indices.cons = indices.after(indices.cons)
        indices.cons = indices.prod
        self.acknowledged = self.overflow
        return taken


@dataclass(slots=True)
class EventQueue(OutputQueue):
    """The event queue. ``written``, ``lost`` and ``merged`` count records; ``last`` is the newest one, which like ones are merged with."""

    written: int = 0
    lost: int = 0
    merged: int = 0
    last: Event | None = None

    def configure(self, base: QueueBase) -> None:
        """EVENTQ_BASE was written."""
        OutputQueue.configure(self, base)
        self.last = None

    def put(self, record: Event, *, merge: bool) -> bool:
        """Write one record, or merge it with the newest unread one; False when it is lost.

        A full queue toggles OVFLG once until software acknowledges (7.4).
        """
        if not self.enabled or self.aborted:
            self.lost += 1
            return False
        if merge and self.last is not None and not self.indices.empty and same_for_merging(self.last, record):
            self.merged += 1
            return True
        if self.indices.full:
            self.lost += 1
            if not self.overflowed:
                self.overflow ^= 1
            return False
        if not self.append(record.words):
            self.lost += 1
            return False
        self.last = record
        self.written += 1
        return True

    def look(self, index: int, count: int) -> tuple[Event, ...]:
        """``count`` records from an index on, one queue's worth at most; nothing is taken out of it."""
        indices, nothing = self.indices, (0,) * (self.entry_bytes // 8)
        listed: list[Event] = []
        for _ in range(min(count, 1 << indices.log2)):
            if self.base is None:
                words = self.aside.get(indices.slot(index), nothing)
            else:
                words = tuple(self.memory.read_words(slot_address(self.base, indices, index, self.entry_bytes), self.entry_bytes // 8) or nothing)
            listed.append(events.decode(Event.of_words(words).value))
            index = indices.after(index)
        return tuple(listed)

    def newest(self, count: int) -> tuple[Event, ...]:
        """The last ``count`` records that were written, oldest first."""
        count = min(count, 1 << self.indices.log2)
        return self.look(self.indices.known(self.indices.prod - count), count)

    def take(self) -> tuple[Event, ...]:
        """Read every record."""
        return tuple(events.decode(Event.of_words(words).value) for words in self.drain())
