"""A dry run as lines: the matrix of scenarios and functions, traces with every word decoded, proofs, costs. No Textual here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from wizard.arch.bits import Record
from wizard.arch.cd import CD, L1CD
from wizard.arch.ste import L1STD, STE
from wizard.base.glyphs import Glyphs
from wizard.base.text import size
from wizard.dryrun.cost import Workload
from wizard.dryrun.model import Cell, Cost, Proof, Report, ScenarioView, Status, Stopper
from wizard.tui.lines import BLANK, Line, Span, cut, heading, line, wrap

_RECORDS: dict[str, type[Record]] = {"ste": STE, "l1std": L1STD, "cd": CD, "l1cd": L1CD}
_EVENT = re.compile(r"(\w+Event|Event)\((0x[0-9a-f]+)")
_BAR = 28
ASSUMED = "*"  # behind the sign of what rests on facts that nobody measured
_STEP_ROLES = {"fault": "bad", "event": "bad", "done": "good", "where": "good", "dma": "head", "guest": "head", "command": "head"}


def sign(cell: Cell | None, glyphs: Glyphs) -> Span:
    """The sign of one cell."""
    if cell is None:
        return " ", ""
    return {Status.PASSED: (glyphs.yes, "good"), Status.FAILED: (glyphs.no, "bad"), Status.NOT_APPLICABLE: ("-", "dim")}[cell.status]


def matrix_lines(report: Report, chosen: int, width: int, glyphs: Glyphs) -> list[Line]:
    """A row for each scenario, a column for each function; the chosen column has brackets around its signs, what is assumed a star behind."""
    functions = report.functions
    room = max(20, width - 4 * len(functions) - 1)
    # More functions than columns: a window around the chosen one.
    fit = max(1, (width - 24) // 4)
    first = max(0, min(chosen - fit // 2, len(functions) - fit))
    shown = functions[first : first + fit]
    room = max(room, width - 4 * len(shown) - 1)
    cells = {(cell.vm, cell.function, cell.scenario): cell for cell in report.cells}
    head: list[Span] = [(cut("", room), "")]
    for number, _ in enumerate(shown, first):
        head.append((f"{number + 1:>3} ", "bold" if number == chosen else "dim"))
    lines, group = [line(*head)], ""
    for view in report.scenarios:
        if view.group != group:
            group = view.group
            lines.append(heading(f"{group[0].upper()}{group[1:]}"))
        spans: list[Span] = [(cut(f"  {view.title}", room, glyphs.more), "")]
        for number, function in enumerate(shown, first):
            found = cells.get((function.vm, function.function, view.id))
            text, role = sign(found, glyphs)
            here = number == chosen and len(functions) > 1
            assumed = bool(found and found.assuming and found.status is not Status.NOT_APPLICABLE)
            behind = ASSUMED if assumed else "]" if here else " "
            spans += [(" [" if here else "  ", "dim"), (text, role), (behind, "warn" if assumed else "dim")]
        lines.append(line(*spans, key=view.id))
    return lines


def cell_lines(cell: Cell | None, view: ScenarioView, width: int, glyphs: Glyphs) -> Iterator[Line]:
    """One cell: how it ended, who stopped what, and what it follows."""
    if cell is None:
        return
    mark, role = sign(cell, glyphs)
    words = {Status.PASSED: "passed", Status.FAILED: "failed", Status.NOT_APPLICABLE: "does not apply"}[cell.status]
    yield from wrap(f"{view.title}: {words}. {cell.text}", width, role, first=f"{mark} ", lead=role)
    if cell.assuming:
        yield from wrap(", ".join(cell.assuming), width, "warn", first="  assuming ", lead="dim")
    if cell.stopped_by is not None:
        yield line(
            ("  stopped by ", "dim"),
            (str(cell.stopped_by), "bad" if cell.stopped_by is Stopper.NOBODY else "bold"),
            (f"  in {cell.vm}, {cell.function}", "dim"),
        )
    else:
        yield line((f"  in {cell.vm}, {cell.function}", "dim"))
    yield from wrap("; ".join(view.sources), width, "dim", first="  follows ", lead="dim")


def proof_lines(proofs: Sequence[Proof], width: int, glyphs: Glyphs) -> list[Line]:
    """Isolation: what is proved, how, and on what it rests."""
    lines: list[Line] = []
    for proof in proofs:
        role = "good" if proof.proved else "bad"
        mark = glyphs.yes if proof.proved else glyphs.no
        lines += wrap(f"{proof.vm} on {proof.smmu}: {'isolated' if proof.proved else 'NOT isolated'}", width, role, first=f"{mark} ", lead=role)
        lines += wrap(proof.text, width, first="  ")
        lines.append(line(f"  {proof.pages} leaves, {proof.table_bytes} bytes of tables walked"))
        for step in proof.steps:
            lines += wrap(step, width, first=f"  {glyphs.yes if proof.proved else glyphs.bullet} ", lead=role)
        if proof.counterexample:
            lines += wrap(proof.counterexample, width, "bad", first="  counterexample: ")
        lines.append(BLANK)
    if proofs:
        lines.append(heading("A proof of the plan as modelled, not of the running kernel. It rests on"))
        for text in dict.fromkeys(text for proof in proofs for text in proof.assumptions):
            lines += wrap(text, width, first=f"  {glyphs.bullet} ", lead="dim")
    return lines


def _bars(rows: Sequence[tuple[str, float, str]], width: int, glyphs: Glyphs, scale: dict[str, float], group: str) -> Iterator[Line]:
    # Label, amount, what to say of it: bars of one scale, which stays as long as it is large enough, so that a change is seen.
    most = scale[group] = max(scale.get(group, 1), *(amount for _, amount, _ in rows))
    label = max((len(name) for name, _, _ in rows), default=0)
    for name, amount, words in rows:
        long = round(_BAR * amount / most)
        yield from wrap(
            words,
            width,
            "dim",
            first=f"  {name:<{label}} {glyphs.bar * long}{glyphs.track * (_BAR - long)} {amount:>8g}  ",
            rest=" " * (label + _BAR + 14),
            lead="info",
        )


SLIDERS = {
    "buffer": "unmapped at once",
    "shared": "functions that share a stage 1",
    "mapped": "mapped for an address space",
    "touched": "pages in use",
}
"""The figures of a workload, by the fields of ``Workload``."""


def slider_lines(workload: Workload, glyphs: Glyphs) -> list[Line]:
    """The workload, figure by figure: each can be chosen, and changed by the screen."""
    lines = [line(("Workload", "head"), ("  left and right change the figure under the cursor", "dim"))]
    for name, words in SLIDERS.items():
        amount = getattr(workload, name)
        long = min(_BAR, max(1, amount.bit_length()))
        shown = size(amount) if name in ("buffer", "mapped") else str(amount)
        lines.append(
            line((f"  {words:<32}", ""), (glyphs.bar * long, "accent"), (glyphs.track * (_BAR - long), "dim"), f" {shown}", key=f"slider/{name}")
        )
    return [*lines, BLANK]


def slid(workload: Workload, name: str, step: int) -> Workload:
    """With one figure doubled or halved; functions by one. At least 1, at most 2^40."""
    amount = getattr(workload, name)
    wanted = amount + step if name == "shared" else amount * 2 if step > 0 else amount // 2
    return replace(workload, **{name: max(1, min(wanted, 1 << 40))})


def cost_lines(costs: Sequence[Cost], width: int, glyphs: Glyphs, scale: dict[str, float] | None = None) -> list[Line]:
    """Tables, loads, commands and layouts as bars. ``scale`` keeps the length of a bar from one workload to the next."""
    scale = {} if scale is None else scale
    lines: list[Line] = []
    for cost in costs:
        tables = cost.tables
        lines += [*wrap(f"{cost.vm}: {cost.workload}", width, "head"), BLANK, line(("Memory of tables, KiB", "bold"))]
        sizes = (
            ("stage 2", tables.stage2),
            ("guest's stream table", tables.stream_table),
            ("context descriptors", tables.context),
            ("stage 1", tables.stage1),
        )
        lines += _bars([(name, round(amount / 1024, 1), "") for name, amount in sizes], width, glyphs, scale, f"tables {cost.vm}")
        lines += [BLANK, line(("Memory reads of a TLB miss", "bold"))]
        lines += _bars(
            [("nested, cold", cost.loads_per_miss, ""), ("walk caches warm", cost.loads_best, "")], width, glyphs, scale, f"loads {cost.vm}"
        )
        lines += [BLANK, line(("VM exits for one unmap", "bold"))]
        lines += _bars(
            [(one.way + (" *" if one.hypothetical else ""), one.exits, one.text) for one in cost.unmap], width, glyphs, scale, f"exits {cost.vm}"
        )
        lines += [BLANK, line(("CMD_SYNCs for one unmap", "bold"))]
        lines += _bars(
            [(one.way + (" *" if one.hypothetical else ""), one.syncs, "") for one in cost.unmap], width, glyphs, scale, f"syncs {cost.vm}"
        )
        if any(one.hypothetical for one in cost.unmap):
            lines.append(line(("  * hypothetical: no QEMU does it today", "dim")))
        lines += [BLANK, line(("Commands for one unmap, by layout", "bold"))]
        lines += _bars(
            [(f"{one.layout}, {one.vsmmus} vSMMUs", one.commands, one.text) for one in cost.layouts], width, glyphs, scale, f"layouts {cost.vm}"
        )
        lines.append(BLANK)
    return lines
