"""The whole job as one line of steps: what is done, what stands in the way, and which comes next. No Textual here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from wizard.base.errors import WizardError
from wizard.base.finding import Finding, Severity, grouped
from wizard.base.glyphs import Glyphs
from wizard.plan.model import Plan, VmPlan

if TYPE_CHECKING:
    from wizard.dryrun.model import Report
    from wizard.host.model import Host
    from wizard.rehearsal.report import Report as Rehearsal
    from wizard.tui.state import Session


class State(Enum):
    """How a step stands."""

    DONE = "done"
    WARN = "warn"  # done, with something to know
    OPEN = "open"
    BAD = "bad"  # done, and it says no


@dataclass(frozen=True)
class Step:
    """One step of the job: the screen that it is done on, and how it reads."""

    screen: str
    words: str
    state: State
    does: str = ""  # what the key for the next step does for it

    @property
    def finished(self) -> bool:
        """Whether the next step is another one."""
        return self.state in (State.DONE, State.WARN)


@dataclass
class Results:
    """What was tried and looked at; each holds for the plan that it was made of, and no longer."""

    dry_run: tuple[Plan, Report] | None = None
    rehearsals: dict[str, tuple[VmPlan, Rehearsal | WizardError]] = field(default_factory=dict)
    seen: tuple[Finding, ...] = ()  # the findings that were up on Review

    def report(self, plan: Plan | None) -> Report | None:
        """The dry run of a plan."""
        return self.dry_run[1] if self.dry_run is not None and self.dry_run[0] is plan else None

    def rehearsal(self, vm: VmPlan) -> Rehearsal | WizardError | None:
        """What came out for a VM, None unless it was rehearsed as it is planned now."""
        planned, found = self.rehearsals.get(vm.name, (None, None))
        return found if planned == vm else None

    def unrehearsed(self, plan: Plan) -> list[VmPlan]:
        """The VMs that were not rehearsed as they are planned now."""
        return [vm for vm in plan.vms if self.rehearsal(vm) is None]


def steps(host: Host, session: Session, plan: Plan | None, results: Results, *, exported: bool, glyphs: Glyphs) -> list[Step]:
    """Every step in its order. Those after the first unfinished one may be done too: nothing has to be done in order."""
    return [
        _host(host, glyphs),
        _vms(session, glyphs),
        _findings(plan, results, glyphs),
        *_dry_run(plan, results, glyphs),
        _rehearsed(plan, results, glyphs),
        _exported(session, exported, glyphs),
    ]


def next_step(found: list[Step]) -> Step | None:
    """The first that is not finished."""
    return next((step for step in found if not step.finished), None)


def _host(host: Host, glyphs: Glyphs) -> Step:
    from wizard.tui.contact import unasked

    if not host.functions:
        return Step("host", f"host {glyphs.no}", State.OPEN, "host")
    return Step("host", f"host {glyphs.unknown}", State.WARN) if unasked(host) else Step("host", f"host {glyphs.yes}", State.DONE)


def _vms(session: Session, glyphs: Glyphs) -> Step:
    count = len(session.vms)
    empty = next((vm.name for vm in session.vms if not vm.functions and not vm.hotplug), None)
    if not count:
        return Step("vms", "no VM", State.OPEN, "make a VM")
    if empty is not None:
        return Step("vms", f"VMs {count} {glyphs.unknown}", State.OPEN, f"functions for {empty}")
    return Step("vms", f"VMs {count} {glyphs.yes}", State.DONE)


def _findings(plan: Plan | None, results: Results, glyphs: Glyphs) -> Step:
    if plan is None:
        return Step("review", "findings", State.OPEN, "review")
    counts = {severity: sum(item.finding.severity is severity for item in grouped(plan.findings)) for severity in Severity}
    errors, warnings = counts[Severity.ERROR], counts[Severity.WARNING]
    told = (f"{glyphs.no}{errors}" if errors else "") + (f"{glyphs.warning}{warnings}" if warnings else "")
    if errors:
        return Step("review", f"findings {told}", State.BAD, "findings")
    seen = results.seen == plan.findings
    if warnings:
        return Step("review", f"findings {told}", State.WARN if seen else State.OPEN, "review")
    return Step("review", f"findings {glyphs.yes}", State.DONE if seen else State.OPEN, "review")


def _dry_run(plan: Plan | None, results: Results, glyphs: Glyphs) -> Iterator[Step]:
    report = results.report(plan)
    if report is None or not report.rehearsed:
        yield Step("dryrun", "dry run", State.OPEN, "dry run")
        yield Step("dryrun", "isolated", State.OPEN, "dry run")
        return
    failed = any(True for _ in report.failures()) or bool(report.not_played)
    yield Step("dryrun", f"dry run {glyphs.no if failed else glyphs.yes}", State.BAD if failed else State.DONE, "dry run")
    # Nothing to prove is no proof: a VM without a vIOMMU has none.
    proved = bool(report.proofs) and all(proof.proved for proof in report.proofs)
    if not report.proofs:
        yield Step("dryrun", f"isolated {glyphs.gone}", State.WARN)
    else:
        yield Step("dryrun", f"isolated {glyphs.yes if proved else glyphs.no}", State.DONE if proved else State.BAD, "isolation")


def _rehearsed(plan: Plan | None, results: Results, glyphs: Glyphs) -> Step:
    left = results.unrehearsed(plan) if plan is not None else []
    if plan is None or left:
        some = f" {len(plan.vms) - len(left)}/{len(plan.vms)}" if plan is not None and len(left) < len(plan.vms) else ""
        return Step("rehearse", f"rehearsed{some}" if some else "rehearse", State.OPEN, f"rehearse {left[0].name}" if left else "rehearse")
    found = [results.rehearsal(vm) for vm in plan.vms]
    if any(isinstance(one, WizardError) for one in found):
        return Step("rehearse", f"rehearsed {glyphs.unknown}", State.WARN)  # there is no QEMU here that could
    right = all(one is not None and not isinstance(one, WizardError) and one.ok for one in found)
    return Step("rehearse", f"rehearsed {glyphs.yes if right else glyphs.no}", State.DONE if right else State.WARN)


def _exported(session: Session, exported: bool, glyphs: Glyphs) -> Step:
    if session.vms and exported:
        return Step("export", f"exported {glyphs.yes}", State.DONE)
    return Step("export", "not exported", State.OPEN, "export")
