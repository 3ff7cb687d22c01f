"""Configuration space that is broken, hostile, or that of a dead function: no exception, a bounded walk, and a word on what was wrong."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wizard.arch.pci import Cap, ExtCap
from wizard.host.pci import bars, caps, extcaps
from wizard.host.pci.config import ConfigSpace, Presence, decode_config

DATA = Path(__file__).parent / "data"
RECORDED = [(bytes.fromhex(entry["config"]), entry["length"]) for entry in json.loads((DATA / "arm64-virt-boot.pci.json").read_text()).values()]
IGB = decode_config(bytes.fromhex(json.loads((DATA / "arm64-virt-boot.pci.json").read_text())["0000:11:00.0"]["config"]), 4096)


def changed(**words: int) -> ConfigSpace:
    """The 82576 with bytes replaced: ``x41=0x00`` writes one byte, ``x102=0x1234`` two."""
    data = bytearray(IGB.data.ljust(4096, b"\0"))
    for name, value in words.items():
        size = 1 if value < 0x100 else 2
        data[int(name[1:], 16) : int(name[1:], 16) + size] = value.to_bytes(size, "little")
    return decode_config(bytes(data), 4096)


def everything(space: ConfigSpace) -> None:
    """Ask for all there is."""
    for number in Cap:
        space.presence(number)
    for extended in ExtCap:
        space.presence(extended)
    for function in (
        caps.power_management, caps.msi, caps.msix, caps.express, caps.advanced_features, caps.subsystem, caps.vendor_specific, caps.flr,
        extcaps.acs, extcaps.ats, extcaps.pri, extcaps.pasid, extcaps.ari, extcaps.sriov, extcaps.resizable_bars, extcaps.serial_number,
        extcaps.tph, extcaps.dpc, extcaps.aer, extcaps.vendor_specific, bars.bars, bars.bridge,
    ):  # fmt: skip
        function(space)
    extcaps.resizable_bars(space, vf=True)
    assert all(capability.name for capability in (*space.standard, *space.extended))
    assert len(space.standard) <= 48  # what fits between 0x40 and 0x100, four bytes apart
    assert len(space.extended) <= 960
    assert space.is_express in (True, False, None)


def test_a_list_that_loops() -> None:
    space = changed(x51=0x40)  # MSI points back to power management
    assert [c.id for c in space.standard] == [Cap.PM, Cap.MSI]
    assert [note.what for note in space.notes] == ["capability pointer 0x40 makes a loop"]
    assert space.presence(Cap.MSIX) is Presence.UNKNOWN  # it may well be there
    assert caps.power_management(space) is not None


def test_an_extended_list_that_loops() -> None:
    space = changed(x152=0x1001)
    assert [c.id for c in space.extended] == [ExtCap.AER, ExtCap.ARI]
    assert [note.what for note in space.notes] == ["extended capability pointer 0x100 makes a loop"]
    assert space.presence(ExtCap.SRIOV) is Presence.UNKNOWN


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"x34": 0x42}, "misaligned capability pointer 0x42"),
        ({"x41": 0x10}, "capability pointer 0x10 points into the header"),
        ({"x50": 0xFFFF}, "capability list runs into bytes that read all ones"),
        ({"x71": 0xF8, "xf8": 0x10}, "capability 0x10 at 0xf8 is cut off"),
        ({"x152": 0x0801}, "extended capability pointer 0x80 points below 0x100"),
        ({"x152": 0xFFC1, "xffc": 0x10}, "extended capability 0x0010 at 0xffc is cut off"),
        ({"x0e": 0x05}, "unknown header type 0x5"),
    ],
)
def test_each_defect_is_named(change: dict[str, int], what: str) -> None:
    space = changed(**change)
    assert what in [note.what for note in space.notes]
    everything(space)


def test_a_misaligned_pointer_is_followed_as_the_kernel_does() -> None:
    assert changed(x34=0x42).standard == IGB.standard


def test_a_cut_off_capability_is_neither_decoded_nor_absent() -> None:
    space = changed(x71=0xF8, xf8=0x10)
    assert caps.express(space) is None
    assert space.presence(Cap.EXPRESS) is Presence.UNKNOWN


def test_a_function_that_does_not_answer() -> None:
    """A removed or failed function reads all ones (problems: "device dead after reset (0xFF)")."""
    space = decode_config(b"\xff" * 4096, 4096)
    assert space.dead
    assert [note.what for note in space.notes] == ["configuration space reads all ones: the function does not answer"]
    assert space.presence(Cap.EXPRESS) is Presence.UNKNOWN
    assert space.presence(ExtCap.ATS) is Presence.UNKNOWN
    everything(space)


def test_a_virtual_function_is_not_dead_although_its_ids_read_ones() -> None:
    recorded = json.loads((DATA / "arm64-virt-boot.pci.json").read_text())["0000:11:10.0"]
    space = decode_config(bytes.fromhex(recorded["config"]), 4096)
    assert (space.vendor, space.dead) == (0xFFFF, False)


def test_extended_space_that_reads_all_ones() -> None:
    space = decode_config(IGB.data[:256] + b"\xff" * 3840, 4096)
    assert space.presence(ExtCap.SRIOV) is Presence.UNKNOWN
    assert space.presence(Cap.MSIX) is Presence.PRESENT


def test_missing_trailing_zeros_make_no_difference() -> None:
    full = decode_config(IGB.data.ljust(4096, b"\0"), 4096)
    assert (full.standard, full.extended, full.notes) == (IGB.standard, IGB.extended, ())


def test_nothing_could_be_read() -> None:
    space = decode_config(b"", 0)
    assert space.presence(Cap.MSIX) is Presence.UNKNOWN
    assert [note.what for note in space.notes] == ["only 0 bytes could be read"]
    everything(space)


@given(st.binary(max_size=4200), st.sampled_from([0, 16, 64, 128, 256, 257, 4096, 10**6, -1]))
def test_any_bytes(data: bytes, length: int) -> None:
    everything(decode_config(data, length))


@given(st.data())
def test_any_damage_to_a_real_one(data: st.DataObject) -> None:
    raw, length = data.draw(st.sampled_from(RECORDED))
    mutated = bytearray(raw.ljust(length, b"\0"))
    for _ in range(data.draw(st.integers(1, 12))):
        mutated[data.draw(st.integers(0, length - 1))] = data.draw(st.integers(0, 255))
    everything(decode_config(bytes(mutated), data.draw(st.sampled_from([64, 256, length]))))


@pytest.mark.parametrize("text", ["zz 0 0", "0x1 0x2", "0x1 0x2 0x3 0x4", "-0x1 0x2 0x200", "0x0 0x1ffffffffffffffff 0x200", "0x0 0x1 0x200\n" * 18])
def test_resource_lines_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"resource|invalid literal"):
        bars.parse_resource(text)


def test_resource_of_a_kernel_without_sriov() -> None:
    """Without CONFIG_PCI_IOV the bridge windows follow the ROM at once, and an endpoint has seven lines."""
    line, nothing = "0x0000000010200000 0x00000000103fffff 0x0000000000000200\n", "0x0 0x0 0x0\n"
    assert [r.name for r in bars.parse_resource(nothing * 8 + line + nothing * 2)] == ["window1"]
    assert [r.name for r in bars.parse_resource(nothing * 14 + line + nothing * 2)] == ["window1"]
    assert bars.parse_resource("") == ()


@given(st.text(max_size=300))
def test_any_resource_text(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert all(resource.size > 0 for resource in bars.parse_resource(text))
