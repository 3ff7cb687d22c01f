"""The I/O Remapping Table from its bytes.

A table that is broken gives what could be read, and a defect for each thing that is wrong. Nothing outside a node's own length is
read as part of it, so time and memory grow with the table and with nothing in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wizard.arch import iort as arch
from wizard.arch.bits import Record
from wizard.arch.iort import NodeType
from wizard.host.iort import model
from wizard.host.iort.check import check
from wizard.host.iort.model import Defect, IdMapping, Iort

_LARGEST = 1 << 20
"""Bytes: the largest table seen has 5872 (Kunpeng 920). Anything much longer is no IORT."""

_MAPPINGS = 1024
"""ID mappings of one node: every lookup walks them, and the largest number seen is 13."""

_DEFECTS = 200


class _Reader:
    """Bytes of one table, with the defects found in them so far."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.defects: list[Defect] = []

    def wrong(self, where: str, what: str) -> None:
        self.defects.append(Defect(where, what))


def decode_iort(data: bytes) -> Iort:
    """The table in ``data``, as /sys/firmware/acpi/tables/IORT gives it.

    ``ValueError`` when it is not an IORT at all: no signature, or shorter than its header.
    """
    if data[:4] != arch.SIGNATURE:
        raise ValueError(f"not an IORT: the signature is {data[:4]!r}")
    if len(data) < arch.TABLE_SIZE:
        raise ValueError(f"not an IORT: {len(data)} bytes are fewer than its header")
    if len(data) > _LARGEST:
        raise ValueError(f"not an IORT: {len(data)} bytes are more than any table has")
    header = arch.Table.of_bytes(data)
    reader = _Reader(data)
    if len(data) != header.LENGTH:
        reader.wrong("header", f"the table says that it has {header.LENGTH} bytes, and has {len(data)}")
        reader.data = data[: max(header.LENGTH, arch.TABLE_SIZE)]
    elif sum(data) & 0xFF:
        reader.wrong("header", f"wrong checksum: the bytes add up to {sum(data) & 0xFF:#04x} instead of 0")
    if header.REVISION > arch.NEWEST_REVISION:
        reader.wrong("header", f"revision {header.REVISION} is newer than {arch.NEWEST_REVISION}, the last one that is known here")
    nodes = _nodes(reader, header)
    table = Iort(
        revision=header.REVISION,
        oem_id=_text(data[10:16]),
        oem_table_id=_text(data[16:24]),
        oem_revision=header.OEM_REVISION,
        length=header.LENGTH,
        nodes=nodes,
        defects=(),
    )
    defects = (*reader.defects, *check(table))
    if len(defects) > _DEFECTS:
        defects = (*defects[:_DEFECTS], Defect("table", f"{len(defects) - _DEFECTS} further defects are not listed"))
    return Iort(table.revision, table.oem_id, table.oem_table_id, table.oem_revision, table.length, nodes, defects)


def _text(data: bytes) -> str:
    return data.split(b"\0")[0].decode("ascii", "backslashreplace").rstrip()


def _nodes(reader: _Reader, header: arch.Table) -> tuple[model.Node, ...]:
    """Walk nodes as the kernel does: from the first, each ``length`` further, ``node_count`` times."""
    found: list[model.Node] = []
    offset, end = header.NODE_OFFSET, len(reader.data)
    if offset < arch.TABLE_SIZE and header.NODE_COUNT:
        reader.wrong("header", f"the first node's offset {offset:#x} lies in the table's own header")
        return ()
    for index in range(header.NODE_COUNT):
        where = f"node {index} at {offset:#x}"
        if offset + arch.NODE_SIZE > end:
            reader.wrong(where, f"begins beyond the end of the table: {header.NODE_COUNT} nodes are promised, {index} could be read")
            break
        node = arch.Node.of_bytes(reader.data[offset : offset + arch.NODE_SIZE])
        if node.LENGTH < arch.NODE_SIZE:
            reader.wrong(where, f"has a length of {node.LENGTH} bytes: the walk cannot go on from here")
            break
        if offset + node.LENGTH > end:
            reader.wrong(where, f"is cut off: {node.LENGTH} bytes, of which {end - offset} are in the table")
        body = reader.data[offset : offset + node.LENGTH]
        found.append(_node(reader, where, offset, node, body))
        offset += node.LENGTH
    else:
        if offset < end:
            reader.wrong("header", f"{end - offset} bytes behind the last of {header.NODE_COUNT} nodes belong to none")
    return tuple(found)


