"""Numbers of the guest's PCI topology: slots, chassis, bus ranges.

A root complex has the buses from its ``bus_nr`` up to the one before the next higher ``bus_nr`` (the last one up to 255). Each
root port takes one, and its bus reserve more; UEFI numbers them in the order of the slots, and leaves a port without room
dead and its devices unseen. QEMU checks none of this (sources: qemu-P3, qemu-P4, qemu-P5, qemu-P6).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable

BUSES = 256
SLOTS = 32
_NAMESPACE = uuid.UUID("5a3b6d1e-0f0c-5a0e-9c4b-3c1f6a9d2e71")  # of this program: a VM's UUID follows from its name
STEP = 8  # bus numbers start on a multiple of 8 where there is room: easier to read, and room to grow


class Numbers:
    """Hands out numbers: those that are written first, then the lowest that are free."""

    def __init__(self, taken: Iterable[int | None], start: int = 0) -> None:
        self._taken = {number for number in taken if number is not None}
        self._next = start

    def give(self, wanted: int | None = None) -> int:
        """``wanted`` if it is written, else the next free one (beyond any limit: a rule names what doesn't fit)."""
        if wanted is not None:
            return wanted
        while self._next in self._taken:
            self._next += 1
        self._taken.add(self._next)
        return self._next


class Names:
    """Hands out names ``stem1``, ``stem2``… that nobody has written."""

    def __init__(self, taken: Iterable[str | None]) -> None:
        self._taken = {name for name in taken if name is not None}

    def give(self, stem: str, start: int, wanted: str | None = None) -> str:
        """``wanted`` if it is written, else the first free name from ``stem`` + ``start``."""
        if wanted is not None:
            return wanted
        while f"{stem}{start}" in self._taken:
            start += 1
        self._taken.add(f"{stem}{start}")
        return f"{stem}{start}"


def bus_numbers(root_need: int, needs: list[tuple[int | None, int]]) -> list[int]:
    """``bus_nr`` for each pxb of (written number or None, buses that it needs, its own included).

    ``root_need`` is what pcie.0 needs. Where not everything fits into 256 buses the rest gets numbers past the end.
    """
    fixed = [(0, root_need), *((number, need) for number, need in needs if number is not None)]
    for step in (STEP, 1):
        placed = list(fixed)
        result = []
        for number, need in needs:
            if number is None:
                number = _first_fit(placed, need, step)
                placed.append((number, need))
            result.append(number)
        if all(at >= 0 and at + need <= BUSES for at, need in placed):
            break
    return result


def _first_fit(placed: list[tuple[int, int]], need: int, step: int) -> int:
    at = 0
    for start, length in sorted(placed):
        if start - at >= need and at > 0:
            return at
        at = max(at, -(-(start + length) // step) * step)
    return at


def mac_of(name: str, count: int) -> str:
    """An address of QEMU's own range, the same for the same VM: 52:54:00 and three bytes of the name's hash."""
    tail = hashlib.sha256(f"{name}\0{count}".encode("utf-8", "surrogatepass")).digest()[:3]
    return ":".join(f"{byte:02x}" for byte in (0x52, 0x54, 0x00, *tail))


def uuid_of(name: str) -> str:
    """A UUID, the same for the same VM."""
    return str(uuid.uuid5(_NAMESPACE, name.encode("utf-8", "backslashreplace").decode()))
