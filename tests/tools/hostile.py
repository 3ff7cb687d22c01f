"""Places in a snapshot where a stranger may have written anything."""

from __future__ import annotations

from typing import Any


def hostile_places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a text could be something else and the snapshot would still be read: one place for each kind of field."""
    if isinstance(value, str):
        return [path]
    items: Any = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    return [place for key, one in items for place in hostile_places(one, (*path, key))]
