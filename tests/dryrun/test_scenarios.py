"""The scenarios: everything that has to be played is, on every fixture, and each names what it follows."""

from __future__ import annotations

import re

import msgspec
import pytest

from tests.dryrun.plans import plan, vm
from tests.tools.hosts import FIXTURES, host
from wizard.dryrun import SCENARIOS, Status, Stopper, dry_run
from wizard.plan.request import FunctionRequest, Mode

NAMED = {  # item by item (sources: design-scenarios)
    "before-boot", "gbpa-abort", "ste-bypass", "ste-stage-1", "ste-other-table", "ste-abort", "reboot", "ste-invalid", "ste-forbidden-bits",
    "s1cdmax", "s1dss", "cd-unmapped", "table-unmapped",
    "mapped", "unmapped", "memory-type", "freed", "no-invalidation", "late-invalidation", "wrong-asid", "ttl-tg", "range", "atc-inv",
    "forbidden-commands", "batch", "unknown-vsid", "cmdqv",
    "msi", "msi-no-rmr", "msi-overlap", "msi-pasid",
    "pasid-inside", "pasid-outside", "ats", "end-of-memory", "pci-window", "peer-to-peer", "redirect",
    "event-guest", "event-host", "event-flood",
    "hot-plug", "unplug", "replug", "reset-atc", "same-asid", "ril", "oas", "ssidsize",
    "pri", "stall", "httu",
}  # fmt: skip
SOURCE = re.compile(
    r"IHI 0070|DDI 0487|PCIe 6|arm_|iommu|smmuv3_|tegra241|STRTAB_|CMDQ_|LVCMDQ|IDR\d|CR0|CD\.|IORT|iopt_|virt_|vfio_|pci_|include/|MSI_"
)


def test_everything_that_has_to_be_played_is() -> None:
    assert {scenario.view.id for scenario in SCENARIOS} >= NAMED


def test_each_scenario_names_a_section_or_a_function() -> None:
    for scenario in SCENARIOS:
        assert scenario.view.sources
        assert all(SOURCE.search(source) for source in scenario.view.sources), scenario.view


def hosts() -> list[str]:
    return sorted(path.stem for path in FIXTURES.glob("*.json"))


@pytest.mark.parametrize("name", hosts())
@pytest.mark.parametrize("mode", [Mode.ACCEL, Mode.NONE])
def test_plans_of_every_fixture(name: str, mode: Mode) -> None:
    """What can be planned on a recorded host passes; what can't is not rehearsed."""
    machine = host(name)
    played = 0
    for address, function in machine.functions.items():
        if function.is_bridge or played == 3:
            continue
        made = plan(vm("guest", address, mode=mode), on=name)
        report = dry_run(made, machine)
        assert report.rehearsed == made.ok
        if made.ok:
            played += 1
            assert [(cell.scenario, cell.text) for cell in report.failures()] == []
            assert all(proof.proved for proof in report.proofs)


def test_a_grace_host_plays_ats_pasids_and_cmdqv() -> None:
    """GB200: 64K pages, ATS, PASIDs; its registers are assumed, and the report says so."""
    report = dry_run(plan(vm("gpu", "0008:01:00.0", "0009:01:00.0", ats="on", ssidsize=20, oas=48, cmdqv="on"), on="gb200"), host("gb200"))
    assert [(cell.scenario, cell.text) for cell in report.failures()] == []
    wanted = {view.id: view.stops for view in report.scenarios}
    assert [cell.scenario for cell in report.cells if cell.stopped_by not in (None, wanted[cell.scenario])] == []
    passed = {cell.scenario for cell in report.cells if cell.status is Status.PASSED}
    assert {"ats", "ats-off", "atc-inv", "atc-stale", "pasid-inside", "s1dss", "cmdqv", "reset-atc"} <= passed
    assert any("CANWBS is taken as yes" in assumption for assumption in report.assumptions)
    assert any("trusted with host physical addresses" in text for proof in report.proofs for text in proof.assumptions)


def test_who_stops_what() -> None:
    report = dry_run(plan(vm("guest", "0000:14:00.0")), host())
    said = {cell.scenario: cell.stopped_by for cell in report.cells if cell.status is Status.PASSED}
    assert said["unmapped"] is Stopper.HARDWARE
    assert said["forbidden-commands"] is Stopper.KERNEL
    assert said["ste-stage-2"] is Stopper.QEMU
    assert said["no-invalidation"] is Stopper.NOBODY
    assert said["mapped"] is None
    wanted = {scenario.view.id: scenario.view.stops for scenario in SCENARIOS}
    for scenario, stopper in said.items():
        if stopper is not None:
            assert wanted[scenario] is stopper, scenario


def test_the_documentation_lists_them_all() -> None:
    """docs/dry-run.md, between its two marks."""
    page = (FIXTURES.parent / "docs/dry-run.md").read_text(encoding="utf-8")
    listed = page.split("<!-- scenarios -->\n")[1].split("<!-- end -->")[0].splitlines()[2:]
    views = [scenario.view for scenario in SCENARIOS]
    assert listed == [f"| `{v.id}` | {v.title} | {v.stops or ''} | {'; '.join(v.sources)} |" for v in views]


@pytest.mark.parametrize(("name", "address", "said"), [("arm64-virt-canwbs", "0000:14:00.0", "CANWBS"), ("kunpeng-920", "0000:75:00.1", "S2FWB")])
def test_what_keeps_a_guests_dma_coherent(name: str, address: str, said: str) -> None:
    """Without S2FWB the guest's stage 1 decides the memory type (IHI 0070 13.1.5), with it stage 2 does."""
    cell = dry_run(plan(vm("guest", address), on=name), host(name)).cell(address, "memory-type")
    assert cell is not None
    assert cell.status is Status.PASSED
    assert said in cell.text
    assert ("iNC" in cell.text) == (said == "CANWBS")


STAGE_1 = "attached to a stage 1 of the host's"


@pytest.mark.parametrize(
    ("mode", "beside", "said"),
    [
        (Mode.NONE, False, f"{STAGE_1} that maps the VM's memory; no vIOMMU"),
        (Mode.NONE, True, "attached to the VM's stage 2, VMID 1; no vIOMMU"),
        (
            Mode.VIRTIO_IOMMU,
            False,
            "attached to a stage 1 of the host's: all of the VM's memory, until the guest's virtio-iommu driver has QEMU map less",
        ),
        (Mode.ACCEL, False, "attached; VMID 1 of smmu3.0x000000000c000000"),
    ],
)
def test_what_a_function_is_attached_to_when_qemu_starts(mode: Mode, beside: bool, said: str) -> None:
    """QEMU makes a nesting parent only where a vSMMU is; a function without one beside it takes the VM's parent of that SMMU."""
    asked = vm("guest", "0000:14:00.0", mode=mode)
    if beside:
        without = FunctionRequest(host="0000:14:00.0", mode=Mode.NONE)
        asked = msgspec.structs.replace(asked, mode=Mode.ACCEL, functions=(FunctionRequest(host="0000:11:10.0"), without))
    made = plan(asked)
    cell = dry_run(made, host()).cell("0000:14:00.0", "bring-up")
    assert cell is not None
    assert (made.ok, cell.status, cell.text) == (True, Status.PASSED, said)
