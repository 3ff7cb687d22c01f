"""All sources merged, in order and with bounds: a flood is counted, and memory does not grow with it."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

from wizard.base.text import plural, visible
from wizard.facts.kmsg import AT_ONCE, LogTail
from wizard.running.verify import World
from wizard.running.watch.events import KernelEvents, Owner, propagated
from wizard.running.watch.places import Map, Places
from wizard.running.watch.records import Record, now
from wizard.running.watch.sources import Events, FileTail, LibvirtEvents
from wizard.running.watch.states import Look, VmState, changes, cmdqv, take
from wizard.running.watch.tracepoints import Tracepoints, unseen
from wizard.running.wire import MonitorError

BYPASS = "kernel/debug/iommu/tegra241_cmdqv/bypass_vcmdq"
SETTLE = 0.2  # seconds until a record of several lines counts as whole
GATHER = 0.05  # seconds in which a flood of lines is let come, so that each of them does not wake us
LOOKS_AT_LOGS = 0.25  # seconds between two looks at the logs of QEMU, which wake nobody
LOOK = 2.0  # seconds between two looks at VMs and functions
_ONE_BY_ONE = 20  # records alike in one second; more are counted
_KINDS = 4096  # different records that are counted at a time


class Watch:
    """What happens from now on.

    ``log`` is a file in place of the kernel's own log; ``take_qmp`` whether free QMP sockets are taken for their events; ``tracepoints`` those
    of the kernel's IOMMU tracepoints that are switched on, in a trace instance that is made for them.
    """

    def __init__(
        self, world: World, *, log: Path | None = None, take_qmp: bool = True, names: Sequence[str] = (),
        function: Callable[[str, int], str | None] = lambda device, stream: None, smmu: Callable[[str], str] = str, places: Places | None = None,
        tracepoints: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.world, self.names, self.take_qmp = world, frozenset(names), take_qmp
        self.look = Look()
        self.kernel: LogTail | FileTail = FileTail(log) if log is not None else LogTail(from_now=True)
        self.events = KernelEvents(self._owner, function, smmu)
        self.places = places
        self._tracepoints = tracepoints
        self._trace: Tracepoints | None = None
        self._monitors: dict[int, Events | LibvirtEvents] = {}
        self._logs: dict[int, FileTail] = {}
        self._refused: dict[int, str] = {}
        self._told_lost = 0
        self._full = False  # whether there may be more lines already

    def _owner(self, function: str) -> Owner:
        vm = self.look.owner(function)
        return Owner(vm.name, self._map(vm)) if vm is not None else Owner()

    def _map(self, vm: VmState) -> Map | None:
        return self.places.of(vm) if self.places is not None else None

    def begin(self) -> list[str]:
        """Look for the first time; answers with what can be seen, and what can't and why, in sentences."""
        self.look = self._looked()
        said = []
        if self.kernel.unread is not None:
            said.append(f"The kernel's log can't be read ({self.kernel.unread}): events of SMMUs are not seen.")
        else:
            said.append(
                "The host's log has faults of stage 2 and of functions that are not nested; those of a working guest's own tables never reach it."
            )
        traced = [vm.name for vm in self.look.vms.values() if vm.pid in self._logs]
        if traced:
            names = ", ".join(map(visible, traced))
            said.append(f"QEMU's log is followed for {names}: with the trace event smmuv3_propagate_event it has those faults too.")
        if self.look.vms:
            heard = [vm.name for pid, vm in self.look.vms.items() if pid in self._monitors]
            said.append(f"QEMU's events: of {', '.join(map(visible, heard)) or 'no VM'}.")
            said += [f"Not of {visible(self.look.vms[pid].name)}: {why}." for pid, why in self._refused.items() if pid in self.look.vms]
            said += [f"{visible(vm.name)}: {told}." for vm in self.look.vms.values() if (told := cmdqv(vm)) is not None]
            said += self._bypassed()
            if any(vm.process.held is None for vm in self.look.vms.values()):
                said.append("Root would add what VMs have open: functions that came by descriptor, and whether a guest has switched its SMMU on.")
        return [*said, self._begin_trace()]

    def _begin_trace(self) -> str:
        if not self._tracepoints:
            return unseen(self.world.sys)
        try:
            self._trace = Tracepoints(self.world.sys, self._tracepoints, self._owner)
        except FileNotFoundError:
            return unseen(self.world.sys)
        except OSError as error:
            why = "it needs root" if isinstance(error, PermissionError) else error.strerror or str(error)
            return f"{unseen(self.world.sys)} It was asked for, and could not be made: {why}."
        return f"IOMMU tracepoints are on in the trace instance {self._trace.place}, which goes away at the end: {', '.join(self._trace.names)}."

    def _bypassed(self) -> list[str]:
        """Whether the host's own kernel uses its CMDQV: it says nothing of guests (tegra241_cmdqv_init_structures() of Linux)."""
        try:
            on = (self.world.sys / BYPASS).read_text().strip() == "Y"
        except OSError:
            return []  # no CMDQV, no debugfs, or not for this user
        return [f"The host's own commands {'bypass' if on else 'go through'} the CMDQV (/sys/{BYPASS}); those of guests are not concerned."]

    def _take(self) -> Look:
        look = take(self.world)
        if not self.names:
            return look
        vms = {pid: vm for pid, vm in look.vms.items() if vm.name in self.names or str(pid) in self.names}
        kept = {function for vm in vms.values() for function in vm.functions}
        return Look(vms=vms, functions={address: state for address, state in look.functions.items() if address in kept})

    def _looked(self) -> Look:
        """Look again, and hear new VMs: what may take its time (200 VMs, a QEMU that does not answer, a host that is read), away from events."""
        look = self._take()
        if self.places is not None:
            self.places.keep(look.vms)
        if any(vm.functions for vm in look.vms.values()):
            self.events.ready()
        for pid, vm in look.vms.items():
            if pid not in self._logs and vm.process.log is not None and vm.process.log_descriptor is not None:
                self._logs[pid] = FileTail(self.world.proc / str(pid) / "fd" / vm.process.log_descriptor)
            if self.take_qmp and pid not in self._monitors and pid not in self._refused:
                self._hear(vm)
        return look

    def _changed(self, look: Look) -> Iterator[Record]:
        """What another look shows; who has ended is let go of."""
        yield from changes(self.look, look)
        self.look = look
        for opened in (self._monitors, self._logs):
            for pid in [pid for pid in opened if pid not in look.vms]:
                opened.pop(pid).close()
        self._refused = {pid: why for pid, why in self._refused.items() if pid in look.vms}

    def _hear(self, vm: VmState) -> None:
        try:
            self._monitors[vm.pid] = self._events_of(vm)
        except MonitorError as error:
            self._refused[vm.pid] = str(error)

    def _events_of(self, vm: VmState) -> Events | LibvirtEvents:
        if vm.libvirt:
            if not self.world.libvirts:
                raise MonitorError("libvirt has its monitor, and there is no virsh to ask it by")
            return LibvirtEvents(self.world.libvirts, vm.name)
        if vm.qmp is None:
            raise MonitorError("it has no QMP socket")
        if not vm.qmp.startswith("/"):
            raise MonitorError("its QMP socket is named without a directory")
        return Events(vm.qmp, vm.pid, vm.process.sockets, proc=self.world.proc, answer=self.world.answer)

    def records(self, stop: Callable[[], bool] = lambda: False) -> Iterator[list[Record]]:
        """Batches of what happens, also empty ones (each ``LOOK`` at the latest), until ``stop`` says so."""
        due = time.monotonic() + LOOK
        with ThreadPoolExecutor(1, "looks") as aside:
            looking: Future[Look] | None = None
            while not stop():
                wait = max(0.0, min(due - time.monotonic(), LOOK))
                if self._full:
                    wait = 0.0
                elif self.events.waits or isinstance(self.kernel, FileTail):
                    wait = SETTLE
                elif self._logs or looking is not None:
                    wait = min(max(wait, SETTLE), LOOKS_AT_LOGS)
                self._wait(wait)
                found = list(self._read())
                if looking is not None and looking.done():
                    found += self._changed(looking.result())
                    looking, due = None, time.monotonic() + LOOK
                elif looking is None and time.monotonic() >= due:
                    looking = aside.submit(self._looked)
                yield counted(found)

    def _wait(self, seconds: float) -> None:
        poll = select.poll()
        if (descriptor := self.kernel.fileno()) is not None:
            poll.register(descriptor, select.POLLIN)
        for monitor in list(self._monitors.values()):
            poll.register(monitor.fileno(), select.POLLIN)
        if self._trace is not None:
            poll.register(self._trace.fileno(), select.POLLIN)
        if poll.poll(seconds * 1000) and not self._full:
            time.sleep(GATHER)

    def _read(self) -> Iterator[Record]:
        lines = self.kernel.lines()
        self._full = len(lines) >= AT_ONCE
        yield from self.events.read(lines)
        yield from self.events.whole()
        if not lines or self.events.settled(SETTLE):
            yield from self.events.flush()
        if self.kernel.lost > self._told_lost:
            lost, self._told_lost = self.kernel.lost - self._told_lost, self.kernel.lost
            text = f"{plural(lost, 'record')} of the kernel's log were overwritten before they were read"
            yield Record(at=now(), source="watch", kind="lost", text=text, count=lost)
        if self._trace is not None:
            yield from self._trace.records()
        for pid, log in list(self._logs.items()):
            if pid in self.look.vms:
                vm = self.look.vms[pid]
                yield from propagated(log.lines(), vm.name, self._map(vm))
        for pid, monitor in list(self._monitors.items()):
            name = self.look.vms[pid].name if pid in self.look.vms else f"process {pid}"
            try:
                for kind, about in monitor.events():
                    yield Record(at=now(), source="qemu", kind=kind, text=_told(about), vm=name, explain=f"smmu-wizard explain {kind}")
            except MonitorError as error:
                yield Record(at=now(), source="watch", kind="unheard", text=f"its events are no longer heard: {error}", vm=name)
                self._refused[pid] = str(error)
                self._monitors.pop(pid).close()
                continue
            if monitor.ended:
                self._refused[pid] = "it closed the connection"
                self._monitors.pop(pid).close()

    def close(self) -> None:
        """Let other clients in, and leave nothing open."""
        for opened in (self._monitors, self._logs):
            while opened:
                opened.popitem()[1].close()
        self.kernel.close()
        if self._trace is not None:
            self._trace.close()
            self._trace = None


def _told(about: object) -> str:
    """The data of an event as words; nested ones by their names."""
    if not isinstance(about, dict):
        return ""
    return ", ".join(f"{name} {value}" for name, value in about.items() if isinstance(value, str | int | bool))[:200]


def counted(records: Sequence[Record]) -> list[Record]:
    """Records alike beyond the first of a batch become one with their number, and the text of the last."""
    kept: list[Record] = []
    alike: dict[tuple[object, ...], int] = {}
    over: dict[tuple[object, ...], Record] = {}
    for one in records:
        key = (one.source, one.kind, one.vm, one.function, one.smmu, one.stage)
        if key not in alike and len(alike) >= _KINDS:
            key = (one.source, one.kind, None, None, None, None)
        alike[key] = alike.get(key, 0) + 1
        if alike[key] <= _ONE_BY_ONE:
            kept.append(one)
        else:
            before = over.get(key)
            over[key] = msgspec.structs.replace(one, count=one.count + (before.count if before else 0))
    return kept + list(over.values())
