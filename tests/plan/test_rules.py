"""Every finding of the planner: a plan that has it, and plans that do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import wizard.plan.ladder
from tests.tools import golden
from tests.tools.hosts import (
    E1000E,
    NVME,
    PAIR,
    PF,
    SMMU1,
    SMMU2,
    VF0,
    VF1,
    VIRTIO,
    changed,
    cmdqv,
    codes,
    crowd,
    facts,
    host,
    kernel,
    plan,
    planned,
    pools,
    qemu_program,
    regions,
    rich,
    two_nodes,
    vm,
    with_function,
    with_oas,
)
from wizard.base.finding import REGISTRY, Definition, Finding, Kind, Severity
from wizard.facts.model import Facts, FirmwareImage, Group, HwInfo, InUse
from wizard.host.build import host_of
from wizard.host.model import Host
from wizard.plan import rules
from wizard.plan.model import PortPlan, VmPlan
from wizard.plan.properties import Properties, Property
from wizard.plan.request import (
    DiskRequest,
    FirmwareRequest,
    FunctionRequest,
    HotplugRequest,
    Layout,
    MachineRequest,
    MadeFor,
    Mode,
    NetworkRequest,
    NodeRequest,
    OtherRequest,
    VmRequest,
    VsmmuRequest,
)
from wizard.plan.rules.base import scene

Found = Iterable[Finding]
GOLDEN = Path(__file__).parent / "golden/findings.txt"
CASES: dict[str, Callable[[], Found]] = {}


def case(code: str) -> Callable[[Callable[[], Found]], Callable[[], Found]]:
    """Register what makes a code appear."""

    def register(make: Callable[[], Found]) -> Callable[[], Found]:
        assert code not in CASES
        CASES[code] = make
        return make

    return register


def of(code: str, *functions: str | FunctionRequest, on: Callable[[], Host] = host, **values: Any) -> None:
    """A code that a request for one VM has."""
    CASES[code] = lambda: planned(*functions, on=on(), **values).findings


def among(code: str, *vms: VmRequest, on: Callable[[], Host] = host, **values: Any) -> None:
    """A code that several VMs have together."""
    CASES[code] = lambda: plan(*vms, on=on(), **values).findings


def broken(code: str, change: Callable[[VmPlan], VmPlan], *functions: str) -> None:
    """A code that only a plan which nobody plans can have: the rule stands guard over the planner itself."""

    def found() -> Found:
        made = change(planned(*(functions or (NVME, E1000E))))
        return [finding for check in rules.base.RULES for finding in check(scene(host(), made))]

    CASES[code] = found


def probed_gpu(device: str) -> Host:
    """The GB200 tray with GPUs of another ID on their driver, of whose regions VFIO was asked: 16 MiB, and memory of 256 GiB in BAR 4."""

    def asked(facts: Facts) -> Facts:
        gpu = next(f for f in facts.functions if f.address == "0008:01:00.0")
        told = HwInfo(address=gpu.address, regions={"0": 16 << 20, "4": 256 << 30, "7": 4096}, members=(gpu.address,))
        functions = tuple(replace(f, device=device, driver="nvgrace_gpu_vfio_pci") if f is gpu else f for f in facts.functions)
        return replace(facts, functions=functions, hw_info=(*(i for i in facts.hw_info if i.address != gpu.address), told))

    return changed(asked, name="gb200")


def told_ranges(lines: str) -> Host:
    """The recorded host, of whose functions a probe was told what can be mapped."""
    return changed(lambda f: replace(f, hw_info=tuple(replace(info, iova_ranges=lines) for info in f.hw_info)))


def another_host() -> Host:
    """The recorded host under a name of its own."""
    return changed(lambda f: replace(f, identity=replace(f.identity, host="host-1")))


def no_dmabuf() -> Host:
    """A kernel whose whole configuration is known, without CONFIG_VFIO_PCI_DMABUF."""
    kernel = facts("arm64-virt-canwbs").kernel
    return changed(kernel=replace(kernel, config_partial=False, config={**(kernel.config or {}), "CONFIG_VFIO_PCI_DMABUF": "n"}))


SWITCHED = (("0000:06:00.0", "web"), ("0000:07:00.0", "db"))
"""Two functions below one switch of QEMU's (x3130), whose ports have no ACS: the recorded kernel gave each a group with its port."""


