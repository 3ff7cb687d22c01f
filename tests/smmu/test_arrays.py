"""Whole arrays give the same answers as one translation at a time, on random tables of every granule and stage; maps say the same again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wizard.arch.event import EventType, FaultClass, TranslationEvent, WalkAbortEvent
from wizard.smmu import Ids, Memory, Smmu, Transaction, permissions
from wizard.smmu.arrays import Snapshot, context_map, pages, plain, regions, translate
from wizard.smmu.arrays.maps import TooMuch
from wizard.smmu.arrays.plain import Second, Translations
from wizard.smmu.arrays.translate import FEW
from wizard.smmu.context import Context
from wizard.smmu.regime import Regime
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

SID = 5
GUEST = 0x4000_0000
IDS = Ids(idr3=0x1714, idr5=0x75)
"""XNX, S2FWB and small tables; 48 bits of output."""


def page_table(rng: Random, memory: Memory | GuestView, space: Allocator, stage: int, *, bits: int | None = None, upper: bool = False) -> PageTable:
    granule = rng.choice([12, 14, 16])
    size = bits or rng.choice([25, 32, 36, 39, 42, 48 if stage == 1 else 44])
    return PageTable(memory, space, stage=stage, granule=granule, input_bits=size, upper=upper)


def fill(rng: Random, table: PageTable, target: int, room: int, count: int) -> list[int]:
    """Map random ranges, blocks among them; answers addresses worth asking for."""
    granule = 1 << table.granule
    low = (1 << 64) - (1 << table.input_bits) if table.upper else 0
    asked = []
    for _ in range(count):
        size = granule * rng.choice([1, 2, 7, 40]) if rng.random() < 0.6 else 1 << rng.choice([21, 22, 25])
        size = max(granule, min(size, room // 2) // granule * granule)
        align = granule if rng.random() < 0.5 else max(granule, 1 << 21)
        iova = low + rng.randrange(max(1, (1 << table.input_bits) - size)) // align * align
        if iova + size > low + (1 << table.input_bits):
            continue
        fields: dict[str, Any] = {"AF": int(rng.random() > 0.1), "Contiguous": 0}
        if table.stage == 1:
            fields |= {"AP": rng.randrange(4), "UXN": rng.randrange(2), "PXN": rng.randrange(2)}
        else:
            fields |= {"S2AP": rng.choice([0, 1, 2, 3, 3, 3]), "XN": rng.randrange(4), "MemAttr": rng.choice([15, 15, 15, 1])}
        pa = target + rng.randrange(room - size + 1) // align * align
        try:
            table.map(iova, pa // granule * granule, size, **fields)
        except ValueError:
            continue
        asked += [iova, iova + size - 8, iova + rng.randrange(size), (iova + size) & (1 << 64) - 1]
    return asked


def spoil(rng: Random, memory: Memory | GuestView, table: PageTable) -> None:
    """Break a few descriptors."""
    for _ in range(rng.randrange(4)):
        where = rng.choice(table.tables) + 8 * rng.randrange(64)
        word = memory.read(where)
        if word:
            memory.write(where, rng.choice([0, word ^ 1 << rng.randrange(64), word | 3 << 61, word | 1 << 47, rng.randrange(1 << 64)]))


def build(rng: Random) -> tuple[Smmu, Context, list[int]]:
    memory, host = Memory(((0x1000_0000, 0x8000_0000),)), Allocator(0x1000_0000, 0x3000_0000)
    mode = rng.choice(["1", "2", "nested", "nested"])
    streams = StreamTable(memory, host, log2size=4)
    asked: list[int] = []
    second = None
    if mode != "1":
        second = page_table(rng, memory, host, 2, bits=rng.choice([36, 40, 44]) if mode == "nested" else None)
        if mode == "nested":
            second.map(GUEST, 0x4000_0000, 64 << 20, MemAttr=15)
        asked += fill(rng, second, 0x5000_0000, 1 << 28, 6)
    fields = {"S2AFFD": rng.randrange(2), "S2PTW": rng.randrange(2), "S2FWB": rng.randrange(2)}
    if mode == "2":
        assert second is not None
        streams.set(SID, stage2_entry(second, vmid=1, **fields))
    else:
        view: Memory | GuestView = memory if second is None else GuestView(memory, second.lookup)
        space = host if second is None else Allocator(GUEST, GUEST + (64 << 20))
        tables = [page_table(rng, view, space, 1)]
        if rng.random() < 0.5:
            tables.append(page_table(rng, view, space, 1, upper=True))
        for table in tables:
            target, room = (GUEST, 128 << 20) if second is not None else (0x5000_0000, 1 << 28)
            asked += fill(rng, table, target, room, 6)
            spoil(rng, view, table)
        flags = {name: rng.randrange(2) for name in ("AFFD", "WXN", "PAN", "TBI0", "TBI1", "HAD0", "HAD1")}
        contexts = ContextTable(view, space)
        contexts.set(0, context_descriptor(*tables, asid=1, output_bits=rng.choice([36, 44, 48]), **flags))
        streams.set(SID, stage1_entry(contexts) if second is None else nested_entry(contexts, second, vmid=1, **fields))
    if second is not None and rng.random() < 0.5:
        spoil(rng, memory, second)
    smmu = Smmu(IDS, memory, tlb=False)
    smmu.write("STRTAB_BASE", streams.base)
    smmu.write("STRTAB_BASE_CFG", streams.config)
    smmu.write("CR0", 0xD)
    asked += [rng.randrange(1 << rng.choice([25, 36, 48, 64])) for _ in range(40)]
    return smmu, smmu.configuration.context(SID, None, None), asked


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False), st.booleans(), st.booleans(), st.booleans())
def test_arrays_answer_as_single_translations_do(rng: Random, write: bool, privileged: bool, instruction: bool) -> None:
    try:
        smmu, context, asked = build(Random(rng.randrange(1 << 62)))
    except Exception as fault:
        if type(fault).__name__ != "Fault":
            raise
        return  # spoilt tables hide the context descriptor itself
    snapshot = Snapshot(smmu.memory)
    addresses = np.array(asked, np.uint64)
    found = translate(snapshot, context, smmu.features, addresses, write=write, privileged=privileged, instruction=instruction)
    for index, address in enumerate(asked):
        one = smmu.translate(Transaction(SID, address, write, privileged=privileged, instruction=instruction))
        if one.ok:
            assert (int(found.kind[index]), int(found.pa[index])) == (0, one.pa), hex(address)
            continue
        assert one.event is not None
        assert found.kind[index] == one.event.Type, (hex(address), one.reason)
        if isinstance(one.event, TranslationEvent | WalkAbortEvent):
            assert found.stage2[index] == one.event.S2
            assert FaultClass(int(found.fault_class[index])) == one.event.CLASS
            shown = one.event.IPA if isinstance(one.event, TranslationEvent) else one.event.FetchAddr
            if one.event.S2 or isinstance(one.event, WalkAbortEvent):
                mask = ~0xFFF if isinstance(one.event, TranslationEvent) else ~7
                assert int(found.address[index]) & mask & (1 << 56) - 1 == shown
    smmu.events()


def around(rng: Random, asked: list[int], count: int) -> NDArray[np.uint64]:
    """Many addresses: near those, from one of them on in order, or many to each page; and a few from anywhere."""
    dice = np.random.default_rng(rng.randrange(1 << 32))
    some = np.array(rng.sample(asked[:-40] or asked, 1), np.uint64)
    if rng.randrange(2):
        some = np.array(asked, np.uint64)
    far = dice.integers(0, 1 << rng.choice([32, 48, 64]), rng.choice([0, 0, count // 10]), dtype=np.uint64)
    near = some[dice.integers(0, some.size, count)] + dice.integers(0, 1 << rng.choice([14, 21, 24]), count, dtype=np.uint64)
    row = some[rng.randrange(some.size)] + np.arange(count, dtype=np.uint64) * np.uint64(rng.choice([520, 4096, 65536]))
    chosen = rng.choice([[near], [row], [near, row], [near[near >> np.uint64(55) == near[0] >> np.uint64(55)]]])
    return dice.permutation(np.concatenate([*chosen, far])) if rng.randrange(2) else np.concatenate([far, *chosen])


def odd(rng: Random, memory: Memory, context: Context) -> Context:
    """The same with holes in memory, big-endian descriptors, or 52 bits of output: what the builders do not make."""
    if rng.randrange(2):
        memory.ram = ()
        for number in rng.sample(sorted(memory.pages), len(memory.pages) // 8):
            memory.punch(number << 12)
    swap, wide = bool(rng.randrange(2)), bool(rng.randrange(2))
    if swap:
        for page in memory.pages.values():
            page.byteswap()

    def changed(regime: Regime) -> Regime:
        more = wide and regime.granule == 16
        return replace(regime, swap=swap, wide=more, output_bits=50 if more else regime.output_bits)

    first, second = context.stage1, context.stage2
    if first is not None:
        lower, upper = (half and replace(half, regime=half.regime and changed(half.regime)) for half in (first.lower, first.upper))
        assert lower is not None
        first = replace(first, lower=lower, upper=upper)
    return replace(context, stage1=first, stage2=second and replace(second, regime=changed(second.regime)))


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_every_way_through_an_array_gives_the_same(rng: Random) -> None:
    """By region and by page, against each address by itself, in every column."""
    rng = Random(rng.randrange(1 << 62))
    try:
        smmu, context, asked = build(rng)
    except Exception as fault:
        if type(fault).__name__ != "Fault":
            raise
        return
    context = odd(rng, smmu.memory, context)
    snapshot, addresses = Snapshot(smmu.memory), around(rng, asked, 3000)
    need = rng.choice(sorted(set(permissions.NEEDED.values())))

    def by(way: ModuleType) -> Translations:
        second = Second(snapshot, context.stage2) if context.stage2 is not None else None
        found: Translations = way.translate(snapshot, context, smmu.features, second, addresses, need)
        return found

    expected = by(plain)
    for way in (regions, pages):
        found = by(way)
        for name in Translations.__slots__:
            wrong = np.flatnonzero(getattr(found, name) != getattr(expected, name))
            assert not wrong.size, (way.__name__, name, hex(int(addresses[wrong[0]])), wrong.size)


Spoil = Callable[[int], int]
SPOILT1: tuple[Spoil, ...] = (
    lambda _: 0,
    lambda word: word & ~(1 << 10),
    lambda word: word ^ 1 << 7,
    lambda word: word ^ 1 << 54,
    lambda word: word | 1 << 46,
)
SPOILT2: tuple[Spoil, ...] = (lambda _: 0, lambda word: word & ~(1 << 10), lambda word: word & ~(1 << 7), lambda word: word | 1 << 46)
"""Not mapped, no access flag, read-only, for stage 1 no execution or user access, an output beyond the output size."""


def mixed(rng: Random, count: int) -> tuple[Smmu, Context, int]:
    """So many pages side by side, some of which fault or allow less, in one stage or in both; and where they begin."""
    memory, host = Memory(), Allocator(0x4000_0000, 0x6000_0000)
    mode, streams = rng.choice(["1", "2", "nested"]), StreamTable(memory, host, log2size=4)
    second = PageTable(memory, host, stage=2, input_bits=40) if mode != "1" else None
    if second is not None:
        second.map(0x8000_0000, 0x1_0000_0000, 16 << 20, level=3)
    view, space = (GuestView(memory, second.lookup), Allocator(0x8000_0000, 0x8040_0000)) if second is not None else (memory, host)
    first = PageTable(view, space, stage=1)
    first.map(0x12_3400_0000, 0x8080_0000, count << 12, level=3)
    contexts = ContextTable(view, space)
    contexts.set(0, context_descriptor(first, asid=1, output_bits=44))
    for table, base, ways in ((first, 0x12_3400_0000, SPOILT1), (second, 0x8080_0000, SPOILT2)):
        if table is not None and rng.randrange(3):
            kinds = rng.sample(ways, rng.choice([1, 1, 2, 4]))
            for page in rng.sample(range(count), count // rng.choice([1, 4, 20])):
                where = table.entry_address(base + (page << 12)) or 0
                table.memory.write(where, rng.choice(kinds)(table.memory.read(where) or 0))
    if second is None:
        streams.set(SID, stage1_entry(contexts))
    else:
        streams.set(SID, stage2_entry(second, vmid=1, output_bits=44) if mode == "2" else nested_entry(contexts, second, vmid=1, output_bits=44))
    smmu = Smmu(IDS, memory, tlb=False)
    for name, value in (("STRTAB_BASE", streams.base), ("STRTAB_BASE_CFG", streams.config), ("CR0", 0xD)):
        smmu.write(name, value)
    return smmu, smmu.configuration.context(SID, None, None), 0x8080_0000 if mode == "2" else 0x12_3400_0000


def test_pages_of_every_kind_side_by_side_give_the_same() -> None:
    """Random worlds in which pages of one region differ, each way, with addresses beside them."""
    rng = Random(23)
    for _ in range(60):
        count = rng.choice([20, 700])
        smmu, context, base = mixed(rng, count)
        dice = np.random.default_rng(rng.randrange(1 << 32))
        beside = np.uint64(rng.choice([0, 0x30000]))
        addresses = np.uint64(base) - beside + dice.integers(0, (count << 12) + 2 * int(beside), 4 * count, dtype=np.uint64)
        snapshot, need = Snapshot(smmu.memory), rng.choice(sorted(set(permissions.NEEDED.values())))
        ways = [
            way.translate(snapshot, context, smmu.features, Second(snapshot, context.stage2) if context.stage2 is not None else None, addresses, need)
            for way in (plain, regions, pages)
        ]
        for name in Translations.__slots__:
            for found in ways[1:]:
                assert bool((getattr(found, name) == getattr(ways[0], name)).all()), name


def test_many_addresses_take_the_short_way() -> None:
    """As many as ``translate`` does not walk one by one, in holes and outside of everything too."""
    memory, space = Memory(), Allocator(0x4000_0000, 0x6000_0000)
    table = PageTable(memory, space, stage=1)
    table.map(0x12_3400_0000, 0x8000_0000, 64 << 20, level=3)
    table.unmap(0x12_3410_0000, 0x10_0000)
    contexts, streams = ContextTable(memory, space), StreamTable(memory, space, log2size=4)
    contexts.set(0, context_descriptor(table, asid=1))
    streams.set(SID, stage1_entry(contexts))
    smmu = Smmu(IDS, memory, tlb=False)
    for name, value in (("STRTAB_BASE", streams.base), ("STRTAB_BASE_CFG", streams.config), ("CR0", 0xD)):
        smmu.write(name, value)
    context = smmu.configuration.context(SID, None, None)
    addresses = np.uint64(0x12_3300_0000) + np.arange(FEW, dtype=np.uint64) * np.uint64(0x3008)
    found = translate(Snapshot(memory), context, smmu.features, addresses, write=True)
    inside = addresses - np.uint64(0x12_3400_0000) < np.uint64(64 << 20)
    mapped = inside & ~(addresses - np.uint64(0x12_3410_0000) < np.uint64(0x10_0000))
    assert bool((found.kind == np.where(mapped, 0, EventType.F_TRANSLATION)).all())
    assert bool((found.pa == np.where(mapped, addresses - np.uint64(0x12_3400_0000) + np.uint64(0x8000_0000), 0)).all())
    assert bool((found.span == np.where(mapped, 12, 0)).all())


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_maps_say_what_each_permission_reaches(rng: Random) -> None:
    try:
        smmu, context, asked = build(Random(rng.randrange(1 << 62)))
    except Exception as fault:
        if type(fault).__name__ != "Fault":
            raise
        return
    snapshot = Snapshot(smmu.memory)
    try:
        found = context_map(snapshot, context)
    except TooMuch:
        return
    assert bool((found.start[1:] > found.start[:-1] + (found.size[:-1] - np.uint64(1))).all())
    canonical = np.array([address for address in asked if address >> 56 in (0, 255)], np.uint64)
    where, inside = found.find(canonical)
    for (privileged, write, instruction), need in permissions.NEEDED.items():
        if context.stage1 is not None and context.stage1.el2:
            continue
        one = translate(snapshot, context, smmu.features, canonical, write=write, privileged=privileged, instruction=instruction)
        reached = inside & ((found.allowed[where] & np.uint8(need)) != 0) if len(found) else inside
        assert bool(((one.kind == 0) == reached).all())
        expected = found.output[where] + (canonical - found.start[where]) if len(found) else canonical
        assert bool((one.pa[reached] == expected[reached]).all())


def test_map_of_a_guest_is_its_memory() -> None:
    memory, space = Memory(), Allocator(0x4000_0000, 0x6000_0000)
    table = PageTable(memory, space, stage=2, input_bits=40)
    table.map(0x8000_0000, 0x1_0000_0000, 1 << 30, level=3)
    table.map(0x0800_0000, 0x0808_0000, 0x1000, MemAttr=1)
    streams = StreamTable(memory, space, log2size=1)
    streams.set(0, stage2_entry(table, vmid=1, output_bits=44))
    smmu = Smmu(Ids(), memory)
    smmu.write("STRTAB_BASE", streams.base)
    smmu.write("STRTAB_BASE_CFG", streams.config)
    rows = context_map(Snapshot(memory), smmu.configuration.context(0, None, None)).rows()
    assert rows == [(0x0800_0000, 0x1000, 0x0808_0000, permissions.ALL), (0x8000_0000, 1 << 30, 0x1_0000_0000, permissions.ALL)]


def test_tables_that_loop_end() -> None:
    memory, space = Memory(), Allocator(0x4000_0000, 0x6000_0000)
    table = PageTable(memory, space, stage=1)
    memory.write_words(table.root, [table.root | 3] * 512)
    contexts = ContextTable(memory, space)
    contexts.set(0, context_descriptor(table, asid=1, output_bits=44))
    streams = StreamTable(memory, space, log2size=1)
    streams.set(0, stage1_entry(contexts))
    smmu = Smmu(Ids(), memory)
    smmu.write("STRTAB_BASE", streams.base)
    smmu.write("STRTAB_BASE_CFG", streams.config)
    with pytest.raises(TooMuch, match="may loop"):
        context_map(Snapshot(memory), smmu.configuration.context(0, None, None))


def test_no_addresses_no_answers() -> None:
    smmu, context, _ = build(Random(3))
    assert translate(Snapshot(smmu.memory), context, smmu.features, np.zeros(0, np.uint64)).pa.size == 0
