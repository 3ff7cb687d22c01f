"""One stage of many addresses by region: where the last-level descriptors of each region are, and what the addresses in it come to.

A region is what one 4 KiB page of last-level descriptors covers: 2 MiB with 4 KiB pages.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from wizard.arch.event import EventType, FaultClass
from wizard.smmu import permissions
from wizard.smmu.arrays.plain import LEFT, Second, locate1, locate2
from wizard.smmu.arrays.rules import AF1, AF2, allowed1, allowed2, wide_bits
from wizard.smmu.arrays.snapshot import I64, U8, U64, Snapshot
from wizard.smmu.arrays.walk import Faults, Leaves, Locate, walk
from wizard.smmu.context import Half, Stage1, Stage2
from wizard.smmu.memory import WORDS
from wizard.smmu.permissions import STAGE1_BITS, STAGE2_BITS
from wizard.smmu.regime import Regime

CHUNK = 1 << 14
"""Addresses at a time: all that is worked on stays in the processor's second cache."""
AHEAD = 1 << 8
"""Regions beyond the asked ones that are looked at along with them where those lie side by side: addresses in order ask for them next."""

_UNKNOWN, _OUTSIDE = -1, -2
_SAME, _ENTRY, _INPUT = range(3)
"""The address of a region's fault: the same for all of it, that of each descriptor, the input address."""
_PAGE = np.uint64(3)


