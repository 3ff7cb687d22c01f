"""A tree as text: what ``guest.sh`` prints of a guest that has no Python, also out of the middle of a console's log.

    # smmu-wizard tree 1
    = PATH             a file, line by line, each behind a |
    + PATH             a file, its bytes in hexadecimal, behind a | too
    > LINK TARGET      a symbolic link
    / PATH             a directory that is there, be it empty
    # smmu-wizard tree end

Whatever else stands between (the kernel writes on the same console) is passed over. Bounds: those of a recording, and of a file in a tree.
"""

from __future__ import annotations

import re
from pathlib import Path

from wizard.base.errors import InputError
from wizard.base.text import visible
from wizard.facts.content import FILE_LIMIT, PATH_LIMIT
from wizard.facts.memorytree import MemoryTree

HEAD, END = "# smmu-wizard tree 1", "# smmu-wizard tree end"
_HEAD = re.compile(rb"^\s*" + HEAD.encode() + rb"\s*$", re.MULTILINE)
_MOST = 500_000  # files and links
_HEX = re.compile(r"[0-9a-fA-F\s]*")


def script() -> str:
    """The shell script that prints one."""
    return (Path(__file__).parent / "guest.sh").read_text(encoding="utf-8")


def is_tree(data: bytes) -> bool:
    """Whether a text holds one."""
    return HEAD.encode() in data and _HEAD.search(data) is not None


def read_tree(data: bytes, name: str) -> MemoryTree:
    """The last tree of a text. Raises ``InputError`` for one that was cut."""
    text = data.decode(errors="backslashreplace").replace("\r", "")
    head = text.rfind(HEAD)
    end = text.find(END, head)
    if end < 0:
        raise InputError(f"{visible(name)} ends before {END!r}: it was cut.", "Let the script finish, and give all that it printed.")
    tree = MemoryTree(name)
    content: list[str] | None = None
    files: dict[str, tuple[str, list[str]]] = {}
    for line in text[head:end].split("\n"):
        kind, path, rest = line[:2], *([*line[2:].split(" ", 1), ""])[:2]
        if line.startswith("|"):
            if content is not None:
                content.append(line[1:])
        elif kind in ("= ", "+ ") and (known := _path(path)):
            files[known] = (kind[0], content := [])
        elif kind == "> " and (known := _path(path)) and rest:
            tree.links[known] = rest
            tree.enter(known)
        elif kind == "/ " and (known := _path(path)):
            tree.enter(known)
        if len(files) + len(tree.links) > _MOST:
            raise InputError(f"{visible(name)} holds more than {_MOST} files.", "No guest has so many; name another file.")
    for known, (kind, lines) in files.items():
        written = "\n".join(lines)
        # A line of the kernel's in the middle of bytes would shift all that follow.
        whole = bytes.fromhex(written) if kind == "+" and _HEX.fullmatch(written) and len("".join(written.split())) % 2 == 0 else b""
        tree.files[known] = (whole if kind == "+" else f"{written}\n".encode())[:FILE_LIMIT]
        tree.enter(known)
    return tree


def _path(text: str) -> str | None:
    """Relative to the root, as trees have it; None for what leads out of it."""
    parts = text.split("/")
    if not text.startswith("/") or len(text) > PATH_LIMIT or ".." in parts or "." in parts or "" in parts[1:]:
        return None
    return text[1:]
