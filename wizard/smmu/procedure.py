"""A transaction from its arrival to its end, in the order of IHI 0070 chapter 15. Each step follows the one before it, once:

1. arrival         what the request carries, and whether the SMMU is on      3.11, 6.3.9, 13.2; ATS 3.9.1, 13.7
2. configuration   from StreamID and SubstreamID to what translates          3.3, 5.1 to 5.5; whether ATS is allowed 3.9.1
3. translation     stage 1, stage 2                                          3.3.2, 3.4, 7.3.22
4. completion      the access goes out, or a Translation Completion back     chapter 13; 13.7.1
5. report          a fault in any of them: stall, abort, RAZ/WI, a record    3.12, 7.2, 7.3

An ATS translation request and translated traffic are requests of another kind through the same steps.
"""

from __future__ import annotations

from wizard.arch.event import EventType
from wizard.arch.ste import STE, StreamConfig
from wizard.smmu import ats
from wizard.smmu.attributes import DEFAULT, Override, Sources
from wizard.smmu.cache import Entry
from wizard.smmu.config import Configuration
from wizard.smmu.context import Context, override_of
from wizard.smmu.outcome import Ats, AtsResponse, Fault, How, Outcome, Transaction
from wizard.smmu.permissions import NEEDED
from wizard.smmu.registers import Registers
from wizard.smmu.report import Report
from wizard.smmu.stages import Stages
from wizard.smmu.trace import Trace

_PASSES = Context(ste=STE(0), cd=None, stage1=None, stage2=None, override=Override(), privileged=None, instruction=None)
"""Translated traffic that no stage translates: no override of the STE reaches it either (table 13.5)."""


_UNTRANSLATED, _REQUEST, _TRANSLATED = Ats.UNTRANSLATED, Ats.REQUEST, How.TRANSLATED
"""Named here: looking an enumeration's member up costs as much as a look at memory."""


