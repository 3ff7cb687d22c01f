"""Random sequences of DMAs, changes of tables and invalidations, through the simulated SMMU and QEMU: what is cached, and what each command removes.

    python -m tests.smmu.qemu.sequences [--sequences N] [--seed S] [--keep FILE]

Each sequence is a case of steps: writes and reads through tables of one to three granules, whose stage 2 begins at any level. Leaves, STEs and
CDs change behind the SMMU's back, and commands name what changed, something near it or nothing that is there; so stale answers are as common as
fresh ones, and both have to be the same in QEMU.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.smmu.qemu.differential import brief
from tests.smmu.qemu.machine import EDU, OTHER_TESTDEV, RAM_END, RAM_START, TESTDEV, Machine
from wizard.arch.bits import Record
from wizard.arch.cd import CD
from wizard.arch.command import Op, build
from wizard.arch.descriptor import Stage1Leaf, Stage2Leaf
from wizard.arch.ste import STE
from wizard.smmu import Memory
from wizard.smmu.cases import run_plain
from wizard.smmu.tables import Allocator, PageTable

STREAMS, CONTEXTS = 0x4010_0000, 0x4018_0000
SIDS = (TESTDEV, OTHER_TESTDEV, EDU)
"""Two devices that write, and one that reads."""
TARGETS = tuple(0x8000_0000 + number * 0x20_0000 for number in range(6))
"""Where pages may lead: apart by more than any page that is used."""

BLOCK_TARGETS = (0xA000_0000, 0xC000_0000)
DEEP = 0x10_0000
"""Where blocks may lead, aligned to the largest; they are entered at their beginning and this deep inside."""

UPPER = 0xFFFF_FFC0_1234_0000
IPAS = tuple(0x1_0000_0000 + number * 0x20_0000 for number in range(4))
LANDINGS = (*TARGETS, *BLOCK_TARGETS, *(target + DEEP for target in BLOCK_TARGETS))
TG0, TG_OF_COMMANDS = {12: 0, 16: 1, 14: 2}, {12: 1, 14: 2, 16: 3}
Steps = list[dict[str, Any]]


@dataclass
class World:
    """The tables of a sequence, two of each kind, and what of them may change."""

    rng: Random
    mode: str
    granule1: int
    granule2: int
    memory: Memory = field(default_factory=Memory)
    space: Allocator = field(default_factory=lambda: Allocator(0x4020_0000, 0x4800_0000))
    first: list[PageTable] = field(default_factory=list)
    upper: list[PageTable] = field(default_factory=list)
    second: list[PageTable] = field(default_factory=list)
    steps: Steps = field(default_factory=list)

    @classmethod
    def make(cls, rng: Random) -> World:
        """Two stage 1 tables, in half of the worlds two more for the upper half, of another granule, and two stage 2 tables, with a few pages
        each; every stream begins with the first ones."""
        world = cls(rng, rng.choice(["1", "1", "2", "nested", "nested"]), rng.choice([12, 14, 16]), rng.choice([12, 14, 16]))
        # 4 KiB begins at level 1 up to 39 bits, 16 KiB at level 2 up to 36, 64 KiB at level 2 up to 42; above at the one before.
        bits2 = rng.choice([36, 36, 39, 40, 43, 44])
        if world.mode != "1":
            for _ in range(2):
                table = PageTable(world.memory, world.space, stage=2, granule=world.granule2, input_bits=bits2, start=_start2(world.granule2, bits2))
                table.map(0x4000_0000, 0x4000_0000, 0x800_0000)
                if world.block is not None:
                    world.map_block(table)
                for ipa in IPAS:
                    table.map(ipa, rng.choice(TARGETS), 1 << world.granule2, level=3)
                world.second.append(table)
        if world.mode != "2":
            bits1 = rng.choice([39, 48])
            for _ in range(2):
                table = PageTable(world.memory, world.space, stage=1, granule=world.granule1, input_bits=bits1)
                if world.block is not None:
                    world.map_block(table)
                for va in world.addresses():
                    table.map(va, rng.choice(world.outputs()), 1 << world.granule1, level=3)
                world.first.append(table)
            if rng.random() < 0.5:
                granule, bits = rng.choice([one for one in (12, 14, 16) if one != world.granule1]), rng.choice([39, 48])
                for _ in range(2):
                    table = PageTable(world.memory, world.space, stage=1, granule=granule, input_bits=bits, upper=True)
                    world.upper.append(table)
                    for va in world.uppers():
                        table.map(va, rng.choice(world.outputs()), 1 << granule, level=3)
        for sid in SIDS:
            _store(world.memory, STREAMS + 64 * sid, world.ste(sid, 1))
            if world.first:
                _store(world.memory, world.context(sid), world.cd(1))
        return world

    @property
    def block(self) -> int | None:
        """Where the block is. Nested, QEMU remembers only a stage 2 page of it and misses it for an address of another one."""
        return {"1": 0x40_0000_0000, "2": 0x2_0000_0000}.get(self.mode)

    def map_block(self, table: PageTable) -> None:
        assert self.block is not None
        size = {12: 1 << 21, 14: 1 << 25, 16: 1 << 29}[table.granule]
        table.map(self.block, self.rng.choice(BLOCK_TARGETS), size, level=2)

    def inputs(self) -> tuple[int, ...]:
        """Every address that is used: pages, and the block at both depths."""
        return (*self.addresses(), *self.uppers()) if self.block is None else (*self.addresses(), *self.uppers(), self.block, self.block + DEEP)

    def addresses(self) -> tuple[int, ...]:
        """Pages: neighbours, and some far away."""
        if self.mode == "2":
            return IPAS
        page = 1 << self.granule1
        return (0x5234_0000, 0x5234_0000 + page, 0x5234_0000 + 2 * page, 0x5234_0000 + 9 * page, 0x20_0000_0000, 0x7F_FFF0_0000)

    def uppers(self) -> tuple[int, ...]:
        """Pages of the upper half, neighbours too."""
        if not self.upper:
            return ()
        page = 1 << self.upper[0].granule
        return (UPPER, UPPER + page, UPPER + 7 * page, UPPER + 0x4000_0000)

    def granule_of(self, address: int) -> int:
        """The granule of the tables that a stage 1 address is translated by; of stage 2 where there is no other."""
        if self.mode == "2":
            return self.granule2
        return self.upper[0].granule if address >> 63 else self.granule1

    def outputs(self) -> tuple[int, ...]:
        return TARGETS if self.mode == "1" else IPAS

    def context(self, sid: int) -> int:
        return CONTEXTS + 64 * SIDS.index(sid)

    def cd(self, asid: int) -> CD:
        """One table for each ASID: two for one are a mistake of software, after which no answer is predictable (5.4.1)."""
        fields = self.first[asid - 1].cd_fields() | (self.upper[asid - 1].cd_fields() if self.upper else {"EPD1": 1})
        return CD.build(V=1, AA64=1, R=1, A=1, IPS=5, ASID=asid, **fields)

    def ste(self, sid: int, vmid: int, **fields: int) -> STE:
        """One stage 2 for each VMID, likewise (5.2.1)."""
        ste = STE.build(V=1, Config={"1": 5, "2": 6, "nested": 7}[self.mode], SHCFG=1, S2R=1, S2VMID=vmid, S2PS=5)
        if self.first:
            ste = ste.replace(S1ContextPtr=self.context(sid))
        if self.second:
            ste = ste.replace(**self.second[vmid - 1].ste_fields())
        return ste.replace(**fields)

    # -- steps --------------------------------------------------------------------------------------------------------

    def play(self, length: int) -> dict[str, Any]:
        """The case: ``length`` steps, more than half of them DMAs."""
        start = _words(self.memory)
        for _ in range(length):
            kind = self.rng.random()
            if kind < 0.03:
                self.steps += [{"reg": {"CR0": "0xc"}}, self.dma(), {"reg": {"CR0": "0xd"}}]
            elif kind < 0.5:
                self.steps.append(self.dma())
            elif kind < 0.72:
                self.change_leaf()
            elif kind < 0.8:
                self.change_structure()
            else:
                self.steps.append({"cmd": [list(self.command().words) for _ in range(rng_count(self.rng))]})
        return {"stage": "nested", "strtab_base": f"{STREAMS:#x}", "strtab_base_cfg": "0x8", "mem": start, "steps": self.steps}

    def dma(self) -> dict[str, Any]:
        address, sid = self.rng.choice(self.inputs()) + 4 * self.rng.randrange(16), self.rng.choice((*SIDS, *SIDS[:2]))
        return {"dma": {"sid": sid, "iova": f"{address:#x}", "access": "r" if sid == EDU else "w"}}

    def change_leaf(self) -> None:
        """Another output, another permission, no access flag, or none at all; or all well again."""
        rng = self.rng
        table = rng.choice(self.first + self.second + self.upper)
        stage1 = table not in self.second
        if table in self.upper:
            address = rng.choice(self.uppers())
        else:
            address = rng.choice([one for one in self.inputs() if not one >> 63] if stage1 or self.mode == "2" else IPAS)
        where = table.entry_address(address)
        assert where is not None, "leaves change, and never go away"
        word = self.memory.read(where) or 0
        leaf: Record = Stage1Leaf(word) if stage1 else Stage2Leaf(word)
        outputs = self.outputs() if stage1 else TARGETS
        if self.block is not None and address in (self.block, self.block + DEEP):
            outputs = BLOCK_TARGETS
        good = {"AF": 1, **({"AP": 1} if stage1 else {"S2AP": 3})}
        what: dict[str, int] = rng.choice([good, good, good, {**good, **({"AP": 3} if stage1 else {"S2AP": 1})}, {**good, "AF": 0}])
        attributes = leaf.replace(**what).value & ~((1 << 48) - (1 << 12))
        self.write(where, attributes | rng.choice(outputs))

    def change_structure(self) -> None:
        """Another CD or STE: other tables, another ASID or VMID, or bypass."""
        rng, sid = self.rng, self.rng.choice(SIDS)
        if self.first and rng.random() < 0.5:
            self.structure(self.context(sid), self.cd(rng.choice([1, 1, 2])))
        else:
            # An address of the upper half is no address without a stage; QEMU lets it end in nothing (departure 13).
            bypass = {"Config": 4} if rng.random() < 0.2 and not self.upper else {}
            self.structure(STREAMS + 64 * sid, self.ste(sid, rng.choice([1, 1, 2]), **bypass))

    def structure(self, where: int, record: Record) -> None:
        for index, word in enumerate(record.words):
            self.memory.write(where + 8 * index, word)
        self.steps.append({"mem": {f"{where:#x}": [f"{word:#x}" for word in record.words]}})

    def write(self, where: int, word: int) -> None:
        self.memory.write(where, word)
        self.steps.append({"mem": {f"{where:#x}": [f"{word:#x}"]}})

    def command(self) -> Record:
        rng = self.rng
        vmid = rng.choice([1, 1, 1, 2])
        asid = rng.choice([1, 1, 1, 2])
        choices: list[Callable[[], Record]] = [
            lambda: build(Op.CFGI_STE, StreamID=rng.choice(SIDS), Leaf=rng.randrange(2)),
            lambda: build(Op.CFGI_STE_RANGE, StreamID=rng.choice((*SIDS, 0)), Range=rng.choice([0, 1, 2, 3, 4, 31])),
            lambda: build(Op.CFGI_CD, StreamID=rng.choice(SIDS), Leaf=rng.randrange(2)),
            lambda: build(Op.CFGI_CD_ALL, StreamID=rng.choice(SIDS)),
            lambda: build(Op.TLBI_NH_ASID, VMID=vmid, ASID=asid),
            lambda: build(Op.TLBI_NH_ALL, VMID=vmid),
            lambda: build(Op.TLBI_S12_VMALL, VMID=vmid),
            lambda: build(Op.TLBI_NSNH_ALL),
            lambda: build(Op.SYNC),
        ]
        by_address: list[Callable[[], Record]] = [
            lambda: build(Op.TLBI_NH_VA, VMID=vmid, ASID=asid, **self.range(self.inputs())),
            lambda: build(Op.TLBI_NH_VAA, VMID=vmid, **self.range(self.inputs())),
            lambda: build(Op.TLBI_S2_IPA, VMID=vmid, **self.range(self.inputs() if self.mode == "2" else IPAS, self.granule2)),
        ]
        if self.mode == "2":
            # QEMU's CMD_TLBI_NH_VAA also removes stage 2's own entries, which it may.
            by_address = by_address[2:]
        return rng.choice(choices if rng.random() < 0.45 else by_address)()

    def range(self, addresses: tuple[int, ...], granule: int | None = None) -> dict[str, int]:
        """One address, with a level hint, or a range that reaches it or ends before it."""
        rng = self.rng
        address = rng.choice(addresses)
        granule = self.granule_of(address) if granule is None else granule
        level = 3 if self.block is None or address < self.block or address > self.block + DEEP else 2
        fields: dict[str, int] = {"Address": address, "Leaf": rng.randrange(2)}
        if rng.random() < 0.5:
            return fields
        # Always the tables' own: QEMU also removes entries of another granule, which it may.
        fields["TG"] = TG_OF_COMMANDS[granule]
        if rng.random() < 0.4:
            return {**fields, "TTL": level}
        num, scale = rng.randrange(32), rng.randrange(6)
        back = rng.choice([0, 1, num + 1 << scale, (num + 1 << scale) - 1]) << granule
        start = max(0, address - back)
        return {**fields, "Address": start, "NUM": num, "SCALE": scale, "TTL": rng.choice([0, level]) if num or scale else level}


def rng_count(rng: Random) -> int:
    """How many commands are given at once: mostly one."""
    return rng.choice([1, 1, 1, 2, 3])


def _start2(granule: int, bits: int) -> int:
    """Without concatenated tables, which QEMU departs on."""
    stride = granule - 3
    return 4 - -(-(bits - granule) // stride)


def _store(memory: Memory, where: int, record: Record) -> None:
    memory.write_words(where, record.words)


def _words(memory: Memory) -> dict[str, list[str]]:
    """What memory holds, in runs of words that are not zero."""
    runs: dict[str, list[str]] = {}
    for number, page in sorted(memory.pages.items()):
        run: list[str] | None = None
        for index, word in enumerate(page):
            if not word:
                run = None
            elif run is None:
                run = runs[f"{(number << 12) + 8 * index:#x}"] = [f"{word:#x}"]
            else:
                run.append(f"{word:#x}")
    return runs


@dataclass
class Report:
    """How a run ended. ``stale`` are DMAs whose answer came from a cache and would be another one without; ``silent`` departure 25."""

    sequences: int = 0
    dmas: int = 0
    stale: int = 0
    silent: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    differing: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{name} {count}" for name, count in self.outcomes.most_common())
        counted = f"{self.sequences} sequences, {self.dmas} DMAs ({self.stale} of them stale, {self.silent} silent as listed)"
        return f"{counted}, {len(self.differing)} sequences differ; {kinds}"


def as_qemu_remembers(case: dict[str, Any], mode: str) -> dict[str, Any]:
    """The case with commands that take away what QEMU does not keep: with a CD it forgets the STE, and of a nested walk it remembers
    only what both stages gave together, not stage 2's own part."""
    own = [[*build(Op.TLBI_S2_IPA, VMID=vmid, TG=tg, NUM=31, SCALE=31).words] for vmid in (1, 2) for tg in (1, 2, 3)]
    steps: Steps = []
    for step in case["steps"]:
        if "dma" in step and mode == "nested":
            steps.append({"cmd": own})
        steps.append(step)
        if "cmd" in step:
            steps.append({"cmd": [[*build(Op.CFGI_STE, StreamID=dword0 >> 32).words] for dword0, _ in step["cmd"] if dword0 & 0xFF in _OF_CDS]})
    return {**case, "steps": steps}


