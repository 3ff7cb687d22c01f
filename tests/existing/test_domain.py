"""Domains: nothing in them is dropped in silence, places hold what is written, and what is no domain ends with one sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tools.libvirt import schemas
from wizard.base.errors import InputError
from wizard.existing.domain import read_domains
from wizard.existing.guest import Fate, Guest, Item, Where
from wizard.existing.ledger import known_words
from wizard.existing.load import read_vms
from wizard.existing.xmltree import parse

DATA = Path(__file__).parent / "data/xml"
SAMPLES = sorted(DATA.glob("*.xml"))
_TAG = re.compile(r"<([A-Za-z_][\w:.-]*)((?:\s+[\w:.-]+\s*=\s*(?:'[^']*'|\"[^\"]*\"))*)\s*(/?)>")


def guests(text: str) -> list[Guest]:
    return read_domains(text, "vm.xml")


def within_metadata(text: str, at: int) -> bool:
    """Anything may stand there, and is kept as it is."""
    return text.rfind("<metadata>", 0, at + 1 + len("metadata>")) > text.rfind("</metadata>", 0, at)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_an_unknown_attribute_is_named_wherever_it_stands(path: Path) -> None:
    text = path.read_text()
    there = [found for found in _TAG.finditer(text) if not within_metadata(text, found.start()) and not found[1].startswith("one:")]
    strange = _TAG.sub(lambda found: f"<{found[1]}{found[2]} strange='1'{found[3]}>" if not within_metadata(text, found.start()) else found[0], text)
    (guest,) = guests(strange)
    named = [left for left in guest.left if left.fate is Fate.UNKNOWN and left.where.path.endswith("@strange")]
    assert len(named) == len(there)
    assert all(strange[left.where.start : left.where.end] == "1" for left in named)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_an_unknown_element_is_named_wherever_it_stands(path: Path) -> None:
    text = path.read_text()

    def filled(found: re.Match[str]) -> str:
        if within_metadata(text, found.start()):
            return found[0]
        return f"<{found[1]}{found[2]}><strange/>" + (f"</{found[1]}>" if found[3] else "")

    there = [found for found in _TAG.finditer(text) if not within_metadata(text, found.start()) and not found[1].startswith("one:")]
    (guest,) = guests(_TAG.sub(filled, text))
    assert len([left for left in guest.left if left.fate is Fate.UNKNOWN and re.search(r"strange(\[\d+\])?$", left.where.path)]) == len(there)


def test_what_the_model_holds_is_what_stands_there() -> None:
    """Every place that is remembered leads to the text that the value came from: --fix changes these characters and no others."""
    for path in SAMPLES:
        text = path.read_text()
        (guest,) = guests(text)
        items: list[Item] = [guest, guest.machine, guest.memory, *guest.devices, *(guest.nodes or ())]
        for item in items:
            for name, where in item.places.items():
                value = getattr(item, name, None)
                if where.start is None or value is None or name == "iommu":  # that is a whole element
                    continue
                written = text[where.start : where.end]
                if isinstance(value, bool):
                    assert written in ("on", "off", "yes", "no") or written.startswith("<acpi")
                elif isinstance(value, int) and name not in ("size", "hugepages", "memory", "mmio_window", "hard_limit"):
                    assert int(written, 0) == value, (path.name, where.path)
                elif isinstance(value, str) and name not in ("bus", "host", "iommufd"):
                    assert written in (value, f"<![CDATA[{value}]]>"), (path.name, where.path)


def test_each_element_that_is_kept_is_xml_by_itself() -> None:
    for path in SAMPLES:
        (guest,) = guests(path.read_text())
        for left in guest.left:
            if left.fate is Fate.KEPT and "@" not in left.under:
                assert parse(left.text, "kept").name == left.where.path.rpartition("/")[2].partition("[")[0]


def test_domains_around_and_beside_each_other() -> None:
    tern, smew = (DATA / "tern.xml").read_text(), (DATA / "smew.xml").read_text()
    status = f"<domstatus state='running' reason='booted' pid='5'>\n<monitor path='/m' type='unix'/>\n{tern}</domstatus>"
    snapshot = f"<?xml version='1.0'?>\n<domainsnapshot><name>s</name><state>running</state>{smew}\n</domainsnapshot>"
    for text, names in (
        (status, ["tern"]),
        (snapshot, ["smew"]),
        (tern + "\n" + smew, ["tern", "smew"]),
        (f"<!-- x -->\n{tern}{smew}", ["tern", "smew"]),
    ):
        found = guests(text)
        assert [guest.name for guest in found] == names
        for guest in found:
            where = guest.places["name"]
            assert text[where.start : where.end] == guest.name
            assert where.line == text[: where.start].count("\n") + 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<domain><name>a</name>", "no element found"),
        ("<!DOCTYPE a [<!ENTITY x 'y'>]><domain>&x;</domain>", "document type"),
        ("<domain>&x;</domain>", "undefined entity"),
        ("<a/>", "holds no <domain>"),
        ("<domain>" + "<a>" * 100 + "</a>" * 100 + "</domain>", "elements lie 64 deep"),
        ("<domain a='1' a='2'/>", "line 1: this is no XML: duplicate attribute"),
        ("<domain>" + "<a/>" * 100_001 + "</domain>", "more than 100000 elements"),
    ],
)
def test_what_is_no_domain(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        guests(text)


@pytest.mark.parametrize("cut", range(0, 100, 3))
def test_a_domain_that_was_cut_off_or_damaged_never_raises_anything_else(cut: int) -> None:
    """Bad values in place of good ones are findings: the rest is still read."""
    text = (DATA / "knot.xml").read_text()
    damaged = re.sub(r"'([^']*)'", lambda found: "'\u00e4 -1 x'" if found.start() % 100 == cut else found[0], text)
    try:
        vms = read_vms(damaged.encode(), "vm.xml")
    except InputError:
        return
    assert vms[0].request is not None


def test_the_names_are_those_of_libvirts_own_schemas() -> None:
    """Each name that the shipped list has for <devices> is in the schemas that libvirt has; scripts/libvirt-words writes the list."""
    text = "".join(path.read_text(encoding="utf-8") for path in schemas().glob("*.rng"))
    for words in (known_words()["/domain"], known_words()["domain/devices"], known_words()["iommu/driver"]):
        for word in words:
            name = word.removeprefix("@").removeprefix("qemu:")
            assert re.search(rf'(name="{name}"|<name>{name}</name>)', text), word


def test_places_are_shown_for_people() -> None:
    assert Where(source="a.xml", line=3, path="devices/iommu/driver@oas").show() == "a.xml, line 3, devices/iommu/driver@oas"
