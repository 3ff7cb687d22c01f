"""IOMMU groups: who is in them, and which memory their devices must not be given."""

from __future__ import annotations

from functools import lru_cache

from wizard.facts import model as facts_model
from wizard.facts.held import Place, why_unread
from wizard.facts.model import Facts
from wizard.host.model import Group, Region


def groups_of(facts: Facts) -> dict[int, Group]:
    """Groups by number: what /sys/kernel/iommu_groups lists, and every function that says by its own link that it is in one."""
    linked: dict[int, list[str]] = {}
    for function in facts.functions:
        if function.iommu_group is not None:
            linked.setdefault(function.iommu_group, []).append(function.address)
    listed = {group.id: group for group in facts.groups}
    numbers = [*listed, *sorted(linked.keys() - listed)]
    told = why_unread(facts, Place.GROUPS) is None
    return {number: _group(listed.get(number) or facts_model.Group(id=number), linked.get(number, []), listed=told) for number in numbers}


def _group(group: facts_model.Group, linked: list[str], *, listed: bool) -> Group:
    regions, known = _regions(group.reserved_regions)
    members_known = listed and bool(group.devices)  # a group that nobody is in is gone: an empty list is one that was not read
    return Group(group.id, group.type, tuple(dict.fromkeys((*group.devices, *linked))), regions, known, members_known=members_known)


@lru_cache(maxsize=256)  # most groups of a host have the same lines
def _regions(lines: str | None) -> tuple[tuple[Region, ...], bool]:
    """Regions out of the lines, and whether they were there and all understood."""
    found, known = [], lines is not None
    for line in (lines or "").splitlines():
        words = line.split()
        try:
            found.append(Region(int(words[0], 16), int(words[1], 16), words[2]))
        except (IndexError, ValueError):
            known = False  # a line of a later kernel: the region's type is unknown, and so is what it forbids
    return tuple(found), known
