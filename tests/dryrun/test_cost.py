"""The cost report: commands as Linux's driver sends them, loads as the simulated SMMU makes them, and what another layout would cost."""

from __future__ import annotations

from functools import cache

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dryrun.plans import NIC, SECOND_VF, VF, plan, vm
from tests.tools.hosts import host
from wizard.arch import command
from wizard.arch.command import AtcInv, Tlbi
from wizard.dryrun import Report, Status, Stopper, Workload, dry_run, lay_out, trace_address
from wizard.dryrun.guest import Buffer, LinuxGuest, Stream, invalidation
from wizard.plan.model import Plan
from wizard.plan.request import FunctionRequest, Layout, Mode

GPU = "0008:01:00.0"


@pytest.mark.parametrize(
    ("pages", "ril", "commands"),
    [
        # arm_smmu_inv_size_too_big(): without RIL, 512 pages of 4K and more are one TLBI_NH_ASID
        (511, False, 511), (512, False, 1), (262144, False, 1),
        # arm_smmu_cmdq_batch_add_range(): scale = __ffs(pages), num = pages >> scale & 31, until nothing is left
        (1, False, 1), (16, False, 16),
        (1, True, 1), (16, True, 1), (17, True, 1), (31, True, 1), (33, True, 2), (262144, True, 1), (0x421, True, 3),
    ],
)  # fmt: skip
def test_commands_of_an_unmap(pages: int, ril: bool, commands: int) -> None:
    assert len(list(invalidation(1, 0x1000, pages << 12, ril=ril))) == commands


@pytest.mark.parametrize("pages", [1, 5, 31, 33, 1000, 12345])
def test_range_commands_cover_exactly_the_range(pages: int) -> None:
    at = 0x8000_0000
    for low, high in invalidation(7, at, pages << 12, ril=True):
        record = command.decode(low, high)
        assert isinstance(record, Tlbi)
        assert (record.Address, record.ASID, record.TG, record.TTL, record.Leaf) == (at, 7, 1, 3, 1)
        at += (record.NUM + 1) << record.SCALE + 12
    assert at == 0x8000_0000 + (pages << 12)


@cache
def gpu() -> Plan:
    return plan(vm("gpu", GPU, ats="on", ssidsize=20, oas=48), on="gb200")


def costs(report: Report) -> dict[str, tuple[int, int, int]]:
    (cost,) = report.costs
    return {layout.layout: (layout.vsmmus, layout.commands, layout.iotlb_entries) for layout in cost.layouts}


def test_loads_are_those_that_the_simulated_smmu_makes() -> None:
    """A walk of four levels under four: (4 + 1) × (4 + 1) - 1 = 24, counted in a trace with nothing cached but configuration."""
    made = plan(vm("web", VF))
    (cost,) = dry_run(made, host()).costs
    assert cost.loads_per_miss == 24
    view = trace_address(made, host(), VF, 0xFFFF_0000)
    steps = next(s for s in view.situations if s.situation.startswith("under")).steps
    stage1 = [step for step in steps if step.what == "walk" and step.text.startswith("stage 1") and step.words]
    assert len(stage1) == 4


def test_three_ways_to_the_hardware() -> None:
    (cost,) = dry_run(plan(vm("web", VF, ril="off")), host(), workload=Workload(buffer=256 << 10)).costs
    ways = {way.way: (way.commands, way.syncs, way.exits, way.ioctls, way.hypothetical) for way in cost.unmap}
    assert ways == {"QEMU": (64, 64, 2, 64, False), "batched": (64, 2, 2, 1, True), "CMDQV": (64, 1, 0, 0, True)}


def test_a_large_unmap_without_ril_by_hand() -> None:
    """200 pages on GB200 (no RIL, ATS): 200 TLBIs in writes of 64, 64, 64 and 8 commands, then an ATC_INV for each of two functions.

    Batched, a write of 64 takes two CMD_SYNCs (63 and 1): 2 + 2 + 2 + 1, and 1 for the ATC_INVs. Five writes and two waits are seven exits.
    """
    made = plan(vm("gpu", GPU, "0009:01:00.0", ats="on", ssidsize=20, oas=48, cmdqv="on"), on="gb200")
    (cost,) = dry_run(made, host("gb200"), workload=Workload(buffer=200 << 12, shared=2)).costs
    same = len({v.smmu for v in made.vms[0].vsmmus}) == 1
    atc = 2 if same else 1
    ways = {way.way: (way.commands, way.syncs, way.exits, way.ioctls, way.hypothetical) for way in cost.unmap}
    assert ways == {"QEMU": (200 + atc, 200 + atc, 7, 200 + atc, False), "batched": (200 + atc, 8, 7, 5, True), "CMDQV": (200 + atc, 2, 0, 0, False)}


