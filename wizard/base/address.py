"""PCI addresses, written ``DDDD:BB:DD.F``: segment, bus, device, function.

The segment is four hex digits or more (Hyper-V and VMD number theirs above 0xffff); bus is two, device two (0 to 1f),
function one (0 to 7). On a root complex with ARI a function number of 0 to 255 takes the place of device and function;
sysfs still writes it as device and function.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

WRITTEN = r"(?:[0-9a-f]{4}|[1-9a-f][0-9a-f]{4,7}):[0-9a-f]{2}:[01][0-9a-f]\.[0-7]"
"""A pattern of what Linux calls a function (``%04x:%02x:%02x.%d``: pci_setup_device, drivers/pci/probe.c): one function has one name."""

_ADDRESS = re.compile(r"(?:([0-9a-fA-F]{4,8}):)?([0-9a-fA-F]{2}):([01][0-9a-fA-F])\.([0-7])")


class Address(NamedTuple):
    """One PCI function. Sorts by segment, bus, device, function."""

    segment: int
    bus: int
    device: int
    function: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """From ``0000:14:00.0``, or ``14:00.0`` for segment 0; ``ValueError`` for anything else."""
        return _parse(text)

    @classmethod
    def of_rid(cls, segment: int, rid: int) -> Address:
        """From a segment and a 16-bit requester ID (bus 15:8, device 7:3, function 2:0)."""
        if not 0 <= rid <= 0xFFFF:
            raise ValueError(f"a requester ID has 16 bits: {rid:#x}")
        return cls(segment, rid >> 8, (rid >> 3) & 0x1F, rid & 7)

    @property
    def rid(self) -> int:
        """The requester ID: bus 15:8, device 7:3, function 2:0 (PCIe 6.0, 2.2.4.2)."""
        return self.bus << 8 | self.device << 3 | self.function

    @property
    def slot(self) -> str:
        """Segment, bus and device: what the functions of one device share."""
        return f"{self.segment:04x}:{self.bus:02x}:{self.device:02x}"

    def __str__(self) -> str:
        return f"{self.segment:04x}:{self.bus:02x}:{self.device:02x}.{self.function}"


@lru_cache(maxsize=65536)
def _parse(text: str) -> Address:
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError(f"not a PCI address: {text!r}")
    segment, bus, device, function = match.groups()
    return Address(int(segment or "0", 16), int(bus, 16), int(device, 16), int(function))
