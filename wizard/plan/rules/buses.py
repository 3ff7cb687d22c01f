"""Buses, slots, chassis and ids (sources: qemu-buses, qemu-edk2). QEMU checks the half of it, and firmware fails without a word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from wizard.base.finding import Finding
from wizard.base.text import visible
from wizard.host.vmm import Vmm
from wizard.plan.codes import ERROR, INFO, WARNING, plan_code
from wizard.plan.model import ROOT_BUS
from wizard.plan.numbers import BUSES, SLOTS
from wizard.plan.rules.base import Scene, repeated, rule, rule_of

_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,62}")
NODES_MAX = 128  # MAX_NODES of QEMU's include/system/numa.h
IO_PORTS = 15  # the machine's 64 KiB of I/O space hold so many 4 KiB windows beside the devices of pcie.0

BUS_NR = plan_code(
    "bus-number", ERROR,
    what="VM {subject}: bus {id} has bus_nr={number}.",
    why="0 is pcie.0's own and 255 leaves no bus for a root port; QEMU takes both and the functions are dead, libvirt takes 1 to 254.",
    fix="Write 1 to 254, or leave bus_nr out.",
)  # fmt: skip
BUS_TWICE = plan_code(
    "bus-number-twice", ERROR,
    what="VM {subject}: {ids} have the same bus_nr={number}.",
    why="QEMU: 'Bus {number} is already in use'.",
    fix="Write different ones, or leave bus_nr out.",
)  # fmt: skip
BUS_ROOM = plan_code(
    "bus-range", ERROR,
    what="VM {subject}: {id} needs the buses {first} to {last}, but {next} begins at {limit}.",
    why="Each root port takes a bus, and its bus reserve more. QEMU does not check it, and UEFI leaves the ports without room unnumbered: "
    "their functions do not exist for the guest.",
    fix="Move the bus numbers apart, or leave bus_nr out.",
)  # fmt: skip
BUSES_END = plan_code(
    "bus-numbers-exhausted", ERROR,
    what="VM {subject}: {id} needs the buses {first} to {last}, but there is none above 255.",
    why="A guest's PCI segment has 256 buses for all root complexes, ports and reserves together.",
    fix="Spread the functions over several VMs, or lower the bus reserves of hot-plug ports.",
)  # fmt: skip


@rule
def bus_numbers(scene: Scene) -> Iterator[Finding]:
    """Bus numbers, and room for the buses below (sources: qemu-P3, qemu-P4, qemu-P5, qemu-P6)."""
    vm = scene.vm
    buses = [(bus.bus_nr, bus.last, bus.id) for bus in vm.buses]
    buses += [(other.secondary, other.subordinate, other.id) for other in vm.others if other.kind == "expander"]
    buses.sort(key=lambda bus: bus[0])
    for first, last, id in buses:
        if not 1 <= first <= 254:
            yield BUS_NR.at(scene.name, id=id, number=first)
        elif last >= BUSES:
            yield BUSES_END.at(scene.name, id=id, first=first, last=last)
    for number in repeated([first for first, _, _ in buses]):
        yield BUS_TWICE.at(scene.name, number=number, ids=" and ".join(id for first, _, id in buses if first == number))
    below = [port.subordinate for port in vm.ports if port.bus == ROOT_BUS]
    below += [other.subordinate for other in vm.others if other.bus == ROOT_BUS and other.kind != "expander"]
    spans = [(ROOT_BUS, 0, max(below, default=0)), *((id, first, last) for first, last, id in buses)]
    for (id, first, last), (next_id, limit, _) in pairwise(spans):
        if last >= limit and first != limit:
            yield BUS_ROOM.at(scene.name, id=id, first=first, last=last, next=next_id, limit=limit)


RESERVE = plan_code(
    "hotplug-reserve-range", ERROR,
    what="VM {subject}: port {port} can't have {name}={value}.",
    why="A bridge's window is from 0 to what its registers hold: 255 buses, less than 4 GiB of 32-bit memory ('mem-reserve must be less than 4G').",
    fix="Write {name} from 0 to {most}, or leave it out.",
)  # fmt: skip


@rule_of(Vmm.QEMU)
def reserves(scene: Scene) -> Iterator[Finding]:
    """What hot-plug ports keep free, as hw/pci/pci_bridge.c of QEMU takes it."""
    for port in scene.vm.ports:
        written = (("bus_reserve", port.bus_reserve, 255), ("mem_reserve", port.mem_reserve, (4 << 30) - 1),
                   ("pref64_reserve", port.pref64_reserve, (1 << 52) - 1))  # fmt: skip
        for name, value, most in written:
            if value is not None and not 0 <= value <= most:
                yield RESERVE.at(scene.name, port=port.id, name=name, value=value, most=most)


SLOT_RANGE = plan_code(
    "slot-range", ERROR,
    what="VM {subject}: {id} is in slot {slot} of {bus}.",
    why="A bus has the slots 0 to 31, and slot 0 of pcie.0 is the host bridge ('no slot/function available').",
    fix="Write a free slot or leave it out; with more than 31 devices on pcie.0 use several VMs.",
)  # fmt: skip
PORTS_SHARE = plan_code(
    "ports-share-slots", INFO,
    what="VM {subject}: {count} root ports of {bus} are further functions of slots that have one, since a bus has 32 slots.",
    why="A slot has eight functions, and function 0 says multifunction=on; firmware numbers their buses in the order of slots and functions.",
    fix="Nothing to do. A port that is to be left free for hot-plug has a slot of its own.",
)  # fmt: skip
SLOT_TWICE = plan_code(
    "slot-twice", ERROR,
    what="VM {subject}: {ids} are in the same slot {slot} of {bus}.",
    why="QEMU: 'PCI: slot … function … not available … in use by …'.",
    fix="Write different slots, or leave them out.",
)  # fmt: skip


def _places(scene: Scene) -> list[tuple[str, int, int, str]]:
    """(bus, slot, function, id) of everything whose slot is a choice: what is behind a root port of the plan has slot 0."""
    vm = scene.vm
    places = [(ROOT_BUS, bus.slot, 0, bus.id) for bus in vm.buses] + [(port.bus, port.slot, 0, port.id) for port in vm.ports]
    places += [(disk.bus, disk.slot, 0, disk.id) for disk in vm.disks] + [(network.bus, network.slot, 0, network.id) for network in vm.networks]
    places += [(other.bus, other.slot, other.function, other.id) for other in vm.others]
    places += [(d.port, d.slot, d.function, d.id) for d in vm.devices if d.port == ROOT_BUS or vm.other(d.port)]
    if vm.virtio_iommu:
        places.append((ROOT_BUS, vm.virtio_iommu.slot, 0, "the virtio-iommu"))
    return places


SLOT_ZERO = plan_code(
    "port-slot-not-0", ERROR,
    what="VM {subject}: {id} is in slot {slot} of {bus}, which is a port.",
    why="Below a port there is slot 0 only (QEMU: 'PCI: slot … is not valid for …, parent device only allows plugging into slot 0.').",
    fix="Write slot 0.",
)  # fmt: skip


@rule
def packed_ports(scene: Scene) -> Iterator[Finding]:
    """More ports than slots behind a vSMMU (``wizard.plan.packing``)."""
    for bus in scene.vm.buses:
        heads = {port.slot for port in scene.vm.ports if port.bus == bus.id}
        count = sum(other.bus == bus.id and other.kind == "port" and other.function > 0 and other.slot in heads for other in scene.vm.others)
        if count:
            yield PORTS_SHARE.at(scene.name, count=count, bus=bus.id)


@rule
def slots(scene: Scene) -> Iterator[Finding]:
    """Slots (sources: qemu-P8)."""
    places = _places(scene)
    ports = {other.id for other in scene.vm.others if other.kind in ("port", "downstream")} | {port.id for port in scene.vm.ports}
    for bus, slot, _, id in places:
        if not (1 if bus == ROOT_BUS else 0) <= slot < SLOTS:
            yield SLOT_RANGE.at(scene.name, id=visible(id), slot=slot, bus=visible(bus))
        elif slot and bus in ports:
            yield SLOT_ZERO.at(scene.name, id=visible(id), slot=slot, bus=visible(bus))
    taken: dict[tuple[str, int, int], list[str]] = {}
    for bus, slot, function, id in places:
        taken.setdefault((bus, slot, function), []).append(id)
    shared = repeated([vsmmu.bus for vsmmu in scene.vm.vsmmus])  # two vSMMUs on one bus are an error of their own
    for (bus, slot, _), ids in taken.items():
        if len(ids) > 1 and bus not in shared:
            yield SLOT_TWICE.at(scene.name, ids=visible(" and ".join(ids)), slot=slot, bus=visible(bus))


CHASSIS = plan_code(
    "chassis-range", ERROR,
    what="VM {subject}: port {id} has chassis {chassis}.",
    why="The field has eight bits, and 0 is what every port has that gives none.",
    fix="Write 1 to 255, or leave chassis out.",
)  # fmt: skip
CHASSIS_TWICE = plan_code(
    "chassis-twice", ERROR,
    what="VM {subject}: the ports {ids} have the same chassis {chassis}.",
    why="QEMU: 'Can't add chassis slot, error -16'; it counts over the whole VM, not for each bus.",
    fix="Write different ones, or leave chassis out.",
)  # fmt: skip


@rule_of(Vmm.QEMU)
def chassis(scene: Scene) -> Iterator[Finding]:
    """Chassis and slot numbers of root ports (sources: qemu-P10)."""
    others = [(other.chassis, other.id) for other in scene.vm.others if other.chassis is not None and other.kind in ("port", "downstream")]
    numbers = [(port.chassis, port.id) for port in scene.vm.ports] + others
    for chassis, id in numbers:
        # QEMU takes one port with 0, which is what all have that give none.
        if not 1 <= chassis <= 255 and (chassis, id) not in [pair for pair in others if pair[0] == 0]:
            yield CHASSIS.at(scene.name, id=id, chassis=chassis)
    for number in repeated([chassis for chassis, _ in numbers]):
        yield CHASSIS_TWICE.at(scene.name, chassis=number, ids=" and ".join(id for chassis, id in numbers if chassis == number))


ID_GRAMMAR = plan_code(
    "id-grammar", ERROR,
    what="VM {subject}: {id} can't be an id.",
    why="QEMU: 'Parameter 'id' expects an identifier': a letter, then letters, digits, '-', '.', '_'.",
    fix="Write another id, or leave it out.",
)  # fmt: skip
ID_TWICE = plan_code(
    "id-twice", ERROR,
    what="VM {subject}: the id {id} is used {count} times.",
    why="QEMU: 'Duplicate ID'; a port's id is also its bus's name.",
    fix="Write different ids, or leave them out.",
)  # fmt: skip
ID_RESERVED = plan_code(
    "id-reserved", ERROR,
    what="VM {subject}: {id} can't be the id of {kind}.",
    why="{why}",
    fix="Write another id, or leave it out.",
)  # fmt: skip
_OWN = {"iommufd0", "viommu0"}
_CLASS_HAS = "QEMU: 'attempt to add duplicate property', or 'Duplicate device ID': its class has a property of that name."
PORT_WORDS = frozenset(
    (
        *("acpi-index", "addr", "aer_log_max", "bus-reserve", "busnr", "chassis", "failover_pair_id", "hotplug", "hotpluggable", "hotplugged"),
        *("io-reserve", "mem-reserve", "multifunction", "parent_bus", "port", "power_controller_present", "pref32-reserve", "pref64-reserve"),
        *("realized", "rombar", "romfile", "romsize", "slot", "sriov-pf", "type", "x-do-not-expose-native-hotplug-cap", "x-max-bounce-buffer-size"),
        *("x-pci-express-writeable-slt-bug", "x-pcie-ari-nextfn-1", "x-pcie-err-unc-mask", "x-pcie-ext-tag", "x-pcie-lnksta-dllla", "x-speed"),
        "x-width",
    )
)
"""Properties of QEMU 11.1's pcie-root-port. A bridge's bus is a child of it by the name of its id, which may be none of them."""
EXPANDER_WORDS = frozenset(("bypass-iommu", "hotpluggable", "hotplugged", "parent_bus", "realized", "type", "x-config-reg-migration-enabled"))
"""The same of pxb-host, which has the bus of a pxb-pcie."""


def _class_words(scene: Scene, id: str) -> frozenset[str]:
    vm = scene.vm
    if vm.bus(id) or any(other.id == id and other.kind == "expander" for other in vm.others):
        return EXPANDER_WORDS
    return PORT_WORDS if vm.port(id) or any(other.id == id and other.bridge for other in vm.others) else frozenset()


def id_fault(id: str) -> tuple[str, str] | None:
    """Of what it can't be the id, and why; the first is empty where it can't be one at all. None for one that a device may have."""
    if id == ROOT_BUS:
        return "anything", "It is the name of the machine's own root complex; QEMU takes it and bus= is ambiguous."
    if id in _OWN or re.fullmatch(r"(mem|gi|pflash)\d*|.*-(storage|format|net)", id):
        return "a device", "The exports use that name for an object of their own."
    return None if _ID.fullmatch(id) else ("", "")


@rule
def ids(scene: Scene) -> Iterator[Finding]:
    """Ids (sources: qemu-S5, qemu-P12)."""
    vm = scene.vm
    shared = repeated([v.bus for v in vm.vsmmus])  # two vSMMUs on one bus are an error of their own
    used = shared + [bus.id for bus in vm.buses if bus.id not in shared] + [v.id for v in vm.vsmmus] + [p.id for p in vm.ports]
    used += [d.id for d in vm.devices] + [d.id for d in vm.disks] + [n.id for n in vm.networks] + [o.id for o in vm.others]
    for id in dict.fromkeys(used):
        fault = id_fault(id)
        if fault is None and (id == "type" or id in _class_words(scene, id)):
            fault = "a device of its class", _CLASS_HAS
        if fault is not None:
            kind, why = fault
            yield ID_RESERVED.at(scene.name, id=visible(id), kind=kind, why=why) if kind else ID_GRAMMAR.at(scene.name, id=visible(id) or "''")
    for id in repeated(used):
        yield ID_TWICE.at(scene.name, id=visible(id), count=used.count(id))


NUMA_MANY = plan_code(
    "numa-nodes-too-many", ERROR,
    what="VM {subject} has {count} NUMA nodes.",
    why="QEMU: 'Max number of NUMA nodes reached: 128'; each Grace GPU takes eight for its memory.",
    fix="Give the GPUs to several VMs, or write fewer nodes.",
)  # fmt: skip
NUMA_NODE = plan_code(
    "pxb-numa-node", ERROR,
    what="VM {subject}: bus {id} is on guest node {node}, and the guest has {count}.",
    why="QEMU: 'Illegal numa node'; libvirt refuses a <node> that <numa> does not have.",
    fix="Write a node from the profile's numa list, or leave numa_node out.",
)  # fmt: skip
NUMA_AWAY = plan_code(
    "pxb-numa-elsewhere", WARNING,
    what="VM {subject}: bus {id} is on guest node {node}, whose memory is on host node {other}; its SMMU is on host node {host}.",
    why="The guest would place buffers and interrupts on the wrong node, which is slower.",
    fix="Write the guest node that holds the memory of host node {host}, or leave numa_node out.",
)  # fmt: skip
NUMA_NOT_HELD = plan_code(
    "pxb-numa-none", WARNING,
    what="VM {subject}: no guest node holds memory of host node {host}, where the SMMU of bus {id} is.",
    why="The guest then can't know which of its CPUs and memory are near these functions.",
    fix="Add a node with host_node = {host} to the profile's numa list, or leave numa out.",
)  # fmt: skip


@rule
def numa_nodes(scene: Scene) -> Iterator[Finding]:
    """NUMA nodes; a generic initiator's node is a thing apart (sources: qemu-P9, problem-21)."""
    nodes = {node.id: node for node in scene.vm.memory.nodes}
    if len(nodes) > NODES_MAX:
        yield NUMA_MANY.at(scene.name, count=len(nodes))
    for bus in scene.vm.buses:
        if bus.numa_node is not None and bus.numa_node not in nodes:
            yield NUMA_NODE.at(scene.name, id=bus.id, node=bus.numa_node, count=len(nodes) or "none")
        elif bus.numa_node is not None and bus.host_node is not None:
            other = nodes[bus.numa_node].host_node
            if other is not None and other != bus.host_node:
                yield NUMA_AWAY.at(scene.name, id=bus.id, node=bus.numa_node, other=other, host=bus.host_node)
        elif bus.numa_node is None and bus.host_node is not None and any(node.host_node is not None for node in nodes.values()):
            yield NUMA_NOT_HELD.at(scene.name, id=bus.id, host=bus.host_node)