def gpu_with(driver: str) -> Host:
    """A GPU in the place of the NVMe disk, a NIC on a driver of VFIO, and a kernel that makes dma-bufs."""
    old = kernel(CONFIG_VFIO_PCI_DMABUF="y").facts
    changes: dict[str, dict[str, Any]] = {NVME: {"class_": "0x030200"}, E1000E: {"driver": driver, "vfio_dev": ("vfio1",)}}
    return host_of(replace(old, functions=tuple(replace(f, **changes.get(f.address, {})) for f in old.functions)))


def grouped(address: str, *others: str) -> Host:
    """Several devices in the group of one."""
    old = facts("arm64-virt-canwbs")
    groups = tuple(replace(g, devices=(*g.devices, *others)) if address in g.devices else g for g in old.groups)
    return changed(groups=groups)


QEMU_11_1 = qemu_program(
    "11.1.2",
    arm_smmuv3={"smmu_per_bus": "false", "accel": "off", "ats": "auto", "cmdqv": "auto"},
    vfio_pci={"ats": "auto", "x-vpasid-cap-offset": "0"},
)

# --- several VMs
CASES["no-vms"] = lambda: plan().findings
among("vm-name-twice", vm(NVME), vm(E1000E))
among("function-in-two-vms", vm(NVME), vm(NVME, name="web"))
among("group-in-two-vms", vm(PAIR[0], mode=Mode.NONE), vm(PAIR[1], name="web", mode=Mode.NONE))
among("pf-in-another-vm", vm(PF), vm(VF0, name="web"))
of("memory-over-host", NVME, memory=4 << 30)
among("memory-not-read", vm(NVME), on=lambda: changed(lambda f: replace(f, memory_total=None, moment=replace(f.moment, memory_available=None))))
among("memory-over-free", vm(NVME), on=lambda: changed(lambda f: replace(f, moment=replace(f.moment, memory_available=512 << 20))))
among("memory-over-node", vm(NVME, memory=40 << 30), vm(VF0, name="web", memory=40 << 30), on=two_nodes)
among("hugepages-few-together", vm(NVME, hugepages=2 << 20), vm(E1000E, name="web", hugepages=2 << 20), on=lambda: pools(pages=700))
of("memlock", NVME, user="qemu")
among(
    "cmdqv-vms-too-many",
    *(vm(NVME, name=f"vm{n}", properties=Properties(cmdqv="on")) for n in range(64)),
    on=cmdqv,
)
among("cmdqv-used-up", *(vm(NVME, name=f"vm{n}") for n in range(64)), on=cmdqv)
among("disk-in-two-vms", vm(NVME, disks=(DiskRequest(path="/d"),)), vm(E1000E, name="web", disks=(DiskRequest(path="/d"),)))
of("named-twice-in-vm", NVME, disks=(DiskRequest(path="/d"), DiskRequest(path="/d")))
FIRMWARE = FirmwareRequest(code="/f", vars="/v")
among("vars-in-two-vms", vm(NVME, firmware=FIRMWARE), vm(E1000E, name="web", firmware=FIRMWARE))
TAP = (NetworkRequest(kind="tap", source="tap0"),)
among("tap-in-two-vms", vm(NVME, networks=TAP), vm(E1000E, name="web", networks=TAP))
MAC = (NetworkRequest(mac="52:54:00:00:00:01"),)
among("mac-twice", vm(NVME, networks=MAC), vm(E1000E, name="web", networks=MAC))
UUID = "0f0e8c1e-5f8e-4f7e-9d5c-0d2b8f1f9a11"
among("uuid-twice", vm(NVME, uuid=UUID), vm(E1000E, name="web", uuid=UUID.upper()))
among("socket-in-two-vms", vm(NVME, qmp="/q"), vm(E1000E, name="web", qmp="/q"))
of("made-for-another-host", NVME, made_for=MadeFor(host="host-0"), on=lambda: another_host())
of("host-changed", NVME, made_for=MadeFor(digest="sha256:0"))

