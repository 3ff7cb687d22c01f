"""What each command removes from the caches, and what it has to leave: IHI 0070 4.3, 4.4. The stale answer is shown each time."""

from __future__ import annotations

from typing import Any

import pytest

from tests.smmu.world import IPA, PA, SID, VA, World, world
from wizard.arch.command import CommandError, Op, build
from wizard.arch.event import EventType
from wizard.smmu import Ids, Memory, Smmu, Transaction
from wizard.smmu.tables import Allocator, PageTable, StreamTable, bypass_entry, context_descriptor, stage2_entry

ASID, VMID = 1, 7


def remap(w: World, offset: int = 0) -> None:
    """Point the first page elsewhere behind the SMMU's back."""
    table = w.first or w.second
    assert table is not None
    leaf = table.entry_address(VA if w.first is not None else IPA) or 0
    base = IPA if w.first is not None and w.second is not None else PA
    (w.view if w.first is not None else w.memory).write(leaf, (w.view.read(leaf) or 0) ^ (base ^ (base + 0x5000 + offset)))


def stale(w: World, op: Op, **fields: int) -> bool:
    """Whether the old translation is still used after ``op``."""
    address = VA if w.first is not None else IPA
    assert w.dma(address).pa == PA
    remap(w)
    assert w.smmu.command(*build(op, **fields).words) is CommandError.CERROR_NONE
    return w.dma(address).pa == PA


HERE: dict[str, Any] = {"VMID": VMID, "ASID": ASID, "Address": VA}


@pytest.mark.parametrize(
    ("op", "fields"),
    [
        (Op.TLBI_NH_VA, HERE),
        (Op.TLBI_NH_VA, {**HERE, "Leaf": 1}),
        (Op.TLBI_NH_VAA, {"VMID": VMID, "Address": VA}),
        (Op.TLBI_NH_ASID, {"VMID": VMID, "ASID": ASID}),
        (Op.TLBI_NH_ALL, {"VMID": VMID}),
        (Op.TLBI_S12_VMALL, {"VMID": VMID}),
        (Op.TLBI_NSNH_ALL, {}),
        # ranges: one page by its level, several pages that reach it, with NUM and SCALE
        (Op.TLBI_NH_VA, {**HERE, "TG": 1, "TTL": 3}),
        (Op.TLBI_NH_VA, {**HERE, "TG": 1, "NUM": 3, "Address": VA - 0x3000}),
        (Op.TLBI_NH_VA, {**HERE, "TG": 1, "NUM": 0, "SCALE": 2, "Address": VA - 0x2000}),
        (Op.TLBI_NH_VAA, {"VMID": VMID, "TG": 1, "NUM": 31, "SCALE": 31, "Address": 0}),
    ],
)
@pytest.mark.parametrize("mode", ["1", "nested"])
def test_removes_what_it_names(mode: str, op: Op, fields: dict[str, int]) -> None:
    fields = {name: content for name, content in fields.items() if not (mode == "1" and name == "VMID")}
    assert not stale(world(mode), op, **fields)


@pytest.mark.parametrize(
    ("op", "fields"),
    [
        (Op.SYNC, {}),
        (Op.TLBI_NH_VA, {**HERE, "ASID": 2}),
        (Op.TLBI_NH_VA, {**HERE, "VMID": 8}),
        (Op.TLBI_NH_VA, {**HERE, "Address": VA + 0x1000}),
        (Op.TLBI_NH_VAA, {"VMID": 8, "Address": VA}),
        (Op.TLBI_NH_ASID, {"VMID": VMID, "ASID": 2}),
        (Op.TLBI_NH_ALL, {"VMID": 8}),
        (Op.TLBI_S12_VMALL, {"VMID": 8}),
        (Op.TLBI_EL2_ALL, {}),
        (Op.TLBI_NH_VA, {**HERE, "TG": 2, "TTL": 3}),
        (Op.TLBI_NH_VA, {**HERE, "TG": 1, "TTL": 2}),
        (Op.TLBI_NH_VA, {**HERE, "TG": 1, "NUM": 1, "Address": VA - 0x2000}),
        (Op.CFGI_CD, {"StreamID": SID}),
        (Op.CFGI_STE_RANGE, {"Range": 31}),
        # combined entries need not go by their intermediate address (4.4.3.1)
        (Op.TLBI_S2_IPA, {"VMID": VMID, "Address": IPA}),
    ],
)
def test_leaves_the_rest(op: Op, fields: dict[str, int]) -> None:
    assert stale(world("nested"), op, **fields)


def test_global_entries_go_by_address_but_not_by_asid() -> None:
    assert stale(world("nested", leaf1={"shared": True}), Op.TLBI_NH_ASID, VMID=VMID, ASID=ASID)
    assert not stale(world("nested", leaf1={"shared": True}), Op.TLBI_NH_VA, VMID=VMID, ASID=99, Address=VA)


