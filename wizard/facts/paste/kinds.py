"""The registry: what kinds of text and files are understood, each known by its content.

``pieces_of`` asks each; a text may hold several kinds, one after the other or mixed. A kind of bytes (a raw table) is asked before the
bytes are taken for text.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from wizard.base.errors import InputError
from wizard.base.text import size, visible
from wizard.facts.paste import acpi, groups, kernellog, lspci, machine, nodedev, tables, treeview, udev
from wizard.facts.paste.dumps import text_of
from wizard.facts.paste.piece import Piece
from wizard.facts.paste.text import LIMIT, LINES, is_text


class Kind(msgspec.Struct, frozen=True):
    """One kind of text: its name for people, and its reader, which gives no piece where there is nothing of the kind."""

    name: str
    read: Callable[[str], list[Piece]]
    named: bool = True  # by itself in the list of what is understood


KINDS: tuple[Kind, ...] = (
    Kind("lspci (-xxxx, -vvv, -nn, -n, -k, -vmm, -tv)", lspci.read),
    Kind("lspci -vmm", machine.read, named=False),
    Kind("lspci -t", treeview.read, named=False),
    Kind("virsh nodedev-dumpxml and nodedev-list", nodedev.read),
    Kind("udevadm info --export-db", udev.read),
    Kind("listings of /sys/kernel/iommu_groups", groups.read),
    Kind("dmesg and journalctl -k", kernellog.read),
    Kind("acpidump and iasl's .dsl", acpi.read),
    Kind("device tree source (.dts)", tables.of_source),
)
"""In the order of trust: what an earlier one tells is not changed by a later one."""

OF_BYTES: tuple[Callable[[bytes], list[Piece]], ...] = (tables.of_bytes,)
"""Readers of what is no text."""


def pieces_of(data: bytes, name: str) -> list[Piece]:
    """Everything that a file or a paste tells; empty where nothing in it is understood. ``InputError`` where it is too large."""
    if len(data) > LIMIT or data.count(b"\n") > LINES:
        raise InputError(
            f"{visible(name)} holds more than {size(LIMIT)}iB or {LINES} lines.", "Give the part that speaks of PCI functions and SMMUs."
        )
    for of_bytes in OF_BYTES:
        if found := of_bytes(data):
            return found
    if not is_text(data) and data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        return []
    text = text_of(data)
    return [msgspec.structs.replace(piece, rank=rank) for rank, kind in enumerate(KINDS, 1) for piece in kind.read(text)]


def understood() -> str:
    """The kinds in a sentence of their own, for who gave something else."""
    kinds = "; ".join(kind.name for kind in KINDS if kind.named)
    return (
        "Understood are snapshots, umockdev recordings, trees with sys/, sos reports, directories, tars and zips of several files, "
        f"raw ACPI tables (IORT, MCFG), device trees (.dtb), and text of {kinds}."
    )
