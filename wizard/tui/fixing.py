"""One key fixes one finding: what it does is tried, done as one step that can be undone, and named."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from wizard.base.action import Act
from wizard.base.finding import Item, grouped
from wizard.plan.model import Plan

if TYPE_CHECKING:
    from wizard.mend.acting import Acted, NoFix
    from wizard.tui.state import Session
    from wizard.tui.wizard import Wizard


def items_of(plan: Plan | None, vm: str | None) -> tuple[Item, ...]:
    """The causes that a VM has to do with, in the order of the whole plan: its own, and those of all VMs together."""
    if plan is None:
        return ()
    own = {finding for one in plan.vms if one.name == vm for finding in one.findings}
    others = {finding for one in plan.vms if one.name != vm for finding in one.findings}
    return grouped(finding for finding in plan.findings if finding in own or finding not in others)


def offered(item: Item) -> str | None:
    """What the fix of a cause would do; None where there is none."""
    from wizard.mend.acting import offered

    return offered(item)


def fix(app: Wizard, item: Item) -> None:
    """Fix a cause for everything that it was found on, and say what was done; or why nothing was."""
    from wizard.mend.acting import NoFix, act

    app.plan_now()
    action, session, plan = item.finding.action, app.session, app.plan
    if action is not None and action.kind is Act.OPEN:
        _open(app, action.value)
        return
    if plan is None or app.planning:
        app.say("The plan is still being made: once more, please.")
        return

    def tried() -> Acted | NoFix:
        try:
            return act(app.host, session.request(), plan, item)
        except NoFix as why:
            return why

    if app.few:
        _apply(app, session, item, tried())
    else:
        # A trial plan of many functions takes longer than a key may wait.
        app.say("Trying the fix …")
        app.run_worker(lambda: app.call_from_thread(_apply, app, session, item, tried()), thread=True, exclusive=True, group="fix")


def _apply(app: Wizard, session: Session, item: Item, found: Acted | NoFix) -> None:
    if isinstance(found, Exception):
        app.say(f"{found} Enter goes to where it is set.", "warning")
        return
    if app.session != session:
        app.say("Something was changed meanwhile: the fix was left.", "warning")
        return
    app.do(f"{found.does} [{item.finding.code}]", replace(session, vms=found.request.vms), found.plan)
    app.say(f"Done: {found.does}. u undoes it.")


def _open(app: Wizard, where: str) -> None:
    if where == "functions":
        app.action_go("vms")
        app.call_after_refresh(lambda: app.screen.run_action("assign"))
    else:
        app.action_go(where)
