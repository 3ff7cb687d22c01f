"""Images of physical memory: files are mapped, not read, so that 64 GiB cost what is looked at.

Raw images (QEMU's ``pmemsave``, gdb's ``dump memory``, dd of /dev/mem) are ``FILE@ADDRESS``. An ELF vmcore (QEMU's ``dump-guest-memory``,
/proc/vmcore) carries its addresses in the program headers: PT_LOAD, p_paddr (System V ABI, chapter 5). A listing is what QEMU's ``xp``, crash's
``rd -p`` or U-Boot's ``md`` print: ``ADDRESS: WORD WORD …``.
"""

from __future__ import annotations

import mmap
import re
import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wizard.base.errors import InputError
from wizard.base.text import visible
from wizard.smmu.memory import PAGE_BYTES, PAGE_SHIFT, WORD_MASK, Memory

LARGEST_LISTING = 64 << 20
"""Bytes of a listing: it is text, and read whole."""
LARGEST_HEADERS = 65536
"""Program headers of a vmcore."""

_ELF, _PT_LOAD, _XNUM = b"\x7fELF", 1, 0xFFFF
_PACKED = {
    b"KDUMP   ": "a compressed dump of kdump", b"makedumpfile": "a flattened dump of makedumpfile",
    b"\x1f\x8b": "packed with gzip", b"\xfd7zXZ": "packed with xz",
}  # fmt: skip
_KINDS = "Name an image of memory: FILE@ADDRESS, a vmcore or a listing."
_LINE = re.compile(rb"[ \t]*(?:0x)?([0-9a-f]{4,16})[:>]?[: \t]((?:[ \t]*(?:0x)?(?:[0-9a-f]{16}|[0-9a-f]{8})(?=[ \t\r\n]|$))+)", re.IGNORECASE)


class Data(Protocol):
    """Bytes that are there when they are asked for: a mapped file, or a machine that runs."""

    def __getitem__(self, part: slice, /) -> bytes | memoryview:
        """The bytes of a slice with both ends."""
        ...


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes of physical memory from ``start`` to ``end`` (excluded), in ``data`` from ``offset`` on; ``name`` is the file."""

    start: int
    end: int
    data: Data
    offset: int
    name: str


class ImageMemory(Memory):
    """Memory that is what the images say; all else is not known, which a walk meets as nothing that answers.

    A page is loaded when it is first looked at; a write stays here and never reaches a file. ``unknown`` collects the addresses that were
    asked for and that no image holds.
    """

    __slots__ = ("_partial", "_starts", "extents", "unknown")

    def __init__(self, extents: Iterable[Extent]) -> None:
        super().__init__(ram=())
        # What no image holds of a page is not known, and every word that was asked for counts.
        self.whole = {}
        self.extents = sorted(extents, key=lambda one: (one.start, one.end))
        for first, second in zip(self.extents, self.extents[1:], strict=False):
            if second.start < first.end:
                files = f"{visible(first.name)} and {visible(second.name)}" if first.name != second.name else f"{visible(first.name)} twice"
                raise InputError(f"Memory from {second.start:#x} is in {files}.", "Give each piece of memory once; check the addresses after the @.")
        self._starts = [one.start for one in self.extents]
        self._partial: dict[int, list[tuple[int, int]]] = {}
        self.unknown: set[int] = set()

    def answers(self, address: int) -> bool:
        """Whether an image holds something of its page, or it was written here."""
        return self._load(address >> PAGE_SHIFT)

    def read(self, address: int) -> int | None:
        """The 64-bit word at ``address``, or None where no image holds it."""
        number = address >> PAGE_SHIFT
        if number not in self.pages and not self._load(number):
            self.unknown.add(address & ~7)
            return None
        word = address & ~7
        if self._partial and not any(low <= word and word + 8 <= high for low, high in self._partial.get(number, ((word, word + 8),))):
            self.unknown.add(word)
            return None
        return super().read(address)

    def page(self, address: int) -> array[int]:
        """The page that holds ``address``, to be written: here alone, never in the file."""
        self._load(address >> PAGE_SHIFT)
        return super().page(address)

    def numbers(self, first: int, last: int) -> list[int]:
        """The pages from number ``first`` to ``last`` of which an image holds something, in order; they are loaded."""
        wanted: set[int] = set()
        for one in self.extents:
            low, high = max(first, one.start >> PAGE_SHIFT), min(last, one.end - 1 >> PAGE_SHIFT)
            wanted.update(range(low, high + 1))
        return [number for number in sorted(wanted) if number in self.pages or self._load(number)]

    def missing(self, start: int, size: int) -> list[tuple[int, int]]:
        """The parts (start, end) of a range that no image holds."""
        parts, at = [], start
        for one in self._over(start, start + size):
            if one.start > at:
                parts.append((at, one.start))
            at = max(at, one.end)
        if at < start + size:
            parts.append((at, start + size))
        return parts

    def loaded(self, number: int) -> array[int]:
        """A page of which an image holds something."""
        self._load(number)
        return self.pages[number]

    def _over(self, start: int, end: int) -> Iterator[Extent]:
        at = max(0, bisect_right(self._starts, start) - 1)
        while at < len(self.extents) and self.extents[at].start < end:
            if self.extents[at].end > start:
                yield self.extents[at]
            at += 1

    def _load(self, number: int) -> bool:
        """Copy a page out of its image; False where there is none."""
        if number in self.pages:
            return True
        begin, content = number << PAGE_SHIFT, bytearray(PAGE_BYTES)
        held: list[tuple[int, int]] = []
        for one in self._over(begin, begin + PAGE_BYTES):
            low, high = max(begin, one.start), min(begin + PAGE_BYTES, one.end)
            at = one.offset + low - one.start
            content[low - begin : high - begin] = one.data[at : at + high - low]
            if held and held[-1][1] == low:
                low = held.pop()[0]
            held.append((low, high))
        if not held:
            return False
        if held != [(begin, begin + PAGE_BYTES)]:
            self._partial[number] = held
        words = array("Q", bytes(content))
        if sys.byteorder != "little":
            words.byteswap()
        self.pages[number] = words
        return True


def open_images(names: Iterable[str]) -> ImageMemory:
    """The memory of several ``FILE@ADDRESS``, vmcores and listings. ``InputError`` for what can't be read or overlaps."""
    return ImageMemory(extent for name in names for extent in extents(name))


