"""Stage 1 and stage 2 of a translation, and both together: IHI 0070 3.3.2, 3.4, 3.13, 7.3.22, 13.4; DDI 0487 D8.

``Stages`` walks tables in memory and remembers what it found in the TLB. It knows nothing of streams or events.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from wizard.arch.descriptor import Stage1Leaf, Stage2Leaf
from wizard.arch.event import EventType, FaultClass
from wizard.smmu import permissions
from wizard.smmu.attributes import is_device
from wizard.smmu.cache import Entry, Tlb
from wizard.smmu.context import LEAF1_BITS, LEAF2_BITS, Context, Half, Leaf, Stage1, Stage2
from wizard.smmu.ids import Features
from wizard.smmu.memory import Memory
from wizard.smmu.outcome import Fault
from wizard.smmu.permissions import ALL, PR, PW, WRITE
from wizard.smmu.trace import Trace
from wizard.smmu.walk import WalkEnd, in_place, swapped, walk

_AF1 = Stage1Leaf.AF.mask << Stage1Leaf.AF.lo
_TTD, _IN = FaultClass.TTD, FaultClass.IN
"""Named here: looking an enumeration's member up costs as much as a look at memory."""
_TOP_BYTE = 0xFF << 56
_ADDRESS = (1 << 64) - 1


class Found(Struct, gc=False):
    """A leaf of one stage: the output address of the access, and what an entry for it would hold.

    ``attribute`` is MemAttr, SH and S2FWB of a stage 2 leaf. ``descriptor`` is where a stage 1 leaf lies in physical memory, when hardware
    may have to update it.
    """

    output: int
    span: int
    reach: int
    allowed: int
    clean: bool
    word: int
    granule: int
    level: int
    attribute: tuple[int, int, bool] | None = None
    descriptor: int | None = None


def select(stage1: Stage1, va: int) -> tuple[Half, int] | None:
    """The half that translates ``va`` and the address with an ignored top byte made canonical; None when it is in no range (3.4.1)."""
    half = stage1.upper if stage1.upper is not None and va >> 55 & 1 else stage1.lower
    if half.tbi:
        va = va | _TOP_BYTE if half.upper else va & ~_TOP_BYTE
    if half.regime is not None:
        above = va >> half.regime.input_bits
        if above != ((_ADDRESS >> half.regime.input_bits) if half.upper else 0):
            return None
    return half, va


def _fault1(stage1: Stage1, kind: EventType, reason: str) -> Fault:
    return Fault(kind, reason, record=stage1.record, stall=stage1.stall, abort=stage1.abort)


def _denied(stage1: Stage1, allowed: int, need: int) -> Fault:
    return _fault1(stage1, EventType.F_PERMISSION, f"stage 1 allows {permissions.describe(allowed)}, needed {permissions.describe(need)}")


def _fault2(stage2: Stage2, kind: EventType, reason: str, purpose: FaultClass, ipa: int, *, tt_read: bool = False) -> Fault:
    return Fault(kind, reason, stage2=True, fault_class=purpose, address=ipa, tt_read=tt_read, record=stage2.record, stall=stage2.stall)


