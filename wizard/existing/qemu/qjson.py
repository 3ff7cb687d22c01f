"""QEMU's JSON on its command line, with the place of each value: ``'…'`` is a string too, and a key may not stand twice (qobject/json-parser.c)."""

from __future__ import annotations

import re
from typing import Any

import msgspec

DEPTH = 100  # QEMU's is 1024

_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORD = re.compile(r"true|false|null")
_WORDS = {"true": True, "false": False, "null": None}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([\"'\\/bfnrt]))")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class Member(msgspec.Struct, frozen=True):
    """A key and its value; ``start`` and ``end`` are the characters of the value, of a string those between its quotes."""

    key: str
    value: Any
    start: int
    end: int


class NotJson(ValueError):
    """``at`` is where it stops to be JSON."""

    def __init__(self, at: int, what: str) -> None:
        super().__init__(what)
        self.at = at


def members(text: str) -> list[Member]:
    """The members of the object that a text is; nested ones are Python's values. Raises ``NotJson``."""
    reader = _Reader(text)
    found = reader.object(reader.blank(0), 0)
    if reader.blank(reader.at) != len(text):
        raise NotJson(reader.at, "something stands behind the closing brace")
    return found


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def blank(self, at: int) -> int:
        match = _SPACE.match(self.text, at)
        return match.end() if match else at

    def object(self, at: int, depth: int) -> list[Member]:
        found: list[Member] = []
        at = self.blank(self.expect(at, "{"))
        while not self.text.startswith("}", at):
            key, at, _ = self.string(at)
            at = self.blank(self.expect(self.blank(at), ":"))
            value, start, end = self.value(at, depth + 1)
            if any(member.key == key for member in found[-200:]):
                raise NotJson(at, f"the key {key} stands twice")
            found.append(Member(key, value, start, end))
            at = self.blank(self.at)
            if self.text.startswith(",", at):
                at = self.blank(at + 1)
            elif not self.text.startswith("}", at):
                raise NotJson(at, "a comma or a closing brace is missing")
        self.at = at + 1
        return found

    def expect(self, at: int, mark: str) -> int:
        if not self.text.startswith(mark, at):
            raise NotJson(at, f"{mark} is missing")
        return at + 1

    def string(self, at: int) -> tuple[str, int, int]:
        """(value, behind the quote, where its characters begin)."""
        quote = self.text[at : at + 1]
        if quote not in ('"', "'"):
            raise NotJson(at, "a string in quotes is missing")
        end = at + 1
        plain = True
        while end < len(self.text) and self.text[end] != quote:
            plain = plain and self.text[end] != "\\"
            end += 2 if self.text[end] == "\\" else 1
        if end >= len(self.text):
            raise NotJson(at, "a string never ends")
        raw = self.text[at + 1 : end]
        return raw if plain else _ESCAPE.sub(_unescaped, raw).encode("utf-16", "surrogatepass").decode("utf-16", "replace"), end + 1, at + 1

    def value(self, at: int, depth: int) -> tuple[Any, int, int]:
        """(value, start, end); ``at`` is behind it afterwards."""
        if depth > DEPTH:
            raise NotJson(at, "it is nested too deep")
        mark = self.text[at : at + 1]
        if mark in ('"', "'"):
            text, self.at, start = self.string(at)
            return text, start, self.at - 1
        if mark == "{":
            value = {member.key: member.value for member in self.object(at, depth)}
            return value, at, self.at
        if mark == "[":
            return self.array(at, depth), at, self.at
        word, number = _WORD.match(self.text, at), _NUMBER.match(self.text, at)
        if word is not None:
            self.at = word.end()
            return _WORDS[word[0]], at, self.at
        if number is None:
            raise NotJson(at, "a value is missing")
        self.at = number.end()
        plain = number[0].lstrip("-").isdigit() and len(number[0]) < 40
        return int(number[0]) if plain else number[0], at, self.at

    def array(self, at: int, depth: int) -> list[Any]:
        found: list[Any] = []
        at = self.blank(at + 1)
        while not self.text.startswith("]", at):
            found.append(self.value(at, depth + 1)[0])
            at = self.blank(self.at)
            if self.text.startswith(",", at):
                at = self.blank(at + 1)
            elif not self.text.startswith("]", at):
                raise NotJson(at, "a comma or a closing bracket is missing")
        self.at = at + 1
        return found


def _unescaped(match: re.Match[str]) -> str:
    return chr(int(match[1], 16)) if match[1] else _ESCAPES.get(match[2], match[2])
