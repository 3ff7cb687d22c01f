"""What a mend changed in a request, put into the text of the VM that the request was read from.

A request is made of a guest in its order (wizard/existing/request.py), so that each part of it is a device of the guest by its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wizard.existing.guest import ROOT_BUS, Bridge, Device, Disk, Emulated, Function, Guest, Network, Origin, Vsmmu
from wizard.mend.edits import Beyond
from wizard.mend.writers import CommandWriter, DomainWriter, writer_of
from wizard.plan.properties import NAMES, declared
from wizard.plan.request import OtherRequest, VmRequest


def rewritten(text: str, guest: Guest, old: VmRequest, new: VmRequest) -> str:
    """The text with what differs between two requests. ``Beyond`` where the text has no place for a difference."""
    differ = {name for name in old.__struct_fields__ if getattr(old, name) != getattr(new, name)}
    if rest := differ - {"vsmmus", "functions", "disks", "networks", "others", "hotplug", "machine", "mmio_window", "numa"}:
        raise Beyond(f"{', '.join(sorted(rest))} can't be changed by a value")
    return _Changes(text, guest).all(old, new)


class _Changes:
    def __init__(self, text: str, guest: Guest) -> None:
        self.guest = guest
        self.added = False  # whether an -object iommufd was
        self.writer: CommandWriter | DomainWriter = writer_of(text, guest)

    def all(self, old: VmRequest, new: VmRequest) -> str:
        vsmmus = [one for one in self.guest.of(Vsmmu) if one.bus is not None]
        functions = [one for one in self.guest.of(Function) if isinstance(one, Function) and one.host is not None]
        self.each(vsmmus, old.vsmmus, new.vsmmus, self.vsmmu)
        self.each(functions, old.functions, new.functions, self.function)
        self.each(list(self.guest.of(Disk)), old.disks, new.disks, self.place)
        self.each(list(self.guest.of(Network)), old.networks, new.networks, self.place)
        ports = [device for one in old.hotplug if (device := self.guest.device(one.port)) is not None]
        self.each(ports, old.hotplug, new.hotplug, self.hotplug)
        self.others(old.others, new.others)
        self.machine(old, new)
        return self.writer.result()

    def each(self, devices: Sequence[Device], old: Any, new: Any, change: Any) -> None:
        if old == new:
            return
        if not len(devices) == len(old) == len(new):
            raise Beyond("a device more or less is another VM")
        for device, before, after in zip(devices, old, new, strict=True):
            if before != after:
                change(device, before, after)

    def differ(self, old: Any, new: Any, *allowed: str) -> set[str]:
        """The names that differ; ``Beyond`` where another one does."""
        names = {name for name in old.__struct_fields__ if getattr(old, name) != getattr(new, name)}
        if rest := names - set(allowed):
            raise Beyond(f"{', '.join(sorted(rest))} can't be changed by a value")
        return names

    def vsmmu(self, device: Device, old: Any, new: Any) -> None:
        names = self.differ(old, new, "properties", "bus_nr", "slot")
        expander = self.guest.device(device.bus)
        for name in ("bus_nr", "slot"):
            if name in names:
                if not isinstance(expander, Bridge) or getattr(new, name) is None:
                    raise Beyond("it has no expander")
                self.writer.put(expander, name, str(getattr(new, name)))
        for name in NAMES:
            before, after = old.properties.of(name), new.properties.of(name)
            if before != after:
                if after is None or after == "auto":
                    raise Beyond(f"{name} would be left to QEMU")
                number = declared(name).number(str(after))
                self.writer.put(device, name, str(after) if number is None else declared(name).spell(number))

    def function(self, device: Device, old: Any, new: Any) -> None:
        assert isinstance(device, Function)
        names = self.differ(old, new, "iommufd", "id", "vsmmu", "port", "port_slot", "chassis", "function", "ats", "mode")
        if "port" in names:
            self.move(device, new.port)
            names -= {"port", "port_slot", "chassis", "vsmmu", "function", "mode"}
        port = self.guest.device(device.bus)
        for name, attribute in (("port_slot", "slot"), ("chassis", "chassis")):
            if name in names:
                if not isinstance(port, Bridge) or getattr(new, name) is None:
                    raise Beyond("it is on no root port")
                self.writer.put(port, attribute, str(getattr(new, name)))
        if names & {"vsmmu", "function", "mode"}:
            raise Beyond("it would go to another place")
        if "iommufd" in names:
            self.iommufd(device)
        if "id" in names:
            self.renamed(device, new.id)
        if "ats" in names:
            raise Beyond("a value would be taken away")

    def hotplug(self, device: Device, old: Any, new: Any) -> None:
        """A port that is left free."""
        names = self.differ(old, new, "chassis", "port_slot", "bus_reserve", "mem_reserve", "pref64_reserve")
        for name in names:
            value = getattr(new, name)
            if value is None:
                raise Beyond("no number is known for it")
            self.writer.put(device, "slot" if name == "port_slot" else name, str(value))

    def move(self, device: Function, port: str | None) -> None:
        there = self.guest.device(port)
        taken = any(other.bus == port for other in self.guest.devices if other is not device)
        if not isinstance(there, Bridge) or there.kind not in ("port", "downstream") or taken:
            raise Beyond("there is no free root port behind the right vSMMU")
        self.writer.put(device, "bus", port or "")
        if "slot" in device.places:
            self.writer.put(device, "slot", "0")

    def iommufd(self, device: Function) -> None:
        id_ = next(iter(self.guest.iommufds), None)
        if id_ is None and isinstance(self.writer, CommandWriter) and not self.added:
            self.writer.add_iommufd(device, "iommufd0")
            self.added = True
        self.writer.put(device, "iommufd", id_ or "iommufd0")

    def renamed(self, device: Function, id_: str) -> None:
        if self.guest.origin is Origin.QEMU and device.nodes:
            raise Beyond("its id is in other options too")
        self.writer.put(device, "id", id_)

    def place(self, device: Device, old: Any, new: Any) -> None:
        """Another slot, or pcie.0."""
        names = self.differ(old, new, "bus", "slot", "function", "id")
        if "id" in names:
            self.writer.put(device, "id", new.id)
        if "bus" in names and (new.bus or ROOT_BUS) != ROOT_BUS:
            raise Beyond("it would go to a bus that is not pcie.0")
        if names & {"bus", "slot", "function"}:
            if new.slot is None:
                raise Beyond("no slot is known for it")
            self.writer.put(device, "bus", ROOT_BUS)
            self.writer.put(device, "slot", str(new.slot))
            if device.function:
                self.writer.put(device, "function", "0")

    def others(self, old: tuple[OtherRequest, ...], new: tuple[OtherRequest, ...]) -> None:
        if old == new:
            return
        if len(old) != len(new):
            raise Beyond("a device more or less is another VM")
        for before, after in zip(old, new, strict=True):
            if before == after:
                continue
            device = self.guest.device(before.id)
            names = self.differ(before, after, "bus", "slot", "function", "bus_nr", "chassis")
            if device is None:
                raise Beyond(f"{before.id} is not written")
            if isinstance(device, Emulated):
                self.place(device, before, after)
                continue
            for name in names & {"bus_nr", "chassis", "slot"}:
                if getattr(after, name) is None:
                    raise Beyond("no number is known for it")
                self.writer.put(device, name, str(getattr(after, name)))
            if names & {"bus", "function"}:
                raise Beyond("a bridge would go to another place")

    def machine(self, old: VmRequest, new: VmRequest) -> None:
        names = {name for name in old.machine.__struct_fields__ if getattr(old.machine, name) != getattr(new.machine, name)}
        for name in names:
            value = getattr(new.machine, name)
            place = self.guest.machine.places.get(name)
            if place is None or (isinstance(self.writer, DomainWriter) and name in ("acpi", "its")):
                self.feature(name, value)
            else:
                self.writer.replace(place, value if isinstance(value, str) else "on" if value else "off")
        if old.mmio_window != new.mmio_window and new.mmio_window is not None:
            self.window(new.mmio_window)

    def window(self, size: int) -> None:
        place = self.guest.machine.places.get("mmio_window")
        if isinstance(self.writer, CommandWriter):
            if place is None:
                self.writer.machine("highmem-mmio-size", f"{size >> 30}G")
            else:
                self.writer.replace(place, f"{size >> 30}G")
        elif place is None:
            self.writer.hole(size)
        else:
            start, _ = self.writer.at(place)
            self.writer.replace(place, str(size // self.window_unit(start)))

    def window_unit(self, at: int) -> int:
        """Bytes of the unit that a domain's pcihole64 is written in."""
        head = self.writer.text[max(0, at - 120) : at]
        unit = head.rpartition("unit=")[2][1:4] if "<pcihole64" in head and "unit=" in head.rpartition("<pcihole64")[2] else "KiB"
        return {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}.get(unit.strip("'\""), 1 << 10)

    def feature(self, name: str, value: Any) -> None:
        if isinstance(self.writer, DomainWriter) and name == "acpi" and value:
            self.writer.child(self.writer.features(), "<acpi/>")
            return
        raise Beyond(f"{name} is not written")
