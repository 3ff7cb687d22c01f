"""Prometheus: a host's verdicts, free functions and what its SMMUs reported, for node_exporter's textfile collector.

The names begin with ``smmu_accel_``: those of ``watch --prometheus`` begin with ``smmu_wizard_``, since no series may stand in two files. Labels are
SMMUs, verdicts, codes of findings and types of events, so that their number grows with none of functions, VMs or addresses. A value that
nobody knows has no series, and a count says beside it how many functions are unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from wizard.base.errors import InputError
from wizard.base.prometheus import Values, metric
from wizard.base.text import visible
from wizard.facts.held import Place, whole, why_unread
from wizard.fleet.consumers.common import PART, Options, Output, measured, unknown_remark
from wizard.fleet.rows import Row, rows_of
from wizard.host.model import Accel, Host

SWITCHES = ("ats", "ril", "cmdqv", "s2fwb")


def textfile(host: Host, options: Options) -> Output:
    """The file. ``InputError`` where functions were not read: the old file stays, and its age says so."""
    del options
    unread = why_unread(host.facts, Place.FUNCTIONS)
    if not host.functions and unread is not None:
        raise InputError(f"The functions of this host were not read ({visible(unread)}).", "Run it as root, with /sys there to be read.")
    rows = [row for row in rows_of(host) if not row.bridge]
    lines = [*_functions(rows), *_smmus(host, rows), *_log(host), *_moment(host)]
    said = (*(() if whole(host.facts) else (PART,)), *unknown_remark(rows))
    if why_unread(host.facts, Place.LOG) is not None:
        said = (*said, "The kernel's log was not read: events have no series.")
    return Output("\n".join(lines) + "\n", said)


def _functions(rows: list[Row]) -> Iterator[str]:
    verdicts: Values = {}
    free: Values = {}
    codes: Values = {}
    for smmu in sorted({row.smmu or "" for row in rows}):
        here = [row for row in rows if (row.smmu or "") == smmu]
        for accel in Accel:
            verdicts[("smmu", smmu), ("accel", accel.value)] = sum(row.accel is accel for row in here)
        known = sum(row.free is True for row in here)
        if known or not any(row.free is None for row in here):  # 0 where some are unknown would be a no
            free[(("smmu", smmu),)] = known
    for row in rows:
        for code in {*(row.accel_codes or "").split(), *(row.todo_codes or "").split()}:
            labels = (("code", code),)
            codes[labels] = codes.get(labels, 0) + 1
    yield from metric("smmu_accel_functions", "gauge", "Functions by their SMMU and the verdict whether they can be accelerated.", verdicts)
    yield from metric("smmu_accel_functions_free", "gauge", "Functions known to be able that nothing holds.", free)
    yield from metric(
        "smmu_accel_functions_held_back", "gauge", "Functions by what stands in their way (docs/findings.md).", dict(sorted(codes.items()))
    )


def _smmus(host: Host, rows: list[Row]) -> Iterator[str]:
    """What each SMMU supplies, as the functions below it say: an SMMU without any concerns nobody."""
    first = {row.smmu: row for row in reversed(rows) if row.smmu}
    nodes = {smmu.name: smmu.numa_node for smmu in host.smmus.values()}
    info: Values = {}
    for name, row in sorted(first.items()):
        node = nodes.get(name)
        info[("smmu", name), ("kind", row.iommu_kind or ""), ("node", "" if node is None else str(node))] = 1
    yield from metric("smmu_accel_smmu_info", "gauge", "SMMUs above functions, with kind and NUMA node.", info)
    for column, name, text in (("oas", "output_address_width", "Output address size in bits."), ("ssidsize", "substream_width", "Bits of a PASID.")):
        sizes: Values = {(("smmu", smmu),): value for smmu, row in sorted(first.items()) if isinstance(value := measured(row, column), int)}
        yield from metric(f"smmu_accel_smmu_{name}", "gauge", text, sizes)
    has: Values = {}
    for smmu, row in sorted(first.items()):
        for switch in SWITCHES:
            if (value := measured(row, switch)) is not None:
                has[("smmu", smmu), ("feature", switch)] = int(value)
    yield from metric("smmu_accel_smmu_feature", "gauge", "Whether this kernel uses a feature of an SMMU.", has)


def _log(host: Host) -> Iterator[str]:
    """Events in the kernel's log: it is a ring, so that the number may fall, and it is no counter."""
    if why_unread(host.facts, Place.LOG) is not None:
        return
    from wizard.arch.event import name_of

    names = {smmu.device: smmu.name for smmu in host.smmus.values() if smmu.device}
    found: Values = {}
    for (device, number, _), count in sorted(host.log.event_counts.items(), key=lambda one: one[0][:2]):
        labels = (("smmu", names.get(device, visible(device))), ("type", name_of(number) or f"{number:#04x}"))
        found[labels] = found.get(labels, 0) + count
    total: Values = {(): sum(found.values())}
    yield from metric("smmu_accel_logged_events", "gauge", "Event records of SMMUs in the kernel's log, which forgets.", total)
    yield from metric("smmu_accel_logged_events_by_type", "gauge", "The same by SMMU and type.", found)


def _moment(host: Host) -> Iterator[str]:
    try:
        when: Values = {(): int(datetime.fromisoformat(host.facts.moment.time or "").timestamp())}
    except ValueError:
        when = {}
    yield from metric("smmu_accel_recorded_timestamp_seconds", "gauge", "When the host was looked at.", when)
