"""The device tree, as /sys/firmware/devicetree/base shows it to everybody: the nodes that have a say in who is behind which SMMU, as bytes.

Kept are host bridges, IOMMUs, MSI controllers, what platform devices say of their IOMMU, and all nodes above those, since coherency is
inherited; of each the listed properties alone. ``devices`` of a node are the devices that the kernel made of it (their ``of_node`` links).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from wizard.facts.model import IommuDevice, PciFunction, TreeNode
from wizard.facts.tree import Tree

BASE = "sys/firmware/devicetree/base"
NODES = 65536  # of a whole tree; an Orin has some 3,000
DEPTH = 64
BYTES = 32768  # of one property: 2,048 entries of an iommu-map

_NUMBERS = ("phandle", "linux,phandle", "#iommu-cells", "#msi-cells", "#interconnect-cells", "iommu-map-mask", "msi-map-mask", "linux,pci-domain")
_PLACES = ("#address-cells", "#size-cells", "reg", "ranges")  # where an SMMU lies, which is its name
_TEXTS = ("compatible", "device_type", "status", "interconnect-names")
_TABLES = ("iommu-map", "msi-map", "msi-parent", "iommus", "interconnects")
_FLAGS = ("dma-coherent", "dma-noncoherent", "ats-supported")
PROPERTIES = frozenset((*_NUMBERS, *_PLACES, *_TEXTS, *_TABLES, *_FLAGS))
_MARKS = frozenset(
    ("iommu-map", "#iommu-cells", "msi-map", "msi-controller", "#msi-cells", "#interconnect-cells", "iommus", "ats-supported", "bus-range")
)
"""A node that has one of these is kept; every PCI host bridge has a bus-range or inherits what the specification says of its lack."""


def read_nodes(tree: Tree, functions: Iterable[PciFunction], iommus: Iterable[IommuDevice]) -> tuple[TreeNode, ...]:
    """Nodes by path, root first; empty where there is no device tree in use."""
    if "compatible" not in tree.names(BASE):
        return ()
    links = _links(tree, functions, iommus)
    listed: dict[str, frozenset[str]] = {}
    kept: set[str] = {"/"}
    for path, names in _walk(tree):
        listed[path] = names
        if path in links or _MARKS & names:
            kept.update(_above(path))
    return tuple(_node(tree, path, listed[path], links.get(path, ())) for path in sorted(kept & listed.keys()))


_ROOT_BUS = re.compile(r"(?:^|/)pci[0-9a-f]{4,8}:[0-9a-f]{2}/")


def bridge_of(function: PciFunction) -> str:
    """The device of a function's host bridge below /sys/devices ("platform/4010000000.pcie"); empty where it has none, as under ACPI."""
    return _ROOT_BUS.split(function.path, maxsplit=1)[0] if _ROOT_BUS.search(function.path) else ""


def _walk(tree: Tree) -> Iterator[tuple[str, frozenset[str]]]:
    """Each node with the names in its directory. A node that is deeper, or one too many, is noted as not read."""
    waiting, count = ["/"], 0
    while waiting:
        path = waiting.pop()
        count += 1
        where = BASE + path.rstrip("/")
        if count > NODES or path.count("/") > DEPTH:
            tree.unread[f"/{where}"] = "more than any device tree has"
            return
        names = tree.names(where)
        yield path, frozenset(names)
        folders = tree.folders(where)
        waiting += [f"{path.rstrip('/')}/{name}" for name in reversed(folders)]


def _above(path: str) -> list[str]:
    found = [path]
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        found.append(path)
    return found


def _node(tree: Tree, path: str, names: frozenset[str], devices: Iterable[str]) -> TreeNode:
    properties: dict[str, str] = {}
    unread: list[str] = []
    for name in sorted(PROPERTIES & names):
        place = f"{BASE}{path.rstrip('/')}/{name}"
        data = b"" if name in _FLAGS else tree.data(place, BYTES + 1)
        if data is None or len(data) > BYTES or (not data and name not in _FLAGS and tree.recorded_error(place)):
            unread.append(name)
        else:
            properties[name] = data.hex()
    return TreeNode(path=path, properties=properties, unread=tuple(unread), devices=tuple(sorted(devices)))


def _links(tree: Tree, functions: Iterable[PciFunction], iommus: Iterable[IommuDevice]) -> dict[str, list[str]]:
    """Node -> devices below /sys/devices, for host bridges, SMMUs, and what else the SMMUs serve."""
    places = {f"sys/devices/{bridge}" for function in functions if (bridge := bridge_of(function))}
    for iommu in iommus:
        base = tree.link(f"sys/class/iommu/{iommu.name}") or f"sys/class/iommu/{iommu.name}"
        for link in (f"{base}/device", *(f"{base}/devices/{member}" for member in iommu.members if member.count(":") < 2)):
            if place := tree.link(link):
                places.add(place)
    found: dict[str, list[str]] = {}
    for place in sorted(places):
        node = tree.link(f"{place}/of_node")
        if node and (node == BASE or node.startswith(BASE + "/")):
            found.setdefault(node.removeprefix(BASE) or "/", []).append(place.removeprefix("sys/devices/"))
    return found
