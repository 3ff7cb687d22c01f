"""What two dumps of one SMMU differ in: registers, stream table entries, and what every stream reaches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from wizard.smmu.dumps.mappings import Mapped, Mappings, Range
from wizard.smmu.dumps.state import Dump


@dataclass(frozen=True, slots=True)
class Changed:
    """One difference: a register, an entry's field, or a range; ``before`` and ``after`` as people read them, empty where there is none."""

    what: str
    before: str
    after: str
    sid: int | None = None
    ssid: int | None = None


def changes(before: Dump, after: Dump) -> Iterator[Changed]:
    """Everything that changed, in the order of registers, StreamIDs, addresses."""
    for name in sorted(before.registers.values.keys() | after.registers.values.keys()):
        old, new = before.registers.values.get(name), after.registers.values.get(name)
        if old != new:
            yield Changed(name, "" if old is None else f"{old:#x}", "" if new is None else f"{new:#x}")
    first, second = Mappings(before), Mappings(after)
    for sid in sorted(before.inventory.entries.keys() | after.inventory.entries.keys()):
        old_entry, new_entry = before.inventory.entries.get(sid), after.inventory.entries.get(sid)
        if old_entry is None or new_entry is None:
            yield Changed("stream table entry", "valid" if old_entry else "", "valid" if new_entry else "", sid)
        elif old_entry.ste != new_entry.ste:
            old_fields, new_fields = old_entry.ste.fields(), new_entry.ste.fields()
            yield from (
                Changed(f"STE.{name}", f"{old_fields[name]:#x}", f"{new_fields[name]:#x}", sid)
                for name in old_fields
                if old_fields[name] != new_fields[name]
            )
        yield from _ranges(sid, first.of(sid), second.of(sid))


def _ranges(sid: int, before: list[Mapped], after: list[Mapped]) -> Iterator[Changed]:
    old, new = {one.reached.ssid: one for one in before}, {one.reached.ssid: one for one in after}
    for ssid in sorted(old.keys() | new.keys(), key=lambda one: -1 if one is None else one):
        a, b = old.get(ssid), new.get(ssid)
        if (a is not None and a.everything) != (b is not None and b.everything):
            yield Changed("reach", "everything" if a and a.everything else "", "everything" if b and b.everything else "", sid, ssid)
        for start, size, was, now in difference(a.ranges if a else (), b.ranges if b else ()):
            yield Changed(f"{start:#x} to {start + size - 1:#x}", _shown(was, start), _shown(now, start), sid, ssid)


def _shown(one: Range | None, start: int) -> str:
    return "" if one is None else f"{one.pa + start - one.iova:#x} {one.allowed} {one.kind}"


def difference(before: Iterable[Range], after: Iterable[Range]) -> Iterator[tuple[int, int, Range | None, Range | None]]:
    """Start, size, and the range of either side, of every stretch that the two map differently; both are sorted and do not overlap."""
    left, right = list(before), list(after)
    cuts = sorted({edge for one in (*left, *right) for edge in (one.iova, one.iova + one.size)})
    i = j = 0
    for start, end in pairwise(cuts):
        while i < len(left) and left[i].iova + left[i].size <= start:
            i += 1
        while j < len(right) and right[j].iova + right[j].size <= start:
            j += 1
        a = left[i] if i < len(left) and left[i].iova <= start else None
        b = right[j] if j < len(right) and right[j].iova <= start else None
        if a is None and b is None:
            continue
        if a is None or b is None or (a.pa - a.iova, a.allowed, a.kind) != (b.pa - b.iova, b.allowed, b.kind):
            yield start, end - start, a, b
