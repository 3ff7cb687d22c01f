"""Trees that are held in memory: a tar of one, a device recording, the directory below another tree."""

from __future__ import annotations

import lzma
import posixpath
import re
import tarfile
import zlib

from wizard.base.errors import InputError
from wizard.base.text import size, visible
from wizard.facts.tree import FILE_LIMIT, JSON_LIMIT, PATH_LIMIT, Tree

ARCHIVE_LIMIT = 512 << 20  # bytes of file contents of an archive, unpacked
KEPT_LIMIT = 192 << 20  # bytes of them that are held in memory
MEMBER_LIMIT = 500_000
# A sos report's logs may be larger than all that is read of it; dmesg is the one that counts.
_LOGS = re.compile(r"(?:^|/)var/log/(?!dmesg$)")


class MemoryTree(Tree):
    """A tree that is held in memory: ``files`` and ``links`` are what it has, directories follow from their paths."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.files: dict[str, bytes] = {}
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
        return None if content is None else content[:limit]

    def names(self, path: str) -> list[str]:
        """As ``Tree.names``, out of memory."""
        return sorted(self._children.get(path, ()))

    def target(self, path: str) -> str | None:
        """As ``Tree.target``, out of memory."""
        return self.links.get(path)


class ArchiveTree(MemoryTree):
    """A tar of a tree; nothing is unpacked to disk."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        try:
            self._load(path)
        except (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, ValueError) as error:
            raise InputError(
                f"{visible(path)} is not a readable tar ({visible(str(error))}).", "Give a directory with sys/, or a whole tar of one."
            ) from error

    def _load(self, path: str) -> None:
        total = kept = 0
        with tarfile.open(path, "r:*") as archive:
            for count, member in enumerate(archive):
                if count % 4096 == 0:
                    archive.members.clear()  # type: ignore[attr-defined] # or tarfile keeps every one of them
                name = posixpath.normpath(member.name)
                if count > MEMBER_LIMIT or name.startswith(("..", "/")) or ".." in member.name.split("/") or len(name) > PATH_LIMIT:
                    raise InputError(
                        f"{visible(path)} has a member that can't be taken: {visible(member.name[:200])}.", "Make the tar of a host's own tree."
                    )
                if member.issym():
                    self.links[name] = member.linkname
                elif member.isfile():
                    # The tar is read through in any case: what it unpacks to counts, whatever is kept of it.
                    total += member.size
                    if total > ARCHIVE_LIMIT:
                        raise InputError(f"{visible(path)} unpacks to more than {size(ARCHIVE_LIMIT)}iB.", "A host's tree is far smaller.")
                    if _LOGS.search(name):
                        continue
                    file = archive.extractfile(member)
                    self.files[name] = file.read(FILE_LIMIT if not name.endswith(".json") else JSON_LIMIT) if file else b""
                    kept += len(self.files[name])
                    if kept > KEPT_LIMIT:
                        raise InputError(f"{visible(path)} holds more than {size(KEPT_LIMIT)}iB of files.", "A host's tree is far smaller.")
                elif not member.isdir():
                    continue
                self.enter(name)


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
        return self._tree.names(self._prefix + path)

    def target(self, path: str) -> str | None:
        """As ``Tree.target``, of the other tree."""
        return self._tree.target(self._prefix + path)
