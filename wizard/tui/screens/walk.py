"""A translation to step through: the steps at one side, the one under the cursor whole at the other, with the event record that came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical

from wizard.base.glyphs import UNICODE, Glyphs
from wizard.picture import walktext
from wizard.picture.pieces import Drawing, plain
from wizard.picture.walk import Walk
from wizard.tui.lines import Line, labelled
from wizard.tui.screens.dialogs import Dialog
from wizard.tui.widgets.bars import Keys
from wizard.tui.widgets.lines import Build, LinesView
from wizard.tui.widgets.picture import PictureView


class WalkScreen(Dialog):
    """Walks below each other; up and down step through them."""

    DEFAULT_CSS = """
    WalkScreen {
        align: center middle;
        & > #box {
            width: 100%; height: 1fr; background: $background; border: round $primary; padding: 0 1;
            border-title-style: bold; border-title-color: $primary;
        }
        #head { height: auto; max-height: 5; display: none; }
        #both { layout: vertical; height: 1fr; }
        #steps { height: 1fr; }
        #stop { height: 45%; border-top: solid $panel; }
        &.-wide #head { max-height: 6; }
        &.-wide #both { layout: horizontal; }
        &.-wide #steps { width: 1fr; }
        &.-wide #stop { width: 46%; height: 1fr; border-top: none; border-left: solid $panel; padding: 0 0 0 1; }
    }
    WalkScreen.-ascii > #box { border: ascii $primary; }
    """
    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-narrow"), (110, "-wide")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "cancel", "Back", id="back"),
        Binding("n", "fault", "To the fault", id="to-fault"),
        Binding("tab", "app.focus_next", "Other pane", id="other-pane"),
        Binding("c", "copy", "Copy", id="copy-text"),
    ]

    def __init__(self, title: str, walks: Sequence[Walk], glyphs: Glyphs = UNICODE, *, head: Build | None = None) -> None:
        super().__init__(title)
        self.walks = tuple(walks)
        self._glyphs = glyphs
        self._head = head

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield LinesView(id="head")
            with Container(id="both"):
                yield PictureView(id="steps")
                yield LinesView(id="stop")
        yield Keys()

    def on_mount(self) -> None:
        super().on_mount()
        head = self.query_one("#head", LinesView)
        head.can_focus = False
        head.display = self._head is not None
        self.query_one("#steps").focus()
        self.call_after_refresh(self._show)

    def _show(self) -> None:
        if self._head is not None:
            self.query_one("#head", LinesView).show(self._head)
        view = self.query_one("#steps", PictureView)
        view.draw(self._drawing)
        self._tell(view.cursor)
        self.ready.set()

    def _drawing(self, width: int) -> Drawing:
        return walktext.draw(self.walks, width, self._glyphs)

    def _tell(self, key: object) -> None:
        def build(width: int) -> list[Line]:
            match key:
                case ("stop", int(walk), int(number)):
                    return list(labelled(walktext.told(self.walks[walk].stops[number], self.walks[walk]), width))
            return []

        self.query_one("#stop", LinesView).show(build, top=True)

    @on(LinesView.Moved, "#steps")
    def _moved(self, event: LinesView.Moved) -> None:
        self._tell(event.key)

    @on(LinesView.Chosen)
    def _chosen(self) -> None:
        # Enter is the next step, and behind the last one the way out.
        view = self.query_one("#steps", PictureView)
        before = view.cursor
        view.action_cursor(1)
        if view.cursor == before:
            self.dismiss(None)

    def action_fault(self) -> None:
        """The next access that ends in a fault."""
        view = self.query_one("#steps", PictureView)
        faults = [("stop", place, walk.fault) for place, walk in enumerate(self.walks) if walk.fault is not None]
        if faults:
            here = faults.index(view.cursor) if view.cursor in faults else -1
            view.go_to(faults[(here + 1) % len(faults)])

    def action_copy(self) -> None:
        self.app.copy(plain(self._drawing(100)))  # type: ignore[attr-defined]
