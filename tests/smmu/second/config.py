"""From StreamID and SubstreamID to the stream table entry and the context descriptor, and what makes them ILLEGAL: IHI 0070 chapter 5.

The pseudocode of 5.2.2 and 5.4.2 is followed without what belongs to Secure, Realm, 128-bit descriptors, DPT, MPAM and indirection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.smmu.second.tables import Stage, start_of_stage1
from tests.smmu.second.words import (
    C_BAD_CD,
    C_BAD_STE,
    C_BAD_STREAMID,
    C_BAD_SUBSTREAMID,
    F_CD_FETCH,
    F_STE_FETCH,
    F_STREAM_DISABLED,
    SIZES,
    Aborted,
    Ended,
    Memory,
    bits,
)


@dataclass(frozen=True)
class Registers:
    """The words of the ID registers, and of those that software writes."""

    idr0: int
    idr1: int
    idr3: int
    idr5: int
    aidr: int = 2
    cr0: int = 1
    cr2: int = 0
    gbpa: int = 0
    strtab_base: int = 0
    strtab_base_cfg: int = 0

    @property
    def oas(self) -> int:
        return SIZES[bits(self.idr5, 2, 0)]

    @property
    def granules(self) -> set[int]:
        return {size for size, bit in ((12, 4), (14, 5), (16, 6)) if bits(self.idr5, bit)}

    @property
    def httu(self) -> int:
        return min(bits(self.idr0, 7, 6), 2)

    @property
    def stall_model(self) -> int:
        return bits(self.idr0, 25, 24)

    @property
    def term_model(self) -> int:
        return bits(self.idr0, 26)

    @property
    def ssidsize(self) -> int:
        return bits(self.idr1, 10, 6)

    @property
    def has_ats(self) -> int:
        return bits(self.idr0, 10)

    @property
    def stt(self) -> int:
        return bits(self.idr3, 9)

    @property
    def largest_tsz(self) -> Callable[[int], int]:
        return lambda granule: (47 if granule == 16 else 48) if self.stt else 39

    def endianness(self, big: int) -> bool:
        """Whether tables of this endianness are supported (IDR0.TTENDIAN)."""
        return bits(self.idr0, 22, 21) in ((0, 3) if big else (0, 2))

    def size(self, code: int) -> int:
        """Effective IPS or S2PS."""
        return min(SIZES[code] if self.aidr else min(SIZES[code], 48), self.oas)


@dataclass(frozen=True)
class Ste:
    """A stream table entry by its dwords."""

    words: tuple[int, ...]

    def at(self, dword: int, high: int, low: int | None = None) -> int:
        return bits(self.words[dword], high, low)

    @property
    def config(self) -> int:
        return self.at(0, 3, 1)

    @property
    def first(self) -> bool:
        return self.config & 5 == 5

    @property
    def second(self) -> bool:
        return self.config & 6 == 6

    @property
    def eats(self) -> int:
        return self.at(1, 29, 28)


def stream_entry(registers: Registers, memory: Memory, sid: int) -> Ste:
    """The entry of a StreamID: 5.1, 6.3.24, 6.3.25, 7.3.3 to 7.3.5."""
    cfg = registers.strtab_base_cfg
    log2size = min(bits(cfg, 5, 0), bits(registers.idr1, 5, 0))
    if sid >> log2size:
        raise Ended(C_BAD_STREAMID)
    base = registers.strtab_base & (1 << 52) - 64
    if bits(cfg, 17, 16) != 1 or not bits(registers.idr0, 28, 27):
        at = (base & -(64 << log2size)) + 64 * sid
    else:
        split = {6: 6, 8: 8, 10: 10}.get(bits(cfg, 10, 6), 6)
        where = (base & -max(64, 8 << max(log2size - split, 0))) + 8 * (sid >> split)
        level1 = memory.read(where)
        if level1 is None:
            raise Ended(F_STE_FETCH, fetch=where)
        span = bits(level1, 4, 0)
        within = sid & (1 << split) - 1
        if not 1 <= span <= 11 or span > split + 1 or within >> span - 1:
            raise Ended(C_BAD_STREAMID)
        at = (level1 & (1 << 52) - 64 & -(64 << span - 1)) + 64 * within
    words = memory.block(at, 8)
    if words is None:
        raise Ended(F_STE_FETCH, fetch=at)
    ste = Ste(tuple(words))
    if not ste.at(0, 0):
        raise Ended(C_BAD_STE)
    if ste.config < 4:
        raise Aborted("STE.Config is 0b0xx")
    if illegal_ste(registers, ste):
        raise Ended(C_BAD_STE)
    return ste


def world2(registers: Registers, ste: Ste) -> bool:
    """StreamWorld EL2 without E2H."""
    return strw(registers, ste) == 2 and not bits(registers.cr2, 0)


def strw(registers: Registers, ste: Ste) -> int:
    """STE.STRW where it is neither RES0 nor IGNORED."""
    hyp = bits(registers.idr0, 9) and bits(registers.idr0, 1, 0) == 3
    return ste.at(1, 31, 30) if hyp and ste.config == 5 else 0


def illegal_ste(registers: Registers, ste: Ste) -> bool:
    """5.2.2, of an entry that is valid and not abort."""
    s2s = ste.at(2, 57)
    if (ste.first and not bits(registers.idr0, 1)) or (ste.second and not bits(registers.idr0, 0)):
        return True
    if registers.has_ats and ste.config != 4:
        if ste.eats == 2 and (ste.config != 7 or s2s or bits(registers.idr0, 11)):
            return True
        if ste.eats == 1 and ste.second and s2s:
            return True
    if strw(registers, ste) & 1:
        return True
    tags_vmid = bits(registers.idr0, 0) and ste.config != 4 and strw(registers, ste) == 0
    if tags_vmid and not bits(registers.idr0, 18) and ste.at(2, 15, 8):
        return True
    if ste.first:
        if ste.at(1, 27) and registers.stall_model:
            return True
        cdmax = ste.at(0, 63, 59)
        if registers.ssidsize and (cdmax > registers.ssidsize or (cdmax and ste.at(0, 5, 4) in (1, 2) and not bits(registers.idr0, 19))):
            return True
        if ste.words[0] >> registers.oas & (1 << 56 - registers.oas) - 1:
            return True
    return ste.second and second_stage(registers, ste) is None


def second_stage(registers: Registers, ste: Ste) -> Stage | None:
    """Stage 2 as the entry describes it, or None where that is ILLEGAL."""
    if (ste.at(2, 57), registers.stall_model) in ((1, 1), (0, 2)) or not ste.at(2, 51) or not bits(registers.idr0, 3):
        return None
    ha, hd = ste.at(2, 56), ste.at(2, 55)
    if ((ha or hd) and registers.httu == 0) or (hd and registers.httu < 2):
        return None
    granule = {0: 12, 1: 16, 2: 14}.get(ste.at(2, 47, 46), 0)
    size, base, tsz = registers.size(ste.at(2, 50, 48)), ste.words[3] & (1 << 52) - 16, ste.at(2, 37, 32)
    if granule not in registers.granules or base >> size or (granule < 16 and base >> 48):
        return None
    if not max(12 if granule == 16 else 16, 64 - registers.oas) <= tsz <= registers.largest_tsz(granule):
        return None
    big = ste.at(2, 52)
    start = start_of_stage2(registers, granule, ste.at(2, 39, 38), 64 - tsz)
    if start is None or not registers.endianness(big):
        return None
    return Stage(granule, 64 - tsz, start, base, size, registers.oas == 52, bool(big), bool(ha), bool(ha and hd), bool(ste.at(2, 53)), False, True)


def start_of_stage2(registers: Registers, granule: int, sl0: int, input_bits: int) -> int | None:
    """AArch64.S2StartLevel, S2InvalidSL and S2InconsistentSL, without FEAT_LPA2."""
    levels: dict[tuple[int, int], int] = {(12, 0): 2, (12, 1): 1, (14, 0): 3, (14, 1): 2, (16, 0): 3, (16, 1): 2}
    if registers.oas >= 44:
        levels |= {(12, 2): 0, (16, 2): 1}
    if registers.oas >= 42:
        levels[14, 2] = 1
    if registers.stt:
        levels[12, 3] = 3
    start = levels.get((granule, sl0))
    if start is None:
        return None
    stride = granule - 3
    least = (3 - start) * stride + granule + 1
    return start if least <= input_bits <= least + stride - 1 + 4 else None


@dataclass(frozen=True)
class Context:
    """A context descriptor by its dwords."""

    words: tuple[int, ...]

    def at(self, dword: int, high: int, low: int | None = None) -> int:
        return bits(self.words[dword], high, low)


def substream(registers: Registers, ste: Ste, ssid: int | None) -> int | None:
    """The index of the CD, or None where stage 1 is bypassed: 5.2 (Config, S1CDMax, S1DSS), 7.3.7, 7.3.9."""
    cdmax = ste.at(0, 63, 59) if registers.ssidsize else 0
    if ssid is not None and (not ste.first or not cdmax or ssid >> cdmax):
        raise Ended(C_BAD_SUBSTREAMID)
    if not ste.first:
        return None
    if not cdmax:
        return 0
    s1dss = ste.at(1, 1, 0)
    if ssid is not None:
        if s1dss == 2 and ssid == 0:
            raise Ended(F_STREAM_DISABLED)
        return ssid
    if s1dss == 1:
        return None
    if s1dss == 2:
        return 0
    raise Ended(F_STREAM_DISABLED)


def context(registers: Registers, memory: Memory, ste: Ste, index: int, located: Callable[[int], int]) -> Context:
    """The CD of an index, through a table of one or two levels; ``located`` is stage 2, or nothing: 5.3, 7.3.10, 7.3.11.

    Bits of S1ContextPtr below the table's size are taken as zero, which is one of the choices of 5.2 (S1Fmt).
    """
    pointer = ste.words[0] & (1 << 56) - 64
    cdmax = ste.at(0, 63, 59) if registers.ssidsize else 0
    split = {1: 6, 2: 10}.get(ste.at(0, 5, 4)) if cdmax else None
    if split is not None:
        pointer &= -max(64, 8 << max(cdmax - split, 0))
        at = located(pointer + 8 * (index >> split))
        level1 = memory.read(at)
        if level1 is None:
            raise Ended(F_CD_FETCH, fetch=at)
        if not level1 & 1 or level1 >> registers.oas & (1 << 56 - registers.oas) - 1:
            raise Ended(C_BAD_SUBSTREAMID)
        pointer = (level1 & (1 << 56) - (64 << split)) + 64 * (index & (1 << split) - 1)
    else:
        pointer = (pointer & -(64 << cdmax)) + 64 * index
    at = located(pointer)
    words = memory.block(at, 8)
    if words is None:
        raise Ended(F_CD_FETCH, fetch=at)
    found = Context(tuple(words))
    if not found.at(0, 31) or illegal_cd(registers, ste, found):
        raise Ended(C_BAD_CD)
    return found


def illegal_cd(registers: Registers, ste: Ste, cd: Context) -> bool:
    """5.4.2, of a descriptor that is valid."""
    stall, terminate = cd.at(0, 44), cd.at(0, 46)
    if (ste.at(1, 27) and stall) or (registers.term_model and not terminate):
        return True
    if (stall, registers.stall_model) in ((1, 1), (0, 2)) or not cd.at(0, 41) or not bits(registers.idr0, 3):
        return True
    ha, hd = cd.at(0, 43), cd.at(0, 42)
    if ((ha or hd) and registers.httu == 0) or (hd and registers.httu < 2):
        return True
    if not world2(registers, ste) and not bits(registers.idr0, 12) and cd.at(0, 63, 56):
        return True
    halves = [half for half in (0, 1) if enabled(registers, ste, cd, half)]
    if halves and not registers.endianness(cd.at(0, 15)):
        return True
    size = registers.size(cd.at(0, 34, 32))
    for half in halves:
        granule, tsz, base = granule_of(cd, half), cd.at(0, 21 if half else 5, 16 if half else 0), cd.words[1 + half] & (1 << 52) - 16
        smallest = 12 if granule == 16 and bits(registers.idr5, 11, 10) else 16
        if granule not in registers.granules or not smallest <= tsz <= registers.largest_tsz(granule):
            return True
        if base >> size or (granule < 16 and base >> 48):
            return True
    return False


def enabled(registers: Registers, ste: Ste, cd: Context, half: int) -> bool:
    """Whether a half of the address space has tables; EL2 has one half, and EPD is IGNORED there."""
    if world2(registers, ste):
        return half == 0
    return not cd.at(0, 30 if half else 14)


def granule_of(cd: Context, half: int) -> int:
    return ({1: 14, 2: 12, 3: 16}.get(cd.at(0, 23, 22), 0)) if half else ({0: 12, 1: 16, 2: 14}.get(cd.at(0, 7, 6), 0))


def first_stage(registers: Registers, cd: Context, half: int) -> Stage:
    """Stage 1 as a legal CD describes it."""
    granule, input_bits = granule_of(cd, half), 64 - cd.at(0, 21 if half else 5, 16 if half else 0)
    had = bits(registers.idr3, 2) and cd.at(1 + half, 1)
    af, hd = cd.at(0, 43), cd.at(0, 42)
    return Stage(
        granule, input_bits, start_of_stage1(granule, input_bits), cd.words[1 + half] & (1 << 52) - 16, registers.size(cd.at(0, 34, 32)),
        registers.oas == 52, bool(cd.at(0, 15)), bool(af), bool(af and hd), bool(cd.at(0, 35)), not had, False,
    )  # fmt: skip
