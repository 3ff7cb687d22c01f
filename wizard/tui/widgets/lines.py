"""A view of lines that draws only what is on the screen: the base of every list, table, tree and text of the wizard."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Sequence
from typing import ClassVar, Literal

from rich.markup import escape
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from wizard.base.text import visible
from wizard.tui.lines import Line, folded
from wizard.tui.widgets.painted import PaintedLines

Build = Callable[[int], Sequence[Line]]


class LinesView(PaintedLines, can_focus=True):
    """Lines, of which those with a key can be chosen. Neighbouring lines with the same key are one item."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "cursor(-1)", "Up", show=False, id="up"),
        Binding("down,j", "cursor(1)", "Down", show=False, id="down"),
        Binding("enter", "choose", "Open", show=False, id="choose"),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False, id="page-up"),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False, id="page-down"),
        Binding("ctrl+u", "page(-0.5)", "Half a page up", show=False, id="half-up"),
        Binding("ctrl+d", "page(0.5)", "Half a page down", show=False, id="half-down"),
        Binding("home,g", "edge(0)", "First", show=False, id="first"),
        Binding("end,G", "edge(1)", "Last", show=False, id="last"),
        Binding("shift+left,H", "sideways(-8)", "Scroll left", show=False, id="scroll-left"),
        Binding("shift+right,L", "sideways(8)", "Scroll right", show=False, id="scroll-right"),
        Binding("z", "fold_lines", "Fold long lines", show=False, id="fold-lines"),
        Binding("slash", "find", "Search", key_display="/", show=False, id="search"),
        Binding("n", "find_next(1)", "Next found", show=False, id="next-found"),
        Binding("N", "find_next(-1)", "Previous found", show=False, id="previous-found"),
        Binding("escape", "end_find", "End search", show=False, id="end-found"),
    ]
    SEARCHED: ClassVar[bool] = True  # "/" searches its lines

    class Moved(Message):
        """The cursor is on another item."""

        def __init__(self, view: LinesView, key: Hashable | None) -> None:
            super().__init__()
            self.view = view
            self.key = key

        @property
        def control(self) -> LinesView:
            return self.view

    class Chosen(Message):
        """An item was chosen, by enter or a click on where the cursor was already."""

        def __init__(self, view: LinesView, key: Hashable | None) -> None:
            super().__init__()
            self.view = view
            self.key = key

        @property
        def control(self) -> LinesView:
            return self.view

    class Search(Message):
        """The search of this view is to open, has gone on, or is to end: the screen shows it."""

        def __init__(self, view: LinesView, what: Literal["open", "moved", "end"]) -> None:
            super().__init__()
            self.view = view
            self.what = what

    def __init__(self, *, id: str | None = None, classes: str | None = None, wide: bool = False, title: str | None = None) -> None:
        """``title`` makes it a pane: a line above it with its name, lit while it has the focus."""
        super().__init__(id=id, classes=classes if title is None else f"pane {classes or ''}".strip())
        self.call_it(title)
        self._build: Build | None = None
        self._lines: Sequence[Line] = ()
        self._built_for = -1
        self._at = 0  # line of the cursor
        self._wide = wide  # lines may be longer than the view: it scrolls sideways, or folds them
        self._fold = False
        self.searched = ""  # words that are looked for, as they were typed
        self._found_at = 0  # line of the last one that was found
        self._found_lines: tuple[str, list[int]] = ("", [])  # words, and the lines that have them

    # What is drawn. A subclass that makes its lines one by one overrides these three.

    @property
    def count(self) -> int:
        """How many lines there are."""
        return len(self._lines)

    def line_at(self, y: int) -> Line:
        """One line."""
        return self._lines[y]

    def key_at(self, y: int) -> Hashable | None:
        """The key of one line."""
        return self._lines[y].key

    def call_it(self, title: str | None) -> None:
        """Another title; text from outside is shown as it is."""
        self.border_title = None if title is None else escape(visible(title))

    def show(self, build: Build, *, top: bool = False) -> None:
        """Lines built for the width that there is; again when it changes. The cursor stays with its item, if that is still there."""
        self._build = build
        if top:
            self._at = 0
            self.scroll_to(0, 0, animate=False)
        self._rebuild()

    def _rebuild(self) -> None:
        if self._build is None or not self.size.width:
            self._built_for = 0  # out of sight: made when there is a width, also when it is the one before
            return
        key, before, lines = self.cursor, self._at, self._lines
        self._built_for = self.size.width
        width = max(10, self.size.width - 2)  # a margin, and the scrollbar that may come
        self._lines = list(self._build(width))
        if self._fold:
            self._lines = list(folded(self._lines, width, ">"))
        self._found_lines = ("", [])
        self._refresh_changes(lines, self._lines)
        self.lines_changed()
        self._put(key, before)
        self._refresh_items(key, self.cursor)

    def lines_changed(self) -> None:
        """The number or the width of the lines may be another."""
        self._resize_content(max((len(one.text) for one in self._lines), default=0) + 1 if self._wide and not self._fold else self.size.width)

    def _put(self, key: Hashable | None, before: int) -> None:
        # The same item; where it is gone, the one that took its place.
        place = None if key is None else self._place_of(key, min(before, max(0, self.count - 1)))
        if place is not None:
            self._at = self._top(place)
            return
        self._at = self._nearest(min(before, max(0, self.count - 1)))
        if self.cursor != key:
            self.post_message(self.Moved(self, self.cursor))

    def _place_of(self, key: Hashable, near: int) -> int | None:
        """The line of an item that is nearest to another line."""
        count = self.count
        for distance in range(count):
            for y in (near + distance, near - distance):
                if 0 <= y < count and self.key_at(y) == key:
                    return y
        return None

    @property
    def cursor(self) -> Hashable | None:
        """The key of the item under the cursor."""
        return self.key_at(self._at) if 0 <= self._at < self.count else None

    @property
    def cursor_line(self) -> int:
        """Its line."""
        return self._at

    def go_to(self, key: Hashable) -> bool:
        """Put the cursor on an item; False when there is none of that key."""
        place = self._place_of(key, 0)
        if place is not None:
            self._move(place)
        return place is not None

    def _top(self, y: int) -> int:
        key = self.key_at(y)
        while y > 0 and self.key_at(y - 1) == key:
            y -= 1
        return y

    def _nearest(self, y: int) -> int:
        for distance in range(self.count):
            for candidate in (y + distance, y - distance):
                if 0 <= candidate < self.count and self.key_at(candidate) is not None:
                    return self._top(candidate)
        return 0

    def _move(self, y: int) -> None:
        old = self.cursor
        self._at = self._top(y)
        self._reveal()
        self._refresh_items(old, self.cursor)
        if self.cursor != old:
            self.post_message(self.Moved(self, self.cursor))

    def _reveal(self) -> None:
        last = self._at
        while last + 1 < self.count and self.key_at(last + 1) == self.cursor and last - self._at < self.size.height - 1:
            last += 1
        top, height = self.scroll_offset.y, max(1, self.scrollable_content_region.height)
        # Lines without a key above the first item are its heading: show them with it.
        first = self._at
        while first > 0 and self.key_at(first - 1) is None and self._at - first < 2:
            first -= 1
        if first < top:
            self.scroll_to(y=first, animate=False)
        elif last >= top + height:
            self.scroll_to(y=last - height + 1, animate=False)

    # Search.

    def _found(self) -> list[int]:
        words = self.searched.casefold()
        before, lines = self._found_lines
        if words and words != before:
            # A letter more: only what had the letters before can have it. n and N ask for the same words again.
            among = lines if before and before in words else range(self.count)
            self._found_lines = words, [y for y in among if words in self.line_at(y).text.casefold()]
        return self._found_lines[1] if words else []

    @property
    def search_place(self) -> tuple[int, int]:
        """Which of the lines that have the words is the one shown last, from 1, and how many have them."""
        found = self._found()
        place = bisect_left(found, self._found_at)
        return (place + 1 if found[place : place + 1] == [self._found_at] else 0), len(found)

    def search(self, words: str) -> None:
        """Go to the first line from here on that has the words, in either case; "" ends the search."""
        if not self.searched:
            self._found_at = self._at if self.cursor is not None else self.scroll_offset.y
        begins_or_ends = bool(words) != bool(self.searched)
        self.searched = words
        if begins_or_ends:
            self.refresh_bindings()  # n, N and escape are the view's own while one searches: the keys below say so
        found = self._found()
        if found:
            self._go_to_line(found[bisect_left(found, self._found_at) % len(found)])

    def _go_to_line(self, y: int) -> None:
        self._found_at = y
        if self.key_at(y) is not None:
            self._move(y)
        top, height = self.scroll_offset.y, max(1, self.scrollable_content_region.height)
        if not top <= y < top + height:
            self.scroll_to(y=max(0, y - height // 2), animate=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("find_next", "end_find"):
            return bool(self.searched)
        return self.SEARCHED if action == "find" else super().check_action(action, parameters)

    def action_find(self) -> None:
        # At once: the next key comes before the message does.
        self.screen.ready.clear()  # type: ignore[attr-defined]
        self.post_message(self.Search(self, "open"))

    def action_find_next(self, step: int) -> None:
        found = self._found()
        if found:
            place = bisect_right(found, self._found_at) if step > 0 else bisect_left(found, self._found_at) - 1
            self._go_to_line(found[place % len(found)])
        self.post_message(self.Search(self, "moved"))

    def action_end_find(self) -> None:
        self.post_message(self.Search(self, "end"))

    # Keys and mouse.

    def action_cursor(self, step: int) -> None:
        y, key = self._at, self.cursor
        if key is None:
            self.scroll_relative(y=step, animate=False)
            return
        while 0 <= (y := y + step) < self.count:
            found = self.key_at(y)
            if found is not None and found != key:
                self._move(y)
                return
        self.scroll_relative(y=step, animate=False)

    def action_page(self, pages: float) -> None:
        step = int(max(1, self.scrollable_content_region.height - 1) * pages) or (1 if pages > 0 else -1)
        if self.cursor is None:
            self.scroll_relative(y=step, animate=False)
        else:
            self._move(self._nearest(max(0, min(self.count - 1, self._at + step))))

    def action_edge(self, end: int) -> None:
        if self.cursor is None:
            self.scroll_to(y=self.count if end else 0, animate=False)
        else:
            self._move(self._nearest(self.count - 1 if end else 0))
            # What is above the first item and below the last comes into view as far as the item stays.
            height = max(1, self.scrollable_content_region.height)
            self.scroll_to(y=min(self._at, self.count - height) if end else max(0, self._at - height + 1), animate=False)

    def action_sideways(self, step: int) -> None:
        self.scroll_relative(x=step, animate=False)

    def action_fold_lines(self) -> None:
        if self._wide:
            self._fold = not self._fold
            self.scroll_to(x=0, animate=False)
            self._rebuild()

    def action_choose(self) -> None:
        if self.cursor is not None:
            self.post_message(self.Chosen(self, self.cursor))
        else:
            # A text without items: enter means what the screen makes of it.
            self.post_message(self.Chosen(self, None))

    def on_click(self, event: events.Click) -> None:
        y = event.y + self.scroll_offset.y
        if not 0 <= y < self.count or (key := self.key_at(y)) is None:
            return
        if key == self.cursor:
            self.action_choose()
        else:
            self._move(y)

    def on_mount(self) -> None:
        self.set_class(self.app.has_class("-ascii"), "-ascii")
        self._refresh_scrollbars()

    def on_resize(self) -> None:
        if self._build is not None and self._built_for != self.size.width:
            self._rebuild()
        else:
            self.lines_changed()
            self.refresh()
        self._reveal()

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()
