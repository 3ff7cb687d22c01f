"""udev's database in a text: ``udevadm info --export-db``, which holds properties of devices and no attributes.

A recording of umockdev has attributes as well and is read as such (``wizard.facts.umockdev``).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from wizard.facts.held import Place
from wizard.facts.memorytree import MemoryTree
from wizard.facts.model import PciFunction
from wizard.facts.paste.piece import Piece
from wizard.facts.sos import UDEV, read_report

_DEVICE = re.compile(r"^P: /devices/.*(?:\n[A-Z]: ?.*)*", re.MULTILINE)


def read(text: str) -> list[Piece]:
    """Functions and SMMUs of the database; none where there is no PCI function in it."""
    if "P: /devices/" not in text or "PCI_SLOT_NAME=" not in text:
        return []
    tree = MemoryTree("udev's database")
    tree.files[UDEV] = "\n\n".join(match[0] for match in _DEVICE.finditer(text)).encode()
    tree.enter(UDEV)
    report = read_report(tree)
    if not report.functions:
        return []
    return [
        Piece(
            kind="udevadm info --export-db",
            functions={function.address: _told(function) for function in report.functions},
            above={function.address: _above(function.path) for function in report.functions},
            iommus=report.iommus,
            holds=frozenset({Place.DRIVERS} | ({Place.IOMMUS} if report.iommus else set())),
        )
    ]


def _told(function: PciFunction) -> dict[str, Any]:
    fields = msgspec.structs.asdict(function)
    return {name: value for name, value in fields.items() if name not in ("address", "path") and value not in (None, "", (), 0, -1)}


def _above(path: str) -> str:
    parts = path.split("/")
    return parts[-2] if len(parts) > 1 and "." in parts[-2] else ""
