"""What the device tree says of functions: the SMMU and StreamID of a requester ID, coherency, ATS, and where interrupts go.

The rules are the kernel's: of_map_id() (drivers/of/base.c), of_iommu_configure() (drivers/iommu/of_iommu.c), of_dma_is_coherent()
(drivers/of/address.c), the same in Linux 7.0 and 7.3 where an IOMMU takes one cell; sources: kernel-devicetree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, cached_property

import msgspec

from wizard.facts.model import Facts, TreeNode

SMMUV3 = "arm,smmu-v3"
ITS = "arm,gic-v3-its"
ROW = 4  # cells: first ID, phandle, first output, how many
_DEPTH = 64  # of nodes above one another, and of steps to who carries a node's DMA: ends a circle of phandles
_ALL = 0xFFFFFFFF


class Mapped(msgspec.Struct, frozen=True):
    """One ID through a map: the node and the output ID, or the kernel's words for why there is none.

    ``known`` is False where the map could not be read or understood: then the kernel may have found one.
    """

    node: TreeNode | None = None
    output: int | None = None
    why: str = ""
    known: bool = True


class _Row(msgspec.Struct, frozen=True):
    first: int
    length: int
    output: int
    target: TreeNode


class _Table(msgspec.Struct, frozen=True):
    rows: tuple[_Row, ...]
    mask: int
    end: Mapped | None = None  # how the kernel ends where no row of these has the ID


class TreeRange(msgspec.Struct, frozen=True):
    """IDs of a host bridge (or another node with a map) that lead to an SMMU, both ends counted; ``mask`` is laid over an ID before."""

    subject: str
    first: int
    last: int
    stream: int
    mask: int | None

    @property
    def words(self) -> str:
        """``/pcie@10000000, requester IDs 0x0 to 0xffff: StreamIDs 0x0 to 0xffff``."""
        masked = "" if self.mask is None else f" (of a requester ID the bits {self.mask:#x} count)"
        return f"{self.subject}, requester IDs {self.first:#x} to {self.last:#x}: StreamIDs {self.stream:#x} to {self.stream_last:#x}{masked}"

    @property
    def stream_last(self) -> int:
        """The last StreamID."""
        return self.stream + self.last - self.first


class DeviceTree:
    """The device tree of one host; without nodes nothing is known."""

    def __init__(self, facts: Facts) -> None:
        nodes = facts.device_tree_nodes or ()
        self.nodes = {node.path: node for node in nodes}
        self._by_device = {device: node for node in nodes for device in node.devices}
        self._names = {base: iommu.name for iommu in facts.iommus if (base := iommu.device)}
        self._table, self._name_at = cache(self._read_table), cache(self._find_name)  # asked for every function

    def __bool__(self) -> bool:
        return bool(self.nodes)

    @cached_property
    def _by_phandle(self) -> dict[int, TreeNode]:
        found: dict[int, TreeNode] = {}
        for node in self.nodes.values():
            for name in ("phandle", "linux,phandle"):
                number = _number(node, name)
                if number is not None:
                    found.setdefault(number, node)
        return found

    def bridge(self, device: str) -> TreeNode | None:
        """The node of a host bridge by its device below /sys/devices ("platform/4010000000.pcie"): of_node of its parent, pci_dma_configure()."""
        return self._by_device.get(device)

    def bridge_without_links(self, device: str, segment: int) -> TreeNode | None:
        """The node of a host bridge in a tree that came as a file, without the links of /sys.

        The kernel names the bridge's device by its address and name (of_device_make_bus_id()), and takes its segment out of
        ``linux,pci-domain``; a bridge that is alone and has no such property is segment 0 (of_pci_bus_find_domain_nr()).
        """
        if self._by_device:
            return None
        bridges = [node for node in self.nodes.values() if texts(node, "device_type")[:1] == ("pci",) and available(node)]
        leaf = device.rpartition("/")[2]
        if leaf:
            named = [node for node in bridges if leaf == self._device_of(node)]
        else:
            named = [node for node in bridges if _number(node, "linux,pci-domain") == segment]
            if not named and segment == 0 and len(bridges) == 1 and "linux,pci-domain" not in bridges[0].properties:
                named = bridges
        return named[0] if len(named) == 1 else None

    def _device_of(self, node: TreeNode) -> str:
        address = self.address(node)
        name = node.path.rpartition("/")[2].partition("@")[0]
        return "" if address is None else f"{address:x}.{name}"

    def smmus(self) -> Iterable[TreeNode]:
        """Nodes of SMMUv3s, those that are switched off included."""
        return (node for node in self.nodes.values() if SMMUV3 in texts(node, "compatible"))

    def name_of(self, node: TreeNode) -> str | None:
        """The SMMU of a node as sysfs names it: by its device, else by where it lies; None where that can't be said."""
        return self._name_at(node.path)

    def _find_name(self, path: str) -> str | None:
        node = self.nodes[path]
        for device in node.devices:
            if name := self._names.get(device.rpartition("/")[2]):
                return name
        base = self.address(node)
        return None if base is None else f"smmu3.{base:#018x}"

    def address(self, node: TreeNode) -> int | None:
        """Where a node's first registers lie for a CPU: ``reg``, translated by ``ranges`` of every bus above (of_translate_address())."""
        above = self._above(node)
        value = None if above is None else _join(_cells(_bytes(node, "reg") or b""), 0, self._width(above, "#address-cells"))
        while above is not None and value is not None and above.path != "/":
            bus, above = above, self._above(above)
            raw = _bytes(bus, "ranges")
            if above is None or raw is None:
                return None  # not read, or a bus without ranges: what is on it has no address of a CPU
            if raw:
                value = self._through(bus, above, _cells(raw), value)
        return value if above is not None else None

    def _through(self, bus: TreeNode, above: TreeNode, cells: list[int], value: int) -> int | None:
        own, outer, length = self._width(bus, "#address-cells"), self._width(above, "#address-cells"), self._width(bus, "#size-cells")
        row = own + outer + length
        for at in range(0, len(cells) - row + 1, row) if row else ():
            first, base, size = _join(cells, at, own), _join(cells, at + own, outer), _join(cells, at + own + outer, length)
            if first is not None and base is not None and size is not None and first <= value < first + size:
                return base + value - first
        return None

    def _above(self, node: TreeNode) -> TreeNode | None:
        return None if node.path == "/" else self.nodes.get(node.path.rpartition("/")[0] or "/")

    @staticmethod
    def _width(node: TreeNode, name: str) -> int:
        """Cells of an address or a size on a bus: OF_ROOT_NODE_ADDR_CELLS_DEFAULT and its like are 1; a number that is none counts as 0."""
        number = _number(node, name)
        return 1 if number is None else number if number <= 4 else 0

    def named(self, name: str, device: str | None) -> TreeNode | None:
        """The node of an SMMU that sysfs lists."""
        by_device = (node for path, node in self._by_device.items() if device is not None and path.rpartition("/")[2] == device)
        return next(by_device, None) or next((node for node in self.smmus() if self.name_of(node) == name), None)

    def map_id(self, path: str, table: str, number: int) -> Mapped:
        """An ID through ``iommu-map`` or ``msi-map`` of a node: of_map_id()."""
        found = self._table(path, table)
        masked = number & found.mask
        for row in found.rows:
            if row.first <= masked and masked - row.first < row.length:
                return Mapped(row.target, (masked - row.first + row.output) & _ALL)
        return found.end or Mapped(why=f"OF: {path}: no {table} translation for id {number:#x}")

    def _read_table(self, path: str, table: str) -> _Table:
        """The rows of a map up to the first that the kernel would stop at, and how it would end there."""
        node = self.nodes[path]
        mask_name, cells_name = f"{table}-mask", f"#{table.removesuffix('-map')}-cells"
        raw, mask = _bytes(node, table), _number(node, mask_name)
        mask = _ALL if mask is None else mask
        bad_length = Mapped(why=f"OF: {path}: Error: Bad {table} length: {len(raw or b'')}")
        if table in node.unread or mask_name in node.unread:
            return _Table((), mask, Mapped(why=f"{table} of {path} could not be read", known=False))
        if raw is None:
            return _Table((), mask, Mapped(why=f"{path} has no {table}"))
        cells = _cells(raw)
        rows: list[_Row] = []
        if len(raw) % 4:
            return _Table((), mask, bad_length)
        for at in range(0, len(cells), ROW):
            if len(cells) - at < 2:
                return _Table(tuple(rows), mask, bad_length)
            first, target = cells[at], self._by_phandle.get(cells[at + 1])
            if first & ~mask:
                why = f"OF: {path}: Invalid {table} translation - {mask_name} ({mask:#x}) ignores id-base ({first:#x})"
                return _Table(tuple(rows), mask, Mapped(why=why))
            if target is None:
                why = f"{table} of {path} names phandle {cells[at + 1]:#x}, which no node that was read has"
                return _Table(tuple(rows), mask, Mapped(why=why, known=False))
            if _number(target, cells_name) not in (None, 1):
                # Before 7.3 a row had four cells whatever its target says; since, as many as that.
                why = f"{target.path} has {cells_name} {_number(target, cells_name)}, for which kernels read {table} in different ways"
                return _Table(tuple(rows), mask, Mapped(why=why, known=False))
            if len(cells) - at < ROW:
                return _Table(tuple(rows), mask, bad_length)
            rows.append(_Row(first, cells[at + 3], cells[at + 2], target))
        return _Table(tuple(rows), mask)

    def coherent(self, node: TreeNode) -> tuple[bool | None, str]:
        """Whether the DMA of a node is coherent, and whose word that is: its own, else of who is above; None where that is not among the nodes."""
        at: TreeNode | None = node
        for _ in range(_DEPTH):
            if at is None:
                break
            for flag in ("dma-coherent", "dma-noncoherent"):
                if flag in at.properties:
                    return flag == "dma-coherent", f"the device tree says {flag} at {at.path}"
            if at.path == "/":  # dma_default_coherent is false on arm64
                return False, f"the device tree says dma-coherent neither at {node.path} nor above it"
            at = self._dma_parent(at)
        return None, ""

    def _dma_parent(self, node: TreeNode) -> TreeNode | None:
        """Who carries a node's DMA: the interconnect that it calls dma-mem, else the node above (__of_get_dma_parent())."""
        above = self._above(node)
        names = texts(node, "interconnect-names")
        if "interconnect-names" in node.unread:
            return None
        if "dma-mem" not in names:
            return above
        if "interconnects" in node.unread:
            return None
        cells, at = _cells(_bytes(node, "interconnects") or b""), 0
        for place in range(len(names)):
            if at >= len(cells):
                return above
            target = self._by_phandle.get(cells[at])
            wide = None if target is None else _number(target, "#interconnect-cells")
            if target is None or wide is None:
                return above
            if names[place] == "dma-mem":
                return target
            at += 1 + wide
        return above

    def ranges(self, smmu: TreeNode) -> Iterator[TreeRange]:
        """Every row of a map that leads to an SMMU."""
        for node in self.nodes.values():
            for row in self._table(node.path, "iommu-map").rows if "iommu-map" in node.properties else ():
                if row.target is smmu and row.length:
                    mask = self._table(node.path, "iommu-map").mask
                    yield TreeRange(node.path, row.first, row.first + row.length - 1, row.output, None if mask == _ALL else mask)

    def promises(self, smmu: TreeNode) -> dict[str, bool | str | None]:
        """What the device tree says of an SMMU, by its own words."""
        return {
            "node": smmu.path,
            "compatible": ", ".join(texts(smmu, "compatible")),
            "dma-coherent": self.coherent(smmu)[0],
            "available": available(smmu),
        }

    def platform_streams(self, device: str) -> tuple[tuple[str, int], ...]:
        """(SMMU, StreamID) of a platform device that an SMMU serves, by its device: of_iommu_configure_dev()."""
        node = next((node for path, node in self._by_device.items() if path.rpartition("/")[2] == device), None)
        cells, at, found = _cells(_bytes(node, "iommus") or b"") if node else [], 0, []
        while at < len(cells):
            target = self._by_phandle.get(cells[at])
            wide = None if target is None else _number(target, "#iommu-cells")
            if target is None or wide is None or not 0 <= wide <= 16:
                break
            if wide == 1 and at + 1 < len(cells) and (name := self.name_of(target)):
                found.append((name, cells[at + 1]))
            at += 1 + wide
        return tuple(found)


