"""Whole translation tables as arrays: every descriptor is looked at, a batch of tables at a time, so memory stays bounded.

Only numpy sees the words here; a finding is turned back into an address and a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from wizard.arch.descriptor import Stage2Leaf, TableDescriptor
from wizard.smmu.memory import PAGE_BYTES, PAGE_SHIFT, Memory
from wizard.smmu.regime import LEAF, STRIDE, TABLE, Level, Regime
from wizard.smmu.tables import PageTable

Words = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
BATCH_WORDS = 1 << 17
"""Descriptors looked at together: 1 MiB of tables."""

COARSE = 21
"""log2 of the granularity of the first look at who owns a frame."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Host physical addresses from ``start`` up to, and not with, ``end``."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Grant:
    """What a stage 2 table may lead to: ``own`` memory, and ``others``: BARs and the ITS page, few leaves that are looked at one by one.

    ``tables`` is where the host keeps its tables; None where nobody asks. A table anywhere else could be one that the guest writes.
    """

    own: tuple[Interval, ...]
    others: tuple[Interval, ...] = ()
    tables: Interval | None = None


@dataclass(slots=True)
class Walked:
    """What was looked at."""

    leaves: int = 0
    tables: int = 0
    table_bytes: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Stray:
    """A leaf or table descriptor that leads where it must not."""

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
    numbers = addresses if size == PAGE_BYTES else [address + at for address in addresses for at in range(0, size, PAGE_BYTES)]
    return np.frombuffer(b"".join([pages.get(address >> PAGE_SHIFT, _ZEROS) for address in numbers]), np.uint64)


