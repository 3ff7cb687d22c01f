"""vfio-pci, emulated devices and hot-plug (sources: qemu-behind-accel, qemu-vfio)."""

from __future__ import annotations

from collections.abc import Iterator

from wizard.base.address import Address
from wizard.base.finding import Area, Finding
from wizard.base.text import plural, size, visible
from wizard.host.vmm import Vmm
from wizard.plan.candidate import canonical, look_up
from wizard.plan.codes import ERROR, INFO, WARNING, plan_code
from wizard.plan.model import ROOT_BUS
from wizard.plan.properties import declared
from wizard.plan.regions import power_of_two, window
from wizard.plan.request import Mode
from wizard.plan.resolve import supply
from wizard.plan.rules.base import Scene, rule, rule_of

NO_IOMMUFD = plan_code(
    "vfio-without-iommufd", ERROR,
    what="VM {subject}: {function} is behind an accelerated vSMMU without iommufd.",
    why="QEMU: 'vfio-pci endpoint devices without an iommufd backend not allowed when using arm-smmuv3,accel=on'.",
    fix="Leave iommufd on.",
)  # fmt: skip
IOMMUFD_MIXED = plan_code(
    "iommufd-mixed", WARNING,
    what="VM {subject}: {functions} are opened through the VFIO container, and its other functions through iommufd.",
    why="Each of the two maps and pins all of the guest's memory for itself, and functions of one can't reach the BARs of the other.",
    fix="Open all of them through iommufd.",
)  # fmt: skip
HOST_IOMMUFD = plan_code(
    "host-without-iommufd", ERROR, area=Area.KCONFIG,
    what="This host has no /dev/iommu, and VM {subject} needs it.",
    why="QEMU: '/dev/iommu does not exist (is your kernel config missing CONFIG_IOMMUFD?)', before any device is made.",
    fix="Load iommufd (modprobe iommufd), or boot a kernel with CONFIG_IOMMUFD, then record the host again.",
)  # fmt: skip


@rule
def iommufd(scene: Scene) -> Iterator[Finding]:
    """The iommufd object (sources: problem-14)."""
    for device in scene.vm.devices:
        vsmmu = scene.vm.vsmmu(device.vsmmu)
        if vsmmu is not None and vsmmu.accel and not device.iommufd:
            yield NO_IOMMUFD.at(scene.name, function=device.host)
    if len({device.iommufd for device in scene.vm.devices}) > 1:
        legacy = ", ".join(device.host for device in scene.vm.devices if not device.iommufd)
        yield IOMMUFD_MIXED.at(scene.name, functions=legacy)
    modules = {name.replace("-", "_") for name in scene.host.facts.kernel.modules}
    config = (scene.host.facts.kernel.config or {}).get("CONFIG_IOMMUFD")
    if scene.vm.iommufd and scene.host.facts.iommufd is False and config not in ("m", "y") and "iommufd" not in modules:
        yield HOST_IOMMUFD.at(scene.name)


NO_VFIO = plan_code(
    "kernel-without-vfio", ERROR, area=Area.KCONFIG,
    what="VM {subject}: this host's kernel was built without {options}.",
    why="VMs get functions through vfio-pci, and QEMU reaches iommufd only through the VFIO character device of a function.",
    fix="Install a kernel with {options}, or build one.",
)  # fmt: skip


@rule
def vfio_options(scene: Scene) -> Iterator[Finding]:
    """Options that every mode needs; of accelerated functions the verdict says it (sources: problem-9, problem-29)."""
    config = scene.host.facts.kernel.config or {}
    if all(device.mode is Mode.ACCEL for device in scene.vm.devices) or any(c.function.facts.vfio_dev for c in scene.everything):
        return
    needed = ["CONFIG_VFIO_PCI"] + ["CONFIG_VFIO_DEVICE_CDEV"] * any(device.iommufd for device in scene.vm.devices)
    if lacking := [option for option in needed if config.get(option) == "n"]:
        yield NO_VFIO.at(scene.name, options=" and ".join(lacking))


