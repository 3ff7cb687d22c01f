"""What is wrong with a table that could be read: references, loops, overlaps and conflicts between its nodes.

One function per kind of defect. Those that the kernel itself reports are named as drivers/acpi/arm64/iort.c treats them.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from wizard.arch.iort import NodeType
from wizard.host.iort import model
from wizard.host.iort.model import Defect, Iort, Node

_SMMUS = frozenset({NodeType.SMMU, NodeType.SMMU_V3})
_PARENTS: dict[int, frozenset[NodeType]] = {
    NodeType.NAMED_COMPONENT: _SMMUS | {NodeType.ITS_GROUP, NodeType.IWB},
    NodeType.ROOT_COMPLEX: _SMMUS | {NodeType.ITS_GROUP},
    NodeType.SMMU: frozenset({NodeType.ITS_GROUP}),
    NodeType.SMMU_V3: frozenset({NodeType.ITS_GROUP, NodeType.IWB}),
    NodeType.PMCG: frozenset({NodeType.ITS_GROUP, NodeType.IWB}),
    NodeType.RMR: _SMMUS,
    NodeType.IWB: frozenset({NodeType.ITS_GROUP}),
}
"""What the ID mappings of each node may lead to (DEN 0049E.f, 3.1)."""

_RMR_GRANULE = 0x10000
_PIECES = 8  # ranges that one sentence names


def check(table: Iort) -> Iterator[Defect]:
    """Every defect between nodes, in a fixed order."""
    nodes = _of_pci(table)
    for rule in (_references, _single, _ranges, _overlaps, _outputs, _loops, _segments, _bases, _own_device_ids, _counters, _reserved):
        for defect in rule(table):
            yield msgspec.structs.replace(defect, of_pci=not nodes.isdisjoint(defect.nodes))


def _of_pci(table: Iort) -> frozenset[str]:
    """Nodes that a PCI function's DMA or interrupts go through: root complexes, what they lead to, and memory reserved for their streams."""
    streams = [(m.output_base, m.output_last, m.output_reference) for node in table.root_complexes.values() for m in node.mappings]
    roots = [node for node in table.nodes if node.type == NodeType.ROOT_COMPLEX]
    above = {parent.name for node in roots for mapping in node.mappings if (parent := table.by_offset.get(mapping.output_reference))}
    its = {node.name for node in table.nodes if node.type == NodeType.ITS_GROUP}
    reserved = {
        node.name
        for node in table.rmrs
        if not node.mappings
        or any(m.output_reference == smmu and m.output_base <= last and base <= m.output_last for m in node.mappings for base, last, smmu in streams)
    }
    return frozenset({node.name for node in roots} | above | its | reserved)


def _references(table: Iort) -> Iterator[Defect]:
    for node in table.nodes:
        for index, mapping in enumerate(node.mappings):
            parent = table.by_offset.get(mapping.output_reference)
            if mapping.output_reference == 0:
                # The kernel looks at the first mapping's reference alone, and then gives the node up.
                yield Defect(node.name, f"ID mapping {index} has no parent node" + (": the kernel uses none of them" if index == 0 else ""))
            elif parent is None:
                yield Defect(node.name, f"ID mapping {index} refers to {mapping.output_reference:#x}, where no node begins")
            elif node.type in _PARENTS and parent.type not in _PARENTS[node.type]:
                yield Defect(node.name, f"ID mapping {index} leads to the {parent.name}, which cannot be its parent")


def _single(table: Iort) -> Iterator[Defect]:
    """iort_id_map(): "SINGLE MAPPING flag not allowed for node type"; an SMMU's or PMCG's own DeviceID may have it."""
    for node in table.nodes:
        if node.type in (NodeType.NAMED_COMPONENT, NodeType.ROOT_COMPLEX):
            continue
        own = node.id_mapping_index if isinstance(node, model.SmmuV3) else 0 if isinstance(node, model.Pmcg) else None
        for index, mapping in enumerate(node.mappings):
            if mapping.single and index != own and node.type != NodeType.RMR:
                yield Defect(node.name, f"ID mapping {index} is a single mapping, which this kind of node cannot have: the kernel skips it")


def _ranges(table: Iort) -> Iterator[Defect]:
    for node in table.nodes:
        for index, mapping in enumerate(node.mappings):
            if mapping.single:
                continue
            if mapping.input_last > 0xFFFF_FFFF:
                yield Defect(node.name, f"ID mapping {index} ends at input ID {mapping.input_last:#x}, beyond 32 bits")
            if mapping.output_last > 0xFFFF_FFFF:
                yield Defect(node.name, f"ID mapping {index} ends at output ID {mapping.output_last:#x}, beyond 32 bits")


def _overlaps(table: Iort) -> Iterator[Defect]:
    """Input ranges of one node that overlap; by one ID only where the count was taken for the number of IDs."""
    for node in table.nodes:
        if node.type == NodeType.RMR:
            continue  # its mappings name StreamIDs of several SMMUs, and have no input
        ranges = sorted((m.input_base, m.input_last, index) for index, m in enumerate(node.mappings) if not m.single)
        last, owner = -1, 0
        for base, end, index in ranges:
            if base == last:
                yield Defect(
                    node.name,
                    f"ID mappings {owner} and {index} overlap in input ID {base:#x}: the count was written one too high, "
                    "and the kernel works around it",
                    worked_around=True,
                )
            elif base < last:
                yield Defect(node.name, f"ID mappings {owner} and {index} overlap in input IDs {base:#x} to {min(end, last):#x}")
            if end > last:
                last, owner = end, index