def available(node: TreeNode) -> bool:
    """of_device_is_available(): no status at all, or one that says okay."""
    return "status" not in node.properties or texts(node, "status")[:1] in (("okay",), ("ok",))


def texts(node: TreeNode, name: str) -> tuple[str, ...]:
    """The strings of a property."""
    raw = _bytes(node, name) or b""
    return tuple(raw.rstrip(b"\0").decode(errors="replace").split("\0")) if raw else ()


def _bytes(node: TreeNode, name: str) -> bytes | None:
    text = node.properties.get(name)
    return None if text is None or len(text) % 2 else bytes.fromhex(text)


def _cells(raw: bytes) -> list[int]:
    return [int.from_bytes(raw[at : at + 4], "big") for at in range(0, len(raw) - len(raw) % 4, 4)]


def _number(node: TreeNode, name: str) -> int | None:
    """The first cell; a property that is shorter counts as none (of_property_read_u32())."""
    raw = _bytes(node, name)
    return None if raw is None or len(raw) < 4 else int.from_bytes(raw[:4], "big")


def _join(cells: list[int], at: int, count: int) -> int | None:
    """A number of so many cells; None where there are fewer. Of a PCI address the cell with its space counts, too."""
    if count == 0 or at + count > len(cells):
        return None
    return sum(cell << 32 * place for place, cell in enumerate(reversed(cells[at : at + count])))