# --- functions
of("unknown-function", "0000:ff:00.0")
of("function-twice", NVME, NVME)
of("no-functions")
of("not-assignable", "0000:00:01.0", mode=Mode.NONE)
of("assignable-not-known", NVME, mode=Mode.NONE, on=lambda: changed(groups=()))
of("in-use-allowed", NVME, allow_in_use=(NVME,), on=lambda: changed(in_use=(InUse(address=NVME, kind="mount", detail="/dev/nvme0n1 on /"),)))
of("group-shared-accelerated", PAIR[0])
of("group-not-whole", PAIR[0], mode=Mode.NONE)
of("vf-to-be-made", VF0, on=lambda: host("vfio-arm64-virt-canwbs"))
of("pf-without-driver", VF0, on=lambda: with_function(PF, name="vfio-arm64-virt-canwbs", driver=None))
of("pf-on-vfio", VF0, on=lambda: host("vfio-arm64-virt-canwbs"))
of("vfs-live-too-few", "0000:11:10.4")
of("variant-driver-missing", NVME, on=lambda: with_function(NVME, vendor="0x19e5", device="0xa251", physfn=PF))
of("grace-gpu-on-vfio-pci", FunctionRequest(host="0008:01:00.0", driver="vfio-pci"), on=lambda: host("gb200"))
of("driver-not-vfio", FunctionRequest(host=NVME, driver="nvme"))
of("not-the-same-device", FunctionRequest(host=NVME, ids="1234:5678"))

# --- the guest
of("vm-name", NVME, name="a/b")
of("cpus-impossible", NVME, cpus=0)
of("cpus-over-host", NVME, cpus=100)
broken("no-firmware", lambda vm: replace(vm, firmware=None))
of("firmware-assumed", NVME)
IMAGE = FirmwareImage(descriptor="/d", executable="/fw", nvram_template="/t", machines=("virt-*",))
of("firmware-not-described", NVME, firmware=FIRMWARE, on=lambda: changed(firmware=(IMAGE,)))
of("firmware-without-vars", NVME, firmware=FirmwareRequest(code="/f"))
of("path-impossible", NVME, disks=(DiskRequest(path="disk.img"),))
of("notes-not-unicode", NVME, notes="\udcff")
of("socket-path-long", NVME, qmp="/" + "x" * 120)
of("path-not-own", NVME, qmp="/run/smmu-wizard/other/qmp")
of("path-made-by-hand", NVME, firmware=FirmwareRequest(code="/f", vars="/srv/vms/db1_VARS.fd"))
of("mac-impossible", NVME, networks=(NetworkRequest(mac="53:54:00:00:00:01"),))
of("network-source", NVME, networks=(NetworkRequest(kind="tap"),))
of("user-name", NVME, user="a b")
of("uuid-impossible", NVME, uuid="x")
of("migration-blocked", NVME)
of("guest-needs", NVME)

