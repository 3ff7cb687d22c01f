"""Findings about a fleet as such: files that are left out, each named, while the rest is answered."""

from __future__ import annotations

from wizard.base.finding import Area, Definition, Kind, Severity, define


def fleet_code(code: str, severity: Severity, *, what: str, why: str, fix: str, area: Area = Area.HOST) -> Definition:
    """Declare a finding about several hosts; it needs a request."""
    return define(code, severity, Kind.PLAN, area, what=what, why=why, fix=fix)


UNREADABLE = fleet_code(
    "fleet-unreadable", Severity.WARNING,
    what="{subject} was left out: {problem}",
    why="The file is not a complete snapshot, so nothing is known of its host; the answer is about the others.",
    fix="{fix}",
)  # fmt: skip
NOT_ARM = fleet_code(
    "fleet-not-arm64", Severity.WARNING,
    what="{subject} was left out: it is of a machine of another architecture ({machine}).",
    why="Only arm64 hosts have an SMMUv3; such a machine can't run the VM, so it has no say in the answer.",
    fix="Leave its snapshot out, and this line goes away.",
)  # fmt: skip
DUPLICATE = fleet_code(
    "fleet-duplicate-host", Severity.WARNING,
    what="{subject} was left out: {newer} is of the same host ({when}).",
    why="A host that is counted twice would be planned twice; the newer record of it is taken.",
    fix="Leave the older snapshot out, and this line goes away.",
)  # fmt: skip
