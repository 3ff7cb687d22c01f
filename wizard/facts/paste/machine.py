"""lspci for programs: ``-vmm`` and ``-Dvmm``, with ``-nn`` or ``-n`` or names alone; one paragraph for each function, a word on each line.

``-m`` and ``-mm`` print the same words on one line, in quotes. Format: pciutils 3.14, lspci.c, show_machine().
"""

from __future__ import annotations

import re
from typing import Any

from wizard.facts.held import Place
from wizard.facts.paste.combine import address_of
from wizard.facts.paste.lspci import ADDRESS, of_head
from wizard.facts.paste.piece import Piece

_PARAGRAPH = re.compile(rf"^(?:Slot|Device):[ \t]+({ADDRESS})[ \t]*\n((?:\w+:.*\n?)+)", re.MULTILINE)
_LINE = re.compile(rf'^({ADDRESS}) "([^"\n]*)" "([^"\n]*)" "([^"\n]*)"((?: -[rp][0-9a-f]{{2}})*)', re.MULTILINE)
_ID = re.compile(r"(?:^|\[)([0-9a-f]{4})\]?$")


def read(text: str) -> list[Piece]:
    """One piece for each of the two forms that is there."""
    pieces = []
    if "Slot:" in text or "Device:" in text:
        functions = {address_of(match[1]): fields for match in _PARAGRAPH.finditer(text) if (fields := _words(match[2]))}
        grouped = any("iommu_group" in fields for fields in functions.values())
        holds = frozenset({Place.DRIVERS} if any("driver" in fields for fields in functions.values()) else ()) | (
            {Place.GROUP_LINKS} if grouped else set()
        )
        pieces.append(Piece(kind="lspci -vmm", functions=functions, holds=holds))
    if '" "' in text:
        lines = {
            address_of(match[1]): fields
            for match in _LINE.finditer(text)
            if (fields := _ids(match[2], match[3], match[4], _option(match[5], "r"), _option(match[5], "p")))
        }
        pieces.append(Piece(kind="lspci -mm", functions=lines))
    return [piece for piece in pieces if piece.functions]


def _option(text: str, letter: str) -> str | None:
    found = re.search(rf"-{letter}([0-9a-f]{{2}})", text)
    return found[1] if found else None


def _words(text: str) -> dict[str, Any] | None:
    told = {name: value.strip() for name, value in re.findall(r"^(\w+):[ \t]*(.*)$", text, re.MULTILINE)}
    fields = _ids(told.get("Class", ""), told.get("Vendor", ""), told.get("Device", ""), told.get("Rev"), told.get("ProgIf"))
    if fields is None:
        return None
    if driver := told.get("Driver"):
        fields["driver"] = driver[:64]
    for name, field in (("NUMANode", "numa_node"), ("IOMMUGroup", "iommu_group")):
        if re.fullmatch(r"\d{1,9}", told.get(name, "")):
            fields[field] = int(told[name])
    return fields


def _ids(class_: str, vendor: str, device: str, revision: str | None, interface: str | None) -> dict[str, Any] | None:
    found = [_ID.search(text) for text in (class_, vendor, device)]
    ids = [match[1] for match in found if match]
    if len(ids) == 3:
        fields = {"class_": f"0x{ids[0]}{interface or '00'}", "vendor": f"0x{ids[1]}", "device": f"0x{ids[2]}"}
    else:
        told = of_head(f"{class_}: {vendor} {device}")
        if told is None:
            return None
        fields = {name: value for name, value in told.items() if name != "form"}
    return fields | {"revision": f"0x{revision or '00'}"}
