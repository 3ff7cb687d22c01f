"""What the caches hold that memory no longer says: the configuration cache and the TLB against the structures and tables of this moment.

Behind stage 2 only stage 2 is compared: a stage 1 that its guest changed without invalidating is the guest's own matter, and what a stale entry of it
leads to is still what stage 2 says (IHI 0070 3.17, 4.3, 4.4). Everything else has to agree to the bit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from wizard.arch.cd import CD, L1CD
from wizard.arch.descriptor import Stage1Leaf, TableDescriptor
from wizard.arch.ste import L1STD, STE, StreamConfig
from wizard.smmu import permissions
from wizard.smmu.cache import Entry
from wizard.smmu.context import Context, Space, Stage1, Stage2, context_of, stage1_of, stage2_of
from wizard.smmu.inventory import Inventory, lets_through
from wizard.smmu.regime import LEAF, TABLE, Level, Regime
from wizard.smmu.stages import select
from wizard.smmu.validity import cd_illegal, stage1_on, stage2_on, ste_illegal, world
from wizard.smmu.walk import span_of, swapped

_WORD_BYTES = 8


@dataclass(frozen=True, slots=True)
class Stale:
    """Something cached that memory does not say: of a StreamID or of a VMID (the other is None), as a sentence without its full stop."""

    sid: int | None
    vmid: int | None
    text: str


def stale(found: Inventory, expected: Iterable[STE] = ()) -> Iterator[Stale]:
    """Every cached thing that the memory of ``found`` does not say. ``expected`` are entries that may be installed again, as a VM's own is."""
    if found.smmu.configuration_cache is not None:
        yield from _configuration(found)
    if found.smmu.tlb is not None:
        yield from _translations(found, _Tables(found, expected))


# -- configuration ----------------------------------------------------------------------------------------------------


def _configuration(found: Inventory) -> Iterator[Stale]:
    held = found.smmu.configuration_cache
    if held is None:
        return
    for index, l1std in held.l1stds.items():
        where = found.first_level + _WORD_BYTES * index
        if (now := L1STD(found.memory.read(where) or 0)) != l1std:
            text = f"the level 1 stream table descriptor {index} is cached as {l1std.value:#x}, and at {where:#x} it is {now.value:#x}"
            yield Stale(index << found.split, None, text)
    for sid, ste in held.stes.items():
        if not ste.V and sid not in found.entries:
            continue
        if (why := _other_entry(found, sid, ste)) is not None:
            yield Stale(sid, None, f"the entry of StreamID {sid:#x} is cached {why}")
    for sid, contexts in held.contexts.items():
        for ssid, context in contexts.items():
            if (why := _other_context(found, sid, ssid, context)) is not None:
                yield Stale(sid, None, f"the configuration of StreamID {sid:#x} is cached {why}")
    for sid in held.cds.keys() | held.l1cds.keys():
        yield from _descriptors(found, sid, held.cds.get(sid, {}), held.l1cds.get(sid, {}))


def _other_entry(found: Inventory, sid: int, ste: STE) -> str | None:
    now = found.entries.get(sid)
    if now is None:
        return "as valid, and the stream table has none"
    if now.ste == ste:
        return None
    changed = [name for name, content in ste.fields().items() if content != now.ste.fields()[name]] or ["undeclared bits"]
    return f"with other contents than at {now.where:#x}: {', '.join(changed)}"


def _other_context(found: Inventory, sid: int, ssid: int | None, context: Context) -> str | None:
    """Whether a cached context is what its entry and descriptor make; the descriptor of both stages is taken as cached."""
    if (why := _other_entry(found, sid, context.ste)) is not None:
        return why
    ste, features, cd = context.ste, found.features, context.cd
    if not lets_through(ste, found.smmu):
        return "as one that lets through, and its entry does not"
    if ste.Config == StreamConfig.STAGE1 and cd is not None:
        wanted = {descriptor.index: descriptor.cd for descriptor in found.descriptors(ste)[1]}
        if wanted.get(ssid or 0) != cd:
            return f"with another context descriptor than that of substream {ssid or 0} in memory"
    stream_world = world(ste, features, bool(found.cr2.E2H))
    if cd is not None and cd_illegal(cd, ste, features, stream_world) is not None:
        return "with a context descriptor that is ILLEGAL"
    if cd is None and stage1_on(ste) and not (ssid is None and found.skips_stage1(ste)):
        return "without the stage 1 that its entry asks for"
    made = context_of(ste, cd, stream_world, features, skip_stage1=cd is None)
    return None if made == context else "with other stages than its entry and context descriptor make"


