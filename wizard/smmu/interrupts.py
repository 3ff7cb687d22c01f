"""Global errors and interrupts, by wire and by message: IHI 0070 3.18, 4.7.3, 6.3.16 to 6.3.23, 7.5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wizard.arch.command import Sync
from wizard.arch.registers import GERROR, IRQ_CTRL, IrqCfg0
from wizard.smmu.memory import Memory
from wizard.smmu.registers import Registers

Source = Literal["SYNC", "EVENTQ", "PRIQ", "GERROR"]
"""What interrupts: the completion of a CMD_SYNC, a queue, a global error."""


@dataclass(frozen=True, slots=True)
class Msi:
    """A message that the SMMU wrote: ``source`` is ``SYNC``, ``EVENTQ``, ``GERROR`` or ``PRIQ``."""

    source: Source
    address: int
    data: int


@dataclass(frozen=True, slots=True)
class Interrupt:
    """An interrupt of the SMMU's own: an edge on the wire of ``source``, and with it a message where one was sent and taken.

    An SMMU has wires, or messages (IDR0.MSI), or both; this one always has wires. Software that configured a message ignores the wire, and
    gives no address where it wants the wire (4.7.3, 6.3.21).
    """

    source: Source
    msi: Msi | None = None


class Interrupts:
    """GERROR, and the interrupts of the SMMU itself in order: ``edges`` all of them, ``msis`` the messages that reached memory."""

    __slots__ = ("edges", "memory", "msis", "registers")

    def __init__(self, registers: Registers, memory: Memory) -> None:
        self.registers, self.memory = registers, memory
        self.msis: list[Msi] = []
        self.edges: list[Interrupt] = []

    def active(self, error: str) -> bool:
        """Whether a global error is active: its bits in GERROR and GERRORN differ (6.3.19)."""
        known = GERROR.layout[error]
        return known.get(self.registers["GERROR"]) != known.get(self.registers["GERRORN"])

    def raise_error(self, error: str) -> None:
        """Make a global error active: toggle its bit unless it is active already (6.3.19)."""
        if self.active(error):
            return
        known, now = GERROR.layout[error], self.registers["GERROR"]
        self.registers.values["GERROR"] = known.put(now, 1 - known.get(now))
        if error != "MSI_GERROR_ABT_ERR":
            # A message about GERROR's own message would abort as well, for ever; the wire is silent too (7.5.1).
            self.signal("GERROR")

    def acknowledge(self, error: str) -> None:
        """What software does by writing GERRORN: the error is active no more."""
        known = GERROR.layout[error]
        self.registers.values["GERRORN"] = known.put(self.registers["GERRORN"], known.get(self.registers["GERROR"]))

    def signal(self, source: Source) -> None:
        """Interrupt for ``EVENTQ``, ``PRIQ`` or ``GERROR``, where IRQ_CTRL enables it (3.18, 6.3.16).

        What happens while it is disabled is never signalled later (6.3.16).
        """
        if IRQ_CTRL.layout[f"{source}_IRQEN"].get(self.registers["IRQ_CTRL"]):
            address = IrqCfg0(self.registers[f"{source}_IRQ_CFG0"]).ADDR
            self._interrupt(source, address, self.registers[f"{source}_IRQ_CFG1"])

    def complete(self, command: Sync) -> None:
        """The completion signal of a CMD_SYNC, where it asks for an interrupt; IRQ_CTRL does not govern it (4.7.3)."""
        if command.CS == 1:
            self._interrupt("SYNC", command.MSIAddress, command.MSIData)

    def _interrupt(self, source: Source, address: int, data: int) -> None:
        """An edge, and the message where messages are implemented and have an address; where nothing answers it is a global error (7.5)."""
        message = Msi(source, self.registers.reachable(address), data) if address and self.registers.features.msi else None
        sent = message is not None and self.memory.write32(message.address, message.data)
        self.edges.append(Interrupt(source, message if sent else None))
        if message is None:
            return
        if sent:
            self.msis.append(message)
        else:
            self.raise_error("MSI_CMDQ_ABT_ERR" if source == "SYNC" else f"MSI_{source}_ABT_ERR")
