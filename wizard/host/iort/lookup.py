"""From a device to its SMMU, StreamID, DeviceID and reserved memory, as drivers/acpi/arm64/iort.c finds them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from wizard.arch.iort import NodeType
from wizard.host.iort.model import AnySmmu, IdMapping, Iort, ItsGroup, NamedComponent, Node, Pmcg, RootComplex, Smmu, SmmuV3

_DEPTH = 8
"""Nodes on a way: a root complex, an SMMU and an ITS group are three. Ends a loop of references."""

_SMMUS = frozenset({NodeType.SMMU, NodeType.SMMU_V3})
_ITS = frozenset({NodeType.ITS_GROUP})


class Step(msgspec.Struct, frozen=True):
    """One ID mapping that was used: ``mapping`` is its index in ``node``. ``workaround``: two mappings claimed the ID."""

    node: Node
    mapping: int
    workaround: bool


class Mapped(msgspec.Struct, frozen=True):
    """Where an ID leads: a node, the ID there, and the mappings on the way."""

    node: Node
    id: int
    steps: tuple[Step, ...]


class Stream(msgspec.Struct, frozen=True):
    """A StreamID of an SMMU, and how the table leads to it."""

    smmu: AnySmmu
    stream_id: int
    steps: tuple[Step, ...]


class MsiTarget(msgspec.Struct, frozen=True):
    """A DeviceID at a group of ITSs."""

    its: ItsGroup
    device_id: int


class Reserved(msgspec.Struct, frozen=True):
    """Memory that must stay mapped for a StreamID; ``type`` as in sysfs ``reserved_regions``. ``end`` is inclusive."""

    start: int
    end: int
    type: str


def root_complex(table: Iort, segment: int) -> RootComplex | None:
    """The root complex that the kernel uses for a segment."""
    return table.root_complexes.get(segment)


def stream_id(table: Iort, segment: int, rid: int) -> Stream | None:
    """The SMMU above a requester ID, and its StreamID there. None: no SMMU, the kernel leaves the function untranslated."""
    start = table.root_complexes.get(segment)
    return None if start is None else _stream(map_id(table, start, rid, _SMMUS))


def stream_ids(table: Iort, segment: int, rids: Iterable[int]) -> tuple[Stream, ...]:
    """StreamIDs of a function: of its own requester ID and of its DMA aliases, each once, in order (iort_pci_iommu_init())."""
    found: dict[tuple[int, int], Stream] = {}
    for rid in rids:
        stream = stream_id(table, segment, rid)
        if stream is not None:
            found.setdefault((stream.smmu.offset, stream.stream_id), stream)
    return tuple(found.values())


def component_stream_ids(table: Iort, component: NamedComponent) -> tuple[Stream, ...]:
    """StreamIDs of a platform device (iort_nc_iommu_map()): the single mappings up to the first that leads nowhere."""
    found: list[Stream] = []
    for mapping in component.mappings:
        parent = table.by_offset.get(mapping.output_reference)
        if not mapping.single or parent is None:
            break
        stream = _stream(map_id(table, parent, mapping.output_base, _SMMUS))
        if stream is None:
            break
        found.append(stream)
    return tuple(found)


def device_id(table: Iort, segment: int, rid: int) -> MsiTarget | None:
    """The ITS group that a function's MSIs go to, and its DeviceID there (iort_msi_map_id()). None: no ITS is named."""
    start = table.root_complexes.get(segment)
    return None if start is None else _target(map_id(table, start, rid, _ITS))


def smmu_device_id(table: Iort, smmu: SmmuV3) -> MsiTarget | None:
    """The SMMU's own DeviceID. None: it cannot signal by MSI ("msi_domain absent - falling back to wired irqs")."""
    if smmu.id_mapping_index is None:
        return None
    mapping = smmu.mappings[smmu.id_mapping_index]
    its = table.by_offset.get(mapping.output_reference)
    return MsiTarget(its, mapping.output_base) if mapping.single and isinstance(its, ItsGroup) else None


