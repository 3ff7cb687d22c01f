"""Plans that are wrong on purpose: each fails the scenario that is about it, and no other one that it is not about."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.dryrun.plans import NIC, NVME, VF, two_vms
from tests.tools.hosts import host
from wizard.dryrun import Layout, Report, Status, Stopper, dry_run, lay_out, report_lines
from wizard.dryrun.layout import Chunk
from wizard.nesting.qemu import ids_of


def layout() -> Layout:
    return lay_out(two_vms(), host())


def run(wrong: Layout) -> Report:
    report = dry_run(two_vms(), host(), layout=wrong)
    assert report.rehearsed
    return report


def failing(report: Report) -> set[tuple[str, str]]:
    return {(cell.function, cell.scenario) for cell in report.failures()}


def test_the_plan_itself_fails_nothing() -> None:
    report = run(layout())
    assert report.ok
    assert failing(report) == set()
    assert all(proof.proved for proof in report.proofs)


def shared_page() -> Layout:
    """One 4 KiB page of db's memory is also web's."""
    made = layout()
    web, db = made.vm("web"), made.vm("db")
    first, last = web.chunks[0], db.chunks[-1]
    return made.with_vm(replace(web, chunks=(replace(first, pa=last.pa + 0x5000), *web.chunks[1:])))


def without_doorbell() -> Layout:
    """VM db's interrupts have nowhere to go."""
    made = layout()
    return made.with_vm(replace(made.vm("db"), doorbell=None))


def test_two_vms_that_share_a_page() -> None:
    """Only the proof over all of stage 2 can see it."""
    report = run(shared_page())
    assert failing(report) == {(NVME, "isolation"), (NIC, "isolation"), (VF, "isolation")}
    assert not any(proof.proved for proof in report.proofs)
    assert any("VM db and VM web share" in (proof.counterexample or "") for proof in report.proofs)
    assert {finding.code for finding in report.findings if finding.severity == "error"} == {"dry-run-not-isolated"}


def test_a_streamid_given_twice() -> None:
    """The VF with the NVMe's StreamID: `stream 5120 already in tree`, and the second function never gets an IOMMU."""
    made = layout()
    nvme = next(f for f in made.functions if f.address == NVME)
    wrong = replace(made, functions=tuple(replace(f, streams=nvme.streams) if f.address == VF else f for f in made.functions))
    report = run(wrong)
    failed = failing(report)
    assert {(NVME, "stream-id"), (VF, "stream-id"), (VF, "bring-up")} <= failed
    assert {scenario for _, scenario in failed} == {"stream-id", "bring-up", "isolation"}
    cell = report.cell(VF, "bring-up")
    assert cell is not None
    assert "stream 5120 already in tree" in cell.text


def test_a_vsid_given_twice() -> None:
    made = layout()
    functions = tuple(replace(f, vsid=0x900, vsmmu="smmuv3.1", smmu=made.functions[0].smmu) if f.address == NIC else f for f in made.functions)
    report = run(replace(made, functions=functions))
    assert (NVME, "stream-id") in failing(report)
    assert (NIC, "stream-id") in failing(report)


def test_a_doorbell_left_unmapped() -> None:
    report = run(without_doorbell())
    assert failing(report) == {(VF, "msi"), (VF, "msi-plain")}
    cell = report.cell(VF, "msi")
    assert cell is not None
    assert "F_TRANSLATION" in cell.text
    assert any(step.what == "walk" for step in cell.trace)


def test_an_ssidsize_too_large() -> None:
    made = layout()
    web = made.vm("web")
    wide = tuple(replace(v, ssidsize=20, ids=ids_of(ril=v.ril, ssidsize=20, oas=v.oas)) for v in web.vsmmus)
    report = run(made.with_vm(replace(web, vsmmus=wide)))
    assert failing(report) == {(f, scenario) for f in (NVME, NIC) for scenario in ("bring-up", "compare", "ssidsize")}
    cell = report.cell(NVME, "bring-up")
    assert cell is not None
    assert cell.stopped_by is Stopper.QEMU
    assert cell.text == "Host SMMUv3 SSIDSIZE not compatible (host=0, QEMU=20)"


