"""Trees that are held in memory: a tar of one, a device recording, the directory below another tree."""

from __future__ import annotations

import bz2
import gzip
import lzma
import posixpath
import re
import tarfile
import zlib
from typing import IO, Any

from wizard.base.errors import InputError
from wizard.base.text import size, visible
from wizard.facts.tree import FILE_LIMIT, JSON_LIMIT, PATH_LIMIT, Tree, written_link

# tar pads each attribute of a live /sys to the size that sysfs claims for it, a page: 64 KiB on many of these hosts. Zeros unpack fast.
ARCHIVE_LIMIT = 4 << 30  # bytes of an archive, unpacked
KEPT_LIMIT = 192 << 20  # bytes of files that are held in memory
HEADERS_LIMIT = 64 << 20  # bytes of long names and other extended headers, in all
MEMBER_LIMIT = 500_000
# A sos report's logs may be larger than all that is read of it; dmesg is the one that counts.
_LOGS = re.compile(r"(?:^|/)var/log/(?!dmesg$)")


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


class _Unpacked:
    """What tarfile reads an archive from: its bytes, unpacked, within bounds. A header's length is the archive's own word."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._headers = 0
        self.content = False  # while a member's content is read, whose bounds are its reader's

    def read(self, length: int) -> bytes:
        """As a file's."""
        if not self.content and length > tarfile.BLOCKSIZE:
            self._headers += length
            if self._headers > HEADERS_LIMIT:
                raise ValueError(f"its headers hold more than {size(HEADERS_LIMIT)}iB")
        return self._file.read(length)

    def seek(self, position: int) -> int:
        """As a file's, from its beginning."""
        return self._file.seek(position)

    def tell(self) -> int:
        """As a file's."""
        return self._file.tell()

    def finish(self, position: int) -> None:
        """Look whether the archive ends where tarfile saw its last member (a damaged header is an end to it), and is whole to its end."""
        self._file.seek(position)
        block = self._file.read(tarfile.BLOCKSIZE)
        if any(block) or 0 < len(block) < tarfile.BLOCKSIZE:
            raise ValueError(f"it is damaged at byte {position}")
        while self._file.read(1 << 20):  # the check sums of gzip and xz come last
            if self._file.tell() > ARCHIVE_LIMIT:
                raise ValueError(f"it unpacks to more than {size(ARCHIVE_LIMIT)}iB")


class ArchiveTree(MemoryTree):
    """A tar of a tree, plain or packed; nothing is unpacked to disk. Hard links are files; devices and pipes are left out."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        try:
            with _open_packed(path) as file:
                self._load(_Unpacked(file))
        except (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, ValueError) as error:
            raise InputError(
                f"{visible(path)} is not a readable tar ({visible(str(error))}).", "Give a directory with sys/, or a whole tar of one."
            ) from error

    def _load(self, unpacked: _Unpacked) -> None:
        kept = 0
        file: Any = unpacked  # tarfile asks for these three methods only
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for count, member in enumerate(archive):
                if count % 4096 == 0:
                    archive.members.clear()  # type: ignore[attr-defined] # or tarfile keeps every one of them
                if count > MEMBER_LIMIT:
                    raise ValueError(f"it has more than {MEMBER_LIMIT} members")
                if archive.offset > ARCHIVE_LIMIT:  # where the next header would be
                    raise ValueError(f"it unpacks to more than {size(ARCHIVE_LIMIT)}iB")
                name = self._inside(member.name)
                if member.issym():
                    self.links[name] = member.linkname
                elif member.islnk():
                    self._copy(self._inside(member.linkname), name)
                elif member.isfile():
                    if _LOGS.search(name):
                        continue
                    self._keep(name, self._content(archive, member, unpacked, FILE_LIMIT if not name.endswith(".json") else JSON_LIMIT))
                elif not member.isdir():
                    continue
                kept += len(self.files.get(name, b""))
                if kept > KEPT_LIMIT:
                    raise ValueError(f"it holds more than {size(KEPT_LIMIT)}iB of files")
                self.enter(name)
            unpacked.finish(archive.offset)

    def _inside(self, path: str) -> str:
        name = posixpath.normpath(path)
        if name.startswith("/") or ".." in path.split("/") or len(name) > PATH_LIMIT:
            raise InputError(f"{visible(self.name)} has a member that can't be taken: {visible(path[:200])}.", "Make the tar of a host's own tree.")
        return name

    @staticmethod
    def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, unpacked: _Unpacked, limit: int) -> bytes:
        unpacked.content = True
        try:
            file = archive.extractfile(member)
            return file.read(limit) if file else b""
        finally:
            unpacked.content = False

    def _keep(self, name: str, content: bytes) -> None:
        self.files[name] = content.rstrip(b"\0")
        if len(self.files[name]) < len(content):
            self.padded[name] = len(content)

    def _copy(self, source: str, name: str) -> None:
        # tar writes the second name of a file as a link to the first, which stands before it; a log's was left out.
        if source in self.links:
            self.links[name] = self.links[source]
        elif source in self.files:
            self._keep(name, self.data(source, JSON_LIMIT) or b"")


def _open_packed(path: str) -> Any:
    """The file, unpacked as it is read: gzip, bzip2 or xz by their first bytes."""
    with open(path, "rb") as plain:
        magic = plain.read(6)
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        raise ValueError("it is packed with zstd: unpack it first")
    openers: tuple[tuple[bytes, Any], ...] = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))
    for start, opener in openers:
        if magic.startswith(start):
            return opener(path, "rb")
    return open(path, "rb", buffering=1 << 16)


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
