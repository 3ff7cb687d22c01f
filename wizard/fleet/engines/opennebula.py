"""OpenNebula: attributes of a host to schedule by, the filter of its PCI probe, and a VM template in two forms.

Formats: the guides "PCI Passthrough" (pci.conf, ``PCI = [...]``) and "NVIDIA Grace Platform Virtualization" (``IOMMU = [ MODE = "device",
MODEL = "smmuv3", OPTIONS = "…" ]``, and ``IOMMU``, ``IOMMUFD``, ``ROOT`` and ``ACPI_NODES`` of a ``PCI``), and the template reference
(``RAW = [ TYPE = "kvm", DATA = "…" ]``).

The template asks for an accelerated VM in OpenNebula's own words. It then makes a root complex and a vSMMU for each function, and so
supports one function of each SMMU of the host; all vSMMUs have the same options, and of ssidsize only whether there is one
(``pasid``). A VM that this can't say carries its devices as libvirt's XML (``raw``). Both are scheduled by the host's attributes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lxml import etree

from wizard.base.errors import UsageError
from wizard.base.text import visible
from wizard.export import libvirt_xml
from wizard.export.libvirt import QEMU_NS
from wizard.fleet.engines.account import settle
from wizard.fleet.engines.common import need_functions, tell
from wizard.fleet.engines.opennebula_account import OWN_WORDS, RAW
from wizard.fleet.summary import HostSummary
from wizard.plan.memory import cpu_text
from wizard.plan.model import VmPlan, VsmmuPlan
from wizard.plan.properties import NAMES, Property, declared
from wizard.plan.request import Mode

_SEGMENT = "0000"
_OURS = ("controller", "hostdev", "iommu")


def host_attributes(summary: HostSummary) -> str:
    """For ``onehost update HOST FILE --append``."""
    told = tell(summary)
    lines = [_attribute("SMMU_ACCEL", told.accel)] + ([] if told.smmus is None else [_attribute("SMMU_COUNT", str(told.smmus))])
    for name, value in told.properties.items():
        lines.append(_attribute(f"SMMU_{name.upper()}", ("yes" if value else "no") if declared(name).switch else str(value)))
    free: dict[str, int] = {}
    for count in told.counts:
        if count.free is None:
            continue
        free[count.ids] = free.get(count.ids, 0) + count.free
    lines += [_attribute(f"SMMU_FREE_{ids.replace(':', '_').upper()}", str(number)) for ids, number in free.items()]
    return "\n".join(lines) + "\n"


def pci_conf(summary: HostSummary) -> str:
    """The probe's configuration: the kinds of devices of which a function can be accelerated and is free."""
    need_functions(summary)
    filters = sorted({f"{count.ids}:{count.class_code:04x}" for count in tell(summary).counts if count.free})
    lines = ["# /var/lib/one/remotes/etc/im/kvm-probes.d/pci.conf; afterwards: onehost sync --force"]
    lines += [":filter:", *(f"  - '{one}'" for one in filters)] if filters else [":filter: '0:0'"]
    return "\n".join([*lines, ":short_address: []", ":device_name: []"]) + "\n"


def remarks(summary: HostSummary) -> list[str]:
    """Kinds of devices that not every probe sees."""
    return [
        f"{count.ids}: in PCI segment {', '.join(sorted(count.segments - {_SEGMENT}))}, which OpenNebula's probe sees since it supports NVIDIA Grace."
        for count in tell(summary).counts
        if count.free and count.segments - {_SEGMENT}
    ]


def template(vm: VmPlan) -> str:
    """A VM template for ``onetemplate create``; disks and networks are OpenNebula's own matter. UsageError where its words do not do."""
    accel = vm.mode is Mode.ACCEL and vm.vsmmus
    instead = "smmu-wizard engine opennebula-raw PROFILE writes the VM as it is, as libvirt XML." if accel else "Plan the VM with --mode accel."
    settle(OWN_WORDS, vm, instead)
    return "\n".join((*_machine(vm), *_vsmmus(vm), *_functions(vm), *_guest(vm))) + "\n"


def raw(vm: VmPlan) -> str:
    """The same of an accelerated VM with its devices as libvirt's XML: the very topology of the profile, on its own host."""
    if vm.mode is not Mode.ACCEL or not vm.vsmmus:
        raise UsageError(f"VM {visible(vm.name)} has no accelerated vSMMU to write down.", "smmu-wizard engine opennebula-template PROFILE")
    settle(RAW, vm, "smmu-wizard export PROFILE --format libvirt has all of it, for libvirt without OpenNebula.")
    lines = [*_machine(vm), *_guest(vm, hole=False), f'RAW = [ TYPE = "kvm", VALIDATE = "NO", DATA = {_quoted(_devices(vm))} ]']
    return "\n".join(lines) + "\n"


def template_remarks(vm: VmPlan) -> list[str]:
    """What the template leaves to OpenNebula."""
    return OWN_WORDS.said(vm)


def raw_remarks(vm: VmPlan) -> list[str]:
    """The same of the other form."""
    return RAW.said(vm)


def _machine(vm: VmPlan) -> Iterator[str]:
    yield _attribute("NAME", vm.name)
    yield _attribute("CPU", str(vm.cpus))
    yield _attribute("VCPU", str(vm.cpus))
    yield _attribute("MEMORY", str(vm.memory.size >> 20))
    firmware = {"FIRMWARE": vm.firmware.code, "FIRMWARE_SECURE": "NO"} if vm.firmware else {}
    yield _vector("OS", ARCH="aarch64", MACHINE=vm.machine.type, **firmware)
    if vm.mode is Mode.ACCEL and vm.vsmmus:
        yield _attribute("SCHED_REQUIREMENTS", _requirements(vm))


