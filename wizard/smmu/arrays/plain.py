"""Each address walked through every level of its tables, in chunks: one translation at a time, on arrays.

It is what ``regions`` is held against, and what answers where that has nothing to gain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from wizard.arch.event import EventType, FaultClass
from wizard.smmu import permissions
from wizard.smmu.arrays.rules import AF1, AF2, allowed1, allowed2, devices2
from wizard.smmu.arrays.snapshot import I64, U8, U64, Bools, Snapshot
from wizard.smmu.arrays.walk import Faults, Leaves, Locate, walk
from wizard.smmu.context import Context, Half, Stage1, Stage2
from wizard.smmu.ids import Features
from wizard.smmu.memory import PAGE_SHIFT

CHUNK = 1 << 16
"""Addresses at a time, so that what is worked on stays in the processor's caches."""

LEFT = 0xFF
"""Stands for the event number of an address that is still to be answered."""
_TOP = np.uint64(0xFF << 56)
_ONE = np.uint64(1)
_IN_PAGE = np.uint64((1 << PAGE_SHIFT) - 1)


@dataclass(frozen=True, slots=True)
class Translations:
    """One element per address.

    ``kind`` is the event number, 0 where the access passed to ``pa``; ``stage2``, ``fault_class`` and ``address`` (IPA or fetch address)
    describe the fault; ``allowed`` are the permissions of both stages and ``span`` log2 of the bytes of the smaller leaf, where it passed.
    """

    pa: U64
    kind: U8
    stage2: Bools
    fault_class: U8
    address: U64
    allowed: U8
    span: U8

    @classmethod
    def none(cls, count: int) -> Self:
        """Room for ``count`` answers, none of which is a fault.

        In one block: memory that is touched for the first time costs more than a look at a table, and the kernel gives a large block large pages.
        """
        block = np.zeros(21 * count, np.uint8)
        pa, address = block[: 16 * count].view(np.uint64).reshape(2, count)
        kind, allowed, span, fault_class, stage2 = block[16 * count :].reshape(5, count)
        fault_class[:] = FaultClass.IN
        return cls(pa, kind, stage2.view(np.bool_), fault_class, address, allowed, span)

    def left(self) -> I64:
        """Which addresses are still to be answered."""
        return np.flatnonzero(self.kind == LEFT)

    def put(self, at: slice | I64, part: Translations) -> None:
        """Take the answers of a part."""
        for name in Translations.__slots__:
            getattr(self, name)[at] = getattr(part, name)