# --- the machine
of("machine-not-virt", NVME, machine=MachineRequest(type="sbsa-ref"))
of("no-kvm", NVME, on=lambda: changed(kvm=False))
of("no-acpi", NVME, machine=MachineRequest(acpi=False))
of("no-msi-doorbell", NVME, machine=MachineRequest(its=False))
of("no-msi", NVME, mode=Mode.NONE, machine=MachineRequest(its=False))
of("machine-not-in-qemu", NVME, machine=MachineRequest(type="virt-11.2"))
of("iommufd-mixed", FunctionRequest(host=NVME, iommufd=False), E1000E, mode=Mode.NONE)
of("mmio-window-above-cpu", NVME, mode=Mode.NONE, mmio_window=8192 << 40)
of("machine-wide-viommu", NVME, machine=MachineRequest(iommu="smmuv3"))
of(
    "port-slot-not-0", FunctionRequest(host=NVME, mode=Mode.NONE, port="p", slot=1),
    others=(OtherRequest(id="p", kind="port", slot=2, chassis=9),),
)  # fmt: skip
of("gic-impossible", NVME, machine=MachineRequest(gic="4"))
of("gic-not-recommended", NVME, machine=MachineRequest(gic="2"))
broken("vsmmus-too-many", lambda vm: replace(vm, vsmmus=vm.vsmmus * 9))
of("two-kinds-of-viommu", NVME, mode=Mode.VIRTIO_IOMMU, vsmmus=(VsmmuRequest(id="smmuv3.1"),))
of("mmio-window-size", NVME, mmio_window=768 << 30)

# --- memory
of("memory-impossible", NVME, memory=-1)
of("hugepage-size", NVME, hugepages=3 << 20)
of("hugepages-not-read", NVME, hugepages=2 << 20, on=lambda: changed(lambda f: replace(f, moment=replace(f.moment, hugepages_free={}))))
of("hugepage-parts", NVME, hugepages=2 << 20, memory=1025 << 20)
of("hugepages-few", NVME, hugepages=2 << 20, on=lambda: changed(lambda f: replace(f, moment=replace(f.moment, hugepages_free={"0": {"2048": 1}}))))
of("numa-sum", NVME, numa=(NodeRequest(memory=1 << 20, cpus="0-1"),))
of("numa-cpus", NVME, numa=(NodeRequest(memory=1 << 30, cpus="0"),))
of("numa-host-node", NVME, numa=(NodeRequest(memory=1 << 30, cpus="0-1", host_node=7),))
of("numa-initiator", NVME, numa=(NodeRequest(memory=1 << 30, cpus="0-1"), NodeRequest(memory=0, initiator="nobody")))
of("grace-gpu-without-nodes", "0008:01:00.0", numa=(), on=lambda: host("gb200"))
of("reserved-region", NVME, on=lambda: regions(NVME, "\n0x0000000050000000 0x000000005fffffff reserved"))
of("relaxable-region", NVME, on=lambda: regions(NVME, "\n0x0000000020000000 0x0000000020000fff direct-relaxable"))
of("msi-window-elsewhere", NVME, on=lambda: regions(NVME, "0x00000000a0000000 0x00000000a00fffff msi", besides=False))
of("memory-above-iova", NVME, mode=Mode.NONE, memory=600 << 30, on=lambda: kernel(CONFIG_ARM64_VA_BITS="39"))
of("virtio-iommu-guest-pages", NVME, mode=Mode.VIRTIO_IOMMU, on=lambda: kernel(page_size=65536))
of("mmio-window-small", "0008:01:00.0", "0009:01:00.0", mmio_window=512 << 30, on=lambda: host("gb200"))
of("mmio-32-bit-full", NVME, on=lambda: with_function(NVME, resource="0x0000000040000000 0x000000007fffffff 0x0000000000040200"))
of("bar-sizes-assumed", "0008:01:00.0", on=lambda: host("gb200"))
of("gpu-memory-unknown", "0008:01:00.0", on=lambda: with_function("0008:01:00.0", name="gb200", device="0x30ff"))
of("egm-not-planned", "0008:01:00.0", on=lambda: changed(lambda f: replace(f, kernel=replace(f.kernel, modules=("nvgrace_egm",))), name="gb200"))
of("gpu-direct-address", "0008:01:00.0", "0000:03:00.0", on=lambda: host("gb200"))
of("gpu-nodes-assumed", "0008:01:00.0", on=lambda: probed_gpu("0x30ff"))
of("bar-sizes-unknown", NVME, on=lambda: with_function(NVME, resource=""))
of(
    "memory-outside-iova",
    NVME,
    mode=Mode.NONE,
    on=lambda: told_ranges("0x0 0x47ffffff\n0x50000000 0xffffffffffff"),
)
of("memory-above-oas", NVME, memory=20 << 40)
of("virtio-iommu-locks", NVME, E1000E, mode=Mode.VIRTIO_IOMMU)

