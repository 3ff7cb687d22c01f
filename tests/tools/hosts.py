"""Recorded hosts, the same with one fact changed, and plans on them: for every room's tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from msgspec.structs import replace

from tests.tools.cache import PROJECT
from wizard.facts.model import Facts, HwInfo, Node, Program
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


def more_memory(words: list[int]) -> None:
    """OAS 48 bits, 20 bits of SSID, ATS."""
    words[0] |= 1 << 10
    words[1] = (words[1] & ~(0x1F << 6)) | 20 << 6
    words[5] = (words[5] & ~7) | 5


def rich(**values: Any) -> Host:
    """The recorded host with more in its registers, and its log silent about it (the log would beat them)."""
    made = with_registers(more_memory, **values)
    return changed(hw_info=made.facts.hw_info, log=tuple(line for line in made.facts.log if "arm-smmu-v3" not in line))


def cmdqv(version: int = 1, vcmdqs: int = 1, sids: int = 4) -> Host:
    """The same with a CMDQV that iommufd knows: struct iommu_hw_info_tegra241_cmdqv."""
    raw = bytes([0, 0, 0, 0, version, vcmdqs, sids, 0]).hex()
    return rich(cmdqv=raw, viommu_cmdqv="ok")


def crowd(count: int) -> tuple[Host, list[str]]:
    """The recorded host with so many more functions like the NVMe behind the first SMMU, each in a group of its own, and their addresses."""
    old = facts("arm64-virt-canwbs")
    names = [f"0000:{0x20 + n // 32:02x}:{n % 32:02x}.0" for n in range(count)]
    model = next(f for f in old.functions if f.address == NVME)
    group = next(g for g in old.groups if NVME in g.devices)
    made = (replace(model, address=a, path=f"pci0000:10/0000:10:01.0/{a}", iommu_group=100 + n) for n, a in enumerate(names))
    groups = (replace(group, id=100 + n, devices=(a,)) for n, a in enumerate(names))
    iommus = tuple(replace(one, members=(*one.members, *names)) if one.name == SMMU1 else one for one in old.iommus)
    return changed(functions=(*old.functions, *made), groups=(*old.groups, *groups), iommus=iommus), names


def two_nodes(memory: int = 64 << 30) -> Host:
    """Two sockets; the first SMMU's functions are on node 1."""
    old = facts("arm64-virt-canwbs")
    nodes = (Node(id=0, cpus="0-7", memory=memory), Node(id=1, cpus="8-15", memory=memory))
    functions = tuple(replace(f, numa_node=1 if f.address.startswith(("0000:1", "0000:8")) else 0) for f in old.functions)
    return changed(nodes=nodes, functions=functions, memory_total=2 * memory, cpus=16)


def regions(address: str, text: str, *, besides: bool = True) -> Host:
    """Reserved regions of the group of one, beside those that it has."""
    old = facts("arm64-virt-canwbs")
    groups = tuple(
        replace(g, reserved_regions=((g.reserved_regions or "") if besides else "") + text) if address in g.devices else g for g in old.groups
    )
    return changed(groups=groups)


def kernel(page_size: int = 4096, **config: str) -> Host:
    """A kernel with other pages, or another configuration."""
    old = facts("arm64-virt-canwbs").kernel
    return changed(kernel=replace(old, page_size=page_size, config={**(old.config or {}), **config}))


def pools(**free: int) -> Host:
    """Free 2M hugepages of node 0, and 512 MiB of other memory."""
    return changed(lambda f: replace(f, moment=replace(f.moment, hugepages_free={"0": {"2048": free["pages"]}}, memory_available=512 << 20)))


def with_oas(code: int) -> Host:
    """Registers with another OAS, in a host whose log does not say it."""

    def change(words: list[int]) -> None:
        words[5] = (words[5] & ~7) | code

    made = with_registers(change)
    return changed(hw_info=made.facts.hw_info, log=tuple(line for line in made.facts.log if "oas" not in line))
