"""Thousands of functions in one IOMMU group, and names that count how many of them are looked at."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from tests.tools.hosts import facts as fixture
from wizard.facts.model import Facts, Group


def crowd(count: int) -> Facts:
    """So many disks in one group, the first of them given away."""
    base = fixture("arm64-virt-canwbs")
    disk = next(one for one in base.functions if one.driver == "nvme")
    names = [f"0000:{16 + place // 256:02x}:{place // 8 % 32:02x}.{place % 8}" for place in range(count)]
    functions = tuple(
        replace(disk, address=name, path=f"pci0000:10/{name}", iommu_group=3, driver="nvme" if place else "vfio-pci")
        for place, name in enumerate(names)
    )
    return replace(base, functions=functions, groups=(Group(id=3, devices=tuple(names), reserved_regions=""),), hw_info=())


class Counted(tuple[str, ...]):
    """Names that count how many of them are looked at."""

    looks = 0

    def __iter__(self) -> Iterator[str]:
        for one in super().__iter__():
            Counted.looks += 1
            yield one
