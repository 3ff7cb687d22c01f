"""Save, restore and reset: what was restored goes on as the saved one would have, and a reset leaves what chapter 6 says."""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.smmu.world import IPA, PA, RICH, SID, VA, World, world
from wizard.arch.command import Op, build
from wizard.arch.event import PageRequest
from wizard.arch.registers import REGISTERS, QueueBase
from wizard.smmu import Ats, How, Ids, Memory, PageResponse, Smmu, Transaction, cases, state
from wizard.smmu.caseformat import Case
from wizard.smmu.machine import Edge, Ended, Machine, Message, NothingAnswers, Recorded, Responded
from wizard.smmu.shared import SharedMemory, Window
from wizard.smmu.tables import Allocator, PageTable, StreamTable, abort_entry, bypass_entry, stage2_entry

DATA = Path(__file__).parent / "data"
EVENTS, COMMANDS, REQUESTS = 0x7000_0000, 0x7100_0000, 0x7200_0000
PAGES = st.integers(0, 20)
STEP = st.one_of(
    st.tuples(st.just("dma"), PAGES, st.booleans(), st.sampled_from([None, 0, 1]), st.sampled_from(list(Ats))),
    st.tuples(st.just("remap"), PAGES, st.integers(0, 3)),
    st.tuples(st.just("command"), st.sampled_from([
        build(Op.TLBI_NSNH_ALL), build(Op.TLBI_NH_VA, ASID=1, VMID=7, Address=VA), build(Op.TLBI_S2_IPA, VMID=7, Address=IPA, Leaf=1),
        build(Op.CFGI_STE, StreamID=SID), build(Op.CFGI_CD, StreamID=SID, Leaf=1), build(Op.ATC_INV, StreamID=SID, Size=52), build(Op.SYNC),
        build(Op.SYNC, CS=1, MSIAddress=0x7300_0000, MSIData=5), build(Op.RESUME, StreamID=SID, STAG=0, Action=1),
        build(Op.RESUME, StreamID=SID, STAG=1, Abort=1), build(Op.STALL_TERM, StreamID=SID), build(Op.PRI_RESP, StreamID=SID, Resp=2),
        build(Op.TLBI_S12_VMALL, VMID=7), build(Op.CFGI_VMS_PIDM),
    ])),
    st.tuples(st.just("write"), st.sampled_from([
        ("CR0", 0xF), ("CR0", 0xC), ("CR0", 0xD), ("EVENTQ_CONS", 2), ("EVENTQ_CONS", 0x8000_0003), ("GERRORN", 1), ("GERRORN", 4), ("PRIQ_CONS", 1),
        ("EVENTQ_BASE", QueueBase.build(ADDR=EVENTS, LOG2SIZE=2).value), ("EVENTQ_BASE", QueueBase.build(ADDR=0x1000, LOG2SIZE=1).value),
        ("CMDQ_BASE", QueueBase.build(ADDR=COMMANDS, LOG2SIZE=3).value), ("CMDQ_PROD", 3), ("IRQ_CTRL", 7), ("EVENTQ_IRQ_CFG0", 0x7300_0010),
        ("PRIQ_BASE", QueueBase.build(ADDR=REQUESTS, LOG2SIZE=1).value), ("GBPA", 1 << 31 | 1 << 20), ("CR2", 3), ("CR2", 2),
    ])),
    st.tuples(st.just("entry"), st.sampled_from([bypass_entry(), abort_entry()])),
    st.tuples(st.just("page"), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("silent"), st.booleans()),
    st.tuples(st.just("events")),
)  # fmt: skip


