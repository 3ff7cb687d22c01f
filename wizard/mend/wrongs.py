"""What each error that can be mended by rule comes to in the request: one short function for each, beside the codes that it is for.

A mend looks at the whole plan, and puts right every place with that error at once. ``None`` is the planner's choice: it is written out
again where the request had it written. A mend that finds nothing to change gives the request back as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from wizard.plan.model import ROOT_BUS
from wizard.plan.numbers import BUSES, SLOTS
from wizard.plan.properties import Properties, declared
from wizard.plan.request import VmRequest, VsmmuRequest
from wizard.plan.resolve import richest, supply
from wizard.plan.rules.base import Scene, repeated
from wizard.plan.rules.buses import id_fault

Mend = Callable[[Scene], VmRequest]
MENDS: dict[str, tuple[str, Mend]] = {}
"""By the code of the finding: what the mend does, in words, and how."""


def mends(*codes: str, does: str) -> Callable[[Mend], Mend]:
    """Register a mend."""

    def register(mend: Mend) -> Mend:
        for code in codes:
            MENDS[code] = does, mend
        return mend

    return register


def _set_property(request: VmRequest, id: str, name: str, value: str | int | None) -> VmRequest:
    """A property where it is written: at the vSMMU, else for the whole VM."""
    own = next((vsmmu for vsmmu in request.vsmmus if vsmmu.id == id), None)
    if own is not None and own.properties.of(name) is not None:
        vsmmus = tuple(_with_property(vsmmu, name, value) if vsmmu is own else vsmmu for vsmmu in request.vsmmus)
        return replace(request, vsmmus=vsmmus)
    return replace(request, properties=_properties(request.properties, name, value))


def _with_property(vsmmu: VsmmuRequest, name: str, value: str | int | None) -> VsmmuRequest:
    return replace(vsmmu, properties=_properties(vsmmu.properties, name, value))


def _properties(properties: Properties, name: str, value: Any) -> Properties:
    return replace(properties, **{name: value})


@mends("property-exceeds-host", "property-value", "hotplug-property", does="takes the richest value that the host has")
def lower(scene: Scene) -> VmRequest:
    """A value that the host's SMMU does not reach, or that the VMM does not know, is its highest that fits."""
    request, vm = scene.vm.request, scene.vm
    for vsmmu in vm.vsmmus:
        for name, prop in vsmmu.properties():
            known = supply(scene.smmu(vsmmu.smmu), name).compared
            if prop.written is None or prop.auto or not isinstance(known.value, int):
                continue
            one = declared(name)
            value = one.reach(int(known.value), vm.vmm)
            if (not one.takes(prop.written, vm.vmm) or (prop.resolved or 0) > known.value) and value <= known.value:
                request = _set_property(request, vsmmu.id, name, one.plain(value))
    return request


@mends("ats-not-the-same", does="switches ATS off for all of them")
def same_ats(scene: Scene) -> VmRequest:
    """IORT has one bit: what one vSMMU can't have, none has."""
    request = scene.vm.request
    for vsmmu in scene.vm.vsmmus:
        if vsmmu.ats.resolved:
            request = _set_property(request, vsmmu.id, "ats", "off")
    return request


@mends("auto-without-function", "cmdqv-without-function", does="writes the values that the host has")
def written_out(scene: Scene) -> VmRequest:
    """A vSMMU without a function has nobody to decide its auto: what it would come to is written."""
    request = scene.vm.request
    for vsmmu in scene.vm.vsmmus:
        if scene.vm.devices_of(vsmmu):
            continue
        # Where nothing says which SMMU it is for: what every one of the host has.
        smmus = [smmu] if (smmu := scene.smmu(vsmmu.smmu)) is not None else [one for one in scene.host.smmus.values() if one.kind == "smmuv3"]
        for name, prop in vsmmu.properties():
            if smmus and (prop.auto or (name == "cmdqv" and prop.written == "on")):
                found = [richest(scene.host, one, name, assumed=request.assume_accel, vmm=scene.vm.vmm) for one in smmus]
                value = 0 if name == "cmdqv" else min(found)
                request = _set_property(request, vsmmu.id, name, declared(name).plain(value))
    return request


@mends("bus-number", "bus-number-twice", "bus-range", does="moves the expanders' bus numbers apart")
def apart(scene: Scene) -> VmRequest:
    """An expander begins behind the last bus of the one before it; the first one that fits stays."""
    vm = scene.vm
    roots = [port.subordinate for port in vm.ports if port.bus == ROOT_BUS]
    roots += [other.subordinate for other in vm.others if other.bus == ROOT_BUS and other.kind != "expander"]
    at = max(roots, default=0) + 1
    expanders = [(bus.bus_nr, bus.last, bus.id) for bus in vm.buses]
    expanders += [(other.secondary, other.subordinate, other.id) for other in vm.others if other.kind == "expander"]
    wrong: set[str] = set()
    for first, last, id in sorted(expanders, key=lambda one: one[0]):
        if first < at or not 1 <= first <= BUSES - 2:
            wrong.add(id)
        else:
            at = last + 1
    vsmmus = tuple(replace(vsmmu, bus_nr=None) if vsmmu.bus in wrong else vsmmu for vsmmu in vm.request.vsmmus)
    others = tuple(replace(other, bus_nr=None) if other.id in wrong else other for other in vm.request.others)
    return replace(vm.request, vsmmus=vsmmus, others=others)