class Stages:
    """Translation by tables in ``memory``; ``tlb`` None remembers nothing."""

    __slots__ = ("features", "memory", "tlb")

    def __init__(self, memory: Memory, features: Features, tlb: Tlb | None) -> None:
        self.memory, self.features, self.tlb = memory, features, tlb

    # -- stage 2 ------------------------------------------------------------------------------------------------------

    def stage2(self, stage2: Stage2, ipa: int, need: int, purpose: FaultClass, trace: Trace | None) -> Found:
        """Translate ``ipa`` for an access that needs the permission ``need``; ``Fault`` with S2 set and CLASS ``purpose``."""
        regime = stage2.regime
        if ipa >> regime.input_bits:
            raise _fault2(
                stage2, EventType.F_TRANSLATION, f"intermediate address {ipa:#x} is beyond stage 2's {regime.input_bits} bits", purpose, ipa
            )
        if self.tlb is not None:
            entry = self.tlb.find(stage2.space, ipa)
            if entry is not None and not (entry.clean2 and need & WRITE):
                if trace is not None:
                    trace.add("tlb", f"stage 2 entry for {ipa:#x} is cached")
                self._permit2(stage2, entry.allowed2, entry.stage2, need, purpose, ipa)
                return Found(
                    entry.output + ipa - entry.start, entry.span, entry.reach, entry.allowed2, entry.clean2, 0,
                    entry.granule, entry.level, entry.stage2,
                )  # fmt: skip

        tables = self.tlb.walks(stage2.space) if self.tlb is not None else None
        try:
            word, level, _, where, output = walk(self.memory, regime, ipa, None, tables, trace, 2, hierarchical=False)
        except WalkEnd as end:
            if end.kind is EventType.F_WALK_EABT:
                raise Fault(end.kind, end.reason, stage2=True, fault_class=purpose, address=end.address) from None
            raise _fault2(stage2, end.kind, end.reason, purpose, ipa) from None
        leaf = stage2.leaves.get(code := word & LEAF2_BITS) or stage2.leaf(code)
        if not leaf.accessed:
            raise _fault2(stage2, EventType.F_ACCESS, "stage 2 access flag is 0", purpose, ipa)
        allowed, clean = leaf.allowed, leaf.clean
        if not need & allowed or stage2.ptw:
            self._permit2(stage2, allowed, leaf.stage2, need, purpose, ipa)
        if stage2.ha:
            clean = self._settle2(stage2, leaf, word, where, need, trace)
        span = level.shift
        if leaf.contiguous and not stage2.ha and in_place(level, ipa, output):
            span = level.run
        found = Found(output + (ipa & (1 << level.shift) - 1), span, span, allowed, clean, word, regime.granule, level.number, leaf.stage2)
        if self.tlb is not None:
            start = ipa & -1 << span
            base = found.output - (ipa - start)
            self.tlb.add(
                stage2.space,
                Entry(start, span, base, start, span, regime.granule, level.number, ALL, allowed, False, clean, None, leaf.stage2),
            )
        return found

    def _permit2(self, stage2: Stage2, allowed: int, attribute: tuple[int, int, bool] | None, need: int, purpose: FaultClass, ipa: int) -> None:
        """Permission check at stage 2; S2PTW forbids Device memory for configuration and table fetches."""
        reason = None
        if not need & allowed:
            reason = f"stage 2 allows {permissions.describe(allowed)}, needed {permissions.describe(need)}"
        elif stage2.ptw and purpose is not _IN and attribute is not None and is_device(attribute[0], attribute[2]):
            reason = "S2PTW is 1 and stage 2 maps the table as Device memory"
        if reason is not None:
            raise _fault2(stage2, EventType.F_PERMISSION, reason, purpose, ipa, tt_read=not need & WRITE)

    def _settle2(self, stage2: Stage2, leaf: Leaf, word: int, where: int, need: int, trace: Trace | None) -> bool:
        """Update a stage 2 leaf for an access that is granted: its access flag and its dirty state; whether it is still clean."""
        updated, clean = Stage2Leaf.AF.put(word, 1), leaf.clean
        if clean and need & leaf.allowed & WRITE:
            updated, clean = Stage2Leaf.S2AP.put(updated, Stage2Leaf.S2AP.get(updated) | 2), False
        if updated != word:
            self._update(stage2.regime.swap, where, updated, trace)
        return clean

    def _update(self, swap: bool, where: int, word: int, trace: Trace | None) -> None:
        """Hardware update of a descriptor (HTTU)."""
        self.memory.write(where, swapped(word) if swap else word)
        if trace is not None:
            trace.add("httu", "descriptor updated", where, (word,))

    # -- stage 1 ------------------------------------------------------------------------------------------------------

    def stage1(self, stage1: Stage1, stage2: Stage2 | None, va: int, need: int, trace: Trace | None) -> tuple[Found, Leaf]:
        """Translate ``va`` by stage 1, whose tables stage 2 translates when there is one; answers where it leads and what its leaf means.

        The leaf is not updated yet (``_settle``): whether the access is granted, stage 2 has a word in.
        """
        chosen = select(stage1, va)
        if chosen is None:
            raise _fault1(stage1, EventType.F_TRANSLATION, f"address {va:#x} is outside the input range of TTB0 and TTB1")
        half, address = chosen
        regime = half.regime
        if regime is None:
            raise _fault1(stage1, EventType.F_TRANSLATION, f"walks through TTB{int(half.upper)} are disabled (EPD{int(half.upper)})")
        if half.e0pd and not need & permissions.PR and not need & (PW | permissions.PX):
            raise _fault1(stage1, EventType.F_TRANSLATION, f"unprivileged access is disabled (E0PD{int(half.upper)})")
        below = None
        if stage2 is not None:

            def below(where: int) -> int:
                place = self.stage2(stage2, where, PR, _TTD, trace).output
                if trace is not None:
                    trace.add("ipa", f"intermediate address {where:#x} is {place:#x}")
                return place

        tables = self.tlb.walks(stage1.space) if self.tlb is not None else None
        try:
            word, level, above, where, output = walk(self.memory, regime, address, below, tables, trace, 1, hierarchical=not half.had)
        except WalkEnd as end:
            if end.kind is EventType.F_WALK_EABT:
                raise Fault(end.kind, end.reason, fault_class=_TTD, address=end.address) from None
            raise _fault1(stage1, end.kind, end.reason) from None
        leaf = stage1.leaves.get(code := word & LEAF1_BITS | above) or stage1.leaf(code)
        if not leaf.accessed:
            raise _fault1(stage1, EventType.F_ACCESS, "stage 1 access flag is 0")
        allowed, clean = leaf.allowed, leaf.clean
        if not need & allowed:
            raise _denied(stage1, allowed, need)
        span = level.shift
        if leaf.contiguous and not stage1.ha and in_place(level, address, output):
            span = level.run
        found = Found(output + (address & (1 << level.shift) - 1), span, span, allowed, clean, word, regime.granule, level.number)
        if stage1.ha and (not word & _AF1 or (clean and need & allowed & WRITE)):
            # The update is a write: stage 2 has to allow it for the table (3.13.5), and a fault of that comes before those of the output address.
            found.descriptor = where if stage2 is None else self.stage2(stage2, where, PW, _TTD, trace).output
        return found, leaf

    def _settle(self, stage1: Stage1, found: Found, where: int, granted: int, trace: Trace | None) -> None:
        """Update a stage 1 leaf after both stages: its access flag, and its dirty state where a write is ``granted`` (3.13.2, 3.13.3, 3.13.7)."""
        word = found.word
        if stage1.ha:
            word = Stage1Leaf.AF.put(word, 1)
        if found.clean and granted & WRITE:
            word, found.clean = Stage1Leaf.AP.put(word, Stage1Leaf.AP.get(word) & 1), False
        if word != found.word:
            self._update(stage1.swap, where, word, trace)

    # -- whole translations -------------------------------------------------------------------------------------------

    def translate(self, context: Context, address: int, need: int, trace: Trace | None) -> tuple[int, Entry]:
        """Translate ``address`` by the stages of ``context`` (at least one); answers the output address and the entry that covers it."""
        stage1, stage2 = context.stage1, context.stage2
        if stage1 is None:
            if stage2 is None:
                raise ValueError("nothing translates here")
            return self._only2(stage2, address, need, trace)
        if self.tlb is not None:
            hit = self._hit(stage1, stage2, address, need, trace)
            if hit is not None:
                return hit
        first, leaf = self.stage1(stage1, stage2, address, need, trace)
        pa, span, allowed2, clean2, attribute2 = first.output, first.span, ALL, False, None
        if stage2 is not None:
            if trace is not None:
                trace.add("ipa", f"stage 1 maps {address:#x} to the intermediate address {first.output:#x}")
            # What stage 1 denies stage 2 need not grant, and its dirty state stays (3.13.7.1): an ATS request asks for several at once.
            second = self.stage2(stage2, first.output, need & first.allowed, _IN, trace)
            pa, span, allowed2, clean2 = second.output, min(span, second.span), second.allowed, second.clean
            attribute2 = second.attribute
        if first.descriptor is not None:
            self._settle(stage1, first, first.descriptor, need & first.allowed & allowed2, trace)
        mask = (1 << span) - 1
        offset = address & mask
        start = address - offset
        entry = Entry(
            start, span, pa - offset, first.output - offset, first.reach, first.granule, first.level,
            first.allowed, allowed2, first.clean, clean2, leaf.stage1, attribute2,
        )  # fmt: skip
        if self.tlb is not None:
            chosen = select(stage1, address)
            if chosen is not None and chosen[1] != address:
                entry = replace(entry, start=chosen[1] - offset)
            self.tlb.add(stage1.global_space if leaf.globally else stage1.space, entry)
        return pa, entry

    def _only2(self, stage2: Stage2, ipa: int, need: int, trace: Trace | None) -> tuple[int, Entry]:
        if ipa >> self.features.ias:
            raise Fault(EventType.F_ADDR_SIZE, f"input address {ipa:#x} is beyond {self.features.ias} bits")
        found = self.stage2(stage2, ipa, need, _IN, trace)
        offset = ipa & (1 << found.span) - 1
        entry = Entry(
            ipa - offset, found.span, found.output - offset, ipa - offset, found.reach, found.granule, found.level,
            ALL, found.allowed, False, found.clean, None, found.attribute,
        )  # fmt: skip
        return found.output, entry

    def _hit(self, stage1: Stage1, stage2: Stage2 | None, va: int, need: int, trace: Trace | None) -> tuple[int, Entry] | None:
        """A translation from the TLB, with the permission checks that a walk would make, in its order."""
        chosen = select(stage1, va)
        if chosen is None or self.tlb is None:
            return None
        half, address = chosen
        if half.e0pd and not need & (permissions.PR | PW | permissions.PX):
            return None
        entry = self.tlb.find(stage1.space, address) or self.tlb.find(stage1.global_space, address)
        if entry is None or (need & WRITE and (entry.clean1 or entry.clean2)):
            return None
        if trace is not None:
            trace.add("tlb", f"entry for {address:#x} is cached: 2^{entry.span} bytes from {entry.start:#x} to {entry.output:#x}")
        if not need & entry.allowed1:
            raise _denied(stage1, entry.allowed1, need)
        if stage2 is not None:
            self._permit2(stage2, entry.allowed2, entry.stage2, need & entry.allowed1, _IN, entry.ipa + address - entry.start)
        return entry.output + address - entry.start, entry
