"""A sos report: what it holds in place of /sys/bus/pci.

    sos_commands/devices/udevadm_info_--export-db   functions with ids, class, driver and names; SMMUs; interfaces and disks
    sos_commands/pci/lspci_-nnvv                    NUMA node, IOMMU group and revision
    proc/bus/pci/BB/DD.F, proc/bus/pci/DDDD:BB/DD.F configuration space

The kernel's log, its configuration, ACPI tables and /proc are where any tree has them, or in sos_commands/kernel. Groups are known by
lspci only: their type and reserved regions are not. Who uses a function follows from ``wizard.facts.sosuse``.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from wizard.base.address import WRITTEN, Address
from wizard.facts.content import TEXT_LIMIT, without_zeros
from wizard.facts.functions import LIMIT, last_function
from wizard.facts.held import Place
from wizard.facts.model import Group, Identity, IommuDevice, PciFunction, Program
from wizard.facts.paste import lspci
from wizard.facts.paste.bus import join_vfs
from wizard.facts.sosuse import ReportTree, stand_ins, uses
from wizard.facts.tree import Tree
from wizard.facts.umockdev import parse

UDEV = "sos_commands/devices/udevadm_info_--export-db"
LSPCI = "sos_commands/pci/lspci_-nnvv"
_DMIDECODE = "sos_commands/hardware/dmidecode"

_IDS, _CLASS = re.compile(r"([0-9A-F]{4}):([0-9A-F]{4})"), re.compile(r"[0-9A-F]{4,6}")
_SLOT = re.compile(WRITTEN)


class Report(msgspec.Struct, frozen=True):
    """A report as the tree to read everything else from, and what it says of functions, SMMUs and groups."""

    tree: Tree
    functions: tuple[PciFunction, ...]
    iommus: tuple[IommuDevice, ...]
    groups: tuple[Group, ...]
    uses: list[tuple[str, str, str]]  # (interface, "address" or "route", detail)


def is_sos(tree: Tree) -> bool:
    """Whether functions have to come out of a report: it has udev's database and no /sys/bus/pci."""
    return not tree.names("sys/bus/pci/devices") and "udevadm_info_--export-db" in tree.names("sos_commands/devices")


def read_report(tree: Tree) -> Report:
    """What a report holds; what it can't hold is noted in ``unread``."""
    tree = ReportTree(tree)
    data, cut = _database(tree)
    database, devices = parse(data, UDEV)
    stand_ins(tree, database, devices)
    tree.behind = database
    slots = [slot for p in devices.values() if p.get("SUBSYSTEM") == "pci" and _SLOT.fullmatch(slot := p.get("PCI_SLOT_NAME", ""))]
    spaces = {slot: _config(tree, Address.parse(slot)) for slot in slots}
    told, told_of = _lspci(tree, rebuild=not all(spaces.values()))
    owners: dict[tuple[str, str], list[str]] = {}
    for path, properties in devices.items():
        kind = properties.get("SUBSYSTEM", "")
        if kind in ("net", "block", "vfio-dev") and (address := last_function(path)):
            owners.setdefault((kind, address), []).append(path.rpartition("/")[2])
    functions: list[PciFunction] = []
    for path, properties in devices.items():
        address = properties.get("PCI_SLOT_NAME", "")
        if properties.get("SUBSYSTEM") == "pci" and _SLOT.fullmatch(address) and len(functions) < LIMIT:
            function = _function(path, address, properties, spaces[address], told.get(address, {}), owners)
            functions += [function] if function else []
    functions = _with_vfs(functions)
    iommus = tuple(sorted((_iommu(path) for path, p in devices.items() if p.get("SUBSYSTEM") == "iommu"), key=lambda iommu: iommu.name))
    if not cut and any(properties.get("SUBSYSTEM") == "platform" for properties in devices.values()):
        database.enter("sys/class/iommu")  # every device of the host is in the database: there is no other IOMMU
    held = {
        Place.FUNCTIONS: bool(devices) and not cut,
        Place.LINKS: False,
        Place.GROUP_LINKS: any(function.iommu_group is not None for function in functions),  # lspci prints them since pciutils 3.7
        Place.CONFIG: any(function.config_length for function in functions),
        Place.RESOURCES: Place.RESOURCES in told_of and all(function.address in told for function in functions),
        Place.GROUPS: False,
        Place.IOMMUS: bool(devices) and not cut,
    }
    tree.unread |= {place.value: "not in a sos report" for place, there in held.items() if not there}
    tree.unread |= {place.value: "cut short in this sos report" for place in (Place.FUNCTIONS, Place.IOMMUS) if cut}
    groups: dict[int, list[str]] = {}
    for function in functions:
        if function.iommu_group is not None:
            groups.setdefault(function.iommu_group, []).append(function.address)
    return Report(
        tree=tree,
        functions=tuple(sorted(functions, key=lambda function: Address.parse(function.address))),
        iommus=iommus,
        groups=tuple(Group(id=number, devices=tuple(sorted(members))) for number, members in sorted(groups.items())),
        uses=uses(tree),
    )


