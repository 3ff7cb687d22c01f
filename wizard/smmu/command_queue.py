"""The command queue: IHI 0070 3.5, 4.1, 6.3.26 to 6.3.28, 7.1."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wizard.arch.command import COMMAND_BYTES, CommandError
from wizard.arch.registers import QueueBase
from wizard.smmu.commands import Executor
from wizard.smmu.interrupts import Interrupts
from wizard.smmu.memory import Memory
from wizard.smmu.queue import Indices, slot_address
from wizard.smmu.registers import Registers


@dataclass(frozen=True, slots=True)
class Consumed:
    """How far a batch of commands got: ``count`` were consumed, then ``error`` (CERROR_NONE when all were)."""

    count: int
    error: CommandError


class CommandQueue:
    """Commands in memory, and those that are given beside it; ``error`` is CMDQ_CONS.ERR."""

    __slots__ = ("base", "error", "executor", "indices", "interrupts", "memory", "registers")

    def __init__(self, registers: Registers, memory: Memory, executor: Executor, interrupts: Interrupts) -> None:
        self.registers, self.memory, self.executor, self.interrupts = registers, memory, executor, interrupts
        self.base: QueueBase | None = None
        self.indices = Indices(registers.features.cmdqs)
        self.error = CommandError.CERROR_NONE

    def configure(self, base: QueueBase) -> None:
        """CMDQ_BASE was written."""
        self.base = base
        self.indices.resize(min(base.LOG2SIZE, self.registers.features.cmdqs))

    def consume(self) -> None:
        """Work off the queue as far as it goes: to its end, or to an error, which stays active until software acknowledges it (7.1)."""
        if self.base is None:
            return
        queue = self.indices
        while self.registers.cr0.CMDQEN and not queue.empty and not self.interrupts.active("CMDQ_ERR"):
            words = self.memory.read_words(slot_address(self.base, queue, queue.cons, COMMAND_BYTES), 2)
            error = CommandError.CERROR_ABT if words is None else self.executor.execute(words[0], words[1])
            if error is not CommandError.CERROR_NONE:
                self._failed(error)
                return
            queue.cons = queue.after(queue.cons)

    def submit(self, commands: Iterable[tuple[int, int]]) -> Consumed:
        """Execute commands as though the queue held them: in order, until the first error, which raises GERROR.CMDQ_ERR (7.1).

        An error of an earlier batch counts as acknowledged.
        """
        if not self.registers.cr0.CMDQEN:
            return Consumed(0, CommandError.CERROR_NONE)
        self.interrupts.acknowledge("CMDQ_ERR")
        self.error = CommandError.CERROR_NONE
        count = 0
        for dword0, dword1 in commands:
            error = self.executor.execute(dword0, dword1)
            if error is not CommandError.CERROR_NONE:
                self._failed(error)
                return Consumed(count, error)
            count += 1
        return Consumed(count, CommandError.CERROR_NONE)

    def _failed(self, error: CommandError) -> None:
        self.error = error
        self.interrupts.raise_error("CMDQ_ERR")