_OF_CDS = (Op.CFGI_CD, Op.CFGI_CD_ALL)


def answers(case: dict[str, Any]) -> list[dict[str, Any]]:
    """The outcomes of the DMAs of a case."""
    kinds = [next(iter(step)) for step in case["steps"]]
    told = iter(run_plain(case)["steps"])
    return [answer for answer, kind in zip(told, (kind for kind in kinds if kind in ("dma", "cmd")), strict=True) if kind == "dma"]


def shown(answer: dict[str, Any], access: str) -> dict[str, Any]:
    """What of an answer QEMU lets one see: a write outside memory ends in nothing, of a read only whether there was an event."""
    seen = brief(answer)
    if access == "r" and (seen.get("ok") or seen["fault"] is None):
        return {"ok": True}
    return seen if not seen.get("ok") or (seen["pa"] is not None and RAM_START <= seen["pa"] < RAM_END) else {"fault": None}


def silent(world: World, mine: list[dict[str, Any]], seen: list[dict[str, Any]], dmas: list[dict[str, Any]]) -> list[int]:
    """Departure 25: of stage 2 alone, an access that a remembered entry denies has no record. Something has been there before, then."""
    found: list[int] = []
    pages: set[int] = set()
    for index, (answer, other, dma) in enumerate(zip(mine, seen, dmas, strict=True)):
        address = int(dma["iova"], 0)
        page = world.block if world.block is not None and address >= world.block else address >> world.granule2
        if world.mode == "2" and answer.get("fault") and answer["fault"]["type"] == 19 and page in pages and other in ({"fault": None}, {"ok": True}):
            found.append(index)
        if answer.get("ok"):
            pages.add(page)
    return found


