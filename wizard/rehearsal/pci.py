"""What firmware would do on the buses of a QEMU whose processor does not run: bus numbers, windows, BARs, bus mastering."""

from __future__ import annotations

import re

from wizard.arch.bits import Record, address, field
from wizard.arch.pci import BridgeBuses, Command, MemoryWindow, Register
from wizard.plan.model import VmPlan
from wizard.rehearsal.qtest import Qtest

ECAM = 0x40_1000_0000  # VIRT_HIGH_PCIE_ECAM of hw/arm/virt.c, where guest memory ends below 256 GiB
WINDOW = (0x1000_0000, 0x3EF0_0000)  # VIRT_PCIE_MMIO, the 32-bit window, in whole MiB
MIB = 1 << 20
"""The unit of a bridge's memory window; no BAR 0 of a stand-in is larger."""


class ConfigAddress(Record, bits=64):
    """Where a function's configuration space lies (PCI Express 6.0, 7.2.2)."""

    base = address(63, 28)
    bus = field(27, 20)
    device = field(19, 15)
    function = field(14, 12)
    offset = field(11, 0)


class FirstBar(Register, bits=32, at=0x10):
    """Base address register 0."""

    ADDRESS = field(31, 4, shift=4)


def ecam_of(memory_tree: str) -> int:
    """Where QEMU put configuration space, out of ``info mtree``: it moves up with much memory. ``ValueError`` when it is not there."""
    found = re.search(r"([0-9a-f]{16})-[0-9a-f]{16} [^\n]*alias pcie-ecam ", memory_tree)
    if found is None:
        raise ValueError("info mtree shows no pcie-ecam")
    return int(found[1], 16)


def wire(qtest: Qtest, ecam: int, vm: VmPlan) -> dict[str, int]:
    """Number the buses as the plan predicts, open windows, place BAR 0 of every stand-in, let it be a bus master: BARs by device id.

    ``ValueError`` for more functions than the 32-bit window has room for.
    """
    roots = {bus.id: bus.bus_nr for bus in vm.buses}
    ready = Command.build(MEM=1, MASTER=1)
    placed: dict[str, int] = {}
    free = WINDOW[0]
    for port in vm.ports:
        behind = [assigned for assigned in vm.devices if assigned.port == port.id]
        if not behind:
            continue
        root, start = roots.get(port.bus, 0), free
        free += len(behind) * MIB
        if free > WINDOW[1]:
            raise ValueError(f"the 32-bit window has no room for {len(vm.devices)} functions")
        bridge = ConfigAddress.build(base=ecam, bus=root, device=port.slot).value
        _set(qtest, bridge, BridgeBuses.build(PRIMARY=root, SECONDARY=port.secondary, SUBORDINATE=port.subordinate))
        _set(qtest, bridge, MemoryWindow.build(BASE=start, LIMIT=free - MIB))
        _set(qtest, bridge, ready)
        for index, assigned in enumerate(behind):
            function = ConfigAddress.build(base=ecam, bus=port.secondary, function=assigned.function).value
            placed[assigned.id] = start + index * MIB
            _set(qtest, function, FirstBar.build(ADDRESS=placed[assigned.id]))
            _set(qtest, function, ready)
    return placed


def _set(qtest: Qtest, function: int, register: Register) -> None:
    qtest.write(function + register.at, register.value, register.bits)
