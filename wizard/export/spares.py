"""Root ports on pcie.0 for what somebody adds to the domain later.

libvirt puts a device without an address on the first free root port by controller index (12.8, by `virsh domxml-to-native`): that is a
hot-plug port behind an accelerated vSMMU, or the port of a function that was taken out, and QEMU then refuses to start, or to plug
(sources: libvirt-accepts). So free ports on pcie.0 come first. When they are used up libvirt goes on to the others.

They move nothing that the plan predicts: UEFI numbers the buses of pcie.0 in the order of the slots (sources: qemu-P6), and these have the
last ones and only numbers that are left below the first expander.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from wizard.plan.model import ROOT_BUS, OtherPlan, PortPlan, VmPlan
from wizard.plan.numbers import BUSES, SLOTS, Names, Numbers

SPARES = 4
"""A disk, a network, the controller of the guest agent's channel and a random number generator."""


def spare_ports(vm: VmPlan) -> tuple[PortPlan, ...]:
    """As many of ``SPARES`` as there are slots and bus numbers for; none where no accelerated vSMMU is in the way."""
    if not any(vsmmu.accel for vsmmu in vm.vsmmus):
        return ()
    on_root: list[PortPlan | OtherPlan] = [port for port in vm.ports if port.bus == ROOT_BUS]
    on_root += [other for other in vm.others if other.bus == ROOT_BUS and other.bridge and other.kind != "expander"]
    expanders = [*(bus.bus_nr for bus in vm.buses), *(other.secondary for other in vm.others if other.kind == "expander")]
    taken = (
        {bus.slot for bus in vm.buses}
        | {disk.slot for disk in vm.disks}
        | {network.slot for network in vm.networks}
        | {other.slot for other in vm.others if other.bus == ROOT_BUS}
        | {device.slot for device in vm.devices if device.port == ROOT_BUS}
    )
    chassis = [*(port.chassis for port in vm.ports), *(other.chassis for other in vm.others)]
    names = Names([port.id for port in vm.ports] + [other.id for other in vm.others])
    last = max((port.subordinate for port in on_root), default=0)
    return tuple(
        PortPlan(
            id=names.give("spare", place), bus=ROOT_BUS, slot=slot, chassis=number, port=slot, secondary=last + place, subordinate=last + place,
        )
        for place, (slot, number) in enumerate(spare_places([port.slot for port in on_root], last, expanders, taken, chassis), 1)
    )  # fmt: skip


def spare_places(
    ports: Sequence[int], last: int, expanders: Sequence[int], taken: Collection[int], chassis: Iterable[int | None]
) -> list[tuple[int, int]]:
    """Slot and chassis of each: ``ports`` are the slots of pcie.0's own bridges, ``last`` the highest bus number below them."""
    numbers = min(expanders, default=BUSES) - 1 - last
    slots = [slot for slot in range(max(ports, default=0) + 1, SLOTS) if slot not in taken and slot not in ports]
    count = max(0, min(SPARES, numbers, len(slots)))
    free = Numbers(chassis, start=1)
    return [(slot, free.give()) for slot in slots[len(slots) - count :]]
