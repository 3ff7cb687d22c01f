"""A directory, a tar or a zip in which somebody put several things of one host: lspci.txt, dmesg.txt, IORT.dat, a device tree, XML of virsh.

Each file is known by its content, whatever its name. What is understood is joined (``wizard.facts.paste.combine``), the rest is named; what is of
two hosts, or of one host at two times, is refused with the names of both, since nobody could tell which of the facts hold together.
"""

from __future__ import annotations

import gzip
import lzma
import re
import zlib
from collections.abc import Container, Iterable, Iterator, Mapping
from io import BytesIO

import msgspec

from wizard.base.errors import InputError, ProgramError
from wizard.base.text import size, visible
from wizard.facts.content import TEXT_LIMIT
from wizard.facts.held import Place
from wizard.facts.model import IN_FILE, Facts, PciFunction
from wizard.facts.paste.combine import facts_of
from wizard.facts.paste.kinds import pieces_of, understood
from wizard.facts.paste.piece import Piece
from wizard.facts.tree import Tree

FILES = 4096
DEPTH = 8  # directories above one another
BYTES = 256 << 20  # of all files
_NAMED = 20  # files that are listed by name
_ARCHIVES = (b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"BZh", b"7z\xbc\xaf")
# What the reader of a tree has read, or has no use for, at the root of it.
_OF_TREES = frozenset(
    ("sys", "proc", "etc", "boot", "usr", "lib", "run", "var", "dev", "acpi", "dmesg", "uname", "kernel-config", "hw_info.json", "sys-access.json",
     "sos_commands", "sos_logs", "sos_reports", "sos_strings")
)  # fmt: skip


class Source(msgspec.Struct, frozen=True):
    """One file that was understood."""

    name: str
    pieces: list[Piece]


class Contents(msgspec.Struct, frozen=True):
    """What a container holds: sources in the order of their names, and why other files are none."""

    sources: list[Source]
    other: dict[str, str]

    @property
    def pieces(self) -> list[Piece]:
        """All of them, the most trusted kind first."""
        return sorted((piece for source in self.sources for piece in source.pieces), key=lambda piece: piece.rank)

    def said(self) -> list[str]:
        """The other files for people, at most twenty."""
        names = [f"{name} ({why})" if why else name for name, why in sorted(self.other.items())]
        return [*names[:_NAMED], *([f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else [])]


def contents_of(tree: Tree, without: Container[str] = frozenset()) -> Contents:
    """Every file below a tree's root, but for names ``without`` there. ``InputError`` where there is more than anybody sends."""
    sources: list[Source] = []
    other: dict[str, str] = {}
    left = BYTES
    for count, path in enumerate(_walk(tree, "", 0, without)):
        if count >= FILES:
            raise InputError(f"{visible(tree.name)} holds more than {FILES} files.", "Put what speaks of one host into a directory of its own.")
        data = tree.data(path, min(TEXT_LIMIT, left) + 1)
        if data is None:
            continue
        left -= len(data)
        if left < 0 or len(data) > TEXT_LIMIT:
            raise InputError(f"{visible(tree.name)} holds more than {size(BYTES)}iB.", "Put what speaks of one host into a directory of its own.")
        try:
            found = pieces_of(_unpacked(data), path)
            if found:
                sources.append(Source(path, found))
            else:
                other[path] = "an archive: unpack it first" if data.startswith(_ARCHIVES) or data[257:262] == b"ustar" else ""
        except (InputError, ProgramError) as error:
            other[path] = error.what.rstrip(".")
    return Contents(sources, other)


def _walk(tree: Tree, path: str, depth: int, without: Container[str]) -> Iterator[str]:
    for name in tree.names(path):
        below = f"{path}/{name}" if path else name
        if tree.target(below) is not None or (depth == 0 and name in without):
            continue  # nothing is read through a link
        if tree.names(below):
            if depth >= DEPTH:
                raise InputError(f"{visible(tree.name)} is nested more than {DEPTH} directories deep.", "Put the files into one directory.")
            yield from _walk(tree, below, depth + 1, without)
        else:
            yield below


def _unpacked(data: bytes) -> bytes:
    try:
        if data.startswith(b"\x1f\x8b"):
            with gzip.open(BytesIO(data)) as packed:
                return packed.read(TEXT_LIMIT)
        if data.startswith(b"\xfd7zXZ\0"):
            with lzma.open(BytesIO(data)) as packed:
                return packed.read(TEXT_LIMIT)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"it can't be unpacked ({visible(str(error))})", "Pack it again.") from error
    return data


def facts_of_container(tree: Tree) -> Facts:
    """The facts of everything in a container that has no /sys; ``InputError`` where nothing is understood, or two hosts are in it."""
    contents = contents_of(tree)
    if not contents.sources:
        holds = f"; it holds {visible(', '.join(contents.said()))}" if contents.other else ""
        raise InputError(f"{visible(tree.name)} holds no sys/, and nothing else that can be read here{holds}.", understood())
    one_host(tree.name, contents.sources)
    facts = facts_of(contents.pieces, tree.name)
    return _resting_on(facts, contents)