def _descriptors(found: Inventory, sid: int, cached: dict[int, CD], level1: dict[int, L1CD]) -> Iterator[Stale]:
    """Cached context descriptors of a stream; those behind stage 2 are its guest's."""
    entry = found.entries.get(sid)
    if entry is None or not stage1_on(entry.ste):
        yield Stale(sid, None, f"context descriptors of StreamID {sid:#x} are cached, and its entry has no stage 1")
        return
    if stage2_on(entry.ste):
        return
    first_level = found.first_descriptors(entry.ste)
    for first, l1cd in level1.items():
        where = first_level[0] + _WORD_BYTES * (first >> first_level[1]) if first_level is not None else None
        if where is None or found.memory.read(where) != l1cd.value:
            text = f"the level 1 context descriptor from {first} on of StreamID {sid:#x} is cached as {l1cd.value:#x}"
            yield Stale(sid, None, f"{text}, and {f'at {where:#x} it is not' if where is not None else 'its table has one level'}")
    now = {descriptor.index: descriptor for descriptor in found.descriptors(entry.ste)[1]}
    for index, cd in cached.items():
        if cd.V and (index not in now or now[index].cd != cd):
            there = f"the one at {now[index].where:#x}" if index in now else "memory, which has none"
            yield Stale(sid, None, f"context descriptor {index} of StreamID {sid:#x} is cached with other contents than {there}")


# -- translations -----------------------------------------------------------------------------------------------------


class _Tables:
    """The tables that streams use now, by what tags their entries in the TLB."""

    def __init__(self, found: Inventory, expected: Iterable[STE]) -> None:
        self.stage1: dict[Space, list[Stage1]] = defaultdict(list)
        self.stage2: dict[int, list[Stage2]] = defaultdict(list)
        for ste in dict.fromkeys((*(entry.ste for entry in found.live()), *expected)):
            if ste_illegal(ste, found.features) is not None:
                continue
            if stage2_on(ste):
                self.stage2[ste.S2VMID].append(stage2_of(ste, found.features))
            stream_world = world(ste, found.features, bool(found.cr2.E2H))
            for descriptor in found.descriptors(ste)[1]:
                if cd_illegal(descriptor.cd, ste, found.features, stream_world) is None:
                    stage1 = stage1_of(descriptor.cd, ste, stream_world, found.features)
                    self.stage1[stage1.space].append(stage1)
                    if stage1.global_space != stage1.space:
                        self.stage1[stage1.global_space].append(stage1)


def _translations(found: Inventory, now: _Tables) -> Iterator[Stale]:
    tlb = found.smmu.tlb
    if tlb is None:
        return
    for space, entry in tlb:
        if (why := _other_translation(found, now, space, entry)) is not None:
            yield Stale(None, space[1], f"the TLB takes {entry.start:#x} of {_named(space)} to {entry.output:#x}, {why}")
    for space, shift, prefix, base in tlb.remembered():
        if (why := _other_table(found, now, space, shift, prefix, base)) is not None:
            yield Stale(None, space[1], f"the TLB remembers a table at {base:#x} for {prefix << shift:#x} of {_named(space)}, {why}")


def _named(space: Space) -> str:
    kind, vmid, asid = space
    return f"VMID {vmid}" if kind == "IPA" else f"VMID {vmid}, {'global' if asid < 0 else f'ASID {asid}'}"


