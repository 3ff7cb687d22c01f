"""On which side of Linux 7.3 a host is: whether a guest's commands are checked field by field."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from wizard.base.finding import Finding
from wizard.host.build import host_of
from wizard.host.doctor import diagnose
from wizard.host.model import Host

Hosts = Callable[[str], Host]


def under(host: Host, release: str) -> Host:
    return host_of(msgspec.structs.replace(host.facts, kernel=msgspec.structs.replace(host.facts.kernel, release=release)))


def said(host: Host) -> list[Finding]:
    items = [item.finding for area in diagnose(host).areas for item in area.findings]
    return [finding for finding in items if finding.code.startswith("guest-commands-")]


@pytest.mark.parametrize(
    ("release", "side"),
    [
        ("7.3.4-armhost", "checked"),
        ("7.3.0", "checked"),
        ("7.4.0-rc1", "checked"),
        ("7.10.2-arm64", "checked"),
        ("8.0.0", "checked"),
        ("7.2.13-armhost", "unchecked"),
        ("7.2.0-rc7", "unchecked"),
        ("6.8.0-1030-nvidia-64k", "unchecked"),
        ("7.3.0-rc2", "unknown"),
        ("7.3-rc1", "unknown"),
        ("7.3~rc2-arm64", "unknown"),
        ("7.3.0-0.rc2.15.fc45.aarch64", "unknown"),
        ("7.3.0-070300rc2-generic", "unknown"),
        ("7.3.5-rc1", "checked"),
        ("", "unknown"),
        ("mine", "unknown"),
    ],
)
def test_doctor_says_on_which_side_the_host_is(host: Hosts, release: str, side: str) -> None:
    """Once, by the release's name: Linux 7.2.13 and 7.3.4 were asked, a candidate may have been cut before the change."""
    (finding,) = said(under(host("arm64-virt-canwbs"), release))
    assert finding.code == f"guest-commands-{side}"
    assert release in finding.what
    assert "share" in finding.why  # what it means where functions of one SMMU go to several tenants


@pytest.mark.parametrize("name", ["arm64-virt", "x86-intel", "thunderx2", "altra-no-cohacc"])
def test_not_where_no_guest_has_commands_to_send(host: Hosts, name: str) -> None:
    """Every function's acceleration is a no there (neither CANWBS nor S2FWB, another IOMMU, …)."""
    made = under(host(name), "7.2.13")
    assert all(function.is_bridge or made.verdict(address).accel == "no" for address, function in made.functions.items())
    assert said(made) == []
