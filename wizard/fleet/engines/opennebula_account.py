"""What an OpenNebula template has of a plan, in its own words and in the form with libvirt's XML, and what it has not."""

from __future__ import annotations

from wizard.base.text import visible
from wizard.fleet.engines import account
from wizard.fleet.engines.account import Account, Left
from wizard.plan.model import VmPlan, VsmmuPlan
from wizard.plan.properties import NAMES
from wizard.plan.request import Mode

SEGMENT = "0000"
"""The only one that SHORT_ADDRESS can name."""


def _beside(vm: VmPlan) -> str | None:
    """Functions that the one IOMMU attribute would take in as well."""
    if not vm.vsmmus:
        return None
    without = [device.host for device in vm.devices if device.vsmmu is None]
    return f"{', '.join(without)} of VM {visible(vm.name)} has no vSMMU, and OpenNebula's IOMMU attribute is for all functions." if without else None


def _one_each(vm: VmPlan) -> str | None:
    behind: dict[str | None, list[str]] = {}
    for device in vm.devices:
        if device.vsmmu is not None:
            behind.setdefault(device.smmu, []).append(device.host)
    said = [f"{', '.join(hosts)} are behind one SMMU ({visible(smmu or 'unknown')})" for smmu, hosts in behind.items() if len(hosts) > 1]
    return f"{'; '.join(said)}, and OpenNebula makes a vSMMU for each function: it supports one function of each SMMU." if said else None


def _no_kind(vm: VmPlan) -> str | None:
    nameless = [device.host for device in vm.devices if device.ids is None and vm.vsmmus]
    return f"{', '.join(nameless)} has no vendor and device that OpenNebula could select it by." if nameless else None


def _no_short_address(vm: VmPlan) -> str | None:
    far = [device.host for device in vm.devices if not vm.vsmmus and device.host.partition(":")[0] != SEGMENT]
    return (
        f"{', '.join(far)} is not in PCI segment {SEGMENT}, the only one that OpenNebula's SHORT_ADDRESS can name: segment {far[0][:4]}."
        if far
        else None
    )


def words_of(vsmmu: VsmmuPlan) -> tuple[object, ...]:
    """What OpenNebula's options say of a vSMMU."""
    return (*((name, vsmmu.of(name).written) for name in NAMES if name != "ssidsize"), bool(vsmmu.ssidsize.resolved))


def _unlike(vm: VmPlan) -> str | None:
    unlike = len({words_of(vsmmu) for vsmmu in vm.vsmmus}) > 1
    return f"The vSMMUs of VM {visible(vm.name)} have unlike properties, and OpenNebula has one IOMMU attribute for all." if unlike else None


def _width(vm: VmPlan) -> str | None:
    widths = {vsmmu.ssidsize.written for vsmmu in vm.vsmmus if vsmmu.ssidsize.resolved and not vsmmu.ssidsize.auto}
    return f"pasid=on stands for ssidsize={', '.join(map(str, sorted(map(str, widths))))}: OpenNebula's option has no width." if widths else None


def _auto(vm: VmPlan) -> str | None:
    names = [name for name in NAMES if any(vsmmu.of(name).auto for vsmmu in vm.vsmmus)]
    return f"What is auto in the profile ({', '.join(names)}) is left to the QEMU of whichever host is chosen." if names else None


def _emulated(vm: VmPlan) -> str | None:
    found = [f"the emulated SMMUv3 {vsmmu.id}" for vsmmu in vm.vsmmus if not vsmmu.accel or vsmmu.stage not in (None, "1")]
    found += ["a virtio-iommu"] if vm.virtio_iommu or vm.mode is Mode.VIRTIO_IOMMU else []
    found += ["an emulated SMMUv3 of the whole machine"] if vm.machine.iommu else []
    return f"No guide of OpenNebula has words for {', '.join(map(visible, found))}." if found else None


def _machine(vm: VmPlan) -> str | None:
    wanted = [word for word, yes in {"no KVM": vm.machine.kvm, "no UEFI": vm.machine.uefi, "no ITS": vm.machine.its}.items() if not yes]
    return f"OpenNebula's arm64 machine has KVM, UEFI and an ITS; the profile has {', '.join(wanted)}." if wanted else None


def _choice(vm: VmPlan) -> str | None:
    if not vm.vsmmus:
        return None
    return "OpenNebula chooses functions of these kinds, and makes root complexes and vSMMUs itself: guest addresses may not be the profile's."


def _pinned(vm: VmPlan) -> str | None:
    nodes = sorted({node.host_node for node in vm.memory.nodes if node.host_node is not None})
    return f"Memory of the host's node {', '.join(map(str, nodes))} is not asked for: PIN_POLICY of TOPOLOGY decides." if nodes else None


