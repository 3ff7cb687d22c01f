"""``list``, ``show`` and ``doctor``."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from wizard.base.errors import UsageError
from wizard.base.exits import Exit
from wizard.base.shares import in_shares
from wizard.base.text import plural, visible
from wizard.cli.lines import PIPE, SIGN, Line, Span, line
from wizard.cli.output import face, finding_lines, item_lines, print_json, print_json_pieces, print_lines, quiet, say, summary, table_lines
from wizard.cli.source import host_for
from wizard.cli.subject import find_smmu
from wizard.facts.held import Place, why_unread
from wizard.facts.model import PASTE
from wizard.facts.scope import Scope
from wizard.host.describe import Row, capability_rows, function_rows, headline, kernel_text, pages_text, product_text, smmu_rows
from wizard.host.iort import promises, ranges, smmu_at, word
from wizard.host.known import Known
from wizard.host.model import KIND_NAMES, Accel, Function, Host, Smmu

if TYPE_CHECKING:
    from wizard.host.doctor import Diagnosis

_VALUE_ROLE = {"yes": "good", "unknown": "warn"}
_SIGNS = {Accel.YES: "yes", Accel.NO: "no", Accel.UNKNOWN: "unknown"}
_ACCEL_ROLE = {Accel.YES: "good", Accel.NO: "bad", Accel.UNKNOWN: "warn"}


def run_list(arguments: argparse.Namespace) -> int:
    """Functions and their SMMUs."""
    if arguments.ndjson or arguments.csv:
        from wizard.cli.rows import run_rows

        return run_rows(arguments)
    host = host_for(arguments, Scope.WHOLE if arguments.json or arguments.filter else Scope.TABLE)
    smmu = find_smmu(host, arguments.smmu).name if arguments.smmu else None
    kept = _filtered(host, arguments.filter) if arguments.filter else None
    if arguments.json:
        from wizard.host.view import list_json

        print_json_pieces(list_json(host, smmu, kept))
    elif quiet():
        print_lines(address for address, one in host.functions.items() if _is_kept(address, kept) and smmu in (None, one.smmu))
    else:
        print_lines(list_lines(host, smmu, kept))
        if kept is not None and not kept:
            say(f"No function is what is looked for: {' '.join(arguments.filter)}")
    return Exit.OK


def _filtered(host: Host, words: Sequence[str]) -> set[str]:
    """The functions that the wizard's filter finds; UsageError for what only the wizard knows."""
    from wizard.host.filter import Texts, matches, parse_filter

    wanted = parse_filter(" ".join(words))
    if any(field == "vm" for field, _ in wanted.words):
        raise UsageError("list knows no VMs, and so can't look for vm:.", "Leave it away; the wizard's filter takes it.")
    texts = Texts(host)
    return {address for address in texts.order if matches(texts, address, wanted, None)}


def _is_kept(address: str, kept: Collection[str] | None) -> bool:
    return kept is None or address in kept


def list_lines(host: Host, smmu: str | None = None, kept: Collection[str] | None = None) -> Iterable[str]:
    """The host's line, then a table of functions under each SMMU; with ``kept`` only those functions, and the SMMUs above them."""
    yield host_line(host)
    yield from source_lines(host)
    yield from kind_lines(host)
    wanted = [one for one in host.smmus.values() if smmu is None or one.name == smmu]
    tables = [[host.functions[address] for address in one.functions if _is_kept(address, kept)] for one in wanted]
    titles: list[str] = [smmu_line(one) for one in wanted]
    if kept is not None:
        titles = [title for title, functions in zip(titles, tables, strict=True) if functions]
        tables = [functions for functions in tables if functions]
    rest = [function for address, function in host.functions.items() if function.smmu is None and _is_kept(address, kept)]
    if rest and smmu is None:
        unread = host.facts.origin == PASTE and why_unread(host.facts, Place.IOMMUS) is not None
        kind = "SMMU" if any(one.kind == "smmuv3" for one in host.smmus.values()) else "IOMMU"
        apart: tuple[list[Function], list[Function]] = ([], [])
        for function in rest:
            apart[unread or any(reason.code == "smmu-unknown" for reason in host.verdict(str(function)).reasons)].append(function)
        for title, some in zip((f"Behind no {kind} that the kernel uses:", f"Whether they are behind an {kind} is not known:"), apart, strict=True):
            if some:
                titles.append(title)
                tables.append(some)

    def draw(share: Sequence[list[Function]]) -> list[list[str]]:
        return [list(_function_table(host, functions)) for functions in share]

    # Most of it is the verdicts, one for each function.
    drawn = in_shares(list[list[str]], tables, draw, weigh=len)
    for title, lines in zip(titles, (lines for share in drawn for lines in share), strict=True):
        yield ""
        yield title
        yield from lines
    if host.assumed:
        yield ""
        yield "* assumed: nobody measured or published it (`smmu-wizard show` says why)"
    if face() != PIPE:
        yield ""
        yield _list_summary(host, tables)


