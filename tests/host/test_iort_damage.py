"""IORTs that are broken: what is said of them, and what is still read. The kernel's reactions are those of drivers/acpi/arm64/iort.c."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.builders.iort import Its, Map, Nc, Pmcg, Raw, Rc, Rmr, SmmuV3, Spec, build, seal, single
from tests.host import iort_tables
from wizard.host.iort import Iort, Reserved, component_stream_ids, decode_iort, device_id, reserved_regions, stream_id

SMMU, OTHER, ITS = SmmuV3(base=0x1000000, maps=[Map(0, 0x10000, 0, "its")]), SmmuV3(base=0x2000000), Its(0)


def said(table: Iort) -> str:
    return "\n".join(f"{defect.where}: {defect.what}" for defect in table.defects)


def of(rc: Rc, **more: Spec) -> Iort:
    return decode_iort(build({"its": ITS, "smmu": SMMU, "other": OTHER, "rc": rc, **more}))


def test_wrong_checksum() -> None:
    raw = bytearray(iort_tables.altra())
    raw[9] += 1
    table = decode_iort(bytes(raw))
    assert said(table) == "header: wrong checksum: the bytes add up to 0x01 instead of 0"
    assert len(table.nodes) == 18


@pytest.mark.parametrize("cut", [1, 20, 60, 100, 0x498 - 48])
def test_truncated(cut: int) -> None:
    whole = decode_iort(iort_tables.altra())
    table = decode_iort(iort_tables.altra()[:-cut])
    assert f"the table says that it has 1176 bytes, and has {1176 - cut}" in said(table)
    assert table.nodes[:-1] == whole.nodes[: max(len(table.nodes) - 1, 0)]
    if cut == 60:
        # The last SMMU lost its mappings and part of its data; the others still serve their segments.
        assert "is cut off" in said(table)
        assert stream_id(table, 0xC, 0x100) is not None
        assert stream_id(table, 0x5, 0x100) is None


def test_longer_than_it_says() -> None:
    table = decode_iort(iort_tables.altra() + b"\0" * 8)
    assert said(table) == "header: the table says that it has 1176 bytes, and has 1184"
    assert len(table.nodes) == 18


@pytest.mark.parametrize("raw", [b"", b"IORT", b"APIC" + bytes(60), b"IORT" + bytes(2 << 20)])
def test_no_iort_at_all(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not an IORT"):
        decode_iort(raw)


def test_zero_length_node_ends_the_walk() -> None:
    raw = bytearray(iort_tables.altra())
    raw[0x30 + 1 : 0x30 + 3] = b"\0\0"
    table = decode_iort(seal(bytes(raw)))
    assert "node 0 at 0x30: has a length of 0 bytes: the walk cannot go on from here" in said(table)
    assert table.nodes == ()


def test_node_count_too_high_and_too_low() -> None:
    raw = bytearray(iort_tables.altra())
    raw[36] = 20
    assert "20 nodes are promised, 18 could be read" in said(decode_iort(seal(bytes(raw))))
    raw[36] = 17
    assert "bytes behind the last of 17 nodes belong to none" in said(decode_iort(seal(bytes(raw))))


def test_first_node_inside_the_header() -> None:
    raw = bytearray(iort_tables.altra())
    raw[40] = 0x10
    assert "the first node's offset 0x10 lies in the table's own header" in said(decode_iort(seal(bytes(raw))))


def test_mappings_that_do_not_fit() -> None:
    raw = bytearray(build({"its": ITS, "smmu": SMMU}))
    raw[0x48 + 8 : 0x48 + 12] = (5).to_bytes(4, "little")
    table = decode_iort(seal(bytes(raw)))
    assert "SMMUv3 at 0x48: has 5 ID mappings, of which 1 fit into the node" in said(table)
    assert len(table.smmus[0].mappings) == 1


@pytest.mark.parametrize(("target", "what"), [(0, "has no parent node"), (0x33, "refers to 0x33, where no node begins")])
def test_references_to_nowhere(target: int, what: str) -> None:
    table = of(Rc(maps=[Map(0, 0x10000, 0, target)]))
    assert what in said(table)
    assert stream_id(table, 0, 0x100) is None


def test_a_parent_that_cannot_be_one() -> None:
    table = decode_iort(build({"its": ITS, "rc": Rc(segment=0), "rc1": Rc(segment=1, maps=[Map(0, 0x10000, 0, "rc")])}))
    assert "leads to the root complex at 0x48, which cannot be its parent" in said(table)


def test_references_in_a_circle() -> None:
    table = decode_iort(build({"a": SmmuV3(base=1 << 20, maps=[Map(0, 0x10000, 0, "b")]), "b": SmmuV3(base=2 << 20, maps=[Map(0, 0x10000, 0, "a")]),
                               "rc": Rc(maps=[Map(0, 0x10000, 0, "a")])}))  # fmt: skip
    assert said(table).count("a loop") == 1
    assert stream_id(table, 0, 1) is not None
    assert device_id(table, 0, 1) is None


def test_off_by_one_firmware() -> None:
    """Kunpeng's log: "conflicting mapping for input ID 0x7c00", "applying workaround.": the later range, which begins there, counts."""
    table = of(Rc(maps=[Map(0x7800, 0x400, 0x100, "smmu", one_too_many=True), Map(0x7C00, 0x200, 0x9000, "other")]))
    assert "ID mappings 0 and 1 overlap in input ID 0x7c00: the count was written one too high, and the kernel works around it" in said(table)
    found = stream_id(table, 0, 0x7C00)
    assert found is not None
    assert (found.smmu.base, found.stream_id) == (0x2000000, 0x9000)
    assert found.steps[0].workaround
    before = stream_id(table, 0, 0x7BFF)
    assert before is not None
    assert (before.smmu.base, before.stream_id) == (0x1000000, 0x4FF)


