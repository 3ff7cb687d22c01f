"""Everything in one drawing: all VMs with their vSMMUs at one side, the host's SMMUs and NUMA nodes at the other.

    Topology
      vms       VmBox: one VM, with a letter and a colour
        groups  Gate: a vSMMU with the functions behind it, or the functions without one
          ends  End: one function in the guest
      smmus     SmmuBox: one SMMU of the host with what was given from below it; shared where two VMs have functions there
        ends    HostEnd: one function on the host
      edges     Edge: one for each function given, from its gate to its SMMU

A crossing is a function whose NUMA node on the host is none of those that its VM's memory is bound to. Memory that is bound to no node
may come from any: then nothing is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from wizard.base.text import plural, size
from wizard.host.model import Accel, Host
from wizard.picture.letters import letters
from wizard.plan.model import DevicePlan, Plan, VmPlan


class End(msgspec.Struct, frozen=True):
    """One function as the guest will see it; addresses are predictions until firmware has numbered the buses."""

    tag: str  # its VM's letter with a number
    address: str  # on the host
    guest: str
    vsid: int | None
    name: str
    crossing: str | None  # in words, None where nothing is crossed, or nothing known

    @property
    def words(self) -> str:
        """What it is, in a line."""
        vsid = "" if self.vsid is None else f" vSID {self.vsid:#x}"
        return f"{self.guest}{vsid} {self.name}"


class Gate(msgspec.Struct, frozen=True):
    """What stands between a VM and its functions: one vSMMU and its bus; ``vsmmu`` None: functions that have none."""

    id: str  # unique in the picture
    vsmmu: str | None
    accel: bool
    bus: str | None
    guest_node: int | None
    smmu: str | None
    ends: tuple[End, ...]

    @property
    def words(self) -> str:
        """What it is, in a line."""
        if self.vsmmu is None:
            return "no vSMMU"
        node = "" if self.guest_node is None else f", guest node {self.guest_node}"
        return f"vSMMU {self.vsmmu}, {'accel' if self.accel else 'emulated'}, bus {self.bus or '?'}{node}"


class VmBox(msgspec.Struct, frozen=True):
    """One VM."""

    name: str
    letter: str
    colour: str  # role: c0 to c5
    mode: str
    memory: int  # bytes
    cpus: int
    host_nodes: tuple[int, ...]  # that its memory is bound to
    errors: int
    gates: tuple[Gate, ...]

    @property
    def words(self) -> str:
        """What it has, in a line."""
        where = f", memory on node {' and '.join(map(str, self.host_nodes))}" if self.host_nodes else ""
        return f"{self.mode}, {size(self.memory)}, {plural(self.cpus, 'CPU')}{where}"


class HostEnd(msgspec.Struct, frozen=True):
    """One function as the host has it, below its SMMU."""

    tag: str
    address: str
    name: str
    vm: str
    letter: str
    colour: str
    node: int | None
    crossing: str | None
    note: str = ""  # a VF to be made, not on this host

    def words(self, beside: int | None) -> str:
        """What it is, in a line; its node where that is not the one of its SMMU, ``beside``."""
        node = f" node {self.node}" if self.node is not None and self.node != beside else ""
        return f"{self.address}{node} {self.name}" + (f", {self.note}" if self.note else "")


class SmmuBox(msgspec.Struct, frozen=True):
    """One SMMU. ``name`` None: the functions that no SMMU is known to translate for."""

    name: str | None
    kind: str
    node: int | None
    vms: tuple[str, ...]
    ends: tuple[HostEnd, ...]
    free: tuple[str, ...]  # endpoints that no VM has
    left: tuple[tuple[Accel | None, int], ...]  # the same counted by verdict; None: not judged

    @property
    def letters(self) -> tuple[tuple[str, str], ...]:
        """The letters of those VMs with their colours."""
        return tuple(dict.fromkeys((end.letter, end.colour) for end in self.ends))

    @property
    def shared(self) -> bool:
        """Whether several VMs have functions below it: its queues, and what stops them, are common to them."""
        return self.name is not None and len(self.vms) > 1


class Edge(msgspec.Struct, frozen=True):
    """A function given: from a VM's gate to the SMMU that translates for it."""

    vm: str
    letter: str
    colour: str
    gate: str
    address: str
    smmu: str | None
    crossing: bool


class Topology(msgspec.Struct, frozen=True):
    """The whole of it."""

    host: str
    vms: tuple[VmBox, ...]
    smmus: tuple[SmmuBox, ...]  # those with functions given first come where they come on the host
    edges: tuple[Edge, ...]
    nodes: tuple[int, ...]  # NUMA nodes of the host that an SMMU or a function is on

    @property
    def crossings(self) -> int:
        """Functions away from their VM's memory."""
        return sum(edge.crossing for edge in self.edges)

    @property
    def shared(self) -> int:
        """SMMUs that several VMs have functions below."""
        return sum(box.shared for box in self.smmus)

    @property
    def words(self) -> str:
        """What there is to see, in a line."""
        if not self.vms:
            return "No VM is planned: this is the host alone."
        said = [f"{plural(len(self.vms), 'VM')} on {self.host}", f"{plural(len(self.edges), 'function')} given"]
        said.append(f"{plural(self.shared, 'SMMU')} shared" if self.shared else "no SMMU shared")
        if self.crossings:
            said.append(f"{plural(self.crossings, 'function')} away from the VM's memory")
        elif len(self.nodes) > 1:
            said.append("no NUMA crossing known")
        return ", ".join(said)


