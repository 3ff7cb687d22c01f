"""One key at a time.

Textual hands a key to the widget that has the focus when it arrives: of a burst (a fast typist on a slow line, a script in tmux) the
letters behind "/" would go where the focus was before. So the next key waits until this one is through, its screen is made, and what
was asked before it has had its answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from textual import events, on
from textual.app import App
from textual.dom import DOMNode
from textual.message import Message
from textual.message_pump import MessagePump

PATIENCE = 10.0  # seconds that keys wait for one that is not through, or for its screen; only one whose widget has gone takes so long
LOST = 1.0  # seconds after which somebody looks whether a key's own word of being through can still come
HOLD = 0.01  # seconds that a screen's paint may wait for the key to be through: what takes longer shows how far it is


class KeysInOrder(App[int]):
    """An app that takes the next key when the last one has done what it does."""

    class KeyDone(Message):
        """The key before it is through; ``turn`` says which, for one that comes after the patience with it has ended.

        It goes twice. The app runs a key's action when the key has come up to it (Textual 8.2.8); what the action tells (that a line was
        taken, an item chosen) goes up from the widget once more, and the second ``trip`` is behind that.
        """

        def __init__(self, turn: int, trip: int = 0) -> None:
            super().__init__()
            self.turn = turn
            self.trip = trip

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._typing = False
        self._typing_since = 0.0
        self._turn = 0
        self._target: MessagePump | None = None
        self._answers = 0  # of questions that are gone from the screen, and have not been taken yet
        self._typed: deque[events.Key] = deque()
        self._look: asyncio.TimerHandle | None = None  # for a key's word that does not come
        self._held: asyncio.TimerHandle | None = None  # a paint waits; this is when it is tired of it

    def before_keys(self, answer: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """An answer that is taken before the next key is.

        Textual (8.2.8) calls whoever asked when its own queue comes to it, which on a busy machine is behind the keys after enter: the VM that
        they were meant for was not there yet.
        """
        self._answers += 1

        def answered(value: Any) -> Any:
            try:
                return answer(value)
            finally:
                self._answers = max(0, self._answers - 1)

        return answered

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Key) and not event.is_forwarded:
            self._typed.append(event)
            if not self._typing or time.monotonic() - self._typing_since >= PATIENCE:
                await self._take_next()
            return
        await super().on_event(event)

    async def _take_next(self) -> None:
        """The key that waits longest; never the newest before it, however the patience with the last one ended."""
        if not self._typed or not self.screen_stack:
            return  # without a screen the app has ended behind the last key: there is nobody for those that were typed after it
        self._typing, self._typing_since, self._turn = True, time.monotonic(), self._turn + 1
        target = self.focused or self.screen
        turn = self._turn
        await super().on_event(self._typed.popleft())
        # It goes the way that the key goes, behind it.
        self._target = target
        target.post_message(self.KeyDone(turn))

    @on(KeyDone)
    def _key_done(self, done: KeyDone) -> None:
        if done.turn != self._turn or not self.screen_stack:
            return
        if done.trip == 0:
            again = self.KeyDone(done.turn, 1)
            if self._target is not None and self._target.post_message(again):
                self._look = asyncio.get_running_loop().call_later(LOST, self._look_for, again)
                return
        if self._look is not None:
            self._look.cancel()
            self._look = None
        ready = getattr(self.screen, "ready", None)
        if self._answers or (ready is not None and not ready.is_set()):
            if time.monotonic() - self._typing_since < PATIENCE:
                self.set_timer(0.005, lambda: self._key_done(done))
                return
            self._answers = 0  # whoever asked has gone
        if self._typed:
            # It stays this key's turn till then: one that arrives now waits behind those that are here.
            self._typing_since = time.monotonic()
            self.call_next(self._take_next)
        else:
            self._typing = False
            self.paint_now()

    def _look_for(self, word: KeyDone) -> None:
        """A widget that is taken away tells nobody; one that is there may only be slow, as on a busy machine."""
        slow = isinstance(self._target, DOMNode) and self._target.is_attached and time.monotonic() - self._typing_since < PATIENCE
        if slow and word.turn == self._turn:
            self._look = asyncio.get_running_loop().call_later(LOST, self._look_for, word)
        else:
            self._key_done(word)

    # One paint for a key; for one with others behind it none, as long as that takes no longer than HOLD.

    def hold_paint(self) -> bool:
        """Whether what a screen would paint now waits: until the last of the keys that were typed is through, or HOLD has passed."""
        if not self._typing or time.monotonic() - self._typing_since >= PATIENCE:
            return False
        if self._held is None:
            self._held = asyncio.get_running_loop().call_later(HOLD, self.paint_now)
        return self._held.when() > asyncio.get_running_loop().time()

    def paint_now(self) -> None:
        """Paint what waits for it."""
        if self._held is not None:
            self._held.cancel()
        paint = getattr(self.screen, "paint_now", None) if self.screen_stack else None
        if paint is not None:
            paint()
        self._held = None