def _vsmmus(vm: VmPlan) -> Iterator[str]:
    """As the example of the Grace guide: one IOMMU for all."""
    if vm.vsmmus:
        yield _vector("IOMMU", MODE="device", MODEL="smmuv3", OPTIONS=_options_of(vm.vsmmus[0]))


def _functions(vm: VmPlan) -> Iterator[str]:
    """A PCI for each: by kind where there are vSMMUs, else by address."""
    for device in vm.devices:
        if vm.vsmmus:
            vendor, _, kind = (device.ids or "").partition(":")
            nodes = [node.id for node in vm.memory.nodes if node.initiator == device.id]
            own = {"ACPI_NODES": cpu_text(nodes)} if nodes else {}
            yield _vector("PCI", **own, DEVICE=kind, IOMMU="YES", IOMMUFD="YES" if device.iommufd else "NO", ROOT="dedicated", VENDOR=vendor)
        else:
            yield _vector("PCI", SHORT_ADDRESS=device.host.partition(":")[2])


def _guest(vm: VmPlan, *, hole: bool = True) -> Iterator[str]:
    """NUMA nodes, pages, features and CPU, as the same example has them. Without ``hole`` the window stands on a controller 0 of RAW's own."""
    if len(vm.memory.nodes) > 1:
        for node in vm.memory.nodes:
            yield _vector("NUMA_NODE", MEMORY=str(node.memory >> 20), TOTAL_CPUS=str(len(node.cpus)))
    if len(vm.memory.nodes) > 1 or vm.memory.hugepages:
        sockets = max(1, sum(bool(node.cpus) for node in vm.memory.nodes))
        sockets = sockets if vm.cpus % sockets == 0 else 1
        pages = {"HUGEPAGE_SIZE": str(vm.memory.hugepages >> 20)} if vm.memory.hugepages else {}
        yield _vector("TOPOLOGY", CORES=str(vm.cpus // sockets), **pages, SOCKETS=str(sockets), THREADS="1")
    window = {"PCIHOLE64": str(vm.memory.mmio_window >> 10)} if hole and vm.memory.mmio_written else {}
    yield _vector("FEATURES", ACPI="yes" if vm.machine.acpi else "no", GIC=vm.machine.gic, **window)
    yield _vector("CPU_MODEL", MODEL="host-passthrough")


def _options_of(vsmmu: VsmmuPlan) -> str:
    """``accel=on ats=on ril=off pasid=on oas=48``, in the guide's order; what is on auto, and a cmdqv that is off, is left out."""
    found = {"accel": "on"}
    for name in ("ats", "ril"):
        found |= _written(name, getattr(vsmmu, name))
    if vsmmu.ssidsize.resolved is not None and not vsmmu.ssidsize.auto:
        found["pasid"] = "on" if vsmmu.ssidsize.resolved else "off"
    found |= _written("oas", vsmmu.oas)
    if vsmmu.cmdqv.written == "on":
        found["cmdqv"] = "on"
    return " ".join(f"{name}={value}" for name, value in found.items())


def _written(name: str, prop: Property) -> dict[str, str]:
    return {} if prop.written is None or prop.auto else {name: prop.written}


def _requirements(vm: VmPlan) -> str:
    """Hosts by their attributes; OpenNebula compares with =, != , > and <."""
    terms = ['SMMU_ACCEL = "yes"']
    kinds = Counter(device.ids for device in vm.devices if device.ids)
    terms += [f"SMMU_FREE_{ids.replace(':', '_').upper()} > {count - 1}" for ids, count in sorted(kinds.items())]
    for name in NAMES:
        needed = max((prop.resolved or 0 for vsmmu in vm.vsmmus if not (prop := vsmmu.of(name)).auto), default=0)
        if needed and not declared(name).switch:
            terms.append(f"SMMU_{name.upper()} > {needed - 1}")
        elif needed:
            terms.append(f'SMMU_{name.upper()} = "yes"')
    return " & ".join(terms)


def _devices(vm: VmPlan) -> str:
    """Root complexes, root ports, vSMMUs and assigned functions of the libvirt export; libvirt takes a second <devices>."""
    domain = etree.fromstring(libvirt_xml(vm).encode())
    devices = domain.find("devices")
    kept = [element for element in (devices if devices is not None else ()) if element.tag in _OURS]
    beside = [*domain.findall("iommufd"), *domain.findall(f"{{{QEMU_NS}}}override")]
    return "<devices>" + "".join(map(_xml, kept)) + "</devices>" + "".join(map(_xml, beside))


def _xml(element: etree._Element) -> str:
    """On one line, with the namespaces that it needs."""
    alone = etree.fromstring(etree.tostring(element), etree.XMLParser(remove_blank_text=True))
    etree.cleanup_namespaces(alone)
    return str(etree.tostring(alone, encoding="unicode"))


def _attribute(name: str, value: str) -> str:
    return f"{name} = {_quoted(value)}"


def _vector(name: str, **values: str) -> str:
    return f"{name} = [ {', '.join(f'{key} = {_quoted(value)}' for key, value in values.items())} ]"


def _quoted(text: str) -> str:
    """In double quotes, with ``"`` escaped; control characters and backslashes have no spelling that every version reads alike."""
    if any(ord(character) < 0x20 or character == "\\" for character in text):
        raise UsageError(
            f"{visible(text)} can't be written into an OpenNebula template.", "Take control characters and backslashes out of the profile."
        )
    escaped = text.replace('"', '\\"')
    return f'"{escaped}"'
