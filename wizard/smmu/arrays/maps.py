"""Every mapping of a table, coalesced: input ranges to output ranges with permissions; stage 1 and stage 2 composed.

A map says what translates, not what an access needs: a range is in it when its walk ends in a leaf without fault, with the permissions that
both stages grant (``wizard.smmu.permissions``). Ranges are sorted and do not overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wizard.arch.bits import Field
from wizard.arch.descriptor import Stage1Leaf, Stage2Leaf, TableDescriptor
from wizard.smmu.arrays.rules import allowed1, allowed2, devices2, wide_bits
from wizard.smmu.arrays.snapshot import I64, U8, U16, U64, Bools, Snapshot
from wizard.smmu.context import Context, Half, Stage1, Stage2
from wizard.smmu.memory import PAGE_BYTES, WORDS
from wizard.smmu.permissions import ALL, HIERARCHICAL_BITS, PR
from wizard.smmu.regime import LAST, LEAF, TABLE, Level, Regime

LARGEST = 1 << 27
"""Descriptors that one enumeration reads at most (1 GiB of tables): loops of tables end here."""

_PAGE = 3
_PIECES = 64
"""Pages of tables decoded at a time: 256 KiB, which stay in the processor's cache."""


class TooMuch(ValueError):
    """Tables that reach more descriptors than anything sane, as loops of tables do."""


@dataclass(frozen=True, slots=True)
class Map:
    """Ranges: ``size`` bytes from ``start`` go to ``output`` with the permissions ``allowed``; one element a range, ``start`` ascending.

    ``start`` and ``output`` are uint64, ``size`` uint64 (a range never covers all 64 bits). ``fetchable`` says of stage 2 ranges whether
    stage 1 tables may lie there (readable, and not Device memory under S2PTW). ``kinds``, where it was asked for, has the memory type's fields of the
    leaves: AttrIndx and SH (from bit 3) of stage 1 in the upper byte, MemAttr and SH (from bit 4) of stage 2 in the lower one.
    """

    start: U64
    size: U64
    output: U64
    allowed: U8
    fetchable: Bools
    kinds: U16 | None = None

    def __len__(self) -> int:
        return int(self.start.size)

    def rows(self) -> list[tuple[int, int, int, int]]:
        """Start, size, output and permissions of each range as plain integers."""
        columns = (self.start.tolist(), self.size.tolist(), self.output.tolist(), self.allowed.tolist())
        return list(zip(*columns, strict=True))

    def find(self, addresses: U64) -> tuple[I64, Bools]:
        """The range of each address, and whether there is one."""
        if not len(self):
            return np.zeros(addresses.size, np.int64), np.zeros(addresses.size, np.bool_)
        index = np.searchsorted(self.start, addresses, side="right") - 1
        clipped = np.maximum(index, 0)
        return clipped, (index >= 0) & (addresses - self.start[clipped] < self.size[clipped])


def coalesced(start: U64, size: U64, output: U64, allowed: U8, fetchable: Bools | None = None, kinds: U16 | None = None) -> Map:
    """Neighbours joined: ranges that follow each other at both ends with the same permissions and kinds. Those without any permission go."""
    fetchable = np.ones(start.size, np.bool_) if fetchable is None else fetchable
    some = allowed != 0
    if not bool(some.all()):
        start, size, output, allowed, fetchable = start[some], size[some], output[some], allowed[some], fetchable[some]
        kinds = None if kinds is None else kinds[some]
    if start.size > 1 and not bool((start[1:] > start[:-1]).all()):
        order = np.argsort(start, kind="stable")
        start, size, output, allowed, fetchable = start[order], size[order], output[order], allowed[order], fetchable[order]
        kinds = None if kinds is None else kinds[order]
    if start.size == 0:
        return Map(start, size, output, allowed, fetchable, kinds)
    joined = (start[1:] == start[:-1] + size[:-1]) & (output[1:] == output[:-1] + size[:-1])
    joined &= (allowed[1:] == allowed[:-1]) & (fetchable[1:] == fetchable[:-1])
    if kinds is not None:
        joined &= kinds[1:] == kinds[:-1]
    first = np.flatnonzero(np.concatenate([np.ones(1, np.bool_), ~joined]))
    last = np.concatenate([first[1:] - 1, np.array([start.size - 1])])
    ends = start[last] + size[last] - start[first]
    return Map(start[first], ends, output[first], allowed[first], fetchable[first], None if kinds is None else kinds[first])


