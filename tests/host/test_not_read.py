"""Sources that can't hold a thing: what they hold is shown, and what they don't is neither yes nor no."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.host.conftest import host_from
from wizard.cli.inspect import function_lines
from wizard.cli.main import main
from wizard.facts.record import from_tree
from wizard.facts.source import open_tree
from wizard.facts.umockdev import from_umockdev
from wizard.host.build import host_of
from wizard.host.known import Source
from wizard.host.model import Accel, Host
from wizard.tui.contact import candidates, state_words

DATA = Path(__file__).parent / "data/not-read"


def host_in(name: str) -> Host:
    path = str(DATA / name)
    return host_of(from_umockdev((DATA / name).read_bytes(), name) if name.endswith(".umockdev") else from_tree(open_tree(path)))


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    main(list(words))
    return capsys.readouterr().out


def test_an_smmu_that_only_a_link_names_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    source = ("--replay", str(DATA / "link-alone.umockdev"))
    assert "0002:01:00.0" in said(capsys, *source, "list")
    doctor = said(capsys, *source, "doctor")
    assert "[smmu-off]" not in doctor
    assert "the list of IOMMUs in /sys/class/iommu" in doctor
    assert doctor.count("[not-looked-at]") == 1
    host = host_in("link-alone.umockdev")
    assert host.functions["0002:01:00.0"].smmu == "smmu3.0x0000000012000000"
    assert not host.smmus["smmu3.0x0000000012000000"].listed
    assert host.verdict("0002:01:00.0").accel is Accel.UNKNOWN


def test_where_nothing_was_read_something_may_stand_in_the_way(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "sys").mkdir()
    for source, unread in ((("--replay", str(DATA / "no-attributes.umockdev")), "configuration space"), (("--root", str(tmp_path)), "PCI functions")):
        doctor = said(capsys, *source, "doctor")
        assert "Nothing stands in the way" not in doctor
        assert unread in doctor.partition("Not looked at")[2]
    assert "0000:00:01.0" in said(capsys, "--replay", str(DATA / "no-attributes.umockdev"), "list")  # udev's database names functions


def test_a_function_whose_neighbours_were_not_recorded_is_not_alone(capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, "--replay", str(DATA / "one.umockdev"), "show", "0000:81:00.0")
    assert "11, alone" not in shown
    assert "[smmu-off]" not in shown
    assert "smmu3.0x000000000c040000" in shown
    assert "[group-members-unknown]" in shown


def test_a_sos_report_without_links_has_its_smmu_by_group_and_list() -> None:
    host = host_in("sos")
    function = host.functions["0000:00:01.0"]
    assert function.smmu == "smmu3.0x0000000012000000"
    assert "this one alone" in function.smmu_source.note
    assert host.verdict("0000:00:01.0").accel is Accel.UNKNOWN


def test_a_cleaned_report_has_its_bridges_by_class_and_its_smmus_by_the_firmware() -> None:
    host, whole = host_in("sos-cleaned.tar.xz"), host_from("arm64-virt")
    assert {a for a, f in host.functions.items() if f.is_bridge} == {a for a, f in whole.functions.items() if f.is_bridge}
    assert {a: f.smmu for a, f in host.functions.items()} == {a: f.smmu for a, f in whole.functions.items()}
    notes = [known.note for known in host.functions["0000:14:00.0"].capabilities.values()]
    assert any("does not tell" in note for note in notes)  # the bytes are gone; what lspci said of them in words is there
    for address, function in host.functions.items():
        known = {name: one.value for name, one in function.capabilities.items() if one.value is not None and one.source is Source.CONFIG}
        assert known == {name: whole.functions[address].capabilities[name].value for name in known}, address
    assert not any("root would tell" in note for note in notes)


def test_prepare_takes_nothing_that_show_calls_unassignable(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--demo", "prepare", "0000:83:01.0"]) == 2
    assert "StreamID" in capsys.readouterr().err
    assert "[not-on-vfio]" not in said(capsys, "--demo", "show", "0000:83:01.0")


def test_first_contact_takes_assumed_registers_for_unasked_ones() -> None:
    words = state_words(host_from("gb200"))
    assert "has been asked" not in words
    assert "assumed" in words
    assert candidates(host_from("gb200"))
    assert "has been asked" in state_words(host_from("arm64-virt-canwbs"))
    assert "not read" in state_words(host_in("no-attributes.umockdev"))


def test_first_contact_says_all_only_of_a_list_that_was_read_and_asks_by_who_answers() -> None:
    facts = host_from("arm64-virt-canwbs").facts
    links_alone = host_of(replace(facts, iommus=(), unread=facts.unread | {"/sys/class/iommu": "absent"}))
    assert "has been asked" not in state_words(links_alone).replace("that is known here has been asked", "")
    assert "there may be others" in state_words(links_alone)
    silent = "f" * 512
    asked = host_of(replace(facts, hw_info=()))
    [first, *_] = candidates(asked)
    functions = tuple(replace(f, config=silent, config_length=256) if f.address == first else f for f in facts.functions)
    others = candidates(host_of(replace(facts, hw_info=(), functions=functions)))
    assert others
    assert first not in others or asked.functions[first].is_vf


def test_bars_that_were_not_read_are_not_none() -> None:
    """A function without memory of its own has registers that are zero; one whose registers hold addresses has BARs, read or not."""
    facts = host_from("arm64-virt-canwbs").facts
    host = host_of(replace(facts, functions=tuple(replace(f, resource="") for f in facts.functions)))
    assert not host.functions["0000:14:00.0"].bars_known
    assert not host.functions["0000:11:10.0"].bars_known  # a VF: its registers are zero, whatever it has
    assert host.functions["0000:00:00.0"].bars_known  # QEMU's host bridge has none
    shown = "\n".join(function_lines(host, host.functions["0000:14:00.0"]))
    assert "unknown: not read" in shown
    link = host_in("link-alone.umockdev")
    told = "\n".join(function_lines(link, link.functions["0002:01:00.0"]))
    assert "none recorded" in told
    assert "unknown: not read" in told
