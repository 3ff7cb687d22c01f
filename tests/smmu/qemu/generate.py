"""Random cases: tables for one address, well formed for the most part and broken in one place or another, over all granules and stages."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.smmu.qemu.machine import EDU, RAM_END, RAM_START, TESTDEV
from wizard.arch.cd import CD
from wizard.arch.registers import StrtabBaseCfg, TableFormat
from wizard.arch.ste import L1STD, STE

STREAMS, LEVEL2, TABLES, TABLES_END = 0x4010_0000, 0x4018_0000, 0x4020_0000, 0x47F0_0000
STRIDE = {12: 9, 14: 11, 16: 13}
TG0 = {12: 0, 16: 1, 14: 2}
TG1 = {14: 1, 12: 2, 16: 3}
SL0 = {12: {2: 0, 1: 1, 0: 2}, 14: {3: 0, 2: 1, 1: 2}, 16: {3: 0, 2: 1, 1: 2}}
SIZES = {0: 32, 1: 36, 2: 40, 3: 42, 4: 44, 5: 48}


def shift_of(granule: int, level: int) -> int:
    return granule + STRIDE[granule] * (3 - level)


@dataclass
class Builder:
    """Words at physical addresses, and room for tables."""

    rng: Random
    words: dict[int, int] = field(default_factory=dict)
    next: int = TABLES

    def room(self, size: int) -> int:
        address = -(-self.next // size) * size + size * self.rng.randrange(2)
        self.next = address + size
        if self.next > TABLES_END:
            raise MemoryError
        return address

    def odd(self, chance: float) -> bool:
        return self.rng.random() < chance


def output(b: Builder, shift: int) -> int:
    """An output address: mostly in RAM, sometimes anywhere below 2^48."""
    if b.odd(0.08):
        return b.rng.randrange(1 << 48) >> shift << shift
    if shift >= 31:
        return b.rng.choice([0, 1 << 30, 1 << 31]) >> shift << shift
    return b.rng.randrange(0x5000_0000, 0x1_0000_0000) >> shift << shift


def leaf1(b: Builder, level: int, address: int) -> int:
    access = b.rng.choice([0, 1, 1, 1, 1, 2, 3])
    word = address | (3 if level == 3 else 1) | b.rng.randrange(8) << 2 | access << 6 | b.rng.randrange(4) << 8
    word |= (0 if b.odd(0.06) else 1) << 10 | b.rng.randrange(2) << 11
    if b.odd(0.1):
        word |= 1 << 52
    return word | b.rng.randrange(4) << 53 | b.rng.randrange(16) << 55


def leaf2(b: Builder, level: int, address: int) -> int:
    word = address | (3 if level == 3 else 1) | b.rng.choice([15, 15, 5, 1, 0]) << 2 | b.rng.choice([3, 3, 3, 3, 3, 2, 1, 0]) << 6
    word |= b.rng.randrange(4) << 8 | (0 if b.odd(0.04) else 1) << 10
    return word | b.rng.randrange(4) << 53 | b.rng.randrange(16) << 55


@dataclass
class Stage2:
    """A stage 2 table that grows; ``put`` maps the granule that holds an address, or answers what already maps it."""

    b: Builder
    granule: int
    bits: int
    start: int
    root: int
    kind: dict[int, tuple[int, int]] = field(default_factory=dict)

    def put(self, ipa: int, pa: int | None = None, *, steady: bool = False) -> int | None:
        """Where ``ipa`` goes, as far as the table says; ``pa`` is wanted, random when None. ``steady`` breaks nothing."""
        b, table = self.b, self.root
        if ipa >> self.bits:
            return None
        for level in range(self.start, 4):
            shift = shift_of(self.granule, level)
            width = self.bits - shift if level == self.start else STRIDE[self.granule]
            where = table + 8 * (ipa >> shift & (1 << width) - 1)
            if where in self.kind:
                word, kind = self.kind[where]
                if kind == 1:
                    return (word & (1 << 48) - (1 << shift)) | ipa & (1 << shift) - 1
                table = word & (1 << 48) - (1 << self.granule)
                continue
            allowed = {12: (1, 2), 14: (2,), 16: (2,)}[self.granule]
            block = pa is None and level < 3 and (level in allowed or b.odd(0.02)) and b.odd(0.3)
            if level == 3 or block:
                target = output(b, shift) if pa is None else pa >> shift << shift
                word = leaf2(b, level, target) if not steady else target | 3 | 15 << 2 | 3 << 6 | 1 << 10
                if level == 3 and not steady and b.odd(0.02):
                    word &= ~2
                self.kind[where] = word, 1
                b.words[where] = word
                return target | ipa & (1 << shift) - 1
            if not steady and b.odd(0.02):
                b.words[where] = b.rng.choice([0, 2, b.rng.randrange(1 << 40) << 12])
                self.kind[where] = b.words[where], 1
                return None
            fresh = b.room(1 << self.granule)
            target = fresh if steady or not b.odd(0.02) else b.rng.randrange(1 << 48) >> self.granule << self.granule
            b.words[where] = target | 3 | b.rng.randrange(32) << 59
            self.kind[where] = b.words[where], 3
            table = target
        raise AssertionError


def stage2(b: Builder, ste: int) -> tuple[Stage2, int]:
    """A stage 2 root and the STE with its fields."""
    granule = b.rng.choice([12, 12, 14, 16])
    for _ in range(100):
        start = b.rng.choice(sorted(SL0[granule]))
        bits = b.rng.randrange(25, 45)
        width = bits - shift_of(granule, start)
        if 1 <= width <= STRIDE[granule] + (1 if b.odd(0.1) else 0):
            break
    else:
        start, bits = 3 - (granule == 12), shift_of(granule, 3 - (granule == 12)) + 5
    width = bits - shift_of(granule, start)
    size = b.rng.choice([5, 5, 4, 4, 2, 1, 0]) if b.odd(0.5) else 5
    root = b.room(max(8 << width, 64))
    record = STE(ste).replace(
        S2VMID=b.rng.randrange(1 << 16), S2T0SZ=64 - bits, S2SL0=SL0[granule][start], S2TG=TG0[granule], S2PS=size, S2AA64=1, S2R=1,
        S2TTB=root, S2AFFD=int(b.odd(0.1)),
    )  # fmt: skip
    if b.odd(0.03):
        record = record.replace(S2T0SZ=b.rng.randrange(64), S2SL0=b.rng.randrange(4))
    if b.odd(0.01):
        record = record.replace(S2TG=b.rng.randrange(4))
    return Stage2(b, granule, bits, start, root), record.value


def generate(rng: Random, *, two_level: bool = False) -> dict[str, Any]:
    """One random case, with a linear or a two-level stream table."""
    while True:
        try:
            return _generate(Builder(rng), two_level)
        except MemoryError:
            continue


def stream_table(b: Builder, sid: int, ste: int, two_level: bool) -> int:
    """Write the stream table for one StreamID; answers STRTAB_BASE_CFG. Some spans are too small, zero or reserved."""
    if not two_level:
        where, config = STREAMS + 64 * sid, StrtabBaseCfg.build(LOG2SIZE=8)
    else:
        split = b.rng.choice([6, 8, 10])
        span = b.rng.randrange(14) if b.odd(0.3) else split + 1
        b.words[STREAMS + 8 * (sid >> split)] = L1STD.build(Span=span, L2Ptr=LEVEL2).value
        where = LEVEL2 + 64 * (sid & (1 << split) - 1)
        config = StrtabBaseCfg.build(LOG2SIZE=b.rng.randrange(3, 17) if b.odd(0.2) else 16, SPLIT=split, FMT=TableFormat.TWO_LEVEL)
    for index, word in enumerate(STE(ste).words):
        b.words[where + 8 * index] = word
    return config.value


def _generate(b: Builder, two_level: bool) -> dict[str, Any]:
    rng = b.rng
    translation = rng.choice([5, 5, 5, 6, 6, 7, 7, 7, 7])
    access = "r" if rng.random() < 0.2 else "w"
    sid = EDU if access == "r" else TESTDEV
    ste = STE.build(V=1, Config=translation, SHCFG=1, MTCFG=rng.randrange(2), MemAttr=rng.randrange(16)).value
    second = None
    if translation & 2:
        second, ste = stage2(b, ste)
    if translation == 6:
        assert second is not None
        iova = rng.randrange(1 << (second.bits if not b.odd(0.05) else 44)) & ~3
        second.put(iova)
    else:
        iova, cd_at = first(b, second)
        ste = STE(ste).replace(S1ContextPtr=cd_at).value
    config = stream_table(b, sid, ste, two_level)
    memory = {f"{at:#x}": [f"{word:#x}"] for at, word in sorted(b.words.items()) if word and RAM_START <= at < RAM_END}
    return {"strtab_base": f"{STREAMS:#x}", "strtab_base_cfg": f"{config:#x}", "mem": memory, "sid": sid, "iova": f"{iova:#x}", "access": access}


def first(b: Builder, second: Stage2 | None) -> tuple[int, int]:
    """Stage 1 tables for a random address; answers it and where the context descriptor is, in stage 1's output space."""
    rng = b.rng
    granule = rng.choice([12, 12, 14, 16])
    bits = rng.choice([48, 48, 39, 36, 32, rng.randrange(25, 49)])
    upper = rng.random() < 0.25
    start = 4 - -(-(bits - granule) // STRIDE[granule])
    tag = rng.randrange(256) if b.odd(0.1) else None
    iova = rng.randrange(1 << bits) & ~3
    if upper:
        iova |= (1 << 64) - (1 << bits)
    if tag is not None:
        iova = iova & ~(0xFF << 56) | tag << 56
    if b.odd(0.03):
        iova ^= 1 << rng.randrange(bits, 56)
    width = bits - shift_of(granule, start)
    root, root_pa = place(b, second, max(8 << width, 64), bits=granule)
    size = rng.choice([5, 4, 4, 2, 1, 0]) if b.odd(0.3) else 5
    fields = {
        "V": 1, "AA64": 1, "R": 1, "A": 1, "ASID": rng.randrange(1 << 16), "IPS": size, "AFFD": int(b.odd(0.1)), "WXN": rng.randrange(2),
        "PAN": rng.randrange(2), "TBI0": int(b.odd(0.4)), "TBI1": int(b.odd(0.4)), "HAD0": int(b.odd(0.2)), "HAD1": int(b.odd(0.2)),
    }  # fmt: skip
    other = {"T0SZ": 16, "TG0": 0, "EPD0": 1} if upper else {"T1SZ": 16, "TG1": 2, "EPD1": 1}
    mine = {"T1SZ": 64 - bits, "TG1": TG1[granule], "TTB1": root} if upper else {"T0SZ": 64 - bits, "TG0": TG0[granule], "TTB0": root}
    cd = CD.build(**fields, **other, **mine)
    if b.odd(0.03):
        cd = cd.replace(T0SZ=rng.randrange(64), TG0=rng.randrange(4))
    if b.odd(0.02):
        cd = cd.replace(EPD0=rng.randrange(2), EPD1=rng.randrange(2))
    cd_at, cd_pa = place(b, second, 64, bits=12)
    for index, word in enumerate(cd.words):
        if word:
            b.words[cd_pa + 8 * index] = word
    descend(b, second, granule, start, bits, iova, root, root_pa)
    return iova, cd_at


def place(b: Builder, second: Stage2 | None, size: int, *, bits: int) -> tuple[int, int]:
    """Room for a structure: its address before and after stage 2; where stage 2 breaks it the second is only a guess."""
    size = 1 << max(6, (size - 1).bit_length())
    if second is None:
        address = b.room(size)
        return address, address
    whole = max(size, 1 << second.granule, 1 << bits)
    pa = b.room(whole)
    if whole >> second.bits:
        return pa, pa
    ipa = b.rng.randrange(1 << second.bits) // whole * whole
    steady = not b.odd(0.06)
    got = second.put(ipa, pa, steady=steady)
    return ipa, pa if got is None else got


def descend(b: Builder, second: Stage2 | None, granule: int, start: int, bits: int, iova: int, table: int, table_pa: int) -> None:
    """Write the descriptors on the way of ``iova``."""
    allowed = {12: (1, 2), 14: (2,), 16: (2,)}[granule]
    for level in range(start, 4):
        shift = shift_of(granule, level)
        width = bits - shift if level == start else STRIDE[granule]
        offset = 8 * (iova >> shift & (1 << width) - 1)
        where = table_pa + offset
        if second is not None and offset >> second.granule:
            # The descriptor lies in another stage 2 page than the table's beginning.
            got = second.put(table + offset, table_pa + offset if b.odd(0.6) else b.room(1 << second.granule), steady=not b.odd(0.04))
            where = got if got is not None else where
        if level == 3 or ((level in allowed or b.odd(0.02)) and b.odd(0.3)):
            if second is None:
                target = output(b, shift)
            else:
                target = b.rng.randrange(1 << (second.bits if not b.odd(0.04) else 47)) >> shift << shift
                second.put(target | iova & (1 << shift) - 1)
            word = leaf1(b, level, target)
            if level == 3 and b.odd(0.02):
                word &= ~2
            b.words[where] = word
            return
        if b.odd(0.02):
            b.words[where] = b.rng.choice([0, 2, b.rng.randrange(1 << 40) << 12])
            return
        fresh, fresh_pa = place(b, second, 1 << granule, bits=granule)
        if b.odd(0.02):
            fresh = b.rng.randrange(1 << 48) >> granule << granule
        b.words[where] = fresh | 3 | (b.rng.randrange(32) << 59 if b.odd(0.3) else 0)
        table, table_pa = fresh, fresh_pa
