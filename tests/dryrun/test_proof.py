"""The isolation proof: over whole tables, against one translation at a time; and each way in which isolation can be broken."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dryrun.plans import NVME, VF, host, two_vms
from wizard.arch.descriptor import Stage2Leaf
from wizard.dryrun import Layout, lay_out
from wizard.dryrun.proof import prove
from wizard.dryrun.tables import Grant, Interval, Walked, check_tables
from wizard.dryrun.world import World
from wizard.nesting import Vdevice
from wizard.smmu import Ids, Memory, Smmu, Transaction
from wizard.smmu.arrays import Snapshot, stage2_map
from wizard.smmu.context import stage2_of
from wizard.smmu.tables import Allocator, PageTable, StreamTable, stage2_entry

OWN = 0x2_0000_0000
SIZE = 0x400_0000
SMMU = "smmu3.0x000000000c000000"


def stage2(granule: int = 12) -> tuple[Memory, PageTable]:
    memory = Memory(((0x4000_0000, 0x8000_0000), (0x1_0000_0000, 0x4_0000_0000)))
    return memory, PageTable(memory, Allocator(0x4000_0000, 0x6000_0000), stage=2, granule=granule, input_bits=44, start=0 if granule == 12 else None)


def verdict(memory: Memory, table: PageTable, *own: tuple[int, int]) -> tuple[bool, Walked]:
    walked = Walked()
    return check_tables(memory, table, Grant(tuple(Interval(*pair) for pair in own)), walked) is None, walked


def one_by_one(memory: Memory, table: PageTable, start: int, end: int, ipas: list[int]) -> bool:
    """The same question to the simulated SMMU, an address at a time."""
    streams = StreamTable(memory, Allocator(0x7000_0000, 0x8000_0000), log2size=4)
    streams.set(1, stage2_entry(table, vmid=1, output_bits=44))
    smmu = Smmu(Ids(), memory)
    smmu.write("STRTAB_BASE", streams.base)
    smmu.write("STRTAB_BASE_CFG", streams.config)
    smmu.write("CR0", 0xD)
    outcomes = [smmu.translate(Transaction(1, ipa)) for ipa in ipas]
    return all(outcome.pa is None or start <= outcome.pa < end for outcome in outcomes)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 600), st.integers(0, 600), st.sampled_from([1, 2, 16, 512]), st.booleans()), min_size=1, max_size=8
    )
)  # fmt: skip
def test_the_proof_agrees_with_translations_one_at_a_time(maps: list[tuple[int, int, int, bool]]) -> None:
    """Random tables over 512 frames that are the VM's and 600 that one may hit beside them."""
    memory, table = stage2()
    end = OWN + 600 * 4096
    ipas: list[int] = []
    for ipa, frame, pages, block in maps:
        where = (0x4000_0000 + (ipa << 12)) if pages < 512 or not block else 0x8000_0000 + (ipa << 21)
        output = OWN + (frame << 12) if pages < 512 or not block else OWN + (frame << 21)
        try:
            table.map(where, output, pages << 12)
        except ValueError:
            continue
        ipas += [where + (page << 12) for page in range(pages)]
    proved, walked = verdict(memory, table, (OWN, end))
    assert proved == one_by_one(memory, table, OWN, end, ipas)
    assert walked.leaves == sum(1 for _ in table.leaves()) or not proved


@pytest.mark.parametrize("granule", [12, 14, 16])
def test_whole_tables_of_each_granule(granule: int) -> None:
    memory, table = stage2(granule)
    table.map(0x4000_0000, OWN, SIZE)
    assert verdict(memory, table, (OWN, OWN + SIZE))[0]
    assert verdict(memory, table, (OWN, OWN + SIZE // 2), (OWN + SIZE // 2, OWN + SIZE))[0]
    assert not verdict(memory, table, (OWN, OWN + SIZE - (1 << granule)))[0]
    assert not verdict(memory, table, (OWN + (1 << granule), OWN + SIZE))[0]
    assert verdict(memory, table, (OWN, OWN + SIZE))[1].bytes == SIZE


def test_one_wrong_page_among_many_is_named() -> None:
    memory, table = stage2()
    for page in range(2048):
        table.map(0x4000_0000 + (page << 12), OWN + ((2047 - page) << 12), 4096)
    where = table.entry_address(0x4000_0000 + (777 << 12))
    assert where is not None
    memory.write(where, (memory.read(where) or 0) & ~((1 << 48) - 4096) | 0x3_1234_5000)
    stray = check_tables(memory, table, Grant((Interval(OWN, OWN + (2048 << 12)),)), Walked())
    assert stray is not None
    assert (stray.ipa, stray.pa) == (0x4000_0000 + (777 << 12), 0x3_1234_5000)


def test_a_contiguous_leaf_may_stand_for_its_whole_run() -> None:
    """DDI 0487 D8.7.1: one entry of a run of 16 is enough for the TLB to cover all of it."""
    memory, table = stage2()
    table.map(0x4000_0000, OWN + 0x8000, 4096)
    assert verdict(memory, table, (OWN + 0x8000, OWN + 0x9000))[0]
    where = table.entry_address(0x4000_0000)
    assert where is not None
    memory.write(where, Stage2Leaf(memory.read(where) or 0).replace(Contiguous=1).value)
    assert not verdict(memory, table, (OWN + 0x8000, OWN + 0x9000))[0]
    assert verdict(memory, table, (OWN, OWN + 0x1_0000))[0]


def test_an_address_between_the_extremes_counts_too() -> None:
    """A hole in the VM's memory that the first and the last leaf of a table do not show."""
    memory, table = stage2()
    table.map(0x4000_0000, OWN, 2 << 21, level=3)
    hole = ((OWN, OWN + 0x30_0000), (OWN + 0x30_1000, OWN + (2 << 21)))
    assert verdict(memory, table, (OWN, OWN + (2 << 21)))[0]
    assert not verdict(memory, table, *hole)[0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 20)), min_size=1, max_size=6), st.integers(0, 60))
