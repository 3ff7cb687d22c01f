"""What a guest may write, what it reaches, and a walk, held against the proof's own list, the kernel's masks, the layout and the trace."""

from __future__ import annotations

import pytest

from tests.tools.hosts import E1000E, NVME, VF0, host, plan, vm
from wizard.arch.command import Op
from wizard.arch.ste import STE
from wizard.base.glyphs import ASCII, UNICODE
from wizard.dryrun import lay_out, trace_address, trace_of
from wizard.dryrun.writable import GUESTS, STREAM, TLBI
from wizard.nesting.vste import ALLOWED
from wizard.picture import isolationtext, walktext
from wizard.picture.pieces import keys_of, plain, row_width
from wizard.picture.space import overlaps, spaces
from wizard.picture.walk import walk_of_situation, walks_of
from wizard.picture.writable import Fate, writable


def test_bits_are_those_of_the_kernels_masks() -> None:
    picture = writable()
    # Every bit of the entry once.
    assert [bit for one in picture.bits for bit in range(one.lo, one.hi + 1)] == list(range(STE.bits))
    mine = 0
    for one in picture.bits:
        if one.fate in (Fate.PASSES, Fate.REWRITTEN):
            mine |= ((1 << (one.hi - one.lo + 1)) - 1) << one.lo
    # Of S1ContextPtr Linux knows the bits to 51; the field is shown whole, with that said.
    kernel = ALLOWED[0] | ALLOWED[1] << 64
    assert mine & ~kernel == 0xF << 52
    assert kernel & ~mine == 0
    pointer = next(one for one in picture.bits if one.name == "S1ContextPtr")
    assert "bit 51" in pointer.why
    # What reaches the entry as written, or changed, is among the fields that the proof allows a guest, which are listed apart.
    assert {one.name for one in picture.bits if one.fate in (Fate.PASSES, Fate.REWRITTEN)} | {"MEV"} == GUESTS
    assert all(one.fate is Fate.KEPT for one in picture.bits if one.name.startswith("S2") and one.lo >= 128)
    assert all(one.source for one in picture.bits)


def test_commands_are_those_of_the_proofs_list() -> None:
    picture = writable()
    fates = {one.opcode: one for one in picture.commands}
    assert {op for op, one in fates.items() if one.fate is Fate.REWRITTEN} == {int(op) for op in TLBI | STREAM | {Op.TLBI_NSNH_ALL}}
    assert not [one.name for one in picture.commands if one.fate is Fate.PASSES]  # none goes out as the guest wrote it
    assert fates[Op.SYNC].fate is fates[Op.CFGI_STE].fate is Fate.KEPT
    # The three of tegra241_guest_vcmdq_supports_cmd() of QEMU 11.1, and the CMD_SYNC that ends a batch.
    assert {op for op, one in fates.items() if one.cmdqv is not Fate.REFUSED} == {Op.TLBI_NH_ASID, Op.TLBI_NH_VA, Op.ATC_INV, Op.SYNC}
    assert "CMD_TLBI_NH_ALL" in fates[Op.TLBI_NSNH_ALL].why
    assert picture.unnamed == 256 - len(Op)


def test_spaces_have_no_gap_and_frames_no_two_owners() -> None:
    made = lay_out(plan(vm(NVME, E1000E, name="web", memory=3 << 30), vm(VF0, name="db", memory=512 << 20)), host())
    picture = spaces(made)
    for space, layout in zip(picture.vms, made.vms, strict=True):
        at = 0
        for part in space.parts:
            assert part.start == at
            at = part.end
        memory = [part for part in space.parts if part.kind == "memory"]
        assert [(part.start, part.size) for part in memory] == [(0x4000_0000, layout.memory)]  # VIRT_MEM of QEMU's hw/arm/virt.c
        msi = next(part for part in space.parts if part.kind == "msi")
        assert (msi.start, msi.size) == (0x800_0000, 0x10_0000)  # MSI_IOVA_BASE and MSI_IOVA_LENGTH of the kernel
        held = sum(one.end - one.start for one in space.frames if one.what == "memory")
        assert held == layout.memory
        bars = {part.owner for part in space.parts if part.kind == "bar"}
        assert bars == {function.address for function in made.functions_of(layout.name)}
        # The kernel of this host has no dma-buf for VFIO: no function reaches another's BARs.
        assert not any(part.reached for part in space.parts if part.kind == "bar") or layout.peer_to_peer
    assert not overlaps(picture)


