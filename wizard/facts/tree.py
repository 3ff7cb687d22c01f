"""Trees of files to read facts from: the live root, a directory (``--root DIR``), or a tar of one.

Paths are relative to the root, without a leading slash: ``sys/bus/pci/devices``. A reader asks for what it wants; what
is there but can't be read is noted in ``unread`` with its reason. Nothing outside a given root is ever opened: links
are resolved by their text, and a link that leaves the root is an error.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from abc import ABC, abstractmethod

import msgspec

from wizard.base.errors import InputError
from wizard.base.json import out_of_bounds
from wizard.base.text import visible
from wizard.facts.content import ATTRIBUTE_LIMIT, FILE_LIMIT, JSON_LIMIT, PATH_LIMIT, as_text, read_whole, written_link


class Tree(ABC):
    """Reads files, links and directories below one root."""

    live = False  # it is this machine's own: what the kernel says elsewhere is of the same host

    def __init__(self, name: str) -> None:
        self.name = name
        self.unread: dict[str, str] = {}
        self._recorded_errors: dict[str, str] = {}

    @abstractmethod
    def data(self, path: str, limit: int = FILE_LIMIT) -> bytes | None:
        """At most ``limit`` bytes of a file; None when it is absent or, noted in ``unread``, can't be read."""

    @abstractmethod
    def names(self, path: str) -> list[str]:
        """Names in a directory, sorted; empty when there is none."""

    def folders(self, path: str) -> list[str]:
        """Names of the directories in a directory that hold anything, sorted."""
        return [name for name in self.names(path) if self.names(f"{path}/{name}")]

    @abstractmethod
    def target(self, path: str) -> str | None:
        """The text of a symbolic link; None when it is no link."""

    def folder(self, path: str) -> Folder:
        """A directory to read several files of; one that is not there has no names."""
        return Folder(self, path)

    def text(self, path: str) -> str | None:
        """A file's text without surrounding white space; bytes that are no UTF-8 are shown as escapes."""
        data = self.data(path)
        if data is None:
            return None
        if not data and self.recorded_error(path):
            return None
        return as_text(data)

    def recorded_error(self, path: str) -> bool:
        """Whether an empty file is one that could not be read when the tree was recorded; notes the reason."""
        reason = self._recorded_errors.get("/" + path) if self._recorded_errors else None
        if reason is not None:
            self.unread["/" + path] = reason
        return reason is not None

    def number(self, path: str) -> int | None:
        """A file's decimal number; None when it is absent or no number."""
        text = self.text(path)
        try:
            return int(text) if text else None
        except ValueError:
            self.unread["/" + path] = f"no number: {text!r:.40}"
            return None

    def link(self, path: str) -> str | None:
        """Where a link leads, as a path of this tree; None when it is no link. Raises InputError when it leaves."""
        target = self.target(path)
        return None if target is None else self.resolved(path, target)

    def resolved(self, path: str, target: str) -> str:
        """Where the link at ``path`` with this text leads, as a path of this tree. Raises InputError when it leaves."""
        directory = path.rpartition("/")[0]
        joined = target.lstrip("/") if target.startswith("/") else f"{directory}/{target}" if directory else target
        resolved = posixpath.normpath(joined)
        if resolved.startswith(".."):
            raise InputError(f"{visible(self.name)}: the link {visible(path)} leaves the tree.", "Record the host again; nothing outside is read.")
        return resolved

    def note_recorded_errors(self) -> None:
        """Take over what ``sys-access.json`` says could not be read: there, an empty file does not mean empty."""
        data = self.data("sys-access.json", JSON_LIMIT)
        if data is None:
            return
        try:
            if wrong := out_of_bounds(data):
                raise msgspec.DecodeError(f"it {wrong}")
            access = msgspec.json.decode(data, type=_Access)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(
                f"{visible(self.name)}/sys-access.json can't be read ({visible(str(error))}).", "Record the host again, or remove the file."
            ) from error
        self._recorded_errors = {path: reason for path, reason in access.root_errors.items() if reason != "write-only"}


class _Access(msgspec.Struct):
    root_errors: dict[str, str] = {}


