"""What a domain leaves out, filled in as libvirt 12.8 fills it in; QEMU's part is ``qemu/placement``, where a command line is read.

Measured: a device without an address goes onto the first free root port by controller index, behind an accelerated expander too, and libvirt
makes root ports where none is left. Each value that is filled in is in ``implied`` of its device.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from wizard.existing.guest import ROOT_BUS, Bridge, Device, Disk, Emulated, Function, Guest, Network, Origin, VirtioIommu, Vsmmu
from wizard.plan.numbers import Names

SLOTS, FUNCTIONS = 32, 8
_BUS_NR_LAST = 254  # libvirt's first choice of busNr; then two below the least there is
_CONVENTIONAL = {"i6300esb"}  # plain PCI: libvirt puts them behind a pcie-pci-bridge, from slot 1
_ON_PORTS = ("bridge", "upstream")  # bridges that need a port themselves


def complete(guest: Guest) -> Guest:
    """The guest with every place filled in that can be known; what can't stays None."""
    devices = _libvirt(guest.devices) if guest.origin is Origin.LIBVIRT else guest.devices
    return replace(guest, devices=tuple(_named(devices)))


def _named(devices: Sequence[Device]) -> list[Device]:
    """VSMMUs and functions that have no id get one: a profile names them by it."""
    names = Names(device.id for device in devices)
    stems = {Vsmmu: ("smmuv3.", 1), Function: ("dev", 0)}
    return [_fill(device, id=names.give(*stems[type(device)])) if device.id is None and type(device) in stems else device for device in devices]


def _fill(device: Device, **values: Any) -> Device:
    """Values where there are none yet, marked as implied."""
    missing = {name: value for name, value in values.items() if getattr(device, name) is None and value is not None}
    return replace(device, **missing, implied=device.implied | set(missing)) if missing else device


class _Buses:
    """Which (slot, function) are taken on each bus."""

    def __init__(self, devices: Iterable[Device]) -> None:
        self.taken: dict[str, set[tuple[int, int]]] = {}
        for device in devices:
            self.take(device)

    def take(self, device: Device) -> None:
        if device.pci and device.bus is not None and device.slot is not None:
            self.taken.setdefault(device.bus, set()).add((device.slot, device.function or 0))

    def slot(self, bus: str, *, first: int = 0) -> int | None:
        """The first slot that nothing is in; slot 0 of pcie.0 is the host bridge."""
        used = {slot for slot, _ in self.taken.get(bus, ())}
        return next((slot for slot in range(max(first, int(bus == ROOT_BUS)), SLOTS) if slot not in used), None)


def _libvirt(devices: Sequence[Device]) -> list[Device]:
    """As qemuDomainAssignPCIAddresses() does: first the controllers that are missing, then every address, controllers before the rest."""
    bridges = sorted((device for device in devices if isinstance(device, Bridge)), key=lambda one: one.index or 0)
    others = [device for device in devices if not isinstance(device, Bridge)]
    bridges += _missing(bridges, others)
    made: dict[int, Device] = dict(enumerate([*bridges, *others]))
    buses = _Buses(made.values())
    _numbers(made)
    for place, device in made.items():
        if isinstance(device, Bridge) and device.kind not in _ON_PORTS:
            made[place] = _bridge(device, buses)
            buses.take(made[place])
    waiting = [(place, device) for place, device in made.items() if device.pci and device.bus is None]
    for place, device in sorted(waiting, key=lambda item: (_order(item[1]), item[0])):
        if isinstance(device, VirtioIommu):
            made[place] = _fill(device, bus=ROOT_BUS, slot=buses.slot(ROOT_BUS), function=0)
        elif device.driver in _CONVENTIONAL:
            bridge = next((one for one in made.values() if isinstance(one, Bridge) and one.kind == "bridge"), None)
            slot = buses.slot(bridge.id, first=1) if bridge is not None and bridge.id is not None else None
            made[place] = _fill(device, bus=bridge.id, slot=slot, function=0) if bridge is not None else device
        else:
            free = next((port for port in _ports(made.values()) if not buses.taken.get(port.id or "") and port.hotplug), None)
            if free is not None:
                made[place] = _fill(device, bus=free.id, slot=0, function=0)
        buses.take(made[place])
    return list(made.values())


def _ports(devices: Iterable[Device]) -> list[Bridge]:
    return sorted((one for one in devices if isinstance(one, Bridge) and one.kind in ("port", "downstream")), key=lambda one: one.index or 0)


