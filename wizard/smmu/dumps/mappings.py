"""Every mapping of a stream, with permissions and memory types, and who reaches an address. Tables are loaded first, then read as arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from wizard.arch.descriptor import TableDescriptor
from wizard.smmu import permissions
from wizard.smmu.arrays import Map, Snapshot, composed, stage1_map, stage2_map
from wizard.smmu.arrays.maps import TooMuch
from wizard.smmu.arrays.snapshot import U64
from wizard.smmu.attributes import DEFAULT, Sources
from wizard.smmu.context import Context, Stage1, Stage2
from wizard.smmu.dumps.images import ImageMemory
from wizard.smmu.dumps.state import Dump, Reached
from wizard.smmu.memory import PAGE_BYTES, PAGE_SHIFT
from wizard.smmu.regime import LAST, TABLE, Level, Regime

_WIDE = TableDescriptor.Wide
_TABLES = 1 << 18
"""Tables of one stage that are looked at: 1 GiB of them with 4 KiB pages."""
Look = Callable[[Level, int, U64], None]


@dataclass(frozen=True, slots=True)
class Range:
    """``size`` bytes from ``iova`` go to ``pa``; ``allowed`` as ``rwx``, ``kind`` the memory type that comes out."""

    iova: int
    size: int
    pa: int
    allowed: str
    kind: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Input addresses from ``iova`` on, ``size`` bytes, whose table at ``table`` no image holds; ``stage`` 1 or 2."""

    iova: int
    size: int
    table: int
    stage: int


