"""The shape of one translation table: levels, index bits, sizes, output address. DDI 0487 D8.2, D8.3; IHI 0070 3.4, 5.2, 5.4.

A ``Regime`` is worked out once per configuration, so that a walk only indexes and masks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

LAST = 3
INVALID, LEAF, TABLE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a walk: the index is ``address >> shift & mask``; ``kinds`` says what each descriptor type means here.

    A leaf maps ``1 << shift`` bytes; with the contiguous hint ``1 << run``.
    """

    number: int
    shift: int
    mask: int
    kinds: tuple[int, int, int, int]
    leaf_mask: int
    run: int


Step = tuple[int, int, tuple[tuple[int, int], ...], Level]
"""A level: the offset of its descriptor is ``address >> first & second``; by descriptor type, what it means and its address bits; the level."""


@dataclass(frozen=True, slots=True)
class Regime:
    """One table as a walk needs it.

    ``input_bits`` is the size of its input range, ``output_bits`` of its outputs; ``wide`` means that 64 KiB descriptors carry address
    bits 51:48 in bits 15:12; ``swap`` that descriptors are big-endian. ``steps`` is what a walk does at each level, worked out of the rest.
    """

    granule: int
    input_bits: int
    output_bits: int
    base: int
    levels: tuple[Level, ...]
    table_mask: int
    wide: bool
    swap: bool
    steps: tuple[Step, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        steps = tuple(
            (one.shift - 3, one.mask << 3, tuple((kind, (0, one.leaf_mask, self.table_mask)[kind]) for kind in one.kinds), one) for one in self.levels
        )
        object.__setattr__(self, "steps", steps)


RUNS = {(12, 1): 4, (12, 2): 4, (12, 3): 4, (14, 2): 5, (14, 3): 7, (16, 2): 5, (16, 3): 5}
"""log2 of the entries in a contiguous run, by granule and level; the hint is RES0 in 64 KiB blocks of level 1 (DDI 0487, AArch64.ContiguousBit)."""

STRIDE = {12: 9, 14: 11, 16: 13}
"""Index bits of a whole table."""


def blocks(granule: int, wide: bool) -> frozenset[int]:
    """Levels at which block descriptors are allowed."""
    if granule == 12:
        return frozenset({1, 2})
    if granule == 14:
        return frozenset({2})
    return frozenset({1, 2}) if wide else frozenset({2})


@lru_cache(maxsize=256)
def levels(granule: int, start: int, input_bits: int, wide: bool) -> tuple[Level, ...]:
    """The levels of a walk from ``start``; the first one's index takes every bit that is left, concatenated tables included."""
    stride = STRIDE[granule]
    result = []
    for number in range(start, LAST + 1):
        shift = granule + stride * (LAST - number)
        width = input_bits - shift if number == start else stride
        block = LEAF if number in blocks(granule, wide) else INVALID
        kinds = (INVALID, INVALID, INVALID, LEAF) if number == LAST else (INVALID, block, INVALID, TABLE)
        # A run that is larger than the input range is a misprogrammed one: nothing beyond the range may hit it.
        run = min(shift + RUNS.get((granule, number), 0), max(shift, input_bits))
        result.append(Level(number, shift, (1 << width) - 1, kinds, (1 << 48) - (1 << shift), run))
    return tuple(result)


def stage1_start(granule: int, input_bits: int) -> int:
    """Start level of a stage 1 table that covers ``input_bits``."""
    return LAST + 1 - -(-(input_bits - granule) // STRIDE[granule])


STAGE2_START = {12: {0: 2, 1: 1, 2: 0, 3: 3}, 14: {0: 3, 1: 2, 2: 1}, 16: {0: 3, 1: 2, 2: 1}}
"""Start level by granule and STE.S2SL0 (DDI 0487 VTCR_EL2.SL0); what is missing is reserved. 4 KiB with 3 needs small tables."""


def stage2_start(granule: int, sl0: int, input_bits: int, oas: int, stt: bool) -> int | None:
    """Start level of a stage 2 table, or None when S2SL0, S2TG and S2T0SZ contradict each other.

    The start level has to resolve at least one bit, and at most four beyond a whole table: 16 concatenated tables (DDI 0487,
    AArch64.S2InconsistentSL); the highest start level needs enough output bits (AArch64.S2InvalidSL).
    """
    start = STAGE2_START[granule].get(sl0)
    if start is None or (start == 3 and granule == 12 and not stt):
        return None
    if sl0 == 2 and oas < (42 if granule == 14 else 44):
        return None
    width = input_bits - granule - STRIDE[granule] * (LAST - start)
    return start if 1 <= width <= STRIDE[granule] + 4 else None


def make(granule: int, start: int, input_bits: int, output_bits: int, base: int, *, wide: bool, swap: bool) -> Regime:
    """A regime. The base address is aligned to the table's size as hardware does, at least 64 bytes with 52-bit output (IHI 0070 5.2, 5.4)."""
    walked = levels(granule, start, input_bits, wide and granule == 16)
    size = max(8 * (walked[0].mask + 1), 64 if output_bits > 48 else 16)
    return Regime(
        granule=granule,
        input_bits=input_bits,
        output_bits=output_bits,
        base=base & -size,
        levels=walked,
        table_mask=(1 << 48) - (1 << granule),
        wide=wide and granule == 16,
        swap=swap,
    )
