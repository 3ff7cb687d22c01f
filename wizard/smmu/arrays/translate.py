"""Whole arrays of addresses through one context: the same answers as ``Smmu.translate`` without caches gives one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from wizard.arch.bits import Field
from wizard.arch.descriptor import Stage1Leaf, Stage2Leaf, TableDescriptor
from wizard.arch.event import EventType, FaultClass
from wizard.smmu import permissions
from wizard.smmu.arrays.snapshot import I64, U8, U64, Snapshot
from wizard.smmu.arrays.walk import Faults, Leaves, walk
from wizard.smmu.attributes import is_device
from wizard.smmu.context import Context, Half, Stage1, Stage2
from wizard.smmu.ids import Features
from wizard.smmu.memory import PAGE_SHIFT
from wizard.smmu.permissions import STAGE1_BITS, STAGE2_BITS

CHUNK = 1 << 16
"""Addresses at a time, so that what is worked on stays in the processor's caches."""

_AF1 = Stage1Leaf.AF.mask << Stage1Leaf.AF.lo
_AF2 = Stage2Leaf.AF.mask << Stage2Leaf.AF.lo
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
    stage2: NDArray[np.bool_]
    fault_class: U8
    address: U64
    allowed: U8
    span: U8


@lru_cache(maxsize=64)
def _table1(el2: bool, wxn: bool, pan: bool, epan: bool, dirty: bool) -> U8:
    """Permissions of stage 1 by 9 bits: AP, PXN, UXN, DBM of the leaf, then APTable, PXNTable, UXNTable."""
    found = []
    for code in range(512):
        leaf = Stage1Leaf.build(AP=code & 3, PXN=code >> 2 & 1, UXN=code >> 3 & 1, DBM=code >> 4 & 1).value
        above = TableDescriptor.build(APTable=code >> 5 & 3, PXNTable=code >> 7 & 1, UXNTable=code >> 8 & 1).value
        found.append(permissions.stage1(leaf, above, el2, wxn, pan, epan, dirty)[0])
    return np.array(found, np.uint8)


@lru_cache(maxsize=16)
def _table2(xnx: bool, dirty: bool) -> U8:
    """Permissions of stage 2 by 5 bits: S2AP, XN, DBM."""
    return np.array([permissions.stage2(Stage2Leaf.build(S2AP=c & 3, XN=c >> 2 & 3, DBM=c >> 4).value, xnx, dirty)[0] for c in range(32)], np.uint8)


@lru_cache(maxsize=2)
def _devices(fwb: bool) -> NDArray[np.bool_]:
    return np.array([is_device(memattr, fwb) for memattr in range(16)])


def _bits(words: U64, field: Field, into: int, neighbour: Field | None = None) -> U64:
    """A field of every word, moved to bit ``into``; with the ``neighbour`` that follows it."""
    mask = field.mask if neighbour is None else field.mask | neighbour.mask << field.width
    return ((words >> np.uint64(field.lo)) & np.uint64(mask)) << np.uint64(into)


def allowed1(stage1: Stage1, words: U64, above: U64 | np.uint64) -> U8:
    """Permissions of stage 1 leaves; one element when they are the same for all."""
    words = _alike(words, STAGE1_BITS)
    code = _bits(words, Stage1Leaf.AP, 0) | _bits(words, Stage1Leaf.PXN, 2, Stage1Leaf.UXN) | _bits(words, Stage1Leaf.DBM, 4)
    outer = np.atleast_1d(np.asarray(above, np.uint64))
    code = code | _bits(outer, TableDescriptor.APTable, 5) | _bits(outer, TableDescriptor.PXNTable, 7, TableDescriptor.UXNTable)
    return _table1(stage1.el2, stage1.wxn, stage1.pan, stage1.epan, stage1.hd).take(code.view(np.int64))


def allowed2(stage2: Stage2, words: U64) -> U8:
    """Permissions of stage 2 leaves; one element when they are the same for all."""
    words = _alike(words, STAGE2_BITS)
    code = _bits(words, Stage2Leaf.S2AP, 0) | _bits(words, Stage2Leaf.XN, 2) | _bits(words, Stage2Leaf.DBM, 4)
    return _table2(stage2.xnx, stage2.hd).take(code.view(np.int64))


def _alike(words: U64, mask: int) -> U64:
    """``words``, or only the first of them when all have the same bits of ``mask``."""
    if words.size > 1 and not (int(np.bitwise_and.reduce(words)) ^ int(np.bitwise_or.reduce(words))) & mask:
        return words[:1]
    return words