@pytest.mark.parametrize(
    ("fields", "old"), [({"VMID": VMID, "Address": IPA}, False), ({"VMID": 8, "Address": IPA}, True), ({"VMID": VMID, "Address": IPA + 0x1000}, True)]
)
def test_stage_2_entries_go_by_intermediate_address(fields: dict[str, int], old: bool) -> None:
    assert stale(world("2"), Op.TLBI_S2_IPA, **fields) == old


def test_vmid_wildcard_reaches_neighbours() -> None:
    w = world("nested")
    w.smmu.write("CR0", 0xD | 1 << 6)
    assert not stale(w, Op.TLBI_NH_ALL, VMID=6)
    w = world("nested")
    w.smmu.write("CR0", 0xD | 1 << 6)
    assert stale(w, Op.TLBI_NH_ALL, VMID=4)


def test_a_range_of_nothing_with_a_granule_is_illegal() -> None:
    w = world("nested")
    assert w.smmu.command(*build(Op.TLBI_NH_VA, TG=1).words) is CommandError.CERROR_ILL
    assert w.smmu.command(*build(Op.TLBI_NH_VA, TG=2, TTL=1).words) is CommandError.CERROR_ILL, "16 KiB has no level 1 blocks"


def test_leaf_invalidation_lets_table_descriptors_stay() -> None:
    """The mistake of freeing a page table after a leaf invalidation: the walk goes on through the freed table."""
    w = world("1")
    assert w.first is not None
    assert w.dma().ok
    old = w.first.entry_address(VA) or 0
    upper = w.first.root
    for shift in (39, 30):
        upper = (w.memory.read(upper + 8 * (VA >> shift & 511)) or 0) & (1 << 48) - 4096
    w.memory.write(upper + 8 * (VA >> 21 & 511), 0)
    w.memory.write(old, (w.memory.read(old) or 0) ^ 0x5000)
    w.smmu.command(*build(Op.TLBI_NH_VA, ASID=ASID, Address=VA, Leaf=1).words)
    assert w.dma().pa == PA + 0x5000, "the unlinked table is still walked"
    w.smmu.command(*build(Op.TLBI_NH_VA, ASID=ASID, Address=VA).words)
    assert not w.dma().ok


def test_any_page_of_a_block_removes_all_of_it() -> None:
    w = world("nested")
    assert w.first is not None
    assert w.second is not None
    big = 0x4080_0000
    w.first.map(0x20_0000_0000, big, 2 << 20)
    assert w.dma(0x20_0000_0000).pa == 0x8080_0000
    assert w.dma(0x20_0010_0000).pa == 0x8090_0000
    leaf = w.first.entry_address(0x20_0000_0000) or 0
    w.view.write(leaf, 0)
    w.smmu.command(*build(Op.TLBI_NH_VA, VMID=VMID, ASID=ASID, Address=0x20_001F_F000).words)
    assert not w.dma(0x20_0000_0000).ok


def test_contiguous_hint_makes_one_entry_of_a_run() -> None:
    w = world("1", leaf1={"contiguous": True})
    assert w.first is not None
    w.first.map(0x50_0000, PA, 0x10000, contiguous=True)
    assert w.dma(0x50_0000).size == 16
    w.memory.write(w.first.entry_address(0x50_3000) or 0, 0)
    assert w.dma(0x50_3008).pa == PA + 0x3008, "covered by the run's entry"
    w.smmu.command(*build(Op.TLBI_NH_VA, ASID=ASID, Address=0x50_F000).words)
    assert not w.dma(0x50_3008).ok


def test_configuration_stays_until_its_own_command() -> None:
    w = world("1")
    assert w.dma().ok
    w.streams.set(SID, bypass_entry())
    w.smmu.submit([build(Op.TLBI_NSNH_ALL).words[:2], build(Op.CFGI_STE, StreamID=SID + 1).words[:2]])  # type: ignore[list-item]
    assert w.dma().pa == PA
    w.smmu.command(*build(Op.CFGI_STE_RANGE, StreamID=SID + 1, Range=0).words)
    assert w.dma().pa == VA, "StreamIDs 8 and 9"


def test_level_1_stream_table_descriptor_needs_a_non_leaf_command() -> None:
    w = world("1")
    assert w.dma().ok
    w.memory.write(w.streams.base, 0)
    w.smmu.command(*build(Op.CFGI_STE, StreamID=SID, Leaf=1).words)
    assert w.dma().ok
    w.smmu.command(*build(Op.CFGI_STE, StreamID=SID).words)
    assert not w.dma().ok


def test_caches_can_be_off() -> None:
    w = world("nested", tlb=False)
    assert w.dma().pa == PA
    remap(w)
    assert w.dma().pa == PA + 0x5000


