"""Ports left free: what may be plugged into them is rehearsed too, plugged while the guest runs."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from tests.dryrun.plans import NIC, NVME, SECOND_VF, VF, plan, vm
from tests.tools.hosts import host
from wizard.arch.ste import StreamConfig
from wizard.dryrun import Report, Status, Stopper, dry_run, lay_out, report_lines, trace_address
from wizard.dryrun.layout import FunctionLayout, Layout
from wizard.dryrun.proof import prove
from wizard.dryrun.world import Vm, World
from wizard.nesting import Vdevice
from wizard.nesting.iommufd import Area
from wizard.nesting.qemu import ids_of
from wizard.plan.model import Plan
from wizard.plan.request import HotplugRequest
from wizard.smmu.tables import bypass_entry


def ports() -> Plan:
    """One port for either VF beside the NVMe, and one for the NIC on a vSMMU of its own that has nothing else."""
    free = (HotplugRequest(functions=(SECOND_VF, VF)), HotplugRequest(functions=(NIC,)))
    return plan(msgspec.structs.replace(vm("web", NVME), hotplug=free))


@pytest.fixture(scope="module")
def report() -> Report:
    made = ports()
    assert made.ok
    return dry_run(made, host())


def test_every_candidate_is_played(report: Report) -> None:
    assert report.ok
    assert [(view.function, view.hotplug) for view in report.functions] == [(NVME, False), (SECOND_VF, True), (VF, True), (NIC, True)]
    status = {(cell.function, cell.scenario): cell.status for cell in report.cells}
    for function in (SECOND_VF, VF, NIC):
        for scenario in ("bring-up", "hot-plug", "mapped", "msi", "isolation", "compare", "event-guest", "unplug"):
            assert status[function, scenario] is Status.PASSED, (function, scenario)
    assert status[NVME, "hot-plug"] is Status.NOT_APPLICABLE
    assert any(line.startswith(f"  {NIC}") and line.endswith("; hot-plugged into pcie.2.port1") for line in report_lines(report))


def test_two_candidates_of_one_port_are_no_vsid_given_twice(report: Report) -> None:
    views = {view.function: view for view in report.functions}
    assert views[VF].vsid == views[SECOND_VF].vsid
    assert {cell.status for cell in report.cells if cell.scenario == "stream-id"} == {Status.PASSED}


def test_a_candidate_is_blocked_until_it_is_plugged() -> None:
    world = World(lay_out(ports(), host()))
    assert world.devices[NIC].installed.Config == StreamConfig.ABORT
    assert world.vms["web"].trouble == {}


def test_a_candidate_that_does_not_fit_the_finalised_vsmmu_fails() -> None:
    """smmuv3_accel_check_hw_compatible() compares a hot-plugged function too."""
    made = lay_out(ports(), host())
    web = made.vm("web")
    far = next(f for f in made.functions if f.address == NIC)
    wide = tuple(replace(v, ssidsize=20, ids=ids_of(ssidsize=20)) if v.id == far.vsmmu else v for v in web.vsmmus)
    report = dry_run(ports(), host(), layout=made.with_vm(replace(web, vsmmus=wide)))
    assert {(cell.function, cell.scenario) for cell in report.failures()} == {(NIC, "bring-up"), (NIC, "compare"), (NIC, "ssidsize")}
    cell = report.cell(NIC, "bring-up")
    assert cell is not None
    assert (cell.stopped_by, cell.text) == (Stopper.QEMU, "Host SMMUv3 SSIDSIZE not compatible (host=0, QEMU=20)")


def test_a_candidate_is_part_of_the_proof() -> None:
    """Plugged, with a vDEVICE that names another's StreamID; and another VM's entry under its own."""
    made = lay_out(ports(), host())
    smmu = made.functions[0].smmu
    world = World(made)
    world.realize("web", next(f for f in made.functions if f.address == VF))
    assert prove(world, "web", smmu).proved
    viommu = world.vms["web"].vsmmus["smmuv3.1"].viommu
    assert viommu is not None
    stranger = world.smmus[smmu].add(replace(world.devices[VF], name="0000:13:00.0", streams=(0x1300,)))
    viommu.vdevices[0xA00] = Vdevice(viommu, stranger, 0xA00)
    assert "StreamID 0x1300, which is not the VM's" in prove(world, "web", smmu).text


def with_bars(made: Layout) -> Layout:
    """A kernel and a QEMU that map BARs into the VM."""
    return replace(made, vms=tuple(replace(found, peer_to_peer=True) for found in made.vms))


def test_a_candidate_is_proved_plugged_with_its_bars() -> None:
    """One proof of each SMMU of the VM as it starts, and one for each candidate; its BARs are mapped while it is plugged and not after."""
    made = with_bars(lay_out(ports(), host()))
    report = dry_run(ports(), host(), layout=made)
    assert report.ok, report.findings
    near, far = (next(f.smmu for f in made.functions if f.address == address) for address in (NVME, NIC))
    assert {(proof.smmu, proof.plugged) for proof in report.proofs} == {
        (near, ()), (far, ()), (near, (SECOND_VF,)), (near, (VF,)), (near, (NIC,)), (far, (NIC,)),
    }  # fmt: skip
    assert all(proof.proved for proof in report.proofs)
    leaves = {proof.plugged: proof.pages for proof in report.proofs if proof.smmu == near}
    assert leaves[VF,] > leaves[()]
    world = World(made)
    candidate = next(f for f in made.functions if f.address == VF)
    assert candidate.bars
    areas = list(world.vms["web"].iommufd.areas)
    world.realize("web", candidate)
    assert {area.pa for area in world.vms["web"].iommufd.areas} - {area.pa for area in areas} == {bar.pa for bar in candidate.bars}
    table = world.vms["web"].iommufd.parents[0].table
    assert table.lookup(candidate.bars[0].ipa) == candidate.bars[0].pa
    world.stop("web")
    assert world.vms["web"].iommufd.areas == areas
    assert table.lookup(candidate.bars[0].ipa) is None


def test_a_bar_that_stays_mapped_after_the_unplug_is_refused() -> None:
    world = World(with_bars(lay_out(ports(), host())))
    candidate = next(f for f in world.layout.functions if f.address == VF)
    world.vms["web"].iommufd.map(Area(candidate.bars[0].ipa, candidate.bars[0].pa, candidate.bars[0].size, device=True))
    proof = prove(world, "web", candidate.smmu)
    assert not proof.proved
    assert f"to {candidate.bars[0].pa:#x}, a BAR of {VF}" in proof.text


def test_an_entry_that_stays_after_the_unplug_is_refused() -> None:
    """The host may give the function to somebody else, whose DMA would go into the VM."""
    world = World(lay_out(ports(), host()))
    candidate = next(f for f in world.layout.functions if f.address == VF)
    world.realize("web", candidate)
    entry = world.devices[VF].installed
    assert prove(world, "web", candidate.smmu).proved
    world.stop("web")
    world.start("web")
    assert prove(world, "web", candidate.smmu).proved
    world.smmus[candidate.smmu].streams.set(candidate.streams[0], entry)
    assert f"({VF}, which no VM has)" in prove(world, "web", candidate.smmu).text


def test_a_candidate_that_is_not_isolated_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only once it is plugged: its entry then leads somewhere else than its VM's stage 2."""
    plug = World.plug

    def wrong(world: World, held: Vm, function: FunctionLayout) -> None:
        plug(world, held, function)
        if function.address == VF:
            world.smmus[function.smmu].streams.set(function.streams[0], bypass_entry())

    monkeypatch.setattr(World, "plug", wrong)
    report = dry_run(ports(), host())
    found = [finding for finding in report.findings if finding.code == "dry-run-not-isolated"]
    assert not report.ok
    assert len(found) == 1
    assert f"with {VF} plugged, the entry of {VF}" in found[0].what


