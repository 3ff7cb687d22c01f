"""A report for people, line by line: what is the same for every function of a VM is said once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

from wizard.base.text import plural, size, visible
from wizard.dryrun.model import Cell, Cost, Proof, Report, ScenarioView, Status, TraceView

TRACE_LINES = 40


def report_lines(report: Report) -> Iterator[str]:
    """The report; of a single address its trace."""
    if report.trace is not None:
        yield from trace_lines(report.trace)
        return
    for vm in dict.fromkeys(function.vm for function in report.functions):
        yield from _vm(report, vm)
    yield from _proofs(report.proofs)
    for cost in report.costs:
        yield from _cost(cost)
    if report.assumptions:
        yield "Assumed:"
        yield from (visible(f"  {assumption}") for assumption in report.assumptions)
        yield ""


def _vm(report: Report, vm: str) -> Iterator[str]:
    functions = [function for function in report.functions if function.vm == vm]
    yield visible(f"{vm}: {plural(len(functions), 'function')}")
    for function in functions:
        sid = ", ".join(f"{sid:#x}" for sid in function.stream_ids)
        vsid = f", vSID {function.vsid:#x} behind {function.vsmmu}" if function.vsid is not None else ""
        later = f"; hot-plugged into {function.device}" if function.hotplug else ""
        yield visible(f"  {function.function} {function.name}: StreamID {sid} of {function.smmu}{vsid}{later}")
    cells: dict[str, list[Cell]] = defaultdict(list)
    for cell in report.cells:
        if cell.vm == vm:
            cells[cell.scenario].append(cell)
    # Most rest on what the first does: said there, and then called the same.
    start = {cell.function: cell.assuming for cell in cells["bring-up"]}
    for group, views in groupby((view for view in report.scenarios if cells[view.id]), key=attrgetter("group")):
        yield f"  {group}"
        apart: dict[str, list[str]] = defaultdict(list)
        for view in views:
            yield from _scenario(view, cells[view.id], len(functions), start)
            if all(cell.status is Status.NOT_APPLICABLE for cell in cells[view.id]):
                apart["; ".join(dict.fromkeys(_said(cell, start) for cell in cells[view.id]))].append(view.title)
        for why, titles in apart.items():
            yield visible(f"    n/a  {'; '.join(titles)} ({why})")
    count = Counter(cell.status for cell in report.cells if cell.vm == vm)
    yield f"  {count[Status.PASSED]} passed, {count[Status.FAILED]} failed, {count[Status.NOT_APPLICABLE]} do not apply"
    yield ""


def _scenario(view: ScenarioView, cells: Sequence[Cell], all_functions: int, start: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    passed = [cell for cell in cells if cell.status is Status.PASSED]
    if passed:
        texts = {_said(cell, start) for cell in passed}
        said = _said(passed[0], start) if len(texts) == 1 else f"{passed[0].function}: {_said(passed[0], start)}"
        share = "" if len(passed) == all_functions else f" ({len(passed)} of {all_functions})"
        stopped = f" [{passed[0].stopped_by}]" if passed[0].stopped_by is not None else ""
        yield visible(f"    pass {view.title}{share}: {said}{stopped}")
    for cell in cells:
        if cell.status is Status.FAILED:
            yield from _failure(view, cell, start)


def _said(cell: Cell, start: Mapping[str, tuple[str, ...]]) -> str:
    """The sentence, and what it rests on that nobody measured: ``start`` has what the function's first scenario does."""
    words, same = cell.assuming, start.get(cell.function, ())
    if cell.scenario != "bring-up" and len(same) > 1 and set(same) <= set(words):
        words = ("the same as QEMU's start", *(word for word in words if word not in same))
    return f"{cell.text}, assuming {', '.join(words)}" if words else cell.text


def _failure(view: ScenarioView, cell: Cell, start: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    stopped = f" [{cell.stopped_by}]" if cell.stopped_by is not None else ""
    yield visible(f"    FAIL {view.title}, {cell.function}: {_said(cell, start)}{stopped}")
    yield visible(f"         follows {'; '.join(view.sources)}")
    for step in cell.trace[:TRACE_LINES]:
        yield visible(f"         {step.line()}")
    if len(cell.trace) > TRACE_LINES:
        yield f"         and {plural(len(cell.trace) - TRACE_LINES, 'more step')}; dry-run --json has all of them"


def _proofs(proofs: Sequence[Proof]) -> Iterator[str]:
    for proof in proofs:
        later = f" with {', '.join(proof.plugged)} plugged" if proof.plugged else ""
        yield visible(f"Isolation of {proof.vm} on {proof.smmu}{later}: {'proved' if proof.proved else 'NOT PROVED'}; {proof.text}")
        yield from (visible(f"  {line}") for line in (*proof.hardware, *proof.steps))
    if proofs:
        yield "The proofs rest on:"
        yield from (visible(f"  {text}") for text in dict.fromkeys(text for proof in proofs for text in proof.assumptions))
        yield ""


def _cost(cost: Cost) -> Iterator[str]:
    tables = cost.tables
    yield visible(f"Cost of {cost.vm} ({cost.workload})")
    yield (
        f"  tables: stage 2 {_kib(tables.stage2)}, guest's stream table {_kib(tables.stream_table)}, "
        f"context descriptors {_kib(tables.context)}, stage 1 {_kib(tables.stage1)}"
    )
    yield f"  a TLB miss loads {cost.loads_per_miss} descriptors, {cost.loads_best} with walk caches warm"
    for way in cost.unmap:
        mark = " (hypothetical)" if way.hypothetical else ""
        counts = ", ".join(
            (plural(way.commands, "command"), f"{way.syncs} CMD_SYNC", plural(way.exits, "exit"), plural(way.ioctls, "ioctl"))
        )  # fmt: skip
        yield visible(f"  unmap by {way.way}{mark}: {counts}; {way.text}")
    for layout in cost.layouts:
        yield visible(
            f"  layout {layout.layout}: {plural(layout.vsmmus, 'vSMMU')}, {plural(layout.commands, 'command')} per unmap, "
            f"{layout.iotlb_entries} TLB entries, {layout.loads} loads to fill them; {layout.text}"
        )
    yield ""


def _kib(count: int) -> str:
    return size(-(-count // 1024) * 1024) if count else "0"


def trace_lines(trace: TraceView) -> Iterator[str]:
    """One address, in each situation."""
    yield visible(f"{trace.function} at {trace.iova}")
    for situation in trace.situations:
        yield visible(f"  {situation.situation}, {situation.access}: {situation.outcome}")
        yield from (visible(f"    {step.line()}") for step in situation.steps)
