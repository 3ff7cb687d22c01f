"""Forty root ports on one pxb-pcie, eight of them further functions of a slot: what the installed QEMU says, and where UEFI puts their buses."""

from __future__ import annotations

import pytest

from tests.tools.hosts import crowd, planned
from tests.tools.qemu import require_firmware, require_qemu
from wizard.rehearsal.qemu import rehearse

pytestmark = pytest.mark.qemu
COUNT = 40


def test_qemu_and_firmware_have_every_function_where_the_plan_says() -> None:
    on, names = crowd(COUNT)
    made = planned(*names, on=on, assume_accel=True)
    report = rehearse(made, str(require_qemu()), firmware=require_firmware())
    checks = [check for check in report.checks if check.subject.endswith("guest address")]
    assert len(checks) == COUNT
    assert report.ok
