"""What the firmware says: IORT by SMMU, with the StreamID of every function, as lines. No Textual here."""

from __future__ import annotations

from collections.abc import Iterator

from wizard.base.glyphs import Glyphs
from wizard.base.text import plural
from wizard.host.iort import Iort, Rmr, promises, ranges, smmu_at, word
from wizard.host.model import Function, Host
from wizard.tui.lines import BLANK, Line, Span, columns, cut, finding_lines, heading, line, wrap
from wizard.tui.rows import Index


def iort_lines(index: Index, width: int, glyphs: Glyphs) -> list[Line]:
    """The whole table as far as it decides over functions. A line whose key is an address is that function's."""
    host = index.host
    table = host.iort
    lines: list[Line] = []
    if host.by_tree:
        words = "This host has a device tree (/sys/firmware/devicetree/base): iommu-map of each host bridge says who is behind which SMMU."
        lines += wrap(words if host.facts.device_tree_nodes else "This host has a device tree, which was not read.", width)
    elif table is None:
        words = "No IORT was read: it is ACPI's table of SMMUs and StreamIDs on arm64 (/sys/firmware/acpi/tables/IORT, which needs root)."
        lines += [*wrap(words, width, "warn"), BLANK]
    else:
        lines += wrap(
            f"IORT revision {table.revision} of {table.oem_id} {table.oem_table_id}: {plural(len(table.nodes), 'node')}, {table.length} bytes.", width
        )
    for finding in host.iort_findings:
        lines += finding_lines(finding, width, glyphs)
    if table is not None:
        lines += [BLANK, *_root_complexes(table)]
        lines += [one for rmr in table.rmrs for one in _rmr(rmr, width)]
    by_smmu: dict[str | None, list[Function]] = {}
    for address in index.order:
        function = host.functions[address]
        by_smmu.setdefault(function.smmu or function.iort_smmu, []).append(function)
    for name in (*host.smmus, *(name for name in by_smmu if name is not None and name not in host.smmus)):
        smmu = host.smmus.get(name)
        lines += [BLANK, heading(name if smmu else f"{name}, which the kernel does not use")]
        node = smmu_at(table, smmu.base) if smmu else None
        if node is not None and table is not None:
            words = ", ".join(f"{key} {word(value)}" for key, value in promises(node).items())
            lines += wrap(f"{node.name}: {words}", width, "dim", first="  ")
            for one in ranges(table):
                if one.smmu is node:
                    lines += wrap(one.words, width, first="  ", rest="    ")
        on_tree = host.device_tree.named(name, smmu.device) if host.by_tree and smmu else None
        if on_tree is not None:
            words = ", ".join(f"{key} {word(value)}" for key, value in host.device_tree.promises(on_tree).items())
            lines += wrap(words, width, "dim", first="  ")
            lines += [one for row in host.device_tree.ranges(on_tree) for one in wrap(row.words, width, first="  ", rest="    ")]
        lines += _functions(host, by_smmu.get(name, []), width, glyphs.more)
    if by_smmu.get(None):
        lines += [BLANK, heading("Without an SMMU"), *_functions(host, by_smmu[None], width, glyphs.more)]
    return lines


def _root_complexes(table: Iort) -> Iterator[Line]:
    told = {f"{segment:04x}": promises(node) for segment, node in sorted(table.root_complexes.items())}
    names = next(iter(told.values()), {})
    rows: list[tuple[Span | str, ...]] = [(("SEGMENT", "dim"), *((name.upper(), "dim") for name in names))]
    for segment, one in told.items():
        cells = [(word(value), "good" if name == "canwbs" and value else "") for name, value in one.items()]
        rows.append(((segment, "bold"), *cells))
    if told:
        yield from columns(rows, indent=0)


def _rmr(rmr: Rmr, width: int) -> Iterator[Line]:
    regions = ", ".join(f"{region.start:#x} to {region.end:#x}" for region in rmr.regions)
    streams = ", ".join(f"{one.output_base:#x}" for one in rmr.mappings) or "none"
    yield from wrap(f"{regions} mapped one to one for StreamIDs {streams}", width, first="reserved memory  ", lead="bold")


def _functions(host: Host, functions: list[Function], width: int, more: str) -> Iterator[Line]:
    streams = {str(function): ",".join(f"{stream:#x}" for stream in function.stream_ids) or "-" for function in functions}
    wide = max(8, *(len(text) + 2 for text in streams.values())) if streams else 8
    if functions:
        yield line((f"  {'FUNCTION':<14}{'REQUESTER':<11}{'STREAM':<{wide}}{'FROM':<9}NAME", "dim"))
    for function in functions:
        text = streams[str(function)]
        source = str(function.stream_source.source) if function.stream_ids else "-"
        first = f"  {function!s:<14}{function.address.rid:<#11x}{text:<{wide}}{source:<9}"
        yield line((first + cut(function.name, max(8, width - len(first)), more).rstrip(), "dim" if function.is_bridge else ""), key=str(function))
