"""The IORT of recorded and published machines: what is above a function, and what the firmware says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.host import iort_tables
from wizard.base.address import Address
from wizard.host.iort import (
    Iort,
    Reserved,
    Smmu,
    component_stream_ids,
    decode_iort,
    device_id,
    reserved_regions,
    root_complex,
    smmu_device_id,
    stream_id,
    stream_ids,
)

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def recorded() -> Iort:
    return decode_iort((DATA / "arm64-virt.IORT.bin").read_bytes())


def smmu_and_stream(table: Iort, segment: int, rid: int) -> tuple[str, int] | None:
    found = stream_id(table, segment, rid)
    if found is None:
        return None
    return (f"smmu3.0x{found.smmu.base:016x}", found.stream_id)


def test_recorded_host_functions_and_their_smmus(recorded: Iort) -> None:
    """The kernel's log and sysfs links of the same boot: buses 10-14, 40-43 and 80-83 have an SMMU each, bus 0 has none."""
    names = {1: "smmu3.0x000000000c000000", 4: "smmu3.0x000000000c020000", 8: "smmu3.0x000000000c040000"}
    for text in json.loads((DATA / "arm64-virt-boot.pci.json").read_text()):
        address = Address.parse(text)
        expected = (names[address.bus >> 4], address.rid) if address.bus else None
        assert smmu_and_stream(recorded, address.segment, address.rid) == expected
        msi = device_id(recorded, address.segment, address.rid)
        assert msi is not None
        assert (msi.its.identifiers, msi.device_id) == ((0,), address.rid)
    assert recorded.defects == ()
    assert [smmu.sysfs_name for smmu in recorded.smmus] == list(names.values())


def test_alias_of_two_functions_is_one_stream(recorded: Iort) -> None:
    """``pci 0000:83:02.0: Aliasing StreamID 0x8300 (from 0000:83:01.0) unsupported``."""
    one = {stream.stream_id for stream in stream_ids(recorded, 0, [0x8308, 0x8300])}
    other = {stream.stream_id for stream in stream_ids(recorded, 0, [0x8310, 0x8300])}
    assert one & other == {0x8300}
    assert len(stream_ids(recorded, 0, [0x8300, 0x8300])) == 1


def test_canwbs_is_what_makes_the_two_recordings_differ(recorded: Iort) -> None:
    plain, with_canwbs = ((DATA / f"arm64-virt{name}.IORT.bin").read_bytes() for name in ("", "-canwbs"))
    before, after = root_complex(recorded, 0), root_complex(decode_iort(with_canwbs), 0)
    assert before is not None
    assert after is not None
    assert (before.memory.canwbs, after.memory.canwbs) == (False, True)
    # Bit 2 of the byte at the given offset, and otherwise the OEM revision and the checksum.
    assert after.canwbs_offset == before.canwbs_offset
    assert with_canwbs[after.canwbs_offset] == plain[after.canwbs_offset] | 1 << 2
    assert {at for at, (a, b) in enumerate(zip(plain, with_canwbs, strict=True)) if a != b} == {9, 24, before.canwbs_offset}


def test_altra() -> None:
    """Published figures: 0x498 bytes, no CANWBS, ATS attribute 0 although its SMMUs have ATS, MSIs of their own, one SMMU a segment."""
    raw = iort_tables.altra()
    assert len(raw) == 0x498
    table = decode_iort(raw)
    assert (table.revision, table.oem_id, table.oem_table_id) == (0, "Ampere", "Altra")
    assert table.defects == ()
    assert list(table.root_complexes) == [0xC, 0xD, 0x0, 0x2, 0x4, 0x5]
    for segment, complex_ in table.root_complexes.items():
        assert not complex_.memory.canwbs
        assert complex_.memory.coherent
        assert not complex_.ats
        assert complex_.address_limit == 64
        assert complex_.pasid_width is None  # node revision 1 has no such field
        found = stream_id(table, segment, 0x0300)
        assert found is not None
        assert found.stream_id == 0x0300
    assert smmu_and_stream(table, 0xD, 0x300) == ("smmu3.0x000037ffe0000000", 0x300)
    msi = device_id(table, 0x5, 0x0400)
    assert msi is not None
    assert (msi.its.identifiers, msi.device_id) == ((7,), 0x70400)
    first = table.smmus[0]
    assert (first.base, first.cohacc, first.proximity, first.id_mapping_index) == (0x33FFE0000000, False, 0, 1)
    own = smmu_device_id(table, first)
    assert own is not None
    assert (own.its.identifiers, own.device_id) == ((0,), 0)


def test_n1sdp() -> None:
    """ATS allowed, CANWBS not; Event, GERR and Sync wired, PRI not, so that the DeviceID mapping index counts."""
    raw = iort_tables.n1sdp()
    assert len(raw) == 0x104
    table = decode_iort(raw)
    complex_ = root_complex(table, 0)
    assert complex_ is not None
    assert complex_.ats
    assert not complex_.memory.canwbs
    assert not complex_.memory.cpm
    assert complex_.address_limit == 0x2A
    smmu = table.smmus[0]
    assert (smmu.sysfs_name, smmu.cohacc, smmu.id_mapping_index) == ("smmu3.0x000000004f400000", True, 1)
    assert table.defects == ()


