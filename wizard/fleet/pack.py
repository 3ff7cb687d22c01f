"""How VMs are packed into pools of interchangeable functions: as many as there can be, exactly, in numbers.

    most(problem, limit)     how many VMs
    pack(problem, vms)       which pools each of them takes from, as runs of VMs that take alike

Whether ``n`` VMs fit is a flow: wish -> pools that serve it -> places -> out, where ``n`` VMs need ``n`` times what one needs. Where
the functions of a VM have to be apart, no place gives more than ``n``. That is enough: wishes and places then are a bipartite
multigraph in which no vertex has more than ``n`` edges, and such a graph is the union of ``n`` matchings (König's edge colouring), one
for each VM. Where they have to be together each place is packed by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

Take = dict[int, int]
"""Pool -> how many of its functions; for one wish of one VM."""

Packed = list[tuple[tuple[Take, ...], int]]
"""(one VM's take by wish, how many VMs take like that)"""


@dataclass(frozen=True)
class Problem:
    """``near``: pool -> where a VM is whole if it can (None: nowhere). ``together``: where it has to be whole; ``apart``: one function each."""

    capacities: tuple[int, ...]
    serves: tuple[tuple[int, ...], ...]  # wish -> pools, the best first
    counts: tuple[int, ...]  # wish -> functions of one VM
    near: tuple[Hashable | None, ...]
    together: tuple[Hashable | None, ...] | None = None
    apart: tuple[Hashable, ...] | None = None


def most(problem: Problem, limit: int) -> int:
    """How many VMs there can be, at most ``limit``."""
    if problem.together is None:
        return _most(problem, limit)
    return min(limit, sum(_most(part, limit) for part in _parts(problem, problem.together)))


def pack(problem: Problem, vms: int) -> Packed:
    """That many VMs, not more than ``most``; whole in one ``near`` as many as can be where nothing else is asked."""
    if problem.together is not None:
        return _whole(problem, problem.together, vms)[0]
    if problem.apart is not None:
        return _split(problem, vms)
    low, high = 0, vms
    while low < high:  # how many may be whole, so that the others still fit
        middle = (low + high + 1) // 2
        packed, rest = _whole(problem, problem.near, middle)
        fits = _count(packed) == middle and _flow(rest, vms - middle) is not None
        low, high = (middle, high) if fits else (low, middle - 1)
    packed, rest = _whole(problem, problem.near, low)
    return packed + _split(rest, vms - low)


def _count(packed: Packed) -> int:
    return sum(times for _, times in packed)


def _whole(problem: Problem, domains: Sequence[Hashable | None], vms: int) -> tuple[Packed, Problem]:
    """Up to ``vms`` VMs that are whole in one domain each, in the order of the domains; and what is left."""
    packed: Packed = []
    left = list(problem.capacities)
    for part in _parts(problem, domains):
        number = _most(part, vms - _count(packed))
        for takes, times in _split(part, number):
            packed.append((takes, times))
            for take in takes:
                for pool, count in take.items():
                    left[pool] -= count * times
    return packed, replace(problem, capacities=tuple(left))


def _parts(problem: Problem, domains: Sequence[Hashable | None]) -> list[Problem]:
    """The problem in each domain by itself, in the order in which the host has them."""
    found = dict.fromkeys(domain for domain in domains if domain is not None)
    return [
        replace(
            problem,
            serves=tuple(tuple(pool for pool in pools if domains[pool] == here) for pools in problem.serves),
            together=None,
        )
        for here in found
    ]


def _most(problem: Problem, limit: int) -> int:
    room = (sum(problem.capacities[pool] for pool in pools) // count for pools, count in zip(problem.serves, problem.counts, strict=True))
    low, high = 0, min(limit, min(room, default=0))
    if problem.apart is None and sum(map(len, problem.serves)) == len({pool for pools in problem.serves for pool in pools}):
        return high  # no two wishes share a pool, and nothing else stands in the way
    middle = high
    while low < high:
        low, high = (middle, high) if _flow(problem, middle) is not None else (low, middle - 1)
        middle = (low + high + 1) // 2
    return low


# --- the flow --------------------------------------------------------------------------------------------------------

_Node = tuple[str, int]


class _Flow:
    """What is given so far: of each pool what is left, of each place the room, and what each wish has from where."""

    def __init__(self, problem: Problem, vms: int) -> None:
        self.problem = problem
        self.left = list(problem.capacities)
        apart = problem.apart or (None,) * len(self.left)
        numbers = {place: number for number, place in enumerate(dict.fromkeys(apart))}
        self.place = [numbers[place] for place in apart]
        self.room = [vms if problem.apart else sum(self.left)] * len(numbers)
        self.given: list[Take] = [{} for _ in problem.serves]

    def give(self, wish: int, need: int) -> bool:
        """Serve a wish: from the best pools, and where they are empty by moving what others have."""
        for pool in self.problem.serves[wish]:
            if count := min(need, self.left[pool], self.room[self.place[pool]]):
                self._move([("wish", wish), ("pool", pool), ("place", self.place[pool])], count)
                need -= count
            if not need:
                return True
        while need:
            path = self._path(wish)
            if path is None:
                return False
            count = min(need, *(self._width(*edge) for edge in pairwise(path)), self.room[path[-1][1]])
            self._move(path, count)
            need -= count
        return True

    def _width(self, begin: _Node, end: _Node) -> int:
        """How much more can go along an edge, backward too."""
        kinds = begin[0], end[0]
        if kinds == ("pool", "place"):
            return self.left[begin[1]]
        if kinds == ("place", "pool"):
            return self.problem.capacities[end[1]] - self.left[end[1]]
        if kinds == ("pool", "wish"):
            return self.given[end[1]].get(begin[1], 0)
        return sum(self.problem.capacities)

    def _next(self, node: _Node) -> Iterable[_Node]:
        kind, key = node
        if kind == "wish":
            return (("pool", pool) for pool in self.problem.serves[key])
        if kind == "place":
            return (("pool", pool) for pool, place in enumerate(self.place) if place == key)
        return [("place", self.place[key]), *(("wish", wish) for wish in range(len(self.given)))]

    def _path(self, wish: int) -> list[_Node] | None:
        """The shortest way from a wish to a place with room."""
        start: _Node = ("wish", wish)
        came: dict[_Node, _Node | None] = {start: None}
        waiting = deque([start])
        while waiting:
            node = waiting.popleft()
            if node[0] == "place" and self.room[node[1]]:
                path: list[_Node] = []
                step: _Node | None = node
                while step is not None:
                    path.append(step)
                    step = came[step]
                return path[::-1]
            for following in self._next(node):
                if following not in came and self._width(node, following):
                    came[following] = node
                    waiting.append(following)
        return None

    def _move(self, path: list[_Node], count: int) -> None:
        for (kind, key), (to_kind, to_key) in pairwise(path):
            if (kind, to_kind) == ("wish", "pool"):
                self.given[key][to_key] = self.given[key].get(to_key, 0) + count
            elif (kind, to_kind) == ("pool", "wish"):
                self.given[to_key][key] -= count
            elif (kind, to_kind) == ("pool", "place"):
                self.left[key] -= count
            else:
                self.left[to_key] += count
        self.room[path[-1][1]] -= count


def _flow(problem: Problem, vms: int) -> list[Take] | None:
    """What each wish of ``vms`` VMs together takes; None when they don't fit. Who has least choice is served first."""
    flow = _Flow(problem, vms)
    for wish in sorted(range(len(problem.serves)), key=lambda wish: (len(problem.serves[wish]), wish)):
        if not flow.give(wish, problem.counts[wish] * vms):
            return None
    return [{pool: count for pool, count in sorted(take.items()) if count} for take in flow.given]


# --- from the whole to each VM ----------------------------------------------------------------------------------------


def _split(problem: Problem, vms: int) -> Packed:
    given = _flow(problem, vms)
    if given is None:
        raise ValueError(f"{vms} VMs do not fit")
    if not vms:
        return []
    return _in_turn(given, problem.counts, vms) if problem.apart is None else _matchings(given, problem.counts, vms, problem.apart)


def _in_turn(given: list[Take], counts: Sequence[int], vms: int) -> Packed:
    """One VM after the other takes what comes first."""
    packed: Packed = []
    while vms:
        takes = tuple(_first(pools, count) for pools, count in zip(given, counts, strict=True))
        times = min([vms, *(left[pool] // count for left, take in zip(given, takes, strict=True) for pool, count in take.items())])
        _take(given, takes, times)
        packed.append((takes, times))
        vms -= times
    return packed


def _first(pools: Take, need: int) -> Take:
    take: Take = {}
    for pool, there in pools.items():
        if there and need:
            take[pool] = min(there, need)
            need -= take[pool]
    return take


def _take(given: list[Take], takes: Iterable[Take], times: int) -> None:
    for left, take in zip(given, takes, strict=True):
        for pool, count in take.items():
            left[pool] -= count * times


def _matchings(given: list[Take], counts: Sequence[int], vms: int, apart: Sequence[Hashable]) -> Packed:
    """Each VM one function of each place at most; a place that still has as many as there are VMs left has to give to each of them."""
    packed: Packed = []
    slots = [wish for wish, count in enumerate(counts) for _ in range(count)]
    while vms:
        offers: list[dict[Hashable, int]] = [{} for _ in given]  # wish -> place -> the pool of it that is emptied first
        total: dict[Hashable, int] = {}
        for wish, left in enumerate(given):
            for pool, count in left.items():
                if count:
                    offers[wish].setdefault(apart[pool], pool)
                    total[apart[pool]] = total.get(apart[pool], 0) + count
        seated = _seated(slots, offers, [place for place, count in total.items() if count == vms])
        takes: tuple[Take, ...] = tuple({} for _ in given)
        for slot, place in seated.items():
            takes[slots[slot]][offers[slots[slot]][place]] = 1
        unused = max((count for place, count in total.items() if place not in seated.values()), default=0)
        times = min([vms - unused, *(given[wish][pool] for wish, take in enumerate(takes) for pool in take)])
        _take(given, takes, times)
        packed.append((takes, times))
        vms -= times
    return packed


def _seated(slots: Sequence[int], offers: Sequence[dict[Hashable, int]], tight: Sequence[Hashable]) -> dict[int, Hashable]:
    """Slot -> place, every slot and every tight place. An augmenting path leaves nobody without who was seated before."""
    seated: dict[int, Hashable] = {}
    owner: dict[Hashable, int] = {}

    def fill(place: Hashable, seen: set[int]) -> bool:
        for slot, wish in enumerate(slots):
            if place in offers[wish] and slot not in seen:
                seen.add(slot)
                if slot not in seated or fill(seated[slot], seen):
                    seated[slot], owner[place] = place, slot
                    return True
        return False

    def seat(slot: int, seen: set[Hashable]) -> bool:
        for place in offers[slots[slot]]:
            if place not in seen:
                seen.add(place)
                if place not in owner or seat(owner[place], seen):
                    seated[slot], owner[place] = place, slot
                    return True
        return False

    for place in tight:
        fill(place, set())
    for slot in range(len(slots)):
        if slot not in seated:
            seat(slot, set())
    return seated
