"""What the emulated arm64 host said of failures that were provoked there: jobs/failures.sh made the logs (QEMU 11.1.2, Linux 7.2.13)."""

from __future__ import annotations

from pathlib import Path

import pytest

from wizard.explain.report import explain

LOGS = Path(__file__).parent / "data/armhost"

# log -> the message that is its first cause, and the finding that is most likely behind it
CAUSES = {
    "ats": ("qemu-ats", "property-exceeds-host"),
    "auto": ("qemu-auto-cold", "auto-without-function"),
    "bind-wrong-driver": ("sysfs-write", "vfio-probe-failed"),
    "cmdqv": ("qemu-cmdqv", "cmdqv-unfit"),
    "emulated-endpoint": ("qemu-emulated-endpoint", "emulated-behind-accel"),
    "function-in-two": ("qemu-error-bind", "group-in-two-vms"),
    "group-alone": ("qemu-error-attach", "group-shared"),
    "group-pair": ("qemu-error-attach", "group-shared"),
    "memlock": ("qemu-dma-map", "memlock"),
    "module-missing": ("modprobe-missing", "kernel-lacks"),
    "new-id-twice": ("sysfs-write", ""),
    "no-canwbs": ("qemu-viommu-alloc", "no-canwbs"),
    "no-kvm": ("qemu-kvm-access", ""),
    "no-such-function": ("qemu-no-host-device", "unknown-function"),
    "not-bound": ("qemu-vfio-dev-directory", "not-on-vfio"),
    "oas": ("qemu-oas", "property-exceeds-host"),
    "permission-cdev": ("qemu-cdev-open", ""),
    "permission-iommu": ("qemu-cdev-open", ""),
    "ssidsize": ("qemu-ssidsize", "property-exceeds-host"),
    "two-smmus": ("qemu-gbpa", "smmus-joined"),
    "unbind-open": ("kernel-release-awaited", "release-awaited"),
    "vfs-change": ("sysfs-write", "pf-without-driver"),
    "vfs-too-many": ("sysfs-write", "vfs-live-too-few"),
    "without-accel": ("qemu-map-notifier", "vfio-behind-emulated"),
    "without-iommufd": ("qemu-without-iommufd", "vfio-without-iommufd"),
}


def test_every_log_has_its_cause() -> None:
    assert {path.stem for path in LOGS.glob("*.log")} == set(CAUSES)


@pytest.mark.parametrize("name", CAUSES)
def test_the_first_cause_is_the_one_that_was_provoked(name: str) -> None:
    with (LOGS / f"{name}.log").open("rb") as stream:
        found = explain(stream)
    assert found.first is not None
    first = found.messages[found.first]
    assert (first.id, first.causes[0].finding) == CAUSES[name]


def test_what_a_guest_s_smmu_says_of_one_command_is_one_story() -> None:
    """The time-out and GERROR are printed before the command's own error, and follow from it; a BAR that can't be mapped is no fault."""
    with (LOGS / "group-alone.log").open("rb") as stream:
        found = explain(stream)
    by_id = {one.id: (one.role, found.messages[one.of].id if one.of is not None else None) for one in found.messages}
    assert by_id["kernel-smmu-commands-stuck"] == ("follows", "kernel-smmu-command-illegal")
    assert by_id["kernel-smmu-global-error"] == ("follows", "kernel-smmu-command-illegal")
    assert by_id["qemu-dma-map-bar"][0] == "harmless"
