"""The whole look at VMs that run: which there are, what each should be, what it is, and the findings. Nothing is changed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import msgspec
from msgspec.structs import replace

from wizard.base.finding import Finding, ordered
from wizard.base.text import plural, visible
from wizard.existing.guest import Guest
from wizard.existing.processes import Process as Started
from wizard.existing.processes import running
from wizard.existing.running import no_vm, of_libvirt
from wizard.explain.model import Nature
from wizard.explain.report import explain
from wizard.host.log.parse import parse_log
from wizard.running import rules
from wizard.running.devices import Machine, ask_machine
from wizard.running.expected import Expected, is_auto, of_guest
from wizard.running.functions import states
from wizard.running.ladder import Seen, accelerated_vsmmus, driven, ladder, why_not
from wizard.running.logs import LIBVIRT_LOGS, Kernel, Written, kernel_log, libvirt_log, of_function, qemu_log
from wizard.running.model import Answer, FunctionView, MemoryView, VmView, VsmmuView
from wizard.running.monitor import Monitor, SocketMonitor, VirshMonitor
from wizard.running.process import NEEDS_ROOT, PROC, SYS, Process, look
from wizard.running.traces import came_to, read_traces, with_logged
from wizard.running.wire import ANSWER_SECONDS, Closed, Foreign, MonitorError, Silent

_AT_ONCE = 8  # VMs: each mostly waits for its QEMU
_TOLD = 8  # messages of a log that are told one by one
_CLOSED = "not for this user: "
_LONG = 240  # characters of a message


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Where it is read: this machine, or a test's."""

    proc: Path = PROC
    sys: Path = SYS
    virsh: str | None = None  # None: looked for; empty: none
    libvirt_logs: Path = LIBVIRT_LOGS
    answer: float = ANSWER_SECONDS
    kernel: Kernel | None = None  # None: read

    @property
    def libvirts(self) -> str:
        """The virsh to ask; empty: none."""
        return self.virsh if self.virsh is not None else shutil.which("virsh") or ""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A VM that runs, what it should be, and the QMP socket to ask (None: its own)."""

    process: Started
    expected: Expected
    socket: str | None = None


def find(names: Sequence[str], expected: Sequence[Expected], world: World) -> tuple[list[Found], list[Finding]]:
    """The VMs to look at: of those names, those that are expected, or all. ``InputError`` where a name is none, or nothing runs."""
    every = running(proc=world.proc, sys=world.sys)
    found: dict[int, Found] = {}
    missing = []
    for one in expected:
        same = [process for process in every if one.uuid is not None and process.guest.uuid == one.uuid]
        same = same or [process for process in every if one.name is not None and process.guest.name == one.name]
        found |= {process.guest.running or 0: Found(process=process, expected=one) for process in same}
        if not same:
            missing.append(rules.NOT_RUNNING.at(visible(one.name or one.source)))
            if one.name and "/" not in one.name:  # of a domain libvirt's log is left, with what its last start ended with
                missing += _said(visible(one.name), libvirt_log(one.name, logs=world.libvirt_logs))
    for name in names:
        same = [process for process in every if name in (process.guest.name, str(process.guest.running))]
        if not same:
            raise no_vm(name)
        found |= {process.guest.running or 0: Found(process=process, expected=as_started(process, world)) for process in same}
    if not names and not expected:
        if not every:
            raise no_vm(None)
        found = {process.guest.running or 0: Found(process=process, expected=as_started(process, world)) for process in every}
    return list(found.values()), missing


def as_started(process: Started, world: World) -> Expected:
    """What a VM was started with: libvirt's description of it, else its command line."""
    described = of_libvirt(process, world.libvirts)
    return of_guest(described[0], "libvirt's description of it") if described else of_guest(process.guest, "its command line")


def verify(found: Sequence[Found], world: World) -> tuple[VmView, ...]:
    """Each VM. They are asked side by side, since each wait has a bound and there may be hundreds."""
    kernel = world.kernel if world.kernel is not None else kernel_log()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return tuple(pool.map(lambda one: _one(one, kernel, world), found))


