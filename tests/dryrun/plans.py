"""Plans and hosts for the tests of the dry run."""

from __future__ import annotations

from functools import cache

from tests.tools.hosts import host
from wizard.plan.model import Plan
from wizard.plan.planner import make_plan
from wizard.plan.properties import Properties
from wizard.plan.request import FunctionRequest, Layout, Mode, Request, VmRequest

NVME, NIC, VF, SECOND_VF = "0000:14:00.0", "0000:41:00.0", "0000:11:10.0", "0000:11:10.2"


def vm(
    name: str, *functions: str, memory: int = 1 << 30, mode: Mode = Mode.ACCEL, layout: Layout = Layout.PER_SMMU, **properties: object
) -> VmRequest:
    return VmRequest(
        name=name, functions=tuple(FunctionRequest(host=f) for f in functions), memory=memory, mode=mode, layout=layout, assume_accel=True,
        properties=Properties(**properties),  # type: ignore[arg-type]
    )  # fmt: skip


def plan(*vms: VmRequest, on: str = "arm64-virt-canwbs") -> Plan:
    return make_plan(host(on), Request(vms=vms))


@cache
def two_vms() -> Plan:
    return plan(vm("web", NVME, NIC), vm("db", VF))
