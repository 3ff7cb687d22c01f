"""Which stream table entries and context descriptors are ILLEGAL: the pseudocode of IHI 0070, sections 5.2.2 and 5.4.2.

Each function answers with the first rule that is broken, as a sentence, or None. Secure, Realm, 128-bit descriptors, permission
indirection, DPT and MPAM are not modelled, so their rules are not here.
"""

from __future__ import annotations

from enum import Enum

from wizard.arch.cd import CD, GRANULES0, GRANULES1
from wizard.arch.idr import ADDRESS_BITS
from wizard.arch.ste import GRANULES, STE, StreamConfig
from wizard.smmu.ids import Features
from wizard.smmu.regime import stage2_start

NOT_VALID = "V is 0"
"""The rule that an entry breaks which software never filled, or took away."""


def effective_size(code: int, features: Features) -> int:
    """CD.IPS or STE.S2PS in bits, capped to OAS; 56 bits need SMMUv3.4 and count as 52 (IHI 0070 5.2, 5.4)."""
    return min(ADDRESS_BITS[code], 52 if features.version else 48, features.oas)


def stage1_on(ste: STE) -> bool:
    """STE.Config == 0b1x1."""
    return ste.Config in (StreamConfig.STAGE1, StreamConfig.NESTED)


def stage2_on(ste: STE) -> bool:
    """STE.Config == 0b11x."""
    return ste.Config in (StreamConfig.STAGE2, StreamConfig.NESTED)


def strw_used(ste: STE, features: Features) -> bool:
    """Whether STE.STRW selects the StreamWorld (IgnoreSTESTRW)."""
    return features.s1p and features.hyp and ste.Config == StreamConfig.STAGE1


class World(Enum):
    """StreamWorld of a non-secure stream (IHI 0070 3.3.3)."""

    EL1 = "NS-EL1"
    EL2 = "NS-EL2"
    E2H = "NS-EL2-E2H"


def world(ste: STE, features: Features, e2h: bool) -> World:
    """The stream's StreamWorld; ``e2h`` is CR2.E2H."""
    if strw_used(ste, features) and ste.STRW == 2:
        return World.E2H if e2h else World.EL2
    return World.EL1


def ste_illegal(ste: STE, features: Features) -> str | None:
    """Why the entry is ILLEGAL (C_BAD_STE), or None."""
    if not ste.V:
        return NOT_VALID
    if ste.Config < StreamConfig.BYPASS:
        return None
    if stage1_on(ste) and not features.s1p:
        return "Config asks for stage 1, which IDR0.S1P says is not implemented"
    if stage2_on(ste) and not features.s2p:
        return "Config asks for stage 2, which IDR0.S2P says is not implemented"
    if features.ats and ste.Config != StreamConfig.BYPASS:
        if ste.EATS == 2 and (ste.Config != StreamConfig.NESTED or ste.S2S or features.ns1ats):
            return "EATS asks for split-stage ATS without both stages, with S2S, or although IDR0.NS1ATS is 1"
        if ste.EATS == 1 and ste.S2S and stage2_on(ste):
            return "EATS asks for full ATS while S2S is 1"
    if strw_used(ste, features) and ste.STRW & 1:
        return "STRW is reserved"
    if not _ignores_vmid(ste, features) and not features.vmid16 and ste.S2VMID > 0xFF:
        return "S2VMID needs 16 bits and IDR0.VMID16 is 0"
    if stage1_on(ste) and (why := _stage1_illegal(ste, features)):
        return why
    if stage2_on(ste):
        return _stage2_illegal(ste, features)
    return None


def _ignores_vmid(ste: STE, features: Features) -> bool:
    return not features.s2p or ste.Config == StreamConfig.BYPASS or (strw_used(ste, features) and ste.STRW != 0)


def _stage1_illegal(ste: STE, features: Features) -> str | None:
    if ste.S1STALLD and features.stall_model != 0:
        return "S1STALLD is 1 although the stall model is not configurable (IDR0.STALL_MODEL)"
    if features.ssidsize:
        if ste.S1CDMax > features.ssidsize:
            return f"S1CDMax {ste.S1CDMax} is above IDR1.SSIDSIZE {features.ssidsize}"
        if ste.S1CDMax and not features.cd2l and ste.S1Fmt in (1, 2):
            return "S1Fmt asks for a two-level table and IDR0.CD2L is 0"
    if ste.S1ContextPtr >> features.oas:
        return f"S1ContextPtr {ste.S1ContextPtr:#x} is beyond {features.oas} bits"
    return None


