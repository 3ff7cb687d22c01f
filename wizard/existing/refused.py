"""What QEMU refuses of a command line as it is written, which a plan can't have: its exports are in the right order and name what exists.

Each is a place, the word that is refused, and QEMU's own sentence (11.1.2, held against the binary in tests; sources: qemu-command-line).
"""

from __future__ import annotations

from collections.abc import Iterator

from wizard.existing.guest import ROOT_BUS, Bridge, Device, Fate, Function, Guest, Left, Origin, Vsmmu, Where
from wizard.plan.model import climb

Refusal = tuple[Where | None, str, str]


def refusals(guest: Guest) -> Iterator[Refusal]:
    """What QEMU ends with, in the order of the command line."""
    if guest.origin is not Origin.QEMU:
        return
    yield from _order(guest)
    yield from _iommufds(guest)
    yield from _vsmmus(guest)
    for bridge in guest.of(Bridge):
        if bridge.id == ROOT_BUS:
            yield bridge.place("id"), f"id={ROOT_BUS}", f"Two buses are called {ROOT_BUS} then, and whatever names it lands on the machine's own."


def _order(guest: Guest) -> Iterator[Refusal]:
    """Devices are made in the order in which they stand, those in JSON last: what one hangs on has to be there before."""
    made = {ROOT_BUS}
    later = {device.id for device in guest.of(Bridge)}
    for device in guest.devices:
        if device.bus is not None and device.bus not in made and device.bus in later:
            wanted = "Device" if isinstance(device, Vsmmu) else "Bus"
            yield (
                device.place("bus"),
                f"{device.driver} on {device.bus}",
                f"It is made before its bus: QEMU ends with \"{wanted} '{device.bus}' not found\".",
            )
        if isinstance(device, Bridge) and device.id is not None:
            made.add(device.id)


def _iommufds(guest: Guest) -> Iterator[Refusal]:
    for device in guest.of(Function):
        if isinstance(device, Function) and device.iommufd is not None and device.iommufd not in guest.iommufds:
            yield (
                device.place("iommufd"),
                f"iommufd={device.iommufd}",
                f"There is no such object: QEMU ends with \"Device '{device.iommufd}' not found\".",
            )


def _vsmmus(guest: Guest) -> Iterator[Refusal]:
    above = {
        bridge.id: bridge.bus for bridge in guest.of(Bridge) if isinstance(bridge, Bridge) and bridge.id and bridge.bus and bridge.kind != "expander"
    }
    before: list[Device] = []
    for device in guest.devices:
        if not isinstance(device, Vsmmu):
            before.append(device)
            continue
        if device.bus is None:
            yield device.where, "an arm-smmuv3 without primary-bus", "QEMU ends: 'SMMU is not attached to any PCI bus!'"
        if not device.accel or device.bus is None:
            continue
        early = next((one for one in before if one.bus and not isinstance(one, Bridge) and climb(above, one.bus) == device.bus), None)
        if early is not None:
            said = f"{early.id or early.driver} is made before its vSMMU: QEMU aborts in smmuv3_accel_find_add_as ('code should not be reached')."
            yield early.where, early.driver, said
        if device.stage not in (None, "1"):
            yield device.place("stage"), f"stage={device.stage}", "QEMU ends: 'Only stage1 is supported for SMMUv3 with accel=on'."
        used = sorted(
            {one.iommufd for one in guest.of(Function) if isinstance(one, Function) and one.iommufd and climb(above, one.bus or "") == device.bus}
        )
        if len(used) > 1:
            yield device.where, f"iommufd {' and '.join(used)}", "Functions behind one vSMMU have to be of one iommufd: its vIOMMU is made there."
        for left in guest.left:
            if _bypass(left) and (left.of == _expander(guest, device.bus) if left.of else device.bus == ROOT_BUS):
                yield left.where, left.text, "QEMU ends: 'Bypass option cannot be set for SMMUv3 associated PCIe RC'."
    if any(isinstance(device, Vsmmu) and device.accel for device in guest.devices):
        for left in guest.left:
            if left.text.endswith("kernel-irqchip=off"):
                yield left.where, left.text, "QEMU ends: 'SMMUv3 accel=on requires KVM with kernel-irqchip=on support'."
            if left.name == "-only-migratable":
                yield (
                    left.where,
                    left.name,
                    "disallowing migration blocker (--only-migratable) for: Migration not supported with SMMUv3 accelerator mode enabled",
                )


def _bypass(left: Left) -> bool:
    name, _, value = left.text.rpartition(" ")[2].partition("=")
    return left.fate is Fate.KEPT and name in ("bypass_iommu", "default-bus-bypass-iommu") and value in ("on", "true", "yes", "y")


def _expander(guest: Guest, bus: str) -> str | None:
    found = guest.device(bus)
    return found.id if found is not None else None
