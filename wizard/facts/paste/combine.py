"""Pieces of one host joined into its Facts.

A piece that stands earlier wins where two tell the same; what none of them tells is noted in ``unread`` with their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from wizard import __version__
from wizard.base.address import Address
from wizard.base.errors import InputError
from wizard.base.text import visible
from wizard.facts.functions import LIMIT
from wizard.facts.held import Place
from wizard.facts.keptlog import split
from wizard.facts.logtext import unstamped
from wizard.facts.model import PASTE, Facts, Group, Identity, Kernel, Moment, PciFunction
from wizard.facts.paste.bus import place
from wizard.facts.paste.piece import Piece
from wizard.facts.pci_ids import named

_ALSO = ("/sys/devices/system/node", "/proc")
"""Places beside those of ``Place`` that no kind of text holds whole."""
_RELEASE = re.compile(r"Linux version (\S{1,100}) .*?(#\d.{0,200})?$")
_CMDLINE = re.compile(r"Kernel command line: (.{0,16384})$")
_DMI = re.compile(r"DMI: (.{1,200}), BIOS (.{1,200})$")
_ARM64 = re.compile(r"aarch64|arm64|arm-smmu|GICv[234]|Booting Linux on physical CPU 0x[0-9a-f]{10}")


def facts_of(pieces: Sequence[Piece], name: str) -> Facts:
    """Facts of what the pieces tell together; ``InputError`` where that is more than a host has."""
    kinds = tuple(dict.fromkeys(piece.kind for piece in pieces))
    told: dict[str, dict[str, Any]] = {}
    for piece in pieces:
        for address, fields in piece.functions.items():
            known = told.setdefault(address, {})
            if "config" in fields and _better(fields, known):
                known.pop("config_known", None)
                known.pop("config", None)
                known.pop("config_length", None)
            elif "config" in fields:
                fields = {field: value for field, value in fields.items() if not field.startswith("config")}
            for field, value in fields.items():
                known.setdefault(field, value)
    if len(told) > LIMIT:
        raise InputError(f"{visible(name)} has {len(told)} PCI functions, more than {LIMIT}.", "No host has that many.")
    groups = _groups(pieces, told)
    functions, nameless = place(told, pieces)
    boot, later = split([line for piece in pieces for line in piece.log])
    of_log = _of_log(boot)
    lacking = _lacking(pieces, functions, bool(boot or later))
    unread = {place_: f"not in {', '.join(kinds)}" for place_ in lacking}
    unread |= {f"{Place.FUNCTIONS}/{address}": "named without its ids; lspci -nn would tell" for address in nameless}
    for piece in reversed(pieces):
        unread |= piece.notes
    other: dict[str, Any] = {}
    for piece in reversed(pieces):
        other |= piece.facts
    kernel = of_log["kernel"]
    for piece in reversed(pieces):
        kernel |= piece.kernel
    return Facts(
        tool=__version__,
        origin=PASTE,
        rests_on=kinds,
        functions=named(functions),
        iommus=tuple(sorted({iommu.name: iommu for piece in reversed(pieces) for iommu in piece.iommus}.values(), key=lambda iommu: iommu.name)),
        groups=groups,
        acpi={name_: table.hex() for piece in reversed(pieces) for name_, table in sorted(piece.acpi.items())},
        log=boot,
        log_complete=False,
        kernel=Kernel(**kernel),
        moment=Moment(log=later),
        unread=dict(sorted(unread.items())),
        **({"identity": of_log["identity"]} | other),
    )


def _better(new: dict[str, Any], old: dict[str, Any]) -> bool:
    """Whether configuration space of one source tells more than that of another: a dump before words, more bytes before fewer."""
    return "config" not in old or (not new.get("config_known"), new["config_length"]) > (not old.get("config_known"), old["config_length"])


def _groups(pieces: Iterable[Piece], told: dict[str, dict[str, Any]]) -> tuple[Group, ...]:
    found: dict[int, Group] = {}
    for piece in pieces:
        for number, group in piece.groups.items():
            known = found.get(number)
            found[number] = (
                group
                if known is None
                else msgspec.structs.replace(
                    known,
                    type=known.type or group.type,
                    devices=tuple(dict.fromkeys((*known.devices, *group.devices))),
                    reserved_regions=known.reserved_regions if known.reserved_regions is not None else group.reserved_regions,
                )
            )
    for number, group in found.items():
        for device in group.devices:
            if device in told:
                told[device].setdefault("iommu_group", number)
    return tuple(found[number] for number in sorted(found))


def _lacking(pieces: Sequence[Piece], functions: Sequence[PciFunction], logged: bool) -> list[str]:
    """Places that say nothing by what is not there. One of each function is held where each function is in a piece that holds it."""
    held = {place_ for piece in pieces for place_ in piece.holds if not place_.startswith(f"{Place.FUNCTIONS}/")}
    held |= {Place.LOG} if logged else set()
    held |= {Place.IORT} if any("IORT" in piece.acpi for piece in pieces) else set()
    if functions:
        held |= {Place.FUNCTIONS}
        addresses = {function.address for function in functions}
        for place_ in Place:
            if place_.startswith(f"{Place.FUNCTIONS}/"):
                covered = {address for piece in pieces if place_ in piece.holds for address in piece.functions}
                held |= {place_} if addresses <= covered else set()
    return [*(place_.value for place_ in Place if place_ not in held and place_ is not Place.DEVICE_TREE), *_ALSO]


def _of_log(boot: Iterable[str]) -> dict[str, Any]:
    """What the log's own lines tell of kernel and machine."""
    kernel: dict[str, Any] = {}
    identity: dict[str, Any] = {}
    for line in boot:
        text = unstamped(line)
        if match := _RELEASE.search(text):
            kernel["release"], kernel["version"] = match[1], match[2] or ""
        elif match := _CMDLINE.match(text):
            kernel["cmdline"] = match[1]
        elif match := _DMI.match(text):
            board = match[1].partition("/")
            identity |= {"product": board[0].strip(), "board": board[2].strip() or None, "firmware": match[2].strip()}
        if "machine" not in kernel and _ARM64.search(text):
            kernel["machine"] = "aarch64"
    return {"kernel": kernel, "identity": Identity(**identity)}


def address_of(text: str) -> str:
    """An address as sysfs writes it: lspci leaves segment 0 out where there is no other."""
    return str(Address.parse(text if text.count(":") == 2 else f"0000:{text}"))
