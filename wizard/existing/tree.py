"""The buses of a ``Guest``: what hangs on what, which ports the planner would make itself, and which are somebody's own."""

from __future__ import annotations

from collections.abc import Iterator

from wizard.existing.guest import ROOT_BUS, Bridge, Device, Emulated, Function, Guest, Origin, Vsmmu
from wizard.export.spares import spare_places
from wizard.plan.model import climb
from wizard.plan.numbers import Names
from wizard.plan.request import HotplugRequest, OtherRequest


class Tree:
    """One guest's buses; places are filled in already."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.bridges = [device for device in guest.devices if isinstance(device, Bridge)]
        self._by_id = {bridge.id: bridge for bridge in reversed(self.bridges) if bridge.id is not None}
        self._above = {bridge.id: bridge.bus for bridge in self.bridges if bridge.id and bridge.bus and bridge.kind != "expander"}
        self._vsmmus = [device for device in guest.devices if isinstance(device, Vsmmu) and device.bus is not None]
        self._below: dict[str, list[Device]] = {}
        for device in guest.devices:
            if device.pci and device.bus is not None:
                self._below.setdefault(device.bus, []).append(device)
        self._spares = {id(spare) for spare in self._find_spares()}

    def bridge(self, id_: str | None) -> Bridge | None:
        """A bridge by its id."""
        return self._by_id.get(id_ or "")

    def expander(self, id_: str | None) -> Bridge | None:
        """An expander by its id."""
        found = self.bridge(id_)
        return found if found is not None and found.kind == "expander" else None

    def vsmmu_above(self, bus: str | None) -> Vsmmu | None:
        """The vSMMU of the root complex that a bus belongs to."""
        complex_ = climb(self._above, bus or ROOT_BUS)
        return next((vsmmu for vsmmu in self._vsmmus if vsmmu.bus == complex_), None)

    def simple(self, bridge: Bridge) -> bool:
        """Whether it is a root port as the planner makes them: alone in its slot, on pcie.0 or a vSMMU's expander, for functions only."""
        place = bridge.bus == ROOT_BUS or any(vsmmu.bus == bridge.bus for vsmmu in self._vsmmus)
        alone = all(other is bridge or other.slot != bridge.slot for other in self._below.get(bridge.bus or "", ()))
        numbered = bridge.port in (None, bridge.slot) and bridge.chassis is not None and 1 <= bridge.chassis <= 255
        behind = self._below.get(bridge.id or "", [])
        held = bool(behind) and all(isinstance(device, Function) and device.host is not None and not device.slot for device in behind)
        bare = bridge.bus_reserve is None and bridge.mem_reserve is None and bridge.pref64_reserve is None
        return bridge.kind == "port" and place and alone and numbered and held and bare and bridge.slot is not None and not bridge.function

    def hotplug(self) -> tuple[HotplugRequest, ...]:
        """Free ports behind a vSMMU, or on pcie.0 of a VM that has none, whose reserves are all written, as our exports write them."""
        return tuple(
            HotplugRequest(
                vsmmu=vsmmu.id if vsmmu is not None else None,
                port=bridge.id,
                port_slot=bridge.slot,
                chassis=bridge.chassis,
                bus_reserve=bridge.bus_reserve,
                mem_reserve=bridge.mem_reserve,
                pref64_reserve=bridge.pref64_reserve,
            )
            for bridge in self.bridges
            if self._free(bridge)
            for vsmmu in (self.vsmmu_above(bridge.bus),)
        )

    def _free(self, bridge: Bridge) -> bool:
        reserved = None not in (bridge.bus_reserve, bridge.mem_reserve, bridge.pref64_reserve)
        behind = any(vsmmu.bus == bridge.bus for vsmmu in self._vsmmus) if self._vsmmus else bridge.bus == ROOT_BUS
        numbered = bridge.port in (None, bridge.slot) and bridge.chassis is not None and 1 <= bridge.chassis <= 255
        alone = all(other is bridge or other.slot != bridge.slot for other in self._below.get(bridge.bus or "", ()))
        return bridge.kind == "port" and behind and reserved and numbered and alone and not bridge.function and not self._below.get(bridge.id or "")

    def others(self, names: Names) -> tuple[OtherRequest, ...]:
        """Bridges that are neither the planner's nor a vSMMU's expander, and emulated devices."""
        made = []
        for device in self.guest.devices:
            if isinstance(device, Bridge):
                own = device.kind == "expander" and any(vsmmu.bus == device.id for vsmmu in self._vsmmus)
                if own or self.simple(device) or self._free(device) or id(device) in self._spares:
                    continue
                numbered = device.kind in ("port", "downstream")
                made.append(
                    OtherRequest(
                        id=device.id or names.give("bridge", 1),
                        kind=device.kind,
                        bus=device.bus,
                        slot=device.slot,
                        function=device.function or 0,
                        bus_nr=device.bus_nr if device.kind == "expander" else None,
                        numa_node=device.numa_node,
                        chassis=device.chassis if numbered else None,
                        port=device.port if numbered else None,
                        bus_reserve=device.bus_reserve,
                        mem_reserve=device.mem_reserve,
                        pref64_reserve=device.pref64_reserve,
                    )
                )
            elif isinstance(device, Emulated) and device.bus is not None and device.slot is not None:
                made.append(
                    OtherRequest(
                        id=device.id or names.give("emulated", 1),
                        kind="endpoint",
                        driver=device.driver,
                        bus=device.bus,
                        slot=device.slot,
                        function=device.function or 0,
                    )
                )
        return tuple(made)

    def without_place(self) -> Iterator[Device]:
        """Devices of a PCI bus that nobody knows the place of."""
        for device in self.guest.devices:
            if device.pci and not isinstance(device, Function | Bridge) and (device.bus is None or device.slot is None):
                yield device

    def _find_spares(self) -> list[Bridge]:
        """The free root ports that our own libvirt export puts on pcie.0 (wizard/export/spares.py): it makes them anew.

        Only where slots and chassis are exactly what that export would choose; any other free port is somebody's own.
        """
        if self.guest.origin is not Origin.LIBVIRT or not any(vsmmu.accel for vsmmu in self._vsmmus):
            return []
        root = self._below.get(ROOT_BUS, [])
        free = [
            device for device in root
            if isinstance(device, Bridge) and device.kind == "port" and not self._below.get(device.id or "") and not device.function
            and (device.bus_reserve, device.mem_reserve, device.pref64_reserve) == (None, None, None) and device.port == device.slot
        ]  # fmt: skip
        own = [bridge for bridge in self.bridges if bridge not in free]
        below = [bridge for bridge in own if bridge.kind != "expander" and climb(self._above, bridge.id or "") == ROOT_BUS]
        last = sum(1 + (bridge.bus_reserve or 0) for bridge in below)
        ports = [bridge.slot for bridge in below if bridge.bus == ROOT_BUS and bridge.slot is not None]
        taken = {device.slot for device in root if device not in free and device.slot is not None}
        expanders = [bridge.bus_nr for bridge in self.bridges if bridge.kind == "expander" and bridge.bus_nr is not None]
        chassis = [bridge.chassis for bridge in own if bridge.kind in ("port", "downstream")]
        wanted = spare_places(ports, last, expanders, taken, chassis)
        return free if sorted((port.slot, port.chassis) for port in free) == wanted else []