def test_off_by_one_at_the_very_end_still_hits() -> None:
    table = of(Rc(maps=[Map(0, 0x400, 0, "smmu", one_too_many=True)]))
    assert table.defects == ()
    found = stream_id(table, 0, 0x400)  # inclusive: rid <= input_base + id_count
    assert found is not None
    assert found.stream_id == 0x400
    assert stream_id(table, 0, 0x401) is None


def test_overlap_by_more_than_one() -> None:
    """Really broken: the kernel keeps the first that matches in table order."""
    table = of(Rc(maps=[Map(0, 0x200, 0, "smmu"), Map(0x100, 0x200, 0x5000, "other")]))
    assert "ID mappings 0 and 1 overlap in input IDs 0x100 to 0x1ff" in said(table)
    for rid, base in ((0x100, 0x1000000), (0x1FF, 0x1000000), (0x200, 0x2000000)):
        found = stream_id(table, 0, rid)
        assert found is not None
        assert found.smmu.base == base


def test_a_range_of_one_id_is_no_end_of_a_range() -> None:
    table = of(Rc(maps=[Map(0x100, 1, 0x100, "smmu"), Map(0x100, 0x10, 0x5000, "other")]))
    found = stream_id(table, 0, 0x100)
    assert found is not None
    assert (found.smmu.base, found.steps[0].workaround) == (0x1000000, False)


def test_a_first_mapping_without_parent_takes_the_others_with_it() -> None:
    """The kernel looks at the first mapping's reference, and then at none of the node's mappings."""
    table = of(Rc(maps=[Map(0x8000, 1, 0, 0), Map(0, 0x1000, 0, "smmu")]))
    assert "ID mapping 0 has no parent node: the kernel uses none of them" in said(table)
    assert stream_id(table, 0, 0x100) is None


def test_a_platform_device_needs_single_mappings() -> None:
    component = Nc("\\_SB_.DEV0", maps=[single(1, "smmu"), Map(0, 1, 2, "smmu"), single(3, "smmu")])
    table = decode_iort(build({"its": ITS, "smmu": SMMU, "nc": component}))
    assert [stream.stream_id for stream in component_stream_ids(table, table.named_components[0])] == [1]


