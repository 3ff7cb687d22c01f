"""Random cases through the simulated SMMU, the reference walker and QEMU.

    python -m tests.smmu.qemu.differential [--cases N] [--seed S] [--two-level] [--keep FILE]

A case counts against us when the simulated SMMU and the reference without departures differ, or when QEMU and the reference with departures
differ. ``--keep`` writes those cases, in the case format. Status 1 when there are any.
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

from tests.smmu.qemu.generate import generate
from tests.smmu.qemu.machine import RAM_END, RAM_START, Machine
from tests.smmu.qemu.reference import reference
from wizard.smmu.cases import run_plain

BATCH = 128
COMPARED = ("type", "s2", "class", "addr")


def brief(outcome: dict[str, Any]) -> dict[str, Any]:
    """What is compared: the address, or the record's type, stage, class and input address."""
    if outcome.get("ok"):
        pa = outcome.get("pa")
        return {"ok": True, "pa": int(pa, 0) if isinstance(pa, str) else pa}
    fault = outcome.get("fault")
    if fault is None:
        return {"fault": None}
    return {"fault": {key: int(fault[key], 0) if key == "addr" and isinstance(fault[key], str) else fault[key] for key in COMPARED if key in fault}}


def stage_of(fault: dict[str, Any]) -> dict[str, Any]:
    """Records without a stage have none of those fields."""
    return {key: content for key, content in fault.items() if key != "rnw"}


def as_qemu_shows(expected: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    """What of an outcome QEMU lets one see: reads only whether there was an event, writes outside memory end in nothing.

    Below memory are devices, of which some take a write; that is no less than nothing.
    """
    if not expected.get("ok"):
        fault = expected["fault"]
        if fault is None and case["access"] == "r":
            return {"ok": True, "pa": None}
        return {"fault": None if fault is None else stage_of(fault)}
    if case["access"] == "r":
        return {"ok": True, "pa": None}
    return {"ok": True, "pa": expected["pa"]} if RAM_START <= expected["pa"] < RAM_END else {"fault": None}


@dataclass
class Report:
    """How a run ended."""

    cases: int = 0
    agree: int = 0
    explained: int = 0
    unsure: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    ours: list[dict[str, Any]] = field(default_factory=list)
    theirs: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{name} {count}" for name, count in self.outcomes.most_common())
        return (
            f"{self.cases} cases: {self.agree} agree with QEMU, {self.explained} differ as a listed departure explains, "
            f"{self.unsure} not comparable, {len(self.ours)} differ from the reference, {len(self.theirs)} differ from QEMU unexplained; {kinds}"
        )


def specification(case: dict[str, Any], report: Report) -> dict[str, Any]:
    """The simulated SMMU's outcome, held against the reference walker."""
    answer = run_plain(case)
    ours = brief(answer)
    expected = reference(case, departures=False)
    assert expected is not None
    if expected.get("fault"):
        expected = {"fault": stage_of(expected["fault"])}
    report.outcomes["ok" if ours.get("ok") else (answer["fault"] or {}).get("name", "abort")] += 1
    if ours != expected:
        report.ours.append({**case, "answer": ours, "reference": expected})
    return ours


def compare(machine: Machine | None, cases: int, seed: int, *, two_level: bool = False) -> Report:
    """Run ``cases`` random cases; without a machine only against the reference.

    A machine that saw a two-level stream table takes no linear one afterwards (departure 19): each format needs its own.
    """
    rng, report = Random(seed), Report()
    while report.cases < cases:
        batch = [generate(rng, two_level=two_level) for _ in range(min(BATCH, cases - report.cases))]
        report.cases += len(batch)
        ours = [specification(case, report) for case in batch]
        if machine is None:
            continue
        expected = [reference(case, departures=True) for case in batch]
        runnable = [index for index, outcome in enumerate(expected) if outcome is not None]
        report.unsure += len(batch) - len(runnable)
        landings = [(expected[index] or {}).get("pa") or 0 for index in runnable]
        answers = machine.run([(batch[index], landing) for index, landing in zip(runnable, landings, strict=True)])
        for index, answer in zip(runnable, answers, strict=True):
            outcome = expected[index]
            assert outcome is not None
            shown, seen = as_qemu_shows(outcome, batch[index]), brief(answer)
            if outcome.get("ok") and outcome["pa"] < RAM_START and seen == {"ok": True, "pa": None}:
                seen = {"fault": None}
            if shown != seen:
                report.theirs.append({**batch[index], "qemu": seen, "reference": shown, "ours": ours[index]})
            elif as_qemu_shows(ours[index], batch[index]) == seen:
                report.agree += 1
            else:
                report.explained += 1
    return report


def main() -> int:
    """The larger run, on demand."""
    from tests.tools.qemu import find_qemu

    parser = argparse.ArgumentParser(description="random cases through the simulated SMMU and QEMU's")
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--two-level", action="store_true", help="two-level stream tables instead of linear ones")
    parser.add_argument("--keep", type=Path, help="write the cases that differ")
    arguments = parser.parse_args()
    qemu = find_qemu()
    started = time.perf_counter()
    if qemu is None:
        print("no qemu-system-aarch64 10.2 or later: only against the reference walker")
        report = compare(None, arguments.cases, arguments.seed, two_level=arguments.two_level)
    else:
        with Machine(qemu) as machine:
            report = compare(machine, arguments.cases, arguments.seed, two_level=arguments.two_level)
    print(f"{report} ({arguments.cases / (time.perf_counter() - started):.0f} cases a second)")
    if arguments.keep and (report.ours or report.theirs):
        arguments.keep.write_text(json.dumps(report.ours + report.theirs, indent=1))
    return 1 if report.ours or report.theirs else 0


if __name__ == "__main__":
    raise SystemExit(main())
