"""Lays the trails that ``trails`` follows: by the steps that every transaction takes, over a memory that notes what is read.

A trail is laid when its place is asked for the second time: who makes one transaction pays for none.
"""

from __future__ import annotations

from typing import Any, NoReturn

from wizard.arch.descriptor import Stage1Leaf, TableDescriptor
from wizard.arch.event import FaultClass
from wizard.smmu.config import Configuration
from wizard.smmu.context import LEAF1_BITS, LEAF2_BITS, Context, Stage1, Stage2
from wizard.smmu.form import Check, Configured, Plan, Trail, Ways
from wizard.smmu.memory import PAGE_SHIFT, WORDS, Memory
from wizard.smmu.outcome import Fault
from wizard.smmu.permissions import NEEDED, PR, WRITE
from wizard.smmu.regime import LAST, LEAF, Level, Regime
from wizard.smmu.registers import Registers
from wizard.smmu.stages import Stages, select
from wizard.smmu.walk import WalkEnd, walk

MOST = 65536
"""Trails and streams that are kept for one SMMU, each a fraction of the descriptors that it leads to. When there is no room all are forgotten,
and for four times as many transactions none is laid: who reaches more places than that at random would lay them in vain."""
MOST_GRANTS = 4096
"""Kinds of descriptors that are kept for one need: tables of a guest gone mad have more than anybody's."""

_IN_PAGE = WORDS.bit_length() - 1
"""log2 of the descriptors in a page of memory."""
_SAME = tuple(range(WORDS))
"""One object for each index: most words that are read are at some."""
_TYPE = TableDescriptor.Type.mask
_WIDE = TableDescriptor.Wide.mask << TableDescriptor.Wide.lo
_AF, _CONTIGUOUS = (field.mask << field.lo for field in (Stage1Leaf.AF, Stage1Leaf.Contiguous))
"""In the same place in stage 2."""


class Unfit(Exception):
    """Something that no trail can stand for."""


class Recorder(Memory):
    """Another memory, whose reads are noted by page and index. It can't be written: what hardware updates takes the steps."""

    __slots__ = ("of", "reads")

    def __init__(self, of: Memory) -> None:
        super().__init__(())
        self.of = of
        self.reads: list[tuple[int, int, int]] = []

    def read(self, address: int) -> int | None:
        """The word that the other memory has."""
        word = self.of.read(address)
        if word is not None:
            self.reads.append((address >> PAGE_SHIFT, address >> 3 & WORDS - 1, word))
        return word

    def write(self, address: int, word: int) -> NoReturn:
        """``Unfit``."""
        raise Unfit


class Kinds:
    """What descriptors at the end of trails map and give: for one stage, one level of it, and one set of attributes of the tables above.

    ``code`` are the bits that decide: with the attributes the type, address bits beyond the output size, and where 64 KiB descriptors have more
    of them. ``grants`` has what is known, by the permission that an access needs and by these bits. What a trail takes of here it shares with others.
    """

    __slots__ = ("above", "code", "grants", "mask", "offset", "output", "shift", "stage", "stage1", "type")

    def __init__(self, ways: Ways, regime: Regime, level: Level, above: int) -> None:
        self.stage, self.stage1, self.type, self.above = ways.stage, ways.stage1, level.kinds.index(LEAF), above
        self.shift, self.output, self.offset = level.shift, level.leaf_mask, (1 << level.shift) - 1
        self.mask = level.mask & WORDS - 1 if level.number == LAST else 0
        self.code = _TYPE | (LEAF1_BITS if ways.stage1 else LEAF2_BITS) | level.leaf_mask >> regime.output_bits << regime.output_bits
        self.code |= _WIDE if regime.wide else 0
        self.grants: list[dict[int, Any]] = [{} for _ in range(max(NEEDED.values()) + 1)]

    def grant(self, need: int, bits: int) -> tuple[int, ...] | bool:
        """The attributes of a descriptor that grants the access and asks for nothing else; False for others."""
        known = self.grants[need]
        if len(known) >= MOST_GRANTS:
            known.clear()
        known[bits] = granted = self._grant(need, bits)
        return granted

    def _grant(self, need: int, bits: int) -> tuple[int, ...] | bool:
        attributes = LEAF1_BITS if self.stage1 else LEAF2_BITS
        if bits & ~attributes != self.type:
            return False
        code = bits & attributes | self.above
        leaf = self.stage.leaves.get(code) or self.stage.leaf(code)
        updated = self.stage.ha and (not bits & _AF or (leaf.clean and need & WRITE))
        if not leaf.accessed or not need & leaf.allowed or leaf.contiguous or updated:
            return False
        granted: tuple[int, ...] = leaf.stage1 if self.stage1 else leaf.stage2
        return granted


