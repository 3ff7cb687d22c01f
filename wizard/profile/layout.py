"""A profile's text as blocks: what stands before the first header, and each header with its keys and the comments that belong to it.

tomlkit keeps what stands inside a table, but counts the comment above a header to the table before it, and moves apart-standing
``[[function]]`` together: taking a table away would take the next one's comment with it. So it is given one block at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import tomlkit
from tomlkit.items import String, StringType, Trivia

from wizard.profile.format import SCHEMA_LINE, Table
from wizard.profile.lines import Statement, statements

Plain = Any


class Block:
    """One header with its keys. ``lead`` are the comments right above it, ``gap`` what stands behind it and belongs to nothing."""

    def __init__(self, name: str, lead: str, body: str, gap: str, *, new: bool = False) -> None:
        self.name, self.lead, self.body, self.gap, self.new = name, lead, body, gap, new

    @contextmanager
    def open(self) -> Iterator[tomlkit.TOMLDocument]:
        """The block as a document of its own, put back at the end."""
        document = tomlkit.parse(self.body)
        before = self.body
        yield document
        after = tomlkit.dumps(document)
        if after != before:
            self.body = after if not after or after.endswith("\n") else after + "\n"


class Document:
    """The blocks of a text, in their order; ``top`` is what stands before the first header."""

    def __init__(self, text: str) -> None:
        if text and not text.endswith("\n"):
            text += "\n"
        lines = [f"{line}\n" for line in text.split("\n")[:-1]]
        found = statements(text)
        heads = [place for place, statement in enumerate(found) if statement.header]
        starts = [_lead(lines, found, place) for place in heads]
        self.top = Block("", "", "".join(lines[: starts[0] if starts else len(lines)]), "")
        self.blocks: list[Block] = []
        for place, start, end in zip(heads, starts, [*starts[1:], len(lines)][: len(heads)], strict=True):
            last = next((s.last for s in reversed(found) if start < s.first <= end), found[place].first)
            while last < end and lines[last].lstrip().startswith("#"):
                last += 1
            first = found[place].first - 1
            name = ".".join(str(part) for part in found[place].path if isinstance(part, str))
            self.blocks.append(Block(name, "".join(lines[start:first]), "".join(lines[first:last]), "".join(lines[last:end])))

    def __str__(self) -> str:
        text = self.top.body + self.top.gap
        for before, block in pairwise([self.top, *self.blocks]):
            if text and not text.endswith("\n\n") and (before.new or block.new):
                text += "\n"
            text += block.lead + block.body + block.gap
        return text

    def dotted(self, name: str) -> list[Statement]:
        """The keys at the top that are written as keys of that table (``memory.size = "4G"``)."""
        return [statement for statement in statements(self.top.body) if len(statement.path) > 1 and statement.path[0] == name]

    def remove(self, block: Block) -> None:
        """Takes a block away; comments behind it that stand by themselves stay."""
        place = self.blocks.index(block)
        if block.gap.strip():
            before = self.blocks[place - 1] if place else self.top
            before.gap += block.gap
        del self.blocks[place]

    def drop(self, name: str) -> None:
        """Takes a table away that is written in the keys at the top."""
        lines = self.top.body.split("\n")
        for statement in reversed(statements(self.top.body)):
            if statement.path[0] == name:
                del lines[statement.first - 1 : statement.last]
        self.top.body = "\n".join(lines)

    def add(self, table: Table, content: dict[str, Plain], *, after: Block | None = None, before: Block | None = None) -> Block:
        """A new block, behind or in front of another one, else at the end."""
        header = f"[[{table.name}]]" if table.many else f"[{table.name}]"
        body = "".join(f"{line}\n" for line in (header, *(f"{key} = {literal(value)}" for key, value in content.items())))
        block = Block(table.name, "", body, "", new=True)
        if after is not None:
            self.blocks.insert(self.blocks.index(after) + 1, block)
        elif before is not None:
            self.blocks.insert(self.blocks.index(before), block)
        else:
            self.blocks.append(block)
        return block


def _lead(lines: list[str], found: list[Statement], place: int) -> int:
    """The first of the comment lines that stand right above a header, as an index of ``lines``."""
    least = found[place - 1].last if place else 0
    start = found[place].first - 1
    while start > least and lines[start - 1].lstrip().startswith("#") and not lines[start - 1].startswith(SCHEMA_LINE[:8]):
        start -= 1
    return start


def literal(value: Plain) -> str:
    """A value as TOML text."""
    if isinstance(value, str):
        return string(value).as_string()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(literal(one) for one in value) + "]"
    return str(value)


def string(value: str) -> String:
    """A string in which every character that can't be seen is an escape; text of several lines stays in several lines."""
    if "\n" in value:
        body = "\n".join(_escaped(line) for line in value.split("\n"))
        return String(StringType.MLB, value, "\n" + body, Trivia())
    return String(StringType.SLB, value, _escaped(value), Trivia())


def _escaped(line: str) -> str:
    shown = []
    for character in line:
        code = ord(character)
        if character in '"\\':
            shown.append("\\" + character)
        elif character.isprintable():
            shown.append(character)
        elif character == "\t":
            shown.append("\\t")
        else:
            shown.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return "".join(shown)