def _database(tree: Tree) -> tuple[bytes, bool]:
    """Udev's database, and whether a part of it is missing: of what is longer than ``log-size`` sos keeps the end, from within a line on."""
    data = tree.data(UDEV, TEXT_LIMIT) or b""
    whole = data.startswith(b"P: ")
    begin = 0 if whole else data.find(b"\nP: ") + 1
    return (data if whole or begin == 0 else data[begin:]), not whole or "/" + UDEV in tree.unread


def identity_of(tree: Tree, known: Identity) -> Identity:
    """The machine's maker out of dmidecode's text, where /sys/class/dmi was not copied."""
    if known.vendor or known.product:
        return known
    text = (tree.data(_DMIDECODE, TEXT_LIMIT) or b"").decode(errors="backslashreplace")

    def told(section: str, name: str) -> str | None:
        match = re.search(rf"^{section}\n(?:\t.*\n)*?\t{name}: (.*)$", text, re.MULTILINE)
        return match[1].strip() or None if match else None

    bios = " ".join(part for name in ("Vendor", "Version", "Release Date") if (part := told("BIOS Information", name)))
    return msgspec.structs.replace(
        known,
        vendor=told("System Information", "Manufacturer"),
        product=told("System Information", "Product Name"),
        board=told("Base Board Information", "Product Name"),
        firmware=bios or known.firmware,
    )


_PACKAGES = re.compile(
    r"^(?:ii\s+)?(?P<name>qemu-system-(?:arm|aarch64)|qemu-system-aarch64-core|qemu-kvm(?:-core)?|libvirt-daemon)(?::\w+)?(?:-|\s+)"
    r"(?:\d+:)?(?P<version>\d+\.\d+(?:\.\d+)*)(?P<build>\S*)",
    re.MULTILINE,
)
# Red Hat's and NVIDIA's builds take features of later versions along: their number says nothing of what they lack.
_OWN_BUILD = re.compile(r"\.el\d|nvidia", re.IGNORECASE)


def programs_of(tree: Tree) -> tuple[Program, ...]:
    """QEMU and libvirt by the list of installed packages; nothing where neither is listed, which need not mean that there is none."""
    places = {"qemu": {"qemu-kvm": "/usr/libexec/qemu-kvm", "qemu-kvm-core": "/usr/libexec/qemu-kvm"}, "libvirtd": {}}
    found: dict[str, Program] = {}
    for path in (
        "sos_commands/dpkg/dpkg_-l",
        *(f"sos_commands/rpm/{name}" for name in tree.names("sos_commands/rpm") if name.startswith("sh_-c_rpm")),
    ):
        for match in _PACKAGES.finditer((tree.data(path, TEXT_LIMIT) or b"").decode(errors="backslashreplace")):
            name = "libvirtd" if match["name"] == "libvirt-daemon" else "qemu"
            usual = "/usr/sbin/libvirtd" if name == "libvirtd" else "/usr/bin/qemu-system-aarch64"
            own = _OWN_BUILD.search(match["build"]) is not None
            found.setdefault(
                name,
                Program(
                    name=name,
                    path=places[name].get(match["name"], usual),
                    version=None if own else match["version"],
                    error=f"{match['version']}{match['build']} is a build with features of later versions" if own else None,
                ),
            )
    return tuple(found.values())