def reserved_regions(table: Iort, smmu: Node, stream: int, *, page_size: int = 4096) -> tuple[Reserved, ...]:
    """What RMR nodes reserve for a StreamID of an SMMU (iort_node_get_rmr_info()); nothing below table revision 5.

    The kernel applies them to a PCI function only where firmware asks it to keep the PCI configuration (_DSM 5), so a running
    host may show fewer. Ranges that are not aligned to 64 KiB are widened to pages.
    """
    found: list[Reserved] = []
    for node in table.rmrs if table.revision >= 5 else ():
        if any(m.output_reference == smmu.offset and m.output_base <= stream <= m.output_base + m.id_count for m in node.mappings):
            kind = "direct-relaxable" if node.remap_permitted else "direct"
            for region in node.regions:
                start, end = region.start, region.end
                if start % 0x10000 or (end + 1) % 0x10000:
                    start, end = start - start % page_size, end + (-(end + 1)) % page_size
                found.append(Reserved(start, end, kind))
    return tuple(found)


def map_id(table: Iort, start: Node, identifier: int, targets: Collection[int]) -> Mapped | None:
    """Follow an ID from a node to the first one of the wanted types: iort_node_map_id().

    Mappings are tried in table order. One that the ID hits at the very end is put aside, since its count may have been written one
    too high, and loses against a later one that begins there. None where the way ends.
    """
    node: Node | None = start
    steps: list[Step] = []
    while node is not None and len(steps) < _DEPTH:
        if node.type in targets:
            return Mapped(node, identifier, tuple(steps))
        step = _follow(node, identifier)
        if step is None:
            return None
        index, workaround = step
        mapping = node.mappings[index]
        steps.append(Step(node, index, workaround))
        identifier = mapping.output_base if mapping.single else (mapping.output_base + identifier - mapping.input_base) & 0xFFFF_FFFF
        node = table.by_offset.get(mapping.output_reference)
    return None


def _follow(node: Node, identifier: int) -> tuple[int, bool] | None:
    """Index of the mapping that the kernel uses for an ID, and whether its workaround decided."""
    if not node.mappings or not node.mappings[0].output_reference:
        return None
    own = _own_mapping(node)
    aside: int | None = None
    for index, mapping in enumerate(node.mappings):
        if index == own:
            continue
        if mapping.single:
            if node.type in (NodeType.NAMED_COMPONENT, NodeType.ROOT_COMPLEX):
                return index, aside is not None
            continue
        if not _hits(mapping, identifier):
            continue
        if aside is not None and identifier != mapping.input_base:
            continue  # "conflicting mapping": really broken, the first one stays
        if mapping.id_count == 0 or identifier != mapping.input_last:
            return index, aside is not None
        # A hit on the last ID; with one put aside before, this one begins there and supersedes it.
        aside = index
    return None if aside is None else (aside, False)


def _hits(mapping: IdMapping, identifier: int) -> bool:
    # The kernel adds in 32 bits: a range that runs over hits nothing above its base.
    return mapping.input_base <= identifier <= (mapping.input_last & 0xFFFF_FFFF)


def _own_mapping(node: Node) -> int | None:
    """The mapping of the node's own DeviceID, which no ID from below may use (iort_get_id_mapping_index())."""
    if isinstance(node, SmmuV3):
        return node.id_mapping_index
    if isinstance(node, Pmcg):
        return None if node.gsiv or not node.mappings else 0
    return None


def _stream(mapped: Mapped | None) -> Stream | None:
    if mapped is None or not isinstance(mapped.node, SmmuV3 | Smmu):
        return None
    return Stream(mapped.node, mapped.id, mapped.steps)


def _target(mapped: Mapped | None) -> MsiTarget | None:
    if mapped is None or not isinstance(mapped.node, ItsGroup):
        return None
    return MsiTarget(mapped.node, mapped.id)