def topology(host: Host, plan: Plan | None, *, judge: bool = True) -> Topology:
    """The picture of a plan on its host. ``judge`` False leaves out verdicts of what nobody has, which take work on a large host."""
    from wizard.host.describe import product_text

    vms = plan.vms if plan else ()
    named = letters(vm.name for vm in vms)
    boxes = tuple(_vm(host, vm, *named[vm.name]) for vm in vms)
    ends: dict[str | None, list[HostEnd]] = {}
    edges = []
    taken: dict[str, None] = {}
    for vm, box in zip(vms, boxes, strict=True):
        planned = {device.host: device for device in vm.devices}
        for gate in box.gates:
            for end in gate.ends:
                device = planned.get(end.address)
                below = _smmu(host, end.address, device)
                edges.append(Edge(vm.name, box.letter, box.colour, gate.id, end.address, below, end.crossing is not None))
                here = host.functions.get(end.address)
                node = here.numa_node if here else device.host_node if device else None
                note = "" if here else "a VF to be made" if device and device.to_make else "not on this host"
                ends.setdefault(below, []).append(HostEnd(end.tag, end.address, end.name, vm.name, box.letter, box.colour, node, end.crossing, note))
                taken[end.address] = None
    smmus = tuple(_smmus(host, ends, taken, judge))
    nodes = {box.node for box in smmus} | {end.node for box in smmus for end in box.ends}
    return Topology(product_text(host), boxes, smmus, tuple(edges), tuple(sorted(node for node in nodes if node is not None)))


def _vm(host: Host, vm: VmPlan, letter: str, colour: str) -> VmBox:
    nodes = tuple(sorted({node.host_node for node in vm.memory.nodes if node.memory and node.host_node is not None}))
    number = 0
    gates = []
    placed: set[str] = set()
    for vsmmu in vm.vsmmus:
        bus = vm.bus(vsmmu.bus)
        ends = []
        for device in vm.devices_of(vsmmu):
            number += 1
            ends.append(_end(host, vm, device, f"{letter}{number}", nodes))
            placed.add(device.id)
        gates.append(Gate(f"{letter}/{vsmmu.id}", vsmmu.id, vsmmu.accel, vsmmu.bus, None if bus is None else bus.numa_node, vsmmu.smmu, tuple(ends)))
    rest = []
    for device in vm.devices:
        if device.id not in placed:
            number += 1
            rest.append(_end(host, vm, device, f"{letter}{number}", nodes))
    # What is asked for and the host does not show has no place in the plan: it is not forgotten here.
    there = {device.host for device in vm.devices}
    for asked in vm.request.functions:
        if asked.host not in there:
            number += 1
            rest.append(End(f"{letter}{number}", asked.host, "no place", None, "", None))
    if rest:
        gates.append(Gate(f"{letter}/", None, False, None, None, None, tuple(rest)))
    return VmBox(vm.name, letter, colour, vm.mode.value, vm.memory.size, vm.cpus, nodes, len(vm.errors), tuple(gates))


def _end(host: Host, vm: VmPlan, device: DevicePlan, tag: str, nodes: Sequence[int]) -> End:
    function = host.functions.get(device.host)
    name = function.short_name if function else device.name
    node = function.numa_node if function else device.host_node
    crossing = None
    if node is not None and nodes and node not in nodes:
        crossing = f"on node {node}, the memory of {vm.name} on {' and '.join(map(str, nodes))}"
    return End(tag, device.host, str(device.guest).removeprefix("0000:"), device.vsid, name, crossing)


def _smmu(host: Host, address: str, device: DevicePlan | None) -> str | None:
    function = host.functions.get(address)
    found = function.smmu if function else device.smmu if device else None
    return found if found in host.smmus else None


def _smmus(host: Host, ends: Mapping[str | None, list[HostEnd]], taken: Mapping[str, None], judge: bool) -> Iterator[SmmuBox]:
    free: dict[str | None, list[str]] = {}
    for address in sorted(host.functions, key=lambda one: host.functions[one].address):
        function = host.functions[address]
        if not function.is_bridge and address not in taken:
            free.setdefault(function.smmu if function.smmu in host.smmus else None, []).append(address)
    for name in (*host.smmus, None):
        smmu = host.smmus.get(name) if name else None
        below, nobodys = tuple(ends.get(name, ())), tuple(free.get(name, ()))
        if name is None and not below and not nobodys:
            continue
        counts = Counter(host.verdict(address).accel if judge else None for address in nobodys)
        left = tuple((verdict, counts[verdict]) for verdict in (*Accel, None) if counts[verdict])
        vms = tuple(dict.fromkeys(end.vm for end in below))
        yield SmmuBox(name, smmu.kind if smmu else "", smmu.numa_node if smmu else None, vms, below, nobodys, left)
