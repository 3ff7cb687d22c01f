"""Lines painted with little: only what is on the screen is drawn, what was drawn stays drawn, and of a change only the lines that it changes.

A whole refresh of a view costs as much as all its lines. A key moves a cursor over two of them, or puts another detail into a view that has most of
its lines in common with the one before.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Self

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from wizard.tui.lines import BLANK, ROLES, Line, in_ascii

KEPT = 1000  # lines that stay drawn: several times the height of any screen


class PaintedLines(ScrollView):
    """What ``count`` and ``line_at`` say, in the theme's colours. ``refresh()`` without regions: any line may be another."""

    COMPONENT_CLASSES = {f"lines--{role}" for role in ROLES if role} | {"lines--cursor", "lines--cursor-blur"}

    DEFAULT_CSS = """
    PaintedLines {
        background: $background;
        color: $foreground;
        overflow-x: hidden;
        scrollbar-size: 1 1;
        & > .lines--dim { color: $foreground 60%; }
        & > .lines--bold { text-style: bold; }
        & > .lines--head { color: $primary; text-style: bold; }
        & > .lines--good { color: $text-success; }
        & > .lines--bad { color: $text-error; }
        & > .lines--warn { color: $text-warning; }
        & > .lines--info { color: $text-primary; }
        & > .lines--accent { color: $text-accent; }
        & > .lines--key { color: $accent; text-style: bold; }
        & > .lines--add { color: $text-success; }
        & > .lines--remove { color: $text-error; }
        & > .lines--c0 { color: ansi_bright_cyan; }
        & > .lines--c1 { color: ansi_bright_magenta; }
        & > .lines--c2 { color: ansi_bright_yellow; }
        & > .lines--c3 { color: ansi_bright_green; }
        & > .lines--c4 { color: ansi_bright_blue; }
        & > .lines--c5 { color: ansi_bright_red; }
        &:light > .lines--c0 { color: #006a80; }
        &:light > .lines--c1 { color: #8a1f7a; }
        &:light > .lines--c2 { color: #7a5c00; }
        &:light > .lines--c3 { color: #1f6b2b; }
        &:light > .lines--c4 { color: #1c4fa0; }
        &:light > .lines--c5 { color: #9c2330; }
        & > .lines--cursor { background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold; }
        & > .lines--cursor-blur { background: $surface; }
        &.-ascii { scrollbar-size: 0 0; }
        &:nocolor > .lines--cursor { text-style: reverse; }
        &:nocolor > .lines--cursor-blur { text-style: underline; }
    }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        # Before Textual's own, which may refresh.
        self._styles_by_role: dict[str, Style] = {}
        self._drawn: dict[tuple[int, bool], Strip] = {}  # (line, whether the cursor is on it), as it was drawn
        self._drawn_by: tuple[object, ...] = ()  # what all of them depend on
        self._base = Style()
        self._cursor_key: Hashable | None = None
        super().__init__(id=id, classes=classes)

    # What is drawn.

    @property
    def count(self) -> int:
        """How many lines there are."""
        return 0

    def line_at(self, y: int) -> Line:
        """One line."""
        return BLANK

    def key_at(self, y: int) -> Hashable | None:
        """The key of one line."""
        return self.line_at(y).key

    @property
    def cursor(self) -> Hashable | None:
        """The key of the lines that are lit."""
        return None

    # What is drawn again.

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        """As Textual's, which calls it with regions for what moves by scrolling: what was drawn is still true then."""
        if repaint and not regions:
            self._drawn.clear()
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def _refresh_lines(self, changed: Iterable[int]) -> None:
        """These lines are others than those drawn; those out of sight are not painted."""
        top, width, height = self.scroll_offset.y, self.size.width, self.size.height
        regions = []
        for y in changed:
            self._drawn.pop((y, False), None)
            self._drawn.pop((y, True), None)
            if top <= y < top + height:
                regions.append(Region(0, y - top, width, 1))
        if regions:
            self.refresh(*regions)

    def _refresh_items(self, *keys: Hashable | None) -> None:
        """The lines of these items are lit, or no longer."""
        top, width = self.scroll_offset.y, self.size.width
        wanted = {key for key in keys if key is not None}
        seen = range(top, min(self.count, top + self.size.height)) if wanted else ()
        regions = [Region(0, y - top, width, 1) for y in seen if self.key_at(y) in wanted]
        if regions:
            self.refresh(*regions)

    def _refresh_changes(self, before: Sequence[Line], now: Sequence[Line]) -> None:
        """Lines took the place of others: those that differ, as far as anything of them was drawn or is in sight."""
        last = max(len(before), len(now))
        here = ((before[y] if y < len(before) else BLANK, now[y] if y < len(now) else BLANK, y) for y in self._known() if y < last)
        self._refresh_lines([y for old, new, y in here if old != new])

    def _known(self) -> list[int]:
        """The lines that were drawn or are in sight, also behind the last that there is."""
        top = self.scroll_offset.y
        return sorted({y for y, _ in self._drawn} | set(range(top, top + self.size.height)))

    def _resize_content(self, width: int) -> None:
        """There are ``count`` lines of ``width`` cells now.

        Textual lays the whole screen out again for another ``virtual_size`` (8.2.8). Only a view that is as high as its lines needs that; for any
        other the scrollbars are told, which ask for it themselves where one comes or goes.
        """
        size = Size(width, self.count)
        if size == self.virtual_size:
            return
        if self.styles.auto_dimensions or not self.container_size:
            self.virtual_size = size
            return
        self.set_reactive(Widget.virtual_size, size)
        self._scroll_update(size)

    # Drawing.

    def notify_style_update(self) -> None:
        """The theme is another."""
        super().notify_style_update()
        self._styles_by_role.clear()
        self._drawn.clear()

    def role_style(self, role: str) -> Style:
        """How a role looks in this theme."""
        style = self._styles_by_role.get(role)
        if style is None:
            style = self._style_of(role) if role else Style()
            self._styles_by_role[role] = style
        return style

    def _style_of(self, role: str) -> Style:
        # The whole style has its colours blended; of it a role has the colour, and only the cursor the background, too.
        whole = self.get_component_rich_style(f"lines--{role}")
        background = whole.bgcolor if role.startswith("cursor") else None
        color = None if role in ("bold", "cursor-blur") else whole.color
        return Style(color=color, bgcolor=background, bold=whole.bold, reverse=whole.reverse, underline=whole.underline)

    def render_lines(self, crop: Region) -> list[Strip]:
        # Style and size are asked once, not for each line: Textual adds the style up from all that is above the view.
        self._cursor_key = self.cursor
        self._base = self.rich_style
        by = (self._base, self.size, self.scroll_offset.x, self.has_focus, self.has_class("-ascii"))
        if by != self._drawn_by or len(self._drawn) > KEPT:
            self._drawn_by = by
            self._drawn.clear()
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        y += self.scroll_offset.y
        lit = self._cursor_key is not None and y < self.count and self.key_at(y) == self._cursor_key
        found = self._drawn.get((y, lit))
        if found is None:
            found = self._drawn[y, lit] = self._draw(self.line_at(y) if y < self.count else BLANK, lit)
        return found

    def _draw(self, one: Line, lit: bool) -> Strip:
        width, base = self.size.width, self._base
        scroll_x = self.scroll_offset.x
        over = self.role_style("cursor" if self.has_focus else "cursor-blur") if lit else Style()
        full = base + over
        focused = bool(over) and self.has_focus
        plain_signs = self.has_class("-ascii")
        segments = [
            Segment(in_ascii(text) if plain_signs else text, full if focused or not role else base + self.role_style(role) + over)
            for text, role in one.spans
        ]
        strip = Strip(segments)
        if scroll_x:
            strip = strip.crop(scroll_x)
        return strip.extend_cell_length(width, full).crop(0, width)
