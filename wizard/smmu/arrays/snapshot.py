"""Memory as one array of words, indexed by physical address."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wizard.smmu.memory import PAGE_BYTES, PAGE_SHIFT, WORDS, Memory

U64 = NDArray[np.uint64]
U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

_DENSE = 1 << 24
"""Pages between the lowest and the highest that are indexed directly (64 GiB); what is wider apart is searched for."""


class Snapshot:
    """The contents of a ``Memory`` at one moment. Later writes do not show."""

    __slots__ = ("_before", "_dense", "_first", "_numbers", "_ram", "_span", "whole", "words")

    def __init__(self, memory: Memory) -> None:
        numbers = sorted(memory.pages)
        # One page of zeroes goes first: what RAM reads where nobody wrote.
        self.words: U64 = np.zeros((len(numbers) + 1) * WORDS, dtype=np.uint64)
        for row, number in enumerate(numbers, 1):
            self.words[row * WORDS : (row + 1) * WORDS] = memory.pages[number]
        self._numbers: U64 = np.array(numbers, dtype=np.uint64)
        # Whether each 4 KiB page answers or does not as a whole.
        self.whole = not any((start | end) & PAGE_BYTES - 1 for start, end in memory.ram)
        self._ram = [(np.uint64(start), np.uint64(end - 1)) for start, end in memory.ram if end > start]
        self._first = np.uint64(numbers[0] if numbers else 0)
        self._before = self._first - np.uint64(1) if numbers and numbers[0] else np.uint64((1 << 64) - 1)
        self._span = np.uint64((numbers[-1] - numbers[0] + 1) if numbers else 0)
        self._dense: I64 | None = None
        if int(self._span) <= _DENSE:
            # One slot more at either end stands for everything outside, so that clipping an index is all the checking it takes.
            dense = np.full(int(self._span) + 2, -1, dtype=np.int64)
            if numbers:
                dense[(self._numbers - self._first).view(np.int64) + 1] = np.arange(1, len(numbers) + 1) * WORDS
            for start, end in self._ram:
                low = max(int(start) >> PAGE_SHIFT, int(self._first)) - int(self._first)
                high = min((int(end) >> PAGE_SHIFT) + 1, int(self._first) + int(self._span)) - int(self._first)
                if low < high:
                    part = dense[low + 1 : high + 1]
                    part[part < 0] = 0
            dense[0] = dense[-1] = -2
            self._dense = dense

    def find(self, addresses: U64) -> tuple[I64, Bools | None]:
        """Where in ``words`` the words at ``addresses`` are, and which of them nothing answers (None when all do)."""
        base = self._bases(addresses >> np.uint64(PAGE_SHIFT), addresses)
        missing = None if not base.size or base.min() >= 0 else base < 0
        return base + ((addresses >> np.uint64(3)) & np.uint64(WORDS - 1)).view(np.int64), missing

    def read(self, addresses: U64) -> tuple[U64, Bools | None]:
        """The words at ``addresses``, and which of them nothing answers (None when all do)."""
        index, missing = self.find(addresses)
        words = self.words.take(index, mode="clip")
        if missing is not None:
            words[missing] = 0
        return words, missing

    def rows(self, addresses: U64) -> I64:
        """Which row of ``words.reshape(-1, 512)`` holds each 4 KiB page, negative where nothing answers."""
        return self._bases(addresses >> np.uint64(PAGE_SHIFT), addresses) >> 9

    def _bases(self, pages: U64, addresses: U64) -> I64:
        """Index of each page's first word, negative where nothing answers."""
        if self._dense is not None:
            base: I64 = self._dense.take((pages - self._before).view(np.int64), mode="clip")
            if not base.size or base.min() >= -1:
                return base
            outside = base == -2
        else:
            row = np.searchsorted(self._numbers, pages)
            known = self._numbers.take(np.minimum(row, self._numbers.size - 1)) == pages
            base = np.where(known, (row + 1) * WORDS, -1).astype(np.int64)
            outside = ~known
        base[outside] = -1
        for start, end in self._ram:
            base[outside & (addresses >= start) & (addresses <= end)] = 0
        return base
