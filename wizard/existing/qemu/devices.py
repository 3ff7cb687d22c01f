"""-device, -nic, -net and what else makes a device of a PCI bus: in the order in which QEMU makes them.

qemu_init() of system/vl.c: network cards of -nic and -net while the machine is made; then every -device with key=value in its order, behind
them the ones that -drive if=virtio makes; then every -device in JSON, wherever it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from wizard.existing.guest import Bridge, Device, Disk, Emulated, Function, Network, VirtioIommu, Vsmmu
from wizard.existing.qemu import grammar, values
from wizard.existing.qemu.backends import Backends, image_of
from wizard.existing.qemu.options import Option
from wizard.plan.properties import DECLARED

_BRIDGES = {
    "pxb-pcie": "expander", "pxb-cxl": "expander", "pxb": "expander", "pcie-root-port": "port", "ioh3420": "port", "cxl-rp": "port",
    "x3130-upstream": "upstream", "cxl-upstream": "upstream", "xio3130-downstream": "downstream", "cxl-downstream": "downstream",
    "pcie-pci-bridge": "bridge", "pci-bridge": "bridge", "i82801b11-bridge": "bridge", "pci-bridge-seat": "bridge",
}  # fmt: skip
_AUTOMATIC = {"port": "pcie", "upstream": "pcie", "downstream": "pcie", "bridge": "pci", "expander": "pxb-pcie-bus"}
T = TypeVar("T")


class Made:
    """A device and the option that made it; ``kept`` when the option goes aside as it stands, since the model only holds its place."""

    def __init__(self, device: Device, option: Option, kept: bool = False) -> None:
        self.device, self.option, self.kept = device, option, kept


class Devices:
    """The devices of a command line."""

    def __init__(self, options: Sequence[Option], backends: Backends, descriptors: Mapping[str, str], *, nodefaults: bool) -> None:
        self._options, self._backends, self._nodefaults = options, backends, nodefaults
        self._descriptors = descriptors
        self.made: list[Made] = []
        self.default: list[Device] = []  # that QEMU adds by itself
        self._ids = {id for option in options if (id := option.get("id"))}
        self._automatic: dict[str, int] = {}

    def read(self) -> None:
        """Fill ``made``."""
        cards = [option for option in self._options if option.name in ("nic", "net")]
        if not cards and not self._nodefaults and not any(option.name == "netdev" for option in self._options):
            # default_net of system/vl.c; the card is the machine's (mc->default_nic of hw/arm/virt.c)
            self.default.append(Emulated(driver="virtio-net-pci", id=self._free("nic"), implied=frozenset({"id", "driver"})))
        for option in cards:
            self.made += self._card(option)
        for option in self._options:
            if option.name == "device" and not option.json:
                self.made += self._device(option)
            elif option.name == "virtfs":
                self.made.append(Made(self._nameless("virtio-9p-pci", "fs", option), option, True))
        for option in self._options:
            self.made += self._drive(option)
        for option in self._options:
            if option.name == "device" and option.json:
                self.made += self._device(option)

    def _free(self, name: str) -> str:
        number = 0
        while f"{name}{number}" in self._ids:
            number += 1
        self._ids.add(f"{name}{number}")
        return f"{name}{number}"

    # -- -device ------------------------------------------------------------------------------------------------------

    def _device(self, option: Option) -> Iterator[Made]:
        driver = option.take("driver")
        if driver is None:
            return
        driver = grammar.driver_of(driver)
        if driver in _BRIDGES:
            yield Made(self._bridge(option, driver), option)
        elif driver == "arm-smmuv3":
            yield Made(self._vsmmu(option), option)
        elif driver in ("vfio-pci", "vfio-pci-nohotplug"):
            yield Made(self._function(option, driver), option)
        elif driver == "virtio-iommu-pci":
            facts = self._facts(option, "viommu")
            granule, bits = self._value(option, "granule", facts, str), self._value(option, "aw-bits", facts, values.number)
            yield Made(VirtioIommu(driver=driver, granule=granule, aw_bits=bits, **facts), option)
        elif driver == "virtio-blk-pci" and (disk := self._disk(option)) is not None:
            yield Made(disk, option)
        elif driver == "virtio-net-pci" and (network := self._network(option)) is not None:
            yield Made(network, option)
        elif grammar.bus_of(driver) == "PCI" or (grammar.bus_of(driver) is None and (option.get("bus") or option.get("addr"))):
            yield Made(Emulated(driver=driver, **self._facts(option, "dev")), option, True)

    def _facts(self, option: Option, name: str) -> dict[str, Any]:
        """id, bus, slot, function, multifunction with their places; what is not written stays None."""
        facts: dict[str, Any] = {"where": option.where(), "places": {}, "implied": frozenset()}
        id = option.take("id")
        if id:
            facts["id"] = id
            facts["places"]["id"] = option.where("id")
        else:
            facts["id"] = self._free(name)
            facts["implied"] = frozenset({"id"})
        bus = self._value(option, "bus", facts, str)
        if bus is not None:
            facts["bus"] = bus
        addr = option.find("addr")
        if addr is not None:
            found = values.devfn_of_number(addr.raw) if isinstance(addr.raw, int) and not isinstance(addr.raw, bool) else values.devfn(addr.text)
            addr.bad = found is None
            if found is not None:
                addr.taken = True
                facts["slot"], facts["function"] = found
                facts["places"]["slot"] = facts["places"]["function"] = option.where("addr")
        multifunction = self._value(option, "multifunction", facts, values.switch)
        if multifunction is not None:
            facts["multifunction"] = multifunction
        return facts

    def _value(self, option: Option, key: str, facts: dict[str, Any], of: Callable[[str], T | None], name: str | None = None) -> T | None:
        """A value of a key, taken when it can be read; else it stays open and is named."""
        found = option.find(key)
        if found is None:
            return None
        value = of(found.text)
        found.bad = value is None and not found.holes
        if value is not None and not found.holes:
            found.taken = True
        if value is not None:
            facts["places"][name or key.replace("-", "_")] = option.where(key)
        return value

    def _bridge(self, option: Option, driver: str) -> Bridge:
        kind = _BRIDGES[driver]
        facts = self._facts(option, "bridge")
        if "id" in facts["implied"]:
            # Without an id QEMU numbers the bus by itself; the first of ports is pcie.0 again, and nobody finds it by that name.
            automatic = _AUTOMATIC[kind]
            number = self._automatic.get(automatic, 0)
            self._automatic[automatic] = number + 1
            name = f"{automatic}.{number}"
            if name != "pcie.0" and name not in self._ids:
                facts["id"] = name
        found = {
            "bus_nr": self._value(option, "bus_nr", facts, values.number),
            "numa_node": self._value(option, "numa_node", facts, values.number),
            "chassis": self._value(option, "chassis", facts, values.number),
            "port": self._value(option, "port", facts, values.number),
            "bus_reserve": self._value(option, "bus-reserve", facts, values.number),
            "mem_reserve": self._value(option, "mem-reserve", facts, values.size),
            "pref64_reserve": self._value(option, "pref64-reserve", facts, values.size),
        }
        hotplug = self._value(option, "hotplug", facts, values.switch)
        return Bridge(driver=driver, kind=kind, hotplug=hotplug is not False, **found, **facts)  # type: ignore[arg-type]  # of _BRIDGES

    def _vsmmu(self, option: Option) -> Vsmmu:
        facts = self._facts(option, "vsmmu")
        primary = self._value(option, "primary-bus", facts, str, "bus")
        if primary is not None:
            facts["bus"] = primary
        facts.pop("slot", None), facts.pop("function", None)
        accel = self._value(option, "accel", facts, values.switch)
        properties = {}
        for name in (one.name for one in DECLARED):
            value = self._value(option, name, facts, str)
            if value is not None:
                properties[name] = value
        stage = self._value(option, "stage", facts, str)
        return Vsmmu(driver="arm-smmuv3", accel=bool(accel), properties=properties, stage=stage, **facts)

    def _function(self, option: Option, driver: str) -> Function:
        facts = self._facts(option, "hostdev")
        host = self._value(option, "host", facts, values.host) or self._value(option, "sysfsdev", facts, values.sysfs, "host")
        descriptor = self._value(option, "fd", facts, str, "descriptor")
        host = host or self._descriptors.get(descriptor or "")
        iommufd = self._value(option, "iommufd", facts, str)
        ats = self._value(option, "ats", facts, str)
        rombar = self._value(option, "rombar", facts, values.number, "rom")
        nodes = self._initiated(facts["id"])
        return Function(driver=driver, host=host, descriptor=descriptor, iommufd=iommufd, ats=ats, rom=rombar != 0, nodes=nodes, **facts)

    def _initiated(self, id: str) -> tuple[int, ...]:
        """The guest nodes whose initiator a function is: -object acpi-generic-initiator."""
        found = []
        for one in self._backends.objects.values():
            mine = one.get("qom-type") == "acpi-generic-initiator" and one.get("pci-dev") == id
            node = values.number(one.get("node") or "") if mine else None
            if node is not None:
                for key in ("qom-type", "id", "pci-dev", "node"):
                    one.take(key)
                one.taken = True
                found.append(node)
        return tuple(sorted(found))

    def _nameless(self, driver: str, name: str, option: Option) -> Emulated:
        """A device that another option than -device makes."""
        return Emulated(driver=driver, id=self._free(name), where=option.where(), implied=frozenset({"id"}))

    # -- disks and networks -------------------------------------------------------------------------------------------

    def _disk(self, option: Option) -> Disk | None:
        image = self._backends.image(option.get("drive") or "")
        if image is None:
            return None
        option.take("drive")
        for one in image.options:
            one.taken = True
        return Disk(driver="virtio-blk-pci", path=image.path, format=image.format, readonly=image.readonly, **self._facts(option, "disk"))

    def _drive(self, option: Option) -> Iterator[Made]:
        """-drive if=virtio, -hda and their like: QEMU adds the device by itself."""
        if option.name in ("hda", "hdb", "hdc", "hdd", "cdrom"):
            yield Made(self._nameless("virtio-blk-pci", "drive", option), option, True)
        elif option.name == "drive" and (option.get("if") or "virtio") == "virtio":
            image = image_of(option, self._backends)
            if image is None:
                yield Made(self._nameless("virtio-blk-pci", "drive", option), option, True)
                return
            option.taken = True
            facts: dict[str, Any] = {
                "id": self._free("disk"),
                "where": option.where(),
                "places": {"path": option.where("file")},
                "implied": frozenset({"id"}),
            }
            yield Made(Disk(driver="virtio-blk-pci", path=image.path, format=image.format, readonly=image.readonly, **facts), option)

    def _network(self, option: Option) -> Network | None:
        backend = self._backends.netdevs.get(option.get("netdev") or "")
        tap = self._descriptors.get((backend.get("fd") or "") if backend is not None else "", "").partition("tap:")[2]
        if backend is None or not (profile_network(backend) or tap):
            return None
        option.take("netdev")
        backend.taken = True
        facts = self._facts(option, "net")
        mac = self._value(option, "mac", facts, str)
        if option.get("romfile") == "":
            option.take("romfile")  # what a plan writes too
        return Network(driver="virtio-net-pci", kind=backend.get("type"), source=tap or _source(backend), mac=mac, **facts)  # type: ignore[arg-type]  # user, tap or bridge

    def _card(self, option: Option) -> Iterator[Made]:
        kind = option.get("type")
        if kind == "none" or (option.name == "net" and kind != "nic"):
            return
        driver = grammar.driver_of(option.get("model") or "virtio-net-pci")
        facts: dict[str, Any] = {"where": option.where(), "places": {}, "implied": frozenset({"id"}), "id": self._free("net")}
        if driver == "virtio-net-pci" and option.name == "nic" and profile_network(option, "mac", "model"):
            mac = self._value(option, "mac", facts, str)
            option.taken = True
            yield Made(Network(driver=driver, kind=kind, source=_source(option), mac=mac, **facts), option)  # type: ignore[arg-type]  # user, tap or bridge
            return
        yield Made(Emulated(driver=driver, **facts), option, True)


# What a plan writes of a tap by itself, or what changes nothing of what the guest sees.
_TAP = frozenset({"type", "id", "ifname", "script", "downscript"})
_KEYS = {"user": frozenset({"type", "id"}), "tap": _TAP, "bridge": frozenset({"type", "id", "br"})}


def profile_network(option: Option, *more: str) -> bool:
    """Whether a profile can say all of a backend; what has more goes aside as it stands."""
    kind = option.get("type") or ""
    if kind not in _KEYS or not {key.name for key in option.keys} <= _KEYS[kind] | set(more):
        return False
    if kind == "tap":
        return bool(option.get("ifname")) and option.get("script") == "no" and option.get("downscript") in ("no", None)
    return kind == "user" or bool(option.get("br"))


def _source(option: Option) -> str | None:
    return option.get("ifname") if option.get("type") == "tap" else option.get("br") if option.get("type") == "bridge" else None