@mends("slot-twice", "slot-range", does="takes a free slot for the later one")
def slots(scene: Scene) -> VmRequest:
    """Of those in one slot the first keeps it."""
    vm, request = scene.vm, scene.vm.request
    taken: dict[str, set[int]] = {}

    def fits(bus: str | None, slot: int | None) -> bool:
        if slot is None or bus is None:
            return True
        used = taken.setdefault(bus, set())
        free = slot in range(1 if bus == ROOT_BUS else 0, SLOTS) and slot not in used
        used.add(slot)
        return free

    vsmmus = tuple(vsmmu if fits(ROOT_BUS, vsmmu.slot) else replace(vsmmu, slot=None) for vsmmu in request.vsmmus)
    bus_of = {port.id: port.bus for port in vm.ports}
    shared = repeated([function.port for function in request.functions if function.port is not None])
    functions = tuple(
        one if one.port in shared or fits(bus_of.get(one.port or ""), one.port_slot) else replace(one, port_slot=None) for one in request.functions
    )
    hotplug = tuple(one if fits(bus_of.get(one.port or ""), one.port_slot) else replace(one, port_slot=None) for one in request.hotplug)
    disks = tuple(one if fits(one.bus or ROOT_BUS, one.slot) else replace(one, slot=None) for one in request.disks)
    networks = tuple(one if fits(one.bus or ROOT_BUS, one.slot) else replace(one, slot=None) for one in request.networks)
    others = tuple(one if one.function or fits(one.bus or ROOT_BUS, one.slot) else replace(one, slot=None) for one in request.others)
    return replace(request, vsmmus=vsmmus, functions=functions, hotplug=hotplug, disks=disks, networks=networks, others=others)


@mends("chassis-twice", "chassis-range", does="gives the later port a chassis of its own")
def chassis(scene: Scene) -> VmRequest:
    """Ports count over the whole VM; functions of one port share one."""
    request, seen = scene.vm.request, dict[int, str | None]()

    def fits(port: str | None, number: int | None) -> bool:
        return number is None or (1 <= number <= 255 and seen.setdefault(number, port) == port)

    functions = tuple(one if fits(one.port or one.host, one.chassis) else replace(one, chassis=None) for one in request.functions)
    hotplug = tuple(
        one if fits(one.port or f"hotplug {place}", one.chassis) else replace(one, chassis=None) for place, one in enumerate(request.hotplug)
    )
    others = list(request.others)
    for place, one in enumerate(others):
        if not fits(one.id, one.chassis):
            free = next(number for number in range(1, 256) if number not in seen)
            seen[free] = one.id
            others[place] = replace(one, chassis=free)
    return replace(request, functions=functions, hotplug=hotplug, others=tuple(others))


@mends("id-twice", "id-reserved", "id-grammar", does="gives the function, disk or network another id")
def ids(scene: Scene) -> VmRequest:
    """Buses, ports and vSMMUs keep theirs, since others name them; what nothing else names is called anew."""
    request, vm = scene.vm.request, scene.vm
    taken = [*(bus.id for bus in vm.buses), *(port.id for port in vm.ports), *(vsmmu.id for vsmmu in vm.vsmmus)]
    renamed: dict[str, str] = {}

    def fresh(id: str | None, place: str) -> str | None:
        if id is None:
            return None
        if id not in taken and id_fault(id) is None:
            taken.append(id)
            return id
        new = next(name for name in (f"{place}{number}" for number in range(1, 10_000)) if name not in taken and name not in own)
        taken.append(new)
        renamed.setdefault(id, new)
        return new

    own = {one.id for one in request.functions} | {one.id for one in request.disks} | {one.id for one in request.networks}
    functions = tuple(replace(one, id=fresh(one.id, "function")) for one in request.functions)
    disks = tuple(replace(one, id=fresh(one.id, "disk")) for one in request.disks)
    networks = tuple(replace(one, id=fresh(one.id, "net")) for one in request.networks)
    # A node names the function whose memory it holds: no other kind of thing can be meant.
    numa = request.numa and tuple(replace(node, initiator=renamed.get(node.initiator or "", node.initiator)) for node in request.numa)
    return replace(request, functions=functions, disks=disks, networks=networks, numa=numa)


