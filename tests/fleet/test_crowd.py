"""Thousands of functions in one group, by what speaks of several hosts: nobody looks at all of them for each."""

from __future__ import annotations

from msgspec.structs import replace

from tests.tools.crowd import Counted, crowd
from wizard.facts.model import Facts
from wizard.fleet.consumers.common import Offered
from wizard.fleet.diff import pairs, rules
from wizard.fleet.rows import rows_of
from wizard.host.build import host_of


def first_of(facts: Facts, count: int) -> Facts:
    """The host as it was when the group had these alone."""
    functions = facts.functions[:count]
    return replace(facts, functions=functions, groups=(replace(facts.groups[0], devices=tuple(one.address for one in functions)),))


def looks(count: int) -> int:
    """How many members are looked at until it is said of each function that its group grew."""
    whole = crowd(count)
    pairing = pairs.pair(host_of(first_of(whole, count - 1)), host_of(whole))
    for members in (pairing.members_before, pairing.members_after):
        members[3] = Counted(members[3])  # type: ignore[index]
    Counted.looks = 0
    assert len([one for one in rules.groups(pairing) if one.code == "group-changed"]) == count - 1
    return Counted.looks


def test_groups_of_thousands_are_compared_once() -> None:
    assert 0 < looks(600) < 2.2 * looks(300)


def test_company_is_named_whole_or_by_the_first_of_many() -> None:
    whole = crowd(40)
    names = [one.address for one in whole.functions]
    for count, others in ((3, names[1:3]), (40, [*names[1:16], f"{names[16]} and 23 more"])):
        pairing = pairs.pair(host_of(first_of(whole, 1)), host_of(first_of(whole, count)))
        [found] = rules.groups(pairing)
        assert f"in an IOMMU group with {', '.join(others)}" in found.what
        assert "alone in its IOMMU group" in found.what


class Address(str):
    """An address that counts how often it is compared."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Address.compared += 1
        return str.__eq__(self, other)


def test_functions_that_are_left_out_are_looked_up() -> None:
    rows = tuple(rows_of(host_of(crowd(200))))
    Address.compared = 0
    less = Offered(rows, {}).without("for a reason", (Address(row.function) for row in rows[:150]))
    assert less.rows == rows[150:]
    assert Address.compared <= 400
