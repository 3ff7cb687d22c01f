"""Isolation as text: address spaces as strips, and what a guest may write as a grid.

Keys: ``("part", VM, start)``, ``("frames", start)``, ``("bits", lowest bit)``, ``("command", opcode)``; ``told_*`` say what stands behind one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

from wizard.base.glyphs import Glyphs
from wizard.base.text import size, visible
from wizard.picture.pieces import Drawing, Piece, Row, fit, row
from wizard.picture.space import Frames, Part, Space, Spaces
from wizard.picture.writable import Bits, Fate, Opcode, Writable

FATE_ROLE = {Fate.PASSES: "bold", Fate.REWRITTEN: "info", Fate.REFUSED: "warn", Fate.KEPT: "dim"}
WORD = 64
_LABEL = 8


def fate_sign(fate: Fate, glyphs: Glyphs) -> str:
    """One cell, told apart without colour: what passes is the guest's own."""
    return {Fate.PASSES: "P", Fate.REWRITTEN: "w", Fate.REFUSED: glyphs.no, Fate.KEPT: glyphs.info}[fate]


# -- what a guest may write -------------------------------------------------------------------------------------------


def draw_writable(picture: Writable, width: int, glyphs: Glyphs) -> Drawing:
    """The entry bit by bit, 64 to a row, and the commands."""
    lines: list[Row] = [row(Piece("A stream table entry as the guest writes it, bit 63 of each word at the left", "head"))]
    lines.append(row(Piece(" " * _LABEL + "".join(f"{bit:<8}" for bit in range(WORD - 1, 0, -8)), "dim")))
    where = {bit: one for one in picture.bits for bit in range(one.lo, one.hi + 1)}
    for word in range(max(where) // WORD + 1):
        pieces = [Piece(f"word {word}  ", "dim")]
        for bit in range(WORD * word + WORD - 1, WORD * word - 1, -1):
            one = where[bit]
            pieces.append(Piece(fate_sign(one.fate, glyphs), FATE_ROLE[one.fate], ("bits", one.lo)))
        lines.append(tuple(pieces))
    lines += [(), row(Piece("Commands: by QEMU's ioctl, and in a queue of the guest's own (CMDQV)", "head"))]
    columns = max(1, (width - 1) // 28)
    rows = -(-len(picture.commands) // columns)
    for y in range(rows):
        pieces = []
        for sent in picture.commands[y::rows]:
            key = ("command", sent.opcode)
            pieces += [Piece(fate_sign(fate, glyphs), FATE_ROLE[fate], key) for fate in (sent.fate, sent.cmdqv)]
            pieces += [Piece(fit(f" {sent.opcode:#04x} {sent.name.removeprefix('CMD_')}", 24, glyphs.more), "", key), Piece("  ")]
        lines.append(tuple(pieces))
    others = f"{fate_sign(Fate.REFUSED, glyphs)} every other opcode: {picture.unnamed} that the specification gives no command"
    lines += [row(Piece(others, "dim")), ()]
    words = ((Fate.PASSES, "passes as written"), (Fate.REWRITTEN, "rewritten"), (Fate.REFUSED, "refused"), (Fate.KEPT, "never asked of the guest"))
    for fate, text in words:
        count = sum(one.hi - one.lo + 1 for one in picture.bits if one.fate is fate)
        commands = sum(one.fate is fate for one in picture.commands)
        lines.append(row(Piece(fate_sign(fate, glyphs), FATE_ROLE[fate]), Piece(f" {text}: {count} bits, {commands} commands", "dim")))
    return lines


def told_bits(one: Bits, glyphs: Glyphs) -> Iterator[tuple[str, str]]:
    """(label, words) of a field."""
    place = f"bit {one.lo}" if one.hi == one.lo else f"bits {one.hi} to {one.lo}"
    yield "field", f"STE.{one.name}, {place}: {one.doc}" if one.name else f"{place}: {one.doc}"
    yield "becomes", f"{fate_sign(one.fate, glyphs)} {one.fate}: {one.why}"
    yield "from", one.source


def told_command(one: Opcode, glyphs: Glyphs) -> Iterator[tuple[str, str]]:
    """The same of a command."""
    yield "command", f"{one.name}, opcode {one.opcode:#04x}"
    yield "by QEMU", f"{fate_sign(one.fate, glyphs)} {one.fate}: {one.why}"
    through = "not among the commands that a VINTF carries" if one.cmdqv is Fate.REFUSED else "carried, with the VM's VMID or the function's StreamID"
    yield "by CMDQV", f"{fate_sign(one.cmdqv, glyphs)} {one.cmdqv}: {through}"
    yield "from", one.source + "; CMDQV: tegra241_guest_vcmdq_supports_cmd()"


# -- address spaces ---------------------------------------------------------------------------------------------------


def draw_spaces(picture: Spaces, width: int, glyphs: Glyphs) -> Drawing:
    """A strip for each VM, the same address in the same column; what each part is; the host's frames by owner."""
    if not picture.vms:
        return [row(Piece("No VM is planned.", "dim"))]
    lines: list[Row] = [row(Piece("What every function of a VM can reach, by the guest's physical address", "head"))]
    name = min(16, max(len(visible(space.vm)) for space in picture.vms) + 2)
    room = max(20, width - name - 1)
    edges = sorted({edge for space in picture.vms for part in space.parts for edge in (part.start, part.end)})
    widths = _widths([end - start for start, end in pairwise(edges)], room)
    for space in picture.vms:
        pieces = [Piece(fit(f"{space.letter} {space.vm}", name, glyphs.more), space.colour)]
        for (start, end), cells in zip(pairwise(edges), widths, strict=True):
            part = next((one for one in space.parts if one.start <= start and end <= one.end), None)
            text, role = _part_sign(part, space, glyphs) if part is not None else (" ", "")
            pieces.append(Piece(text * cells, role, ("part", space.vm, part.start) if part is not None else None))
        lines.append(tuple(pieces))
    lines += [row(Piece("not to scale: each piece is as wide as its size has digits", "dim")), ()]
    for space in picture.vms:
        lines.append(row(Piece(f"{space.letter} {visible(space.vm)}", space.colour), Piece(f"  {', '.join(map(visible, space.functions))}", "dim")))
        lines += [_part_row(part, space, width, glyphs) for part in space.parts]
        lines.append(())
    lines += _frames(picture, width, glyphs)
    return lines


def _widths(sizes: Sequence[int], room: int) -> list[int]:
    """Cells for pieces of these sizes: by the number of their binary digits, at least one."""
    if not sizes:
        return []
    digits = [max(1, size_.bit_length() - 11) for size_ in sizes]
    total = sum(digits)
    return [max(1, room * one // total) for one in digits]


def _part_sign(part: Part, space: Space, glyphs: Glyphs) -> tuple[str, str]:
    match part.kind:
        case "memory":
            return space.letter[-1], space.colour if part.reached else "dim"
        case "msi":
            return "i", "accent" if part.reached else "dim"
        case "bar":
            return "b", space.colour if part.reached else "dim"
        case "window":
            return "-", "dim"
    return glyphs.track, "dim"


def _part_row(part: Part, space: Space, width: int, glyphs: Glyphs) -> Row:
    sign, role = _part_sign(part, space, glyphs)
    key = ("part", space.vm, part.start)
    place = f" {part.start:#014x} to {part.end - 1:#014x} "
    mark = glyphs.yes if part.reached else glyphs.no
    words = fit(f"{part.what}", max(10, width - len(place) - 14), glyphs.more).rstrip()
    return row(Piece(f"  {sign}", role, key), Piece(place, "dim", key), Piece(f"{_size(part.size):>7} {mark} ", "", key), Piece(words, role, key))


def _size(count: int) -> str:
    for shift, unit in ((40, "T"), (30, "G"), (20, "M"), (10, "K")):
        if count >= 1 << shift:
            return size(count) if len(size(count)) <= 6 else f"{count / (1 << shift):.1f}{unit}"
    return str(count)


def _frames(picture: Spaces, width: int, glyphs: Glyphs) -> Iterator[Row]:
    yield row(Piece("The host's frames, by who has them", "head"))
    colours = {space.vm: (space.letter, space.colour) for space in picture.vms}
    groups = [(owner, list(found)) for owner, found in groupby(picture.frames, key=lambda one: one.owner)]
    widths = _widths([sum(one.end - one.start for one in found) for _, found in groups], max(10, width - 1))
    pieces = []
    for (owner, found), cells in zip(groups, widths, strict=True):
        letter, colour = colours[owner]
        pieces.append(Piece(letter[-1] * cells, colour, ("frames", found[0].start)))
    yield tuple(pieces)
    for owner, found in groups:
        letter, colour = colours[owner]
        total = sum(one.end - one.start for one in found)
        key = ("frames", found[0].start)
        kinds = ", ".join(dict.fromkeys(visible(one.what) for one in found))
        words = fit(f"{found[0].start:#014x} to {found[-1].end - 1:#014x}  {_size(total):>7}  {kinds}", max(10, width - 4), glyphs.more).rstrip()
        yield row(Piece(f"  {letter} ", colour, key), Piece(words, "", key))


def told_part(part: Part, space: Space) -> Iterator[tuple[str, str]]:
    """What is known of one part of an address space."""
    yield "of", f"{visible(space.vm)}, mode {space.mode}"
    yield "from", f"{part.start:#x} to {part.end - 1:#x}, {_size(part.size)}"
    yield "is", visible(part.what)
    yield "reached", "by DMA of every function of the VM, through stage 2" if part.reached else "by no DMA: nothing maps it in stage 2"
    owner = {"": "none", "its": "the host's ITS page, which all VMs share: it is isolated by DeviceID"}.get(part.owner, visible(part.owner))
    yield "frames of", owner


def told_frames(first: Frames, picture: Spaces) -> Iterator[tuple[str, str]]:
    """What is known of frames of the host."""
    yield "of", visible(first.owner)
    for one in picture.frames:
        if one.owner == first.owner:
            yield "from", f"{one.start:#x} to {one.end - 1:#x}, {_size(one.end - one.start)}: {visible(one.what)}"
    yield "modelled", "which frames a VM gets is decided when it starts; isolation is proved of the modelled ones, each given out once"
