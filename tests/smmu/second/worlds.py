"""Random worlds: an SMMU, one stream with its tables, and accesses. Everything comes out of one seeded generator.

Most of a world is in order, so that accesses get far; at each place a few in a hundred are not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.smmu.second.config import Context, Registers, Ste, enabled, first_stage, illegal_cd, second_stage, start_of_stage2
from tests.smmu.second.tables import Stage, swapped
from tests.smmu.second.words import Access, bits

MAIRS = (0x00, 0x04, 0x08, 0x0C, 0x44, 0xFF, 0xBB, 0xF4, 0x4F, 0xAA, 0xFA, 0x77, 0xBF)
INCOMING = (
    "Normal-iWB-oWB-NSH",
    "Normal-iWB-oWB-NSH",
    "Normal-iNC-oNC-OSH",
    "Normal-iWT-oWB-ISH",
    "Device-nGnRE",
    "Device-GRE",
    "Normal-iWB-oNC-OSH",
)
HOLE = 0x2000_0000
"""Where nothing answers."""
OAS_CODES = (2, 3, 4, 4, 5, 5, 6)


@dataclass
class World:
    rng: Random
    registers: Registers = field(init=False)
    words: dict[int, int] = field(default_factory=dict)
    next: int = 0x4010_0000
    next_ipa: int = 0x10_0000
    chunks: dict[int, int] = field(default_factory=dict)
    second: Stage | None = None
    sid: int = 0
    accesses: list[Access] = field(default_factory=list)
    contiguous: bool = False
    busy: bool = False
    """Hardware update at every stage, and many pages that are clean or were not accessed."""

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def some(self, width: int, probability: float = 1.0) -> int:
        """Random bits, or none."""
        return self.rng.getrandbits(width) if self.chance(probability) else 0

    def take(self, size: int) -> int:
        """Fresh memory, aligned to its size."""
        at = -(-self.next // size) * size
        self.next = at + size
        return at

    # -- the SMMU -----------------------------------------------------------------------------------------------------

    def make(self) -> None:
        rng = self.rng
        self.contiguous, self.busy = self.chance(0.4), self.chance(0.25)
        stall = self.chance(0.5)
        httu = 2 if self.busy else rng.choice((0, 1, 2, 2, 2))
        idr0 = (
            3 | 2 << 2 | httu << 6 | self.chance(0.95) << 9 | self.chance(0.95) << 10 | self.chance(0.05) << 11
            | self.chance(0.95) << 12 | self.chance(0.95) << 18 | self.chance(0.95) << 19 | rng.choice((0, 2, 2)) << 21 | self.chance(0.8) << 23
            | (not stall) << 24 | self.chance(0.2) << 26 | 1 << 27
        )  # fmt: skip
        idr1 = 16 | rng.choice((0, 8, 8, 12, 20)) << 6 | 10 << 16 | self.chance(0.9) << 26 | self.chance(0.9) << 27
        idr3 = sum(self.chance(0.85) << bit for bit in (2, 4, 8, 9, 13, 17))
        oas = rng.choice(OAS_CODES)
        idr5 = oas | 7 << 4 | (oas == 6) << 10 | 64 << 16
        cr0 = 0xC | self.chance(0.97) | self.chance(0.7) << 4
        cr2 = self.chance(0.3) | 2 | self.chance(0.5) << 3
        if self.chance(0.1):
            cr2 &= ~2
        gbpa = self.some(4) | self.some(1) << 4 | rng.choice((0, 1, 2, 3)) << 12 | self.chance(0.2) << 20
        self.registers = Registers(idr0, idr1, idr3, idr5, 2, cr0, cr2, gbpa)
        self.stream()
        base, cfg = self.stream_table()
        self.registers = Registers(idr0, idr1, idr3, idr5, 2, cr0, cr2, gbpa, base, cfg)

    def stream_table(self) -> tuple[int, int]:
        """The table that holds the entry: of one level or two."""
        rng = self.rng
        log2size = rng.choice((6, 8, 12))
        self.sid = rng.randrange(1 << min(log2size, 9)) if not self.chance(0.02) else 1 << log2size
        if self.chance(0.02):
            return HOLE, log2size | rng.choice((0, 6 << 6 | 1 << 16))
        if self.chance(0.5):
            base = self.take(64 << log2size)
            self.store(base + 64 * (self.sid & (1 << log2size) - 1), self.entry)
            return base, log2size
        split = rng.choice((6, 8, 10))
        base = self.take(max(4096, 8 << max(log2size - split, 0)))
        within = self.sid & (1 << split) - 1
        least = within.bit_length() + 1
        span = rng.choice((min(split + 1, 11), max(1, least), max(1, least), rng.randrange(12) if self.chance(0.3) else split + 1))
        table = self.take(64 << max(min(span, 11) - 1, 0))
        table = HOLE if self.chance(0.03) else table
        self.put(base + 8 * (self.sid >> split), span | table)
        self.store(table + 64 * within, self.entry)
        return base, log2size | split << 6 | 1 << 16

    def put(self, at: int, word: int) -> None:
        """Store a word, but where nothing answers."""
        if at >> 20 != HOLE >> 20:
            self.words[at] = word

    def store(self, at: int, words: list[int]) -> None:
        for index, word in enumerate(words):
            self.put(at + 8 * index, word)

    # -- the entry ----------------------------------------------------------------------------------------------------

    def stream(self) -> None:
        rng, registers = self.rng, self.registers
        kind = rng.choices((7, 5, 6, 4, 0), (48, 26, 18, 5, 1))[0]
        httu = bits(registers.idr0, 7, 6)
        word0 = self.chance(0.99) | kind << 1
        word1 = rng.choice((0, 1, 2, 2, 2, 3)) | self.chance(0.5) << 25 | rng.choice((0, 1, 1, 2, 2, 3) if kind == 7 else (0, 1, 1, 1)) << 28
        word1 |= (rng.choice((0, 0, 2)) if kind == 5 else 0) << 30 | self.some(4) << 32 | self.chance(0.3) << 36 | rng.choice((1, 1, 0, 2, 3)) << 44
        word1 |= rng.choice((0, 0, 2, 3)) << 48 | rng.choice((0, 0, 0, 2, 3)) << 50
        word1 |= self.chance(0.02) << 27
        word2 = 5 | self.chance(0.15) << 53 | self.chance(0.25) << 54 | 1 << 51 | self.chance(0.8) << 58
        stallable = bits(registers.idr0, 25, 24) == 0
        word2 |= self.chance(0.01 if not stallable else 0.2 if word1 >> 28 & 3 != 1 else 0.04) << 57
        word2 |= self.chance(0.6 if httu else 0.01) << 56 | self.chance(0.5 if httu > 1 else 0.01) << 55 | 3 * self.busy << 55
        word2 |= self.some(1, 0.3 if bits(registers.idr0, 22, 21) == 0 else 0.01) << 52
        word2, word3 = self.stage2_geometry(word2)
        self.entry = [word0, word1, word2, word3, 0, 0, 0, 0]
        if self.chance(0.03):
            self.spoil(self.entry, 0 if kind < 6 else 2)
        ste = Ste(tuple(self.entry))
        if ste.second:
            self.second = second_stage(registers, ste)
        if ste.first:
            self.contexts(ste)
        else:
            self.targets(None, 0)

    def spoil(self, words: list[int], dword: int) -> None:
        """One bit of a dword is another, but V."""
        words[dword] ^= 1 << self.rng.choice([bit for bit in range(64) if (dword, bit) not in ((0, 0), (0, 31))])

    def stage2_geometry(self, word2: int) -> tuple[int, int]:
        rng, registers = self.rng, self.registers
        granule = rng.choice((12, 14, 16))
        while True:
            sl0, size = rng.randrange(4), rng.randrange(24 if registers.stt else 25, min(registers.oas, 48 if granule < 16 else 52) + 1)
            if start_of_stage2(registers, granule, sl0, size) is not None:
                break
        if self.chance(0.02):
            sl0, size = rng.randrange(4), rng.randrange(10, 50)
        word2 |= (64 - size & 63) << 32 | sl0 << 38 | {12: 0, 14: 2, 16: 1}[granule] << 46 | rng.choice((*range(8), 5, 5, 6)) << 48
        entries = 1 << max(0, min(size - granule, granule + 1))
        base = self.take(max(4096, min(8 * entries, 16 << granule)))
        return word2, base | self.some(5, 0.3) << 4 | self.chance(0.02) << 48

    # -- stage 2 ------------------------------------------------------------------------------------------------------

    def place(self, stage: Stage, address: int, level: int, leaf: int) -> None:
        """Write a leaf, and the tables above it where there are none."""
        base = stage.table()
        for at_level in range(stage.start, level + 1):
            shift = stage.shift(at_level)
            width = stage.input_bits - shift if at_level == stage.start else stage.stride
            at = base + 8 * bits(address, shift + width - 1, shift)
            place = at if stage.second else self.backed(at)
            if at_level == level:
                self.put(place, self.words.get(place, swapped(leaf, stage.big)))
                return
            word = swapped(self.words.get(place, 0), stage.big)
            if not word:
                word = self.table_descriptor(stage)
                self.put(place, swapped(word, stage.big))
            if word & 3 != 3:
                return
            base = stage.address(word, stage.granule)

    def table_descriptor(self, stage: Stage) -> int:
        rng = self.rng
        size = 1 << stage.granule
        at = self.take(size) if stage.second or self.second is None else self.take_ipa(size)
        if self.chance(0.02):
            at = rng.choice((HOLE, rng.getrandbits(34), rng.getrandbits(47))) & -size
        word = 3 | at | self.some(10, 0.3) << 2 | self.some(7, 0.2) << 52
        word |= self.some(2, 0.2) << 61 | (self.chance(0.08) << 60) | (self.chance(0.08) << 59)
        return word & ~3 if self.chance(0.005) else word

    def take_ipa(self, size: int) -> int:
        at = -(-self.next_ipa // size) * size
        self.next_ipa = at + size
        return at

    def backed(self, ipa: int) -> int:
        """The physical address of what the guest's tables are in, mapped by stage 2 when it is first touched; as it is without stage 2."""
        stage = self.second
        if stage is None:
            return ipa
        chunk = ipa >> 16
        if chunk not in self.chunks:
            self.chunks[chunk] = HOLE if self.chance(0.02) else self.take(1 << 16)
        pa = self.chunks[chunk] | ipa & 0xFFFF
        if ipa >> stage.input_bits == 0:
            self.place(stage, ipa, 3, self.leaf2(stage, 3, pa & -(1 << stage.granule), 0.04))
        return pa

    def leaf2(self, stage: Stage, level: int, output: int, odd: float) -> int:
        """A stage 2 leaf; ``odd`` is how often each of its parts is not in order."""
        rng = self.rng
        word = (3 if level == 3 else 1) | rng.choice((15, 15, 5, 10, 0, 1, 6, 7, 4)) << 2 if odd > 0.05 else 3 | 15 << 2
        word |= 3 << 6 | rng.choice((0, 1, 2, 3)) << 8 | 1 << 10 | self.some(4, 0.2) << 55
        if self.chance(odd):
            word = word & ~(3 << 6) | rng.getrandbits(2) << 6
        if self.chance(0.4 if self.busy else 2 * odd):
            word &= ~(1 << 7)
            word |= self.chance(0.5) << 51
        if self.chance(0.4 if self.busy else 2 * odd):
            word &= ~(1 << 10)
        if self.chance(odd):
            word = word & ~(15 << 2) | rng.getrandbits(4) << 2
        if self.chance(2 * odd):
            word |= rng.getrandbits(2) << 53
        if self.chance(odd / 5):
            word &= ~3 | rng.getrandbits(2)
        if self.contiguous and self.chance(0.4):
            word |= 1 << 52
        return word | self.encoded(stage, output)

    def encoded(self, stage: Stage, output: int) -> int:
        low = output & (1 << 48) - 1
        return low | output >> 48 << 12 if stage.wide and stage.granule == 16 else low

    # -- stage 1 ------------------------------------------------------------------------------------------------------

    def contexts(self, ste: Ste) -> None:
        """CDs in a table of one or two levels, of which one or two are there."""
        rng, registers = self.rng, self.registers
        ssidsize = bits(registers.idr1, 10, 6)
        cdmax = rng.choice((0, 0, 1, 3, 8, 12)) if ssidsize else 0
        cdmax = min(cdmax, ssidsize)
        fmt = rng.choice((0, 1, 2)) if bits(registers.idr0, 19) else self.chance(0.02)
        take = self.take if self.second is None else self.take_ipa
        split = {1: 6, 2: 10}.get(fmt) if cdmax else None
        index = rng.choice((0, 0, rng.randrange(1 << cdmax)))
        if split is None:
            pointer = take(64 << cdmax)
            at: int = pointer + 64 * index
        else:
            pointer = take(max(64, 8 << max(cdmax - split, 0)))
            table = take(64 << split) if not self.chance(0.02) else HOLE
            where = self.backed(pointer + 8 * (index >> split))
            self.put(where, self.chance(0.98) | table | (self.chance(0.01) << registers.oas if registers.oas < 52 else 0))
            at = table + 64 * (index & (1 << split) - 1)
        self.entry[0] |= fmt << 4 | pointer | (cdmax if not self.chance(0.01) else 21) << 59
        words = self.descriptor(ste)
        if self.chance(0.03):
            self.spoil(words, 0)
        for offset, word in enumerate(words):
            self.put(self.backed(at + 8 * offset), word)
        ssid = None if cdmax == 0 or (index == 0 and ste.at(1, 1, 0) == 2) else index
        self.ssids = (ssid, ssid, ssid, None, index, rng.randrange(1 << cdmax + 1)) if self.chance(0.3) else (ssid,)
        cd = Context(tuple(words))
        if illegal_cd(registers, ste, cd):
            self.targets(None, 0)
            return
        for half in (0, 1):
            if enabled(registers, ste, cd, half):
                self.targets(first_stage(registers, cd, half), half)

    def descriptor(self, ste: Ste) -> list[int]:
        rng, registers = self.rng, self.registers
        httu = bits(registers.idr0, 7, 6)
        word0 = 1 << 31 | rng.choice((*range(8), 5, 5, 6, 6)) << 32 | self.chance(0.15) << 35 | self.chance(0.2) << 36 | self.some(2) << 38
        word0 |= self.chance(0.3) << 40 | 1 << 41 | self.chance(0.8) << 45 | 1 << 48
        word0 |= (self.chance(0.2) if bits(registers.idr0, 25, 24) == 0 and not ste.at(1, 27) else self.chance(0.01)) << 44
        word0 |= (self.chance(0.7) if not bits(registers.idr0, 26) else self.chance(0.98)) << 46
        word0 |= self.chance(0.6 if httu else 0.01) << 43 | self.chance(0.5 if httu > 1 else 0.01) << 42 | 3 * self.busy << 42
        word0 |= self.some(1, 0.3 if bits(registers.idr0, 22, 21) == 0 else 0.01) << 15
        word0 |= rng.choice((0, 0, 0, 1, 2, 3)) & 1 << 14 | self.chance(0.4) << 30
        bases = []
        for half in (0, 1):
            granule = rng.choice((12, 14, 16))
            tsz = rng.randrange(12 if bits(registers.idr5, 11, 10) and granule == 16 else 16, 40)
            if registers.stt and self.chance(0.2):
                tsz = rng.randrange(39, 48)
            if self.chance(0.01):
                tsz = rng.getrandbits(6)
            word0 |= tsz << 16 * half | ({12: 2, 14: 1, 16: 3} if half else {12: 0, 14: 2, 16: 1})[granule] << 6 + 16 * half
            base = self.take(1 << granule) if self.second is None else self.take_ipa(1 << granule)
            # Bits that the table's alignment takes as zero, and an address of 52 bits where the granule has none.
            base |= self.some(5, 0.3) << 4
            base |= self.chance(0.02) << 48
            bases.append(base | self.chance(0.2) << 1 | self.chance(0.2) << 2 | (self.some(4, 0.2)))
        mair = sum(rng.choice(MAIRS) << 8 * index for index in range(8))
        return [word0, bases[0] | self.chance(0.4) << 59, bases[1], mair, 0, 0, 0, 0]

    def leaf1(self, stage: Stage, level: int, output: int) -> int:
        rng = self.rng
        word = (3 if level == 3 else 1) | rng.getrandbits(3) << 2 | rng.choice((1, 1, 1, 1, 0, 2, 3, 3)) << 6 | rng.getrandbits(2) << 8
        word |= self.chance(0.75) << 10 | self.some(1) << 11 | self.chance(0.5) << 51 | self.chance(0.2) << 53 | self.chance(0.2) << 54
        word |= self.some(4, 0.2) << 55
        if self.busy and self.chance(0.7):
            word |= 3 << 6 | 1 << 51
        if self.chance(0.01):
            word &= ~3 | rng.getrandbits(2)
        if self.contiguous and self.chance(0.4):
            word |= 1 << 52
        return word | self.encoded(stage, output)

    # -- accesses -----------------------------------------------------------------------------------------------------

    def level(self, stage: Stage) -> int:
        """A level at which a leaf can be, now and then one at which none can."""
        if self.chance(0.02):
            return self.rng.randrange(max(stage.start, 0), 4)
        return self.rng.choice([level for level in (1, 2, 3, 3) if level >= stage.start and (level == 3 or stage.may_be_block(level))])

    def output(self, size: int, shift: int) -> int:
        """Where a leaf leads: into memory, anywhere, or beyond the size."""
        rng = self.rng
        if self.chance(0.04):
            return rng.getrandbits(50) & -(1 << shift)
        if self.chance(0.7):
            return (0x8000_0000 | rng.getrandbits(28)) & -(1 << shift)
        return rng.getrandbits(size) & -(1 << shift)

    def targets(self, stage: Stage | None, half: int) -> None:
        """Addresses that are mapped, through as many stages as there are, and accesses to them."""
        rng = self.rng
        for _ in range(rng.choice((1, 1, 2))):
            if stage is None:
                address = ipa = rng.getrandbits(self.second.input_bits if self.second is not None else self.registers.oas)
                if self.chance(0.1):
                    address = ipa = rng.getrandbits(self.registers.oas + 2)
            else:
                address = rng.getrandbits(stage.input_bits)
                level = self.level(stage)
                shift = stage.shift(level)
                if self.second is None:
                    output = self.output(min(stage.size, 48 if stage.granule < 16 else 52), shift)
                else:
                    output = rng.getrandbits(min(self.second.input_bits, 48)) & -(1 << shift)
                    if self.chance(0.03):
                        output = rng.getrandbits(48) & -(1 << shift)
                if stage.granule < 16 or not stage.wide:
                    output &= (1 << 48) - 1
                if self.contiguous and self.chance(0.7):
                    # A run that lies as it should.
                    reach = (1 << min(shift + 7, stage.input_bits)) - 1
                    output = (output & ~reach | address & reach) & -(1 << shift)
                self.place(stage, address, level, self.leaf1(stage, level, output))
                ipa = output | address & (1 << shift) - 1
                if half:
                    address |= (1 << 64) - (1 << stage.input_bits)
                if self.chance(0.15):
                    address = address & (1 << 56) - 1 | rng.getrandbits(8) << 56
            if self.second is not None and ipa >> self.second.input_bits == 0:
                level = self.level(self.second)
                shift = self.second.shift(level)
                output = self.output(min(self.second.size, 48 if self.second.granule < 16 else 52), shift)
                if self.contiguous and self.chance(0.7):
                    reach = (1 << min(shift + 7, self.second.input_bits)) - 1
                    output = (output & ~reach | ipa & reach) & -(1 << shift)
                if not self.second.wide or self.second.granule < 16:
                    output &= (1 << 48) - 1
                self.place(self.second, ipa, level, self.leaf2(self.second, level, output, 0.1))
            for _ in range(rng.choice((2, 3, 4))):
                self.accesses.append(self.access(address, ipa))

    ssids: tuple[int | None, ...] = (None,)

    def access(self, address: int, ipa: int) -> Access:
        rng = self.rng
        kind = rng.choice(("", "", "", "request", "translated"))
        iova = (ipa if kind == "translated" else address) & -4096 | rng.randrange(0, 4096, 4)
        if self.chance(0.05):
            iova ^= 1 << rng.randrange(64)
        ssid = rng.choice(self.ssids) if self.entry[0] & 2 else (rng.randrange(4) if self.chance(0.05) else None)
        return Access(self.sid, iova, self.chance(0.5), ssid, self.chance(0.5), self.chance(0.3), kind, rng.choice(INCOMING))

    def case(self, caches: bool) -> dict[str, Any]:
        """The world in the case format, and after the accesses every word that was there before."""
        r = self.registers
        steps: list[dict[str, Any]] = []
        for access in self.accesses:
            dma: dict[str, Any] = {"sid": access.sid, "iova": access.iova, "access": "w" if access.write else "r"}
            dma |= {} if access.ssid is None else {"ssid": access.ssid}
            dma |= {"privileged": access.privileged, "instruction": access.instruction, "incoming": access.incoming}
            dma |= {"ats": access.ats} if access.ats else {}
            steps.append({"dma": dma})
        steps.append({"read": [f"{address:#x}" for address in sorted(self.words)]})
        return {
            "ids": {"idr0": r.idr0, "idr1": r.idr1, "idr3": r.idr3, "idr5": r.idr5, "aidr": r.aidr}, "cr0": r.cr0, "cr2": r.cr2, "gbpa": r.gbpa,
            "strtab_base": r.strtab_base, "strtab_base_cfg": r.strtab_base_cfg, "caches": caches, "mem": runs(self.words), "steps": steps,
        }  # fmt: skip


def runs(words: dict[int, int]) -> dict[str, list[int]]:
    """Words by the address of the first of each run."""
    found: dict[str, list[int]] = {}
    last, run = -1, []
    for address in sorted(words):
        if address != last + 8:
            run = found[f"{address:#x}"] = []
        run.append(words[address])
        last = address
    return found


def world(rng: Random) -> World:
    """One world; the accesses know its StreamID."""
    made = World(rng)
    made.make()
    made.accesses = [Access(made.sid, *[getattr(one, name) for name in Access.__dataclass_fields__ if name != "sid"]) for one in made.accesses]
    return made
