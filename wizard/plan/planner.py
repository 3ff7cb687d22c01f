"""From a host and a request to a plan: a pure function.

To ask whether something can be done is to make the plan: errors are findings in it, and what is written in the request
stays as it is written. A profile that was edited by hand, or comes from another host, takes the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from wizard.base.finding import Finding, ordered
from wizard.host.model import Host
from wizard.host.vmm import Vmm
from wizard.plan import memory as memory_room
from wizard.plan import rules
from wizard.plan.candidate import Candidate, canonical, look_up
from wizard.plan.drivers import vfio_driver
from wizard.plan.guest_topology import Asked, GuestTopology, Reserve, lay_out
from wizard.plan.ladder import judge, rungs, take, virtio_settings
from wizard.plan.model import (
    ROOT_BUS,
    BusPlan,
    DevicePlan,
    DiskPlan,
    MachinePlan,
    NetworkPlan,
    NodePlan,
    Plan,
    VirtioIommuPlan,
    VmPlan,
    VsmmuPlan,
)
from wizard.plan.numbers import Names, mac_of, uuid_of
from wizard.plan.packing import packed
from wizard.plan.places import NO_SOCKET, socket_of, variables_of
from wizard.plan.regions import power_of_two, window
from wizard.plan.request import FirmwareRequest, FunctionRequest, HotplugRequest, MadeFor, Mode, Request, VmRequest
from wizard.plan.resolve import CMDQV_VINTFS, ats_for_all, cmdqv_functions, resolve
from wizard.plan.target import Target, target_of

IOMMUFD = "iommufd0"
AAVMF_CODE = "/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd"  # as Debian, Ubuntu and (by a link) Fedora have it
AAVMF_VARS = "/usr/share/AAVMF/AAVMF_VARS.fd"


def make_plan(host: Host, request: Request) -> Plan:
    """The plan for every VM of the request, with all findings. Never raises for what is asked: a bad request is a finding."""
    vms = tuple(_plan_vm(host, vm) for vm in request.vms)
    if without := _beyond_cmdqv(vms):
        vms = tuple(_plan_vm(host, vm.request, without[place]) if place in without else vm for place, vm in enumerate(vms))
    shared = rules.of_all(host, vms, request)
    divided = rules.divided(vms)
    finished = []
    for place, vm in enumerate(vms):
        together = shared.get(place, [])
        own = [*(finding for finding in vm.findings if not rules.told_of_several(finding, together, divided)), *together]
        finished.append(replace(vm, findings=ordered(dict.fromkeys(own))))
    findings = dict.fromkeys([*shared.get(None, ()), *(finding for vm in finished for finding in vm.findings)])
    return Plan(
        host=host.facts.identity.host,
        digest=host.digest,
        vms=tuple(finished),
        findings=ordered(findings),
    )


def _beyond_cmdqv(vms: Sequence[VmPlan]) -> dict[int, frozenset[str]]:
    """Place of a VM -> ids of its vSMMUs that have to do without a CMDQV, because others have taken all that the SMMU has.

    Those that were asked for come first; what the planner switches on by itself gets what is left, in the order of the VMs.
    """
    users = [(place, vsmmu) for place, vm in enumerate(vms) for vsmmu in vm.vsmmus if vsmmu.accel and vsmmu.cmdqv.resolved and vsmmu.smmu]
    left = dict.fromkeys((vsmmu.smmu for _, vsmmu in users), CMDQV_VINTFS)
    without: dict[int, set[str]] = {}
    for place, vsmmu in sorted(users, key=lambda user: user[1].cmdqv.origin == "host"):
        left[vsmmu.smmu] -= 1
        if left[vsmmu.smmu] < 0 and vsmmu.cmdqv.origin == "host":
            without.setdefault(place, set()).add(vsmmu.id)
    return {place: frozenset(ids) for place, ids in without.items()}


def _plan_vm(host: Host, request: VmRequest, no_cmdqv: frozenset[str] = frozenset()) -> VmPlan:
    """The plan of one VM in the first mode that holds: to ask whether a mode is possible is to plan it.

    ``no_cmdqv``: ids of vSMMUs that get none, whatever the host has.
    """
    target = target_of(host.facts, request.target)
    unusable: list[Finding] = []
    found: dict[str, tuple[FunctionRequest, Candidate]] = {}
    for function in request.functions:
        function = replace(function, host=canonical(function.host))
        candidate = look_up(host, function.host)
        if candidate is None or candidate.address in found:
            unusable.append(rules.not_usable(host, request, function.host, known=candidate is not None))
        else:
            found[candidate.address] = function, candidate
    known = {address: candidate for address, (_, candidate) in found.items()}
    drafts: list[VmPlan] = []
    for mode in rungs(request):
        vm = _draft(host, request, mode, list(found.values()), target, no_cmdqv)
        said = judge(host, request, mode, [(candidate, function.mode) for function, candidate in found.values()])
        drafts.append(replace(vm, findings=(*unusable, *said, *rules.of_vm(host, vm, target, known))))
        if drafts[-1].ok:
            break
    return take(drafts)


def _for_mode(request: VmRequest, mode: Mode) -> VmRequest:
    """The request without what was written for accelerated vSMMUs, where there are none: a profile that falls back keeps the rest."""
    if mode is Mode.ACCEL:
        return request
    if mode is request.mode:
        return replace(request, vsmmus=())
    hotplug = tuple(replace(one, vsmmu=None, port_slot=None) for one in request.hotplug)
    return replace(request, mode=mode, vsmmus=(), hotplug=hotplug)


def _draft(
    host: Host, request: VmRequest, mode: Mode, found: Sequence[tuple[FunctionRequest, Candidate]], target: Target, no_cmdqv: frozenset[str]
) -> VmPlan:
    """Every number of one VM in one mode; nothing is judged here."""
    laid = _for_mode(request, mode)
    asked = [
        Asked(
            # The slot of a port below a pxb says nothing about pcie.0.
            replace(function, port_slot=None) if mode is not request.mode and function.mode is not Mode.NONE else function,
            candidate,
            function.mode if function.mode is not None and mode is Mode.ACCEL else mode,
        )
        for function, candidate in found
    ]
    places = [_hotplug(host, hotplug) for hotplug in laid.hotplug]
    reserves = {place: reserve for place, (reserve, _) in enumerate(places)}
    smmus = {place: smmu for place, (_, smmu) in enumerate(places)}
    layout = lay_out(laid, asked, reserves, smmus)
    if (again := packed(laid, asked, layout)) is not None:
        laid, asked = again
        layout = lay_out(laid, asked, reserves, smmus)
    devices = _devices(layout, asked)
    nodes = memory_room.guest_nodes(
        host,
        request,
        [a.candidate.numa_node for a in asked],
        [(d.id, a.candidate.gpu_nodes) for d in devices for a in asked if a.candidate.address == d.host and a.candidate.is_grace_gpu],
    )
    regions = {a.candidate.address: a.candidate.regions for a in asked}
    accelerated_buses = {vsmmu.bus for vsmmu in layout.vsmmus if vsmmu.accel}
    behind = [port.bus in accelerated_buses for port, held in zip(layout.ports, layout.functions, strict=True) for _ in held or (None,)]
    behind += [layout.complex_of(one.request.port or ROOT_BUS) in accelerated_buses for one in layout.direct]
    expanders = [(bus.bus_nr, bus.id) for bus in layout.buses] + [
        (other.bus_nr or 0, other.id) for other in layout.others if other.kind == "expander"
    ]
    memory = memory_room.memory_plan(
        request,
        mode,
        nodes,
        [ROOT_BUS, *(id for _, id in sorted(expanders))],
        [
            *(
                memory_room.PortNeeds(port.bus, [regions[a.candidate.address] for a in held], port.mem_reserve or 0, port.pref64_reserve or 0)
                for port, held in zip(layout.ports, layout.functions, strict=True)
            ),
            *(memory_room.PortNeeds(layout.complex_of(a.request.port or ROOT_BUS), [regions[a.candidate.address]]) for a in layout.direct),
            *(
                memory_room.PortNeeds(layout.complex_of(other.id), (), other.mem_reserve or 0, other.pref64_reserve or 0)
                for other in layout.others
                if other.kind not in ("endpoint", "expander")
            ),
        ],
        memory_room.pinned(request.memory, request.cpus, host.page_size, memory_room.address_spaces(mode, behind)),
    )
    vsmmus = _vsmmus(host, request, layout, devices, target, no_cmdqv) if mode is Mode.ACCEL else ()
    buses = tuple(_on_node(host, bus, layout, nodes) for bus in layout.buses)
    accelerated = any(v.accel for v in vsmmus) or mode is Mode.VIRTIO_IOMMU
    virtio_iommu = None
    if layout.virtio_iommu_slot is not None:
        granule, bits = virtio_settings(host, [candidate for _, candidate in found])
        virtio_iommu = VirtioIommuPlan(slot=layout.virtio_iommu_slot, granule=granule, aw_bits=bits)
    return VmPlan(
        name=request.name,
        request=request,
        mode=mode,
        machine=MachinePlan(
            type=request.machine.type or target.machine,
            gic=request.machine.gic,
            its=request.machine.its,
            acpi=request.machine.acpi,
            uefi=request.machine.uefi,
            iommu=request.machine.iommu,
        ),
        cpus=request.cpus,
        memory=memory,
        firmware=_firmware(host, request) if request.machine.uefi else None,
        vsmmus=vsmmus,
        buses=buses,
        ports=layout.ports,
        devices=devices,
        others=layout.others,
        virtio_iommu=virtio_iommu,
        disks=_disks(request, layout),
        networks=_networks(request, layout),
        iommufd=IOMMUFD if any(device.iommufd for device in devices) or (accelerated and (layout.ports or layout.direct)) else None,
        qmp=_socket(request, target),
        emulator=target.path,
        qemu=target.name if target.vmm is Vmm.QEMU else None,
        uuid=request.uuid or uuid_of(request.name),
        user=request.user,
        notes=request.notes,
        made_for=request.made_for or MadeFor(host=host.facts.identity.host, digest=host.digest, product=host.facts.identity.product),
    )


def _socket(request: VmRequest, target: Target) -> str | None:
    """The socket of QEMU's monitor. Without one neither its events, its traces nor `verify` reach the VM for as long as it lives."""
    if request.qmp == NO_SOCKET or target.vmm is not Vmm.QEMU:
        return None
    return request.qmp or socket_of(request.name)


