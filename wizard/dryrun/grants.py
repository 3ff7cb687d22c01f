"""What a table may lead to, and which frames that is: looked up for whole arrays of addresses at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
COARSE = 21
"""log2 of the granularity of the first look at who owns a frame."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Host physical addresses from ``start`` up to, and not with, ``end``."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Grant:
    """What a stage 2 table may lead to: ``own`` memory, and ``others``: BARs and the ITS page, few leaves that are looked at one by one.

    ``tables`` is where the host keeps its tables; None where nobody asks. A table anywhere else could be one that the guest writes. ``written`` is
    what the SMMU itself writes, or is sent commands by: a table there would hold a guest's faults.
    """

    own: tuple[Interval, ...]
    others: tuple[Interval, ...] = ()
    tables: Interval | None = None
    written: tuple[Interval, ...] = ()


class Owned:
    """Which frames are granted: a map of 2 MiB units that are granted whole, and frame by frame only those that are granted in part."""

    __slots__ = ("base", "intervals", "limit", "longest", "parts", "shift", "slot", "sums", "unit", "whole")
    whole: Flags
    sums: npt.NDArray[np.int64]
    parts: Flags
    slot: npt.NDArray[np.int32]

    def __init__(self, grant: Grant, shift: int) -> None:
        own = self.intervals = merged(grant.own)
        self.shift, self.unit = shift, max(COARSE, shift)
        self.base = own[0].start & -(1 << self.unit) if own else 0
        self.limit = -(-own[-1].end >> self.unit << self.unit) if own else 0
        count = self.limit - self.base >> self.unit
        self.slot = np.full(count, -1, np.int32)
        # Only whole frames: a frame that is the VM's in part is not granted.
        per, below = 1 << (self.unit - shift), (1 << shift) - 1
        first = np.array([interval.start - self.base + below >> shift for interval in own], np.int64)
        last = np.array([interval.end - self.base >> shift for interval in own], np.int64)
        low, high = -(-first // per), last // per
        some = low < high
        steps = np.zeros(count + 1, np.int64)
        steps[low[some]] += 1  # intervals do not touch each other, so that no two begin, or end, at the same unit
        steps[high[some]] -= 1
        self.longest = int((last - first).max(initial=0)) << shift
        self.whole = np.cumsum(steps[:-1]) > 0
        edges: dict[int, list[tuple[int, int]]] = {}
        in_part = np.flatnonzero((low > high) | (first < low * per) | (last > high * per))
        for a, z, lower, upper in zip(*(column[in_part].tolist() for column in (first, last, low, high)), strict=True):
            if lower > upper:
                edges.setdefault(upper, []).append((a - upper * per, z - upper * per))
                continue
            if a < lower * per:
                edges.setdefault(lower - 1, []).append((a - (lower - 1) * per, per))
            if z > upper * per:
                edges.setdefault(upper, []).append((0, z - upper * per))
        self.sums = np.concatenate((np.zeros(1, np.int64), np.cumsum(self.whole)))
        self.parts = np.zeros((len(edges), 1 << (self.unit - shift)), np.bool_)
        for row, (unit, ranges) in enumerate(edges.items()):
            self.slot[unit] = row
            for a, z in ranges:
                self.parts[row, a:z] = True

    def between(self, first: Words, last: Words, log2: int) -> Flags:
        """For each pair, whether all from ``first`` to the end of the leaf of ``1 << log2`` bytes at ``last`` is granted: the common case."""
        inside = np.asarray((first >= np.uint64(self.base)) & (last <= np.uint64(max(self.limit - (1 << log2), 0))), np.bool_)
        low = np.where(inside, first - np.uint64(self.base), np.uint64(0)) >> np.uint64(self.unit)
        high = np.where(inside, last + np.uint64((1 << log2) - 1) - np.uint64(self.base), np.uint64(0)) >> np.uint64(self.unit)
        low, high = low.view(np.int64), high.view(np.int64)
        if not self.whole.size:
            return np.zeros(first.size, np.bool_)
        return np.asarray(inside & (self.sums[high + 1] - self.sums[low] == high + 1 - low), np.bool_)

    def wrong(self, addresses: Words, log2: int) -> Flags:
        """Which leaves of ``1 << log2`` bytes are not granted whole."""
        if not self.whole.size:
            return np.ones(addresses.size, np.bool_)
        outside: Flags | None = None
        offset = addresses - np.uint64(self.base)
        if int(addresses.min()) < self.base or int(addresses.max()) + (1 << log2) > self.limit:
            outside = np.asarray((addresses < np.uint64(self.base)) | (addresses > np.uint64(max(self.limit - (1 << log2), 0))), np.bool_)
            offset[outside] = 0
        unit = (offset >> np.uint64(self.unit)).view(np.int64)
        if log2 > self.unit:
            per = 1 << (log2 - self.unit)
            bad = np.asarray(self.sums[np.minimum(unit + per, self.whole.size)] - self.sums[unit] != per, np.bool_)
        else:
            bad = ~self.whole[unit]
            if bad.any():
                rest = np.flatnonzero(bad)
                bad[rest] = ~self._in_parts(unit[rest], offset[rest], log2)
        return bad if outside is None else bad | outside

    def _in_parts(self, unit: npt.NDArray[np.int64], offset: Words, log2: int) -> Flags:
        """Whether leaves within units that are granted in part are."""
        row = self.slot[unit]
        granted: Flags = row >= 0
        found = np.flatnonzero(granted)
        if found.size:
            first = (offset[found] >> np.uint64(self.shift)).view(np.int64) & (self.parts.shape[1] - 1)
            per = 1 << max(log2 - self.shift, 0)
            sums = np.concatenate((np.zeros((self.parts.shape[0], 1), np.int64), np.cumsum(self.parts, axis=1)), axis=1)
            last = np.minimum(first + per, self.parts.shape[1])
            granted[found] = sums[row[found], last] - sums[row[found], first] == per
        return granted


def merged(intervals: Sequence[Interval]) -> list[Interval]:
    """Sorted, neighbours that touch or overlap joined."""
    ordered = sorted(intervals, key=attrgetter("start"))
    joined: list[Interval] = []
    place = 0
    while place < len(ordered):
        first, end, place = ordered[place], ordered[place].end, place + 1
        while place < len(ordered) and ordered[place].start <= end:
            end, place = max(end, ordered[place].end), place + 1
        joined.append(first if end == first.end else Interval(first.start, end))
    return joined


def covers(joined: Sequence[Interval], start: int, size: int) -> bool:
    """Whether one of the ``joined`` intervals (as ``merged`` makes them) has all of ``size`` bytes from ``start``."""
    place = bisect_right(joined, start, key=attrgetter("start")) - 1
    return place >= 0 and start + size <= joined[place].end


def overlaps(joined: Sequence[Interval], start: int, size: int) -> int | None:
    """The first address of ``size`` bytes from ``start`` that one of the ``joined`` intervals has; None where none has any."""
    place = bisect_right(joined, start, key=attrgetter("start"))
    for interval in joined[max(place - 1, 0) : place + 1]:
        if interval.start < start + size and start < interval.end:
            return max(interval.start, start)
    return None
