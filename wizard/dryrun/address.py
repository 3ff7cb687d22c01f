"""``--trace FUNCTION@IOVA``: one address of one function, before the guest programs anything and under a guest's stage 1."""

from __future__ import annotations

from wizard.base.address import Address
from wizard.base.errors import UsageError
from wizard.base.finding import Severity
from wizard.base.text import visible
from wizard.dryrun.bench import Bench, Failed, Needs, describe
from wizard.dryrun.build import lay_out, playable
from wizard.dryrun.guest import Buffer
from wizard.dryrun.layout import FunctionLayout, Layout
from wizard.dryrun.model import Report, Situation, TraceView
from wizard.dryrun.proof import prove
from wizard.dryrun.world import World
from wizard.host.model import Host
from wizard.plan.model import Plan
from wizard.smmu import Outcome

BUFFER_PAGES = 16


def parse(text: str) -> tuple[str, int]:
    """Function and address of ``0000:14:00.0@0xfffff000``; ``UsageError`` for anything else."""
    function, at, address = text.rpartition("@")
    try:
        if not at:
            raise ValueError
        where = int(address, 16 if address.lower().startswith("0x") else 10)
        if not 0 <= where < 1 << 64:
            raise ValueError
        return str(Address.parse(function)), where
    except ValueError:
        raise UsageError(f"{visible(text)!r} is no FUNCTION@IOVA.", "Write it for example as 0000:14:00.0@0xfffff000.") from None


def trace_address(plan: Plan, host: Host, function: str, iova: int, *, layout: Layout | None = None) -> TraceView:
    """Reads and writes of ``iova`` in each situation, with every word that the SMMU reads; ``UsageError`` for a function that is not planned."""
    made = layout if layout is not None else lay_out(playable(plan) or plan, host)
    return _trace(made, function, iova)


def report_of_trace(plan: Plan, host: Host, function: str, iova: int, *, layout: Layout | None = None) -> Report:
    """The same as a report, with what forbids it in a plan or layout; ``ok`` when the function comes up in each situation."""
    playing = playable(plan)
    left = tuple(vm.name for vm in plan.vms if playing is None or vm not in playing.vms)
    if playing is None or (left and not any(device.host == function for vm in playing.vms for device in vm.devices)):
        return Report(schema=1, ok=False, rehearsed=False, findings=plan.findings, not_played=left)
    made = layout if layout is not None else lay_out(playing, host)
    findings = (*made.findings, *plan.findings)
    if any(finding.severity is Severity.ERROR for finding in made.findings):
        return Report(schema=1, ok=False, rehearsed=False, findings=findings, assumptions=made.assumptions)
    trace = _trace(made, function, iova)
    ok = all(situation.came_up for situation in trace.situations)
    return Report(schema=1, ok=ok, rehearsed=True, findings=findings, trace=trace, assumptions=made.assumptions)


def _trace(made: Layout, function: str, iova: int) -> TraceView:
    found = next((f for f in made.functions if f.address == function and f.vm is not None), None)
    if found is None:
        planned = ", ".join(f.address for f in made.functions if f.vm is not None) or "none"
        raise UsageError(f"{visible(function)} is not among the functions of these profiles.", f"They are: {planned}.")
    world = World(made)
    before = "before the guest programs anything" if found.vsmmu else "without a vSMMU"
    situations = [_access(world, found, before, iova, Needs.FUNCTION, write) for write in (False, True)]
    if found.vsmmu is not None:
        situations += [_access(world, found, "under the guest's stage 1", iova, Needs.GUEST, write) for write in (False, True)]
    return TraceView(function=function, iova=f"{iova:#x}", situations=tuple(situations))


def _access(world: World, function: FunctionLayout, situation: str, iova: int, needs: Needs, write: bool) -> Situation:
    name = function.vm or ""
    bench = Bench(world, world.vms[name], function, lambda vm, smmu: prove(world, vm, smmu), tracing=True)
    if function.hotplug:
        world.realize(name, function)
    mapped: Buffer | None = None
    came_up = True
    try:
        for key in ("", function.address):
            if (trouble := bench.vm.trouble.get(key)) is not None:
                raise Failed(str(trouble))
        if needs is Needs.GUEST:
            mapped = bench.guest().map(bench.stream, BUFFER_PAGES << 12)
            bench.say("guest", f"maps {mapped.size:#x} bytes of {mapped.ipa:#x} at {mapped.iova:#x}, and the MSI window to itself")
        outcome: Outcome = bench.dma(iova, write=write)
        if outcome.event is not None:
            bench.say("event", f"{'recorded' if outcome.recorded else 'not recorded'}: {outcome.event!r}")
        text = describe(outcome) + (f", {world.owner_of(outcome.pa)}" if outcome.pa is not None else "")
    except Failed as why:
        came_up, text = False, f"does not come up: {why}"
    steps = tuple(bench.steps)
    world.reset(name, replug=function.hotplug)
    return Situation(situation=situation, access="write" if write else "read", outcome=text, steps=steps, came_up=came_up)