class Regions(ABC):
    """One stage of one half in a window: ``first`` is the region before it, as everything outside is clipped to one element at either end."""

    bits: int
    access_flag: int
    hierarchical = False

    def __init__(self, snapshot: Snapshot, regime: Regime, first: int, count: int) -> None:
        last = regime.levels[-1]
        self.snapshot, self.regime, self.last = snapshot, regime, last
        self.first = np.uint64((first - 1) & (1 << 64) - 1)
        self.table: I64 = np.full(count + 2, _UNKNOWN, np.int64)
        self.table[[0, -1]] = _OUTSIDE
        self.known = 0
        self.index_mask = np.uint64(min(last.mask, WORDS - 1))
        self.page = np.uint64((1 << last.shift) - 1)
        # Made when the first region needs them: what leaves above the last level are, as a page of theirs would be; faults; hierarchical bits.
        self.leaf: U64 | None = None
        self.inside: U64 | None = None
        self.shift: U8 | None = None
        self.faults: Faults | None = None
        self.follows: U8 | None = None
        self.above: U64 | None = None
        self._numbers: U64 = np.zeros(CHUNK, np.uint64)
        self._regions: U64 = np.zeros(CHUNK, np.uint64)
        self._indices: I64 = np.zeros(CHUNK, np.int64)
        self._words: U64 = np.zeros(CHUNK, np.uint64)

    # -- what the stages have of their own ----------------------------------------------------------------------------

    @abstractmethod
    def _locate(self, faults: Faults) -> Locate:
        """Finds descriptors of this stage."""

    @abstractmethod
    def _allowed(self, words: U64, above: U64 | np.uint64) -> U8:
        """Permissions of leaves; one element when they are the same for all."""

    @abstractmethod
    def _one(self, word: int) -> int:
        """Permissions of a leaf with these bits below tables that limit nothing."""

    @abstractmethod
    def _fail(self, faults: Faults, at: I64, kind: EventType, addresses: U64) -> None:
        """The addresses with these indices end here, unless they have ended before."""

    @abstractmethod
    def _following(self, faults: Faults, last: I64) -> U8:
        """What the fault addresses of regions follow; ``last`` are those whose last-level table does not answer."""

    # -- regions ------------------------------------------------------------------------------------------------------

    def _learn(self, asked: I64) -> None:
        """Walk to regions (places in the table) as far as their last-level descriptors."""
        low, high = int(asked[0]), int(asked[-1])
        if high - low < 2 * asked.size:
            asked = np.arange(low, min(high + 1 + max(AHEAD, self.known), self.table.size - 1))
            asked = asked[self.table[asked] == _UNKNOWN]
        self.known += asked.size
        width = np.uint64(self.last.shift + 9)
        starts = (asked.view(np.uint64) + self.first) << width
        faults = Faults.none(asked.size)
        locate = self._locate(faults)
        at: I64 = np.arange(asked.size)

        def failed(of: I64, kind: EventType) -> None:
            self._fail(faults, of, kind, starts)

        leaves, deeper = walk(self.snapshot, self.regime, starts, at, locate, failed, hierarchical=self.hierarchical, levels=-1)
        self.table[asked] = 0
        last = deeper.at
        if last.size:
            index, left = locate(deeper.descriptors(self.last), last)
            there, above = last, deeper.above
            if left is not None:
                there = last[left]
                above = above[left] if isinstance(above, np.ndarray) else above
            self.table[asked[there]] = index
            self._put_above(asked[there], above)
        if leaves.at.size:
            self._put_leaves(asked[leaves.at], leaves, starts[leaves.at])
        if bool(faults.kind.any()):
            self._put_faults(asked, faults, last)

    def _put_above(self, regions: I64, above: U64 | np.uint64) -> None:
        if self.above is None and bool(np.any(above)):
            self.above = np.zeros(self.table.size, np.uint64)
        if self.above is not None:
            self.above[regions] = above

    def _put_leaves(self, regions: I64, leaves: Leaves, starts: U64) -> None:
        if self.leaf is None or self.inside is None or self.shift is None:
            self.leaf, self.shift = np.zeros(self.table.size, np.uint64), np.full(self.table.size, self.last.shift, np.uint8)
            self.inside = np.full(self.table.size, self.page, np.uint64)
        place = np.uint64(self.last.leaf_mask)
        within = starts & ((np.uint64(1) << leaves.shift) - np.uint64(1))
        self.leaf[regions] = leaves.word & ~place | (leaves.output | within) & place | _PAGE
        self.shift[regions] = leaves.shift
        self.inside[regions] = (1 << self.last.shift + 9) - 1
        self._put_above(regions, leaves.above)

    def _put_faults(self, regions: I64, faults: Faults, last: I64) -> None:
        if self.faults is None or self.follows is None:
            self.faults, self.follows = Faults.none(self.table.size), np.zeros(self.table.size, np.uint8)
        self.faults.take_over(regions, faults)
        self.follows[regions] = self._following(faults, last)

    # -- addresses ----------------------------------------------------------------------------------------------------

    def look(self, addresses: U64, faults: Faults, need: int, output: U64) -> tuple[U8, U8 | int] | None:
        """Where ``addresses`` (a chunk) go, into ``output``: answers permissions and log2 of leaf sizes, or None when all are faults.

        What stands in ``output`` for those that have a fault means nothing.
        """
        count, last = addresses.size, self.last
        number, region, index, word = self._numbers[:count], self._regions[:count], self._indices[:count], self._words[:count]
        at = region.view(np.int64)
        np.right_shift(addresses, np.uint64(last.shift), out=number)
        np.right_shift(number, np.uint64(9), out=region)
        np.subtract(region, self.first, out=region)
        self.table.take(at, out=index, mode="clip")
        if int(index.min()) < 0:
            self._missing(at, index, faults)
        np.bitwise_and(number, self.index_mask, out=number)
        np.add(index, number.view(np.int64), out=index)
        self.snapshot.words.take(index, out=word, mode="clip")
        if self.regime.swap:
            word.byteswap(inplace=True)
        if self.leaf is not None:
            np.bitwise_or(word, self.leaf.take(at, mode="clip"), out=word)
        every, either = int(np.bitwise_and.reduce(word)), int(np.bitwise_or.reduce(word))
        if every & 3 != 3:
            valid = (word & _PAGE) == _PAGE
            wrong = np.flatnonzero(~valid)
            self._invalid(wrong, at, number, addresses, faults)
            if wrong.size == count:
                return None
            # So that they hide nothing of what the others have in common.
            word[wrong] = word[int(valid.argmax())]
            every, either = int(np.bitwise_and.reduce(word)), int(np.bitwise_or.reduce(word))
        np.bitwise_and(word, np.uint64(last.leaf_mask), out=output)
        if self.regime.wide:
            output |= wide_bits(word)
        if self.regime.wide or either & ((1 << 48) - 1) >> self.regime.output_bits << self.regime.output_bits:
            self._fail(faults, np.flatnonzero((output >> np.uint64(self.regime.output_bits)) != 0), EventType.F_ADDR_SIZE, addresses)
        inside = self.page if self.inside is None else self.inside.take(at, mode="clip")
        np.bitwise_and(addresses, inside, out=number)
        np.bitwise_or(output, number, out=output)
        if self.access_flag & ~every:
            self._fail(faults, np.flatnonzero((word & np.uint64(self.access_flag)) == 0), EventType.F_ACCESS, addresses)
        if self.above is not None:
            granted = self._allowed(word, self.above.take(at, mode="clip"))
        elif (every ^ either) & self.bits:
            granted = self._allowed(word, np.uint64(0))
        else:
            granted = np.array([self._one(every & self.bits)], np.uint8)
        denied = (granted & np.uint8(need)) == 0
        if bool(denied.any()):
            self._fail(faults, np.flatnonzero(np.broadcast_to(denied, count)), EventType.F_PERMISSION, addresses)
        return granted, last.shift if self.shift is None else self.shift.take(at, mode="clip")

    def _missing(self, at: I64, index: I64, faults: Faults) -> None:
        """Learn the regions that nobody asked for before; leave the addresses outside of the window."""
        unknown = index == _UNKNOWN
        if bool(unknown.any()):
            asked = np.zeros(self.table.size, np.bool_)
            asked[at[unknown]] = True
            self._learn(np.flatnonzero(asked))
            self.table.take(at, out=index, mode="clip")
        outside = np.flatnonzero(index < 0)
        if outside.size:
            faults.kind[faults.fresh(outside)] = LEFT
            index[outside] = 0

    def _invalid(self, wrong: I64, at: I64, number: U64, addresses: U64, faults: Faults) -> None:
        """Fault addresses without a leaf: by their region's fault where it has one, else their descriptor is not valid."""
        if self.faults is not None and self.follows is not None:
            region = np.clip(at[wrong], 0, self.table.size - 1)
            above = self.faults.kind[region] != 0
            fresh = above & (faults.kind[wrong] == 0)
            into, of = wrong[fresh], region[fresh]
            follows, entry = self.follows[of], self.faults.address[of] + (number[into] << np.uint64(3))
            faults.kind[into], faults.stage2[into] = self.faults.kind[of], self.faults.stage2[of]
            faults.fault_class[into] = self.faults.fault_class[of]
            faults.address[into] = np.choose(follows, (self.faults.address[of], entry, addresses[into]))
            wrong = wrong[~above]
        self._fail(faults, wrong, EventType.F_TRANSLATION, addresses)