def devices2(stage2: Stage2, words: U64) -> NDArray[np.bool_]:
    """Which stage 2 leaves are Device memory."""
    return _devices(stage2.fwb).take(_bits(words, Stage2Leaf.MemAttr, 0).view(np.int64))


class Second:
    """Stage 2 over a snapshot; remembers where the pages of stage 1 tables are."""

    __slots__ = ("_known", "_pages", "_regions", "snapshot", "stage2")

    _REGION = 18

    def __init__(self, snapshot: Snapshot, stage2: Stage2) -> None:
        self.snapshot, self.stage2 = snapshot, stage2
        top = max(1, 1 << max(0, min(stage2.regime.input_bits, 52) - PAGE_SHIFT - self._REGION))
        self._regions: I64 = np.zeros(top, np.int64)
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

        def fetch(where: U64, of: I64) -> tuple[U64, I64 | None]:
            words, missing = self.snapshot.read(where)
            if missing is None:
                return words, None
            faults.fail(of[missing], EventType.F_WALK_EABT, stage2=True, fault_class=purpose, address=where[missing])
            left = np.flatnonzero(~missing)
            return words[left], left

        def failed(of: I64, kind: EventType, _: U64) -> None:
            faults.fail(of, kind, stage2=True, fault_class=purpose, address=ipa[of])

        leaves = walk(stage2.regime, inside, at, fetch, failed, hierarchical=False)
        words, of = leaves.word, leaves.at
        granted = allowed2(stage2, words)
        within = (_ONE << leaves.shift) - _ONE
        if of is at and count == of.size:
            allowed[:], span[:] = granted, leaves.shift
            pa = leaves.output | ipa & within
        else:
            allowed[of], span[of] = granted, leaves.shift
            pa[of] = leaves.output | ipa[of] & within
        if not stage2.ha and not stage2.affd and not _all_have(words, _AF2):
            self._deny(faults, of[(words & np.uint64(_AF2)) == 0], EventType.F_ACCESS, purpose, ipa)
        denied = (granted & np.uint8(need)) == 0
        if stage2.ptw and purpose is not FaultClass.IN:
            denied = denied | devices2(stage2, words)
        if bool(denied.any()):
            self._deny(faults, of[np.broadcast_to(denied, of.shape)], EventType.F_PERMISSION, purpose, ipa)
        return pa, allowed, span, faults

    def _deny(self, faults: Faults, of: I64, kind: EventType, purpose: FaultClass, ipa: U64) -> None:
        """Fault those that have none yet: the access flag comes before permissions."""
        if of.size:
            fresh = of[faults.kind[of] == 0]
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


def translate(
    snapshot: Snapshot,
    context: Context,
    features: Features,
    addresses: U64,
    *,
    write: bool = False,
    privileged: bool = False,
    instruction: bool = False,
) -> Translations:
    """Translate ``addresses`` (uint64) for accesses of one kind by a stream with ``context``. Tables are never updated."""
    privileged = privileged if context.privileged is None else context.privileged
    instruction = instruction if context.instruction is None else context.instruction
    need = permissions.NEEDED[privileged, write, instruction]
    second = Second(snapshot, context.stage2) if context.stage2 is not None else None
    parts = []
    for begin in range(0, max(addresses.size, 1), CHUNK):
        parts.append(_chunk(snapshot, context, features, second, addresses[begin : begin + CHUNK], need))
    if len(parts) == 1:
        return parts[0]
    return Translations(*(np.concatenate([getattr(part, name) for part in parts]) for name in Translations.__slots__))


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
        if not stage1.ha and not stage1.affd and not _all_have(words, _AF1):
            faults.fail(of[(words & np.uint64(_AF1)) == 0], EventType.F_ACCESS)
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

    def fetch(where: U64, of: I64) -> tuple[U64, I64 | None]:
        left: I64 | None = None
        place = where
        if second is not None:
            place, below = second.tables(where)
            if below is not None:
                faults.take_over(of, below)
                left = np.flatnonzero(below.kind == 0)
                place, of = place[left], of[left]
        words, missing = snapshot.read(place)
        if missing is not None:
            faults.fail(of[missing], EventType.F_WALK_EABT, fault_class=FaultClass.TTD, address=place[missing])
            kept = np.flatnonzero(~missing)
            words, left = words[kept], kept if left is None else left[kept]
        return words, left

    def failed(of: I64, kind: EventType, _: U64) -> None:
        faults.fail(of, kind)

    leaves = walk(regime, addresses, at, fetch, failed, hierarchical=not half.had)
    if leaves.at is at:
        return leaves, addresses
    place = np.zeros(int(at.max()) + 1, np.int64)
    place[at] = np.arange(at.size)
    return leaves, addresses[place[leaves.at]]
