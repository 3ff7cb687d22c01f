"""DMA through QEMU's own SMMUv3: the answers are QEMU's, what is planned wrong shows, and what can't be asked is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.rehearsal.said import said
from tests.tools.hosts import host, planned
from tests.tools.requests import SETS, planned_ok
from wizard.plan.model import VmPlan
from wizard.plan.request import Layout
from wizard.rehearsal.qemu import rehearse
from wizard.rehearsal.report import Check, Report

pytestmark = pytest.mark.qemu


def dma(report: Report) -> list[Check]:
    return [check for check in report.checks if check.part in ("dma", "reads")]


@pytest.mark.parametrize("name", SETS)
def test_every_function_reaches_what_the_simulated_smmu_says(name: str, qemu: Path) -> None:
    made = planned_ok(SETS[name])
    report = rehearse(made, str(qemu))
    assert report.ok, report.findings
    if name == "virtio-iommu":
        assert [text[:4] for text in report.left_out] == ["DMA:"]
        assert not dma(report)
        return
    assert not report.left_out
    for assigned in made.devices:
        mine = [check for check in dma(report) if check.subject.startswith(f"{assigned.id} ")]
        assert {check.part for check in mine} == {"dma", "reads"}
        if assigned.vsmmu is None:
            continue
        ends = {check.subject.partition(", ")[2]: check.found for check in mine}
        # Of a DMA to a page that is not mapped QEMU itself says who it was: its own StreamID for that place.
        assert ends["write below it, where nothing is mapped"].startswith("ends in F_TRANSLATION")
        assert ends["write below it, where nothing is mapped"].endswith(f"StreamID {assigned.vsid:#x}")
        assert ends["read to the buffer after the invalidation"].endswith(f"on a read, StreamID {assigned.vsid:#x}")
        assert ends["write to a buffer mapped for reading"].startswith("ends in F_PERMISSION")
        assert ends["write to a mapped buffer"].startswith("reaches 0x")


def test_only_known_departures_are_excused(qemu: Path) -> None:
    """Row 13 of fixtures/translation/qemu-departures.md, and nothing else, on these tables."""
    report = rehearse(planned_ok(SETS["two SMMUs"]), str(qemu))
    assert {check.departure for check in report.checks} == {None, "13: an address beyond the output size passes a bypassing SMMU"}


def test_a_vsid_that_is_planned_wrong_is_found(qemu: Path) -> None:
    made = planned_ok(SETS["two SMMUs"])
    first, *others = made.devices
    wrong = replace(made, devices=(replace(first, bus=first.bus + 3), *others))
    findings = rehearse(wrong, str(qemu)).findings
    assert {finding.code for finding in findings} == {"rehearsal-dma-differs"}
    said("rehearsal-dma-differs", findings)
    assert all(first.host in finding.what for finding in findings)


def test_two_functions_swapped_between_vsmmus_are_found(qemu: Path) -> None:
    """Behind another SMMU than planned, nobody is there who knows the StreamID."""
    made = planned_ok(SETS["two SMMUs"])
    swap = {made.vsmmus[0].id: made.vsmmus[1].id, made.vsmmus[1].id: made.vsmmus[0].id}
    wrong = replace(made, vsmmus=tuple(replace(vsmmu, bus=made_bus(made, swap[vsmmu.id])) for vsmmu in made.vsmmus))
    codes = {finding.code for finding in rehearse(wrong, str(qemu)).findings}
    assert "rehearsal-dma-differs" in codes


def made_bus(made: VmPlan, vsmmu: str) -> str:
    return next(one.bus for one in made.vsmmus if one.id == vsmmu)


def test_sixteen_vsmmus_and_much_memory(qemu: Path) -> None:
    """As many as a machine takes, and RAM that moves the configuration space up (virt_set_high_memmap())."""
    on = host("kunpeng-920")
    endpoints = [address for address, function in on.functions.items() if not function.is_bridge and function.smmu][:16]
    made = planned(*endpoints, on=on, assume_accel=True, layout=Layout.PER_FUNCTION, memory=300 << 30, cpus=4)
    report = rehearse(made, str(qemu))
    assert report.ok, report.findings
    assert len({check.subject.partition(",")[0] for check in dma(report)}) == len(endpoints)


def test_progress_names_each_part(qemu: Path) -> None:
    said: list[str] = []
    rehearse(planned_ok(SETS["beside"]), str(qemu), progress=said.append)
    assert [text.split()[0] for text in said] == ["the", "writes", "reads"]
