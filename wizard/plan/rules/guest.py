"""The guest itself: its name, CPUs, firmware, the files and words that end up in exports."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from wizard.base.action import set_to
from wizard.base.finding import Area, Finding
from wizard.base.text import visible
from wizard.host.vmm import Vmm
from wizard.plan.codes import ERROR, INFO, WARNING, plan_code
from wizard.plan.places import RESERVED, plain
from wizard.plan.request import Mode
from wizard.plan.rules.base import Scene, rule, rule_of

NAME_BYTES = 64
CPUS_MAX = 512  # QEMU's virt with GICv3
SOCKET_BYTES = 107  # sun_path, less its terminator

VM_NAME = plan_code(
    "vm-name", ERROR,
    what="{subject} can't be the name of a VM: {because}.",
    why="The name becomes a file name, a QEMU option and a libvirt domain.",
    fix="Use letters and digits of any script, spaces and ._-, no dot in front, at most 64 bytes, and no name of the program's own, such as undo.",
)  # fmt: skip


def name_fault(name: str) -> str | None:
    """Why a VM can't have this name, None when it can."""
    if not name:
        return "it is empty"
    if name.startswith("."):
        return "it starts with a dot"
    if len(name.encode("utf-8", "replace")) > NAME_BYTES:
        return f"it is longer than {NAME_BYTES} bytes"
    if name != name.strip():
        return "it starts or ends with a space"
    if name.lower() in RESERVED:
        return "the program itself has files of that name"
    bad = next((c for c in name if c not in " ._-" and unicodedata.category(c)[0] not in "LN" and unicodedata.category(c) not in ("Mn", "Mc")), None)
    return f"it has the character '{visible(bad)}'" if bad is not None else None


@rule
def name(scene: Scene) -> Iterator[Finding]:
    """Which names are allowed (sources: design-names)."""
    fault = name_fault(scene.vm.name)
    if fault:
        yield VM_NAME.at(scene.name or "''", because=fault)


CPUS = plan_code(
    "cpus-impossible", ERROR,
    what="VM {subject} asks for {count} CPUs.",
    why="A VM has at least one, and QEMU's virt machine at most 512.",
    fix="Give a number from 1 to 512 with --cpus.",
    action=set_to("cpus", "{fits}"),
)  # fmt: skip
CPUS_MANY = plan_code(
    "cpus-over-host", WARNING,
    what="VM {subject} asks for {count} CPUs, and the host has {host}.",
    why="It will start, but run slowly: KVM warns above the number of online CPUs.",
    fix="Give at most {host} with --cpus.",
    action=set_to("cpus", "{host}"),
)  # fmt: skip


@rule
def cpus(scene: Scene) -> Iterator[Finding]:
    """-smp."""
    count, host = scene.vm.cpus, scene.host.facts.cpus
    if not 1 <= count <= CPUS_MAX:
        yield CPUS.at(scene.name, count=count, fits=min(max(count, 1), host or CPUS_MAX, CPUS_MAX))
    elif host and count > host:
        yield CPUS_MANY.at(scene.name, count=count, host=host)


NO_FIRMWARE = plan_code(
    "no-firmware", ERROR, area=Area.PACKAGES,
    what="VM {subject} has no firmware.",
    why="An arm-smmuv3 on a pxb-pcie is described to the guest by ACPI alone, which needs UEFI ('SMMUv3 with accel=on not supported for DT').",
    fix="Give the VM UEFI: [firmware] in the profile, --firmware PATH, -bios or pflash of QEMU, <os firmware='efi'> of libvirt.",
)  # fmt: skip
FIRMWARE_ASSUMED = plan_code(
    "firmware-assumed", WARNING, area=Area.PACKAGES,
    what="The host that was recorded shows no UEFI image for arm64 virt machines; {subject} is taken.",
    why="Whether the file is there could not be checked. An arm-smmuv3 on a pxb-pcie is described to the guest by ACPI alone, which needs UEFI.",
    fix="Install qemu-efi-aarch64 (edk2-aarch64, AAVMF) on the host, and record it again, or name an image with --firmware PATH.",
)  # fmt: skip
FIRMWARE_UNKNOWN = plan_code(
    "firmware-not-described", WARNING,
    what="The firmware {path} of VM {subject} is in no firmware descriptor of the host.",
    why="The host that was recorded lists its images in /usr/share/qemu/firmware; one that is not among them may not be there.",
    fix="Check the path on the host, or leave --firmware out.",
    action=set_to("firmware"),
)  # fmt: skip
FIRMWARE_VARS = plan_code(
    "firmware-without-vars", INFO,
    what="VM {subject} has no file for UEFI's variables.",
    why="What its firmware stores (boot order, keys) is lost when it ends.",
    fix="Name a template and a file under firmware in the profile if it matters.",
)  # fmt: skip