def _odd(vm: VmPlan) -> str | None:
    """Numbers that have another unit there."""
    sizes = [vm.memory.size, vm.memory.hugepages or 0, *(node.memory for node in vm.memory.nodes)]
    odd = sorted({size for size in sizes if size % (1 << 20)} | ({vm.memory.mmio_window} if vm.memory.mmio_window % (1 << 10) else set()))
    return f"OpenNebula counts memory in MiB, and the profile has {', '.join(map(str, odd))} bytes." if odd else None


def _own(vm: VmPlan) -> str | None:
    return "OpenNebula gives the VM its UUID and the firmware's variables itself: the profile's are left out." if vm.uuid or vm.firmware else None


def _notes(vm: VmPlan) -> str | None:
    return "The profile's notes are left out: a template has no text of several lines." if vm.notes else None


def _endpoints(vm: VmPlan) -> str | None:
    names = [visible(other.id) for other in vm.others if not other.bridge]
    return f"Left out: {', '.join(names)}: emulated devices of the VM that was imported." if names else None


_GUEST = (
    "name cpus memory.size memory.hugepages memory.mmio_window memory.mmio_written memory.nodes.memory memory.nodes.cpus memory.nodes.id "
    "machine.type machine.gic machine.acpi firmware.code mode devices.ids"
)
_LEFT = (
    Left("vsmmus.stage machine.iommu virtio_iommu.slot virtio_iommu.granule virtio_iommu.aw_bits", _emulated, alters=True),
    Left("machine.kvm machine.uefi machine.its", _machine, alters=True),
    Left("", _odd, alters=True),
    Left("memory.nodes.host_node", _pinned),
    Left("uuid firmware.vars firmware.vars_template", _own),
    Left("notes", _notes),
    Left("ports.hotplug", account.spare_ports),
    Left(account.DISKS, account.own_disks),
    Left(account.KEPT, account.kept),
)
_NOT_OURS = {
    **account.NOT_OURS,
    "memory.mmio_window has room for them": "memory.mmio_needed devices.bars",
    "whether it has a vSMMU is devices.vsmmu, and which SMMU is behind it is devices.smmu": "devices.mode vsmmus.smmu",
    "libvirt takes the format from the image": "firmware.code_format firmware.vars_format",
    "the host is prepared by the preparation script": "devices.driver devices.to_make devices.pf devices.vf_index devices.serial devices.group",
}

OWN_WORDS = Account(
    written=f"{_GUEST} memory.nodes.initiator devices.iommufd {' '.join(f'vsmmus.{name}' for name in NAMES if name != 'ssidsize')} devices.host",
    left=(
        Left("devices.vsmmu", _beside, alters=True),
        Left("devices.smmu", _one_each, alters=True),
        Left("", _no_kind, alters=True),
        Left("", _no_short_address, alters=True),
        Left("", _unlike, alters=True),
        Left("vsmmus.accel", _emulated, alters=True),
        Left("vsmmus.ssidsize", _width),
        Left("", _auto),
        Left(account.OTHERS, account.others, alters=True),
        Left("devices.rom devices.ats", account.function_options, alters=True),
        Left(f"{account.PLACES} devices.id devices.host_node", _choice),
        *_LEFT,
    ),
    not_ours={**_NOT_OURS, "words for people": "devices.name"},
)
"""Of ``opennebula-template``."""

RAW = Account(
    written=f"{_GUEST} memory.nodes.initiator devices.iommufd {' '.join(f'vsmmus.{name}' for name in NAMES)} vsmmus.bus vsmmus.accel devices.id "
    "devices.host "
    "devices.port devices.slot devices.function devices.multifunction devices.rom devices.ats devices.name buses.id buses.bus_nr buses.slot "
    "buses.numa_node ports.id ports.bus ports.slot ports.chassis ports.port ports.bus_reserve ports.mem_reserve ports.pref64_reserve others.id "
    "others.kind others.bus others.slot others.function others.bus_nr others.numa_node others.chassis others.port others.bus_reserve "
    "others.mem_reserve others.pref64_reserve",
    left=(Left("others.driver", _endpoints, alters=True), *_LEFT),
    not_ours={
        **_NOT_OURS,
        "libvirt names what it makes itself": "vsmmus.id",
        "predictions of what firmware will do": "buses.last ports.secondary ports.subordinate devices.bus others.secondary others.subordinate",
        "of the plan's own making": "ports.place ports.candidates buses.host_node",
        "it says where the function is on the host": "devices.smmu devices.vsmmu devices.host_node",
    },
)
"""Of ``opennebula-raw``."""