def _devices(layout: GuestTopology, asked: Sequence[Asked]) -> tuple[DevicePlan, ...]:
    """In the order of the request: the first one behind a vSMMU decides what its auto comes to."""
    names = Names(a.request.id for a in asked)
    port_of = {a.candidate.address: (port, held) for port, held in zip(layout.ports, layout.functions, strict=True) for a in held}
    beside = [(a.request.port, a.request.slot or 0) for a in layout.direct]
    vsmmu_of = {vsmmu.bus: vsmmu.id for vsmmu in layout.vsmmus}
    made = []
    for count, one in enumerate(asked):
        port, held = port_of.get(one.candidate.address, (layout.above(one), (one,)))
        bus = port.id if port is not None else ROOT_BUS
        slot = (one.request.slot or 0) if one in layout.direct else 0
        candidate, request = one.candidate, one.request
        regions = candidate.regions
        made.append(
            DevicePlan(
                id=names.give("dev", count, request.id),
                host=candidate.address,
                name=candidate.name,
                ids=candidate.ids,
                mode=one.mode,
                port=bus,
                bus=port.secondary if port is not None else 0,
                slot=slot,
                function=_function_number(one, held),
                multifunction=len(held) > 1 or beside.count((bus, slot)) > 1,
                smmu=candidate.smmu.name if candidate.smmu else None,
                vsmmu=vsmmu_of.get(layout.complex_of(bus)) if one.mode is Mode.ACCEL else None,
                driver=request.driver or vfio_driver(candidate),
                group=candidate.group.id if candidate.group else None,
                host_node=candidate.numa_node,
                iommufd=request.iommufd,
                ats=request.ats,
                rom=request.rom,
                serial=serial_of(candidate),
                pf=candidate.pf,
                vf_index=candidate.index,
                to_make=candidate.to_make,
                bars=(*regions.high, *regions.low),
                bars_from=regions.source,
            )
        )
    return tuple(made)