@mends("vfio-without-iommufd", does="gives the function to the iommufd of the VM")
def iommufd(scene: Scene) -> VmRequest:
    """Nesting is iommufd's alone."""
    behind = {device.host for device in scene.vm.devices if device.vsmmu is not None}
    return replace(scene.vm.request, functions=tuple(replace(one, iommufd=True) if one.host in behind else one for one in scene.vm.request.functions))


@mends("emulated-behind-accel", "unknown-bus", does="moves the emulated device to pcie.0")
def emulated(scene: Scene) -> VmRequest:
    """Only assigned functions sit behind an accelerated vSMMU."""
    vm, request = scene.vm, scene.vm.request
    accelerated = {vsmmu.bus for vsmmu in vm.vsmmus if vsmmu.accel}
    roots = {ROOT_BUS, *(bus.id for bus in vm.buses), *(other.id for other in vm.others if other.kind == "expander")}

    def home(things: Iterable[Any]) -> tuple[Any, ...]:
        return tuple(replace(one, bus=None, slot=None) if wrong(one) else one for one in things)

    def wrong(one: Any) -> bool:
        above = vm.complex_of(one.bus) if one.bus is not None else ROOT_BUS
        return above in accelerated or above not in roots

    endpoints = tuple(home([other])[0] if other.kind == "endpoint" else other for other in request.others)
    return replace(request, disks=home(request.disks), networks=home(request.networks), others=endpoints)


@mends("smmus-joined", does="puts the function behind a vSMMU of its own SMMU")
def own_smmu(scene: Scene) -> VmRequest:
    """The planner finds the vSMMU, or makes one."""
    vm = scene.vm
    joined = {device.host for vsmmu in vm.vsmmus for device in vm.devices_of(vsmmu) if device.smmu != vsmmu.smmu}
    functions = tuple(
        replace(one, vsmmu=None, port=None, port_slot=None, chassis=None, function=None) if one.host in joined else one
        for one in vm.request.functions
    )
    return replace(vm.request, functions=functions)


@mends("two-vsmmus-on-one-bus", "vsmmu-on-root-bus", does="gives the vSMMU an expander of its own")
def own_bus(scene: Scene) -> VmRequest:
    """The first one keeps the bus."""
    crowded = {vsmmu.id for vsmmu in scene.vm.vsmmus if vsmmu.bus == ROOT_BUS}
    seen: set[str] = set()
    vsmmus = []
    for vsmmu in scene.vm.request.vsmmus:
        mine = vsmmu.bus is None or (vsmmu.bus not in seen and vsmmu.id not in crowded)
        seen.add(vsmmu.bus or "")
        vsmmus.append(vsmmu if mine else replace(vsmmu, bus=None, bus_nr=None, slot=None))
    return replace(scene.vm.request, vsmmus=tuple(vsmmus))


@mends("hotplug-reserve-range", "hotplug-reserve-small", does="reserves what the function needs")
def reserves(scene: Scene) -> VmRequest:
    """As the planner would."""
    free = tuple(replace(one, bus_reserve=None, mem_reserve=None, pref64_reserve=None) for one in scene.vm.request.hotplug)
    return replace(scene.vm.request, hotplug=free)


@mends("mmio-window-size", "mmio-window-small", does="makes the window for BARs as large as the functions need")
def window(scene: Scene) -> VmRequest:
    """The least power of two that holds them."""
    return replace(scene.vm.request, mmio_window=None)


@mends("machine-not-in-qemu", does="takes the newest machine of that QEMU")
def machine(scene: Scene) -> VmRequest:
    """Virt without a version that the QEMU does not have."""
    return replace(scene.vm.request, machine=replace(scene.vm.request.machine, type=None))


@mends("no-acpi", does="switches ACPI on")
def acpi(scene: Scene) -> VmRequest:
    """A vSMMU stands in ACPI's IORT alone."""
    return replace(scene.vm.request, machine=replace(scene.vm.request.machine, acpi=True))


@mends("no-msi-doorbell", does="switches the ITS on")
def its(scene: Scene) -> VmRequest:
    """The doorbell of the functions' MSIs."""
    return replace(scene.vm.request, machine=replace(scene.vm.request.machine, its=True))


@mends("gic-impossible", does="takes GIC version 3")
def gic(scene: Scene) -> VmRequest:
    """The one that KVM has on every arm64 host with an SMMUv3."""
    return replace(scene.vm.request, machine=replace(scene.vm.request.machine, gic="3"))


@mends("vfio-ats-needs-smmu", does="leaves the function's own ats to its vSMMU")
def function_ats(scene: Scene) -> VmRequest:
    """A function can't have what its vSMMU has not."""
    return replace(scene.vm.request, functions=tuple(replace(one, ats=None) if one.ats == "on" else one for one in scene.vm.request.functions))
