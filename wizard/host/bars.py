"""What sysfs says of a function's base address registers: how large each is, which configuration space does not tell."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from wizard.facts.model import PciFunction
from wizard.host.pci.bars import ResourceFlags, parse_resource


class Bar(msgspec.Struct, frozen=True):
    """One base address register: index 0 to 5 (6: expansion ROM), size in bytes."""

    index: int
    size: int
    memory: bool
    wide: bool  # 64-bit
    prefetchable: bool


def bars_of(facts: PciFunction) -> tuple[Bar, ...]:
    """BARs 0 to 5 with their sizes, as the kernel assigned them; a damaged `resource` gives none."""
    try:
        resources = parse_resource(facts.resource)
    except ValueError:
        return ()
    return tuple(_bar(int(resource.name[3:]), resource.size, resource.flags.value) for resource in resources if resource.name.startswith("bar"))


@lru_cache(maxsize=1024)  # those of all functions of one kind
def _bar(index: int, size: int, flags: int) -> Bar:
    kind = ResourceFlags(flags)
    return Bar(index=index, size=size, memory=bool(kind.MEM), wide=bool(kind.MEM_64), prefetchable=bool(kind.PREFETCH))
