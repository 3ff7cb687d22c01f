"""A burst of keys lands as it was typed, however long one of them takes."""

from __future__ import annotations

import asyncio

import pytest
from textual import events
from textual.app import ComposeResult
from textual.widgets import Input

import wizard.tui.keys
from tests.tools.processes import LIMIT, wait_until_async
from wizard.tui.keys import KeysInOrder


class Slow(Input):
    """Takes "/" only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def on_key(self, event: events.Key) -> None:
        if event.key == "slash":
            event.prevent_default()
            await asyncio.wait_for(self.go_on.wait(), LIMIT)


class OneLine(KeysInOrder):
    def compose(self) -> ComposeResult:
        yield Slow()


async def two_waiting(app: OneLine) -> None:
    """A key that is not through, and two behind it."""
    for key in ("slash", "b", "c"):
        app.post_message(events.Key(key, key if len(key) == 1 else "/"))
    await wait_until_async(lambda: len(app._typed) == 2, "two keys to wait")


async def test_a_key_after_the_patience_waits_behind_those_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As over a slow line at a high load: 0000:14:00.0 in the host's filter became 00000:14:0.0."""
    app = OneLine()
    async with app.run_test():
        line = app.query_one(Slow)
        await two_waiting(app)
        monkeypatch.setattr(wizard.tui.keys, "PATIENCE", 0.0)
        for key in ("d", "e"):
            app.post_message(events.Key(key, key))
        await wait_until_async(lambda: app._turn == 3, "d and e to have brought b and c their turn")
        line.go_on.set()
        await wait_until_async(lambda: len(line.value) == 4, "four letters")
        assert line.value == "bcde"


async def test_keys_behind_the_one_that_ends_the_app_are_nobodys() -> None:
    """Ctrl+Q and a few keys more in one burst: no traceback over the shell's prompt."""
    app = OneLine()
    async with app.run_test():
        line = app.query_one(Slow)
        await two_waiting(app)
        app.exit(0)
        line.go_on.set()
    assert app.return_code == 0
