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
from dataclasses import dataclass

from wizard.arch.command import CommandError, Op, PriResp, Resume, Sync
from wizard.arch.event import Event, EventType, PageRequest
from wizard.arch.registers import CR0, CR2, GBPA, GERROR, REGISTERS, CmdqCons, IrqCfg0, QueueBase, QueueCons, QueueProd, StrtabBase, StrtabBaseCfg
from wizard.smmu import ats, ats_port, permissions
from wizard.smmu.attributes import DEFAULT, Sources
from wizard.smmu.cache import Tlb
from wizard.smmu.commands import Effects, Executor
from wizard.smmu.config import Configuration, Held
from wizard.smmu.context import choice, override_of
from wizard.smmu.guards import ignored
from wizard.smmu.ids import Ids
from wizard.smmu.memory import Memory
from wizard.smmu.outcome import Ats, Fault, How, Outcome, Transaction
from wizard.smmu.pri import PageResponse, PriQueue
from wizard.smmu.queue import EventQueue, Indices
from wizard.smmu.records import record
from wizard.smmu.stages import Stages
from wizard.smmu.stalls import Stalls
from wizard.smmu.support import masked
from wizard.smmu.trace import Trace

_TRANSLATION = (EventType.F_TRANSLATION, EventType.F_ADDR_SIZE, EventType.F_ACCESS, EventType.F_PERMISSION)


@dataclass(frozen=True, slots=True)
class Consumed:
    """How far a batch of commands got: ``count`` were consumed, then ``error`` (CERROR_NONE when all were)."""

    count: int
    error: CommandError


@dataclass(frozen=True, slots=True)
class Msi:
    """A message that the SMMU wrote: ``source`` is ``CMD_SYNC``, ``EVENTQ``, ``GERROR`` or ``PRIQ``."""

    source: str
    address: int
    data: int


