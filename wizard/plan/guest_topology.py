"""The guest's PCI topology: which function goes behind which vSMMU, on which bus, port and slot.

One vSMMU for each SMMU that the VM's functions sit behind, on a pxb-pcie of its own, with one root port for each function
(companion functions share one). Emulated devices and functions without a vIOMMU are on pcie.0, away from every accelerated
vSMMU. What the request has written stays as it is written; the rules say what does not hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from msgspec.structs import replace

from wizard.plan.candidate import Candidate, canonical
from wizard.plan.model import ROOT_BUS, BusPlan, OtherPlan, PortPlan, climb
from wizard.plan.numbers import Names, Numbers, bus_numbers
from wizard.plan.others import complexes, numbered, with_slots
from wizard.plan.request import FunctionRequest, HotplugRequest, Layout, Mode, VmRequest, VsmmuRequest


@dataclass(frozen=True)
class Asked:
    """A function of the request with what the host knows of it."""

    request: FunctionRequest
    candidate: Candidate
    mode: Mode


@dataclass
class Port:
    """A root port while it is being laid out: the functions behind it, or what it is left free for."""

    bus: str
    functions: list[Asked] = field(default_factory=list)
    hotplug: HotplugRequest | None = None

    @property
    def written(self) -> tuple[str | None, int | None, int | None]:
        """Its id, slot and chassis as the request has them."""
        for request in (self.hotplug, *(asked.request for asked in self.functions)):
            if request is not None and (request.port, request.port_slot, request.chassis) != (None, None, None):
                return request.port, request.port_slot, request.chassis
        return None, None, None


@dataclass(frozen=True)
class GuestTopology:
    """The result: vSMMUs with their bus, buses, ports in order, the functions of each port, and the slots of what is on pcie.0 itself."""

    vsmmus: tuple[VsmmuRequest, ...]
    buses: tuple[BusPlan, ...]
    ports: tuple[PortPlan, ...]
    functions: tuple[tuple[Asked, ...], ...]  # of each port, in the order of ports: an id may be written twice
    virtio_iommu_slot: int | None  # where the VM has a virtio-iommu
    disk_slots: tuple[int, ...]  # in the order of the request
    network_slots: tuple[int, ...]
    others: tuple[OtherPlan, ...] = ()
    direct: tuple[Asked, ...] = ()  # functions that sit behind one of the others, or on pcie.0 itself

    def complex_of(self, bus: str) -> str:
        """The root complex that a bus belongs to."""
        return climb({port.id: port.bus for port in self.ports} | {one.id: one.bus for one in self.others if one.kind != "expander"}, bus)

    def above(self, asked: Asked) -> PortPlan | OtherPlan | None:
        """The bridge right above a function; None where it is on pcie.0 itself."""
        port = self._port_of.get(id(asked))
        return port if port is not None else next((other for other in self.others if other.id == asked.request.port), None)

    @cached_property
    def _port_of(self) -> Mapping[int, PortPlan]:
        """By who is asked for, which this object keeps alive: the same may be asked for twice."""
        found: dict[int, PortPlan] = {}
        for port, held in zip(self.ports, self.functions, strict=True):
            for one in held:
                found.setdefault(id(one), port)
        return found


@dataclass(frozen=True)
class Reserve:
    """What a hot-plug port keeps free, bytes; None is QEMU's own choice."""

    buses: int | None = None
    mem: int | None = None
    pref64: int | None = None


