"""All that the hardware could reach from its registers on: stream table entries, context descriptors, and where structures and queues lie.

Read as the lookup of a transaction reads it (IHI 0070 3.3, 3.5, 5.1 to 5.4), but for every StreamID and SubstreamID at once. Nothing is cached,
recorded or changed. Memory that nobody wrote reads as zero, which no structure takes for valid, so that only pages with contents are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wizard.arch.cd import CD, CD_BYTES, L1CD, L1CD_BYTES
from wizard.arch.command import COMMAND_BYTES
from wizard.arch.event import EVENT_BYTES
from wizard.arch.registers import CR0, CR2, CmdqCons, IrqCfg0, QueueBase, QueueProd, StrtabBase, StrtabBaseCfg, TableFormat
from wizard.arch.ste import L1STD, L1STD_BYTES, STE, STE_BYTES, StreamConfig
from wizard.smmu.config import SPLITS
from wizard.smmu.device import Smmu
from wizard.smmu.memory import PAGE_BYTES, PAGE_SHIFT, Memory
from wizard.smmu.validity import stage1_on, ste_illegal

_PRI_BYTES = 16
MESSAGE_BYTES = 4
_WORD_BYTES = 8


@dataclass(frozen=True, slots=True)
class Structure:
    """Something that the SMMU itself reads or writes: ``size`` bytes of physical memory from ``start``; ``what`` names it in a sentence."""

    what: str
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """A stream table entry with V 1, at ``where``."""

    sid: int
    where: int
    ste: STE


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A context descriptor with V 1, at ``where``; ``index`` is the SubstreamID that it is for."""

    index: int
    where: int
    cd: CD