def extents(name: str) -> list[Extent]:
    """The extents of one file. ``FILE@ADDRESS`` is raw whatever it holds; without an address the content says what it is."""
    path, at, address = name.rpartition("@")
    if not at or (Path(name).exists() and not Path(path).exists()):
        path, address = name, ""
    data = _mapped(path)
    if address:
        start = _address(address, name)
        if start + len(data) > WORD_MASK + 1:
            raise InputError(f"{visible(path)} does not fit the address space from {start:#x} on.", "Check the address after the @.")
        return [Extent(start, start + len(data), data, 0, path)]
    head = bytes(data[:16])
    if head.startswith(_ELF):
        return _loads(data, path)
    for magic, what in _PACKED.items():
        if head.startswith(magic):
            fix = "Unpack it first; of a compressed kdump, makedumpfile -E makes a vmcore."
            raise InputError(f"{visible(path)} is {what}, not an image of memory.", fix)
    listed = list(_listing(data, path))
    if not listed:
        fix = "Give the address of its first byte: FILE@0x40000000; a vmcore or a listing of words needs none."
        raise InputError(f"{visible(path)} says no addresses.", fix)
    return listed


def _mapped(path: str) -> memoryview:
    try:
        with open(path, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise InputError(f"{visible(path)} can't be read: {error.strerror}.", _KINDS) from error
    except ValueError as error:  # an empty file, or what can't be mapped
        raise InputError(f"{visible(path)} is empty or no file.", _KINDS) from error


def _address(text: str, name: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value <= WORD_MASK or value & 7:
        raise InputError(f"{visible(text)} in {visible(name)} is no address of a 64-bit word.", "Write it as FILE@0x40000000.")
    return value


def _loads(data: memoryview, path: str) -> list[Extent]:
    """The PT_LOAD segments of a 64-bit little-endian ELF file."""

    def damaged(what: str) -> InputError:
        return InputError(f"{visible(path)} is a damaged vmcore: {what}.", "Take the dump again, or give raw pieces as FILE@ADDRESS.")

    if len(data) < 64 or data[4] != 2 or data[5] != 1:
        raise InputError(f"{visible(path)} is no 64-bit little-endian ELF file.", "Give a vmcore of an arm64 machine, or raw pieces as FILE@ADDRESS.")
    table, sections = struct.unpack_from("<QQ", data, 32)
    each, count = struct.unpack_from("<HH", data, 54)
    if count == _XNUM:  # more than fit: the number is in the first section header's sh_info
        if sections + 64 > len(data):
            raise damaged("its section header is beyond its end")
        count = struct.unpack_from("<I", data, sections + 44)[0]
    if count > LARGEST_HEADERS or each < 56 or table + each * count > len(data):
        raise damaged(f"{count} program headers do not fit")
    found = []
    for index in range(count):
        kind, _, offset, _, physical, filed = struct.unpack_from("<IIQQQQ", data, table + each * index)
        if kind != _PT_LOAD or not filed:
            continue
        if offset + filed > len(data):
            raise damaged(f"segment {index} ends {offset + filed - len(data)} bytes beyond the file")
        if physical + filed > WORD_MASK + 1 or physical & 7:
            raise damaged(f"segment {index} is at {physical:#x}")
        found.append(Extent(physical, physical + filed, data, offset, path))
    if not found:
        raise damaged("it has no PT_LOAD segment with contents")
    return found


def _listing(data: memoryview, path: str) -> Iterator[Extent]:
    """Lines of an address and 32- or 64-bit words; what follows a line without a gap joins it."""
    if len(data) > LARGEST_LISTING:
        raise InputError(f"{visible(path)} is larger than {LARGEST_LISTING >> 20} MiB and names no address.", "Give raw memory as FILE@ADDRESS.")
    pieces: list[tuple[int, bytearray]] = []
    for line in bytes(data).splitlines():
        if (match := _LINE.match(line)) is None:
            continue
        address, content = int(match[1], 16), bytearray()
        for word in match[2].split():
            digits = word[2:] if word[:2].lower() == b"0x" else word
            content += int(digits, 16).to_bytes(len(digits) // 2, "little")
        if pieces and pieces[-1][0] + len(pieces[-1][1]) == address:
            pieces[-1][1].extend(content)
        else:
            pieces.append((address, content))
    for address, content in pieces:
        if address + len(content) <= WORD_MASK + 1:
            yield Extent(address, address + len(content), memoryview(bytes(content)), 0, path)
