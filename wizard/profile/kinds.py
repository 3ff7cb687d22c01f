"""The kinds of values that a profile has: each reads what TOML gives, writes it back, and says what is allowed.

A kind's ``read`` raises ``ValueError`` for what it does not take; the reader turns that into a finding with file, line and key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wizard.base.address import Address
from wizard.base.text import parse_size, size

Plain = Any  # what TOML and JSON have: text, numbers, booleans, lists, tables


@dataclass(frozen=True)
class ValueKind:
    """One kind of value."""

    allowed: str  # for people, after "write"
    read: Callable[[Plain], Any]
    write: Callable[[Any], Plain]
    schema: Mapping[str, Any]
    item: ValueKind | None = None  # of a list: the kind of each of its items


def _text(value: Plain) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _same(value: Any) -> Plain:
    return value


def _pattern(pattern: str) -> str:
    """The whole text, for every reader of a schema: Python's ``$`` takes a newline at the end for nothing, ECMAScript's does not."""
    return f"^(?:{pattern})(?!\\n)$"


def text(allowed: str = "text", *, pattern: str | None = None, empty: bool = False) -> ValueKind:
    """Text, by a pattern where it has one."""
    known = re.compile(pattern) if pattern else None

    def read(value: Plain) -> str:
        found = _text(value)
        if (not found and not empty) or (known and not known.fullmatch(found)):
            raise ValueError
        return found

    schema: dict[str, Any] = {"type": "string"}
    if pattern:
        schema["pattern"] = _pattern(pattern)
    elif not empty:
        schema["minLength"] = 1
    return ValueKind(allowed, read, _same, schema)


def choice(*words: str, cast: Callable[[str], Any] = str) -> ValueKind:
    """One of several words."""

    def read(value: Plain) -> Any:
        if _text(value) not in words:
            raise ValueError
        return cast(value)

    return ValueKind(_either([f'"{word}"' for word in words]), read, str, {"enum": list(words)})


def _either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]


def _bool(value: Plain) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


BOOL = ValueKind("true or false", _bool, _same, {"type": "boolean"})


def number(low: int, high: int) -> ValueKind:
    """A whole number."""

    def read(value: Plain) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError
        return value

    return ValueKind(f"a whole number from {low} to {high}", read, _same, {"type": "integer", "minimum": low, "maximum": high})


def width(low: int, high: int) -> ValueKind:
    """A number of bits, or "auto"."""
    bits = number(low, high)

    def read(value: Plain) -> int | str:
        return "auto" if value == "auto" else int(bits.read(value))

    return ValueKind(f'{bits.allowed}, or "auto"', read, _same, {"anyOf": [dict(bits.schema), {"const": "auto"}]})


SWITCH = choice("on", "off", "auto")
_BYTES = number(0, 10**17 - 1)
# As many digits of each unit as stay below 100 PiB, so that a schema, which can't multiply, draws the same line.
_DIGITS = {"Kk": 14, "Mm": 11, "Gg": 8, "Tt": 5, "Pp": 2}
_SIZE_PATTERN = "|".join(["[0-9]{1,17} ?[bB]?", *(f"[0-9]{{1,{digits}}} ?[{unit}]([iI]?[bB])?" for unit, digits in _DIGITS.items())])
_SIZE = re.compile(_SIZE_PATTERN)


def _size(value: Plain) -> int:
    if not isinstance(value, str):
        return int(_BYTES.read(value))
    if not _SIZE.fullmatch(value):
        raise ValueError
    return parse_size(value)


SIZE = ValueKind(
    'a size such as "4G" or "512M", or a number of bytes',
    _size,
    lambda value: size(value) if value else 0,
    {"anyOf": [{"type": "string", "pattern": _pattern(_SIZE_PATTERN)}, dict(_BYTES.schema)]},
)


def _size_or_none(value: Plain) -> int | None:
    return None if value == "none" else _size(value)


PAGES = ValueKind(
    'a size such as "2M" or "1G", or "none"',
    _size_or_none,
    lambda value: "none" if value is None else size(value),
    {"anyOf": [*SIZE.schema["anyOf"], {"const": "none"}]},
)


def _address(value: Plain) -> str:
    return str(Address.parse(_text(value)))


_ADDRESS_PATTERN = r"([0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]"
ADDRESS = ValueKind('a PCI address such as "0000:14:00.0"', _address, str, {"type": "string", "pattern": _pattern(_ADDRESS_PATTERN)})


def many(kind: ValueKind, what: str) -> ValueKind:
    """A list of one kind."""

    def read(value: Plain) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError
        return tuple(kind.read(one) for one in value)

    return ValueKind(f"a list of {what}", read, lambda value: [kind.write(one) for one in value], {"type": "array", "items": dict(kind.schema)}, kind)


CPUS = text('CPU numbers such as "0-3,8"', pattern=r"([0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*)?", empty=True)
ID = text("an id: a letter, then letters, digits, '-', '.', '_'", pattern=r"[A-Za-z][A-Za-z0-9._-]{0,62}")
IDS = text('vendor and device such as "8086:10ca"', pattern=r"[0-9a-fA-F]{4}:[0-9a-fA-F]{4}")
