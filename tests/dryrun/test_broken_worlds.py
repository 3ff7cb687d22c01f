"""The proof refuses every broken world, and proves the sound ones.

For each thing that it looks at there is one world that breaks just that, held against the simulated SMMU where it shows in a translation.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.dryrun.plans import NVME, VF, plan, vm
from tests.dryrun.stale_worlds import (
    cached_context,
    cached_descriptor,
    cached_entry,
    cached_entry_of_nobody,
    cached_first_descriptors,
    cached_level_1,
    moved_page,
    old_atc,
    read_only_page,
    remembered_table,
    stage_1_translation,
    translation_of_no_vmid,
    unmapped_page,
)
from tests.dryrun.worlds import (
    FAR,
    NOBODYS,
    OWN,
    SMMU,
    a_linear_view_of_it,
    a_shared_second_level,
    accel,
    an_upper_half,
    another_split,
    another_stream_table,
    another_substream,
    beyond_the_kernels_split,
    big_endian_stage_1,
    big_endian_stage_2,
    bypass_of_nobody,
    command_queue_in_guest,
    commands_of_another_vmid,
    commands_off,
    commands_stopped,
    contiguous_elsewhere,
    contiguous_out_of_a_bar,
    contiguous_out_of_memory,
    descriptor_in_guest,
    descriptor_in_guest_as_recorded,
    event_queue_beyond_oas,
    event_queue_in_a_bar,
    event_queue_over_a_table,
    event_queue_over_descriptors,
    event_queue_over_the_stream_table,
    event_queue_that_ends_in_guest,
    global_leaf,
    lands,
    looped_tables,
    mapped_bars,
    memory_of,
    message_in_guest,
    message_into_a_table,
    nested_of_nobody,
    no_stage_1_without_pasid,
    own_bypass,
    plain,
    queues_in_one_place,
    repeated_entry,
    second_level_in_guest,
    second_level_of_descriptors_in_guest,
    second_way_into_stage_2,
    shared_asid,
    smmu,
    smmu_off,
    stage_1_table_in_guest,
    stream_table_in_guest,
    table_in_guest,
    their_page,
    their_stage_2,
    their_table_by_descriptor,
    their_tables_own_vmid,
    their_vdevice,
    their_vmid,
    viommu_on_their_parent,
    vmid_that_wraps,
    wildcard,
    with_ids,
)
from tests.tools.hosts import host
from wizard.arch.registers import GBPA
from wizard.dryrun import lay_out
from wizard.dryrun.bench import Bench
from wizard.dryrun.layout import GUEST_RAM
from wizard.dryrun.model import Proof
from wizard.dryrun.proof import prove
from wizard.dryrun.world import World
from wizard.plan.request import Mode

BROKEN: list[tuple[Callable[[], World], Callable[[World], None], str, str]] = [
    (accel, smmu_off, "web db", "SMMUEN of {smmu} is 0 and its GBPA 0x1000 does not abort"),
    (accel, commands_off, "web db", "CMDQEN of {smmu} is 0"),
    (accel, another_stream_table, "web db", "a stream table that its kernel does not write: that one is at 0x80000000"),
    (accel, a_linear_view_of_it, "web db", "STRTAB_BASE_CFG of {smmu} is 0x10, another stream table than its kernel writes"),
    (accel, another_split, "web db", "SPLIT 6, not 8"),
    (accel, stream_table_in_guest, "web db", "the level 1 stream table of {smmu} at {db:#x} lies in memory of VM db at"),
    (
        accel,
        second_level_in_guest,
        "web db",
        "the level 2 stream table of StreamIDs 0x5500 to 0x55ff of {smmu} at {db:#x} lies in memory of VM db at",
    ),
    (accel, command_queue_in_guest, "web db", "the command queue of {smmu} at {db:#x} lies in memory of VM db at"),
    (accel, event_queue_in_a_bar, "web db", f"lies in a BAR of {VF}, which a guest can write"),
    (accel, event_queue_that_ends_in_guest, "web db", "the event queue of {smmu} at 0x100000000 lies in memory of VM"),
    (
        accel,
        event_queue_over_the_stream_table,
        "web db",
        "the level 1 stream table of {smmu} at 0x80000000 shares memory with the event queue at 0x80000000",
    ),
    (accel, event_queue_over_a_table, "web", "a level 0 table, in what the SMMU writes itself, a queue or a message at 0x"),
    (with_ids(accel, IDR0_MSI=1), message_into_a_table, "web", "a level 0 table, in what the SMMU writes itself, a queue or a message at 0x"),
    (plain, event_queue_over_descriptors, "web", "the table of context descriptors at 0x"),
    (accel, queues_in_one_place, "web db", "the command queue of {smmu} at 0x"),
    (accel, commands_stopped, "web db", "the command queue of {smmu} stands at an error (GERROR 0x1, CMDQ_CONS 0x1000000)"),
    (accel, event_queue_beyond_oas, "web db", "the event queue of {smmu} at {web:#x} lies in memory of VM web"),
    (accel, bypass_of_nobody, "web db", "the entry of StreamID 0x1ff0 (which is nobody's) at 0x"),
    (accel, second_way_into_stage_2, "web db", "the entry of StreamID 0x1ff0 (which is nobody's) at 0x"),
    (accel, nested_of_nobody, "web db", "has Config 7, both stages"),
    (accel, beyond_the_kernels_split, "web db", "the entry of StreamID 0x7703 (which is nobody's) at 0x"),
    (accel, a_shared_second_level, "web db", "the entry of StreamID 0x6000 (which is nobody's) at 0x"),
    (accel, own_bypass, "web", f"the entry of {NVME} (StreamID 0x1400 at 0x"),
    (accel, their_stage_2, "web", "S2VMID 0x2"),
    (accel, their_tables_own_vmid, "web", "S2TTB"),
    (accel, repeated_entry, "web", "CONT 0x3"),
    (accel, their_page, "web", "stage 2 maps 0x2000000000 to {db:#x}, memory of VM db"),
    (accel, table_in_guest, "web", "to {web:#x}, memory of VM web at 0x7fe00000: a level 1 table, outside of the host's own"),
    (with_ids(accel, IDR0_TTENDIAN=0), big_endian_stage_2, "web", "stage 2 maps 0x40000000 to 0x"),
    (accel, contiguous_elsewhere, "web", "that does not lie in its contiguous run of 0x10000 bytes where its address does"),
    (accel, looped_tables, "web", "the host"),
    (mapped_bars, contiguous_out_of_memory, "web", "a level 2 leaf of a contiguous run, which goes from 0x"),
    (mapped_bars, contiguous_out_of_a_bar, "web", "a level 3 leaf of a contiguous run, which goes from 0x"),
    (plain, their_table_by_descriptor, "web", "stage 1 maps 0x40200000 to 0x17fc00000, memory of VM db"),
    (plain, an_upper_half, "web", "stage 1 maps 0xffffff8000000000 to {db:#x}, memory of VM db"),
    (plain, shared_asid, "web db", "has VMID 0, ASID 2 as VM"),
    (with_ids(plain, IDR0_TTENDIAN=0), big_endian_stage_1, "web", "stage 1 maps 0x40000000 to 0x"),
    (plain, big_endian_stage_1, "web", "is ILLEGAL: ENDI is not in IDR0.TTENDIAN"),
    (with_ids(plain, IDR1_SSIDSIZE=8), no_stage_1_without_pasid, "web", "S1DSS 1 lets transactions without a PASID pass by stage 1"),
    (with_ids(plain, IDR0_CD2L=1, IDR1_SSIDSIZE=8), another_substream, "web", "stage 1 maps 0x40200000 to 0x17fc00000, memory of VM db"),
    (
        with_ids(plain, IDR0_CD2L=1, IDR1_SSIDSIZE=8),
        second_level_of_descriptors_in_guest,
        "web",
        "from 64 on at {web:#x} lies in",
    ),
    (plain, global_leaf, "web", "leaf with nG 0, which counts for every ASID of its VMID"),
    (plain, descriptor_in_guest, "web", "is not the one that the host made: S1ContextPtr {web:#x}"),
    (plain, descriptor_in_guest_as_recorded, "web", "the table of context descriptors at {web:#x} lies in memory of VM web"),
    (plain, stage_1_table_in_guest, "web", "{web:#x}, memory of VM web at 0x7fe00000: a level 0 table, outside of the host's own"),
    (accel, viommu_on_their_parent, "web db", "VM"),
    (accel, their_vmid, "web", "VMID 1 of VM web too, with other tables"),
    (with_ids(accel, IDR0_VMID16=0), vmid_that_wraps, "web", "VM db has VMID 257 of {smmu} too"),
    (with_ids(accel, IDR0_VMW=1), wildcard, "web db", "CR0.VMW is 2: commands with a VMID of VM"),
    (
        with_ids(accel, IDR0_MSI=1),
        message_in_guest,
        "web db",
        "EVENTQ's interrupt message of {smmu} at {db:#x} lies in memory of VM db",
    ),
    (accel, commands_of_another_vmid, "web", "commands of VM web carry VMID 7, and its entries have VMID 1"),
    (accel, their_vdevice, "web", "which is not the VM's"),
    (accel, cached_entry, "web", "the entry of StreamID 0x1400 is cached with other contents than at 0x"),
    (accel, cached_entry_of_nobody, "web db", "the entry of StreamID 0x1ff0 is cached as valid, and the stream table has none"),
    (accel, cached_level_1, "web db", "the level 1 stream table descriptor 119 is cached as"),
    (accel, cached_context, "web", "the configuration of StreamID 0x1400 is cached with other contents"),
    (accel, unmapped_page, "web", "the TLB takes 0x40000000 of VMID 1 to 0x"),
    (accel, moved_page, "web", "and its tables to 0x"),
    (accel, read_only_page, "web", "that its leaf does not"),
    (accel, translation_of_no_vmid, "web db", "of VMID 9 to 0x"),
    (accel, remembered_table, "web", "the TLB remembers a table at 0x"),
    (plain, cached_descriptor, "web", "the configuration of StreamID 0x1400 is cached with another context descriptor"),
    (with_ids(plain, IDR0_CD2L=1, IDR1_SSIDSIZE=8), cached_first_descriptors, "web", "the level 1 context descriptor from 64 on of StreamID 0x1400"),
    (plain, stage_1_translation, "web", "of VMID 0, ASID 1 to 0x"),
    (accel, old_atc, "web", "the ATC behind StreamID 0x1400 holds {db:#x} for 0x40000000"),
]


@pytest.mark.parametrize(("build", "break_it", "whose", "said"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_world_is_refused(build: Callable[[], World], break_it: Callable[[World], None], whose: str, said: str) -> None:
    """Each VM whose guest it serves, with the address and the reason; the same world without it is proved."""
    world = build()
    for name in ("web", "db"):
        assert prove(world, name, SMMU).proved
    break_it(world)
    for name in whose.split():
        proof = prove(world, name, SMMU)
        assert not proof.proved
        assert proof.counterexample == proof.text
        assert said.format(smmu=SMMU, web=memory_of(world, "web"), db=memory_of(world, "db")) in proof.text


REACHED: list[tuple[Callable[[], World], Callable[[World], None], int, int | None]] = [
    (accel, bypass_of_nobody, NOBODYS, None),
    (accel, own_bypass, OWN, None),
    (accel, smmu_off, OWN, None),
    (accel, beyond_the_kernels_split, 0x7703, None),
    (accel, a_shared_second_level, 0x6000, GUEST_RAM),
    (accel, second_way_into_stage_2, NOBODYS, GUEST_RAM),
    (with_ids(accel, IDR0_TTENDIAN=0), big_endian_stage_2, OWN, 1 << 30),
    (accel, their_page, OWN, FAR),
    (plain, their_table_by_descriptor, OWN, GUEST_RAM),
    (with_ids(plain, IDR0_TTENDIAN=0), big_endian_stage_1, OWN, 1 << 30),
    (plain, an_upper_half, OWN, -(1 << 39) & (1 << 64) - 1),
]
"""With a StreamID and an address that shows it; None is an address of the other VM's memory."""


