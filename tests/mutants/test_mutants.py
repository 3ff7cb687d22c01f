"""The mutants themselves: each kind of fault is made, nothing that is not run is touched, and the list of equivalent ones is up to date."""

from __future__ import annotations

import ast

import pytest

from tests.mutants.engine import EQUIVALENT, ROOMS, chosen, equivalents
from tests.mutants.mutate import mutants
from tests.tools.cache import PROJECT


@pytest.mark.parametrize(
    ("source", "made"),
    [
        ("if a < b:\n    c()\n", {"if (a <= b):\n    c()\n", "if (not (a < b)):\n    c()\n", "if a < b:\n    pass\n"}),
        ("x = a and not b\n", {"x = (a or (not b))\n", "x = a and (b)\n"}),
        ("x = a + 1\n", {"x = (a - 1)\n", "x = a + (2)\n"}),
        ("x = [y for y in z if y]\n", {"x = [y for y in z if True]\n"}),
        ("x = a if b else c\n", {"x = (c if b else a)\n"}),
        ("x = 'ü' + b\n", {"x = ('ü' - b)\n", "x = ('üX') + b\n"}),
        ("while a:\n    a -= b\n    continue\n", {"while a:\n    pass\n    continue\n", "while a:\n    a -= b\n    pass\n"}),
    ],
)
def test_each_fault_is_made_at_its_place(source: str, made: set[str]) -> None:
    assert {ast.dump(ast.parse(one.in_place_of(source))) for one in mutants(source)} == {ast.dump(ast.parse(text)) for text in made}


@pytest.mark.parametrize("source", ['"""a < b"""\n', "def f(a: 'x') -> 'y': ...\n", "x = f'{a}'\n", "__all__ = ['a']\n", "import a\n"])
def test_what_is_not_run_is_left_alone(source: str) -> None:
    assert not list(mutants(source))


def test_the_same_seed_is_the_same_choice() -> None:
    assert chosen(["export"], 5, 1) == chosen(["export"], 5, 1) != chosen(["export"], 5, 2)


def test_every_room_has_its_tests() -> None:
    for room in ROOMS.values():
        assert (PROJECT / room.sources).is_dir()
        assert all((PROJECT / test).exists() for test in room.tests)
        assert all((PROJECT / room.sources / name).exists() for name in room.also)


def test_the_equivalent_ones_are_mutants_of_this_tree() -> None:
    """A line that has changed has to be looked at again."""
    made = {name: {(one.before, one.after) for one in mutants((PROJECT / name).read_text(encoding="utf-8"))} for name, _, _ in equivalents()}
    for name, before, after in equivalents():
        assert (before, after) in made[name], f"{EQUIVALENT.name}: {name}: {before}"
