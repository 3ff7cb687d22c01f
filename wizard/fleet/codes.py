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
SHARED = fleet_code(
    "fleet-shared-machine-id", Severity.WARNING,
    what="{subject} has the machine-id of {others} more, and is another machine ({how}): each counts as a host of its own.",
    why="Machines that were made from one image keep its /etc/machine-id, which is to be unique (machine-id(5)): by it alone they would be one host.",
    fix="Give each its own: remove /etc/machine-id there, run systemd-machine-id-setup, and record it again.",
)  # fmt: skip
UNSURE = fleet_code(
    "fleet-same-host-unsure", Severity.WARNING,
    what="Which of {subject} and {other} counts is not known ({how}): both are counted.",
    why="If they are one host recorded twice, it has less room than is said; if they are two machines made from one image, both have a say.",
    fix="Record again as root (`sudo smmu-wizard record`), which reads what tells machines apart; or leave the older snapshot out.",
)  # fmt: skip
OLD = fleet_code(
    "fleet-old-snapshot", Severity.WARNING,
    what="{subject} is old: it was recorded {time}, more than {days} ago.",
    why="Cards, drivers, firmware and kernels change; the answer takes the host as it was then.",
    fix="Record it again. --old-after DAYS says from when on a snapshot is called old (0: never).",
)  # fmt: skip
AHEAD = fleet_code(
    "fleet-time-ahead", Severity.WARNING,
    what="{subject} says that it was recorded {time}, which is still to come.",
    why="The clock of that host or of this machine is wrong, so which of two snapshots is the newer can't be trusted.",
    fix="Set the clock, and record the host again.",
)  # fmt: skip
