"""A picture with a cursor: pieces that stand for something can be walked in both directions, and chosen."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.strip import Strip

from wizard.picture.pieces import Drawing, Row, width_of
from wizard.tui.lines import Line, in_ascii
from wizard.tui.widgets.lines import LinesView

Draw = Callable[[int], Drawing]


class Spot(NamedTuple):
    """Neighbouring pieces of one key in a row: columns ``start`` to ``end``, the last not counted."""

    start: int
    end: int
    key: Hashable


class PictureView(LinesView):
    """Lines whose items stand beside each other. Every place of the item under the cursor is lit, be they far apart."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "beside(-1)", "Left", show=False, id="left"),
        Binding("right,l", "beside(1)", "Right", show=False, id="right"),
    ]

    def __init__(self, *, id: str | None = None, classes: str | None = None, wide: bool = False) -> None:
        super().__init__(id=id, classes=classes, wide=wide)
        self._spots: list[tuple[Spot, ...]] = []
        self._x = 0  # of the spot under the cursor, and where it wants to be in a row without one there

    def draw(self, build: Draw, *, top: bool = False) -> None:
        """A picture for the width that there is; again when it changes. The cursor stays with its thing."""
        if top:
            self._x = 0
        self.show(lambda width: self._lines_of(build(width)), top=top)

    def _lines_of(self, drawing: Drawing) -> list[Line]:
        self._spots = [_spots(one) for one in drawing]
        return [
            Line(tuple((piece.text, piece.role) for piece in one), number if spots else None)
            for number, (one, spots) in enumerate(zip(drawing, self._spots, strict=True))
        ]

    # Where the cursor is.

    @property
    def spot(self) -> Spot | None:
        """What the cursor is on."""
        spots = self._spots[self._at] if 0 <= self._at < len(self._spots) else ()
        return min(spots, key=lambda one: max(one.start - self._x, self._x - one.end + 1, 0), default=None)

    @property
    def cursor(self) -> Hashable | None:
        spot = self.spot
        return None if spot is None else spot.key

    def go_to(self, key: Hashable) -> bool:
        for y, spots in enumerate(self._spots):
            for spot in spots:
                if spot.key == key:
                    self._to(y, spot.start)
                    return True
        return False

    def _put(self, key: Hashable | None, before: int) -> None:
        everywhere = ((y, spot) for y, spots in enumerate(self._spots) for spot in spots)
        places = [(abs(y - before), abs(spot.start - self._x), y, spot.start) for y, spot in everywhere if spot.key == key]
        if key is not None and places:
            _, _, self._at, self._x = min(places)
            return
        self._at = self._nearest(min(before, max(0, self.count - 1)))
        if self.cursor != key:
            self.post_message(self.Moved(self, self.cursor))

    def _to(self, y: int, x: int) -> None:
        old = self.cursor
        self._at, self._x = y, x
        self._reveal()
        self._reveal_sideways()
        self.refresh()
        if self.cursor != old:
            self.post_message(self.Moved(self, self.cursor))

    def _move(self, y: int) -> None:
        self._to(y, self._x)

    def _reveal_sideways(self) -> None:
        spot = self.spot
        if spot is None or not self._wide:
            return
        left, width = self.scroll_offset.x, max(1, self.scrollable_content_region.width)
        if spot.start < left:
            self.scroll_to(x=spot.start, animate=False)
        elif spot.end > left + width:
            self.scroll_to(x=min(spot.start, spot.end - width), animate=False)

    # Keys and mouse.

    def action_cursor(self, step: int) -> None:
        y = self._at
        while 0 <= (y := y + step) < self.count:
            if self._spots[y]:
                self._move(y)
                return
        self.scroll_relative(y=step, animate=False)

    def action_beside(self, step: int) -> None:
        """The next item of the row; behind the last one the first of the next row."""
        spot = self.spot
        if spot is None:
            return
        row = self._spots[self._at]
        place = row.index(spot) + step
        if 0 <= place < len(row):
            self._to(self._at, row[place].start)
            return
        rows = range(self._at + 1, self.count) if step > 0 else range(self._at - 1, -1, -1)
        for y in rows:
            if self._spots[y]:
                self._to(y, self._spots[y][0 if step > 0 else -1].start)
                return

    def on_click(self, event: events.Click) -> None:
        # Before the view's own, which knows whole lines only.
        event.prevent_default()
        y, x = event.y + self.scroll_offset.y, event.x + self.scroll_offset.x
        spot = next((one for one in (self._spots[y] if 0 <= y < self.count else ()) if one.start <= x < one.end), None)
        if spot is None:
            return
        if (y, spot) == (self._at, self.spot):
            self.action_choose()
        else:
            self._to(y, spot.start)

    # Drawing.

    def _refresh_changes(self, before: Sequence[Line], now: Sequence[Line]) -> None:
        # What is lit are pieces of lines, and may be others where the lines are the same.
        self.refresh()

    def _refresh_items(self, *keys: Hashable | None) -> None:
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width, base = self.size.width, self.rich_style
        scroll_x, scroll_y = self.scroll_offset
        y += scroll_y
        segments: list[Segment] = []
        plain_signs = self.has_class("-ascii")
        key = self.cursor
        over = self.role_style("cursor" if self.has_focus else "cursor-blur") if key is not None else Style()
        column = 0
        for text, role in self.line_at(y).spans if y < self.count else ():
            lit = key is not None and any(spot.key == key and spot.start <= column < spot.end for spot in self._spots[y])
            style = base + self.role_style(role)
            if lit:
                style = base + over if self.has_focus else style + over
            segments.append(Segment(in_ascii(text) if plain_signs else text, style))
            column += width_of(text)
        strip = Strip(segments)
        if scroll_x:
            strip = strip.crop(scroll_x)
        return strip.extend_cell_length(width, base).crop(0, width)


def _spots(pieces: Row) -> tuple[Spot, ...]:
    found: list[Spot] = []
    column = 0
    for piece in pieces:
        end = column + width_of(piece.text)
        if piece.key is not None and end > column:
            if found and found[-1].key == piece.key and found[-1].end == column:
                found[-1] = found[-1]._replace(end=end)
            else:
                found.append(Spot(column, end, piece.key))
        column = end
    return tuple(found)