def _one(found: Found, kernel: Kernel, world: World) -> VmView:
    guest, name = found.process.guest, _name(found.process.guest)
    pid = guest.running or 0
    process = look(pid, found.process.started, proc=world.proc, sys=world.sys)
    if process is None:
        return _ended(found, name, pid)
    machine, how, said = _asked(found, process, name, world)
    unread = {**process.unread, **({"QMP": NEEDS_ROOT} if how.startswith(_CLOSED) else {})}
    # A QEMU that starts lets itself be connected to before it has opened its functions, and answers when it has.
    process = look(pid, found.process.started, proc=world.proc, sys=world.sys)
    if process is None:
        return _ended(found, name, pid)
    started = of_guest(guest, "its command line")
    seen = Seen(guest=guest, started=started, process=process, machine=machine)
    wanted = {one.host for one in seen.functions if one.host is not None} | {one.host for one in found.expected.functions if one.host is not None}
    wanted |= {held.function for held in process.held or ()}
    seen = replace(seen, states=states(sorted(wanted), proc=world.proc, sys=world.sys))
    steps, answers = ladder(seen)
    written = qemu_log(process, guest.name, libvirt=found.process.libvirt, proc=world.proc, logs=world.libvirt_logs)
    logged = read_traces(written.text.splitlines())
    steps = with_logged(steps, logged)
    findings = [*said, *_judged(name, seen, found, answers, world), *_logs(name, seen, kernel, written)]
    return VmView(
        name=guest.name, pid=pid, user=guest.user, state=machine.status if machine else _state(process), against=found.expected.source,
        monitor=how, steps=steps, vsmmus=_vsmmus(seen, found.expected, came_to(logged)), functions=_functions(seen, answers),
        memory=MemoryView(
            guest=machine.memory if machine and machine.memory else started.memory, pinned=process.pinned, limit=process.memlock,
            hugepages=process.hugepages, nodes={str(node): count for node, count in (process.nodes or {}).items()},
        ),
        unread=unread, findings=ordered(findings),
    )  # fmt: skip


def _name(guest: Guest) -> str:
    return visible(guest.name or f"process {guest.running}")


def _state(process: Process) -> str:
    return "stopped" if process.stopped else "runs"


def _ended(found: Found, name: str, pid: int) -> VmView:
    finding = rules.ENDED.at(name, pid=pid)
    return VmView(
        name=found.process.guest.name, pid=pid, user=found.process.guest.user, state="ended", against=found.expected.source, monitor="it has ended",
        steps=(), findings=(finding,),
    )  # fmt: skip


def open_monitor(found: Found, process: Process, world: World) -> Monitor | None:
    """The monitor of a VM: the socket that was named, libvirt, or its own; None where it has none. Raises ``MonitorError``."""
    guest = found.process.guest
    if found.socket is None and found.process.libvirt and world.libvirts and guest.name:
        return VirshMonitor(world.libvirts, guest.name, answer=world.answer)
    path = found.socket or guest.qmp
    if path is None:
        return None
    if found.socket is None:
        path = in_its_directory(path, process.pid, world)
    return SocketMonitor(path, process.pid, process.sockets, proc=world.proc, answer=world.answer)


def in_its_directory(path: str, pid: int, world: World) -> str:
    """A path as the process means it. ``Closed`` for one that is relative to a directory that may not be seen."""
    if path.startswith("/"):
        return path
    try:
        return os.path.join(os.readlink(world.proc / str(pid) / "cwd"), path)
    except OSError as error:
        raise Closed(f"its socket {visible(path)} is relative to a directory that only root may see") from error