def _function(
    path: str, address: str, properties: dict[str, str], config: bytes, told: dict[str, Any], owners: dict[tuple[str, str], list[str]]
) -> PciFunction | None:
    ids = _IDS.fullmatch(properties.get("PCI_ID", ""))
    class_ = _CLASS.fullmatch(properties.get("PCI_CLASS", ""))
    if ids is None or class_ is None:
        return None
    subsystem = _IDS.fullmatch(properties.get("PCI_SUBSYS_ID", ""))
    # `sos clean` removes configuration space as binary: what lspci said of it in words is there still.
    space = {"config": without_zeros(config).hex(), "config_length": len(config)} if config else {k: told[k] for k in told if k.startswith("config")}
    return PciFunction(
        address=address,
        path=path,
        vendor=f"0x{ids[1].lower()}",
        device=f"0x{ids[2].lower()}",
        class_=f"0x{int(class_[0], 16):06x}",
        revision=told.get("revision"),
        subsystem_vendor=f"0x{subsystem[1].lower()}" if subsystem else None,
        subsystem_device=f"0x{subsystem[2].lower()}" if subsystem else None,
        **space,
        resource=told.get("resource", ""),
        driver=properties.get("DRIVER"),
        modalias=properties.get("MODALIAS"),
        iommu_group=told.get("iommu_group"),
        numa_node=told.get("numa_node", -1),
        vfio_dev=tuple(sorted(owners.get(("vfio-dev", address), ()))),
        net=tuple(sorted(owners.get(("net", address), ()))),
        block=tuple(sorted(owners.get(("block", address), ()))),
        vendor_name=properties.get("ID_VENDOR_FROM_DATABASE"),
        device_name=properties.get("ID_MODEL_FROM_DATABASE"),
        class_name=properties.get("ID_PCI_SUBCLASS_FROM_DATABASE") or properties.get("ID_PCI_CLASS_FROM_DATABASE"),
    )


_OF_VFS = ("vendor", "device", "physfn", "virtfns", "sriov_totalvfs", "sriov_numvfs")


def _with_vfs(functions: list[PciFunction]) -> list[PciFunction]:
    """PFs and VFs by the SR-IOV capability: no link of /sys that says it is in a report."""
    fields: dict[str, dict[str, Any]] = {
        function.address: {"vendor": function.vendor, "device": function.device, "config": function.config, "config_length": function.config_length}
        | {"config_known": function.config_known}
        for function in functions
    }
    join_vfs(fields, {function.address: Address.parse(function.address) for function in functions})
    return [
        msgspec.structs.replace(function, **{name: value for name, value in fields[function.address].items() if name in _OF_VFS})
        for function in functions
    ]


def _config(tree: Tree, address: Address) -> bytes:
    # pci_proc_attach_bus() of the kernel: the segment is written where there is more than one.
    leaf = f"{address.device:02x}.{address.function}"
    places = [f"proc/bus/pci/{address.segment:04x}:{address.bus:02x}/{leaf}"] + [f"proc/bus/pci/{address.bus:02x}/{leaf}"] * (address.segment == 0)
    return next((data for place in places if (data := tree.data(place, 4096))), b"")


def _lspci(tree: Tree, *, rebuild: bool) -> tuple[dict[str, dict[str, Any]], frozenset[Place]]:
    """(function -> what lspci said of it, places that it said of each of them)."""
    pieces = lspci.read((tree.data(LSPCI, TEXT_LIMIT) or b"").decode(errors="backslashreplace"), rebuild=rebuild)
    found = {address: fields for piece in pieces for address, fields in piece.functions.items()}
    return found, frozenset.intersection(*(piece.holds for piece in pieces)) if pieces else frozenset()


def _iommu(path: str) -> IommuDevice:
    parts = path.split("/")
    return IommuDevice(name=parts[-1], device=parts[-3] if len(parts) > 2 and parts[-2] == "iommu" else None)
