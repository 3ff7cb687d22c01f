"""Small questions: one line of text, one of a list, yes or no, something to read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from wizard.base.text import visible
from wizard.tui.keys import KeysInOrder
from wizard.tui.lines import Line, line, wrap
from wizard.tui.painting import PaintedOnce
from wizard.tui.widgets.bars import Keys
from wizard.tui.widgets.lines import Build, LinesView

_BOX = """
    {name} {{
        align: center middle;
        & > #box {{
            width: 76; max-width: 100%; height: auto; max-height: 100%;
            background: $surface; border: round $primary; padding: 0 1;
            border-title-style: bold; border-title-color: $primary;
        }}
        LinesView {{ background: $surface; height: auto; max-height: 60vh; }}
        Input {{ padding: 0; background: $background; }}
        Static {{ height: auto; }}
        #problem {{ color: $text-error; }}
        #note {{ color: $foreground 70%; }}
        Keys {{ dock: bottom; }}
    }}
    {name}.-ascii > #box {{ border: ascii $primary; }}
"""


class Dialog(PaintedOnce, ModalScreen[Any]):
    """A box over the screen. Escape answers None."""

    ENTER: ClassVar[str] = ""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel", id="cancel")]

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = visible(title)
        self.ready = asyncio.Event()  # keys wait for it

    def on_mount(self) -> None:
        box = self.query_one("#box")
        box.border_title = Text(self._title)
        self.set_class(self.app.has_class("-ascii"), "-ascii")

    def on_screen_resume(self) -> None:
        # A dialog that was covered by another one is ready as before; Choose and Read are when their lines are there.
        for box in self.query("#box Input"):
            self.set_focus(box)
            self.ready.set()

    def dismiss(self, result: Any = None) -> AwaitComplete:
        """As Textual's; keys wait until whoever asked has the answer."""
        asked = self._result_callbacks[-1] if self._result_callbacks else None
        if asked is not None and asked.callback is not None and isinstance(self.app, KeysInOrder):
            asked.callback = self.app.before_keys(asked.callback)
        return super().dismiss(result)

    @on(LinesView.Search)
    def _search(self, event: LinesView.Search) -> None:
        from wizard.tui.widgets.find import follow

        follow(event)

    def action_cancel(self) -> None:
        self.dismiss(None)


class Prompt(Dialog):
    """One line of text; ``check`` says why it can't be that. With ``step`` plus and minus take the next sensible value; ``tell`` says what it is."""

    ENTER = "Take it"
    BINDINGS: ClassVar[list[BindingType]] = [
        # Before the input takes them as letters; where there are no steps they are letters.
        Binding("plus,equals_sign,up", "step(1)", "More", key_display="+", priority=True, id="more-in-question"),
        Binding("minus,down", "step(-1)", "Less", key_display="-", priority=True, id="less-in-question"),
    ]

    DEFAULT_CSS = _BOX.format(name="Prompt")

    def __init__(
        self,
        title: str,
        value: str = "",
        *,
        note: str = "",
        check: Callable[[str], str | None] = lambda text: None,
        step: Callable[[str, int], str] | None = None,
        tell: Callable[[str], str] | None = None,
    ) -> None:
        super().__init__(title)
        self._value = value
        self._note = note
        self._check = check
        self._step = step
        self._tell = tell

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Input(self._value, id="input", compact=True, select_on_focus=False)
            yield Static(Text(self._words(self._value)), id="note")
            yield Static(Text(""), id="problem")
        yield Keys()

    def on_mount(self) -> None:
        super().on_mount()
        # What is typed takes the place of the value. Textual (8.2.8) would select it in the input's Focus event, which comes behind the
        # first keys on a busy machine: the next key then took them away with the value.
        self.query_one(Input).action_select_all()

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        problem = self._check(event.value)
        self.query_one("#problem", Static).update(Text(visible(problem or "")))
        if problem is None:
            self.query_one("#note", Static).update(Text(self._words(event.value)))

    def _words(self, value: str) -> str:
        told = self._tell(value) if self._tell is not None else ""
        return visible(self._note) + (f"\n{visible(told)}" if told else "")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self._step is not None if action == "step" else super().check_action(action, parameters)

    def action_step(self, step: int) -> None:
        field = self.query_one(Input)
        if self._step is not None and self._check(field.value) is None:
            field.value = self._step(field.value, step)
            field.action_select_all()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        if self._check(event.value) is None:
            self.dismiss(event.value)