class Folder:
    """One directory of a tree. To be closed, or used with ``with``.

    Who asks for most of what is in it calls ``list_names`` first: what is not there costs nothing then. Who asks for little does not.
    """

    def __init__(self, tree: Tree, path: str) -> None:
        self.tree = tree
        self.path = path
        self.listed: frozenset[str] | None = None

    def list_names(self) -> frozenset[str]:
        """What is in it, listed once."""
        if self.listed is None:
            self.listed = frozenset(self._listing())
        return self.listed

    def _listing(self) -> list[str]:
        return self.tree.names(self.path)

    def has(self, name: str) -> bool:
        """Whether a name is in it, whatever it is."""
        return name in self.list_names()

    def data(self, name: str, limit: int = FILE_LIMIT) -> bytes | None:
        """As ``Tree.data``."""
        return self.tree.data(f"{self.path}/{name}", limit) if self.has(name) else None

    def target(self, name: str) -> str | None:
        """As ``Tree.target``."""
        return self.tree.target(f"{self.path}/{name}") if self.has(name) else None

    def link(self, name: str) -> str | None:
        """As ``Tree.link``."""
        target = self.target(name)
        return None if target is None else self.tree.resolved(f"{self.path}/{name}", target)

    def text(self, name: str) -> str | None:
        """As ``Tree.text``."""
        data = self.data(name)
        if data is None:
            return None
        if not data and self.tree.recorded_error(f"{self.path}/{name}"):
            return None
        return as_text(data)

    def number(self, name: str) -> int | None:
        """As ``Tree.number``."""
        return self.tree.number(f"{self.path}/{name}") if self.has(name) else None

    def names(self, name: str) -> list[str]:
        """As ``Tree.names``, of a directory in it."""
        return self.tree.names(f"{self.path}/{name}")

    def folder(self, name: str) -> Folder:
        """As ``Tree.folder``, of a directory in it."""
        return self.tree.folder(f"{self.path}/{name}")

    def leaf(self, name: str) -> str | None:
        """The last part of a link's text; None when it is no link."""
        target = self.target(name)
        return target.rpartition("/")[2] if target else None

    def close(self) -> None:
        """Give back what it holds open."""

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class DirectoryTree(Tree):
    """A directory, or the live root. A live root is trusted; in any other, links are never followed by the kernel."""

    def __init__(self, root: str, *, live: bool = False) -> None:
        super().__init__("/" if live else root)
        self._prefix = root.rstrip("/") + "/"
        self.live = live
        self._flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if live else os.O_NOFOLLOW)
        self._checked: set[str] = {""}

    def data(self, path: str, limit: int = FILE_LIMIT) -> bytes | None:
        """As ``Tree.data``, one open, one read for what sysfs serves."""
        if not self._inside(path.rpartition("/")[0]):
            return None
        try:
            descriptor = os.open(self._prefix + path, self._flags)
        except OSError as error:
            self._note(path, error)
            return None
        try:
            return read_whole(descriptor, limit, path)
        except OSError as error:
            self._note(path, error)
            return None
        finally:
            os.close(descriptor)

    def names(self, path: str) -> list[str]:
        """As ``Tree.names``, one listing."""
        if not self._inside(path):
            return []
        try:
            return sorted(os.listdir(self._prefix + path))
        except OSError as error:
            if error.errno != errno.ENOTDIR:
                self._note(path, error)
            return []

    def folders(self, path: str) -> list[str]:
        """As ``Tree.folders``, one listing: what is in each is not looked at."""
        if not self._inside(path):
            return []
        try:
            with os.scandir(self._prefix + path) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError as error:
            self._note(path, error)
            return []

    def target(self, path: str) -> str | None:
        """As ``Tree.target``, one readlink."""
        if not self._inside(path.rpartition("/")[0]):
            return None
        try:
            return os.readlink(self._prefix + path)
        except OSError as error:
            if error.errno == errno.EINVAL and not self.live:
                return written_link(self.data(path, PATH_LIMIT))
            if error.errno != errno.EINVAL:
                self._note(path, error)
            return None

    def folder(self, path: str) -> Folder:
        """As ``Tree.folder``: read through its descriptor, so that the kernel looks its path up once."""
        if not self._inside(path.rpartition("/")[0]):
            return Folder(self, path)
        try:
            return _OpenFolder(self, path, os.open(self._prefix + path, self._flags | os.O_DIRECTORY), self._flags)
        except OSError as error:
            self._note(path, error)
            return Folder(self, path)

    def _inside(self, directory: str) -> bool:
        # Every directory on the way must be a real one: a link in its place could lead anywhere.
        if self.live or directory in self._checked:
            return True
        if not self._inside(directory.rpartition("/")[0]):
            return False
        try:
            if not stat.S_ISDIR(os.lstat(self._prefix + directory).st_mode):
                return False
        except OSError as error:
            self._note(directory, error)
            return False
        self._checked.add(directory)
        return True

    def note(self, path: str, error: OSError) -> None:
        """Keep why a file could not be read; absence needs no reason."""
        self._note(path, error)

    def _note(self, path: str, error: OSError) -> None:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            return
        reason = "needs root" if error.errno in (errno.EACCES, errno.EPERM) else errno.errorcode.get(error.errno or 0, str(error))
        self.unread["/" + path] = reason


