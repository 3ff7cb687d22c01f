"""VMs traced for some seconds, all at the same time: the third question, where the person wants it answered."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from msgspec.structs import replace

from wizard.base.finding import Finding, ordered
from wizard.base.text import plural, visible
from wizard.running import rules
from wizard.running.functions import interrupts
from wizard.running.model import TRANSLATING, Answer, Step, VmView
from wizard.running.monitor import Monitor
from wizard.running.process import Process, look
from wizard.running.traces import Trace, interruptible, log_of, step_of, wait
from wizard.running.verify import Found, World, open_monitor
from wizard.running.wire import MonitorError


def traceable(vm: VmView) -> int:
    """How many vSMMUs of a VM have a function that is accelerated; 0 where there is nothing to trace."""
    behind = {one.vsmmu for one in vm.functions if one.vsmmu is not None and one.by_construction in (Answer.YES, Answer.UNKNOWN)}
    return len(behind) if vm.state == "running" else 0


def question(vms: Sequence[VmView], seconds: float) -> str:
    """What is asked before anything is switched on; empty where there is nothing to trace."""
    names = [visible(vm.name or str(vm.pid)) for vm in vms if traceable(vm)]
    if not names:
        return ""
    which = f"VM {names[0]}" if len(names) == 1 else f"{plural(len(names), 'VM')} ({', '.join(names)})"
    return (
        f"Two trace events of QEMU write to the log of {which}, a line for each unmap of the guest, for at most {seconds:g} seconds. Switch them on?"
    )


def traced(found: Sequence[Found], vms: Sequence[VmView], seconds: float, world: World) -> tuple[VmView, ...]:
    """The VMs with the third question answered. Whatever happens, what was switched on is off behind it, or said to be on still."""
    done = list(vms)
    running: list[tuple[int, Trace, int]] = []
    with interruptible():
        with ExitStack() as stack:
            for place, (one, vm) in enumerate(zip(found, vms, strict=True)):
                count = traceable(vm)
                if not count:
                    continue
                try:
                    running.append((place, stack.enter_context(_trace(one, vm, seconds, world)), count))
                except (MonitorError, OSError) as error:
                    said = str(error) if isinstance(error, MonitorError) else f"its log can't be read: {error.strerror or error}"
                    done[place] = _with(vm, Step(question=TRANSLATING, answer=Answer.UNKNOWN, said=f"It was not traced: {said}."))
            before = interrupts(world.proc)
            wait([(trace, count) for _, trace, count in running], seconds)
            after = interrupts(world.proc)
        for place, trace, count in running:
            came = sum(after[host].count - before[host].count for one in vms[place].functions if (host := one.host or "") in before and host in after)
            findings = [rules.LEFT_ON.at(visible(done[place].name or "?"), name=name) for name in trace.left_on]
            done[place] = _with(done[place], step_of(trace.traced(), count, seconds, trace.missing, interrupts=came), findings)
    return tuple(done)


def _trace(found: Found, vm: VmView, seconds: float, world: World) -> Trace:
    def process() -> Process:
        seen = look(vm.pid, found.process.started, proc=world.proc, sys=world.sys)
        if seen is None:
            raise MonitorError("it has ended")
        return seen

    def connect() -> Monitor:
        monitor = open_monitor(found, process(), world)
        if monitor is None:
            raise MonitorError("it has no QMP socket")
        return monitor

    log = log_of(process(), found.process.guest.name, libvirt=found.process.libvirt, proc=world.proc, logs=world.libvirt_logs)
    if log is None:
        raise MonitorError("QEMU's log is no file that can be read (its standard error is a terminal, a pipe or the journal)")
    monitor = connect()
    monitor.extend(seconds)
    return Trace(monitor, log, connect)


def _with(vm: VmView, step: Step, findings: Sequence[Finding] = ()) -> VmView:
    steps = tuple(step if one.question == TRANSLATING else one for one in vm.steps)
    return replace(vm, steps=steps, findings=ordered((*vm.findings, *findings)))
