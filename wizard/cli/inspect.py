"""``list``, ``show`` and ``doctor``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence

from wizard.base.address import Address
from wizard.base.errors import UsageError
from wizard.base.exits import Exit
from wizard.base.finding import Finding, Item
from wizard.base.shares import in_shares
from wizard.base.text import plural, visible
from wizard.cli.output import print_json, print_lines, table
from wizard.cli.source import host_for
from wizard.facts.held import Place, why_unread
from wizard.host.describe import Row, capability_rows, function_rows, headline, kernel_text, pages_text, product_text, smmu_rows
from wizard.host.iort import promises, ranges, smmu_at, word
from wizard.host.known import Known
from wizard.host.model import KIND_NAMES, Accel, Function, Host, Smmu

_ALSO = 12  # further subjects of one finding that doctor names before it only counts


def run_list(arguments: argparse.Namespace) -> int:
    """Functions and their SMMUs."""
    host = host_for(arguments)
    smmu = find_smmu(host, arguments.smmu).name if arguments.smmu else None
    if arguments.json:
        from wizard.host.view import list_view

        print_json(list_view(host, smmu))
    else:
        print_lines(list_lines(host, smmu))
    return Exit.OK


def list_lines(host: Host, smmu: str | None = None) -> Iterable[str]:
    """The host's line, then a table of functions under each SMMU."""
    yield host_line(host)
    yield from kind_lines(host)
    wanted = [one for one in host.smmus.values() if smmu is None or one.name == smmu]
    tables = [[host.functions[address] for address in one.functions] for one in wanted]
    titles = [smmu_line(one) for one in wanted]
    rest = [function for function in host.functions.values() if function.smmu is None]
    if rest and smmu is None:
        kind = "SMMU" if any(one.kind == "smmuv3" for one in host.smmus.values()) else "IOMMU"
        lost = [function for function in rest if any(reason.code == "smmu-unknown" for reason in host.verdict(str(function)).reasons)]
        for title, some in (
            (f"Behind no {kind} that the kernel uses:", [function for function in rest if function not in lost]),
            (f"Whether they are behind an {kind} is not known:", lost),
        ):
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


def smmu_line(smmu: Smmu) -> str:
    """Name, place and the capabilities that decide most."""
    words = [smmu.name]
    if smmu.numa_node is not None:
        words.append(f"node {smmu.numa_node}")
    if smmu.kind == "smmuv3":
        words += headline(smmu)
    else:
        words.append(KIND_NAMES.get(smmu.kind, smmu.kind))
    return visible("  ".join(words))


def _function_table(host: Host, functions: list[Function]) -> Iterable[str]:
    if not functions:
        yield "  no PCI function"
        return
    rows = [("  FUNCTION", "ACCEL", "STREAM", "GROUP", "DRIVER", "NAME")]
    for function in functions:
        assumed = host.assumed.below(f"functions.{function}") if host.assumed else {}
        place, group, driver, name = ("*" if assumed.keys() & fields else "" for fields in _MARKED) if assumed else _UNMARKED
        if host.assumed and function.group is not None and host.assumed.covers(f"groups.{function.group}"):
            group = "*"
        streams = ",".join(f"{stream:#x}" for stream in function.stream_ids) or "-"
        made_up = "*" if function.stream_source.source == "assumed" else ""
        number = "-" if function.group is None else f"{function.group}{group}"
        accel = "bridge" if function.is_bridge else host.verdict(function.facts.address).accel.value
        words = (f"  {function}{place}", accel, streams + made_up, number, visible(function.facts.driver) + driver if function.facts.driver else "-")
        rows.append((*words, visible(function.name) + name))
    yield table(rows)


# Fields of a function that each marked column of the table rests on.
_UNMARKED = ("", "", "", "")
_MARKED = ({"address", "path", "iommu", "*"}, {"iommu_group", "*"}, {"driver", "*"}, {"device", "vendor", "*"})


def find_function(host: Host, text: str) -> Function:
    """The function a person named; UsageError when there is none."""
    try:
        address = str(Address.parse(text))
    except ValueError as error:
        raise UsageError(f"{visible(text)} is not a PCI address.", "Write it as DDDD:BB:DD.F, for example 0000:14:00.0.") from error
    if address not in host.functions:
        raise UsageError(f"This host has no function {address}.", "See them with `smmu-wizard list`.")
    return host.functions[address]


