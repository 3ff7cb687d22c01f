"""Builders: page tables, stream tables, stream table entries and context descriptors, written into memory as a driver writes them.

    memory, space = Memory(), Allocator(0x4000_0000, 0x5000_0000)
    stage2 = PageTable(memory, space, stage=2, input_bits=40)
    stage2.map(0x8000_0000, 0x1_0000_0000, 1 << 30)
    streams = StreamTable(memory, space, log2size=16)
    streams.set(8, stage2_entry(stage2, vmid=5))
    smmu.write("STRTAB_BASE", streams.base); smmu.write("STRTAB_BASE_CFG", streams.config); smmu.write("CR0", 0xD)

A guest's tables live in its own address space: build them through a ``GuestView``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from wizard.arch.bits import Record
from wizard.arch.cd import CD, CD_BYTES, L1CD
from wizard.arch.descriptor import Stage1Leaf, Stage2Leaf, TableDescriptor
from wizard.arch.idr import ADDRESS_BITS
from wizard.arch.registers import StrtabBaseCfg, TableFormat
from wizard.arch.ste import L1STD, STE, STE_BYTES, StreamConfig
from wizard.smmu.memory import PAGE_BYTES, Writable, by_page
from wizard.smmu.regime import INVALID, LAST, LEAF, STAGE2_START, STRIDE, TABLE, Level, blocks, levels, stage1_start

__all__ = [
    "Allocator", "ContextTable", "GuestView", "PageTable", "StreamTable", "abort_entry", "bypass_entry", "context_descriptor",
    "nested_entry", "stage1_entry", "stage2_entry", "write_record",
]  # fmt: skip

_SIZE_CODES = {bits: code for code, bits in ADDRESS_BITS.items()}
_TG0 = {12: 0, 16: 1, 14: 2}
_TG1 = {14: 1, 12: 2, 16: 3}
_TABLE, _PAGE, _BLOCK = 3, 3, 1
_TYPE = TableDescriptor.Type.mask
MAIR_NORMAL_WB, MAIR_DEVICE = 0xFF, 0x04
"""MAIR bytes of the default context descriptor: AttrIndx 0 is write-back, 1 Device-nGnRE, 2 non-cacheable."""
DEFAULT_MAIR = 0x44 << 16 | MAIR_DEVICE << 8 | MAIR_NORMAL_WB


class Allocator:
    """Hands out addresses of a region, each aligned to its size, and takes none back."""

    __slots__ = ("end", "next")

    def __init__(self, start: int, end: int) -> None:
        self.next, self.end = start, end

    def take(self, size: int) -> int:
        """``size`` bytes (rounded up to a power of two), aligned to it; ``MemoryError`` when the region is used up."""
        size = 1 << max(0, size - 1).bit_length()
        address = -(-self.next // size) * size
        if address + size > self.end:
            raise MemoryError(f"no room for {size:#x} bytes below {self.end:#x}")
        self.next = address + size
        return address


def zeroed(memory: Writable, space: Allocator, size: int) -> int:
    """Take ``size`` bytes for a table and clear what is left there, as a driver does: the memory may have held another kernel's tables."""
    start = space.take(size)
    memory.zero(start, size)
    return start


@dataclass(slots=True)
class GuestView:
    """A guest's memory: its addresses go through ``translate`` to ``memory``; where that answers None, nothing is there."""

    memory: Writable
    translate: Callable[[int], int | None]

    def read(self, address: int) -> int | None:
        """The word at a guest address."""
        where = self.translate(address)
        return None if where is None else self.memory.read(where)

    def write(self, address: int, word: int) -> None:
        """Store a word at a guest address; ``ValueError`` where the guest has no memory."""
        where = self.translate(address)
        if where is None:
            raise ValueError(f"the guest has no memory at {address:#x}")
        self.memory.write(where, word)

    def zero(self, address: int, size: int) -> None:
        """Zero a part of the guest's memory, as far as there is any."""
        for part, length in by_page(address, size):
            if (where := self.translate(part)) is not None:
                self.memory.zero(where, length)


