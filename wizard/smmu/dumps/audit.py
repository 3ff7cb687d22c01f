"""What is wrong with a dump: illegal, inconsistent or missing structures, and memory of the SMMU's own that a device can write.

Legality is IHI 0070 5.2.2 and 5.4.2 (``wizard.smmu.validity``); tags that two tables share 3.17; contiguous runs DDI 0487 D8.7.1.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from wizard.arch.descriptor import Stage1Leaf
from wizard.arch.registers import GBPA
from wizard.arch.ste import L1STD, L1STD_BYTES, STE, StreamConfig
from wizard.smmu.arrays.maps import TooMuch
from wizard.smmu.arrays.snapshot import U64
from wizard.smmu.dumps.mappings import Mapped, Mappings, load_tables
from wizard.smmu.dumps.state import Dump
from wizard.smmu.inventory import written
from wizard.smmu.regime import INVALID, LEAF, TABLE, Level, Regime
from wizard.smmu.validity import ste_illegal

Kind = Literal["illegal", "inconsistent", "exposed", "open", "unknown"]
"""``illegal``: hardware refuses it; ``inconsistent``: it says two things; ``exposed``: a device can write what the SMMU itself reads or writes;
``open``: nothing is translated; ``unknown``: no image holds it, or it is too much to look at."""

_CONTIGUOUS = np.uint64(Stage1Leaf.Contiguous.mask << Stage1Leaf.Contiguous.lo)
_STAGE2_FIELDS = ("S2TTB", "S2T0SZ", "S2SL0", "S2TG", "S2PS", "S2ENDI", "S2AFFD", "S2PTW", "S2FWB", "S2HA", "S2HD")


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing that is wrong: of a StreamID and SubstreamID where it is one's, at ``where``, as a sentence without its full stop."""

    kind: Kind
    text: str
    where: int | None = None
    sid: int | None = None
    ssid: int | None = None


@dataclass(frozen=True, slots=True)
class _Owned:
    """Memory that the SMMU itself reads or writes, and that no device has any business in."""

    start: int
    end: int
    what: str


def audit(dump: Dump, mappings: Mappings) -> Iterator[Flaw]:
    """Everything that is wrong with a dump, what touches all streams first."""
    yield from _switched_off(dump)
    for what, start, end in dump.missing():
        yield Flaw("unknown", f"no image holds {what} from {start:#x} to {end - 1:#x}", start)
    yield from _level1(dump)
    owned, flaws = _tables(dump)
    yield from _entries(dump)
    yield from _tags(dump)
    yield from flaws
    for mapped in mappings.all():
        yield from _reach(mapped, owned)


def _switched_off(dump: Dump) -> Iterator[Flaw]:
    if not dump.enabled:
        does = "aborted" if GBPA(dump.registers.values.get("GBPA", 0)).ABORT else "passed on untranslated"
        yield Flaw("open" if does != "aborted" else "inconsistent", f"CR0.SMMUEN is 0: every transaction is {does}, whatever the tables say")


def _level1(dump: Dump) -> Iterator[Flaw]:
    found = dump.inventory
    if not found.two_level:
        return
    reach = 1 << min(found.size, found.features.sidsize)
    for where, word in written(dump.memory, found.first_level, L1STD_BYTES * -(-reach >> found.split)):
        span, first = L1STD(word).Span, (where - found.first_level) // L1STD_BYTES << found.split
        if span > min(11, found.split + 1):
            yield Flaw("illegal", f"the level 1 descriptor of StreamIDs from {first:#x} on has Span {span}, above SPLIT {found.split} + 1", where)
        elif not span and word:
            yield Flaw("inconsistent", f"the level 1 descriptor of StreamIDs from {first:#x} on has Span 0 and is not empty: {word:#x}", where)


