"""Everything known of one function, SMMU or heading, as lines. The words are those of ``list`` and ``show``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from wizard.base.action import on_screen
from wizard.base.finding import grouped
from wizard.base.glyphs import Glyphs
from wizard.base.text import plural
from wizard.host.describe import Row, capability_rows, function_rows, group_text, headline, kernel_text, pages_text, product_text, smmu_rows
from wizard.host.known import Known, Source
from wizard.host.log.findings import findings_about
from wizard.host.model import Accel, Function, Host, Smmu
from wizard.plan.model import Plan
from wizard.tui.lines import (
    ACCEL_ROLE,
    BLANK,
    SEVERITY_ROLE,
    Line,
    Span,
    accel_word,
    cut,
    finding_lines,
    heading,
    item_lines,
    line,
    severity_mark,
    wrap,
)
from wizard.tui.rows import Index, comes_along
from wizard.tui.state import Session

_LABEL = 12  # columns: "host uses it", the longest of a function


def host_words(host: Host) -> str:
    """Product, kernel and page size in one line."""
    return " · ".join((product_text(host), kernel_text(host), pages_text(host)))


def known_lines(known: Mapping[str, Known], width: int) -> Iterator[Line]:
    """Capabilities: name, value, where it is known from, and what is worth saying about it."""
    names = max((len(name) for name in known), default=0)
    for row in capability_rows(known):
        value = known[row.key]
        role = "dim" if not value.known else "good" if value.value is True else "" if value.value else "dim"
        first = f"  {row.label:{names}}  "
        shown = row.value
        lead: list[Span] = [(first, ""), (f"{shown:<8} ", role), (f"{row.source:<8} ", "warn" if value.source is Source.ASSUMED else "dim")]
        room = width - len(first) - max(9, len(shown) + 1) - 9
        note = list(wrap(row.note, room, "dim")) if row.note and room > 12 else []
        yield line(*lead, *(note[0].spans if note else ()))
        for more in note[1:]:
            yield line((" " * (width - room), ""), *more.spans)
        if row.note and room <= 12:
            yield from wrap(row.note, width, "dim", first="      ")


_ROLES = {"in_use": "bad", "path": "dim", "assumed": "warn"}


def row_lines(rows: Iterable[Row], width: int) -> Iterator[Line]:
    """Rows with their labels in one column."""
    found = list(rows)
    label = max(_LABEL, *(len(row.label) for row in found))
    for row in found:
        yield from wrap(row.text, width, _ROLES.get(row.key, ""), first=f"  {row.label:<{label}} ", lead="dim")


def function_lines(index: Index, session: Session, address: str, width: int, glyphs: Glyphs) -> Iterator[Line]:
    """One function: what it is, where it is, its verdict with reasons and fixes, what comes along, every capability."""
    host = index.host
    function = host.functions[address]
    yield from wrap(f"{function}  {function.name}", width, "head")
    owner = session.owner(address)
    yield from wrap(owner or "no VM", width, "accent" if owner else "dim", first=f"  {'given to':<{_LABEL}} ", lead="dim")
    yield from row_lines(function_rows(host, function), width)
    yield BLANK
    yield from together_lines(index, session, function, width, glyphs)
    if function.is_bridge:
        yield line("A bridge: it carries others and is not assigned.")
        yield BLANK
    else:
        yield from verdict_lines(host, address, width, glyphs)
    if function.capabilities:
        yield heading("Capabilities: value, known from")
        yield from known_lines(function.capabilities, width)


def together_lines(index: Index, session: Session, function: Function, width: int, glyphs: Glyphs) -> Iterator[Line]:
    """Who is isolated with it and who is of the same device, side by side: an administrator gives both away together, or knows why not."""
    host = index.host
    group = host.groups.get(function.group) if function.group is not None else None
    members = [device for device in (group.devices if group else ()) if device != str(function)]
    companions = [str(other) for other in index.companions(str(function))]
    if not members and not companions:
        return
    half = max(24, (width - 2) // 2)

    def cell(address: str) -> str:
        other = host.functions.get(address)
        if other is None:
            return cut(f"  {address}", half, glyphs.more)
        what = "bridge" if other.is_bridge else session.owner(address) or other.facts.driver or "no driver"
        return cut(f"  {address} {what}  {other.facts.device_name or other.name}", half, glyphs.more)

    yield line((cut(f"In IOMMU group {function.group}", half, glyphs.more), "head"), "  ", ("Of the same device", "head"))
    for place in range(max(len(members), len(companions), 1)):
        left = cell(members[place]) if place < len(members) else cut("  nobody else" if place == 0 else "", half)
        right = cell(companions[place]) if place < len(companions) else "  nobody else" if place == 0 else ""
        yield line(left, "  ", right.rstrip())
    yield BLANK


def verdict_lines(host: Host, address: str, width: int, glyphs: Glyphs) -> Iterator[Line]:
    """The verdict with its reasons and what is to do."""
    verdict = host.verdict(address)
    yield line(("Acceleration: ", "head"), (accel_word(verdict.accel, glyphs), ACCEL_ROLE[verdict.accel]))
    for finding in verdict.reasons:
        yield from finding_lines(finding, width, glyphs)
    if verdict.accel is Accel.YES and not verdict.reasons:
        yield line(("Every condition is known to hold.", "dim"))
    yield BLANK
    if verdict.todo:
        yield heading("To do before it can be given away")
        for finding in verdict.todo:
            yield from finding_lines(finding, width, glyphs)
        yield BLANK
    yield from log_lines(host, address, width, glyphs)
    if along := comes_along(host, address):
        yield heading("Comes along: the same IOMMU group")
        for other in along:
            yield line(f"  {other}  {host.functions[other].name}")
        yield BLANK


def log_lines(host: Host, subject: str, width: int, glyphs: Glyphs) -> Iterator[Line]:
    """What the kernel's log says of a function or an SMMU."""
    if told := findings_about(host, [subject]):
        yield heading("The kernel's log says")
        for finding in told:
            yield from finding_lines(finding, width, glyphs)
        yield BLANK