# --- properties
of("property-value", NVME, properties=Properties(oas=40))
broken(
    "property-needs-accel",
    lambda vm: replace(vm, vsmmus=(replace(vm.vsmmus[0], accel=False, ats=Property(written="on", resolved=1, origin="request")),)),
)
broken("stage-not-1", lambda vm: replace(vm, vsmmus=(replace(vm.vsmmus[0], stage="nested"),)))
broken("vfio-behind-emulated", lambda vm: replace(vm, vsmmus=(replace(vm.vsmmus[0], accel=False),)))
of("property-exceeds-host", NVME, properties=Properties(oas=48))
of(
    "property-unproven",
    vsmmus=(VsmmuRequest(id="later", smmu=SMMU1, properties=Properties(ril="on", ssidsize=0)),),
    on=lambda: changed(hw_info=(), log=()),
)
of("property-least", "0002:01:00.0", assume_accel=True, on=lambda: host("gb10"))
of("auto-depends-on-host", NVME, properties=Properties(oas="auto"))
HOT = (HotplugRequest(functions=(NVME,)),)
of("auto-without-function", hotplug=HOT, properties=Properties(ril="auto"))
of("cmdqv-without-function", hotplug=HOT, properties=Properties(cmdqv="on"))
of("auto-oas-above-48", NVME, properties=Properties(oas="auto"), on=lambda: with_oas(6))
of("ats-not-the-same", NVME, E1000E, vsmmus=(VsmmuRequest(id="smmuv3.1", smmu=SMMU1, properties=Properties(ats="off")),),
   properties=Properties(ats="on"), on=rich)  # fmt: skip
of("ats-trusts-the-device", NVME, on=lambda: with_ats())
of("cmdqv-unfit", NVME, properties=Properties(cmdqv="on"), on=lambda: cmdqv(version=2))
of("cmdqv-functions-too-many", NVME, hotplug=(HotplugRequest(functions=(VF0,)),) * 16, properties=Properties(cmdqv="on"), on=cmdqv)
of("cmdqv-left-out", NVME, hotplug=(HotplugRequest(functions=(VF0,)),) * 16, on=cmdqv)
of("cmdqv-first-stays", NVME, on=cmdqv)
of("cmdqv-small-queues", NVME, on=cmdqv)


def with_ats() -> Host:
    """ATS in the registers, and in the function."""
    made = rich()
    config = bytearray.fromhex(next(f.config for f in made.facts.functions if f.address == NVME).ljust(2 * 0x1008, "0"))
    config[0x100:0x108] = bytes.fromhex("0f00010000000000")  # the first extended capability: ATS (000f), version 1, no next
    functions = tuple(
        replace(f, config=bytes(config[:4096]).rstrip(b"\0").hex(), config_length=4096) if f.address == NVME else f for f in made.facts.functions
    )
    return changed(hw_info=made.facts.hw_info, log=made.facts.log, functions=functions)


of("needs-accel", NVME, mode=Mode.NONE, properties=Properties(oas=44))


# --- which QEMU
of("target-newer-than-known", NVME, target="qemu=99.0")
of("target-unknown", NVME, target="xen")
of("emulator-elsewhere", NVME, on=lambda: changed(programs=(replace(QEMU_11_1, path="/opt/x/qemu-system-aarch64"),)))
of("target-not-installed", NVME, target="qemu=11.0", on=lambda: changed(programs=(QEMU_11_1,)))
of("qemu-not-found", NVME)
of("plan-needs-newer-qemu", NVME, target="qemu=10.2")
CASES["plan-needs-newer-libvirt"] = lambda: (
    planned(NVME, on=changed(programs=(replace(QEMU_11_1, name="libvirtd", version="11.3.0", properties={}),))).findings
)

