"""Which snapshots are of one machine: by its machine-id, and where machines share one (they were made from one image), by their hardware.

What a snapshot says of it, the surest first; redacted snapshots say the same, since pseudonyms under one machine-id can be compared:

1. ``identity.machine``: UUID and serial numbers of system and board. Equal or not, it decides.
2. Serial numbers of its functions: most of them shared, it is one machine; none shared, they are two.
3. Vendor, product, board and processor: unlike ones are two.
4. Facts that are equal, digest and summary: nothing is lost when they are taken for one.

Where none of these speaks nobody can tell, and both are kept: a host that is left out by mistake may turn a "no" into a "yes".
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from wizard.facts.model import Facts

SERIALS = 32
"""Serial numbers of a host that are compared: the smallest of their hashes, so that two records of one host keep the same ones."""


class Traits(msgspec.Struct, frozen=True, array_like=True):
    """What of one snapshot tells one machine from another."""

    machine: str | None = None  # identity.machine
    model: str = ""  # vendor, product, board, processor; empty where none was read
    serials: tuple[str, ...] = ()
    redacted: bool = True  # serial numbers of a redacted and a plain snapshot can't be compared


def traits_of(facts: Facts) -> Traits:
    """The traits of one snapshot."""
    identity = facts.identity
    model = (identity.vendor, identity.product, identity.board, facts.cpu_model)
    serials = {f"{function.vendor}{function.device}{function.serial_number}" for function in facts.functions if function.serial_number}
    return Traits(
        machine=identity.machine,
        model="\0".join(part or "" for part in model) if any(model) else "",
        serials=tuple(sorted(hashlib.blake2b(text.encode(), digest_size=6).hexdigest() for text in serials)[:SERIALS]),
        redacted=facts.redacted,
    )


def are_two(one: Traits, other: Traits) -> bool:
    """Whether two snapshots with one machine-id say that they are of two machines; where they do not say, they are not."""
    if one.machine and other.machine:
        return one.machine != other.machine
    if one.serials and other.serials and one.redacted == other.redacted:
        return not _mostly(one, len({*one.serials} & {*other.serials}), len(other.serials))
    return bool(one.model and other.model) and one.model != other.model


def _mostly(traits: Traits, shared: int, others: int) -> bool:
    """Whether the shared serial numbers are half of either's: cards are added, taken out and exchanged."""
    return shared > 0 and shared * 2 >= min(len(traits.serials), others)


class Record(msgspec.Struct, frozen=True):
    """One snapshot among those of one machine-id, by its place in the caller's list."""

    place: int
    traits: Traits
    digest: str
    summary: bytes
    time: datetime | None


@dataclass(frozen=True)
class Machine:
    """Records of one machine. ``told`` says that it is known to be another than the rest; else nothing in its records says so."""

    records: tuple[Record, ...]
    told: bool = True


def machines_of(records: Sequence[Record]) -> list[Machine]:
    """Records that have one machine-id, by machine, in the order of their first record."""
    if len(records) == 1:
        return [Machine(tuple(records))]
    groups: list[list[Record]] = []
    by_machine: dict[str, int] = {}
    by_serial: dict[tuple[bool, str], list[int]] = {}
    by_facts: dict[tuple[str, bytes], int] = {}
    unsure: set[int] = set()
    # Those that say themselves which machine they are come first, so that others find them; then those with serial numbers.
    for record in sorted(records, key=lambda one: (one.traits.machine is None, not one.traits.serials, one.place)):
        traits, facts = record.traits, (record.digest, record.summary)
        place = by_machine.get(traits.machine) if traits.machine else None
        if place is None and not traits.machine:
            place = _by_serials(record, groups, by_serial)
        if place is None and not traits.machine:
            place = by_facts.get(facts)
        if place is None:
            place = len(groups)
            groups.append([])
            if not traits.machine:
                unsure.add(place)
        groups[place].append(record)
        if traits.machine:
            by_machine.setdefault(traits.machine, place)
        by_facts.setdefault(facts, place)
        for serial in traits.serials:
            known = by_serial.setdefault((traits.redacted, serial), [])
            if place not in known:
                known.append(place)
    kinds = [_kind(group) for group in groups]
    counts = Counter(kinds)
    made = [Machine(tuple(group), place not in unsure or _is_told(kinds[place], counts)) for place, group in enumerate(groups)]
    return sorted(made, key=lambda machine: machine.records[0].place)


def _by_serials(record: Record, groups: list[list[Record]], by_serial: dict[tuple[bool, str], list[int]]) -> int | None:
    """The machine that has most of a record's serial numbers, or most of whose numbers the record has."""
    shared: dict[int, int] = {}
    for serial in record.traits.serials:
        for place in by_serial.get((record.traits.redacted, serial), ())[:SERIALS]:
            shared[place] = shared.get(place, 0) + 1
    for place, count in sorted(shared.items(), key=lambda item: (-item[1], item[0])):
        fewest = min(len(other.traits.serials) for other in groups[place] if other.traits.serials)
        if _mostly(record.traits, count, fewest):
            return place
    return None


_Kind = tuple[str, bool | None]  # model, and of what has serial numbers whether they are redacted


def _kind(group: Sequence[Record]) -> _Kind:
    best = max((record.traits for record in group), key=lambda traits: len(traits.serials))
    return best.model, best.redacted if best.serials else None


def _is_told(kind: _Kind, counts: Counter[_Kind]) -> bool:
    """Whether a machine is known to be another than every other one of its machine-id: of another model, or with other serial numbers."""

    def apart(other: _Kind) -> bool:
        # Machines with a serial number in common have been joined.
        return bool(kind[0] and other[0] and kind[0] != other[0]) or (kind[1] is not None and kind[1] == other[1])

    return sum(count for other, count in counts.items() if not apart(other)) == (0 if apart(kind) else 1)


def order_of(records: Sequence[Record]) -> tuple[Record, tuple[Record, ...], tuple[Record, ...]]:
    """(the newest, older ones, ones of which nobody can say whether they are older, and whose answers differ)."""
    newest = max(records, key=lambda record: (record.time or NEVER, -record.place))
    older: list[Record] = []
    open_: list[Record] = []
    for record in records:
        if record is newest:
            continue
        known = record.time is not None and newest.time is not None and record.time < newest.time
        (older if known or record.summary == newest.summary else open_).append(record)
    return newest, tuple(older), tuple(open_)


NEVER = datetime.min.replace(tzinfo=UTC)


def when(text: str) -> datetime | None:
    """A snapshot's time; None where it has none, or none that can be read."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    try:
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (OverflowError, OSError):
        return None