def _list_summary(host: Host, tables: Sequence[Sequence[Function]]) -> Line:
    """The last line where somebody looks: how many of what is listed can be accelerated."""
    shown = [function for functions in tables for function in functions]
    verdicts = Counter(host.verdict(str(function)).accel for function in shown if not function.is_bridge)
    spans: list[Span | str] = [f"{plural(len(shown), 'function')} listed; endpoints: "]
    for accel in Accel:
        spans += ["" if accel is Accel.YES else ", ", (f"{verdicts[accel]} {accel.value}", _ACCEL_ROLE[accel])]
    return line(*spans)


def kind_lines(host: Host) -> Iterable[str]:
    """On hosts without SMMUv3, that acceleration is no matter of theirs."""
    from wizard.host.hostrules import not_smmuv3

    told = [visible(f"{finding.what} {finding.why}") for finding in not_smmuv3(host)]
    yield from told
    if not host.smmus and host.functions and not told:
        looked = why_unread(host.facts, Place.IOMMUS) is None
        yield f"{'This host shows no SMMU' if looked else 'IOMMUs were not looked at here'}: `smmu-wizard doctor` says what to do about it."
    elif not host.functions and why_unread(host.facts, Place.FUNCTIONS) is not None:
        yield "PCI functions were not looked at here: `smmu-wizard doctor` says what would tell."


def source_lines(host: Host) -> Iterable[str]:
    """What a paste rests on."""
    if host.facts.rests_on:
        yield visible(f"This rests on: {', '.join(host.facts.rests_on)}. What that does not hold is unknown.")


def host_line(host: Host) -> str:
    """Product, kernel and page size in one line."""
    facts = host.facts
    parts = [
        product_text(host),
        f"{kernel_text(host)} {facts.kernel.machine}".rstrip(),
        pages_text(host),
        plural(len(host.smmus), "SMMU" if any(s.kind == "smmuv3" for s in host.smmus.values()) else "IOMMU"),
        plural(len(host.functions), "PCI function"),
    ]
    if facts.assumptions:
        parts.append(f"{plural(len(facts.assumptions), 'value')} assumed")
    return visible(" · ".join(parts))


def smmu_line(smmu: Smmu) -> Line:
    """Name, place and the capabilities that decide most."""
    words: list[str] = []
    if smmu.numa_node is not None:
        words.append(f"node {smmu.numa_node}")
    if smmu.kind == "smmuv3":
        words += headline(smmu)
    else:
        words.append(KIND_NAMES.get(smmu.kind, smmu.kind))
    return line((smmu.name, "head"), *(f"  {word}" for word in words))


def _function_table(host: Host, functions: list[Function]) -> Iterable[str]:
    if not functions:
        yield "  no PCI function"
        return
    rows: list[tuple[Span | str, ...]] = [tuple((word, "dim") for word in ("  FUNCTION", "ACCEL", "STREAM", "GROUP", "DRIVER", "NAME"))]
    for function in functions:
        assumed = host.assumed.below(f"functions.{function}") if host.assumed else {}
        place, group, driver, name = ("*" if assumed.keys() & fields else "" for fields in _MARKED) if assumed else _UNMARKED
        if host.assumed and function.group is not None and host.assumed.covers(f"groups.{function.group}"):
            group = "*"
        streams = ",".join(f"{stream:#x}" for stream in function.stream_ids) or "-"
        made_up = "*" if function.stream_source.source == "assumed" else ""
        number = "-" if function.group is None else f"{function.group}{group}"
        accel = ("bridge", "dim") if function.is_bridge else _accel(host.verdict(function.facts.address).accel)
        words = (f"  {function}{place}", accel, streams + made_up, number, visible(function.facts.driver) + driver if function.facts.driver else "-")
        rows.append((*words, visible(function.name) + name))
    yield from table_lines(rows)


