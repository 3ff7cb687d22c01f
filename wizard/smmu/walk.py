"""Table walks of one stage: DDI 0487 D8.2 to D8.5; order of faults IHI 0070 7.3.22."""

from __future__ import annotations

from collections.abc import Callable

from wizard.arch.descriptor import Stage1Leaf, Stage2Leaf, TableDescriptor
from wizard.arch.event import EventType
from wizard.smmu.cache import Tables
from wizard.smmu.permissions import HIERARCHICAL_BITS
from wizard.smmu.regime import INVALID, LAST, LEAF, TABLE, Level, Regime
from wizard.smmu.trace import Trace

_TYPE = TableDescriptor.Type.mask
_WIDE = TableDescriptor.Wide


class WalkEnd(Exception):
    """A walk that found no leaf: translation or address size fault. Turned into a ``Fault`` by who knows the stage and the purpose."""

    __slots__ = ("kind", "reason")

    def __init__(self, kind: EventType, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


def swapped(word: int) -> int:
    """A 64-bit word with its bytes the other way round."""
    return int.from_bytes(word.to_bytes(8, "little"), "big")


def walk(
    regime: Regime,
    address: int,
    fetch: Callable[[int], int],
    tables: Tables | None,
    trace: Trace | None,
    stage: int,
    *,
    hierarchical: bool,
) -> tuple[int, Level, int, int, int]:
    """Find the leaf for ``address``, which the caller has checked to be in the input range and made canonical.

    Answers with the descriptor, its level, the hierarchical attribute bits of the tables above (0 unless ``hierarchical``), where the
    descriptor was read, and the output address of the leaf. ``fetch`` reads one descriptor and raises where that fails. ``tables``
    remembers table descriptors between walks.
    """
    base, above, levels = regime.base, 0, regime.levels
    first = 0
    if tables is not None:
        for index in range(len(levels) - 2, -1, -1):
            held = tables.get(levels[index].shift, address >> levels[index].shift)
            if held is not None:
                base, above = held
                first = index + 1
                if trace is not None:
                    trace.add("walk", f"stage {stage} level {levels[index].number} table at {base:#x} is cached")
                break
    for level in levels[first:] if first else levels:
        where = base + ((address >> level.shift & level.mask) << 3)
        word = fetch(where)
        if regime.swap:
            word = swapped(word)
        kind = level.kinds[word & _TYPE]
        if trace is not None:
            _tell(trace, stage, level, kind, where, word, address)
        if kind == INVALID:
            raise WalkEnd(EventType.F_TRANSLATION, f"stage {stage} level {level.number} descriptor {word:#x} is not valid")
        mask = level.leaf_mask if kind == LEAF else regime.table_mask
        output = word & mask
        if regime.wide:
            output |= _WIDE.get(word) << 48
        if output >> regime.output_bits:
            raise WalkEnd(EventType.F_ADDR_SIZE, f"stage {stage} level {level.number} address {output:#x} is beyond {regime.output_bits} bits")
        if kind == LEAF:
            return word, level, above, where, output
        if hierarchical:
            above |= word & HIERARCHICAL_BITS
        base = output
        if tables is not None:
            tables.put(level.shift, address >> level.shift, (base, above), level.number, regime.granule)
    raise AssertionError("the last level has no table descriptors")


def _tell(trace: Trace, stage: int, level: Level, kind: int, where: int, word: int, address: int) -> None:
    """A descriptor as the trace tells it: its place and word, then its fields by name."""
    text = ("invalid descriptor", "page" if level.number == LAST else "block", "table")[kind]
    fields: dict[str, int] = {"index": address >> level.shift & level.mask}
    if kind == TABLE and stage == 1:
        fields |= {name: content for name, content in TableDescriptor(word).fields().items() if content and name in _HIERARCHICAL}
    elif kind == LEAF:
        leaf = (Stage1Leaf if stage == 1 else Stage2Leaf)(word).fields()
        fields |= {name: content for name, content in leaf.items() if name in _ALWAYS or (content and name != "Type")}
    trace.add("walk", f"stage {stage} level {level.number}: {text}", where, (word,), **fields)


_HIERARCHICAL = ("APTable", "UXNTable", "PXNTable")
_ALWAYS = ("AP", "S2AP", "AF")


def span_of(word: int, level: Level, *, run: bool) -> int:
    """log2 of the bytes that a leaf stands for; a contiguous run counts as one when ``run``."""
    return level.run if run and Stage1Leaf.Contiguous.get(word) else level.shift


def in_place(level: Level, address: int, output: int) -> bool:
    """Whether a leaf's output lies in its contiguous run as its address does; if not, the hint is misprogrammed (DDI 0487 D8.7.1).

    One entry for such a run would reach what its leaves, or the stage 2 behind them, do not map: each leaf is then alone.
    """
    return not (address ^ output) & (1 << level.run) - (1 << level.shift)
