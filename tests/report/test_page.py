"""A report has nothing in it but what was made by it, whatever a snapshot holds."""

from __future__ import annotations

from html.parser import HTMLParser

import msgspec

from tests.tools.hostile import hostile_places
from tests.tools.hosts import FIXTURES, host
from wizard.base.errors import WizardError
from wizard.facts.snapshot import decode
from wizard.host.build import host_of
from wizard.report import page

MARKUP = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&amp;</style>"


class Elements(HTMLParser):
    """Names of elements and attributes, ids, and where links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links |= {value or "" for name, value in attrs if name == "href"}


def elements(text: str) -> Elements:
    found = Elements()
    found.feed(text)
    return found


def test_markup_in_every_string_of_a_snapshot_makes_no_element() -> None:
    data = (FIXTURES / "vfio-arm64-virt-canwbs.json").read_bytes()
    tree = msgspec.json.decode(data)
    changed = 0
    for path in hostile_places(tree):
        *above, last = path
        at = tree
        for key in above:
            at = at[key]
        before = at[last]
        at[last] = before + MARKUP
        try:
            decode(msgspec.json.encode(tree), "hostile")
            changed += 1
        except WizardError:
            at[last] = before
    assert changed > 20
    plain, hostile = elements(page(host("vfio-arm64-virt-canwbs"))), elements(page(host_of(decode(msgspec.json.encode(tree), "hostile"))))
    assert hostile.names <= plain.names
    assert not hostile.names & {"script", "img", "iframe", "link", "object", "base"}
    assert not {name for name in hostile.attributes if name.startswith("on") or name in ("src", "style")}


def test_every_function_has_an_anchor_and_every_link_leads_somewhere() -> None:
    made = host("vfio-arm64-virt-canwbs")
    found = elements(page(made))
    assert len(found.ids) == len(set(found.ids))
    assert {f"f-{address.replace(':', '-')}" for address in made.functions} <= set(found.ids)
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