def _accel(accel: Accel) -> Span:
    """A verdict in a table, with a sign where there are some."""
    glyphs = face().glyphs
    sign = "" if glyphs is None else f"{getattr(glyphs, _SIGNS[accel])} "
    return sign + accel.value, _ACCEL_ROLE[accel]


# Fields of a function that each marked column of the table rests on.
_UNMARKED = ("", "", "", "")
_MARKED = ({"address", "path", "iommu", "*"}, {"iommu_group", "*"}, {"driver", "*"}, {"device", "vendor", "*"})


def run_show(arguments: argparse.Namespace) -> int:
    """Everything known of one function or SMMU."""
    from wizard.cli.subject import subject_of

    host = host_for(arguments)
    found = subject_of(host, arguments.subject)
    if isinstance(found, Smmu):
        smmu = found
        if arguments.json:
            from wizard.host.log.findings import findings_about
            from wizard.host.view import SCHEMA, ShowView, firmware_view, smmu_view

            print_json(
                ShowView(
                    SCHEMA,
                    smmu=smmu_view(host, smmu),
                    firmware=firmware_view(host, smmu),
                    log=findings_about(host, [smmu.name]),
                    rows=tuple(smmu_rows(host, smmu)),
                )
            )
        else:
            print_lines(smmu_lines(host, smmu))
        return Exit.OK
    function = found
    if arguments.json:
        from wizard.host.log.findings import findings_about
        from wizard.host.view import SCHEMA, AccelView, ShowView, function_view, group_view, smmu_view

        above, group = host.smmu_of(function), host.groups.get(function.group) if function.group is not None else None
        elsewhere = host.verdicts_elsewhere(function.facts.address)
        print_json(
            ShowView(
                SCHEMA,
                function=function_view(host, function),
                smmu=smmu_view(host, above) if above else None,
                group=group_view(host, group) if group else None,
                companions=tuple(str(other) for other in host.companions(function)),
                log=findings_about(host, [str(function)]),
                rows=tuple(function_rows(host, function)),
                other_vmms={vmm.value: AccelView(verdict.accel, verdict.reasons) for vmm, verdict in elsewhere.items()},
            )
        )
    else:
        print_lines(function_lines(host, function))
    return Exit.OK


def function_lines(host: Host, function: Function) -> Iterable[str]:
    """One function for people: identity, place, verdict, capabilities with their sources."""
    verdict = host.verdict(function.facts.address)
    yield line((f"{function}  {function.name}", "head"), f"  [{function.ids}]")
    yield from source_lines(host)
    yield from _rows_table(function_rows(host, function))
    elsewhere = host.verdicts_elsewhere(function.facts.address)
    differ = [f"; with {vmm.name_of_it}: {other.accel.value}" for vmm, other in elsewhere.items() if other.accel is not verdict.accel]
    role = _ACCEL_ROLE[verdict.accel]
    yield line(("Acceleration:", "head"), " ", (_SIGNS[verdict.accel], SIGN), (verdict.accel.value, role), "".join(differ))
    yield from finding_lines(verdict.reasons)
    if verdict.todo:
        yield "To do before it can be given away:"
        yield from finding_lines(verdict.todo)
    yield from _log_lines(host, [str(function)])
    yield "Capabilities:"
    yield from known_table(function.capabilities)


def _log_lines(host: Host, subjects: Sequence[str]) -> Iterable[str]:
    from wizard.host.log.findings import findings_about

    if told := findings_about(host, subjects):
        yield "The kernel's log says:"
        yield from finding_lines(told)