def smmu_lines(host: Host, smmu: Smmu, width: int, glyphs: Glyphs) -> Iterator[Line]:
    """One SMMU: place, what this kernel uses, what the hardware has."""
    yield line((smmu.name, "head"))
    yield from row_lines(smmu_rows(host, smmu), width)
    yield BLANK
    yield from log_lines(host, smmu.name, width, glyphs)
    if smmu.capabilities:
        yield heading("What this kernel uses: value, known from")
        yield from known_lines(smmu.capabilities, width)
        yield BLANK
    if smmu.hardware:
        yield heading("What the hardware has (ID registers)")
        yield from known_lines(smmu.hardware, width)


def detail_lines(index: Index, session: Session, key: str | None, width: int, glyphs: Glyphs) -> list[Line]:
    """Whatever a row of the host stands for."""
    host = index.host
    if key is None:
        return [line(("Nothing matches the filter.", "dim"))]
    if key in host.functions:
        return list(function_lines(index, session, key, width, glyphs))
    if key in host.smmus:
        return list(smmu_lines(host, host.smmus[key], width, glyphs))
    if "/" in key:
        above, _, segment = key.rpartition("/")
        below = [address for address in index.order if key_of_segment(host, address) == key]
        return [line((f"Segment {segment}", "head")), *wrap(f"{plural(len(below), 'function')} behind {above}.", width)]
    return [line((key, "head")), *wrap("Functions that no SMMU translates for: the firmware names none for them, or the kernel uses none.", width)]


def explained_lines(index: Index, plan: Plan | None, subject: str | None, width: int, glyphs: Glyphs) -> list[Line]:
    """What is found about a function or an SMMU, on the host and in the plan, with why and the fix; about everything without one."""
    host = index.host
    found = grouped(plan.findings) if plan is not None else ()
    if subject is not None:
        found = tuple(item for item in found if subject in item.subjects or any(subject in text for text in (item.finding.what, item.finding.why)))
    lines: list[Line] = []
    if subject is not None and subject in host.functions and not host.functions[subject].is_bridge:
        lines += verdict_lines(host, subject, width, glyphs)
    elif subject is not None and subject in host.smmus:
        lines += log_lines(host, subject, width, glyphs)
    if found:
        lines.append(heading("Found about the VMs"))
    for item in found:
        lines += [*item_lines(item, width, glyphs), BLANK]
    return lines


def key_of_segment(host: Host, address: str) -> str:
    """The key of the tree's segment that a function is in."""
    function = host.functions[address]
    return f"{function.smmu or 'no SMMU in use'}/{function.address.segment:04x}"


def _smmu_summary(smmu: Smmu, width: int, glyphs: Glyphs) -> list[Line]:
    # What decides most, whole: the row of the table is too short for it.
    place = "" if smmu.numa_node is None else f", node {smmu.numa_node}"
    first = line((f"{smmu.name} ", "head"), (f"{smmu.kind}{place}, {plural(len(smmu.functions), 'function')}", "bold"))
    if smmu.kind != "smmuv3":
        return [first, line(("acceleration is an SMMUv3 matter", "dim"))]
    words = "  ".join(headline(smmu))
    asked = "ID registers not asked yet: p leads there" if smmu.registers is None else f"ID registers asked of {smmu.registers.asked}"
    return [first, *wrap(words, width), line((f"{asked}; enter: all of it", "dim"))]


def summary_lines(index: Index, session: Session, key: str | None, width: int, glyphs: Glyphs, height: int = 4) -> list[Line]:
    """The same in a few lines: name, verdict, and the first reason with its fix."""
    host = index.host
    if key is not None and key in host.smmus:
        return _smmu_summary(host.smmus[key], width, glyphs)[:height]
    if key is None or key not in host.functions:
        return detail_lines(index, session, key, width, glyphs)[:height]
    function = host.functions[key]
    lines = [line((f"{function} ", "head"), (function.name, "bold"))]
    if function.is_bridge:
        return [*lines, line(("a bridge: it carries others and is not assigned", "dim"))]
    verdict = host.verdict(key)
    owner = session.owner(key)
    place: list[Span | str] = [
        (accel_word(verdict.accel, glyphs), ACCEL_ROLE[verdict.accel]),
        f"  group {group_text(host, function)}  driver {function.facts.driver or 'none'}",
        (f"  in {owner}" if owner else "", "accent"),
    ]
    lines.append(line(*place))
    findings = [*verdict.reasons, *verdict.todo]
    if findings:
        one = findings[0]
        more = f" (+{len(findings) - 1} more)" if len(findings) > 1 else ""
        lines.append(
            line(
                (f"{severity_mark(one.severity, glyphs)} ", SEVERITY_ROLE[one.severity]),
                (cut(on_screen(one.what), width - 2 - len(more), glyphs.more).rstrip() + more, SEVERITY_ROLE[one.severity]),
            )
        )
        lines.append(line(("fix ", "accent"), cut(on_screen(one.fix), width - 22, glyphs.more).rstrip(), ("  enter: all of it", "dim")))
    else:
        lines.append(line(("every condition is known to hold; nothing is to do first", "dim")))
    return lines[:height]