def lay_out(request: VmRequest, asked: Iterable[Asked], reserves: dict[int, Reserve], hotplug_smmus: dict[int, str | None]) -> GuestTopology:
    """Place every function. ``reserves`` and ``hotplug_smmus`` are by the place in ``request.hotplug``."""
    functions = list(asked)
    vsmmus, behind = _vsmmus(request, functions, hotplug_smmus)
    bridges = {ROOT_BUS} | {other.id for other in request.others if other.kind != "endpoint"}
    direct = tuple(one for one in functions if one.request.port in bridges)
    ports = _ports(request, functions, behind, vsmmus, hotplug_smmus, bridges)
    buses = {vsmmu.id: vsmmu.bus or "" for vsmmu in vsmmus}
    # A vSMMU may be written onto pcie.0 itself: its ports share slots and bus numbers with all that is there.
    places = {ROOT_BUS: ROOT_BUS} | {id: ROOT_BUS if bus == ROOT_BUS else id for id, bus in buses.items()}
    root = Numbers([vsmmu.slot for vsmmu in vsmmus] + [_slot(port) for port in ports if places[port.bus] == ROOT_BUS]
                   + [d.slot for d in request.disks if d.bus in (None, ROOT_BUS)]
                   + [n.slot for n in request.networks if n.bus in (None, ROOT_BUS)]
                   + [o.slot for o in request.others if o.bus in (None, ROOT_BUS)]
                   + [d.request.slot for d in direct if d.request.port == ROOT_BUS], start=1)  # fmt: skip
    chassis = Numbers([*(port.written[2] for port in ports), *(other.chassis for other in request.others)], start=1)
    names = Names(port.written[0] for port in ports)
    needs = dict.fromkeys([*places, ROOT_BUS], 1)  # an id may be written twice, once of them on pcie.0
    for port in ports:
        needs[places[port.bus]] += 1 + _bus_reserve(port, request, reserves)
    # Vsmmus go by their ids here, other expanders by their own.
    by_bus = {bus: places[id] for id, bus in reversed(buses.items())}
    expanders = [other for other in request.others if other.kind == "expander"]
    needs |= dict.fromkeys((other.id for other in expanders), 1)
    for bridge, above in complexes(request.others).items():
        kept = next((other.bus_reserve for other in request.others if other.id == bridge), 0)
        place = by_bus.get(above, above)
        needs[place] = needs.get(place, 1) + (1 + max(0, kept or 0) if bridge in bridges else 0)
    pxbs = [vsmmu for vsmmu in vsmmus if vsmmu.bus != ROOT_BUS]
    ranges = [*((v.id, v.bus_nr, needs[v.id]) for v in pxbs), *((other.id, other.bus_nr, needs[other.id]) for other in expanders)]
    numbers = dict(zip((id for id, _, _ in ranges), bus_numbers(needs[ROOT_BUS], [(at, need) for _, at, need in ranges]), strict=True))
    plans = [
        BusPlan(
            id=vsmmu.bus or "",
            bus_nr=numbers[vsmmu.id],
            last=numbers[vsmmu.id] + needs[vsmmu.id] - 1,
            slot=root.give(vsmmu.slot),
            numa_node=vsmmu.numa_node,
        )
        for vsmmu in pxbs
    ]
    free = {ROOT_BUS: root} | {
        v.bus: Numbers([*(_slot(port) for port in ports if places[port.bus] == v.id), *(o.slot for o in request.others if o.bus == v.bus)])
        for v in pxbs
        if v.bus
    }
    others = with_slots(request.others, free, chassis)
    made: list[PortPlan] = []
    held: list[tuple[Asked, ...]] = []
    behind_others: dict[str, OtherPlan] = {}
    for bus in sorted(dict.fromkeys(places.values()), key=lambda place: place == ROOT_BUS):
        mine = [port for port in ports if places[port.bus] == bus]
        bus_id = buses.get(bus, ROOT_BUS)
        slots = free[bus_id]
        placed = []
        for count, port in enumerate(mine, 1):
            id, slot, number = port.written
            reserve = reserves.get(_place(port, request), Reserve())
            slot = slots.give(slot)
            placed.append(PortPlan(
                id=names.give(f"{bus_id}.port", count, id), bus=bus_id, slot=slot, chassis=chassis.give(number), port=slot,
                secondary=0, subordinate=0, hotplug=port.hotplug is not None, place=_place(port, request),
                candidates=tuple(canonical(f) for f in port.hotplug.functions) if port.hotplug else (),
                bus_reserve=reserve.buses, mem_reserve=reserve.mem, pref64_reserve=reserve.pref64,
            ))  # fmt: skip
        ordered, bridges_here = numbered(bus_id, numbers.get(bus, 0), placed, others)
        made += [plan for _, plan in ordered]
        held += [tuple(mine[place].functions) for place, _ in ordered]
        behind_others |= {other.id: other for other in bridges_here}
    for other in expanders:
        behind_others |= {one.id: one for one in numbered(other.id, numbers[other.id], (), others)[1]}
    # Ports and bridges have their slots by now: what is emulated takes the lowest that are left.
    return GuestTopology(
        vsmmus=tuple(vsmmus),
        buses=tuple(plans),
        ports=tuple(made),
        functions=tuple(held),
        virtio_iommu_slot=root.give() if request.mode is Mode.VIRTIO_IOMMU else None,
        disk_slots=tuple(root.give(disk.slot) for disk in request.disks),
        network_slots=tuple(root.give(network.slot) for network in request.networks),
        others=tuple(
            replace(one, bus_nr=numbers[one.id], secondary=numbers[one.id], subordinate=numbers[one.id] + needs[one.id] - 1)
            if one.kind == "expander"
            else behind_others.get(one.id, one)
            for one in others
        ),
        direct=direct,
    )


