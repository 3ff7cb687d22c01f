"""libvirt domain XML for 12.8 and later, with every address, bus number and chassis written: nothing is left to libvirt's placement.

libvirt accepts a dozen configurations that QEMU then refuses or silently cripples (sources: libvirt-accepts): an accel vSMMU without
pciBus loses its acceleration, a function without an address lands behind the wrong SMMU. None of them can come out of here.
What the schema has no word for (reserves, vfio-pci's ats) is written as ``qemu:override``; an ``auto`` is an attribute left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from lxml import etree

from wizard.base.address import Address
from wizard.base.errors import UsageError
from wizard.base.text import disk_name, visible, visible_xml
from wizard.export.kept import said_of_kept
from wizard.export.kept_xml import give_back
from wizard.export.qemu import heading, shared_slot, too_new
from wizard.export.spares import spare_ports
from wizard.host.vmm import Vmm
from wizard.plan.memory import cpu_text
from wizard.plan.model import ROOT_BUS, DevicePlan, OtherPlan, PortPlan, VmPlan, VsmmuPlan, require
from wizard.plan.numbers import Numbers

QEMU_NS = "http://libvirt.org/schemas/domain/qemu/1.0"
_ILLEGAL = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2 (Char)

Attributes = Mapping[str, str]


def libvirt_xml(vm: VmPlan, *, domain_type: str = "kvm") -> str:
    """The domain. Raises ``UsageError`` for text that XML can't carry, naming it."""
    text = etree.tostring(libvirt_domain(vm, domain_type=domain_type), pretty_print=True, encoding="unicode")
    return visible_xml(str(text))


