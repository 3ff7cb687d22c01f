"""On which line of a TOML text a key stands: the parsers do not say, and an error without a line is no help.

The text has been parsed before, so it is well-formed. Keys inside inline tables and arrays are found at the line where their
outer key begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Path = tuple[str | int, ...]

_PART = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*""")
_STRING = re.compile(r'''"""(?:[^\\]|\\.)*?"""+|\'\'\'.*?\'\'\'+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*\'|#[^\n]*''', re.DOTALL)


def key_lines(text: str) -> dict[Path, int]:
    """Path of each key (``("function", 1, "host")``) and table -> line, counted from 1; ``()`` is line 1."""
    found: dict[Path, int] = {(): 1}
    counts: dict[Path, int] = {}
    table: Path = ()
    for line, statement in _statements(text):
        stripped = statement.strip()
        if stripped.startswith("["):
            double = stripped.startswith("[[")
            name = _parts(stripped.lstrip("["))
            table = tuple(_with_places(name[:-1] if double else name, counts))
            if double:
                table = (*table, name[-1])
                counts[table] = counts.get(table, -1) + 1
                found.setdefault(table, line)
                table = (*table, counts[table])
            found.setdefault(table, line)
        elif stripped:
            path = table
            for part in _parts(stripped):
                path = (*path, part)
                found.setdefault(path, line)
    return found


def line_of(lines: dict[Path, int], path: Path) -> int:
    """The line of a key, else that of the nearest thing around it."""
    while path not in lines:
        path = path[:-1]
    return lines[path]


def _with_places(name: list[str], counts: dict[Path, int]) -> Iterator[str | int]:
    at: Path = ()
    for part in name:
        at = (*at, part)
        yield part
        if at in counts:
            yield counts[at]
            at = (*at, counts[at])


def _parts(text: str) -> list[str]:
    parts, at = [], 0
    while match := _PART.match(text, at):
        basic, literal, bare = match.groups()
        parts.append(basic if basic is not None else literal if literal is not None else bare)
        at = match.end()
        if at >= len(text) or text[at] != ".":
            break
        at += 1
    return parts


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each statement with the line that it begins on: strings keep their place but not their content's newlines and brackets."""
    blank = _STRING.sub(lambda m: _hide(m[0]), text)
    depth, start, begun = 0, 1, ""
    for number, (shown, real) in enumerate(zip(blank.split("\n"), _real_lines(text, blank), strict=True), 1):
        if not begun:
            start = number
        if not begun and shown.lstrip().startswith("["):
            yield number, real.partition("#")[0] if "#" in shown else real
            continue
        begun = begun or real
        depth += sum(c in "[{" for c in shown) - sum(c in "]}" for c in shown)
        if depth <= 0 and "\x01" not in shown:
            yield start, begun if not begun.lstrip().startswith("#") else ""
            begun, depth = "", 0


def _hide(token: str) -> str:
    # \x01 stands for a newline inside a string: the statement goes on behind it.
    if token.startswith("#"):
        return ""
    return re.sub(r"[^\n]", "_", token).replace("\n", "\x01\n")


def _real_lines(text: str, blank: str) -> list[str]:
    return text.split("\n")