class Smmu:
    """One SMMU. ``tlb`` and ``configuration_cache`` switch its caches; without them every lookup goes to memory.

    State is public where tests and reports look at it: ``tlb``, ``held`` (configuration cache), ``endpoints`` (ATCs), ``queue`` (events),
    ``requests`` (PRI queue), ``stalls``, ``msis``, ``responses`` (CMD_PRI_RESP), ``resumed`` (stalled transactions that ended),
    ``executed`` (how many commands).
    """

    def __init__(self, ids: Ids, memory: Memory, *, tlb: bool = True, configuration_cache: bool = True) -> None:
        self.ids = masked(ids)
        self.features = self.ids.features
        self.memory = memory
        self.tlb = Tlb() if tlb else None
        self.held = Held() if configuration_cache else None
        self.stages = Stages(memory, self.features, self.tlb)
        self.configuration = Configuration(self.stages, self.held)
        self.endpoints = ats.Endpoints()
        self.queue = EventQueue(memory, self.features.eventqs)
        self.requests = PriQueue(memory, self.features.priqs)
        self.commands = Indices(self.features.cmdqs)
        self.command_base: QueueBase | None = None
        self.command_error = CommandError.CERROR_NONE
        self.executed = 0
        self.stalls = Stalls(max(1, self.features.stall_max))
        self.resumed: list[tuple[Transaction, Outcome]] = []
        self.msis: list[Msi] = []
        self.responses: list[PriResp] = []
        self._executor = Executor(
            self.features,
            self.tlb,
            self.configuration,
            Effects(self.endpoints.invalidate, self.responses.append, self._resume, self._terminate, self._sync),
        )
        self.registers: dict[str, int] = dict.fromkeys(REGISTERS, 0)
        self.cr0, self.cr2, self.gbpa = CR0(0), CR2(0), GBPA(0)
        self.write("GBPA", GBPA.build(SHCFG=1, Update=1).value)

    # -- registers ----------------------------------------------------------------------------------------------------

    def write(self, name: str, value: int) -> None:
        """Write a register by its name without the SMMU_ prefix; ``KeyError`` for no such register, ``ValueError`` for a value too wide.

        A write that the register does not take now is ignored (``wizard.smmu.guards``).
        """
        if name.startswith("SMMU_"):
            name = name[5:]
        layout = REGISTERS[name][1]
        layout(value)
        if ignored(name, value, version=self.features.version, cr0=self.cr0.value, irq_ctrl=self.registers["IRQ_CTRL"]):
            return
        self.registers[name] = value
        if name == "CR0":
            self._enable(self.features.usable_cr0(CR0(value)))
        elif name == "CR2":
            usable = self.features.usable_cr2(CR2(value))
            changed = usable.E2H != self.cr2.E2H
            self.cr2 = self._executor.cr2 = self.configuration.cr2 = usable
            if changed and self.held is not None:
                self.held.contexts.clear()
        elif name == "GBPA":
            self.gbpa = GBPA(value & ~(1 << GBPA.Update.lo))
            self.registers[name] = self.gbpa.value
        elif name == "IRQ_CTRL":
            self.registers["IRQ_CTRLACK"] = value
        elif name == "STRTAB_BASE":
            self.configuration.strtab_base = StrtabBase(value)
        elif name == "STRTAB_BASE_CFG":
            self.configuration.strtab_base_cfg = StrtabBaseCfg(value)
        else:
            self._write_queue(name, value)

    def _enable(self, cr0: CR0) -> None:
        """CR0 has a new value; turning SMMUEN off ends every stalled transaction (6.3.9.6)."""
        stopped = self.cr0.SMMUEN and not cr0.SMMUEN
        self.cr0 = self._executor.cr0 = cr0
        self.registers["CR0ACK"] = cr0.value
        if stopped:
            self.resumed += self.stalls.terminate("terminated because SMMUEN became 0")
        self.queue.enabled = bool(cr0.EVENTQEN)
        self.requests.enabled = bool(cr0.SMMUEN and cr0.PRIQEN)
        self._consume()
        self._retry()

    def _write_queue(self, name: str, value: int) -> None:
        if name == "GERRORN":
            if GERROR(value).EVENTQ_ABT_ERR == GERROR(self.registers["GERROR"]).EVENTQ_ABT_ERR:
                self.queue.aborted = False
            if GERROR(value).PRIQ_ABT_ERR == GERROR(self.registers["GERROR"]).PRIQ_ABT_ERR:
                self.requests.aborted = False
            self._consume()
            self._retry()
        elif name == "CMDQ_BASE":
            self.command_base = self._queue_base(value)
            self.commands = Indices(min(self.command_base.LOG2SIZE, self.features.cmdqs))
        elif name == "CMDQ_PROD":
            self.commands.prod = QueueProd(value).WR & (2 << self.commands.log2) - 1
            self._consume()
        elif name == "CMDQ_CONS":
            cons = CmdqCons(value)
            self.commands.cons, self.command_error = cons.RD & (2 << self.commands.log2) - 1, CommandError.CERROR_NONE
        elif name == "EVENTQ_BASE":
            self.queue.configure(self._queue_base(value))
            self._retry()
        elif name == "PRIQ_BASE":
            self.requests.configure(self._queue_base(value))
        elif name in ("EVENTQ_PROD", "PRIQ_PROD"):
            queue, prod = self._outgoing(name), QueueProd(value)
            queue.indices.prod, queue.overflow = prod.WR & (2 << queue.indices.log2) - 1, prod.OVFLG
        elif name in ("EVENTQ_CONS", "PRIQ_CONS"):
            queue, cons_read = self._outgoing(name), QueueCons(value)
            queue.indices.cons, queue.acknowledged = cons_read.RD & (2 << queue.indices.log2) - 1, cons_read.OVACKFLG
            self._retry()

    def _outgoing(self, name: str) -> EventQueue | PriQueue:
        return self.queue if name.startswith("EVENTQ") else self.requests

    def read(self, name: str) -> int:
        """A register's value, as software would read it."""
        if name == "CMDQ_PROD":
            return QueueProd.build(WR=self.commands.prod).value
        if name == "CMDQ_CONS":
            return CmdqCons.build(RD=self.commands.cons, ERR=self.command_error.value).value
        if name in ("EVENTQ_PROD", "PRIQ_PROD"):
            queue = self._outgoing(name)
            return QueueProd.build(WR=queue.indices.prod, OVFLG=queue.overflow).value
        if name in ("EVENTQ_CONS", "PRIQ_CONS"):
            queue = self._outgoing(name)
            return QueueCons.build(RD=queue.indices.cons, OVACKFLG=queue.acknowledged).value
        return self.registers[name]

    def raise_error(self, name: str) -> None:
        """Make a GERROR active: toggle its bit unless it already differs from GERRORN (6.3.18)."""
        known = GERROR.layout[name]
        now, acknowledged = self.registers["GERROR"], self.registers["GERRORN"]
        if known.get(now) == known.get(acknowledged):
            self.registers["GERROR"] = known.put(now, 1 - known.get(now))
            self.message("GERROR", "GERROR_IRQ_CFG0", "GERROR_IRQEN", "MSI_GERROR_ABT_ERR")

    def active(self, name: str) -> bool:
        """Whether a GERROR is active."""
        known = GERROR.layout[name]
        return known.get(self.registers["GERROR"]) != known.get(self.registers["GERRORN"])

    def message(self, source: str, register: str, enable: str, error: str) -> None:
        """Send the MSI of a queue or of GERROR, where MSIs are implemented, enabled and given an address (3.18)."""
        where = self._reachable(IrqCfg0(self.registers[register]).ADDR)
        enabled = REGISTERS["IRQ_CTRL"][1].layout[enable].get(self.registers["IRQ_CTRL"])
        if not self.features.msi or not IrqCfg0(self.registers[register]).ADDR or not enabled:
            return
        if self.memory.answers(where):
            self.msis.append(Msi(source, where, self.registers[register.replace("CFG0", "CFG1")]))
        elif error != "MSI_GERROR_ABT_ERR":
            self.raise_error(error)

    def _reachable(self, address: int) -> int:
        """A physical address truncated to OAS, as queue and MSI addresses are (3.4.3)."""
        return address & (1 << self.features.oas) - 1

    def _queue_base(self, value: int) -> QueueBase:
        base = QueueBase(value)
        return base.replace(ADDR=self._reachable(base.ADDR))

    # -- transactions -------------------------------------------------------------------------------------------------

    def translate(self, transaction: Transaction, *, trace: bool = False) -> Outcome:
        """What becomes of one transaction; a fault leaves its record in the event queue. ``ValueError`` for ids that cannot be presented."""
        features = self.features
        sid, ssid, address = transaction.sid, transaction.ssid, transaction.iova
        if not 0 <= sid < 1 << features.sidsize:
            raise ValueError(f"StreamID {sid:#x} does not fit IDR1.SIDSIZE, {features.sidsize} bits")
        if ssid is not None and not 0 <= ssid < 1 << 20:
            raise ValueError(f"SubstreamID {ssid:#x} does not fit 20 bits")
        if not 0 <= address < 1 << 64:
            raise ValueError(f"input address {address:#x} does not fit 64 bits")
        story = Trace() if trace else None
        if transaction.ats is not Ats.UNTRANSLATED:
            return ats_port.translate(self, transaction, story)
        if not self.cr0.value & 1:
            return self._disabled(transaction, story)
        context = None
        try:
            context = self.configuration.context(sid, ssid, story)
            if context.stage1 is None and context.stage2 is None:
                if address >> features.oas:
                    raise Fault(EventType.F_ADDR_SIZE, f"input address {address:#x} is beyond {features.oas} bits")
                if story is not None:
                    story.add("done", f"no stage translates: output address {address:#x}")
                return Outcome(How.BYPASS, address, sources=Sources(transaction.incoming or DEFAULT, context.override), trace=story)
            privileged = transaction.privileged if context.privileged is None else context.privileged
            instruction = transaction.instruction if context.instruction is None else context.instruction
            need = permissions.NEEDED[privileged, transaction.write, instruction]
            pa, entry = self.stages.translate(context, address, need, story)
        except Fault as fault:
            return self.end_in_fault(fault, transaction, story)
        if story is not None:
            story.add("done", f"output address {pa:#x}", None, (), size=1 << entry.span)
        return Outcome(
            How.TRANSLATED, pa, None, False, entry.span, "", None, None,
            Sources(transaction.incoming or DEFAULT, context.override, entry.stage1, entry.stage2), story,
        )  # fmt: skip

    def _disabled(self, transaction: Transaction, story: Trace | None) -> Outcome:
        """SMMUEN is 0: GBPA decides (3.11, 13.2)."""
        why = "GBPA lets everything pass"
        if self.gbpa.ABORT:
            why = "GBPA.ABORT is 1"
        elif transaction.iova >> self.features.oas:
            why = f"the address is beyond {self.features.oas} bits"
        if story is not None:
            story.add("gbpa", f"SMMUEN is 0: {why}", None, (self.gbpa.value,))
        if self.gbpa.ABORT or transaction.iova >> self.features.oas:
            return Outcome(How.ABORTED, reason=f"SMMUEN is 0: {why}", trace=story)
        override = override_of(self.gbpa.MTCFG, self.gbpa.MemAttr, self.gbpa.SHCFG, self.features)
        return Outcome(How.DISABLED, transaction.iova, sources=Sources(transaction.incoming or DEFAULT, override), trace=story)

    def overridden(self, transaction: Transaction) -> tuple[bool, bool]:
        """Privilege and instruction after the STE's overrides, as far as an STE was found (7.3)."""
        ste = self.held.stes.get(transaction.sid) if self.held is not None else None
        if ste is None:
            try:
                ste = self.configuration.ste(transaction.sid, None)
            except Fault:
                return transaction.privileged, transaction.instruction
        privileged, instruction = choice(ste.PRIVCFG, self.features), choice(ste.INSTCFG, self.features)
        return (
            transaction.privileged if privileged is None else privileged,
            transaction.instruction if instruction is None else instruction,
        )

    def end_in_fault(self, fault: Fault, transaction: Transaction, story: Trace | None) -> Outcome:
        """End a transaction in a fault: stall, abort or RAZ/WI, and the event record (3.12, 5.5)."""
        if story is not None:
            story.add("fault", (fault.kind.name + ": " if fault.kind is not None else "") + fault.reason)
        if fault.kind is None:
            return Outcome(How.ABORTED, reason=fault.reason, trace=story)
        privileged, instruction = self.overridden(transaction)
        if fault.stall and fault.kind in _TRANSLATION:
            if not self._can_record_stall():
                self.stalls.waiting.append(transaction)
                return Outcome(How.STALLED, reason=f"{fault.reason}; it waits until the stall can be recorded", trace=story)
            stag = self.stalls.hold(transaction)
            event = record(fault, transaction, privileged, instruction, stag=stag)
            recorded = self.record_event(event, merge=False)
            return Outcome(How.STALLED, event=event, recorded=recorded, reason=fault.reason, stag=stag, trace=story)
        event = record(fault, transaction, privileged, instruction)
        wanted = bool(self.cr2.RECINVSID) if fault.kind is EventType.C_BAD_STREAMID else fault.record or fault.stall
        recorded = wanted and self.record_event(event, merge=self.merges(transaction.sid))
        how = How.ABORTED if fault.abort else How.RAZWI
        return Outcome(how, event=event, recorded=recorded, reason=fault.reason, trace=story)

    def merges(self, sid: int) -> bool:
        """STE.MEV, of an STE that was found."""
        ste = self.held.stes.get(sid) if self.held is not None else None
        if ste is None:
            try:
                ste = self.configuration.ste(sid, None)
            except Fault:
                return False
        return bool(ste.V and ste.MEV)

    def record_event(self, event: Event, *, merge: bool) -> bool:
        """Write a record, or merge it; answers whether it is in the queue now. GERROR where nothing answers, an MSI where the queue was empty."""
        was_empty = self.queue.indices.empty
        written = self.queue.put(event, merge=merge)
        if self.queue.aborted and not written:
            self.raise_error("EVENTQ_ABT_ERR")
        if written and was_empty:
            self.message("EVENTQ", "EVENTQ_IRQ_CFG0", "EVENTQ_IRQEN", "MSI_EVENTQ_ABT_ERR")
        return written

    def events(self) -> tuple[Event, ...]:
        """Read the event queue empty, as a driver does."""
        taken = self.queue.take()
        self._retry()
        return taken

    def page_request(self, request: PageRequest) -> PageResponse | None:
        """A Page Request Message of an endpoint; answers the response that the SMMU makes by itself, where it makes one (chapter 8)."""
        return ats_port.page_request(self, request)

    # -- commands -----------------------------------------------------------------------------------------------------

    def command(self, dword0: int, dword1: int = 0) -> CommandError:
        """Execute one command at once, beside the queue; its error code. Nothing happens while CR0.CMDQEN is 0."""
        return self.submit([(dword0, dword1)]).error

    def submit(self, commands: Iterable[tuple[int, int]]) -> Consumed:
        """Execute commands as the queue would: in order, until the first error, which raises GERROR.CMDQ_ERR (7.1).

        An error of an earlier batch counts as acknowledged.
        """
        if not self.cr0.CMDQEN:
            return Consumed(0, CommandError.CERROR_NONE)
        if self.active("CMDQ_ERR"):
            self.registers["GERRORN"] = GERROR.CMDQ_ERR.put(self.registers["GERRORN"], GERROR(self.registers["GERROR"]).CMDQ_ERR)
        self.command_error = CommandError.CERROR_NONE
        count = 0
        for dword0, dword1 in commands:
            error = self.execute(dword0, dword1)
            if error is not CommandError.CERROR_NONE:
                self._command_failed(error)
                return Consumed(count, error)
            count += 1
        return Consumed(count, CommandError.CERROR_NONE)

    def execute(self, dword0: int, dword1: int) -> CommandError:
        """Execute one command of another queue than the SMMU's own: no enable bit, index or error of that one is looked at or changed."""
        self.executed += 1
        return self._executor.execute(dword0, dword1)

    def _command_failed(self, error: CommandError) -> None:
        self.command_error = error
        self.raise_error("CMDQ_ERR")

    def _consume(self) -> None:
        """Work off the command queue in memory as far as it goes."""
        if self.command_base is None:
            return
        queue = self.commands
        base = self.command_base.ADDR & -max(32, 16 << queue.log2)
        while self.cr0.CMDQEN and not queue.empty and not self.active("CMDQ_ERR"):
            words = self.memory.read_words(base + queue.slot(queue.cons) * 16, 2)
            error = CommandError.CERROR_ABT if words is None else self.execute(words[0], words[1])
            if error is not CommandError.CERROR_NONE:
                self._command_failed(error)
                return
            queue.cons = queue.after(queue.cons)

    def _sync(self, command: Sync) -> CommandError:
        """CMD_SYNC: everything before it is complete; it waits for ATC invalidations and may send an MSI (4.7.3)."""
        if self.endpoints.pending:
            self.endpoints.pending = False
            return CommandError.CERROR_ATC_INV_SYNC
        where = self._reachable(command.MSIAddress)
        if command.CS == 1 and self.features.msi and command.MSIAddress:
            if self.memory.answers(where):
                self.msis.append(Msi(Op.SYNC.name, where, command.MSIData))
            else:
                self.raise_error("MSI_CMDQ_ABT_ERR")
        return CommandError.CERROR_NONE

    # -- stalled transactions -----------------------------------------------------------------------------------------

    @property
    def stalled(self) -> dict[int, Transaction]:
        """The transactions that a stall record named, by STAG."""
        return self.stalls.held

    def _can_record_stall(self) -> bool:
        return self.queue.writable and not self.stalls.full

    def _retry(self) -> None:
        """The event queue may have become writable: stalls that could not be recorded are tried again (7.2.1)."""
        if self.stalls.waiting:
            self.resumed += self.stalls.retry(self._can_record_stall, self.translate)

    def _resume(self, command: Resume) -> None:
        self.resumed += self.stalls.resume(command, self.translate, abort_only=self.features.term_model)
        self._retry()

    def _terminate(self, sid: int) -> None:
        self.resumed += self.stalls.terminate("terminated by CMD_STALL_TERM", sid)
        self._retry()