def test_fields_that_a_short_node_has_not_are_not_read_from_its_mappings() -> None:
    """A root complex that claims revision 3 with the 16 bytes of revision 0: its mappings begin where other fields would be."""
    table = decode_iort(build({"its": ITS, "rc": Raw(2, bytes(16), revision=3, maps=[Map(0x1F00, 0x10000, 0, "its")])}))
    complex_ = table.root_complexes[0]
    assert (complex_.address_limit, complex_.pasid_width) == (None, None)


def test_two_segments_with_the_same_streams() -> None:
    table = of(Rc(segment=0, maps=[Map(0, 0x10000, 0, "smmu")]), rc1=Rc(segment=1, maps=[Map(0, 0x10000, 0x8000, "smmu")]))
    assert "StreamIDs 0x8000 to 0xffff belong to root complex at 0xe4 and to root complex at 0x120" in said(table)


def test_two_root_complexes_of_one_segment() -> None:
    table = of(Rc(maps=[Map(0, 0x8000, 0, "smmu")]), rc1=Rc(maps=[Map(0x8000, 0x8000, 0x8000, "other")]))
    assert "is a second one for segment 0x0: the kernel uses the root complex at 0xe4 alone" in said(table)
    assert stream_id(table, 0, 0x9000) is None


def test_single_mapping_where_it_is_not_allowed() -> None:
    table = decode_iort(build({"its": ITS, "smmu": SmmuV3(base=1 << 20, maps=[single(5, "its")]), "rc": Rc(maps=[Map(0, 0x10000, 0, "smmu")])}))
    assert "ID mapping 0 is a single mapping, which this kind of node cannot have" in said(table)
    assert device_id(table, 0, 0x100) is None


def test_ranges_beyond_32_bits() -> None:
    table = of(Rc(maps=[Map(0xFFFFFF00, 0x10000, 0, "smmu"), Map(0, 0x10000, 0xFFFF8000, "other")]))
    assert "ends at input ID 0x10000feff, beyond 32 bits" in said(table)
    assert "ends at output ID 0x100007fff, beyond 32 bits" in said(table)


def test_device_id_mapping_index() -> None:
    beyond = decode_iort(build({"its": ITS, "smmu": SmmuV3(base=1 << 20, own=3, maps=[Map(0, 0x10000, 0, "its")])}))
    assert "DeviceID mapping index 3 is beyond its 1 ID mappings" in said(beyond)
    ranged = decode_iort(build({"its": ITS, "smmu": SmmuV3(base=1 << 20, own=0, maps=[Map(0, 0x10000, 0, "its")])}))
    assert "DeviceID mapping 0 is not a single mapping: the SMMU itself gets no MSIs" in said(ranged)
    # And no ID from below may use it, whatever it looks like.
    smmu = SmmuV3(base=1 << 20, own=0, maps=[Map(0, 0x10000, 0, "its")])
    below = decode_iort(build({"its": ITS, "smmu": smmu, "rc": Rc(maps=[Map(0, 0x10000, 0, "smmu")])}))
    assert device_id(below, 0, 0x100) is None


@pytest.mark.parametrize(
    ("revision", "gsivs", "index"), [(0, (0, 0, 0, 0), None), (4, (1, 0, 2, 3), 1), (4, (1, 2, 3, 4), None), (5, (1, 2, 3, 4), 1)]
)
def test_device_id_mapping_index_by_revision(revision: int, gsivs: tuple[int, int, int, int], index: int | None) -> None:
    """Up to node revision 4 it counts unless all interrupts are wired; from 5 on a flag of its own says so."""
    spec = SmmuV3(base=1 << 20, own=1, gsivs=gsivs, revision=revision, maps=[Map(0, 0x10000, 0, "its"), single(7, "its")])
    assert decode_iort(build({"its": ITS, "smmu": spec})).smmus[0].id_mapping_index == index


def test_counters_of_nothing_and_twice_the_same_smmu() -> None:
    table = of(Rc(), pmcg=Pmcg(page0=1 << 20, of=0x999), twin=SmmuV3(base=0x2000000))
    assert "counts for 0x999, where no node begins" in said(table)
    assert "has the same base address 0x2000000 as the SMMUv3 at 0xa0" in said(table)


