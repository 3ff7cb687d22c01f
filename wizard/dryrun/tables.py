"""Whole translation tables as arrays: every descriptor is looked at, a batch of tables at a time, so memory stays bounded.

Only numpy sees the words here; a finding is turned back into an address and a sentence. Tables are read as hardware would: of each granule, with
concatenated ones at the start, little-endian or big-endian, with 48-bit addresses or the 52 bits of 64 KiB pages (DDI 0487 D8.2, D8.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property

import numpy as np

from wizard.arch.descriptor import Stage1Leaf, Stage2Leaf, TableDescriptor
from wizard.dryrun import glance
from wizard.dryrun.grants import Flags, Grant, Interval, Owned, Words, covers, merged
from wizard.smmu.memory import PAGE_BYTES, PAGE_SHIFT, Memory
from wizard.smmu.regime import LEAF, STRIDE, TABLE, Level, Regime
from wizard.smmu.tables import PageTable

__all__ = ["Grant", "Interval", "Stray", "Walked", "check_tables", "fetch"]

BATCH_WORDS = 1 << 17
"""Descriptors looked at together: 1 MiB of tables."""

_KIND = np.uint64(TableDescriptor.Type.mask)
_CONTIGUOUS = np.uint64(Stage2Leaf.Contiguous.mask << Stage2Leaf.Contiguous.lo)
_NOT_GLOBAL = np.uint64(Stage1Leaf.nG.mask << Stage1Leaf.nG.lo)
_WIDE = TableDescriptor.Wide


@dataclass(slots=True)
class Walked:
    """What was looked at."""

    leaves: int = 0
    tables: int = 0
    table_bytes: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Stray:
    """A leaf or table descriptor that leads where it must not: input address, host physical address, and a clause."""

    ipa: int
    pa: int
    why: str


_ZEROS = bytes(PAGE_BYTES)


def fetch(memory: Memory, addresses: Sequence[int], words: int) -> Words:
    """The words of whole tables of ``words`` descriptors each, one table after the other; what is not there reads as zero."""
    pages, size = memory.pages, 8 * words
    if size < PAGE_BYTES:
        parts = []
        for address in addresses:
            page = np.frombuffer(pages.get(address >> PAGE_SHIFT, _ZEROS), np.uint64)
            parts.append(page[address % PAGE_BYTES >> 3 :][:words])
        return np.concatenate(parts)
    numbers = [address >> PAGE_SHIFT for address in addresses]
    if size != PAGE_BYTES:
        numbers = [number + at for number in numbers for at in range(size >> PAGE_SHIFT)]
    return np.frombuffer(b"".join([_ZEROS if page is None else page for page in map(pages.get, numbers)]), np.uint64)


def check_tables(
    memory: Memory, table: PageTable | Regime, grant: Grant, walked: Walked, *, upper: bool = False, tagged: bool = False
) -> Stray | None:
    """The first descriptor of a table that leads where nothing is granted, or None; ``walked`` counts along.

    ``upper`` says that it is TTB1's. With ``tagged`` a leaf without nG is refused too: it counts for every ASID of its VMID. A table that
    several descriptors lead to is looked at for each, unless they are more than memory has pages: then once.
    """
    regime = table if isinstance(table, Regime) else _regime(table)
    look = _Look(regime, Owned(grant, regime.granule), grant, walked, tagged)
    tables = np.array([regime.base], np.uint64)
    bases = np.array([(1 << 64) - (1 << regime.input_bits) if upper else 0], np.uint64)
    for level in regime.levels:
        words = level.mask + 1 if level is regime.levels[0] else 1 << STRIDE[regime.granule]
        if (stray := _tables(tables, bases, level, 8 * words, grant)) is not None:
            return stray
        below: list[Words] = []
        below_bases: list[Words] = []
        if level is regime.levels[-1]:
            return look.last(memory, tables, bases, level, words)
        for batch, batch_bases in _batches(tables, bases, words):
            block = look.read(memory, batch, words)
            if (stray := look.leaves(block, batch_bases, level, words)) is not None:
                return stray
            found = np.flatnonzero((block & _KIND) == np.uint64(level.kinds.index(TABLE)))
            below.append(_addresses(regime, block[found], regime.table_mask))
            below_bases.append(batch_bases[found // words] + ((found % words).astype(np.uint64) << np.uint64(level.shift)))
        tables, bases = np.concatenate(below), np.concatenate(below_bases)
        if tables.size > len(memory.pages):
            # Many descriptors of one table, as in a loop: what it leads to does not depend on which of them leads there.
            tables, first = np.unique(tables, return_index=True)
            bases = bases[first]
    return None


def _regime(table: PageTable) -> Regime:
    return Regime(
        granule=table.granule, input_bits=table.input_bits, output_bits=52 if table.wide else 48, base=table.root, levels=table.levels,
        table_mask=(1 << 48) - (1 << table.granule), wide=table.wide and table.granule == 16, swap=False,
    )  # fmt: skip


def _addresses(regime: Regime, words: Words, mask: int) -> Words:
    """The address bits of descriptors: with ``wide`` 51:48 are in bits 15:12."""
    addresses = words & np.uint64(mask)
    if regime.wide:
        addresses |= ((words >> np.uint64(_WIDE.lo)) & np.uint64(_WIDE.mask)) << np.uint64(48)
    return addresses


def _tables(tables: Words, bases: Words, level: Level, size: int, grant: Grant) -> Stray | None:
    if grant.tables is None or not len(tables):
        return None
    wrong = np.flatnonzero((tables < np.uint64(grant.tables.start)) | (tables > np.uint64(grant.tables.end - size)))
    why = "outside of the host's own"
    for queue in grant.written if not wrong.size else ():
        wrong = np.flatnonzero((tables < np.uint64(queue.end)) & (tables + np.uint64(size) > np.uint64(queue.start)))
        why = f"in what the SMMU writes itself, a queue or a message at {queue.start:#x}"
        if wrong.size:
            break
    if not wrong.size:
        return None
    first = int(wrong[0])
    return Stray(int(bases[first]), int(tables[first]), f"a level {level.number} table, {why}")


def _batches(tables: Words, bases: Words, words: int) -> Iterator[tuple[Words, Words]]:
    step = max(1, BATCH_WORDS // words)
    for start in range(0, len(tables), step):
        yield tables[start : start + step], bases[start : start + step]


@dataclass(frozen=True)
class _Look:
    """What the leaves of one table are held against."""

    regime: Regime
    owned: Owned
    grant: Grant
    walked: Walked
    tagged: bool

    @cached_property
    def every(self) -> list[Interval]:
        """All that is granted, joined."""
        return merged((*self.owned.intervals, *self.grant.others))

    def last(self, memory: Memory, tables: Words, bases: Words, level: Level, words: int) -> Stray | None:
        """The first leaf of last-level tables that leads too far. Most tables are settled at a glance; others are looked at leaf by leaf."""
        before = replace(self.walked)
        doubtful = np.flatnonzero(~self._settled(memory, tables, level, words))
        settled = tables.size - doubtful.size
        self.walked.tables += settled
        self.walked.table_bytes += settled * words * 8
        self.walked.leaves += settled * words
        self.walked.bytes += settled * words << level.shift
        stray = self._each(memory, tables[doubtful], bases[doubtful], level, words)
        if stray is not None and settled:
            # What is said to have been looked at is what lies before it.
            self.walked.leaves, self.walked.tables, self.walked.table_bytes, self.walked.bytes = astuple(before)
            stray = self._each(memory, tables, bases, level, words)
        return stray

    def _each(self, memory: Memory, tables: Words, bases: Words, level: Level, words: int) -> Stray | None:
        for batch, batch_bases in _batches(tables, bases, words):
            if (stray := self.leaves(self.read(memory, batch, words), batch_bases, level, words)) is not None:
                return stray
        return None

    def _settled(self, memory: Memory, tables: Words, level: Level, words: int) -> Flags:
        """Which tables have only leaves that lead to granted memory, by what all descriptors of a table have in common and what any of them has.

        No address is below the bits that all of them have, nor above those that any of them has. Contiguous leaves are not settled here.
        """
        settled = self._together(memory, tables, level, words)
        rest = np.flatnonzero(~settled)
        if rest.size:
            settled[rest] = self._one_by_one(memory, tables[rest], level, words)
        return settled

    def _together(self, memory: Memory, tables: Words, level: Level, words: int) -> Flags:
        """The same by what the descriptors of many tables have in common (``glance``), where so many can all lead to one piece of memory."""
        settled, each = np.zeros(tables.size, np.bool_), glance.groups(8 * words)
        if not each or self.tagged or self.regime.swap or self.regime.wide or self.owned.longest < min(each, tables.size) * words << level.shift:
            return settled
        least, greatest = glance.extremes(memory, tables, 8 * words)
        fine, (first, last) = glance.alike(least, greatest), map(glance.turned_back, (least, greatest))
        fine &= (first & _KIND) == np.uint64(level.kinds.index(LEAF))
        if level.run > level.shift:
            fine &= (first & _CONTIGUOUS) == 0
        mask = np.uint64(level.leaf_mask)
        fine &= self.owned.between(first & mask, last & mask, level.shift)
        return np.repeat(fine, each)[: tables.size]

    def _one_by_one(self, memory: Memory, tables: Words, level: Level, words: int) -> Flags:
        """The same for each table, by the bits that all of its descriptors have and those that any of them has."""
        code, known = np.uint64(level.kinds.index(LEAF)), np.uint64(_NOT_GLOBAL if self.tagged else 0)
        every, either = np.empty(tables.size, np.uint64), np.empty(tables.size, np.uint64)
        step = max(1, BATCH_WORDS // words)
        for start in range(0, tables.size, step):
            block = fetch(memory, tables[start : start + step].tolist(), words).reshape(-1, words)
            np.bitwise_and.reduce(block, axis=1, out=every[start : start + step])
            np.bitwise_or.reduce(block, axis=1, out=either[start : start + step])
        if self.regime.swap:
            every, either = every.byteswap(), either.byteswap()
        settled = ((every & _KIND) == code) & ((either & _KIND) == code) & ((every & known) == known)
        if level.run > level.shift:
            settled &= (either & _CONTIGUOUS) == 0
        lowest, highest = (_addresses(self.regime, bits, level.leaf_mask) for bits in (every, either))
        return np.asarray(settled & self.owned.between(lowest, highest, level.shift), np.bool_)

    def read(self, memory: Memory, tables: Words, words: int) -> Words:
        """All descriptors of some tables, which count as looked at."""
        block = fetch(memory, tables.tolist(), words)
        self.walked.tables += len(tables)
        self.walked.table_bytes += block.nbytes
        return block.byteswap() if self.regime.swap else block

    def leaves(self, block: Words, bases: Words, level: Level, words: int) -> Stray | None:
        """The first leaf of a block of tables that leads too far."""
        if LEAF not in level.kinds:
            return None
        code, walked = np.uint64(level.kinds.index(LEAF)), self.walked
        ones, zeros = np.bitwise_and.reduce(block), np.bitwise_or.reduce(block)
        # Only leaves, as in most tables of a guest's memory: the extremes of each table decide, if all that lies between is granted.
        full = bool(ones & _KIND == code == zeros & _KIND)
        is_leaf = None if full else np.asarray((block & _KIND) == code, np.bool_)
        leaves = block.size if is_leaf is None else int(np.count_nonzero(is_leaf))
        walked.leaves += leaves
        walked.bytes += leaves << level.shift
        if not leaves:
            return None
        if self.tagged and (stray := self._untagged(block, bases, level, words, is_leaf)) is not None:
            return stray
        addresses = _addresses(self.regime, block, level.leaf_mask)
        runs = bool(zeros & _CONTIGUOUS) and level.run > level.shift
        if full and not runs:
            rows = addresses.reshape(-1, words)
            doubtful = ~self.owned.between(rows.min(axis=1), rows.max(axis=1), level.shift)
            if not doubtful.any():
                return None
            addresses, bases, block = rows[doubtful].reshape(-1), bases[doubtful], block.reshape(-1, words)[doubtful].reshape(-1)
        wrong = self.owned.wrong(addresses, level.shift)
        if runs:
            # One TLB entry may cover the whole aligned run that a contiguous leaf belongs to (DDI 0487 D8.7.1).
            in_run = (block & _CONTIGUOUS) != 0
            wrong |= in_run & self.owned.wrong(addresses & np.uint64(-(1 << level.run) & (1 << 64) - 1), level.run)
            wrong |= in_run & _incongruent(addresses, bases, level, words)
        if is_leaf is not None:
            wrong &= is_leaf
        for index in np.flatnonzero(wrong):
            ipa = int(bases[index // words]) + (int(index % words) << level.shift)
            stray = self._judge(ipa, int(addresses[index]), level, contiguous=runs and bool(block[index] & _CONTIGUOUS))
            if stray is not None:
                return stray
        return None

    def _judge(self, ipa: int, pa: int, level: Level, *, contiguous: bool) -> Stray | None:
        """One leaf that the maps of the VM's own memory do not settle."""
        size = 1 << level.shift
        if contiguous:
            run = 1 << level.run
            if (ipa ^ pa) & (run - 1):
                return Stray(ipa, pa, f"a level {level.number} leaf that does not lie in its contiguous run of {run:#x} bytes where its address does")
            if not covers(self.every, first := pa & -run, run):
                return Stray(ipa, pa, f"a level {level.number} leaf of a contiguous run, which goes from {first:#x} to {first + run - 1:#x}")
        elif not covers(self.every, pa, size):
            return Stray(ipa, pa, f"a level {level.number} leaf of {size:#x} bytes")
        if not covers(self.owned.intervals, pa, size):
            self.walked.bytes -= size
        return None

    def _untagged(self, block: Words, bases: Words, level: Level, words: int, is_leaf: Flags | None) -> Stray | None:
        wrong = (block & _NOT_GLOBAL) == 0
        found = np.flatnonzero(wrong if is_leaf is None else wrong & is_leaf)
        if not found.size:
            return None
        index = int(found[0])
        ipa = int(bases[index // words]) + (index % words << level.shift)
        pa = int(_addresses(self.regime, block[index : index + 1], level.leaf_mask)[0])
        return Stray(ipa, pa, f"a level {level.number} leaf with nG 0, which counts for every ASID of its VMID")


def _incongruent(addresses: Words, bases: Words, level: Level, words: int) -> Flags:
    """Which leaves do not lie in their run where their address does: what hardware makes of them is not one address."""
    index = np.tile(np.arange(words, dtype=np.uint64) << np.uint64(level.shift), bases.size)
    return np.asarray(((np.repeat(bases, words) + index) ^ addresses) & np.uint64((1 << level.run) - 1 & -(1 << level.shift)) != 0, np.bool_)