class Inventory:
    """What the registers and memory of ``smmu`` say at this moment.

    ``cr0`` is what is in effect (CR0ACK), ``structures`` are stream tables, ``entries`` every entry with V 1 by its StreamID.
    """

    def __init__(self, smmu: Smmu) -> None:
        self.smmu, self.features, self.memory = smmu, smmu.features, smmu.memory
        self.cr0, self.cr2 = CR0(smmu.read("CR0ACK")), CR2(smmu.read("CR2"))
        self.base, self.config = StrtabBase(smmu.read("STRTAB_BASE")), StrtabBaseCfg(smmu.read("STRTAB_BASE_CFG"))
        self.size = min(self.config.LOG2SIZE, 32)
        self.two_level = self.config.FMT == TableFormat.TWO_LEVEL and self.features.st_level
        self.split = self.config.SPLIT if self.config.SPLIT in SPLITS else 6
        self.structures: list[Structure] = []
        self.entries: dict[int, StreamEntry] = {}
        self._read_stream_table()

    def live(self) -> Iterator[StreamEntry]:
        """The entries that let anything through: legal ones that do not abort."""
        return (entry for entry in self.entries.values() if lets_through(entry.ste, self.smmu))

    # -- stream table -------------------------------------------------------------------------------------------------

    def _read_stream_table(self) -> None:
        reach = 1 << min(self.size, self.features.sidsize)
        if not self.two_level:
            start = self.base.ADDR & -(STE_BYTES << self.size)
            self.structures.append(Structure("the stream table", start, STE_BYTES * reach))
            self._read_entries(start, 0, reach)
            return
        start, descriptors = self.first_level, -(-reach >> self.split)
        self.structures.append(Structure("the level 1 stream table", start, max(64, L1STD_BYTES * descriptors)))
        for where, word in written(self.memory, start, L1STD_BYTES * descriptors):
            index = (where - start) // L1STD_BYTES
            l1std = L1STD(word)
            if not 0 < l1std.Span <= min(11, self.split + 1):
                continue
            count = min(1 << (l1std.Span - 1), reach - (index << self.split))
            array = l1std.L2Ptr & -(STE_BYTES << (l1std.Span - 1))
            first = index << self.split
            what = f"the level 2 stream table of StreamIDs {first:#x} to {first + count - 1:#x}"
            self.structures.append(Structure(what, array, STE_BYTES * count))
            self._read_entries(array, first, count)

    @property
    def first_level(self) -> int:
        """Where the level 1 table starts, aligned as hardware does."""
        return self.base.ADDR & -max(64, L1STD_BYTES << max(0, self.size - self.split))

    def _read_entries(self, start: int, first: int, count: int) -> None:
        for where in _records(self.memory, start, STE_BYTES * count, STE_BYTES):
            # V is bit 0 of the first word.
            if (self.memory.read(where) or 0) & 1 and not where >> self.features.oas:
                ste = STE.of_words(self.memory.read_words(where, STE_BYTES // _WORD_BYTES) or ())
                sid = first + (where - start) // STE_BYTES
                self.entries[sid] = StreamEntry(sid, where, ste)

    # -- queues and messages ------------------------------------------------------------------------------------------

    def queues(self) -> Iterator[Structure]:
        """The queues that have a place, and the addresses that the SMMU sends its own interrupt messages to (3.5, 3.18)."""
        reachable = (1 << self.features.oas) - 1
        queues = [("command", "CMDQ_BASE", COMMAND_BYTES, self.features.cmdqs), ("event", "EVENTQ_BASE", EVENT_BYTES, self.features.eventqs)]
        if self.features.pri:
            queues.append(("PRI", "PRIQ_BASE", _PRI_BYTES, self.features.priqs))
        for name, register, entry, largest in queues:
            base = QueueBase(self.smmu.read(register))
            if base.value:
                size = max(32, entry << min(base.LOG2SIZE, largest))
                yield Structure(f"the {name} queue", base.ADDR & reachable & -size, size)
        for name in ("GERROR", "EVENTQ", "PRIQ") if self.features.msi else ():
            where = IrqCfg0(self.smmu.read(f"{name}_IRQ_CFG0")).ADDR & reachable
            if where:
                yield Structure(f"the address of {name}'s interrupt message", where, MESSAGE_BYTES)

    @property
    def commands_wait(self) -> bool:
        """Whether the command queue holds what was not consumed: CMDQ_PROD and the index in CMDQ_CONS differ (6.3.27, 6.3.28)."""
        return QueueProd(self.smmu.read("CMDQ_PROD")).WR != CmdqCons(self.smmu.read("CMDQ_CONS")).RD

    # -- context descriptors ------------------------------------------------------------------------------------------

    def descriptors(self, ste: STE) -> tuple[list[Structure], list[Descriptor]]:
        """The context descriptors of an entry with stage 1 alone, and the tables that they are in: by physical address.

        Those of an entry with both stages are the guest's, behind stage 2, and are not read here.
        """
        if ste.Config != StreamConfig.STAGE1:
            return [], []
        largest, first_level = self.substreams(ste), self.first_descriptors(ste)
        if first_level is None:
            start = ste.S1ContextPtr & -(CD_BYTES << largest)
            return [Structure("the table of context descriptors", start, CD_BYTES << largest)], self._read_descriptors(start, 0, 1 << largest)
        start, leaf = first_level
        tables = 1 << max(0, largest - leaf)
        structures, found = [Structure("the level 1 table of context descriptors", start, max(64, L1CD_BYTES * tables))], []
        for where, word in written(self.memory, start, L1CD_BYTES * tables):
            l1cd = L1CD(word)
            if l1cd.V and not l1cd.L2Ptr >> self.features.oas:
                first, count = (where - start) // L1CD_BYTES << leaf, min(1 << leaf, 1 << largest)
                array = l1cd.L2Ptr & -(CD_BYTES << leaf)
                structures.append(Structure(f"the level 2 table of context descriptors from {first} on", array, CD_BYTES * count))
                found += self._read_descriptors(array, first, count)
        return structures, found

    def first_descriptors(self, ste: STE) -> tuple[int, int] | None:
        """Where the first level of a two-level table of context descriptors is, and log2 of what each of it leads to; None for a linear one."""
        largest = self.substreams(ste)
        if largest == 0 or ste.S1Fmt not in (1, 2):
            return None
        leaf = 6 if ste.S1Fmt == 1 else 10
        return ste.S1ContextPtr & -max(64, L1CD_BYTES << max(0, largest - leaf)), leaf

    def substreams(self, ste: STE) -> int:
        """log2 of the context descriptors of an entry, as far as the SMMU has substreams (5.2, S1CDMax)."""
        return ste.S1CDMax if self.features.ssidsize else 0

    def skips_stage1(self, ste: STE) -> bool:
        """Whether transactions without a SubstreamID pass by stage 1 (5.2, S1DSS 0b01)."""
        return stage1_on(ste) and self.substreams(ste) > 0 and ste.S1DSS == 1

    def _read_descriptors(self, start: int, first: int, count: int) -> list[Descriptor]:
        found = []
        for where in _records(self.memory, start, CD_BYTES * count, CD_BYTES):
            cd = CD.of_words(self.memory.read_words(where, CD_BYTES // _WORD_BYTES) or ())
            if cd.V and not where >> self.features.oas:
                found.append(Descriptor(first + (where - start) // CD_BYTES, where, cd))
        return found


def lets_through(ste: STE, smmu: Smmu) -> bool:
    """Whether transactions of an entry get any further: it is legal and does not abort."""
    return ste_illegal(ste, smmu.features) is None and ste.Config >= StreamConfig.BYPASS


def written(memory: Memory, start: int, size: int) -> Iterator[tuple[int, int]]:
    """Address and value of every word from ``start`` on that is not zero."""
    for where in _records(memory, start, size, _WORD_BYTES):
        if word := memory.read(where):
            yield where, word


def _records(memory: Memory, start: int, size: int, record: int) -> Iterator[int]:
    """Where the records of ``record`` bytes begin that lie in pages with contents."""
    for number in memory.numbers(start >> PAGE_SHIFT, start + size - 1 >> PAGE_SHIFT):
        yield from range(max(start, number << PAGE_SHIFT), min(start + size, (number << PAGE_SHIFT) + PAGE_BYTES), record)
