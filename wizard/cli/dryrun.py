"""``dry-run``: profiles on the simulated SMMUv3. The rooms are imported when it runs."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from wizard.base.errors import UsageError
from wizard.base.exits import Exit
from wizard.base.text import parse_size, visible

if TYPE_CHECKING:
    from wizard.dryrun import Report, Workload

_WIDTH = 100
_WORKLOAD = {
    "buffer": ("SIZE", "bytes that the guest unmaps at once (64K)"),
    "shared": ("N", "functions that share one stage 1: SVA, VFIO, DPDK (1)"),
    "mapped": ("SIZE", "bytes mapped for an address space at a time (64M)"),
    "touched": ("N", "pages of it that are in use (1024)"),
}


def add_workload_options(command: argparse.ArgumentParser) -> None:
    """``--workload-buffer`` and its like: what the cost lines are counted for."""
    group = command.add_argument_group("workload", "what the cost lines are counted for")
    for name, (metavar, text) in _WORKLOAD.items():
        group.add_argument(f"--workload-{name}", metavar=metavar, help=text)


def run(arguments: argparse.Namespace) -> int:
    """Status 0 when every scenario that applies passes, 1 when one fails or the plan has errors."""
    from wizard.base.finding import grouped
    from wizard.cli.output import print_json, print_lines, quiet, say, say_findings
    from wizard.cli.planning import plan_of_profiles
    from wizard.cli.source import host_for
    from wizard.dryrun import Report, dry_run, report_lines, report_of_trace
    from wizard.dryrun.address import parse

    wanted = parse(arguments.trace) if arguments.trace else None
    workload = workload_of(arguments)
    host = host_for(arguments)
    plan, findings = plan_of_profiles(arguments, host, arguments.profiles)
    if plan is None:
        report = Report(schema=1, ok=False, rehearsed=False, findings=findings)
    elif wanted is not None:
        report = report_of_trace(plan, host, *wanted)
    else:
        report = dry_run(plan, host, workload=workload, progress=_progress if sys.stderr.isatty() else _quiet)
    if arguments.json:
        print_json(report)
    else:
        say_findings(grouped(report.findings))
        if not (quiet() and report.ok):
            print_lines(report_lines(report))
        if report.rehearsed and report.trace is None and not quiet():
            print_lines([_last(report)])
    if report.rehearsed and report.not_played:
        say(f"Not played, for {'their' if len(report.not_played) > 1 else 'its'} errors: {', '.join(report.not_played)}.")
    if not report.rehearsed:
        say("Nothing was rehearsed: a plan with errors would not start.")
    return Exit.OK if report.ok else Exit.FINDINGS


def _last(report: Report) -> str:
    if not report.functions:
        return "There is nothing to rehearse: no function of these VMs is behind an SMMUv3 of this host."
    failed = any(True for _ in report.failures()) or not all(proof.proved for proof in report.proofs)
    return "Some scenarios fail." if failed else "Every scenario that applies passes."


def workload_of(arguments: argparse.Namespace) -> Workload:
    """The workload of the command line; ``UsageError`` for what is no figure."""
    from wizard.dryrun import Workload

    given: dict[str, int] = {}
    for name, (metavar, _) in _WORKLOAD.items():
        text = getattr(arguments, f"workload_{name}", None)
        if text is None:
            continue
        try:
            given[name] = parse_size(text) if metavar == "SIZE" else int(text)
            Workload(**{name: given[name]})
        except ValueError:
            example = f"--workload-{name} {'64K' if metavar == 'SIZE' else '4'}"
            raise UsageError(f"--workload-{name} {visible(text)!r} is no figure above 0.", f"Write for example {example}.") from None
    return Workload(**given)


def _quiet(done: int, total: int, label: str) -> None:
    """No terminal, no progress."""


def _progress(done: int, total: int, label: str) -> None:
    # One column stays free: a full line would wrap, and \r would not find back to its start.
    width = max(1, min(_WIDTH, (os.get_terminal_size(sys.stderr.fileno()).columns or 80) - 1))
    text = visible(f"{done}/{total} {label}")[:width] if done < total else ""
    print(f"\r{text:<{width}}", end="" if text else "\r", file=sys.stderr, flush=True)
