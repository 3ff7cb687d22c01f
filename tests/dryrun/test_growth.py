"""What a dry run looks up instead of searching is what a search finds: with many VMs it would search for ever longer."""

from __future__ import annotations

import itertools
from random import Random

from tests.dryrun.plans import NVME, SECOND_VF, VF, plan, two_vms, vm
from tests.tools.hosts import host
from wizard.dryrun import lay_out
from wizard.dryrun.grants import Interval, merged
from wizard.dryrun.rests import Fact, Guess, Guesses
from wizard.dryrun.world import World
from wizard.smmu.memory import PAGE_SHIFT


def test_guesses_of_some_things_are_those_that_a_look_at_all_finds() -> None:
    rng, things = Random(2), ["", "a", "b", "c", "d"]
    for _ in range(200):
        guesses = [Guess(rng.choice(list(Fact)), f"text {rng.randrange(6)}", rng.choice(things)) for _ in range(rng.randrange(12))]
        facts, of = frozenset(rng.sample(list(Fact), 4)), tuple(rng.sample(things, rng.randrange(4)))
        wanted = dict.fromkeys(guess.text for guess in guesses if guess.fact in facts and guess.of in {"", *of})
        assert Guesses(guesses).told(facts, of) == tuple(wanted)
        fact, name = rng.choice(list(Fact)), rng.choice(things)
        assert Guesses(guesses).about(fact, name) == any(guess.fact is fact and guess.of == name for guess in guesses)


def test_functions_of_a_vm_are_all_of_them_in_order() -> None:
    layout = lay_out(plan(vm("web", VF, SECOND_VF), vm("db", NVME)), host())
    for name in ("web", "db", "nobody"):
        assert layout.functions_of(name) == tuple(function for function in layout.functions if function.vm == name)


def test_a_reset_leaves_the_pages_that_were_there_and_no_other() -> None:
    """Also when one of those had gone and came again, behind the ones that a guest made."""
    world = World(lay_out(two_vms(), host()))
    pages = world.memory.pages
    before, name = set(pages), next(iter(world.vms))
    for gone in (False, True):
        for number in range(1 << 20, (1 << 20) + 5):
            world.memory.write(number << PAGE_SHIFT, 1)
        if gone:
            again = next(iter(pages))
            page = pages.pop(again)
            world.memory.write((1 << 21) << PAGE_SHIFT, 1)
            pages[again] = page
        world.reset(name, replug=gone)
        assert set(pages) == before


def test_intervals_joined_have_the_same_bytes() -> None:
    rng = Random(5)
    for _ in range(300):
        some = [Interval(start, start + rng.randrange(1, 9)) for start in (rng.randrange(60) for _ in range(rng.randrange(12)))]
        joined = merged(some)
        assert {n for one in joined for n in range(one.start, one.end)} == {n for one in some for n in range(one.start, one.end)}
        assert all(one.end < other.start for one, other in itertools.pairwise(joined))
