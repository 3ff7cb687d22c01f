"""Profiles that held on one side and do not on the other: the planner is asked twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wizard.base.finding import Area, Finding, Severity
from wizard.base.text import plural, visible
from wizard.fleet.diff.model import ProfileView
from wizard.fleet.diff.rules import diff_code
from wizard.host.model import Host
from wizard.plan.planner import make_plan
from wizard.plan.request import Request, VmRequest

PROFILE_BROKEN = diff_code(
    "profile-broken", Severity.ERROR, Area.REQUEST,
    what="Profile {subject} (VM {vm}) was good before and is not any more: {count}.",
    why="{because}",
    fix="{fix}",
)  # fmt: skip
PROFILE_MENDED = diff_code(
    "profile-mended", Severity.INFO, Area.REQUEST,
    what="Profile {subject} (VM {vm}) was not good before, and is now.",
    why="The obstacle is gone.",
    fix="Nothing to do.",
)  # fmt: skip
PROFILE_NEVER = diff_code(
    "profile-never-held", Severity.WARNING, Area.REQUEST,
    what="Profile {subject} (VM {vm}) was not good before, and is not now: {count}.",
    why="{because}",
    fix="{fix}",
)  # fmt: skip


@dataclass(frozen=True)
class NamedRequest:
    """A profile that was read, and the file that it came from."""

    file: str
    request: VmRequest


def profile_changes(a: Host, b: Host, profiles: Sequence[NamedRequest]) -> tuple[tuple[ProfileView, ...], list[Finding]]:
    """Each profile on both hosts, alone, by the planner; and what to say of those that changed."""
    views, findings = [], []
    for profile in profiles:
        before, after = (_findings(host, profile) for host in (a, b))
        broken, was_broken = _errors(after), _errors(before)
        known, now = {_key(finding) for finding in before}, {_key(finding) for finding in after}
        views.append(
            ProfileView(
                file=profile.file,
                vm=profile.request.name,
                before=not was_broken,
                after=not broken,
                new=tuple(finding for finding in after if _key(finding) not in known),
                gone=tuple(finding for finding in before if _key(finding) not in now),
            )
        )
        words: dict[str, Any] = {
            "vm": visible(profile.request.name),
            "count": plural(len(broken), "error"),
            "because": " ".join(dict.fromkeys(finding.what for finding in broken)),
            "fix": " ".join(dict.fromkeys(finding.fix for finding in broken)),
        }
        if broken:
            findings.append((PROFILE_NEVER if was_broken else PROFILE_BROKEN).at(visible(profile.file), **words))
        elif was_broken:
            findings.append(PROFILE_MENDED.at(visible(profile.file), **words))
    return tuple(views), findings


def _findings(host: Host, profile: NamedRequest) -> tuple[Finding, ...]:
    return make_plan(host, Request(vms=(profile.request,), files={profile.request.name: profile.file})).findings


def _errors(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity is Severity.ERROR]


def _key(finding: Finding) -> tuple[str, str, str]:
    return finding.code, finding.subject, finding.what