def play(smmu: Smmu, memory: Memory, w: World, step: tuple[Any, ...]) -> object:
    """One step, on an SMMU and memory that may be copies of the world's; its answer."""
    what, *rest = step
    if what == "dma":
        page, write, ssid, ats = rest
        outcome = smmu.translate(Transaction(SID, VA + (page << 12), write, ssid, ats=ats))
        return outcome, str(outcome.attributes)
    if what == "remap":
        page, frame = rest
        assert w.second is not None
        # The leaf's place was taken down before anything was copied.
        if (where := w.second.entry_address(IPA + (page << 12))) is not None:
            memory.write(where, (memory.read(where) or 0) & ~0xFFFF_FFFF_F000 | PA + (frame << 12))
        return where
    if what == "command":
        return smmu.command(*rest[0].words)
    if what == "write":
        smmu.write(*rest[0])
        return smmu.read(rest[0][0])
    if what == "entry":
        memory.write_words(w.streams.address(SID), rest[0].words)
        return None
    if what == "page":
        return smmu.page_request(PageRequest.build(StreamID=SID, Addr=rest[0] << 12, R=1, Last=int(rest[1]), PRGIndex=rest[0]))
    if what == "silent":
        return (smmu.endpoints.silent.add if rest[0] else smmu.endpoints.silent.discard)(SID)
    return smmu.events(), smmu.resumed[-3:], smmu.msis[-3:], smmu.responses[-3:], [smmu.read(name) for name in REGISTERS]


@settings(max_examples=120, deadline=None)
@given(st.lists(STEP, max_size=25), st.lists(STEP, max_size=25), st.booleans())
def test_a_restored_smmu_goes_on_as_the_saved_one(before: list[tuple[Any, ...]], after: list[tuple[Any, ...]], stalls: bool) -> None:
    cd = {"S": 1, "A": 0, "R": 1} if stalls else {}
    w = world("nested", Ids.everything(), cdmax=1, cd=cd, ste={"S1DSS": 1, "EATS": 1, "S2S": 0}, leaf1={"DBM": 1})
    for step in before:
        play(w.smmu, w.memory, w, step)
    saved, kept = state.save(w.smmu), state.save_memory(w.memory)
    memory = state.restore_memory(kept)
    again = state.restore(saved, memory)
    assert state.save(again) == saved
    assert state.save_memory(memory) == kept
    for step in [*after, ("events",)]:
        assert play(again, memory, w, step) == play(w.smmu, w.memory, w, step), step
    assert state.save(again) == state.save(w.smmu)
    assert state.save_memory(memory) == state.save_memory(w.memory)


def recorded() -> list[Case]:
    """The cases with steps of others' tests and of ours."""
    found = [case for name in ("openvmm.json.xz", "acs.json.xz") for case in cases.decode_all(lzma.decompress((DATA / name).read_bytes()))]
    found += cases.decode_all((DATA / "faults.json").read_bytes())
    return [case for case in found if isinstance(case, Case) and not isinstance(case.steps, msgspec.UnsetType) and len(case.steps) > 2]


def test_recorded_sequences_may_be_cut_anywhere() -> None:
    """Saved and restored before every step, a case is answered as in one go."""
    played = recorded()
    assert len(played) > 40
    for case in played:
        if "error" in (whole := cases.plain(cases.run(case))):
            continue
        bench = cases.build(case)
        assert not isinstance(case.steps, msgspec.UnsetType)
        answers = []
        for index, step in enumerate(case.steps):
            bench.smmu = state.restore(state.save(bench.smmu), bench.smmu.memory)
            if (answer := cases.play_step(bench, step, f"steps[{index}]")) is not None:
                answers.append(cases.plain(answer))
        assert answers == whole["steps"], case.name


# -- forms ------------------------------------------------------------------------------------------------------------


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    w = world()
    w.dma()
    found = json.loads(state.save(w.smmu))
    change(found)
    return json.dumps(found).encode()


@pytest.mark.parametrize(("data", "word"), [
    (b"", "no saved state"), (b"{}", "no saved state"), (b"[" * 100_000, "no saved state"), (b'{"state": "smmu-wizard-memory"}', "no saved state"),
    (changed(lambda one: one.update(version=2)), "version 2"), (changed(lambda one: one["registers"].update(CR0=1 << 40)), "CR0"),
    (changed(lambda one: one["registers"].update(NONE=1)), "NONE"), (changed(lambda one: one["events"].update(log2=60)), "2^60"),
    (changed(lambda one: one["configuration"]["stes"].update({"8": 1})), "hexadecimal"),
    (changed(lambda one: one["configuration"]["contexts"][0].__setitem__(2, "0x0")), "ILLEGAL"),
])  # fmt: skip
def test_what_is_no_saved_state_is_said(data: bytes, word: str) -> None:
    with pytest.raises(state.StateError, match="(?s)" + word.replace("^", r"\^")):
        state.restore(data, Memory())


