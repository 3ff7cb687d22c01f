"""The topology as text: VMs at the left, the host at the right, lines between; below each other where it is narrow.

Keys: ``("vm", name)``, ``("gate", id)``, ``("function", address, VM)``, ``("smmu", name)``, ``("free", address)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wizard.base.glyphs import Glyphs
from wizard.base.text import plural, visible
from wizard.host.model import Accel
from wizard.picture.hosttext import NO_SMMU, VERDICT_ROLE
from wizard.picture.lanes import Lanes
from wizard.picture.pieces import Drawing, Piece, Row, fit, row, row_width, width_of
from wizard.picture.topology import End, Gate, HostEnd, SmmuBox, Topology, VmBox

NARROW = 96
"""Cells below which the two sides stand below each other."""

Name = Callable[[str], str]


def draw(picture: Topology, width: int, glyphs: Glyphs, *, height: int = 0, name: Name = lambda address: "") -> Drawing:
    """The drawing. Where ``height`` has room for it, what nobody has is listed too (``name`` gives it a name), and boxes stand apart."""
    head = [row(Piece(fit(picture.words, width, glyphs.more).rstrip(), "dim")), ()]
    left = [_vm(box, glyphs) for box in picture.vms]
    room = height - len(head)
    # Counted before it is made: a large host has thousands that nobody has.
    whole = sum(1 + len(box.ends) + len(box.free) for box in picture.smmus) + len(picture.smmus) - 1
    listed = whole <= max(room, sum(map(len, left)) + len(left) - 1)
    right = [_smmu(box, glyphs, name, listed) for box in picture.smmus]
    if width < NARROW or not picture.vms:
        lines = [*head]
        for block in left:
            lines += [*(_cut(one, width, glyphs) for one in block), ()]
        lines.append(row(Piece(f"Host: {visible(picture.host)}", "head")))
        for block in right:
            lines += [_cut(one, width, glyphs) for one in block]
        return lines
    return [*head, *_beside(picture, left, right, width, room, glyphs)]


def _beside(picture: Topology, left: list[list[Row]], right: list[list[Row]], width: int, room: int, glyphs: Glyphs) -> list[Row]:
    gates = [(box, gate) for box in picture.vms for gate in box.gates]
    joins = [(box, gate, smmu) for box, gate in gates for smmu in _reached(picture, gate)]
    lanes = max(1, min(len(joins), (width - 80) // 4, 16))
    need = max((row_width(one) for block in left for one in block), default=0) + 1
    far_need = max((row_width(one) for block in right for one in block), default=0) + 1
    # Lines stand as far apart as there is room for: what crosses is easier followed then.
    pitch = max(2, min(14, (width - need - far_need - 3) // lanes))
    middle = lanes * pitch + 3
    wide = min(need, (width - middle) // 2)
    one_side, starts = _stack(left, room)
    other_side, ends = _stack(right, room)
    rows = max(len(one_side), len(other_side))
    between = Lanes(middle, rows)
    leads: dict[int, str] = {}  # rows of the left side that a line begins at
    place = {box.name: number for number, box in enumerate(picture.smmus)}
    for number, (box, gate, smmu) in enumerate(joins):
        above = starts[picture.vms.index(box)]
        start = above + 1 + sum(1 + len(before.ends) for before in box.gates[: box.gates.index(gate)])
        leads[start] = box.colour
        between.join(start, ends[place[smmu]], 1 + pitch * (number % lanes), box.colour)
    lines = []
    for y in range(rows):
        near = _cut(one_side[y], wide, glyphs) if y < len(one_side) else ()
        pad = Piece((glyphs.across if y in leads else " ") * (wide - row_width(near)), leads.get(y, ""))
        far = _cut(other_side[y], width - wide - middle - 1, glyphs) if y < len(other_side) else ()
        lines.append((*near, pad, *between.row(y, glyphs), Piece(" "), *far))
    return lines


def _reached(picture: Topology, gate: Gate) -> list[str | None]:
    # One line for all functions of a gate that go to the same SMMU.
    return list(dict.fromkeys(edge.smmu for edge in picture.edges if edge.gate == gate.id))


def _stack(blocks: Sequence[list[Row]], room: int) -> tuple[list[Row], list[int]]:
    """Blocks below each other, spread over the room that there is, and the row that each begins at."""
    free = room - sum(map(len, blocks))
    gap = max(1, min(8, free // max(1, len(blocks) - 1))) if len(blocks) > 1 else 1
    lines: list[Row] = []
    starts = []
    for block in blocks:
        if lines:
            lines += [()] * gap
        starts.append(len(lines))
        lines += block
    return lines, starts


def _cut(pieces: Row, width: int, glyphs: Glyphs) -> Row:
    kept: list[Piece] = []
    used = 0
    for piece in pieces:
        wide = width_of(piece.text)
        if used + wide > width:
            kept.append(piece._replace(text=fit(piece.text, max(0, width - used), glyphs.more)))
            break
        kept.append(piece)
        used += wide
    return tuple(kept)


def _vm(box: VmBox, glyphs: Glyphs) -> list[Row]:
    key = ("vm", box.name)
    errors = Piece(f"  {glyphs.no} {plural(box.errors, 'error')}" if box.errors else "", "bad", key)
    rows = [row(Piece(f"{box.letter} {visible(box.name)}", box.colour, key), Piece(f"  {box.words}", "dim", key), errors)]
    for place, gate in enumerate(box.gates):
        last = place == len(box.gates) - 1
        rows.append(row(Piece(_guide(last, glyphs), "dim"), *_gate(box, gate, glyphs)))
        for number, end in enumerate(gate.ends):
            lead = ("  " if last else f"{glyphs.pipe} ") + _guide(number == len(gate.ends) - 1, glyphs)
            rows.append(row(Piece(lead, "dim"), *_end(box, end, glyphs)))
    return rows


def _guide(last: bool, glyphs: Glyphs) -> str:
    return (glyphs.last if last else glyphs.branch) + glyphs.across


def _gate(box: VmBox, gate: Gate, glyphs: Glyphs) -> list[Piece]:
    key = ("gate", gate.id)
    if gate.vsmmu is None:
        return [Piece("no vSMMU ", "dim", key)]
    name, _, rest = visible(gate.words).partition(",")
    return [Piece(name, box.colour, key), Piece(f",{rest} ", "dim", key)]


def _end(box: VmBox, end: End, glyphs: Glyphs) -> list[Piece]:
    key = ("function", end.address, box.name)
    found = [Piece(f"{end.tag} ", box.colour, key), Piece(f"{visible(end.words)} ", "", key)]
    if end.crossing:
        found.append(Piece(f"{glyphs.warning} {end.crossing.partition(',')[0]} ", "warn", key))
    return found


def _smmu(box: SmmuBox, glyphs: Glyphs, name: Name, listed: bool) -> list[Row]:
    key = ("smmu", box.name or "")
    node = "" if box.node is None else f"  node {box.node}"
    kind = f"  {box.kind}" if box.kind not in ("", "smmuv3") else ""
    pieces = [Piece(visible(box.name) if box.name else NO_SMMU, "head" if box.name else "dim", key), Piece(node + kind, "dim", key)]
    if box.shared:
        pieces.append(Piece(f"  {glyphs.warning} shared by", "warn", key))
        pieces += [Piece(f" {letter}", colour, key) for letter, colour in box.letters]
    rows = [tuple(pieces)]
    below: list[Row] = [tuple(_host_end(box, end, glyphs)) for end in box.ends]
    if listed:
        below += [row(Piece(f"{visible(one)} {visible(name(one))}", "dim", ("free", one))) for one in box.free]
    elif box.left:
        below.append(tuple(_rest(box, glyphs)))
    for number, pieces_below in enumerate(below):
        rows.append((Piece(_guide(number == len(below) - 1, glyphs), "dim"), *pieces_below))
    return rows


def _host_end(box: SmmuBox, end: HostEnd, glyphs: Glyphs) -> list[Piece]:
    key = ("function", end.address, end.vm)
    found = [Piece(f"{end.tag} ", end.colour, key), Piece(visible(end.words(box.node)), "warn" if end.note else "", key)]
    if end.crossing:
        found.append(Piece(f"  {glyphs.warning} {visible(end.crossing)}", "warn", key))
    return found


def _rest(box: SmmuBox, glyphs: Glyphs) -> list[Piece]:
    found = [Piece(f"{plural(len(box.free), 'function')} nobody has:", "dim", ("smmu", box.name or ""))]
    signs = {Accel.YES: glyphs.yes, Accel.NO: glyphs.no, Accel.UNKNOWN: glyphs.unknown}
    for verdict, count in box.left:
        if verdict is None:
            return [found[0]._replace(text=found[0].text.rstrip(":"))]
        found.append(Piece(f" {signs[verdict]} {count}", VERDICT_ROLE[verdict]))
    return found