@pytest.mark.parametrize(("build", "break_it", "sid", "iova"), REACHED, ids=lambda value: getattr(value, "__name__", None))
def test_what_is_refused_is_really_reached(build: Callable[[], World], break_it: Callable[[World], None], sid: int, iova: int | None) -> None:
    """The simulated SMMU lets the function there: another VM's memory, or what is nobody's to reach."""
    world = build()
    where = memory_of(world, "db") if iova is None else iova
    before = lands(world, sid, where)
    break_it(world)
    after = lands(world, sid, where)
    assert before != after
    assert after is not None
    assert "memory of VM" in world.owner_of(after)


# -- sound worlds -----------------------------------------------------------------------------------------------------


FUNCTIONS = {
    "grace-1s": "0002:01:00.0", "gb200": "0008:01:00.0", "ampereone": "0000:01:00.0", "gb10": "0002:01:00.0", "kunpeng-920": "0000:75:00.1",
    "arm64-virt-canwbs": NVME, "arm64-virt": NVME, "grace-cmdqv": "0002:01:00.0",
}  # fmt: skip


def proofs(name: str, mode: Mode) -> list[Proof]:
    layout = lay_out(plan(vm("guest", FUNCTIONS[name], mode=mode), on=name), host(name))
    world = World(layout)
    return [prove(world, "guest", found) for found in dict.fromkeys(f.smmu for f in layout.functions_of("guest"))]