def stage2_map(snapshot: Snapshot, stage2: Stage2, *, kinds: bool = False) -> Map:
    """All of a stage 2 table; with ``kinds`` memory types too."""
    found = _leaves(snapshot, stage2.regime, None, hierarchical=False, base=0)
    words = found.word
    keep = np.ones(words.size, np.bool_)
    if not stage2.ha and not stage2.affd:
        keep = (words & np.uint64(Stage2Leaf.AF.mask << Stage2Leaf.AF.lo)) != 0
    allowed = np.array(np.broadcast_to(allowed2(stage2, words), words.shape))
    fetchable = (allowed & np.uint8(PR)) != 0
    if stage2.ptw:
        fetchable &= ~devices2(stage2, words)
    types = _fields(words[keep], Stage2Leaf.MemAttr, Stage2Leaf.SH) if kinds else None
    return coalesced(found.start[keep], found.size[keep], found.output[keep], allowed[keep], fetchable[keep], types)


def stage1_map(snapshot: Snapshot, stage1: Stage1, below: Map | None = None, *, kinds: bool = False) -> Map:
    """All of a context's stage 1, both halves; its tables are found through ``below``, a stage 2 map, when there is one.

    With ``kinds`` memory types too.
    """
    parts = []
    for half in (stage1.lower, stage1.upper):
        if half is not None and half.regime is not None:
            parts.append(_half(snapshot, stage1, half, half.regime, below))
    if not parts:
        nothing = np.zeros(0, np.uint64)
        return coalesced(nothing, nothing, nothing, np.zeros(0, np.uint8))
    columns = [np.concatenate([part[index] for part in parts]) for index in (0, 1, 2, 4)]
    types = _fields(columns[3], Stage1Leaf.AttrIndx, Stage1Leaf.SH) << np.uint16(8) if kinds else None
    return coalesced(columns[0], columns[1], columns[2], np.concatenate([part[3] for part in parts]), None, types)


def _fields(words: U64, low: Field, high: Field) -> U16:
    """Two fields of each descriptor side by side, ``low`` in the lower bits."""
    first = (words >> np.uint64(low.lo)) & np.uint64(low.mask)
    second = (words >> np.uint64(high.lo)) & np.uint64(high.mask)
    return (first | second << np.uint64(low.width)).astype(np.uint16)


def _half(snapshot: Snapshot, stage1: Stage1, half: Half, regime: Regime, below: Map | None) -> tuple[U64, U64, U64, U8, U64]:
    base = (1 << 64) - (1 << regime.input_bits) if half.upper else 0
    found = _leaves(snapshot, regime, below, hierarchical=not half.had, base=base)
    keep = np.ones(found.word.size, np.bool_)
    if not stage1.ha and not stage1.affd:
        keep = (found.word & np.uint64(Stage1Leaf.AF.mask << Stage1Leaf.AF.lo)) != 0
    allowed = np.array(np.broadcast_to(allowed1(stage1, found.word, found.above), found.word.shape))
    if half.e0pd:
        allowed &= np.uint8(ALL >> 3)
    return found.start[keep], found.size[keep], found.output[keep], allowed[keep], found.word[keep]