class _OpenFolder(Folder):
    """A directory by its descriptor."""

    def __init__(self, tree: DirectoryTree, path: str, descriptor: int, flags: int) -> None:
        super().__init__(tree, path)
        self.directory = tree
        self.descriptor = descriptor
        self.flags = flags

    def _listing(self) -> list[str]:
        try:
            return os.listdir(self.descriptor)
        except OSError as error:
            self.directory.note(self.path, error)
            return []

    def has(self, name: str) -> bool:
        """As of any folder; where it was not listed, the kernel is asked for the one name, which in most cases is a link."""
        if self.listed is not None:
            return name in self.listed
        try:
            return bool(os.readlink(name, dir_fd=self.descriptor))
        except OSError as error:
            return error.errno == errno.EINVAL  # it is there, and no link

    def data(self, name: str, limit: int = FILE_LIMIT) -> bytes | None:
        """As ``Tree.data``, relative to the descriptor."""
        if self.listed is not None and name not in self.listed:
            return None
        try:
            descriptor = os.open(name, self.flags, dir_fd=self.descriptor)
            try:
                return read_whole(descriptor, limit, self.path)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.directory.note(f"{self.path}/{name}", error)
            return None

    def target(self, name: str) -> str | None:
        """As ``Tree.target``, relative to the descriptor."""
        if self.listed is not None and name not in self.listed:
            return None
        try:
            return os.readlink(name, dir_fd=self.descriptor)
        except OSError as error:
            if error.errno == errno.EINVAL and not self.directory.live:
                return written_link(self.data(name, PATH_LIMIT))
            if error.errno != errno.EINVAL:
                self.directory.note(f"{self.path}/{name}", error)
            return None

    def names(self, name: str) -> list[str]:
        """As ``Tree.names``, relative to the descriptor."""
        if self.listed is not None and name not in self.listed:
            return []
        try:
            descriptor = os.open(name, self.flags | os.O_DIRECTORY, dir_fd=self.descriptor)
            try:
                return sorted(os.listdir(descriptor))
            finally:
                os.close(descriptor)
        except OSError as error:
            self.directory.note(f"{self.path}/{name}", error)
            return []

    def folder(self, name: str) -> Folder:
        """As ``Tree.folder``, relative to the descriptor."""
        path = f"{self.path}/{name}"
        try:
            return _OpenFolder(self.directory, path, os.open(name, self.flags | os.O_DIRECTORY, dir_fd=self.descriptor), self.flags)
        except OSError as error:
            self.directory.note(path, error)
            return Folder(self.directory, path)

    def text(self, name: str) -> str | None:
        """As ``Tree.text``."""
        data = self.data(name, ATTRIBUTE_LIMIT)
        if data:
            return as_text(data)
        return "" if data is not None and not self.directory.recorded_error(f"{self.path}/{name}") else None

    def number(self, name: str) -> int | None:
        """As ``Tree.number``."""
        text = self.text(name)
        try:
            return int(text) if text else None
        except ValueError:
            self.directory.unread[f"/{self.path}/{name}"] = f"no number: {text!r:.40}"
            return None

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)
