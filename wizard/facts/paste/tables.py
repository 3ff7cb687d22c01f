"""Firmware's own tables as files: ACPI tables, one or several in a file, each known by its signature and checksum; device trees, flat or as source.

ACPI 6.5, 5.2.6: a table begins with its signature and length, and its bytes add up to zero. Only IORT and MCFG say who is behind which SMMU.
"""

from __future__ import annotations

import re

from wizard.base.errors import InputError
from wizard.facts.devicetree import read_nodes
from wizard.facts.flattree import compile_source, is_flat_tree, is_source, unflatten
from wizard.facts.held import Place
from wizard.facts.paste.piece import Piece
from wizard.facts.platform import TABLES

_HEADER = 36  # bytes
_SIGNATURE = re.compile(rb"[A-Z][A-Z0-9_]{2}[A-Z0-9_!#$%&*+-]")
_TABLES = 512  # in one file


def of_bytes(data: bytes) -> list[Piece]:
    """The pieces of a file of tables, or of a flat device tree; none where it is neither. ``InputError`` where it is a damaged one."""
    if is_flat_tree(data):
        return [_tree(data, "device tree (.dtb)")]
    found = _acpi(data)
    if not found:
        return []
    kept = {signature: table for signature, table in found.items() if signature in TABLES}
    if not kept:
        names = ", ".join(found)
        raise InputError(
            f"The ACPI table{'s' if len(found) > 1 else ''} {names} say{'' if len(found) > 1 else 's'} nothing of SMMUs.",
            "Give IORT, and MCFG if there is one (/sys/firmware/acpi/tables, or acpidump -b -n IORT).",
        )
    return [Piece(kind=f"ACPI table {' and '.join(kept)}", acpi=kept)]


def of_source(text: str) -> list[Piece]:
    """The piece of a device tree's source; none where the text is none."""
    if not is_source(text):
        return []
    start = max(text.find("/dts-v1/"), 0)
    return [_tree(compile_source(text[start:], "the device tree source"), "device tree source (.dts)")]


def _tree(data: bytes, kind: str) -> Piece:
    nodes = read_nodes(unflatten(data, "the file"), (), ())
    return Piece(kind=kind, facts={"device_tree": True, "device_tree_nodes": nodes}, holds=frozenset({Place.IORT}) if nodes else frozenset())


def _acpi(data: bytes) -> dict[str, bytes]:
    """Signature -> table, of a file that begins with one. The first of a name counts (SSDT comes several times)."""
    if b"\0" not in data[:_HEADER]:
        return {}  # text that begins with a table's name, as acpidump's does
    found: dict[str, bytes] = {}
    at = 0
    for _ in range(_TABLES):
        if at >= len(data) or not _SIGNATURE.match(data, at):
            break
        name = data[at : at + 4].decode()
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        table = data[at : at + length]
        if length < _HEADER or len(table) < length or sum(table) & 0xFF:
            if name not in TABLES and not found:
                return {}  # anything may begin with four letters
            whole = _HEADER <= length == len(table)
            wrong = "its checksum is wrong" if whole else f"it says that it has {length} bytes, and {len(table)} are there"
            raise InputError(f"The ACPI table {name} is damaged: {wrong}.", "Copy it again as root: /sys/firmware/acpi/tables/" + name + ".")
        found.setdefault(name, table)
        at += length
    return found