# --- topology
of("bus-number", NVME, vsmmus=(VsmmuRequest(id="s", smmu=SMMU1, bus_nr=255),))
BUSES = (VsmmuRequest(id="s1", smmu=SMMU1, bus_nr=8), VsmmuRequest(id="s2", smmu=SMMU2, bus_nr=8))
of("bus-number-twice", NVME, E1000E, vsmmus=BUSES)
of("bus-range", NVME, VF0, VF1, E1000E, vsmmus=(BUSES[0], replace(BUSES[1], bus_nr=10)))
of("bus-numbers-exhausted", NVME, vsmmus=(VsmmuRequest(id="s", smmu=SMMU1, bus_nr=254),), hotplug=HOT * 2)
of("ports-share-slots", *crowd(33)[1], on=lambda: crowd(33)[0], assume_accel=True)
of("slot-range", NVME, vsmmus=(VsmmuRequest(id="s", smmu=SMMU1, slot=0),))
of("slot-twice", NVME, disks=(DiskRequest(path="/d", slot=4),), networks=(NetworkRequest(slot=4),))
of("chassis-range", FunctionRequest(host=NVME, chassis=0))
of("chassis-twice", FunctionRequest(host=NVME, chassis=7), FunctionRequest(host=E1000E, chassis=7))
of("id-grammar", FunctionRequest(host=NVME, id="1st"))
of("id-twice", FunctionRequest(host=NVME, id="a"), FunctionRequest(host=E1000E, id="a"))
of("id-reserved", NVME, vsmmus=(VsmmuRequest(id="pcie.0", smmu=SMMU1),))
of("numa-nodes-too-many", NVME, numa=(NodeRequest(memory=1 << 30, cpus="0-1"), *[NodeRequest(memory=0)] * 128))
of("pxb-numa-node", NVME, vsmmus=(VsmmuRequest(id="s", smmu=SMMU1, numa_node=3),))
NODES = (NodeRequest(memory=1 << 29, cpus="0", host_node=0), NodeRequest(memory=1 << 29, cpus="1", host_node=1))
of("pxb-numa-elsewhere", NVME, numa=NODES, vsmmus=(VsmmuRequest(id="s", smmu=SMMU1, numa_node=0),), on=two_nodes)
of("pxb-numa-none", NVME, numa=(NodeRequest(memory=1 << 30, cpus="0-1", host_node=0),), on=two_nodes)
of("guest-function-number", FunctionRequest(host=NVME, function=3))
of("strangers-share-a-port", FunctionRequest(host=NVME, port="p"), FunctionRequest(host=VF0, port="p", function=1))


@case("io-space-full")
def _() -> Found:
    old = next(f for f in facts("arm64-virt-canwbs").functions if f.address == NVME)
    resource = "0x0000000000001000 0x000000000000101f 0x0000000000040101"
    names = [f"0000:15:{n:02x}.0" for n in range(16)]
    extra = tuple(replace(old, address=name, path=old.path.replace(NVME, name), resource=resource) for name in names)
    made = changed(functions=(*facts("arm64-virt-canwbs").functions, *extra))
    return planned(*(f.address for f in extra), on=made, mode=Mode.NONE).findings


# --- vSMMUs
of("unknown-smmu", NVME, vsmmus=(VsmmuRequest(id="s", smmu="smmu3.0x1"),))
of("split-unknown", NVME, split=("smmu3.0x1",))
of("smmus-joined", FunctionRequest(host=NVME, vsmmu="s"), FunctionRequest(host=E1000E, vsmmu="s"))
of("smmu-split", NVME, VF0, layout=Layout.PER_FUNCTION)
of("two-vsmmus-on-one-bus", NVME, E1000E, vsmmus=tuple(replace(v, bus="b", bus_nr=None) for v in BUSES))
among("split-without-functions", vm(NVME, split=(SMMU2,)))
of("vsmmu-on-root-bus", NVME, vsmmus=(VsmmuRequest(id="s", smmu=SMMU1, bus="pcie.0"),), networks=(NetworkRequest(),))


