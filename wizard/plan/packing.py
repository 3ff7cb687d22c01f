"""More than 32 root ports on one root complex: the ones beyond the slots become further functions of slots that have one.

A slot has eight functions, and a root port may be any of them (``addr=0x3.1``) where function 0 of the slot says ``multifunction=on``:
pcie-root-port of QEMU, pci_init_multifunction() of hw/pci/pci.c. UEFI numbers them in the order of slots and functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from wizard.plan.guest_topology import Asked, GuestTopology
from wizard.plan.model import ROOT_BUS, PortPlan
from wizard.plan.numbers import SLOTS, Names
from wizard.plan.request import OtherRequest, VmRequest

FUNCTIONS = 8  # of a slot (PCI Local Bus 3.0, 6.2.1)


def packed(request: VmRequest, asked: Sequence[Asked], layout: GuestTopology) -> tuple[VmRequest, list[Asked]] | None:
    """The request and its functions with ports beyond the slots of a pxb put into slots that are taken; None where every port has a slot of its own.

    What is written keeps its place, and ports left free for hot-plug stay alone. Where it does not fit, the rest stays where a rule names it.
    """
    others: list[OtherRequest] = []
    port_of: dict[int, OtherRequest] = {}
    fixed: dict[int, PortPlan] = {}
    for bus in (bus.id for bus in layout.buses if bus.id != ROOT_BUS):
        ports = [(port, held) for port, held in zip(layout.ports, layout.functions, strict=True) if port.bus == bus]
        beyond = sum(port.slot >= SLOTS for port, _ in ports)
        free = [(port, held[0]) for port, held in ports if not port.hotplug and len(held) == 1 and not _written(held[0])]
        moved = free[len(free) - min(beyond, len(free)) :]
        if not moved:
            continue
        gone = {port.id for port, _ in moved}
        names = Names([*(port.id for port in layout.ports if port.id not in gone), *(other.id for other in (*request.others, *others))])
        staying = [(port, held) for port, held in ports if port.id not in gone]
        taken = {other.slot for other in request.others if other.bus == bus} | {port.slot for port, held in staying if held and _written(held[0])}
        slots = iter([slot for slot in range(SLOTS) if slot not in taken])
        heads = []
        for port, held in staying:
            slot = port.slot if held and _written(held[0]) else next(slots, port.slot)
            fixed |= {id(one): replace(port, slot=slot) for one in held}
            heads += [slot] if held and not port.hotplug and slot < SLOTS else []
        used = {(other.slot, other.function) for other in request.others if other.bus == bus}
        places = (place for place in _places(heads) if place not in used)
        for _, one in moved:
            place = next(places, None)
            if place is not None:
                made = OtherRequest(id=names.give(f"{bus}.port", len(staying) + 1), kind="port", bus=bus, slot=place[0], function=place[1])
                others.append(made)
                port_of[id(one)] = made
    if not others:
        return None
    return replace(request, others=(*request.others, *others)), [_placed(one, port_of.get(id(one)), fixed.get(id(one))) for one in asked]


def _written(one: Asked) -> bool:
    return (one.request.port, one.request.port_slot, one.request.chassis) != (None, None, None)


def _places(heads: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Free functions of the slots that have a port as their function 0."""
    for slot in heads:
        for function in range(1, FUNCTIONS):
            yield slot, function


def _placed(one: Asked, port: OtherRequest | None, kept: PortPlan | None) -> Asked:
    if port is not None:
        return Asked(replace(one.request, port=port.id, function=0), one.candidate, one.mode)
    if kept is not None and not _written(one):
        return Asked(replace(one.request, port_slot=kept.slot), one.candidate, one.mode)
    return one
