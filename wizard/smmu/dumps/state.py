"""An SMMU out of a dump: the simulated one over the images' memory, with the registers as they were listed and nothing cached.

What was cached in the real one is not in a dump: answers are what memory says, which is what an SMMU would do after an invalidation of everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wizard.arch.event import EVENT_BYTES, Event, EventType
from wizard.arch.registers import CR0, QueueBase, QueueCons, QueueProd
from wizard.smmu.context import Context
from wizard.smmu.device import Smmu
from wizard.smmu.dumps.images import ImageMemory
from wizard.smmu.dumps.registers import Listed
from wizard.smmu.ids import Ids
from wizard.smmu.inventory import Inventory, StreamEntry
from wizard.smmu.outcome import Fault
from wizard.smmu.validity import NOT_VALID, stage1_on

_FIRST = ("CR2", "STRTAB_BASE", "STRTAB_BASE_CFG", "GBPA", "CMDQ_BASE", "EVENTQ_BASE", "PRIQ_BASE")
_LARGEST_LOOKUPS = 1 << 16
"""Context descriptors of one stream that are looked up; more than any driver makes."""


@dataclass(frozen=True, slots=True)
class Reached:
    """What a stream, and of it a SubstreamID (None: transactions without one), meets: a context, or why there is none."""

    sid: int
    ssid: int | None
    entry: StreamEntry
    context: Context | None
    why: str = ""
    kind: EventType | None = None


class Dump:
    """Registers and memory of one SMMU at one moment. ``smmu`` answers translations, ``inventory`` has the stream table."""

    def __init__(self, memory: ImageMemory, registers: Listed) -> None:
        self.memory, self.registers = memory, registers
        values = registers.values
        self.smmu = Smmu(
            Ids(values["IDR0"], values["IDR1"], values["IDR3"], values["IDR5"], values["AIDR"]), memory, tlb=False, configuration_cache=False
        )
        for name in _FIRST:
            if name in values:
                self.smmu.write(name, values[name] | (1 << 31 if name == "GBPA" else 0))
        # Commands that wait are part of the dump; a fault's record, where one would be made, stays in this copy of the memory, which has room for it.
        memory.page(QueueBase(values.get("EVENTQ_BASE", 0)).ADDR)
        self.smmu.write("CR0", CR0(values["CR0"]).replace(CMDQEN=0, PRIQEN=0).value)
        self.inventory = Inventory(self.smmu)

    @property
    def enabled(self) -> bool:
        """Whether CR0.SMMUEN is 1; if not, GBPA says what becomes of every transaction."""
        return bool(self.smmu.cr0.SMMUEN)

    def missing(self) -> list[tuple[str, int, int]]:
        """Parts of the stream table that no image holds: what it is, start and end."""
        return [(one.what, low, high) for one in self.inventory.structures for low, high in self.memory.missing(one.start, one.size)]

    def reached(self, sid: int) -> Iterator[Reached]:
        """What transactions of a stream meet: those without a SubstreamID, then those of every context descriptor that is valid or broken."""
        entry = self.inventory.entries.get(sid)
        if entry is None:
            return
        yield self._reached(entry, None)
        largest = self.inventory.substreams(entry.ste) if stage1_on(entry.ste) else 0
        leaf = {1: 6, 2: 10}.get(entry.ste.S1Fmt, 0)
        ssid, lookups = 0, 0
        while largest and not ssid >> largest and lookups < _LARGEST_LOOKUPS:
            found = self._reached(entry, ssid)
            lookups += 1
            if found.context is not None or not found.why.endswith(NOT_VALID):
                yield found
            # A level 1 descriptor that leads nowhere says so of all that are behind it.
            ssid = (ssid >> leaf) + 1 << leaf if found.kind is EventType.C_BAD_SUBSTREAMID and ssid else ssid + 1

    def _reached(self, entry: StreamEntry, ssid: int | None) -> Reached:
        try:
            return Reached(entry.sid, ssid, entry, self.smmu.configuration.context(entry.sid, ssid, None))
        except Fault as fault:
            return Reached(entry.sid, ssid, entry, None, fault.reason, fault.kind)

    def events(self) -> tuple[list[Event], int]:
        """The records of the event queue, oldest first, and how many of them software had not read: IHI 0070 7.2.

        Those before EVENTQ_CONS were read, and may be of any age; a record of zeros was never written. Empty where the queue is not listed.
        """
        values = self.registers.values
        base = QueueBase(values.get("EVENTQ_BASE", 0))
        if not base.value or "EVENTQ_PROD" not in values:
            return [], 0
        size = min(base.LOG2SIZE, self.smmu.features.eventqs)
        prod, cons = QueueProd(values["EVENTQ_PROD"]).WR, QueueCons(values.get("EVENTQ_CONS", 0)).RD
        start, records = base.ADDR & -max(32, EVENT_BYTES << size), []
        for index in range(1 << size):
            where = start + EVENT_BYTES * ((prod + index) % (1 << size))
            words = None if self.memory.missing(where, EVENT_BYTES) else self.memory.read_words(where, EVENT_BYTES // 8)
            if words is not None and any(words):
                records.append(Event.of_words(words))
        return records, (prod - cons) % (2 << size)
