"""The simulated SMMUv3: registers, transactions, commands, events. IHI 0070, non-secure programming interface.

memory = Memory()
smmu = Smmu(Ids(), memory)
smmu.write("STRTAB_BASE", 0x4010_0000)
smmu.write("STRTAB_BASE_CFG", 8)
smmu.write("CR0", 0xD)
outcome = smmu.translate(Transaction(sid=8, iova=0x1000, write=True))
outcome.pa, outcome.event, smmu.events()
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from wizard.arch.command import CommandError, PriResp
from wizard.arch.event import EVENT_BYTES, Event, PageRequest
from wizard.arch.registers import CR0, CR2, CmdqCons, QueueBase, QueueCons, QueueProd, at, register
from wizard.smmu.ats import Endpoints
from wizard.smmu.cache import Tlb
from wizard.smmu.command_queue import CommandQueue, Consumed
from wizard.smmu.commands import Executor
from wizard.smmu.config import Configuration, ConfigurationCache
from wizard.smmu.context import Context
from wizard.smmu.form import Follower, translate
from wizard.smmu.ids import Ids
from wizard.smmu.interrupts import Interrupt, Interrupts, Msi
from wizard.smmu.learn import Learner
from wizard.smmu.memory import PAGE_BYTES, Memory
from wizard.smmu.outcome import Part, Transaction
from wizard.smmu.pri import REQUEST_BYTES, PagePort, PageResponse, PriQueue
from wizard.smmu.procedure import Procedure
from wizard.smmu.queue import EventQueue, OutputQueue
from wizard.smmu.registers import Registers
from wizard.smmu.report import Report
from wizard.smmu.stages import Stages
from wizard.smmu.stalls import Ended
from wizard.smmu.support import masked


class Smmu:
    """One SMMU. ``tlb`` and ``configuration_cache`` switch its caches; without them every lookup goes to memory.

    It puts the parts together and says what a register write sets in motion; what becomes of a transaction is ``procedure``'s. State is
    public where tests and reports look at it: ``tlb``, ``configuration_cache``, ``endpoints`` (ATCs), ``queue`` (events), ``requests`` (PRI
    queue), ``stalled``, ``edges`` (interrupts), ``msis``, ``responses`` (CMD_PRI_RESP), ``resumed`` (stalled transactions that ended),
    ``executed`` (how many commands).
    ``gbpa`` is what GBPA resets to, which is an implementation's choice (6.3.14); by default incoming attributes pass, as QEMU has it.
    """

    def __init__(self, ids: Ids, memory: Memory, *, tlb: bool = True, configuration_cache: bool = True, gbpa: int | None = None) -> None:
        self.ids = masked(ids)
        self.features = self.ids.features
        self.memory = memory
        self.gbpa = gbpa
        self.tlb = Tlb() if tlb else None
        self.configuration_cache = ConfigurationCache() if configuration_cache else None
        self.endpoints = Endpoints()
        self._assemble()

    def _assemble(self) -> None:
        """Every part anew, but for the caches and the endpoints."""
        memory = self.memory
        self.registers = Registers(self.ids, self.gbpa)
        self.interrupts = Interrupts(self.registers, memory)
        self.queue = EventQueue(memory, self.features.eventqs, EVENT_BYTES, enabled=True)
        self.requests = PriQueue(memory, self.features.priqs, REQUEST_BYTES)
        self.stages = Stages(memory, self.features, self.tlb)
        self.configuration = Configuration(self.registers, self.stages, self.configuration_cache)
        self.report = Report(self.registers, self.queue, self.interrupts)
        self.procedure = Procedure(self.registers, self.configuration, self.stages, self.report, self.endpoints)
        self.executor = Executor(self.registers, self.tlb, self.configuration, self.report, self.endpoints, self.translate)
        self.commands = CommandQueue(self.registers, memory, self.executor, self.interrupts)
        self._follower: Follower | None = None
        if self.tlb is None and memory.whole is memory.pages:
            self._follower = Follower(self.registers, self.configuration, memory.pages, Learner(self.registers, memory))
        self._page_port = PagePort(self.requests, self.configuration, self.report)

    def reset(self) -> None:
        """What a reset of the SMMU does: registers as chapter 6 has them, queues and caches empty, nothing stalled.

        Transactions that were stalled end with an abort. Memory and the translations that endpoints keep are not the SMMU's; what it has told
        so far (``edges``, ``msis``, ``responses``, ``resumed``, ``executed``) stays told. UNKNOWN reset values are 0.
        """
        self.report.terminate("terminated by a reset")
        told = self.interrupts.edges, self.interrupts.msis, self.executor.responses, self.executor.executed, self.report.resumed
        self.tlb = Tlb() if self.tlb is not None else None
        self.configuration_cache = ConfigurationCache() if self.configuration_cache is not None else None
        self.endpoints.pending = False
        self._assemble()
        self.interrupts.edges, self.interrupts.msis, self.executor.responses, self.executor.executed, self.report.resumed = told

    # -- state, where its part keeps it -------------------------------------------------------------------------------

    @property
    def cr0(self) -> CR0:
        """CR0 as it counts."""
        return self.registers.cr0

    @property
    def cr2(self) -> CR2:
        """CR2 as it counts."""
        return self.registers.cr2

    @property
    def edges(self) -> list[Interrupt]:
        """The interrupts of the SMMU itself, in order: each an edge on the wire of its source, with the message that went with it."""
        return self.interrupts.edges

    @property
    def msis(self) -> list[Msi]:
        """The messages of the SMMU itself, in order."""
        return self.interrupts.msis

    @property
    def responses(self) -> list[PriResp]:
        """The CMD_PRI_RESP commands, in order."""
        return self.executor.responses

    @property
    def executed(self) -> int:
        """How many commands were executed."""
        return self.executor.executed

    @property
    def resumed(self) -> list[Ended]:
        """The stalled transactions that ended, in order, with how they did."""
        return self.report.resumed

    @property
    def stalled(self) -> dict[int, Transaction]:
        """The transactions that a stall record named, by STAG."""
        return self.report.stalls.held

    # -- registers ----------------------------------------------------------------------------------------------------

    def write(self, name: str, value: int) -> None:
        """Write a register by its name without the SMMU_ prefix; ``KeyError`` for no such register, ``ValueError`` for a value too wide.

        A write that the register does not take now is ignored (``wizard.smmu.registers``).
        """
        name = name.removeprefix("SMMU_")
        before = self.registers.cr0, self.registers.cr2
        if not self.registers.write(name, value):
            return
        if name == "CR0":
            self._enable(before[0])
        elif name == "CR2":
            if before[1].E2H != self.registers.cr2.E2H and self.configuration_cache is not None:
                self.configuration_cache.contexts.clear()
        elif name == "GERRORN":
            self._acknowledged()
        elif name.startswith("CMDQ_"):
            self._write_command_queue(name, value)
        elif name.startswith("EVENTQ_"):
            self._write_output_queue(self.queue, name.removeprefix("EVENTQ_"), value)
            self._retry()
        elif name.startswith("PRIQ_"):
            self._write_output_queue(self.requests, name.removeprefix("PRIQ_"), value)

    def _enable(self, before: CR0) -> None:
        """CR0 has a new value; turning SMMUEN off ends every stalled transaction (6.3.9.6)."""
        cr0 = self.registers.cr0
        if before.SMMUEN and not cr0.SMMUEN:
            self.report.terminate("terminated because SMMUEN became 0")
        self.queue.enabled = bool(cr0.EVENTQEN)
        self.requests.enabled = bool(cr0.SMMUEN and cr0.PRIQEN)
        self.commands.consume()
        self._retry()

    def _acknowledged(self) -> None:
        """GERRORN was written: queues whose error is active no more go on (6.3.20, 7.1, 7.2, 8.2)."""
        self.queue.aborted &= self.interrupts.active("EVENTQ_ABT_ERR")
        self.requests.aborted &= self.interrupts.active("PRIQ_ABT_ERR")
        self.commands.consume()
        self._retry()

    def _write_command_queue(self, name: str, value: int) -> None:
        queue = self.commands
        if name == "CMDQ_BASE":
            queue.configure(self._queue_base(value))
        elif name == "CMDQ_PROD":
            queue.indices.prod = queue.indices.known(QueueProd(value).WR)
            queue.consume()
        elif name == "CMDQ_CONS":
            queue.indices.cons, queue.error = queue.indices.known(CmdqCons(value).RD), CommandError.CERROR_NONE

    def _write_output_queue(self, queue: OutputQueue, which: str, value: int) -> None:
        if which == "BASE":
            queue.configure(self._queue_base(value))
        elif which == "PROD":
            prod = QueueProd(value)
            queue.indices.prod, queue.overflow = queue.indices.known(prod.WR), prod.OVFLG
        elif which == "CONS":
            cons = QueueCons(value)
            queue.indices.cons, queue.acknowledged = queue.indices.known(cons.RD), cons.OVACKFLG

    def _queue_base(self, value: int) -> QueueBase:
        base = QueueBase(value)
        return base.replace(ADDR=self.registers.reachable(base.ADDR))

    def read(self, name: str) -> int:
        """A register's value, as software would read it; ``KeyError`` for no such register."""
        name = name.removeprefix("SMMU_")
        if name == "CMDQ_PROD":
            return QueueProd.build(WR=self.commands.indices.prod).value
        if name == "CMDQ_CONS":
            return CmdqCons.build(RD=self.commands.indices.cons, ERR=self.commands.error.value).value
        if name in ("EVENTQ_PROD", "PRIQ_PROD"):
            queue = self._output_queue(name)
            return QueueProd.build(WR=queue.indices.prod, OVFLG=queue.overflow).value
        if name in ("EVENTQ_CONS", "PRIQ_CONS"):
            queue = self._output_queue(name)
            return QueueCons.build(RD=queue.indices.cons, OVACKFLG=queue.acknowledged).value
        return self.registers[name]

    def _output_queue(self, name: str) -> OutputQueue:
        return self.queue if name.startswith("EVENTQ") else self.requests

    def write_at(self, offset: int, value: int, size: int = 4) -> None:
        """A write of ``size`` bytes at an offset from page 0, as a bus would make it; ``ValueError`` for a value that does not fit.

        Aligned accesses of 4 and 8 bytes count; others are ignored, as one may (6.2). Halves of a 64-bit register are written by themselves,
        and 8 bytes over two 32-bit registers write both, the lower one first. Where there is no register nothing happens.
        """
        if not 0 <= value < 1 << 8 * size:
            raise ValueError(f"{value:#x} does not fit {size} bytes")
        if size not in (4, 8) or offset % size:
            return
        found = at(offset)
        if size == 8 and (found is None or register(found[0]).size == 4):
            self.write_at(offset, value & 0xFFFF_FFFF)
            self.write_at(offset + 4, value >> 32)
        elif found is not None:
            name, byte = found
            written = (1 << 8 * size) - 1 << 8 * byte
            self.write(name, self.read(name) & ~written | value << 8 * byte)

    def read_at(self, offset: int, size: int = 4) -> int:
        """A read of ``size`` bytes at an offset from page 0; zero where there is none and for accesses of another size or not aligned."""
        if size not in (4, 8) or offset % size:
            return 0
        found = at(offset)
        if size == 8 and (found is None or register(found[0]).size == 4):
            return self.read_at(offset) | self.read_at(offset + 4) << 32
        return 0 if found is None else self.read(found[0]) >> 8 * found[1] & (1 << 8 * size) - 1

    def active(self, error: str) -> bool:
        """Whether a global error is active, by its name in GERROR."""
        return self.interrupts.active(error)

    # -- transactions -------------------------------------------------------------------------------------------------

    translate = translate

    def context(self, sid: int, ssid: int | None = None) -> Context:
        """What translates for a stream (and substream) now, for ``wizard.smmu.arrays``; ``Fault`` where its configuration lets nothing pass."""
        return self.configuration.context(sid, ssid, None)

    def access(self, transaction: Transaction, size: int, *, trace: bool = False) -> list[Part]:
        """An access of ``size`` bytes: what becomes of each part, in order.

        No transaction crosses a 4 KiB boundary (PCIe and AXI both forbid it), so an access arrives as one for each 4 KiB that it touches;
        what becomes of one decides nothing for the next. ``ValueError`` for no bytes, or more than the address space has.
        """
        if size < 1 or transaction.iova + size > 1 << 64:
            raise ValueError(f"no {size} bytes can be accessed from {transaction.iova:#x}")
        parts, at, end = [], transaction.iova, transaction.iova + size
        while at < end:
            length = min(end, (at | PAGE_BYTES - 1) + 1) - at
            parts.append(Part(at, length, self.translate(replace(transaction, iova=at), trace=trace)))
            at += length
        return parts

    def page_request(self, request: PageRequest) -> PageResponse | None:
        """A Page Request Message of an endpoint; answers the response that the SMMU makes by itself, where it makes one (chapter 8)."""
        return self._page_port.take(request)

    # -- events and commands ------------------------------------------------------------------------------------------

    def events(self) -> tuple[Event, ...]:
        """Read the event queue empty, as a driver does."""
        taken = self.queue.take()
        self._retry()
        return taken

    def command(self, dword0: int, dword1: int = 0) -> CommandError:
        """Execute one command at once, beside the queue; its error code. Nothing happens while CR0.CMDQEN is 0."""
        return self.submit([(dword0, dword1)]).error

    def submit(self, commands: Iterable[tuple[int, int]]) -> Consumed:
        """Execute commands as the queue would: in order, until the first error, which raises GERROR.CMDQ_ERR (7.1).

        An error of an earlier batch counts as acknowledged.
        """
        return self.commands.submit(commands)

    def execute(self, dword0: int, dword1: int) -> CommandError:
        """Execute one command of another queue than the SMMU's own: no enable bit, index or error of that one is looked at or changed."""
        return self.executor.execute(dword0, dword1)

    def _retry(self) -> None:
        self.report.retry(self.translate)
