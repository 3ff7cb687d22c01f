"""TOML from outside, within bounds: tomllib alone takes time quadratic in the parts of a dotted key, and numbers of any length.

The bounds are far beyond what any profile, policy or setting has; each is named in the error.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

DEPTH = 32  # levels of nesting, and parts of a dotted key
VALUES = 20_000  # keys and list items
_LONG_NUMBER = "a whole number has more than 64 bits"  # an error by TOML 1.0, "Integer"

_STRING = re.compile(r"""\"{3}(?:[^\\"]|\\.|"{1,2}(?!"))*+\"{3}|'{3}(?:[^']|'{1,2}(?!'))*+'{3}|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'|#[^\n]*+""", re.DOTALL)
_LONG_KEY = re.compile(rf"(?<![\w\"'-])(?:[\w\"'-]++\s*+\.\s*+){{{DEPTH},}}")


def loads(text: str) -> dict[str, Any]:
    """The tables of a TOML text; ``ValueError`` says what is wrong with it, ``(at line L, column C)`` where that is known."""
    if _brackets(text) > DEPTH and _brackets(_STRING.sub("", text)) > DEPTH:
        raise ValueError(f"it is nested deeper than {DEPTH} levels")
    # Strings are taken out only for those texts that look too deep with them.
    if _LONG_KEY.search(text) and _LONG_KEY.search(_STRING.sub(lambda found: "" if found[0].startswith("#") else "s", text)):
        raise ValueError(f"a key has more than {DEPTH} parts")
    try:
        data = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {DEPTH} levels") from error
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:  # of int(), which takes 4300 digits
        raise ValueError(_LONG_NUMBER) from error
    _bounded(data)
    return data


def _brackets(text: str) -> int:
    deepest = depth = 0
    for character in re.findall(r"[\[\]{}]", text):
        depth = depth + 1 if character in "[{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest


def _bounded(data: dict[str, Any]) -> None:
    waiting: list[tuple[Any, int]] = [(data, 0)]
    count = 0
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            raise ValueError(_LONG_NUMBER)
        if isinstance(value, (dict, list)):
            count += len(value)
            if depth > DEPTH:
                raise ValueError(f"it is nested deeper than {DEPTH} levels")
            if count > VALUES:
                raise ValueError(f"it has more than {VALUES} keys and values")
            waiting += [(inner, depth + 1) for inner in (value.values() if isinstance(value, dict) else value)]
