"""One stage of translation: where its tables start, the walk, permissions and hardware update. DDI 0487 D8, AArch64.S1Walk and S2Walk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.smmu.second.words import F_ACCESS, F_ADDR_SIZE, F_TRANSLATION, F_WALK_EABT, Ended, Memory, bits

CONTIGUOUS = {(12, 3): 16, (12, 2): 16, (12, 1): 16, (14, 3): 128, (14, 2): 32, (16, 3): 32, (16, 2): 32}
"""How many entries of a granule and level one contiguous run has (DDI 0487 D8.7.1)."""


@dataclass(frozen=True)
class Stage:
    """What a walk needs to know. ``size`` is the largest output address in bits; ``wide`` that descriptors hold 52-bit addresses."""

    granule: int
    input_bits: int
    start: int
    base: int
    size: int
    wide: bool
    big: bool
    af: bool
    """Hardware sets the access flag."""
    dirty: bool
    """Hardware makes writable-clean pages dirty."""
    affd: bool
    hierarchy: bool
    second: bool

    @property
    def stride(self) -> int:
        return self.granule - 3

    def shift(self, level: int) -> int:
        """log2 of the bytes that an entry of ``level`` covers."""
        return self.granule + self.stride * (3 - level)

    def table(self) -> int:
        """The start table's address: aligned to its size, at least 64 bytes where addresses have 52 bits."""
        size = 8 << self.input_bits - self.shift(self.start)
        return self.base & -max(size, 64 if self.size > 48 else 8)

    def address(self, descriptor: int, shift: int) -> int:
        """The output address of a descriptor."""
        low = descriptor & (1 << 48) - (1 << shift)
        return low | bits(descriptor, 15, 12) << 48 if self.wide and self.granule == 16 else low

    def may_be_block(self, level: int) -> bool:
        """AArch64.BlockDescSupported, without FEAT_LPA2."""
        return level in {12: (1, 2), 14: (2,), 16: (1, 2) if self.wide else (2,)}[self.granule]


@dataclass(frozen=True)
class Leaf:
    """Where a walk ended: the descriptor and its place, what the tables above took away, and how far it reaches."""

    descriptor: int
    at: int
    """Where the descriptor is, as this stage sees memory."""
    place: int
    level: int
    output: int
    span: int
    ap_table: int
    uxn_table: int
    pxn_table: int


def start_of_stage1(granule: int, input_bits: int) -> int:
    return 4 - -(-(input_bits - granule) // (granule - 3))


def swapped(word: int, big: bool) -> int:
    return int.from_bytes(word.to_bytes(8, "little"), "big") if big else word


def walk(stage: Stage, memory: Memory, address: int, located: Callable[[int], int], cls: str) -> Leaf:
    """The leaf for ``address``, its upper bits already checked. ``located`` translates a descriptor's address; ``Ended`` for faults.

    At each level: abort, no valid descriptor, output too large; at the leaf then the access flag (7.3.22).
    """
    base, ap, uxn, pxn = stage.table(), 0, 0, 0
    for level in range(stage.start, 4):
        shift = stage.shift(level)
        width = stage.input_bits - shift if level == stage.start else stage.stride
        at = base + 8 * bits(address, shift + width - 1, shift)
        place = located(at)
        raw = memory.read(place)
        if raw is None:
            raise Ended(F_WALK_EABT, s2=stage.second, cls=cls if stage.second else "TTD", fetch=place)
        word = swapped(raw, stage.big)
        if word & 3 == 3 and level < 3:
            base = stage.address(word, stage.granule)
            if base >> stage.size:
                raise Ended(F_ADDR_SIZE, s2=stage.second, cls=cls, ipa=address)
            if stage.hierarchy:
                ap, uxn, pxn = ap | bits(word, 62, 61), uxn | bits(word, 60), pxn | bits(word, 59)
            continue
        if not (word & 3 == 3 if level == 3 else word & 3 == 1 and stage.may_be_block(level)):
            raise Ended(F_TRANSLATION, s2=stage.second, cls=cls, ipa=address)
        output = stage.address(word, shift)
        if output >> stage.size:
            raise Ended(F_ADDR_SIZE, s2=stage.second, cls=cls, ipa=address)
        if not bits(word, 10) and not stage.af and not stage.affd:
            raise Ended(F_ACCESS, s2=stage.second, cls=cls, ipa=address)
        return Leaf(word, at, place, level, output, span(stage, word, level, address, output), ap, uxn, pxn)
    raise AssertionError("a walk ends at level 3")


def span(stage: Stage, word: int, level: int, address: int, output: int) -> int:
    """log2 of the bytes that one entry may stand for.

    A contiguous run whose outputs lie otherwise than its inputs is none, nor is one whose access flags hardware keeps: each leaf has its own.
    """
    shift = stage.shift(level)
    run = CONTIGUOUS.get((stage.granule, level), 1) if bits(word, 52) and not stage.af else 1
    reach = min(shift + run.bit_length() - 1, stage.input_bits)
    inside = (1 << reach) - (1 << shift)
    return reach if (address ^ output) & inside == 0 else shift


def updated(stage: Stage, memory: Memory, leaf: Leaf, make_dirty: bool) -> bool:
    """Hardware update: the access flag, and for a granted write of a writable-clean page the dirty state. Answers whether it wrote."""
    word = changed(stage, leaf, make_dirty)
    if word == leaf.descriptor:
        return False
    memory.words[leaf.place] = swapped(word, stage.big)
    return True


def changed(stage: Stage, leaf: Leaf, make_dirty: bool) -> int:
    """The descriptor after its hardware update."""
    word = leaf.descriptor | 1 << 10 if stage.af else leaf.descriptor
    if make_dirty and stage.dirty and bits(word, 51):
        word = word | 1 << 7 if stage.second else word & ~(1 << 7)
    return word


@dataclass(frozen=True)
class Allowed:
    """What one privilege level may do."""

    read: bool
    write: bool
    execute: bool


def first_allows(stage: Stage, leaf: Leaf, *, privileged: bool, two_levels: bool, wxn: bool, pan: bool, epan: bool) -> Allowed:
    """AArch64.S1DirectBasePermissions. ``two_levels``: the regime has an unprivileged level (all but EL2 without E2H).

    A page that is writable-clean under hardware management counts as writable. PAN takes away reading and writing, which are of data.
    """
    word = leaf.descriptor
    read_only = bits(word, 7) and not (stage.dirty and bits(word, 51))
    writable = not read_only and not leaf.ap_table & 2
    if not two_levels:
        return Allowed(True, writable, not (bits(word, 54) or leaf.uxn_table or (wxn and writable)))
    user = bool(bits(word, 6)) and not leaf.ap_table & 1
    user_write = user and writable
    user_execute = not (bits(word, 54) or leaf.uxn_table)
    if not privileged:
        return Allowed(user, user_write, user_execute and not (wxn and user_write))
    execute = not (bits(word, 53) or leaf.pxn_table or user_write or (wxn and writable))
    never = pan and (user or (epan and user_execute))
    return Allowed(not never, writable and not never, execute)


def second_allows(stage: Stage, leaf: Leaf, *, privileged: bool, xnx: bool) -> Allowed:
    """AArch64.S2DirectBasePermissions: S2AP, and XN[1:0] or XN. Execute-only pages are possible (13.7)."""
    word = leaf.descriptor
    read = bool(bits(word, 6))
    write = bool(bits(word, 7) or (stage.dirty and bits(word, 51)))
    never = bits(word, 54, 53) if xnx else 2 * bits(word, 54)
    execute = never in ((0, 3) if privileged else (0, 1))
    return Allowed(read, write, execute)
