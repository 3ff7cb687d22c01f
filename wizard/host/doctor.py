"""``doctor``: what stands in the way on this host, grouped by what the administrator must do.

Findings about single functions are joined: the same cause on forty functions is one entry with forty subjects.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from wizard.base.finding import REGISTRY, Area, Finding, Severity
from wizard.host.hostrules import host_findings
from wizard.host.model import Host

SCHEMA = 1
_ORDER = (Area.FIRMWARE, Area.CMDLINE, Area.KCONFIG, Area.DRIVERS, Area.PACKAGES, Area.HARDWARE, Area.HOST, Area.REQUEST)
_SEVERITY = {severity: rank for rank, severity in enumerate(Severity)}
# True of every bridge of every host: nobody has to do anything about it.
_SILENT = frozenset({"not-an-endpoint"})


class Item(msgspec.Struct, frozen=True):
    """One finding, and everything that it was found on."""

    finding: Finding
    subjects: tuple[str, ...]


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
    """Everything that stands in the way, worst first within each area."""
    joined: dict[tuple[str, ...], list[Finding]] = {}
    for finding in (*host_findings(host), *_of_functions(host)):
        joined.setdefault(_cause(finding), []).append(finding)
    areas: dict[Area, list[Item]] = {}
    for findings in joined.values():
        item = Item(findings[0], tuple(dict.fromkeys(finding.subject for finding in findings)))
        areas.setdefault(REGISTRY[findings[0].code].area, []).append(item)
    errors = sum(findings[0].severity is Severity.ERROR for findings in joined.values())
    return Diagnosis(
        SCHEMA,
        errors,
        tuple(AreaView(area, tuple(sorted(areas[area], key=lambda item: _SEVERITY[item.finding.severity]))) for area in _ORDER if area in areas),
    )


def _of_functions(host: Host) -> Iterable[Finding]:
    for address, function in host.functions.items():
        if function.is_bridge:
            continue
        verdict = host.verdict(address)
        yield from (finding for finding in verdict.reasons if finding.code not in _SILENT)
        # What is on another driver is so by choice until somebody wants to give it away.
        yield from (finding for finding in verdict.todo if finding.severity is not Severity.INFO)


def _cause(finding: Finding) -> tuple[str, ...]:
    # The same sentences but for the subject are the same cause.
    return finding.code, *(text.replace(finding.subject, "\0") for text in (finding.what, finding.why, finding.fix))
