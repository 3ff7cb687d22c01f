"""The topology for Graphviz: ``dot -Tsvg`` and its like draw it.

Names are in labels only: nodes are numbered. In a label a backslash begins an escape (\\n, \\l, \\N) and & a character entity as in HTML
(https://graphviz.org/docs/attr-types/escString/, https://graphviz.org/doc/char.html), so both are written as themselves.
"""

from __future__ import annotations

from collections.abc import Iterator

from wizard.base.text import plural, visible
from wizard.picture.hosttext import NO_SMMU
from wizard.picture.letters import INK
from wizard.picture.topology import SmmuBox, Topology, VmBox

GREY, WARNING = "#5f6670", "#9a4a00"


def dot(picture: Topology) -> str:
    """A digraph: a cluster for each VM at the left and for each SMMU at the right, an edge for each function given."""
    return "\n".join(_lines(picture)) + "\n"


def _lines(picture: Topology) -> Iterator[str]:
    yield "digraph topology {"
    yield f'  graph [rankdir=LR, fontname="sans-serif", labelloc=t, label={_text(picture.host)}, ranksep=1.5, nodesep=0.1];'
    yield '  node [shape=box, style=rounded, fontname="monospace", fontsize=10];'
    yield '  edge [fontname="sans-serif", fontsize=9];'
    near: dict[tuple[str, str], str] = {}
    far: dict[tuple[str, str], str] = {}
    for number, vm in enumerate(picture.vms):
        yield from _vm(vm, number, near)
    for number, box in enumerate(picture.smmus):
        yield from _smmu(box, number, far)
    for edge in picture.edges:
        ends = f"{near[edge.vm, edge.address]} -> {far[edge.vm, edge.address]}"
        crossing = f', style=dashed, penwidth=2, label="another NUMA node", fontcolor="{WARNING}"' if edge.crossing else ""
        yield f'  {ends} [color="{INK[edge.colour]}", dir=none{crossing}];'
    yield "}"


def _vm(vm: VmBox, number: int, near: dict[tuple[str, str], str]) -> Iterator[str]:
    label = _text(f"{vm.letter} {vm.name}", vm.words)
    yield f"  subgraph cluster_vm{number} {{"
    yield f'    label={label}; color="{INK[vm.colour]}"; fontcolor="{INK[vm.colour]}"; penwidth=2;'
    if not vm.gates:
        yield f'    vm{number} [label="no function", shape=plaintext, fontcolor="{GREY}"];'
    for place, gate in enumerate(vm.gates):
        yield f"    subgraph cluster_vm{number}_{place} {{"
        yield f'      label={_text(gate.words)}; color="{GREY}"; penwidth=1;'
        if not gate.ends:
            yield f'      v{number}_{place} [label="no function", shape=plaintext, fontcolor="{GREY}"];'
        for count, end in enumerate(gate.ends):
            name = near[vm.name, end.address] = f"g{number}_{place}_{count}"
            yield f'      {name} [label={_text(f"{end.tag} {end.words}")}, color="{INK[vm.colour]}"];'
        yield "    }"
    yield "  }"


def _smmu(box: SmmuBox, number: int, far: dict[tuple[str, str], str]) -> Iterator[str]:
    node = "" if box.node is None else f", node {box.node}"
    first = f"{box.name or NO_SMMU}{node}"
    label = _text(first, f"shared by {', '.join(letter for letter, _ in box.letters)}") if box.shared else _text(first)
    yield f"  subgraph cluster_smmu{number} {{"
    yield f'    label={label}; style=filled; fillcolor="#f4f5f7"; color="{WARNING if box.shared else GREY}"; penwidth={2 if box.shared else 1};'
    for count, end in enumerate(box.ends):
        name = far[end.vm, end.address] = f"h{number}_{count}"
        yield f'    {name} [label={_text(f"{end.tag} {end.words(box.node)}")}, color="{INK[end.colour]}", fillcolor=white, style="rounded,filled"];'
    if box.free or not box.ends:
        words = f"{plural(len(box.free), 'function')} nobody has" if box.free else "no function"
        yield f'    h{number} [label={_text(words)}, shape=plaintext, fontcolor="{GREY}"];'
    yield "  }"


def _text(*lines: str) -> str:
    """A quoted string that shows these lines and nothing else."""
    return '"' + "\\n".join(visible(one).replace("\\", "\\\\").replace("&", "&amp;").replace('"', '\\"') for one in lines) + '"'
