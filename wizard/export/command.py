"""QEMU's options as data: written once, rendered as key=value or as JSON.

In key=value a comma in a value is doubled (QEMU's ``get_opt_value()`` and ``keyval_parse()``); in JSON the values of
``-device``, ``-object`` and ``-blockdev`` are typed as QAPI wants them: an on/off/auto property is a string, a bool a bool.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

Value = str | int | bool | tuple[int, ...]
TYPED = ("-device", "-object", "-blockdev")


@dataclass(frozen=True)
class Option:
    """One option of the command line. ``values`` in order; the key ``driver`` or ``qom-type`` is implied in key=value."""

    flag: str
    values: tuple[tuple[str, Value], ...] = ()
    text: str | None = None  # an option without keys
    comment: str = ""  # what to say above it in a script
    plain: bool = False  # key=value even where others are JSON

    def words(self, *, as_json: bool = False) -> list[str]:
        """The option as it stands on the command line: one word or two."""
        if self.text is not None:
            return [self.flag, self.text]
        if not self.values:
            return [self.flag]
        return [self.flag, self.as_json() if as_json and not self.plain and self.flag in TYPED else self.as_keyval()]

    def as_json(self) -> str:
        """The value in QEMU's JSON syntax."""
        return json.dumps({key: list(value) if isinstance(value, tuple) else value for key, value in self.values}, ensure_ascii=False)

    def as_keyval(self) -> str:
        """The value as ``key=value,key=value``."""
        parts = []
        for key, value in self.values:
            if isinstance(value, tuple):
                # One number: QEMU's string visitor takes "0" and ranges, not host-nodes.0= as other lists.
                parts.append(f"{key}={'-'.join(str(number) for number in (value[0], value[-1])[: len(value)])}")
            elif key in ("driver", "qom-type", "type") and not parts and self.flag != "-blockdev":
                parts.append(_plain(value))
            else:
                parts.append(f"{key}={_plain(value)}")
        return ",".join(parts)

    def get(self, key: str) -> Value | None:
        """One value."""
        return next((value for name, value in self.values if name == key), None)

    def without(self, *keys: str) -> Option:
        """The same without some keys."""
        return replace(self, values=tuple(item for item in self.values if item[0] not in keys))

    def with_values(self, **changes: Value) -> Option:
        """The same with some values replaced, in their place."""
        return replace(self, values=tuple((key, changes.get(key.replace("-", "_"), value)) for key, value in self.values))


def _plain(value: Value) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value).replace(",", ",,")


def device(driver: str, *values: tuple[str, Value | None], comment: str = "") -> Option:
    """``-device``; keys whose value is None are left out."""
    return Option("-device", (("driver", driver), *_given(values)), comment=comment)


def object_(qom_type: str, *values: tuple[str, Value | None], comment: str = "") -> Option:
    """``-object``."""
    return Option("-object", (("qom-type", qom_type), *_given(values)), comment=comment)


def keyed(flag: str, *values: tuple[str, Value | None], comment: str = "") -> Option:
    """Any other option with keys."""
    return Option(flag, _given(values), comment=comment)


def _given(values: tuple[tuple[str, Value | None], ...]) -> tuple[tuple[str, Value], ...]:
    return tuple((key, value) for key, value in values if value is not None)
