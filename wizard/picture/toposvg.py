"""The topology as an SVG of its own, for documents: no script, no font and no picture from elsewhere, everything from outside escaped."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from wizard.base.text import plural, visible
from wizard.picture.hosttext import NO_SMMU
from wizard.picture.letters import INK
from wizard.picture.pieces import fit, width_of
from wizard.picture.topodot import GREY, WARNING
from wizard.picture.topology import SmmuBox, Topology, VmBox

LINE, CELL = 18, 7.25  # a row's height, and a character's width in a monospace font of 12 pixels
SIDE = 74  # characters of a column
BOX = SIDE * CELL + 16
BETWEEN = 260  # pixels for the lines between the columns
MARGIN = 16


class _Page:
    """What is drawn so far, and how far down it goes."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.bottom = 0.0

    def text(self, x: float, y: float, words: str, colour: str = "#1a1d21", *, bold: bool = False, most: int = SIDE) -> None:
        """One line of text; ``y`` is its middle."""
        shown = fit(words, most).rstrip() if width_of(visible(words)) > most else visible(words)
        weight = ' font-weight="bold"' if bold else ""
        self.parts.append(f'<text x="{x:g}" y="{y + 4:g}" fill="{colour}"{weight} xml:space="preserve">{escape(shown)}</text>')

    def box(self, x: float, y: float, height: float, colour: str, *, fill: str = "#ffffff", heavy: bool = False) -> None:
        """A frame as wide as a column."""
        place = f'x="{x:g}" y="{y:g}" width="{BOX:g}" height="{height:g}" rx="6"'
        self.parts.append(f'<rect {place} fill="{fill}" stroke="{colour}" stroke-width="{2 if heavy else 1}"/>')
        self.bottom = max(self.bottom, y + height)


def svg(picture: Topology) -> str:
    """The drawing, as one XML document."""
    page = _Page()
    near: dict[tuple[str, str], tuple[float, float]] = {}
    far: dict[tuple[str, str], tuple[float, float]] = {}
    right = MARGIN + BOX + BETWEEN
    top = MARGIN + 2 * LINE
    y = float(top)
    for vm in picture.vms:
        y = _vm(page, vm, y, near) + LINE
    y = float(top)
    for box in picture.smmus:
        y = _smmu(page, box, right, y, far) + LINE
    curves = list(_curves(picture, near, far))
    page.text(MARGIN, MARGIN + LINE / 2, picture.host, bold=True, most=150)
    page.text(MARGIN, MARGIN + 1.5 * LINE, picture.words, GREY, most=150)
    width, height = right + BOX + MARGIN, page.bottom + MARGIN
    place = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    font = 'font-family="ui-monospace, DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="12"'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {place} role="img" {font}>',
            f"<title>{escape(visible(f'Topology of {picture.host}'))}</title>",
            f"<desc>{escape(visible(picture.words))}</desc>",
            f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>',
            *curves,
            *page.parts,
            "</svg>\n",
        )
    )


def _vm(page: _Page, vm: VmBox, y: float, near: dict[tuple[str, str], tuple[float, float]]) -> float:
    colour = INK[vm.colour]
    rows = 2 + sum(1 + len(gate.ends) for gate in vm.gates)
    height = rows * LINE + 12
    page.box(MARGIN, y, height, colour, heavy=True)
    x, at = MARGIN + 8, y + 6 + LINE / 2
    page.text(x, at, f"{vm.letter} {vm.name}", colour, bold=True)
    page.text(x, at + LINE, vm.words, GREY)
    at += 2 * LINE
    for gate in vm.gates:
        page.text(x, at, gate.words, GREY)
        at += LINE
        for end in gate.ends:
            page.text(x + 2 * CELL, at, end.tag, colour, bold=True)
            page.text(x + (3 + len(end.tag)) * CELL, at, end.words, most=SIDE - 4 - len(end.tag))
            near[vm.name, end.address] = (MARGIN + BOX, at)
            at += LINE
    return y + height


def _smmu(page: _Page, box: SmmuBox, x: float, y: float, far: dict[tuple[str, str], tuple[float, float]]) -> float:
    rows = 1 + sum(2 if end.crossing else 1 for end in box.ends) + (1 if box.free or not box.ends else 0)
    height = rows * LINE + 12
    page.box(x, y, height, WARNING if box.shared else GREY, fill="#f4f5f7", heavy=box.shared)
    at = y + 6 + LINE / 2
    node = "" if box.node is None else f"  node {box.node}"
    shared = f"  shared by {', '.join(letter for letter, _ in box.letters)}" if box.shared else ""
    page.text(x + 8, at, f"{box.name or NO_SMMU}{node}{shared}", WARNING if box.shared else "#1a1d21", bold=True)
    for end in box.ends:
        at += LINE
        page.text(x + 8, at, end.tag, INK[end.colour], bold=True)
        page.text(x + 8 + (1 + len(end.tag)) * CELL, at, end.words(box.node), most=SIDE - 2 - len(end.tag))
        far[end.vm, end.address] = (x, at)
        if end.crossing:
            at += LINE
            page.text(x + 8 + 3 * CELL, at, f"▲ {end.crossing}", WARNING, most=SIDE - 4)
    if box.free or not box.ends:
        at += LINE
        page.text(x + 8, at, f"{plural(len(box.free), 'function')} nobody has" if box.free else "no function", GREY)
    return y + height


def _curves(picture: Topology, near: dict[tuple[str, str], tuple[float, float]], far: dict[tuple[str, str], tuple[float, float]]) -> Iterator[str]:
    for edge in picture.edges:
        (x1, y1), (x2, y2) = near[edge.vm, edge.address], far[edge.vm, edge.address]
        middle = (x1 + x2) / 2
        dashes = ' stroke-dasharray="6 4" stroke-width="2"' if edge.crossing else ' stroke-width="1.5"'
        path = f"M{x1:g} {y1:g} C{middle:g} {y1:g} {middle:g} {y2:g} {x2:g} {y2:g}"
        words = f"{edge.address} of {edge.vm}" + (", on another NUMA node than its memory" if edge.crossing else "")
        yield f'<path d="{path}" fill="none" stroke="{INK[edge.colour]}"{dashes}><title>{escape(visible(words))}</title></path>'
