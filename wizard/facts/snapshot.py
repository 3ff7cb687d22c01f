"""Snapshots: the Facts of one host as one JSON file, read within bounds and written whole.

In the file what moves is in ``moment`` alone (see ``wizard.facts.moment``). Unknown fields are ignored within a version;
a newer version is refused by number.
The digest is taken over the redacted Facts without ``moment``.
"""

from __future__ import annotations

import io
import re
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, BinaryIO, cast

import msgspec

from wizard.base.errors import InputError
from wizard.base.json import out_of_bounds
from wizard.base.text import size, visible
from wizard.facts.held import COLLECTIONS
from wizard.facts.model import FORMAT, SUMMARY, VERSION, Facts, as_json
from wizard.facts.moment import put_back, set_apart

LIMIT = 64 << 20  # bytes of JSON, after unpacking; of a snapshot, beside its functions
WHOLE_LIMIT = 256 << 20  # bytes of a snapshot: 65,536 functions are half of that
EACH_LIMIT = 1 << 20  # bytes of one function: it has 8 KiB, and 20 for each of its VFs
TEXT_LIMIT = 256 << 20  # bytes of text in place of it: lspci -xxxx of 8,192 functions is half of that
FUNCTIONS = 65536
_SNAPSHOT = re.compile(rb'\s{0,64}\{\s{0,64}"format"\s{0,64}:\s{0,64}"' + FORMAT.encode() + rb'"')  # as every one begins that was written here
_BEGIN = 4096  # bytes: what says how much more is read

_RECORD = "Record the host again with `smmu-wizard record -o FILE`, or name another file."


class _Head(msgspec.Struct):
    format: str | None = None
    version: int | None = None
    functions: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    iommus: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    groups: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    log: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    acpi: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _NotPacked(Exception):
    """Packed data that can't be unpacked, and why."""


def load(source: str) -> Facts:
    """The snapshot in file ``source`` (JSON, ``.gz`` or ``.xz``), or on standard input for ``-`` (packed or not); raises InputError."""
    data, name = read_bounded(source)
    return decode(data, name)


def read_bounded(source: str, limit: int | None = None, *, name: str | None = None) -> tuple[bytes, str]:
    """The bytes of a file or of standard input (``-``), unpacked, and a name to show for it (``name``, where one is given).

    At most ``limit``; without one that of snapshots, and LIMIT for what does not begin as one.
    """
    name = "standard input" if source == "-" else visible(name or source)
    try:
        if source == "-":
            data = _read_piped(sys.stdin.buffer, limit)
        else:
            data = _read(source, limit)
    except FileNotFoundError as error:
        raise InputError(f"There is no file {name}.", "Check the path, or record one with `smmu-wizard record -o FILE`.") from error
    except EOFError as error:
        raise _cut(name) from error
    except _NotPacked as error:
        raise _not_packed(name, error) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "it ends too early"
        raise InputError(f"{name} can't be read: {visible(reason)}.", "Check the path and its permissions.") from error
    if len(data) > bound(data, limit):
        raise too_large(name, bound(data, limit))
    return data, name


def bound(data: bytes, limit: int | None = None) -> int:
    """How many bytes there may be of what begins so; ``limit``, where one is given."""
    return limit if limit is not None else WHOLE_LIMIT if _SNAPSHOT.match(data) else LIMIT


def unpacked(data: bytes, name: str, limit: int | None = None) -> bytes:
    """Bytes that came from elsewhere, unpacked as their name says, at most ``limit`` (see ``read_bounded``); InputError."""
    unpack = _UNPACKERS.get(name.rpartition(".")[2])
    if unpack is None:
        return data
    try:
        return unpack(io.BytesIO(data), limit)
    except EOFError as error:
        raise _cut(visible(name)) from error
    except _NotPacked as error:
        raise _not_packed(visible(name), error) from error


def _cut(name: str) -> InputError:
    return InputError(f"{name} is cut short: its packed data end too early.", "Copy it again. " + _RECORD)


def _not_packed(name: str, error: Exception) -> InputError:
    return InputError(f"{name} is damaged, or not packed as its name says: {visible(str(error))}.", "Copy it again. " + _RECORD)