FUNCTION_NUMBER = plan_code(
    "guest-function-number", ERROR,
    what="VM {subject}: the functions behind port {port} have the guest function numbers {numbers}.",
    why="They have to differ, lie between 0 and 7, and 0 has to be among them: a guest that finds no function 0 does not look for the others.",
    fix="Leave function out, or write 0 for one of them.",
)  # fmt: skip
STRANGERS = plan_code(
    "strangers-share-a-port", WARNING,
    what="VM {subject}: {ids} share port {port}, and are not functions of one device on the host.",
    why="To the guest they are one device: it may reset them together, and the host resets each alone.",
    fix="Leave port out, so that each gets a root port of its own.",
)  # fmt: skip


@rule
def function_numbers(scene: Scene) -> Iterator[Finding]:
    """Below a root port there is only slot 0 (sources: qemu-P11)."""
    others = [other.id for other in scene.vm.others if other.kind in ("port", "downstream")]
    for port in [*(port.id for port in scene.vm.ports), *others]:
        devices = [device for device in scene.vm.devices if device.port == port]
        numbers = [device.function for device in devices]
        if devices and (0 not in numbers or len(set(numbers)) < len(numbers) or not all(0 <= n <= 7 for n in numbers)):
            yield FUNCTION_NUMBER.at(scene.name, port=port, numbers=", ".join(map(str, numbers)))
        if len({c.slot for device in devices if (c := scene.candidate(device))}) > 1:
            yield STRANGERS.at(scene.name, port=port, ids=", ".join(device.host for device in devices))


IO_SPACE = plan_code(
    "io-space-full", ERROR,
    what="VM {subject}: {count} root ports lead to functions with I/O BARs, and the machine has room for {limit}.",
    why="A bridge's I/O window takes 4 KiB of the 64 KiB. UEFI gives a function that does not fit no address at all, not for its memory BARs either.",
    fix="Spread these functions over several VMs; functions without I/O BARs are not counted.",
)  # fmt: skip


@rule_of(Vmm.QEMU)
def io_space(scene: Scene) -> Iterator[Finding]:
    """Seen with AAVMF 2026.08: of 20 ports with such functions 15 got addresses, beside a virtio device on pcie.0."""
    wanting = {
        device.port for device in scene.vm.devices if (candidate := scene.candidate(device)) and not candidate.to_make and candidate.regions.io
    }
    if len(wanting) > IO_PORTS:
        yield IO_SPACE.at(scene.name, count=len(wanting), limit=IO_PORTS)