class PageTable:
    """A VMSAv8-64 translation table for one stage, built in ``memory`` with pages from ``space``.

    ``granule`` is log2 of the page size, ``input_bits`` the size of its input range. At stage 2 the start level is the lowest that up to 16
    concatenated tables allow, as Linux and KVM choose it, unless ``start`` says otherwise. ``upper`` makes a table for TTB1.
    """

    def __init__(
        self, memory: Writable, space: Allocator, *, stage: int, granule: int = 12, input_bits: int = 48, start: int | None = None,
        upper: bool = False, wide: bool = False,
    ) -> None:  # fmt: skip
        if granule not in STRIDE or stage not in (1, 2):
            raise ValueError(f"no stage {stage} tables with granule 2^{granule}")
        self.memory, self.space, self.stage, self.granule, self.input_bits = memory, space, stage, granule, input_bits
        self.upper, self.wide = upper, wide
        self._leaf_levels = blocks(granule, wide) | {LAST}
        self._store: Callable[[int, Iterable[int]], None] = getattr(memory, "write_words", self._write_each)
        if start is None:
            start = stage1_start(granule, input_bits)
            # Level 3 as the first one of a 4 KiB table takes small table support (IDR3.STT).
            lowest = LAST - 1 if granule == 12 else LAST
            if stage == 2 and start < lowest and input_bits - granule - STRIDE[granule] * (LAST - start - 1) <= STRIDE[granule] + 4:
                start += 1
        self.start = start
        self.levels: tuple[Level, ...] = levels(granule, start, input_bits, wide)
        self.root = zeroed(memory, space, max(8 * (self.levels[0].mask + 1), 64))
        self.tables = [self.root]

    # -- mapping ------------------------------------------------------------------------------------------------------

    def map(
        self, iova: int, pa: int, size: int, *, read: bool = True, write: bool = True, execute: bool = True, user: bool = True,
        attr: int | None = None, share: int = 3, level: int | None = None, contiguous: bool = False, shared: bool = False, **fields: int,
    ) -> None:  # fmt: skip
        """Map ``size`` bytes from ``iova`` to ``pa``, with the largest blocks that fit, or leaves of ``level`` only.

        ``attr`` is AttrIndx at stage 1 (default 0) and MemAttr at stage 2 (default 0b1111, write-back). ``user`` False leaves only
        privileged access at stage 1, ``shared`` makes entries global. Other fields of the leaf descriptor are named: ``DBM=1``.
        ``ValueError`` for sizes and addresses that are not whole pages or lie outside the range, and where something is mapped already (as
        Linux's io-pgtable answers EEXIST): nothing is written then.
        """
        page = 1 << self.granule
        if size <= 0 or (iova | pa | size) & (page - 1):
            raise ValueError(f"not whole pages of {page:#x} bytes: {iova:#x}, {pa:#x}, {size:#x}")
        low = (1 << 64) - (1 << self.input_bits) if self.upper else 0
        if not low <= iova or iova + size > low + (1 << self.input_bits):
            raise ValueError(f"{iova:#x} to {iova + size:#x} is outside the table's {self.input_bits} bits")
        if (taken := self._first_mapped(iova, size)) is not None:
            raise ValueError(f"{taken:#x} is mapped already: unmap it before it is mapped anew")
        leaf = _leaf(self.stage, read, write, execute, user, attr, share, contiguous, shared, tuple(fields.items()))
        while size:
            for step in self.levels:
                span = 1 << step.shift
                if step.number in self._leaf_levels and level in (None, step.number) and span <= size and not (iova | pa) & (span - 1):
                    break
            else:
                raise ValueError(f"no leaf of level {level} fits {iova:#x} to {pa:#x}, {size:#x} bytes left")
            # Neighbours share their table: walk down once, then fill as many entries as it has.
            table = self._table(iova, step.number)
            index = iova >> step.shift & step.mask
            whole = max(span, 1 << self.granule)
            count = min(size // whole, (step.mask + 1 if step.number == self.start else 1 << STRIDE[self.granule]) - index)
            if step.number != LAST and count > 1 and level is None:
                count = self._run_of(iova, pa, size, step, count)
            word = leaf | (_PAGE if step.number == LAST else _BLOCK)
            if pa + count * span >> 48:
                words: Iterable[int] = (word | self._address(pa + offset * span) for offset in range(count))
            else:
                # No address bit is one of the others: what counts up in the address counts up in the descriptor.
                words = range(word | pa, (word | pa) + count * span, span)
            self._store(table + 8 * index, words)
            iova, pa, size = iova + count * span, pa + count * span, size - count * span

    def map_each(self, iova: int, outputs: Sequence[int], size: int, *, execute: bool = True, attr: int | None = None) -> None:
        """Map pieces of ``size`` bytes that lie side by side from ``iova`` on, each to an output of its own: as ``map`` of one after the other.

        Where all of them come to leaves of one level, these are written a table at a time.
        """
        step = self._level_of(size, iova, outputs)
        if step is None or self._first_mapped(iova, len(outputs) * size) is not None:
            for place, pa in enumerate(outputs):
                self.map(iova + place * size, pa, size, execute=execute, attr=attr)
            return
        word = _leaf(self.stage, True, True, execute, True, attr, 3, False, False, ()) | (_PAGE if step.number == LAST else _BLOCK)
        each, done = size >> step.shift, 0
        while done < each * len(outputs):
            at = iova + (done << step.shift)
            table, index = self._table(at, step.number), at >> step.shift & step.mask
            room = (step.mask + 1 if step.number == self.start else 1 << STRIDE[self.granule]) - index
            leaves = range(done, min(done + room, each * len(outputs)))
            self._store(table + 8 * index, [word | outputs[leaf // each] + (leaf % each << step.shift) for leaf in leaves])
            done = leaves.stop

    def _level_of(self, size: int, iova: int, outputs: Sequence[int]) -> Level | None:
        """The level of all leaves of pieces of ``size`` bytes; None where that takes a closer look."""
        bits = iova
        for pa in outputs:
            bits |= pa
        inside = not self.upper and iova >= 0 and iova + len(outputs) * size <= 1 << self.input_bits
        if size <= 0 or bits + size >> 48 or not inside:
            return None
        fitting = [step for step in self.levels if step.number in self._leaf_levels and 1 << step.shift <= size]
        # A piece gets the largest leaf that it has room for, all through, where it, its place and its output are whole multiples of that.
        return fitting[0] if fitting and not (bits | size) & (1 << fitting[0].shift) - 1 else None

    def _run_of(self, iova: int, pa: int, size: int, step: Level, count: int) -> int:
        """How many leaves of this level to write before a larger block would fit."""
        larger = [other for other in self.levels if other.number < step.number and other.number in blocks(self.granule, self.wide)]
        for offset in range(1, count):
            where = offset << step.shift
            if any(size - where >= 1 << o.shift and not (iova + where | pa + where) & ((1 << o.shift) - 1) for o in larger):
                return offset
        return count

    def unmap(self, iova: int, size: int) -> None:
        """Clear every leaf that lies in the range; ``ValueError`` when a block reaches out of it. Tables stay, as Linux often keeps them."""
        end = iova + size
        while iova < end:
            where, _, step = self._find(iova)
            span = 1 << step.shift
            if where is not None:
                if iova & (span - 1) or iova + span > end:
                    raise ValueError(f"a block of {span:#x} bytes at {iova & -span:#x} reaches out of the range")
                self.memory.write(where, 0)
            iova = (iova & -span) + span

    def _first_mapped(self, iova: int, size: int) -> int | None:
        """The first address of the range that is mapped; None where none is."""
        end = iova + size
        while iova < end:
            where, _, step = self._find(iova)
            if where is not None:
                return iova
            iova = (iova & -(1 << step.shift)) + (1 << step.shift)
        return None

    def lookup(self, iova: int) -> int | None:
        """Where ``iova`` goes, permissions aside; None where nothing is mapped."""
        where, word, step = self._find(iova)
        if where is None:
            return None
        base = word & step.leaf_mask
        if self.wide and self.granule == 16:
            base |= TableDescriptor.Wide.get(word) << 48
        return base + (iova & (1 << step.shift) - 1)

    def entry_address(self, iova: int) -> int | None:
        """Where the leaf descriptor of ``iova`` is, in the table's own address space; None where nothing is mapped."""
        return self._find(iova)[0]

    def leaves(self) -> Iterator[tuple[int, int, int]]:
        """Every leaf as address, descriptor and log2 of its size, in order."""
        yield from self._leaves(self.root, 0, (1 << 64) - (1 << self.input_bits) if self.upper else 0)

    def _leaves(self, table: int, depth: int, base: int) -> Iterator[tuple[int, int, int]]:
        step = self.levels[depth]
        for index in range(step.mask + 1):
            word = self.memory.read(table + 8 * index) or 0
            kind = step.kinds[word & _TYPE]
            if kind == LEAF:
                yield base + (index << step.shift), word, step.shift
            elif kind == TABLE:
                yield from self._leaves(word & (1 << 48) - (1 << self.granule), depth + 1, base + (index << step.shift))

    # -- structures ---------------------------------------------------------------------------------------------------

    def ste_fields(self) -> dict[str, int]:
        """The STE fields that point at this stage 2 table."""
        codes = {start: code for code, start in STAGE2_START[self.granule].items()}
        return {
            "S2TTB": self.root, "S2T0SZ": 64 - self.input_bits, "S2SL0": codes[self.start], "S2TG": _TG0[self.granule],
            "S2AA64": 1, "S2IR0": 1, "S2OR0": 1, "S2SH0": 3,
        }  # fmt: skip

    def cd_fields(self) -> dict[str, int]:
        """The CD fields that point at this stage 1 table."""
        if self.upper:
            return {"TTB1": self.root, "T1SZ": 64 - self.input_bits, "TG1": _TG1[self.granule], "IR1": 1, "OR1": 1, "SH1": 3, "EPD1": 0}
        return {"TTB0": self.root, "T0SZ": 64 - self.input_bits, "TG0": _TG0[self.granule], "IR0": 1, "OR0": 1, "SH0": 3, "EPD0": 0}

    # -- inside -------------------------------------------------------------------------------------------------------

    def _write_each(self, address: int, words: Iterable[int]) -> None:
        """Store words in a memory that takes one at a time."""
        for index, word in enumerate(words):
            self.memory.write(address + 8 * index, word)

    def _address(self, pa: int) -> int:
        """A descriptor's address bits, 51:48 in their odd place for 64 KiB pages."""
        if pa >> 48:
            if not self.wide:
                raise ValueError(f"{pa:#x} does not fit 48 bits")
            return TableDescriptor.Wide.put(pa & (1 << 48) - 1, pa >> 48)
        return pa

    def _table(self, iova: int, number: int) -> int:
        """The table of level ``number`` that covers ``iova``; missing tables are made, a block on the way is a ``ValueError``."""
        table = self.root
        for step in self.levels:
            if step.number == number:
                return table
            where = table + 8 * (iova >> step.shift & step.mask)
            word = self.memory.read(where) or 0
            kind = step.kinds[word & _TYPE]
            if kind == LEAF:
                raise ValueError(f"a block of {1 << step.shift:#x} bytes covers {iova:#x}")
            if kind == INVALID:
                fresh = zeroed(self.memory, self.space, 1 << self.granule)
                self.tables.append(fresh)
                word = self._address(fresh) | _TABLE
                self.memory.write(where, word)
            table = word & (1 << 48) - (1 << self.granule)
        raise ValueError(f"no level {number} in this table")

    def _find(self, iova: int) -> tuple[int | None, int, Level]:
        """The leaf of ``iova``: its place or None, its word, and the level where the walk ended."""
        table = self.root
        for step in self.levels:
            where = table + 8 * (iova >> step.shift & step.mask)
            word = self.memory.read(where) or 0
            kind = step.kinds[word & _TYPE]
            if kind == LEAF:
                return where, word, step
            if kind == INVALID:
                return None, word, step
            table = word & (1 << 48) - (1 << self.granule)
        raise AssertionError("the last level has no table descriptors")


@lru_cache(maxsize=256)
def _leaf(
    stage: int, read: bool, write: bool, execute: bool, user: bool, attr: int | None, share: int, contiguous: bool, shared: bool,
    fields: tuple[tuple[str, int], ...],
) -> int:  # fmt: skip
    """The attributes of a leaf descriptor."""
    leaf: Record
    if stage == 1:
        access = (0 if write else 2) | (1 if user else 0)
        never = 0 if execute else 1
        leaf = Stage1Leaf.build(AP=access, AttrIndx=attr or 0, SH=share, AF=1, nG=int(not shared), UXN=never, PXN=never, Contiguous=int(contiguous))
    else:
        leaf = Stage2Leaf.build(
            S2AP=int(read) | int(write) << 1, MemAttr=0xF if attr is None else attr, SH=share, AF=1, XN=0 if execute else 2,
            Contiguous=int(contiguous),
        )  # fmt: skip
    return leaf.replace(**dict(fields)).value


# -- stream tables ----------------------------------------------------------------------------------------------------


class StreamTable:
    """A stream table of ``1 << log2size`` StreamIDs; two-level when ``split`` (6, 8 or 10) is given. ``config`` is STRTAB_BASE_CFG."""

    def __init__(self, memory: Writable, space: Allocator, *, log2size: int, split: int | None = None) -> None:
        self.memory, self.space, self.log2size, self.split = memory, space, log2size, split
        if split is None:
            self.base = zeroed(memory, space, STE_BYTES << log2size)
            self.config = StrtabBaseCfg.build(LOG2SIZE=log2size, FMT=TableFormat.LINEAR).value
        else:
            self.base = zeroed(memory, space, max(64, 8 << max(0, log2size - split)))
            self.config = StrtabBaseCfg.build(LOG2SIZE=log2size, SPLIT=split, FMT=TableFormat.TWO_LEVEL).value

    def address(self, sid: int) -> int:
        """Where the entry of ``sid`` is; its level 2 array is made if missing. ``ValueError`` beyond the table."""
        if not 0 <= sid < 1 << self.log2size:
            raise ValueError(f"StreamID {sid:#x} is beyond 2^{self.log2size} entries")
        if self.split is None:
            return self.base + sid * STE_BYTES
        where = self.base + 8 * (sid >> self.split)
        l1std = L1STD(self.memory.read(where) or 0)
        if not l1std.Span:
            l1std = L1STD.build(Span=self.split + 1, L2Ptr=zeroed(self.memory, self.space, STE_BYTES << self.split))
            self.memory.write(where, l1std.value)
        return l1std.L2Ptr + (sid & (1 << self.split) - 1) * STE_BYTES

    def set(self, sid: int, ste: STE) -> int:
        """Write an entry; answers where."""
        return write_record(self.memory, self.address(sid), ste)


class ContextTable:
    """Context descriptors of ``1 << cdmax`` SubstreamIDs; two-level with 4 KiB leaves when ``two_level``. ``fields`` are the STE's."""

    def __init__(self, memory: Writable, space: Allocator, *, cdmax: int = 0, two_level: bool = False) -> None:
        self.memory, self.space, self.cdmax, self.two_level = memory, space, cdmax, two_level and cdmax > 0
        self.base = zeroed(memory, space, max(64, 8 << max(0, cdmax - 6)) if self.two_level else CD_BYTES << cdmax)

    @property
    def fields(self) -> dict[str, int]:
        """S1ContextPtr, S1CDMax and S1Fmt."""
        return {"S1ContextPtr": self.base, "S1CDMax": self.cdmax, "S1Fmt": int(self.two_level)}

    def set(self, ssid: int, cd: CD) -> int:
        """Write the descriptor of a SubstreamID; answers where."""
        if not 0 <= ssid < 1 << self.cdmax:
            raise ValueError(f"SubstreamID {ssid:#x} is beyond 2^{self.cdmax} descriptors")
        if not self.two_level:
            return write_record(self.memory, self.base + ssid * CD_BYTES, cd)
        where = self.base + 8 * (ssid >> 6)
        l1cd = L1CD(self.memory.read(where) or 0)
        if not l1cd.V:
            l1cd = L1CD.build(V=1, L2Ptr=zeroed(self.memory, self.space, PAGE_BYTES))
            self.memory.write(where, l1cd.value)
        return write_record(self.memory, l1cd.L2Ptr + (ssid & 63) * CD_BYTES, cd)


def write_record(memory: Writable, address: int, record: Record) -> int:
    """Write a structure's words; answers ``address``."""
    if (store := getattr(memory, "write_words", None)) is not None:
        store(address, record.words)
        return address
    for index, word in enumerate(record.words):
        memory.write(address + 8 * index, word)
    return address


def read_record(memory: Writable, address: int, count: int) -> list[int] | None:
    """``count`` words of a structure; None where any of them does not answer."""
    if (read := getattr(memory, "read_words", None)) is not None:
        found: list[int] | None = read(address, count)
        return found
    words = [memory.read(address + 8 * index) for index in range(count)]
    known = [word for word in words if word is not None]
    return known if len(known) == count else None


def context_descriptor(*tables: PageTable, asid: int, output_bits: int = 48, **fields: int) -> CD:
    """A context descriptor as Linux writes it (faults recorded and aborted, MAIR as ``DEFAULT_MAIR``) for one or both halves."""
    contents = {
        "V": 1, "AA64": 1, "R": 1, "A": 1, "ASET": 1, "ASID": asid, "IPS": _SIZE_CODES[output_bits],
        "EPD0": 1, "EPD1": 1, "MAIR0": DEFAULT_MAIR,
    }  # fmt: skip
    for table in tables:
        contents |= table.cd_fields()
    return CD.build(**{**contents, **fields})


def bypass_entry(**fields: int) -> STE:
    """An STE that lets everything through."""
    return STE.build(**{"V": 1, "Config": StreamConfig.BYPASS, "SHCFG": 1, **fields})


def abort_entry(**fields: int) -> STE:
    """An STE that silently aborts."""
    return STE.build(**{"V": 1, "Config": StreamConfig.ABORT, **fields})


def stage1_entry(contexts: ContextTable, **fields: int) -> STE:
    """An STE with stage 1 only."""
    return STE.build(**{"V": 1, "Config": StreamConfig.STAGE1, "SHCFG": 1, **contexts.fields, **fields})


def stage2_entry(table: PageTable, *, vmid: int, output_bits: int = 48, **fields: int) -> STE:
    """An STE with stage 2 only."""
    base = {"V": 1, "Config": StreamConfig.STAGE2, "SHCFG": 1, "S2R": 1, "S2VMID": vmid, "S2PS": _SIZE_CODES[output_bits]}
    return STE.build(**{**base, **table.ste_fields(), **fields})


def nested_entry(contexts: ContextTable, table: PageTable, *, vmid: int, output_bits: int = 48, **fields: int) -> STE:
    """An STE with both stages; ``contexts`` lives in the guest's address space."""
    base = {"V": 1, "Config": StreamConfig.NESTED, "SHCFG": 1, "S2R": 1, "S2VMID": vmid, "S2PS": _SIZE_CODES[output_bits]}
    return STE.build(**{**base, **contexts.fields, **table.ste_fields(), **fields})
