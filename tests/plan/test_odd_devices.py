"""Three devices of the recorded host that no VM may have, whatever mode is asked for: three explanations, and no way round."""

from __future__ import annotations

import pytest

from tests.tools import hosts
from wizard.base.finding import Severity
from wizard.plan.request import Mode

ODD = {
    "0000:83:02.0": "its StreamID is an alias that 0000:83:01.0 took first",
    "0000:83:01.0": "shares its StreamID 0x8300 with 0000:83:02.0",
    "0000:00:01.0": "has no SMMU above it",
}


@pytest.mark.parametrize("recorded", ["arm64-virt", "arm64-virt-canwbs", "vfio-arm64-virt", "vfio-arm64-virt-canwbs"])
@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("address", ODD)
def test_no_mode_gives_it_away(recorded: str, mode: Mode, address: str) -> None:
    made = hosts.plan(hosts.vm(address, mode=mode), on=hosts.host(recorded))
    errors = [finding for finding in (*made.findings, *made.vms[0].findings) if finding.severity is Severity.ERROR]
    assert not made.ok
    assert any(ODD[address] in finding.what for finding in errors)
    # What can't be given away at all is not offered another way.
    assert not any("--fall-back" in finding.fix or "Give the whole group" in finding.fix for finding in errors)


@pytest.mark.parametrize("address", ODD)
def test_nor_does_a_fall_back(address: str) -> None:
    assert not hosts.plan(hosts.vm(address, mode=Mode.ACCEL, fall_back=True)).ok
