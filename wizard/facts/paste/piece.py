"""What one kind of text or file tells of a host, before it is joined with what others tell."""

from __future__ import annotations

from typing import Any

import msgspec

from wizard.facts.held import Place
from wizard.facts.model import Group, IommuDevice


class Piece(msgspec.Struct, kw_only=True):
    """Facts of one kind. What is not in a field was not told; ``holds`` names the places of which an absence says "not there"."""

    kind: str  # for people: "lspci -xxxx"
    functions: dict[str, dict[str, Any]] = {}  # address with its segment -> fields of PciFunction that it tells
    above: dict[str, str] = {}  # function -> the bridge above it; empty: it is on a root bus
    bridges: dict[tuple[int, int], str] = {}  # (segment, secondary bus) -> bridge
    roots: frozenset[tuple[int, int]] = frozenset()  # (segment, bus) of root buses
    iommus: tuple[IommuDevice, ...] = ()
    groups: dict[int, Group] = {}
    acpi: dict[str, bytes] = {}  # signature -> the whole table
    log: tuple[str, ...] = ()  # lines of the kernel's log, as they stand there
    kernel: dict[str, Any] = {}  # fields of Kernel
    facts: dict[str, Any] = {}  # other fields of Facts
    holds: frozenset[Place] = frozenset()
    rank: int = 0  # place of its kind in the registry: a lower one is trusted more
    notes: dict[str, str] = {}  # path on the host -> why it could not be read