SEGMENT = plan_code(
    "segment-above-ffff", INFO,
    what="{subject} has a segment of more than four digits.",
    why="vfio-pci's host= takes four: 'Property 'vfio-pci.host' doesn't take value'.",
    fix="Nothing to do: the exports name it by sysfsdev=.",
)  # fmt: skip
VFIO_ATS = plan_code(
    "vfio-ats-needs-smmu", ERROR,
    what="VM {subject}: {function} is asked for with ats={value}, and {because}.",
    why="QEMU: 'vfio-pci: ATS requested but not supported by kernel', or the guest sees a capability that does nothing.",
    fix="Leave ats out for the function.",
)  # fmt: skip


@rule_of(Vmm.QEMU)
def vfio(scene: Scene) -> Iterator[Finding]:
    """vfio-pci's own options."""
    for device in scene.vm.devices:
        if Address.parse(device.host).segment > 0xFFFF:
            yield SEGMENT.at(device.host)
        if device.ats != "on":
            continue
        candidate = scene.candidate(device)
        vsmmu = scene.vm.vsmmu(device.vsmmu)
        if candidate is not None and candidate.function.known("ats").value is False:
            yield VFIO_ATS.at(scene.name, function=device.host, value="on", because="it has no ATS capability")
        elif vsmmu is None or not vsmmu.ats.resolved:
            yield VFIO_ATS.at(scene.name, function=device.host, value="on", because="it is behind no vSMMU with ats=on")


EMULATED = plan_code(
    "emulated-behind-accel", ERROR,
    what="VM {subject}: {id} is on {bus}, behind an accelerated vSMMU.",
    why="QEMU: 'Emulated endpoint devices are not allowed when using arm-smmuv3,accel=on', or an abort.",
    fix="Leave bus out: emulated devices belong on pcie.0.",
)  # fmt: skip
BUS_UNKNOWN = plan_code(
    "unknown-bus", ERROR,
    what="VM {subject}: {id} is on {bus}, and there is no such bus{which}.",
    why="QEMU: 'Device not found', or 'Only PCI/PCIe bridges can be plugged into pxb-pcie'.",
    fix="Leave bus out: emulated devices belong on pcie.0.",
)  # fmt: skip


@rule
def emulated(scene: Scene) -> Iterator[Finding]:
    """What may sit behind an accelerated vSMMU, and only bridges directly on a pxb (sources: qemu-behind-accel, qemu-P2)."""
    vm = scene.vm
    accelerated = {vsmmu.bus for vsmmu in vm.vsmmus if vsmmu.accel}
    endpoints = [(other.id, other.bus) for other in vm.others if other.kind == "endpoint"]
    for id, bus in [*((disk.id, disk.bus) for disk in vm.disks), *((network.id, network.bus) for network in vm.networks), *endpoints]:
        if bus == ROOT_BUS:
            continue  # a vSMMU there is the one that is wrong
        above = vm.other(bus)
        if vm.complex_of(bus) in accelerated:
            yield EMULATED.at(scene.name, id=id, bus=visible(bus))
        elif above is None or above.kind in ("endpoint", "expander", "upstream"):
            yield BUS_UNKNOWN.at(scene.name, id=id, bus=visible(bus), which=" for an emulated device")
    for other in vm.others:
        above = vm.other(other.bus)
        if other.kind == "endpoint" or other.bus == ROOT_BUS or vm.bus(other.bus) is not None:
            continue
        if above is None or above.kind == "endpoint" or other.kind == "expander" or vm.complex_of(other.id) not in _roots(scene):
            yield BUS_UNKNOWN.at(scene.name, id=visible(other.id), bus=visible(other.bus), which=" for it")
    for device in vm.devices:
        above = vm.other(device.port)
        if above is not None and above.kind in ("expander", "upstream", "endpoint"):
            yield BUS_UNKNOWN.at(scene.name, id=visible(device.id), bus=visible(device.port), which=" for a function")


