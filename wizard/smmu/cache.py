"""What the SMMU remembers: translations, table walks, configuration. IHI 0070 sections 3.17, 4.3, 4.4, 16.2.

The caches hold whatever the architecture lets them hold, for as long as it lets them: nothing is evicted, and each command removes
exactly what it has to. So a missing invalidation always shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from msgspec import Struct

from wizard.smmu.context import GLOBAL, GLOBAL_SHARED, Space

EVERYTHING = 1 << 64


class Entry(Struct, frozen=True, gc=False):
    """One cached translation of ``1 << span`` bytes from ``start`` to ``output``.

    ``reach`` is log2 of the bytes that the stage 1 (or only) leaf covers: an invalidation of any address in there hits the entry, even
    when a smaller page of the other stage cut it to pieces. ``ipa`` is the intermediate address of ``start``. ``allowed1`` and ``allowed2``
    are permissions of the stages, ``clean1`` and ``clean2`` say that a write still has to update the dirty state.
    """

    start: int
    span: int
    output: int
    ipa: int
    reach: int
    granule: int
    level: int
    allowed1: int
    allowed2: int
    clean1: bool
    clean2: bool
    stage1: tuple[int, int] | None
    stage2: tuple[int, int, bool] | None


@dataclass(frozen=True, slots=True)
class Scope:
    """The addresses and kind of leaf that an invalidation is about; ``granule`` 0 and ``level`` 0 mean any."""

    start: int = 0
    length: int = EVERYTHING
    granule: int = 0
    level: int = 0
    leaf_only: bool = False


Container = Mapping[int, object]
Walk = tuple[int, int]
"""A remembered table: its address and the hierarchical attribute bits of the descriptors above it."""


def _overlapping(regions: Container, shift: int, scope: Scope) -> list[int]:
    """The numbers of the regions of ``1 << shift`` bytes that are held and overlap the scope: by number when that is less work."""
    first, last = scope.start >> shift, (scope.start + scope.length - 1) >> shift
    if last - first < len(regions):
        return [number for number in range(first, last + 1) if number in regions]
    return [number for number in regions if first <= number <= last]


class Tables:
    """Table descriptors remembered in one space, by the size of what they cover (which tells level and granule) and upper address bits."""

    __slots__ = ("held", "shape")

    def __init__(self) -> None:
        self.held: dict[int, dict[int, Walk]] = {}
        self.shape: dict[int, tuple[int, int]] = {}

    def get(self, shift: int, prefix: int) -> Walk | None:
        """The table that a descriptor of ``1 << shift`` bytes pointed to."""
        held = self.held.get(shift)
        return held.get(prefix) if held is not None else None

    def put(self, shift: int, prefix: int, walk: Walk, level: int, granule: int) -> None:
        """Remember a table descriptor of ``level``."""
        self.shape[shift] = level, granule
        self.held.setdefault(shift, {})[prefix] = walk

    def drop(self, scope: Scope) -> None:
        """Forget the tables above the scope's addresses; with a level hint, only those above that level."""
        for shift, held in self.held.items():
            level, granule = self.shape[shift]
            if scope.granule in (0, granule) and (not scope.level or level < scope.level):
                for prefix in _overlapping(held, shift, scope):
                    del held[prefix]


class SpaceEntries:
    """Entries of one space: by size and address for lookups, and by the leaf that they were cut from for invalidations."""

    __slots__ = ("by_leaf", "by_span")

    def __init__(self) -> None:
        self.by_span: dict[int, dict[int, Entry]] = {}
        self.by_leaf: dict[int, dict[int, list[Entry]]] = {}

    def add(self, entry: Entry) -> None:
        """Remember an entry in place of one for the same addresses."""
        held = self.by_span.setdefault(entry.span, {})
        old = held.get(entry.start >> entry.span)
        if old is not None:
            self._unlink(old)
        held[entry.start >> entry.span] = entry
        self.by_leaf.setdefault(entry.reach, {}).setdefault(entry.start >> entry.reach, []).append(entry)

    def _unlink(self, entry: Entry) -> None:
        leaf = self.by_leaf[entry.reach]
        number = entry.start >> entry.reach
        leaf[number].remove(entry)
        if not leaf[number]:
            del leaf[number]

    def drop(self, scope: Scope) -> int:
        """Forget the entries of every leaf that overlaps the scope and fits its hints; answers how many."""
        gone = 0
        for reach, leaves in self.by_leaf.items():
            for number in _overlapping(leaves, reach, scope):
                fit = [entry for entry in leaves[number] if scope.granule in (0, entry.granule) and scope.level in (0, entry.level)]
                for entry in fit:
                    del self.by_span[entry.span][entry.start >> entry.span]
                    self._unlink(entry)
                gone += len(fit)
        return gone


class Tlb:
    """Translations and table walks, by space."""

    __slots__ = ("entries", "tables")

    def __init__(self) -> None:
        self.entries: dict[Space, SpaceEntries] = {}
        self.tables: dict[Space, Tables] = {}

    def find(self, space: Space, address: int) -> Entry | None:
        """The entry of ``space`` that covers ``address``."""
        spaces = self.entries.get(space)
        if spaces is None:
            return None
        for span, held in spaces.by_span.items():
            entry = held.get(address >> span)
            if entry is not None:
                return entry
        return None

    def add(self, space: Space, entry: Entry) -> None:
        """Remember a translation."""
        held = self.entries.get(space)
        if held is None:
            held = self.entries[space] = SpaceEntries()
        held.add(entry)

    def walks(self, space: Space) -> Tables:
        """The remembered tables of ``space``."""
        return self.tables.setdefault(space, Tables())

    def invalidate(self, chosen: Callable[[Space], bool], scope: Scope) -> int:
        """Forget what lies in ``scope`` of the chosen spaces; answers how many translations went."""
        gone = sum(held.drop(scope) for space, held in self.entries.items() if chosen(space))
        if not scope.leaf_only:
            for space, tables in self.tables.items():
                if chosen(space):
                    tables.drop(scope)
        return gone

    def __iter__(self) -> Iterator[tuple[Space, Entry]]:
        return ((space, entry) for space, held in self.entries.items() for entries in held.by_span.values() for entry in entries.values())

    def remembered(self) -> Iterator[tuple[Space, int, int, int]]:
        """Every table descriptor that is held: its space, log2 of what it covers, the address bits above that, and the table it led to."""
        for space, tables in self.tables.items():
            for shift, held in tables.held.items():
                for prefix, (base, _) in held.items():
                    yield space, shift, prefix, base

    def clear(self) -> None:
        """Forget everything."""
        self.entries.clear()
        self.tables.clear()


def of_vmid(kinds: tuple[str, ...], vmid: int, asid: int | None, wildcard: int = 0) -> Callable[[Space], bool]:
    """Chooses spaces of these kinds and VMID; ``asid`` None takes every ASID, else that one and not the global entries.

    ``wildcard`` is the number of low VMID bits that do not count (CR0.VMW).
    """

    def chosen(space: Space) -> bool:
        kind, held_vmid, held_asid = space
        return kind in kinds and held_vmid >> wildcard == vmid >> wildcard and (asid is None or held_asid == asid)

    return chosen


def with_global(kinds: tuple[str, ...], vmid: int, asid: int, wildcard: int = 0) -> Callable[[Space], bool]:
    """Chooses spaces of these kinds, VMID and ASID, and the global entries of the VMID."""

    def chosen(space: Space) -> bool:
        kind, held_vmid, held_asid = space
        return kind in kinds and held_vmid >> wildcard == vmid >> wildcard and held_asid in (asid, GLOBAL, GLOBAL_SHARED)

    return chosen
