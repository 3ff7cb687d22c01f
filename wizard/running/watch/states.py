"""VMs and functions between two looks: what began, ended, moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from wizard.base.text import plural, size
from wizard.existing.guest import Guest
from wizard.existing.processes import running
from wizard.plan.properties import AUTO
from wizard.running.expected import of_guest
from wizard.running.functions import State, states
from wizard.running.process import Process, look
from wizard.running.verify import World
from wizard.running.watch.records import Record, now


class VmState(msgspec.Struct, frozen=True, kw_only=True):
    """A VM at one look. ``accelerated``: how many vSMMUs have accel=on; ``process`` None: it ended while it was looked at."""

    name: str
    pid: int
    started: int | None
    memory: int
    qmp: str | None
    libvirt: bool
    accelerated: int
    functions: tuple[str, ...]
    process: Process
    guest: Guest | None = None  # its command line


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at one moment: VMs by process number, functions that VMs have by their address."""

    vms: Mapping[int, VmState] = {}
    functions: Mapping[str, State] = {}

    def owner(self, function: str) -> VmState | None:
        """The VM that has a function."""
        return next((vm for vm in self.vms.values() if function in vm.functions), None)


def take(world: World) -> Look:
    """Look at all VMs of this machine, and at their functions."""
    vms = {}
    for found in running(proc=world.proc, sys=world.sys):
        guest, pid = found.guest, found.guest.running or 0
        process = look(pid, found.started, proc=world.proc, sys=world.sys)
        if process is None:
            continue
        begun = of_guest(guest, "its command line")
        written = {function.host for function in begun.functions if function.host is not None}
        held = {one.function for one in process.held or ()}
        vms[pid] = VmState(
            name=guest.name or f"process {pid}", pid=pid, started=found.started, memory=guest.memory.size or 0, qmp=guest.qmp, libvirt=found.libvirt,
            accelerated=sum(vsmmu.accel for vsmmu in begun.vsmmus), functions=tuple(sorted(held if process.held is not None else written)),
            process=process, guest=guest,
        )  # fmt: skip
    wanted = {function for vm in vms.values() for function in vm.functions}
    return Look(vms=vms, functions=states(sorted(wanted), proc=world.proc, sys=world.sys))


def changes(before: Look, after: Look) -> Iterator[Record]:
    """What is otherwise now."""
    for pid, vm in after.vms.items():
        old = before.vms.get(pid)
        if old is None or old.started != vm.started:
            yield _of(vm, "started", f"process {pid}, {size(vm.memory)}, functions: {', '.join(vm.functions) or 'none'}")
        else:
            yield from _moved(old, vm)
    for pid, vm in before.vms.items():
        if pid not in after.vms or after.vms[pid].started != vm.started:
            yield _of(vm, "ended", f"process {pid} is gone")
    for address, state in after.functions.items():
        before_it = before.functions.get(address)
        if before_it is not None:
            yield from _function(address, before_it, state, after.owner(address))


def cmdqv(vm: VmState) -> str | None:
    """What can be known of a VM's use of a CMDQV (Tegra241), with its evidence; None where no vSMMU of it could have one."""
    written = [one.properties.get("cmdqv", AUTO) for one in of_guest(vm.guest, "").vsmmus if one.accel] if vm.guest is not None else []
    if not any(value != "off" for value in written):
        return None
    if vm.process.vintfs is None:
        return "CMDQV: not known, it needs root (/proc/PID/maps)"
    if not vm.process.vintfs:
        return "CMDQV: none, QEMU has no page of a VINTF mapped (/proc/PID/maps)"
    has = f"CMDQV: {plural(vm.process.vintfs, 'VINTF')} (/proc/PID/maps has /dev/iommu)"
    return f"{has}; whether its guest uses it is not known: nothing outside shows it"


def _moved(old: VmState, vm: VmState) -> Iterator[Record]:
    before, now_on = old.process.switched_on, vm.process.switched_on
    if before is not None and now_on is not None and before != now_on:
        on = now_on > before
        text = f"its guest has switched on {now_on} of {vm.accelerated} vSMMUs"
        yield _of(vm, "switched-on" if on else "switched-off", text if on else f"{text}: the vIOMMU is gone")
    if old.process.stopped != vm.process.stopped:
        stopped = "its process was stopped (SIGSTOP): the functions go on with DMA" if vm.process.stopped else "its process goes on"
        yield _of(vm, "stopped" if vm.process.stopped else "continued", stopped)
    for gone in sorted(set(old.functions) - set(vm.functions)):
        yield Record(at=now(), source="function", kind="released", text="the VM has let go of it", vm=vm.name, function=gone)
    for come in sorted(set(vm.functions) - set(old.functions)):
        yield Record(at=now(), source="function", kind="taken", text="the VM has opened it", vm=vm.name, function=come)
    if (old.process.pinned or 0) != (vm.process.pinned or 0):
        yield _of(vm, "pinned", f"pinned memory is {size(vm.process.pinned or 0)}, was {size(old.process.pinned or 0)}")


def _function(address: str, before: State, after: State, vm: VmState | None) -> Iterator[Record]:
    def record(kind: str, text: str) -> Record:
        return Record(at=now(), source="function", kind=kind, text=text, vm=vm.name if vm else None, function=address)

    if before.there != after.there:
        yield record("gone" if before.there else "back", "it is gone from the bus" if before.there else "it is there again")
        return
    if before.driver != after.driver:
        yield record("driver", f"its driver is {after.driver or 'none'}, was {before.driver or 'none'}")
    if before.power != after.power:
        yield record("power", f"it is in {after.power}, was in {before.power}")
    if before.link != after.link:
        yield record("link", f"its link is {after.link or 'down'}, was {before.link or 'down'}")
    was, is_now = before.interrupts, after.interrupts
    if (was.kind if was else None) != (is_now.kind if is_now else None):
        text = f"its guest's driver uses {is_now.kind}" if is_now else "its guest's driver has let go of its interrupts"
        yield record("interrupts", text)


def _of(vm: VmState, kind: str, text: str) -> Record:
    return Record(at=now(), source="vm", kind=kind, text=text, vm=vm.name)