class Second:
    """Stage 2 over a snapshot; remembers where the pages of stage 1 tables are."""

    __slots__ = ("_known", "_pages", "_regions", "snapshot", "stage2")

    _REGION = 12

    def __init__(self, snapshot: Snapshot, stage2: Stage2) -> None:
        self.snapshot, self.stage2 = snapshot, stage2
        self._regions: I64 = np.zeros(1, np.int64)
        # Region 0 of the pages stays empty: regions that nobody asked for share it.
        self._pages: U64 = np.zeros((1, 1 << self._REGION), np.uint64)

    def translate(self, ipa: U64, need: int, purpose: FaultClass) -> tuple[U64, U8, U8, Faults]:
        """Output addresses, permissions, log2 of the leaf sizes, and faults; the first three count where there is no fault."""
        stage2, count = self.stage2, ipa.size
        faults = Faults.none(count)
        pa, allowed, span = np.zeros(count, np.uint64), np.zeros(count, np.uint8), np.zeros(count, np.uint8)
        at: I64 = np.arange(count)
        inside = ipa
        if count and int(np.bitwise_or.reduce(ipa)) >> stage2.regime.input_bits:
            beyond = (ipa >> np.uint64(stage2.regime.input_bits)) != 0
            faults.fail(np.flatnonzero(beyond), EventType.F_TRANSLATION, stage2=True, fault_class=purpose, address=ipa[beyond])
            at = np.flatnonzero(~beyond)
            inside = ipa[at]

        def failed(of: I64, kind: EventType) -> None:
            faults.fail(of, kind, stage2=True, fault_class=purpose, address=ipa[of])

        leaves, _ = walk(self.snapshot, stage2.regime, inside, at, locate2(self.snapshot, purpose, faults), failed, hierarchical=False)
        words, of = leaves.word, leaves.at
        granted = allowed2(stage2, words)
        within = (_ONE << leaves.shift) - _ONE
        if of is at and count == of.size:
            allowed[:], span[:] = granted, leaves.shift
            pa = leaves.output | ipa & within
        else:
            allowed[of], span[of] = granted, leaves.shift
            pa[of] = leaves.output | ipa[of] & within
        if not stage2.ha and not stage2.affd and not _all_have(words, AF2):
            self._deny(faults, of[(words & np.uint64(AF2)) == 0], EventType.F_ACCESS, purpose, ipa)
        denied = (granted & np.uint8(need)) == 0
        if stage2.ptw and purpose is not FaultClass.IN:
            denied = denied | devices2(stage2, words)
        if bool(denied.any()):
            self._deny(faults, of[np.broadcast_to(denied, of.shape)], EventType.F_PERMISSION, purpose, ipa)
        return pa, allowed, span, faults

    def _deny(self, faults: Faults, of: I64, kind: EventType, purpose: FaultClass, ipa: U64) -> None:
        """Fault those that have none yet: the access flag comes before permissions."""
        if of.size:
            fresh = faults.fresh(of)
            faults.fail(fresh, kind, stage2=True, fault_class=purpose, address=ipa[fresh])

    def tables(self, ipa: U64) -> tuple[U64, Faults | None]:
        """Where descriptors of stage 1 are, by pages that were asked for before; faults only where there are any."""
        either = int(np.bitwise_or.reduce(ipa))
        if either >> self.stage2.regime.input_bits:
            pa, _, _, faults = self.translate(ipa, permissions.PR, FaultClass.TTD)
            return pa, faults
        if (either ^ int(np.bitwise_and.reduce(ipa))) >> PAGE_SHIFT == 0 and ipa.size > 1:
            # The upper levels: all in one table.
            one, faulty = self.tables(ipa[:1])
            if faulty is None:
                return (one[0] & ~_IN_PAGE) | ipa & _IN_PAGE, None
        if either >> PAGE_SHIFT + self._REGION >= self._regions.size:
            grown: I64 = np.zeros((either >> PAGE_SHIFT + self._REGION) + 1, np.int64)
            grown[: self._regions.size] = self._regions
            self._regions = grown
        pages = ipa >> np.uint64(PAGE_SHIFT)
        region, within = (pages >> np.uint64(self._REGION)).view(np.int64), (pages & np.uint64((1 << self._REGION) - 1)).view(np.int64)
        flat = (self._regions.take(region) << self._REGION) + within
        held = self._pages.reshape(-1).take(flat)
        if not bool(held.all()):
            if not self._learn(np.unique(pages[held == 0])):
                pa, _, _, faults = self.translate(ipa, permissions.PR, FaultClass.TTD)
                return pa, faults
            held = self._pages.reshape(-1).take((self._regions.take(region) << self._REGION) + within)
        # Bit 0 says that the page is known; the offset goes over it.
        return (held ^ _ONE) | ipa & _IN_PAGE, None

    def _learn(self, missing: U64) -> bool:
        """Translate pages once and remember those that stage 2 lets through; whether that was all of them."""
        pa, _, _, faults = self.translate(missing << np.uint64(PAGE_SHIFT), permissions.PR, FaultClass.TTD)
        good = faults.kind == 0
        for region in np.unique(missing >> np.uint64(self._REGION)):
            if not self._regions[int(region)]:
                self._regions[int(region)] = self._pages.shape[0]
                self._pages = np.concatenate([self._pages, np.zeros((1, 1 << self._REGION), np.uint64)])
        numbers = missing[good].view(np.int64)
        mask = (1 << self._REGION) - 1
        self._pages[self._regions[numbers >> self._REGION], numbers & mask] = pa[good] | _ONE
        return bool(good.all())


def locate1(snapshot: Snapshot, second: Second | None, faults: Faults) -> Locate:
    """Finds descriptors of stage 1, through stage 2 where there is one; what does not answer is put down in ``faults``."""

    def locate(where: U64, of: I64) -> tuple[I64, I64 | None]:
        left: I64 | None = None
        place = where
        if second is not None:
            place, below = second.tables(where)
            if below is not None:
                faults.take_over(of, below)
                left = np.flatnonzero(below.kind == 0)
                place, of = place[left], of[left]
        index, missing = snapshot.find(place)
        if missing is not None:
            faults.fail(of[missing], EventType.F_WALK_EABT, fault_class=FaultClass.TTD, address=place[missing])
            kept = np.flatnonzero(~missing)
            index, left = index[kept], kept if left is None else left[kept]
        return index, left

    return locate


def locate2(snapshot: Snapshot, purpose: FaultClass, faults: Faults) -> Locate:
    """Finds descriptors of stage 2; what does not answer is put down in ``faults``."""

    def locate(where: U64, of: I64) -> tuple[I64, I64 | None]:
        index, missing = snapshot.find(where)
        if missing is None:
            return index, None
        faults.fail(of[missing], EventType.F_WALK_EABT, stage2=True, fault_class=purpose, address=where[missing])
        left = np.flatnonzero(~missing)
        return index[left], left

    return locate


def translate(snapshot: Snapshot, context: Context, features: Features, second: Second | None, addresses: U64, need: int) -> Translations:
    """Translate ``addresses`` for accesses that need the permission ``need``; ``second`` is the context's stage 2."""
    found = Translations.none(addresses.size)
    for begin in range(0, addresses.size, CHUNK):
        found.put(slice(begin, begin + CHUNK), _chunk(snapshot, context, features, second, addresses[begin : begin + CHUNK], need))
    return found