def _entries(dump: Dump) -> Iterator[Flaw]:
    for sid, entry in sorted(dump.inventory.entries.items()):
        if why := ste_illegal(entry.ste, dump.smmu.features):
            yield Flaw("illegal", f"its stream table entry is ILLEGAL: {why}", entry.where, sid)
            continue
        if entry.ste.Config < StreamConfig.BYPASS:
            continue
        for one in dump.reached(sid):
            if one.context is not None or one.kind is None:
                continue
            lost = one.why.startswith("nothing answers")
            yield Flaw("unknown" if lost else "illegal", one.why, entry.where, sid, one.ssid)


def _tags(dump: Dump) -> Iterator[Flaw]:
    """Streams that share a tag of the TLB and not what it stands for: each gets the other's translations."""
    second: dict[int, tuple[int, STE]] = {}
    first: dict[object, tuple[int, int | None, object]] = {}
    for entry in dump.inventory.live():
        for one in dump.reached(entry.sid):
            if one.context is None:
                continue
            if one.context.stage2 is not None:
                sid, ste = second.setdefault(entry.ste.S2VMID, (entry.sid, entry.ste))
                if other := [name for name in _STAGE2_FIELDS if ste.fields()[name] != entry.ste.fields()[name]]:
                    yield Flaw(
                        "inconsistent", f"it has VMID {ste.S2VMID} as StreamID {sid:#x} has, with another {', '.join(other)}", entry.where, entry.sid
                    )
                    break
            stage1 = one.context.stage1
            if stage1 is not None:
                tables = (stage1.lower.regime, stage1.upper.regime if stage1.upper else None)
                sid, ssid, same = first.setdefault(stage1.space, (entry.sid, one.ssid, tables))
                if same != tables:
                    whose = f"StreamID {sid:#x}" + (f", SubstreamID {ssid}" if ssid is not None else "")
                    text = f"its context descriptor has ASID {stage1.space[2]} (VMID {stage1.space[1]}) as that of {whose} has, with other tables"
                    yield Flaw("inconsistent", text, entry.where, entry.sid, one.ssid)


def _tables(dump: Dump) -> tuple[list[_Owned], list[Flaw]]:
    """Every table by physical address that no guest owns, and what is wrong in the descriptors of all."""
    found = dump.inventory
    owned = [_Owned(one.start, one.start + one.size, one.what) for one in (*found.structures, *found.queues())]
    flaws: list[Flaw] = []
    seen: set[Regime] = set()
    for entry in found.live():
        owned += [_Owned(one.start, one.start + one.size, f"{one.what} of StreamID {entry.sid:#x}") for one in found.descriptors(entry.ste)[0]]
        for one in dump.reached(entry.sid):
            if one.context is None:
                continue
            stage1, stage2 = one.context.stage1, one.context.stage2
            regimes = [(stage2.regime, 2, 0, not stage2.ha)] if stage2 is not None else []
            if stage1 is not None and stage2 is None:
                for half in (stage1.lower, stage1.upper):
                    if half is not None and half.regime is not None:
                        base = (1 << 64) - (1 << half.regime.input_bits) if half.upper else 0
                        regimes.append((half.regime, 1, base, not stage1.ha))
            for regime, stage, base, runs in regimes:
                if regime in seen:
                    continue
                seen.add(regime)
                look = _Look(regime, stage, f"StreamID {entry.sid:#x}", runs)
                try:
                    for lost in load_tables(dump.memory, regime, stage, base, None, look):
                        text = f"no image holds its stage {stage} table at {lost.table:#x}, of {lost.size:#x} bytes from {lost.iova:#x}"
                        flaws.append(Flaw("unknown", text, lost.table, entry.sid, one.ssid))
                except TooMuch as error:
                    flaws.append(Flaw("unknown", str(error), regime.base, entry.sid, one.ssid))
                owned += look.owned
                flaws += [Flaw(kind, text, where, entry.sid, one.ssid) for kind, text, where in look.wrong]
    return sorted(owned, key=lambda one: (one.start, one.end)), flaws