def _other_translation(found: Inventory, now: _Tables, space: Space, entry: Entry) -> str | None:
    kind, vmid, _ = space
    behind = now.stage2.get(vmid, []) if kind in ("IPA", "EL1") else []
    for stage2 in behind:
        start = entry.start if kind == "IPA" else entry.ipa
        step = _find(found, stage2.regime, start)
        if step is None:
            return f"and stage 2 at {stage2.regime.base:#x} does not map {start:#x}"
        allowed, _ = permissions.stage2(step.word & permissions.STAGE2_BITS, stage2.xnx, stage2.hd)
        if (why := _differs(step, start, entry, entry.allowed2 & ~allowed, run=not stage2.ha)) is not None:
            return why
    if behind:
        return None
    contexts = now.stage1.get(space, [])
    for stage1 in contexts if kind != "IPA" else []:
        half = select(stage1, entry.start)
        step = _find(found, half[0].regime, half[1]) if half is not None and half[0].regime is not None else None
        if step is None:
            return "and the tables do not map it"
        if space == stage1.global_space != stage1.space and Stage1Leaf.nG.get(step.word):
            return "for every ASID, and its leaf is one ASID's alone"
        tables = 0 if half is None or half[0].had else step.above
        allowed, _ = permissions.stage1(
            step.word & permissions.STAGE1_BITS, tables & permissions.HIERARCHICAL_BITS, stage1.el2, stage1.wxn, stage1.pan, stage1.epan, stage1.hd
        )
        if (why := _differs(step, entry.start, entry, entry.allowed1 & ~allowed, run=not stage1.ha)) is not None:
            return why
    return None if contexts and kind != "IPA" else "and no entry has tables of that tag"


@dataclass(frozen=True, slots=True)
class _Leaf:
    """Where a descent ended: the leaf, its level, the output of the address, and the attributes of the tables above."""

    word: int
    level: Level
    output: int
    above: int


def _differs(leaf: _Leaf, start: int, entry: Entry, more: int, *, run: bool) -> str | None:
    span = span_of(leaf.word, leaf.level, run=run)
    if leaf.output != entry.output:
        return f"and its tables to {leaf.output:#x}"
    if entry.span > span:
        return f"as 2^{entry.span} bytes, of which its leaf has 2^{span}"
    if more:
        return f"and allows {permissions.describe(more)} that its leaf does not"
    return None if not start & (1 << min(entry.span, leaf.level.shift)) - 1 else "from the middle of its leaf on"


def _other_table(found: Inventory, now: _Tables, space: Space, shift: int, prefix: int, base: int) -> str | None:
    kind, vmid, _ = space
    behind = now.stage2.get(vmid, [])
    regimes = [stage2.regime for stage2 in behind]
    if kind != "IPA":
        if behind:
            return None  # tables of a guest's, by guest physical addresses, which stage 2 translates at each use
        halves = [half for stage1 in now.stage1.get(space, []) if (half := select(stage1, prefix << shift)) is not None]
        regimes = [half.regime for half, _ in halves if half.regime is not None]
    for regime in regimes:
        table = next((table for level, table in _descend(found, regime, prefix << shift) if level == shift), None)
        if table != base:
            return "and no table is there now" if table is None else f"and it is at {table:#x} now"
    return None if regimes else "and no entry has tables of that tag"


# -- tables, as a walk reads them -------------------------------------------------------------------------------------


def _steps(found: Inventory, regime: Regime, address: int) -> Iterator[tuple[Level, int, int, int]]:
    """Each level of a walk that finds something: the level, what kind of descriptor, its word, and where it leads."""
    base = regime.base
    for level in regime.levels:
        word = found.memory.read(base + ((address >> level.shift & level.mask) << 3)) or 0
        word = swapped(word) if regime.swap else word
        kind = level.kinds[TableDescriptor.Type.get(word)]
        if kind not in (LEAF, TABLE):
            return
        base = word & (level.leaf_mask if kind == LEAF else regime.table_mask)
        if regime.wide:
            base |= TableDescriptor.Wide.get(word) << 48
        if base >> regime.output_bits:
            return
        yield level, kind, word, base
        if kind == LEAF:
            return


def _find(found: Inventory, regime: Regime, address: int) -> _Leaf | None:
    above = 0
    for level, kind, word, base in _steps(found, regime, address):
        if kind == LEAF:
            return _Leaf(word, level, base + (address & (1 << level.shift) - 1), above)
        above |= word
    return None


def _descend(found: Inventory, regime: Regime, address: int) -> Iterator[tuple[int, int]]:
    """The tables that a walk passes: log2 of what the descriptor covers, and where it leads."""
    return ((level.shift, base) for level, kind, _, base in _steps(found, regime, address) if kind == TABLE)
