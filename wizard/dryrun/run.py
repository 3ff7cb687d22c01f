"""The dry run of a plan: every scenario for every function, the proofs, the costs. Deterministic.

    report = dry_run(plan, host)
    report.ok, report.cells, report.proofs

A VM with errors is not rehearsed: its findings are what the report has of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial

from wizard.base.finding import Finding, Severity, ordered
from wizard.base.shares import in_shares
from wizard.dryrun.bench import Bench, Failed, Needs, NotApplicable, Scenario
from wizard.dryrun.build import lay_out, playable
from wizard.dryrun.cost import Workload, costs_of
from wizard.dryrun.findings import FAILED, NOT_ISOLATED
from wizard.dryrun.layout import FunctionLayout, Layout
from wizard.dryrun.model import Cancelled, Cell, Cost, FunctionView, Played, Progress, Proof, Report, Status, Step
from wizard.dryrun.proof import prove
from wizard.dryrun.rests import ATTACHED, NESTED, Fact
from wizard.dryrun.scenarios import SCENARIOS
from wizard.dryrun.world import World
from wizard.host.model import Host
from wizard.plan.model import Plan
from wizard.plan.request import Mode

COUNTS_FOR = 4
"""Facts of a host that are read in the time of a scenario (``wizard.base.shares``)."""


def _quiet(done: int, total: int, label: str) -> None:
    """No progress is shown."""


def _never() -> bool:
    """Nobody stops it."""
    return False


def dry_run(
    plan: Plan,
    host: Host,
    *,
    layout: Layout | None = None,
    workload: Workload | None = None,
    progress: Progress = _quiet,
    stop: Callable[[], bool] = _never,
) -> Report:
    """The report of a plan. ``layout`` stands in for what the plan would build; ``Cancelled`` when ``stop`` says so."""
    playing = playable(plan)
    left = tuple(vm.name for vm in plan.vms if playing is None or vm not in playing.vms)
    if playing is None:
        return Report(schema=1, ok=False, rehearsed=False, findings=plan.findings, not_played=left)
    made = layout if layout is not None else lay_out(playing, host)
    if any(finding.severity is Severity.ERROR for finding in made.findings):
        return Report(
            schema=1, ok=False, rehearsed=False, findings=ordered((*made.findings, *plan.findings)), assumptions=made.assumptions, not_played=left
        )
    return _Run(made, workload or Workload(), progress, stop).report(plan, left)


def count_again(plan: Plan, host: Host, workload: Workload) -> tuple[Cost, ...]:
    """The costs of the VMs that can be played on another workload, without a scenario."""
    made = lay_out(playable(plan) or plan, host)
    world = World(made)
    return tuple(cost for vm in made.vms for cost in costs_of(world, vm.name, workload))


class _Run:
    """One run: the world is built once, each cell starts from a reset."""

    def __init__(self, layout: Layout, workload: Workload, progress: Progress, stop: Callable[[], bool]) -> None:
        self.layout, self.workload, self.progress, self.stop = layout, workload, progress, stop
        self.functions = tuple(function for function in layout.functions if function.vm is not None)
        self.total = len(self.functions) * len(SCENARIOS) + 2 * len(layout.vms) + 1
        self.done = 0
        self.process = os.getpid()
        self.proofs: dict[tuple[str, str], Proof] = {}
        self.plugged: dict[tuple[str, str], Proof] = {}
        self.step("building host and guests")
        self.world = World(layout)

    def step(self, label: str) -> None:
        """Say what comes next; ``Cancelled`` when it shall not."""
        if self.stop():
            raise Cancelled
        self.progress(self.done, self.total, label)
        self.done += 1

    def prove(self, vm: str, smmu: str) -> Proof:
        """The proof of a VM on an SMMU, made once."""
        if (vm, smmu) not in self.proofs:
            self.proofs[vm, smmu] = prove(self.world, vm, smmu)
        return self.proofs[vm, smmu]

    def prove_plugged(self, function: FunctionLayout) -> None:
        """The proofs of the VM with a function of a free port plugged, on each of its SMMUs: another state of the world than without it."""
        vm = function.vm or ""
        self.world.realize(vm, function)
        for smmu in dict.fromkeys(f.smmu for f in self.layout.functions_of(vm) if not f.hotplug or f is function):
            self.plugged[function.address, smmu] = prove(self.world, vm, smmu)
        self.world.reset(vm, replug=True)

    def proof_with(self, function: FunctionLayout) -> Callable[[str, str], Proof]:
        """The proofs with that function plugged."""
        return lambda vm, smmu: self.plugged[function.address, smmu]

    def shares(self) -> list[Played]:
        """Everything played, by several processes where that pays and nobody may stop it half-way: ``stop`` is asked in this process."""
        if self.stop is not _never:
            return [self.play(self.functions)]
        return in_shares(Played, self.functions, self.play, weigh=lambda _: COUNTS_FOR * len(SCENARIOS))

    def play(self, functions: Sequence[FunctionLayout]) -> Played:
        """Every scenario for some functions, each of which starts from a reset: where they are played together or apart says nothing."""
        if os.getpid() != self.process:
            self.progress = _quiet  # the process that was asked shows how far it is itself
        cells, before = [], len(self.plugged)
        for function in functions:
            if function.hotplug:
                self.prove_plugged(function)
            for scenario in SCENARIOS:
                self.step(f"{function.vm} {function.address}: {scenario.view.title}")
                cells.append(play(self.world, function, scenario, self.prove if not function.hotplug else self.proof_with(function)))
        plugged = [(function, proof) for (function, _), proof in list(self.plugged.items())[before:]]
        return Played(cells=tuple(cells), plugged=tuple(plugged))

    def report(self, plan: Plan, left: tuple[str, ...]) -> Report:
        """Play everything."""
        for vm in self.layout.vms:
            self.step(f"proving isolation of {vm.name}")
            for smmu in dict.fromkeys(f.smmu for f in self.layout.functions_of(vm.name)):
                self.prove(vm.name, smmu)
        cells: list[Cell] = []
        for played in self.shares():
            cells += played.cells
            self.plugged |= {(function, proof.smmu): proof for function, proof in played.plugged}
        self.done = self.total - len(self.layout.vms)
        costs = []
        for vm in self.layout.vms:
            self.step(f"counting the cost of {vm.name}")
            costs += costs_of(self.world, vm.name, self.workload)
        self.progress(self.total, self.total, "done")
        proofs = (*self.proofs.values(), *self.plugged.values())
        findings = ordered((*_failures(cells), *_broken(proofs), *self.layout.findings, *plan.findings))
        return Report(
            schema=1,
            ok=not any(finding.severity is Severity.ERROR for finding in findings),
            rehearsed=True,
            findings=findings,
            functions=tuple(_view(function, self.layout) for function in self.functions),
            scenarios=tuple(scenario.view for scenario in SCENARIOS),
            cells=tuple(cells),
            proofs=proofs,
            costs=tuple(costs),
            assumptions=self.layout.assumptions,
            not_played=left,
        )


def play(world: World, function: FunctionLayout, scenario: Scenario, proofs: Callable[[str, str], Proof]) -> Cell:
    """One cell. A failure is played again for its trace."""
    cell = _once(world, function, scenario, proofs, tracing=False)
    if cell.status is Status.FAILED:
        cell = _once(world, function, scenario, proofs, tracing=True)
    return cell


def trace_of(plan: Plan, host: Host, function: str, scenario: str, *, layout: Layout | None = None) -> Cell:
    """One cell with its whole trace, whatever its status; ``KeyError`` for a function or scenario that there is not."""
    made = layout if layout is not None else lay_out(playable(plan) or plan, host)
    found = next((f for f in made.functions if f.address == function and f.vm is not None), None)
    played = next((s for s in SCENARIOS if s.view.id == scenario), None)
    if found is None or played is None:
        raise KeyError(function if found is None else scenario)
    world = World(made)
    return _once(world, found, played, partial(prove, world), tracing=True)


def _once(world: World, function: FunctionLayout, scenario: Scenario, proofs: Callable[[str, str], Proof], *, tracing: bool) -> Cell:
    name = function.vm or ""
    if function.hotplug:
        world.realize(name, function)
    bench = Bench(world, world.vms[name], function, proofs, tracing=tracing)
    status, text, ready = Status.PASSED, "", False
    try:
        _ready(bench, scenario)
        ready = True
        text = scenario.play(bench)
    except NotApplicable as why:
        status, text = Status.NOT_APPLICABLE, str(why)
    except Failed as why:
        status, text = Status.FAILED, str(why)
    stopped_by = bench.stopped_by if status is not Status.NOT_APPLICABLE else None
    world.reset(name, replug=scenario.replug or function.hotplug)
    steps: tuple[Step, ...] = tuple(bench.steps)
    assuming = world.guesses.told(_facts(world, function, scenario, status, ready=ready), (function.address, function.smmu, name))
    return Cell(
        vm=name, function=function.address, scenario=scenario.view.id, status=status, text=text, stopped_by=stopped_by, trace=steps, assuming=assuming
    )


def _facts(world: World, function: FunctionLayout, scenario: Scenario, status: Status, *, ready: bool) -> frozenset[Fact]:
    """What a status rests on: on what the scenario needs, and on what it declares. That a VM has no vSMMU rests on nothing but the plan."""
    needs = NESTED if function.vsmmu is not None else ATTACHED
    if function.canwbs and not world.guesses.about(Fact.CANWBS, function.address):
        needs -= {Fact.S2FWB}  # coherent whatever the SMMU has: arm_smmu_get_viommu_size() asks for one of them
    own = (scenario.rests - NESTED) | needs if scenario.rests >= NESTED else scenario.rests
    if status is Status.NOT_APPLICABLE:
        return frozenset() if function.vsmmu is None and scenario.needs is not Needs.FUNCTION else own if ready else needs
    return own if scenario.needs is Needs.LAYOUT else own | needs


def _ready(bench: Bench, scenario: Scenario) -> None:
    """Whether what the scenario needs is there."""
    if scenario.needs is Needs.LAYOUT:
        return
    if bench.vm.trouble.get("") is not None or bench.function.address in bench.vm.trouble:
        raise NotApplicable("the function does not come up (see bring-up)")
    if scenario.needs is Needs.FUNCTION:
        return
    if bench.function.vsmmu is None:
        mode = bench.vm.layout.mode
        raise NotApplicable("the VM has no vSMMU for it" if mode is Mode.ACCEL else f"mode {mode}: no accelerated vSMMU")
    if scenario.needs is Needs.GUEST and len(bench.device.group.devices) > 1:
        raise NotApplicable("the guest's first stream table entry is refused (see group)")


def _view(function: FunctionLayout, layout: Layout) -> FunctionView:
    return FunctionView(
        function=function.address,
        name=function.name,
        vm=function.vm or "",
        device=function.device,
        mode=str(layout.vm(function.vm or "").mode),
        smmu=function.smmu,
        vsmmu=function.vsmmu,
        stream_ids=function.streams,
        vsid=function.vsid,
        hotplug=function.hotplug,
    )


def _failures(cells: list[Cell]) -> list[Finding]:
    views = {scenario.view.id: scenario.view for scenario in SCENARIOS}
    return [
        FAILED.at(cell.function, title=views[cell.scenario].title, because=f"{cell.text}.", source=views[cell.scenario].sources[0])
        for cell in cells
        if cell.status is Status.FAILED and cell.scenario != "isolation"
    ]


def _broken(proofs: tuple[Proof, ...]) -> list[Finding]:
    found = []
    for proof in proofs:
        if not proof.proved:
            later = f"with {', '.join(proof.plugged)} plugged, " if proof.plugged else ""
            found.append(NOT_ISOLATED.at(proof.vm, smmu=proof.smmu, because=f"{later}{proof.counterexample or proof.text}."))
    return found
