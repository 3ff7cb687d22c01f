"""Where QEMU puts what a command line leaves out: the bus, the slot, the chassis. Held against query-pci of the real one (tests).

No ``bus=``: qbus_find_recursive() of system/qdev-monitor.c takes the first PCI bus below the system bus, whose children are newest first: the
newest expander that was made before, else pcie.0. Nothing is checked there: an endpoint on an expander fails only afterwards. No ``addr=``: the
first slot whose function 0 is free (do_pci_register_device() of hw/pci/pci.c); below a port that is slot 0.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from wizard.existing.guest import ROOT_BUS, Bridge, Device

SLOTS = 32


def placed(devices: Iterable[Device]) -> tuple[Device, ...]:
    """The same devices, in the order in which QEMU makes them, each with bus, slot and function; what was filled in is in ``implied``."""
    newest = ROOT_BUS
    taken: dict[str, set[tuple[int, int]]] = {ROOT_BUS: {(0, 0)}}  # the host bridge
    made: list[Device] = []
    for device in devices:
        if not device.pci:
            made.append(device)
            continue
        filled: dict[str, object] = {}
        bus = device.bus
        if bus is None:
            bus = filled["bus"] = newest
        used = taken.setdefault(bus, set())
        if device.slot is None:
            filled["slot"] = next((slot for slot in range(SLOTS) if (slot, 0) not in used), None)
        if device.function is None:
            filled["function"] = 0
        if isinstance(device, Bridge) and device.kind in ("port", "downstream"):
            filled |= {name: 0 for name in ("chassis", "port") if getattr(device, name) is None}
        if isinstance(device, Bridge) and device.kind == "expander":
            filled |= {"bus_nr": 0} if device.bus_nr is None else {}
            if device.id is not None:
                newest = device.id
        device = replace(device, **filled, implied=device.implied | filled.keys())
        if device.slot is not None:
            used.add((device.slot, device.function or 0))
        made.append(device)
    return tuple(made)
