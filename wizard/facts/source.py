"""Where the facts of a host are read from, and the one way to read them: this machine, a recording, a tree, or the demo.

Every command and the wizard open their hosts here (``wizard.host.opening.open_host`` adds what the facts mean), so that suffixes,
limits and the policy are the same everywhere. A new kind of recording is told by its content, in ``decode_recording``.
"""

from __future__ import annotations

import contextlib
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from wizard.base.errors import InputError
from wizard.base.text import visible
from wizard.facts.model import Facts
from wizard.facts.scope import Scope

if TYPE_CHECKING:
    from wizard.facts.pseudonym import Secrets
    from wizard.facts.tree import Tree

DEMO = "arm64-virt-canwbs.json"
RECORDING = ".umockdev"
SUFFIXES = tuple(suffix + packed for suffix in (".json", RECORDING) for packed in ("", ".gz", ".xz"))
"""Ends of the names of recordings: what is looked for in a directory of them."""

_ROOTS = frozenset(("sys", "sos_commands"))  # one of them is at the root of every tree
_LSPCI_OF_SOS = "sos_commands/pci"
_SNAPSHOT = re.compile(rb'\s{0,64}\{\s{0,64}"format"\s{0,64}:')  # as every one begins that was written here
_ATTRIBUTE = re.compile(rb"^[AH]: ", re.MULTILINE)  # udev's own database has none, and is read as a paste
_MARKS = b"\0\xef\xbb\xbf\xff\xfe"  # of UTF-8, UTF-16 and UTF-32
_UMOCKDEV = re.compile(rb"\s{0,64}P: /")  # the path of its first device


class SourceKind(StrEnum):
    """What a source is; the value is the option that names it."""

    LIVE = "live"  # this machine: no option
    REPLAY = "replay"
    ROOT = "root"
    DEMO = "demo"


class Source(msgspec.Struct, frozen=True):
    """One place to read a host from. ``path`` is a file or ``-`` (REPLAY), a directory or a tar (ROOT), else empty."""

    kind: SourceKind = SourceKind.LIVE
    path: str = ""

    @property
    def live(self) -> bool:
        """It is this machine, which can change and be followed."""
        return self.kind is SourceKind.LIVE

    @property
    def words(self) -> tuple[str, ...]:
        """The command line's words for it; none for this machine."""
        return () if self.live else (f"--{self.kind}", self.path) if self.path else (f"--{self.kind}",)


LIVE = Source()


def recorded(path: str) -> Source:
    """The source that a path names without an option: a directory is a tree, anything else a recording."""
    import os

    return Source(SourceKind.ROOT if os.path.isdir(path) else SourceKind.REPLAY, path)


def read_facts(source: Source, policy: str | None = None, scope: Scope = Scope.WHOLE) -> Facts:
    """The facts of a source; a policy file replaces the policy that they carry. ``InputError`` where either can't be read.

    Of a tree or this machine no more is read than ``scope`` says. A recording is read whole.
    """
    facts = _read(source, scope)
    if policy:
        from wizard.facts.policy import load_policy

        facts = msgspec.structs.replace(facts, policy=load_policy(policy))
    return facts


def load_recording(path: str) -> Facts:
    """The facts in a file or, for ``-``, on standard input, packed or not; what kind it is, its content says. ``InputError``."""
    from wizard.facts.snapshot import TEXT_LIMIT, read_bounded

    return decode_recording(*read_bounded(path, TEXT_LIMIT))


def decode_recording(data: bytes, name: str) -> Facts:
    """The facts in a recording's bytes; ``name`` is for errors, and counts only where the content is of no known kind. ``InputError``."""
    if (_UMOCKDEV.match(data) or name.endswith(RECORDING)) and (_ATTRIBUTE.search(data) or b"\nE: PCI_SLOT_NAME=" not in data):
        from wizard.facts.umockdev import from_umockdev

        return from_umockdev(data, name)
    from wizard.facts.snapshot import LIMIT, decode, not_utf8_json, too_large

    odd = not _SNAPSHOT.match(data) and len(data) <= LIMIT and not_utf8_json(data)
    if odd and data[:64].translate(None, _MARKS).lstrip()[:1] in (b"{", b""):
        return decode(data, name)  # it says what is wrong: a text with such marks may be a paste, a snapshot has none
    if not _SNAPSHOT.match(data):
        from wizard.facts.treetext import is_tree, read_tree

        if is_tree(data):
            from wizard.facts.record import from_tree

            return from_tree(read_tree(data, name))
        from wizard.facts.paste.combine import facts_of
        from wizard.facts.paste.kinds import pieces_of, understood
        from wizard.facts.paste.text import is_text

        if len(data) > LIMIT and not is_text(data):
            raise too_large(name)
        if pieces := pieces_of(data, name):
            return facts_of(pieces, name)
        if data.strip() and not data.lstrip().startswith((b"{", b"[")):
            if odd:
                raise InputError(f"{name} {odd}.", understood())
            raise InputError(f"{name} is nothing that can be read here.", understood())
    return decode(data, name)