def test_reserved_memory() -> None:
    regions = [(0x80000000, 0x8000), (0x80004000, 0x10000), (0xFFFFFFFFFFFF0000, 0x20000)]
    rmr = Rmr(regions=regions, attributes=9, maps=[Map(0, 1, 0x100, "smmu")])
    table = of(Rc(maps=[Map(0, 0x10000, 0, "smmu")]), rmr=rmr, lost=Rmr(regions=[(0, 0)]))
    for what in (
        "has the unknown access attributes 0x9", "memory range 0x80000000 to 0x80007fff is not aligned to 64 KiB",
        "memory range 0x80004000 to 0x80013fff overlaps another one", "ends beyond 64 bits", "names no StreamID: the kernel skips it",
        "has a memory range of no bytes at 0x0",
    ):  # fmt: skip
        assert what in said(table)
    found = reserved_regions(table, table.smmus[0], 0x100, page_size=0x10000)
    assert found[0] == Reserved(0x80000000, 0x8000FFFF, "direct")  # widened to the kernel's page
    assert found[1] == Reserved(0x80000000, 0x8001FFFF, "direct")
    assert reserved_regions(table, table.smmus[1], 0x100) == ()


def test_reserved_memory_in_a_table_too_old_for_it() -> None:
    raw = build({"its": ITS, "smmu": SMMU, "rmr": Rmr(regions=[(0x80000000, 0x10000)], maps=[Map(0, 1, 0, "smmu")])}, revision=4)
    table = decode_iort(raw)
    assert "the kernel takes no RMR from a table of revision 4" in said(table)
    assert reserved_regions(table, table.smmus[0], 0) == ()


def test_nodes_of_the_future() -> None:
    table = decode_iort(build({"its": ITS, "new": Raw(42, b"\1\2\3\4"), "smmu": SMMU}, revision=9))
    assert "header: revision 9 is newer than 6" in said(table)
    assert "node 1 at 0x48: has the unknown type 42" in said(table)
    assert len(table.smmus) == 1


def test_data_shorter_than_its_type() -> None:
    table = decode_iort(build({"its": ITS, "short": Raw(4, bytes(20))}))
    assert "SMMUv3 at 0x48: has 20 bytes of data, fewer than the 44 of its type" in said(table)
    assert table.smmus == ()


def test_defects_are_not_listed_without_end() -> None:
    table = decode_iort(build({f"n{index}": Raw(99) for index in range(5000)}))
    assert len(table.defects) == 201
    assert table.defects[-1].what == "4800 further defects are not listed"


def explore(table: Iort) -> None:
    for segment in (*list(table.root_complexes)[:4], 0, 0xFFFF):
        for rid in (0, 0x100, 0x7C00, 0xFFFF):
            stream = stream_id(table, segment, rid)
            device_id(table, segment, rid)
            if stream is not None:
                reserved_regions(table, stream.smmu, stream.stream_id)
                assert 0 <= stream.stream_id <= 0xFFFFFFFF
    assert len(table.defects) <= 201


@given(st.binary(max_size=600))
def test_any_bytes(data: bytes) -> None:
    explore(decode_iort(b"IORT" + data.ljust(44, b"\0")))


@given(st.data())
def test_any_damage_to_a_real_one(data: st.DataObject) -> None:
    raw = bytearray(data.draw(st.sampled_from(list(iort_tables.ALL.values()))))
    for _ in range(data.draw(st.integers(1, 10))):
        at = data.draw(st.integers(4, len(raw) - 1))
        raw[at] = data.draw(st.sampled_from([0, 1, 0x30, 0x7F, 0xFF, raw[at] ^ 1]))
    end = data.draw(st.integers(48, len(raw)))
    explore(decode_iort(bytes(raw[:end])))


def test_the_worst_that_a_megabyte_can_do_is_bounded() -> None:
    """Every node as small as possible, every mapping on the same input: still a table, read in one pass."""
    maps = [Map(0, 0x10000, 0, 0x30) for _ in range(3000)]
    nodes: dict[str, Spec] = {f"rc{index}": Rc(segment=index, maps=maps) for index in range(16)}
    table = decode_iort(build(nodes))
    assert "has 3000 ID mappings, of which the first 1024 are read" in said(table)
    explore(table)
