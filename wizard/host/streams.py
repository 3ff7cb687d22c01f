"""Which SMMU and StreamID the firmware gives a requester ID: by IORT under ACPI, by iommu-map under a device tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import msgspec

from wizard.base.address import Address
from wizard.facts.devicetree import bridge_of
from wizard.facts.model import Facts, IommuDevice, TreeNode
from wizard.host.assumed import Assumed
from wizard.host.devicetree import ITS, DeviceTree, Mapped, available, texts
from wizard.host.devicetree import SMMUV3 as SMMUV3_NODE
from wizard.host.firmware import Firmware
from wizard.host.known import Known, Source
from wizard.host.pci.path import Paths


class Given(msgspec.Struct, frozen=True):
    """What the firmware gives one requester ID. ``smmu`` and ``stream_id`` are None where it gives none; ``why`` says so.

    ``known`` is False where nobody can say: the table was not read, or not understood.
    """

    smmu: str | None = None
    stream_id: int | None = None
    why: str = ""
    known: bool = True


@lru_cache(maxsize=256)
def _name(base: int) -> str:
    return f"smmu3.{base:#018x}"


# The same for nearly all functions of a host.
_counted: Callable[[int, Source, str], Known] = lru_cache(maxsize=256)(Known)


class Streams:
    """The firmware's word for every requester ID of one host."""

    def __init__(self, facts: Facts, firmware: Firmware, assumed: Assumed, paths: Paths) -> None:
        self.firmware = firmware
        self.paths = paths
        self.tree = DeviceTree(facts)
        self.by_tree = firmware.iort is None and facts.device_tree is True
        covered = assumed.covers("device_tree_nodes" if self.by_tree else "acpi.IORT")
        self.source = Source.ASSUMED if covered else Source.DEVICE_TREE if self.by_tree else Source.IORT
        self._bridges: dict[int, dict[str, None]] = {}
        self._bridge_of: dict[str, str] = {}
        for function in facts.functions if self.by_tree else ():
            bridge = self._bridge_of[function.address] = bridge_of(function)
            self._bridges.setdefault(Address.parse(function.address).segment, {})[bridge] = None

    def bridge(self, address: Address) -> TreeNode | None:
        """The device tree's node of the host bridge above a function; for one that is not there, of its segment, if that has one alone."""
        device = self._bridge_of.get(str(address))
        if device is None:
            inside = self._bridges.get(address.segment, {})
            device = next(iter(inside)) if len(inside) == 1 else ""
        return self.tree.bridge(device) or self.tree.bridge_without_links(device, address.segment)

    def given(self, address: Address, rid: int) -> Given:
        """Of a requester ID that a function's DMA may carry."""
        if not self.by_tree:
            found = self.firmware.stream(address.segment, rid)
            if found is None:
                unread = self.firmware.iort is None
                return Given(why="IORT was not read" if unread else "IORT maps its requester ID to no SMMU", known=not unread)
            return Given(_name(found.smmu.base), found.stream_id)
        bridge = self.bridge(address)
        if bridge is None:
            return Given(
                why="the device tree was not read" if not self.tree else "the device tree's node of its host bridge was not read", known=False
            )
        return self._by_map(self.tree.map_id(bridge.path, "iommu-map", rid))

    def _by_map(self, mapped: Mapped) -> Given:
        if mapped.node is None or mapped.output is None:
            return Given(why=mapped.why, known=mapped.known)
        name = self.tree.name_of(mapped.node)
        if not available(mapped.node):
            return Given(why=f"{mapped.node.path} is switched off there (status)")
        if SMMUV3_NODE not in texts(mapped.node, "compatible"):
            return Given(why=f"iommu-map leads to {mapped.node.path}, which is no SMMUv3", known="compatible" in mapped.node.properties)
        if name is None:
            return Given(why=f"iommu-map leads to {mapped.node.path}, and where that lies was not read", known=False)
        return Given(name, mapped.output)

    def smmus(self) -> set[str]:
        """SMMUv3s that the firmware names, as sysfs would; those that a device tree switches off are none."""
        if self.by_tree:
            return {name for node in self.tree.smmus() if available(node) and (name := self.tree.name_of(node))}
        return {f"smmu3.{smmu.base:#018x}" for smmu in self.firmware.iort.smmus} if self.firmware.iort else set()

    def of_platform_devices(self, iommus: Iterable[IommuDevice]) -> Iterator[tuple[str, int, str]]:
        """(SMMU, StreamID, device) of what a device tree puts behind SMMUs beside functions."""
        for member in sorted({member for iommu in iommus for member in iommu.members}) if self.by_tree else ():
            for name, stream_id in self.tree.platform_streams(member):
                yield name, stream_id, member

    def every(self, address: Address) -> list[Given]:
        """What the firmware gives every requester ID that its DMA may carry, the own first; under a device tree up to the first without one.

        There the kernel leaves a function of which one ID has none without an IOMMU: of_iommu_configure() ends with its error.
        """
        found: list[Given] = []
        for rid in self.paths.rids(address):
            found.append(self.given(address, rid))
            if self.by_tree and found[-1].smmu is None:
                break
        return found

    def stream_ids(self, address: Address, given: list[Given]) -> tuple[tuple[int, ...], Known]:
        """Of every requester ID its DMA may carry: pci_for_each_dma_alias() in iort_iommu_configure_id() and of_iommu_configure().

        ``given`` is what ``every`` says of it.
        """
        without = next((one for one in given if one.smmu is None), None)
        found = tuple(dict.fromkeys(one.stream_id for one in given if one.stream_id is not None))
        if without is not None and (self.by_tree or not found):
            return (), Known(None, self.source if without.known else Source.NONE, without.why)
        note = "" if self.aliases_known(address) else "a bridge above could not be read whole: there may be aliases"
        return found, _counted(len(found), self.source, note)

    def tree_why(self, address: Address) -> str:
        """Why the device tree gives a function no StreamID; empty where it gives one, nobody can say, or ACPI is asked."""
        last = self.every(address)[-1] if self.by_tree else None
        return last.why if last is not None and last.known and last.smmu is None else ""

    def behind_conventional(self, address: Address) -> bool | None:
        """Whether a bridge above adds a requester ID of its own to the function's DMA; None where that could not be read."""
        return True if len(self.paths.rids(address)) > 1 else False if self.aliases_known(address) else None

    def aliases_known(self, address: Address) -> bool:
        """Whether every bridge above a function could be read, so that none of its requester IDs is missing."""
        return self.paths.nodes[address].placed and self.paths.aliases_known(address)

    def ats(self, address: Address) -> Known:
        """Whether a device tree's root complex offers ATS: ``ats-supported`` (of_pci_check_device_ats())."""
        bridge = self.bridge(address)
        if bridge is None or "ats-supported" in bridge.unread:
            return Known(None, Source.NONE, "the device tree's node of its host bridge was not read")
        return Known("ats-supported" in bridge.properties, self.source)

    def isolated_msi(self, address: Address) -> Known:
        """Whether its interrupts go to an ITS by msi-map; unknown where there is no such map."""
        bridge = self.bridge(address) if self.by_tree else None
        if bridge is None or "msi-map" not in bridge.properties:
            return Known(None)
        mapped = self.tree.map_id(bridge.path, "msi-map", address.rid)
        if mapped.node is None or "compatible" not in mapped.node.properties:
            return Known(None)
        its = ITS in texts(mapped.node, "compatible")
        return Known(its, self.source, f"msi-map leads to {mapped.node.path}, {'an' if its else 'which is no'} ITS")

    def coherent_walks(self, name: str, device: str | None) -> Known:
        """Whether an SMMU's walks are coherent: ``dma-coherent`` of its node, or of who is above it (arm_smmu_device_dt_probe())."""
        node = self.tree.named(name, device) if self.by_tree else None
        value, said = (None, "") if node is None else self.tree.coherent(node)
        return Known(None) if value is None else Known(value, self.source, said)