def libvirt_domain(vm: VmPlan, *, domain_type: str = "kvm") -> etree._Element:
    """The same as a tree; a comment on top says what a file made of it says of itself."""
    require(vm, Vmm.QEMU, "libvirt starts QEMU")
    _refuse(vm)
    domain = etree.Element("domain", {"type": domain_type}, nsmap={"qemu": QEMU_NS})
    said = [*heading(vm)[:2], *(line for line in too_new(vm) if line not in heading(vm)[:2])]
    if vm.user != "root":
        said.append(f"libvirt runs it as the user of its qemu.conf and gives that user what it needs, whoever {vm.user} is")
    spares = spare_ports(vm)
    if not spares and any(vsmmu.accel for vsmmu in vm.vsmmus):
        said.append("no slot or bus number is left on pcie.0 for spare ports, so give every device that you add an address away from the vSMMUs")
    if unchecked := said_of_kept(vm, "libvirt"):
        said.append(unchecked)
    domain.append(etree.Comment(" " + visible(" · ".join(said)).replace("--", "- -") + " "))
    _text(domain, "name", vm.name)
    _text(domain, "uuid", vm.uuid)
    if vm.notes:
        _text(domain, "description", vm.notes)
    _text(domain, "memory", str(vm.memory.size // 1024), {"unit": "KiB"})
    _memory_backing(domain, vm)
    _text(domain, "vcpu", str(vm.cpus), {"placement": "static"})
    _numatune(domain, vm)
    _os(domain, vm)
    features = etree.SubElement(domain, "features")
    if vm.machine.acpi:
        etree.SubElement(features, "acpi")
    etree.SubElement(features, "gic", {"version": vm.machine.gic})
    _cpu(domain, vm)
    devices = etree.SubElement(domain, "devices")
    _text(devices, "emulator", vm.emulator if vm.emulator.startswith("/") else f"/usr/bin/{vm.emulator}")
    made: dict[str, etree._Element] = {}
    numbers = _controllers(devices, vm, spares, made)
    _disks(devices, vm, numbers, made)
    _networks(devices, vm, numbers, made)
    # The machine has a UART whatever is written: this gives it to `virsh console`.
    if not _kept(vm, "serial", "console"):
        etree.SubElement(devices, "serial", {"type": "pty"})
    for count, device in enumerate(vm.devices):
        made[device.id] = _hostdev(devices, vm, device, numbers, count)
    for vsmmu in vm.vsmmus:
        made[vsmmu.id] = _vsmmu(devices, vsmmu, numbers)
    if vm.machine.iommu:
        etree.SubElement(devices, "iommu", {"model": vm.machine.iommu})
    if vm.virtio_iommu:
        iommu = etree.SubElement(devices, "iommu", {"model": "virtio"})
        driver = etree.SubElement(iommu, "driver", {"aw_bits": str(vm.virtio_iommu.aw_bits)})
        etree.SubElement(driver, "granule", {"size": vm.virtio_iommu.granule.removesuffix("k"), "unit": "KiB"})
        _address(iommu, 0, vm.virtio_iommu.slot, 0)
    if not _kept(vm, "memballoon"):
        etree.SubElement(devices, "memballoon", {"model": "none"})
    _overrides(domain, vm, numbers)
    give_back(vm, domain, made)
    return domain


def _kept(vm: VmPlan, *names: str) -> bool:
    """Whether the domain that the VM was imported from has a device of its own of that kind."""
    kept = vm.request.kept_libvirt
    return kept is not None and any(re.match(rf"<(?:{'|'.join(names)})[\s/>]", text) for text in kept.devices)


def hostdev_aliases(vm: VmPlan) -> tuple[str, ...]:
    """The aliases that libvirt knows the functions by: those of the user's own (ua-), else its own, which count up without them."""
    count = iter(range(len(vm.devices)))
    return tuple(device.id if device.id.startswith(_OWN_ALIAS) else f"hostdev{next(count)}" for device in vm.devices)


_OWN_ALIAS = "ua-"


def _alias(parent: etree._Element, id: str) -> None:
    if id.startswith(_OWN_ALIAS):
        etree.SubElement(parent, "alias", {"name": id})


def _refuse(vm: VmPlan) -> None:
    texts = [("its name", vm.name), ("its notes", vm.notes), ("the emulator", vm.emulator)]
    texts += [(f"the disk {disk.id}", disk.path) for disk in vm.disks]
    texts += [(f"the network {network.id}", network.source or "") for network in vm.networks]
    if vm.firmware:
        texts += [("the firmware", vm.firmware.code), ("the variables", vm.firmware.vars or ""), ("the template", vm.firmware.vars_template or "")]
    if vm.machine.gic == "max" or not vm.machine.its:
        what = "GIC version max" if vm.machine.gic == "max" else "its=off"
        raise UsageError(f"VM {visible(vm.name)} has {what}, for which libvirt has no word.", "Use the QEMU export, or GIC version 3 with its ITS.")
    for what, text in texts:
        if found := _ILLEGAL.search(text):
            raise UsageError(
                f"VM {visible(vm.name)}: {what} has the character {visible(found[0])}, which XML can't carry.",
                "Use the QEMU export, or take the character out.",
            )
        # A parser turns a carriage return into a newline, and libvirt puts paths into lines of its own.
        if "\n" in text and what != "its notes":
            raise UsageError(f"VM {visible(vm.name)}: {what} has a line break, which libvirt does not keep.", "Use the QEMU export, or another name.")


def _text(parent: etree._Element, name: str, text: str, attributes: Attributes | None = None) -> etree._Element:
    element = etree.SubElement(parent, name, dict(attributes or {}))
    element.text = text
    return element


def _address(parent: etree._Element, bus: int, slot: int, function: int, *, multifunction: bool = False) -> None:
    attributes = {"type": "pci", "domain": "0x0000", "bus": f"{bus:#04x}", "slot": f"{slot:#04x}", "function": f"{function:#x}"}
    if multifunction:
        attributes["multifunction"] = "on"
    etree.SubElement(parent, "address", attributes)


def _memory_backing(domain: etree._Element, vm: VmPlan) -> None:
    if vm.memory.hugepages:
        backing = etree.SubElement(domain, "memoryBacking")
        pages = etree.SubElement(backing, "hugepages")
        etree.SubElement(pages, "page", {"size": str(vm.memory.hugepages // 1024), "unit": "KiB"})
        etree.SubElement(backing, "source", {"type": "memfd"})


def _numatune(domain: etree._Element, vm: VmPlan) -> None:
    bound = [node for node in vm.memory.nodes if node.memory and node.host_node is not None]
    if bound:
        tune = etree.SubElement(domain, "numatune")
        for node in bound:
            etree.SubElement(tune, "memnode", {"cellid": str(node.id), "mode": "strict", "nodeset": str(node.host_node)})


def _os(domain: etree._Element, vm: VmPlan) -> None:
    os_ = etree.SubElement(domain, "os")
    _text(os_, "type", "hvm", {"arch": "aarch64", "machine": vm.machine.type})
    if vm.firmware:
        _text(os_, "loader", vm.firmware.code, {"readonly": "yes", "type": "pflash", "format": vm.firmware.code_format})
        if vm.firmware.vars:
            attributes: dict[str, str] = {"format": vm.firmware.vars_format}
            if vm.firmware.vars_template:
                attributes = {"template": vm.firmware.vars_template, "templateFormat": vm.firmware.vars_format, **attributes}
            _text(os_, "nvram", vm.firmware.vars, attributes)


def _cpu(domain: etree._Element, vm: VmPlan) -> None:
    cpu = etree.SubElement(domain, "cpu", {"mode": "host-passthrough"})
    if vm.memory.nodes:
        numa = etree.SubElement(cpu, "numa")
        for node in vm.memory.nodes:
            attributes = {"id": str(node.id), "memory": str(node.memory // 1024), "unit": "KiB"}
            if node.cpus:
                attributes["cpus"] = cpu_text(node.cpus)
            etree.SubElement(numa, "cell", attributes)


def _controllers(devices: etree._Element, vm: VmPlan, spares: Sequence[PortPlan], made: dict[str, etree._Element]) -> dict[str, int]:
    """pcie.0, spare root ports, the pxb-pcie and the root ports; the result is the controller index of each by its id in the plan.

    An id such as pci.7 is libvirt's own for controller 7, which it stays: what was kept of an imported domain names it.
    """
    kept = vm.request.kept_libvirt
    if kept is None or not any(_USB.match(text) for text in kept.devices):
        etree.SubElement(devices, "controller", {"type": "usb", "model": "none"})
    bridges = [spare.id for spare in spares] + [bus.id for bus in vm.buses]
    bridges += [other.id for other in vm.others if other.bridge] + [port.id for port in vm.ports]
    own = {id: int(found[1]) for id in bridges if (found := _OWN.fullmatch(id))}
    free = Numbers(own.values(), start=1)
    numbers = {ROOT_BUS: 0} | {id: own.get(id) or free.give() for id in bridges}
    root = etree.SubElement(devices, "controller", {"type": "pci", "index": "0", "model": "pcie-root"})
    if vm.memory.mmio_written:
        _text(root, "pcihole64", str(vm.memory.mmio_window // 1024), {"unit": "KiB"})
    made[ROOT_BUS] = root
    for spare in spares:
        made[spare.id] = _root_port(devices, spare, numbers, vm)
    for bus in vm.buses:
        made[bus.id] = pxb = etree.SubElement(devices, "controller", {"type": "pci", "index": str(numbers[bus.id]), "model": "pcie-expander-bus"})
        etree.SubElement(pxb, "model", {"name": "pxb-pcie"})
        target = etree.SubElement(pxb, "target", {"busNr": str(bus.bus_nr)})
        if bus.numa_node is not None:
            _text(target, "node", str(bus.numa_node))
        _address(pxb, 0, bus.slot, 0)
    for other in vm.others:
        if other.bridge:
            made[other.id] = _other(devices, other, numbers, vm)
    for port in vm.ports:
        made[port.id] = _root_port(devices, port, numbers, vm)
    return numbers


_OWN = re.compile(r"pci\.([1-9][0-9]{0,2})")
_USB = re.compile(r"""<controller [^>]*type=['"]usb['"]""")
_MODELS = {
    "expander": ("pcie-expander-bus", "pxb-pcie"), "port": ("pcie-root-port", "pcie-root-port"),
    "upstream": ("pcie-switch-upstream-port", "x3130-upstream"), "downstream": ("pcie-switch-downstream-port", "xio3130-downstream"),
    "bridge": ("pcie-to-pci-bridge", "pcie-pci-bridge"),
}  # fmt: skip


def _other(devices: etree._Element, other: OtherPlan, numbers: Mapping[str, int], vm: VmPlan) -> etree._Element:
    """A bridge of a VM that was imported."""
    model, name = _MODELS[other.kind]
    element = etree.SubElement(devices, "controller", {"type": "pci", "index": str(numbers[other.id]), "model": model})
    etree.SubElement(element, "model", {"name": name})
    if other.kind == "expander":
        target = etree.SubElement(element, "target", {"busNr": str(other.bus_nr)})
        if other.numa_node is not None:
            _text(target, "node", str(other.numa_node))
    elif other.kind in ("port", "downstream"):
        attributes = {"chassis": str(other.chassis or 0), "port": f"{other.port or 0:#x}"}
        if other.mem_reserve is not None:
            attributes["memReserve"] = str(other.mem_reserve // 1024)
        etree.SubElement(element, "target", attributes)
    shared = other.function == 0 and shared_slot(vm, other.bus, other.slot)
    _address(element, numbers.get(other.bus, 0), other.slot, other.function, multifunction=bool(shared))
    return element


def _root_port(devices: etree._Element, port: PortPlan, numbers: Mapping[str, int], vm: VmPlan) -> etree._Element:
    element = etree.SubElement(devices, "controller", {"type": "pci", "index": str(numbers[port.id]), "model": "pcie-root-port"})
    etree.SubElement(element, "model", {"name": "pcie-root-port"})
    attributes = {"chassis": str(port.chassis), "port": f"{port.port:#x}"}
    if port.mem_reserve is not None:
        attributes["memReserve"] = str(port.mem_reserve // 1024)
    etree.SubElement(element, "target", attributes)
    _address(element, numbers[port.bus], port.slot, 0, multifunction=bool(shared_slot(vm, port.bus, port.slot)))
    return element


def _disks(devices: etree._Element, vm: VmPlan, numbers: Mapping[str, int], made: dict[str, etree._Element]) -> None:
    for count, disk in enumerate(vm.disks):
        block = disk.host_device
        made[disk.id] = element = etree.SubElement(devices, "disk", {"type": "block" if block else "file", "device": "disk"})
        etree.SubElement(element, "driver", {"name": "qemu", "type": disk.format})
        etree.SubElement(element, "source", {"dev" if block else "file": disk.path})
        etree.SubElement(element, "target", {"dev": disk_name(count), "bus": "virtio"})
        if disk.readonly:
            etree.SubElement(element, "readonly")
        _alias(element, disk.id)
        _address(element, numbers.get(disk.bus, 0), disk.slot, 0)


def _networks(devices: etree._Element, vm: VmPlan, numbers: Mapping[str, int], made: dict[str, etree._Element]) -> None:
    for network in vm.networks:
        kind = {"user": "user", "bridge": "bridge", "tap": "ethernet"}[network.kind]
        made[network.id] = element = etree.SubElement(devices, "interface", {"type": kind})
        etree.SubElement(element, "mac", {"address": network.mac})
        if network.kind == "bridge":
            etree.SubElement(element, "source", {"bridge": network.source or ""})
        if network.kind == "tap":
            etree.SubElement(element, "target", {"dev": network.source or "", "managed": "no"})
        etree.SubElement(element, "model", {"type": "virtio"})
        etree.SubElement(element, "rom", {"enabled": "no"})
        _alias(element, network.id)
        _address(element, numbers.get(network.bus, 0), network.slot, 0)


def _hostdev(devices: etree._Element, vm: VmPlan, device: DevicePlan, numbers: Mapping[str, int], count: int) -> etree._Element:
    host = Address.parse(device.host)
    element = etree.SubElement(devices, "hostdev", {"mode": "subsystem", "type": "pci", "managed": "no"})
    element.append(etree.Comment(f" {visible(f'{device.host} {device.name}').replace('--', '- -')} "))
    etree.SubElement(element, "driver", {"name": "vfio", "iommufd": "yes" if device.iommufd else "no"})
    source = etree.SubElement(element, "source")
    etree.SubElement(
        source,
        "address",
        {"domain": f"{host.segment:#06x}", "bus": f"{host.bus:#04x}", "slot": f"{host.device:#04x}", "function": f"{host.function:#x}"},
    )
    if not device.rom:
        etree.SubElement(element, "rom", {"bar": "off"})
    nodes = [node.id for node in vm.memory.nodes if node.initiator == device.id]
    if nodes:
        etree.SubElement(element, "acpi", {"nodeset": cpu_text(nodes)})
    _alias(element, device.id)
    _address(element, numbers[device.port], device.slot, device.function, multifunction=device.multifunction)
    return element


def _vsmmu(devices: etree._Element, vsmmu: VsmmuPlan, numbers: Mapping[str, int]) -> etree._Element:
    element = etree.SubElement(devices, "iommu", {"model": "smmuv3"})
    attributes = {"pciBus": str(numbers[vsmmu.bus])}
    if vsmmu.accel:
        attributes["accel"] = "on"
        attributes |= {name: prop.written for name, prop in vsmmu.properties() if prop.written is not None and not prop.auto}
    etree.SubElement(element, "driver", attributes)
    _alias(element, vsmmu.id)
    return element


def _overrides(domain: etree._Element, vm: VmPlan, numbers: Mapping[str, int]) -> None:
    """Properties that libvirt 12.8 has no element for."""
    found: list[tuple[str, list[tuple[str, str, str]]]] = []
    bridges: list[PortPlan | OtherPlan] = [*vm.ports, *(other for other in vm.others if other.bridge)]
    for port in bridges:
        found.append((f"pci.{numbers[port.id]}", _reserves(port)))
    for alias, device in zip(hostdev_aliases(vm), vm.devices, strict=True):
        if device.ats is not None:
            found.append((alias, [("ats", "string", device.ats)]))
    found = [(alias, values) for alias, values in found if values]
    if not found:
        return
    override = etree.SubElement(domain, f"{{{QEMU_NS}}}override")
    for alias, values in found:
        device_element = etree.SubElement(override, f"{{{QEMU_NS}}}device", {"alias": alias})
        frontend = etree.SubElement(device_element, f"{{{QEMU_NS}}}frontend")
        for name, kind, value in values:
            etree.SubElement(frontend, f"{{{QEMU_NS}}}property", {"name": name, "type": kind, "value": value})


def _reserves(port: PortPlan | OtherPlan) -> list[tuple[str, str, str]]:
    values = [("bus-reserve", port.bus_reserve), ("pref64-reserve", port.pref64_reserve)]
    return [(name, "unsigned", str(value)) for name, value in values if value is not None]
