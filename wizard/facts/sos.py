"""A sos report: what it holds in place of /sys/bus/pci.

    sos_commands/devices/udevadm_info_--export-db   functions with ids, class, driver and names; SMMUs; interfaces and disks
    sos_commands/pci/lspci_-nnvv                    NUMA node, IOMMU group and revision
    proc/bus/pci/BB/DD.F, proc/bus/pci/DDDD:BB/DD.F configuration space

The kernel's log, its configuration, ACPI tables and /proc are where any tree has them, or in sos_commands/kernel. Groups are known by
lspci only: their type and reserved regions are not.
"""

from __future__ import annotations

import re

from wizard.base.address import Address
from wizard.facts.functions import LIMIT, last_function
from wizard.facts.held import Place
from wizard.facts.model import Group, IommuDevice, PciFunction
from wizard.facts.tree import Tree
from wizard.facts.umockdev import parse

UDEV = "sos_commands/devices/udevadm_info_--export-db"
LSPCI = "sos_commands/pci/lspci_-nnvv"
_DATABASE_LIMIT = 64 << 20  # bytes

_SLOT = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
_REVISION = re.compile(r"\(rev ([0-9a-f]{2})\)")
_NODE = re.compile(r"^\tNUMA node: (\d+)$", re.MULTILINE)
_GROUP = re.compile(r"^\tIOMMU group: (\d+)$", re.MULTILINE)
_PARAGRAPH = re.compile(r"^(?=(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[01][0-9a-f]\.[0-7] )", re.MULTILINE)


def is_sos(tree: Tree) -> bool:
    """Whether functions have to come out of a report: it has udev's database and no /sys/bus/pci."""
    return not tree.names("sys/bus/pci/devices") and "udevadm_info_--export-db" in tree.names("sos_commands/devices")


def of_sos(tree: Tree) -> tuple[tuple[PciFunction, ...], tuple[IommuDevice, ...], tuple[Group, ...]]:
    """(functions, SMMUs, groups) of a report; what it can't hold is noted in ``unread``."""
    _, devices = parse(tree.data(UDEV, _DATABASE_LIMIT) or b"", UDEV)
    told = _lspci(tree)
    owners: dict[tuple[str, str], list[str]] = {}
    for path, properties in devices.items():
        kind = properties.get("SUBSYSTEM", "")
        if kind in ("net", "block", "vfio-dev") and (address := last_function(path)):
            owners.setdefault((kind, address), []).append(path.rpartition("/")[2])
    functions: list[PciFunction] = []
    for path, properties in devices.items():
        address = properties.get("PCI_SLOT_NAME", "")
        if properties.get("SUBSYSTEM") == "pci" and _SLOT.fullmatch(address) and len(functions) < LIMIT:
            function = _function(tree, path, address, properties, told.get(address, ""), owners)
            functions += [function] if function else []
    held = {
        Place.FUNCTIONS: bool(devices),
        Place.LINKS: False,
        Place.GROUP_LINKS: any(function.iommu_group is not None for function in functions),  # lspci prints them since pciutils 3.7
        Place.CONFIG: any(function.config_length for function in functions),
        Place.RESOURCES: False,
        Place.GROUPS: False,
        Place.IOMMUS: bool(devices),
    }
    tree.unread |= {place.value: "not in a sos report" for place, there in held.items() if not there}
    groups: dict[int, list[str]] = {}
    for function in functions:
        if function.iommu_group is not None:
            groups.setdefault(function.iommu_group, []).append(function.address)
    return (
        tuple(sorted(functions, key=lambda function: Address.parse(function.address))),
        tuple(sorted((_iommu(path) for path, p in devices.items() if p.get("SUBSYSTEM") == "iommu"), key=lambda iommu: iommu.name)),
        tuple(Group(id=number, devices=tuple(sorted(members))) for number, members in sorted(groups.items())),
    )


def _function(
    tree: Tree, path: str, address: str, properties: dict[str, str], lspci: str, owners: dict[tuple[str, str], list[str]]
) -> PciFunction | None:
    ids = re.fullmatch(r"([0-9A-F]{4}):([0-9A-F]{4})", properties.get("PCI_ID", ""))
    class_ = re.fullmatch(r"[0-9A-F]{4,6}", properties.get("PCI_CLASS", ""))
    if ids is None or class_ is None:
        return None
    subsystem = re.fullmatch(r"([0-9A-F]{4}):([0-9A-F]{4})", properties.get("PCI_SUBSYS_ID", ""))
    config = _config(tree, Address.parse(address))
    revision, node, group = (pattern.search(lspci) for pattern in (_REVISION, _NODE, _GROUP))
    return PciFunction(
        address=address,
        path=path,
        vendor=f"0x{ids[1].lower()}",
        device=f"0x{ids[2].lower()}",
        class_=f"0x{int(class_[0], 16):06x}",
        revision=f"0x{revision[1]}" if revision else "0x00" if lspci else None,  # lspci is silent about revision 0
        subsystem_vendor=f"0x{subsystem[1].lower()}" if subsystem else None,
        subsystem_device=f"0x{subsystem[2].lower()}" if subsystem else None,
        config=config.rstrip(b"\0").hex(),
        config_length=len(config),
        driver=properties.get("DRIVER"),
        modalias=properties.get("MODALIAS"),
        iommu_group=int(group[1]) if group else None,
        numa_node=int(node[1]) if node else -1,
        vfio_dev=tuple(sorted(owners.get(("vfio-dev", address), ()))),
        net=tuple(sorted(owners.get(("net", address), ()))),
        block=tuple(sorted(owners.get(("block", address), ()))),
        vendor_name=properties.get("ID_VENDOR_FROM_DATABASE"),
        device_name=properties.get("ID_MODEL_FROM_DATABASE"),
        class_name=properties.get("ID_PCI_SUBCLASS_FROM_DATABASE") or properties.get("ID_PCI_CLASS_FROM_DATABASE"),
    )


def _config(tree: Tree, address: Address) -> bytes:
    # pci_proc_attach_bus() of the kernel: the segment is written where there is more than one.
    leaf = f"{address.device:02x}.{address.function}"
    places = [f"proc/bus/pci/{address.segment:04x}:{address.bus:02x}/{leaf}"] + [f"proc/bus/pci/{address.bus:02x}/{leaf}"] * (address.segment == 0)
    return next((data for place in places if (data := tree.data(place, 4096))), b"")


def _lspci(tree: Tree) -> dict[str, str]:
    found = {}
    for paragraph in _PARAGRAPH.split((tree.data(LSPCI, _DATABASE_LIMIT) or b"").decode(errors="backslashreplace")):
        slot = paragraph.partition(" ")[0]
        if slot:
            found[slot if slot.count(":") == 2 else f"0000:{slot}"] = paragraph
    return found


def _iommu(path: str) -> IommuDevice:
    parts = path.split("/")
    return IommuDevice(name=parts[-1], device=parts[-3] if len(parts) > 2 and parts[-2] == "iommu" else None)