def _node(reader: _Reader, where: str, offset: int, header: arch.Node, body: bytes) -> model.Node:
    name = arch.Node.TYPE.meaning(header.TYPE)
    where = f"{name} at {offset:#x}" if name else where
    common: dict[str, Any] = {
        "offset": offset,
        "type": header.TYPE,
        "revision": header.REVISION,
        "identifier": header.IDENTIFIER,
        "length": header.LENGTH,
        "mappings": _mappings(reader, where, header, body),
    }
    data = body[arch.NODE_SIZE :]
    decode = _DECODERS.get(header.TYPE)
    if decode is None:
        reader.wrong(where, f"has the unknown type {header.TYPE}") if name is None else None
        return model.UnknownNode(**common, data=data)
    if len(data) < arch.DATA_SIZES[header.TYPE]:
        reader.wrong(where, f"has {len(data)} bytes of data, fewer than the {arch.DATA_SIZES[header.TYPE]} of its type")
        return model.UnknownNode(**common, data=data)
    return decode(reader, where, common, body)


def _mappings(reader: _Reader, where: str, header: arch.Node, body: bytes) -> tuple[IdMapping, ...]:
    count, start = header.MAPPING_COUNT, header.MAPPING_OFFSET
    if count == 0:
        return ()
    if start == 0:
        # As the kernel sees it (iort_node_map_id()): no mappings.
        reader.wrong(where, f"has {count} ID mappings at offset 0: none can be used")
        return ()
    if start < arch.NODE_SIZE:
        reader.wrong(where, f"has ID mappings at offset {start}, inside the node's header")
        return ()
    fit = max(0, (len(body) - start) // arch.MAPPING_SIZE)
    if fit < count:
        reader.wrong(where, f"has {count} ID mappings, of which {fit} fit into the node")
    if min(count, fit) > _MAPPINGS:
        reader.wrong(where, f"has {count} ID mappings, of which the first {_MAPPINGS} are read")
    return tuple(_mapping(body, start + arch.MAPPING_SIZE * index) for index in range(min(count, fit, _MAPPINGS)))


def _mapping(body: bytes, at: int) -> IdMapping:
    record = arch.Mapping.of_bytes(body[at : at + arch.MAPPING_SIZE])
    return IdMapping(record.INPUT_BASE, record.ID_COUNT, record.OUTPUT_BASE, record.OUTPUT_REFERENCE, bool(record.SINGLE))


def _array(reader: _Reader, where: str, what: str, body: bytes, start: int, count: int, size: int) -> list[bytes]:
    """``count`` entries of ``size`` bytes at ``start`` of a node, as many as fit."""
    fit = max(0, (len(body) - start) // size) if start >= arch.NODE_SIZE else 0
    if fit < count:
        reader.wrong(where, f"has {count} {what}, of which {fit} fit into the node")
    return [body[start + size * index : start + size * (index + 1)] for index in range(min(fit, count))]


def _memory(value: int) -> model.MemoryAccess:
    record = arch.MemoryAccess(value)
    hints = frozenset(name for name in ("TRANSIENT", "WRITE_ALLOCATE", "READ_ALLOCATE", "OVERRIDE") if record.fields()[name])
    return model.MemoryAccess(record.COHERENT == 1, bool(record.CPM), bool(record.DACS), bool(record.CANWBS), hints)


def _its_group(reader: _Reader, where: str, common: dict[str, Any], body: bytes) -> model.Node:
    count = arch.ItsGroup.of_bytes(body[arch.NODE_SIZE :]).COUNT
    found = _array(reader, where, "ITS identifiers", body, arch.NODE_SIZE + 4, count, 4)
    if not count:
        reader.wrong(where, "names no ITS")
    return model.ItsGroup(**common, identifiers=tuple(int.from_bytes(entry, "little") for entry in found))


def _named_component(reader: _Reader, where: str, common: dict[str, Any], body: bytes) -> model.Node:
    record = arch.NamedComponent.of_bytes(body[arch.NODE_SIZE :])
    name, nul, _ = body[arch.NODE_SIZE + 13 :].partition(b"\0")
    if not nul:
        reader.wrong(where, "has a device name without an end")
    return model.NamedComponent(
        **common,
        stall=bool(record.STALL),
        pasid_bits=record.PASID_BITS,
        memory=_memory(record.MEMORY),
        address_limit=record.ADDRESS_LIMIT,
        path=name.decode("ascii", "backslashreplace"),
    )


def _root_complex(reader: _Reader, where: str, common: dict[str, Any], body: bytes) -> model.Node:
    data = _own(body, common)
    record = arch.RootComplex.of_bytes(data)
    revision = common["revision"]
    return model.RootComplex(
        **common,
        segment=record.SEGMENT,
        memory=_memory(record.MEMORY),
        ats=bool(record.ATS),
        pri=bool(record.PRI),
        pasid_forward=bool(record.PASID_FORWARD),
        address_limit=record.ADDRESS_LIMIT if revision >= 1 and len(data) >= 17 else None,
        pasid_width=record.MAX_PASID_WIDTH if revision >= 3 and len(data) >= 19 else None,
    )


def _own(body: bytes, common: dict[str, Any]) -> bytes:
    """Data of a node without its mappings: what an older, shorter revision does not have must not be read from them."""
    mappings: tuple[IdMapping, ...] = common["mappings"]
    header = arch.Node.of_bytes(body)
    return body[arch.NODE_SIZE : header.MAPPING_OFFSET if mappings else len(body)]


def _smmu(reader: _Reader, where: str, common: dict[str, Any], body: bytes) -> model.Node:
    record = arch.Smmu.of_bytes(body[arch.NODE_SIZE :])
    global_irqs = _array(reader, where, "global interrupts", body, record.GLOBAL_OFFSET, 2, 8)
    context_irqs = _array(reader, where, "context interrupts", body, record.CONTEXT_OFFSET, record.CONTEXT_COUNT, 8)
    return model.Smmu(
        **common,
        base=record.BASE,
        span=record.SPAN,
        model=record.MODEL,
        model_name=_meaning(arch.Smmu, "MODEL", record.MODEL),
        dvm=bool(record.DVM),
        coherent_walk=bool(record.COHERENT_WALK),
        global_gsivs=tuple(int.from_bytes(entry[:4], "little") for entry in global_irqs),
        context_gsivs=tuple(int.from_bytes(entry[:4], "little") for entry in context_irqs),
    )


def _smmu_v3(reader: _Reader, where: str, common: dict[str, Any], body: bytes) -> model.Node:
    record = arch.SmmuV3.of_bytes(_own(body, common))
    return model.SmmuV3(
        **common,
        base=record.BASE,
        cohacc=bool(record.COHACC),
        httu=record.HTTU,
        proximity=record.PXM if record.PXM_VALID else None,
        model=record.MODEL,
        model_name=_meaning(arch.SmmuV3, "MODEL", record.MODEL),
        vatos=record.VATOS,
        event_gsiv=record.EVENT_GSIV,
        pri_gsiv=record.PRI_GSIV,
        gerr_gsiv=record.GERR_GSIV,
        sync_gsiv=record.SYNC_GSIV,
        id_mapping_index=_id_mapping_index(reader, where, common, record),
    )


def _id_mapping_index(reader: _Reader, where: str, common: dict[str, Any], record: arch.SmmuV3) -> int | None:
    """iort_get_id_mapping_index(): from node revision 1, valid unless all interrupts are wired, from 5 on by its own flag."""
    revision, mappings = common["revision"], common["mappings"]
    if revision < 1:
        return None
    if revision < 5:
        if record.EVENT_GSIV and record.PRI_GSIV and record.GERR_GSIV and record.SYNC_GSIV:
            return None
    elif not record.DEVICEID_VALID:
        return None
    if len(mappings) <= record.ID_MAPPING_INDEX:
        # Nothing is lost where the SMMU has no mappings at all and simply no use for MSIs of its own.
        if mappings:
            reader.wrong(where, f"DeviceID mapping index {record.ID_MAPPING_INDEX} is beyond its {len(mappings)} ID mappings")
        return None
    return record.ID_MAPPING_INDEX


def _pmcg(reader: _Reader, where: str, common: dict[str, Any], body: bytes) -> model.Node:
    data = _own(body, common)
    record = arch.Pmcg.of_bytes(data)
    second = record.PAGE1_BASE if common["revision"] >= 1 and len(data) >= 24 else None
    return model.Pmcg(**common, page0=record.PAGE0_BASE, page1=second, gsiv=record.GSIV, reference=record.REFERENCE)


def _rmr(reader: _Reader, where: str, common: dict[str, Any], body: bytes) -> model.Node:
    record = arch.Rmr.of_bytes(body[arch.NODE_SIZE :])
    regions = []
    for entry in _array(reader, where, "memory ranges", body, record.OFFSET, record.COUNT, arch.RMR_SIZE):
        region = arch.RmrDescriptor.of_bytes(entry)
        if not region.LENGTH:
            reader.wrong(where, f"has a memory range of no bytes at {region.BASE:#x}")
        else:
            regions.append(model.RmrRegion(region.BASE, region.BASE + region.LENGTH - 1))
    return model.Rmr(
        **common,
        remap_permitted=bool(record.REMAP_PERMITTED),
        privileged=bool(record.PRIVILEGED),
        attributes=record.ATTRIBUTES,
        attributes_name=_meaning(arch.Rmr, "ATTRIBUTES", record.ATTRIBUTES),
        regions=tuple(regions),
    )


def _meaning(record: type[Record], name: str, value: int) -> str:
    return record.layout[name].meaning(value) or f"{value:#x}"


_DECODERS: dict[int, Callable[[_Reader, str, dict[str, Any], bytes], model.Node]] = {
    NodeType.ITS_GROUP: _its_group,
    NodeType.NAMED_COMPONENT: _named_component,
    NodeType.ROOT_COMPLEX: _root_complex,
    NodeType.SMMU: _smmu,
    NodeType.SMMU_V3: _smmu_v3,
    NodeType.PMCG: _pmcg,
    NodeType.RMR: _rmr,
}
