"""``hitless``: updates of live structures, with every transaction possible in between."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import msgspec
from msgspec import UNSET, Struct, UnsetType

from wizard.base.exits import Exit
from wizard.cli.output import print_lines
from wizard.cli.translate import cases_of, told
from wizard.smmu.caseformat import Answer, Case
from wizard.smmu.cases import CaseError
from wizard.smmu.hitless import Broken, Played, Seen, play


class SeenView(Struct):
    """What was seen: after how many steps, and the words that may still be seen either way, by address."""

    steps: int
    words: dict[str, str]


class BrokenView(Struct):
    """The first state that is not hitless: the transaction (its number among the case's), what it was answered and what was seen.

    ``filled`` is what the caches held, and ``by`` the transaction that filled them; both are unset for empty caches.
    """

    dma: int
    seen: SeenView
    answer: Answer
    filled: SeenView | UnsetType = UNSET
    by: int | UnsetType = UNSET


class HitlessView(Struct, omit_defaults=True):
    """One case. ``states`` were tried, ``broken`` of them are not hitless; ``old`` and ``new`` are the answers before and after the update."""

    name: str
    hitless: bool | None = None
    states: int = 0
    broken: int = 0
    first: BrokenView | None = None
    old: list[Answer] = []
    new: list[Answer] = []
    error: str | None = None


def run_hitless(arguments: argparse.Namespace) -> int:
    """Play each case; status 1 when one is not hitless, 3 when one makes no sense."""
    status = Exit.OK
    for case in cases_of(arguments.case):
        view = _played(case)
        if view.error is not None:
            status = Exit.INPUT
        elif not view.hitless and status is Exit.OK:
            status = Exit.FINDINGS
        print_lines([msgspec.json.encode(view).decode()] if arguments.json else _lines(view))
    return status


def _played(case: Case | CaseError) -> HitlessView:
    if isinstance(case, CaseError):
        return HitlessView("", error=str(case))
    try:
        return _view(case.name, play(case))
    except CaseError as error:
        return HitlessView(case.name, error=str(error))


def _view(name: str, played: Played) -> HitlessView:
    first = _broken(played.first) if played.first is not None else None
    return HitlessView(name, played.hitless, played.states, played.broken, first, played.old, played.new)


def _broken(one: Broken) -> BrokenView:
    filled = _seen(one.filled) if one.filled is not None else UNSET
    return BrokenView(one.dma, _seen(one.seen), one.answer, filled, one.by if one.by is not None else UNSET)


def _seen(seen: Seen) -> SeenView:
    return SeenView(seen.stored, {f"{where:#x}": f"{word:#x}" for where, word in seen.words})


def _lines(view: HitlessView) -> Iterator[str]:
    name = f"{view.name}: " if view.name else ""
    if view.error is not None:
        yield f"{name}error: {view.error}"
        return
    if view.first is None:
        yield f"{name}hitless in all {view.states} states"
        return
    yield f"{name}not hitless in {view.broken} of {view.states} states"
    one = view.first
    yield f"  first: transaction {one.dma}, after {one.seen.steps} steps{_words(one.seen)}"
    if one.filled is not UNSET:
        yield f"  with what transaction {one.by} had left in the caches after {one.filled.steps} steps{_words(one.filled)}"
    yield from (f"  {line.rstrip()}" for line in told(one.answer))
    for what, answer in (("answered", one.answer), ("before", view.old[one.dma]), ("after", view.new[one.dma])):
        yield f"  {what:<9}{msgspec.json.encode(answer).decode()}"


def _words(seen: SeenView) -> str:
    return ", seen " + ", ".join(f"{where} = {word}" for where, word in seen.words.items()) if seen.words else ""
