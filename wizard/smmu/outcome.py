"""What goes into the SMMU and what comes out: transactions, faults on the way, outcomes."""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from wizard.arch.event import Event, EventType, FaultClass
from wizard.arch.ste import STE
from wizard.smmu.attributes import Attributes, Sources
from wizard.smmu.trace import Trace


class Ats(Enum):
    """The AT field of a PCIe request."""

    UNTRANSLATED = "untranslated"
    REQUEST = "request"
    TRANSLATED = "translated"


class Transaction(Struct, frozen=True):
    """One access by a device.

    ``sid`` is the StreamID, ``ssid`` the SubstreamID (PASID) or None when none is given, ``iova`` the 64-bit input address.
    ``instruction`` counts for reads only. With ``ats=Ats.REQUEST`` it is a translation request for one page (``write`` is then "no NW").
    """

    sid: int
    iova: int
    write: bool = False
    ssid: int | None = None
    privileged: bool = False
    instruction: bool = False
    ats: Ats = Ats.UNTRANSLATED
    incoming: Attributes | None = None


class How(Enum):
    """How a transaction ended."""

    TRANSLATED = "translated"
    BYPASS = "bypass"
    DISABLED = "disabled"
    ABORTED = "aborted"
    RAZWI = "razwi"
    STALLED = "stalled"
    ATS = "ats"


class AtsResponse(Struct, frozen=True):
    """A Translation Completion: ``status`` is ``success``, ``UR`` or ``CA``.

    On success there are the address, log2 of the size in bytes, and what is granted.
    """

    status: str
    address: int = 0
    size: int = 12
    read: bool = False
    write: bool = False
    execute: bool = False
    privileged: bool = False
    globally: bool = False
    untranslated: bool = False


class Outcome(Struct, frozen=True, gc=False):
    """The end of a transaction.

    ``pa`` is the output address when it may pass; ``event`` the record of the fault when there was one, and ``recorded`` whether it was
    meant for the event queue (CD.R, STE.S2R); ``size`` is log2 of the bytes that one TLB entry would cover.
    """

    how: How
    pa: int | None = None
    event: Event | None = None
    recorded: bool = False
    size: int = 0
    reason: str = ""
    ats: AtsResponse | None = None
    stag: int | None = None
    sources: Sources | None = None
    trace: Trace | None = None

    @property
    def ok(self) -> bool:
        """Whether the access reached ``pa``."""
        return self.pa is not None

    @property
    def attributes(self) -> Attributes | None:
        """Memory type and shareability of the access at ``pa``; None when it did not get there."""
        return self.sources.output() if self.sources is not None else None


class Part(Struct, frozen=True):
    """The part of an access that lies in one 4 KiB page: its first address, its bytes, and what became of it."""

    iova: int
    size: int
    outcome: Outcome


class Fault(Exception):
    """A fault or configuration error on the way; ``reason`` is for people.

    ``kind`` None is an abort that never has a record. ``address`` is the IPA of a stage 2 fault or the fetch address of an abort.
    ``record``, ``stall`` and ``abort`` are what CD.{R,S,A} or STE.{S2R,S2S} make of one of the four translation faults. ``ste`` is the
    stream's entry, as far as one was found.
    """

    __slots__ = ("abort", "address", "fault_class", "kind", "reason", "record", "stage2", "stall", "ste", "tt_read")

    def __init__(
        self,
        kind: EventType | None,
        reason: str,
        *,
        stage2: bool = False,
        fault_class: FaultClass = FaultClass.IN,
        address: int = 0,
        tt_read: bool = False,
        record: bool = True,
        stall: bool = False,
        abort: bool = True,
        ste: STE | None = None,
    ) -> None:
        super().__init__(reason)
        self.kind, self.reason, self.stage2, self.fault_class, self.address, self.tt_read = kind, reason, stage2, fault_class, address, tt_read
        self.record, self.stall, self.abort, self.ste = record, stall, abort, ste
