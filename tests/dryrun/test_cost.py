"""The cost report: commands as Linux's driver sends them, loads as the simulated SMMU makes them, and what another layout would cost."""

from __future__ import annotations

import pytest

from tests.dryrun.plans import NIC, SECOND_VF, VF, host, plan, vm
from wizard.arch import command
from wizard.arch.command import Tlbi
from wizard.dryrun import Report, Workload, dry_run, trace_address
from wizard.dryrun.guest import invalidation
from wizard.plan.request import Layout

GPU = "0008:01:00.0"


@pytest.mark.parametrize(
    ("pages", "ril", "commands"),
    [
        # __arm_smmu_tlb_inv_range(): scale = __ffs(pages), num = pages >> scale & 31, until nothing is left
        (1, False, 1), (16, False, 16), (262144, False, 262144),
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
    assert ways == {"QEMU": (64, 64, 1, 64, False), "batched": (64, 2, 1, 1, True), "CMDQV": (64, 1, 0, 0, True)}


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


@pytest.mark.parametrize("field", ["buffer", "shared", "mapped", "touched"])
def test_a_workload_does_something(field: str) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Workload(**{field: 0})