class Patience:
    """After a failure some are let go by, after failures in a row more and more: who meets faults only does not pay for trails that none follows."""

    __slots__ = ("_last", "_left")

    def __init__(self) -> None:
        self._last = self._left = 0

    def spent(self) -> bool:
        """Whether this one is let go by."""
        if not self._left:
            return False
        self._left -= 1
        return True

    def rest(self, transactions: int) -> None:
        """Let so many go by."""
        self._left = transactions

    def told(self, *, well: bool) -> None:
        """How the last attempt ended."""
        self._left = self._last = 0 if well else min(max(16, 2 * self._last), 1024)


class Learner:
    """The trails of one SMMU without a TLB. ``streams`` are those whose structures are read every time; None where one was asked for."""

    __slots__ = (
        "_checks", "_configuration", "_features", "_filled", "_kept", "_memory", "_of_streams", "_of_trails", "_recorder", "_registers", "_stages",
        "_version", "streams",
    )  # fmt: skip

    def __init__(self, registers: Registers, memory: Memory) -> None:
        self._registers, self._features, self._memory = registers, registers.features, memory
        self._recorder = Recorder(memory)
        self._stages = Stages(self._recorder, registers.features, None)
        self._configuration = Configuration(registers, self._stages, None)
        self.streams: dict[tuple[int, int | None], Configured | None] = {}
        self._filled: list[Ways] = []
        self._checks: dict[tuple[int, int, int], Check] = {}
        self._version = memory.pages.version
        self._kept = 0
        self._of_streams, self._of_trails = Patience(), Patience()

    # -- streams ------------------------------------------------------------------------------------------------------

    def plan(self, context: Context) -> Plan:
        """The plan of a context, from now on in ``context.plan``."""
        ways = []
        if context.stage1 is not None:
            halves = [half for half in (context.stage1.lower, context.stage1.upper) if half is not None and half.regime is not None]
            ways.append(_ways(context.stage1, [half.regime for half in halves if half.regime is not None], stage1=True))
        if context.stage2 is not None:
            ways.append(_ways(context.stage2, [context.stage2.regime], stage1=False))
        found = tuple(one for one in ways if one is not None)
        plan = Plan(found if len(found) == len(ways) else (), context.override, context.privileged, context.instruction)
        object.__setattr__(context, "plan", plan)
        return plan

    def configured(self, sid: int, ssid: int | None) -> Configured | None:
        """Learn how a stream comes to its plan, by what is read of its structures now; None where that is not known now."""
        if self._of_streams.spent():
            return None
        if (sid, ssid) not in self.streams:
            self._room()
            self.streams[sid, ssid] = None
            return None
        registers = self._registers
        then = registers.strtab_base, registers.strtab_base_cfg, registers.cr2
        self._recorder.reads.clear()
        try:
            context = self._configuration.context(sid, ssid, None)
            found = Configured(self._read(), self._version, then, context.plan or self.plan(context))
        except (Fault, Unfit):
            del self.streams[sid, ssid]
            self._of_streams.told(well=False)
            return None
        self.streams[sid, ssid] = found
        self._of_streams.told(well=True)
        return found

    # -- trails -------------------------------------------------------------------------------------------------------

    def trail(self, plan: Plan, ways: Ways, address: int) -> Trail | None:
        """Learn the way of ``address`` through one stage of ``plan``; None where there is none, or it is asked for the first time."""
        if address >> 64 or self._of_trails.spent():
            return None
        number = address >> ways.shift
        if number not in ways.trails:
            self._room()
            if not ways.trails:
                self._filled.append(ways)
            ways.trails[number] = None
            return None
        self._recorder.reads.clear()
        try:
            found = self._stage1(plan, ways, address) if ways.stage1 else self._stage2(plan, ways, address)
        except (Fault, WalkEnd, Unfit):
            del ways.trails[number]
            self._of_trails.told(well=False)
            return None
        ways.trails[number] = found
        self._of_trails.told(well=True)
        return found

    def _stage1(self, plan: Plan, ways: Ways, va: int) -> Trail:
        stage1: Stage1 = ways.stage
        stage2: Stage2 | None = plan.ways[1].stage if len(plan.ways) > 1 else None
        chosen = select(stage1, va)
        if chosen is None or chosen[0].regime is None or chosen[0].e0pd:
            raise Unfit
        half, address = chosen
        below = None
        if stage2 is not None:

            def below(where: int) -> int:
                return self._stages.stage2(stage2, where, PR, FaultClass.TTD, None).output

        _, level, above, _, _ = walk(self._recorder, chosen[0].regime, address, below, None, None, 1, hierarchical=not half.had)
        return self._laid(ways, chosen[0].regime, level, above, upper=half.upper)

    def _stage2(self, plan: Plan, ways: Ways, ipa: int) -> Trail:
        stage2: Stage2 = ways.stage
        if ipa >> stage2.regime.input_bits or (len(plan.ways) == 1 and ipa >> self._features.ias):
            raise Unfit
        _, level, _, _, _ = walk(self._recorder, stage2.regime, ipa, None, None, None, 2, hierarchical=False)
        return self._laid(ways, stage2.regime, level, 0, upper=False)

    def _laid(self, ways: Ways, regime: Regime, level: Level, above: int, *, upper: bool) -> Trail:
        """The trail of a walk that has just found its leaf: the last word that it read is the leaf's descriptor, which is not of the trail."""
        page, index, word = self._recorder.reads.pop()
        checks = self._read()
        if page not in self._memory.pages or word & _CONTIGUOUS:
            raise Unfit
        key = upper, level.number, above
        kinds = ways.kinds.get(key)
        if kinds is None:
            kinds = ways.kinds[key] = Kinds(ways, regime, level, above)
        return Trail(checks, self._version, self._memory.pages[page], index & ~kinds.mask, kinds)

    # -- what is kept -------------------------------------------------------------------------------------------------

    def _read(self) -> tuple[Check, ...]:
        """What was read, each word once; all of it has to be in pages that are there."""
        pages, known = self._memory.pages, self._checks
        if pages.version != self._version:
            known.clear()
            self._version = pages.version
        found = []
        for one in dict.fromkeys(self._recorder.reads):
            number, index, held = one
            if number not in pages:
                raise Unfit
            if one not in known:
                known[one] = Check(pages[number], _SAME[index], held)
            found.append(known[one])
        return tuple(found)

    def _room(self) -> None:
        """One more is going to be kept."""
        self._kept += 1
        if self._kept > MOST:
            for ways in self._filled:
                ways.trails.clear()
            self._filled.clear()
            self.streams.clear()
            self._checks.clear()
            self._kept = 1
            self._of_trails.rest(4 * MOST)


def _ways(stage: Stage1 | Stage2, regimes: list[Regime], *, stage1: bool) -> Ways | None:
    """The ways of a stage: each trail is of what one page of descriptors of its smallest granule maps. None where none can be laid."""
    shift = min((regime.granule for regime in regimes), default=0) + _IN_PAGE
    if not regimes or any(regime.swap or regime.input_bits < shift for regime in regimes):
        return None
    return Ways(shift, stage, stage1=stage1)
