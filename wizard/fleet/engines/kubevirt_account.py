"""What a VM of KubeVirt has of a plan, and what it has not. KubeVirt names devices by kind, and makes buses, vSMMUs and nodes by its own rules.

Where they are read: pkg/virt-launcher/virtwrap/converter/ ``grace.go`` and ``pci-placement.go``, pkg/virt-handler/device-manager/pci_device.go
(``wizard/knowledge/kubevirt.toml`` has versions and values).
"""

from __future__ import annotations

from wizard.base.text import plural, size, visible
from wizard.fleet.engines import account
from wizard.fleet.engines.account import Account, Left
from wizard.fleet.engines.kubevirt_rules import is_grace
from wizard.knowledge import tables
from wizard.plan.drivers import GRACE
from wizard.plan.model import DevicePlan, VmPlan
from wizard.plan.properties import NAMES, declared
from wizard.plan.regions import power_of_two
from wizard.plan.request import Mode

_PLAIN_WINDOW = 512 << 30  # highmem-mmio-size of QEMU's virt machine when nobody writes it


def graces(vm: VmPlan) -> list[DevicePlan]:
    """The functions that get a vSMMU there."""
    return [device for device in vm.devices if is_grace(device.ids or "0:0")]


def as_of() -> str:
    """The day that KubeVirt's list of GPUs was last looked at."""
    return str(max(gpu.date for gpu in tables.kubevirt().gpu))


def _plain(vm: VmPlan) -> str | None:
    plain = [f"{device.host} ({device.ids or 'unknown ids'})" for device in vm.devices if device.vsmmu and not is_grace(device.ids or "0:0")]
    known = ", ".join(f"10de:{gpu.id:04x}" for gpu in tables.kubevirt().gpu)
    if not plain:
        return None
    return (
        f"KubeVirt makes no accelerated vSMMU for {', '.join(plain)}: it makes them for {known} alone ({tables.kubevirt().gate}, as of {as_of()}), "
        "and anything else becomes a plain VFIO device there."
    )


def _vsmmu_for_each(vm: VmPlan) -> str | None:
    """One for each GPU, where the plan has one for several, or none."""
    wrong = [device.host for device in graces(vm) if device.vsmmu is None] + [
        ", ".join(device.host for device in behind)
        for vsmmu in vm.vsmmus
        if len(behind := [device for device in vm.devices_of(vsmmu) if device in graces(vm)]) > 1
    ]
    return f"KubeVirt makes an accelerated vSMMU for each GPU; the profile has another layout for {'; '.join(wrong)}." if wrong else None


def _properties(vm: VmPlan) -> str | None:
    fixed = tables.kubevirt().vsmmu
    made = {device.vsmmu for device in graces(vm)}
    other = sorted(
        {
            f"{name}={prop.written}"
            for vsmmu in vm.vsmmus
            if vsmmu.id in made
            for name in NAMES
            if (prop := vsmmu.of(name)).written is not None and (prop.auto or prop.resolved != fixed.get(name, declared(name).unset))
        }
    )
    words = " ".join(f"{name}={declared(name).spell(value)}" for name, value in fixed.items())
    return f"KubeVirt writes {words} for every vSMMU and nothing else; the profile has {' '.join(other)}." if other else None


def _emulated(vm: VmPlan) -> str | None:
    found = [f"the emulated SMMUv3 {vsmmu.id}" for vsmmu in vm.vsmmus if not vsmmu.accel or vsmmu.stage not in (None, "1")]
    found += ["a virtio-iommu"] if vm.virtio_iommu or vm.mode is Mode.VIRTIO_IOMMU else []
    found += ["an emulated SMMUv3 of the whole machine"] if vm.machine.iommu else []
    return f"KubeVirt has no words for {', '.join(map(visible, found))} on arm64." if found else None


def _machine(vm: VmPlan) -> str | None:
    kept = {"no KVM": vm.machine.kvm, "no UEFI": vm.machine.uefi and vm.firmware, "no ACPI": vm.machine.acpi, "no ITS": vm.machine.its}
    wanted = [word for word, yes in kept.items() if not yes]
    return f"KubeVirt's machine has KVM, UEFI, ACPI and an ITS; the profile has {', '.join(wanted)}." if wanted else None


def _machine_type(vm: VmPlan) -> str | None:
    return (
        f"The machine is the virt-launcher's newest virt with its own interrupt controller, not {visible(vm.machine.type)} with GIC {vm.machine.gic}."
    )


