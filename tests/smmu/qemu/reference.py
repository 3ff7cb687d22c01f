"""A second, plain walker for one DMA of a case, independent of ``wizard.smmu``: it follows the specification, or with ``departures`` QEMU 11.1.

Numbers in comments are the rows of fixtures/translation/qemu-departures.md. The simulated SMMU has to agree with it without them, and QEMU
with them; so a mismatch between the two is explained by a row, or is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wizard.arch.cd import CD
from wizard.arch.ste import STE

STRIDE = {12: 9, 14: 11, 16: 13}
SIZES = (32, 36, 40, 42, 44, 48, 52, 56)
OAS = 44
RAM = (0x4000_0000, 0x1_0000_0000)
C_BAD_STREAMID, C_BAD_STE, C_BAD_CD, F_CD_FETCH, F_WALK_EABT, F_TRANSLATION, F_ADDR_SIZE, F_ACCESS, F_PERMISSION = 2, 4, 10, 9, 11, 16, 17, 18, 19


class Ended(Exception):
    """A record: type, stage, class; ``s2`` None for those that have no stage."""

    def __init__(self, kind: int, s2: int | None = None, cls: str = "IN", rnw: int | None = None) -> None:
        super().__init__(kind)
        self.kind, self.s2, self.cls, self.rnw = kind, s2, cls, rnw


class Silent(Exception):
    """Aborted without a record."""


@dataclass
class Table:
    granule: int
    bits: int
    start: int
    base: int
    size: int


def table_size(table: Table) -> int:
    return max(8 << table.bits - table.granule - STRIDE[table.granule] * (3 - table.start), 16)


def start_of_stage2(ste: STE, granule: int) -> int | None:
    return {12: {2: 0, 1: 1, 0: 2}, 14: {0: 3, 1: 2, 2: 1}, 16: {0: 3, 1: 2, 2: 1}}[granule].get(ste.S2SL0)


class Walker:
    def __init__(self, case: dict[str, Any], *, departures: bool) -> None:
        self.words = {int(at, 0): [int(word, 0) for word in words] for at, words in case["mem"].items()}
        self.memory = {at + 8 * index: word for at, words in self.words.items() for index, word in enumerate(words)}
        self.sid: int = case["sid"]
        self.iova, self.write = int(case["iova"], 0), case["access"] == "w"
        self.base, self.config = int(case["strtab_base"], 0), int(case["strtab_base_cfg"], 0)
        self.qemu = departures
        self.ste = STE(0)
        self.stage2: Table | None = None

    def read(self, address: int) -> int | None:
        if address in self.memory and RAM[0] <= address < RAM[1]:
            return self.memory[address]
        return 0 if RAM[0] <= address < RAM[1] else None

    def run(self) -> dict[str, Any]:
        try:
            pa = self.translate()
            return {"ok": True, "pa": pa}
        except Ended as end:
            fault: dict[str, Any] = {"type": end.kind}
            if end.s2 is not None:
                fault |= {"s2": end.s2, "class": end.cls, "addr": self.iova, "rnw": int(not self.write) if end.rnw is None else end.rnw}
            return {"fault": fault}
        except Silent:
            return {"fault": None}

    def entry(self) -> int:
        """Where the stream table entry is."""
        if self.sid >> (self.config & 63):
            raise Ended(C_BAD_STREAMID)
        if not self.config >> 16 & 3:
            return self.base + 64 * self.sid
        split = self.config >> 6 & 31
        level1 = self.read(self.base + 8 * (self.sid >> split)) or 0
        span, within = level1 & 31, self.sid & (1 << split) - 1
        if span == 0 or span > 11 or span > split + 1 or (not self.qemu and within >> span - 1):
            raise Ended(C_BAD_STREAMID)
        if within >> span:  # 18
            raise Ended(C_BAD_STE)
        return (level1 & (1 << 56) - 64) + 64 * within

    def translate(self) -> int:
        at = self.entry()
        ste = self.ste = STE.of_words([self.read(at + 8 * i) or 0 for i in range(8)])
        if not ste.V:
            raise Ended(C_BAD_STE)
        if ste.Config < 4:
            raise Silent
        if ste.Config & 2:
            self.stage2 = self.valid_stage2()
        if not ste.Config & 1:
            if self.iova >> OAS:
                if self.qemu:
                    raise Silent  # 13
                raise Ended(F_ADDR_SIZE, 0)
            return self.second(self.iova, "IN", 2 if self.write else 1)
        return self.first()

    def valid_stage2(self) -> Table:
        ste = self.ste
        granule = {0: 12, 1: 16, 2: 14}.get(ste.S2TG)
        if granule is None:
            raise Ended(C_BAD_STE)
        size = min(SIZES[ste.S2PS], OAS)
        bits = 64 - ste.S2T0SZ
        start = start_of_stage2(ste, granule)
        largest = size if self.qemu else OAS  # 9
        if ste.S2T0SZ > 39 or bits > largest or start is None or ste.S2TTB >> size:
            raise Ended(C_BAD_STE)
        width = bits - granule - STRIDE[granule] * (3 - start)
        if width > STRIDE[granule] + 4 or (width < 1 and not self.qemu):
            raise Ended(C_BAD_STE)
        if self.qemu and width < 1:
            raise Unsure  # 12: a walk from a level that resolves nothing
        return Table(granule, bits, start, ste.S2TTB, size)

    def step(self, table: Table, base: int, level: int, address: int, concatenated: bool) -> int:
        """Where the descriptor is."""
        shift = table.granule + STRIDE[table.granule] * (3 - level)
        width = table.bits - shift if level == table.start else STRIDE[table.granule]
        if concatenated and self.qemu:
            width = min(width, STRIDE[table.granule])  # 11
        return base + 8 * (address >> shift & (1 << width) - 1)

    def second(self, ipa: int, cls: str, need: int) -> int:
        """Stage 2: the address, or Ended with S2=1."""
        table = self.stage2
        assert table is not None
        if ipa >> table.bits:
            raise Ended(F_TRANSLATION, 1, cls)
        width = table.bits - table.granule - STRIDE[table.granule] * (3 - table.start)
        base = table.base & -(8 << width)
        for level in range(table.start, 4):
            word = self.read(self.step(table, base, level, ipa, True))
            if word is None:
                raise Ended(F_WALK_EABT, 1, cls)
            shift = table.granule + STRIDE[table.granule] * (3 - level)
            if word & 3 == 3 and level < 3:
                base = word & (1 << 48) - (1 << table.granule)
                if not self.qemu and base >> table.size:  # 4
                    raise Ended(F_ADDR_SIZE, 1, cls)
                continue
            self.leaf(word, level, table.granule, 1, cls)
            output = word & (1 << 48) - (1 << shift)
            checks = [
                (bool(output >> table.size), F_ADDR_SIZE),
                (not word >> 10 & 1 and not self.ste.S2AFFD, F_ACCESS),
                (not word >> 6 & need, F_PERMISSION),
            ]
            self.check(checks, 1, cls)
            return output | ipa & (1 << shift) - 1
        raise AssertionError

    def leaf(self, word: int, level: int, granule: int, s2: int, cls: str) -> None:
        """Ended unless the descriptor is a leaf that may be at this level."""
        block = word & 3 == 1 and level < 3 and (self.qemu or level in {12: (1, 2), 14: (2,), 16: (2,)}[granule])  # 5
        if not block and not (level == 3 and word & 3 == 3):
            raise Ended(F_TRANSLATION, s2, cls)

    def check(self, checks: list[tuple[bool, int]], s2: int, cls: str) -> None:
        """The first fault at a leaf: address size, access flag, permission; QEMU has address size last (2)."""
        for failed, kind in checks[1:] + checks[:1] if self.qemu else checks:
            if failed:
                raise Ended(kind, s2, cls)

    def first(self) -> int:
        cd_at = self.ste.S1ContextPtr
        if cd_at >> OAS:
            raise Ended(C_BAD_STE)
        pa = cd_at
        if self.stage2 is not None:
            try:
                pa = self.second(cd_at, "CD", 1)
            except Ended as end:
                raise Ended(end.kind, end.s2, end.cls, 1 if self.qemu else None) from None
        words = [self.read(pa + 8 * index) for index in range(8)]
        if None in words:
            raise Ended(F_CD_FETCH)
        cd = CD.of_words([word or 0 for word in words])
        tables = self.valid_cd(cd)
        half = self.iova >> 55 & 1
        table = tables[half]
        tbi = cd.TBI0 if half == 0 or self.qemu else cd.TBI1  # 10
        address = self.iova
        if tbi:
            address = address | 0xFF << 56 if half else address & ~(0xFF << 56)
        if table is None or address >> table.bits != ((1 << 64 - table.bits) - 1 if half else 0):
            raise Ended(F_TRANSLATION, 0)
        return self.walk(table, address, (cd.HAD0, cd.HAD1)[half], bool(cd.AFFD))

    def valid_cd(self, cd: CD) -> dict[int, Table | None]:
        if not cd.V or not cd.AA64 or not cd.A or cd.S or cd.HA or cd.HD:
            raise Ended(C_BAD_CD)
        size = min(SIZES[cd.IPS], OAS)
        tables: dict[int, Table | None] = {}
        halves = (
            (0, cd.EPD0, cd.T0SZ, {0: 12, 1: 16, 2: 14}.get(cd.TG0), cd.TTB0),
            (1, cd.EPD1, cd.T1SZ, {1: 14, 2: 12, 3: 16}.get(cd.TG1), cd.TTB1),
        )
        if cd.ENDI and not (cd.EPD0 and cd.EPD1):
            raise Ended(C_BAD_CD)
        for half, disabled, tsz, granule, base in halves:
            tables[half] = None
            if disabled:
                continue
            if granule is None or not 16 <= tsz <= 39 or base >> size:
                raise Ended(C_BAD_CD)
            bits = 64 - tsz
            table = Table(granule, bits, 4 - -(-(bits - granule) // STRIDE[granule]), base, size)
            if self.qemu and self.stage2 is not None:
                # 8: with the configuration, before the other half is looked at and before the range check, as a read
                try:
                    table.base = self.second(base, "TTD", 1)
                except Ended as end:
                    raise Ended(end.kind, end.s2, end.cls, 1) from None
            table.base &= -table_size(table)
            tables[half] = table
        return tables

    def walk(self, table: Table, address: int, had: int, affd: bool) -> int:
        base, above = table.base, 0
        for level in range(table.start, 4):
            where = self.step(table, base, level, address, False)
            if self.stage2 is not None and not self.qemu:
                where = self.second(where, "TTD", 1)
            word = self.read(where)
            if word is None:
                raise Ended(F_WALK_EABT, 0, "TTD")
            shift = table.granule + STRIDE[table.granule] * (3 - level)
            if word & 3 == 3 and level < 3:
                if self.qemu and self.write and not had and word >> 62 & 1:
                    raise Ended(F_PERMISSION, 0)  # 3
                if not had:
                    above |= word >> 61 & 3
                base = word & (1 << 48) - (1 << table.granule)
                if not self.qemu and base >> table.size:  # 4
                    raise Ended(F_ADDR_SIZE, 0)
                if self.qemu and self.stage2 is not None:
                    base = self.table_below(base, table.size)
                continue
            self.leaf(word, level, table.granule, 0, "IN")
            output = word & (1 << 48) - (1 << shift)
            access = word >> 6 & 3
            read_only = access & 2 or above & 2
            user = self.qemu or (access & 1 and not above & 1)  # 1
            denied = (self.write and bool(read_only)) or not user
            checks = [(bool(output >> table.size), F_ADDR_SIZE), (not word >> 10 & 1 and not affd, F_ACCESS), (denied, F_PERMISSION)]
            self.check(checks, 0, "IN")
            output |= address & (1 << shift) - 1
            return output if self.stage2 is None else self.second(output, "IN", 2 if self.write else 1)
        raise AssertionError

    def table_below(self, base: int, size: int) -> int:
        """Stage 2 of a stage 1 table below the root, once at its beginning; its faults name stage 1, beyond IPS too (6, 7)."""
        if base >> size:
            raise Ended(F_ADDR_SIZE, 0, "TTD")
        try:
            return self.second(base, "TTD", 1)
        except Ended as end:
            raise Ended(end.kind, 0, end.cls) from None


class Unsure(Exception):
    """A departure that this walker does not follow."""


def reference(case: dict[str, Any], *, departures: bool) -> dict[str, Any] | None:
    """The outcome of a case's DMA: ``ok`` with ``pa``, or ``fault``; None where QEMU departs in a way that is not followed."""
    try:
        return Walker(case, departures=departures).run()
    except Unsure:
        return None
