"""Lines between two columns of text: each runs in a lane of its own, in the colour of what it joins."""

from __future__ import annotations

from wizard.base.glyphs import Glyphs
from wizard.picture.pieces import Piece

UP, DOWN, LEFT, RIGHT = 1, 2, 4, 8
# Box drawing by the sides that a cell is joined on.
_BOX = {
    UP: "│",
    DOWN: "│", UP | DOWN: "│", LEFT: "─", RIGHT: "─", LEFT | RIGHT: "─", UP | LEFT: "┘", UP | RIGHT: "└", DOWN | LEFT: "┐", DOWN | RIGHT: "┌",
    UP | DOWN | LEFT: "┤", UP | DOWN | RIGHT: "├", LEFT | RIGHT | UP: "┴", LEFT | RIGHT | DOWN: "┬", UP | DOWN | LEFT | RIGHT: "┼",
}  # fmt: skip


class Lanes:
    """A field of cells between the columns; ``height`` rows of ``width`` cells."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self._sides = [[0] * width for _ in range(height)]
        self._roles = [[""] * width for _ in range(height)]

    def join(self, start: int, end: int, lane: int, role: str) -> None:
        """A line from row ``start`` of the left column to row ``end`` of the right one, up or down in column ``lane``."""
        for x in range(lane):
            self._put(start, x, LEFT | RIGHT, role)
        for x in range(lane + 1, self.width):
            self._put(end, x, LEFT | RIGHT, role)
        if start == end:
            self._put(start, lane, LEFT | RIGHT, role)
            return
        down = end > start
        self._put(start, lane, LEFT | (DOWN if down else UP), role)
        self._put(end, lane, RIGHT | (UP if down else DOWN), role)
        for y in range(min(start, end) + 1, max(start, end)):
            self._put(y, lane, UP | DOWN, role)

    def _put(self, y: int, x: int, sides: int, role: str) -> None:
        self._sides[y][x] |= sides
        before = self._roles[y][x]
        self._roles[y][x] = role if before in ("", role) else "dim"

    def row(self, y: int, glyphs: Glyphs) -> list[Piece]:
        """One row of it."""
        return [Piece(_sign(sides, glyphs), role) for sides, role in zip(self._sides[y], self._roles[y], strict=True)]


def _sign(sides: int, glyphs: Glyphs) -> str:
    if not sides:
        return " "
    if glyphs.ascii:
        return "|" if sides in (UP, DOWN, UP | DOWN) else "-" if sides in (LEFT, RIGHT, LEFT | RIGHT) else "+"
    return _BOX[sides]
