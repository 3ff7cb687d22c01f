"""Many addresses to each page: every 4 KiB page around them is translated once, and each address looks its page up."""

from __future__ import annotations

import numpy as np

from wizard.arch.event import EventType, FaultClass
from wizard.smmu.arrays import regions
from wizard.smmu.arrays.plain import LEFT, Second, Translations
from wizard.smmu.arrays.snapshot import U8, U64, Bools, Snapshot
from wizard.smmu.arrays.window import sample, window
from wizard.smmu.context import Context
from wizard.smmu.ids import Features
from wizard.smmu.memory import PAGE_BYTES, PAGE_SHIFT

CHUNK = 1 << 14
"""Addresses at a time: what is worked on stays in the processor's second cache."""
_SHIFT = np.uint64(PAGE_SHIFT)
_WITHIN = np.uint64(PAGE_BYTES - 1)


def translate(snapshot: Snapshot, context: Context, features: Features, second: Second | None, addresses: U64, need: int) -> Translations:
    """As ``plain.translate``, for many addresses."""
    around = _around(addresses)
    if around is None:
        return regions.translate(snapshot, context, features, second, addresses, need)
    first, count = around
    pages = (np.arange(count, dtype=np.uint64) + np.uint64(first)) << _SHIFT
    each = regions.translate(snapshot, context, features, second, pages, need)
    found = Translations.none(addresses.size)
    _spread(each, first, addresses, found)
    left = found.left()
    if left.size:
        found.put(left, regions.translate(snapshot, context, features, second, addresses[left], need))
    return found


def _around(addresses: U64) -> tuple[int, int] | None:
    """The pages around some addresses, the first and how many, where that are at most half as many; None where there are more."""
    first = int(addresses.min()) >> PAGE_SHIFT
    count = (int(addresses.max()) >> PAGE_SHIFT) - first + 1
    if 2 * count <= addresses.size:
        return first, count
    around = window(sample(addresses), PAGE_SHIFT, 0, 1 << 64 - PAGE_SHIFT, addresses.size)
    return around if around is not None and 2 * around[1] <= addresses.size else None


def _spread(pages: Translations, first: int, addresses: U64, found: Translations) -> None:
    """Give each address the answer of its page, as far as that is one of ``pages``, which begin with number ``first``."""
    fine = pages.kind == 0
    faults = not bool(fine.all())
    told = faults and bool(pages.stage2.any() or pages.address.any() or (pages.fault_class != FaultClass.IN).any())
    columns = (pages.allowed, found.allowed), (pages.span, found.span)
    same = [(np.uint8(column.max()), into) for column, into in columns if _alike(column, fine)]
    other = [(column, into) for column, into in columns if not _alike(column, fine)]
    # Faults of one kind that tell nothing else: what each address gets is worked out without a list of those that fault.
    listed = told or not _alike(pages.kind, ~fine)
    code = np.uint8(pages.kind.max())
    if faults:
        # In the place of an output, of which none has more than 56 bits, below zero as a signed number.
        np.bitwise_or(pages.pa, (~fine).astype(np.uint64) << np.uint64(63), out=pages.pa)
    numbers = np.zeros(CHUNK, np.uint64)
    for begin in range(0, addresses.size, CHUNK):
        chunk = addresses[begin : begin + CHUNK]
        within = slice(begin, begin + chunk.size)
        number, pa, kind = numbers[: chunk.size], found.pa[within], found.kind[within]
        at = number.view(np.int64)
        np.right_shift(chunk, _SHIFT, out=number)
        np.subtract(number, np.uint64(first), out=number)
        outside = np.flatnonzero(number >= np.uint64(pages.pa.size)) if int(number.max()) >= pages.pa.size else None
        pages.pa.take(at, out=pa, mode="clip")
        for column, into in other:
            column.take(at, out=into[within], mode="clip")
        if not faults:
            for value, into in same:
                into[within] = value
        else:
            reached = pa.view(np.int64) >= 0
            for value, into in same:
                np.multiply(reached.view(np.uint8), value, out=into[within])
            if not listed:
                np.multiply((~reached).view(np.uint8), code, out=kind)
            else:
                wrong = np.flatnonzero(~reached)
                of = np.clip(at.take(wrong), 0, pages.pa.size - 1)
                kind[wrong] = pages.kind[of]
                if told:
                    # The access's own address is what stage 2 refused; that of a descriptor is the same for all of a page.
                    own = pages.stage2[of] & (pages.fault_class[of] == FaultClass.IN) & (pages.kind[of] != EventType.F_WALK_EABT)
                    found.stage2[within][wrong], found.fault_class[within][wrong] = pages.stage2[of], pages.fault_class[of]
                    found.address[within][wrong] = pages.address[of] | chunk[wrong] & np.where(own, _WITHIN, np.uint64(0))
        np.bitwise_and(chunk, _WITHIN, out=number)
        np.bitwise_or(pa, number, out=pa)
        if faults:
            np.maximum(pa.view(np.int64), 0, out=pa.view(np.int64))
        if outside is not None:
            kind[outside] = LEFT


def _alike(column: U8, some: Bools) -> bool:
    """Whether a column has one number where ``some`` is true, and another one, 0, everywhere else."""
    return bool(((column == column.max(initial=0)) == some).all())
