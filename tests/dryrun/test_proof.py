"""The isolation proof: over whole tables, against one translation at a time; and each way in which isolation can be broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dryrun.plans import NVME, VF, plan, two_vms, vm
from tests.tools.hosts import host
from wizard.arch import command
from wizard.arch.command import Command, Op, StreamCommand, Tlbi
from wizard.arch.descriptor import Stage2Leaf
from wizard.arch.idr import IDR0, IDR5
from wizard.arch.ste import STE, StreamConfig
from wizard.dryrun import Layout, lay_out, writable
from wizard.dryrun.grants import Owned
from wizard.dryrun.layout import ITS_TRANSLATER
from wizard.dryrun.proof import prove
from wizard.dryrun.tables import Grant, Interval, Walked, check_tables
from wizard.dryrun.world import World
from wizard.nesting import Parent, Vdevice
from wizard.nesting.invalidate import Words, convert
from wizard.nesting.vste import Vste, physical, validate
from wizard.smmu import Ids, Memory, Smmu, Transaction
from wizard.smmu.arrays import Snapshot, stage2_map
from wizard.smmu.cmdqv import Vintf
from wizard.smmu.context import stage2_of
from wizard.smmu.regime import STRIDE
from wizard.smmu.tables import Allocator, PageTable, StreamTable, stage2_entry
from wizard.smmu.walk import swapped

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


def test_a_frame_that_is_the_vms_in_part_is_not_granted() -> None:
    """Memory that begins and ends within a page of 64 KiB: the page holds somebody else's too."""
    memory, table = stage2(16)
    table.map(0x4000_0000, OWN, 0x3_0000)
    assert verdict(memory, table, (OWN, OWN + 0x3_0000))[0]
    assert not verdict(memory, table, (OWN + 0x1000, OWN + 0x3_0000))[0]
    assert not verdict(memory, table, (OWN, OWN + 0x2_F000))[0]
    assert verdict(memory, table, (OWN - 0x1000, OWN + 0x3_1000))[0]


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
    table.map(0x4000_8000, OWN + 0x8000, 4096)
    assert verdict(memory, table, (OWN + 0x8000, OWN + 0x9000))[0]
    where = table.entry_address(0x4000_8000)
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
        table.unmap(0x4000_0000 + (ipa << 12), pages << 12)
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


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 2000)), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 8000), st.integers(0, 1500), st.sampled_from([0, 9])), min_size=1, max_size=12),
)
def test_a_range_that_counts_as_granted_is(granted: list[tuple[int, int]], ranges: list[tuple[int, int, int]]) -> None:
    """The short way for whole rows of a table: it never grants a frame too much, and knows what is granted by whole units of 2 MiB."""
    allowed = {frame for first, count in granted for frame in range(first, first + count)}
    grant = Grant(tuple(Interval(OWN + (first << 12), OWN + (first + count << 12)) for first, count in granted))
    owned = Owned(grant, 12)
    for first, more, log2 in ranges:
        first, last = first & -(1 << log2), first + more & -(1 << log2)
        said = bool(owned.between(np.array([OWN + (first << 12)], np.uint64), np.array([OWN + (last << 12)], np.uint64), 12 + log2)[0])
        asked = set(range(first, last + (1 << log2)))
        assert not said or asked <= allowed
        whole = set(range(min(asked) & -512, (max(asked) | 511) + 1))
        assert said or not whole <= allowed


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


def broken(made: World, vm: str = "web") -> str:
    """The counterexample of a world that is not isolated."""
    proof = prove(made, vm, SMMU)
    assert not proof.proved
    assert proof.text == proof.counterexample
    return proof.counterexample or ""


def parent_of(made: World, vm: str = "web") -> Parent:
    return next(parent for parent in made.vms[vm].iommufd.parents if parent.smmu.name == SMMU)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"EATS": 1}, "EATS 1"), ({"EATS": 2}, "EATS 2"), ({"Config": 4}, "Config 4"), ({"Config": 5}, "Config 5"),
        ({"S2VMID": 9}, "S2VMID 0x9"), ({"S2TTB": 0x1_0000_0000}, "S2TTB"), ({"S2FWB": 1}, "S2FWB"), ({"S2R": 0}, "S2R"), ({"S2PTW": 0}, "S2PTW"),
        ({"STRW": 2}, "STRW"), ({"SHCFG": 0}, "SHCFG"), ({"S2T0SZ": 16}, "S2T0SZ"), ({"PPAR": 1}, "PPAR"),
    ],
)  # fmt: skip
def test_a_kernel_that_lets_a_field_of_an_entry_through_breaks_it(monkeypatch: pytest.MonkeyPatch, fields: dict[str, int], said: str) -> None:
    """The first entry that brings it out is the counterexample."""

    def wrong(vste: Vste, stage2: STE, *, ats: bool) -> STE:
        installed = physical(vste, stage2, ats=ats)
        return installed.replace(**fields) if vste.config is StreamConfig.STAGE1 else installed

    monkeypatch.setattr(writable, "physical", wrong)
    assert said in (text := broken(world()))
    assert text.startswith("an entry 0xb 0x0 of the guest is installed with ")