@case("pasid-widths-differ")
def _() -> Found:
    made = rich()
    config = bytearray.fromhex(next(f.config for f in made.facts.functions if f.address == NVME).ljust(2 * 0x1008, "0"))
    config[0x100:0x108] = bytes.fromhex("1b00010000080000")  # PASID (001b), version 1, no next; max width 8
    functions = tuple(
        replace(f, config=bytes(config[:4096]).rstrip(b"\0").hex(), config_length=4096) if f.address == NVME else f for f in made.facts.functions
    )
    return planned(NVME, on=changed(hw_info=made.facts.hw_info, log=made.facts.log, functions=functions)).findings


@case("canwbs-differs")
def _() -> Found:
    # One SMMU over two segments of which the IORT calls one coherent: only a host put together by hand has it.
    made = host()
    functions = dict(made.functions)
    old = functions[VF0]
    functions[VF0] = replace(old, capabilities={**old.capabilities, "canwbs": type(old.known("canwbs"))(False, old.known("canwbs").source)})
    odd = replace(made, functions=functions)
    return planned(NVME, VF0, on=odd).findings


# --- devices and hot-plug
of("vfio-without-iommufd", FunctionRequest(host=NVME, iommufd=False))
of("host-without-iommufd", NVME, on=lambda: changed(lambda f: replace(f, iommufd=False, kernel=replace(f.kernel, config={}, modules=()))))
of("kernel-without-vfio", NVME, mode=Mode.NONE, on=lambda: kernel(CONFIG_VFIO_DEVICE_CDEV="n"))
broken("segment-above-ffff", lambda vm: replace(vm, devices=(replace(vm.devices[0], host="10000:01:00.0"),)))
of("vfio-ats-needs-smmu", FunctionRequest(host=NVME, ats="on"))
of("emulated-behind-accel", NVME, networks=(NetworkRequest(bus="pcie.1"),))
of("unknown-bus", NVME, networks=(NetworkRequest(bus="pcie.9"),))
broken("hotplug-without-vsmmu", lambda vm: replace(vm, ports=(*vm.ports, hot_port(bus="pcie.0"))))
of("hotplug-bypass", NVME, hotplug=(HotplugRequest(functions=(VF0,)),))
of("hotplug-unknown-function", NVME, hotplug=(HotplugRequest(functions=("0000:ff:00.0",)),))
of("hotplug-other-smmu", NVME, hotplug=(HotplugRequest(vsmmu="smmuv3.1", functions=(E1000E,)),))
of("hotplug-not-accelerated", NVME, hotplug=(HotplugRequest(functions=PAIR[:1]),))
of("hotplug-reserve-small", NVME, hotplug=(HotplugRequest(functions=(VF0,), pref64_reserve=0, mem_reserve=0),))
of("hotplug-property", hotplug=(HotplugRequest(functions=(VF0,)),), properties=Properties(oas=48))
of("hotplug-grace-gpu", hotplug=(HotplugRequest(functions=("0008:01:00.0",)),), on=lambda: host("gb200"))
of("hotplug-reserve-range", NVME, hotplug=(HotplugRequest(mem_reserve=4 << 30),))
of("hotplug-vf-to-be-made", hotplug=(HotplugRequest(functions=(VF0,)),), on=lambda: host("vfio-arm64-virt-canwbs"))
among("hotplug-in-another-vm", vm(NVME), vm(E1000E, name="web", hotplug=HOT))
of("peers-in-one-group", *PAIR, mode=Mode.NONE)
of("peer-to-peer-unmapped", NVME, E1000E, on=no_dmabuf)
of("peer-to-peer", NVME, E1000E, on=lambda: gpu_with(driver="vfio-pci"))
of("peer-to-peer-partly", NVME, E1000E, on=lambda: gpu_with(driver="mlx5_vfio_pci"))
among("peers-in-two-vms", *(vm(one, name=name, mode=Mode.NONE) for one, name in SWITCHED), on=lambda: host("arm64-dt"))


