"""Every field of the ID registers: modelled, accepted and ignored, or masked.

*Modelled* decides answers. *Ignored* is taken as it is: it says something of timing, of the interconnect or of software's rights that the
model has no need of. *Masked* is cleared before the model looks: the host has it, the model does not, and ``masked_bits`` shows it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from wizard.arch.bits import Record
from wizard.arch.idr import AIDR, IDR0, IDR1, IDR3, IDR5
from wizard.smmu.ids import Ids


class Support(Enum):
    """What the model makes of an ID register field."""

    MODELLED = "modelled"
    IGNORED = "accepted and ignored"
    MASKED = "masked"


_M, _I, _X = Support.MODELLED, Support.IGNORED, Support.MASKED

TABLE: dict[type[Record], dict[str, tuple[Support, str]]] = {
    IDR0: {
        "S2P": (_M, ""),
        "S1P": (_M, ""),
        "TTF": (_M, "VMSAv8-64 only: 0b11 counts as 0b10, and 0b01 leaves no format at all"),
        "COHACC": (_I, "memory is always coherent here"),
        "BTM": (_I, "no processor broadcasts invalidations here"),
        "HTTU": (_M, "access flag and dirty state of leaves; 0b11 counts as 0b10"),
        "DORMHINT": (_I, "power hint"),
        "HYP": (_M, ""),
        "ATS": (_M, ""),
        "NS1ATS": (_M, ""),
        "ASID16": (_M, ""),
        "MSI": (_M, ""),
        "SEV": (_I, "wakes processors"),
        "ATOS": (_X, "no address translation operations"),
        "PRI": (_M, ""),
        "VMW": (_M, ""),
        "VMID16": (_M, ""),
        "CD2L": (_M, ""),
        "VATOS": (_X, "no address translation operations"),
        "TTENDIAN": (_M, ""),
        "ATSRECERR": (_M, ""),
        "STALL_MODEL": (_M, ""),
        "TERM_MODEL": (_M, ""),
        "ST_LEVEL": (_M, ""),
        "RME_IMPL": (_X, "no Realm state, no granule protection"),
    },
    IDR1: {
        "SIDSIZE": (_M, ""),
        "SSIDSIZE": (_M, ""),
        "PRIQS": (_M, ""),
        "EVENTQS": (_M, ""),
        "CMDQS": (_M, ""),
        "ATTR_PERMS_OVR": (_M, ""),
        "ATTR_TYPES_OVR": (_M, ""),
        "REL": (_X, "no preset tables or queues"),
        "QUEUES_PRESET": (_X, "no preset queues"),
        "TABLES_PRESET": (_X, "no preset tables"),
        "ECMDQ": (_X, "no enhanced command queues"),
    },
    IDR3: {
        "HAD": (_M, ""),
        "PBHA": (_I, "implementation defined use of descriptor bits 62:59"),
        "XNX": (_M, ""),
        "PPS": (_M, ""),
        "MPAM": (_X, "no memory partitioning"),
        "FWB": (_M, ""),
        "STT": (_M, ""),
        "RIL": (_M, ""),
        "BBML": (_I, "tables are changed between translations, never during one"),
        "E0PD": (_M, ""),
        "PTWNNC": (_I, "what type a table fetch uses decides no answer"),
        "DPT": (_X, "no device permission table"),
        "PASIDTT": (_X, "no PASID on translated traffic"),
        "EPAN": (_M, ""),
        "S1PI": (_X, "no permission indirection"),
        "S2PI": (_X, "no permission indirection"),
        "S2PO": (_X, "no permission overlays"),
        "THE": (_X, "no translation hardening"),
        "MTEPERM": (_X, "no memory tagging"),
        "AIE": (_X, "no attribute index extension"),
    },
    IDR5: {
        "OAS": (_M, "56 bits count as 52"),
        "GRAN4K": (_M, ""),
        "GRAN16K": (_M, ""),
        "GRAN64K": (_M, ""),
        "DS": (_X, "52-bit addresses with the 64 KiB granule only"),
        "D128": (_X, "no 128-bit descriptors"),
        "VAX": (_M, "56 bits count as 52"),
        "STALL_MAX": (_M, ""),
    },
    AIDR: {
        "ArchMinorRev": (_M, "SMMUv3.0 and later than that are told apart"),
        "ArchMajorRev": (_I, "0 is SMMUv3"),
    },
}
"""Of each register the fields, what the model makes of them, and a word on it."""


LARGEST: dict[type[Record], dict[str, tuple[int, str]]] = {
    IDR0: {"TTF": (2, "no VMSAv8-32 tables"), "HTTU": (2, "no access flag of table descriptors")},
    IDR5: {"OAS": (6, "addresses of 52 bits at most"), "VAX": (1, "addresses of 52 bits at most")},
}
"""Modelled fields of which larger values count as this one, and what is lost by that."""


@dataclass(frozen=True, slots=True)
class Masked:
    """A field that a host sets and the model clears or makes smaller; ``value`` is the host's."""

    register: str
    field: str
    value: int
    why: str


def masked_bits(ids: Ids) -> tuple[Masked, ...]:
    """What ``ids`` has and the model masks, undeclared bits included."""
    found = []
    for register, word in _words(ids).items():
        for name, (support, why) in TABLE[register].items():
            value = register.layout[name].get(word)
            if support is Support.MASKED and value:
                found.append(Masked(register.__name__, name, value, why))
        for name, (largest, why) in LARGEST.get(register, {}).items():
            if (value := register.layout[name].get(word)) > largest:
                found.append(Masked(register.__name__, name, value, why))
        if unknown := register(word).undeclared:
            found.append(Masked(register.__name__, "reserved", unknown, "bits that the architecture reserves"))
    return tuple(found)


def masked(ids: Ids) -> Ids:
    """``ids`` without what the model masks."""
    cleared = {}
    for register, word in _words(ids).items():
        for name, (support, _) in TABLE[register].items():
            if support is Support.MASKED:
                word = register.layout[name].put(word, 0)
        for name, (largest, _) in LARGEST.get(register, {}).items():
            word = register.layout[name].put(word, min(register.layout[name].get(word), largest))
        cleared[register.__name__.lower()] = word & ~register(word).undeclared
    return replace(ids, **cleared)


def _words(ids: Ids) -> dict[type[Record], int]:
    return {IDR0: ids.idr0, IDR1: ids.idr1, IDR3: ids.idr3, IDR5: ids.idr5, AIDR: ids.aidr}