def test_the_proof_agrees_with_the_map_of_the_simulated_smmu(maps: list[tuple[int, int, int]], frames: int) -> None:
    """``wizard.smmu.arrays`` enumerates the same tables in another way."""
    memory, table = stage2()
    for ipa, frame, pages in maps:
        table.map(0x4000_0000 + (ipa << 12), OWN + (frame << 12), pages << 12)
    found = stage2_map(Snapshot(memory), stage2_of(stage2_entry(table, vmid=1, output_bits=44), Ids().features))
    end = OWN + (frames << 12)
    inside = all(output >= OWN and output + size <= end for _, size, output, _ in found.rows())
    proved, walked = verdict(memory, table, (OWN, end))
    assert proved == inside
    assert not proved or walked.bytes == sum(size for _, size, _, _ in found.rows())


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2100), st.integers(1, 900)), max_size=6),
    st.lists(st.tuples(st.integers(0, 2600), st.sampled_from([0, 9])), min_size=1, max_size=12),
)
def test_grants_of_any_shape(granted: list[tuple[int, int]], leaves: list[tuple[int, int]]) -> None:
    """Intervals that touch, overlap and end within a 2 MiB unit, against a set of frames."""
    memory, table = stage2()
    allowed = {frame for first, count in granted for frame in range(first, first + count)}
    inside = True
    for number, (frame, log2) in enumerate(leaves):
        frame = frame & -(1 << log2)
        table.map(0x4000_0000 + (number << 21), OWN + (frame << 12), 4096 << log2)
        inside &= set(range(frame, frame + (1 << log2))) <= allowed
    own = tuple((OWN + (first << 12), OWN + (first + count << 12)) for first, count in granted)
    assert verdict(memory, table, *own)[0] == inside


# -- the other three parts --------------------------------------------------------------------------------------------


def world(layout: Layout | None = None) -> World:
    return World(layout or lay_out(two_vms(), host()))


def test_a_plan_is_proved_with_its_assumptions() -> None:
    proof = prove(world(), "web", SMMU)
    assert proof.proved
    assert len(proof.steps) == 4
    assert any("ITS page is shared" in text for text in proof.assumptions)
    assert any("not of" in text or "as modelled" in text for text in proof.assumptions)


def test_a_vmid_of_two_vms_breaks_it() -> None:
    made = world()
    web, db = (next(p for p in made.vms[name].iommufd.parents if p.smmu.name == SMMU) for name in ("web", "db"))
    db.vmid = web.vmid
    proof = prove(made, "web", SMMU)
    assert not proof.proved
    assert "VM db has VMID" in (proof.counterexample or "")


def test_a_stream_that_walks_another_stage_2_breaks_it() -> None:
    made = world()
    made.devices[NVME].installed = made.devices[VF].installed
    proof = prove(made, "web", SMMU)
    assert not proof.proved
    assert NVME in (proof.counterexample or "")


def test_a_streamid_of_two_functions_breaks_it() -> None:
    layout = lay_out(two_vms(), host())
    nvme = next(f for f in layout.functions if f.address == NVME)
    made = world(replace(layout, functions=tuple(replace(f, streams=nvme.streams) if f.address == VF else f for f in layout.functions)))
    proof = prove(made, "web", SMMU)
    assert not proof.proved
    assert "belongs to" in (proof.counterexample or "")


def test_a_vdevice_of_another_vms_function_breaks_it() -> None:
    made = world()
    viommu = made.vms["web"].vsmmus["smmuv3.1"].viommu
    assert viommu is not None
    viommu.vdevices[0x900] = Vdevice(viommu, made.devices[VF], 0x900)
    proof = prove(made, "web", SMMU)
    assert not proof.proved
    assert "not the VM's" in (proof.counterexample or "")


def test_host_memory_in_stage_2_breaks_it() -> None:
    """A page of the kernel's own stream table, mapped into a guest."""
    made = world()
    parent = next(p for p in made.vms["web"].iommufd.parents if p.smmu.name == SMMU)
    parent.table.map(0x1_0000_0000, made.smmus[SMMU].streams.base, 4096)
    proof = prove(made, "web", SMMU)
    assert not proof.proved
    assert "the host" in (proof.counterexample or "")