def _slot(port: Port) -> int | None:
    return port.written[1]


def _place(port: Port, request: VmRequest) -> int:
    return next((place for place, hotplug in enumerate(request.hotplug) if hotplug is port.hotplug), -1)


def _bus_reserve(port: Port, request: VmRequest, reserves: dict[int, Reserve]) -> int:
    return max(0, reserves.get(_place(port, request), Reserve()).buses or 0) if port.hotplug else 0


def _vsmmus(request: VmRequest, functions: list[Asked], hotplug_smmus: dict[int, str | None]) -> tuple[list[VsmmuRequest], dict[int, str]]:
    """The vSMMUs, with ids and buses written, and for each accelerated function the id of its own."""
    written = list(request.vsmmus)
    ids = Names([v.id for v in written] + [a.request.vsmmu for a in functions])
    buses = Names(v.bus for v in written)
    made: list[VsmmuRequest] = []
    for vsmmu in written:
        made.append(_with_bus(vsmmu, buses, len(made) + 1))
    behind: dict[int, str] = {}
    shared: dict[tuple[str | None, str], str] = {}
    for place, asked in enumerate(functions):
        if asked.mode is not Mode.ACCEL:
            continue
        smmu = asked.candidate.smmu.name if asked.candidate.smmu else None
        wanted = asked.request.vsmmu
        alone = request.layout is Layout.PER_FUNCTION or (smmu is not None and smmu in request.split)
        key = (smmu, asked.candidate.slot if alone else "")
        if wanted is None and not alone:
            wanted = next((v.id for v in made if v.smmu == smmu), None)
        if wanted is None:
            wanted = shared.get(key) or ids.give("smmuv3.", len(made) + 1)
        shared[key] = wanted
        if all(v.id != wanted for v in made):
            made.append(_with_bus(VsmmuRequest(id=wanted, smmu=smmu), buses, len(made) + 1))
        behind[place] = wanted
    for place, hotplug in enumerate(request.hotplug):
        smmu = hotplug_smmus.get(place)
        if request.mode is Mode.ACCEL and hotplug.vsmmu is None and smmu is not None and all(v.smmu != smmu for v in made):
            made.append(_with_bus(VsmmuRequest(id=ids.give("smmuv3.", len(made) + 1), smmu=smmu), buses, len(made) + 1))
    return [_with_smmu(v, functions, behind) for v in made], behind


def _with_bus(vsmmu: VsmmuRequest, buses: Names, count: int) -> VsmmuRequest:
    return vsmmu if vsmmu.bus else replace(vsmmu, bus=buses.give("pcie.", count))


def _with_smmu(vsmmu: VsmmuRequest, functions: list[Asked], behind: dict[int, str]) -> VsmmuRequest:
    """A vSMMU written without its SMMU belongs to that of its first function."""
    if vsmmu.smmu is not None:
        return vsmmu
    first = next((functions[place].candidate.smmu for place, id in behind.items() if id == vsmmu.id), None)
    return replace(vsmmu, smmu=first.name if first else None)


def _ports(
    request: VmRequest,
    functions: list[Asked],
    behind: dict[int, str],
    vsmmus: list[VsmmuRequest],
    hotplug_smmus: dict[int, str | None],
    bridges: set[str],
) -> list[Port]:
    ports: dict[tuple[str, str], Port] = {}
    for place, asked in enumerate(functions):
        if asked.request.port in bridges:
            continue
        bus = behind.get(place, ROOT_BUS)
        # Functions that name the same port share it; else companion functions of one device do.
        key = (bus, asked.request.port or asked.candidate.slot)
        ports.setdefault(key, Port(bus)).functions.append(asked)
    found = list(ports.values())
    for place, hotplug in enumerate(request.hotplug):
        smmu = hotplug_smmus.get(place)
        bus = hotplug.vsmmu or next((v.id for v in vsmmus if smmu is None or v.smmu == smmu), None) or ROOT_BUS
        found.append(Port(bus if any(v.id == bus for v in vsmmus) else ROOT_BUS, hotplug=hotplug))
    return found
