"""The topology as SVG and for Graphviz: read back by those who read them, with names that do harm."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lxml import etree
from msgspec.structs import replace

from tests.tools.cache import cache, skip_loudly
from tests.tools.hosts import E1000E, NVME, VF0, VIRTIO, changed, plan, two_nodes, vm
from tests.tools.processes import LIMIT
from tests.tools.requests import NASTY
from wizard.base.text import visible
from wizard.facts.model import Facts
from wizard.picture.topodot import dot
from wizard.picture.topology import Topology, topology
from wizard.picture.toposvg import svg
from wizard.plan.request import NodeRequest

GIB = 1 << 30
HARM = [
    *NASTY,
    "<script>alert(1)</script>",
    '"/><image href="http://example.org/x"/>',
    "&amp;&lt;x",
    "a\\nb\\N\\G",
    "]]>",
    "</text>",
    "\ufffe",
    "{|}",
    "a;b",
]
SVG = "{http://www.w3.org/2000/svg}"


def harmed(name: str) -> Topology:
    """A host and VMs whose every name is one that does harm somewhere."""

    def renamed(old: Facts) -> Facts:
        functions = tuple(replace(f, device_name=name, vendor_name=name, class_name=name) for f in old.functions)
        return replace(old, functions=functions, identity=replace(old.identity, vendor=name, product=name))

    on = changed(renamed)
    return topology(on, plan(vm(NVME, E1000E, name=name), vm(VF0, name="db"), on=on))


def test_svg_shows_every_name_as_it_is_and_asks_nobody_for_anything() -> None:
    for name in HARM:
        text = svg(harmed(name))
        root = etree.fromstring(text.encode())
        elements = {element.tag for element in root.iter() if isinstance(element.tag, str)}
        assert elements == {SVG + tag for tag in ("svg", "title", "desc", "rect", "path", "text")}
        shown = visible(name)
        assert f"A {shown}" in {element.text for element in root.iter(SVG + "text")}
        assert not [
            key
            for element in root.iter()
            for key, value in element.attrib.items()
            if "href" in str(key) or str(key).startswith("on") or "url(" in str(value)
        ]
        assert float(root.get("width", "0")) > 0


def test_svg_has_a_line_for_each_function_and_marks_what_is_crossed_and_shared() -> None:
    two = two_nodes()
    bound = vm(NVME, VIRTIO, name="bound", numa=(NodeRequest(memory=GIB, cpus="0-1", host_node=1),))
    picture = topology(two, plan(bound, vm(VF0, name="db"), on=two))
    root = etree.fromstring(svg(picture).encode())
    lines = {element.findtext(SVG + "title"): element for element in root.iter(SVG + "path")}
    assert {words.split()[0] for words in lines if words} == {NVME, VIRTIO, VF0}
    dashed = [words for words, element in lines.items() if element.get("stroke-dasharray")]
    assert [str(words).split()[0] for words in dashed] == [VIRTIO]
    texts = "\n".join(element.text or "" for element in root.iter(SVG + "text"))
    assert "shared by A, B" in texts
    # Every piece of text is inside the page.
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    for element in root.iter(SVG + "text"):
        assert 0 <= float(element.get("x", "-1")) < width
        assert 0 < float(element.get("y", "-1")) < height


def graphviz() -> Path:
    found = cache() / "graphviz" / "bin" / "dot"
    if not found.exists():
        skip_loudly("no Graphviz", "scripts/debian-tools --with graphviz unpacks it")
    return found


def drawn(text: str) -> etree._Element:
    """What Graphviz makes of it, without a word of complaint."""
    done = subprocess.run([graphviz(), "-Tsvg"], input=text.encode(), capture_output=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    # Without a font it knows it says how wide it takes text to be: that is not about us.
    said = [line for line in done.stderr.decode().splitlines() if "font" not in line.lower()]
    assert not said, said
    return etree.fromstring(done.stdout)


def test_graphviz_draws_it_with_every_name_as_it_is() -> None:
    graphviz()
    for name in HARM:
        root = drawn(dot(harmed(name)))
        texts = {(element.text or "").replace("\xa0", " ") for element in root.iter(SVG + "text")}
        assert f"A {visible(name)}" in texts, name
        titles = [element.findtext(SVG + "title") for element in root.iter(SVG + "g") if element.get("class") == "edge"]
        assert len(titles) == 3  # NVME, E1000E, VF0


def test_a_host_without_vms_is_drawn_too() -> None:
    picture = topology(changed(), None)
    assert len(etree.fromstring(svg(picture).encode()).findall(SVG + "rect")) == 1 + len(picture.smmus)
    graphviz()
    clusters = [g for g in drawn(dot(picture)).iter(SVG + "g") if g.get("class") == "cluster"]
    assert len(clusters) == len(picture.smmus)
