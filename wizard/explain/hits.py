"""What a log was found to hold: its messages, each once with how often it was said."""

from __future__ import annotations

from typing import Any

import msgspec

from wizard.explain.model import Message

_EACH = 250  # hits of one message that are told apart; beyond, they are only counted
_ALL = 2000  # of all messages together
SHOWN = 400  # characters of a line that a hit keeps


class Hit(msgspec.Struct):
    """A message that was found: where first, how often, and what stood in its places."""

    message: Message
    line: int  # from 1
    column: int  # from 0
    text: str  # the line's part that says it
    words: dict[str, str]
    count: int = 1
    events: list[Any] = []  # records of wizard.host.log.model.Event: that room is loaded where there are some
    smmu: str = ""  # the driver's name of the SMMU that an event is of


class Scan(msgspec.Struct):
    """What a log holds."""

    hits: list[Hit]
    lines: int = 0
    recognised: int = 0  # lines that a message was found in
    merged: bool = False  # there were more different ones than are told apart


class Hits:
    """Those that have been found so far; only while a log is read."""

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], Hit] = {}
        self._of_message: dict[str, int] = {}
        self._more: dict[str, Hit] = {}  # id -> the hit that counts what is not told apart
        self.merged = False
        self.touched: list[Hit] = []  # those that were counted last; whoever wants to know empties it before

    def add(self, hit: Hit) -> None:
        """One more."""
        key = (hit.message.id, hit.smmu, *hit.words.items())
        known = self._found.get(key)
        if known is not None:
            known.count += hit.count
            self.touched.append(known)
            return
        each = self._of_message.get(hit.message.id, 0)
        if each >= _EACH or len(self._found) >= _ALL:
            self.merged = True
            more = self._more.setdefault(hit.message.id, hit)
            if more is not hit:
                more.count += hit.count
            self.touched.append(more)
            return
        self.touched.append(hit)
        self._of_message[hit.message.id] = each + 1
        self._found[key] = hit

    def stand_for_more(self, hits: list[Hit]) -> bool:
        """Whether each of these only counts what is not told apart."""
        return all(self._more.get(hit.message.id) is hit for hit in hits)

    def ordered(self) -> list[Hit]:
        """In the order of the log."""
        return sorted((*self._found.values(), *self._more.values()), key=lambda hit: (hit.line, hit.column))