def serial_of(candidate: Candidate) -> str | None:
    """The serial number that finds a function again; None where it can't.

    Where there was no machine-id to make pseudonyms with they are only numbered, and say nothing on another record.
    """
    facts = candidate.host.facts
    comparable = not facts.redacted or facts.identity.host is not None
    return candidate.function.facts.serial_number if comparable and not candidate.to_make else None


def _function_number(one: Asked, held: Sequence[Asked]) -> int:
    """As on the host where function 0 is among them, else counted: a guest looks no further where function 0 is missing."""
    if one.request.function is not None:
        return one.request.function
    numbers = [0 if a.candidate.is_vf else a.candidate.function.address.function for a in held]
    if 0 in numbers and len(set(numbers)) == len(numbers):
        return numbers[held.index(one)]
    return held.index(one)


def _vsmmus(
    host: Host, request: VmRequest, layout: GuestTopology, devices: Sequence[DevicePlan], target: Target, no_cmdqv: frozenset[str]
) -> tuple[VsmmuPlan, ...]:
    assumed = request.assume_accel
    ats = ats_for_all(host, [host.smmus.get(v.smmu or "") for v in layout.vsmmus], assumed=assumed)
    ats = ats and all((v.properties.ats or request.properties.ats) != "off" for v in layout.vsmmus)
    made = []
    for vsmmu in layout.vsmmus:
        smmu = host.smmus.get(vsmmu.smmu or "")
        behind = [device.host for device in devices if device.vsmmu == vsmmu.id]
        held = len(behind) + sum(port.hotplug for port in layout.ports if port.bus == vsmmu.bus)
        room = held <= cmdqv_functions(host, smmu) and vsmmu.id not in no_cmdqv
        left_out = {name for name, fits in (("ats", ats), ("cmdqv", room)) if not fits}
        wishes, first = (vsmmu.properties, request.properties), next(iter(behind), None)
        properties: dict[str, Any] = resolve(host, smmu, wishes, target, first, assumed=assumed, left_out=left_out)
        made.append(VsmmuPlan(id=vsmmu.id, smmu=vsmmu.smmu, bus=vsmmu.bus or "", accel=vsmmu.accel, **properties))
    return tuple(made)