@pytest.mark.parametrize("mode", [Mode.ACCEL, Mode.NONE])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_sound_world_of_every_host_is_proved(name: str, mode: Mode) -> None:
    for proof in proofs(name, mode):
        assert (proof.proved, proof.counterexample) == (True, None), proof.text
        assert any(line.startswith("registers: SMMUEN 1, ATSCHK ") for line in proof.hardware)
        assert proof.pages or "each of its streams is aborted" in proof.text


@pytest.mark.parametrize("name", ["grace-1s", "gb200", "ampereone", "gb10"])
def test_a_function_whose_ats_nobody_measured_counts_as_one_that_can_use_it(name: str) -> None:
    for proof in proofs(name, Mode.ACCEL):
        assert any(FUNCTIONS[name] in text and "trusted with host physical addresses" in text for text in proof.assumptions)
        assert f"Whether {FUNCTIONS[name]} can use ATS was not measured: counted as if so." in proof.assumptions


def test_translated_traffic_that_nothing_checks_is_always_said() -> None:
    """IDR0.ATS 0; ATSCHK 0 beside ATS; ATSCHK that rests on a kernel's word which nobody read."""
    unchecked = [text for text in prove(accel(), "web", SMMU).assumptions if text.startswith(f"Nothing at {SMMU} checks traffic")]
    assert len(unchecked) == 1
    assert "(IDR0.ATS is 0, and so is CR0.ATSCHK)" in unchecked[0]
    assert "no root port was asked" in unchecked[0]
    with_ats = with_ids(accel, IDR0_ATS=1)()
    assert any("(CR0.ATSCHK is 0)" in text for text in prove(with_ats, "web", SMMU).assumptions)
    smmu(with_ats).write("CR0", smmu(with_ats).read("CR0") | 0x10)
    assert not any(text.startswith("Nothing at") for text in prove(with_ats, "web", SMMU).assumptions)
    assert any("(ATSCHK) was not measured" in text for proof in proofs("gb200", Mode.ACCEL) for text in proof.assumptions)


