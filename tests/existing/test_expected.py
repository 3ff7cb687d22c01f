"""VMs of others, whole: what each must be said of it, held on a recorded host (expected.tsv: found with QEMU 11.1 and libvirt 12.8)."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace

from tests.tools.hosts import host
from tests.tools.samples import ASSUMED, DATA, ROWS
from wizard.base.finding import Finding, Severity
from wizard.existing.load import Opened, open_vms
from wizard.plan.model import Plan
from wizard.plan.planner import make_plan
from wizard.plan.request import Request


def opened(name: str) -> Opened:
    (vm,) = open_vms(str(DATA / name))
    return vm


def checked(name: str) -> tuple[Opened, Plan, list[Finding]]:
    vm, on = opened(name), ROWS[name]["host"]
    request = replace(vm.request, assume_accel=on in ASSUMED)
    plan = make_plan(host(on), Request(vms=(request,)))
    return vm, plan, [*vm.findings, *plan.findings]


@pytest.mark.parametrize("name", ROWS)
def test_what_must_be_said(name: str) -> None:
    wanted = ROWS[name]["must appear"]
    vm, plan, findings = checked(name)
    errors = {finding.code for finding in findings if finding.severity is Severity.ERROR}
    codes = {finding.code for finding in findings}
    said = " ".join(finding.what for finding in vm.findings)
    if wanted.startswith("fine"):
        assert not errors, [finding.what for finding in findings if finding.severity is Severity.ERROR]
    else:
        assert set(re.findall(r"NEW:([a-z-]+)|^([a-z-]+-[a-z-]+)", wanted)[0]) - {""} <= errors
    for code in re.findall(r"(?<=; )[a-z]+(?:-[a-z]+){2,}", wanted):
        assert code in codes
    for word in ("cputune", "locked", "qemu:commandline", "graphics", "hostfwd", "fw_cfg", "$EXTRA") if "said:" in wanted else ():
        if word in wanted.partition("said:")[2]:
            assert word in said
    assert plan.vms[0].name == ROWS[name]["VM"]


@pytest.mark.parametrize("name", [name for name in ROWS if name.startswith("xml/")])
def test_domain(name: str) -> None:
    """Functions, vSMMUs, memory and processors of every domain; the command lines are held in test_samples.py."""
    row = ROWS[name]
    request = opened(name).request
    functions = ", ".join(f"{one.host}{'' if one.iommufd else ' legacy'} on {one.port}" for one in request.functions)
    assert functions == row["functions"]
    names = ("ats", "ril", "ssidsize", "oas", "cmdqv")
    vsmmus = "; ".join(
        f"{one.id}@{one.bus} {one.bus_nr}: {'accel' if one.accel else 'emulated'} "
        + " ".join(f"{name}={value}" for name in names if (value := one.properties.of(name)) != "auto")
        for one in request.vsmmus
    )
    wanted = row["vSMMUs (id@bus bus_nr: properties)"]
    if wanted == "machine-wide iommu=smmuv3":
        assert (request.machine.iommu, vsmmus) == ("smmuv3", "")
    else:
        assert vsmmus == wanted.replace("none", "")
    assert request.memory == int(row["memory"].removesuffix("M")) << 20
    assert request.cpus == int(row["cpus"])
