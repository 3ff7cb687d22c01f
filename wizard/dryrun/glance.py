"""What the descriptors of many tables have in common, out of one copy of them and two looks at it.

Each word is seen turned right by a byte, so that its lowest byte (the type of a descriptor) stands on top, before its highest two. Where the
least and the greatest of such words agree in those three bytes, all words do, and what is below them, bits 47 to 8, lies between the two.
"""

from __future__ import annotations

import sys

import numpy as np

from wizard.dryrun.grants import Flags, Words
from wizard.smmu.memory import PAGE_BYTES, PAGE_SHIFT, Memory

TOGETHER = 128
"""Pages that are looked at together: half of a processor's second cache."""

_BYTE = np.uint64(8)
_ON_TOP, _BESIDE = np.uint64(56), np.uint64(40)


def groups(size: int) -> int:
    """How many tables of ``size`` bytes are looked at together; none where they are no whole pages."""
    return max(1, TOGETHER * PAGE_BYTES // size) if size % PAGE_BYTES == 0 and sys.byteorder == "little" else 0


def extremes(memory: Memory, tables: Words, size: int) -> tuple[Words, Words]:
    """The least and the greatest turned word of each group of tables; 0 and all ones, which are not alike, where a page is not there."""
    pages = np.arange(size >> PAGE_SHIFT, dtype=np.uint64)
    of: list[int] = ((tables >> np.uint64(PAGE_SHIFT))[:, None] + pages).reshape(-1).tolist()
    each = groups(size) * pages.size
    starts = range(0, len(of), each)
    least, greatest = np.zeros(len(starts), np.uint64), np.full(len(starts), (1 << 64) - 1, np.uint64)
    for row, start in enumerate(starts):
        try:
            held = list(map(memory.pages.__getitem__, of[start : start + each]))
        except KeyError:
            continue
        # Seven bytes before the first word and one behind the last, both the first word's own: no turned word has anything else.
        own = memoryview(held[0]).cast("B")
        turned = np.frombuffer(b"".join((own[1:8], *held, own[:1])), np.uint64)
        least[row], greatest[row] = turned.min(), turned.max()
    return least, greatest


def alike(least: Words, greatest: Words) -> Flags:
    """Where all words have the same bits 7 to 0 and 63 to 48."""
    return np.asarray(least >> _BESIDE == greatest >> _BESIDE, np.bool_)


def turned_back(words: Words) -> Words:
    """Turned words as they are in memory."""
    return words << _BYTE | words >> _ON_TOP
