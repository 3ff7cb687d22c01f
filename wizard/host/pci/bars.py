"""Base address registers, bridge windows, and the kernel's own list of a function's resources.

Sizes are not in configuration space (finding them means writing to it); they come from sysfs ``resource``.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from wizard.arch import pci
from wizard.arch.bits import Record, field
from wizard.host.pci.config import ConfigSpace


class Bar(msgspec.Struct, frozen=True):
    """One base address register. ``kind`` is ``io``, ``32-bit``, ``below 1M`` or ``64-bit``; a reserved type stays a number."""

    index: int
    kind: str
    prefetchable: bool
    address: int


class Window(msgspec.Struct, frozen=True):
    """Addresses that a bridge forwards; ``last`` is inclusive. ``kind`` is ``io``, ``memory`` or ``prefetchable``."""

    kind: str
    wide: bool  # 32-bit I/O or 64-bit memory
    first: int
    last: int

    @property
    def enabled(self) -> bool:
        """A window whose base lies above its limit forwards nothing."""
        return self.first <= self.last


class Bridge(msgspec.Struct, frozen=True):
    """Bus numbers and windows of a type 1 header."""

    primary: int
    secondary: int
    subordinate: int
    windows: tuple[Window, ...]


def bars(space: ConfigSpace) -> tuple[Bar, ...]:
    """Base address registers that hold anything; six in a function, two in a bridge.

    A register of all zeros is left out: whether it is not there or not assigned, only ``resource`` can tell. A VF's are
    always zero (PCIe 9.3.4.1.11), its addresses are in the PF's SR-IOV capability.
    """
    if space.dead:
        return ()
    count = {0: 6, 1: 2, 2: 1}.get(space.header_type, 0)
    return decode_bars(tuple(space.word(pci.BaseAddress.at + 4 * index) for index in range(count)))


def decode_bars(registers: tuple[int, ...]) -> tuple[Bar, ...]:
    """Base address registers from their 32-bit words, in header and SR-IOV capability alike."""
    found: list[Bar] = []
    index = 0
    while index < len(registers):
        word = registers[index]
        wide = 0
        if word:
            register = pci.BaseAddress(word)
            if register.IO:
                found.append(Bar(index, "io", False, register.IO_ADDRESS))
            else:
                kind = pci.BaseAddress.TYPE.meaning(register.TYPE) or f"type {register.TYPE}"
                wide = int(kind == "64-bit" and index + 1 < len(registers))
                address = register.MEMORY_ADDRESS | (registers[index + 1] << 32 if wide else 0)
                found.append(Bar(index, kind, bool(register.PREFETCHABLE), address))
        index += 1 + wide
    return tuple(found)


def bridge(space: ConfigSpace) -> Bridge | None:
    """Buses and windows of a bridge; None for anything but a type 1 header."""
    if space.header_type != 1 or space.dead:
        return None
    data = space.data
    buses = pci.BridgeBuses.read(data)
    io, io_upper = pci.IoWindow.read(data), pci.IoWindowUpper.read(data)
    memory = pci.MemoryWindow.read(data)
    prefetchable, upper = pci.MemoryWindow.read(data, 4), pci.PrefetchableUpper.read(data)
    wide_io, wide = io.BASE_TYPE == 1, prefetchable.BASE_TYPE == 1
    windows = (
        Window("io", wide_io, io.BASE | (io_upper.BASE if wide_io else 0), io.LIMIT | (io_upper.LIMIT if wide_io else 0) | 0xFFF),
        Window("memory", False, memory.BASE, memory.LIMIT | 0xFFFFF),
        Window("prefetchable", wide, prefetchable.BASE | (upper.BASE if wide else 0), prefetchable.LIMIT | (upper.LIMIT if wide else 0) | 0xFFFFF),
    )
    return Bridge(buses.PRIMARY, buses.SECONDARY, buses.SUBORDINATE, windows)


class ResourceFlags(Record, bits=64):
    """IORESOURCE_* flags of the kernel (include/linux/ioport.h)."""

    IO = field(8)
    MEM = field(9)
    PREFETCH = field(13)
    READONLY = field(14)
    SIZEALIGN = field(18, doc="aligned to its size: every BAR, no bridge window")
    MEM_64 = field(20)
    WINDOW = field(21)
    DISABLED = field(28)
    UNSET = field(29, doc="no address assigned; start is 0")


class Resource(msgspec.Struct, frozen=True):
    """One line of sysfs ``resource``; ``end`` is inclusive.

    ``name`` is ``bar0`` to ``bar5``, ``rom``, ``vf_bar0`` to ``vf_bar5``, or ``window0`` to ``window3`` of a bridge. A VF BAR's
    range covers all TotalVFs, not one.
    """

    name: str
    start: int
    end: int
    flags: ResourceFlags

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start + 1

    @property
    def assigned(self) -> bool:
        """The kernel gave it an address."""
        return not self.flags.UNSET


EMPTY = "0x0000000000000000 0x0000000000000000 0x0000000000000000"
"""A line of ``resource`` for what is not there."""
_flags = lru_cache(maxsize=256)(ResourceFlags)  # a few kinds of regions


def parse_resource(text: str) -> tuple[Resource, ...]:
    """The used lines of a function's sysfs ``resource``: ``start end flags`` each, in hex.

    Lines without meaning (flags 0) are left out, and may be missing at the end. ``ValueError`` for a line that is not three hex
    numbers or for more lines than the kernel has.
    """
    lines = text.rstrip().split("\n") if text and not text.isspace() else []
    if len(lines) > 17:
        raise ValueError(f"resource: {len(lines)} lines")
    found = []
    for number, line in enumerate(lines):
        if line == EMPTY:
            continue
        words = line.split()
        if len(words) != 3:
            raise ValueError(f"resource: not three numbers: {line[:80]!r}")
        start, end, bits = (int(word, 16) for word in words)
        if (start | end | bits) >> 64:  # -1 where one is negative
            raise ValueError(f"resource: a number outside 64 bits: {line[:80]!r}")
        if bits and end >= start:
            flags = _flags(bits)
            found.append(Resource(_resource_name(number, flags), start, end, flags))
    return tuple(found)


def _resource_name(number: int, flags: ResourceFlags) -> str:
    """The kernel's numbering (include/linux/pci.h): six VF BARs follow the ROM only with CONFIG_PCI_IOV, then a bridge's windows."""
    if number < 7:
        return f"bar{number}" if number < 6 else "rom"
    if number >= 13:
        return f"window{number - 13}"
    return f"vf_bar{number - 7}" if flags.SIZEALIGN or number > 10 else f"window{number - 7}"