class Regions1(Regions):
    """Stage 1 of one half."""

    bits = STAGE1_BITS

    def __init__(self, snapshot: Snapshot, stage1: Stage1, half: Half, regime: Regime, second: Second | None, first: int, count: int) -> None:
        super().__init__(snapshot, regime, first, count)
        self.stage1, self.half, self.second = stage1, half, second
        self.hierarchical = not half.had
        self.access_flag = 0 if stage1.ha or stage1.affd else AF1

    def _locate(self, faults: Faults) -> Locate:
        return locate1(self.snapshot, self.second, faults)

    def _allowed(self, words: U64, above: U64 | np.uint64) -> U8:
        return allowed1(self.stage1, words, above)

    def _one(self, word: int) -> int:
        stage1 = self.stage1
        return permissions.stage1(word, 0, stage1.el2, stage1.wxn, stage1.pan, stage1.epan, stage1.hd)[0]

    def _fail(self, faults: Faults, at: I64, kind: EventType, addresses: U64) -> None:
        # The other columns are as they were made.
        faults.kind[faults.fresh(at)] = kind

    def _following(self, faults: Faults, last: I64) -> U8:
        follows = np.full(faults.kind.size, _SAME, np.uint8)
        # A descriptor of stage 2 that does not answer is the same one for all of a page of stage 1's.
        own = ~(faults.stage2[last] & (faults.kind[last] == EventType.F_WALK_EABT))
        follows[last[own]] = _ENTRY
        return follows


class Regions2(Regions):
    """Stage 2, for the accesses themselves."""

    bits = STAGE2_BITS

    def __init__(self, snapshot: Snapshot, stage2: Stage2, first: int, count: int) -> None:
        super().__init__(snapshot, stage2.regime, first, count)
        self.stage2 = stage2
        self.access_flag = 0 if stage2.ha or stage2.affd else AF2

    def _locate(self, faults: Faults) -> Locate:
        return locate2(self.snapshot, FaultClass.IN, faults)

    def _allowed(self, words: U64, above: U64 | np.uint64) -> U8:
        return allowed2(self.stage2, words)

    def _one(self, word: int) -> int:
        return permissions.stage2(word, self.stage2.xnx, self.stage2.hd)[0]

    def _fail(self, faults: Faults, at: I64, kind: EventType, addresses: U64) -> None:
        fresh = faults.fresh(at)
        faults.fail(fresh, kind, stage2=True, address=addresses[fresh])

    def _following(self, faults: Faults, last: I64) -> U8:
        follows = np.where(faults.kind == EventType.F_WALK_EABT, _SAME, _INPUT).astype(np.uint8)
        follows[last] = _ENTRY
        return follows
