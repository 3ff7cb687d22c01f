"""Mending one VM of several: a mend is kept only if, planned again, its error is gone and nothing else was found that was not there before."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from wizard.base.finding import Finding, Severity
from wizard.host.model import Host
from wizard.mend.wrongs import MENDS
from wizard.plan.model import Plan
from wizard.plan.planner import make_plan
from wizard.plan.request import Request
from wizard.plan.rules.base import scene
from wizard.plan.written import written


class Change(msgspec.Struct, frozen=True):
    """One error that was mended: the finding, and what was done."""

    finding: Finding
    does: str


class Mended(msgspec.Struct, frozen=True):
    """The result: the requests as they are now, what was mended, and the errors that stay, each with why."""

    request: Request
    plan: Plan
    changes: tuple[Change, ...]
    left: tuple[tuple[Finding, str], ...]


NO_RULE = "no rule alone mends it: somebody has to decide"
NO_HELP = "its mend does not help here"


def mend(host: Host, request: Request) -> Mended:
    """Every error that can be mended, one after the other, worst first as findings are told."""
    changes: list[Change] = []
    vain: dict[tuple[str, str], str] = {}
    plan = make_plan(host, request)
    while (step := _step(host, request, plan, vain)) is not None:
        request, plan, change = step
        changes.append(change)
    left = tuple((finding, vain.get((finding.code, finding.subject), NO_RULE)) for finding in plan.errors)
    return Mended(request, plan, tuple(changes), left)


def _step(host: Host, request: Request, plan: Plan, vain: dict[tuple[str, str], str]) -> tuple[Request, Plan, Change] | None:
    """The first mend that helps; what was tried in vain is remembered, and forgotten when another mend has helped."""
    for place, vm in enumerate(plan.vms):
        for finding in vm.errors:
            if finding.code not in MENDS or (finding.code, finding.subject) in vain:
                continue
            does, how = MENDS[finding.code]
            mended = how(scene(host, vm))
            tried = replace(request, vms=tuple(mended if at == place else one for at, one in enumerate(request.vms)))
            again = make_plan(host, tried)
            tried = replace(
                tried, vms=tuple(_filled(old, new, written(made)) for old, new, made in zip(request.vms, tried.vms, again.vms, strict=True))
            )
            if mended == vm.request or (reason := _worse(plan, again, finding)) is not None:
                vain[finding.code, finding.subject] = NO_HELP if mended == vm.request else str(reason)
                continue
            vain.clear()
            return tried, again, Change(finding, does)
    return None


def _worse(before: Plan, after: Plan, mended: Finding) -> str | None:
    """Why a mend is none; None when it is one."""
    old = {(finding.code, finding.subject) for finding in before.findings}
    new = [finding for finding in after.findings if finding.severity is not Severity.INFO and (finding.code, finding.subject) not in old]
    if new:
        return f"its mend would bring [{new[0].code}]"
    stays = sum(finding.code == mended.code for finding in after.findings) >= sum(finding.code == mended.code for finding in before.findings)
    return NO_HELP if stays else None


def _filled(old: Any, new: Any, choices: Any) -> Any:
    """The new request, with what the mend left to the planner written out where the old one had it written."""
    if isinstance(old, msgspec.Struct) and type(old) is type(new) is type(choices):
        return replace(new, **{name: _filled(getattr(old, name), getattr(new, name), getattr(choices, name)) for name in new.__struct_fields__})
    if isinstance(old, tuple) and isinstance(new, tuple) and isinstance(choices, tuple) and len(old) == len(new) == len(choices):
        return tuple(_filled(one, other, choice) for one, other, choice in zip(old, new, choices, strict=True))
    return choices if new is None and old is not None else new
