"""Command lines of others, held against what is known of each (expected.tsv: read from them by hand, and held against QEMU 11.1)."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from wizard.existing.argv import read_argv
from wizard.existing.guest import Bridge, Fate, Function, Guest, Vsmmu
from wizard.existing.words import read_commands

DATA = Path(__file__).parent / "data/qemu"
with (DATA / "expected.tsv").open(newline="") as _file:
    EXPECTED = {row["file"]: row for row in csv.DictReader(_file, delimiter="\t")}
ORDER = ("ats", "ril", "ssidsize", "oas", "cmdqv")


def guest(name: str) -> Guest:
    found = read_commands((DATA / name).read_bytes(), name)
    (command,) = found.commands
    return read_argv(command, name)


def _functions(vm: Guest) -> Iterator[str]:
    for one in vm.of(Function):
        assert isinstance(one, Function)
        yield f"{one.host or '?'}{'' if one.iommufd else ' legacy'} on {one.bus}"


def _vsmmus(vm: Guest) -> Iterator[str]:
    for one in vm.of(Vsmmu):
        assert isinstance(one, Vsmmu)
        bus = vm.device(one.bus)
        number = bus.bus_nr if isinstance(bus, Bridge) else None
        properties = " ".join(f"{name}={one.properties[name]}" for name in ORDER if name in one.properties)
        id = "-" if "id" in one.implied else one.id
        yield f"{id}@{one.bus} {'-' if number is None else number}: {'accel' if one.accel else 'emulated'} {properties}"


@pytest.mark.parametrize("name", EXPECTED)
def test_sample(name: str) -> None:
    """Functions, vSMMUs, memory and processors of every sample."""
    vm, row = guest(name), EXPECTED[name]
    assert ", ".join(_functions(vm)) == row["functions"].replace("none", "")
    assert "; ".join(_vsmmus(vm)) == row["vSMMUs (id@bus bus_nr: properties)"].replace("none", "")
    assert vm.memory.size == int(row["memory"].removesuffix("M")) << 20
    assert vm.cpus == int(row["cpus"])
    if vm.name is not None:  # what has no -name is named by its file
        assert vm.name == row["VM"]


@pytest.mark.parametrize("name", EXPECTED)
def test_places_hold_what_is_written(name: str) -> None:
    """A place that knows its characters has the value, so that it can be changed there."""
    data = (DATA / name).read_bytes()
    text = data.decode()
    seen = 0
    for device in guest(name).devices:
        for attribute, where in device.places.items():
            if where.start is None:
                assert "\0" in text or where.line is not None
                continue
            seen += 1
            written = text[where.start : where.end]
            value = getattr(device, attribute, None) if attribute not in ORDER else getattr(device, "properties", {}).get(attribute)
            if isinstance(value, str):
                assert value.endswith(written) or written.endswith(value), (attribute, written, value)
            elif isinstance(value, bool):
                assert written in ("on", "off", "true", "false", "0", "1")
            elif isinstance(value, int):
                assert re.fullmatch(r"[0-9a-fA-Fx.]+[KMG]?", written)
    assert seen or b"\0" in data


def test_a_word_that_qemu_does_not_know_is_named_as_it_names_it() -> None:
    found = [left for left in guest("gannet.sh").left if left.fate is Fate.UNKNOWN]
    assert [left.text for left in found] == ["pasid=on"] * 2
    assert "Property 'arm-smmuv3.pasid' not found" in found[0].said
    assert [left.where.line for left in found] == [16, 27]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("kestrel.sh", "hostfwd=tcp::2222-:22"), ("hobby.cmdline", "sve=off"), ("hobby.cmdline", "sockets=1"), ("osprey.log", "fd=31"),
        ("kite@.service", "$EXTRA"), ("kite@.service", "name=opt/org.kite/id,string=7"), ("kite@.service", "mem-merge=off"),
        ("kite@.service", "ExecStartPre=/usr/local/sbin/bind-vfio 0000:75:00.1 0000:75:00.2"), ("hen.log", "fd=36"),
        ("saker.sh", "process=vm-saker"),
    ],
)  # fmt: skip
def test_what_a_profile_has_no_word_for_is_said(name: str, said: str) -> None:
    found = read_commands((DATA / name).read_bytes(), name)
    assert any(said in left.text for left in (*found.left, *guest(name).left) if left.fate is not Fate.PLAIN)
