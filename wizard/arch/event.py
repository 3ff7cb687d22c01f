"""Event queue records: IHI 0070, section 7.3. Each is 256 bits: four little-endian 64-bit words."""

from __future__ import annotations

from enum import IntEnum

from wizard.arch.bits import Record, address, field

EVENT_BYTES = 32


class EventType(IntEnum):
    """Event numbers, IHI 0070 7.3."""

    F_UUT = 0x01
    C_BAD_STREAMID = 0x02
    F_STE_FETCH = 0x03
    C_BAD_STE = 0x04
    F_BAD_ATS_TREQ = 0x05
    F_STREAM_DISABLED = 0x06
    F_TRANSL_FORBIDDEN = 0x07
    C_BAD_SUBSTREAMID = 0x08
    F_CD_FETCH = 0x09
    C_BAD_CD = 0x0A
    F_WALK_EABT = 0x0B
    F_TRANSLATION = 0x10
    F_ADDR_SIZE = 0x11
    F_ACCESS = 0x12
    F_PERMISSION = 0x13
    F_TLB_CONFLICT = 0x20
    F_CFG_CONFLICT = 0x21
    E_PAGE_REQUEST = 0x24
    F_VMS_FETCH = 0x25


_TYPES = frozenset(EventType)
TRANSLATION_FAULTS = frozenset({EventType.F_TRANSLATION, EventType.F_ADDR_SIZE, EventType.F_ACCESS, EventType.F_PERMISSION})
"""The four that CD.{A,R,S} and STE.{S2R,S2S} govern (IHI 0070 5.5)."""


IMPLEMENTATION_DEFINED = range(0xE0, 0xF0)
"""Numbers that an implementation gives a meaning of its own (IHI 0070 7.3): IMPDEF_EVENT0 and so on."""


def name_of(number: int) -> str | None:
    """The specification's name of an event number; None for one that it reserves."""
    if number in IMPLEMENTATION_DEFINED:
        return f"IMPDEF_EVENT{number - IMPLEMENTATION_DEFINED.start}"
    return EventType(number).name if number in _TYPES else None


class FaultClass(IntEnum):
    """CLASS: which operation faulted (IHI 0070 7.3)."""

    CD = 0
    TTD = 1
    IN = 2


class Event(Record, bits=256):
    """What every record has."""

    Type = field(7, 0, "event number", codes={kind.value: kind.name for kind in EventType})
    SSV = field(11, doc="SubstreamID is valid")
    SubstreamID = field(31, 12, "SubstreamID (PASID)")
    StreamID = field(63, 32, "StreamID")


class FetchEvent(Event, bits=256):
    """F_STE_FETCH, F_CD_FETCH and F_VMS_FETCH: 7.3.4, 7.3.10, 7.3.20."""

    Reason = field(79, 64, "implementation defined")
    GPCF = field(80, doc="granule protection check fault")
    FetchAddr = address(247, 195, "physical address of the fetch")


class InputEvent(Event, bits=256):
    """F_UUT and F_TRANSL_FORBIDDEN: 7.3.2, 7.3.8."""

    Reason = field(79, 64, "implementation defined")
    PnU = field(97, doc="privileged")
    InD = field(98, doc="instruction")
    RnW = field(99, doc="read")
    InputAddr = field(191, 128, "input address")


class AtsRequestEvent(Event, bits=256):
    """F_BAD_ATS_TREQ: 7.3.6."""

    Span = field(67, 64, "STUs requested")
    R = field(96, doc="read requested")
    W = field(97, doc="write requested")
    X = field(98, doc="execute requested")
    PRIV = field(99, doc="privileged requested")
    InputAddr = field(191, 128, "input address")


class TranslationEvent(Event, bits=256):
    """F_TRANSLATION, F_ADDR_SIZE, F_ACCESS, F_PERMISSION: 7.3.13 to 7.3.16; TTRnW in F_PERMISSION only."""

    STAG = field(79, 64, "stall tag")
    Stall = field(95, doc="the transaction is stalled")
    PnU = field(97, doc="privileged")
    InD = field(98, doc="instruction")
    RnW = field(99, doc="read")
    NSIPA = field(100, doc="non-secure IPA")
    S2 = field(103, doc="stage 2 faulted")
    CLASS = field(105, 104, "operation that faulted", codes={0: "CD", 1: "TTD", 2: "IN"})
    TTRnW = field(108, doc="the descriptor access that faulted was a read")
    InputAddr = field(191, 128, "input address")
    IPA = address(247, 204, "intermediate physical address, bits 11:0 zero")