def _asked(found: Found, process: Process, name: str, world: World) -> tuple[Machine | None, str, list[Finding]]:
    """What QEMU says, how it was asked or why not, and what is to be said of that."""
    if process.stopped:
        # A process that is stopped would be waited for in vain, and look like one that hangs.
        return None, "not asked: its process is stopped", [rules.STOPPED.at(name, pid=process.pid, state=process.state)]
    try:
        monitor = open_monitor(found, process, world)
        if monitor is None:
            return None, "none: it has no QMP socket", [rules.NO_MONITOR.at(name)]
        try:
            machine = ask_machine(monitor)
        finally:
            monitor.close()
    except Foreign as error:
        return None, f"not asked: {error}", [rules.FOREIGN.at(name, because=str(error))]
    except Closed as error:
        return None, f"{_CLOSED}{error}", []  # what root would add is said once, of all VMs
    except MonitorError as error:
        return None, f"no answer: {error}", [rules.SILENT.at(name, because=str(error), fix=_next(error))]
    findings = [] if machine.running else [rules.PAUSED.at(name, status=machine.status)]
    return machine, monitor.how, findings


def _next(error: MonitorError) -> str:
    if "another client" in str(error):
        return "End the other client, or give the VM a second monitor at its next start."
    if isinstance(error, Silent):
        return "Look what QEMU's main thread waits for (/proc/PID/wchan, /proc/PID/stack); an unbind of a function under it makes it wait, too."
    return "Look whether the VM still runs, and what listens there (ss -xp)."


def _judged(name: str, seen: Seen, found: Found, answers: Mapping[str, Answer], world: World) -> Iterable[Finding]:
    expected = found.expected
    yield from _not_accelerated(name, seen, expected, answers)
    if seen.machine is not None:
        yield from rules.compared(name, expected, seen.machine, seen.hosts())
    elif seen.process.held is not None:
        open_ = {one.function for one in seen.process.held}
        for wanted in expected.functions:
            if wanted.host is not None and wanted.host not in open_:
                because = "the process does not have it open"
                yield rules.MISSING.at(name, function=wanted.host, because=because, source=expected.source)
    yield from rules.of_memory(name, expected, seen.process)
    held_or_had = {one.host for one in seen.functions} | {one.function for one in seen.process.held or ()}
    mine = {address: state for address, state in seen.states.items() if address in held_or_had}
    yield from rules.of_functions(name, mine, seen.process, seen.machine.status if seen.machine else None)
    yield from rules.of_places(name, seen.process, mine, seen.machine.cpus if seen.machine else {}, node_cpus(world.sys))
    accelerated = [one for one in seen.functions if answers[one.id] is not Answer.NO]
    yield from rules.of_guest(name, found.process.words, accelerated, seen.states, seen.process)
    for held in seen.process.held or ():
        if held.legacy:
            yield rules.LEGACY.at(name, function=held.function)
    if seen.process.switched_on == 0 and accelerated_vsmmus(seen, answers):
        for one in driven(seen, answers)[:1]:
            interrupts = seen.states[one.host or ""].interrupts
            if interrupts is not None:
                yield rules.WITHOUT_SMMU.at(name, function=one.host, interrupts=interrupts.told)


def _not_accelerated(name: str, seen: Seen, expected: Expected, answers: Mapping[str, Answer]) -> Iterable[Finding]:
    """Functions that should be accelerated, are there, and are not."""
    there = {one.host: one for one in seen.functions if one.host is not None}
    for wanted in expected.functions:
        one = there.get(wanted.host or "")
        if one is not None and expected.accelerated(wanted) and answers[one.id] is Answer.NO and not _gone(seen, one.host):
            yield rules.NOT_ACCELERATED.at(name, function=one.host, because=why_not(seen, one), source=expected.source)


def _gone(seen: Seen, host: str | None) -> bool:
    """Whether it is being taken away, or is not open any more: other findings say so."""
    if seen.process.held is None:
        return False
    held = next((held for held in seen.process.held if held.function == host), None)
    return held is None or held.deleted


def _logs(name: str, seen: Seen, kernel: Kernel, written: Written) -> Iterable[Finding]:
    since = kernel.since(seen.process.seconds or 0.0)
    for one in seen.functions:
        if one.host is not None and (lines := of_function(since, one.host)):
            yield from _events(name, one.host, lines, one.accel)
    yield from _said(name, written)


