"""The lines above and below a screen: the tabs, the names of columns, the job, the command that does the same, the keys."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.dom import DOMNode
from textual.widget import Widget

from wizard.base.text import visible
from wizard.tui.job import State, Step, next_step
from wizard.tui.lines import cut, in_ascii

_DIRECTORIES = re.compile(r"(?<=[ '])[^ ']*/(?=[^ /'])")

Piece = tuple[str, str, str | None, DOMNode | None]  # text, rich style, action, the node whose action it is


class Bar(Widget):
    """A line of pieces, some of which can be clicked; a piece "\\n" begins another line."""

    DEFAULT_CSS = """
    Bar { height: 1; width: 100%; background: $panel; color: $foreground; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._places: list[tuple[int, int, int, str, DOMNode | None]] = []  # line, from, to, action, whose

    def pieces(self) -> Iterable[Piece]:
        """From left to right."""
        return ()

    def right(self) -> str:
        """Text at the right end, shown when there is room."""
        return ""

    def render(self) -> Text:
        text, column, row = Text(no_wrap=True, overflow="ellipsis", end=""), 0, 0
        self._places = []
        poor = self.app.has_class("-ascii")
        for piece, style, action, node in self.pieces():
            if piece == "\n":
                column, row = 0, row + 1
                text.append(piece)
                continue
            piece = in_ascii(piece) if poor else piece
            wide = cell_len(piece)
            if action:
                self._places.append((row, column, column + wide, action, node))
            text.append(piece, style)
            column += wide
        right, room = in_ascii(self.right()) if poor else self.right(), self.size.width - column - 2
        if right and room >= 12:
            text.append(" " * max(1, room - cell_len(right)) + (right if cell_len(right) <= room else cut(right, room, "~" if poor else "…")), "dim")
        return text

    async def on_click(self, event: events.Click) -> None:
        for row, start, end, action, node in self._places:
            if row == event.y and start <= event.x < end:
                await self.app.run_action(action, node or self.screen)
                return


class Tabs(Bar):
    """The screens and the host."""

    def __init__(self, tabs: Iterable[tuple[str, str, str]], here: str, host: str) -> None:
        super().__init__(id="tabs")
        self._tabs = tuple(tabs)
        self._here = here
        self._host = visible(host)

    def pieces(self) -> Iterable[Piece]:
        # Narrow terminals keep the numbers and the name of where one is.
        roomy = sum(len(key) + len(label) + 3 for key, _, label in self._tabs) <= self.size.width
        for key, name, label in self._tabs:
            here = name == self._here
            text = f" {key} {label} " if roomy or here else f" {key} "
            yield text, "reverse bold" if here else "", f"app.go('{name}')", None

    def right(self) -> str:
        return self._host


class Columns(Bar):
    """The names of a table's columns."""

    DEFAULT_CSS = """
    Columns { background: $background; color: $foreground 60%; }
    """

    def __init__(self, id: str = "columns") -> None:
        super().__init__(id=id)
        self.words = ""

    def say(self, words: str) -> None:
        """Another line."""
        if words != self.words:
            self.words = words
            self.refresh()

    def pieces(self) -> Iterable[Piece]:
        yield self.words, "", None, None


class Command(Bar):
    """The command that does the same without a terminal; a click copies it."""

    DEFAULT_CSS = """
    Command { background: $background; color: $foreground 60%; }
    """

    def __init__(self) -> None:
        super().__init__(id="command")
        self.words = ""
        self._hint = ""

    def say(self, words: str) -> None:
        """Another command."""
        if (words, "") != (self.words, self._hint):
            self.words, self._hint = words, ""
            self.refresh()

    def hint(self, text: str) -> None:
        """What the field under the cursor is for, in place of the command."""
        self._hint = text
        self.refresh()

    def pieces(self) -> Iterable[Piece]:
        room = self.size.width
        text = visible(self._hint) if self._hint else f"$ {visible(self.words)}"
        if not self._hint and cell_len(text) > room:
            # Directories give way first: what it does stands behind them. What is copied is whole, and so is the command under "?".
            text = _DIRECTORIES.sub("…/", text)
            source = " ".join(_DIRECTORIES.sub("…/", f" {shlex.quote(word)}")[1:] for word in getattr(self.app, "source_words", ()))
            if source and cell_len(text) > room:
                text = text.replace(visible(source), "…", 1)
        yield cut(text, room) if cell_len(text) > room else text, "", None if self._hint else "app.copy_command", None


class Job(Bar):
    """The whole job: each step with how it stands, a click goes there; at the right what the key for the next step does."""

    DEFAULT_CSS = """
    Job { background: $surface; }
    """
    STYLES: ClassVar[dict[State, str]] = {State.DONE: "", State.WARN: "", State.OPEN: "dim", State.BAD: "bold"}

    def __init__(self) -> None:
        super().__init__(id="job")
        self.steps: list[Step] = []
        self._key = self._next = ""

    def tell(self, steps: list[Step], key: str) -> None:
        """How the job stands; ``key`` is the one that goes on with it."""
        self.steps = steps
        step = next_step(steps)
        self._key, self._next = key, f"{key} {step.does}" if step is not None else ""
        self.refresh()

    def pieces(self) -> Iterable[Piece]:
        coming = next_step(self.steps)
        words = [f"{self._key} {step.words}" if step is coming else step.words for step in self.steps]
        gap = next((one for one in (" · ", "  ") if cell_len(one.join(words)) < self.size.width), " ")
        yield " ", "", None, None
        for place, (step, text) in enumerate(zip(self.steps, words, strict=True)):
            if place:
                yield gap, "dim", None, None
            style = "reverse bold" if step is coming else self.STYLES[step.state]
            yield text, style, "go_on" if step is coming else f"app.go('{step.screen}')", None

    def right(self) -> str:
        return self._next


class Keys(Bar):
    """The keys that work here: those of what has the focus first. What does not fit is under ``?``.

    Where it is two lines high the second goes on with the first; panes, undo, palette and help are always at the end.
    """

    ENTER_ACTIONS: ClassVar[dict[str, str]] = {"Input": "submit"}
    ALWAYS: ClassVar[dict[str, str]] = {"app.focus_next": "Pane", "undo": "Undo", "command_palette": "All", "help": "Help"}

    def __init__(self) -> None:
        super().__init__(id="keys")

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.refresh())

    def pieces(self) -> Iterable[Piece]:
        width, rows = self.size.width, self.size.height
        tail = list(self._tail())
        reserve = sum(len(key) + len(words) + 3 for key, words, _, _ in tail)
        row = column = 0
        for key, words, action, node in self._own():
            wide = len(key) + len(words) + 3
            if row < rows - 1 and column + wide > width:
                row, column = row + 1, 0
                yield "\n", "", None, None
            if column + wide + (reserve if row == rows - 1 else 0) > width:
                continue
            column += wide
            yield f" {key} ", "bold", action, node
            yield f"{words} ", "dim", action, node
        if row < rows - 1 and column + reserve > width:
            column = 0
            yield "\n", "", None, None
        yield " " * max(0, width - column - reserve), "", None, None
        for key, words, action, node in tail:
            yield f" {key} ", "bold", action, node
            yield f"{words} ", "dim", action, node

    def _own(self) -> Iterable[tuple[str, str, str, DOMNode | None]]:
        seen: set[str] = set(self.ALWAYS)
        # enter is the view's own key: what it means is the screen's to say.
        words, node = getattr(self.screen, "ENTER", ""), self.screen.focused
        if words and node is not None:
            yield "enter", words, self.ENTER_ACTIONS.get(type(node).__name__, "choose"), node
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if binding.show and active.enabled and binding.action not in seen:
                seen.add(binding.action)
                yield self.app.get_key_display(binding), binding.description, binding.action, active.node

    def _tail(self) -> Iterable[tuple[str, str, str, DOMNode | None]]:
        found = {active.binding.action: active for active in reversed(self.screen.active_bindings.values())}
        small = self.size.width < 60
        for action, words in self.ALWAYS.items():
            active = found.get(action) if "undo" in found else None  # a question has panes, and none of the rest
            if active is not None and (not small or action == "help"):
                yield self.app.get_key_display(active.binding), words, action, active.node