class _Look:
    """Looks at every page of every table of one regime."""

    def __init__(self, regime: Regime, stage: int, whose: str, runs: bool) -> None:
        self.regime, self.stage, self.whose, self.runs = regime, stage, whose, runs
        self.owned: list[_Owned] = []
        self.wrong: list[tuple[Kind, str, int]] = []

    def __call__(self, level: Level, physical: int, words: U64) -> None:
        if not self.owned or self.owned[-1].start != physical:
            self.owned.append(_Owned(physical, physical + 8 * words.size, f"the stage {self.stage} tables of {self.whose}"))
        name = f"stage {self.stage} level {level.number} descriptor"
        kinds = np.array(level.kinds, np.uint8).take((words & np.uint64(3)).view(np.int64))
        for index in np.flatnonzero((kinds == INVALID) & (words & np.uint64(1) != 0))[:1].tolist():
            where = physical + 8 * index
            self.wrong.append(("illegal", f"its {name} {int(words[index]):#x} is of a type that this level does not have", where))
        mask = np.where(kinds == LEAF, np.uint64(level.leaf_mask), np.uint64(self.regime.table_mask))
        if self.regime.output_bits < 48 and not self.regime.wide:
            beyond = np.flatnonzero((kinds != INVALID) & ((words & mask) >> np.uint64(self.regime.output_bits) != 0))
            for index in beyond[:1].tolist():
                text = f"its {name} {int(words[index]):#x} leads beyond the {self.regime.output_bits} bits of its output"
                self.wrong.append(("illegal", text, physical + 8 * index))
        for index in np.flatnonzero((kinds == TABLE) & ((words & mask) == np.uint64(physical & -4096)))[:1].tolist():
            self.wrong.append(("inconsistent", f"its {name} leads to the table that it stands in", physical + 8 * index))
        if self.runs:
            self._look_at_runs(level, physical, words, kinds)

    def _look_at_runs(self, level: Level, physical: int, words: U64, kinds: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> None:
        """Leaves with the contiguous hint: whole runs of them, with outputs that lie as their inputs do."""
        length = 1 << (level.run - level.shift)
        if length == 1 or words.size % length:
            return
        hinted = ((kinds == LEAF) & (words & _CONTIGUOUS != 0)).reshape(-1, length)
        some = np.flatnonzero(hinted.any(axis=1))
        if not some.size:
            return
        runs = words.reshape(-1, length)[some]
        steps = np.arange(length, dtype=np.uint64) << np.uint64(level.shift)
        aligned = runs[:, 0] & np.uint64((1 << level.run) - (1 << level.shift)) == 0
        fine = hinted[some].all(axis=1) & (runs == runs[:, :1] + steps).all(axis=1) & aligned
        for row in some[~fine][:1].tolist():
            where = physical + 8 * row * length
            text = f"the contiguous hint of its stage {self.stage} level {level.number} descriptors at {where:#x} is not that of a whole run"
            self.wrong.append(("inconsistent", text, where))


def _reach(mapped: Mapped, owned: list[_Owned]) -> Iterator[Flaw]:
    """What of the SMMU's own memory a stream can write."""
    reached = mapped.reached
    if mapped.everything:
        yield Flaw("open", "it bypasses: it reaches every address, the SMMU's own tables too", reached.entry.where, reached.sid, reached.ssid)
        return
    if mapped.why and reached.context is not None:
        yield Flaw("unknown", mapped.why, reached.entry.where, reached.sid, reached.ssid)
    starts = [one.start for one in owned]
    told: set[str] = set()
    for one in mapped.ranges:
        if "w" not in one.allowed:
            continue
        index = max(0, bisect_left(starts, one.pa) - 1)
        while index < len(owned) and owned[index].start < one.pa + one.size:
            mine = owned[index]
            index += 1
            if mine.end > one.pa and mine.what not in told:
                told.add(mine.what)
                at = max(mine.start, one.pa)
                text = f"it can write {mine.what}: {one.iova + at - one.pa:#x} goes to {at:#x}"
                yield Flaw("exposed", text, at, reached.sid, reached.ssid)
