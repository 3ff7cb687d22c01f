"""PCIe ATS: translation requests, translated traffic, and what endpoints keep. IHI 0070 3.9, 4.5, 13.6, 13.7."""

from __future__ import annotations

from dataclasses import dataclass, field

from wizard.arch.command import AtcInv
from wizard.arch.event import EventType
from wizard.arch.ste import STE, StreamConfig
from wizard.smmu import permissions
from wizard.smmu.cache import Entry
from wizard.smmu.context import Context
from wizard.smmu.outcome import AtsResponse, Fault
from wizard.smmu.stages import Stages
from wizard.smmu.trace import Trace
from wizard.smmu.validity import stage1_on

DENIED = frozenset({EventType.F_ADDR_SIZE, EventType.F_ACCESS, EventType.F_TRANSLATION, EventType.F_PERMISSION})
"""Faults that answer a request with success and no permission (3.9.1.2)."""

FULL, SPLIT = 1, 2


def effective_eats(ste: STE, *, ats: bool, atschk: bool) -> int:
    """STE.EATS as it counts: 0 without ATS, in bypass and abort, for split-stage without ATSCHK, and for the DPT encoding (5.2)."""
    if not ats or ste.Config < StreamConfig.STAGE1:
        return 0
    if ste.EATS == SPLIT:
        return SPLIT if atschk else 0
    return ste.EATS if ste.EATS == FULL else 0


def respond(
    stages: Stages, context: Context, address: int, *, write: bool, execute: bool, privileged: bool, split: bool, trace: Trace | None
) -> AtsResponse:
    """The Translation Completion for one page (13.7.1); faults of translation become a completion that grants nothing, of one STU.

    ``execute`` and ``privileged`` are False for a request without PASID.
    """
    stu = min(stages.features.granules)
    nothing = AtsResponse("success", size=stu, privileged=privileged)
    if context.bypass:
        if address >> stages.features.oas:
            return nothing
        return AtsResponse("success", address & -(1 << stu), stu, read=True, write=True)
    level = privileged if context.privileged is None else context.privileged
    shift = 0 if level else 3
    # What no answer could grant need not be found: without it stage 1 ends the walk, and stage 2 is not asked (3.9.1.2).
    need = ((permissions.PX if context.instruction else permissions.PR) | (permissions.PW if write else 0)) << shift
    try:
        pa, entry = stages.translate(context, address, need, trace)
    except Fault as fault:
        if fault.kind not in DENIED:
            raise
        if trace is not None:
            trace.add("ats", fault.reason)
        return nothing
    return _completion(context, address, pa, entry, shift, execute, privileged, split) or nothing


def _completion(
    context: Context, address: int, pa: int, entry: Entry, shift: int, execute: bool, privileged: bool, split: bool
) -> AtsResponse | None:
    allowed = entry.allowed1 & entry.allowed2
    readable, runnable = bool(allowed & permissions.PR << shift), bool(allowed & permissions.PX << shift)
    writable = bool(allowed & permissions.PW << shift) and not (entry.clean1 or entry.clean2)
    if context.instruction is None:
        grants = readable, execute and readable and runnable
    elif context.instruction:
        grants = runnable, execute and runnable
    else:
        grants = readable, execute and readable
    if not (writable or any(grants)):
        return None
    output = pa
    if split:
        output = address if context.stage1 is None else entry.ipa + (pa - entry.output)
    return AtsResponse("success", output & -(1 << entry.span), entry.span, grants[0], writable, grants[1], privileged)


@dataclass(slots=True)
class Endpoints:
    """Address translation caches of the endpoints, as the completions filled them: by StreamID and PASID, what is held.

    ``silent`` are StreamIDs whose endpoints never answer an invalidation; CMD_SYNC then ends in CERROR_ATC_INV_SYNC (3.9.1.4).
    """

    held: dict[tuple[int, int | None], list[tuple[int, AtsResponse]]] = field(default_factory=dict)
    silent: set[int] = field(default_factory=set)
    pending: bool = False

    def remember(self, sid: int, ssid: int | None, address: int, response: AtsResponse) -> None:
        """A completion arrived that grants something."""
        if response.read or response.write:
            self.held.setdefault((sid, ssid), []).append((address & -(1 << response.size), response))

    def invalidate(self, command: AtcInv) -> None:
        """CMD_ATC_INV: drop what overlaps the span; Global reaches every PASID."""
        sid = command.StreamID
        if sid in self.silent:
            self.pending = True
            return
        size = 12 + command.Size
        low = command.Address & -(1 << size) & (1 << 64) - 1
        high = low + (1 << size)
        ssid = command.SubstreamID if command.SSV else None
        for key in list(self.held):
            if key[0] == sid and (key[1] == ssid or (command.SSV and command.Global and key[1] is not None)):
                self.held[key] = [(start, held) for start, held in self.held[key] if not (start < high and low < start + (1 << held.size))]

    def find(self, sid: int, ssid: int | None, address: int) -> AtsResponse | None:
        """What the endpoint would use for ``address``, stale or not."""
        for start, held in reversed(self.held.get((sid, ssid), [])):
            if start <= address < start + (1 << held.size):
                return held
        return None


def skips_stage1(ste: STE, ssid: int | None) -> bool:
    """Whether a request without PASID skips stage 1 (13.6.4, 13.6.5)."""
    return stage1_on(ste) and ssid is None and ste.S1CDMax > 0 and ste.S1DSS == 1
