"""What OpenVMM can't give a VM, by its own documents and source (sources: vmms-openvmm). Nothing of it could be run here, and that is said."""

from __future__ import annotations

from collections.abc import Iterator

from wizard.base.finding import Finding
from wizard.base.text import plural, visible
from wizard.host.vmm import Vmm
from wizard.plan.codes import ERROR, INFO, WARNING, plan_code
from wizard.plan.model import ROOT_BUS
from wizard.plan.numbers import mac_of, uuid_of
from wizard.plan.properties import DECLARED, declared
from wizard.plan.request import KeptLibvirt, KeptQemu, Mode
from wizard.plan.rules.base import Scene, repeated, rule_of

BY_DOCUMENTS = plan_code(
    "openvmm-by-its-documents", INFO,
    what="VM {subject} is planned for OpenVMM by its documents and its source of August 2026; no OpenVMM was run here.",
    why="Its command line is not stable and may change between releases (its Guide says so); `openvmm --help` of the one you have decides. "
    "Where it puts memory and windows is not known here, so the host's reserved regions and the vSMMU's output size are not held against them.",
    fix="Try the VM before you rely on it. For what is held against the real program, plan it for QEMU.",
)  # fmt: skip
IMPOSSIBLE = plan_code(
    "openvmm-cant", ERROR,
    what="OpenVMM can't give VM {subject} {what}.",
    why="{why}",
    fix="{fix}",
)  # fmt: skip
WITHOUT = plan_code(
    "openvmm-goes-without", WARNING,
    what="VM {subject} has to go without this in OpenVMM: {what}.",
    why="OpenVMM has no option for it, so the guest sees another platform than with QEMU. Its vSMMU has stage 1 and the 4K granule, no ATS, no "
    "PASIDs, no range invalidation and no CMDQV.",
    fix="Leave it out of the profile if the guest can do without it; otherwise use QEMU.",
)  # fmt: skip


@rule_of(Vmm.OPENVMM)
def by_documents(scene: Scene) -> Iterator[Finding]:
    """Said with every plan."""
    yield BY_DOCUMENTS.at(scene.name)


@rule_of(Vmm.OPENVMM)
def impossible(scene: Scene) -> Iterator[Finding]:
    """What is refused, or would be another thing."""
    vm = scene.vm
    if vm.mode is Mode.VIRTIO_IOMMU:
        why = "Its one vIOMMU on arm64 is the SMMUv3 of --smmu; 'VFIO device is behind a software IOMMU' is how it refuses any other."
        yield IMPOSSIBLE.at(scene.name, what="a virtio-iommu", why=why, fix="Use --mode accel or none.")
    if not vm.machine.acpi:
        why = "It boots UEFI with ACPI; accel needs ACPI too ('accelerated translation requires ACPI'), and --device-tree excludes --uefi."
        yield IMPOSSIBLE.at(scene.name, what="a machine without ACPI", why=why, fix="Leave acpi on.")
    if not vm.machine.uefi:
        why = "It boots UEFI, or a kernel that is given to it, which a profile has no word for."
        yield IMPOSSIBLE.at(scene.name, what="a machine without firmware", why=why, fix="Give the VM UEFI.")
    if vm.machine.iommu is not None:
        why = "Its SMMUv3 covers one root complex, and one without accel takes no assigned function."
        yield IMPOSSIBLE.at(scene.name, what="one emulated SMMU for the whole machine", why=why, fix="Use accelerated vSMMUs, or none.")
    for vsmmu in vm.vsmmus:
        if not vsmmu.accel and vm.devices_of(vsmmu):
            why = "'VFIO device is behind a software IOMMU': without accel its SMMU translates in software, which a function's DMA never meets."
            fix = "Accelerate the vSMMU, or use --mode none."
            yield IMPOSSIBLE.at(scene.name, what=f"functions behind vSMMU {vsmmu.id} without accel", why=why, fix=fix)
    roots = {ROOT_BUS, *(bus.id for bus in vm.buses), *(other.id for other in vm.others if other.kind == "expander")}
    for other in vm.others:
        if other.kind in ("upstream", "downstream", "bridge") or (other.kind == "port" and other.bus not in roots):
            why = "The export knows root complexes and root ports of OpenVMM; its switches have another shape than QEMU's."
            fix = "Put what is behind it onto root ports."
            yield IMPOSSIBLE.at(scene.name, what=f"the bridge {visible(other.id)}", why=why, fix=fix)
    for disk in vm.disks:
        if disk.format != "raw":
            why = "It reads flat images, block devices and VHD; any other file is taken for a flat image, and the guest sees its header."
            fix = "Convert it: qemu-img convert -O raw."
            yield IMPOSSIBLE.at(scene.name, what=f"the disk {visible(disk.path)} in the format {disk.format}", why=why, fix=fix)
        elif set(disk.path) & set(",;"):
            why = "Its --virtio-blk divides its value at commas and semicolons, and has no way to write one."
            yield IMPOSSIBLE.at(scene.name, what=f"the disk {visible(disk.path)}", why=why, fix="Make a link without them, and name that.")
    for network in vm.networks:
        if network.kind == "bridge":
            why = "Its networks are a tap that exists, or user networking (consomme)."
            fix = f"Make a tap, put it on {visible(network.source or 'the bridge')}, and write tap:NAME."
            yield IMPOSSIBLE.at(scene.name, what=f"a network on the bridge {visible(network.source or '')}", why=why, fix=fix)
    for vsmmu in vm.vsmmus:
        for name, prop in vsmmu.properties():
            one = declared(name)
            if prop.written is not None and one.openvmm and not one.takes(prop.written, Vmm.OPENVMM):
                allowed = f"Write {', '.join(map(str, one.openvmm))} or auto, or leave it out."
                why = "These are the sizes that SMMUv3 has an encoding for."
                yield IMPOSSIBLE.at(scene.name, what=f"{name}={visible(prop.written)} for vSMMU {vsmmu.id}", why=why, fix=allowed)


