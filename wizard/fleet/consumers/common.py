"""What every consumer is told of a host: the functions that may be given away, each as its row, and why the others are left out.

A function is offered when it is known that a VM can have it, nothing stands in the way that the preparation script can't mend, and it is
alone in its IOMMU group: schedulers hand out functions one by one, and VFIO gives a group to one VM. Whether it can be accelerated is told
beside it (yes, no, unknown), never decided by what is left out. Values that are only assumed count as unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from wizard.base.errors import InputError, UsageError
from wizard.base.text import plural, visible
from wizard.facts.held import Place, whole, why_unread
from wizard.fleet.rows import Row, rows_of
from wizard.fleet.summary import stops
from wizard.host.known import Source
from wizard.host.model import Accel, Host

SURE = {"*", "address", "vendor", "device", "iommu_group"}
"""Fields of a function that have to be measured before another program acts on them (rows: column ``assumed``)."""

NAMED = 4
"""Functions that are named where some are left out; the others are counted."""


class Options(msgspec.Struct, frozen=True):
    """What the command line says beside the format. ``None``: not said."""

    node: str | None = None  # what the cluster calls this host
    driver: str | None = None  # the DRA driver that hands its functions out
    expires: str | None = None  # RFC 3339, when what is written stops to be true
    partial: bool = False  # a VM that has less than its profile is wanted all the same


class Output(msgspec.Struct, frozen=True):
    """One file, and what a person has to be told beside it: what is left out, what the consumer can't say."""

    text: str
    remarks: tuple[str, ...] = ()


PART = "The recording holds only some functions of its host: what is not in it is not in the file."


class Offered(msgspec.Struct, frozen=True):
    """The rows of the functions that may be given away, and the addresses of the others by why."""

    rows: tuple[Row, ...]
    left: dict[str, tuple[str, ...]]
    whole: bool = True  # False: the recording holds some functions of its host

    def without(self, why: str, addresses: Iterable[str]) -> Offered:
        """The same, with some more left out."""
        these = tuple(addresses)
        if not these:
            return self
        gone = frozenset(these)
        return Offered(tuple(row for row in self.rows if row.function not in gone), {**self.left, why: these}, self.whole)

    @property
    def remarks(self) -> tuple[str, ...]:
        """A sentence for each reason that something is left out."""
        part = () if self.whole else (PART,)
        return part + tuple(f"Left out: {plural(len(these), 'function')} ({_few(these)}) {why}." for why, these in self.left.items())


def _few(addresses: tuple[str, ...]) -> str:
    return ", ".join(addresses[:NAMED]) + (f" and {len(addresses) - NAMED} more" if len(addresses) > NAMED else "")


def offered(host: Host) -> Offered:
    """What of a host may be given away. ``InputError`` where nobody looked for functions: an empty list would say that there are none."""
    unread = why_unread(host.facts, Place.FUNCTIONS)
    if not host.functions and unread is not None:
        raise InputError(f"The functions of this host were not read ({visible(unread)}).", "Record it again, as root, with /sys there to be read.")
    rows: list[Row] = []
    left: dict[str, list[str]] = {}
    for row in rows_of(host):
        if row.bridge:
            continue
        why = _why_not(host, row)
        if why is None:
            rows.append(row)
        else:
            left.setdefault(why, []).append(row.function)
    return Offered(tuple(rows), {why: tuple(these) for why, these in left.items()}, whole(host.facts))


def _why_not(host: Host, row: Row) -> str | None:
    function, verdict = host.functions[row.function], host.verdict(row.function)
    if not SURE.isdisjoint((row.assumed or "").split()) or (row.iommu_group is not None and host.assumed.covers(f"groups.{row.iommu_group}")):
        return "of which IDs or IOMMU group are only assumed"
    if verdict.assignable is False:
        return "that no VM can be given"
    if verdict.assignable is None:
        return "of which it is not known whether a VM can be given them"
    if any(map(stops, verdict.todo)):
        return "that the host needs, or whose VFs are there"
    group = None if function.group is None else host.groups.get(function.group)
    if group is None or not group.members_known:
        return "whose IOMMU group was not read"
    shared = any(one != function.facts.address and not (one in host.functions and host.functions[one].is_bridge) for one in group.devices)
    return "that share their IOMMU group with others, so that one VM has to get all of it" if shared else None


SORTS = {Accel.YES: "accel", Accel.NO: "plain", Accel.UNKNOWN: "unknown"}
"""What stands before the name of a kind where a consumer has names alone: functions of one name are handed out one for another."""


def kind(row: Row, between: str) -> str:
    """``accel-8086-10d3``: verdict, vendor and device."""
    return between.join((SORTS[row.accel], row.vendor, row.device))


def told(row: Row, name: str, field: str) -> Any:
    """A value of the snapshot's own field; None where that field is assumed."""
    return None if not {"*", field}.isdisjoint((row.assumed or "").split()) else getattr(row, name)


def measured(row: Row, name: str) -> bool | int | str | None:
    """A value that has a source; None where nobody measured it."""
    source = getattr(row, f"{name}_source")
    value: bool | int | str | None = getattr(row, name)
    return None if source in (Source.ASSUMED, Source.NONE) else value


def needed(value: str | None, option: str, format_: str, what: str) -> str:
    """An option that a format can't do without."""
    if not value:
        raise UsageError(f"{format_} needs {option}: {what}.", f"smmu-wizard engine {format_} {option} NAME")
    return value


def unknown_remark(rows: Iterable[Row]) -> tuple[str, ...]:
    """That the verdict of some is open."""
    open_ = sum(row.accel == "unknown" for row in rows)
    if not open_:
        return ()
    return (f"Of {plural(open_, 'function')} it is not known whether they can be accelerated. To know: sudo smmu-wizard record --probe on the host.",)
