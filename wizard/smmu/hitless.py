"""Updates while traffic runs: a sequence of stores, commands and syncs, with every transaction possible between any two of them.

What hardware may do is all of it: a fetch of a structure takes its 64-bit words at different moments (IHI 0070 3.21.1: 64 bits are single-copy
atomic, more are not), and a cache may have been filled at any moment and holds what it got until an invalidation is complete. So between two
CMD_SYNCs each word that was stored is seen old or new, in any combination, and every combination is met with caches that are empty, and with
caches that another transaction filled at this moment or an earlier one.

The update is hitless when every transaction is answered as before it or as after it; else the first state is told in which DMA breaks, or reaches
what neither entry allows. ``linux_order`` is what Linux would do from an old entry to a new one: arm_smmu_write_entry(), Linux 7.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import product
from typing import Literal

from msgspec import UNSET

from wizard.arch.bits import Field
from wizard.arch.cd import CD
from wizard.arch.command import Op
from wizard.arch.command import build as command_of
from wizard.arch.ste import STE, StreamConfig
from wizard.smmu.caseformat import Answer, Case, Dma, Number, Step, Update
from wizard.smmu.cases import Bench, CaseError, build, number, transact

LARGEST_STATES = 200_000
"""States of one update that are played; a sequence without a single CMD_SYNC has many."""
LARGEST_WORDS = 12
"""Words that may be pending at a time: 4096 combinations."""

Words = tuple[int, ...]
Kind = Literal["ste", "cd"]
Order = Literal["linux", "up", "down"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a fetch may have found: the words stored since the last CMD_SYNC (``stored`` steps of the sequence are done), as it saw them."""

    stored: int
    words: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """A state in which a transaction is answered as neither entry says.

    ``filled`` is what the caches were filled from, by the transaction of number ``by``; None: they were empty, and ``answer`` has its trace.
    """

    seen: Seen
    dma: int
    answer: Answer
    filled: Seen | None = None
    by: int | None = None


@dataclass(slots=True)
class Played:
    """``states`` were tried; ``broken`` of them are not hitless, ``first`` is the first one. ``old`` and ``new`` are the answers by transaction."""

    states: int = 0
    broken: int = 0
    first: Broken | None = None
    old: list[Answer] = field(default_factory=list)
    new: list[Answer] = field(default_factory=list)

    @property
    def hitless(self) -> bool:
        """Whether every transaction is answered as before or as after, in every state."""
        return self.first is None


@dataclass(frozen=True, slots=True)
class _Point:
    """After ``stored`` steps: the memory that is settled, the words that may be seen either way, and the commands since the point before."""

    stored: int
    settled: tuple[tuple[int, int], ...]
    pending: tuple[tuple[int, tuple[int, ...]], ...]
    commands: tuple[tuple[tuple[int, int], ...], ...]


def play(case: Case) -> Played:
    """Play a case: its ``mem`` and ``cmd`` steps are the sequence, its ``dma`` steps the transactions, wherever they stand. ``CaseError``.

    With ``update`` the sequence is the one that writes its entry, and the steps are ``dma`` alone.
    """
    dmas, steps = _parts(case)
    if case.update is not UNSET:
        if steps:
            raise CaseError("update: its steps are dma alone; the stores and commands are worked out")
        steps = _written(case, case.update)
    if not dmas:
        raise CaseError("steps: no dma, so that nothing can be hit")
    played = Played()
    points = list(_points(case, steps, immediate=True))
    delayed = list(_points(case, steps, immediate=False))
    last = dict(points[-1].settled) | {where: seen[-1] for where, seen in points[-1].pending}
    played.old, played.new = ([_fresh(case, words, dma) for dma in dmas] for words in ({}, last))
    _empty_caches(case, dmas, points, played)
    for way in [points] if points == delayed else [points, delayed]:
        _filled_caches(case, dmas, way, played)
    return played


def _written(case: Case, update: Update) -> list[Step]:
    """The steps of an update in its order, each group with its CFGI and CMD_SYNC."""
    at, sid, ssid = number(update.at, "update.at"), number(update.sid, "update.sid", 32), number(update.ssid, "update.ssid", 20)
    if at & 63:
        raise CaseError("update.at: an entry lies at a multiple of 64")
    memory = build(case).smmu.memory
    old = tuple(memory.read(at + 8 * index) or 0 for index in range(8))
    new = tuple(number(word, f"update.new[{index}]") for index, word in enumerate(update.new))
    if update.kind == "ste":
        forget = command_of(Op.CFGI_STE, StreamID=sid, Leaf=1)
    else:
        forget = command_of(Op.CFGI_CD, StreamID=sid, SubstreamID=ssid, Leaf=1)
    invalidation: list[tuple[Number, Number]] = [(forget.words[0], forget.words[1]), (int(Op.SYNC), 0)]
    steps: list[Step] = []
    for group in order(update.kind, old, new, update.order):
        steps += [Step(mem={f"{at + 8 * index:#x}": [word]}) for index, word in group.items()]
        steps.append(Step(cmd=invalidation))
    return steps


