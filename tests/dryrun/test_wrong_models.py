"""A kernel, a QEMU or a guest that does its part wrong: the scenario that is about it fails, and says how."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from tests.dryrun.plans import NVME, SECOND_VF, VF, plan, vm
from tests.tools.hosts import host
from wizard.arch.command import Op
from wizard.arch.event import Event
from wizard.arch.ste import STE
from wizard.dryrun import Status, dry_run, guest
from wizard.nesting import Device, HostSmmu, Iommufd, Veventq, Vsmmu, invalidate, vste
from wizard.nesting.events import Vevent
from wizard.nesting.invalidate import Words
from wizard.nesting.vste import Vste
from wizard.plan.model import Plan
from wizard.plan.request import Layout
from wizard.smmu import cmdqv

GPU = "0008:01:00.0"
Patch = tuple[object, str, Any]


def no_invalidation(asid: int, iova: int, size: int, *, ril: bool, vmid: int = 0) -> Iterator[Words]:
    yield from ()


def without_mev(ste: Vste, stage2: STE, *, ats: bool) -> STE:
    return physical(ste, stage2, ats=ats).replace(MEV=0)


def ats_always(own: Iommufd, device: Device, hwpt: object) -> None:
    attach(own, device, hwpt)  # type: ignore[arg-type]
    device.smmu.install(device, device.installed.replace(EATS=int(device.installed.Config != 0)))
    device.ats_on = True


def stream_id_as_it_is(own: HostSmmu, event: Event) -> bool:
    device = own.masters.get(event.StreamID)
    if device is None or device.vmaster is None or device.vmaster[0].veventq is None:
        return False
    return device.vmaster[0].veventq.report(event)


def never_full(own: Veventq, event: Event) -> bool:
    own.deliver.append(Vevent(own.sequence, event))
    return True


def one_batch(commands: list[Words], vmid: int, stream_of: Any, submit: Any, check: Any) -> int:
    submit(tuple(invalidate.convert(words, vmid, stream_of, check) for words in commands))
    return len(commands)


physical, attach = vste.physical, Iommufd.attach
NOTHING: Callable[..., None] = lambda *arguments, **named: None  # noqa: E731
WRONG: dict[str, tuple[list[Patch], set[str]]] = {
    "the driver forgets to invalidate": ([(guest, "invalidation", no_invalidation)], {"freed", "range"}),
    "every event goes to the guest as it is": ([(HostSmmu, "_report", stream_id_as_it_is)], {"event-guest", "event-host", "event-kinds"}),
    "the kernel does not merge": ([(vste, "physical", without_mev)], {"event-flood"}),
    "a full vEVENTQ takes more": ([(Veventq, "report", never_full)], {"event-flood"}),
    "QEMU's reset does nothing": ([(Vsmmu, "reset", NOTHING)], {"reset-atc"}),
    "an unplug leaves the vDEVICE": ([(Iommufd, "free_vdevice", NOTHING)], {"unplug", "replug"}),
    "an unplug leaves the group attached": ([(Iommufd, "detach", NOTHING)], {"unplug"}),
    "the kernel turns ATS on unasked": ([(Iommufd, "attach", ats_always)], {"ats-off", "reset-atc"}),
    "a batch goes whole or not at all": ([(invalidate, "issue", one_batch)], {"batch"}),
    "a guest's own queue takes no ATC invalidation": ([(cmdqv, "ALLOWED", (Op.TLBI_NH_ASID, Op.TLBI_NH_VA, Op.SYNC))], {"cmdqv"}),
    "every opcode passes": ([(invalidate, "ALLOWED", frozenset(Op)), (invalidate, "TLBI", frozenset(Op))], {"forbidden-commands"}),
}


def gpu() -> Plan:
    return plan(vm("gpu", GPU, ats="on", ssidsize=20, oas=48, cmdqv="on"), on="gb200")


@pytest.mark.parametrize("name", WRONG)
def test_the_scenario_that_is_about_it_fails(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    patches, scenarios = WRONG[name]
    for target, attribute, value in patches:
        monkeypatch.setattr(target, attribute, value)
    report = dry_run(gpu(), host("gb200"))
    failed = {cell.scenario: cell for cell in report.failures()}
    assert scenarios <= failed.keys()
    assert all(failed[scenario].trace for scenario in scenarios)


def test_two_vms_on_one_smmu_with_one_vmid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostSmmu, "take_vmid", lambda own: 1)
    report = dry_run(plan(vm("web", NVME), vm("db", VF)), host())
    assert {"vmid", "other-vm-vmid", "isolation"} <= {cell.scenario for cell in report.failures()}


def test_an_invalidation_that_takes_the_entries_of_other_vms(monkeypatch: pytest.MonkeyPatch) -> None:
    submit = HostSmmu.submit

    def all_of_it(own: HostSmmu, commands: Iterable[Words]) -> None:
        submit(own, commands)
        if own.smmu.tlb is not None:
            own.smmu.tlb.clear()

    monkeypatch.setattr(HostSmmu, "submit", all_of_it)
    report = dry_run(plan(vm("web", NVME), vm("db", VF)), host())
    cell = report.cell(NVME, "other-vm-vmid")
    assert cell is not None
    assert (cell.status, cell.text) == (Status.FAILED, "CMD_TLBI_NSNH_ALL of this VM took an entry of VM db")


def test_two_vsmmus_that_do_not_share_their_vmid_would_show() -> None:
    """The other way round: on Linux 7.2 they do, so that the same ASID is hit across them."""
    report = dry_run(plan(vm("web", VF, SECOND_VF, layout=Layout.PER_FUNCTION)), host())
    assert {cell.status for cell in report.cells if cell.scenario == "same-asid"} == {Status.PASSED}
