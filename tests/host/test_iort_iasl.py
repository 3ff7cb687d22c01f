"""Decoder and builder of the IORT against ``iasl -d``, ACPICA's own disassembler (20260408, of Debian forky).

Older ones leave RMR nodes raw and do not show CANWBS. ``scripts/debian-tools`` unpacks it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.host import iort_tables
from tests.tools.processes import LIMIT
from wizard.arch.iort import NodeType
from wizard.host.iort import Iort, ItsGroup, NamedComponent, Pmcg, Rmr, RootComplex, Smmu, SmmuV3, decode_iort

DATA = Path(__file__).parent / "data"
CACHE = Path(os.environ.get("SMMU_WIZARD_CACHE", "~/.cache/smmu-wizard")).expanduser()
IASL = CACHE / "debian/bin/iasl"

TABLES = {
    **iort_tables.ALL,
    "arm64-virt": (DATA / "arm64-virt.IORT.bin").read_bytes(),
    "arm64-virt-canwbs": (DATA / "arm64-virt-canwbs.IORT.bin").read_bytes(),
    **{f"random-{seed}": iort_tables.random_table(seed) for seed in range(24)},
}

pytestmark = pytest.mark.skipif(not IASL.exists(), reason=f"NOT COMPARED WITH iasl: {IASL} is missing, run scripts/debian-tools")


@dataclass
class Shown:
    """One node as iasl prints it: the fields in order, and its mappings apart."""

    offset: int
    fields: list[tuple[str, str]] = field(default_factory=list)
    mappings: list[dict[str, str]] = field(default_factory=list)

    def __getitem__(self, name: str) -> str:
        return next(value for key, value in self.fields if key == name)

    def all(self, name: str) -> list[int]:
        return [int(value, 16) for key, value in self.fields if key == name]

    def number(self, name: str) -> int:
        return int(self[name], 16)


def disassembled(raw: bytes, place: Path) -> tuple[dict[str, str], list[Shown]]:
    table = place / "table.bin"
    table.write_bytes(raw)
    done = subprocess.run([IASL, "-p", place / "table", "-d", table], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    text = (place / "table.dsl").read_text()
    assert "Invalid" not in done.stderr + text
    assert "Incorrect checksum" not in text
    header: dict[str, str] = {}
    nodes: list[Shown] = []
    mapping: dict[str, str] | None = None
    for offset, name, value in _lines(text):
        if name == "Type":
            nodes.append(Shown(offset))
            mapping = None
        if not nodes:
            header[name] = value
            continue
        if name == "Input base":
            mapping = {}
            nodes[-1].mappings.append(mapping)
        if mapping is not None:
            mapping[name] = value
        else:
            nodes[-1].fields.append((name, value))
    return header, nodes


def _lines(text: str) -> Iterator[tuple[int, str, str]]:
    offset = 0
    for line in text.split("Raw Table Data")[0].splitlines():
        match = re.fullmatch(r"(?:\[([0-9A-F]+)h [^\]]*\])?\s+(.*?) : (.*)", line)
        if match:
            offset = int(match[1], 16) if match[1] else offset
            yield offset, match[2].replace(" (decoded below)", ""), match[3].split("/*")[0].strip()


@pytest.mark.parametrize("name", TABLES)
def test_iasl_reads_the_same(name: str, tmp_path: Path) -> None:
    table = decode_iort(TABLES[name])
    header, shown = disassembled(TABLES[name], tmp_path)
    assert table.revision == int(header["Revision"], 16)
    assert table.length == int(header["Table Length"], 16)
    assert f'"{table.oem_id:6}"' == header["Oem ID"]
    assert f'"{table.oem_table_id:8}"' == header["Oem Table ID"]
    assert [node.offset for node in table.nodes] == [node.offset for node in shown]
    for ours, theirs in zip(table.nodes, shown, strict=True):
        assert (ours.type, ours.length, ours.revision) == tuple(theirs.number(key) for key in ("Type", "Length", "Revision"))
        assert ours.identifier == theirs.number("Identifier" if any(key == "Identifier" for key, _ in theirs.fields) else "Reserved")
        compare_mappings(ours.mappings, theirs)
        compare_data(table, ours, theirs)


def compare_mappings(ours: object, theirs: Shown) -> None:
    assert isinstance(ours, tuple)
    found = [(m.input_base, m.id_count, m.output_base, m.output_reference, int(m.single)) for m in ours]
    keys = ("Input base", "ID Count", "Output Base", "Output Reference", "Single Mapping")
    assert found == [tuple(int(mapping[key], 16) for key in keys) for mapping in theirs.mappings]


def compare_data(table: Iort, ours: object, theirs: Shown) -> None:
    keys: tuple[str, ...]
    match ours:
        case ItsGroup():
            assert list(ours.identifiers) == theirs.all("Identifiers")
        case NamedComponent() | RootComplex():
            memory = ours.memory
            shown = [bool(theirs.number(key)) for key in ("Cache Coherency", "Coherency", "Device Attribute", "Ensured Coherency of Accesses")]
            assert [memory.coherent, memory.cpm, memory.dacs, memory.canwbs] == shown
            if isinstance(ours, NamedComponent):
                flags = theirs.number("Node Flags")
                assert (ours.stall, ours.pasid_bits) == (bool(flags % 2), flags // 2)
                assert f'"{ours.path}"' == theirs["Device Name"]
                assert ours.address_limit == theirs.number("Memory Size Limit")
            else:
                attributes = theirs.number("ATS Attribute")
                assert ours.ats + 2 * ours.pri + 4 * ours.pasid_forward == attributes
                assert ours.segment == theirs.number("PCI Segment Number")
                # Fields that a node revision does not have are None here, while iasl prints what bytes are there.
                if ours.address_limit is not None:
                    assert ours.address_limit == theirs.number("Memory Size Limit")
                if ours.pasid_width is not None:
                    assert ours.pasid_width == theirs.number("PASID Capabilities")
        case SmmuV3():
            keys = ("Base Address", "VATOS Address", "Model", "Event GSIV", "PRI GSIV", "GERR GSIV", "Sync GSIV", "COHACC Override")
            mine = (ours.base, ours.vatos, ours.model, ours.event_gsiv, ours.pri_gsiv, ours.gerr_gsiv, ours.sync_gsiv, int(ours.cohacc))
            assert mine == tuple(theirs.number(key) for key in keys)
            # iasl decodes one bit of the HTTU override, which has two (ACPI_IORT_SMMU_V3_HTTU_OVERRIDE, 3 << 1): the whole word, then.
            flags = theirs.number("Flags")
            assert (flags >> 1) % 4 == ours.httu
            assert (ours.proximity is not None) == bool(theirs.number("Proximity Domain Valid"))
            if ours.proximity is not None:
                assert ours.proximity == theirs.number("Proximity Domain")
            if ours.id_mapping_index is not None:
                assert ours.id_mapping_index == theirs.number("Device ID Mapping Index")
        case Smmu():
            keys = ("Base Address", "Span", "Model", "DVM Supported", "Coherent Walk")
            assert (ours.base, ours.span, ours.model, int(ours.dvm), int(ours.coherent_walk)) == tuple(theirs.number(key) for key in keys)
            assert list(ours.global_gsivs) == theirs.all("NSgIrpt") + theirs.all("NSgCfgIrpt")
            assert list(ours.context_gsivs) == theirs.all("Context Interrupt")
        case Pmcg():
            keys = ("Page 0 Base Address", "Overflow Interrupt GSIV", "Node Reference", "Page 1 Base Address")
            assert (ours.page0, ours.gsiv, ours.reference, ours.page1) == tuple(theirs.number(key) for key in keys)
        case Rmr():
            keys = ("Remapping Permitted", "Access Privileged", "Access Attributes")
            assert (int(ours.remap_permitted), int(ours.privileged), ours.attributes) == tuple(theirs.number(key) for key in keys)
            ranges = list(zip(theirs.all("Base Address of RMR"), theirs.all("Length of RMR"), strict=True))
            assert [(region.start, region.end - region.start + 1) for region in ours.regions] == ranges
        case _:
            assert theirs.number("Type") == NodeType.IWB


def test_every_node_type_was_compared() -> None:
    kinds = {node.type for raw in TABLES.values() for node in decode_iort(raw).nodes}
    assert kinds == set(NodeType)
