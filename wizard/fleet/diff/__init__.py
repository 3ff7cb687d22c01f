"""Two snapshots, of one host or of two: what differs that matters to virtual machines."""

from __future__ import annotations

from collections.abc import Sequence

from wizard.base.finding import Finding, Severity
from wizard.fleet.diff import changes, rules
from wizard.fleet.diff.model import SCHEMA, Change, DiffView, ProfileView, Side
from wizard.fleet.diff.pairs import Pairing, pair
from wizard.fleet.diff.profiles import NamedRequest, profile_changes
from wizard.host.model import Host
from wizard.host.view import host_view


def diff(a: Host, b: Host, names: tuple[str, str] = ("A", "B"), profiles: Sequence[NamedRequest] = ()) -> DiffView:
    """Everything that differs, with what it means for VMs, and the profiles that held on ``a`` and don't on ``b``."""
    pairing = pair(a, b)
    views, found = profile_changes(a, b, profiles)
    findings = [*rules.of(pairing), *found]
    order = {severity: place for place, severity in enumerate(Severity)}
    return DiffView(
        schema=SCHEMA,
        a=Side(names[0], host_view(a), a.facts.moment.time),
        b=Side(names[1], host_view(b), b.facts.moment.time),
        same_host=pairing.same_host,
        changes=tuple(changes.of(pairing)),
        findings=tuple(sorted(findings, key=lambda finding: order[finding.severity])),
        profiles=views,
    )


__all__ = ["Change", "DiffView", "Finding", "Pairing", "ProfileView", "Side", "diff", "pair"]