def hot_port(bus: str) -> PortPlan:
    """A free root port."""
    return PortPlan(id="hot", bus=bus, slot=9, chassis=99, port=9, secondary=1, subordinate=1, hotplug=True)


# --- OpenVMM
of("openvmm-by-its-documents", NVME, target="openvmm")
of("openvmm-cant", NVME, target="openvmm", mode=Mode.VIRTIO_IOMMU)
of("openvmm-goes-without", NVME, target="openvmm", properties=Properties(ril="on"))

# --- the ladder
of("accel-refused", NVME, on=lambda: host("arm64-virt"))
of("accel-not-known", "0008:01:00.0", on=lambda: host("gb200"))
of("accel-assumed", "0008:01:00.0", assume_accel=True, on=lambda: host("gb200"))
of("fell-back", NVME, fall_back=True, on=lambda: host("arm64-virt"))
of("virtio-iommu-not-known", NVME, mode=Mode.VIRTIO_IOMMU, on=lambda: changed(lambda f: replace(f, kernel=replace(f.kernel, page_size=None))))
of("virtio-iommu-impossible", *PAIR, mode=Mode.VIRTIO_IOMMU)
of("no-way-down", PAIR[0], fall_back=True)
of("function-mode", FunctionRequest(host=NVME, mode=Mode.ACCEL), mode=Mode.NONE)
of("vfio-behind-emulated-smmu", NVME, mode=Mode.NONE)


def _codes() -> Iterator[str]:
    planning = set()
    for module in (*rules.ROOMS, wizard.plan.ladder):
        planning |= {value.code for value in vars(module).values() if isinstance(value, Definition)}
    yield from sorted(planning)


@pytest.mark.parametrize("code", list(_codes()))
def test_fires(code: str) -> None:
    """Severity, subject and every sentence are as they were read (tests/tools/golden.py)."""
    golden.fires(GOLDEN, code, CASES)


def test_no_text_of_a_code_that_is_gone() -> None:
    golden.only(GOLDEN, _codes())


# Said of every accelerated plan of this host, which was recorded without a QEMU and without firmware.
ALWAYS = {"migration-blocked", "guest-needs", "firmware-assumed", "qemu-not-found"}


@pytest.mark.parametrize("code", sorted(set(_codes()) - ALWAYS))
def test_does_not_fire(code: str) -> None:
    plans = [plan(vm(NVME, VF0)), plan(vm(E1000E, VIRTIO), vm(NVME, VF1, name="web", disks=(DiskRequest(path="/d"),), networks=(NetworkRequest(),)))]
    for found in plans:
        assert code not in codes(found)
        assert found.ok


def test_said_only_where_it_is_so() -> None:
    quiet = planned(*PAIR, mode=Mode.NONE, on=changed(programs=(QEMU_11_1,), firmware=(IMAGE,)))
    assert not codes(quiet) & ALWAYS


def test_every_plan_finding_is_registered_once_and_says_what_to_do() -> None:
    for code in _codes():
        found = REGISTRY[code]
        assert found.kind is Kind.PLAN
        for sentence in (found.what, found.why, found.fix):
            assert sentence
            assert sentence.rstrip()[-1] in ".}", sentence


def test_errors_come_first() -> None:
    found = planned(NVME, properties=Properties(oas=48), user="qemu").findings
    order = [Severity.ERROR, Severity.WARNING, Severity.INFO]
    assert [order.index(finding.severity) for finding in found] == sorted(order.index(finding.severity) for finding in found)


def test_group_without_devices_is_no_crash() -> None:
    old = facts("arm64-virt-canwbs")
    odd = changed(groups=tuple(Group(id=group.id, type=group.type, devices=()) for group in old.groups))
    assert planned(NVME, on=odd).devices
