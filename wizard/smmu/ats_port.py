"""The SMMU's ATS port: what becomes of translation requests, translated traffic and page requests. IHI 0070 3.9.1, 8.1, 13.6.

The completion itself is in ``wizard.smmu.ats``; here are the checks around it and what is recorded.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from wizard.arch.event import EventType, PageRequest
from wizard.smmu import ats, permissions
from wizard.smmu.attributes import DEFAULT, Override, Sources
from wizard.smmu.outcome import Ats, AtsResponse, Fault, How, Outcome, Transaction
from wizard.smmu.pri import PageResponse
from wizard.smmu.records import record
from wizard.smmu.trace import Trace

if TYPE_CHECKING:
    from wizard.smmu.device import Smmu

_CONFIGURATION = (
    EventType.C_BAD_STREAMID, EventType.F_STE_FETCH, EventType.C_BAD_STE, EventType.C_BAD_SUBSTREAMID,
    EventType.F_STREAM_DISABLED, EventType.F_CD_FETCH, EventType.C_BAD_CD, EventType.F_WALK_EABT,
)  # fmt: skip


def translate(smmu: Smmu, transaction: Transaction, story: Trace | None) -> Outcome:
    """A translation request, or traffic that is marked Translated; ``transaction.ats`` says which."""
    if transaction.ats is Ats.REQUEST:
        return _request(smmu, transaction, story)
    return _translated(smmu, transaction, story)


def _refuse(smmu: Smmu, kind: EventType, reason: str, transaction: Transaction, story: Trace | None, response: AtsResponse | None) -> Outcome:
    event = record(Fault(kind, reason), transaction, transaction.privileged, transaction.instruction)
    recorded = smmu.record_event(event, merge=smmu.merges(transaction.sid))
    if story is not None:
        story.add("fault", f"{kind.name}: {reason}")
    return Outcome(How.ABORTED, event=event, recorded=recorded, reason=reason, ats=response, trace=story)


def _request(smmu: Smmu, transaction: Transaction, story: Trace | None) -> Outcome:
    """An ATS translation request (3.9.1.2); only a PASID brings Execute and Privileged (13.7)."""
    if transaction.ssid is None:
        transaction = replace(transaction, privileged=False, instruction=False)
    refused = AtsResponse("UR")
    if not smmu.cr0.SMMUEN:
        return _refuse(smmu, EventType.F_BAD_ATS_TREQ, "SMMUEN is 0", transaction, story, refused)
    sid, ssid = transaction.sid, transaction.ssid
    try:
        ste = smmu.configuration.ste(sid, story)
        eats = ats.effective_eats(ste, ats=smmu.features.ats, atschk=bool(smmu.cr0.ATSCHK))
        if ste.Config < 4:
            return Outcome(How.ABORTED, reason="STE.Config aborts the stream", ats=refused, trace=story)
        if eats == 0:
            return _refuse(smmu, EventType.F_BAD_ATS_TREQ, "STE.EATS does not allow ATS", transaction, story, refused)
        context = smmu.configuration.context(sid, ssid, story)
        response = ats.respond(
            smmu.stages, context, transaction.iova, write=transaction.write, execute=transaction.instruction,
            privileged=transaction.privileged, split=eats == ats.SPLIT, trace=story,
        )  # fmt: skip
    except Fault as fault:
        return _request_failed(smmu, fault, transaction, story)
    smmu.endpoints.remember(sid, ssid, transaction.iova, response)
    if story is not None:
        grants = "".join(letter if given else "-" for letter, given in zip("rwx", (response.read, response.write, response.execute), strict=True))
        story.add("done", f"completion: {grants} for 2^{response.size} bytes at {response.address:#x}")
    return Outcome(How.ATS, ats=response, trace=story)


def _request_failed(smmu: Smmu, fault: Fault, transaction: Transaction, story: Trace | None) -> Outcome:
    """A request that met an error: CA, and no record unless CR2.REC_CFG_ATS asks for it; CD fetches that stage 2 denies grant nothing."""
    if story is not None:
        story.add("fault", (fault.kind.name + ": " if fault.kind is not None else "") + fault.reason)
    if fault.kind in ats.DENIED:
        response = AtsResponse("success", size=min(smmu.features.granules), privileged=transaction.privileged)
        return Outcome(How.ATS, reason=fault.reason, ats=response, trace=story)
    wanted = bool(smmu.cr2.REC_CFG_ATS) and (fault.kind is not EventType.C_BAD_STREAMID or bool(smmu.cr2.RECINVSID))
    event, recorded = None, False
    if fault.kind in _CONFIGURATION:
        event = record(fault, transaction, *smmu.overridden(transaction))
        recorded = wanted and smmu.record_event(event, merge=False)
    return Outcome(How.ABORTED, event=event, recorded=recorded, reason=fault.reason, ats=AtsResponse("CA"), trace=story)


def _translated(smmu: Smmu, transaction: Transaction, story: Trace | None) -> Outcome:
    """Traffic that an endpoint marked Translated (3.9.1.3); without IDR3.PASIDTT it is data, unprivileged and without SubstreamID.

    The STE's memory type and shareability overrides never apply to it (table 13.5).
    """
    transaction = replace(transaction, ssid=None, privileged=False, instruction=False)
    if not smmu.cr0.SMMUEN:
        return _refuse(smmu, EventType.F_TRANSL_FORBIDDEN, "SMMUEN is 0", transaction, story, None)
    address = transaction.iova
    if smmu.cr0.ATSCHK:
        try:
            ste = smmu.configuration.ste(transaction.sid, story)
            if ste.Config < 4:
                return Outcome(How.ABORTED, reason="STE.Config aborts the stream", trace=story)
            eats = ats.effective_eats(ste, ats=smmu.features.ats, atschk=True)
            if eats == 0:
                return _refuse(smmu, EventType.F_TRANSL_FORBIDDEN, "STE.EATS does not allow translated traffic", transaction, story, None)
            if eats == ats.SPLIT:
                return _split(smmu, transaction, story)
        except Fault as fault:
            wanted = bool(smmu.cr2.REC_CFG_ATS) and fault.kind is not None
            event = record(fault, transaction, False, False) if fault.kind is not None else None
            recorded = wanted and event is not None and smmu.record_event(event, merge=False)
            return Outcome(How.ABORTED, event=event, recorded=recorded, reason=fault.reason, trace=story)
    if address >> smmu.features.oas:
        return Outcome(How.ABORTED, reason=f"translated address {address:#x} is beyond {smmu.features.oas} bits", trace=story)
    return Outcome(How.BYPASS, address, sources=Sources(transaction.incoming or DEFAULT, Override()), trace=story)


def _split(smmu: Smmu, transaction: Transaction, story: Trace | None) -> Outcome:
    """Split-stage ATS: the address is an IPA and stage 2 still translates it (13.6.3)."""
    ste = smmu.configuration.ste(transaction.sid, story)
    context = smmu.configuration.stage2_context(ste)
    privileged = bool(context.privileged)
    need = permissions.NEEDED[privileged, transaction.write, bool(context.instruction)]
    try:
        pa, entry = smmu.stages.translate(context, transaction.iova, need, story)
    except Fault as fault:
        return smmu.end_in_fault(fault, transaction, story)
    return Outcome(
        How.TRANSLATED, pa, size=entry.span, trace=story,
        sources=Sources(transaction.incoming or DEFAULT, Override(), None, entry.stage2),
    )  # fmt: skip


def page_request(smmu: Smmu, request: PageRequest) -> PageResponse | None:
    """A Page Request Message of an endpoint; answers the response that the SMMU makes by itself, where it makes one (chapter 8)."""
    was_empty = smmu.requests.indices.empty
    response = smmu.requests.put(request, partial(_response_pasid, smmu))
    if smmu.requests.aborted:
        smmu.raise_error("PRIQ_ABT_ERR")
    elif was_empty and not smmu.requests.indices.empty:
        smmu.message("PRIQ", "PRIQ_IRQ_CFG0", "PRIQ_IRQEN", "MSI_PRIQ_ABT_ERR")
    return response


def _response_pasid(smmu: Smmu, sid: int) -> bool | None:
    """Whether an automatic response carries the PASID (IDR3.PPS, STE.PPAR); None without a valid STE (8.1)."""
    if not smmu.features.ssidsize:
        return False
    if smmu.features.pps:
        return True
    try:
        return bool(smmu.configuration.ste(sid, None).PPAR)
    except Fault as fault:
        if smmu.cr2.REC_CFG_ATS and (fault.kind is not EventType.C_BAD_STREAMID or smmu.cr2.RECINVSID):
            smmu.record_event(record(fault, Transaction(sid, 0), privileged=False, instruction=False), merge=False)
        return None
