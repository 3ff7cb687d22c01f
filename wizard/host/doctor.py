"""``doctor``: what stands in the way on this host, grouped by what the administrator must do.

The same cause on forty functions is one entry with forty subjects.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from wizard.base.finding import REGISTRY, Area, Finding, Item, Severity, grouped
from wizard.host.hostrules import host_findings
from wizard.host.model import Host

SCHEMA = 1
_ORDER = (Area.FIRMWARE, Area.CMDLINE, Area.KCONFIG, Area.DRIVERS, Area.PACKAGES, Area.HARDWARE, Area.HOST, Area.REQUEST)
_RANK = {severity: rank for rank, severity in enumerate(Severity)}
# True of every bridge of every host: nobody has to do anything about it.
_SILENT = frozenset({"not-an-endpoint"})


class AreaView(msgspec.Struct, frozen=True):
    """What has to be done in one place."""

    area: Area
    findings: tuple[Item, ...]


class Diagnosis(msgspec.Struct, frozen=True):
    """The output of ``doctor --json``."""

    schema: int
    errors: int
    areas: tuple[AreaView, ...]


def diagnose(host: Host) -> Diagnosis:
    """Everything that stands in the way: places with an error first, and errors first in each."""
    areas: dict[Area, list[Item]] = {}
    for item in grouped((*host_findings(host), *_of_functions(host))):
        areas.setdefault(REGISTRY[item.finding.code].area, []).append(item)
    places = sorted((area for area in _ORDER if area in areas), key=lambda area: _RANK[areas[area][0].finding.severity])
    errors = sum(item.finding.severity is Severity.ERROR for items in areas.values() for item in items)
    return Diagnosis(SCHEMA, errors, tuple(AreaView(area, tuple(areas[area])) for area in places))


def _of_functions(host: Host) -> Iterable[Finding]:
    for address, function in host.functions.items():
        if function.is_bridge:
            continue
        verdict = host.verdict(address)
        yield from (finding for finding in verdict.reasons if finding.code not in _SILENT)
        # What is on another driver is so by choice until somebody wants to give it away.
        yield from (finding for finding in verdict.todo if finding.severity is not Severity.INFO)
