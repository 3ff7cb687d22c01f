"""A transaction by the words that an earlier one read ends as one that takes the steps: random worlds both ways, in the form of ``trails`` that runs.

``test_compiled.py`` runs this file once more with the compiled form.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from random import Random
from typing import Any

import pytest

from tests.smmu.second.words import Access
from tests.smmu.second.worlds import World as Random_World
from tests.smmu.second.worlds import world as random_world
from tests.smmu.world import PA, SID, VA, World, world
from wizard.arch.command import Op
from wizard.smmu import Ats, Attributes, How, Ids, Memory, Outcome, Smmu, Transaction, build_command, learn
from wizard.smmu.memory import PAGE_SHIFT, Pages
from wizard.smmu.tables import context_descriptor, stage1_entry

WORLDS = 300


class Pair:
    """Two SMMUs that are alike, each with its memory: one follows trails, the other takes the steps."""

    def __init__(self, made: Random_World, *, cached: bool) -> None:
        self.smmus = []
        for _ in range(2):
            memory, given = Memory(), made.registers
            for address, word in made.words.items():
                memory.write(address, word)
            ids = Ids(**{one.name: getattr(given, one.name) for one in fields(Ids)})
            smmu = Smmu(ids, memory, tlb=False, configuration_cache=cached, gbpa=given.gbpa)
            for name in ("strtab_base", "strtab_base_cfg", "cr2", "cr0"):
                smmu.write(name.upper(), getattr(given, name))
            self.smmus.append(smmu)
        self.smmus[1]._follower = None
        self.followed = 0

    def both(self, asked: Callable[[Smmu], object]) -> Any:
        """Ask both the same; they answer the same."""
        answers = [asked(smmu) for smmu in self.smmus]
        assert answers[0] == answers[1]
        return answers[0]

    def translate(self, one: Transaction) -> Outcome:
        follower = self.smmus[0]._follower
        assert follower is not None
        alone = follower.translate(one)
        self.followed += alone is not None
        outcome: Outcome = self.both(lambda smmu: smmu.translate(one))
        assert alone is None or alone == outcome
        return outcome

    def memories(self) -> list[dict[int, list[int]]]:
        return [{number: page.tolist() for number, page in smmu.memory.pages.items()} for smmu in self.smmus]


def transaction_of(access: Access, rng: Random) -> Transaction:
    """The access, or one near it: of another page, another need."""
    iova = access.iova if rng.random() < 0.6 else access.iova ^ rng.getrandbits(rng.choice((10, 12, 12, 13, 22)))
    change = rng.random() < 0.2
    return Transaction(
        access.sid, iova, access.write ^ (change and rng.random() < 0.5), access.ssid, access.privileged ^ (change and rng.random() < 0.5),
        access.instruction ^ (change and rng.random() < 0.3), Ats(access.ats or "untranslated"),
        Attributes.parse(access.incoming) if access.incoming is not None else None,
    )  # fmt: skip


def disturb(pair: Pair, made: Random_World, rng: Random) -> None:
    """Something that software may do between two transactions."""
    what = rng.randrange(8) if made.words else 5
    if what < 4:
        address = rng.choice(sorted(made.words))
        word = pair.smmus[0].memory.read(address) or 0
        word = rng.choice((0, word ^ 1 << rng.randrange(64), word ^ rng.getrandbits(12), made.words[address], made.words[address]))
        pair.both(lambda smmu: smmu.memory.write(address, word))
    elif what == 4:
        number = rng.choice(sorted(made.words)) >> PAGE_SHIFT
        if rng.random() < 0.3:
            pair.both(lambda smmu: smmu.memory.punch(number << PAGE_SHIFT))
        else:
            words = array("Q", pair.smmus[0].memory.pages.get(number) or bytes(4096))
            words[rng.randrange(512)] ^= 1 << rng.randrange(64)
            pair.both(lambda smmu: smmu.memory.pages.__setitem__(number, words[:]))
    elif what == 5:
        operation = rng.choice((Op.CFGI_STE, Op.CFGI_CD_ALL, Op.CFGI_STE_RANGE))
        extra = {"Range": 31} if operation is Op.CFGI_STE_RANGE else {"StreamID": made.sid}
        pair.both(lambda smmu: smmu.command(*build_command(operation, **extra).words))
    else:
        name, value = rng.choice((("CR2", rng.randrange(8)), ("STRTAB_BASE", made.registers.strtab_base), ("CR0", rng.choice((0, 0xC)))))

        def write(smmu: Smmu) -> None:
            smmu.write("CR0", 0xC)  # registers are guarded by SMMUEN
            smmu.write(name, value)
            smmu.write("CR0", made.registers.cr0)

        pair.both(write)


def test_random_worlds_end_alike_both_ways() -> None:
    rng, kinds, followed = Random(11), Counter[str](), 0
    for index in range(WORLDS):
        made = random_world(rng)
        pair = Pair(made, cached=rng.random() < 0.6)
        passed = [one for one in made.accesses if pair.translate(transaction_of(one, Random(0))).how is How.TRANSLATED]
        for turn in range(30):
            one = transaction_of(rng.choice(passed[:2] if passed and turn < 24 else made.accesses), rng)
            kinds[pair.translate(one).how.name] += 1
            if turn > 8 and rng.random() < 0.25:
                disturb(pair, made, rng)
        pair.both(lambda smmu: (smmu.events(), smmu.resumed, smmu.read("GERROR")))
        first, second = pair.memories()
        assert first == second, index
        followed += pair.followed
    assert followed > 0.3 * kinds["TRANSLATED"] > 500, (followed, kinds)
    assert {"TRANSLATED", "ABORTED", "RAZWI", "STALLED", "BYPASS", "DISABLED", "ATS"} <= kinds.keys()


def warm(w: World, **fields: Any) -> None:
    """Until it goes by a trail."""
    for _ in range(6):
        w.dma(**fields)
    assert w.smmu._follower is not None
    assert w.smmu._follower.translate(Transaction(SID, VA, True)) is not None


@pytest.mark.parametrize("mode", ["1", "nested"])
def test_a_change_of_any_table_on_the_way_is_seen_at_once(mode: str) -> None:
    w = world(mode, tlb=False)
    warm(w)
    expected = w.dma(VA + 0x40)
    assert expected.pa == PA + 0x40
    read: set[int] = set()
    listened = w.smmu.translate(Transaction(SID, VA, True), trace=True)
    assert listened.trace is not None
    for step in listened.trace.steps:
        if step.what == "walk" and step.address is not None:
            place = step.address if mode == "1" or step.text.startswith("stage 2") else w.second.lookup(step.address)  # type: ignore[union-attr]
            assert place is not None
            read.add(place)
    assert len(read) >= {"1": 4, "nested": 8}[mode]
    for place in sorted(read):
        word = w.memory.read(place) or 0
        warm(w)
        w.memory.write(place, word & ~1)
        assert w.dma(VA + 0x40).pa is None, hex(place)
        w.memory.write(place, word)
        assert w.dma(VA + 0x40) == expected


def test_a_page_that_is_another_one_is_seen_at_once() -> None:
    w = world("1", tlb=False)
    assert w.first is not None
    entry = w.first.entry_address(VA) or 0
    for replaced in (w.first.root, entry):
        warm(w)
        number = replaced >> PAGE_SHIFT
        old = w.memory.pages[number]
        w.memory.pages[number] = array("Q", bytes(4096))
        assert w.dma().pa is None
        w.memory.pages.update({number: old})
        assert w.dma().pa == PA
        warm(w)
        del w.memory.pages[number]
        assert w.dma().pa is None
        w.memory.pages |= {number: old}
        assert w.dma().pa == PA


def test_whatever_takes_a_page_away_counts() -> None:
    for change in (
        lambda pages: pages.__setitem__(1, array("Q", [2])), lambda pages: pages.__delitem__(1), lambda pages: pages.pop(1),
        lambda pages: pages.popitem(), lambda pages: pages.clear(), lambda pages: pages.update({1: array("Q", [2])}),
        lambda pages: pages.__ior__({1: array("Q", [2])}),
    ):  # fmt: skip
        pages = Pages()
        pages[1] = array("Q", [1])
        assert pages.setdefault(1, array("Q", [3])) == array("Q", [1])
        before = pages.version
        pages[2] = array("Q", [1])
        del pages[2]
        pages[2] = array("Q", [1])
        assert pages.version > before
        before = pages.version
        change(pages)  # type: ignore[no-untyped-call]
        assert pages.version > before


@pytest.mark.parametrize("cached", [True, False])
def test_a_streams_configuration_counts_from_its_invalidation_on_where_it_is_cached(cached: bool) -> None:
    w = world("1", tlb=False)
    if not cached:
        w.smmu.configuration.cache = None
    warm(w)
    assert w.first is not None
    assert w.contexts is not None
    w.contexts.set(0, context_descriptor(w.first, asid=1, EPD0=1))
    assert w.dma().ok is cached
    assert w.smmu.command(*build_command(Op.CFGI_CD, StreamID=SID, SSec=0).words) == 0
    assert not w.dma().ok
    w.contexts.set(0, context_descriptor(w.first, asid=1))
    assert w.smmu.command(*build_command(Op.CFGI_CD, StreamID=SID).words) == 0
    warm(w)
    w.streams.set(SID, stage1_entry(w.contexts, Config=0))
    assert w.dma().ok is cached
    assert w.smmu.command(*build_command(Op.CFGI_STE, StreamID=SID, Leaf=1).words) == 0
    assert not w.dma().ok
    w.streams.set(SID, stage1_entry(w.contexts))
    assert w.smmu.command(*build_command(Op.CFGI_STE, StreamID=SID, Leaf=1).words) == 0
    warm(w)
    w.smmu.write("CR0", 0xC)
    assert w.dma().how.name == "DISABLED"


def test_what_can_not_be_presented_is_refused_as_ever() -> None:
    w = world("1", tlb=False)
    warm(w)
    for one in (Transaction(SID, 1 << 64), Transaction(SID, -1), Transaction(1 << 16, VA), Transaction(-1, VA), Transaction(1 << 80, VA)):
        with pytest.raises(ValueError, match="does not fit"):
            w.smmu.translate(one)
    with pytest.raises(ValueError, match="does not fit"):
        w.smmu.translate(Transaction(SID, VA, ssid=1 << 20))


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn, "MOST", 16)
    w = world("1", tlb=False)
    assert w.first is not None
    w.first.map(1 << 40, PA, 64 << 21, level=2)
    held = set()
    for block in [*range(64)] * 8:
        for _ in range(3):
            assert w.dma((1 << 40) + (block << 21)).pa == PA + (block << 21)
        held.add(len(w.smmu.configuration.context(SID, None, None).plan.ways[0].trails))
    assert (min(held), max(held)) == (1, 16)


def test_with_a_tlb_or_a_trace_no_trail_is_followed() -> None:
    assert world("1").smmu._follower is None
    w = world("1", tlb=False)
    warm(w)
    told = w.smmu.translate(Transaction(SID, VA, True), trace=True)
    assert told.trace is not None
    assert sum(step.what == "walk" for step in told.trace.steps) == 4
