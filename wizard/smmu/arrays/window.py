"""Where most of some addresses are: what is worked out once for many of them is held in a table beside, which must not be wider than it pays."""

from __future__ import annotations

import numpy as np

from wizard.smmu.arrays.snapshot import U64

SAMPLE = 1 << 9
"""Addresses that a window is chosen by."""


def sample(addresses: U64) -> U64:
    """Some of the addresses, evenly."""
    return addresses[:: max(1, addresses.size // SAMPLE)][:SAMPLE].copy()


def window(sampled: U64, shift: int, low: int, high: int, largest: int) -> tuple[int, int] | None:
    """The first and how many pieces of ``1 << shift`` bytes around the middle of a sample, between the pieces ``low`` and ``high`` (excluded).

    As wide as the sample, with a margin, but for values that are far from its middle half; ``largest`` pieces at most. None when the middle is
    not between ``low`` and ``high``.
    """
    pieces = np.sort(sampled) >> np.uint64(shift)
    before, middle, behind = (int(pieces[pieces.size * part // 4]) for part in (1, 2, 3))
    if not low <= middle < high:
        return None
    far = 2 * (behind - before) + 1
    near = pieces[(pieces >= max(0, before - far)) & (pieces <= min(behind + far, (1 << 64) - 1))]
    first, last = int(near[0]), int(near[-1])
    margin = (last - first >> 6) + 1
    first, end = max(low, first - margin), min(high, last + 1 + margin)
    if end - first > largest:
        first = min(max(first, middle - largest // 2), end - largest)
        end = first + largest
    return first, end - first
