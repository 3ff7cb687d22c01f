"""What the inventory says could be reached, against what transactions reach; and what it calls stale, against an SMMU without caches."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wizard.arch.cd import L1CD
from wizard.arch.command import Op
from wizard.arch.idr import IDR0, IDR1
from wizard.arch.registers import QueueBase, StrtabBaseCfg
from wizard.arch.ste import L1STD, STE, StreamConfig
from wizard.nesting.invalidate import encode
from wizard.smmu import Ids, Memory, Smmu, Transaction
from wizard.smmu.inventory import Inventory
from wizard.smmu.stale import stale
from wizard.smmu.tables import (
    Allocator,
    ContextTable,
    PageTable,
    StreamTable,
    bypass_entry,
    context_descriptor,
    nested_entry,
    stage1_entry,
    stage2_entry,
    write_record,
)

BASE, ROOM = 0x4000_0000, 0x1000_0000
IDS = Ids(idr1=IDR1(Ids().idr1).replace(SIDSIZE=12, SSIDSIZE=10).value, idr0=IDR0(Ids().idr0).replace(CD2L=1).value)


def on(memory: Memory, base: int, config: int, ids: Ids = IDS, *, caches: bool = False) -> Smmu:
    smmu = Smmu(ids, memory, tlb=caches, configuration_cache=caches)
    smmu.write("STRTAB_BASE", base)
    smmu.write("STRTAB_BASE_CFG", config)
    smmu.write("CR0", 0xD)
    return smmu


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 14), st.sampled_from([0, 5, 6, 8, 10]), st.booleans(), st.integers(0, 0x3F),
    st.lists(st.tuples(st.integers(0, 70), st.integers(0, 13), st.integers(0, 7)), max_size=4),
    st.lists(st.tuples(st.integers(0, 0x3FFF), st.integers(0, 7), st.integers(0, 1)), min_size=1, max_size=12),
)  # fmt: skip
def test_every_entry_that_a_transaction_meets_is_found(
    log2: int, split: int, two_level: bool, offset: int, arrays: list[tuple[int, int, int]], entries: list[tuple[int, int, int]]
) -> None:
    """Bases that are not aligned, sizes beyond SIDSIZE, reserved spans and splits: for each StreamID the same entry as for the SMMU."""
    memory, base = Memory(), BASE + 64 * offset
    for index, span, place in arrays:
        memory.write(base + 8 * index, L1STD.build(Span=span, L2Ptr=BASE + 0x10_0000 + 0x1_0000 * place).value)
    for sid, config, valid in entries:
        for start in (base, BASE + 0x10_0000):
            write_record(memory, start + 64 * (sid & 0x3FF), STE.build(V=valid, Config=config if config in (0, 4) else 4, SHCFG=1))
    smmu = on(memory, base, StrtabBaseCfg.build(LOG2SIZE=log2, SPLIT=split, FMT=int(two_level)).value)
    # A descriptor that is taken for an entry may be one with stages; its tables are nothing.
    bypass = {entry.sid for entry in Inventory(smmu).live() if entry.ste.Config == StreamConfig.BYPASS}
    for sid in range(1 << 12):
        assert (smmu.translate(Transaction(sid, 0x1000)).pa is not None) == (sid in bypass), sid


def test_structures_say_where_each_array_of_a_stream_table_is() -> None:
    memory = Memory()
    streams = StreamTable(memory, Allocator(BASE, BASE + ROOM), log2size=12, split=8)
    streams.set(0x312, bypass_entry())
    found = Inventory(on(memory, streams.base, streams.config))
    assert [(structure.what, structure.size) for structure in found.structures] == [
        ("the level 1 stream table", 128), ("the level 2 stream table of StreamIDs 0x300 to 0x3ff", 0x4000),
    ]  # fmt: skip
    assert found.structures[0].start == streams.base
    assert found.structures[1].start == found.entries[0x312].where - 0x12 * 64


@pytest.mark.parametrize(("log2", "size"), [(0, 32), (8, 0x2000), (31, 32 << 19)])
def test_a_queue_has_its_place_by_its_base(log2: int, size: int) -> None:
    """Aligned to its size, no longer than IDR1 says, below OAS (IHI 0070 3.5, 6.3.29)."""
    smmu = Smmu(IDS, Memory())
    assert not list(Inventory(smmu).queues())
    smmu.write("EVENTQ_BASE", QueueBase.build(ADDR=1 << 50 | 0x7654_3220, LOG2SIZE=log2).value)
    (queue,) = Inventory(smmu).queues()
    assert (queue.what, queue.start, queue.size) == ("the event queue", 0x7654_3220 & -size, size)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10), st.integers(0, 3), st.integers(0, 3), st.lists(st.integers(0, 1023), min_size=1, max_size=6))
def test_every_context_descriptor_that_a_transaction_meets_is_found(largest: int, form: int, without: int, written: list[int]) -> None:
    """Linear and two-level tables of both leaf sizes, and the reserved format; S1DSS in each way."""
    memory, space = Memory(), Allocator(BASE, BASE + ROOM)
    table = PageTable(memory, space, stage=1, input_bits=39)
    table.map(0x1000, BASE, 0x1000)
    cd = context_descriptor(table, asid=1, output_bits=44)
    leaf = {1: 6, 2: 10}.get(form)
    linear = space.take(64 << largest)
    for index in (index for index in written if not index >> largest):
        if leaf is None or not largest:
            write_record(memory, linear + 64 * index, cd)
            continue
        where = linear + 8 * (index >> leaf)
        l1cd = L1CD(memory.read(where) or 0)
        if not l1cd.V:
            l1cd = L1CD.build(V=1, L2Ptr=space.take(64 << leaf))
            memory.write(where, l1cd.value)
        write_record(memory, l1cd.L2Ptr + 64 * (index & (1 << leaf) - 1), cd)
    streams = StreamTable(memory, space, log2size=2)
    ste = STE.build(V=1, Config=StreamConfig.STAGE1, SHCFG=1, S1ContextPtr=linear, S1CDMax=largest, S1Fmt=form, S1DSS=without)
    streams.set(1, ste)
    smmu = on(memory, streams.base, streams.config)
    found = Inventory(smmu)
    reached = {index for index in range(1, 1024) if smmu.translate(Transaction(1, 0x1000, ssid=index)).pa == BASE}
    described = {descriptor.index for descriptor in found.descriptors(ste)[1]}
    assert reached == described - {0}
    plain = smmu.translate(Transaction(1, 0x1000)).pa
    assert (plain == 0x1000) == found.skips_stage1(ste)
    assert plain != BASE or 0 in described


# -- caches -----------------------------------------------------------------------------------------------------------


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("map"), st.integers(0, 7), st.integers(0, 7)), st.tuples(st.just("unmap"), st.integers(0, 7), st.just(0)),
        st.tuples(st.just("touch"), st.integers(0, 7), st.just(0)), st.tuples(st.just("invalidate"), st.integers(0, 7), st.just(0)),
    ), min_size=1, max_size=12,
)  # fmt: skip


@pytest.mark.parametrize("stage", [1, 2])
@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_where_nothing_is_stale_caches_change_no_answer(stage: int, steps: list[tuple[str, int, int]]) -> None:
    """Pages come, go and move, with and without invalidation: what is not called stale translates as without caches, and all of it after TLBI."""
    memory, space = Memory(), Allocator(BASE, BASE + ROOM)
    table = PageTable(memory, space, stage=stage, input_bits=40, start=1 if stage == 2 else None)
    streams = StreamTable(memory, space, log2size=4)
    if stage == 1:
        contexts = ContextTable(memory, space)
        contexts.set(0, context_descriptor(table, asid=5, output_bits=44))
        streams.set(1, stage1_entry(contexts))
    else:
        streams.set(1, stage2_entry(table, vmid=3, output_bits=44))
    cached = on(memory, streams.base, streams.config, caches=True)
    fresh = on(memory, streams.base, streams.config)
    for what, page, frame in steps:
        if what == "map":
            table.unmap(page << 12, 4096)  # a page that moves: nothing is mapped over another
            table.map(page << 12, 0x8000_0000 + (frame << 12), 4096)
        elif what == "unmap":
            table.unmap(page << 12, 4096)
        elif what == "touch":
            cached.translate(Transaction(1, page << 12))
        else:
            cached.command(*(encode(Op.TLBI_NH_VA, ASID=5, Address=page << 12) if stage == 1 else encode(Op.TLBI_S2_IPA, VMID=3, Address=page << 12)))
    if not list(stale(Inventory(cached))):
        for page in range(8):
            fault = cached.translate(Transaction(1, page << 12))
            assert fault.pa == fresh.translate(Transaction(1, page << 12)).pa
    cached.command(*encode(Op.TLBI_NSNH_ALL))
    assert not list(stale(Inventory(cached)))


def test_what_is_behind_stage_2_is_the_guests_own() -> None:
    """A stage 1 that changed without an invalidation is not stale; stage 2 below the same entry is, and so is its own translation."""
    memory, space = Memory(), Allocator(BASE, BASE + ROOM)
    second = PageTable(memory, space, stage=2, input_bits=40, start=1)
    second.map(BASE, BASE, ROOM)
    second.map(0x9000_0000, 0x8000_0000, 0x4000)
    first = PageTable(memory, space, stage=1, input_bits=39)
    first.map(0x1000, 0x9000_0000, 0x1000)
    contexts = ContextTable(memory, space)
    contexts.set(0, context_descriptor(first, asid=1, output_bits=40))
    streams = StreamTable(memory, space, log2size=2)
    streams.set(1, nested_entry(contexts, second, vmid=3, output_bits=44))
    smmu = on(memory, streams.base, streams.config, caches=True)
    assert smmu.translate(Transaction(1, 0x1000)).pa == 0x8000_0000
    assert not list(stale(Inventory(smmu)))
    first.unmap(0x1000, 0x1000)
    assert not list(stale(Inventory(smmu)))
    second.unmap(0x9000_0000, 0x1000)
    found = list(stale(Inventory(smmu)))
    assert len(found) == 2
    assert {(item.sid, item.vmid) for item in found} == {(None, 3)}
    assert all("stage 2 at" in item.text and "does not map 0x90000000" in item.text for item in found)