def _outputs(table: Iort) -> Iterator[Defect]:
    """StreamIDs that two nodes, or two ranges of one, lead to: the devices behind them could not be told apart."""
    streams: dict[int, list[tuple[int, int, str]]] = {}
    for node in table.nodes:
        if node.type not in (NodeType.ROOT_COMPLEX, NodeType.NAMED_COMPONENT):
            continue
        for index, mapping in enumerate(node.mappings):
            parent = table.by_offset.get(mapping.output_reference)
            if parent is not None and parent.type in _SMMUS:
                last = mapping.output_last
                following = node.mappings[index + 1].output_base if index + 1 < len(node.mappings) else None
                if not mapping.single and mapping.id_count and following == last:
                    last -= 1  # the off-by-one that _overlaps reports
                streams.setdefault(parent.offset, []).append((mapping.output_base, last, node.name))
    for offset, ranges in streams.items():
        ranges.sort()
        last, owner = -1, ""
        shared: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for base, end, name in ranges:
            if base <= last:
                found = shared.setdefault((owner, name), [])
                if found and base <= found[-1][1] + 1:
                    found[-1] = found[-1][0], max(found[-1][1], min(end, last))
                else:
                    found.append((base, min(end, last)))
            if end > last:
                last, owner = end, name
        where = table.by_offset[offset].name
        for (one, other), pieces in shared.items():
            yield Defect(where, f"{_streams(pieces)} belong to {one} and to {other}", between=(one, other))


def _streams(ranges: list[tuple[int, int]]) -> str:
    """``StreamIDs 0x10 to 0x13, 0x20``; of many pieces the first ones."""
    words = [f"{first:#x} to {last:#x}" if first != last else f"{first:#x}" for first, last in ranges]
    more = f" and {len(words) - _PIECES} more ranges" if len(words) > _PIECES else ""
    return f"StreamIDs {', '.join(words[:_PIECES])}{more}"


def _loops(table: Iort) -> Iterator[Defect]:
    done: set[int] = set()
    for start in table.nodes:
        path: dict[int, Iterator[int]] = {}
        todo = [start.offset]
        while todo:
            offset = todo[-1]
            if offset in done:
                todo.pop()
                continue
            if offset not in path:
                node = table.by_offset[offset]
                path[offset] = iter({m.output_reference for m in node.mappings if m.output_reference in table.by_offset})
            following = next(path[offset], None)
            if following is None:
                done.add(offset)
                del path[offset]
                todo.pop()
            elif following in path:
                yield Defect(table.by_offset[offset].name, f"its ID mappings lead back to the {table.by_offset[following].name}: a loop")
            elif following not in done:
                todo.append(following)


def _segments(table: Iort) -> Iterator[Defect]:
    for node in table.nodes:
        if isinstance(node, model.RootComplex) and table.root_complexes[node.segment] is not node:
            first = table.root_complexes[node.segment]
            yield Defect(node.name, f"is a second one for segment {node.segment:#x}: the kernel uses the {first.name} alone")


def _bases(table: Iort) -> Iterator[Defect]:
    found: dict[int, Node] = {}
    for smmu in table.smmus:
        other = found.setdefault(smmu.base, smmu)
        if other is not smmu:
            yield Defect(smmu.name, f"has the same base address {smmu.base:#x} as the {other.name}")


def _own_device_ids(table: Iort) -> Iterator[Defect]:
    """iort_set_device_domain(): "Invalid MSI mapping"."""
    for smmu in table.smmus:
        index = smmu.id_mapping_index
        # Up to node revision 4 index 0 is also what firmware writes that says nothing about it.
        if index is not None and not smmu.mappings[index].single and (smmu.revision >= 5 or index):
            yield Defect(smmu.name, f"DeviceID mapping {index} is not a single mapping: the SMMU itself gets no MSIs")


def _counters(table: Iort) -> Iterator[Defect]:
    for node in table.nodes:
        if isinstance(node, model.Pmcg) and node.reference not in table.by_offset:
            yield Defect(node.name, f"counts for {node.reference:#x}, where no node begins")


def _reserved(table: Iort) -> Iterator[Defect]:
    """iort_find_rmrs() and iort_rmr_desc_check_overlap()."""
    for node in table.rmrs:
        if table.revision < 5:
            yield Defect(node.name, f"the kernel takes no RMR from a table of revision {table.revision}, but from 5 on")
        if not node.mappings:
            yield Defect(node.name, "names no StreamID: the kernel skips it")
        if node.attributes > 5:
            yield Defect(node.name, f"has the unknown access attributes {node.attributes:#x}")
        last = -1
        for region in sorted(node.regions, key=lambda found: (found.start, found.end)):
            if region.start % _RMR_GRANULE or (region.end + 1) % _RMR_GRANULE:
                # "not aligned to 64K, continue with": the kernel takes the pages around it.
                yield Defect(node.name, f"memory range {region.start:#x} to {region.end:#x} is not aligned to 64 KiB", worked_around=True)
            if region.end > 0xFFFF_FFFF_FFFF_FFFF:
                yield Defect(node.name, f"memory range {region.start:#x} to {region.end:#x} ends beyond 64 bits")
            if region.start <= last:
                yield Defect(node.name, f"memory range {region.start:#x} to {region.end:#x} overlaps another one")
            last = max(last, region.end)
