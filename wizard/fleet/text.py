"""What ``diff``, ``baseline`` and ``match`` print for people."""

from __future__ import annotations

from collections.abc import Iterator

from wizard.base.finding import Finding
from wizard.base.text import plural, size, visible
from wizard.fleet.baseline import BaselineView, Named
from wizard.fleet.diff.model import Area, Change, DiffView, Value, What
from wizard.fleet.place import HostView, MatchView

BYTES = ("memory_total", "memory")
"""Fields that count bytes."""

SHOWN = 20
"""Hosts, and findings of one code, that are shown each by itself; more are counted."""


def diff_lines(view: DiffView) -> Iterator[str]:
    """The two sides, then what differs by area, then the profiles; findings are the caller's."""
    yield f"A  {visible(view.a.name)}: {visible(view.a.host.product or 'unnamed host')}, Linux {visible(view.a.host.kernel)}{_when(view.a.time)}"
    yield f"B  {visible(view.b.name)}: {visible(view.b.host.product or 'unnamed host')}, Linux {visible(view.b.host.kernel)}{_when(view.b.time)}"
    yield {True: "One host.", False: "Two hosts.", None: "The snapshots do not say whether they are of one host."}[view.same_host]
    if not view.changes:
        yield "Nothing that matters to a VM differs."
    area = None
    for change in view.changes:
        if change.area is not area:
            area = change.area
            yield ""
            yield "SMMU:" if area is Area.SMMU else f"{area.value.capitalize()}:"
        yield "  " + visible(_change(change))
    for profile in view.profiles:
        held = {True: "holds", False: "does not hold"}
        yield f"Profile {visible(profile.file)} (VM {visible(profile.vm)}): {held[profile.before]} on A, {held[profile.after]} on B."
    yield ""
    yield f"{plural(len(view.changes), 'change')}, {plural(len(view.findings), 'finding')}."


def _when(time: str | None) -> str:
    return f", recorded {visible(time)}" if time else ""


def _change(change: Change) -> str:
    if change.what is What.MOVED:
        return f"{change.subject}  was {_value(change.before)}"
    if change.what is not What.CHANGED:
        value = change.after if change.what is What.ADDED else change.before
        return f"{change.subject}  {change.what.value}" + (f"  {_value(value)}" if value is not None else "")
    nothing = "none" if change.after_source is None else "unknown"
    if isinstance(change.before, tuple) and isinstance(change.after, tuple):
        gone, new = (
            ", ".join(one for one in these if one not in others) for these, others in ((change.before, change.after), (change.after, change.before))
        )
        told = "; ".join(f"{word}: {these}" for word, these in (("no more", gone), ("new", new)) if these)
        return f"{change.subject}  {change.field}: {told or 'in another order'}"
    if change.field in BYTES and isinstance(change.before, int) and isinstance(change.after, int):
        more = "more" if change.after > change.before else "less"
        amount = f"{size(abs(change.after - change.before))} {more}"
        return f"{change.subject}  {change.field}: {change.before / (1 << 30):.1f} GiB → {change.after / (1 << 30):.1f} GiB ({amount})"
    before, after = _value(change.before, nothing) + _from(change.before_source), _value(change.after, nothing) + _from(change.after_source)
    return f"{change.subject}  {change.field}: {before} → {after}"


def _from(source: str | None) -> str:
    return f" ({source})" if source and source != "none" else ""


def _value(value: Value, nothing: str = "none") -> str:
    if value is None:
        return nothing
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return str(value)


def few(findings: tuple[Finding, ...]) -> tuple[list[Finding], list[str]]:
    """The first findings of each code, and a line for each code of which there are more."""
    shown: list[Finding] = []
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.code] = counts.get(finding.code, 0) + 1
        if counts[finding.code] <= SHOWN:
            shown.append(finding)
    return shown, [f"  … and {count - SHOWN} more [{code}]; --json has them all" for code, count in counts.items() if count > SHOWN]


def baseline_lines(view: BaselineView) -> Iterator[str]:
    """The vSMMU, property by property, with who holds it down."""
    yield f"{plural(view.hosts, 'host')}, {plural(view.functions, 'function')} that can be accelerated, of: {view.device}"
    if view.able is not None and view.baseline is None:
        yield "Not every host can supply a vSMMU; those that can:"
    for held in view.properties:
        doubt = f"  not known of {_named(held.not_known)}" if held.not_known.count else ""
        gain = f"  {held.without_them} without {_named(held.held_down_by)}" if held.without_them is not None else ""
        yield f"  {held.property:<9} {held.value:<4}{gain}{doubt}".rstrip()
    if view.granules or view.granules_missing:
        lacking = [
            f"{held.property} {'not known of' if held.value == 'unknown' else 'not with'} {_named(held.held_down_by)}"
            for held in view.granules_missing
        ]
        yield f"  {'granules':<9} {', '.join(view.granules) or 'none that all are known to have'}" + "".join(f"  {one}" for one in lacking)
    if view.machine:
        yield f"  {'machine':<9} {view.machine}"
    for unable in view.unable:
        yield visible(f"  unable [{unable.code}] {_named(unable.hosts)}: {unable.reason}")


def _named(named: Named) -> str:
    first = ", ".join(map(visible, named.names[:3]))
    return first + (f" and {named.count - min(3, len(named.names))} more" if named.count > min(3, len(named.names)) else "")


def match_lines(view: MatchView) -> Iterator[str]:
    """Which hosts can and what they get; then the others by reason, each with its nearest miss."""
    able = [host for host in view.hosts if host.can]
    yield f"{len(able)} of {plural(len(view.hosts), 'host')} can: room for {plural(view.room, 'VM')}; {view.placed} of {view.asked} placed."
    if view.properties:
        platform = " ".join(f"{name}={value}" for name, value in view.properties.items())
        yield f"The guest's platform: {platform}" + (f", machine {view.machine}" if view.machine else "")
    chosen = [host for host in able if host.vms]
    others = [host for host in able if not host.vms]
    for host in (*chosen, *others[: max(0, SHOWN - len(chosen))]):
        yield visible(f"  {host.name}  {host.can}" + (f"  gets {_some(host.vms)}" if host.vms else "") + _auto(host) + _open(host))
    rest = len(able) - len(chosen) - len(others[: max(0, SHOWN - len(chosen))])
    if rest:
        yield f"  … and {rest} more that can; --json has them all"
    yield from _misses([host for host in view.hosts if not host.can])


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:4])} … {names[-1]} ({len(names)})"


def _auto(host: HostView) -> str:
    return "".join(f"  {name}=auto will be {' or '.join(values)}" for name, values in host.auto.items() if values)


def _open(host: HostView) -> str:
    return f"  not known: {', '.join(host.not_known)}" if host.not_known else ""


def _misses(hosts: list[HostView]) -> Iterator[str]:
    """By reason, the reason whose host came nearest first."""
    by_code: dict[str, list[HostView]] = {}
    for host in hosts:
        if host.miss:
            by_code.setdefault(host.miss.code, []).append(host)
    groups = [sorted(group, key=_nearness) for group in by_code.values()]
    for group in sorted(groups, key=lambda group: _nearness(group[0])):
        nearest = group[0].miss
        assert nearest is not None
        yield visible(
            f"  {plural(len(group), 'host')} can't [{nearest.code}]: {', '.join(host.name for host in group[:3])}{'…' if len(group) > 3 else ''}"
        )
        yield visible(f"    nearest: {group[0].name}: {nearest.what}")


def _nearness(host: HostView) -> tuple[float, ...]:
    assert host.miss is not None
    stage, share = host.miss.near
    return -stage, -share
