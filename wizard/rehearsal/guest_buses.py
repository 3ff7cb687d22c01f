"""The plan's topology in a paused QEMU: every bus, port, vSMMU and function asked for by QMP, and with firmware the bus numbers too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from qemu.qmp import ExecuteError, QMPClient

from wizard.plan.model import VmPlan
from wizard.rehearsal.pci import ECAM, ConfigAddress
from wizard.rehearsal.report import Check, Ended
from wizard.rehearsal.standin import stands_for_bars

FIRMWARE_SECONDS = 180  # UEFI needs 18 s on a fast machine under tcg


async def boot(client: QMPClient) -> None:
    """Let UEFI number the buses: over when a bus number stands and none has changed for two seconds."""
    await client.execute("cont")
    last: dict[str, tuple[int, int]] = {}
    still = 0
    for _ in range(FIRMWARE_SECONDS * 2):
        await asyncio.sleep(0.5)
        ranges = {id: (bridge["bus"]["secondary"], bridge["bus"]["subordinate"]) for id, bridge in bridges(await client.execute("query-pci")).items()}
        still = still + 1 if ranges == last and any(secondary for secondary, _ in ranges.values()) else 0
        last = ranges
        if still >= 4:
            return
    raise Ended(f"UEFI numbered no bus in {FIRMWARE_SECONDS} seconds")


def bridges(answer: Any) -> dict[str, dict[str, Any]]:
    """The bridges of ``query-pci`` by their id, wherever they are."""
    found: dict[str, dict[str, Any]] = {}
    waiting = [device for bus in answer for device in bus["devices"]]
    while waiting:
        device = waiting.pop()
        if bridge := device.get("pci_bridge"):
            found[device["qdev_id"]] = bridge
            waiting += bridge.get("devices", [])
    return found


def places(answer: Any) -> dict[str, tuple[int, int, int]]:
    """(bus, slot, function) of everything in ``query-pci``, by its id."""
    found = {}
    waiting = [device for bus in answer for device in bus["devices"]]
    while waiting:
        device = waiting.pop()
        found[device["qdev_id"]] = (device["bus"], device["slot"], device["function"])
        waiting += device.get("pci_bridge", {}).get("devices", [])
    return found


async def _bar_placed(client: QMPClient, place: tuple[int, int, int]) -> bool:
    """Whether UEFI gave BAR 2 and 3 of a stand-in an address. query-pci shows it only once a driver has switched the function on."""
    bus, slot, number = place
    at = ConfigAddress.build(base=ECAM, bus=bus, device=slot, function=number, offset=0x18).value
    said = await client.execute("human-monitor-command", {"command-line": f"xp /2wx {at:#x}"})
    low, high = (int(word, 16) for word in str(said).partition(":")[2].split()[:2])
    return high not in (0, 0xFFFF_FFFF) and low != 0xFFFF_FFFF and high < 0xFFFF_0000


def _place(at: tuple[int, int, int] | None) -> str:
    return "not there" if at is None else f"{at[0]:02x}:{at[1]:02x}.{at[2]}"


async def checks(vm: VmPlan, client: QMPClient, *, booted: bool, vsmmus: bool = True) -> AsyncIterator[Check]:
    """Everything that QEMU knows of the plan; ``booted``: UEFI has numbered the buses; ``vsmmus`` False where this QEMU can't have them."""

    async def get(id: str, name: str) -> str:
        try:
            value = await client.execute("qom-get", {"path": f"/machine/peripheral/{id}", "property": name})
        except ExecuteError as error:
            return str(error)
        if name == "addr" and isinstance(value, int):
            slot, number = divmod(value, 8)  # a devfn
            return f"{slot:02x}.{number}"
        return str(value).rpartition("/")[2] if name in ("parent_bus", "primary-bus") else str(value)

    answer: Any = await client.execute("query-pci")
    at, ranges = places(answer), bridges(answer)
    roots = sorted(bus["bus"] for bus in answer)
    expanders = [other.secondary for other in vm.others if other.kind == "expander"]
    yield Check("root buses", str(sorted([0, *(bus.bus_nr for bus in vm.buses), *expanders])), str(roots))
    for bus in vm.buses:
        yield Check(f"{bus.id} parent bus", "pcie.0", await get(bus.id, "parent_bus"))
        yield Check(f"{bus.id} bus_nr", str(bus.bus_nr), await get(bus.id, "bus_nr"))
        yield Check(f"{bus.id} slot", f"{bus.slot:02x}.0", await get(bus.id, "addr"))
        if bus.numa_node is not None:
            yield Check(f"{bus.id} numa_node", str(bus.numa_node), await get(bus.id, "numa_node"))
    for vsmmu in vm.vsmmus if vsmmus else ():
        yield Check(f"{vsmmu.id} bus", vsmmu.bus, await get(vsmmu.id, "primary-bus"))
    for port in vm.ports:
        root = next((bus.bus_nr for bus in vm.buses if bus.id == port.bus), 0)
        yield Check(f"{port.id} parent bus", port.bus, await get(port.id, "parent_bus"))
        yield Check(f"{port.id} place", _place((root, port.slot, 0)), _place(at.get(port.id)))
        yield Check(f"{port.id} chassis", str(port.chassis), await get(port.id, "chassis"))
        if booted:
            numbers = ranges[port.id]["bus"]
            yield Check(f"{port.id} bus range", f"{port.secondary}..{port.subordinate}", f"{numbers['secondary']}..{numbers['subordinate']}")
    for other in (one for one in vm.others if one.bridge):  # endpoints are among the options that were kept, which a rehearsal leaves out
        yield Check(f"{other.id} parent bus", other.bus, await get(other.id, "parent_bus"))
        yield Check(f"{other.id} place", f"{other.slot:02x}.{other.function}", await get(other.id, "addr"))
        if booted and other.kind != "expander":
            numbers = ranges[other.id]["bus"]
            yield Check(f"{other.id} bus range", f"{other.secondary}..{other.subordinate}", f"{numbers['secondary']}..{numbers['subordinate']}")
    for assigned in vm.devices:
        yield Check(f"{assigned.id} parent bus", assigned.port, await get(assigned.id, "parent_bus"))
        yield Check(f"{assigned.id} function", f"{assigned.slot:02x}.{assigned.function}", await get(assigned.id, "addr"))
        if booted:
            yield Check(f"{assigned.id} guest address", _place((assigned.bus, assigned.slot, assigned.function)), _place(at.get(assigned.id)))
            if stands_for_bars(assigned) and vm.memory.size < 255 << 30 and assigned.id in at:
                placed = await _bar_placed(client, at[assigned.id])
                yield Check(f"{assigned.id} 64-bit BAR", "placed", "placed" if placed else "without an address")
    emulated = [(disk.id, disk.bus, disk.slot) for disk in vm.disks] + [(network.id, network.bus, network.slot) for network in vm.networks]
    for id, bus_id, slot in emulated:
        yield Check(f"{id} parent bus", bus_id, await get(id, "parent_bus"))
        yield Check(f"{id} slot", f"{slot:02x}.0", await get(id, "addr"))