def _parts(case: Case) -> tuple[list[Dma], list[Step]]:
    if case.steps is UNSET:
        raise CaseError("an update has steps: mem, cmd and dma")
    dmas: list[Dma] = []
    steps: list[Step] = []
    for index, step in enumerate(case.steps):
        if step.dma is not UNSET:
            if step.dma not in dmas:
                dmas.append(step.dma)
        elif step.mem is not UNSET or step.cmd is not UNSET:
            steps.append(step)
        else:
            raise CaseError(f"steps[{index}]: an update has mem, cmd and dma steps alone")
    return dmas, steps


def _points(case: Case, steps: Sequence[Step], *, immediate: bool) -> Iterator[_Point]:
    """The points between the steps. Commands take effect at once, or not before their CMD_SYNC: both may happen."""
    settled: dict[int, int] = {}
    memory = build(case).smmu.memory
    pending: dict[int, list[int]] = {}
    waiting: list[tuple[tuple[int, int], ...]] = []
    yield _Point(0, (), (), ())
    for index, step in enumerate(steps):
        done: tuple[tuple[tuple[int, int], ...], ...] = ()
        if step.mem is not UNSET:
            for key, words in step.mem.items():
                start = number(key, f"steps[{index}].mem")
                for at, word in enumerate(words):
                    where = start + 8 * at
                    before = settled[where] if where in settled else memory.read(where) or 0
                    pending.setdefault(where, [before]).append(number(word, f"steps[{index}].mem"))
        elif step.cmd is not UNSET:
            batch = tuple((number(first, "cmd"), number(second, "cmd")) for first, second in step.cmd)
            waiting.append(batch)
            synced = any(first & 0xFF == Op.SYNC for first, _ in batch)
            if synced:
                settled |= {where: seen[-1] for where, seen in pending.items()}
                pending.clear()
            if synced or immediate:
                done = tuple(waiting)
                waiting.clear()
        if len(pending) > LARGEST_WORDS:
            raise CaseError(f"more than {LARGEST_WORDS} words are stored without a CMD_SYNC")
        yield _Point(index + 1, tuple(settled.items()), tuple((where, tuple(dict.fromkeys(seen))) for where, seen in pending.items()), done)


def _views(point: _Point) -> Iterator[tuple[Seen, tuple[int, ...]]]:
    """Every combination of what may be seen at a point, and how far each pending word is."""
    places = [where for where, _ in point.pending]
    for far in product(*(range(len(seen)) for _, seen in point.pending)):
        words = tuple((where, seen[at]) for where, (_, seen), at in zip(places, point.pending, far, strict=True))
        yield Seen(point.stored, words), far


def _fresh(case: Case, words: dict[int, int], dma: Dma, *, trace: bool = False) -> Answer:
    bench = build(case, trace=trace)
    for where, word in words.items():
        bench.smmu.memory.write(where, word)
    return transact(bench, dma, "dma")


def _empty_caches(case: Case, dmas: list[Dma], points: list[_Point], played: Played) -> None:
    known: set[tuple[tuple[int, int], ...]] = set()
    for point in points:
        for seen, _ in _views(point):
            words = tuple(sorted((dict(point.settled) | dict(seen.words)).items()))
            if words in known:
                continue
            known.add(words)
            for index, dma in enumerate(dmas):
                _count(played)
                answer = _fresh(case, dict(words), dma)
                if answer not in (played.old[index], played.new[index]):
                    played.broken += 1
                    played.first = played.first or Broken(seen, index, _fresh(case, dict(words), dma, trace=True))


def _filled_caches(case: Case, dmas: list[Dma], points: list[_Point], played: Played) -> None:
    if not case.caches:
        return
    for start, point in enumerate(points):
        for filled, far in _views(point):
            for by, filler in enumerate(dmas):
                bench = build(case)
                _store(bench, point, filled)
                transact(bench, filler, "dma")
                _follow(bench, dmas, points[start:], (filled, far, by), played)


def _follow(bench: Bench, dmas: list[Dma], points: list[_Point], fill: tuple[Seen, tuple[int, ...], int], played: Played) -> None:
    """From a fill on: every later state until nothing is cached any more."""
    filled, far, by = fill
    smmu = bench.smmu
    for at, point in enumerate(points):
        if at:
            for batch in point.commands:
                smmu.submit(batch)
        if not _holds(bench):
            return
        kept = deepcopy((smmu.configuration_cache, smmu.tlb, smmu.endpoints.held))
        for seen, now in _views(point):
            # A word that was seen new stays so, as long as it is pending.
            if at == 0 and any(a < b for a, b in zip(now, far, strict=True)):
                continue
            _store(bench, point, seen)
            for index, dma in enumerate(dmas):
                _count(played)
                answer = transact(bench, dma, "dma")
                smmu.events()
                if answer not in (played.old[index], played.new[index]):
                    played.broken += 1
                    played.first = played.first or Broken(seen, index, answer, filled, by)
                _restore(bench, deepcopy(kept))


