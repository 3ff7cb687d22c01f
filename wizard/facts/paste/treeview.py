"""lspci -t, -tv, -tnn: the tree of buses, which says what is above each function (pciutils 3.14, ls-tree.c).

    -+-[0000:40]-+-00.0-[41]----00.0  Intel Corporation 82574L …
     |           \\-01.0-[42-43]--+-00.0-[43]----00.0
     \\-[0000:00]-+-00.0

What stands further right than something is below it. It names no class, so that functions are known by it only beside another form of lspci.
"""

from __future__ import annotations

import re
from typing import Any

from wizard.facts.paste.piece import Piece

_BEGINS = re.compile(r"^[ |]{0,8}(?:-\+|[+\\])?-\[([0-9a-f]{4,8}):([0-9a-f]{2})\](?=[- +]|$)", re.MULTILINE)
_TOKEN = re.compile(r"\[(?:([0-9a-f]{4,8}):)?([0-9a-f]{2})(?:-[0-9a-f]{2})?\]|(?<![0-9a-f.:])([01][0-9a-f]\.[0-7])(  .*)?")
_LINE = re.compile(r"^[ |+\\-]*[+\\-][-\[]?[\[0-9a-f]")
_IDS = re.compile(r"\[([0-9a-f]{4}):([0-9a-f]{4})\]\s*$")
_DEPTH = 64


def read(text: str) -> list[Piece]:
    """What a tree tells; none where there is none."""
    first = _BEGINS.search(text) if "-[" in text else None
    if first is None:
        return []
    above: dict[str, str] = {}
    bridges: dict[tuple[int, int], str] = {}
    roots: set[tuple[int, int]] = set()
    functions: dict[str, dict[str, Any]] = {}
    stack: list[tuple[int, int, int, str]] = []  # column, segment, bus, and the function that it is (empty: it is a bus)
    for line in text[first.start() :].split("\n"):
        if not _LINE.match(line):
            if line.strip():
                break
            continue
        for token in _TOKEN.finditer(line):
            while stack and stack[-1][0] >= token.start():
                stack.pop()
            segment, bus, owner = stack[-1][1:] if stack else (0, 0, "")
            if token[3] is None:
                number = int(token[2], 16)
                if token[1] is not None:
                    segment = int(token[1], 16)
                    roots.add((segment, number))
                elif owner:
                    bridges[segment, number] = owner
                stack.append((token.start(), segment, number, ""))
            elif stack and not owner:
                address = f"{segment:04x}:{bus:02x}:{token[3]}"
                above[address] = bridges.get((segment, bus), "")
                ids = _IDS.search(token[4] or "")
                functions[address] = {"vendor": f"0x{ids[1]}", "device": f"0x{ids[2]}"} if ids else {}
                stack.append((token.start(), segment, bus, address))
            if len(stack) > _DEPTH:
                return []
    if not above:
        return []
    return [Piece(kind="lspci -t", functions=functions, above=above, bridges=bridges, roots=frozenset(roots))]
