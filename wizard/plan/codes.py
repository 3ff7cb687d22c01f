"""How the plan's findings are declared: a code of kind ``plan``, about the request unless it says otherwise."""

from __future__ import annotations

from wizard.base.action import Action
from wizard.base.finding import Area, Definition, Kind, Severity, define

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO


def plan_code(code: str, severity: Severity, *, what: str, why: str, fix: str, area: Area = Area.REQUEST, action: Action | None = None) -> Definition:
    """Declare a finding that needs a request."""
    return define(code, severity, Kind.PLAN, area, what=what, why=why, fix=fix, action=action)
