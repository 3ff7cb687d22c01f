"""Who shares a bus or a group, asked of an index: the same answers as by a look at every function of the host."""

from __future__ import annotations

import random
from collections.abc import Callable

from msgspec.structs import replace

from wizard.host.build import host_of
from wizard.host.model import Function, Host
from wizard.host.todo import Company
from wizard.host.uses import on_vfio

Hosts = Callable[[str], Host]


def by_looking(host: Host, here: Function) -> tuple[str, ...]:
    if here.parent is None:
        return ()
    functions = host.functions.values()
    return tuple(str(f) for f in functions if f.parent == here.parent and f is not here and f.address.bus == here.address.bus)


def test_neighbours_by_index_and_by_looking(host: Hosts) -> None:
    dice = random.Random(2312)
    seen = {"bus": 0, "group": 0}
    for name in ("arm64-virt-canwbs", "grace-1s", "altra-ava", "raspberry-pi-5") * 10:
        facts = host(name).facts
        groups = [group.id for group in facts.groups] or [0]
        changed = [
            replace(f, driver=dice.choice((None, "vfio-pci", "pcieport", "nvme")), iommu_group=dice.choice((f.iommu_group, groups[0])))
            for f in facts.functions
            if dice.random() < 0.9
        ]
        dice.shuffle(changed)
        made = host_of(replace(facts, functions=tuple(changed)))
        company = Company(made.functions)
        for function in made.functions.values():
            found = tuple(map(str, company.on_bus(function)))
            assert found == by_looking(made, function)
            seen["bus"] += bool(found)
        for group in made.groups.values():
            want = any(on_vfio(made.functions[address]) for address in group.devices if address in made.functions)
            assert company.given_away(group) is want
            seen["group"] += want
        for smmu in made.smmus.values():
            assert smmu.functions == tuple(map(str, sorted(f.address for f in made.functions.values() if f.smmu == smmu.name)))
    assert min(seen.values()) > 20
