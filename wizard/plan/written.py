"""A plan as a request with every choice written out: what a profile holds. Planning it on the same host gives the same plan."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from wizard.plan.memory import cpu_text
from wizard.plan.model import ROOT_BUS, OtherPlan, VmPlan, VsmmuPlan
from wizard.plan.properties import Properties, Property, declared
from wizard.plan.request import (
    DiskRequest,
    FunctionRequest,
    HotplugRequest,
    Layout,
    MachineRequest,
    Mode,
    NetworkRequest,
    NodeRequest,
    OtherRequest,
    VmRequest,
    VsmmuRequest,
)
from wizard.plan.target import parse_version


def written(vm: VmPlan) -> VmRequest:
    """The request that gives this plan and leaves nothing to a planner."""
    fallen = vm.request.mode is Mode.ACCEL is not vm.mode  # what belongs to vSMMUs is no choice of this VM any more
    return replace(
        vm.request,
        mode=vm.mode,
        layout=Layout.PER_SMMU if fallen else vm.request.layout,
        split=() if fallen else vm.request.split,
        properties=Properties() if fallen else vm.request.properties,
        functions=_functions(vm),
        hugepages=vm.memory.hugepages,
        numa=tuple(
            NodeRequest(memory=node.memory, cpus=cpu_text(node.cpus), host_node=node.host_node, initiator=node.initiator) for node in vm.memory.nodes
        ),
        mmio_window=vm.memory.mmio_window,
        firmware=vm.firmware,
        machine=MachineRequest(
            type=vm.machine.type,
            gic=vm.request.machine.gic,
            its=vm.machine.its,
            acpi=vm.machine.acpi,
            uefi=vm.machine.uefi,
            iommu=vm.request.machine.iommu,
        ),
        vsmmus=tuple(_vsmmu(vm, vsmmu) for vsmmu in vm.vsmmus),
        hotplug=_hotplug(vm),
        others=tuple(_other(other) for other in vm.others),
        disks=tuple(
            DiskRequest(path=asked.path, format=asked.format, readonly=asked.readonly, id=disk.id, slot=disk.slot, bus=disk.bus)
            for asked, disk in zip(vm.request.disks, vm.disks, strict=True)
        ),
        networks=tuple(
            NetworkRequest(kind=asked.kind, source=asked.source, mac=network.mac, id=network.id, slot=network.slot, bus=network.bus)
            for asked, network in zip(vm.request.networks, vm.networks, strict=True)
        ),
        target=_target(vm),
        qmp=vm.qmp or vm.request.qmp,
        uuid=vm.uuid,
        made_for=vm.made_for,
    )


def _target(vm: VmPlan) -> str:
    """As it was asked for; a bare version in the form that a profile has."""
    asked = vm.request.target
    return f"qemu={vm.qemu}" if not asked or (parse_version(asked) and not asked.startswith("qemu=")) else asked


def _functions(vm: VmPlan) -> tuple[FunctionRequest, ...]:
    made = []
    for device in vm.devices:
        port = vm.port(device.port)
        made.append(
            FunctionRequest(
                host=device.host,
                id=device.id,
                mode=device.mode if device.mode is not vm.mode else None,
                vsmmu=device.vsmmu,
                port=device.port,
                slot=device.slot if device.slot or device.port == ROOT_BUS else None,
                port_slot=port.slot if port else None,
                chassis=port.chassis if port else None,
                function=device.function,
                driver=device.driver,
                ats=device.ats,  # type: ignore[arg-type]  # it came from a request
                iommufd=device.iommufd,
                rom=device.rom,
                ids=device.ids,
                serial=device.serial,
            )
        )
    planned = {device.host for device in vm.devices}
    # What the host does not have stays in the profile: it is reported each time, never dropped.
    return (*made, *(function for function in vm.request.functions if function.host not in planned))


def _vsmmu(vm: VmPlan, vsmmu: VsmmuPlan) -> VsmmuRequest:
    bus = vm.bus(vsmmu.bus)
    return VsmmuRequest(
        id=vsmmu.id,
        smmu=vsmmu.smmu,
        bus=vsmmu.bus,
        bus_nr=bus.bus_nr if bus else None,
        slot=bus.slot if bus else None,
        numa_node=bus.numa_node if bus else None,
        accel=vsmmu.accel,
        properties=Properties(**{name: _wish(name, prop) for name, prop in vsmmu.properties()}),
    )


def _wish(name: str, prop: Property) -> Any:  # what a profile may hold, or what one had in its place
    one = declared(name)
    if prop.written is None:
        # A QEMU without the property does what the value says: written, so that a newer one gives the guest no other platform.
        return one.plain(one.unset) if one.switch and prop.resolved == one.unset == 0 else None
    value = one.number(prop.written)
    return prop.written if value is None else one.plain(value)


def _other(other: OtherPlan) -> OtherRequest:
    return OtherRequest(
        id=other.id,
        kind=other.kind,
        driver=other.driver,
        bus=other.bus,
        slot=other.slot,
        function=other.function,
        bus_nr=other.bus_nr if other.kind == "expander" else None,
        numa_node=other.numa_node,
        chassis=other.chassis,
        port=other.port,
        bus_reserve=other.bus_reserve,
        mem_reserve=other.mem_reserve,
        pref64_reserve=other.pref64_reserve,
    )


def _hotplug(vm: VmPlan) -> tuple[HotplugRequest, ...]:
    vsmmu_of = {vsmmu.bus: vsmmu.id for vsmmu in vm.vsmmus}
    return tuple(
        HotplugRequest(
            vsmmu=vsmmu_of.get(port.bus),
            functions=port.candidates,
            port=port.id,
            port_slot=port.slot,
            chassis=port.chassis,
            bus_reserve=port.bus_reserve,
            mem_reserve=port.mem_reserve,
            pref64_reserve=port.pref64_reserve,
        )
        for port in sorted((port for port in vm.ports if port.hotplug), key=lambda port: port.place)
    )