def _said(name: str, written: Written) -> Iterable[Finding]:
    """What a log of QEMU's has that is known to be wrong."""
    if not written.text:
        return
    report = explain(BytesIO(written.text.encode(errors="replace")))
    worth = [message for message in report.messages if message.nature in (Nature.ERROR, Nature.WARNING)]
    for message in worth[:_TOLD]:
        text = message.text if len(message.text) <= _LONG else message.text[:_LONG] + "…"
        yield rules.SAID.at(name, where=visible(written.where), text=visible(text), means=message.means)


def _events(name: str, host: str, lines: Sequence[str], accel: bool | None) -> Iterable[Finding]:
    """Events that the host's log has of a function: only stage 2's, or such as are not nested, ever come there (arm_smmu_handle_event())."""
    events = [event for event in parse_log(lines).events if event.client == host]
    if not events:
        return
    last = events[-1]
    because = "The host keeps what is stage 2's, and everything of a function that is not nested or whose guest has not switched its SMMU on."
    if accel:
        because += " Stage 2: the guest gave the function an address outside its memory. Stage 1: the function was not nested at that moment."
    yield rules.EVENTS.at(name, count=plural(len(events), "event"), function=host, last=last.name, because=because)


def node_cpus(sys: Path) -> dict[int, frozenset[int]]:
    """The processors of each node of the host."""
    found = {}
    try:
        names = os.listdir(sys / "devices/system/node")
    except OSError:
        return {}  # a kernel without NUMA
    for name in names:
        if match := re.fullmatch(r"node([0-9]{1,4})", name):
            try:
                found[int(match[1])] = rules.cpu_set((sys / "devices/system/node" / name / "cpulist").read_text())
            except OSError:
                continue  # taken offline meanwhile
    return found


def _vsmmus(seen: Seen, expected: Expected, probed: Mapping[str, str]) -> tuple[VsmmuView, ...]:
    if seen.machine is None:
        return tuple(VsmmuView(id=one.id, bus=one.bus, accel=one.accel, properties=one.properties) for one in seen.started.vsmmus)
    made = []
    for one in seen.machine.vsmmus:
        wanted = expected.vsmmu(one.id)
        # A trace does not say which vSMMU its driver read: with one there is no other.
        told = {**(wanted.comes_to if wanted else {}), **(probed if len(seen.machine.vsmmus) == 1 else {})}
        autos = {prop: value for prop, value in told.items() if is_auto(one.properties.get(prop, ""))}
        made.append(VsmmuView(id=one.id, bus=one.bus, accel=one.accel, properties=one.properties, comes_to=autos))
    return tuple(made)


def _functions(seen: Seen, answers: Mapping[str, Answer]) -> tuple[FunctionView, ...]:
    places = {one.id: one.guest for one in seen.machine.functions} if seen.machine else {}
    held = {one.function: one for one in seen.process.held or ()}
    made = []
    for one in seen.functions:
        state = seen.states.get(one.host or "")
        guest = places.get(one.id)
        opened = held.get(one.host or "")
        made.append(FunctionView(
            id=one.id, host=one.host, vsmmu=one.vsmmu, by_construction=answers[one.id], guest=str(guest) if guest else None,
            stream_id=guest.rid if guest and one.vsmmu else None, driver=state.driver if state else None,
            power=" ".join(filter(None, (state.power, state.runtime))) or None if state else None, link=state.link if state else None,
            bus_master=state.bus_master if state else None, interrupts=state.interrupts.told if state and state.interrupts else None,
            opened=None if seen.process.held is None else "not open" if opened is None else "group" if opened.legacy else "iommufd",
        ))  # fmt: skip
    return tuple(made)


def rights(vms: Sequence[VmView]) -> list[Finding]:
    """What root would add, said once."""
    hidden = [vm for vm in vms if NEEDS_ROOT in vm.unread.values()]
    places = sorted({place for vm in hidden for place, reason in vm.unread.items() if reason == NEEDS_ROOT})
    return [rules.RIGHTS.at(plural(len(hidden), "VM"), places=", ".join(places))] if hidden else []