def _stage2_illegal(ste: STE, features: Features) -> str | None:
    if ste.S2S and features.stall_model == 1:
        return "S2S is 1 and the stall model is not supported"
    if not ste.S2S and features.stall_model == 2:
        return "S2S is 0 and the stall model is forced"
    if not ste.S2AA64:
        return "S2AA64 is 0 and VMSAv8-32 tables are not supported"
    if not features.aa64:
        return "S2AA64 is 1 and IDR0.TTF has no VMSAv8-64"
    if (ste.S2HA or ste.S2HD) and features.httu == 0:
        return "S2HA or S2HD is 1 and IDR0.HTTU is 0"
    if ste.S2HD and features.httu == 1:
        return "S2HD is 1 and IDR0.HTTU has no dirty state"
    if ste.S2HAFT and not ste.S2HA and features.httu == 3:
        return "S2HAFT is 1 and S2HA is 0"
    granule = GRANULES.get(ste.S2TG)
    if granule not in features.granules:
        return "S2TG is reserved or not in IDR5"
    size = effective_size(ste.S2PS, features)
    if ste.S2TTB >> size or (granule < 16 and ste.S2TTB >> 48):
        return f"S2TTB {ste.S2TTB:#x} is beyond S2PS, {size} bits"
    low, high = max(12 if granule == 16 else 16, 64 - features.ias), _largest_tsz(granule, features)
    if not low <= ste.S2T0SZ <= high:
        return f"S2T0SZ {ste.S2T0SZ} is outside {low} to {high}"
    if stage2_start(granule, ste.S2SL0, 64 - ste.S2T0SZ, features.oas, features.stt) is None:
        return f"S2SL0 {ste.S2SL0} contradicts S2T0SZ {ste.S2T0SZ} and S2TG"
    if (ste.S2ENDI and not features.big) or (not ste.S2ENDI and not features.little):
        return "S2ENDI is not in IDR0.TTENDIAN"
    return None


def _largest_tsz(granule: int, features: Features) -> int:
    if not features.stt:
        return 39
    return 47 if granule == 16 else 48


def cd_illegal(cd: CD, ste: STE, features: Features, stream_world: World = World.EL1) -> str | None:
    """Why the descriptor, reached through ``ste``, is ILLEGAL (C_BAD_CD), or None."""
    if not cd.V:
        return NOT_VALID
    if ste.S1STALLD and cd.S:
        return "S is 1 and STE.S1STALLD forbids it"
    if features.term_model and not cd.A:
        return "A is 0 and IDR0.TERM_MODEL only aborts"
    if cd.S and features.stall_model == 1:
        return "S is 1 and the stall model is not supported"
    if not cd.S and features.stall_model == 2:
        return "S is 0 and the stall model is forced"
    if not cd.AA64:
        return "AA64 is 0 and VMSAv8-32 tables are not supported"
    if not features.aa64:
        return "AA64 is 1 and IDR0.TTF has no VMSAv8-64"
    if (cd.HA or cd.HD) and features.httu == 0:
        return "HA or HD is 1 and IDR0.HTTU is 0"
    if cd.HD and features.httu == 1:
        return "HD is 1 and IDR0.HTTU has no dirty state"
    if cd.HAFT and not cd.HA and features.httu == 3:
        return "HAFT is 1 and HA is 0"
    world2 = stream_world is World.EL2
    if not world2 and not features.asid16 and cd.ASID > 0xFF:
        return "ASID needs 16 bits and IDR0.ASID16 is 0"
    return _tables_illegal(cd, world2, features)


def _tables_illegal(cd: CD, world2: bool, features: Features) -> str | None:
    lower = world2 or not cd.EPD0
    upper = not world2 and not cd.EPD1
    if (lower or upper) and ((cd.ENDI and not features.big) or (not cd.ENDI and not features.little)):
        return "ENDI is not in IDR0.TTENDIAN"
    halves = []
    if lower:
        halves.append((0, cd.T0SZ, GRANULES0.get(cd.TG0), cd.TTB0))
    if upper:
        halves.append((1, cd.T1SZ, GRANULES1.get(cd.TG1), cd.TTB1))
    size = effective_size(cd.IPS, features)
    for half, tsz, granule, base in halves:
        if granule is None or granule not in features.granules:
            return f"TG{half} is reserved or not in IDR5"
        low, high = 12 if features.vax52 and granule == 16 else 16, _largest_tsz(granule, features)
        if not low <= tsz <= high:
            return f"T{half}SZ {tsz} is outside {low} to {high}"
        if base >> size or (granule < 16 and base >> 48):
            return f"TTB{half} {base:#x} is beyond IPS, {size} bits"
    return None
