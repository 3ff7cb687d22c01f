"""Two devices of QEMU that do DMA on demand, driven over qtest: iommu-testdev writes, edu reads (QEMU docs/specs/iommu-testdev.rst, edu.rst).

Where their data lands is looked up in memory, and never taken from what they say themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from wizard.export.command import Value
from wizard.rehearsal.qtest import Qtest

BYTES = 4
"""Of one access."""


class Engine(Protocol):
    """A device that does DMA on demand; ``part`` is the part of the report that it stands for."""

    model: ClassVar[str]
    properties: ClassVar[tuple[tuple[str, Value], ...]]
    part: ClassVar[str]
    writes: ClassVar[bool]

    def __init__(self, qtest: Qtest, bar: int) -> None: ...

    def prepare(self, lands: int) -> None:
        """Make memory at ``lands`` ready to tell."""
        ...

    def act(self, iova: int) -> None:
        """One access at ``iova``."""
        ...

    def landed(self, iova: int, lands: int) -> bool:
        """Whether the access at ``iova`` went to, or came from, guest physical ``lands``; memory is zero there again afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class Testdev:
    """``iommu-testdev`` with its BAR 0 at ``bar``."""

    qtest: Qtest
    bar: int
    model: ClassVar[str] = "iommu-testdev"
    properties: ClassVar[tuple[tuple[str, Value], ...]] = ()
    part: ClassVar[str] = "dma"
    writes: ClassVar[bool] = True
    _PATTERN: ClassVar[bytes] = (0x1234_5678).to_bytes(BYTES, "little")

    def prepare(self, lands: int) -> None:
        """Nothing is there yet."""
        self.qtest.store(lands, bytes(BYTES))

    def act(self, iova: int) -> None:
        """Write the pattern. The device also reads back at the address in registers 0x1c and 0x20 and compares; nobody asks how that went."""
        arm, nonsecure = 1, 1 << 1
        values = {0x04: iova & 0xFFFF_FFFF, 0x08: iova >> 32, 0x0C: BYTES, 0x18: nonsecure, 0x1C: 0, 0x20: 0, 0x14: arm}
        self.qtest.ask([*(f"writel {self.bar + offset:#x} {value:#x}" for offset, value in values.items()), f"readl {self.bar:#x}"])

    def landed(self, iova: int, lands: int) -> bool:
        """Whether the pattern is there."""
        found = self.qtest.load(lands, BYTES) == self._PATTERN
        self.qtest.store(lands, bytes(BYTES))
        return found


@dataclass(frozen=True, slots=True)
class Edu:
    """``edu`` with its BAR 0 at ``bar``: copies between memory and a buffer of its own."""

    qtest: Qtest
    bar: int
    model: ClassVar[str] = "edu"
    properties: ClassVar[tuple[tuple[str, Value], ...]] = (("dma_mask", (1 << 64) - 1),)
    part: ClassVar[str] = "reads"
    writes: ClassVar[bool] = False
    _MARK: ClassVar[bytes] = (0xA5C3_960F).to_bytes(BYTES, "little")
    _BUFFER: ClassVar[int] = 0x4_0000

    def prepare(self, lands: int) -> None:
        """A mark to be read, and room behind it."""
        self.qtest.store(lands, self._MARK + bytes(BYTES))

    def act(self, iova: int) -> None:
        """Read."""
        self._copy(iova, self._BUFFER, 1)

    def landed(self, iova: int, lands: int) -> bool:
        """Let the device write what it read behind the mark, in the same page, and look for it there."""
        self._copy(self._BUFFER, iova + BYTES, 3)
        found = self.qtest.load(lands + BYTES, BYTES) == self._MARK
        self.qtest.store(lands, bytes(2 * BYTES))
        return found

    def _copy(self, source: int, target: int, command: int) -> None:
        values = {0x80: source, 0x88: target, 0x90: BYTES, 0x98: command}
        self.qtest.ask([f"writeq {self.bar + offset:#x} {value:#x}" for offset, value in values.items()])
        self.qtest.clock_step(200_000_000)  # its timer is 100 ms
