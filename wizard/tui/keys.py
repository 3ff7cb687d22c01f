"""One key at a time.

Textual hands a key to the widget that has the focus when it arrives: of a burst (a fast typist on a slow line, a script in tmux) the
letters behind "/" would go where the focus was before. So the next key waits until this one is through, and its screen is made.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from textual import events, on
from textual.app import App
from textual.message import Message

PATIENCE = 1.0  # seconds that keys wait for a screen that is being made


class KeysInOrder(App[int]):
    """An app that takes the next key when the last one has done what it does."""

    class KeyDone(Message):
        """The key before it is through."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._typing = False
        self._typing_since = 0.0
        self._typed: deque[events.Key] = deque()

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Key) and not event.is_forwarded:
            if self._typing and time.monotonic() - self._typing_since < PATIENCE:
                self._typed.append(event)
            else:
                await self._take(event)
            return
        await super().on_event(event)

    async def _take(self, event: events.Key) -> None:
        self._typing, self._typing_since = True, time.monotonic()
        target = self.focused or self.screen
        await super().on_event(event)
        # It goes the way that the key goes, behind it.
        target.post_message(self.KeyDone())

    @on(KeyDone)
    def _key_done(self) -> None:
        ready = getattr(self.screen, "ready", None)
        if ready is not None and not ready.is_set() and time.monotonic() - self._typing_since < PATIENCE:
            self.set_timer(0.005, self._key_done)
            return
        self._typing = False
        if self._typed:
            self.call_next(self._take, self._typed.popleft())