@pytest.mark.parametrize(("field", "scenario"), [("ril", "ril"), ("oas", "oas")])
def test_a_host_below_the_vsmmu(field: str, scenario: str) -> None:
    made = layout()
    smmus = tuple(
        replace(s, ids=replace(s.ids, idr3=s.ids.idr3 & ~(1 << 10))) if field == "ril" else replace(s, ids=replace(s.ids, idr5=0x72))
        for s in made.smmus
    )
    report = run(replace(made, smmus=smmus))
    assert {(f, s) for f in (NVME, NIC, VF) for s in ("bring-up", "compare", scenario)} <= failing(report)


def test_memory_above_oas() -> None:
    """The last 2 MiB of RAM above 44 bits: iommufd finds no room in the aperture."""
    made = layout()
    db = made.vm("db")
    top = 1 << 44
    wrong = replace(db, memory=top - 0x4000_0000 + (2 << 20), chunks=(*db.chunks, Chunk(top, 0x3_0000_0000, 2 << 20)))
    report = run(made.with_vm(wrong))
    assert failing(report) == {(VF, "bring-up"), (VF, "end-of-memory")}
    cell = report.cell(VF, "bring-up")
    assert cell is not None
    assert "EADDRINUSE" in cell.text
    assert cell.stopped_by is Stopper.KERNEL


def test_memory_in_the_msi_window() -> None:
    made = layout()
    db = made.vm("db")
    report = run(made.with_vm(replace(db, chunks=(Chunk(0x800_0000, 0x3_0000_0000, 0x1000), *db.chunks))))
    assert failing(report) == {(VF, "bring-up"), (VF, "msi-overlap")}


def test_a_function_without_canwbs() -> None:
    made = layout()
    report = run(replace(made, functions=tuple(replace(f, canwbs=False) if f.address == VF else f for f in made.functions)))
    assert failing(report) == {(VF, "bring-up")}
    cell = report.cell(VF, "bring-up")
    assert cell is not None
    assert cell.text.startswith("EOPNOTSUPP from arm_smmu_get_viommu_size()")
    assert {c.status for c in report.cells if c.function == VF and c.scenario in ("mapped", "unplug", "event-guest")} == {Status.NOT_APPLICABLE}


def test_two_functions_of_one_group() -> None:
    """Problem 31, both cases, from the plan's side."""
    made = layout()
    group = next(f.group for f in made.functions if f.address == VF)
    together = replace(made, functions=tuple(replace(f, group=group) if f.address == NVME else f for f in made.functions))
    other_vm = failing(run(together))
    assert {(NVME, "group"), (VF, "group")} <= other_vm
    vf = next(f for f in made.functions if f.address == VF)
    idle = replace(vf, address="0000:11:10.7", streams=(0x11F7,), vm=None, vsmmu=None, vsid=None, bars=())
    report = run(replace(made, functions=(*made.functions, idle)))
    assert failing(report) == {(VF, "group")}
    cell = report.cell(VF, "group")
    assert cell is not None
    assert "CERROR_ILL" in cell.text


def test_the_text_of_a_failure_names_what_it_follows_and_shows_the_walk() -> None:
    lines = list(report_lines(run(without_doorbell())))
    at = next(number for number, line in enumerate(lines) if line.startswith("    FAIL an interrupt, 0000:11:10.0: the MSI write at 0x8000040"))
    assert lines[at + 1].startswith("         follows iommufd_sw_msi()")
    assert any("stage 2 level" in line and "invalid descriptor" in line for line in lines[at : at + 45])
    assert "Isolation of db on smmu3.0x000000000c000000: proved" in "\n".join(lines)


def test_peer_to_peer_with_and_without_dma_buf() -> None:
    """Without CONFIG_VFIO_PCI_DMABUF (this recording's kernel) QEMU warns that P2P DMA will not work; with it the peer's BAR is reached."""
    made = layout()
    without, with_it = run(made), run(made.with_vm(replace(made.vm("web"), peer_to_peer=True)))
    assert without.ok
    assert with_it.ok
    texts = [report.cell(NVME, "peer-to-peer") for report in (without, with_it)]
    assert texts[0] is not None
    assert texts[0].stopped_by is Stopper.HARDWARE
    assert texts[1] is not None
    assert texts[1].text == f"reaches {NIC} through both stages (its BAR is mapped by dma-buf)"