def test_a_guest_that_ran_leaves_a_sound_world() -> None:
    """Translations of both stages in the caches, stale ones of its own stage 1 among them: the guest's own matter."""
    world = accel()
    bench = Bench(
        world, world.vms["web"], next(f for f in world.layout.functions if f.address == NVME), lambda name, found: prove(world, name, found)
    )
    buffer = bench.guest().map(bench.stream)
    bench.reaches(buffer.iova, bench.pa(buffer.ipa))
    bench.guest().unmap(bench.stream, buffer, invalidate=False)
    assert smmu(world).tlb is not None
    assert any(space[0] == "EL1" for space, _ in smmu(world).tlb or ())
    for name in ("web", "db"):
        proof = prove(world, name, SMMU)
        assert proof.proved, proof.text


def test_an_smmu_that_is_off_and_aborts_lets_nothing_through() -> None:
    world = accel()
    smmu(world).write("GBPA", GBPA.build(ABORT=1, SHCFG=1, Update=1).value)
    smmu_off(world)
    assert lands(world, OWN, GUEST_RAM) is None
    assert prove(world, "web", SMMU).proved


def test_the_hosts_own_commands_for_a_vm_without_a_viommu_reach_no_guest() -> None:
    """They name an ASID of the host's own stage 1: CR0.VMW is a matter of VMs whose commands carry a VMID."""

    def one_of_each() -> World:
        return World(lay_out(plan(vm("web", NVME, mode=Mode.NONE), vm("db", VF)), host()))

    world = with_ids(one_of_each, IDR0_VMW=1)()
    wildcard(world)
    for name in ("web", "db"):
        proof = prove(world, name, SMMU)
        assert proof.proved, proof.text