def too_large(name: str, limit: int = LIMIT) -> InputError:
    """The error for a file that passes the bound."""
    return InputError(f"{name} holds more than {size(limit)}iB.", "A snapshot is never that large. " + _RECORD)


def _all(file: BinaryIO, limit: int | None) -> bytes:
    """All of it, and where it passes its bound a byte more: nothing is unpacked for the sake of refusing it."""
    begin = file.read(_BEGIN)
    return begin + file.read(bound(begin, limit) + 1 - len(begin))


def _read(path: str, limit: int | None) -> bytes:
    unpack = _UNPACKERS.get(path.rpartition(".")[2])
    if unpack:
        return unpack(path, limit)
    with open(path, "rb") as file:
        return _all(file, limit)


def _read_piped(stream: BinaryIO, limit: int | None) -> bytes:
    # A pipe has no name that says how it is packed; its first bytes do, and JSON begins otherwise.
    data = _all(stream, limit)
    for suffix, magic in MAGIC.items():
        if data.startswith(magic):
            return _UNPACKERS[suffix](io.BytesIO(data), limit)
    return data


# The unpackers are loaded for those who need them: most snapshots are plain, and a list of one is to be quick.
def _gunzip(source: str | BinaryIO, limit: int | None) -> bytes:
    import gzip
    import zlib

    try:
        with gzip.open(source, "rb") as packed:
            return _all(cast(BinaryIO, packed), limit)
    except (zlib.error, gzip.BadGzipFile) as error:
        raise _NotPacked(str(error)) from error


def _unxz(source: str | BinaryIO, limit: int | None) -> bytes:
    import lzma

    try:
        with lzma.open(source, "rb") as packed:
            return _all(cast(BinaryIO, packed), limit)
    except lzma.LZMAError as error:
        raise _NotPacked(str(error)) from error


def _unzstd(source: str | BinaryIO, limit: int | None) -> bytes:
    import importlib

    try:
        zstd: Any = importlib.import_module("compression.zstd")  # Python 3.14 (PEP 784)
    except ImportError as error:
        raise _NotPacked("Zstandard needs Python 3.14 or later; `zstd -d FILE` unpacks it") from error
    try:
        with zstd.open(source, "rb") as packed:
            return _all(packed, limit)
    except zstd.ZstdError as error:
        raise _NotPacked(str(error)) from error


MAGIC = {"gz": b"\x1f\x8b", "xz": b"\xfd7zXZ\0", "zst": b"\x28\xb5\x2f\xfd"}
"""The first bytes of packed data, by the suffix of a name."""
_UNPACKERS: dict[str, Callable[[str | BinaryIO, int | None], bytes]] = {"gz": _gunzip, "xz": _unxz, "zst": _unzstd}


_ENCODINGS = {b"\xef\xbb\xbf": "a byte order mark", b"\xff\xfe": "the byte order mark of UTF-16", b"\xfe\xff": "the byte order mark of UTF-16"}


def not_utf8_json(data: bytes) -> str | None:
    """What bytes are that should be JSON and do not begin as JSON does, as the end of a sentence; None where nothing like it is seen."""
    if not data.strip():
        return "is empty"
    if not data.strip(b"\0"):
        return "holds nothing but zero bytes, as a file that was not on disk yet when the power failed"
    for suffix, magic in MAGIC.items():
        if data.startswith(magic):
            return f"is packed, and its name does not end in .{suffix}"
    for mark, what in _ENCODINGS.items():
        if data.startswith(mark):
            return f"begins with {what}; a snapshot is JSON in UTF-8 without one"
    if b"\0" in data[:4] and data[:64].replace(b"\0", b"").lstrip().startswith((b"{", b"[")):
        return "is in UTF-16 or UTF-32; a snapshot is JSON in UTF-8"
    return None


