"""libvirt's own answer: a domain, and the command line that libvirt makes of it, are read as the same devices in the same places.

Left out on purpose (each was looked at): the address of a function with iommufd, which libvirt passes as a descriptor; interfaces, which
`domxml-to-native` replaces by others; an SMMU without pciBus, which is a word of -machine there; ids of emulated devices.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.tools.libvirt import Native, native
from wizard.existing.guest import Device, Emulated, Function, Guest, Vsmmu
from wizard.existing.load import read_guests
from wizard.existing.placement import complete

DATA = Path(__file__).parent / "data/xml"
FUNCTIONS = ["0000:14:00.0", "0000:41:00.0", "0009:01:00.0", "0000:75:00.1"]
GONE = ("memoryBacking", "numatune", "cputune", "interface", "seclabel type='dynamic'")
HOSTDEV = "<hostdev mode='subsystem' type='pci' managed='no'><source><address domain='0' bus='0x14' slot='0' function='0'/></source></hostdev>"


def disk(name: str) -> str:
    return f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/{name}'/><target dev='{name}' bus='virtio'/></disk>"


def pxb(index: int, rest: str = "") -> str:
    return f"<controller type='pci' index='{index}' model='pcie-expander-bus'>{rest}</controller>"


def port(index: int, bus: int | None = None, slot: int = 0) -> str:
    address = f"<address type='pci' domain='0' bus='{bus}' slot='{slot}' function='0'/>" if bus is not None else ""
    return f"<controller type='pci' index='{index}' model='pcie-root-port'>{address}</controller>"


CDROM = "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='/c'/><target dev='sda' bus='scsi'/></disk>"
CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
WATCHDOG = "<watchdog model='i6300esb'/>"
HEAD = "<name>x</name><memory unit='MiB'>1024</memory><vcpu>2</vcpu><os firmware='efi'><type arch='aarch64' machine='virt'>hvm</type></os>"
ROOT = "<controller type='pci' index='0' model='pcie-root'/>"
RNG = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
DEVICES = {
    "bare": disk("vda") + HOSTDEV,
    "nothing": "",
    "implicit": RNG + "<graphics type='vnc'/>" + CHANNEL + HOSTDEV + disk("vda") + disk("vdb") + CDROM,
    "bus_numbers": ROOT + pxb(1) + pxb(2) + port(3, 1) + port(4, 2) + port(5) + HOSTDEV + disk("vda"),
    "plain_pci": "<controller type='usb' model='qemu-xhci'/><controller type='virtio-serial'/><memballoon model='virtio'/>" + WATCHDOG
    + "<video><model type='virtio'/></video><vsock model='virtio'><cid auto='yes'/></vsock>" + HOSTDEV,
    "behind_accel": ROOT + pxb(1, "<target busNr='8'/>") + port(2, 1) + port(3, 1, 1) + port(4) + RNG + HOSTDEV + disk("vda")
    + "<iommu model='smmuv3'><driver pciBus='1' accel='on'/></iommu>",
    "switch": ROOT + port(1) + "<controller type='pci' index='2' model='pcie-switch-upstream-port'/>"
    "<controller type='pci' index='3' model='pcie-switch-downstream-port'><address type='pci' domain='0' bus='2' slot='0' function='0'/></controller>"
    + HOSTDEV,
    "ten_disks": "".join(disk(f"vd{letter}") for letter in "abcdefghij") + HOSTDEV,
}  # fmt: skip


def domains() -> dict[str, str]:
    """The samples without what this machine's libvirt looks for on the host, and domains that leave places out."""
    found = {}
    for path in sorted(DATA.glob("*.xml")):
        text = path.read_text().replace("type='kvm'", "type='qemu'").replace("mode='host-passthrough'", "mode='maximum'")
        text = text.replace(" migratable='on'", "").replace(" check='none'", "")
        for name in GONE:
            text = re.sub(rf"<{name}.*?</{name.split()[0]}>", "", text, flags=re.DOTALL)
        found[path.stem.replace("-", "_")] = text
    for name, devices in DEVICES.items():
        features = "<features><acpi/><gic version='3'/></features><cpu mode='maximum'/>"
        found[name] = f"<domain type='qemu'>{HEAD}{features}<devices>{devices}</devices></domain>"
    return found


@pytest.fixture(scope="module")
def answers() -> dict[str, Native]:
    return native(domains(), FUNCTIONS)


def placed(guest: Guest) -> set[tuple[Any, ...]]:
    return {_place(device) for device in guest.devices if not (isinstance(device, Vsmmu) and device.bus is None)}


def _place(device: Device) -> tuple[Any, ...]:
    numbers = tuple(getattr(device, name, None) for name in ("bus_nr", "chassis", "port", "numa_node"))
    more: tuple[Any, ...] = ()
    if isinstance(device, Function):
        more = (device.iommufd is not None, device.rom, device.nodes, None if device.iommufd else device.host)
    if isinstance(device, Vsmmu):
        more = (device.accel, *sorted(device.properties.items()))
    return (device.driver, "" if isinstance(device, Emulated) else device.id, device.bus, device.slot, device.function, numbers, more)


@pytest.mark.parametrize("name", domains())
def test_a_domain_and_its_command_line_are_the_same_vm(answers: dict[str, Native], name: str) -> None:
    answer = answers[name]
    assert not answer.refused
    (domain,) = read_guests(domains()[name].encode(), "domain")
    (command,) = read_guests(b"".join(word.encode() + b"\0" for word in answer.argv), "command")
    assert placed(complete(domain)) == placed(command)
    assert (domain.memory.size, domain.cpus, domain.uuid or command.uuid) == (command.memory.size, command.cpus, command.uuid)
    assert (domain.machine.iommu, domain.machine.gic, domain.machine.mmio_window) == (
        command.machine.iommu, command.machine.gic, command.machine.mmio_window,
    )  # fmt: skip
