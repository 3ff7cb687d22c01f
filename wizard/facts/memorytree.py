"""Trees that are held in memory: a device recording, a report's database, the directory below another tree; archives (``wizard.facts.archive``)."""

from __future__ import annotations

import posixpath

from wizard.facts.content import FILE_LIMIT, written_link
from wizard.facts.tree import Tree


class MemoryTree(Tree):
    """A tree that is held in memory: ``files`` and ``links`` are what it has, directories follow from their paths."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.files: dict[str, bytes] = {}
        self.padded: dict[str, int] = {}  # how long a file is that is held without the zeros at its end
        self.links: dict[str, str] = {}
        self._children: dict[str, set[str]] = {}

    def enter(self, path: str) -> None:
        """Make a path known to the directories above it."""
        while path and path != ".":
            parent, leaf = posixpath.split(path)
            siblings = self._children.setdefault(parent, set())
            if leaf in siblings:
                return
            siblings.add(leaf)
            path = parent

    def data(self, path: str, limit: int = FILE_LIMIT) -> bytes | None:
        """As ``Tree.data``, out of memory."""
        content = self.files.get(path)
        return None if content is None else content.ljust(self.padded.get(path, 0), b"\0")[:limit]

    def names(self, path: str) -> list[str]:
        """As ``Tree.names``, out of memory."""
        return sorted(self._children.get(path, ()))

    def target(self, path: str) -> str | None:
        """As ``Tree.target``, out of memory."""
        return self.links.get(path) or written_link(self.files.get(path))


class Below(Tree):
    """A tree whose root is a directory of another one: a sos report has one directory above its ``sys``."""

    def __init__(self, tree: Tree, directory: str) -> None:
        super().__init__(f"{tree.name}/{directory}")
        self._tree = tree
        self._prefix = directory + "/"

    def data(self, path: str, limit: int = FILE_LIMIT) -> bytes | None:
        """As ``Tree.data``, of the other tree."""
        return self._tree.data(self._prefix + path, limit)

    def names(self, path: str) -> list[str]:
        """As ``Tree.names``, of the other tree."""
        return self._tree.names((self._prefix + path).rstrip("/"))

    def target(self, path: str) -> str | None:
        """As ``Tree.target``, of the other tree."""
        return self._tree.target(self._prefix + path)
