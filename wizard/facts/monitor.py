"""Hot-plug: what changes on the PCI bus while the program runs, as udev tells it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import NamedTuple

import pyudev

from wizard.base.errors import InputError


class Change(NamedTuple):
    """One event: ``action`` is add, remove, bind, unbind or change; ``driver`` is None where none is bound."""

    action: str
    address: str
    driver: str | None


class PciMonitor:
    """Events of PCI functions from the moment it is made; nothing that happened meanwhile is lost up to the socket's size."""

    def __init__(self, source: str = "udev") -> None:
        """``source`` is udev (after its rules have run) or kernel (without udevd)."""
        try:
            self._monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source=source)
            self._monitor.filter_by("pci")
            self._monitor.start()
        except (ImportError, OSError) as error:
            raise InputError(f"udev can't be asked for changes ({error}).", "Reload by hand; nothing else is missing.") from error

    def fileno(self) -> int:
        """For select and asyncio: readable when there is an event."""
        number: int = self._monitor.fileno()
        return number

    def poll(self, timeout: float | None = None) -> Change | None:
        """The next event, or None after ``timeout`` seconds (None waits for ever)."""
        device = self._monitor.poll(timeout)
        if device is None:
            return None
        # The properties are those of the event: a device that is gone by now has no attributes to look up.
        properties = device.properties
        return Change(device.action or "change", properties.get("PCI_SLOT_NAME") or device.sys_name, properties.get("DRIVER"))


def changes(stop: threading.Event, source: str = "udev", interval: float = 0.5) -> Iterator[Change]:
    """Events until ``stop`` is set, which is looked at every ``interval`` seconds: for a thread of its own."""
    monitor = PciMonitor(source)
    while not stop.is_set():
        change = monitor.poll(interval)
        if change is not None:
            yield change