@rule_of(Vmm.OPENVMM)
def without(scene: Scene) -> Iterator[Finding]:
    """What is asked for and left out: one sentence, since one decision is made of it."""
    vm, request = scene.vm, scene.vm.request
    lost: list[str] = []
    own = {vsmmu.id: vsmmu.properties for vsmmu in request.vsmmus}
    for vsmmu in vm.vsmmus:
        wishes = (own[vsmmu.id], request.properties) if vsmmu.id in own else (request.properties,)
        for one in DECLARED:
            wish = next((found for properties in wishes if (found := properties.of(one.name)) is not None), None)
            if not one.openvmm and wish is not None and one.number(str(wish)) != one.least:
                lost.append(f"{one.name}={visible(str(wish))} of vSMMU {vsmmu.id}")
    if shared := repeated([device.port for device in vm.devices]):
        lost.append(f"several functions of one device ({', '.join(d.host for d in vm.devices if d.port in shared)}: each gets a port of its own)")
    if free := [port.id for port in vm.ports if port.hotplug]:
        lost.append(f"functions that come later (the free ports {', '.join(free)}: 'VFIO devices must be specified at VM creation time')")
    lost += [f"ats={device.ats} of {device.host}" for device in vm.devices if device.ats is not None]
    lost += [f"no expansion ROM for {device.host}" for device in vm.devices if not device.rom]
    given = [network.mac for count, network in enumerate(vm.networks) if network.mac != mac_of(vm.name, count)]
    lost += [f"the MAC address {mac}" for mac in given]
    lost += [f"the UUID {vm.uuid}"] if vm.uuid != uuid_of(vm.name) else []
    lost += [f"the emulated device {visible(other.id)}" for other in vm.others if other.kind == "endpoint"]
    kept = [*(request.kept_qemu or KeptQemu()).options, *(request.kept_qemu or KeptQemu()).properties]
    kept += [text for part in ("domain", "devices", "inside") for text in getattr(request.kept_libvirt or KeptLibvirt(), part)]
    if kept:
        lost.append(f"{plural(len(kept), 'part')} of the VM that it was imported from")
    if vm.machine.gic != "3":
        lost.append(f"GIC version {visible(vm.machine.gic)} (it is version 3)")
    if lost:
        yield WITHOUT.at(scene.name, what="; ".join(lost))
