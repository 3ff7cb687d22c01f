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
from dataclasses import dataclass, replace

from wizard.arch.command import CommandError, Op, PriResp, Resume, Sync
from wizard.arch.event import Event, EventType, PageRequest
from wizard.arch.registers import CR0, CR2, GBPA, GERROR, REGISTERS, CmdqCons, IrqCfg0, QueueBase, QueueCons, QueueProd, StrtabBase, StrtabBaseCfg
from wizard.smmu import ats, permissions
from wizard.smmu.attributes import DEFAULT, Sources
from wizard.smmu.cache import Tlb
from wizard.smmu.commands import Effects, Executor
from wizard.smmu.config import Configuration, Held
from wizard.smmu.context import choice, override_of
from wizard.smmu.guards import ignored
from wizard.smmu.ids import Ids
from wizard.smmu.memory import Memory
from wizard.smmu.outcome import Ats, AtsResponse, Fault, How, Outcome, Transaction
from wizard.smmu.pri import PageResponse, PriQueue
from wizard.smmu.queue import EventQueue, Indices
from wizard.smmu.records import record
from wizard.smmu.stages import Stages
from wizard.smmu.stalls import Stalls
from wizard.smmu.support import masked
from wizard.smmu.trace import Trace

_TRANSLATION = (EventType.F_TRANSLATION, EventType.F_ADDR_SIZE, EventType.F_ACCESS, EventType.F_PERMISSION)
_CONFIGURATION = (
    EventType.C_BAD_STREAMID, EventType.F_STE_FETCH, EventType.C_BAD_STE, EventType.C_BAD_SUBSTREAMID,
    EventType.F_STREAM_DISABLED, EventType.F_CD_FETCH, EventType.C_BAD_CD, EventType.F_WALK_EABT,
)  # fmt: skip


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
            self._message("GERROR", "GERROR_IRQ_CFG0", "GERROR_IRQEN", "MSI_GERROR_ABT_ERR")

    def active(self, name: str) -> bool:
        """Whether a GERROR is active."""
        known = GERROR.layout[name]
        return known.get(self.registers["GERROR"]) != known.get(self.registers["GERRORN"])

    def _message(self, source: str, register: str, enable: str, error: str) -> None:
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
            return self._ats(transaction, story)
        if not self.cr0.value & 1:
            return self._disabled(transaction, story)
        context = None
        try:
            context = self.configuration.context(sid, ssid, story)
            if context.stage1 is None and context.stage2 is None:
                if address >> features.oas:
                    raise Fault(EventType.F_ADDR_SIZE, f"input address {address:#x} is beyond {features.oas} bits")
                return Outcome(How.BYPASS, address, sources=Sources(transaction.incoming or DEFAULT, context.override), trace=story)
            privileged = transaction.privileged if context.privileged is None else context.privileged
            instruction = transaction.instruction if context.instruction is None else context.instruction
            need = permissions.NEEDED[privileged, transaction.write, instruction]
            pa, entry = self.stages.translate(context, address, need, story)
        except Fault as fault:
            return self._fault(fault, transaction, story)
        if story is not None:
            story.add("done", f"output address {pa:#x}", None, (), size=1 << entry.span)
        return Outcome(
            How.TRANSLATED, pa, None, False, entry.span, "", None, None,
            Sources(transaction.incoming or DEFAULT, context.override, entry.stage1, entry.stage2), story,
        )  # fmt: skip

    def _disabled(self, transaction: Transaction, story: Trace | None) -> Outcome:
        """SMMUEN is 0: GBPA decides (3.11, 13.2)."""
        if self.gbpa.ABORT:
            return Outcome(How.ABORTED, reason="SMMUEN is 0 and GBPA.ABORT is 1", trace=story)
        if transaction.iova >> self.features.oas:
            return Outcome(How.ABORTED, reason=f"SMMUEN is 0 and the address is beyond {self.features.oas} bits", trace=story)
        override = override_of(self.gbpa.MTCFG, self.gbpa.MemAttr, self.gbpa.SHCFG, self.features)
        return Outcome(How.DISABLED, transaction.iova, sources=Sources(transaction.incoming or DEFAULT, override), trace=story)

    def _overridden(self, transaction: Transaction) -> tuple[bool, bool]:
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

    def _fault(self, fault: Fault, transaction: Transaction, story: Trace | None) -> Outcome:
        """End a transaction in a fault: stall, abort or RAZ/WI, and the event record (3.12, 5.5)."""
        if story is not None:
            story.add("fault", (fault.kind.name + ": " if fault.kind is not None else "") + fault.reason)
        if fault.kind is None:
            return Outcome(How.ABORTED, reason=fault.reason, trace=story)
        privileged, instruction = self._overridden(transaction)
        if fault.stall and fault.kind in _TRANSLATION:
            if not self._can_record_stall():
                self.stalls.waiting.append(transaction)
                return Outcome(How.STALLED, reason=f"{fault.reason}; it waits until the stall can be recorded", trace=story)
            stag = self.stalls.hold(transaction)
            event = record(fault, transaction, privileged, instruction, stag=stag)
            self._record(event, merge=False)
            return Outcome(How.STALLED, event=event, recorded=True, reason=fault.reason, stag=stag, trace=story)
        event = record(fault, transaction, privileged, instruction)
        wanted = bool(self.cr2.RECINVSID) if fault.kind is EventType.C_BAD_STREAMID else fault.record or fault.stall
        if wanted:
            self._record(event, merge=self._merges(transaction.sid))
        how = How.ABORTED if fault.abort else How.RAZWI
        return Outcome(how, event=event, recorded=wanted, reason=fault.reason, trace=story)

    def _merges(self, sid: int) -> bool:
        """STE.MEV, of an STE that was found."""
        ste = self.held.stes.get(sid) if self.held is not None else None
        if ste is None:
            try:
                ste = self.configuration.ste(sid, None)
            except Fault:
                return False
        return bool(ste.V and ste.MEV)

    def _record(self, event: Event, *, merge: bool) -> None:
        was_empty = self.queue.indices.empty
        written = self.queue.put(event, merge=merge)
        if self.queue.aborted and not written:
            self.raise_error("EVENTQ_ABT_ERR")
        if written and was_empty:
            self._message("EVENTQ", "EVENTQ_IRQ_CFG0", "EVENTQ_IRQEN", "MSI_EVENTQ_ABT_ERR")

    def events(self) -> tuple[Event, ...]:
        """Read the event queue empty, as a driver does."""
        taken = self.queue.take()
        self._retry()
        return taken

    # -- ATS ----------------------------------------------------------------------------------------------------------

    def _ats(self, transaction: Transaction, story: Trace | None) -> Outcome:
        if transaction.ats is Ats.REQUEST:
            return self._request(transaction, story)
        return self._translated(transaction, story)

    def _refuse(self, kind: EventType, reason: str, transaction: Transaction, story: Trace | None, response: AtsResponse | None) -> Outcome:
        event = record(Fault(kind, reason), transaction, transaction.privileged, transaction.instruction)
        self._record(event, merge=self._merges(transaction.sid))
        if story is not None:
            story.add("fault", f"{kind.name}: {reason}")
        return Outcome(How.ABORTED, event=event, recorded=True, reason=reason, ats=response, trace=story)

    def _request(self, transaction: Transaction, story: Trace | None) -> Outcome:
        """An ATS translation request (3.9.1.2); only a PASID brings Execute and Privileged (13.7)."""
        if transaction.ssid is None:
            transaction = replace(transaction, privileged=False, instruction=False)
        refused = AtsResponse("UR")
        if not self.cr0.SMMUEN:
            return self._refuse(EventType.F_BAD_ATS_TREQ, "SMMUEN is 0", transaction, story, refused)
        sid, ssid = transaction.sid, transaction.ssid
        try:
            ste = self.configuration.ste(sid, story)
            eats = ats.effective_eats(ste, ats=self.features.ats, atschk=bool(self.cr0.ATSCHK))
            if ste.Config < 4:
                return Outcome(How.ABORTED, reason="STE.Config aborts the stream", ats=refused, trace=story)
            if eats == 0:
                return self._refuse(EventType.F_BAD_ATS_TREQ, "STE.EATS does not allow ATS", transaction, story, refused)
            context = self.configuration.context(sid, ssid, story)
            response = ats.respond(
                self.stages, context, transaction.iova, write=transaction.write, execute=transaction.instruction,
                privileged=transaction.privileged, split=eats == ats.SPLIT, trace=story,
            )  # fmt: skip
        except Fault as fault:
            return self._request_failed(fault, transaction, story)
        self.endpoints.remember(sid, ssid, transaction.iova, response)
        return Outcome(How.ATS, ats=response, trace=story)

    def _request_failed(self, fault: Fault, transaction: Transaction, story: Trace | None) -> Outcome:
        """A request that met an error: CA, and no record unless CR2.REC_CFG_ATS asks for it; CD fetches that stage 2 denies grant nothing."""
        if story is not None:
            story.add("fault", (fault.kind.name + ": " if fault.kind is not None else "") + fault.reason)
        if fault.kind in ats.DENIED:
            response = AtsResponse("success", size=min(self.features.granules), privileged=transaction.privileged)
            return Outcome(How.ATS, reason=fault.reason, ats=response, trace=story)
        wanted = bool(self.cr2.REC_CFG_ATS) and (fault.kind is not EventType.C_BAD_STREAMID or bool(self.cr2.RECINVSID))
        event = None
        if fault.kind in _CONFIGURATION:
            event = record(fault, transaction, *self._overridden(transaction))
            if wanted:
                self._record(event, merge=False)
        return Outcome(How.ABORTED, event=event, recorded=wanted, reason=fault.reason, ats=AtsResponse("CA"), trace=story)

    def _translated(self, transaction: Transaction, story: Trace | None) -> Outcome:
        """Traffic that an endpoint marked Translated (3.9.1.3); without IDR3.PASIDTT it is data, unprivileged and without SubstreamID."""
        transaction = replace(transaction, ssid=None, privileged=False, instruction=False)
        if not self.cr0.SMMUEN:
            return self._refuse(EventType.F_TRANSL_FORBIDDEN, "SMMUEN is 0", transaction, story, None)
        address = transaction.iova
        override = override_of(0, 0, 1, self.features)
        if self.cr0.ATSCHK:
            try:
                ste = self.configuration.ste(transaction.sid, story)
                if ste.Config < 4:
                    return Outcome(How.ABORTED, reason="STE.Config aborts the stream", trace=story)
                eats = ats.effective_eats(ste, ats=self.features.ats, atschk=True)
                if eats == 0:
                    return self._refuse(EventType.F_TRANSL_FORBIDDEN, "STE.EATS does not allow translated traffic", transaction, story, None)
                if eats == ats.SPLIT:
                    return self._split(transaction, story)
            except Fault as fault:
                wanted = bool(self.cr2.REC_CFG_ATS) and fault.kind is not None
                event = record(fault, transaction, False, False) if fault.kind is not None else None
                if wanted and event is not None:
                    self._record(event, merge=False)
                return Outcome(How.ABORTED, event=event, recorded=wanted, reason=fault.reason, trace=story)
        if address >> self.features.oas:
            return Outcome(How.ABORTED, reason=f"translated address {address:#x} is beyond {self.features.oas} bits", trace=story)
        return Outcome(How.BYPASS, address, sources=Sources(transaction.incoming or DEFAULT, override), trace=story)

    def _split(self, transaction: Transaction, story: Trace | None) -> Outcome:
        """Split-stage ATS: the address is an IPA and stage 2 still translates it (13.6.3)."""
        ste = self.configuration.ste(transaction.sid, story)
        context = self.configuration.stage2_context(ste)
        privileged = bool(context.privileged)
        need = permissions.NEEDED[privileged, transaction.write, bool(context.instruction)]
        try:
            pa, entry = self.stages.translate(context, transaction.iova, need, story)
        except Fault as fault:
            return self._fault(fault, transaction, story)
        return Outcome(
            How.TRANSLATED, pa, size=entry.span, trace=story,
            sources=Sources(transaction.incoming or DEFAULT, context.override, None, entry.stage2),
        )  # fmt: skip

    def page_request(self, request: PageRequest) -> PageResponse | None:
        """A Page Request Message of an endpoint; answers the response that the SMMU makes by itself, where it makes one (chapter 8)."""
        was_empty = self.requests.indices.empty
        response = self.requests.put(request, self._response_pasid)
        if self.requests.aborted:
            self.raise_error("PRIQ_ABT_ERR")
        elif was_empty and not self.requests.indices.empty:
            self._message("PRIQ", "PRIQ_IRQ_CFG0", "PRIQ_IRQEN", "MSI_PRIQ_ABT_ERR")
        return response

    def _response_pasid(self, sid: int) -> bool | None:
        """Whether an automatic response carries the PASID (IDR3.PPS, STE.PPAR); None without a valid STE (8.1)."""
        if not self.features.ssidsize:
            return False
        if self.features.pps:
            return True
        try:
            return bool(self.configuration.ste(sid, None).PPAR)
        except Fault as fault:
            if self.cr2.REC_CFG_ATS and (fault.kind is not EventType.C_BAD_STREAMID or self.cr2.RECINVSID):
                self._record(record(fault, Transaction(sid, 0), privileged=False, instruction=False), merge=False)
            return None

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
            error = self._execute(dword0, dword1)
            if error is not CommandError.CERROR_NONE:
                self._command_failed(error)
                return Consumed(count, error)
            count += 1
        return Consumed(count, CommandError.CERROR_NONE)

    def _execute(self, dword0: int, dword1: int) -> CommandError:
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
            error = CommandError.CERROR_ABT if words is None else self._execute(words[0], words[1])
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
