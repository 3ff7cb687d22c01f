"""OpenNebula: attributes of a host to schedule by, the filter of its PCI probe, and a VM template.

Formats: the guide "PCI Passthrough" (pci.conf, ``PCI = [...]``), ``RAW = [ TYPE = "kvm", DATA = "…" ]``, and the probe itself
(im_mad/remotes/node-probes.d/pci.rb), which sees PCI segment 0 only. OpenNebula writes a <hostdev> of its own for each ``PCI``,
without root complex or vSMMU; so an accelerated VM carries its devices as libvirt's XML in RAW, and is scheduled by the host's
attributes.
"""

from __future__ import annotations

from collections.abc import Iterator

from lxml import etree

from wizard.base.errors import UsageError
from wizard.base.text import visible
from wizard.export import libvirt_xml
from wizard.export.libvirt import QEMU_NS
from wizard.fleet.engines.common import OF_SWITCHES, tell
from wizard.fleet.summary import HostSummary
from wizard.plan.model import PROPERTIES, VmPlan
from wizard.plan.request import Mode

_SEGMENT = "0000"
_OURS = ("controller", "hostdev", "iommu")


def host_attributes(summary: HostSummary) -> str:
    """For ``onehost update HOST FILE --append``."""
    told = tell(summary)
    lines = [_attribute("SMMU_ACCEL", told.accel), _attribute("SMMU_COUNT", str(told.smmus))]
    for name, value in told.properties.items():
        lines.append(_attribute(f"SMMU_{name.upper()}", ("yes" if value else "no") if name in OF_SWITCHES else str(value)))
    free: dict[str, int] = {}
    for count in told.counts:
        free[count.ids] = free.get(count.ids, 0) + count.free
    lines += [_attribute(f"SMMU_FREE_{ids.replace(':', '_').upper()}", str(number)) for ids, number in free.items()]
    return "\n".join(lines) + "\n"


def pci_conf(summary: HostSummary) -> str:
    """The probe's configuration: the kinds of devices of which a function can be accelerated and is free, in segment 0."""
    filters = sorted({f"{count.ids}:{count.class_code:04x}" for count in tell(summary).counts if count.free and _SEGMENT in count.segments})
    lines = ["# /var/lib/one/remotes/etc/im/kvm-probes.d/pci.conf; afterwards: onehost sync --force"]
    lines += [":filter:", *(f"  - '{one}'" for one in filters)] if filters else [":filter: '0:0'"]
    return "\n".join([*lines, ":short_address: []", ":device_name: []"]) + "\n"


def remarks(summary: HostSummary) -> list[str]:
    """Kinds of devices that the probe can't see."""
    return [
        f"{count.ids}: in PCI segment {', '.join(sorted(count.segments - {_SEGMENT}))}, which OpenNebula's probe does not see."
        for count in tell(summary).counts
        if count.free and count.segments - {_SEGMENT}
    ]


def template(vm: VmPlan) -> str:
    """A VM template for ``onetemplate create``; disks and networks are OpenNebula's own matter."""
    return "\n".join(_template(vm)) + "\n"


def _template(vm: VmPlan) -> Iterator[str]:
    yield _attribute("NAME", vm.name)
    yield _attribute("CPU", str(vm.cpus))
    yield _attribute("VCPU", str(vm.cpus))
    yield _attribute("MEMORY", str(vm.memory.size >> 20))
    firmware = f', FIRMWARE = {_quoted(vm.firmware.code)}, FIRMWARE_SECURE = "NO"' if vm.firmware else ""
    yield f'OS = [ ARCH = "aarch64", MACHINE = {_quoted(vm.machine.type)}{firmware} ]'
    if vm.mode is Mode.ACCEL and vm.vsmmus:
        yield _attribute("SCHED_REQUIREMENTS", _requirements(vm))
        yield f'RAW = [ TYPE = "kvm", VALIDATE = "NO", DATA = {_quoted(_devices(vm))} ]'
        return
    for device in vm.devices:
        segment, _, short = device.host.partition(":")
        if segment != _SEGMENT:
            raise UsageError(
                f"{device.host} of VM {visible(vm.name)} is in PCI segment {segment}, and OpenNebula knows segment 0000 only.",
                "Plan the VM with --mode accel, whose devices go into RAW, or choose a function in segment 0000.",
            )
        yield f"PCI = [ SHORT_ADDRESS = {_quoted(short)} ]"


def _requirements(vm: VmPlan) -> str:
    """Hosts by their attributes; OpenNebula compares with =, != , > and <."""
    terms = ['SMMU_ACCEL = "yes"']
    for name in PROPERTIES:
        needed = max((prop.resolved or 0 for vsmmu in vm.vsmmus if not (prop := getattr(vsmmu, name)).auto), default=0)
        if needed and name in ("oas", "ssidsize"):
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


def _quoted(text: str) -> str:
    """In double quotes, with ``"`` escaped; control characters and backslashes have no spelling that every version reads alike."""
    if any(ord(character) < 0x20 or character == "\\" for character in text):
        raise UsageError(
            f"{visible(text)} can't be written into an OpenNebula template.", "Take control characters and backslashes out of the profile."
        )
    escaped = text.replace('"', '\\"')
    return f'"{escaped}"'