def _roots(scene: Scene) -> set[str]:
    return {ROOT_BUS, *(bus.id for bus in scene.vm.buses), *(other.id for other in scene.vm.others if other.kind == "expander")}


HOTPLUG_WHERE = plan_code(
    "hotplug-without-vsmmu", ERROR,
    what="VM {subject}: hot-plug port {port} is on no vSMMU{why_not}.",
    why="What is plugged there would have no vIOMMU beside functions that have one.",
    fix="Name the functions that may be plugged, or the vSMMU.",
)  # fmt: skip
HOTPLUG_UNKNOWN = plan_code(
    "hotplug-unknown-function", ERROR,
    what="VM {subject}: {function}, which may be plugged into {port}, is not on this host.",
    why="The port's windows are made for the largest function that it may take.",
    fix="Choose functions that `smmu-wizard list` shows, or write only the reserves.",
)  # fmt: skip
HOTPLUG_SMMU = plan_code(
    "hotplug-other-smmu", ERROR,
    what="VM {subject}: {function}, which may be plugged into {port}, sits behind {other}, and the port belongs to {smmu}.",
    why="QEMU takes a function of another SMMU, and the kernel refuses its attach (Invalid argument): it then reaches all of the VM's memory with "
    "no vIOMMU before it. The running guest can't get another vSMMU.",
    fix="Reserve a port on a vSMMU of {other}.",
)  # fmt: skip
HOTPLUG_VF = plan_code(
    "hotplug-vf-to-be-made", WARNING,
    what="VM {subject}: {function}, which may be plugged into {port}, is VF {index} of {pf} and is still to be made.",
    why="The preparation script makes the VFs that the VM starts with; this one has to be there before it is plugged.",
    fix="Make it first (sriov_numvfs of {pf}), and record the host again.",
)  # fmt: skip
HOTPLUG_GRACE = plan_code(
    "hotplug-grace-gpu", WARNING,
    what="VM {subject}: {function}, which may be plugged into {port}, is a Grace GPU, and will have no NUMA nodes for its memory.",
    why="Generic initiators tie those nodes to a function that is there when the VM starts; the guest's driver brings its memory up on them.",
    fix="Give the GPU to the VM from the start.",
)  # fmt: skip
HOTPLUG_VERDICT = plan_code(
    "hotplug-not-accelerated", ERROR,
    what="VM {subject}: {function}, which may be plugged into {port}, {judged}: {because}",
    why="Behind an accelerated vSMMU QEMU refuses at device_add what can't be accelerated.",
    fix="Choose other functions for the port{risk}.",
)  # fmt: skip
HOTPLUG_RESERVE = plan_code(
    "hotplug-reserve-small", ERROR,
    what="VM {subject}: port {port} reserves {what_for} {has}, and {function} needs {needs}.",
    why="Accel keeps the windows that firmware has made: a function whose BARs do not fit gets no addresses.",
    fix="Leave the reserve out, or write {needs}.",
)  # fmt: skip
HOTPLUG_PROPERTY = plan_code(
    "hotplug-property", ERROR,
    what="VM {subject}: {function} can't be plugged into {port}: {name} of the vSMMU is {value}, and its SMMU has {host}.",
    why="Hot-plugged functions are compared with the finalised values; QEMU refuses the device_add.",
    fix="Write {name}={host} for that vSMMU.",
)  # fmt: skip
HOTPLUG_BYPASS = plan_code(
    "hotplug-bypass", WARNING,
    what="VM {subject}: what is plugged into {port} reaches all of the VM's memory until the guest's driver has set it up, also where the guest "
    "has set GBPA.ABORT.",
    why="QEMU attaches what GBPA says when it makes the vIOMMU of {vsmmu}, to the first function behind it. One that is plugged beside others stays "
    "on stage 2 until the guest's CMD_CFGI_STE, or its next write to GBPA (smmuv3_accel_set_iommu_device() of QEMU 11.1).",
    fix="Nothing to do where the guest trusts the function. Otherwise give it to the VM from the start, or reserve a port on a vSMMU of its own.",
)  # fmt: skip