# -- reset ------------------------------------------------------------------------------------------------------------


def test_reset_values_and_empty_caches() -> None:
    """6.3: registers as declared; 3.12.2: what was stalled ends; what was told stays told."""
    w = world("nested", cd={"S": 1, "A": 0}, ids=Ids.everything())
    w.set_base("EVENTQ", QueueBase.build(ADDR=EVENTS, LOG2SIZE=2).value)
    assert w.dma(VA + 0x100_0000).how is How.STALLED
    assert w.dma().ok
    w.smmu.command(0xFF)
    w.smmu.reset()
    fresh = Smmu(Ids.everything(), w.memory)
    assert {name: w.smmu.read(name) for name in REGISTERS} == {name: fresh.read(name) for name in REGISTERS}
    assert [outcome.how for _, outcome in w.smmu.resumed] == [How.ABORTED]
    assert not w.smmu.stalled
    assert w.smmu.tlb is not None
    assert not list(w.smmu.tlb)
    assert w.dma(0x1000).how is How.DISABLED
    for name, value in (("STRTAB_BASE", w.streams.base), ("STRTAB_BASE_CFG", w.streams.config), ("CR0", 0xD)):
        w.smmu.write(name, value)
    assert w.dma().pa == PA


def test_gbpa_resets_to_what_the_implementation_says() -> None:
    smmu = Smmu(Ids(), Memory(), gbpa=1 << 20)
    smmu.write("GBPA", 1 << 31)
    assert smmu.translate(Transaction(1, 0x4000_0000)).ok
    smmu.reset()
    assert smmu.read("GBPA") == 1 << 20
    assert smmu.translate(Transaction(1, 0x4000_0000)).how is How.ABORTED


# -- machines ---------------------------------------------------------------------------------------------------------


def machine() -> tuple[Machine, Allocator]:
    made = Machine()
    space = Allocator(0x4000_0000, 0x5000_0000)
    for name in ("a", "b"):
        streams = StreamTable(made.memory, space, log2size=4)
        streams.set(3, bypass_entry() if name == "a" else abort_entry())
        smmu = made.add(name, RICH)
        for register, value in (("STRTAB_BASE", streams.base), ("STRTAB_BASE_CFG", streams.config), ("CR2", 2), ("CR0", 0xD)):
            smmu.write(register, value)
    return made, space


def test_smmus_of_one_machine_have_streams_of_their_own_and_share_memory() -> None:
    made, _ = machine()
    assert made.dma("a", Transaction(3, 0x4800_0FFE, write=True), data=b"abcd")[1].reached
    assert made.load(0x4800_0FFE, 4) == b"abcd"
    assert [one.outcome.how for one in made.dma("b", Transaction(3, 0x4800_0FFE), size=4)] == [How.ABORTED, How.ABORTED]
    assert b"".join(one.data or b"" for one in made.dma("a", Transaction(3, 0x4800_0FFE), size=4)) == b"abcd"
    made.dma("b", Transaction(4, 0))
    assert made["a"].events() == ()
    assert [event.Type for event in made["b"].events()] == [0x04]
    saved = made.save()
    made.reset()
    made.store(0x4800_0FFE, b"----")
    made.restore(saved)
    assert made.load(0x4800_0FFE, 4) == b"abcd"
    assert Machine.of(saved).save() == made.save() == saved
    other = Machine()
    other.add("c")
    with pytest.raises(state.StateError):
        other.restore(saved)


def test_nothing_is_where_nothing_is() -> None:
    made, _ = machine()
    with pytest.raises(NothingAnswers):
        made.load(0x1000, 4)
    with pytest.raises(NothingAnswers):
        made.store(0xFFFF_FFFE, b"abcd")
    assert made.load(0xFFFF_FFFC, 4) == bytes(4)
    [moved] = made.dma("a", Transaction(3, 0x1000, write=True), data=b"x")
    assert (moved.outcome.pa, moved.reached) == (0x1000, False)
    for base in (0x905_1000, 0x907_0000, 0x4000_0000):
        with pytest.raises(ValueError):
            made.add("d", base=base)