def _window(vm: VmPlan) -> str | None:
    known = tables.kubevirt()
    found = graces(vm)
    if found:
        # The regions of a plan hold the GPU's memory, which KubeVirt counts by the floor.
        window = power_of_two(sum(max(known.window_floor, sum(device.bars)) for device in found) + known.window_margin)
    else:
        window = _PLAIN_WINDOW
    wanted = max(vm.memory.mmio_needed, vm.memory.mmio_window if vm.memory.mmio_written else 0)
    return f"KubeVirt makes the 64-bit window for BARs {size(window)}, and this VM has {size(wanted)}." if wanted > window else None


def _initiators(vm: VmPlan) -> str | None:
    nodes = tables.kubevirt().nodes
    counts = {device.host: sum(node.initiator == device.id for node in vm.memory.nodes) for device in vm.devices}
    made = {device.host for device in graces(vm)}
    wrong = [f"{host} has {count}" for host, count in counts.items() if count != (nodes if host in made else 0)]
    return (
        f"KubeVirt makes {nodes} NUMA nodes for the memory of each Grace GPU and none for others; in the profile {', '.join(wrong)}."
        if wrong
        else None
    )


def _nodes(vm: VmPlan) -> str | None:
    owned = [node for node in vm.memory.nodes if node.memory]
    if not owned:
        return None
    where = "follow the CPUs that kubelet gives it" if graces(vm) else "are not made"
    return f"Guest NUMA nodes {where}: the profile's {plural(len(owned), 'node')} with CPUs and memory {'is' if len(owned) == 1 else 'are'} left out."


def _firmware(vm: VmPlan) -> str | None:
    return (
        "Firmware is the virt-launcher's own, and its variables last as long as the instance: the profile's files are left out."
        if vm.firmware
        else None
    )


def _choice(vm: VmPlan) -> str | None:
    if not vm.devices:
        return None
    return f"KubeVirt gives any function of the same vendor and device on its node, not {', '.join(device.host for device in vm.devices)} by name."


def _drivers(vm: VmPlan) -> str | None:
    """Variants: what they are bound to decides whether they are advertised."""
    own = tables.kubevirt().plugin_driver
    wrong = [f"{device.host} on {visible(device.driver)}" for device in vm.devices if device.driver not in (own, GRACE)]
    return f"KubeVirt's own device plugin advertises functions on {own} alone: {', '.join(wrong)} would never be found." if wrong else None


ACCOUNT = Account(
    written="name cpus memory.size memory.hugepages uuid notes devices.id devices.ids",
    left=(
        Left("", _plain, alters=True),
        Left("devices.vsmmu", _vsmmu_for_each, alters=True),
        Left(" ".join(f"vsmmus.{name}" for name in NAMES), _properties, alters=True),
        Left("mode vsmmus.accel vsmmus.stage machine.iommu virtio_iommu.slot virtio_iommu.granule virtio_iommu.aw_bits", _emulated, alters=True),
        Left("machine.kvm machine.uefi machine.acpi machine.its", _machine, alters=True),
        Left("memory.mmio_window memory.mmio_needed", _window, alters=True),
        Left("memory.nodes.initiator", _initiators, alters=True),
        Left(account.OTHERS, account.others, alters=True),
        Left("devices.rom devices.ats", account.function_options, alters=True),
        Left("devices.host devices.name devices.group devices.host_node devices.serial devices.pf devices.vf_index", _choice),
        Left("devices.driver", _drivers),
        Left("memory.nodes.id memory.nodes.memory memory.nodes.cpus memory.nodes.host_node", _nodes),
        Left(account.PLACES, account.places),
        Left("ports.hotplug", account.spare_ports),
        Left(account.DISKS, account.own_disks),
        Left(account.FIRMWARE, _firmware),
        Left("machine.type machine.gic", _machine_type),
        Left(account.KEPT, account.kept),
    ),
    not_ours={
        **account.NOT_OURS,
        "whether libvirt takes iommufd is the gate IOMMUFD's, for the whole cluster": "devices.iommufd",
        "a part of what the window is held against": "memory.mmio_written devices.bars",
        "which SMMU of a host it is, is the host's": "devices.smmu vsmmus.smmu",
        "whether it has a vSMMU is devices.vsmmu": "devices.mode",
        "VFs are made on the node, by the preparation script or an operator": "devices.to_make",
    },
)
"""Of ``kubevirt-vmi`` and ``kubevirt-vm``."""