def _restore(bench: Bench, kept: tuple[object, object, object]) -> None:
    """The caches as they were before a transaction filled more of them."""
    smmu = bench.smmu
    configuration, tlb, held = kept
    if smmu.configuration_cache is not None:
        for name in type(smmu.configuration_cache).__slots__:
            setattr(smmu.configuration_cache, name, getattr(configuration, name))
    if smmu.tlb is not None:
        for name in type(smmu.tlb).__slots__:
            setattr(smmu.tlb, name, getattr(tlb, name))
    smmu.endpoints.held = held  # type: ignore[assignment]


def _holds(bench: Bench) -> bool:
    configuration, tlb = bench.smmu.configuration_cache, bench.smmu.tlb
    cached = configuration is not None and any(getattr(configuration, name) for name in type(configuration).__slots__)
    walked = tlb is not None and (
        any(tables.held for tables in tlb.tables.values()) or any(any(held.by_span.values()) for held in tlb.entries.values())
    )
    return cached or walked or any(bench.smmu.endpoints.held.values())


def _store(bench: Bench, point: _Point, seen: Seen) -> None:
    for where, word in (*point.settled, *seen.words):
        bench.smmu.memory.write(where, word)


def _count(played: Played) -> None:
    played.states += 1
    if played.states > LARGEST_STATES:
        raise CaseError(f"more than {LARGEST_STATES} states: store fewer words between two CMD_SYNCs, or try fewer transactions")


# -- orders -----------------------------------------------------------------------------------------------------------


def order(kind: Kind, old: Words, new: Words, way: Order) -> list[dict[int, int]]:
    """Stores (index of the 64-bit word: value) in order, a CMD_SYNC after each group.

    ``up`` and ``down`` store every word that differs, from the first or from the last on, and sync once.
    """
    if way == "linux":
        return linux_order(kind, old, new)
    changed = [index for index in range(len(new)) if old[index] != new[index]]
    group = {index: new[index] for index in (changed if way == "up" else reversed(changed))}
    return [group] if group else []


def linux_order(kind: Kind, old: Words, new: Words) -> list[dict[int, int]]:
    """How Linux 7.2 writes an entry over a live one: arm_smmu_write_entry(), arm_smmu_entry_qword_diff().

    Where one word alone differs in what hardware uses: first all that is not used yet, then that word, then what is not used any more. Where more
    do: V 0, the other words, then word 0. Groups end in a CFGI and a CMD_SYNC; those that change nothing are left out.
    """
    entry, groups = list(old), []

    def put(wanted: Sequence[int], indexes: Sequence[int]) -> None:
        stores = {index: wanted[index] for index in indexes if entry[index] != wanted[index]}
        for index, word in stores.items():
            entry[index] = word
        if stores:
            groups.append(stores)

    target_used, used = _used(kind, new), _used(kind, old)
    first = [(word & mask) | (wanted & ~mask) for word, mask, wanted in zip(old, used, new, strict=True)]
    differing = [index for index in range(8) if (first[index] & target_used[index]) != new[index]]
    if len(differing) == 1:
        critical = differing[0]
        first[critical] = entry[critical]
        put(first, range(8))
        put(new, [critical])
        put(new, range(8))
    elif differing:
        put([0, *first[1:]], [0])
        put(new, range(1, 8))
        put(new, [0])
    else:
        put(new, range(8))
    return groups


def _bits(*fields: Field) -> int:
    return sum(one.mask << one.lo for one in fields)


_ALWAYS = _bits(STE.V, STE.Config)
_STAGE1 = _bits(
    STE.S1Fmt, STE.S1ContextPtr, STE.S1CDMax, STE.S1DSS, STE.S1CIR, STE.S1COR, STE.S1CSH, STE.S1STALLD, STE.STRW, STE.EATS, STE.MEV, STE.S2VMID
)
_STAGE2 = _bits(
    STE.S2FWB, STE.EATS, STE.SHCFG, STE.MEV, STE.S2VMID, STE.S2T0SZ, STE.S2SL0, STE.S2IR0, STE.S2OR0, STE.S2SH0, STE.S2TG, STE.S2PS, STE.S2AA64,
    STE.S2ENDI, STE.S2PTW, STE.S2S, STE.S2R, STE.S2TTB,
)  # fmt: skip
_EPD0_LEAVES_OUT = _bits(CD.T0SZ, CD.TG0, CD.IR0, CD.OR0, CD.SH0, CD.TTB0)


def _used(kind: Kind, words: Words) -> list[int]:
    """The bits that hardware looks at: arm_smmu_get_ste_used(), arm_smmu_get_cd_used()."""
    if kind == "ste":
        ste = STE.of_words(words)
        mask = _bits(STE.V)
        if ste.V:
            mask = _ALWAYS
            mask |= _STAGE1 if ste.Config & 1 else 0
            mask |= _STAGE2 if ste.Config & 2 else 0
            if ste.Config == StreamConfig.BYPASS or (ste.Config & 1 and ste.S1DSS == 1):
                mask |= _bits(STE.SHCFG)
    else:
        cd = CD.of_words(words)
        mask = (1 << 512) - 1 if cd.V else _bits(CD.V)
        if cd.V and cd.EPD0:
            mask &= ~_EPD0_LEAVES_OUT
    return [mask >> 64 * index & (1 << 64) - 1 for index in range(8)]
