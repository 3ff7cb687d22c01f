"""Walks that QEMU's SMMU cannot be asked about: 52-bit addresses, big-endian tables, EPD, TBI, EL2, small tables."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tests.smmu.world import RICH, SID, VA, World, world
from wizard.arch.event import EventType
from wizard.arch.idr import IDR0, IDR5
from wizard.smmu import Ids, Memory, Smmu, Transaction
from wizard.smmu.arrays import Snapshot, context_map, translate
from wizard.smmu.tables import Allocator, ContextTable, PageTable, StreamTable, context_descriptor, stage1_entry, stage2_entry
from wizard.smmu.walk import swapped

WIDE = Ids(RICH.idr0, RICH.idr1, RICH.idr3, IDR5(RICH.idr5).replace(OAS=6, VAX=1).value, RICH.aidr)


def with_table(stage: int, ids: Ids, *, iova: int, pa: int, **how: int) -> Smmu:
    memory, space = Memory([(0x4000_0000, 0x1_0000_0000), (1 << 51, (1 << 51) + (1 << 30))]), Allocator(0x4010_0000, 0x6000_0000)
    table = PageTable(memory, space, stage=stage, wide=ids.features.oas > 48, upper=iova >> 63 == 1, **how)
    table.map(iova, pa, 1 << table.granule)
    streams = StreamTable(memory, space, log2size=4)
    if stage == 1:
        contexts = ContextTable(memory, space)
        contexts.set(0, context_descriptor(table, asid=1, output_bits=ids.features.oas))
        streams.set(SID, stage1_entry(contexts))
    else:
        streams.set(SID, stage2_entry(table, vmid=1, output_bits=ids.features.oas))
    smmu = Smmu(ids, memory)
    smmu.write("STRTAB_BASE", streams.base)
    smmu.write("STRTAB_BASE_CFG", streams.config)
    smmu.write("CR0", 0xD)
    return smmu


@pytest.mark.parametrize("stage", [1, 2])
def test_52_bits_with_64k_pages(stage: int) -> None:
    iova, pa = (0xA_BCDE << 32) | 0x1_0000, 0x8_1234_5679_0000
    smmu = with_table(stage, WIDE, iova=iova, pa=pa, granule=16, input_bits=52)
    assert smmu.translate(Transaction(SID, iova + 0x42)).pa == pa + 0x42
    context, snapshot = smmu.configuration.context(SID, None, None), Snapshot(smmu.memory)
    assert int(translate(snapshot, context, smmu.features, np.array([iova + 0x42], np.uint64)).pa[0]) == pa + 0x42
    assert [row[:3] for row in context_map(snapshot, context).rows()] == [(iova, 0x1_0000, pa)]


@pytest.mark.parametrize(("granule", "bits"), [(12, 16), (12, 20), (14, 18), (16, 17)])
def test_small_tables(granule: int, bits: int) -> None:
    iova = (1 << bits) - (1 << granule)
    smmu = with_table(1, RICH, iova=iova, pa=0x9000_0000, granule=granule, input_bits=bits)
    assert smmu.translate(Transaction(SID, iova)).pa == 0x9000_0000
    assert not smmu.translate(Transaction(SID, 1 << bits)).ok


def test_upper_half_of_52_bits() -> None:
    iova = (1 << 64) - (1 << 52) + 0x5_0000
    smmu = with_table(1, WIDE, iova=iova, pa=0x9000_0000, granule=16, input_bits=52)
    assert smmu.translate(Transaction(SID, iova + 4)).pa == 0x9000_0004


def big_endian(w: World) -> None:
    for table in (w.first, w.second):
        if table is not None:
            for at in table.tables:
                for index in range(1 << table.granule - 3):
                    word = table.memory.read(at + 8 * index)
                    if word:
                        table.memory.write(at + 8 * index, swapped(word))


@pytest.mark.parametrize("mode", ["1", "2"])
def test_big_endian_tables(mode: str) -> None:
    mixed = Ids(IDR0(RICH.idr0).replace(TTENDIAN=0).value, RICH.idr1, RICH.idr3, RICH.idr5, RICH.aidr)
    w = world(mode, mixed, cd={"ENDI": 1}, ste={"S2ENDI": 1})
    big_endian(w)
    address = VA if mode == "1" else 0x4100_0000
    assert w.dma(address).pa == 0x9000_0000
    context = w.smmu.configuration.context(SID, None, None)
    assert int(translate(Snapshot(w.memory), context, w.smmu.features, np.array([address], np.uint64)).pa[0]) == 0x9000_0000


def test_disabled_walks_fault() -> None:
    w = world("1", cd={"EPD0": 1, "T0SZ": 0})
    outcome = w.dma()
    assert "EPD0" in outcome.reason
    assert w.types() == [EventType.F_TRANSLATION]


@pytest.mark.parametrize(("tbi", "passes"), [(0, False), (1, True)])
def test_top_byte(tbi: int, passes: bool) -> None:
    w = world("1", cd={"TBI0": tbi})
    tagged = VA | 0x5A << 56
    assert w.dma(tagged).ok == passes
    assert w.dma(tagged).ok == passes, "the same from the TLB"
    assert all(event.fields()["InputAddr"] == tagged for event in w.smmu.events()), "the record has the address as it came"


def test_every_fault_is_told_in_the_trace() -> None:
    w = world("nested")
    outcome = w.smmu.translate(Transaction(SID, 0x1234_0000_0000, True), trace=True)
    assert outcome.trace is not None
    first, last = outcome.trace.steps[0], outcome.trace.steps[-1]
    assert first.what == "l1std"
    assert last.text.startswith("F_TRANSLATION: stage 1 level")
    for before, step in pairwise(outcome.trace.steps):
        if step.what == "walk" and step.address is not None:
            word = w.view.read(step.address) if before.what == "ipa" else w.memory.read(step.address)
            assert (word,) == step.words