def completed(facts: Facts, tree: Tree, inner: str = "") -> Facts:
    """The facts of a tree, or of the one in the directory ``inner``, with what other files beside tell of what it could not hold."""
    if not inner and tree.target("proc/self") is not None:
        return facts  # the root of a host that runs, as a container has it: nobody put anything beside its /sys
    contents = contents_of(tree, {inner} if inner else _OF_TREES)
    if not contents.sources:
        return facts
    one_host(tree.name, [_of_tree(facts), *contents.sources])
    beside = facts_of(contents.pieces, tree.name)
    unread = dict(facts.unread)
    changed: dict[str, object] = {}
    more = {name: table for name, table in beside.acpi.items() if name not in facts.acpi}
    if more and not facts.device_tree:
        changed["acpi"] = facts.acpi | more
        unread = {place: why for place, why in unread.items() if not any(place.endswith(f"acpi/tables/{name}") for name in more)}
    if not facts.log and beside.log:
        changed |= {"log": beside.log, "moment": msgspec.structs.replace(facts.moment, log=beside.moment.log)}
        unread = {place: why for place, why in unread.items() if place not in ("dmesg", "/dev/kmsg", "/var/log/dmesg")}
    if not facts.functions and beside.functions:
        changed |= {"functions": beside.functions, "groups": facts.groups or beside.groups}
        unread.pop(Place.FUNCTIONS, None)
        unread |= {place: why for place, why in beside.unread.items() if place.startswith(f"{Place.FUNCTIONS}/")}
    elif beside.functions:
        changed["functions"] = tuple(_filled(facts.functions, {function.address: function for function in beside.functions}))
        for place in (Place.CONFIG, Place.RESOURCES):
            if place not in beside.unread and len(beside.functions) >= len(facts.functions):
                unread.pop(place, None)
    if facts.device_tree and not facts.device_tree_nodes and beside.device_tree_nodes:
        changed["device_tree_nodes"] = beside.device_tree_nodes
    whole = msgspec.structs.replace(facts, unread=dict(sorted(unread.items())), **changed)
    return _resting_on(whole, contents)


def _filled(functions: Iterable[PciFunction], beside: Mapping[str, PciFunction]) -> Iterator[PciFunction]:
    """The functions of a tree, with regions and configuration space of another source where the tree has none."""
    for function in functions:
        other = beside.get(function.address)
        new: dict[str, object] = {}
        if other is not None and not function.resource and other.resource:
            new["resource"] = other.resource
        if other is not None and not function.config_length and other.config_length:
            new |= {"config": other.config, "config_length": other.config_length, "config_known": other.config_known}
        yield msgspec.structs.replace(function, **new) if new else function


def _of_tree(facts: Facts) -> Source:
    functions = {function.address: {"vendor": function.vendor, "device": function.device} for function in facts.functions}
    acpi = {name: bytes.fromhex(table) for name, table in facts.acpi.items()}
    kernel = {"release": facts.kernel.release} if facts.kernel.release else {}
    return Source("sys/", [Piece(kind="/sys", functions=functions, acpi=acpi, log=facts.log, kernel=kernel, facts={"identity": facts.identity})])


def _resting_on(facts: Facts, contents: Contents) -> Facts:
    files = [(kind, source.name) for source in contents.sources for kind in dict.fromkeys(piece.kind for piece in source.pieces)]
    left = [("not understood", name) for name in contents.said()]
    return msgspec.structs.replace(facts, rests_on=tuple(f"{kind}{IN_FILE}{visible(name)}" for kind, name in (*files, *left)))


_RELEASE = re.compile(r"\bLinux version (\d\S{0,100})")
_PRODUCT = re.compile(r"\bDMI: (.{1,120}?)(?:, BIOS |/|$)")


def one_host(container: str, sources: Iterable[Source]) -> None:
    """``InputError`` where two sources can't be of one host at one time, with the names of both and by what."""
    first: dict[str, tuple[dict[str, None], str]] = {}
    for source in sources:
        own: dict[str, dict[str, None]] = {}
        for what, value in _marks(source):
            own.setdefault(what, {})[value] = None
        for what, values in own.items():  # a journal of several boots names several kernels: one in common is enough
            known, where = first.setdefault(what, (values, source.name))
            if known.keys().isdisjoint(values):
                raise InputError(
                    f"{visible(container)} holds more than one host: {what} is {visible(next(iter(known)))} in {visible(where)} and "
                    f"{visible(next(iter(values)))} in {visible(source.name)}.",
                    "Give what is of one host, at one time, alone.",
                )


def _marks(source: Source) -> Iterator[tuple[str, str]]:
    """What is the same in everything of one host: (what it is, its value)."""
    for piece in source.pieces:
        for address, fields in piece.functions.items():
            if fields.get("vendor") not in (None, "0xffff") and fields.get("device"):
                yield f"the function {address}", f"{fields['vendor'][2:]}:{fields['device'][2:]}"
        for name, table in piece.acpi.items():
            yield f"the table {name}", f"of {len(table)} bytes with the check sum {zlib.crc32(table):08x}"
        if release := piece.kernel.get("release"):
            yield "the kernel", release
        for line in piece.log:
            if match := _RELEASE.search(line):
                yield "the kernel", match[1]
            if match := _PRODUCT.search(line):
                yield "the machine", match[1].strip()
        nodes = piece.facts.get("device_tree_nodes")
        if nodes:
            yield "the device tree", f"of {len(nodes)} nodes with the check sum {zlib.crc32(msgspec.json.encode(nodes)):08x}"
