"""Thousands of functions in one IOMMU group: the same answers for each, and nobody looks through all of the group for each of them."""

from __future__ import annotations

from msgspec.structs import replace

from tests.tools.crowd import Counted, crowd
from wizard.host.build import host_of


def looks(count: int) -> int:
    """How many members of the group are looked at until every function has its verdict and what is to be done."""
    host = host_of(crowd(count))
    group = host.groups[3]
    host.groups[3] = replace(group, devices=Counted(group.devices))  # type: ignore[index]
    Counted.looks = 0
    for address in host.functions:
        verdict = host.verdict(address)
        assert "group-shared" in {reason.code for reason in verdict.reasons}
        assert ("group-not-viable" in {one.code for one in verdict.todo}) is (count > 1)
    return Counted.looks


def test_a_group_of_thousands_is_not_looked_through_for_each_of_them() -> None:
    assert 0 < looks(800) < 2.2 * looks(400)


def sentences(count: int, place: int) -> list[str]:
    host = host_of(crowd(count))
    verdict = host.verdict(list(host.functions)[place])
    codes = ("group-shared", "group-not-viable")
    return [one.what for one in (*verdict.reasons, *verdict.todo) if one.code in codes]


def test_few_are_all_named_and_of_many_the_first() -> None:
    names = [one.address for one in crowd(40).functions]
    at = names[2]
    for count in (3, 17):
        others = [name for name in names[:count] if name != at]
        blocking = ", ".join(f"{name} is on nvme" for name in others if name != names[0])
        told = [f"{at} shares IOMMU group 3 with {', '.join(others)}.", f"Group 3 of {at} is not viable: {blocking}."]
        assert sentences(count, 2) == told
    first = [name for name in names[:17] if name != at]
    blocking = ", ".join(f"{name} is on nvme" for name in names[1:18] if name != at)
    assert sentences(40, 2) == [
        f"{at} shares IOMMU group 3 with {', '.join(first)} and 23 more.",
        f"Group 3 of {at} is not viable: {blocking} and 22 more.",
    ]
    # The one that is given away is in nobody's way, and everybody else is in its own.
    assert sentences(3, 0)[-1] == f"Group 3 of {names[0]} is not viable: {names[1]} is on nvme, {names[2]} is on nvme."