def test_kunpeng_ranges_behind_the_smmu_and_past_it() -> None:
    table = decode_iort(iort_tables.kunpeng_template())
    assert smmu_and_stream(table, 0, 0x0100) == ("smmu3.0x0000000148000000", 0x0100)
    assert smmu_and_stream(table, 0, 0x7EFF) == ("smmu3.0x0000000148000000", 0x7EFF)
    for past in (0x4000, 0x7D00, 0x7500, 0x7F00):
        assert stream_id(table, 0, past) is None
    assert device_id(table, 0, 0x7D00) is not None  # no SMMU, and yet MSIs
    assert device_id(table, 0, 0x7F00) is None
    complex_ = root_complex(table, 0)
    assert complex_ is not None
    assert complex_.address_limit is None  # node revision 0
    assert table.smmus[0].id_mapping_index is None


def test_gb10() -> None:
    """Segments 0 to 14 share one SMMU with StreamIDs from 0x10000 * (segment + 1); segment 15 has another, ATS, and RMRs."""
    table = decode_iort(iort_tables.gb10())
    assert smmu_and_stream(table, 0, 0) == ("smmu3.0x0000000013800000", 0x10000)
    assert smmu_and_stream(table, 9, 0x0100) == ("smmu3.0x0000000013800000", 0xA0100)
    assert smmu_and_stream(table, 15, 0x0100) == ("smmu3.0x0000000013000000", 0x0100)
    assert stream_id(table, 16, 0) is None
    msi = device_id(table, 9, 0x0100)
    assert msi is not None
    assert msi.device_id == 0xA0100 + 0x200000
    assert [segment for segment, complex_ in table.root_complexes.items() if complex_.ats] == [15]
    with_pci = {stream_id(table, segment, 0x100).smmu.base for segment in range(16)}  # type: ignore[union-attr]
    assert [smmu.base for smmu in table.smmus if smmu.base not in with_pci] == [0x14900000]
    # sysfs of the GPU's group: "a1600000-b97fffff direct ; 280000000-302ffffff direct". The kernel joins neighbours.
    gpu = stream_id(table, 15, 0x0100)
    assert gpu is not None
    assert set(reserved_regions(table, gpu.smmu, gpu.stream_id)) == {
        Reserved(0x280000000, 0x2FFFFFFFF, "direct"), Reserved(0x300000000, 0x302FFFFFF, "direct"), Reserved(0xA1600000, 0xB97FFFFF, "direct"),
    }  # fmt: skip
    assert reserved_regions(table, gpu.smmu, 0x101) == ()
    assert table.rmrs[0].attributes_name == "Normal Non-cacheable"
    assert table.defects == ()


def test_grace_one_smmu_two_segments() -> None:
    """67328 is the StreamID in ``pci 0008:07:00.0: stream 67328 already in tree``: StreamID and requester ID differ."""
    table = decode_iort(iort_tables.grace())
    second, third = (stream_id(table, segment, 0x0100) for segment in (2, 3))
    assert second is not None
    assert third is not None
    assert second.smmu is third.smmu
    assert second.stream_id != third.stream_id
    assert smmu_and_stream(table, 8, 0x0700) == ("smmu3.0x0000000005000000", 67328)
    assert all(complex_.memory.canwbs for complex_ in table.root_complexes.values())
    assert not any(complex_.memory.canwbs for complex_ in decode_iort(iort_tables.grace(canwbs=False)).root_complexes.values())
    assert smmu_device_id(table, table.smmus[0]) is None  # "msi_domain absent - falling back to wired irqs"
    [component] = table.named_components
    assert [(stream.smmu.base, stream.stream_id) for stream in component_stream_ids(table, component)] == [(0x11000000, 0x20)]


def test_everything_else_that_a_table_can_hold() -> None:
    table = decode_iort(iort_tables.ALL["everything"])
    assert table.defects == ()
    [old] = table.old_smmus
    assert isinstance(old, Smmu)
    assert (old.model_name, old.span, old.dvm, old.coherent_walk) == ("Corelink MMU-500", 0x40000, True, True)
    assert (old.global_gsivs, old.context_gsivs) == ((260, 261), (262, 263, 264))
    [component] = table.named_components
    assert (component.path, component.stall, component.pasid_bits, component.address_limit) == ("\\_SB_.PCI0.DEV0", True, 10, 40)
    assert [stream.stream_id for stream in component_stream_ids(table, component)] == [0x42, 0x43]
    complex_ = root_complex(table, 0x1F)
    assert complex_ is not None
    assert (complex_.ats, complex_.pri, complex_.pasid_forward, complex_.pasid_width) == (True, True, True, 20)
    assert stream_id(table, 0x1F, 0x9000) is None  # mapped straight to the ITS
    [rmr] = table.rmrs
    assert (rmr.remap_permitted, rmr.privileged, rmr.attributes_name) == (True, True, "Normal Write-Back")
    smmu = table.smmus[0]
    assert reserved_regions(table, smmu, 0x10009)[1] == Reserved(0x90000000, 0x901FFFFF, "direct-relaxable")
    assert (smmu.httu, smmu.proximity, smmu.model_name, smmu.id_mapping_index) == (2, 3, "HiSilicon Hi161x", 1)
    own = smmu_device_id(table, smmu)
    assert own is not None
    assert own.device_id == 0x99
    msi = device_id(table, 0x1F, 0x100)
    assert msi is not None
    assert (msi.its.identifiers, msi.device_id) == ((0, 1, 7), 0x10100)
