"""Memory that is somebody else's too: files and memfds mapped shared, so that a driver's or VMM's own RAM is what the SMMU reads and writes.

Nothing is copied: what the other side stores is met by the next walk, and an event record, a message or a descriptor that hardware updates is seen
there at once. Accesses are of 64 bits, as those of the SMMU's tables are.
"""

from __future__ import annotations

import mmap
import sys
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from wizard.smmu.memory import PAGE_BYTES, PAGE_SHIFT, Memory

__all__ = [
    "SharedMemory", "Window",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Window:
    """``size`` bytes of physical memory from ``start`` on, which are those of ``view`` (a writable ``mmap``)."""

    start: int
    size: int
    view: memoryview

    @classmethod
    def of_file(cls, descriptor: int, start: int, size: int | None = None, offset: int = 0) -> Window:
        """Map a file or memfd that is open for reading and writing; without ``size`` all of it from ``offset`` on.

        ``ValueError`` for what is not whole pages of 4 KiB, ``OSError`` for what can't be mapped.
        """
        mapped = mmap.mmap(descriptor, size or 0, offset=offset)
        if len(mapped) % PAGE_BYTES or start % PAGE_BYTES or not 0 <= start <= (1 << 64) - len(mapped):
            mapped.close()
            raise ValueError(f"{size or 'its'} bytes at {start:#x} are not whole pages of 4 KiB in the address space")
        return cls(start, len(mapped), memoryview(mapped))


class SharedMemory(Memory):
    """``Memory`` in which the windows are mapped; everything else is as in ``Memory`` and nobody else's. ``ValueError`` where windows overlap."""

    __slots__ = ("windows",)

    def __init__(self, windows: Iterable[Window], ram: Iterable[tuple[int, int]] = ()) -> None:
        super().__init__(ram)
        if sys.byteorder != "little":
            raise ValueError("shared memory needs a little-endian machine: words are not swapped")
        self.windows = sorted(windows, key=lambda one: one.start)
        for first, second in zip(self.windows, self.windows[1:], strict=False):
            if second.start < first.start + first.size:
                raise ValueError(f"{second.start:#x} is mapped twice")

    def _load(self, number: int) -> bool:
        """Put a page of a window among the pages; False where there is none."""
        address = number << PAGE_SHIFT
        for one in self.windows:
            if one.start <= address < one.start + one.size:
                begin = address - one.start
                # A view of words behaves as the array of a page does, and stores where the other side looks.
                self.pages[number] = cast("array[int]", one.view[begin : begin + PAGE_BYTES].cast("Q"))
                return True
        return False

    def shared(self, number: int) -> bool:
        """Whether a page is one of a window."""
        return any(one.start <= number << PAGE_SHIFT < one.start + one.size for one in self.windows)

    def answers(self, address: int) -> bool:
        """Whether something is there."""
        return super().answers(address) or self.shared(address >> PAGE_SHIFT)

    def read(self, address: int) -> int | None:
        """The 64-bit word at ``address``, or None where nothing answers."""
        if address >> PAGE_SHIFT not in self.pages:
            self._load(address >> PAGE_SHIFT)
        return super().read(address)

    def page(self, address: int) -> array[int]:
        """The page that holds ``address``, made if it is not there."""
        if address >> PAGE_SHIFT not in self.pages:
            self._load(address >> PAGE_SHIFT)
        return super().page(address)

    def zero(self, address: int, size: int) -> None:
        """Zero a range, of windows too."""
        self.numbers(address >> PAGE_SHIFT, address + size - 1 >> PAGE_SHIFT)
        super().zero(address, size)

    def numbers(self, first: int, last: int) -> list[int]:
        """The pages from number ``first`` to ``last`` with contents; those of windows all have some, and are mapped in."""
        for one in self.windows:
            for number in range(max(first, one.start >> PAGE_SHIFT), min(last, (one.start + one.size - 1) >> PAGE_SHIFT) + 1):
                if number not in self.pages:
                    self._load(number)
        return super().numbers(first, last)