@rule_of(Vmm.QEMU)
def hotplug(scene: Scene) -> Iterator[Finding]:
    """Reserved ports (sources: qemu-S9, qemu-S10, qemu-vfio)."""
    vm = scene.vm
    for port in vm.ports:
        if not port.hotplug:
            continue
        vsmmu = next((v for v in vm.vsmmus if v.bus == port.bus), None)
        if vsmmu is not None and vsmmu.accel and len([p for p in vm.ports if p.bus == port.bus]) > 1:
            yield HOTPLUG_BYPASS.at(scene.name, port=port.id, vsmmu=vsmmu.id)
        if vsmmu is None and vm.mode is Mode.ACCEL:
            yield HOTPLUG_WHERE.at(scene.name, port=port.id, why_not="" if vm.vsmmus else ": the VM has none")
        for address in port.candidates:
            candidate = look_up(scene.host, canonical(address))
            if candidate is None:
                yield HOTPLUG_UNKNOWN.at(scene.name, function=visible(address), port=port.id)
                continue
            if candidate.to_make:
                yield HOTPLUG_VF.at(scene.name, function=address, port=port.id, index=candidate.vf_index, pf=candidate.pf)
            if candidate.is_grace_gpu:
                yield HOTPLUG_GRACE.at(scene.name, function=address, port=port.id)
            yield from _windows(scene, port.id, address)
            if vsmmu is None:
                continue
            if (candidate.smmu.name if candidate.smmu else None) != vsmmu.smmu:
                other = candidate.smmu.name if candidate.smmu else "no SMMU"
                yield HOTPLUG_SMMU.at(scene.name, function=address, port=port.id, other=other, smmu=vsmmu.smmu)
                continue
            if candidate.verdict.accel == "no" or (candidate.verdict.accel == "unknown" and not vm.request.assume_accel):
                first, *others = candidate.verdict.reasons
                because = first.what + (f" ({plural(len(others), 'more reason')}: `smmu-wizard show {candidate.function}`.)" if others else "")
                open_ = candidate.verdict.accel == "unknown"
                judged = "is not known to be one that can be accelerated" if open_ else "can't be accelerated"
                risk = ", or take the risk with --assume-accel" if open_ else ""
                yield HOTPLUG_VERDICT.at(scene.name, function=address, port=port.id, judged=judged, because=because, risk=risk)
            for name, prop in vsmmu.properties():
                known = supply(candidate.smmu, name).compared
                host = known.value if isinstance(known.value, int) else 0
                told = prop.written is not None and not prop.auto and not scene.compared_later(vsmmu)  # the same of the vSMMU itself
                if prop.resolved is not None and known.known and prop.resolved > host and not told:
                    has = declared(name).spell(host)
                    yield HOTPLUG_PROPERTY.at(scene.name, function=address, port=port.id, name=name, value=prop.show(), host=has)


def _windows(scene: Scene, port_id: str, address: str) -> Iterator[Finding]:
    port, candidate = scene.vm.port(port_id), look_up(scene.host, canonical(address))
    if port is None or candidate is None:
        return
    regions = candidate.regions
    for what, has, sizes in (("a 64-bit window of", port.pref64_reserve, regions.high), ("a 32-bit window of", port.mem_reserve, regions.low)):
        needs = power_of_two(window(sizes)) if sizes else 0
        if has is not None and has < needs:
            yield HOTPLUG_RESERVE.at(scene.name, port=port_id, what_for=what, has=size(has), function=address, needs=size(needs))
