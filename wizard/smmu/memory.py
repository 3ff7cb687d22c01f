"""The physical memory that the simulated SMMU reads: sparse 4 KiB pages of 64-bit words, with holes where nothing answers.

Pages are ``array('Q')`` so that whole tables can be viewed as arrays without a copy.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, Self

PAGE_BYTES = 4096
PAGE_SHIFT = 12
WORDS = PAGE_BYTES // 8
WORD_MASK = (1 << 64) - 1
RAM = ((0x4000_0000, 0x1_0000_0000),)
"""Where memory that nobody wrote reads as zero, by default; each range is start and end, end excluded."""


class Writable(Protocol):
    """Where tables are built: ``Memory`` itself, or a guest's view of it (``wizard.smmu.tables.GuestView``)."""

    def read(self, address: int) -> int | None:
        """The 64-bit word at ``address``, or None where nothing answers."""
        ...

    def write(self, address: int, word: int) -> None:
        """Store one 64-bit word."""
        ...

    def zero(self, address: int, size: int) -> None:
        """Zero ``size`` bytes from ``address`` on, both multiples of 8, where something was written; nothing comes into being."""
        ...


def by_page(address: int, size: int) -> Iterator[tuple[int, int]]:
    """The parts (address, bytes) of a range that lie in one page each: what is contiguous for a guest need not be for its host."""
    end = address + size
    while address < end:
        stop = min(end, (address | PAGE_BYTES - 1) + 1)
        yield address, stop - address
        address = stop


def store_words(page_of: Callable[[int], array[int]], address: int, words: Iterable[int]) -> None:
    """Store words page by page; ``page_of`` answers the page that holds an address, or raises."""
    if not isinstance(words, range):
        words = list(words)
    done = 0
    while done < len(words):
        at = address + 8 * done
        page, first = page_of(at), (at & PAGE_BYTES - 1) >> 3
        part = words[done : done + WORDS - first]
        try:
            page[first : first + len(part)] = array("Q", part)
        except OverflowError:
            wrong = next(index for index, word in enumerate(part) if not 0 <= word <= WORD_MASK)
            page[first : first + wrong] = array("Q", part[:wrong])
            raise ValueError(f"not a 64-bit word: {part[wrong]:#x}") from None
        done += len(part)


class Pages(dict[int, "array[int]"]):
    """Pages by number. ``version`` is another one after a page went or was replaced: until then whoever has a page has the one that is there."""

    __slots__ = ("version",)

    def __init__(self, pages: Mapping[int, array[int]] | None = None) -> None:
        super().__init__(pages or {})
        self.version = 0

    def __setitem__(self, number: int, page: array[int]) -> None:
        if number in self:
            self.version += 1
        super().__setitem__(number, page)

    def __delitem__(self, number: int) -> None:
        self.version += 1
        super().__delitem__(number)

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self

    def pop(self, *given: Any) -> Any:
        """As of ``dict``."""
        self.version += 1
        return super().pop(*given)

    def popitem(self) -> tuple[int, array[int]]:
        """As of ``dict``."""
        self.version += 1
        return super().popitem()

    def update(self, *given: Any, **named: Any) -> None:
        """As of ``dict``."""
        self.version += 1
        super().update(*given, **named)

    def clear(self) -> None:
        """As of ``dict``."""
        self.version += 1
        super().clear()


class Memory:
    """Sparse memory. What is neither written nor inside ``ram`` does not answer: the SMMU meets an external abort there."""

    __slots__ = ("pages", "ram", "whole")

    def __init__(self, ram: Iterable[tuple[int, int]] = RAM) -> None:
        self.ram = tuple(ram)
        self.pages = Pages()
        # The pages of which every word is what ``read`` answers: a walk need not ask it.
        self.whole: Mapping[int, array[int]] = self.pages

    def answers(self, address: int) -> bool:
        """Whether something is there."""
        return address >> PAGE_SHIFT in self.pages or any(start <= address < end for start, end in self.ram)

    def read(self, address: int) -> int | None:
        """The 64-bit word at ``address`` (its low three bits are ignored), or None where nothing answers."""
        page = self.pages.get(address >> PAGE_SHIFT)
        if page is not None:
            return page[(address & PAGE_BYTES - 1) >> 3]
        for start, end in self.ram:
            if start <= address < end:
                return 0
        return None

    def write(self, address: int, word: int) -> None:
        """Store one 64-bit word; the page comes into being where nothing was. ``ValueError`` for a word or address that is none."""
        if not 0 <= word <= WORD_MASK:
            raise ValueError(f"not a 64-bit word: {word:#x}")
        self.page(address)[(address & PAGE_BYTES - 1) >> 3] = word

    def write32(self, address: int, value: int) -> bool:
        """Store 32 bits at a multiple of 4, as a message is; False where nothing answers, and then nothing is stored."""
        word = self.read(address)
        if word is None:
            return False
        shift = 8 * (address & 4)
        self.write(address & ~7, (word & ~(0xFFFF_FFFF << shift)) | value << shift)
        return True

    def page(self, address: int) -> array[int]:
        """The page that holds ``address``, made if it is not there."""
        if not 0 <= address <= WORD_MASK or address & 7:
            raise ValueError(f"not the address of a 64-bit word: {address:#x}")
        number = address >> PAGE_SHIFT
        page = self.pages.get(number)
        if page is None:
            page = self.pages[number] = array("Q", bytes(PAGE_BYTES))
        return page

    def read_words(self, address: int, count: int) -> list[int] | None:
        """``count`` words from ``address``, or None when any of them does not answer."""
        page, first = self.whole.get(address >> PAGE_SHIFT), (address & PAGE_BYTES - 1) >> 3
        if page is not None and first + count <= WORDS:
            return page[first : first + count].tolist()
        words = []
        for index in range(count):
            word = self.read(address + 8 * index)
            if word is None:
                return None
            words.append(word)
        return words

    def write_words(self, address: int, words: Iterable[int]) -> None:
        """Store words from ``address`` on; ``ValueError`` for a word or address that is none, with those before it stored."""
        store_words(self.page, address, words)

    def load(self, contents: Mapping[int, Iterable[int]]) -> None:
        """Store the words of every address."""
        for address, words in contents.items():
            self.write_words(address, words)

    def zero(self, address: int, size: int) -> None:
        """Zero ``size`` bytes from ``address`` on, both multiples of 8, where something was written; nothing comes into being."""
        end = address + size
        numbers = range(address >> PAGE_SHIFT, (end + PAGE_BYTES - 1) >> PAGE_SHIFT)
        for number in numbers if len(numbers) < len(self.pages) else [one for one in self.pages if one in numbers]:
            if (page := self.pages.get(number)) is not None:
                start = number << PAGE_SHIFT
                first, last = max(address - start, 0) >> 3, min(end - start, PAGE_BYTES) >> 3
                page[first:last] = array("Q", bytes(8 * (last - first)))

    def numbers(self, first: int, last: int) -> list[int]:
        """The pages with contents from number ``first`` to ``last``, in order: by number, or by page held, whichever are fewer."""
        if last - first < len(self.pages):
            return [number for number in range(first, last + 1) if number in self.pages]
        return sorted(number for number in self.pages if first <= number <= last)

    def punch(self, address: int) -> None:
        """Forget the page that holds ``address``."""
        self.pages.pop(address >> PAGE_SHIFT, None)
