"""Paths and other texts of a profile come back from an exported command line as they were, in shell and in JSON."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings

from tests.tools.hosts import plan
from tests.tools.requests import NASTY, free
from wizard.existing.load import Opened, read_vms
from wizard.export.qemu import qemu_json, qemu_script
from wizard.plan.request import DiskRequest, FirmwareRequest, VmRequest

_SLASHES = re.compile("/+")
FORMATS = {"vm.sh": qemu_script, "vm.json": qemu_json}


def again(text: str, name: str) -> Opened:
    (found,) = read_vms(text.encode(errors="surrogateescape"), name)
    return found


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