def test_faults_are_not_cached() -> None:
    w = world("1")
    assert w.first is not None
    assert not w.dma(VA + 0x100000).ok
    w.first.map(VA + 0x100000, PA, 0x1000)
    assert w.dma(VA + 0x100000).pa == PA


@pytest.mark.parametrize("op", [Op.TLBI_NH_ASID, Op.TLBI_NH_VA])
def test_global_entries_are_shared_within_one_aset_only(op: Op) -> None:
    """3.17.1: lookups of ASET 0 never match global entries of ASET 1; commands reach both (4.4)."""
    w = world("1", leaf1={"nG": 0})
    assert w.first is not None
    assert w.contexts is not None
    assert w.dma().pa == PA
    remap(w)
    w.contexts.set(0, context_descriptor(w.first, asid=2))
    w.smmu.command(*build(Op.CFGI_CD, StreamID=SID).words)
    assert w.dma().pa == PA, "a global entry serves every ASID"
    w.contexts.set(0, context_descriptor(w.first, asid=2, ASET=0))
    w.smmu.command(*build(Op.CFGI_CD, StreamID=SID).words)
    assert w.dma().pa == PA + 0x5000, "but not the other set"
    remap(w, 0x1000)
    moved = w.memory.read(w.first.entry_address(VA) or 0)
    w.smmu.command(*build(op, ASID=9, Address=0 if op is Op.TLBI_NH_ASID else VA).words)
    assert (w.dma().pa == PA + 0x5000) == (op is Op.TLBI_NH_ASID), moved


def test_a_contiguous_run_ends_with_the_input_range() -> None:
    """A run larger than stage 2's input range is misprogrammed: an address beyond the range still faults (3.4), cached or not."""
    memory, space = Memory(), Allocator(0x4010_0000, 0x6000_0000)
    table = PageTable(memory, space, stage=2, input_bits=32, start=1)
    table.map(0, 1 << 30, 1 << 30, level=1, contiguous=True)
    streams = StreamTable(memory, space, log2size=4)
    streams.set(SID, stage2_entry(table, vmid=1, output_bits=44))
    smmu = Smmu(Ids(), memory)
    for name, content in (("STRTAB_BASE", streams.base), ("STRTAB_BASE_CFG", streams.config), ("CR0", 0xD)):
        smmu.write(name, content)
    assert smmu.translate(Transaction(SID, 0x1000)).pa == (1 << 30) + 0x1000
    assert not smmu.translate(Transaction(SID, 1 << 33)).ok
    assert [event.Type for event in smmu.events()] == [EventType.F_TRANSLATION]


def test_a_run_out_of_place_reaches_nothing_that_stage_2_does_not_map() -> None:
    """A guest's contiguous hint on leaves that do not lie in a run, the last of them at the end of its memory: the next page still faults."""
    w = world("nested")
    assert w.first is not None
    assert w.second is not None
    block, va = 0x4060_0000, 0x40_0000_0000
    w.second.unmap(block, 2 << 21)
    w.second.map(block, 0xA000_0000, 1 << 21, level=2)
    for page in range(16):
        w.first.map(va + (page << 12), block + (1 << 21) + ((page - 8) << 12), 0x1000, contiguous=True)
    assert w.dma(va + 0x7000).pa == 0xA01F_F000, "the last page of the block"
    assert not w.dma(va + 0x8000).ok, "the page after it, of another VM"
    assert w.types() == [EventType.F_TRANSLATION]
    assert w.dma(va).pa == 0xA01F_8000


@pytest.mark.parametrize("fields", [{}, {"TG": 1, "TTL": 2}, {"TG": 1, "NUM": 1}])
def test_a_block_that_stage_2_cut_to_pieces_goes_as_a_whole(fields: dict[str, int]) -> None:
    """Stage 1 maps 2 MiB, stage 2 pages of 4 KiB: any address of the block names all of its pieces (IHI 0070 4.4); QEMU 11.1 keeps others."""
    w = world("nested")
    assert w.first is not None
    assert w.second is not None
    block, ipa = 0x40_0000_0000, 0x4060_0000
    w.first.map(block, ipa, 1 << 21, level=2)
    w.second.unmap(ipa, 2 << 21)
    w.second.map(ipa, 0xA000_0000, 2 << 21, level=3)
    assert w.dma(block + 0x3000).pa == 0xA000_3000
    leaf = w.first.entry_address(block) or 0
    w.view.write(leaf, (w.view.read(leaf) or 0) + (1 << 21))
    assert w.dma(block + 0x3000).pa == 0xA000_3000
    w.smmu.command(*build(Op.TLBI_NH_VA, VMID=VMID, ASID=ASID, Address=block + 0x1F_0000, **fields).words)
    assert w.dma(block + 0x3000).pa == 0xA020_3000
