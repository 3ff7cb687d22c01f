"""One cause is one error: what follows from another finding of the same plan is not told beside it."""

from __future__ import annotations

import pytest

from tests.tools.hosts import E1000E, NVME, PAIR, SMMU1, SMMU2, VF0, changed, cmdqv, host, plan, vm
from wizard.host.model import Host
from wizard.plan.properties import Properties
from wizard.plan.request import HotplugRequest, Mode, NetworkRequest, VmRequest, VsmmuRequest

LATER = (HotplugRequest(functions=(VF0,)),)
SAME_BUS = (VsmmuRequest(id="s1", smmu=SMMU1, bus="b", bus_nr=8), VsmmuRequest(id="s2", smmu=SMMU2, bus="b"))
BESIDE = (VsmmuRequest(id="s", smmu=SMMU1, bus="pcie.0"),)


@pytest.mark.parametrize(
    ("code", "vms"),
    [
        ("property-value", [vm(NVME, properties=Properties(oas=64))]),  # no host has it, and this one has 44
        ("property-value", [vm(NVME, hotplug=LATER, properties=Properties(ssidsize=21))]),
        ("property-exceeds-host", [vm(NVME, hotplug=LATER, properties=Properties(oas=48))]),  # and so does what is plugged later
        ("hotplug-property", [vm(hotplug=LATER, properties=Properties(oas=48))]),  # the VM starts: only the plugging fails
        ("group-shared-accelerated", [vm(PAIR[0])]),  # and the verdict is no
        ("group-in-two-vms", [vm(PAIR[0], mode=Mode.NONE), vm(PAIR[1], name="web", mode=Mode.NONE)]),  # and neither has it whole
        ("two-kinds-of-viommu", [vm(NVME, mode=Mode.VIRTIO_IOMMU, vsmmus=(VsmmuRequest(id="s"),))]),
        ("two-vsmmus-on-one-bus", [vm(NVME, E1000E, vsmmus=SAME_BUS)]),  # and so the same slots, ids and functions
        ("vsmmu-on-root-bus", [vm(NVME, vsmmus=BESIDE, networks=(NetworkRequest(),))]),  # the network is where it belongs
    ],
)
def test_one_error(code: str, vms: list[VmRequest]) -> None:
    assert {finding.code for finding in plan(*vms).errors} == {code}


@pytest.mark.parametrize(
    ("code", "asked"),
    [
        ("accel-not-known", vm(NVME, properties=Properties(ril="on", oas=44))),
        ("accel-not-known", vm(NVME, hotplug=LATER)),
        ("hotplug-not-accelerated", vm(hotplug=LATER)),
    ],
)
def test_registers_that_nobody_read_are_one_error(code: str, asked: VmRequest) -> None:
    """Whether the SMMU nests is not known, and so not what it has of any property."""
    errors = plan(asked, on=changed(hw_info=(), log=())).errors
    assert {finding.code for finding in errors} - {"hotplug-not-accelerated"} == {code} - {"hotplug-not-accelerated"}
    assert code in {finding.code for finding in errors}


def test_a_command_queue_that_does_not_fit_is_not_counted_too() -> None:
    few: Host = cmdqv(sids=0)
    assert {f.code for f in plan(vm(NVME, VF0, properties=Properties(cmdqv="on")), on=few).errors} == {"cmdqv-unfit"}


def test_what_is_missing_in_every_vm_is_still_told() -> None:
    """The same function twice, and its companion nowhere: two causes."""
    made = plan(vm(PAIR[0], mode=Mode.NONE), vm(PAIR[0], name="web", mode=Mode.NONE))
    assert {finding.code for finding in made.errors} == {"function-in-two-vms", "group-not-whole"}


def test_a_group_of_several_hides_no_other_no() -> None:
    """On a host that does not nest the pair has two reasons."""
    errors = plan(vm(PAIR[0]), on=host("arm64-virt")).errors
    assert {finding.code for finding in errors} == {"group-shared-accelerated", "accel-refused"}
    assert "group" not in next(finding.what for finding in errors if finding.code == "accel-refused")