def _on_node(host: Host, bus: BusPlan, layout: GuestTopology, nodes: Sequence[NodePlan]) -> BusPlan:
    vsmmu = next(v for v in layout.vsmmus if v.bus == bus.id)
    smmu = host.smmus.get(vsmmu.smmu or "")
    host_node = smmu.numa_node if smmu else None
    if host_node is None:
        places = [a.candidate.numa_node for port, held in zip(layout.ports, layout.functions, strict=True) if port.bus == bus.id for a in held]
        host_node = next((node for node in places if node is not None), None)
    return replace(bus, host_node=host_node, numa_node=bus.numa_node if bus.numa_node is not None else memory_room.node_of(nodes, host_node))


def _hotplug(host: Host, hotplug: HotplugRequest) -> tuple[Reserve, str | None]:
    """Reserves for the largest function that the port may take, and the SMMU that it belongs to."""
    candidates = [c for address in hotplug.functions if (c := look_up(host, canonical(address))) is not None]
    regions = [candidate.regions for candidate in candidates]
    high = max((window(r.high) for r in regions), default=0)
    low = max((window(r.low) for r in regions), default=0)
    smmu = next((c.smmu.name for c in candidates if c.smmu), None)
    reserve = Reserve(
        buses=hotplug.bus_reserve if hotplug.bus_reserve is not None else 0,
        mem=hotplug.mem_reserve if hotplug.mem_reserve is not None else power_of_two(low) if low else 2 << 20,
        pref64=hotplug.pref64_reserve if hotplug.pref64_reserve is not None else power_of_two(high) if high else 32 << 20,
    )
    return reserve, smmu


def _firmware(host: Host, request: VmRequest) -> FirmwareRequest:
    """The host's first UEFI for ``virt`` by its descriptors; one that does not enforce signatures where there is a choice.

    Where the host lists none it is AAVMF at its usual place, and a rule says so. Of an image that was named, the descriptor tells the
    format and the template of its variables, unless they are written too.
    """
    asked = request.firmware
    if asked is not None and (asked.vars is not None or asked.vars_template is not None):
        return asked
    images = [image for image in host.facts.firmware if any(machine.startswith("virt") for machine in image.machines)]
    if asked is not None:
        images = [image for image in images if image.executable == asked.code]
        if not images:
            return asked
    images.sort(key=lambda image: ("enrolled-keys" in image.features, "secure-boot" in image.features, image.executable_format != "raw"))
    if not images:
        return FirmwareRequest(code=AAVMF_CODE, vars_template=AAVMF_VARS, vars=variables_of(request.name))
    image = images[0]
    form = "qcow2" if image.executable_format == "qcow2" else "raw"
    return FirmwareRequest(
        code=image.executable,
        code_format=form,  # type: ignore[arg-type]  # one of the two, by the line above
        vars_template=image.nvram_template,
        vars=variables_of(request.name) if image.nvram_template else None,
        vars_format=form,  # type: ignore[arg-type]
    )


def _disks(request: VmRequest, layout: GuestTopology) -> tuple[DiskPlan, ...]:
    names = Names(disk.id for disk in request.disks)
    return tuple(
        DiskPlan(
            id=names.give("disk", count, disk.id),
            path=disk.path,
            format=disk.format,
            readonly=disk.readonly,
            slot=layout.disk_slots[count],
            bus=disk.bus or "pcie.0",
        )
        for count, disk in enumerate(request.disks)
    )


def _networks(request: VmRequest, layout: GuestTopology) -> tuple[NetworkPlan, ...]:
    names = Names(network.id for network in request.networks)
    return tuple(
        NetworkPlan(
            id=names.give("net", count, network.id),
            kind=network.kind,
            source=network.source,
            mac=network.mac or mac_of(request.name, count),
            slot=layout.network_slots[count],
            bus=network.bus or "pcie.0",
        )
        for count, network in enumerate(request.networks)
    )
