"""Global errors and message signalled interrupts: IHI 0070 3.18, 4.7.3, 6.3.16 to 6.3.23, 7.5."""

from __future__ import annotations

from dataclasses import dataclass

from wizard.arch.command import Op, Sync
from wizard.arch.registers import GERROR, IRQ_CTRL, IrqCfg0
from wizard.smmu.memory import Memory
from wizard.smmu.registers import Registers


@dataclass(frozen=True, slots=True)
class Msi:
    """A message that the SMMU wrote: ``source`` is ``SYNC``, ``EVENTQ``, ``GERROR`` or ``PRIQ``."""

    source: str
    address: int
    data: int


class Interrupts:
    """GERROR, and the messages of the SMMU itself: ``msis``, in order."""

    __slots__ = ("memory", "msis", "registers")

    def __init__(self, registers: Registers, memory: Memory) -> None:
        self.registers, self.memory = registers, memory
        self.msis: list[Msi] = []

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
            # A message about GERROR's own message would abort as well, for ever.
            self.signal("GERROR")

    def acknowledge(self, error: str) -> None:
        """What software does by writing GERRORN: the error is active no more."""
        known = GERROR.layout[error]
        self.registers.values["GERRORN"] = known.put(self.registers["GERRORN"], known.get(self.registers["GERROR"]))

    def signal(self, source: str) -> None:
        """Send the MSI of ``EVENTQ``, ``PRIQ`` or ``GERROR``, where MSIs are implemented, enabled and given an address (3.18)."""
        address = IrqCfg0(self.registers[f"{source}_IRQ_CFG0"]).ADDR
        if address and IRQ_CTRL.layout[f"{source}_IRQEN"].get(self.registers["IRQ_CTRL"]):
            self._send(Msi(source, self.registers.reachable(address), self.registers[f"{source}_IRQ_CFG1"]))

    def complete(self, command: Sync) -> None:
        """The completion signal of a CMD_SYNC, where it asks for an interrupt and gives an address (4.7.3)."""
        if command.CS == 1 and command.MSIAddress:
            self._send(Msi(Op.SYNC.name, self.registers.reachable(command.MSIAddress), command.MSIData))

    def _send(self, message: Msi) -> None:
        if not self.registers.features.msi:
            return
        if self.memory.write32(message.address, message.data):
            self.msis.append(message)
        else:
            self.raise_error("MSI_CMDQ_ABT_ERR" if message.source == Op.SYNC.name else f"MSI_{message.source}_ABT_ERR")