def _missing(bridges: Sequence[Bridge], others: Sequence[Device]) -> list[Bridge]:
    """Controllers that libvirt adds: a root port for each device that finds none free, a bridge for plain PCI, and where the domain
    has no controller of its own one port to spare.
    """
    index = max((bridge.index or 0 for bridge in bridges), default=0)
    used = {device.bus for device in (*bridges, *others) if device.pci and device.bus is not None}
    free = [port for port in _ports(bridges) if port.id not in used and port.hotplug]
    added: list[Bridge] = []

    def add(kind: str, driver: str) -> None:
        nonlocal index
        index += 1
        names = frozenset({"id", "index"})
        added.append(Bridge(driver=driver, id=f"pci.{index}", kind=kind, index=index, implied=names))  # type: ignore[arg-type]  # one of two words

    def take() -> None:
        if free:
            free.pop(0)
        else:
            add("port", "pcie-root-port")

    for bridge in bridges:
        if bridge.bus is None and bridge.kind in _ON_PORTS:
            take()
    for device in sorted(others, key=_order):
        if not device.pci or device.bus is not None or isinstance(device, VirtioIommu):
            continue
        if device.driver not in _CONVENTIONAL:
            take()
        elif not any(bridge.kind == "bridge" for bridge in (*bridges, *added)):
            take()
            add("bridge", "pcie-pci-bridge")
    if added and not bridges:
        add("port", "pcie-root-port")
    return added


def _numbers(made: dict[int, Device]) -> None:
    """The busNr of expanders that write none (virPCIDeviceAddressAssign… of libvirt: 254, then two below the least)."""
    least = min((device.bus_nr for device in made.values() if isinstance(device, Bridge) and device.bus_nr is not None), default=None)
    for place, device in made.items():
        if isinstance(device, Bridge) and device.kind == "expander" and device.bus_nr is None:
            least = _BUS_NR_LAST if least is None else least - 2
            made[place] = _fill(device, bus_nr=least)


def _bridge(device: Bridge, buses: _Buses) -> Device:
    """Root ports share slots of pcie.0, eight to one; everything else takes one."""
    found: Device = device
    if device.bus is None and device.kind == "port":
        slot, function = _aggregated(buses)
        found = _fill(device, bus=ROOT_BUS, slot=slot, function=function)
    elif device.bus is None and device.kind == "expander":
        found = _fill(device, bus=ROOT_BUS, slot=buses.slot(ROOT_BUS), function=0)
    if device.kind in ("port", "downstream"):
        found = _fill(found, chassis=device.index, port=((found.slot or 0) << 3 | (found.function or 0)) & 0xFF)
    return found


def _aggregated(buses: _Buses) -> tuple[int | None, int]:
    """The next function of a slot that only root ports are in that libvirt placed, else function 0 of a free one."""
    shared = buses.taken.setdefault("ports of libvirt", set())
    for slot, function in sorted(shared):
        after = function + 1
        if after < FUNCTIONS and (slot, after) not in buses.taken.get(ROOT_BUS, ()) and (slot, after) not in shared:
            shared.add((slot, after))
            return slot, after
    slot_ = buses.slot(ROOT_BUS)
    if slot_ is not None:
        shared.add((slot_, 0))
    return slot_, 0


_ORDER: tuple[tuple[type[Device], frozenset[str]], ...] = (
    (Emulated, frozenset({"vhost-user-fs-pci"})),
    (Network, frozenset()),
    (Emulated, frozenset({"virtio-net-pci"})),
    (Emulated, frozenset({"virtio-scsi-pci", "virtio-serial-pci", "qemu-xhci", "ahci"})),
    (Disk, frozenset()),
    (Emulated, frozenset({"virtio-blk-pci"})),
    (Function, frozenset()),
    (Emulated, frozenset({"vfio-pci"})),
    (Emulated, frozenset({"virtio-balloon-pci"})),
    (Emulated, frozenset({"virtio-rng-pci"})),
    (Emulated, frozenset({"i6300esb"})),
    (VirtioIommu, frozenset()),
    (Emulated, frozenset({"virtio-gpu-pci"})),
)
"""qemuDomainAssignDevicePCISlots() of libvirt 12.8: file systems, networks, controllers, disks, functions, balloon, rng, watchdog,
iommu, video; the rest."""
_TOGETHER = {2: 1, 5: 4, 7: 6}  # the same kind, whether a profile has a word for it or not


def _order(device: Device) -> int:
    if isinstance(device, Bridge):
        return -1
    for place, (kind, drivers) in enumerate(_ORDER):
        if isinstance(device, kind) and (not drivers or device.driver in drivers):
            return _TOGETHER.get(place, place)
    return len(_ORDER)