def composed(first: Map, second: Map) -> Map:
    """``first`` followed by ``second``: what both map, with the permissions that both grant."""
    if not len(first) or not len(second):
        nothing = np.zeros(0, np.uint64)
        return coalesced(nothing, nothing, nothing, np.zeros(0, np.uint8))
    ends = first.output + first.size - np.uint64(1)
    low = np.searchsorted(second.start + second.size - np.uint64(1), first.output, side="left")
    high = np.searchsorted(second.start, ends, side="right")
    counts = np.maximum(high - low, 0)
    owner = np.repeat(np.arange(len(first)), counts)
    offsets = np.arange(owner.size) - np.repeat(np.cumsum(counts) - counts, counts)
    other = low[owner] + offsets
    begin = np.maximum(first.output[owner], second.start[other])
    end = np.minimum(ends[owner], second.start[other] + second.size[other] - np.uint64(1))
    return coalesced(
        first.start[owner] + (begin - first.output[owner]),
        end - begin + np.uint64(1),
        second.output[other] + (begin - second.start[other]),
        first.allowed[owner] & second.allowed[other],
        None,
        None if first.kinds is None or second.kinds is None else first.kinds[owner] | second.kinds[other],
    )


def context_map(snapshot: Snapshot, context: Context) -> Map:
    """All that a stream with ``context`` can reach. ``ValueError`` for one that translates nothing."""
    second = stage2_map(snapshot, context.stage2) if context.stage2 is not None else None
    if context.stage1 is None:
        if second is None:
            raise ValueError("a context in which nothing translates maps every address to itself")
        return second
    first = stage1_map(snapshot, context.stage1, second)
    return first if second is None else composed(first, second)


# -- enumeration ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Found:
    start: U64
    size: U64
    output: U64
    word: U64
    above: U64


def _leaves(snapshot: Snapshot, regime: Regime, below: Map | None, *, hierarchical: bool, base: int) -> _Found:
    """Every leaf below a root, level by level, whole tables at a time."""
    tables: U64 = np.array([regime.base], np.uint64)
    starts: U64 = np.array([base], np.uint64)
    above: U64 = np.zeros(1, np.uint64)
    parts: list[_Found] = []
    read = 0
    for level in regime.levels:
        entries = level.mask + 1
        read += tables.size * entries
        if read > LARGEST:
            raise TooMuch(f"the tables at {regime.base:#x} reach more than {LARGEST} descriptors: they may loop")
        if level.number == LAST and entries >= WORDS:
            parts.append(_runs(snapshot, regime, level, tables, starts, above, below))
            break
        words, present = _whole(snapshot, tables, entries, below)
        if regime.swap:
            words = words.byteswap()
        kinds = np.array(level.kinds, np.uint8).take((words & np.uint64(TableDescriptor.Type.mask)).view(np.int64))
        kinds[~present] = 0
        leaf = np.flatnonzero(kinds == LEAF)
        parts.append(_of(regime, level, words, leaf, starts, above, entries, LEAF))
        if level.number == LAST:
            break
        deeper = np.flatnonzero(kinds == TABLE)
        if not deeper.size:
            break
        found = _of(regime, level, words, deeper, starts, above, entries, TABLE)
        tables, starts = found.output, found.start
        above = found.above | found.word & np.uint64(HIERARCHICAL_BITS) if hierarchical else found.above
    return _Found(*(np.concatenate([getattr(part, name) for part in parts]) for name in _Found.__slots__))