def test_a_shared_table_is_counted_once() -> None:
    """64 MiB in 4 KiB pages: 32 last-level tables and one of each level above them, 35 pages for each address space."""
    made = plan(vm("web", VF, SECOND_VF))
    spaces = {shared: dry_run(made, host(), workload=Workload(shared=shared)).costs[0].tables.stage1 // (35 << 12) for shared in (1, 2, 3)}
    assert spaces == {1: 2, 2: 1, 3: 1}


def test_splitting_and_joining_one_smmu() -> None:
    """Two functions that share a table: split, its entries and its invalidations double."""
    together = plan(vm("web", VF, SECOND_VF))
    apart = plan(vm("web", VF, SECOND_VF, layout=Layout.PER_FUNCTION))
    shared = Workload(shared=2, touched=100)
    assert costs(dry_run(together, host(), workload=shared)) == {"as planned": (1, 1, 100), "split": (2, 2, 200), "joined": (1, 1, 100)}
    assert costs(dry_run(apart, host(), workload=shared)) == {"as planned": (2, 2, 200), "split": (2, 2, 200), "joined": (1, 1, 100)}
    own = Workload(touched=100)
    assert costs(dry_run(together, host(), workload=own)) == {"as planned": (1, 1, 200), "split": (2, 1, 200), "joined": (1, 1, 200)}


def test_joining_two_smmus_sends_every_invalidation_to_both() -> None:
    report = dry_run(plan(vm("web", VF, NIC)), host(), workload=Workload(touched=100))
    assert costs(report) == {"as planned": (2, 1, 200), "split": (2, 1, 200), "joined": (1, 2, 200)}
    assert "refuses it" in report.costs[0].layouts[2].text


def test_ats_adds_an_invalidation_of_each_device() -> None:
    made = plan(vm("gpu", GPU, ats="on", ssidsize=20, oas=48), on="gb200")
    (cost,) = dry_run(made, host("gb200"), workload=Workload(buffer=4096)).costs
    assert cost.unmap[0].commands == 2
    assert cost.tables.context == 64 << 10


@settings(max_examples=200, deadline=None)
@given(st.integers(0, (1 << 36) - 1), st.integers(1, 5000))
def test_atc_inv_covers_every_page_and_no_smaller_command_would(first: int, pages: int) -> None:
    """IHI 0070 4.5.1: 2^Size pages of 4 KiB at an address aligned to them. Buffers across a power of two need more than their own size."""
    stream = Stream(lay_out(gpu(), host("gb200")).functions[0], 8, None, None, ats=True, pasid_bits=0)  # type: ignore[arg-type]
    (words,) = LinuxGuest.atc_inv(None, stream, Buffer(first << 12, 0, pages << 12))  # type: ignore[arg-type]
    record = command.decode(*words)
    assert isinstance(record, AtcInv)
    start, count = record.Address >> 12, 1 << record.Size
    assert start % count == 0
    assert start <= first
    assert first + pages <= start + count
    half = count // 2
    assert not half or first // half != (first + pages - 1) // half


def test_a_hidden_capability_is_not_the_guests_to_use() -> None:
    """vfio-pci's ats=off masks the capability: the guest's driver sends no ATC_INV, whatever its vSMMU has."""
    made = gpu()
    device = msgspec.structs.replace(made.vms[0].devices[0], ats="off")
    hidden = msgspec.structs.replace(made, vms=(msgspec.structs.replace(made.vms[0], devices=(device,)),))
    counts = [dry_run(one, host("gb200"), workload=Workload(buffer=4096)).costs[0].unmap[0].commands for one in (made, hidden)]
    assert counts == [2, 1]
    cell = dry_run(hidden, host("gb200")).cell(GPU, "ats-unasked")
    assert cell is not None
    assert (cell.status, cell.stopped_by) == (Status.PASSED, Stopper.NOBODY)


@pytest.mark.parametrize("field", ["buffer", "shared", "mapped", "touched"])
def test_a_workload_does_something(field: str) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Workload(**{field: 0})


def test_a_function_beside_without_a_vsmmu_costs_nothing() -> None:
    """Nobody translates for it in the guest: its buffers are unmapped by nobody."""
    alone = vm("web", VF)
    beside = msgspec.structs.replace(alone, functions=(*alone.functions, FunctionRequest(host=SECOND_VF, mode=Mode.NONE)))
    (first,), (both,) = (dry_run(plan(asked), host()).costs for asked in (alone, beside))
    assert first == both