@rule_of(Vmm.QEMU)
def firmware(scene: Scene) -> Iterator[Finding]:
    """UEFI (sources: qemu-M3, qemu-M4)."""
    image = scene.vm.firmware
    if image is None:
        if scene.vm.machine.uefi or any(vsmmu.accel for vsmmu in scene.vm.vsmmus):
            yield NO_FIRMWARE.at(scene.name)
        return
    known = [described.executable for described in scene.host.facts.firmware]
    if not known:
        yield FIRMWARE_ASSUMED.at(visible(image.code))
    elif known and image.code not in known:
        yield FIRMWARE_UNKNOWN.at(scene.name, path=visible(image.code))
    if image.vars is None:
        yield FIRMWARE_VARS.at(scene.name)


PATH = plan_code(
    "path-impossible", ERROR,
    what="VM {subject}: {what_for} {path} can't be used: {because}.",
    why="The path goes to QEMU, to libvirt and to the preparation script as it is.",
    fix="Give an absolute path that a file can have.",
)  # fmt: skip
NOTES = plan_code(
    "notes-not-unicode", ERROR,
    what="VM {subject}: its notes are not UTF-8.",
    why="Profiles, JSON and XML are UTF-8, and can't carry other bytes.",
    fix="Write them in UTF-8.",
)  # fmt: skip
SOCKET = plan_code(
    "socket-path-long", ERROR,
    what="VM {subject}: the QMP socket {path} is {count} bytes long.",
    why="A Unix socket's path has room for 107 bytes.",
    fix="Name a shorter one (qmp in the profile).",
)  # fmt: skip
MAC = plan_code(
    "mac-impossible", ERROR,
    what="VM {subject}: {mac} is no MAC address for a network card.",
    why="It has six hexadecimal bytes, and the lowest bit of the first is clear (a set one is multicast).",
    fix="Write it as 52:54:00:12:34:56, or leave it out.",
)  # fmt: skip
NETWORK_SOURCE = plan_code(
    "network-source", ERROR,
    what="VM {subject}: a network of kind {kind} {because}.",
    why="A tap or a bridge is an interface of the host, with a name of at most 15 bytes without '/' and spaces; user networking has none.",
    fix="Write the interface as source, for instance --network bridge:br0.",
)  # fmt: skip
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_INTERFACE = re.compile(r"[^\s/:\x00-\x1f\x7f]{1,15}")


def _broken(text: str) -> bool:
    """Bytes that are no UTF-8 come from the command line as lone surrogates; no format here can carry them."""
    return any(unicodedata.category(c) == "Cs" for c in text)


def path_fault(path: str) -> str | None:
    """Why no file can be meant by this."""
    if not path:
        return "it is empty"
    if "\0" in path:
        return "it has a zero byte"
    if not path.startswith("/"):
        return "it is not absolute"
    if _broken(path):
        return "it is not UTF-8"
    if len(path.encode()) > 4095:
        return "it is longer than 4095 bytes"
    if path.endswith("/"):
        return "it ends in '/'"
    return None if plain(path) else "it has '.', '..' or '//' in it"


@rule
def words(scene: Scene) -> Iterator[Finding]:
    """Paths, MAC addresses and interface names."""
    vm = scene.vm
    paths = [("the disk", disk.path) for disk in vm.disks]
    if vm.firmware:
        image = vm.firmware
        paths += [(what, path) for what, path in (("the firmware", image.code), ("the variables", image.vars), ("the template", image.vars_template))
                  if path is not None]  # fmt: skip
    if vm.qmp is not None:
        paths.append(("the QMP socket", vm.qmp))
        length = len(vm.qmp.encode("utf-8", "replace"))
        if length > SOCKET_BYTES:
            yield SOCKET.at(scene.name, path=visible(vm.qmp), count=length)
    if _broken(vm.notes):
        yield NOTES.at(scene.name)
    for what, path in paths:
        if fault := path_fault(path):
            yield PATH.at(scene.name, what_for=what, path=visible(path) or "''", because=fault)
    for network in vm.networks:
        if not _MAC.fullmatch(network.mac) or int(network.mac[:2], 16) & 1:
            yield MAC.at(scene.name, mac=visible(network.mac))
        if network.kind == "user" and network.source:
            yield NETWORK_SOURCE.at(scene.name, kind="user", because=f"names {visible(network.source)}, and needs nothing")
        elif network.kind != "user" and not _INTERFACE.fullmatch(network.source or ""):
            because = f"names {visible(network.source)}, which is no interface" if network.source else "names no interface"
            yield NETWORK_SOURCE.at(scene.name, kind=network.kind, because=because)