def decode(data: bytes, name: str) -> Facts:
    """Facts from JSON bytes; InputError names what is wrong and where."""
    if len(data) > bound(data):
        raise too_large(name, bound(data))
    if odd := not_utf8_json(data):
        raise InputError(f"{name} {odd}.", _RECORD)
    if wrong := out_of_bounds(data):
        raise InputError(f"{name} {wrong}.", "It is no snapshot. " + _RECORD)
    try:
        head = msgspec.json.decode(data, type=_Head)
    except msgspec.ValidationError as error:
        raise InputError(f"{name} is not a snapshot of smmu-wizard.", _RECORD) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{name} is not whole JSON ({visible(str(error))}).", "The file may be cut short. " + _RECORD) from error
    if head.format == SUMMARY:
        raise InputError(f"{name} is a summary of a host, without its facts.", "Name the snapshot of that host; baseline and match take both.")
    if head.format != FORMAT:
        raise InputError(f"{name} is not a snapshot of smmu-wizard.", _RECORD)
    if head.version is None or head.version < 1:
        raise InputError(f"{name} names no snapshot version.", _RECORD)
    if head.version > VERSION:
        raise InputError(
            f"{name} is a snapshot of version {head.version}; this program reads up to version {VERSION}.",
            "Update smmu-wizard on this machine, or record with this version.",
        )
    count = 0 if head.functions is msgspec.UNSET else len(head.functions)
    if count > FUNCTIONS:
        raise InputError(f"{name} has {count} functions, more than {FUNCTIONS}.", "No host has that many. " + _RECORD)
    if len(data) > LIMIT:
        sizes = [0] if head.functions is msgspec.UNSET else [memoryview(one).nbytes for one in head.functions]
        if len(data) - sum(sizes) > LIMIT:
            raise InputError(f"{name} holds more than {size(LIMIT)}iB beside its functions.", "A snapshot is never that large. " + _RECORD)
        if max(sizes) > EACH_LIMIT:
            raise InputError(f"{name} has a function of more than {size(EACH_LIMIT)}iB.", "None is that large. " + _RECORD)
    try:
        return put_back(_with_gaps(_each_once(_whole_bytes(msgspec.json.decode(data, type=Facts))), head))
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise InputError(f"{name} is a damaged snapshot: {visible(str(error))}.", _RECORD) from error


def _with_gaps(facts: Facts, head: _Head) -> Facts:
    """The same facts; a collection that the file does not name at all was not read, be it empty in memory."""
    gaps = [place for name, place in COLLECTIONS.items() if getattr(head, name) is msgspec.UNSET and place.value not in facts.unread]
    unread = facts.unread | {place.value: "not in this snapshot" for place in gaps}
    return msgspec.structs.replace(facts, unread=dict(sorted(unread.items()))) if gaps else facts


def _whole_bytes(facts: Facts) -> Facts:
    """The same facts; ``ValueError`` where hexadecimal digits end in half a byte."""
    odd = [f"functions.{function.address}.config" for function in facts.functions if len(function.config) % 2]
    odd += [f"acpi.{name}" for name, table in facts.acpi.items() if len(table) % 2]
    odd += [f"hw_info.{info.address}" for info in facts.hw_info if len(info.data or "") % 2 or len(info.cmdqv or "") % 2]
    if odd:
        raise ValueError(f"{odd[0]} ends in half a byte")
    return facts


def _each_once(facts: Facts) -> Facts:
    """The same facts; ``ValueError`` where a thing that there is once is listed twice: which of the two holds nobody knows."""
    listed: tuple[tuple[str, list[object]], ...] = (
        ("function", [function.address for function in facts.functions]),
        ("SMMU", [iommu.name for iommu in facts.iommus]),
        ("group", [group.id for group in facts.groups]),
        ("NUMA node", [node.id for node in facts.nodes]),
    )
    for what, names in listed:
        if len(set(names)) < len(names):
            twice = next(name for name, count in Counter(names).items() if count > 1)
            raise ValueError(f"{what} {twice} is listed twice")
    return facts


def encode(facts: Facts) -> bytes:
    """A snapshot's bytes: the same Facts give the same bytes."""
    return as_json(set_apart(facts))


def digest(facts: Facts) -> str:
    """``sha256:…`` over what of a host does not move and may be told: see ``wizard.facts.redact.digest``."""
    from wizard.facts import redact

    return redact.digest(facts)