class Owned:
    """Which frames are granted: a map of 2 MiB units that are granted whole, and frame by frame only those that are granted in part."""

    __slots__ = ("base", "limit", "parts", "shift", "slot", "sums", "unit", "whole")
    whole: Flags
    sums: npt.NDArray[np.int64]
    parts: Flags
    slot: npt.NDArray[np.int32]

    def __init__(self, grant: Grant, shift: int) -> None:
        own = _merged(grant.own)
        self.shift, self.unit = shift, max(COARSE, shift)
        self.base = own[0].start & -(1 << self.unit) if own else 0
        self.limit = -(-own[-1].end >> self.unit << self.unit) if own else 0
        count = self.limit - self.base >> self.unit
        self.whole = np.zeros(count, np.bool_)
        self.slot = np.full(count, -1, np.int32)
        edges: dict[int, list[tuple[int, int]]] = {}
        for interval in own:
            # Only whole frames: a frame that is the VM's in part is not granted.
            first, last = -((self.base - interval.start) >> shift), interval.end - self.base >> shift
            per = 1 << (self.unit - shift)
            low, high = -(-first // per), last // per
            self.whole[low:high] = True
            if low > high:
                edges.setdefault(high, []).append((first - high * per, last - high * per))
                continue
            if first < low * per:
                edges.setdefault(low - 1, []).append((first - (low - 1) * per, per))
            if last > high * per:
                edges.setdefault(high, []).append((0, last - high * per))
        self.sums = np.concatenate((np.zeros(1, np.int64), np.cumsum(self.whole)))
        self.parts = np.zeros((len(edges), 1 << (self.unit - shift)), np.bool_)
        for row, (unit, ranges) in enumerate(edges.items()):
            self.slot[unit] = row
            for first, last in ranges:
                self.parts[row, first:last] = True

    def between(self, first: Words, last: Words, log2: int) -> Flags:
        """For each pair, whether all from ``first`` to the end of the leaf of ``1 << log2`` bytes at ``last`` is granted: the common case."""
        inside = np.asarray((first >= np.uint64(self.base)) & (last <= np.uint64(max(self.limit - (1 << log2), 0))), np.bool_)
        low = np.where(inside, first - np.uint64(self.base), np.uint64(0)) >> np.uint64(self.unit)
        high = np.where(inside, last + np.uint64((1 << log2) - 1) - np.uint64(self.base), np.uint64(0)) >> np.uint64(self.unit)
        low, high = low.view(np.int64), high.view(np.int64)
        if not self.whole.size:
            return np.zeros(first.size, np.bool_)
        return np.asarray(inside & (self.sums[high + 1] - self.sums[low] == high + 1 - low), np.bool_)

    def wrong(self, addresses: Words, log2: int) -> Flags:
        """Which leaves of ``1 << log2`` bytes are not granted whole."""
        if not self.whole.size:
            return np.ones(addresses.size, np.bool_)
        outside: Flags | None = None
        offset = addresses - np.uint64(self.base)
        if int(addresses.min()) < self.base or int(addresses.max()) + (1 << log2) > self.limit:
            outside = np.asarray((addresses < np.uint64(self.base)) | (addresses > np.uint64(max(self.limit - (1 << log2), 0))), np.bool_)
            offset[outside] = 0
        unit = (offset >> np.uint64(self.unit)).view(np.int64)
        if log2 > self.unit:
            per = 1 << (log2 - self.unit)
            bad = np.asarray(self.sums[np.minimum(unit + per, self.whole.size)] - self.sums[unit] != per, np.bool_)
        else:
            bad = ~self.whole[unit]
            if bad.any():
                rest = np.flatnonzero(bad)
                bad[rest] = ~self._in_parts(unit[rest], offset[rest], log2)
        return bad if outside is None else bad | outside

    def _in_parts(self, unit: npt.NDArray[np.int64], offset: Words, log2: int) -> Flags:
        """Whether leaves within units that are granted in part are."""
        row = self.slot[unit]
        granted: Flags = row >= 0
        found = np.flatnonzero(granted)
        if found.size:
            first = (offset[found] >> np.uint64(self.shift)).view(np.int64) & (self.parts.shape[1] - 1)
            per = 1 << max(log2 - self.shift, 0)
            sums = np.concatenate((np.zeros((self.parts.shape[0], 1), np.int64), np.cumsum(self.parts, axis=1)), axis=1)
            last = np.minimum(first + per, self.parts.shape[1])
            granted[found] = sums[row[found], last] - sums[row[found], first] == per
        return granted


def _merged(intervals: Sequence[Interval]) -> list[Interval]:
    """Sorted, neighbours that touch or overlap joined."""
    merged: list[Interval] = []
    for interval in sorted(intervals, key=attrgetter("start")):
        if merged and interval.start <= merged[-1].end:
            merged[-1] = Interval(merged[-1].start, max(merged[-1].end, interval.end))
        else:
            merged.append(interval)
    return merged


def check_tables(memory: Memory, table: PageTable | Regime, grant: Grant, walked: Walked) -> Stray | None:
    """The first descriptor of a stage 2 table that leads where nothing is granted, or None; ``walked`` counts along.

    48-bit little-endian descriptors, as the kernel's stage 2 has them.
    """
    granule = table.granule
    owned = Owned(grant, granule)
    tables = np.array([table.base if isinstance(table, Regime) else table.root], np.uint64)
    bases = np.array([0], np.uint64)
    for level in table.levels:
        words = level.mask + 1 if level is table.levels[0] else 1 << STRIDE[granule]
        if (stray := _tables(tables, bases, level, 8 * words, grant)) is not None:
            return stray
        below: list[Words] = []
        below_bases: list[Words] = []
        for batch, batch_bases in _batches(tables, bases, words):
            block = fetch(memory, batch.tolist(), words)
            walked.tables += len(batch)
            walked.table_bytes += block.nbytes
            stray = _leaves(block, batch_bases, level, words, owned, grant, walked)
            if stray is not None:
                return stray
            if TABLE in level.kinds:
                found = np.flatnonzero((block & np.uint64(TableDescriptor.Type.mask)) == np.uint64(level.kinds.index(TABLE)))
                below.append(block[found] & np.uint64((1 << 48) - (1 << granule)))
                below_bases.append(batch_bases[found // words] + ((found % words).astype(np.uint64) << np.uint64(level.shift)))
        if not below:
            break
        tables, bases = np.concatenate(below), np.concatenate(below_bases)
    return None


def _tables(tables: Words, bases: Words, level: Level, size: int, grant: Grant) -> Stray | None:
    if grant.tables is None or not len(tables):
        return None
    wrong = np.flatnonzero((tables < np.uint64(grant.tables.start)) | (tables > np.uint64(grant.tables.end - size)))
    if not wrong.size:
        return None
    first = int(wrong[0])
    return Stray(int(bases[first]), int(tables[first]), f"a level {level.number} table, outside of the host's own")


def _batches(tables: Words, bases: Words, words: int) -> Iterator[tuple[Words, Words]]:
    step = max(1, BATCH_WORDS // words)
    for start in range(0, len(tables), step):
        yield tables[start : start + step], bases[start : start + step]


def _leaves(block: Words, bases: Words, level: Level, words: int, owned: Owned, grant: Grant, walked: Walked) -> Stray | None:
    codes = [code for code, kind in enumerate(level.kinds) if kind == LEAF]
    if not codes:
        return None
    kind, code = np.uint64(TableDescriptor.Type.mask), np.uint64(codes[0])
    contiguous = np.uint64(Stage2Leaf.Contiguous.mask << Stage2Leaf.Contiguous.lo)
    ones, zeros = np.bitwise_and.reduce(block), np.bitwise_or.reduce(block)
    addresses = block & np.uint64(level.leaf_mask)
    # Only leaves, as in most tables of a guest's memory: the extremes of each table decide, if all that lies between is granted.
    full = bool(ones & kind == code == zeros & kind)
    is_leaf = None if full else np.asarray((block & kind) == code, np.bool_)
    leaves = block.size if is_leaf is None else int(np.count_nonzero(is_leaf))
    walked.leaves += leaves
    walked.bytes += leaves << level.shift
    if not leaves:
        return None
    if full and not zeros & contiguous:
        rows = addresses.reshape(-1, words)
        doubtful = ~owned.between(rows.min(axis=1), rows.max(axis=1), level.shift)
        if not doubtful.any():
            return None
        addresses, bases = rows[doubtful].reshape(-1), bases[doubtful]
    wrong = owned.wrong(addresses, level.shift)
    if zeros & contiguous:
        # One TLB entry may cover the whole aligned run that a contiguous leaf belongs to (DDI 0487 D8.7.1).
        runs = addresses & np.uint64(-(1 << level.run) & (1 << 64) - 1)
        wrong |= ((block & contiguous) != 0) & owned.wrong(runs, level.run)
    if is_leaf is not None:
        wrong &= is_leaf
    for index in np.flatnonzero(wrong):
        pa = int(addresses[index])
        if any(other.start <= pa and pa + (1 << level.shift) <= other.end for other in grant.others):
            walked.bytes -= 1 << level.shift
            continue
        ipa = int(bases[index // words]) + (int(index % words) << level.shift)
        return Stray(ipa, pa, f"a level {level.number} leaf of {1 << level.shift:#x} bytes")
    return None