class Procedure:
    """The steps, over the parts that each of them uses."""

    __slots__ = ("configuration", "endpoints", "features", "registers", "report", "stages")

    def __init__(self, registers: Registers, configuration: Configuration, stages: Stages, report: Report, endpoints: ats.Endpoints) -> None:
        self.features = registers.features
        self.registers, self.configuration, self.stages, self.report, self.endpoints = registers, configuration, stages, report, endpoints

    def run(self, transaction: Transaction, story: Trace | None) -> Outcome:
        """What becomes of one transaction."""
        ordinary = transaction.ats is _UNTRANSLATED
        if not ordinary:
            transaction = ats.presented(transaction)
        context = None
        try:
            if not self.registers.smmuen:
                return self._off(transaction, story)
            context = self.configuration.context(transaction.sid, transaction.ssid, story) if ordinary else self._allowed(transaction, story)
            privileged = transaction.privileged if context.privileged is None else context.privileged
            if context.stage1 is None and context.stage2 is None:
                return self._pass(transaction, context, story)
            if transaction.ats is _REQUEST:
                need = ats.needed(context, transaction, privileged)
            else:
                instruction = transaction.instruction if context.instruction is None else context.instruction
                need = NEEDED[privileged, transaction.write, instruction]
            pa, entry = self.stages.translate(context, transaction.iova, need, story)
        except Fault as fault:
            if context is not None:
                fault.ste = context.ste
            return self.report.end(fault, transaction, story)
        if transaction.ats is _REQUEST:
            return self._complete(transaction, ats.completion(self.features, context, transaction, privileged, pa, entry), story)
        return _go_out(transaction, context, pa, entry, story)

    # -- 1. arrival ---------------------------------------------------------------------------------------------------

    def _off(self, transaction: Transaction, story: Trace | None) -> Outcome:
        """SMMUEN is 0: GBPA decides (3.11, 13.2); ATS is not allowed at all (3.9.1.2, 3.9.1.3)."""
        if transaction.ats is not Ats.UNTRANSLATED:
            raise ats.refusal(transaction, "SMMUEN is 0")
        gbpa, oas = self.registers.gbpa, self.features.oas
        why = "GBPA lets everything pass"
        if gbpa.ABORT:
            why = "GBPA.ABORT is 1"
        elif transaction.iova >> oas:
            why = f"the address is beyond {oas} bits"
        if story is not None:
            story.add("gbpa", f"SMMUEN is 0: {why}", None, (gbpa.value,))
        if gbpa.ABORT or transaction.iova >> oas:
            return Outcome(How.ABORTED, reason=f"SMMUEN is 0: {why}", trace=story)
        override = override_of(gbpa.MTCFG, gbpa.MemAttr, gbpa.SHCFG, self.features)
        return Outcome(How.DISABLED, transaction.iova, sources=Sources(transaction.incoming or DEFAULT, override), trace=story)

    # -- 2. configuration ---------------------------------------------------------------------------------------------

    def _allowed(self, transaction: Transaction, story: Trace | None) -> Context:
        """The context of a request or of translated traffic, which the STE has to allow (3.9.1.2, 3.9.1.3)."""
        atschk = bool(self.registers.cr0.ATSCHK)
        if transaction.ats is Ats.TRANSLATED and not atschk:
            return _PASSES
        ste = self.configuration.ste(transaction.sid, story)
        if ste.Config < StreamConfig.BYPASS:
            raise Fault(None, "STE.Config aborts the stream", ste=ste)
        eats = ats.effective_eats(ste, ats=self.features.ats, atschk=atschk)
        if not eats:
            what = "ATS" if transaction.ats is Ats.REQUEST else "translated traffic"
            raise ats.refusal(transaction, f"STE.EATS does not allow {what}", ste)
        if transaction.ats is Ats.REQUEST:
            return self.configuration.context(transaction.sid, transaction.ssid, story)
        return self.configuration.stage2_context(ste) if eats == ats.SPLIT else _PASSES

    # -- 4. completion ------------------------------------------------------------------------------------------------

    def _pass(self, transaction: Transaction, context: Context, story: Trace | None) -> Outcome:
        """No stage translates: the address goes out as it is, if it is an address at all (3.4, 13.3)."""
        address, oas = transaction.iova, self.features.oas
        if address >> oas:
            # Translated traffic ends without a record (3.9.1.1).
            kind = None if transaction.ats is Ats.TRANSLATED else EventType.F_ADDR_SIZE
            raise Fault(kind, f"input address {address:#x} is beyond {oas} bits")
        if transaction.ats is Ats.REQUEST:
            return self._complete(transaction, ats.identity(self.features, transaction), story)
        if story is not None:
            story.add("done", f"no stage translates: output address {address:#x}")
        return Outcome(How.BYPASS, address, sources=Sources(transaction.incoming or DEFAULT, context.override), trace=story)

    def _complete(self, transaction: Transaction, response: AtsResponse, story: Trace | None) -> Outcome:
        """A Translation Completion goes back to the endpoint, which keeps what it is granted."""
        self.endpoints.remember(transaction.sid, transaction.ssid, transaction.iova, response)
        if story is not None:
            grants = "".join(letter if given else "-" for letter, given in zip("rwx", (response.read, response.write, response.execute), strict=True))
            story.add("done", f"completion: {grants} for 2^{response.size} bytes at {response.address:#x}")
        return Outcome(How.ATS, ats=response, trace=story)


def _go_out(transaction: Transaction, context: Context, pa: int, entry: Entry, story: Trace | None) -> Outcome:
    """The access goes out to ``pa``, with the attributes of chapter 13; table 13.5: no override reaches translated traffic."""
    if story is not None:
        story.add("done", f"output address {pa:#x}", None, (), size=1 << entry.span)
    override = context.override if transaction.ats is _UNTRANSLATED else Override()
    sources = Sources(transaction.incoming or DEFAULT, override, entry.stage1, entry.stage2)
    return Outcome(_TRANSLATED, pa, None, False, entry.span, "", None, None, sources, story)
