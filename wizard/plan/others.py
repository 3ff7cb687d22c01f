"""What else is on the buses of a VM that exists: its slots, and the bus numbers that firmware will give below its bridges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from wizard.plan.model import ROOT_BUS, OtherPlan, PortPlan, climb
from wizard.plan.numbers import Numbers
from wizard.plan.request import OtherRequest


def with_slots(others: Iterable[OtherRequest], slots: Mapping[str, Numbers], chassis: Numbers) -> tuple[OtherPlan, ...]:
    """Every number but those of buses; ``slots`` are the numbers that are left on the buses which others share."""
    own: dict[str, Numbers] = {}
    found = list(others)
    made = []
    for other in found:
        bus = other.bus or ROOT_BUS
        free = slots.get(bus) or own.setdefault(bus, Numbers(one.slot for one in found if one.bus == bus))
        numbered = other.kind in ("port", "downstream")
        made.append(
            OtherPlan(
                id=other.id,
                kind=other.kind,
                driver=other.driver,
                bus=bus,
                slot=free.give(other.slot),
                function=other.function,
                bus_nr=other.bus_nr,
                numa_node=other.numa_node,
                chassis=chassis.give(other.chassis) if numbered else other.chassis,
                port=other.port,
                bus_reserve=other.bus_reserve,
                mem_reserve=other.mem_reserve,
                pref64_reserve=other.pref64_reserve,
            )
        )
    return tuple(made)


def complexes(others: Iterable[OtherRequest]) -> dict[str, str]:
    """The root complex of each bridge that is none itself."""
    above = {other.id: other.bus or ROOT_BUS for other in others if other.kind != "expander"}
    return {id: climb(above, id) for id in above}


def numbered(bus: str, first: int, ports: Sequence[PortPlan], others: Sequence[OtherPlan]) -> tuple[list[tuple[int, PortPlan]], list[OtherPlan]]:
    """The bridges below a root complex with their bus numbers, as UEFI gives them: depth first, in the order of slots and functions.

    ``ports`` are those of this complex; the result says the place of each among them (sources: qemu-P5, qemu-P6).
    """
    made: list[tuple[int, PortPlan]] = []
    placed: list[OtherPlan] = []
    seen: set[str] = set()

    def below(bridge: str, at: int) -> int:
        here: list[tuple[int, PortPlan | OtherPlan]] = [(place, port) for place, port in enumerate(ports) if port.bus == bridge]
        here += [(-1, other) for other in others if other.bus == bridge and other.bridge and other.kind != "expander"]
        for place, one in sorted(here, key=lambda item: (item[1].slot, item[1].function if isinstance(item[1], OtherPlan) else 0)):
            secondary = at + 1
            if isinstance(one, PortPlan):
                at = secondary + (one.bus_reserve or 0)
                made.append((place, replace(one, secondary=secondary, subordinate=at)))
                continue
            if one.id in seen:
                continue  # a ring, or an id that is there twice: a rule of its own names it
            seen.add(one.id)
            at = max(below(one.id, secondary), secondary + (one.bus_reserve or 0))
            placed.append(replace(one, secondary=secondary, subordinate=at))
        return at

    below(bus, first)
    return made, placed
