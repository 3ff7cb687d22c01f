"""Codes that have several sentences or several causes: each one of them, and the last value before it.

``test_rules.py`` has one plan for each code. Here a code meets what else leads to it, held whole as there (tests/tools/golden.py), and
the edges at which it begins.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.plan.test_rules import QEMU_11_1, with_ats
from tests.tools import golden
from tests.tools.hosts import (
    E1000E,
    NVME,
    PAIR,
    PF,
    SMMU1,
    VF0,
    VF1,
    changed,
    cmdqv,
    codes,
    facts,
    host,
    kernel,
    plan,
    planned,
    pools,
    regions,
    rich,
    two_nodes,
    vm,
)  # fmt: skip
from wizard.base.finding import Finding
from wizard.facts.model import InUse, Node
from wizard.host.model import Host
from wizard.plan.model import VmPlan
from wizard.plan.properties import Properties
from wizard.plan.request import (
    DiskRequest,
    FirmwareRequest,
    FunctionRequest,
    HotplugRequest,
    MachineRequest,
    MadeFor,
    Mode,
    NetworkRequest,
    NodeRequest,
    VmRequest,
    VsmmuRequest,
)
from wizard.plan.rules.guest import NAME_BYTES, SOCKET_BYTES

GOLDEN = Path(__file__).parent / "golden/variants.txt"
GIB = 1 << 30


def of(*functions: str | FunctionRequest, on: Callable[[], Host] = host, **values: Any) -> Callable[[], tuple[Finding, ...]]:
    """What one VM's plan finds."""
    return lambda: planned(*functions, on=on(), **values).findings


def among(*vms: VmRequest, on: Callable[[], Host] = host) -> Callable[[], tuple[Finding, ...]]:
    """What the plan of several finds."""
    return lambda: plan(*vms, on=on()).findings


def nodes(*sizes: tuple[int, str, int | None]) -> tuple[NodeRequest, ...]:
    return tuple(NodeRequest(memory=memory, cpus=cpus, host_node=node) for memory, cpus, node in sizes)


def memoryless() -> Host:
    """Node 1 of two has no memory."""
    return changed(nodes=(Node(id=0, cpus="0-7", memory=64 * GIB), Node(id=1, cpus="8-15", memory=0)), memory_total=64 * GIB, cpus=16)


def much(**values: Any) -> Host:
    """A host with room for everything."""
    return changed(lambda f: replace(f, moment=replace(f.moment, memory_available=1 << 50)), memory_total=1 << 50, cpus=1024, **values)


def unread() -> Host:
    """Nobody asked this host for registers, and its log is gone."""
    return changed(hw_info=(), log=())


