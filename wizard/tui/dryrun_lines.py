"""A dry run as lines: the matrix of scenarios and functions, traces with every word decoded, proofs, costs. No Textual here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from wizard.arch import event
from wizard.arch.bits import Record
from wizard.arch.cd import CD, L1CD
from wizard.arch.descriptor import Stage1Leaf, Stage2Leaf, TableDescriptor
from wizard.arch.ste import L1STD, STE
from wizard.base.glyphs import Glyphs
from wizard.dryrun.model import Cell, Cost, Proof, Report, ScenarioView, Status, Step, Stopper, TraceView
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


def step_lines(steps: Sequence[Step], width: int) -> Iterator[Line]:
    """A trace: every step with its address and words, and every word decoded field by field."""
    for number, step in enumerate(steps, 1):
        role = _STEP_ROLES.get(step.what, "")
        where = f"@{step.address} " if step.address else ""
        found = _EVENT.search(step.text) if step.what == "event" else None
        text = step.text[: found.start(1)].rstrip(": ") + " event record" if found else step.text
        yield from wrap(f"{where}{text}", width, role, first=f"{number:>3} {step.what:<8} ", lead="dim")
        for start in range(0, len(step.words), 2):
            yield line(("             ", ""), (" ".join(step.words[start : start + 2]), "c2"))
        decoded = list(decoded_fields(step, found))
        rest = {name: value for name, value in step.detail.items() if name not in {one for one, _, _ in decoded}}
        for name, value, meaning in decoded:
            yield from wrap(f"{value}{f'  {meaning}' if meaning else ''}", width, "", first=f"             {name:<14} ", lead="accent")
        if rest:
            yield from wrap(", ".join(f"{name} {value}" for name, value in rest.items()), width, "dim", first="             ")


def decoded_fields(step: Step, found: re.Match[str] | None) -> Iterator[tuple[str, str, str]]:
    """(field, value, meaning) of the record that a step has read or written; only fields that are not zero, and valid bits."""
    record: Record | None = None
    if found is not None:
        kind = getattr(event, found[1], event.Event)
        record = kind(int(found[2], 16))
    elif step.words:
        kind = _RECORDS.get(step.what) or (_descriptor(step.text) if step.what == "walk" else None)
        if kind is not None:
            record = kind.of_words(int(word, 16) for word in step.words)
    if record is None:
        return
    for name, content in record.fields().items():
        if content or name == "V":
            meaning = getattr(type(record), name).meaning(content)
            yield name, f"{content:#x}", meaning or ""


def _descriptor(text: str) -> type[Record] | None:
    if ": table" in text:
        return TableDescriptor
    if ": page" in text or ": block" in text:
        return Stage1Leaf if text.startswith("stage 1") else Stage2Leaf
    return None


def trace_lines(trace: TraceView, width: int) -> list[Line]:
    """One address in each situation."""
    lines: list[Line] = []
    for one in trace.situations:
        lines += [heading(f"{one.access} of {trace.iova} by {trace.function}, {one.situation}"), *wrap(one.outcome, width, "bold", first="  ")]
        lines += [*step_lines(one.steps, width), BLANK]
    return lines


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


def _bars(rows: Sequence[tuple[str, float, str]], width: int, glyphs: Glyphs) -> Iterator[Line]:
    # Label, amount, what to say of it: bars of one scale.
    most = max((amount for _, amount, _ in rows), default=0) or 1
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


def cost_lines(costs: Sequence[Cost], width: int, glyphs: Glyphs) -> list[Line]:
    """Tables, loads, commands and layouts as bars."""
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
        lines += _bars([(name, round(amount / 1024, 1), "") for name, amount in sizes], width, glyphs)
        lines += [BLANK, line(("Memory reads of a TLB miss", "bold"))]
        lines += _bars([("nested, cold", cost.loads_per_miss, ""), ("walk caches warm", cost.loads_best, "")], width, glyphs)
        lines += [BLANK, line(("VM exits for one unmap", "bold"))]
        lines += _bars([(one.way + (" *" if one.hypothetical else ""), one.exits, one.text) for one in cost.unmap], width, glyphs)
        lines += [BLANK, line(("CMD_SYNCs for one unmap", "bold"))]
        lines += _bars([(one.way + (" *" if one.hypothetical else ""), one.syncs, "") for one in cost.unmap], width, glyphs)
        if any(one.hypothetical for one in cost.unmap):
            lines.append(line(("  * hypothetical: no QEMU does it today", "dim")))
        lines += [BLANK, line(("Commands for one unmap, by layout", "bold"))]
        lines += _bars([(f"{one.layout}, {one.vsmmus} vSMMUs", one.commands, one.text) for one in cost.layouts], width, glyphs)
        lines.append(BLANK)
    return lines
