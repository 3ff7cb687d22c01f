"""What a source could not hold: "not there" and "nobody looked" are two answers, and an empty list is neither of them by itself.

A source that can't hold a thing, or did not find the place where it would be, says so in ``Facts.unread`` under the place that it has
on a host; ``*`` stands for every function. A place that is noted covers what is below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from wizard.facts.model import PASTE, Facts


class Place(StrEnum):
    """Where verdicts rest on there being nothing: each can be empty, and each can be missing from what was recorded."""

    FUNCTIONS = "/sys/bus/pci/devices"
    LINKS = "/sys/bus/pci/devices/*/iommu"  # of each function to its IOMMU
    GROUP_LINKS = "/sys/bus/pci/devices/*/iommu_group"
    CONFIG = "/sys/bus/pci/devices/*/config"
    RESOURCES = "/sys/bus/pci/devices/*/resource"
    DRIVERS = "/sys/bus/pci/devices/*/driver"
    IOMMUS = "/sys/class/iommu"
    GROUPS = "/sys/kernel/iommu_groups"
    LOG = "dmesg"
    IORT = "/sys/firmware/acpi/tables/IORT"
    DEVICE_TREE = "/sys/firmware/devicetree/base"


ELSEWHERE: dict[Place, tuple[str, ...]] = {Place.LOG: ("/dev/kmsg", "/var/log/dmesg")}
"""Other names that a source gives the same thing."""

# Collections that a snapshot always names, be they empty: one that does not was cut, and says nothing of them.
COLLECTIONS = {"functions": Place.FUNCTIONS, "iommus": Place.IOMMUS, "groups": Place.GROUPS, "log": Place.LOG, "acpi": Place.IORT}

# Recordings of umockdev hold what was asked for of the devices that were named; those made before this was noted say so by their origin.
_UMOCKDEV = "umockdev"
NOT_IN_UMOCKDEV = (Place.IOMMUS, Place.LINKS, Place.GROUP_LINKS)


def why_unread(facts: Facts, place: Place) -> str | None:
    """Why a source says nothing of a place; None where it was looked at."""
    if facts.origin == _UMOCKDEV and place in NOT_IN_UMOCKDEV:
        return "absent"
    return _noted(facts.unread, place)


def whole(facts: Facts) -> bool:
    """Whether every function of the host is there; a recording of umockdev holds those that were named, a paste what somebody chose."""
    return facts.origin not in (_UMOCKDEV, PASTE) and why_unread(facts, Place.FUNCTIONS) is None


def _noted(unread: Mapping[str, str], place: Place) -> str | None:
    if not unread:
        return None
    for name in (place.value, *ELSEWHERE.get(place, ())):
        above = name
        while above and above != "/":
            if above in unread:
                return unread[above]
            above = above.rpartition("/")[0]
    return None
