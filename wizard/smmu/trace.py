"""The story of one translation: which word was read where, what it meant, and why it ended so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wizard.arch.bits import Record


def told(record: Record, *always: str) -> dict[str, int]:
    """The fields of a structure that say something: those that are not zero, and those of ``always``."""
    return {name: content for name, content in record.fields().items() if content or name in always}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened. ``address`` and ``words`` are set when memory was read; ``detail`` holds named numbers."""

    what: str
    text: str
    address: int | None = None
    words: tuple[int, ...] = ()
    detail: tuple[tuple[str, int], ...] = ()


@dataclass(slots=True)
class Trace:
    """Steps in order."""

    steps: list[Step] = field(default_factory=list)

    def add(self, what: str, text: str, address: int | None = None, words: tuple[int, ...] = (), **detail: int) -> None:
        """Append a step."""
        self.steps.append(Step(what, text, address, words, tuple(detail.items())))

    def as_json(self) -> list[dict[str, Any]]:
        """The steps as plain data; numbers as hexadecimal strings."""
        listed: list[dict[str, Any]] = []
        for step in self.steps:
            entry: dict[str, Any] = {"what": step.what, "text": step.text}
            if step.address is not None:
                entry["address"] = f"{step.address:#x}"
            if step.words:
                entry["words"] = [f"{word:#x}" for word in step.words]
            if step.detail:
                entry["detail"] = {name: f"{value:#x}" for name, value in step.detail}
            listed.append(entry)
        return listed
