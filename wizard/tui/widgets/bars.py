"""The lines above and below a screen: the tabs, the names of columns, the command that does the same, the keys."""

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
from wizard.tui.lines import cut, in_ascii

_DIRECTORIES = re.compile(r"(?<=[ '])[^ ']*/(?=[^ /'])")

Piece = tuple[str, str, str | None, DOMNode | None]  # text, rich style, action, the node whose action it is


class Bar(Widget):
    """One line of pieces, some of which can be clicked."""

    DEFAULT_CSS = """
    Bar { height: 1; width: 100%; background: $panel; color: $foreground; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._places: list[tuple[int, int, str, DOMNode | None]] = []

    def pieces(self) -> Iterable[Piece]:
        """From left to right."""
        return ()

    def right(self) -> str:
        """Text at the right end, shown when there is room."""
        return ""

    def render(self) -> Text:
        text, column = Text(no_wrap=True, overflow="ellipsis", end=""), 0
        self._places = []
        poor = self.app.has_class("-ascii")
        for piece, style, action, node in self.pieces():
            piece = in_ascii(piece) if poor else piece
            wide = cell_len(piece)
            if action:
                self._places.append((column, column + wide, action, node))
            text.append(piece, style)
            column += wide
        right, room = in_ascii(self.right()) if poor else self.right(), self.size.width - column - 2
        if right and room >= 12:
            text.append(" " * max(1, room - cell_len(right)) + (right if cell_len(right) <= room else cut(right, room, "~" if poor else "…")), "dim")
        return text

    async def on_click(self, event: events.Click) -> None:
        for start, end, action, node in self._places:
            if start <= event.x < end:
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
        self.status = ""

    def say(self, words: str) -> None:
        """Another command."""
        self.words = words
        self._hint = ""
        self.refresh()

    def hint(self, text: str) -> None:
        """What the field under the cursor is for, in place of the command."""
        self._hint = text
        self.refresh()

    def tell(self, status: str) -> None:
        """Another status at the right end."""
        self.status = status
        self.refresh()

    def pieces(self) -> Iterable[Piece]:
        room = self.size.width - (cell_len(self.status) + 2 if self.status else 0)
        text = visible(self._hint) if self._hint else f"$ {visible(self.words)}"
        if not self._hint and cell_len(text) > room:
            # Directories give way first: what it does stands behind them. What is copied is whole, and so is the command under "?".
            text = _DIRECTORIES.sub("…/", text)
            source = " ".join(_DIRECTORIES.sub("…/", f" {shlex.quote(word)}")[1:] for word in getattr(self.app, "source_words", ()))
            if source and cell_len(text) > room:
                text = text.replace(visible(source), "…", 1)
        yield cut(text, room) if cell_len(text) > room else text, "", None if self._hint else "app.copy_command", None

    def right(self) -> str:
        return self.status


class Keys(Bar):
    """The keys that work here: those of what has the focus first. What does not fit is under ``?``."""

    ENTER_ACTIONS: ClassVar[dict[str, str]] = {"Input": "submit"}

    def __init__(self) -> None:
        super().__init__(id="keys")

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.refresh())

    def pieces(self) -> Iterable[Piece]:
        width, column = self.size.width, 0
        seen: set[str] = set()
        helps = [active.binding for active in self.screen.active_bindings.values() if active.binding.id == "help"][:1]
        tail = [(self.app.get_key_display(binding), binding) for binding in helps]
        reserve = sum(len(key) + len(binding.description) + 3 for key, binding in tail)
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if not binding.show or not active.enabled or binding.action in seen or binding.id == "help":
                continue
            seen.add(binding.action)
            key = self.app.get_key_display(binding)
            wide = len(key) + len(binding.description) + 3
            if column + wide + reserve > width:
                continue
            column += wide
            yield f" {key} ", "bold", binding.action, active.node
            yield f"{binding.description} ", "dim", binding.action, active.node
        # enter is the view's own key: what it means is the screen's to say.
        words, node = getattr(self.screen, "ENTER", ""), self.screen.focused
        if words and node is not None and column + len(words) + 8 + reserve <= width:
            yield " enter ", "bold", self.ENTER_ACTIONS.get(type(node).__name__, "choose"), node
            yield f"{words} ", "dim", self.ENTER_ACTIONS.get(type(node).__name__, "choose"), node
        for key, binding in tail:
            yield f" {key} ", "bold", "app.help", None
            yield f"{binding.description} ", "dim", "app.help", None
