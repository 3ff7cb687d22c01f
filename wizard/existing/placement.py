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
_CONVENTIONAL = {"i6300esb", "ich9-intel-hda"}  # plain PCI: libvirt gives them a slot of pcie.0's own bridge, which differs by version


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

    def slot(self, bus: str) -> int | None:
        """The first slot that nothing is in; slot 0 of pcie.0 is the host bridge."""
        used = {slot for slot, _ in self.taken.get(bus, ())}
        return next((slot for slot in range(1 if bus == ROOT_BUS else 0, SLOTS) if slot not in used), None)


def _libvirt(devices: Sequence[Device]) -> list[Device]:
    """Controllers first, then the other devices in the order in which libvirt reserves their addresses."""
    made: dict[int, Device] = dict(enumerate(devices))
    buses = _Buses(devices)
    _numbers(made)
    for place, device in list(made.items()):
        if isinstance(device, Bridge):
            made[place] = _bridge(device, buses)
            buses.take(made[place])
    # pcie.0's own devices and functions are no bridges: they go onto root ports, one each.
    ports = sorted((one for one in made.values() if isinstance(one, Bridge) and one.kind in ("port", "downstream")), key=lambda one: one.index or 0)
    used = {device.bus for device in made.values() if device.pci and not (isinstance(device, Bridge) and device.kind == "expander")}
    waiting = [(place, device) for place, device in made.items() if device.pci and not isinstance(device, Bridge) and device.bus is None]
    added: list[Bridge] = []
    for place, device in sorted(waiting, key=lambda item: (_order(item[1]), item[0])):
        if isinstance(device, VirtioIommu):
            made[place] = _fill(device, bus=ROOT_BUS, slot=buses.slot(ROOT_BUS), function=0)
            buses.take(made[place])
            continue
        if device.driver in _CONVENTIONAL:
            continue
        free = next((port for port in ports if port.id not in used and port.hotplug), None)
        if free is None:
            free = _another(ports, made.values(), buses)
            ports.append(free)
            added.append(free)
        used.add(free.id)
        made[place] = _fill(device, bus=free.id, slot=0, function=0)
        buses.take(made[place])
    bridges = [device for device in made.values() if isinstance(device, Bridge)]
    return [*bridges, *added, *(device for device in made.values() if not isinstance(device, Bridge))]


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
    elif device.bus is None and device.kind in ("expander", "bridge"):
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


def _another(ports: Sequence[Bridge], devices: Iterable[Device], buses: _Buses) -> Bridge:
    """A root port that libvirt adds, with the next index."""
    indexes = [one.index or 0 for one in (*ports, *(device for device in devices if isinstance(device, Bridge)))]
    index = max(indexes, default=0) + 1
    port = Bridge(driver="pcie-root-port", id=f"pci.{index}", kind="port", index=index, implied=frozenset({"id", "index"}))
    made = _bridge(port, buses)
    assert isinstance(made, Bridge)
    buses.take(made)
    return made


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
    (VirtioIommu, frozenset()),
    (Emulated, frozenset({"virtio-gpu-pci"})),
)
"""qemuDomainAssignDevicePCISlots() of libvirt 12.8: file systems, networks, controllers, disks, functions, balloon, rng, iommu, video; the rest."""
_TOGETHER = {2: 1, 5: 4, 7: 6}  # the same kind, whether a profile has a word for it or not


def _order(device: Device) -> int:
    for place, (kind, drivers) in enumerate(_ORDER):
        if isinstance(device, kind) and (not drivers or device.driver in drivers):
            return _TOGETHER.get(place, place)
    return len(_ORDER)