def _rows_table(rows: Iterable[Row]) -> Iterable[str]:
    return table_lines([((f"  {row.label}", "dim"), row.text) for row in rows])


def smmu_lines(host: Host, smmu: Smmu) -> Iterable[str]:
    """One SMMU for people."""
    yield line((smmu.name, "head"))
    yield from _rows_table(smmu_rows(host, smmu))
    if smmu.kind != "smmuv3":
        yield from kind_lines(host)
        return
    yield from _log_lines(host, [smmu.name])
    yield "This kernel uses:"
    yield from known_table(smmu.capabilities)
    yield "The hardware has:"
    yield from known_table(smmu.hardware)
    yield f"The firmware ({'device tree' if host.by_tree else 'IORT'}) says:"
    node, on_tree = smmu_at(host.iort, smmu.base), host.device_tree.named(smmu.name, smmu.device) if host.by_tree else None
    if on_tree is not None:
        yield visible("  " + ", ".join(f"{name} {word(value)}" for name, value in host.device_tree.promises(on_tree).items()))
        yield from (visible(f"  {row.words}") for row in host.device_tree.ranges(on_tree))
    elif node is not None and host.iort is not None:
        yield visible("  " + ", ".join(f"{name} {word(value)}" for name, value in promises(node).items()))
        yield from (visible(f"  {one.words}") for one in ranges(host.iort) if one.smmu is node)
    else:
        yield f"  nothing: {_nothing_said(host)}"
        return
    rows = [(f"  {address}", f"{function.address.rid:#06x}", ",".join(f"{stream:#x}" for stream in function.stream_ids) or "-",
             str(function.stream_source.source)) for address in smmu.functions if (function := host.functions.get(address))]  # fmt: skip
    if rows:
        yield from table_lines([tuple((word, "dim") for word in ("  FUNCTION", "REQUESTER", "STREAM", "FROM")), *rows])


def _nothing_said(host: Host) -> str:
    if host.by_tree:
        return "the device tree does not name it" if host.facts.device_tree_nodes else "the device tree was not read"
    return "no IORT was read" if host.iort is None else "IORT does not name it"


def known_table(known: Mapping[str, Known]) -> Iterable[str]:
    """Name, value, source and note."""
    rows = [(f"  {row.label}", (row.value, _VALUE_ROLE.get(row.value, "")), (row.source, "dim"), row.note) for row in capability_rows(known)]
    return table_lines(rows) if rows else ["  nothing known"]


def run_doctor(arguments: argparse.Namespace) -> int:
    """What stands in the way on this host, or how old what it is judged by is."""
    if arguments.knowledge:
        return _run_knowledge(json=arguments.json)
    from wizard.host.doctor import diagnose

    host = host_for(arguments)
    diagnosis = diagnose(host)
    if arguments.json:
        print_json(diagnosis)
    else:
        print_lines(_doctor_lines(host, diagnosis))
    return Exit.FINDINGS if diagnosis.errors else Exit.OK


def _run_knowledge(*, json: bool) -> int:
    """How old the tables are; no host is looked at."""
    from datetime import UTC, datetime

    from wizard.knowledge.age import knowledge, lines

    view = knowledge(datetime.now(UTC).date())
    if json:
        print_json(view)
    else:
        print_lines(lines(view))
    return Exit.OK


def _doctor_lines(host: Host, diagnosis: Diagnosis) -> Iterable[str]:
    if quiet():
        for area in diagnosis.areas:
            yield from item_lines(area.findings)
        return
    yield host_line(host)
    yield from source_lines(host)
    counts = Counter(host.verdict(address).accel for address, function in host.functions.items() if not function.is_bridge)
    yield "Endpoints that can be accelerated: " + ", ".join(f"{counts[accel]} {accel.value}" for accel in Accel)
    for area in diagnosis.areas:
        if lines := list(item_lines(area.findings)):
            yield ""
            yield f"{area.area[0].upper()}{area.area[1:]}:"
            yield from lines
    if not diagnosis.areas:
        yield "Nothing stands in the way."
    elif face() != PIPE:
        yield ""
        yield from summary([item for area in diagnosis.areas for item in area.findings])
