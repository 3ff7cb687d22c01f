"""The VMs' part of a report: what each has, where it sits, what a dry run makes of it, isolation, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

from wizard.base.finding import grouped
from wizard.base.glyphs import UNICODE
from wizard.base.text import plural, size
from wizard.dryrun.model import Cell, Cost, FunctionView, Proof, Report, ScenarioView, Status
from wizard.host.model import Host
from wizard.picture.letters import letters
from wizard.plan.model import DevicePlan, Plan, VmPlan
from wizard.plan.properties import Property
from wizard.report.html import Content, Markup, joined, row, table, tag, text
from wizard.report.words import Clean, Findings, function_link

_SIGN = {Status.PASSED: (UNICODE.yes, "passed"), Status.FAILED: (UNICODE.no, "failed"), Status.NOT_APPLICABLE: ("–", "dim")}
_COLUMNS = 16  # functions of a VM that have a column each; more are counted


def properties(rows: Sequence[tuple[str, Content]]) -> Markup:
    """Names and values."""
    return tag("dl", *(part for name, value in rows for part in (tag("dt", name), tag("dd", value))))


def vms(host: Host, plan: Plan, told: Findings, clean: Clean) -> Iterator[Markup]:
    """Each VM, then what was found of all of them."""
    signs = letters(vm.name for vm in plan.vms)
    for vm in plan.vms:
        yield tag("section", tag("h3", f"{signs[vm.name][0]}  {vm.name}"), *_vm(host, vm, clean), id=f"vm-{signs[vm.name][0]}")
    if plan.findings:
        yield tag("h3", "Findings of the VMs")
        yield from told.articles(grouped(plan.findings))
    else:
        yield tag("p", "Nothing was found against them.")


def _vm(host: Host, vm: VmPlan, clean: Clean) -> Iterator[Markup]:
    memory = vm.memory
    nodes = ", ".join(
        f"{size(node.memory)} on the host's node {node.host_node}" for node in memory.nodes if node.memory and node.host_node is not None
    )
    rows: list[tuple[str, Content]] = [
        ("for", vm.made_for_vmm), ("mode", vm.mode.value), ("memory", size(memory.size) + (f": {nodes}" if nodes else "")), ("CPUs", str(vm.cpus)),
        ("machine", f"{vm.machine.type}, GIC {vm.machine.gic}"), ("user", clean(vm.user)),
    ]  # fmt: skip
    if vm.firmware is not None:
        rows.append(("firmware", clean(vm.firmware.code)))
    rows += [("disk", clean(f"{disk.path} ({disk.format}{', read only' if disk.readonly else ''})")) for disk in vm.disks]
    rows += [("network", clean(f"{net.kind} {net.source or ''}, {net.mac}")) for net in vm.networks]
    if vm.notes:
        rows.append(("notes", clean(vm.notes)))
    yield properties(rows)
    if vm.vsmmus:
        heads = ("vSMMU", "behind it", "of", "ats", "ril", "ssidsize", "oas", "cmdqv")
        yield table(heads, (_vsmmu(vm, one.id, clean) for one in vm.vsmmus), label=f"vSMMUs of {vm.name}")
    if vm.devices:
        columns = ("function", "name", "in the guest", "vSID", "behind", "driver on the host")
        yield table(columns, (_device(host, one, clean) for one in vm.devices), label=f"functions of {vm.name}")


def _vsmmu(vm: VmPlan, id: str, clean: Clean) -> Markup:
    one = vm.vsmmu(id)
    assert one is not None
    return row(
        [clean(id), plural(len(vm.devices_of(one)), "function"), one.smmu or "not known", *(_property(value) for _, value in one.properties())]
    )


def _property(value: Property) -> Markup:
    shown = "not in this QEMU" if value.written is None else value.written
    resolved = f" → {value.resolved}" if value.auto and value.resolved is not None else ""
    return tag("td", shown + resolved, tag("br"), tag("small", value.origin if value.source == "none" else f"{value.origin}, {value.source}"))


def _device(host: Host, one: DevicePlan, clean: Clean) -> Markup:
    vsid = "–" if one.vsid is None else f"{one.vsid:#x}"
    link = tag("td", function_link(one.host, host.functions), class_="mono")
    return row([link, clean(one.name), str(one.guest), vsid, clean(one.vsmmu or "no vSMMU"), one.driver])


def dry_run(report: Report) -> Iterator[Markup]:
    """The matrix of scenarios and functions, VM by VM, with what happens."""
    if not report.rehearsed:
        yield tag("p", "Nothing was rehearsed: a plan with errors would not start.")
        return
    if report.not_played:
        yield tag("p", f"Not played, for their errors: {', '.join(report.not_played)}.")
    if not report.functions:
        yield tag("p", "There is nothing to rehearse: no function of these VMs is behind an SMMUv3 of this host.")
    for vm, some in groupby(report.functions, attrgetter("vm")):
        yield from _matrix(report, vm, list(some))


def _matrix(report: Report, vm: str, functions: Sequence[FunctionView]) -> Iterator[Markup]:
    cells: dict[str, dict[str, Cell]] = {}
    for cell in report.cells:
        if cell.vm == vm:
            cells.setdefault(cell.scenario, {})[cell.function] = cell
    counts = {status: sum(cell.status is status for some in cells.values() for cell in some.values()) for status in Status}
    yield tag("h3", vm)
    yield tag("p", ", ".join(f"{counts[status]} {_WORD[status]}" for status in Status))
    columns = [one.function for one in functions] if len(functions) <= _COLUMNS else []
    played = [view for view in report.scenarios if view.id in cells]
    rows = []
    for group, views in groupby(played, attrgetter("group")):
        rows.append(tag("tr", tag("th", group, colspan=str(2 + max(1, len(columns))), scope="rowgroup")))
        rows += [_scenario(view, cells[view.id], columns) for view in views]
    yield table(("scenario", *(columns or [plural(len(functions), "function")]), "what happens"), rows, label=f"dry run of {vm}")


_WORD = {Status.PASSED: "passed", Status.FAILED: "failed", Status.NOT_APPLICABLE: "do not apply"}


def _scenario(view: ScenarioView, cells: Mapping[str, Cell], columns: Sequence[str]) -> Markup:
    signs: list[Content]
    if columns:
        signs = [_sign(cells[function].status) if function in cells else text("") for function in columns]
    else:
        signs = [text(", ".join(f"{sum(cell.status is status for cell in cells.values())} {_SIGN[status][0]}" for status in Status))]
    said: dict[str, list[str]] = {}
    for function, cell in cells.items():
        stopped = f" [{cell.stopped_by}]" if cell.stopped_by is not None else ""
        assumed = f" (assuming {', '.join(cell.assuming)})" if cell.assuming else ""
        trace = "".join(f" / {step.line()}" for step in cell.trace[-3:]) if cell.status is Status.FAILED else ""
        said.setdefault(f"{cell.text}{stopped}{assumed}{trace}", []).append(function)
    words = [whole if len(said) == 1 else f"{', '.join(some[:3])}{' …' if len(some) > 3 else ''}: {whole}" for whole, some in said.items()]
    sources = tag("small", ", ".join(view.sources))
    return row([tag("td", view.title, tag("br"), sources), *signs, tag("td", joined(words, " — "))], id=None)


def _sign(status: Status) -> Markup:
    sign, class_ = _SIGN[status]
    return tag("td", tag("span", sign, class_=class_, title=_WORD[status]))


def isolation(proofs: Sequence[Proof]) -> Iterator[Markup]:
    """The proofs with what they rest on."""
    for proof in proofs:
        word = tag("span", f"{UNICODE.yes} proved", class_="proved") if proof.proved else tag("span", f"{UNICODE.no} NOT PROVED", class_="failed")
        later = f" with {', '.join(proof.plugged)} plugged" if proof.plugged else ""
        body: list[Content] = [tag("h3", f"{proof.vm} on {proof.smmu}{later}: ", word), tag("p", proof.text)]
        if proof.counterexample:
            body.append(tag("p", f"Counterexample: {proof.counterexample}", class_="bad"))
        body.append(tag("ul", *(tag("li", step) for step in (*proof.hardware, *proof.steps))))
        yield tag("article", *body, class_="info" if proof.proved else "error")
    rests = dict.fromkeys(words for proof in proofs for words in proof.assumptions)
    if rests:
        yield tag("p", "A proof is one of the plan as it is modelled, not of the running kernel. It rests on:")
        yield tag("ul", *(tag("li", words) for words in rests))


def cost(costs: Sequence[Cost]) -> Iterator[Markup]:
    """What layouts and unmapping cost; bars are drawn against the largest of their kind."""
    for one in costs:
        tables = one.tables
        yield tag("h3", f"{one.vm} ({one.workload})")
        total = (
            ("stage 2", tables.stage2),
            ("guest's stream table", tables.stream_table),
            ("context descriptors", tables.context),
            ("stage 1", tables.stage1),
        )
        yield tag(
            "p", "Tables: ", ", ".join(f"{name} {-(-count // 1024)} KiB" for name, count in total),
            f". A TLB miss loads {one.loads_per_miss} descriptors, {one.loads_best} with walk caches warm.",
        )  # fmt: skip
        most = max((way.exits + way.ioctls for way in one.unmap), default=0)
        heads = ("unmap by", "commands", "CMD_SYNC", "exits", "ioctls", "exits and ioctls", "")
        yield table(heads, (_way(way, most) for way in one.unmap), label=f"unmapping of {one.vm}")
        heads = ("layout", "vSMMUs", "commands per unmap", "TLB entries", "loads to fill them", "", "")
        filled = max((layout.loads for layout in one.layouts), default=0)
        yield table(
            heads,
            (
                row(
                    [
                        layout.layout,
                        str(layout.vsmmus),
                        str(layout.commands),
                        str(layout.iotlb_entries),
                        str(layout.loads),
                        _bar(layout.loads, filled),
                        layout.text,
                    ]
                )
                for layout in one.layouts
            ),
            label=f"layouts of {one.vm}",
        )


def _way(way: object, most: int) -> Markup:
    from wizard.dryrun.model import CommandCost

    assert isinstance(way, CommandCost)
    name = way.way + (" (hypothetical)" if way.hypothetical else "")
    return row([name, str(way.commands), str(way.syncs), str(way.exits), str(way.ioctls), _bar(way.exits + way.ioctls, most), way.text])


def _bar(value: int, most: int) -> Markup:
    return tag("td", tag("meter", str(value), min="0", max=str(most or 1), value=str(value), aria_label=str(value)))