def test_bars_that_nobody_knows_are_named_as_not_covered() -> None:
    made = with_bars(lay_out(ports(), host()))
    unknown = replace(made, functions=tuple(replace(f, bars=(), bars_known=f.address != VF) for f in made.functions))
    world = World(unknown)
    near = next(f.smmu for f in unknown.functions if f.address == NVME)
    assert any(text.startswith(f"The BARs of {VF} are not known") for text in prove(world, "web", near).assumptions)
    assert not any("are not known" in text for text in prove(World(made), "web", near).assumptions)


def test_an_address_of_a_candidate() -> None:
    view = trace_address(ports(), host(), NIC, 0x800_0040)
    assert all("the host's ITS page" in situation.outcome for situation in view.situations)


def test_a_candidate_on_a_host_where_nobody_measured() -> None:
    """Kunpeng 920: no CANWBS, registers not read. A plan that may rest on S2FWB only through its candidate says so and is played."""
    free = (HotplugRequest(functions=("0000:74:02.0",)),)
    made = plan(msgspec.structs.replace(vm("two", "0000:75:00.1"), hotplug=free), on="kunpeng-920")
    report = dry_run(made, host("kunpeng-920"))
    assert [(cell.scenario, cell.text) for cell in report.failures()] == []
    far = next(view.smmu for view in report.functions if view.hotplug)
    assert any(text.startswith(f"{far}: s2fwb is taken as yes") for text in report.assumptions)
