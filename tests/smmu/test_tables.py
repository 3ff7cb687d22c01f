"""The table builders against the walk: what is mapped is where it was mapped to, in every granule and stage."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from random import Random

import pytest

from wizard.arch.event import EventType
from wizard.smmu import Memory, Smmu, Transaction
from wizard.smmu.ids import Ids
from wizard.smmu.tables import (
    Allocator,
    ContextTable,
    GuestView,
    PageTable,
    StreamTable,
    context_descriptor,
    nested_entry,
    stage1_entry,
    stage2_entry,
)

RAM = 0x5000_0000


def started(memory: Memory, streams: StreamTable, ids: Ids | None = None) -> Smmu:
    smmu = Smmu(ids or Ids(), memory)
    smmu.write("STRTAB_BASE", streams.base)
    smmu.write("STRTAB_BASE_CFG", streams.config)
    smmu.write("CR2", 2)
    smmu.write("CR0", 0xD)
    return smmu


@pytest.mark.parametrize("granule", [12, 14, 16])
@pytest.mark.parametrize("bits", [25, 32, 36, 40, 44])
def test_stage_2_maps_what_was_asked(granule: int, bits: int) -> None:
    memory, space = Memory(), Allocator(0x4000_0000, 0x6000_0000)
    table = PageTable(memory, space, stage=2, granule=granule, input_bits=bits)
    size = 1 << granule
    last = (1 << bits) - size
    table.map(last, 0x8000_0000, size, write=False)
    table.map(0, 0x9000_0000, 3 * size)
    streams = StreamTable(memory, space, log2size=8)
    streams.set(8, stage2_entry(table, vmid=1, output_bits=44))
    smmu = started(memory, streams)
    assert smmu.translate(Transaction(8, last + 0x123)).pa == 0x8000_0123
    assert smmu.translate(Transaction(8, 2 * size, write=True)).pa == 0x9000_0000 + 2 * size
    denied = smmu.translate(Transaction(8, last, write=True))
    missing = smmu.translate(Transaction(8, 3 * size, write=True))
    assert [event.Type for event in smmu.events()] == [EventType.F_PERMISSION, EventType.F_TRANSLATION]
    assert not denied.ok
    assert not missing.ok


@pytest.mark.parametrize("granule", [12, 14, 16])
def test_nested_guest_tables_live_in_guest_memory(granule: int) -> None:
    memory, host = Memory(), Allocator(0x4000_0000, 0x6000_0000)
    stage2 = PageTable(memory, host, stage=2, granule=granule, input_bits=40)
    stage2.map(0x1000_0000, 0x8000_0000, 64 << 20)
    guest, room = GuestView(memory, stage2.lookup), Allocator(0x1000_0000, 0x1400_0000)
    stage1 = PageTable(guest, room, stage=1)
    stage1.map(0x1234_5000, 0x1300_0000, 0x2000)
    contexts = ContextTable(guest, room)
    contexts.set(0, context_descriptor(stage1, asid=7, output_bits=40))
    streams = StreamTable(memory, host, log2size=16, split=8)
    streams.set(0x300, nested_entry(contexts, stage2, vmid=3, output_bits=44))
    smmu = started(memory, streams)
    outcome = smmu.translate(Transaction(0x300, 0x1234_6010, write=True), trace=True)
    assert outcome.pa == 0x8300_1010
    assert outcome.trace is not None
    assert [step.what for step in outcome.trace.steps].count("cd") == 1
    assert not smmu.translate(Transaction(0x300, 0x1234_7000)).ok


def test_upper_half_and_blocks() -> None:
    memory, space = Memory(), Allocator(0x4000_0000, 0x6000_0000)
    lower = PageTable(memory, space, stage=1, input_bits=39)
    lower.map(0x20_0000 - 0x1000, 0x8000_0000 + 0x20_0000 - 0x1000, 0x1000 + (4 << 20))
    assert sorted({span for _, _, span in lower.leaves()}) == [12, 21]
    upper = PageTable(memory, space, stage=1, granule=16, input_bits=48, upper=True)
    upper.map(0xFFFF_1234_0000_0000, 0x9000_0000, 0x1_0000)
    contexts = ContextTable(memory, space)
    contexts.set(0, context_descriptor(lower, upper, asid=1, output_bits=44))
    streams = StreamTable(memory, space, log2size=4)
    streams.set(2, stage1_entry(contexts))
    smmu = started(memory, streams)
    assert smmu.translate(Transaction(2, 0x20_0000 - 8)).pa == 0x8000_0000 + 0x20_0000 - 8
    assert smmu.translate(Transaction(2, 0x50_1000)).pa == 0x8050_1000
    assert smmu.translate(Transaction(2, 0xFFFF_1234_0000_4321)).pa == 0x9000_4321
    assert not smmu.translate(Transaction(2, 0xFFFE_1234_0000_4321)).ok


def test_unmap_clears_and_refuses_to_cut_a_block() -> None:
    memory, space = Memory(), Allocator(0x4000_0000, 0x6000_0000)
    table = PageTable(memory, space, stage=1)
    table.map(0, RAM, 4 << 20)
    table.unmap(0, 2 << 20)
    assert table.lookup(0x1000) is None
    assert table.lookup(0x20_1000) == RAM + 0x20_1000
    with pytest.raises(ValueError, match="reaches out"):
        table.unmap(0x20_0000, 0x1000)


def test_map_refuses_what_does_not_fit() -> None:
    memory, space = Memory(), Allocator(0x4000_0000, 0x6000_0000)
    table = PageTable(memory, space, stage=1, input_bits=32)
    with pytest.raises(ValueError, match="whole pages"):
        table.map(0x10, RAM, 0x1000)
    with pytest.raises(ValueError, match="outside"):
        table.map(0xFFFF_F000, RAM, 0x2000)


@pytest.mark.parametrize("stage", [1, 2])
def test_mapping_over_a_live_mapping_is_an_error_and_writes_nothing(stage: int) -> None:
    """As Linux's io-pgtable, which answers EEXIST: a page that goes somewhere else without break-before-make is the driver's fault."""
    memory = Memory()
    table = PageTable(memory, Allocator(0x4000_0000, 0x5000_0000), stage=stage, input_bits=40)
    table.map(0x20_0000, RAM, 0x20_0000)
    table.map(0x60_3000, RAM, 0x1000)
    before = {number: bytes(page) for number, page in memory.pages.items()}
    for iova, size in ((0x20_0000, 0x20_0000), (0x3F_F000, 0x1000), (0x1F_F000, 0x2000), (0x60_0000, 0x20_0000), (0, 1 << 30)):
        with pytest.raises(ValueError, match="is mapped already"):
            table.map(iova, RAM, size)
    assert {number: bytes(page) for number, page in memory.pages.items()} == before


def test_a_block_takes_the_place_of_an_empty_table() -> None:
    """Linux frees the empty table and installs the block."""
    table = PageTable(Memory(), Allocator(0x4000_0000, 0x5000_0000), stage=2, input_bits=40)
    table.map(0x20_0000, RAM, 0x20_0000, level=3)
    table.unmap(0x20_0000, 0x20_0000)
    table.map(0x20_0000, RAM, 0x20_0000)
    assert [(start, span) for start, _, span in table.leaves()] == [(0x20_0000, 21)]


def test_tables_in_used_memory_begin_empty() -> None:
    """Linux takes zeroed pages: what another kernel left there is no mapping, no context and no stream of this one."""
    memory = Memory()
    for address in range(0x4000_0000, 0x4001_0000, 8):
        memory.write(address, 0x5000_0003 | 1 << 59)
    space = Allocator(0x4000_0000, 0x5000_0000)
    table = PageTable(memory, space, stage=1, input_bits=40)
    table.map(0x1000, RAM, 0x1000)
    assert [start for start, _, _ in table.leaves()] == [0x1000]
    contexts, streams = ContextTable(memory, space, cdmax=2), StreamTable(memory, space, log2size=4, split=6)
    assert not any(memory.read_words(contexts.base, 32) or [1])
    assert memory.read(streams.base) == 0
    assert not any(memory.read_words(streams.address(3), 8) or [1])


@pytest.mark.parametrize(
    ("start", "size"),
    [(0, 8), (8, 8), (0xFF8, 8), (0xFF8, 16), (0x1000, 0x1000), (0x800, 0x1800), (0, 0x4000), (0x2FF8, 0x1008), (0x5000, 0x10_0000)],
)
def test_memory_is_zeroed_from_its_first_word_to_its_last(start: int, size: int) -> None:
    """Word by word as a driver would; what nobody wrote stays as it was, answering or not."""
    memory = Memory(((RAM, RAM + 0x2000),))
    written = [RAM + offset for offset in range(0, 0x2000, 8)] + [RAM + offset for offset in range(0x3000, 0x5000, 8)]
    for address in written:
        memory.write(address, address)
    pages = set(memory.pages)
    memory.zero(RAM + start, size)
    assert [address for address in written if not memory.read(address)] == [a for a in written if start <= a - RAM < start + size]
    assert set(memory.pages) == pages
    assert memory.read(RAM + 0x2000) is None


def test_a_guests_view_is_zeroed_where_its_pages_are() -> None:
    """Two pages of the guest that change places on the host, the next one without memory."""
    memory = Memory(((RAM, RAM + 0x4000),))
    places = {0x4000_0000: RAM + 0x2000, 0x4000_1000: RAM}
    view = GuestView(memory, lambda ipa: places[page] + (ipa & 0xFFF) if (page := ipa & -0x1000) in places else None)
    for address in range(RAM, RAM + 0x4000, 8):
        memory.write(address, 1)
    view.zero(0x4000_0FF0, 0x1018)
    zero = {address - RAM for address in range(RAM, RAM + 0x4000, 8) if not memory.read(address)}
    assert zero == {*range(0x2FF0, 0x3000, 8), *range(0, 0x1000, 8)}


def test_many_words_are_stored_as_one_by_one() -> None:
    """Runs that cross pages, and words that are none: those before them are stored."""
    rng = Random(4)
    for _ in range(200):
        start, count = 8 * rng.randrange(1 << 12), rng.randrange(1500)
        some = [rng.getrandbits(64) for _ in range(count)]
        if count and rng.randrange(2):
            some[rng.randrange(count)] = rng.choice([-1, 1 << 64])
        words = rng.choice([some, range(rng.getrandbits(40), 1 << 62, 1 << rng.randrange(12, 20))[:count]])
        many, each = Memory(), Memory()
        with suppress(ValueError):
            for index, word in enumerate(words):
                each.write(start + 8 * index, word)
        wrong = any(not 0 <= word < 1 << 64 for word in words)
        with pytest.raises(ValueError, match="not a 64-bit word") if wrong else nullcontext():
            many.write_words(start, iter(words) if rng.randrange(2) else words)
        assert {number: page for number, page in many.pages.items() if any(page)} == {n: page for n, page in each.pages.items() if any(page)}


def test_tables_are_the_same_in_a_memory_that_takes_one_word_at_a_time() -> None:
    class Slow:
        def __init__(self) -> None:
            self.memory = Memory()
            self.read, self.write, self.zero = self.memory.read, self.memory.write, self.memory.zero

    for granule, wide, pa in ((12, False, 0x1_4000_0000), (14, False, 0x1_4000_0000), (16, True, 0xF_0000_4000_0000)):
        made = []
        for memory in (Memory(), Slow()):
            table = PageTable(memory, Allocator(0x4000_0000, 0x5000_0000), stage=2, granule=granule, input_bits=42, wide=wide)
            table.map(0x8000_0000, pa, 1 << 30, S2AP=1)
            table.map(0x4000_0000, pa, 64 << granule, level=3)
            made.append((memory if isinstance(memory, Memory) else memory.memory).pages)
        assert made[0] == made[1]


def test_pieces_side_by_side_are_mapped_as_one_after_the_other() -> None:
    """Random pieces, aligned or not, where something is mapped already, and beyond the range: the same words, or the same refusal."""
    rng, seen = Random(11), [0, 0]
    for _ in range(90):
        granule, stage = rng.choice([12, 12, 14, 16]), rng.choice([1, 2])
        block = granule + granule - 3
        size = rng.choice([1, 2, 3]) << rng.choice([granule, block, block, 30])
        pages = [0x1_0000_0000 + rng.randrange(64) * size for _ in range(rng.randrange(1, 6))]
        iova = (0x4000_0000 + rng.randrange(2000) * size) % (1 << 40)
        if not rng.randrange(4):
            iova += 1 << granule
        if not rng.randrange(6):
            pages[rng.randrange(len(pages))] += rng.choice([1 << granule, 0x800, 1 << 48])
        execute, attr = bool(rng.randrange(2)), rng.choice([None, 1])
        before, upper = [(iova + rng.randrange(len(pages)) * size) & -(1 << granule)] if not rng.randrange(6) else [], rng.randrange(8) == 0
        made: list[tuple[object, ...]] = []
        for together in (True, False):
            memory, refused = Memory(), ""
            table = PageTable(memory, Allocator(0x4000_0000, 0x8000_0000), stage=stage, granule=granule, input_bits=39, upper=upper and stage == 1)
            try:
                for where in before:
                    table.map(where, 0x2_0000_0000, 1 << granule)
                if together:
                    table.map_each(iova, pages, size, execute=execute, attr=attr)
                for place, pa in enumerate(() if together else pages):
                    table.map(iova + place * size, pa, size, execute=execute, attr=attr)
            except ValueError as error:
                refused = str(error)
            made.append((refused, table.tables, memory.pages))
        assert made[0] == made[1]
        seen[bool(made[0][0])] += 1
    assert min(seen) > 15