@dataclass(frozen=True, slots=True)
class Mapped:
    """All of a stream: ``everything`` where nothing translates (bypass), else ``ranges``; ``unknown`` is what the images leave open."""

    reached: Reached
    everything: bool
    ranges: tuple[Range, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    why: str = ""


class Mappings:
    """The mappings of a dump; streams with the same tables share them."""

    def __init__(self, dump: Dump) -> None:
        self.dump = dump
        self._second: dict[Stage2, tuple[Map | None, list[Unknown], str]] = {}
        self._whole: dict[tuple[Stage1 | None, Stage2 | None, object], tuple[tuple[Range, ...], tuple[Unknown, ...], str]] = {}

    def of(self, sid: int) -> list[Mapped]:
        """What a stream maps, for transactions without a SubstreamID first."""
        return [self._of(one) for one in self.dump.reached(sid)]

    def all(self) -> Iterator[Mapped]:
        """The same of every stream of the table."""
        for sid in sorted(self.dump.inventory.entries):
            yield from self.of(sid)

    def _of(self, reached: Reached) -> Mapped:
        context = reached.context
        if context is None:
            return Mapped(reached, False, why=reached.why)
        if context.bypass:
            return Mapped(reached, True)
        key = (context.stage1, context.stage2, context.override)
        if key not in self._whole:
            self._whole[key] = self._ranges(context)
        ranges, unknown, why = self._whole[key]
        return Mapped(reached, False, ranges, unknown, why)

    def _ranges(self, context: Context) -> tuple[tuple[Range, ...], tuple[Unknown, ...], str]:
        memory, second, unknown = self.dump.memory, None, []
        try:
            if context.stage2 is not None:
                second, lost, why = self._stage2(context.stage2)
                unknown += lost
                if second is None:
                    return (), tuple(unknown), why
            found = second
            if context.stage1 is not None:
                for half in (context.stage1.lower, context.stage1.upper):
                    if half is not None and half.regime is not None:
                        base = (1 << 64) - (1 << half.regime.input_bits) if half.upper else 0
                        unknown += load_tables(memory, half.regime, 1, base, second)
                first = stage1_map(Snapshot(memory), context.stage1, second, kinds=True)
                found = first if second is None else composed(first, second)
        except TooMuch as error:
            return (), tuple(unknown), str(error)
        return tuple(_named(found, context)) if found is not None else (), tuple(unknown), ""

    def _stage2(self, stage2: Stage2) -> tuple[Map | None, list[Unknown], str]:
        if stage2 not in self._second:
            try:
                unknown = load_tables(self.dump.memory, stage2.regime, 2, 0, None)
                self._second[stage2] = stage2_map(Snapshot(self.dump.memory), stage2, kinds=True), unknown, ""
            except TooMuch as error:
                self._second[stage2] = None, [], str(error)
        return self._second[stage2]


def load_tables(memory: ImageMemory, regime: Regime, stage: int, base: int, below: Map | None, look: Look | None = None) -> list[Unknown]:
    """Load every table below a root; answers with what no image holds. ``TooMuch`` for more tables than anything sane.

    ``below`` is stage 2's map, for tables whose addresses are intermediate ones: those that it does not map fault, and are not unknown.
    ``look`` is shown each table, or each page of one: its level, its physical address and its words.
    """
    unknown: list[Unknown] = []
    tables: dict[int, list[int]] = {regime.base: [base]}
    reached = 0
    for level in regime.levels:
        deeper: dict[int, list[int]] = {}
        size = 8 * (level.mask + 1)
        for table, starts in tables.items():
            for piece in range(0, size, PAGE_BYTES):
                part = min(PAGE_BYTES, size)
                physical = _through(below, table + piece)
                if physical is None:
                    continue
                covered = (part // 8) << level.shift
                if memory.missing(physical, part):
                    unknown += [Unknown(start + (piece // 8 << level.shift), covered, table + piece, stage) for start in starts]
                    continue
                words = _page(memory, physical, part)
                if regime.swap:
                    words = words.byteswap()
                if look is not None:
                    look(level, physical, words)
                if level.number == LAST:
                    continue
                kinds = np.array(level.kinds, np.uint8).take((words & np.uint64(3)).view(np.int64))
                for index in np.flatnonzero(kinds == TABLE).tolist():
                    word = int(words[index])
                    output = word & regime.table_mask | (_WIDE.get(word) << 48 if regime.wide else 0)
                    if not output >> regime.output_bits:
                        begins = (piece // 8 + index) << level.shift
                        reached += len(starts)
                        deeper.setdefault(output, []).extend(start + begins for start in starts)
                if reached > _TABLES:
                    raise TooMuch(f"the tables at {regime.base:#x} lead to more than {_TABLES} others: they may loop")
        tables = deeper
    return unknown


def _page(memory: ImageMemory, physical: int, size: int) -> U64:
    """The words of a table or of a page of it, which is loaded."""
    first = (physical & PAGE_BYTES - 1) >> 3
    return np.frombuffer(memory.loaded(physical >> PAGE_SHIFT), np.uint64)[first : first + size // 8]


def _through(below: Map | None, address: int) -> int | None:
    if below is None:
        return address
    index, there = below.find(np.array([address], np.uint64))
    if not bool(there[0]) or not bool(below.fetchable[index[0]]):
        return None
    return int(below.output[index[0]]) + address - int(below.start[index[0]])


def _named(found: Map, context: Context) -> Iterator[Range]:
    kinds = found.kinds.tolist() if found.kinds is not None else [0] * len(found)
    names: dict[int, str] = {}
    for (start, size, output, allowed), kind in zip(found.rows(), kinds, strict=True):
        if kind not in names:
            names[kind] = _kind(kind, context)
        yield Range(start, size, output, permissions.describe(allowed), names[kind])


def _kind(kind: int, context: Context) -> str:
    first, second = kind >> 8 & 0xFF, kind & 0xFF
    stage1 = (context.stage1.mair >> ((first & 7) << 3) & 0xFF, first >> 3 & 3) if context.stage1 is not None else None
    stage2 = (second & 15, second >> 4 & 3, context.stage2.fwb) if context.stage2 is not None else None
    return str(Sources(DEFAULT, context.override, stage1, stage2).output())