class WalkAbortEvent(Event, bits=256):
    """F_WALK_EABT: 7.3.12."""

    Reason = field(79, 64, "implementation defined")
    GPCF = field(80, doc="granule protection check fault")
    PnU = field(97, doc="privileged")
    InD = field(98, doc="instruction")
    RnW = field(99, doc="read")
    S2 = field(103, doc="stage 2 faulted")
    CLASS = field(105, 104, "operation that faulted", codes={0: "CD", 1: "TTD", 2: "IN"})
    InputAddr = field(191, 128, "input address")
    FetchAddr = address(247, 195, "physical address of the descriptor")


class TlbConflictEvent(Event, bits=256):
    """F_TLB_CONFLICT: 7.3.17. It never stalls; which entries met is the implementation's to say."""

    Reason = field(79, 64, "implementation defined")
    PnU = field(97, doc="privileged")
    InD = field(98, doc="instruction")
    RnW = field(99, doc="read")
    NSIPA = field(100, doc="non-secure IPA")
    S2 = field(103, doc="stage 2 faulted")
    InputAddr = field(191, 128, "input address")
    IPA = address(247, 204, "intermediate physical address, bits 11:0 zero")


class ConfigConflictEvent(Event, bits=256):
    """F_CFG_CONFLICT: 7.3.18."""

    Reason = field(79, 64, "implementation defined")


class PageRequestEvent(Event, bits=256):
    """E_PAGE_REQUEST: 7.3.19."""

    uX = field(97, doc="unprivileged execute")
    uW = field(98, doc="unprivileged write")
    uR = field(99, doc="unprivileged read")
    pX = field(100, doc="privileged execute")
    pW = field(101, doc="privileged write")
    pR = field(102, doc="privileged read")
    Span = field(115, 108, "pages of 4 KiB")
    InputAddr = address(191, 140, "input address")


class PageRequest(Record, bits=128):
    """A PRI queue entry, chapter 8: a Page Request Message of an endpoint."""

    StreamID = field(31, 0, "StreamID")
    SubstreamID = field(51, 32, "SubstreamID (PASID)")
    Priv = field(58, doc="privileged")
    X = field(59, doc="execute")
    R = field(60, doc="read")
    W = field(61, doc="write")
    Last = field(62, doc="last of its group")
    SSV = field(63, doc="SubstreamID is valid")
    PRGIndex = field(72, 64, "page request group")
    Addr = address(127, 76, "page address")


FORMATS: dict[EventType, type[Event]] = {
    EventType.F_UUT: InputEvent,
    EventType.C_BAD_STREAMID: Event,
    EventType.F_STE_FETCH: FetchEvent,
    EventType.C_BAD_STE: Event,
    EventType.F_BAD_ATS_TREQ: AtsRequestEvent,
    EventType.F_STREAM_DISABLED: Event,
    EventType.F_TRANSL_FORBIDDEN: InputEvent,
    EventType.C_BAD_SUBSTREAMID: Event,
    EventType.F_CD_FETCH: FetchEvent,
    EventType.C_BAD_CD: Event,
    EventType.F_WALK_EABT: WalkAbortEvent,
    EventType.F_TRANSLATION: TranslationEvent,
    EventType.F_ADDR_SIZE: TranslationEvent,
    EventType.F_ACCESS: TranslationEvent,
    EventType.F_PERMISSION: TranslationEvent,
    EventType.F_TLB_CONFLICT: TlbConflictEvent,
    EventType.F_CFG_CONFLICT: ConfigConflictEvent,
    EventType.E_PAGE_REQUEST: PageRequestEvent,
    EventType.F_VMS_FETCH: FetchEvent,
}
"""The layout of each event number."""


def decode(value: int) -> Event:
    """The record in its own layout; a plain ``Event`` for a number that the architecture does not define."""
    plain = Event(value)
    if plain.Type not in _TYPES:
        return plain
    return FORMATS[EventType(plain.Type)](value)


def build(kind: EventType, **fields: int) -> Event:
    """A record from named fields; ``ValueError`` for a field that the event does not have or a value that does not fit."""
    return FORMATS[kind].build(Type=kind.value, **fields)
