"""Which message is the first cause, and which follow from it: by their order, their natures, and what each declares to follow."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from wizard.explain.hits import Hit
from wizard.explain.model import By, Nature
from wizard.explain.strerror import name_of, read_error


class Role(StrEnum):
    """What a message is among the others."""

    FIRST = "first cause"
    FOLLOWS = "follows"
    SAME = "the same cause"
    ALSO = "also"
    HARMLESS = "harmless"


class Placed(msgspec.Struct, frozen=True):
    """A hit and its role; ``of`` is the place of the hit that it follows from, or has its cause in common with."""

    hit: Hit
    role: Role
    of: int | None = None


_WEIGHT = {Nature.ERROR: 0, Nature.WARNING: 1, Nature.STATE: 2, Nature.CONSEQUENCE: 3, Nature.HARMLESS: 4}


def error_of(hit: Hit) -> str | None:
    """Name of the error that a message carries."""
    if (words := hit.words.get("errno")) and (told := read_error(words)):
        return told[0]
    number = hit.words.get("error", "")
    return name_of(int(number)) if number.lstrip("-").isdigit() and len(number) < 6 else None


def arrange(hits: Sequence[Hit]) -> tuple[Placed, ...]:
    """Roles of hits that are in the order of the log."""
    denied = next((place for place, hit in enumerate(hits) if hit.message.by is By.AUDIT), None)
    before: dict[str, int] = {}
    last: dict[str, int] = {}
    parents: dict[int, int] = {}
    for place, hit in enumerate(hits):
        parent = next((before[name] for name in hit.message.follows if name in before), None)
        if parent is None and denied is not None and denied != place and error_of(hit) in ("EACCES", "EPERM"):
            parent = denied  # whoever was denied something says so without knowing by whom, often before the audit does
        if parent is not None:
            parents[place] = parent
        for name in hit.message.explains:
            if name in last and last[name] not in parents and _beside(hits[last[name]], hit):
                parents[last[name]] = place
        for name in _names(hit):
            before.setdefault(name, place)
            last[name] = place
    own = [place for place in range(len(hits)) if place not in parents]
    ended = [hits[place] for place in own if hits[place].message.by in _ASKED and hits[place].message.nature is Nature.ERROR]
    theirs = set(filter(None, map(_function, ended)))

    def rank(place: int) -> tuple[int, bool, int]:
        # What a kernel said of another function is not why this one could not be given to a VM.
        hit = hits[place]
        aside = bool(theirs) and hit.message.by not in _ASKED and _function(hit) is not None and _function(hit) not in theirs
        return _WEIGHT[hit.message.nature], aside, place

    first = min(own, key=rank, default=None)
    return tuple(_placed(place, hits, parents, first) for place in range(len(hits)))


_ASKED = (By.QEMU, By.LIBVIRT, By.KUBEVIRT, By.VIRT_INSTALL)  # whoever was asked for a VM, and said why there is none


_NEAR = 3  # lines between a message and one behind it that explains it: a hint of QEMU's, the words of an SMMU's error after the time-out


def _beside(one: Hit, other: Hit) -> bool:
    return other.line - one.line <= _NEAR and one.words.get("device") in (other.words.get("device"), None)


def _function(hit: Hit) -> str | None:
    return hit.words.get("function") or hit.words.get("device")


def _names(hit: Hit) -> tuple[str, ...]:
    id = hit.message.id
    return (id, "event") if id.startswith("event-") else (id, id.rstrip("0123456789").rstrip("-"))


def _placed(place: int, hits: Sequence[Hit], parents: dict[int, int], first: int | None) -> Placed:
    hit = hits[place]
    nature = hit.message.nature
    if place == first:
        return Placed(hit, Role.HARMLESS if nature is Nature.HARMLESS else Role.FIRST)
    if nature is Nature.HARMLESS:
        return Placed(hit, Role.HARMLESS)
    if place in parents:
        return Placed(hit, Role.FOLLOWS, parents[place])
    if nature is Nature.CONSEQUENCE:
        # What only says that something failed speaks of what stands nearest: behind it on its line, else before it, else of the first.
        behind = next((other for other in range(place + 1, len(hits)) if hits[other].line == hit.line and _problem(hits[other])), None)
        return Placed(
            hit, Role.FOLLOWS, behind if behind is not None else next((other for other in reversed(range(place)) if _problem(hits[other])), first)
        )
    if first is not None and _alike(hit, hits[first]):
        return Placed(hit, Role.SAME, first)
    return Placed(hit, Role.ALSO)


def _problem(hit: Hit) -> bool:
    return hit.message.nature in (Nature.ERROR, Nature.WARNING)


def _alike(one: Hit, other: Hit) -> bool:
    """The same message of another function, or one whose most likely cause is the same finding."""
    if one.message is other.message:
        return True
    codes = [next((cause.code for cause in hit.message.causes), "") for hit in (one, other)]
    return bool(codes[0]) and codes[0] == codes[1]
