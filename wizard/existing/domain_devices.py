"""What is in ``<devices>`` of a domain, as devices of a ``Guest`` with the aliases that libvirt gives.

An alias that is not written counts up among those of its kind that have none of the user's own (``ua-``), as qemuAssignDeviceAliases() of
libvirt does; a PCI controller is ``pci.INDEX``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from wizard.base.address import Address
from wizard.base.text import disk_name
from wizard.existing.domain_override import Reserves
from wizard.existing.guest import ROOT_BUS, Bridge, Device, Disk, Emulated, Fate, Function, Left, Network, VirtioIommu, Vsmmu, Where
from wizard.existing.ledger import Ledger
from wizard.existing.numbers import integer, numbers, scaled
from wizard.existing.xmltree import Element
from wizard.plan.properties import NAMES

_BRIDGES = {
    "pcie-expander-bus": ("expander", "pxb-pcie"),
    "pcie-root-port": ("port", "pcie-root-port"),
    "pcie-switch-upstream-port": ("upstream", "x3130-upstream"),
    "pcie-switch-downstream-port": ("downstream", "xio3130-downstream"),
    "pcie-to-pci-bridge": ("bridge", "pcie-pci-bridge"),
}
_ADDRESS = ("type", "domain", "bus", "slot", "function", "multifunction")
_VIRTIO = "virtio"


@dataclass
class Found:
    """The result. ``iommufd``: a function uses it."""

    devices: list[Device] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    iommufd: bool = False
    machine_iommu: tuple[str, Where] | None = None
    window: tuple[int, Where] | None = None

    def with_overrides(self, ats: Mapping[str, str], reserves: Reserves) -> tuple[Device, ...]:
        """The devices with what ``<qemu:override>`` says of them."""
        made: list[Device] = []
        for device in self.devices:
            if isinstance(device, Function) and device.id is not None and device.id in ats:
                device = replace(device, ats=ats[device.id])
            elif isinstance(device, Bridge) and device.id is not None and device.id in reserves:
                device = replace(device, **reserves[device.id])
            made.append(device)
        return tuple(made)


def read_devices(root: Element, devices: Element | None, ledger: Ledger, iommufd: bool, kvm: bool) -> Found:
    """Everything in <devices>, in the order in which libvirt gives it to QEMU: controllers, then the rest as it stands."""
    reader = _Devices(root, ledger, iommufd)
    if devices is None:
        return reader.found
    ledger.open(devices)
    controllers = devices.all("controller")
    for element in sorted(controllers, key=lambda one: integer(one.attributes.get("index")) or 0):
        reader.controller(element)
    readers: dict[str, Callable[[Element], None]] = {
        "disk": reader.disk, "interface": reader.interface, "hostdev": reader.hostdev, "iommu": reader.iommu, "memballoon": reader.balloon,
        "serial": reader.serial, "console": reader.serial, "audio": reader.audio,
    }  # fmt: skip
    for element in devices.children:
        if element.name in readers:
            readers[element.name](element)
        elif element.name not in ("controller", "emulator"):
            reader.emulated(element)
    reader.added(devices)
    return reader.found


class _Devices:
    def __init__(self, root: Element, ledger: Ledger, iommufd: bool) -> None:
        self.root, self.ledger, self.iommufd = root, ledger, iommufd
        self.found = Found()
        self._counts: dict[str, int] = {}
        self._pluggable = False  # an iommu with pciBus came before

    def id(self, element: Element, stem: str) -> str:
        """Its alias: written, or the one that libvirt gives."""
        alias = element.one("alias")
        name = self.ledger.attribute(alias, "name")
        if name:
            return name
        count = self._counts.get(stem, 0)
        self._counts[stem] = count + 1
        return f"{stem}{count}"

    def place(self, element: Element, *, take: bool = True) -> dict[str, Any]:
        """Bus, slot and function as they are written, with their places; nothing where there is no PCI address."""
        address = element.one("address")
        if address is None or address.attributes.get("type", "pci") != "pci" or "bus" not in address.attributes:
            return {}
        values = {name: integer(address.attributes.get(name, "0")) for name in ("domain", "bus", "slot", "function")}
        if any(value is None for value in values.values()):
            return {}
        if take:
            for name in _ADDRESS:
                if name != "domain" or not values["domain"]:
                    self.ledger.attribute(address, name)
        bus = values["bus"]
        return {
            "bus": f"pci.{bus}" if bus else ROOT_BUS,
            "slot": values["slot"],
            "function": values["function"],
            "multifunction": address.attributes.get("multifunction") == "on",
            "places": {name: address.where(name) for name in ("bus", "slot", "function") if name in address.attributes},
        }

    def controller(self, element: Element) -> None:
        ledger = self.ledger
        kind, model = element.attributes.get("type"), element.attributes.get("model")
        if kind == "usb" and model == "none":
            ledger.plain(element)
            return
        if kind != "pci":
            self.emulated(element)
            return
        index = integer(element.attributes.get("index"))
        if model == "pcie-root":
            for name in ("type", "index", "model"):
                ledger.attribute(element, name)
            ledger.called(element, ROOT_BUS)
            alias = element.one("alias")
            if alias is not None:
                ledger.plain(alias)
            hole = element.one("pcihole64")
            if hole is not None:
                size = scaled(ledger.content(hole), ledger.attribute(hole, "unit"))
                if size is not None:
                    self.found.window = size, hole.where_text()
            return
        if model not in _BRIDGES or index is None:
            self.emulated(element)
            return
        for name in ("type", "index", "model"):
            ledger.attribute(element, name)
        what, driver = _BRIDGES[model]
        ledger.plain_attribute(element.one("model"), "name", driver)
        place = self.place(element)
        places = {"where": element.where(), **place.pop("places", {})}
        target = element.one("target")
        node = target.one("node") if target else None
        values: dict[str, Any] = {}
        for attribute, name in (("busNr", "bus_nr"), ("chassis", "chassis"), ("port", "port")):
            value = ledger.attribute(target, attribute)
            if value is not None and target is not None:
                values[name] = integer(value)
                places[name] = target.where(attribute)
                if values[name] is None:
                    ledger.unknown(target.where(attribute), "it is no number")
        if target is not None and "memReserve" in target.attributes:
            values["mem_reserve"] = scaled(ledger.attribute(target, "memReserve"), "KiB")
        if node is not None:
            values["numa_node"] = integer(ledger.content(node))
            places["numa_node"] = node.where_text()
        id_ = self.id(element, "") if element.one("alias") else f"pci.{index}"
        id_ = id_ if id_.startswith("ua-") else f"pci.{index}"
        ledger.called(element, id_)
        hotplug = target is None or target.attributes.get("hotplug") != "off"
        del places["where"]
        self.found.devices.append(
            Bridge(where=element.where(), places=places, driver=driver, id=f"pci.{index}", kind=what, index=index, hotplug=hotplug, **values, **place)  # type: ignore[arg-type]
        )

    def emulated(self, element: Element) -> None:
        """A device that is kept as it is: it only takes its place on the buses."""
        driver = _pci_driver(element)
        place = self.place(element, take=False)
        if driver is None and not place:
            return
        places = place.pop("places", {})
        alias = element.one("alias")
        written = alias.attributes.get("name") if alias else None
        stem = element.attributes.get("type", element.name) if element.name == "controller" else element.name
        index = element.attributes.get("index")
        id_ = written or (f"{stem}{index}" if element.name == "controller" and index else f"{stem}{self._counts.get(stem, 0)}")
        if not written:
            self._counts[stem] = self._counts.get(stem, 0) + 1
        self.found.devices.append(Emulated(where=element.where(), places=places, driver=driver or element.name, id=id_, **place))

    def added(self, devices: Element) -> None:
        """What libvirt adds by itself, where the domain has what needs it (qemuDomainDefPostParse and virDomainDefAddImplicitDevices)."""
        controllers = {element.attributes.get("type") for element in devices.all("controller")}
        scsi = any(target.attributes.get("bus") == "scsi" for disk in devices.all("disk") for target in disk.all("target"))
        serial = any(
            target.attributes.get("type") == _VIRTIO for kind in ("channel", "console") for one in devices.all(kind) for target in one.all("target")
        )
        wanted = (
            ("scsi", scsi and "scsi" not in controllers, "virtio-scsi-pci"),
            ("virtio-serial", serial and "virtio-serial" not in controllers, "virtio-serial-pci"),
            ("video", bool(devices.all("graphics")) and not devices.all("video"), "virtio-gpu-pci"),
        )
        for name, missing, driver in wanted:
            if missing:
                self.found.devices.append(Emulated(where=devices.where(), driver=driver, id=f"{name}0", implied=frozenset({"driver", "id"})))

    def disk(self, element: Element) -> None:
        ledger = self.ledger
        target, driver, source = element.one("target"), element.one("driver"), element.one("source")
        kind, device = element.attributes.get("type"), element.attributes.get("device", "disk")
        path = source.attributes.get({"file": "file", "block": "dev"}.get(kind or "", "")) if source else None
        form = driver.attributes.get("type", "raw") if driver else "raw"
        # Without a bus the name decides (virDomainDiskDefPostParse() of libvirt).
        name = target.attributes.get("dev", "") if target is not None else ""
        virtio = target is not None and target.attributes.get("bus", _VIRTIO if name.startswith("vd") else "") == _VIRTIO
        if not (virtio and device == "disk" and path and form in ("raw", "qcow2")) or element.attributes.get("model", _VIRTIO) != _VIRTIO:
            if virtio:
                self.emulated(element)
            return
        id_ = self.id(element, "virtio-disk")
        ledger.called(element, id_)
        for name in ("type", "device"):
            ledger.attribute(element, name)
        ledger.plain_attribute(driver, "name", "qemu")
        ledger.attribute(driver, "type")
        ledger.attribute(source, "file" if kind == "file" else "dev")
        ledger.attribute(target, "bus")
        ledger.plain_attribute(target, "dev", disk_name(len([one for one in self.found.devices if isinstance(one, Disk)])))
        readonly = element.one("readonly")
        if readonly is not None:
            ledger.open(readonly)
        place = self.place(element)
        places = place.pop("places", {}) | ({"path": source.where("file" if kind == "file" else "dev")} if source else {})
        self.found.devices.append(
            Disk(
                where=element.where(), places=places, driver="virtio-blk-pci", id=id_, path=path, format=form, readonly=readonly is not None, **place
            )
        )

    def interface(self, element: Element) -> None:
        ledger = self.ledger
        kind = element.attributes.get("type")
        if kind == "hostdev":
            self._assigned(element, network=True)
            return
        source, target, model, mac = (element.one(name) for name in ("source", "target", "model", "mac"))
        named = {
            "user": ("user", None, None), "bridge": ("bridge", source, "bridge"), "ethernet": ("tap", target, "dev"),
        }.get(kind or "")  # fmt: skip
        model_name = model.attributes.get("type", "") if model else ""
        what = named[1].attributes.get(named[2] or "") if named and named[1] else None
        tap = kind == "ethernet" and (target is None or target.attributes.get("managed") != "no")
        if named is None or model_name != _VIRTIO or (named[0] != "user" and not what) or tap:
            self.emulated(element)
            return
        id_ = self.id(element, "net")
        ledger.called(element, id_)
        ledger.attribute(element, "type")
        if model is not None:
            ledger.open(model)
        ledger.plain_attribute(model, "type", _VIRTIO)
        address = ledger.attribute(mac, "address")
        if named[1] is not None:
            ledger.attribute(named[1], named[2] or "")
        if kind == "ethernet":
            ledger.plain_attribute(target, "managed", "no")
        rom = element.one("rom")
        if rom is not None and rom.attributes == {"enabled": "no"}:
            ledger.plain(rom)
        place = self.place(element)
        places = place.pop("places", {}) | ({"mac": mac.where("address")} if mac else {})
        if named[1] is not None:
            places["source"] = named[1].where(named[2])
        self.found.devices.append(
            Network(where=element.where(), places=places, driver="virtio-net-pci", id=id_, kind=named[0], source=what, mac=address, **place)  # type: ignore[arg-type]
        )

    def hostdev(self, element: Element) -> None:
        if element.attributes.get("mode", "subsystem") != "subsystem" or element.attributes.get("type") != "pci":
            self.emulated(element)
            return
        self._assigned(element, network=False)

    def _assigned(self, element: Element, *, network: bool) -> None:
        ledger = self.ledger
        source, driver, rom, acpi = (element.one(name) for name in ("source", "driver", "rom", "acpi"))
        address = source.one("address") if source else None
        id_ = self.id(element, "hostdev")
        ledger.called(element, id_)
        for name in ("mode", "type"):
            ledger.attribute(element, name)
        ledger.plain_attribute(element, "managed", "no")
        ledger.plain_attribute(driver, "name", "vfio")
        own = ledger.attribute(driver, "iommufd")
        iommufd = self.iommufd if own is None else own == "yes"
        values = [integer(address.attributes.get(name, "0")) for name in ("domain", "bus", "slot", "function")] if address else []
        host = None
        places: dict[str, Where] = {}
        if address is not None:
            places["host"] = address.where()
            for name in ("type", "domain", "bus", "slot", "function"):
                ledger.attribute(address, name)
            segment, bus, slot, function = (-1 if value is None else value for value in values)
            if 0 <= segment <= 0xFFFFFFFF and 0 <= bus <= 255 and 0 <= slot <= 31 and 0 <= function <= 7 and "bus" in address.attributes:
                host = str(Address(segment, bus, slot, function))
        if network and element.one("mac") is not None:
            mac = element.one("mac")
            assert mac is not None
            ledger.lose(mac, "a profile has no MAC address of an assigned function: give it to the VF on the host")
        for name in ("vlan", "virtualport", "bandwidth") if network else ():
            part = element.one(name)
            if part is not None:
                ledger.lose(part, "a profile has no word for it on an assigned function: set it on the VF on the host")
        place = self.place(element)
        places |= place.pop("places", {})
        if driver is not None and "iommufd" in driver.attributes:
            places["iommufd"] = driver.where("iommufd")
        if "managed" in element.attributes:
            places["managed"] = element.where("managed")
        bar = ledger.attribute(rom, "bar") if rom is not None and rom.attributes.get("bar") in ("on", "off") else None
        nodes = numbers(ledger.attribute(acpi, "nodeset")) if acpi is not None else ()
        self.found.iommufd |= iommufd
        self.found.devices.append(
            Function(
                where=element.where(),
                places=places,
                driver="vfio-pci",
                id=id_,
                host=host,
                iommufd="iommufd0" if iommufd else None,
                vfio_driver=ledger.attribute(driver, "model"),
                managed={"yes": True, "no": False}.get(element.attributes.get("managed", "no")),
                rom=bar != "off",
                nodes=nodes or (),
                **place,
            )
        )

    def iommu(self, element: Element) -> None:
        ledger = self.ledger
        model = ledger.attribute(element, "model")
        driver = element.one("driver")
        if model == _VIRTIO:
            place = self.place(element)
            places = place.pop("places", {})
            aw_bits = integer(driver.attributes.get("aw_bits")) if driver else None
            if driver is not None:
                ledger.plain(driver)
            alias = element.one("alias")
            if alias is not None:
                ledger.plain(alias)
            self.found.devices.append(VirtioIommu(where=element.where(), places=places, driver="virtio-iommu-pci", aw_bits=aw_bits, **place))
            return
        if model != "smmuv3":
            ledger.unknown(element.where("model"), "an arm64 machine has no such IOMMU")
            return
        bus = driver.attributes.get("pciBus") if driver else None
        accel = ledger.attribute(driver, "accel") == "on"
        properties = {name: value for name in NAMES if (value := ledger.attribute(driver, name)) is not None}
        places = {name: driver.where(name) for name in (*properties, "accel", "pciBus") if driver and name in driver.attributes}
        if bus is None:
            # Behind one with a pciBus libvirt 12.8 drops it from the command line without a word (sources: libvirt-accepts).
            if self._pluggable:
                ledger.lose(element, "libvirt leaves an SMMU without pciBus out behind one that has it")
                return
            self.found.machine_iommu = "smmuv3", element.where()
            self.found.devices.append(
                Vsmmu(where=element.where(), places=places, driver="arm-smmuv3", id=None, bus=None, accel=accel, properties=properties)
            )
            return
        ledger.attribute(driver, "pciBus")
        self._pluggable = True
        index = integer(bus)
        id_ = self.id(element, "iommu")
        ledger.called(element, id_)
        # libvirt passes -1, which it takes for "not written", on as nothing.
        properties = {name: value for name, value in properties.items() if value != "-1"}
        primary = ROOT_BUS if index == 0 else f"pci.{bus if index is None else index}"
        self.found.devices.append(
            Vsmmu(
                where=element.where(),
                places=places | {"bus": places["pciBus"]},
                driver="arm-smmuv3",
                id=id_,
                bus=primary,
                accel=accel,
                properties=properties,
            )
        )

    def balloon(self, element: Element) -> None:
        if element.attributes.get("model") == "none":
            self.ledger.plain(element)
        else:
            self.emulated(element)

    def serial(self, element: Element) -> None:
        """The machine's own UART, which every export gives to `virsh console`."""
        targets = [child for child in element.children if child.name == "target"]
        own = all(target.attributes.get("type", "serial") in ("serial", "system-serial") for target in targets)
        if element.attributes.get("type") == "pty" and own and not any(child.name not in ("target", "source", "alias") for child in element.children):
            self.ledger.plain(element)

    def audio(self, element: Element) -> None:
        if element.attributes.get("type") == "none":
            self.ledger.plain(element)


