"""Many addresses by region: what is above the last level is walked once for each region, and the last level is one look for each address.

The regions that are known cover a window around the addresses. Those outside of it are left for the next round (``plain`` for the last ones), so
that no address is answered by anything but a walk of its own region.
"""

from __future__ import annotations

import numpy as np

from wizard.smmu.arrays import plain
from wizard.smmu.arrays.plain import LEFT, Second, Translations
from wizard.smmu.arrays.region import CHUNK, Regions1, Regions2
from wizard.smmu.arrays.snapshot import U8, U64, Snapshot
from wizard.smmu.arrays.walk import Faults
from wizard.smmu.arrays.window import sample, window
from wizard.smmu.context import Context
from wizard.smmu.ids import Features
from wizard.smmu.permissions import ALL, PR, PW, PX
from wizard.smmu.regime import Regime

SMALLEST, LARGEST = 1 << 12, 1 << 20
"""Regions of a window at most: as many as there are addresses, between these (8 MiB of table)."""

_TOP = np.uint64(0xFF << 56)


def _window(sampled: U64, regime: Regime, bits: int, wanted: int, *, upper: bool = False) -> tuple[int, int] | None:
    """The window of regions in a regime's input range of ``bits``; None when there is none."""
    width = regime.levels[-1].shift + 9
    low = (1 << 64) - (1 << bits) >> width if upper else 0
    return window(sampled, width, low, low + (1 << bits >> width), max(SMALLEST, min(wanted, LARGEST)))


class _Way:
    """Both stages of a context, over the windows around some addresses; ``possible`` where most of those are in them."""

    def __init__(self, snapshot: Snapshot, context: Context, features: Features, second: Second | None, addresses: U64, need: int) -> None:
        self.need, self.stage2 = need, context.stage2
        self.first: Regions1 | None = None
        self.second: Regions2 | None = None
        self.canonical: tuple[np.ufunc, np.uint64] | None = None
        self.possible = False
        some = sample(addresses)
        asked, left = some.size, 0
        bits2 = context.stage2.regime.input_bits if context.stage2 is not None else 0
        if context.stage1 is not None:
            middle = int(np.partition(some, asked // 2)[asked // 2])
            half = context.stage1.upper if context.stage1.upper is not None and middle >> 55 & 1 else context.stage1.lower
            if half.regime is None or (half.e0pd and not need & (PR | PW | PX)):
                return
            if half.tbi:
                self.canonical = (np.bitwise_or, _TOP) if half.upper else (np.bitwise_and, ~_TOP)
                some = self.canonical[0](some, self.canonical[1])
            around = _window(some, half.regime, half.regime.input_bits, addresses.size, upper=half.upper)
            if around is None:
                return
            self.first = Regions1(snapshot, context.stage1, half, half.regime, second, *around)
            faults, output = Faults.none(asked), np.zeros(asked, np.uint64)
            self.first.look(some, faults, need, output)
            left = int(np.count_nonzero(faults.kind == LEFT))
            some = output[faults.kind == 0]
        else:
            bits2 = min(bits2, features.ias)
        if context.stage2 is not None and some.size:
            around = _window(some, context.stage2.regime, bits2, addresses.size)
            if around is None:
                return
            self.second = Regions2(snapshot, context.stage2, *around)
            faults = Faults.none(some.size)
            self.second.look(some, faults, need, some.copy())
            left += int(np.count_nonzero(faults.kind == LEFT))
        self.possible = 2 * left <= asked and not context.bypass

    def chunk(self, addresses: U64, found: Translations, begin: int) -> None:
        """Answer a chunk in its place; what is in no window gets ``LEFT``."""
        own = slice(begin, begin + addresses.size)
        pa, allowed, span = found.pa[own], found.allowed[own], found.span[own]
        faults = Faults(found.kind[own], found.stage2[own], found.fault_class[own], found.address[own])
        granted: U8 | np.uint8 = np.uint8(ALL)
        size: U8 | int = 64
        looked: tuple[U8, U8 | int] | None = None
        if self.first is not None:
            if self.canonical is not None:
                addresses = self.canonical[0](addresses, self.canonical[1])
            output = pa if self.stage2 is None else np.empty(addresses.size, np.uint64)
            looked = self.first.look(addresses, faults, self.need, output)
            if looked is None:
                return self._end(faults, pa)
            granted, size = looked
            if self.stage2 is not None and bool(faults.kind.any()):
                fine = faults.kind == 0
                if not bool(fine.any()):
                    return self._end(faults, pa)
                output[~fine] = output[int(fine.argmax())]
            addresses = output
        if self.stage2 is not None:
            if self.second is None:
                faults.kind[faults.kind == 0] = LEFT
                return self._end(faults, pa)
            looked = self.second.look(addresses, faults, self.need, pa)
            if looked is None:
                return self._end(faults, pa)
            granted, size = granted & looked[0], np.minimum(size, looked[1])
        allowed[:], span[:] = granted, size
        self._end(faults, pa, allowed, span)
        return None

    @staticmethod
    def _end(faults: Faults, *columns: U64 | U8) -> None:
        """Nothing is said of where a fault would have gone."""
        wrong = np.flatnonzero(faults.kind != 0)
        if wrong.size:
            for column in columns:
                column[wrong] = 0


def translate(snapshot: Snapshot, context: Context, features: Features, second: Second | None, addresses: U64, need: int) -> Translations:
    """As ``plain.translate``, for many addresses."""
    way = _Way(snapshot, context, features, second, addresses, need) if snapshot.whole and addresses.size else None
    if way is None or not way.possible:
        return plain.translate(snapshot, context, features, second, addresses, need)
    found = Translations.none(addresses.size)
    for begin in range(0, addresses.size, CHUNK):
        way.chunk(addresses[begin : begin + CHUNK], found, begin)
    left = found.left()
    if left.size:
        again = plain.translate if 2 * left.size > addresses.size else translate
        found.put(left, again(snapshot, context, features, second, addresses[left], need))
    return found
