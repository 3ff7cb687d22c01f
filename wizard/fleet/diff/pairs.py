"""Which function of B is which function of A. Bus and group numbers may change at a reboot, addresses with them.

In this order: the same serial number; the same kind of device in the same slot behind the same bridges; the same kind at the same
address; devices of one kind in the order of their addresses, unless their serial numbers say that they are two. An address comes
late: after a card was put in further up, the address of one card may be that of its twin. What is left over was added or removed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from wizard.fleet.machines import are_two, traits_of
from wizard.host.model import Function, Host, Smmu


@dataclass(frozen=True)
class Pairing:
    """Two hosts and what of them belongs together, by name in A -> name in B."""

    a: Host
    b: Host
    same_host: bool | None
    functions: dict[str, str]
    smmus: dict[str, str]

    @cached_property
    def function_pairs(self) -> tuple[tuple[Function, Function], ...]:
        """Functions that are on both sides, in the order of B."""
        back = {new: old for old, new in self.functions.items()}
        return tuple((self.a.functions[back[name]], function) for name, function in self.b.functions.items() if name in back)

    @cached_property
    def endpoint_pairs(self) -> tuple[tuple[Function, Function], ...]:
        """Those of them that are no bridges."""
        return tuple((old, new) for old, new in self.function_pairs if not (old.is_bridge or new.is_bridge))

    def smmu_pairs(self) -> Iterator[tuple[Smmu, Smmu]]:
        """SMMUs that are on both sides."""
        for old, new in self.smmus.items():
            yield self.a.smmus[old], self.b.smmus[new]

    @cached_property
    def members_before(self) -> Mapping[int, tuple[str, ...]]:
        """The members of A's groups by their names in B, sorted: asked of every function of a group."""
        return {group.id: tuple(sorted(map(self.renamed, group.devices))) for group in self.a.groups.values()}

    @cached_property
    def members_after(self) -> Mapping[int, tuple[str, ...]]:
        """The members of B's groups, sorted."""
        return {group.id: tuple(sorted(group.devices)) for group in self.b.groups.values()}

    def renamed(self, name: str) -> str:
        """The name in B of what A calls ``name``; functions that are gone keep theirs."""
        return self.functions.get(name, name)


def pair(a: Host, b: Host) -> Pairing:
    """Pair the functions, then the SMMUs: by name, and where names differ by the functions below them."""
    functions = _functions(a, b)
    smmus = {name: name for name in a.smmus if name in b.smmus}
    taken = set(smmus.values())
    for old, new in functions.items():
        above, below = a.functions[old].smmu, b.functions[new].smmu
        if above and below and above not in smmus and below not in taken and above in a.smmus and below in b.smmus:
            smmus[above] = below
            taken.add(below)
    return Pairing(a, b, _same_host(a, b), functions, smmus)


def _same_host(a: Host, b: Host) -> bool | None:
    one, other = a.facts.identity.host, b.facts.identity.host
    if one and other:
        return one == other and not are_two(traits_of(a.facts), traits_of(b.facts))
    if (a.facts.identity.vendor, a.facts.identity.product, a.facts.kernel.machine) != (
        b.facts.identity.vendor,
        b.facts.identity.product,
        b.facts.kernel.machine,
    ):
        return False
    return None


def _functions(a: Host, b: Host) -> dict[str, str]:
    paired: dict[str, str] = {}
    left = dict(a.functions)
    right = dict(b.functions)
    keys: tuple[Callable[[Function], Hashable | None], ...] = (
        lambda f: (f.ids, f.facts.serial_number, f.address.function) if f.facts.serial_number else None,
        lambda f: (f.ids, _slots(f)) if f.facts.path else None,
        lambda f: (f.ids, f.facts.address),
        lambda f: f.ids,
    )
    comparable = False  # serial numbers: not those of two hosts, or of a redacted and a plain record
    for key in keys:
        places: dict[Hashable, _One | _Place] = {}
        for name, function in right.items():
            if (found := key(function)) is not None:
                serial = function.facts.serial_number if comparable else None
                there = places.get(found)
                if there is None:
                    places[found] = _One(name, serial)
                else:
                    if isinstance(there, _One):
                        alone, there = there, _Place()
                        alone.into(there)
                        places[found] = there
                    there.put(name, serial)
        for name, function in list(left.items()):
            there = places.get(found) if (found := key(function)) is not None else None
            chosen = there.take(name, function.facts.serial_number if comparable else None) if there is not None else None
            if chosen is not None:
                paired[name] = chosen
                del left[name], right[chosen]
        if key is keys[0]:
            comparable = bool(paired)
    return paired


class _One:
    """One function of B that a key tells apart from all others, as nearly each does."""

    __slots__ = ("_name", "_serial", "_taken")

    def __init__(self, name: str, serial: str | None) -> None:
        self._name, self._serial, self._taken = name, serial, False

    def take(self, name: str, serial: str | None) -> str | None:
        """It, once, where it may be the same function."""
        if self._taken or (serial and self._serial and serial != self._serial):
            return None
        self._taken = True
        return self._name

    def into(self, place: _Place) -> None:
        """Put it where others are too."""
        place.put(self._name, self._serial)


class _Place:
    """Functions of B that a key does not tell apart, in their order; each is taken once.

    Two serial numbers that differ say that it is not the same function: so they stand by their number, those without one under the empty one,
    and nobody looks through the others. (The first of a dict is found past all that were removed before it; of an OrderedDict at once.)
    """

    def __init__(self) -> None:
        self._order: OrderedDict[str, int] = OrderedDict()
        self._by_serial: dict[str, OrderedDict[str, int]] = {}
        self._serials: dict[str, str] = {}

    def put(self, name: str, serial: str | None) -> None:
        """Another one, behind those that are there."""
        self._serials[name] = serial or ""
        place = self._order[name] = len(self._serials)
        self._by_serial.setdefault(serial or "", OrderedDict())[name] = place

    def take(self, name: str, serial: str | None) -> str | None:
        """The one of this name, else the first, that may be the same function; None where there is none."""
        mine = [some for known in ("", serial) if (some := self._by_serial.get(known))] if serial else [self._order]
        if any(name in some for some in mine):
            chosen = name
        else:
            firsts = [(some[first], first) for some in mine if (first := next(iter(some), None)) is not None]
            if not firsts:
                return None
            chosen = min(firsts)[1]
        del self._order[chosen], self._by_serial[self._serials[chosen]][chosen]
        return chosen


def _slots(function: Function) -> tuple[str, ...]:
    """The path without bus numbers: root bus by its segment, then device and function of every bridge."""
    return tuple(part.rpartition(":")[2] if "." in part else part for part in function.facts.path.split("/"))
