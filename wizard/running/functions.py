"""Functions of the host while a VM holds them: driver, power, link, bus mastering, interrupts. Any user may read all of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from wizard.arch.pci import Command
from wizard.base.text import plural
from wizard.facts.vfio import is_vfio_driver
from wizard.running.process import PROC, SYS

_INTERRUPT = re.compile(r"\bvfio-(intx|msi|msix)(?:\[[0-9]+\])?\(([0-9a-f:.]+)\)\s*$")
_LIMIT = 8 << 20  # bytes of /proc/interrupts: a host with 512 processors and many devices


class Interrupts(msgspec.Struct, frozen=True, kw_only=True):
    """Those that the kernel has for a function: how the guest asked for them, and how many came since then."""

    kind: str  # intx, msi, msix
    vectors: int
    count: int

    @property
    def told(self) -> str:
        """In words."""
        return f"{plural(self.vectors, 'vector')} of {self.kind}, {self.count} so far"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What sysfs says of one function; None: not read. ``bus_master``: whether the guest's driver lets it do DMA."""

    address: str
    there: bool
    driver: str | None = None
    power: str | None = None
    runtime: str | None = None
    node: int | None = None
    smmu: str | None = None
    link: str | None = None  # "8.0 GT/s PCIe x4"
    link_best: str | None = None
    bus_master: bool | None = None
    interrupts: Interrupts | None = None

    @property
    def on_vfio(self) -> bool:
        """Whether its driver is one of VFIO's."""
        return is_vfio_driver(self.driver)

    @property
    def in_use(self) -> bool | None:
        """Whether somebody holds it open: a function that is bound and unused sleeps (D3hot)."""
        return None if self.runtime is None else self.runtime == "active"


def states(addresses: Iterable[str], *, proc: Path = PROC, sys: Path = SYS) -> dict[str, State]:
    """The functions, by their addresses."""
    counted = interrupts(proc)
    return {address: _state(address, sys / "bus/pci/devices" / address, counted.get(address)) for address in addresses}


def interrupts(proc: Path = PROC) -> dict[str, Interrupts]:
    """Those of every function that VFIO has, out of /proc/interrupts; vfio_intx_enable() and vfio_msi_set_vector_signal() name them."""
    found: dict[str, Interrupts] = {}
    for line in (_read(proc / "interrupts", _LIMIT) or "").splitlines():
        match = _INTERRUPT.search(line)
        if match is None:
            continue
        counts = [int(word) for word in line.partition(":")[2].split() if word.isdecimal()]
        before = found.get(match[2])
        found[match[2]] = Interrupts(
            kind=match[1], vectors=(before.vectors if before else 0) + 1, count=(before.count if before else 0) + sum(counts)
        )
    return found


def _state(address: str, place: Path, counted: Interrupts | None) -> State:
    if not place.is_dir():
        return State(address=address, there=False)
    node = _read(place / "numa_node")
    return State(
        address=address, there=True, driver=_name(place / "driver"), power=_read(place / "power_state"),
        runtime=_read(place / "power/runtime_status"), node=int(node) if node is not None and node.isdecimal() else None, smmu=_name(place / "iommu"),
        link=_link(place, "current"), link_best=_link(place, "max"), bus_master=_bus_master(place), interrupts=counted,
    )  # fmt: skip


def _read(path: Path, limit: int = 4096) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(limit).decode(errors="backslashreplace").strip()
    except OSError:
        return None  # not there, as an attribute of this device or of this kernel


def _name(path: Path) -> str | None:
    try:
        return os.path.basename(os.readlink(path))
    except OSError:
        return None


def _link(place: Path, which: str) -> str | None:
    speed, width = _read(place / f"{which}_link_speed"), _read(place / f"{which}_link_width")
    return f"{speed} x{width}" if speed and width and width != "0" and "Unknown" not in speed else None


def _bus_master(place: Path) -> bool | None:
    try:
        with (place / "config").open("rb") as file:
            head = file.read(6)
    except OSError:
        return None
    return bool(Command.read(head).MASTER) if len(head) == 6 else None
