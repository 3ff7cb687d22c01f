"""The I/O Remapping Table: which SMMU is above which root complex, under which StreamIDs, and what firmware promises about both.

table = decode_iort(data)
stream_id(table, segment, rid)      the SMMU and the StreamID, None where a function has no SMMU
table.root_complexes[segment]       ATS, PRI, CANWBS, ...
table.defects                       what is wrong with the table
"""

from __future__ import annotations

from wizard.host.iort.decode import decode_iort
from wizard.host.iort.lookup import (
    MsiTarget,
    Reserved,
    Stream,
    component_stream_ids,
    device_id,
    map_id,
    reserved_regions,
    root_complex,
    smmu_device_id,
    stream_id,
    stream_ids,
)
from wizard.host.iort.model import Defect, IdMapping, Iort, ItsGroup, NamedComponent, Pmcg, Rmr, RootComplex, Smmu, SmmuV3
from wizard.host.iort.ranges import Promise, Range, promises, ranges, smmu_at, word

__all__ = [
    "Defect", "IdMapping", "Iort", "ItsGroup", "MsiTarget", "NamedComponent", "Pmcg", "Promise", "Range", "Reserved", "Rmr", "RootComplex", "Smmu",
    "SmmuV3", "Stream", "component_stream_ids", "decode_iort", "device_id", "map_id", "promises", "ranges", "reserved_regions", "root_complex",
    "smmu_at", "smmu_device_id", "stream_id", "stream_ids", "word",
]  # fmt: skip
