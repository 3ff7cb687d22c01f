"""VMs of others in a real QEMU, with UEFI: buses, slots and functions are where they were read to be, also what others put on the buses."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.tools.hosts import host
from tests.tools.qemu import require_firmware, require_qemu
from tests.tools.samples import DATA, ROWS
from wizard.existing.load import open_vms
from wizard.plan.planner import make_plan
from wizard.plan.request import Request
from wizard.rehearsal.qemu import rehearse


@pytest.mark.qemu
@pytest.mark.parametrize("name", ["qemu/roc.sh", "xml/one-417.xml", "xml/wren.xml"])
def test_firmware_numbers_the_buses_as_planned(name: str) -> None:
    """An expander of somebody's own, root ports that libvirt adds, functions on an expander without a vSMMU."""
    (vm,) = open_vms(str(DATA / name))
    small = replace(vm.request, assume_accel=True, memory=1 << 30, numa=(), hugepages=None)
    made = make_plan(host(ROWS[name]["host"]), Request(vms=(small,))).vms[0]
    assert made.others
    report = rehearse(made, str(require_qemu()), firmware=require_firmware())
    assert [check for check in report.checks if check.expected != check.found] == []
    assert any("bus range" in check.subject for check in report.checks)
