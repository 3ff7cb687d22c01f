"""Search in a view of lines: what ``/`` opens on every screen that has no filter of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input, Static

from wizard.tui.widgets.bars import Bar
from wizard.tui.widgets.lines import LinesView


class Words(Input):
    """One line that is gone back from by enter: at once, so that the key behind it is the view's and no letter of this line."""

    def __init__(self, back: Callable[[], Widget], *, placeholder: str, id: str | None = None) -> None:
        super().__init__(placeholder=placeholder, select_on_focus=False, compact=True, id=id)
        self._back = back

    async def action_submit(self) -> None:
        self.screen.set_focus(self._back())
        await super().action_submit()


class Find(Horizontal):
    """A line of input below the view, with how much was found. Enter goes back to the view, where n and N go on; escape ends the search."""

    DEFAULT_CSS = """
    Find {
        height: 1;
        background: $boost;
        & > Input { width: 1fr; border: none; padding: 0 1; background: $boost; }
        & > Static { width: auto; padding: 0 1; color: $foreground 60%; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "end", "End search", id="end-search")]

    def __init__(self, view: LinesView) -> None:
        super().__init__()
        self.view = view

    def compose(self) -> ComposeResult:
        yield Words(lambda: self.view, placeholder="words as they stand in a line")
        yield Static()

    @property
    def box(self) -> Input:
        """Where the words are typed."""
        return self.query_one(Input)

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self.view.search(event.value)
        self.say()

    def say(self) -> None:
        """How many lines have the words, and which of them is shown."""
        place, count = self.view.search_place
        words = f"{place} of {count} · n next, N previous, escape ends" if count else "not found" if self.view.searched else ""
        self.query_one(Static).update(Text(words))

    def action_end(self) -> None:
        self.view.search("")
        self.screen.set_focus(self.view)
        self.remove()


def focus_when_shown(screen: Screen[Any], box: Callable[[], Widget | None]) -> None:
    """Give the focus to a box that is being shown. The letters that follow belong into it.

    The caller has cleared the screen's ``ready`` in the key's own action: keys wait until the box can take them.
    """

    def look() -> None:
        found = box()
        if found is None or not found.focusable:
            screen.set_timer(0.01, look)
            return
        screen.set_focus(found)
        screen.ready.set()  # type: ignore[attr-defined]

    screen.call_after_refresh(look)


def follow(event: LinesView.Search) -> None:
    """Show the search of a view: open it, say where it is, or end it. A screen has one; that of another view ends."""
    view = event.view
    screen = view.screen
    found = next(iter(screen.query(Find)), None)
    if event.what != "open":
        if found is not None:
            found.say() if event.what == "moved" else found.action_end()
        return
    if found is not None and found.view is not view:
        found.view.search("")
        found.view = view
    if found is None:
        # Above the bars at the foot, which every screen and every dialog has.
        foot = [bar for bar in screen.query(Bar) if bar.id in ("job", "command", "keys")]
        screen.mount(found := Find(view), before=foot[0])
    shown = found
    focus_when_shown(screen, lambda: shown.box if shown.is_mounted and shown.query(Input) else None)
