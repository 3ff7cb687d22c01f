"""A large dry run played by several processes is the one that a single process plays."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.dryrun.plans import NVME, SECOND_VF, VF, plan, vm
from tests.tools.hosts import host
from wizard.base import shares
from wizard.dryrun import SCENARIOS, Cancelled, Layout, Report, dry_run, lay_out, run
from wizard.plan.model import Plan


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    monkeypatch.setattr(threading, "active_count", lambda: 1)  # whatever threads other tests have left in this process
    monkeypatch.setattr(run, "SCENARIOS", tuple(scenario for scenario in SCENARIOS if scenario.view.id in SOME))


SOME = ("bring-up", "isolation", "unmapped", "event-flood", "msi", "unplug", "replug", "pasid-inside", "range")


def small() -> tuple[Plan, Layout]:
    """Two VMs, the second with a function in a free port and without a doorbell: its interrupts are lost."""
    made = plan(vm("web", NVME, VF), vm("db", SECOND_VF))
    layout = lay_out(made, host())
    layout = layout.with_vm(replace(layout.vm("db"), doorbell=None))
    return made, replace(layout, functions=tuple(replace(function, hotplug=function.vm == "db") for function in layout.functions))


def played(monkeypatch: pytest.MonkeyPatch, enough: int) -> tuple[bytes, int]:
    """The report as JSON, and how many processes were started for it."""
    started: list[int] = []
    start = shares._start

    def starting(share: Sequence[Any], work: Callable[[Sequence[Any]], object]) -> tuple[int, int]:
        started.append(len(share))
        return start(share, work)

    with monkeypatch.context() as patched:
        patched.setattr(shares, "ENOUGH", enough)
        patched.setattr(shares, "_start", starting)
        made, layout = small()
        report = dry_run(made, host(), layout=layout)
    return msgspec.json.encode(report), len(started)


def test_a_report_is_the_same_by_two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that fail have their traces, functions of free ports the proofs with each plugged."""
    alone, none = played(monkeypatch, 1 << 30)
    together, one = played(monkeypatch, 1)
    assert (none, one) == (0, 1)
    assert together == alone
    report = msgspec.json.decode(together, type=Report)
    assert any(cell.trace for cell in report.failures())
    assert any(proof.plugged for proof in report.proofs)


def test_a_process_that_dies_costs_time_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    alone, _ = played(monkeypatch, 1 << 30)
    once, parent = run._once, os.getpid()

    def dies(*arguments: object, tracing: bool) -> object:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return once(*arguments, tracing=tracing)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "_once", dies)
    assert played(monkeypatch, 1) == (alone, 1)


def test_whatever_ends_it_ends_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C here, while the other process plays on."""
    parent, start, processes = os.getpid(), shares._start, list[int]()

    def starting(share: Sequence[Any], work: Callable[[Sequence[Any]], object]) -> tuple[int, int]:
        child = start(share, work)
        processes.append(child[0])
        return child

    def interrupted(*arguments: object, tracing: bool) -> object:
        if os.getpid() != parent:
            signal.pause()
        raise KeyboardInterrupt

    monkeypatch.setattr(shares, "_start", starting)
    monkeypatch.setattr(run, "_once", interrupted)
    with pytest.raises(KeyboardInterrupt):
        played(monkeypatch, 1)
    assert [Path(f"/proc/{process}").exists() for process in processes] == [False]


def test_one_that_may_be_stopped_is_played_by_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stops it is asked before each scenario, which only this process can."""
    monkeypatch.setattr(shares, "ENOUGH", 1)
    made, layout = small()
    shown: list[tuple[int, int]] = []
    with pytest.raises(Cancelled):
        dry_run(made, host(), layout=layout, progress=lambda done, total, label: shown.append((done, total)), stop=lambda: len(shown) == 20)
    assert [done for done, _ in shown] == list(range(20))


def test_progress_ends_where_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process plays is shown as done when it has come back."""
    monkeypatch.setattr(shares, "ENOUGH", 1)
    made, layout = small()
    shown: list[tuple[int, int]] = []
    dry_run(made, host(), layout=layout, progress=lambda done, total, label: shown.append((done, total)))
    counts = [done for done, _ in shown]
    assert counts == sorted(counts)
    assert [total - done for done, total in shown[-3:]] == [2, 1, 0]