def test_a_kernel_that_takes_all_eats_breaks_it_only_where_there_is_no_check_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """EATS 2 (split stage) accepted and copied, as a kernel without the check of arm_smmu_validate_vste() would."""

    def careless(words: tuple[int, int]) -> Vste:
        ste = STE.of_words(words)
        return Vste(ste, ats=bool(ste.EATS)) if ste.V and ste.EATS > 1 and ste.Config == StreamConfig.STAGE1 else validate(words)

    monkeypatch.setattr(writable, "validate", careless)
    assert prove(world(), "web", SMMU).proved
    monkeypatch.setattr(
        writable, "physical", lambda vste, stage2, ats: physical(vste, stage2, ats=ats).replace(EATS=vste.ste.EATS if vste.ste.V else 0)
    )
    assert "EATS 2" in broken(world())


COMMANDS: dict[str, tuple[Callable[[Command], Command], str]] = {
    "NSNH_ALL as it is": (lambda c: command.build(Op.TLBI_NSNH_ALL) if c.Opcode == Op.TLBI_NH_ALL else c, "as CMD_TLBI_NSNH_ALL"),
    "VMID as written": (lambda c: c.replace(VMID=2) if isinstance(c, Tlbi) else c, "with VMID 2"),
    "stage 2 of all": (lambda c: command.build(Op.TLBI_S12_VMALL, VMID=1) if c.Opcode == Op.TLBI_NH_VA else c, "as CMD_TLBI_S12_VMALL"),
    "EL2's entries": (lambda c: command.build(Op.TLBI_EL2_ALL) if c.Opcode == Op.TLBI_NH_VAA else c, "as CMD_TLBI_EL2_ALL"),
    "StreamID as written": (lambda c: c.replace(StreamID=0x1180) if isinstance(c, StreamCommand) else c, "with StreamID 0x1180"),
    "an entry of its own": (lambda c: command.build(Op.CFGI_STE, StreamID=0x1400) if c.Opcode == Op.CFGI_CD else c, "as CMD_CFGI_STE"),
    "a stall resumed": (lambda c: command.build(Op.RESUME, StreamID=0x1400) if c.Opcode == Op.ATC_INV else c, "as CMD_RESUME"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_kernel_that_passes_a_command_breaks_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    mutate, said = COMMANDS[name]

    def wrong(words: Words, vmid: int, stream_of: Callable[[int], int | None]) -> Words:
        low, high = mutate(command.decode(*convert(words, vmid, stream_of))).words
        return low, high

    monkeypatch.setattr(writable, "convert", wrong)
    assert said in broken(world())


def test_a_kernel_that_takes_an_unknown_vsid_for_a_streamid_breaks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The StreamID of the other VM's function, written as a vSID."""
    monkeypatch.setattr(
        writable, "convert", lambda words, vmid, of: convert(words, vmid, lambda vsid: known if (known := of(vsid)) is not None else vsid)
    )
    text = broken(world())
    assert "goes out through iommufd with StreamID" in text


def test_cmdqv_is_judged_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest's own queue passes by the kernel: the hardware's VMID, pairs and three commands are what holds it."""
    made = World(lay_out(plan(vm("gpu", "0008:01:00.0", ats="on", ssidsize=20, oas=48, cmdqv="on"), on="gb200"), host("gb200")))
    smmu = made.layout.functions[0].smmu
    assert any("through iommufd and CMDQV" in step for step in prove(made, "gpu", smmu).steps)
    for mutate, said in (COMMANDS["VMID as written"], COMMANDS["StreamID as written"]):
        with monkeypatch.context() as patched:
            rewritten = Vintf.rewritten
            patched.setattr(Vintf, "rewritten", lambda own, low, high, m=mutate, r=rewritten: (c := r(own, low, high)) and m(c))
            proof = prove(made, "gpu", smmu)
        assert not proof.proved
        assert f"through CMDQV {said}" in proof.text
    with monkeypatch.context() as patched:
        patched.setattr(Vintf, "rewritten", lambda own, low, high: command.decode(low, high) if low & 0xFF == Op.SYNC else None)
        assert "as a CMD_SYNC that writes to" in prove(made, "gpu", smmu).text


@pytest.mark.parametrize(("way", "said"), [("bypass", "Config 4"), ("theirs", "S2VMID 0x2"), ("ats", "EATS 1"), ("stage 1", "Config 5")])
def test_an_entry_in_the_hardwares_table_breaks_it(way: str, said: str) -> None:
    """What the driver remembers of it may be right."""
    made = world()
    smmu, right = made.smmus[SMMU], made.devices[NVME].installed
    wrong = {
        "bypass": STE.build(V=1, Config=StreamConfig.BYPASS), "theirs": made.devices[VF].installed, "ats": right.replace(EATS=1),
        "stage 1": STE.build(V=1, Config=StreamConfig.STAGE1, S1ContextPtr=0x8000_0000),
    }  # fmt: skip
    smmu.streams.set(0x1400, wrong[way])
    assert said in (text := broken(made))
    assert NVME in text
    assert prove(made, "db", SMMU).proved


def test_a_table_in_the_guests_memory_breaks_it() -> None:
    """Its descriptors lead nowhere today; the guest could write others tomorrow."""
    made = world()
    parent = parent_of(made)
    inside = made.layout.vm("web").chunks[-1].pa
    for at in range(parent.table.levels[0].mask + 1):
        if not made.memory.read(parent.table.root + 8 * at):
            made.memory.write(parent.table.root + 8 * at, inside | 3)
            break
    assert "a level 1 table, outside of the host's own" in broken(made)


@pytest.mark.parametrize(("page", "granule"), [(4096, 12), (16384, 14), (65536, 16)])
@pytest.mark.parametrize("whole", [False, True])
def test_one_leaf_of_another_vms_memory_breaks_it(page: int, granule: int, whole: bool) -> None:
    """A page, or a block, at each page size of a host: mapped beside the VM's own, as a wrong unmap would leave it."""
    facts = host().facts
    paged = msgspec.structs.replace(host(), facts=msgspec.structs.replace(facts, kernel=msgspec.structs.replace(facts.kernel, page_size=page)))
    made = world(lay_out(two_vms(), paged))
    assert prove(made, "web", SMMU).proved
    parent, theirs = parent_of(made), made.layout.vm("db").chunks[-1]
    size = page << STRIDE[granule] if whole else page
    parent.table.map(0x20_0000_0000, theirs.pa & -size, size)
    text = broken(made)
    assert f"maps 0x2000000000 to {theirs.pa & -size:#x}, memory of VM db" in text
    assert f"a level {2 if whole else 3} leaf of {size:#x} bytes" in text


def test_more_than_the_its_page_breaks_it() -> None:
    made = world()
    parent_of(made).table.map(0x800_1000, (ITS_TRANSLATER & -4096) + 4096, 4096, execute=False, attr=1)
    assert "maps 0x8001000 to 0x8091000" in broken(made)


def test_an_output_beyond_oas_breaks_it() -> None:
    made = world()
    parent_of(made).table.map(0x20_0000_0000, 1 << 45, 4096)
    assert f"maps 0x2000000000 to {1 << 45:#x}, the host" in broken(made)


@pytest.mark.parametrize(("where", "whose"), [(0x8000_0000, "the host's tables"), (0x809_0000, "the host's ITS"), (None, "a BAR of")])
def test_memory_that_is_also_the_hosts_breaks_it(where: int | None, whose: str) -> None:
    layout = lay_out(two_vms(), host())
    place = layout.functions[0].bars[0].pa if where is None else where
    chunks = layout.vm("db").chunks
    made = world(layout.with_vm(replace(layout.vm("db"), chunks=(*chunks[:-1], replace(chunks[-1], pa=place)))))
    assert whose in broken(made)
    assert "VM db" in broken(made, "db")


def test_who_is_trusted_with_ats() -> None:
    """ats=off of a vSMMU or of vfio-pci keeps no guest from EATS: the proof says so wherever the kernel can turn ATS on."""
    for ats in ("on", "off"):
        made = World(lay_out(plan(vm("gpu", "0008:01:00.0", ats=ats, ssidsize=20, oas=48), on="gb200"), host("gb200")))
        assumptions = prove(made, "gpu", made.layout.functions[0].smmu).assumptions
        assert any("0008:01:00.0" in text and "trusted with host physical addresses" in text for text in assumptions)
    assert not any("trusted" in text for text in prove(world(), "web", SMMU).assumptions)


def test_host_memory_in_stage_2_breaks_it() -> None:
    """A page of the kernel's own stream table, mapped into a guest."""
    made = world()
    parent = next(p for p in made.vms["web"].iommufd.parents if p.smmu.name == SMMU)
    parent.table.map(0x1_0000_0000, made.smmus[SMMU].streams.base, 4096)
    proof = prove(made, "web", SMMU)
    assert not proof.proved
    assert "the host" in (proof.counterexample or "")


# -- the form in which an entry describes its table -------------------------------------------------------------------


@pytest.mark.parametrize("granule", [12, 14, 16])
def test_big_endian_tables_are_walked(granule: int) -> None:
    """S2ENDI: the same descriptors with their bytes the other way round."""
    memory, table = stage2(granule)
    table.map(0x4000_0000, OWN, SIZE)
    for address in table.tables:
        for at in range(0, 8 << max(STRIDE[granule], table.levels[0].mask.bit_length()), 8):
            if word := memory.read(address + at):
                memory.write(address + at, swapped(word))
    ids = Ids(idr0=IDR0(Ids().idr0).replace(TTENDIAN=0).value)
    regime = stage2_of(stage2_entry(table, vmid=1, output_bits=44, S2ENDI=1), ids.features).regime
    for own, expected in (((OWN, OWN + SIZE), True), ((OWN, OWN + SIZE - (1 << granule)), False)):
        walked = Walked()
        assert (check_tables(memory, regime, Grant((Interval(*own),)), walked) is None) == expected
        assert walked.bytes == SIZE or not expected


def test_52_bit_tables_are_walked() -> None:
    """64 KiB pages with address bits 51:48 in bits 15:12 of a descriptor, and blocks of 4 TiB at level 1 (DDI 0487 D8.3)."""
    far, memory = 0xA_0000_0000_0000, Memory(((0x4000_0000, 0x8000_0000),))
    table = PageTable(memory, Allocator(0x4000_0000, 0x6000_0000), stage=2, granule=16, input_bits=52, start=1, wide=True)
    table.map(0x4000_0000, far, 0x4_0000)
    table.map(1 << 42, far + (1 << 42), 1 << 42, level=1)
    features = Ids(idr5=IDR5(Ids().idr5).replace(OAS=6).value).features
    regime = stage2_of(stage2_entry(table, vmid=1, output_bits=52), features).regime
    whole = (Interval(far, far + 0x4_0000), Interval(far + (1 << 42), far + (2 << 42)))
    assert check_tables(memory, regime, Grant(whole), Walked()) is None
    below = tuple(Interval(interval.start & (1 << 48) - 1, interval.end & (1 << 48) - 1) for interval in whole)
    for wrong, ipa, pa in ((below, 1 << 42, far + (1 << 42)), (whole[1:], 0x4000_0000, far)):
        stray = check_tables(memory, regime, Grant(wrong), Walked())
        assert stray is not None
        assert (stray.ipa, stray.pa) == (ipa, pa)


def test_a_contiguous_leaf_lies_in_its_run_where_its_address_does() -> None:
    """The simulated SMMU's own TLB entry of such a leaf covers addresses that no leaf has; all of them the VM's or not, it is refused."""
    memory, table = stage2()
    table.map(0x4000_0000, OWN + 0x8000, 4096, contiguous=True)
    stray = check_tables(memory, table, Grant((Interval(OWN, OWN + 0x10_0000),)), Walked())
    assert stray is not None
    assert (stray.ipa, stray.pa) == (0x4000_0000, OWN + 0x8000)
    assert "does not lie in its contiguous run of 0x10000 bytes" in stray.why


def test_a_contiguous_leaf_beside_the_vms_memory_counts_as_its_run() -> None:
    """A BAR or the ITS page: the leaf is in it, its run is not. A run that memory and BAR have together is granted."""
    memory, table = stage2()
    bar = Interval(OWN + 0x10_0000, OWN + 0x10_4000)
    table.map(0x4010_0000, bar.start, 4096, contiguous=True)
    own = (Interval(OWN, OWN + 0x1000),)
    assert check_tables(memory, table, Grant(own, (bar,)), Walked()) is not None
    assert check_tables(memory, table, Grant(own, (Interval(bar.start, bar.start + 0x1_0000),)), Walked()) is None
    rest = Interval(bar.end, bar.start + 0x1_0000)
    assert check_tables(memory, table, Grant((*own, rest), (bar,)), Walked()) is None


def test_tables_that_loop_end() -> None:
    """512 descriptors of each level lead to one table: each table once, and the leaves of the last level are what counts."""
    memory, table = stage2()
    loop = 0x5000_0000
    for at in range(512):
        memory.write(loop + 8 * at, loop | 3)
        memory.write(table.root + 8 * at, loop | 3)
    walked = Walked()
    stray = check_tables(memory, table, Grant((Interval(OWN, OWN + SIZE),)), walked)
    assert stray is not None
    assert stray.pa == loop
    assert walked.tables < 2000
