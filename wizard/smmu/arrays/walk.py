"""Walks of one stage for many addresses in step. The single walk is ``wizard.smmu.walk``; a test holds the two against each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wizard.arch.descriptor import TableDescriptor
from wizard.arch.event import EventType, FaultClass
from wizard.smmu.arrays.rules import wide_bits
from wizard.smmu.arrays.snapshot import I64, U8, U64, Bools, Snapshot
from wizard.smmu.permissions import HIERARCHICAL_BITS
from wizard.smmu.regime import INVALID, LEAF, TABLE, Level, Regime

_TYPE = TableDescriptor.Type.mask


@dataclass(slots=True)
class Faults:
    """What became of each address: event number (0 where none), whether stage 2 faulted, class, and the IPA or fetch address."""

    kind: U8
    stage2: Bools
    fault_class: U8
    address: U64

    @classmethod
    def none(cls, count: int) -> Faults:
        """Nothing has failed yet."""
        return cls(np.zeros(count, np.uint8), np.zeros(count, np.bool_), np.full(count, FaultClass.IN, np.uint8), np.zeros(count, np.uint64))

    def fail(self, at: I64, kind: EventType, *, stage2: bool = False, fault_class: FaultClass = FaultClass.IN, address: U64 | int = 0) -> None:
        """The addresses with these indices end here."""
        self.kind[at] = kind
        self.stage2[at] = stage2
        self.fault_class[at] = fault_class
        self.address[at] = address

    def fresh(self, at: I64) -> I64:
        """Those of the addresses with these indices that nothing has ended yet."""
        return at[self.kind[at] == 0] if bool(self.kind.any()) else at

    def take_over(self, at: I64, other: Faults) -> None:
        """Another stage's faults are those of the addresses ``at``; only where it has any."""
        failed = np.flatnonzero(other.kind != 0)
        if failed.size:
            into = at[failed]
            self.kind[into], self.stage2[into] = other.kind[failed], other.stage2[failed]
            self.fault_class[into], self.address[into] = other.fault_class[failed], other.address[failed]


@dataclass(slots=True)
class Leaves:
    """Where walks ended well: indices of the addresses, descriptor, hierarchical bits, output of the leaf, log2 of its size.

    ``above`` is one number when it is the same for all, and so is ``shift``: what it is in most tables.
    """

    at: I64
    word: U64
    above: U64 | np.uint64
    output: U64
    shift: U64 | np.uint64


@dataclass(slots=True)
class Deeper:
    """Where walks go on: addresses, their indices, the tables that they came to, and the hierarchical bits above those."""

    addresses: U64
    at: I64
    base: U64 | np.uint64
    above: U64 | np.uint64

    def descriptors(self, level: Level) -> U64:
        """Where the descriptors of ``level`` are, whose tables these are."""
        return self.base + ((self.addresses >> np.uint64(level.shift - 3)) & np.uint64(level.mask << 3))


Locate = Callable[[U64, I64], tuple[I64, I64 | None]]
"""Finds descriptors: addresses and the indices they belong to; answers places in ``Snapshot.words`` and which positions are left (None: all)."""
Failed = Callable[[I64, EventType], None]
"""Hears of walks that found no leaf."""


def walk(
    snapshot: Snapshot, regime: Regime, addresses: U64, at: I64, locate: Locate, failed: Failed, *, hierarchical: bool, levels: int | None = None
) -> tuple[Leaves, Deeper]:
    """Walk ``addresses`` (canonical, in range), whose indices are ``at``: leaves, and what goes deeper than the first ``levels`` of the regime's."""
    ended: list[Leaves] = []
    base: U64 | np.uint64 = np.uint64(regime.base)
    above: U64 | np.uint64 = np.uint64(0)
    for level in regime.levels[:levels]:
        index, left = locate(Deeper(addresses, at, base, above).descriptors(level), at)
        words = snapshot.words.take(index)
        if left is not None:
            addresses, at, above = addresses[left], at[left], _some(above, left)
        if regime.swap:
            words = words.byteswap()
        # What all descriptors have in common decides most walks without looking at each of them.
        every, either = int(np.bitwise_and.reduce(words)) if words.size else 0, int(np.bitwise_or.reduce(words)) if words.size else 0
        if words.size and every & _TYPE == either & _TYPE and level.kinds[every & _TYPE] != INVALID:
            kind = level.kinds[every & _TYPE]
            output = _output(regime, level, words, kind)
            keep = _in_range(regime, output, at, failed, either)
            if keep is not None:
                words, output, addresses, at, above = words[keep], output[keep], addresses[keep], at[keep], _some(above, keep)
            if kind == LEAF:
                ended.append(Leaves(at, words, above, output, np.uint64(level.shift)))
                addresses, at = addresses[:0], at[:0]
                break
            if hierarchical and either & HIERARCHICAL_BITS:
                above = above | words & np.uint64(HIERARCHICAL_BITS)
            base = output
            continue
        kinds = np.array(level.kinds, np.uint8).take((words & np.uint64(_TYPE)).view(np.int64))
        wrong = np.flatnonzero(kinds == INVALID)
        if wrong.size:
            failed(at[wrong], EventType.F_TRANSLATION)
        for kind in (LEAF, TABLE):
            chosen = np.flatnonzero(kinds == kind)
            picked, output = words[chosen], _output(regime, level, words[chosen], kind)
            keep = _in_range(regime, output, at[chosen], failed, either)
            if keep is not None:
                chosen, picked, output = chosen[keep], picked[keep], output[keep]
            if kind == LEAF:
                ended.append(Leaves(at[chosen], picked, _some(above, chosen), output, np.uint64(level.shift)))
        addresses, at, base, above = addresses[chosen], at[chosen], output, _some(above, chosen)
        if hierarchical:
            above = above | picked & np.uint64(HIERARCHICAL_BITS)
        if not at.size:
            break
    return _joined(ended), Deeper(addresses, at, base, above)


def _some(values: U64 | np.uint64, chosen: I64) -> U64 | np.uint64:
    """The chosen elements; one number stands for all of them."""
    return values[chosen] if isinstance(values, np.ndarray) else values


def _output(regime: Regime, level: Level, words: U64, kind: int) -> U64:
    output = words & np.uint64(level.leaf_mask if kind == LEAF else regime.table_mask)
    if regime.wide:
        output |= wide_bits(words)
    return output


def _in_range(regime: Regime, output: U64, at: I64, failed: Failed, either: int) -> I64 | None:
    """Which outputs fit the address size; None when all do. ``either`` has the bits that any descriptor has."""
    if not output.size or (not regime.wide and either & ((1 << 48) - 1) >> regime.output_bits << regime.output_bits == 0):
        return None
    beyond = (output >> np.uint64(regime.output_bits)) != 0
    if not bool(beyond.any()):
        return None
    failed(at[beyond], EventType.F_ADDR_SIZE)
    return np.flatnonzero(~beyond)


def _joined(parts: list[Leaves]) -> Leaves:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        nothing = np.zeros(0, np.uint64)
        return Leaves(np.zeros(0, np.int64), nothing, np.uint64(0), nothing, np.uint64(0))
    above = np.concatenate([np.broadcast_to(part.above, part.at.shape) for part in parts])
    shift = np.concatenate([np.broadcast_to(part.shift, part.at.shape) for part in parts])
    at, word, output = (np.concatenate([getattr(part, name) for part in parts]) for name in ("at", "word", "output"))
    return Leaves(at, word, above, output, shift)