class Choose(Dialog):
    """One of a list; ``build`` makes the lines, those with a key can be chosen."""

    ENTER = "Choose"

    DEFAULT_CSS = _BOX.format(name="Choose")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "cancel", "Cancel", show=False, id="cancel-choice")]

    def __init__(self, title: str, build: Build, *, start: Hashable | None = None) -> None:
        super().__init__(title)
        self._build = build
        self._start = start

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield LinesView(id="choices")
        yield Keys()

    def on_mount(self) -> None:
        super().on_mount()
        view = self.query_one(LinesView)
        view.focus()
        view.styles.height = max(1, len(self._build(70)))
        self.call_after_refresh(self._show)

    def _show(self) -> None:
        view = self.query_one(LinesView)
        view.show(self._build)
        if self._start is None or not view.go_to(self._start):
            view.action_edge(0)
        self.ready.set()

    @on(LinesView.Chosen)
    def _chosen(self, event: LinesView.Chosen) -> None:
        if event.key is not None:
            self.dismiss(event.key)


def choices(text: Sequence[str], items: Sequence[tuple[Hashable, str]]) -> Build:
    """Sentences, then a line for each item."""

    def build(width: int) -> list[Line]:
        lines = [one for sentence in text for one in wrap(sentence, width)]
        return [*lines, *(line(f"  {label}", key=key) for key, label in items)]

    return build


class Read(Dialog):
    """Something to read, as large as the screen; ``c`` copies it."""

    DEFAULT_CSS = """
    Read {
        align: center middle;
        & > #box {
            width: 100%; height: 1fr; background: $background; border: round $primary; padding: 0 1;
            border-title-style: bold; border-title-color: $primary;
        }
        LinesView { height: 1fr; }
    }
    Read.-ascii > #box { border: ascii $primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "cancel", "Back", id="back"),
        Binding("c", "copy", "Copy", id="copy-text"),
    ]

    def __init__(self, title: str, build: Build, *, text: str | None = None, wide: bool = False) -> None:
        super().__init__(title)
        self._build = build
        self._text = text
        self._wide = wide

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield LinesView(id="text", wide=self._wide)
        yield Keys()

    def on_mount(self) -> None:
        super().on_mount()
        view = self.query_one(LinesView)
        view.focus()
        self.call_after_refresh(self._show)

    def _show(self) -> None:
        self.query_one(LinesView).show(self._build)
        self.ready.set()

    @on(LinesView.Chosen)
    def _chosen(self, event: LinesView.Chosen) -> None:
        self.answer(event.key)

    def answer(self, key: Hashable | None) -> None:
        """Enter: it was read."""
        self.dismiss(None)

    def action_copy(self) -> None:
        from wizard.tui.lines import plain

        self.app.copy(self._text if self._text is not None else plain(self._build(100)))  # type: ignore[attr-defined]


class Pick(Read):
    """Something to read in which items can be chosen: enter answers with the key of the one under the cursor."""

    ENTER = "Go to it"

    def __init__(self, title: str, build: Build, *, start: Hashable | None = None) -> None:
        super().__init__(title, build)
        self._start = start

    def _show(self) -> None:
        super()._show()
        if self._start is not None:
            self.query_one(LinesView).go_to(self._start)

    def answer(self, key: Hashable | None) -> None:
        """Enter: that is the one."""
        self.dismiss(key)
