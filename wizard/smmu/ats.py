"""PCIe ATS: what is special to translation requests and translated traffic, and what endpoints keep. IHI 0070 3.9, 4.5, 13.6, 13.7.

Both go through the same steps as every transaction (``wizard.smmu.procedure``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec.structs import replace

from wizard.arch.command import AtcInv
from wizard.arch.event import EventType
from wizard.arch.ste import STE, StreamConfig
from wizard.smmu import permissions
from wizard.smmu.cache import Entry
from wizard.smmu.context import Context
from wizard.smmu.ids import Features
from wizard.smmu.outcome import Ats, AtsResponse, Fault, Transaction

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


def presented(transaction: Transaction) -> Transaction:
    """An ATS request or translated traffic with the attributes that it can carry.

    Execute and Privileged of a request come with a PASID only (13.7); translated traffic without IDR3.PASIDTT is data, unprivileged and
    without SubstreamID (3.9.1.3).
    """
    if transaction.ats is Ats.TRANSLATED:
        return replace(transaction, ssid=None, privileged=False, instruction=False)
    return replace(transaction, privileged=False, instruction=False) if transaction.ssid is None else transaction


def refusal(transaction: Transaction, reason: str, ste: STE | None = None) -> Fault:
    """A request or translated traffic that the SMMU does not allow (3.9.1.2, 3.9.1.3)."""
    return Fault(EventType.F_BAD_ATS_TREQ if transaction.ats is Ats.REQUEST else EventType.F_TRANSL_FORBIDDEN, reason, ste=ste)


def needed(context: Context, transaction: Transaction, privileged: bool) -> int:
    """The permissions of which a request needs at least one (13.7.1).

    What no answer could grant need not be found: without it stage 1 ends the walk, and stage 2 is not asked (3.9.1.2).
    """
    read = permissions.PX if context.instruction else permissions.PR
    return (read | (permissions.PW if transaction.write else 0)) << (0 if privileged else permissions.UNPRIVILEGED)


def nothing(features: Features, transaction: Transaction) -> AtsResponse:
    """The completion that grants nothing; it is as long as the smallest translation unit (3.9.1.2)."""
    return AtsResponse("success", size=min(features.granules), privileged=transaction.privileged)


def identity(features: Features, transaction: Transaction) -> AtsResponse:
    """The completion where no stage translates: the address as it is (13.6.4)."""
    stu = min(features.granules)
    return AtsResponse("success", transaction.iova & -(1 << stu), stu, read=True, write=True)


def completion(features: Features, context: Context, transaction: Transaction, privileged: bool, pa: int, entry: Entry) -> AtsResponse:
    """What a translation grants to the request (13.7.1); the address is intermediate with split-stage ATS (13.6.3)."""
    allowed = entry.allowed1 & entry.allowed2
    shift = 0 if privileged else permissions.UNPRIVILEGED
    readable, runnable = bool(allowed & permissions.PR << shift), bool(allowed & permissions.PX << shift)
    writable = bool(allowed & permissions.PW << shift) and not (entry.clean1 or entry.clean2)
    execute = transaction.instruction
    if context.instruction is None:
        grants = readable, execute and readable and runnable
    elif context.instruction:
        grants = runnable, execute and runnable
    else:
        grants = readable, execute and readable
    if not (writable or any(grants)):
        return nothing(features, transaction)
    output = pa
    if context.ste.EATS == SPLIT:
        output = transaction.iova if context.stage1 is None else entry.ipa + (pa - entry.output)
    return AtsResponse("success", output & -(1 << entry.span), entry.span, grants[0], writable, grants[1], transaction.privileged)


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
