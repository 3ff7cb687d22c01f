"""Table walks of one stage: DDI 0487 D8.2 to D8.5; order of faults IHI 0070 7.3.22."""

from __future__ import annotations

from collections.abc import Callable

from wizard.arch.descriptor import Stage1Leaf, Stage2Leaf, TableDescriptor
from wizard.arch.event import EventType
from wizard.smmu.cache import Tables
from wizard.smmu.memory import PAGE_SHIFT, WORDS, Memory
from wizard.smmu.permissions import HIERARCHICAL_BITS
from wizard.smmu.regime import INVALID, LAST, LEAF, TABLE, Level, Regime
from wizard.smmu.trace import Trace

_TYPE = TableDescriptor.Type.mask
_LAST_WORD = WORDS - 1
_WIDE = TableDescriptor.Wide


class WalkEnd(Exception):
    """A walk that found no leaf: a translation or address size fault, or nothing at the ``address`` of a descriptor (F_WALK_EABT).

    Turned into a ``Fault`` by who knows the stage and the purpose.
    """

    __slots__ = ("address", "kind", "reason")

    def __init__(self, kind: EventType, reason: str, address: int = 0) -> None:
        super().__init__(reason)
        self.kind, self.reason, self.address = kind, reason, address


def swapped(word: int) -> int:
    """A 64-bit word with its bytes the other way round."""
    return int.from_bytes(word.to_bytes(8, "little"), "big")


def walk(
    memory: Memory,
    regime: Regime,
    address: int,
    below: Callable[[int], int] | None,
    tables: Tables | None,
    trace: Trace | None,
    stage: int,
    *,
    hierarchical: bool,
) -> tuple[int, Level, int, int, int]:
    """Find the leaf for ``address``, which the caller has checked to be in the input range and made canonical.

    Answers with the descriptor, its level, the hierarchical attribute bits of the tables above (0 unless ``hierarchical``), where the
    descriptor was read, and the output address of the leaf. ``below`` translates the address of a descriptor, where another stage does. ``tables``
    remembers table descriptors between walks.
    """
    base, above, steps = regime.base, 0, regime.steps
    limits = HIERARCHICAL_BITS if hierarchical else 0
    if tables is not None:
        levels = regime.levels
        for index in range(len(levels) - 2, -1, -1):
            held = tables.get(levels[index].shift, address >> levels[index].shift)
            if held is not None:
                base, above = held
                steps = steps[index + 1 :]
                if trace is not None:
                    trace.add("walk", f"stage {stage} level {levels[index].number} table at {base:#x} is cached")
                break
    pages, bits = memory.whole, regime.output_bits
    # Most tables are little-endian, with 48-bit addresses, and nobody listens.
    odd = regime.swap or regime.wide or trace is not None or tables is not None
    for shift, mask, types, level in steps:
        where = base + (address >> shift & mask)
        place = where if below is None else below(where)
        page = pages.get(place >> PAGE_SHIFT)
        word = page[place >> 3 & _LAST_WORD] if page is not None else _read(memory, place, stage)
        if odd and regime.swap:
            word = swapped(word)
        kind, address_bits = types[word & _TYPE]
        output = word & address_bits
        if odd:
            if regime.wide:
                output |= _WIDE.get(word) << 48
            if trace is not None:
                _tell(trace, stage, level, kind, where, word, address)
        if kind == INVALID:
            raise WalkEnd(EventType.F_TRANSLATION, f"stage {stage} level {level.number} descriptor {word:#x} is not valid")
        if output >> bits:
            raise WalkEnd(EventType.F_ADDR_SIZE, f"stage {stage} level {level.number} address {output:#x} is beyond {bits} bits")
        if kind == LEAF:
            return word, level, above & limits, where, output
        above |= word
        base = output
        if tables is not None:
            tables.put(level.shift, address >> level.shift, (base, above & limits), level.number, regime.granule)
    raise AssertionError("the last level has no table descriptors")


def _read(memory: Memory, place: int, stage: int) -> int:
    """A descriptor in a page that nobody wrote, or that is not all there."""
    word = memory.read(place)
    if word is None:
        raise WalkEnd(EventType.F_WALK_EABT, f"nothing answers at {place:#x}, a stage {stage} descriptor", place)
    return word


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
