"""MADT: the table of the emulated arm64 host (QEMU's virt, gic-version=3, its=on), read as iasl reads it, and what becomes of a damaged one."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.tools.hosts import NVME, changed
from wizard.facts.platform import read_acpi
from wizard.facts.tree import DirectoryTree
from wizard.host.madt import decode_madt
from wizard.host.model import Host

TABLE = (Path(__file__).parent / "data/APIC.bin").read_bytes()
ITS_AT = 0xF4  # "Subtable Type : 0F [Generic Interrupt Translator]" of iasl 20260408


def without_its() -> bytes:
    return _sized(TABLE[:ITS_AT])


def _sized(data: bytes) -> bytes:
    return data[:4] + len(data).to_bytes(4, "little") + data[8:]


def with_table(data: bytes, **values: object) -> Host:
    return changed(lambda f: replace(f, acpi={**f.acpi, "APIC": data.hex()}, **values))


def test_it_says_what_iasl_says() -> None:
    gic = decode_madt(TABLE.hex())
    assert gic is not None
    assert (gic.version, gic.its, gic.frames, gic.whole) == (3, ((0, 0x8080000),), (), True)
    assert gic.words == "GICv3, ITS 0 at 0x8080000"


def test_frames_of_gicv2m_are_no_its() -> None:
    """A GIC MSI frame (ACPI 6.5, 5.2.12.16): type 0x0D, 24 bytes, base at 8."""
    frame = bytes([0x0D, 24, 0, 0]) + bytes(4) + (0x8020000).to_bytes(8, "little") + bytes(8)
    gic = decode_madt(_sized(without_its() + frame).hex())
    assert gic is not None
    assert gic.words == "GICv3, GICv2m frame at 0x8020000, no ITS"


@pytest.mark.parametrize("cut", [0, 3, 36, 44, 45, 60, 100, 0xF5, len(TABLE) - 1])
def test_a_table_that_is_cut_never_says_no(cut: int) -> None:
    gic = decode_madt(TABLE[:cut].hex())
    assert gic is None or not gic.whole


def test_no_structure_without_a_length_and_no_table_of_x86() -> None:
    assert decode_madt(_sized(TABLE[:44] + b"\x00\x08" + bytes(6)).hex()) is None
    assert decode_madt((TABLE[:44] + b"\x0b\x00" + bytes(80)).hex()) is None
    assert decode_madt("zz") is None


def test_it_is_recorded_and_shown(tmp_path: Path) -> None:
    place = tmp_path / "sys/firmware/acpi/tables"
    place.mkdir(parents=True)
    (place / "APIC").write_bytes(TABLE)
    assert read_acpi(DirectoryTree(str(tmp_path))) == {"APIC": TABLE.hex()}
    from wizard.host.view import host_view

    assert host_view(with_table(TABLE)).gic == "GICv3, ITS 0 at 0x8080000"


def test_an_its_group_whose_service_is_not_there_isolates_nothing() -> None:
    """iort_find_domain_token(): the number in IORT has to be one of MADT's."""
    assert "msi-not-isolated" not in codes(with_table(TABLE, hw_info=()))
    assert "msi-not-isolated" in codes(with_table(without_its(), hw_info=()))


def test_without_iort_and_log_the_table_tells() -> None:
    blind = {"hw_info": (), "log": (), "log_complete": False}
    no_iort = {"acpi": {"APIC": TABLE.hex()}}
    assert "msi-isolation-unknown" in codes(changed(lambda f: replace(f, acpi={}, **blind)))
    assert "msi-isolation-unknown" not in codes(changed(lambda f: replace(f, **no_iort, **blind)))


def codes(host: Host) -> set[str]:
    return {reason.code for reason in host.verdict(NVME).reasons}
