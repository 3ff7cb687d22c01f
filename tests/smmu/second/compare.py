"""Random worlds through the simulated SMMU and the second one.

    python -m tests.smmu.second.compare [--worlds N] [--seed S] [--keep FILE]

A world counts when an answer differs, or the memory that hardware update leaves behind. ``--keep`` writes those, in the case format, each with
what both say. Status 1 when there are any.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.smmu.second.walker import Second
from tests.smmu.second.words import F_PERMISSION, F_WALK_EABT, Access, Memory
from tests.smmu.second.worlds import World, world
from wizard.smmu.cases import run_plain

TRANSLATION_EVENTS = range(16, 20)


def value(content: Any) -> Any:
    return int(content, 16) if isinstance(content, str) and content.startswith("0x") else content


def defined(raw: list[int], request: bool) -> list[int]:
    """A record without the fields that 7.3 calls UNKNOWN: IPA of a stage 1 fault, TTRnW but for CLASS TTD, RnW of a request (3.9.1.2)."""
    words, number = list(raw), raw[0] & 0xFF
    if number in TRANSLATION_EVENTS:
        if not words[1] >> 39 & 1:
            words[3] = 0
        if number == F_PERMISSION and words[1] >> 40 & 3 != 1:
            words[1] &= ~(1 << 44)
    if request and number == F_WALK_EABT:
        words[1] &= ~(1 << 35)
    return words


def told(answer: dict[str, Any], access: Access) -> dict[str, Any]:
    """An answer of either, in one shape."""
    shown = {key: value(content) for key, content in answer.items() if key not in ("fault", "ats", "masked")}
    if "ats" in answer:
        shown["ats"] = {key: value(content) for key, content in answer["ats"].items()}
    fault = answer.get("fault")
    if fault is not None:
        shown["fault"] = [f"{word:#x}" for word in defined([value(word) for word in fault["raw"]], access.ats == "request")]
    elif "fault" in answer:
        shown["fault"] = None
    return shown


def agree(mine: dict[str, Any], theirs: dict[str, Any], access: Access, caches: bool) -> bool:
    """Whether the two say the same.

    With caches a request with NW may miss a write that another access has made possible meanwhile: it may be granted, and need not (13.7).
    """
    if mine == theirs:
        return True
    less = {**mine, "ats": {**mine.get("ats", {}), "write": True}}
    return caches and access.ats == "request" and not access.write and less == theirs


def kind(answer: dict[str, Any]) -> str:
    """A word for the statistics."""
    if "ats" in answer:
        got = answer["ats"]
        return "ats " + (got["status"] if got["status"] != "success" else "granted" if got["read"] or got["write"] else "nothing")
    if answer.get("ok"):
        return str(answer["how"])
    return "silent" if answer["fault"] is None else f"event {int(answer['fault'][0], 16) & 0xFF:#x}"


@dataclass
class Report:
    """How a run ended. ``updates`` are words that hardware update changed."""

    worlds: int = 0
    accesses: int = 0
    updates: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    differing: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{name} {count}" for name, count in self.outcomes.most_common())
        return f"{self.worlds} worlds, {self.accesses} accesses, {self.updates} updates of descriptors, {len(self.differing)} differ; {kinds}"


def held(made: World, caches: bool, report: Report) -> None:
    """One world through both."""
    case = made.case(caches)
    answers = run_plain(case)
    assert "steps" in answers, answers
    *ours, after = answers["steps"]
    memory = Memory(dict(made.words))
    second = Second(made.registers, memory)
    theirs = [told(second.answer(access), access) for access in made.accesses]
    mine = [told(answer, access) for answer, access in zip(ours, made.accesses, strict=True)]
    left = {address: value(word) for address, word in zip(sorted(made.words), after["values"].values(), strict=True)}
    report.worlds += 1
    report.accesses += len(theirs)
    report.updates += sum(memory.words[address] != word for address, word in made.words.items())
    report.outcomes.update(map(kind, theirs))
    wrong = [index for index, access in enumerate(made.accesses) if not agree(mine[index], theirs[index], access, caches)]
    words = {f"{at:#x}": [f"{word:#x}" for word in (made.words[at], left[at], memory.words[at])] for at in left if left[at] != memory.words[at]}
    if wrong or words:
        pairs = [{"access": repr(made.accesses[index]), "ours": mine[index], "second": theirs[index]} for index in wrong]
        report.differing.append({**case, "differ": pairs, "words": words})


def compare(worlds: int, seed: int) -> Report:
    """``worlds`` random worlds, half of them with caches where no contiguous hint can be wrong."""
    rng, report = Random(seed), Report()
    for _ in range(worlds):
        made = world(rng)
        held(made, not made.contiguous and rng.random() < 0.7, report)
    return report


def main() -> int:
    """The larger run, on demand."""
    parser = argparse.ArgumentParser(description="random worlds through the simulated SMMU and a second one")
    parser.add_argument("--worlds", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="write the worlds that differ")
    arguments = parser.parse_args()
    start = time.perf_counter()
    report = compare(arguments.worlds, arguments.seed)
    print(report)
    print(f"{time.perf_counter() - start:.1f} s")
    if arguments.keep and report.differing:
        arguments.keep.write_text(json.dumps(report.differing, indent=1))
    return 1 if report.differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
