"""Held against a host and a plan: a cause holds by a finding, is ruled out by what was read, and is not known where nothing was."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from tests.tools.cache import PROJECT
from wizard.explain.judge import judge_of
from wizard.explain.messages import every
from wizard.explain.report import CauseView, MessageView, explain
from wizard.facts.snapshot import load
from wizard.host.build import host_of
from wizard.host.model import Host
from wizard.plan.planner import make_plan
from wizard.plan.request import FunctionRequest, Request, VmRequest
from wizard.profile import read_profile, write_profile

VIOMMU = "vfio 0000:14:00.0: IOMMU_VIOMMU_ALLOC failed: Operation not supported"


def host(name: str) -> Host:
    return host_of(load(str(PROJECT / "fixtures" / f"{name}.json")))


def message(text: str, on: Host, request: Request | None = None) -> MessageView:
    judge = judge_of(on, make_plan(on, request) if request else None, "a fixture")
    found = explain(io.BytesIO(text.encode()), judge)
    assert found.first is not None
    return found.messages[found.first]


def states(text: str, on: Host, request: Request | None = None) -> dict[str, CauseView]:
    return {cause.finding: cause for cause in message(text, on, request).causes}


def test_a_refused_viommu_is_held_against_canwbs() -> None:
    """The same message on two hosts that differ in nothing but the firmware's CANWBS."""
    refused = states(VIOMMU, host("arm64-virt"))
    assert refused["no-canwbs"].state == "holds"
    assert "0000:14:00.0" in refused["no-canwbs"].by
    made = states(VIOMMU, host("arm64-virt-canwbs"))
    assert made["no-canwbs"].state == "ruled out"
    assert "CANWBS is yes" in made["no-canwbs"].by


def test_the_cause_that_holds_comes_first() -> None:
    causes = message(VIOMMU, host("arm64-virt")).causes
    assert [cause.state for cause in causes] == sorted((cause.state for cause in causes), key=["holds", "not known", "ruled out"].index)


def test_a_group_and_a_reserved_region_are_looked_up() -> None:
    attach = "[iommufd=24] error attach {} (26) pasid 0 to id=9: Invalid argument"
    alone = states(attach.format("0000:14:00.0"), host("arm64-virt-canwbs"))
    assert alone["group-shared"].state == "ruled out"
    assert "has 0000:14:00.0 alone" in alone["group-shared"].by
    gpu = host("gb10")
    address = next(
        str(function) for function in gpu.functions.values() if any(found.code == "direct-region" for found in gpu.verdict(str(function)).found)
    )
    assert states(attach.format(address), gpu)["direct-region"].state == "holds"


def test_a_function_that_is_not_there() -> None:
    text = "vfio /sys/bus/pci/devices/0000:99:00.0: no such host device: No such file or directory"
    gone = states(text, host("arm64-virt-canwbs"))["unknown-function"]
    assert gone.state == "not known"  # the path is no address
    bind = states("Failed to bind PCI device '0000:99:00.0' to vfio-pci: Device or resource busy", host("arm64-virt-canwbs"))
    assert all(cause.state == "not known" and "no function 0000:99:00.0" in cause.by for cause in bind.values())


def test_what_was_not_read_is_not_ruled_out() -> None:
    """A snapshot whose IORT nobody read knows nothing of CANWBS."""
    import msgspec

    facts = load(str(PROJECT / "fixtures" / "arm64-virt.json"))
    acpi = {name: table for name, table in facts.acpi.items() if name != "IORT"}
    infos = tuple(msgspec.structs.replace(info, viommu=None) for info in facts.hw_info)
    without = host_of(msgspec.structs.replace(facts, acpi=acpi, hw_info=infos))
    assert states(VIOMMU, without)["no-canwbs"].state == "not known"


def test_a_plan_is_asked_where_a_profile_was_given(tmp_path: Path) -> None:
    on = host("arm64-virt-canwbs")
    text = "Host SMMUv3 SSIDSIZE not compatible (host=16, QEMU=20)"
    assert states(text, on)["property-exceeds-host"].state == "not known"
    assert "--profile" in states(text, on)["property-exceeds-host"].by
    fine = Request(vms=(VmRequest(name="web", functions=(FunctionRequest(host="0000:14:00.0"),)),))
    assert states(text, on, fine)["property-exceeds-host"].state == "ruled out"
    profile = tmp_path / "web.toml"
    profile.write_text(write_profile(make_plan(on, fine).vms[0], on))
    assert "ssidsize" in profile.read_text()
    profile.write_text("\n".join("ssidsize = 20" if line.startswith("ssidsize") else line for line in profile.read_text().split("\n")))
    request, _ = read_profile(profile)
    held = states(text, on, Request(vms=(request,), files={request.name: str(profile)}))["property-exceeds-host"]
    assert held.state == "holds"
    assert "ssidsize=20" in held.by


def test_addresses_are_named_as_host_and_guest_know_them() -> None:
    on = host("arm64-virt-canwbs")
    request = Request(vms=(VmRequest(name="web", functions=(FunctionRequest(host="0000:14:00.0"),)),))
    device = make_plan(on, request).vms[0].devices[0]
    guest = f"arm-smmu-v3 arm-smmu-v3.0.auto: event: F_TRANSLATION client: {device.guest} sid: {device.vsid:#x} ssid: 0x0 iova: 0x8001000 ipa: 0x0"
    parts = {part.name: part.means for part in message(guest, on, request).parts}
    assert parts["stream"] == f"0000:14:00.0 of VM web (its StreamID in the guest {device.vsid:#x})".replace(f" {device.vsid:#x})", ")")
    assert "window for MSIs" in parts["address"]
    own = f"[iommufd=24] error attach {device.guest} (26) to id=9: Invalid argument"
    assert "0000:14:00.0 of the host" in {part.name: part.means for part in message(own, on, request).parts}["function"]


@pytest.mark.parametrize("name", sorted(path.stem for path in (PROJECT / "fixtures").glob("*.json")))
def test_every_host_can_be_asked(name: str) -> None:
    on = host(name)
    for text in (VIOMMU, "cannot open /dev/vfio/devices/vfio0: No such file or directory", "group 12 is not viable"):
        assert {cause.state for cause in message(text, on).causes} <= {"holds", "not known", "ruled out"}


OF_ACPI = ("kernel-iort-", "kernel-rmr-bypass")  # a kernel prints them that has an IORT
OF_GUESTS = ("guest-needs",)  # a guest has ACPI, whatever its host has


def test_no_cause_speaks_of_acpi_to_a_host_with_a_device_tree() -> None:
    """Such a host has no IORT to update, and no RMR in it."""
    causes = [cause for one in every() if not one.id.startswith(OF_ACPI) for cause in one.causes if cause.code not in OF_GUESTS]
    said = {(cause.code, text) for cause in causes for text in cause.told(tree=True) if re.search(r"\bIORT(?! alone)\b|COHACC|\bRMR\b", text)}
    assert not said


def test_a_host_with_a_device_tree_is_told_of_its_device_tree() -> None:
    on_tree, on_acpi = (states(VIOMMU, host(name))["no-canwbs"] for name in ("arm64-dt", "arm64-virt"))
    assert "A device tree can't say" in on_tree.because
    assert "firmware" not in on_tree.fix
    assert "update the firmware" in on_acpi.fix