def open_tree(path: str) -> Tree:
    """The tree in a directory, or in a tar or zip of one; InputError when there is no ``sys`` in it."""
    outer = _open_container(path)
    inner = _tree_within(outer)
    if inner is None:
        raise InputError(f"{visible(path)} holds no sys/.", "Name a directory that holds a host's sys/ (and proc/, dmesg … where they exist).")
    return _rooted(outer, inner)


def _open_container(path: str) -> Tree:
    """A directory, tar or zip, whatever it holds."""
    import os

    from wizard.facts.tree import DirectoryTree

    if os.path.isdir(path):
        return DirectoryTree(path)
    if os.path.exists(path):
        from wizard.facts.archive import ArchiveTree  # loads unpackers, which a directory has no need of

        return ArchiveTree(path)
    raise InputError(f"There is no file or directory {visible(path)}.", "Name a directory that holds a host's sys/, a tar or zip of one, or a file.")


def _tree_within(outer: Tree) -> str | None:
    """The directory of a container that holds a host's ``sys``: empty where it is the container itself, None where none does."""
    if not _ROOTS.isdisjoint(outer.names("")):
        return ""
    inner = [name for name in outer.names("") if not _ROOTS.isdisjoint(outer.names(name))]
    if len(inner) > 1:
        raise InputError(
            f"{visible(outer.name)} holds more than one host: {visible(', '.join(inner[:8]))}.",
            "Name the directory of one of them alone.",
        )
    return inner[0] if inner else None


def _rooted(outer: Tree, inner: str) -> Tree:
    from wizard.facts.memorytree import Below

    tree = Below(outer, inner) if inner else outer
    tree.note_recorded_errors()
    return tree


def _facts_within(path: str, scope: Scope) -> Facts:
    """The facts of a container: of the tree in it, with what lies beside that, else of its files."""
    outer = _open_container(path)
    inner = _tree_within(outer)
    if inner is None:
        from wizard.facts.container import facts_of_container

        return facts_of_container(outer)
    from wizard.facts.record import from_tree

    tree = _rooted(outer, inner)
    facts = from_tree(tree, scope)
    if not facts.functions and tree.names(_LSPCI_OF_SOS):  # a report without udev's database, or of a sos before 3.0, has lspci alone
        from wizard.facts.container import completed
        from wizard.facts.memorytree import Below

        facts = completed(facts, Below(tree, _LSPCI_OF_SOS))
    if inner or "sos_commands" not in outer.names(""):
        from wizard.facts.container import completed

        facts = completed(facts, outer, inner)
    return facts


def _is_container(source: Source) -> bool:
    """Whether a path is a directory, tar or zip. What can't be told is one where ``--root`` names it, whose reader says what is wrong."""
    import os

    if source.path == "-" or source.path.endswith(SUFFIXES):
        return False
    if os.path.isdir(source.path):
        return True
    if not os.path.isfile(source.path):  # a pipe can be read once
        return source.kind is SourceKind.ROOT and not os.path.exists(source.path)
    with contextlib.suppress(OSError), open(source.path, "rb") as file:
        if file.read(1) in (b"{", b""):
            return False
    from wizard.facts.archive import looks_like

    known = looks_like(source.path)
    return source.kind is SourceKind.ROOT and not _is_text(source.path) if known is None else known


def secrets_for(source: Source) -> Secrets:
    """What must not be told of a host, and the key of its pseudonyms. A recording holds no machine-id: its values are numbered as they come."""
    from wizard.facts.pseudonym import Secrets, secrets_of
    from wizard.facts.tree import DirectoryTree

    if source.path and _is_container(source):
        outer = _open_container(source.path)
        return secrets_of(_rooted(outer, _tree_within(outer) or ""))
    if not source.live:
        return Secrets()
    return secrets_of(DirectoryTree("/", live=True), live=True)


def _read(source: Source, scope: Scope) -> Facts:
    # Each reader is loaded for those who need it: a list of a snapshot is to be quick.
    if source.path:
        return _facts_within(source.path, scope) if _is_container(source) else load_recording(source.path)
    if source.kind is SourceKind.DEMO:
        return _demo()
    from wizard.facts.live import read_live

    return read_live(scope=scope)


def _is_text(path: str) -> bool:
    """Whether a path is a file of text, and so a recording or a paste: an archive has bytes that no text has."""
    import os

    if not os.path.isfile(path):
        return False
    from wizard.facts.paste.text import HEAD, is_text

    try:
        with open(path, "rb") as file:
            return is_text(file.read(HEAD))
    except OSError:
        return False  # who opens it says why it can't be read


def _demo() -> Facts:
    """The shipped fixture: inside the wheel, or beside the package in a checkout."""
    import os

    import wizard
    from wizard.facts.snapshot import decode

    # By the loader, as pkgutil and importlib.resources ask it; they load unpackers and more, which takes as long as all of a small list.
    loader: Any = wizard.__loader__
    package = os.path.dirname(os.path.abspath(wizard.__file__))
    for path in (os.path.join(package, "demo", DEMO), os.path.join(os.path.dirname(package), "fixtures", DEMO)):
        with contextlib.suppress(OSError):
            return decode(loader.get_data(path), DEMO)
    raise InputError(f"The demo host {DEMO} is not in this installation.", "Install smmu-wizard again from its wheel.")
