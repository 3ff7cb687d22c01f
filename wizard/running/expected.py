"""What a VM should be: of a profile its plan, of a domain or a command line what is written there. One shape for all of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import msgspec

from wizard.base.address import Address
from wizard.existing.guest import ROOT_BUS, Bridge, Function, Guest, Vsmmu
from wizard.existing.placement import complete
from wizard.plan.memory import address_spaces, pinned
from wizard.plan.model import VmPlan
from wizard.plan.properties import AUTO
from wizard.plan.request import Mode


class WantedVsmmu(msgspec.Struct, frozen=True, kw_only=True):
    """``properties``: those that are written. ``comes_to``: what the host makes of those that are ``auto``, where a plan says so."""

    id: str
    bus: str
    accel: bool
    properties: Mapping[str, str] = {}
    comes_to: Mapping[str, str] = {}


class WantedFunction(msgspec.Struct, frozen=True, kw_only=True):
    """A function of the host and its place. ``guest`` is a plan's prediction."""

    id: str | None
    host: str | None
    bus: str | None
    vsmmu: str | None
    iommufd: bool = True
    guest: Address | None = None


class WantedBridge(msgspec.Struct, frozen=True, kw_only=True):
    """An expander or a root port."""

    id: str
    bus: str | None
    bus_nr: int | None = None
    numa_node: int | None = None


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """``source`` in words, as in "and SOURCE says …". Sizes in bytes; None: it says nothing of that."""

    source: str
    name: str | None
    uuid: str | None
    vsmmus: tuple[WantedVsmmu, ...]
    functions: tuple[WantedFunction, ...]
    bridges: tuple[WantedBridge, ...]
    memory: int | None = None
    cpus: int | None = None
    hugepages: int | None = None
    memlock: int | None = None
    machine: str | None = None  # virt-11.1
    qemu: str | None = None  # the version that it was planned for, 11.1
    host_nodes: frozenset[int] = frozenset()  # where its memory is bound to
    planned: bool = False  # it is a profile's: what is added beside it was not planned

    def vsmmu(self, id: str | None) -> WantedVsmmu | None:
        """A vSMMU by its id."""
        return next((one for one in self.vsmmus if one.id == id), None)

    def accelerated(self, function: WantedFunction) -> bool:
        """Whether a function should be behind an accelerated vSMMU."""
        vsmmu = self.vsmmu(function.vsmmu)
        return vsmmu is not None and vsmmu.accel


def of_plan(vm: VmPlan, source: str) -> Expected:
    """A planned VM."""
    return Expected(
        source=source, name=vm.name, uuid=vm.uuid,
        vsmmus=tuple(
            WantedVsmmu(
                id=one.id, bus=one.bus, accel=one.accel,
                properties={name: prop.written for name, prop in one.properties() if prop.written is not None} if one.accel else {},
                comes_to={name: f"{prop.resolved} (derived from the host, known from {prop.source})" for name, prop in one.properties()
                          if prop.auto and prop.resolved is not None},
            ) for one in vm.vsmmus
        ),
        functions=tuple(
            WantedFunction(id=one.id, host=one.host, bus=one.port, vsmmu=one.vsmmu, iommufd=one.iommufd, guest=one.guest) for one in vm.devices
        ),
        bridges=(
            *(WantedBridge(id=bus.id, bus=ROOT_BUS, bus_nr=bus.bus_nr, numa_node=bus.numa_node) for bus in vm.buses),
            *(WantedBridge(id=port.id, bus=port.bus) for port in vm.ports),
        ),
        memory=vm.memory.size, cpus=vm.cpus, hugepages=vm.memory.hugepages, memlock=vm.memory.memlock if vm.devices else None,
        machine=vm.machine.type, qemu=_version(vm.request.target),
        host_nodes=frozenset(node.host_node for node in vm.memory.nodes if node.host_node is not None and node.memory), planned=True,
    )  # fmt: skip


def of_guest(guest: Guest, source: str) -> Expected:
    """A VM as a domain or a command line has it."""
    whole = complete(guest)
    bridges = [one for one in whole.of(Bridge) if isinstance(one, Bridge)]
    above = {one.id: one.bus for one in bridges if one.id and one.bus and one.kind != "expander"}
    vsmmus = [one for one in whole.of(Vsmmu) if isinstance(one, Vsmmu)]
    primary = {one.bus or ROOT_BUS: one.id for one in vsmmus if one.id}
    nodes = guest.nodes or ()
    functions = tuple(
        WantedFunction(id=one.id, host=one.host, bus=one.bus, vsmmu=_behind(one.bus, above, primary), iommufd=one.iommufd is not None)
        for one in whole.of(Function) if isinstance(one, Function)
    )  # fmt: skip
    return Expected(
        source=source, name=guest.name, uuid=guest.uuid,
        vsmmus=tuple(
            WantedVsmmu(id=one.id, bus=one.bus or ROOT_BUS, accel=one.accel, properties=dict(one.properties)) for one in vsmmus if one.id
        ),
        functions=functions,
        bridges=tuple(
            WantedBridge(id=one.id, bus=one.bus, bus_nr=one.bus_nr, numa_node=one.numa_node)
            for one in bridges if one.id and one.kind in ("expander", "port")
        ),
        memory=guest.memory.size, cpus=guest.cpus, hugepages=guest.memory.hugepages, memlock=_pinned(guest, functions), machine=guest.machine.type,
        host_nodes=frozenset(node.host_node for node in nodes if node.host_node is not None and node.memory),
    )  # fmt: skip


def _version(target: str | None) -> str | None:
    """``qemu=11.1`` -> ``11.1``; None for another VMM."""
    kind, _, version = (target or "").partition("=")
    return version if kind == "qemu" and version else None


def _pinned(guest: Guest, functions: Sequence[WantedFunction]) -> int | None:
    """What the process has to be allowed to lock on this machine; None for a VM without functions, or whose memory is not known."""
    if not functions or guest.memory.size is None:
        return None
    spaces = address_spaces(Mode.ACCEL, [one.vsmmu is not None for one in functions])
    return pinned(guest.memory.size, guest.cpus or 1, os.sysconf("SC_PAGE_SIZE"), spaces)


def _behind(bus: str | None, above: Mapping[str, str], primary: Mapping[str, str]) -> str | None:
    """The vSMMU on the way up; the machine's own has no id, and is none of a plan's either."""
    seen: set[str] = set()
    while bus is not None and bus not in seen:
        if bus in primary:
            return primary[bus]
        seen.add(bus)
        bus = above.get(bus)
    return None


def is_auto(value: str) -> bool:
    """Whether a property leaves it to QEMU."""
    return value == AUTO
