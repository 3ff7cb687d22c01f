"""What is painted by the line is what a whole refresh would paint, cell for cell: keys at random, at several sizes of the terminal."""

from __future__ import annotations

import random
from typing import Any

import pytest
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual._context import visible_screen_stack
from textual._styles_cache import StylesCache
from textual.app import App
from textual.strip import Strip
from textual.widget import Widget

from tests.tools.hosts import host
from tests.tui.conftest import press, settle, until
from wizard.facts.source import Source, SourceKind
from wizard.tui.app import WizardApp
from wizard.tui.config import Config
from wizard.tui.widgets.painted import PaintedLines

Cell = tuple[str, Style | None]

KEYS = [*["down", "up", "pagedown", "pageup", "home", "end", "space", "M", "tab", "shift+tab", "left", "right", "t", "m"] * 2, "1", "2", "5", "6"]
GESTURES = [
    ["slash", "v", "f", "backspace", "enter"],
    ["slash", "n", "enter", "n", "N", "escape"],
    ["i", "down", "end", "slash", "a", "enter", "n"],
    ["end", "a", "down"],
]


class Terminal(WizardApp):
    """Keeps what a terminal would show: what the updates wrote, and nothing else."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.cells: dict[tuple[int, int], Cell] = {}
        self.partial = 0

    def _display(self, screen: Any, renderable: Any) -> None:
        super()._display(screen, renderable)
        if self._batch_count or renderable is None:
            return
        # As the two write: each strip at its place, cropped to the span that is written (textual/_compositor.py of 8.2.8).
        if isinstance(renderable, LayoutUpdate):
            for y, line in enumerate(renderable.strips, renderable.region.y):
                self._write(renderable.region.x, y, Strip.join(list(line)))
        elif isinstance(renderable, ChopsUpdate):
            self.partial += 1
            for y, start, end in renderable.spans:
                for to, (x, strip) in zip(renderable.chop_ends[y], renderable.chops[y].items(), strict=False):
                    if strip is not None and x <= end and to > start:
                        self._write(x, y, strip.crop(0, min(to, end) - x))
        else:
            raise AssertionError(renderable)

    def _write(self, x: int, y: int, strip: Strip) -> None:
        for cell in _cells(strip):
            self.cells[x, y] = cell
            x += 1


def _cells(strip: Strip) -> list[Cell]:
    found: list[Cell] = []
    for text, style, _ in strip:
        for sign in text:
            found += [(sign, style)] + [("", style)] * (Segment(sign).cell_length - 1)
    return found


def whole(app: App[Any]) -> dict[tuple[int, int], Cell]:
    """The screen with nothing taken from what was drawn before; what was drawn stays as it is, for the keys that follow."""
    names = ("_styles_cache", "_render_cache", "_dirty_regions", "_drawn", "_styles_by_role")
    widgets = [one for one in app.screen.walk_children(with_self=True) if isinstance(one, Widget)]
    kept = [(one, {name: getattr(one, name) for name in names if hasattr(one, name)}) for one in widgets]
    for one in widgets:
        one._styles_cache, one._dirty_regions = StylesCache(), {one.size.region}
        if isinstance(one, PaintedLines):
            one._drawn, one._styles_by_role = {}, {}
    visible_screen_stack.set(app._background_screens)  # what shines through a dialog
    strips = app.screen._compositor.render_strips(app.size)
    for one, before in kept:
        for name, value in before.items():
            setattr(one, name, value)
    return {(x, y): cell for y, strip in enumerate(strips) for x, cell in enumerate(_cells(strip))}


@pytest.mark.parametrize(("size", "then", "seed"), [((120, 40), (80, 24), 1), ((80, 24), (50, 12), 2), ((40, 8), (120, 36), 3)])
async def test_the_screen_is_what_a_whole_refresh_shows(size: tuple[int, int], then: tuple[int, int], seed: int) -> None:
    rng = random.Random(seed)
    name = "arm64-virt-canwbs"
    app = Terminal(host(name), source=Source(SourceKind.REPLAY, f"{name}.json"), config=Config(ascii=False))
    typed: list[str] = []
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        for step in range(8):
            if step == 4:
                await pilot.resize_terminal(*then)
            keys = rng.choice(GESTURES) if rng.random() < 0.2 else [rng.choice(KEYS) for _ in range(rng.randint(1, 4))]
            for key in keys:
                typed.append(key)
                app.simulate_key(key)
            await until(pilot, lambda: app._turn == len(typed) and not app._typing)
            await settle(pilot)

            def same() -> bool:
                return {at: cell for at, cell in app.cells.items() if at[0] < app.size.width and at[1] < app.size.height} == whole(app)

            await until(pilot, same)
            if len(app.screen_stack) > 1:
                typed.append("escape")
                await press(pilot, "escape")
    assert app.partial > 3, typed
