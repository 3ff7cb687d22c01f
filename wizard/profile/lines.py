"""On which line of a TOML text a key or a list's item stands: the parsers do not say, and an error without a line is no help.

The text has been parsed before, so it is well-formed: what is left to do is to follow its brackets, keys and strings.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass

Path = tuple[str | int, ...]

_BASIC = r'"{3}(?:[^\\]|\\.)*?"{3,5}|"(?:[^"\\\n]|\\.)*"'
_LITERAL = r"'{3}.*?'{3,5}|'[^'\n]*'"
_TOKEN = re.compile(rf"""{_BASIC}|{_LITERAL}|#[^\n]*|[\[\]{{}},=.\n]|[^\s\[\]{{}},=.#"']+""", re.DOTALL)


@dataclass(frozen=True)
class Statement:
    """A table's header or a key with its value: its path, and its lines from ``first`` to ``last``, counted from 1."""

    path: Path
    header: str  # "[", "[[" or "" for a key
    first: int
    last: int


def key_lines(text: str) -> dict[Path, int]:
    """Path of each key (``("function", 1, "host")``), table and list item -> line, counted from 1; ``()`` is line 1."""
    return _Scanner(text).found


def statements(text: str) -> list[Statement]:
    """The headers and keys of a text in their order."""
    return _Scanner(text).statements


def line_of(lines: dict[Path, int], path: Path) -> int:
    """The line of a key, else that of the nearest thing around it."""
    while path not in lines:
        path = path[:-1]
    return lines[path]


class _Scanner:
    """One pass over the tokens of a text."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, int]] = []
        line = 1
        for match in _TOKEN.finditer(text):
            if match[0][0] != "#":
                self._tokens.append((match[0], line))
            line += match[0].count("\n")
        self._tokens.append(("\n", line))
        self._at = 0
        self.found: dict[Path, int] = {(): 1}
        self.statements: list[Statement] = []
        self._counts: dict[Path, int] = {}
        table: Path = ()
        while self._at < len(self._tokens):
            token, line = self._tokens[self._at]
            if token == "\n":
                self._at += 1
            elif token == "[":
                table = self._header(line)
            else:
                path = self._key(table)
                last = self._value(path)
                self.statements.append(Statement(path, "", line, last))

    def _next(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else "\n"

    def _header(self, line: int) -> Path:
        self._at += 1
        double = self._next() == "["
        self._at += double
        names = self._names("]")
        self._at += 1 + double
        path: Path = ()
        for place, name in enumerate(names):
            path = (*path, name)
            if double and place == len(names) - 1:
                self._counts[path] = self._counts.get(path, -1) + 1
                self.found.setdefault(path, line)
            if path in self._counts:
                path = (*path, self._counts[path])
        self.found.setdefault(path, line)
        self.statements.append(Statement(path, "[[" if double else "[", line, line))
        return path

    def _key(self, table: Path) -> Path:
        line = self._tokens[self._at][1]
        path = table
        for name in self._names("="):
            path = (*path, name)
            self.found.setdefault(path, line)
        self._at += 1
        return path

    def _names(self, end: str) -> list[str]:
        names = []
        while self._next() not in (end, "\n"):
            token = self._next()
            if token != ".":
                names.append(tomllib.loads(f"k = {token}")["k"] if token[0] in "\"'" else token)
            self._at += 1
        return names

    def _value(self, path: Path) -> int:
        """Goes past a value; the result is the line that it ends on."""
        token, line = self._tokens[self._at]
        if token == "[":
            self._items(path)
        elif token == "{":
            self._at += 1
            while self._next() != "}":
                if self._next() in (",", "\n"):
                    self._at += 1
                else:
                    self._value(self._key(path))
            self._at += 1
        else:
            while self._next() not in (",", "]", "}", "\n"):
                token, line = self._tokens[self._at]
                self._at += 1
            return line + token.count("\n")
        return self._tokens[self._at - 1][1]

    def _items(self, path: Path) -> None:
        self._at += 1
        place = 0
        while self._next() != "]":
            if self._next() in (",", "\n"):
                self._at += 1
            else:
                self.found.setdefault((*path, place), self._tokens[self._at][1])
                self._value((*path, place))
                place += 1
        self._at += 1
