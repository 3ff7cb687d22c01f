"""A plan's command line, read again, is the same plan: every fixture's kind of VM, random ones, shell and JSON."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, assume, given, settings

from tests.tools.hosts import host, plan
from tests.tools.requests import NASTY, SETS, free, planned_ok, requests, without_contradiction
from wizard.base.finding import Severity
from wizard.existing.load import Opened, read_vms
from wizard.export.qemu import qemu_argv, qemu_json, qemu_script
from wizard.plan.model import VmPlan
from wizard.plan.planner import make_plan
from wizard.plan.request import DiskRequest, FirmwareRequest, Request, VmRequest

_SLASHES = re.compile("/+")
FORMATS = {"vm.sh": qemu_script, "vm.json": qemu_json}


def again(text: str, name: str) -> Opened:
    (found,) = read_vms(text.encode(errors="surrogateescape"), name)
    return found


def same(made: VmPlan, name: str) -> None:
    """The plan that comes of the export: the same words, in the same order, and nothing that was not understood."""
    text = FORMATS[name](made)
    found = again(text, name)
    wrong = [finding.what for finding in found.findings if finding.severity is not Severity.INFO]
    assert wrong == [], text
    other = make_plan(host(), Request(vms=(found.request,))).vms[0]
    assert qemu_argv(other) == qemu_argv(made)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kind", SETS)
def test_every_kind(kind: str, name: str) -> None:
    same(planned_ok(SETS[kind]), name)


@given(requests.map(without_contradiction))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_random(request: VmRequest) -> None:
    made = plan(request).vms[0]
    assume(made.ok)
    for name in FORMATS:
        same(made, name)


@given(free, free)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_paths(disk: str, code: str) -> None:
    """Whatever a path holds comes back as it was; several slashes are one."""
    request = VmRequest(name="a", disks=(DiskRequest(path=f"/{disk}"),), firmware=FirmwareRequest(code=f"/{code}", vars="/v"))
    made = plan(request).vms[0]
    for name in FORMATS:
        found = again(FORMATS[name](made), name).request
        assert [one.path for one in found.disks] == [_SLASHES.sub("/", f"/{disk}")]
        assert found.firmware is not None
        assert (found.firmware.code, found.firmware.vars) == (_SLASHES.sub("/", f"/{code}"), "/v")


@pytest.mark.parametrize("text", NASTY)
def test_nasty(text: str) -> None:
    made = plan(VmRequest(name="a", disks=(DiskRequest(path=f"/{text}", format="qcow2", readonly=True),))).vms[0]
    for name in FORMATS:
        (disk,) = again(FORMATS[name](made), name).request.disks
        assert (disk.path, disk.format, disk.readonly) == (f"/{text}", "qcow2", True)