def _chunk(snapshot: Snapshot, context: Context, features: Features, second: Second | None, addresses: U64, need: int) -> Translations:
    count = addresses.size
    if context.stage1 is None:
        limit = features.ias if second is not None else features.oas
        faults = Faults.none(count)
        beyond = np.flatnonzero((addresses >> np.uint64(limit)) != 0)
        pa, allowed, span = addresses.copy(), np.full(count, permissions.ALL, np.uint8), np.full(count, PAGE_SHIFT, np.uint8)
        if second is not None:
            pa, allowed, span, faults = second.translate(addresses, need, FaultClass.IN)
        faults.fail(beyond, EventType.F_ADDR_SIZE)
        return _finished(pa, allowed, span, faults)
    pa, allowed, span, faults = _first(snapshot, context.stage1, second, addresses, need)
    if second is not None:
        left = np.flatnonzero(faults.kind == 0) if bool(faults.kind.any()) else None
        out, granted, size, later = second.translate(pa if left is None else pa[left], need, FaultClass.IN)
        if left is None:
            pa, allowed, span, faults = out, allowed & granted, np.minimum(span, size), later
        else:
            pa[left], allowed[left], span[left] = out, allowed[left] & granted, np.minimum(span[left], size)
            faults.take_over(left, later)
    return _finished(pa, allowed, span, faults)


def _finished(pa: U64, allowed: U8, span: U8, faults: Faults) -> Translations:
    if bool(faults.kind.any()):
        wrong = faults.kind != 0
        pa[wrong], allowed[wrong], span[wrong] = 0, 0, 0
    return Translations(pa, faults.kind, faults.stage2, faults.fault_class, faults.address, allowed, span)


def _first(snapshot: Snapshot, stage1: Stage1, second: Second | None, addresses: U64, need: int) -> tuple[U64, U8, U8, Faults]:
    """Stage 1 of a chunk."""
    count = addresses.size
    faults = Faults.none(count)
    pa, allowed, span = np.zeros(count, np.uint64), np.zeros(count, np.uint8), np.zeros(count, np.uint8)
    several = stage1.upper is not None and bool(int(np.bitwise_or.reduce(addresses)) >> 55 & 1 if count else 0)
    halves: list[tuple[Half, I64]] = []
    if stage1.upper is None or not several:
        halves.append((stage1.lower, np.arange(count)))
    else:
        upper = (addresses >> np.uint64(55)) & _ONE
        halves += [(stage1.lower, np.flatnonzero(upper == 0)), (stage1.upper, np.flatnonzero(upper))]
    for half, at in halves:
        leaves, inside = _half(snapshot, stage1, half, second, addresses[at] if several else addresses, at, need, faults)
        of, words = leaves.at, leaves.word
        granted = allowed1(stage1, words, leaves.above)
        output = leaves.output | inside & ((_ONE << leaves.shift) - _ONE)
        if of is at and not several:
            pa, allowed[:], span[:] = output, granted, leaves.shift
        else:
            pa[of], allowed[of], span[of] = output, granted, leaves.shift
        if not stage1.ha and not stage1.affd and not _all_have(words, AF1):
            faults.fail(of[(words & np.uint64(AF1)) == 0], EventType.F_ACCESS)
        denied = (granted & np.uint8(need)) == 0
        if bool(denied.any()):
            wrong = of[np.broadcast_to(denied, of.shape)]
            faults.fail(wrong[faults.kind[wrong] == 0], EventType.F_PERMISSION)
    return pa, allowed, span, faults


def _all_have(words: U64, bit: int) -> bool:
    """Whether every word has ``bit``."""
    return not words.size or bool(int(np.bitwise_and.reduce(words)) & bit)


def _half(
    snapshot: Snapshot, stage1: Stage1, half: Half, second: Second | None, addresses: U64, at: I64, need: int, faults: Faults
) -> tuple[Leaves, U64]:
    """The leaves of one half, and the addresses that reached them."""
    regime = half.regime
    disabled = regime is None or (half.e0pd and not need & (permissions.PR | permissions.PW | permissions.PX))
    if half.tbi:
        addresses = addresses | _TOP if half.upper else addresses & ~_TOP
    if regime is not None:
        wanted = np.uint64(((1 << 64) - 1) >> regime.input_bits if half.upper else 0)
        if disabled or half.upper or (addresses.size and int(np.bitwise_or.reduce(addresses)) >> regime.input_bits):
            outside = (addresses >> np.uint64(regime.input_bits)) != wanted
            wrong = np.ones_like(outside) if disabled else outside
            if bool(wrong.any()):
                faults.fail(at[wrong], EventType.F_TRANSLATION)
                addresses, at = addresses[~wrong], at[~wrong]
    else:
        faults.fail(at, EventType.F_TRANSLATION)
    nothing = np.zeros(0, np.uint64)
    if regime is None or not at.size:
        return Leaves(np.zeros(0, np.int64), nothing, np.uint64(0), nothing, np.uint64(0)), nothing

    def failed(of: I64, kind: EventType) -> None:
        faults.fail(of, kind)

    leaves, _ = walk(snapshot, regime, addresses, at, locate1(snapshot, second, faults), failed, hierarchical=not half.had)
    if leaves.at is at:
        return leaves, addresses
    place = np.zeros(int(at.max()) + 1, np.int64)
    place[at] = np.arange(at.size)
    return leaves, addresses[place[leaves.at]]
