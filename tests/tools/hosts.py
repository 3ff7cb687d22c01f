"""Recorded hosts, the same with one fact changed, and plans on them: for every room's tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from msgspec.structs import replace

from tests.tools.cache import PROJECT
from wizard.facts.model import Facts, HwInfo, Program
from wizard.facts.snapshot import load
from wizard.host.build import host_of
from wizard.host.model import Host
from wizard.plan.model import Plan, VmPlan
from wizard.plan.planner import make_plan
from wizard.plan.request import FunctionRequest, Request, VmRequest

FIXTURES = PROJECT / "fixtures"

NVME = "0000:14:00.0"  # behind the first SMMU
PF, VF0, VF1 = "0000:11:00.0", "0000:11:10.0", "0000:11:10.2"  # the same; VF1 is the PF's second
E1000E, VIRTIO = "0000:41:00.0", "0000:42:00.0"  # behind the second
PAIR = ("0000:81:00.0", "0000:81:00.1")  # two functions of one group, behind the third
SMMU1, SMMU2, SMMU3 = "smmu3.0x000000000c000000", "smmu3.0x000000000c020000", "smmu3.0x000000000c040000"


@cache
def facts(name: str) -> Facts:
    """The facts of a fixture."""
    return load(str(FIXTURES / f"{name}.json"))


@cache
def host(name: str = "arm64-virt-canwbs") -> Host:
    """A recorded host as it is."""
    return host_of(facts(name))


def changed(change: Callable[[Facts], Facts] | None = None, name: str = "arm64-virt-canwbs", **values: Any) -> Host:
    """A recorded host with facts replaced."""
    found = replace(facts(name), **values)
    return host_of(change(found) if change else found)


def with_function(address: str, name: str = "arm64-virt-canwbs", **values: Any) -> Host:
    """A recorded host with facts of one function replaced."""
    old = facts(name)
    return changed(name=name, functions=tuple(replace(f, **values) if f.address == address else f for f in old.functions))


def with_registers(change: Callable[[list[int]], None], name: str = "arm64-virt-canwbs", **values: Any) -> Host:
    """A recorded host whose SMMUs have other ID registers (words IDR0 to IDR5, in place), and other facts of the probe."""

    def one(info: HwInfo) -> HwInfo:
        if info.data is None:
            return info
        raw = bytearray.fromhex(info.data)
        words = [int.from_bytes(raw[at : at + 4], "little") for at in range(8, 32, 4)]
        change(words)
        for place, word in enumerate(words):
            raw[8 + 4 * place : 12 + 4 * place] = word.to_bytes(4, "little")
        return replace(info, data=raw.hex(), **values)

    old = facts(name)
    return changed(name=name, hw_info=tuple(one(info) for info in old.hw_info))


def qemu_program(version: str, **properties: dict[str, str | None]) -> Program:
    """An installed QEMU that names these properties."""
    named = {driver.replace("_", "-"): defaults for driver, defaults in properties.items()}
    return Program(name="qemu", path="/usr/bin/qemu-system-aarch64", version=version, properties=named)


def vm(*functions: str | FunctionRequest, name: str = "db1", **values: Any) -> VmRequest:
    """A request for one VM."""
    asked = tuple(one if isinstance(one, FunctionRequest) else FunctionRequest(host=one) for one in functions)
    return VmRequest(name=name, functions=asked, **values)


def plan(*vms: VmRequest, on: Host | None = None, **values: Any) -> Plan:
    """A plan on the recorded host that nests."""
    return make_plan(on or host(), Request(vms=vms, **values))


def planned(*functions: str | FunctionRequest, on: Host | None = None, **values: Any) -> VmPlan:
    """One planned VM."""
    return plan(vm(*functions, **values), on=on).vms[0]


def codes(found: Plan | VmPlan) -> set[str]:
    """The codes of what was found."""
    return {finding.code for finding in found.findings}
