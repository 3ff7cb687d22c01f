"""Event records out of faults: IHI 0070, section 7.3."""

from __future__ import annotations

from wizard.arch import event
from wizard.arch.event import TRANSLATION_FAULTS, Event, EventType
from wizard.smmu.outcome import Fault, Transaction

_PAGE = ~0xFFF
_WITHOUT_SUBSTREAM = (EventType.F_STREAM_DISABLED, EventType.F_TRANSL_FORBIDDEN)
"""Events whose records have neither SubstreamID nor SSV (7.3.7, 7.3.8); QEMU's smmuv3_record_event() leaves them zero too."""
_FETCHES = (EventType.F_STE_FETCH, EventType.F_CD_FETCH)


def record(fault: Fault, transaction: Transaction, privileged: bool, instruction: bool, *, stag: int | None = None) -> Event:
    """The event record of ``fault``; ``privileged`` and ``instruction`` are the attributes after the STE's overrides.

    A stalled transaction has ``stag``. ``ValueError`` for a fault that has no record.
    """
    kind = fault.kind
    if kind is None:
        raise ValueError("a silent abort has no event record")
    fields: dict[str, int] = {"StreamID": transaction.sid}
    if transaction.ssid is not None and kind not in _WITHOUT_SUBSTREAM:
        fields |= {"SubstreamID": transaction.ssid}
        if kind is not EventType.C_BAD_SUBSTREAMID:
            fields["SSV"] = 1
    if kind in _FETCHES:
        fields["FetchAddr"] = fault.address & ~7
    elif kind in TRANSLATION_FAULTS or kind is EventType.F_WALK_EABT:
        fields |= {
            "InputAddr": transaction.iova,
            "RnW": int(not transaction.write),
            "PnU": int(privileged),
            "InD": int(instruction and not transaction.write),
            "S2": int(fault.stage2),
            "CLASS": fault.fault_class,
        }
        if kind is EventType.F_WALK_EABT:
            fields["FetchAddr"] = fault.address & ~7
        else:
            if fault.stage2:
                fields["IPA"] = fault.address & _PAGE & (1 << 56) - 1
            if fault.tt_read and kind is EventType.F_PERMISSION:
                fields["TTRnW"] = int(fault.fault_class == event.FaultClass.TTD)
            if stag is not None:
                fields |= {"Stall": 1, "STAG": stag}
    elif kind is EventType.F_TRANSL_FORBIDDEN:
        fields |= {"InputAddr": transaction.iova, "RnW": int(not transaction.write)}
    elif kind is EventType.F_BAD_ATS_TREQ:
        fields |= {
            "InputAddr": transaction.iova,
            "Span": 1,
            "R": 1,
            "W": int(transaction.write),
            "X": int(transaction.instruction),
            "PRIV": int(transaction.privileged),
        }
    return event.build(kind, **fields)


def same_for_merging(first: Event, second: Event) -> bool:
    """Whether two records may be merged: equal but for InputAddr[11:0], neither stalled (IHI 0070 7.3.1)."""
    if type(first) is not type(second):
        return False
    layout = type(first).layout
    if "Stall" in layout and (layout["Stall"].get(first.value) or layout["Stall"].get(second.value)):
        return False
    ignored = 0xFFF << layout["InputAddr"].lo if "InputAddr" in layout and first.Type != EventType.F_BAD_ATS_TREQ else 0
    return first.value & ~ignored == second.value & ~ignored
