"""libvirt's node devices: ``virsh nodedev-dumpxml`` of one or several, and the names of ``virsh nodedev-list --cap pci``.

Format: libvirt's docs/formatnode.rst, capability of type pci. A document type is not read, so that no entity is.
"""

from __future__ import annotations

import re
from typing import Any

from wizard.facts.held import Place
from wizard.facts.model import Group
from wizard.facts.paste.piece import Piece

_NAME = re.compile(r"^[ \t]*pci_([0-9a-f]{4,8})_([0-9a-f]{2})_([01][0-9a-f])_([0-7])[ \t]*$", re.MULTILINE)
_DEVICE = re.compile(r"<device>(.*?)</device>", re.DOTALL)
_PLACE = re.compile(
    r"<address\s+domain=['\"](0x[0-9a-f]{1,8})['\"]\s+bus=['\"](0x[0-9a-f]{2})['\"]\s+slot=['\"](0x[01][0-9a-f])['\"]\s+function=['\"](0x[0-7])['\"]"
)


def read(text: str) -> list[Piece]:
    """The devices and names of libvirt in a text; none where there are none."""
    pieces = []
    if "<capability type=" in text:
        functions: dict[str, dict[str, Any]] = {}
        above: dict[str, str] = {}
        groups: dict[int, Group] = {}
        for device in _DEVICE.findall(text):
            _device(device, functions, above, groups)
        if functions:
            holds = frozenset({Place.DRIVERS, Place.GROUP_LINKS} if groups else {Place.DRIVERS})
            pieces.append(Piece(kind="virsh nodedev-dumpxml", functions=functions, above=above, groups=groups, holds=holds))
    if "pci_" in text and (names := _NAME.findall(text)):
        pieces.append(Piece(kind="virsh nodedev-list", functions={f"{a}:{b}:{c}.{d}": {} for a, b, c, d in names}))
    return pieces


def _device(device: str, functions: dict[str, dict[str, Any]], above: dict[str, str], groups: dict[int, Group]) -> None:
    pci = re.search(r"<capability type=['\"]pci['\"]>(.*)", device, re.DOTALL)
    if pci is None:
        return
    numbers = [_text(pci[1], name) for name in ("domain", "bus", "slot", "function")]
    ids = [re.search(rf"<{name}\s+id=['\"](0x[0-9a-f]{{4}})['\"]", pci[1]) for name in ("vendor", "product")]
    if not all(number and re.fullmatch(r"\d{1,9}", number) for number in numbers) or not all(ids):
        return
    segment, bus, slot, function = (int(number or 0) for number in numbers)
    if bus > 255 or slot > 31 or function > 7:
        return
    address = f"{segment:04x}:{bus:02x}:{slot:02x}.{function}"
    fields: dict[str, Any] = {"vendor": ids[0][1] if ids[0] else "", "device": ids[1][1] if ids[1] else ""}
    if (code := _text(pci[1], "class")) and re.fullmatch(r"0x[0-9a-f]{6}", code):
        fields["class_"] = code
    if driver := re.search(r"<driver>\s*<name>([^<\s]{1,64})</name>", device):
        fields["driver"] = driver[1]
    if node := re.search(r"<numa node=['\"](\d{1,5})['\"]", pci[1]):
        fields["numa_node"] = int(node[1])
    if group := re.search(r"<iommuGroup number=['\"](\d{1,9})['\"]>(.*?)</iommuGroup>", pci[1], re.DOTALL):
        fields["iommu_group"] = int(group[1])
        groups[int(group[1])] = Group(id=int(group[1]), devices=tuple(_addresses(group[2])))
    if physical := re.search(r"<capability type=['\"]phys_function['\"]>(.*?)</capability>", pci[1], re.DOTALL):
        fields |= dict(zip(("physfn",), _addresses(physical[1]), strict=False))
    if virtual := re.search(
        r"<capability type=['\"]virt_functions['\"](?: maxCount=['\"](\d{1,5})['\"])?(?:/>|>(.*?)</capability>)", pci[1], re.DOTALL
    ):
        made = tuple(_addresses(virtual[2] or ""))
        fields |= {"virtfns": made, "sriov_numvfs": len(made)}
        fields |= {"sriov_totalvfs": int(virtual[1])} if virtual[1] else {}
    functions[address] = fields
    if path := _text(device, "path"):
        parts = path.split("/")
        if len(parts) > 1 and parts[-1] == address:
            above[address] = parts[-2] if "." in parts[-2] else ""


def _text(xml: str, name: str) -> str | None:
    found = re.search(rf"<{name}>([^<]{{1,4096}})</{name}>", xml)
    return found[1].strip() if found else None


def _addresses(xml: str) -> list[str]:
    return [f"{int(a, 16):04x}:{int(b, 16):02x}:{int(c, 16):02x}.{int(d, 16)}" for a, b, c, d in _PLACE.findall(xml)]