def _runs(snapshot: Snapshot, regime: Regime, level: Level, tables: U64, starts: U64, above: U64, below: Map | None) -> _Found:
    """The pages of whole last-level tables, runs of them as one.

    A page whose descriptor is the one before plus the page size continues a run, attributes included, so only the beginnings of runs are
    decoded: most tables of real guests are a few runs.
    """
    pieces = (level.mask + 1) // WORDS
    page = np.uint64(1 << level.shift)
    where = (tables[:, None] + np.arange(pieces, dtype=np.uint64) * np.uint64(PAGE_BYTES)).reshape(-1)
    begins = (starts[:, None] + np.arange(pieces, dtype=np.uint64) * (page * np.uint64(WORDS))).reshape(-1)
    outer = np.repeat(above, pieces)
    fine = np.ones(where.size, np.bool_)
    if below is not None:
        where, fine = _below(where, below)
    rows = snapshot.rows(where)
    there = np.flatnonzero(fine & (rows >= 0))
    table = snapshot.words.reshape(-1, WORDS)
    parts: list[_Found] = []
    for begin in range(0, there.size, _PIECES):
        chosen = there[begin : begin + _PIECES]
        words = table.take(rows[chosen], axis=0).reshape(-1)
        if regime.swap:
            words = words.byteswap()
        fresh = np.ones(words.size, np.bool_)
        np.not_equal(words[1:] - words[:-1], page, out=fresh[1:])
        fresh[::WORDS] = True
        at = np.flatnonzero(fresh)
        length = np.diff(at, append=words.size).view(np.uint64)
        first = words[at]
        valid = (first & np.uint64(TableDescriptor.Type.mask)) == np.uint64(_PAGE)
        if not bool(valid.all()):
            at, length, first = at[valid], length[valid], first[valid]
        output = first & np.uint64(level.leaf_mask)
        if regime.wide or (output.size and int((output + length * page - np.uint64(1)).max()) >> min(regime.output_bits, 48)):
            # Addresses that leave the output size, or that do not just count up: one by one.
            at = np.flatnonzero((words & np.uint64(TableDescriptor.Type.mask)) == np.uint64(_PAGE))
            parts.append(_of(regime, level, words, at, begins[chosen], outer[chosen], WORDS, LEAF))
            continue
        piece, index = at >> 9, (at & (WORDS - 1)).view(np.uint64)
        parts.append(_Found(begins[chosen][piece] + index * page, length * page, output, first, outer[chosen][piece]))
    if not parts:
        nothing = np.zeros(0, np.uint64)
        return _Found(nothing, nothing, nothing, nothing, nothing)
    return _Found(*(np.concatenate([getattr(part, name) for part in parts]) for name in _Found.__slots__))


def _below(where: U64, below: Map) -> tuple[U64, Bools]:
    """Addresses of tables through stage 2, and which of them stage 2 lets a walk read."""
    index, fine = below.find(where)
    if not len(below):
        return np.zeros_like(where), fine
    fine &= below.fetchable[index]
    return np.where(fine, below.output[index] + (where - below.start[index]), np.uint64(0)), fine


def _of(regime: Regime, level: Level, words: U64, chosen: I64, starts: U64, above: U64, entries: int, kind: int) -> _Found:
    """The chosen descriptors of whole tables, those with an output beyond the address size left out."""
    word = words[chosen]
    output = word & np.uint64(level.leaf_mask if kind == LEAF else regime.table_mask)
    if regime.wide:
        output |= wide_bits(word)
    if output.size and int(output.max()) >> regime.output_bits:
        fits = (output >> np.uint64(regime.output_bits)) == 0
        chosen, word, output = chosen[fits], word[fits], output[fits]
    table, index = chosen // entries, chosen % entries
    start = starts[table] + (index.view(np.uint64) << np.uint64(level.shift))
    return _Found(start, np.full(chosen.size, 1 << level.shift, np.uint64), output, word, above[table])


def _whole(snapshot: Snapshot, tables: U64, entries: int, below: Map | None) -> tuple[U64, Bools]:
    """All words of tables of ``entries``, one table after the other, and which of them answer."""
    step = min(entries, PAGE_BYTES // 8)
    pieces = entries // step
    where = (tables[:, None] + np.arange(pieces, dtype=np.uint64) * np.uint64(step * 8)).reshape(-1)
    fine = np.ones(where.size, np.bool_)
    if below is not None:
        where, fine = _below(where, below)
    addresses = (where[:, None] + np.arange(step, dtype=np.uint64) * np.uint64(8)).reshape(-1)
    words, missing = snapshot.read(addresses)
    present = np.repeat(fine, step)
    if missing is not None:
        present &= ~missing
    return words, present