GPU = "0008:01:00.0"
NEWER = "plan-needs-newer-qemu"
FIRMWARE = FirmwareRequest(code="/f", vars="/v")
# code: which of its cases
VARIANTS: dict[str, Callable[[], tuple[Finding, ...]]] = {
    f"{NEWER}: iommufd": of(NVME, mode=Mode.NONE, target="qemu=8.2"),
    f"{NEWER}: a virtio-iommu's granule": of(NVME, mode=Mode.VIRTIO_IOMMU, target="qemu=8.2"),
    f"{NEWER}: generic initiators": of(GPU, mode=Mode.NONE, target="qemu=8.2", on=lambda: host("gb200"),
                                       numa=(NodeRequest(memory=GIB, cpus="0-1"), NodeRequest(memory=0, initiator="dev0"))),
    f"{NEWER}: the MMIO window": of(NVME, mode=Mode.NONE, target="qemu=9.2", mmio_window=1 << 40),
    f"{NEWER}: accel": of(NVME, target="qemu=10.2"),
    f"{NEWER}: vSMMUs as devices": of(NVME, target="qemu=10.1"),
    f"{NEWER}: a property": of(NVME, target="qemu=11.0", properties=Properties(cmdqv="on"), on=cmdqv),
    f"{NEWER}: auto": of(NVME, target="qemu=11.0", properties=Properties(ril="auto")),
    f"{NEWER}: a function's ats": of(FunctionRequest(host=NVME, ats="off"), target="qemu=11.0"),
    "ats-trusts-the-device: of those that have it": lambda: planned(
        NVME, FunctionRequest(host=VF0), FunctionRequest(host=E1000E, mode=Mode.NONE), on=with_ats()).findings,
    "vm-name: empty": of(NVME, name=""),
    "vm-name: a dot in front": of(NVME, name=".a"),
    "vm-name: long": of(NVME, name="x" * (NAME_BYTES + 1)),
    "vm-name: a space at its end": of(NVME, name="a "),
    "user-name: empty": of(NVME, user=""),
    "path-impossible: empty": of(NVME, disks=(DiskRequest(path=""),)),
    "path-impossible: a zero byte": of(NVME, disks=(DiskRequest(path="/a\0b"),)),
    "path-impossible: not UTF-8": of(NVME, disks=(DiskRequest(path="/\udcff"),)),
    "path-impossible: long": of(NVME, disks=(DiskRequest(path="/" + "x" * 4095),)),
    "path-impossible: a directory": of(NVME, disks=(DiskRequest(path="/a/"),)),
    "path-impossible: the firmware": of(NVME, firmware=FirmwareRequest(code="f", vars="v", vars_template="t")),
    "path-impossible: the QMP socket": of(NVME, qmp="q"),
    "memory-impossible: more than there are addresses": of(NVME, memory=1 << 52, on=much),
    "memory-above-iova: by a MiB": of(NVME, mode=Mode.NONE, memory=(1 << 39) - GIB + (1 << 20), on=lambda: kernel(CONFIG_ARM64_VA_BITS="39")),
    "mmio-window-size: no power of two": of(NVME, mmio_window=768 * GIB),
    "bus-number: pcie.0's": of(NVME, vsmmus=(VsmmuRequest(id="s", smmu=SMMU1, bus_nr=0),)),
    "slot-range: of the host bridge": of(NVME, vsmmus=(VsmmuRequest(id="s", smmu=SMMU1, slot=0),)),
    "chassis-range: above": of(FunctionRequest(host=NVME, chassis=256)),
    "chassis-range: none": of(FunctionRequest(host=NVME, chassis=0)),
    "hotplug-reserve-range: below nothing": of(NVME, hotplug=(HotplugRequest(bus_reserve=-1),)),
    "guest-function-number: eight": of(FunctionRequest(host=NVME, port="p", function=0), FunctionRequest(host=VF0, port="p", function=8)),
    "guest-function-number: no first": of(FunctionRequest(host=NVME, port="p", function=1), FunctionRequest(host=VF0, port="p", function=2)),
    "guest-function-number: negative": of(FunctionRequest(host=NVME, port="p", function=-1), FunctionRequest(host=VF0, port="p", function=0)),
    "no-acpi: a virtio-iommu": of(NVME, mode=Mode.VIRTIO_IOMMU, machine=MachineRequest(acpi=False)),
    "mac-impossible: no MAC": of(NVME, networks=(NetworkRequest(mac="52:54"),)),
    "network-source: none is needed": of(NVME, networks=(NetworkRequest(kind="user", source="br0"),)),
    "network-source: no interface": of(NVME, networks=(NetworkRequest(kind="bridge", source="a/b"),)),
    "network-source: long": of(NVME, networks=(NetworkRequest(kind="bridge", source="x" * 16),)),
    "guest-needs: ATS, PASID, CMDQV": of(NVME, on=cmdqv),
    "gic-impossible: many CPUs": of(NVME, cpus=9, machine=MachineRequest(gic="2"), on=much),
    "gic-not-recommended: the host's": of(NVME, machine=MachineRequest(gic="host")),
    "memory-impossible: little": of(NVME, memory=32 << 20),
    "memory-impossible: parts": of(NVME, memory=GIB + 1),
    "memory-impossible: none": of(NVME, memory=0),
    "hugepage-parts: of a node": of(NVME, hugepages=2 << 20, memory=2 * GIB, cpus=2, on=much,
                                    numa=nodes((GIB - (1 << 20), "0", None), (GIB + (1 << 20), "1", None))),
    "hugepages-few: of a node": lambda: planned(NVME, hugepages=2 << 20, memory=2 * GIB, cpus=2, numa=nodes((GIB, "0", 0), (GIB, "1", None)),
                                                on=pools(pages=100)).findings,
    "numa-cpus: no list": of(NVME, numa=nodes((GIB, "x", None))),
    "numa-host-node: no memory": of(NVME, numa=nodes((GIB, "0-1", 1)), on=memoryless),
    "numa-host-node: less": of(NVME, memory=65 * GIB, numa=nodes((65 * GIB, "0-1", 0)), on=two_nodes),
    "numa-initiator: with memory": of(NVME, memory=2 * GIB, on=much,
                                      numa=(NodeRequest(memory=GIB, cpus="0-1"), NodeRequest(memory=GIB, initiator="dev0"))),
    "memory-over-host: one of two": among(vm(NVME, memory=4 * GIB), vm(E1000E, name="web")),
    "memory-over-free: beside hugepages": among(vm(NVME, hugepages=2 << 20), vm(E1000E, name="web"), on=lambda: pools(pages=512)),
    "memory-over-free: hugepages are free for one alone": among(
        vm(NVME, hugepages=2 << 20), vm(E1000E, name="web"), on=lambda: pools(pages=1024)),
    "hugepage-parts: nodes that hold nothing": of(NVME, hugepages=2 << 20, memory=GIB + (1 << 20), numa=nodes((0, "0-1", None)), on=much),
    "hugepages-few-together: of a node": among(
        vm(NVME, hugepages=2 << 20, numa=nodes((GIB, "0-1", 0))), vm(E1000E, name="web", hugepages=2 << 20, numa=nodes((GIB, "0-1", 0))),
        on=lambda: changed(lambda f: replace(f, moment=replace(f.moment, hugepages_free={"0": {"2048": 700}, "1": {"2048": 700}},
                                                               memory_available=1 << 40)),
                           nodes=(Node(id=0, cpus="0-7", memory=64 * GIB), Node(id=1, cpus="8-15", memory=64 * GIB)), memory_total=128 * GIB)),
    "memlock: the page size was not read": of(NVME, user="qemu", on=lambda: changed(lambda f: replace(f, kernel=replace(f.kernel, page_size=None)))),
    "memlock: several VMs": among(vm(NVME, user="qemu"), vm(E1000E, name="web", user="qemu"), vm(VF0, name="root's")),
    "id-reserved: the export's own": of(FunctionRequest(host=NVME, id="mem0")),
    "slot-range: of a port": of(FunctionRequest(host=NVME, port_slot=32)),
    "hotplug-reserve-range: 64-bit": of(NVME, hotplug=(HotplugRequest(pref64_reserve=1 << 52),)),
    "hotplug-reserve-range: buses": of(NVME, hotplug=(HotplugRequest(bus_reserve=256),)),
    "hotplug-without-vsmmu: none": of(hotplug=(HotplugRequest(),)),
    "hugepages-not-read: nor the page size": of(NVME, hugepages=512 << 20, on=lambda: changed(lambda f: replace(
        f, kernel=replace(f.kernel, page_size=None, config=None), nodes=tuple(replace(node, hugepages={}) for node in f.nodes),
        moment=replace(f.moment, hugepages_free={})))),
    "memory-not-read: what is free": among(vm(NVME), on=lambda: changed(lambda f: replace(f, moment=replace(f.moment, memory_available=None)))),
    "vfio-ats-needs-smmu: no vSMMU has it": lambda: planned(
        FunctionRequest(host=NVME, ats="on"), properties=Properties(ats="off"), on=with_ats()).findings,
    "kernel-without-vfio: both": of(NVME, mode=Mode.NONE, on=lambda: kernel(CONFIG_VFIO_PCI="n", CONFIG_VFIO_DEVICE_CDEV="n")),
    "emulated-behind-accel: a disk below a port": of(NVME, disks=(DiskRequest(path="/d", bus="pcie.1.port1"),)),
    "property-exceeds-host: ats": of(NVME, properties=Properties(ats="on")),
    "property-exceeds-host: ssidsize": of(NVME, properties=Properties(ssidsize=1)),
    "property-exceeds-host: cmdqv": of(NVME, properties=Properties(cmdqv="on")),
    "property-value: ssidsize": of(NVME, properties=Properties(ssidsize=21)),
    "needs-accel: several": of(NVME, mode=Mode.NONE, properties=Properties(ats="on"), split=(SMMU1,), hotplug=(HotplugRequest(vsmmu="s"),)),
    "auto-depends-on-host: all": of(NVME, properties=Properties(ats="auto", ril="auto", ssidsize="auto", oas="auto", cmdqv="auto")),
    "cmdqv-unfit: one queue": of(NVME, properties=Properties(cmdqv="on"), on=lambda: cmdqv(vcmdqs=0)),
    "target-not-installed: and too new": of(NVME, target="qemu=11.1", on=lambda: changed(programs=(
        replace(QEMU_11_1, version="10.2.0", properties={"arm-smmuv3": {"smmu_per_bus": "true"}}),))),
    "unknown-function: others of its slot": of("0000:81:00.7"),
    "not-assignable: a fault of its own": of("0000:83:02.0", mode=Mode.NONE),
    "group-not-whole: a free port's": of(NVME, mode=Mode.NONE, hotplug=(HotplugRequest(functions=PAIR[:1]),)),
    "in-use-allowed: by another spelling": of(NVME, allow_in_use=("14:00.0",),
                                              on=lambda: changed(in_use=(InUse(address=NVME, kind="mount", detail="/dev/nvme0n1 on /"),))),
    "pf-in-another-vm: the VF first": among(vm(VF0), vm(PF, name="web")),
    "disk-in-two-vms: by another spelling": among(vm(NVME, disks=(DiskRequest(path="/a/../d"),)), vm(E1000E, name="web", disks=(
        DiskRequest(path="/d", readonly=True),))),
    "named-twice-in-vm: a tap": of(NVME, networks=(NetworkRequest(kind="tap", source="t"), NetworkRequest(kind="tap", source="t"))),
    "named-twice-in-vm: a MAC address": of(NVME, networks=(NetworkRequest(mac="52:54:00:00:00:0a"), NetworkRequest(mac="52:54:00:00:00:0A"))),
    "made-for-another-host: by its product": of(NVME, made_for=MadeFor(product="another")),
    "reserved-region: an MSI window": of(NVME, on=lambda: regions(NVME, "\n0x0000000050000000 0x00000000500fffff msi")),
    "memory-above-oas: by its window": of(NVME, mmio_window=1 << 44),
    "virtio-iommu-impossible: above its addresses": of(NVME, mode=Mode.VIRTIO_IOMMU, memory=600 * GIB, on=lambda: kernel(CONFIG_ARM64_VA_BITS="39")),
    "vsmmu-on-root-bus: a disk and a function": of(NVME, FunctionRequest(host=E1000E, mode=Mode.NONE), disks=(DiskRequest(path="/d"),),
                                                   vsmmus=(VsmmuRequest(id="s", smmu=SMMU1, bus="pcie.0"),)),
    "hotplug-not-accelerated: not known": of(hotplug=(HotplugRequest(functions=(NVME,)),), on=unread),
    "property-unproven: assumed": of(vsmmus=(VsmmuRequest(id="s", smmu="smmu3.0x0000000016000000", properties=Properties(ril="on", ssidsize=0)),),
                                     on=lambda: host("gb200")),
    "property-unproven: of another SMMU than the function's": of(NVME, vsmmus=(VsmmuRequest(id="s", smmu="smmu3.0x000000000c020000"),), on=unread),
    "property-unproven: beside a no": of(PAIR[0], on=unread),
    "bus-range: below the root bus": of(FunctionRequest(host=NVME, mode=Mode.NONE), E1000E, vsmmus=(
        VsmmuRequest(id="s", smmu="smmu3.0x000000000c020000", bus_nr=1),)),
    "strangers-share-a-port: VFs of one PF": of(FunctionRequest(host=VF0, port="p"), FunctionRequest(host=VF1, port="p", function=1)),
    "guest-function-number: twice": of(FunctionRequest(host=NVME, port="p", function=0), FunctionRequest(host=VF0, port="p", function=0)),
    "plan-needs-newer-libvirt: accel alone": of(NVME, on=lambda: changed(programs=(
        replace(QEMU_11_1, name="virsh", version="12.2.0", properties={}),))),
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_each_case_of_a_code(name: str) -> None:
    code = name.partition(":")[0]
    found = [finding for finding in VARIANTS[name]() if finding.code == code]
    assert found, f"{name}: is not found"
    golden.same_section(GOLDEN, name, golden.findings_text(found))


def test_no_text_of_a_case_that_is_gone() -> None:
    golden.only(GOLDEN, VARIANTS)


def made(**values: Any) -> VmPlan:
    return planned(NVME, on=much(), **values)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("cpus-impossible", lambda: made(cpus=512)),
        ("cpus-impossible", lambda: made(cpus=1)),
        ("cpus-over-host", lambda: planned(NVME, cpus=facts("arm64-virt-canwbs").cpus or 1)),
        ("gic-impossible", lambda: made(cpus=8, machine=MachineRequest(gic="2"))),
        ("memory-impossible", lambda: made(memory=64 << 20)),
        ("hugepage-parts", lambda: made(hugepages=2 << 20, memory=(1 << 30) + (2 << 20))),
        ("hugepages-few", lambda: planned(NVME, hugepages=2 << 20, on=pools(pages=512))),
        ("mmio-window-size", lambda: made(mmio_window=512 << 30)),
        ("socket-path-long", lambda: made(qmp="/" + "x" * (SOCKET_BYTES - 1))),
        ("vm-name", lambda: made(name="x" * NAME_BYTES)),
        ("path-impossible", lambda: made(disks=(DiskRequest(path="/" + "x" * 4094),))),
        ("network-source", lambda: made(networks=(NetworkRequest(kind="bridge", source="x" * 15),))),
        ("bus-number", lambda: made(vsmmus=(VsmmuRequest(id="s", smmu=SMMU1, bus_nr=254),))),
        ("bus-numbers-exhausted", lambda: made(vsmmus=(VsmmuRequest(id="s", smmu=SMMU1, bus_nr=254),))),
        ("chassis-range", lambda: planned(FunctionRequest(host=NVME, chassis=255))),
        ("slot-range", lambda: planned(FunctionRequest(host=NVME, port_slot=31))),
        ("guest-function-number", lambda: planned(
            FunctionRequest(host=NVME, port="p", function=0), FunctionRequest(host=VF0, port="p", function=7))),
        ("hotplug-reserve-range", lambda: made(hotplug=(HotplugRequest(mem_reserve=(4 << 30) - 1, pref64_reserve=(1 << 52) - 1, bus_reserve=255),))),
        ("memory-over-host", lambda: planned(NVME, memory=4 * GIB, on=changed(memory_total=4 * GIB))),
        ("memory-over-free", lambda: planned(NVME, memory=GIB, on=changed(lambda f: replace(f, moment=replace(f.moment, memory_available=GIB))))),
        ("numa-host-node", lambda: planned(NVME, memory=64 * GIB, numa=nodes((64 * GIB, "0-1", 0)), on=two_nodes())),
        ("cmdqv-vms-too-many", lambda: plan(*(vm(NVME, name=f"vm{n}", properties=Properties(cmdqv="on")) for n in range(63)), on=cmdqv())),
        ("cmdqv-functions-too-many", lambda: planned(
            NVME, hotplug=(HotplugRequest(functions=(VF0,)),) * 15, properties=Properties(cmdqv="on"), on=cmdqv())),
        ("numa-nodes-too-many", lambda: planned(NVME, numa=(NodeRequest(memory=GIB, cpus="0-1"), *[NodeRequest(memory=0)] * 127))),
        ("auto-oas-above-48", lambda: planned(NVME, properties=Properties(oas="auto"), on=rich())),
        ("pasid-widths-differ", lambda: planned(NVME, on=rich())),  # a function without PASID has no width
        ("cmdqv-small-queues", lambda: planned(NVME, hugepages=2 << 20, on=cmdqv())),
        ("host-changed", lambda: planned(NVME, made_for=MadeFor(digest=host().digest))),
        ("firmware-without-vars", lambda: planned(NVME, firmware=FIRMWARE)),
        ("pf-on-vfio", lambda: planned(VF0)),
        ("no-functions", lambda: planned(hotplug=(HotplugRequest(functions=(NVME,)),))),
        ("memory-impossible", lambda: made(memory=(1 << 52) - (1 << 20))),
        ("bus-number", lambda: made(vsmmus=(VsmmuRequest(id="s", smmu=SMMU1, bus_nr=1),))),
        ("slot-range", lambda: made(vsmmus=(VsmmuRequest(id="s", smmu=SMMU1, slot=1),))),
        ("hotplug-reserve-range", lambda: made(hotplug=(HotplugRequest(mem_reserve=0, pref64_reserve=0, bus_reserve=0),))),
        ("memory-above-iova", lambda: planned(NVME, mode=Mode.NONE, memory=(1 << 39) - GIB, on=kernel(CONFIG_ARM64_VA_BITS="39"))),
        ("virtio-iommu-guest-pages", lambda: planned(NVME, mode=Mode.VIRTIO_IOMMU)),
        ("reserved-region", lambda: planned(NVME, on=regions(NVME, "\n0x0000000040000000 0x000000007fffffff direct-relaxable"))),
        ("relaxable-region", lambda: planned(NVME, on=regions(NVME, "\n0x0000000080000000 0x000000008000ffff reserved"))),
        ("reserved-region", lambda: planned(NVME, on=regions(NVME, "\n0x000000003fff0000 0x000000003fffffff reserved"))),
        ("reserved-region", lambda: planned(NVME, on=regions(NVME, "\n0x0000000080000000 0x000000008000ffff reserved"))),
    ],
)  # fmt: skip
def test_the_last_value_before_it(code: str, found: Callable[[], Any]) -> None:
    assert code not in codes(found())


@pytest.mark.parametrize("lines", ["0x000000003fff0000 0x0000000040000000 reserved", "0x000000007fffffff 0x0000000080000fff reserved"])
def test_a_region_that_meets_one_byte_of_memory(lines: str) -> None:
    """1 GiB of memory lies from 0x40000000 to 0x7fffffff."""
    assert "reserved-region" in codes(planned(NVME, on=regions(NVME, f"\n{lines}")))
