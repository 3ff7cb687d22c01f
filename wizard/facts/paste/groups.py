"""Listings of IOMMU groups: find or ls over /sys/kernel/iommu_groups, and the loops over it that print lspci's lines.

    /sys/kernel/iommu_groups/17/devices/0000:01:00.0 [-> ../../../../devices/pci0000:00/0000:00:01.0/0000:01:00.0]
    IOMMU Group 17 01:00.0 VGA compatible controller [0300]: …      IOMMU Group 17:
                                                                        01:00.0 VGA compatible controller [0300]: …

The kernel numbers groups from 0 without a gap (iommu_group_alloc()), so that a listing with a gap was cut or filtered: it says who is in a
group, not who else is not.
"""

from __future__ import annotations

import re
from typing import Any

from wizard.facts.held import Place
from wizard.facts.model import Group
from wizard.facts.paste.combine import address_of
from wizard.facts.paste.lspci import ADDRESS, of_head
from wizard.facts.paste.piece import Piece

_PATH = re.compile(r"iommu_groups/(\d{1,9})/devices(?:/([^\s'\"]{1,200}))?(:?)")
_LINKED = re.compile(rf"devices/({ADDRESS})/iommu_group(?: -> |: )\S*iommu_groups/(\d{{1,9}})\b")
_ENTRY = re.compile(r"(?:^| )(\S{1,200}) -> (\S{1,4096})$")
_TITLE = re.compile(r"^[ \t#=*-]*(?:IOMMU )?Group(?: ID)?:?[ \t]*#?(\d{1,9})\b[ \t:]*(.*)$", re.IGNORECASE)
_MEMBER = re.compile(rf"(?<![\w:.])({ADDRESS})(?![\w:.])(.*)$")


def read(text: str) -> list[Piece]:
    """The groups of a listing; none where there is no such line."""
    if "roup" not in text:
        return []
    members: dict[int, dict[str, None]] = {}
    functions: dict[str, dict[str, Any]] = {}
    above: dict[str, str] = {}
    group: int | None = None  # whose members stand on the lines that follow

    def add(number: int, device: str) -> None:
        members.setdefault(number, {})[device] = None
        if re.fullmatch(ADDRESS, device):
            functions.setdefault(device, {})["iommu_group"] = number

    for line in text.split("\n"):
        if match := _LINKED.search(line):
            add(int(match[2]), address_of(match[1]))
        elif match := _PATH.search(line):
            if not match[2]:
                group = int(match[1]) if match[3] or line.rstrip().endswith("devices") else None
                continue
            device = match[2].rstrip(":/")
            add(int(match[1]), device)
            _placed(above, device, line.partition(" -> ")[2].strip("' \""))
        elif (match := _TITLE.match(line)) and (not match[2] or _MEMBER.search(match[2])):
            group = int(match[1])
            if match[2] and (member := _MEMBER.search(match[2])):
                _of_line(add, functions, group, member)
        elif group is not None and (member := _MEMBER.search(line)) and " -> " not in line and line[:1] in " \t0123456789abcdef[":
            _of_line(add, functions, group, member)
        elif group is not None and line[:1] == "l" and (match := _ENTRY.search(line)):
            add(group, match[1])
            _placed(above, match[1], match[2])
        elif group is not None and line.strip() and not line.startswith("total "):
            group = None
    if not members:
        return []
    whole = sorted(members) == list(range(len(members)))
    return [
        Piece(
            kind="a listing of IOMMU groups",
            functions=functions,
            above=above,
            groups={number: Group(id=number, devices=tuple(devices)) for number, devices in sorted(members.items())},
            holds=frozenset({Place.GROUPS, Place.GROUP_LINKS}) if whole else frozenset(),
        )
    ]


def _of_line(add: Any, functions: dict[str, dict[str, Any]], group: int, member: re.Match[str]) -> None:
    address = address_of(member[1])
    add(group, address)
    if told := of_head(member[2].strip()):
        functions[address] |= {name: value for name, value in told.items() if name != "form"}


def _placed(above: dict[str, str], device: str, target: str) -> None:
    """The bridge above a function, by the path that its link leads to."""
    parts = target.split("/")
    if len(parts) > 1 and parts[-1] == device and re.fullmatch(ADDRESS, device):
        if re.fullmatch(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}", parts[-2]):
            above[device] = ""
        elif re.fullmatch(ADDRESS, parts[-2]):
            above[device] = parts[-2]