def test_a_stalled_access_moves_its_data_when_it_is_resumed() -> None:
    """3.12.2: retried as though it had just arrived, with the data that it carries."""
    w = world("1", Ids.everything(), cd={"S": 1, "A": 0})
    assert w.first is not None
    made = Machine(w.memory)
    made.add("smmu0", Ids.everything())
    for name in ("STRTAB_BASE", "STRTAB_BASE_CFG", "CR2", "CR0"):
        made["smmu0"].write(name, w.smmu.read(name))
    where = VA + 0x20_0000
    [moved] = made.dma("smmu0", Transaction(SID, where, write=True), data=b"later")
    assert moved.outcome.how is How.STALLED
    [recorded] = made.news()
    assert isinstance(recorded, Recorded)
    assert recorded.event == moved.outcome.event
    w.first.map(where, PA, 0x1000)
    saved = made.save()
    for _ in range(2):
        made["smmu0"].command(*build(Op.RESUME, StreamID=SID, STAG=moved.outcome.stag or 0, Action=1).words)
        [ended] = made.news()
        assert isinstance(ended, Ended)
        assert ended.moved.outcome.pa == PA
        assert made.load(PA, 5) == b"later"
        made.restore(saved)
        assert made.load(PA, 5) == bytes(5)


def test_news_are_told_once() -> None:
    made, _ = machine()
    made["a"].command(*build(Op.SYNC, CS=1, MSIAddress=0x4900_0000, MSIData=9).words)
    made["a"].command(*build(Op.PRI_RESP, StreamID=3, Resp=2).words)
    assert [type(one) for one in made.news(forget=True)] == [Edge, Message, Responded]
    assert made.news() == []
    assert made["a"].msis == []
    made.dma("b", Transaction(5, 0))
    assert [one.event.Type for one in made.news() if isinstance(one, Recorded)] == [0x04]
    made.dma("b", Transaction(5, 0))
    made.reset()
    assert made.news() == [], "a record that a reset took away"
    assert isinstance(made["a"].page_request(PageRequest.build(StreamID=3, Last=1, R=1)), PageResponse)


def test_memory_of_a_file_is_both_sides() -> None:
    """Tables that the other side writes are walked; records and updates are seen there; saved states leave it alone."""
    with open(os.memfd_create("ram"), "r+b", buffering=0) as file:
        file.truncate(1 << 20)
        made = Machine(SharedMemory([Window.of_file(file.fileno(), 0x4000_0000, 1 << 19), Window.of_file(file.fileno(), 0x8000_0000, 4096, 1 << 19)]))
        smmu = made.add("smmu0", RICH)
        streams = StreamTable(made.memory, Allocator(0x4000_0000, 0x4008_0000), log2size=2)
        file.seek(streams.base - 0x4000_0000 + 64)
        file.write(b"".join(word.to_bytes(8, "little") for word in bypass_entry().words))
        for name, value in (("STRTAB_BASE", streams.base), ("STRTAB_BASE_CFG", streams.config), ("CR0", 0xD)):
            smmu.write(name, value)
        table = PageTable(made.memory, Allocator(0x4001_0000, 0x4008_0000), stage=2, input_bits=32)
        table.map(0x1000, 0x8000_0000, 0x1000, AF=0)
        streams.set(2, stage2_entry(table, vmid=1, S2HA=1))
        assert made.dma("smmu0", Transaction(2, 0x1010))[0].outcome.pa == 0x8000_0010
        file.seek((table.entry_address(0x1000) or 0) - 0x4000_0000)
        assert int.from_bytes(file.read(8), "little") >> 10 & 1, "the access flag that hardware set (3.13.2)"
        made.dma("smmu0", Transaction(1, 0x8000_0010, write=True), data=b"seen")
        file.seek((1 << 19) + 16)
        assert file.read(4) == b"seen"
        assert not made.memory.answers(0x8000_1000)
        saved = made.save()
        made.store(0x8000_0010, b"kept")
        made.restore(saved)
        assert made.load(0x8000_0010, 4) == b"kept"
        for wrong in ((0x4000_0800, 4096), (0, 100)):
            with pytest.raises(ValueError):
                Window.of_file(file.fileno(), *wrong)
        with pytest.raises(ValueError, match="mapped twice"):
            SharedMemory([Window.of_file(file.fileno(), 0), Window.of_file(file.fileno(), 4096)])