@pytest.mark.parametrize("iova", [0x4000_0000, 0xFFFF_F000])
def test_a_walk_has_every_word_with_its_fields_and_the_fault_where_it_is(iova: int) -> None:
    trace = trace_address(plan(vm(NVME, name="web")), host(), NVME, iova)
    walks = [walk_of_situation(trace.function, trace.iova, one) for one in trace.situations]
    for walk, situation in zip(walks, trace.situations, strict=True):
        assert len(walk.stops) == len(situation.steps)
        # What is shown of a word are its bits: put together again they are the word, as far as the specification names them.
        entry = next(stop for stop in walk.stops if stop.record == "STE")
        value = sum(int(word, 16) << 64 * place for place, word in enumerate(entry.words))
        assert {one.name: int(one.value, 16) for one in entry.fields} == {k: v for k, v in STE(value).fields().items() if v or k == "V"}
        reached = situation.outcome.startswith("it reaches")
        assert (walk.fault is None) is reached
        assert ("memory" in walk.stations) is reached
        if reached:
            assert walk.event is None
            continue
        record = walk.event
        assert record is not None
        told = {one.name: one for one in record.fields}
        assert told["Type"].meaning == situation.outcome.partition(",")[0]
        assert int(told["InputAddr"].value, 16) == iova
        assert int(told["StreamID"].value, 16) in next(f.stream_ids for a, f in host().functions.items() if a == NVME)
        stage2 = "S2" in told
        assert walk.stops[walk.fault or 0].station == "fault"
        before = [stop.station for stop in walk.stops[: walk.fault] if stop.what == "walk"]
        assert before[-1] == ("stage 2" if stage2 else "stage 1")


def test_a_scenario_is_one_walk_for_each_access() -> None:
    asked = plan(vm(NVME, name="web"))
    for scenario in ("before-boot", "gbpa-abort"):
        steps = trace_of(asked, host(), NVME, scenario).trace
        walks = walks_of(scenario, steps)
        assert [stop.what for walk in walks for stop in walk.stops] == [step.what for step in steps]
        accesses = sum(step.what == "dma" for step in steps)
        assert accesses
        assert sum(any(stop.what == "dma" for stop in walk.stops) for walk in walks) == accesses
        for walk in walks:
            assert (walk.fault is not None) is any(stop.what == "fault" for stop in walk.stops)


def test_drawings_fit_and_every_piece_says_where_it_is_from() -> None:
    grid = writable()
    picture = spaces(lay_out(plan(vm(NVME, name="web"), vm(VF0, name="db")), host()))
    for width in (78, 118, 198):
        for glyphs in (UNICODE, ASCII):
            for drawn in (isolationtext.draw_writable(grid, width, glyphs), isolationtext.draw_spaces(picture, width, glyphs)):
                assert all(row_width(one) <= width for one in drawn)
                assert plain(drawn).isascii() or glyphs is UNICODE
    keys = set(keys_of(isolationtext.draw_writable(grid, 78, UNICODE)))
    assert keys == {("bits", one.lo) for one in grid.bits} | {("command", one.opcode) for one in grid.commands}
    assert all("IHI 0070" in dict(isolationtext.told_bits(one, UNICODE))["from"] for one in grid.bits)
    trace = trace_address(plan(vm(NVME, name="web")), host(), NVME, 0)
    walks = [walk_of_situation(trace.function, trace.iova, one) for one in trace.situations]
    text = plain(walktext.draw(walks, 78, UNICODE))
    assert text.count("✘ fault") == sum(walk.fault is not None for walk in walks)