USER = plan_code(
    "user-name", ERROR,
    what="VM {subject}: {user} can't be a user name.",
    why="The preparation script gives that user the devices and the limits.",
    fix="Give the name of an account of the host with --user.",
    action=set_to("user", "root"),
)  # fmt: skip
UUID = plan_code(
    "uuid-impossible", ERROR,
    what="VM {subject}: {uuid} is no UUID.",
    why="libvirt and the guest's SMBIOS want one.",
    fix="Write it as 8-4-4-4-12 hexadecimal digits, or leave it out.",
)  # fmt: skip
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@rule
def user(scene: Scene) -> Iterator[Finding]:
    """Useradd's own grammar; and the UUID."""
    if not _USER.fullmatch(scene.vm.user):
        yield USER.at(scene.name, user=visible(scene.vm.user) or "''")
    if not _UUID.fullmatch(scene.vm.uuid):
        yield UUID.at(scene.name, uuid=visible(scene.vm.uuid) or "''")


MIGRATION = plan_code(
    "migration-blocked", INFO,
    what="VM {subject} can't be migrated while it runs.",
    why="QEMU blocks it while accel is on ('Migration not supported with SMMUv3 accelerator mode enabled'); assigned functions mostly do too.",
    fix="Shut it down here and start it there: with every property written out the guest sees the same platform.",
)  # fmt: skip
GUEST_NEEDS = plan_code(
    "guest-needs", INFO,
    what="The guest of VM {subject} needs UEFI and ACPI, and a kernel that knows IORT RMR nodes{more}.",
    why="{vmm} describes the MSI window of an accelerated vSMMU as an RMR (Linux 6.0 and later map it); a guest that translates without it loses "
    "its interrupts. With iommu.passthrough=1, or without a driver for the vSMMU, data and interrupts still move, but nothing is isolated inside "
    "the guest: each of its functions reaches all of its memory, and neither {vmm} nor the host shows it.",
    fix="Use a Linux guest of 6.0 or later, with CONFIG_ARM_SMMU_V3{options}. Leave iommu.passthrough=1 off its command line where its functions "
    "are to be kept apart; in the guest, /sys/kernel/iommu_groups/*/type then says DMA, not identity.",
)  # fmt: skip


@rule_of(Vmm.QEMU)
def migration(scene: Scene) -> Iterator[Finding]:
    """Said with every accelerated plan."""
    if scene.vm.mode is Mode.ACCEL and any(vsmmu.accel for vsmmu in scene.vm.vsmmus):
        yield MIGRATION.at(scene.name)


@rule
def what_it_means(scene: Scene) -> Iterator[Finding]:
    """Said with every accelerated plan."""
    accelerated = [vsmmu for vsmmu in scene.vm.vsmmus if vsmmu.accel]
    if scene.vm.mode is not Mode.ACCEL or not accelerated:
        return
    more, options = [], []
    if any(vsmmu.ats.resolved for vsmmu in accelerated):
        more.append("ATS")
        options.append("CONFIG_PCI_ATS")
    if any(vsmmu.ssidsize.resolved for vsmmu in accelerated):
        more.append("PASID")
        options += ["CONFIG_ARM_SMMU_V3_SVA", "CONFIG_PCI_PASID"]
    if any(vsmmu.cmdqv.resolved for vsmmu in accelerated):
        more.append("CMDQV")
        options.append("CONFIG_TEGRA241_CMDQV")
    yield GUEST_NEEDS.at(
        scene.name,
        vmm=scene.vm.vmm.name_of_it,
        more=f"; to use {', '.join(more)} it needs the options for it" if more else "",
        options="".join(f", {option}" for option in options),
    )