def compare(machine: Machine, sequences: int, seed: int, length: int = 40) -> Report:
    """Play ``sequences`` random sequences; differing ones are kept as cases."""
    rng, report = Random(seed), Report()
    for _ in range(sequences):
        world = World.make(rng)
        case = world.play(length)
        ours = answers(as_qemu_remembers(case, world.mode))
        fresh = [brief(answer) for answer in answers({**case, "caches": False})]
        theirs = machine.play(case, LANDINGS)
        report.sequences += 1
        report.dmas += len(ours)
        for answer, uncached in zip(ours, fresh, strict=True):
            report.stale += brief(answer) != uncached
            report.outcomes["ok" if answer.get("ok") else (answer["fault"] or {}).get("name", "abort")] += 1
        dmas = [step["dma"] for step in case["steps"] if "dma" in step]
        mine = [shown(answer, dma["access"]) for answer, dma in zip(ours, dmas, strict=True)]
        seen = [shown(answer, dma["access"]) for answer, dma in zip(theirs, dmas, strict=True)]
        for index in silent(world, mine, seen, dmas):
            mine[index] = seen[index]
            report.silent += 1
        if mine != seen:
            report.differing.append({**case, "ours": mine, "qemu": theirs})
    return report


def main() -> int:
    """The larger run, on demand."""
    from tests.tools.qemu import find_qemu

    parser = argparse.ArgumentParser(description="random sequences through the simulated SMMU and QEMU's")
    parser.add_argument("--sequences", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="write the sequences that differ")
    arguments = parser.parse_args()
    qemu = find_qemu()
    if qemu is None:
        print("no qemu-system-aarch64 10.2 or later")
        return 4
    with Machine(qemu) as machine:
        report = compare(machine, arguments.sequences, arguments.seed)
    print(report)
    if arguments.keep and report.differing:
        arguments.keep.write_text(json.dumps(report.differing, indent=1))
    return 1 if report.differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