def find_smmu(host: Host, text: str) -> Smmu:
    """The SMMU a person named, by its whole name or its base; UsageError when there is none."""
    wanted = text.lower()
    for smmu in host.smmus.values():
        if wanted == smmu.name.lower() or (smmu.base is not None and wanted in (f"{smmu.base:#x}", f"{smmu.base:x}")):
            return smmu
    known = ", ".join(host.smmus) or "none"
    raise UsageError(f"This host has no SMMU {visible(text)}.", f"It has: {known}.")


def run_show(arguments: argparse.Namespace) -> int:
    """Everything known of one function or SMMU."""
    host = host_for(arguments)
    subject: str = arguments.subject
    if subject.lower().startswith(("smmu", "0x", "dmar", "ivhd", "iommu")):
        smmu = find_smmu(host, subject)
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
    function = find_function(host, subject)
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
    yield visible(f"{function}  {function.name}  [{function.ids}]")
    yield _rows_table(function_rows(host, function))
    elsewhere = host.verdicts_elsewhere(function.facts.address)
    differ = [f"; with {vmm.name_of_it}: {other.accel.value}" for vmm, other in elsewhere.items() if other.accel is not verdict.accel]
    yield f"Acceleration: {verdict.accel.value}{''.join(differ)}"
    yield from finding_lines(verdict.reasons)
    if verdict.todo:
        yield "To do before it can be given away:"
        yield from finding_lines(verdict.todo)
    yield from _log_lines(host, [str(function)])
    yield "Capabilities:"
    yield known_table(function.capabilities)


def _log_lines(host: Host, subjects: Sequence[str]) -> Iterable[str]:
    from wizard.host.log.findings import findings_about

    if told := findings_about(host, subjects):
        yield "The kernel's log says:"
        yield from finding_lines(told)


def _rows_table(rows: Iterable[Row]) -> str:
    return table([(f"  {row.label}", row.text) for row in rows])


def smmu_lines(host: Host, smmu: Smmu) -> Iterable[str]:
    """One SMMU for people."""
    yield visible(smmu.name)
    yield _rows_table(smmu_rows(host, smmu))
    if smmu.kind != "smmuv3":
        yield from kind_lines(host)
        return
    yield from _log_lines(host, [smmu.name])
    yield "This kernel uses:"
    yield known_table(smmu.capabilities)
    yield "The hardware has:"
    yield known_table(smmu.hardware)
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
        yield table([("  FUNCTION", "REQUESTER", "STREAM", "FROM"), *rows])


def _nothing_said(host: Host) -> str:
    if host.by_tree:
        return "the device tree does not name it" if host.facts.device_tree_nodes else "the device tree was not read"
    return "no IORT was read" if host.iort is None else "IORT does not name it"


def known_table(known: Mapping[str, Known]) -> str:
    """Name, value, source and note."""
    rows = [(f"  {row.label}", row.value, row.source, row.note) for row in capability_rows(known)]
    return table(rows) if rows else "  nothing known"


def finding_lines(findings: Iterable[Finding]) -> Iterable[str]:
    """Each finding as three lines: what, why, fix."""
    for finding in findings:
        yield visible(f"  {finding.severity} [{finding.code}] {finding.what}")
        yield visible(f"    why: {finding.why}")
        yield visible(f"    fix: {finding.fix}")


def item_lines(items: Iterable[Item]) -> Iterable[str]:
    """Findings by cause: the first of each whole, and what else it was found on."""
    for item in items:
        yield from finding_lines([item.finding])
        if len(item.subjects) > 1:
            more = len(item.subjects) - 1 - _ALSO
            rest = f" and {more} more (see --json)" if more > 0 else ""
            yield visible(f"    also ({len(item.subjects)} in all): {', '.join(item.subjects[1 : 1 + _ALSO])}{rest}")


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
        print_lines([host_line(host)])
        counted = [sum(1 for f in host.functions.values() if not f.is_bridge and host.verdict(str(f)).accel is accel) for accel in Accel]
        print("Endpoints that can be accelerated: " + ", ".join(f"{count} {accel.value}" for accel, count in zip(Accel, counted, strict=True)))
        for area in diagnosis.areas:
            print(f"\n{area.area[0].upper()}{area.area[1:]}:")
            print_lines(item_lines(area.findings))
        if not diagnosis.areas:
            print("Nothing stands in the way.")
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