_PCI: dict[str, str] = {
    "memballoon": "virtio-balloon-pci", "rng": "virtio-rng-pci", "vsock": "vhost-vsock-pci", "filesystem": "vhost-user-fs-pci",
    "crypto": "virtio-crypto-pci", "shmem": "ivshmem-plain", "video": "virtio-gpu-pci", "interface": "virtio-net-pci", "disk": "virtio-blk-pci",
    "sound": "ich9-intel-hda",
}  # fmt: skip
_CONTROLLERS = {"virtio-serial": "virtio-serial-pci", "scsi": "virtio-scsi-pci", "usb": "qemu-xhci", "sata": "ahci"}
_WATCHDOGS = {"i6300esb": "i6300esb"}
_INPUTS = {"keyboard", "mouse", "tablet", "passthrough", "evdev"}


def _pci_driver(element: Element) -> str | None:
    """QEMU's class of a device that sits on a PCI bus whether it has an address or not; None for all others."""
    driver = _plain_driver(element)
    inner = element.one("model")
    model = element.attributes.get("model") or (inner.attributes.get("type", "") if inner else "")
    return f"{driver}{model.removeprefix(_VIRTIO)}" if driver and model in ("virtio-transitional", "virtio-non-transitional") else driver


def _plain_driver(element: Element) -> str | None:
    model = element.attributes.get("model", "")
    match element.name:
        case "controller":
            return _CONTROLLERS.get(element.attributes.get("type", ""))
        case "watchdog":
            return _WATCHDOGS.get(model)
        case "input":
            return "virtio-input-host-pci" if element.attributes.get("bus") == _VIRTIO and element.attributes.get("type") in _INPUTS else None
        case "video":
            inner = element.one("model")
            return None if inner is not None and inner.attributes.get("type") == "none" else _PCI["video"]
        case "hostdev":
            return "vfio-pci" if element.attributes.get("type") == "mdev" else None
        case _:
            return _PCI.get(element.name)


__all__ = ["Fate", "Found", "read_devices"]
