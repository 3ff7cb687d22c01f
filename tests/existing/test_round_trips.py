"""Export -> import -> the same plan: nothing that an export writes is lost on the way back, in any format."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from msgspec import json
from msgspec.structs import replace

from tests.tools.hosts import FIXTURES, host, planned
from tests.tools.requests import SETS, requests, without_contradiction
from wizard.existing.load import read_vms
from wizard.export.libvirt import libvirt_xml
from wizard.export.qemu import qemu_json, qemu_script
from wizard.host.model import Host
from wizard.plan.model import VmPlan
from wizard.plan.planner import make_plan
from wizard.plan.request import FunctionRequest, Mode, NodeRequest, Request, VmRequest

FORMATS = {"qemu": qemu_script, "qemu-json": qemu_json, "libvirt": libvirt_xml}
NOT_WRITTEN = {"request", "findings", "notes", "made_for", "emulator", "qemu", "user"}
"""What no export has: whom the plan was made for, and what was found."""


def guest_of(vm: VmPlan, form: str) -> dict[str, Any]:
    """The plan as the guest sees it, and the host's side of it."""
    found: dict[str, Any] = {name: value for name, value in json.decode(json.encode(vm)).items() if name not in NOT_WRITTEN}
    if not found["vsmmus"] and found["mode"] == "accel":
        found["mode"] = "none"  # without a function there is no vSMMU either way
    for port in found["ports"]:
        # Which functions may be plugged, and in which order the profile lists the ports, is the profile's own.
        port.pop("candidates")
        port.pop("place")
    for vsmmu in found["vsmmus"]:
        vsmmu.pop("smmu") if not any(device["vsmmu"] == vsmmu["id"] for device in found["devices"]) else None
        for name in ("ats", "ril", "ssidsize", "oas", "cmdqv"):
            # auto is written out or left out; a value is known from the request now, not from the host.
            vsmmu[name] = None if vsmmu[name]["written"] in ("auto", None) else vsmmu[name]["written"]
    for bus in found["buses"]:
        bus.pop("host_node")
    for device in found["devices"]:
        device.pop("driver")
    if form != "libvirt" and found["firmware"]:
        found["firmware"].pop("vars_template")  # QEMU opens the copy
    found["qmp"] = None if form == "libvirt" else found["qmp"]
    if form == "libvirt":
        _renamed(found)
    return found


def _renamed(found: dict[str, Any]) -> None:
    """In the order of their numbers in place of names: libvirt calls a controller pci.N, a function hostdevN, a vSMMU iommuN."""
    names: dict[str | None, str] = {"pcie.0": "pcie.0"}
    for kind in ("buses", "ports", "vsmmus", "devices", "disks", "networks"):
        found[kind].sort(key=lambda one: str(one.get("bus_nr", one.get("chassis", ""))).zfill(3) if kind in ("buses", "ports") else "")
        for place, one in enumerate(found[kind]):
            names[one["id"]] = f"{kind}{place}"
    for one in (one for kind in ("buses", "ports", "vsmmus", "devices", "disks", "networks") for one in found[kind]):
        for name in ("id", "bus", "port", "vsmmu"):
            if name in one and isinstance(one[name], str):
                one[name] = names.get(one[name], one[name])
    for node in found["memory"]["nodes"]:
        node["initiator"] = names.get(node["initiator"], node["initiator"])


def again(vm: VmPlan, form: str, on: Host) -> VmPlan:
    text = FORMATS[form](vm)
    (back,) = read_vms(text.encode(), "vm")
    wrong = [finding.what for finding in back.findings if finding.severity != "info"]
    assert not wrong
    asked = replace(back.request, assume_accel=vm.request.assume_accel, user=vm.user, target=vm.request.target)
    return make_plan(on, Request(vms=(asked,))).vms[0]


def same(vm: VmPlan, form: str, on: Host) -> None:
    back = again(vm, form, on)
    assert guest_of(back, form) == guest_of(vm, form)
    # Which functions may be plugged is in no export: only of a plan with errors that may add one.
    assert back.ok or vm.errors, [finding.what for finding in back.errors]


@pytest.mark.parametrize("form", FORMATS)
def test_every_set(form: str) -> None:
    """The sets that cover what plans are made of, and four Grace GPUs with their nodes."""
    for name, request in SETS.items():
        vm = make_plan(host(), Request(vms=(replace(request, name=name.replace("-", " ")),))).vms[0]
        same(vm, form, host())
    gpus = [f"00{segment}:01:00.0" for segment in ("08", "09", "18", "19")]
    nodes: tuple[NodeRequest, ...] = (NodeRequest(memory=4 << 30, cpus="0-1"), NodeRequest(memory=4 << 30, cpus="2-3"))
    nodes += tuple(NodeRequest(memory=0, initiator=f"dev{n}") for n in range(4) for _ in range(8))
    same(planned(*gpus, on=host("gb200"), assume_accel=True, memory=8 << 30, cpus=4, numa=nodes), form, host("gb200"))


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.json")), ids=lambda path: path.stem)
def test_every_fixture(path: Any) -> None:
    """One function of each host that can be given to a VM at all, in each format."""
    on = host(path.stem)
    found = 0
    for address, function in on.functions.items():
        if function.is_bridge or found >= 3:
            continue
        for mode in (Mode.ACCEL, Mode.NONE):
            vm = planned(FunctionRequest(host=str(address)), on=on, mode=mode, assume_accel=True)
            if not vm.errors:
                found += 1
                for form in FORMATS:
                    same(vm, form, on)


@settings(max_examples=300, deadline=None)
@given(requests)
def test_random_plans(request: VmRequest) -> None:
    vm = make_plan(host(), Request(vms=(without_contradiction(request),))).vms[0]
    for form in FORMATS:
        same(vm, form, host())
