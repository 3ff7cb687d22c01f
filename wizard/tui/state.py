"""What the person has asked for so far: a frozen session, and its history. No Textual here.

Every change is a function from a session to a session; ``History`` keeps the past and the future of it, so that everything
can be undone and done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import msgspec

from wizard.plan.request import FunctionRequest, Request, VmRequest
from wizard.plan.rules.guest import name_fault

KEPT = 200  # steps that can be undone


@dataclass(frozen=True)
class Session:
    """The VMs asked for, and which of them is in hand. ``files`` names the profile that a VM was opened from."""

    vms: tuple[VmRequest, ...] = ()
    current: str | None = None
    files: tuple[tuple[str, str], ...] = ()

    @property
    def vm(self) -> VmRequest | None:
        """The VM in hand."""
        return self.get(self.current)

    def get(self, name: str | None) -> VmRequest | None:
        """A VM by its name."""
        return next((vm for vm in self.vms if vm.name == name), None)

    def owner(self, address: str) -> str | None:
        """The first VM that has a function."""
        return self._owners.get(address)

    @cached_property
    def _owners(self) -> dict[str, str]:
        # Every row that is drawn asks; of two VMs that ask for one function the first has it.
        return {function.host: vm.name for vm in reversed(self.vms) for function in vm.functions}

    def request(self) -> Request:
        """All of it, for the planner."""
        return Request(vms=self.vms, files=dict(self.files))

    def file_of(self, name: str) -> str | None:
        """The profile that a VM was opened from or saved to."""
        return dict(self.files).get(name)


@dataclass(frozen=True)
class Step:
    """One entry of the history: what was done, and the session after it."""

    label: str
    session: Session


@dataclass(frozen=True)
class History:
    """Past, present and future. The present is the last of ``past``."""

    past: tuple[Step, ...] = (Step("start", Session()),)
    future: tuple[Step, ...] = ()

    @property
    def now(self) -> Session:
        """The session as it is."""
        return self.past[-1].session


def done(history: History, label: str, session: Session) -> History:
    """One step further; what had been undone is forgotten. Nothing changes, nothing is added."""
    if session == history.now:
        return history
    return History((*history.past, Step(label, session))[-KEPT:], ())


def undo(history: History) -> tuple[History, str | None]:
    """One step back, and what was undone; None at the beginning."""
    if len(history.past) < 2:
        return history, None
    return History(history.past[:-1], (history.past[-1], *history.future)), history.past[-1].label


def redo(history: History) -> tuple[History, str | None]:
    """One step forward again, and what was done; None at the end."""
    if not history.future:
        return history, None
    return History((*history.past, history.future[0]), history.future[1:]), history.future[0].label


def started(session: Session) -> History:
    """A history that begins with a session."""
    return History((Step("start", session),))


def name_problem(session: Session, name: str, *, but: str | None = None) -> str | None:
    """Why a VM can't be called that; None when it can. ``but`` is the VM that is being renamed."""
    if not name.strip():
        return "A VM needs a name."
    if fault := name_fault(name):
        return f"This can't be the name of a VM: {fault}."
    if name != but and session.get(name):
        return f"There is a VM {name} already."
    return None


def free_name(session: Session, stem: str = "vm") -> str:
    """The first of vm1, vm2, … that is free."""
    number = 1
    while session.get(f"{stem}{number}"):
        number += 1
    return f"{stem}{number}"


def add_vm(session: Session, name: str) -> Session:
    """A new VM, in hand."""
    return add_request(session, VmRequest(name=name))


def add_request(session: Session, vm: VmRequest) -> Session:
    """With one more VM, in hand; its name is free."""
    return replace(session, vms=(*session.vms, vm), current=vm.name)


def clone_vm(session: Session, name: str, new: str) -> Session:
    """Another VM with the same settings. Functions, their places and the disks' paths stay with the first: they can't be in two."""
    vm = session.get(name)
    if vm is None:
        return session
    copy = msgspec.structs.replace(
        vm, name=new, functions=(), vsmmus=(), hotplug=(), split=(), allow_in_use=(), uuid=None, qmp=None, made_for=None, disks=()
    )
    return replace(session, vms=(*session.vms, copy), current=new)


def remove_vm(session: Session, name: str) -> Session:
    """Without a VM; its neighbour is in hand then."""
    rest = tuple(vm for vm in session.vms if vm.name != name)
    index = next((i for i, vm in enumerate(session.vms) if vm.name == name), 0)
    current = session.current if session.current != name else (rest[min(index, len(rest) - 1)].name if rest else None)
    return Session(rest, current, tuple(pair for pair in session.files if pair[0] != name))


def rename_vm(session: Session, name: str, new: str) -> Session:
    """The same VM under another name. A profile keeps its file."""
    vms = tuple(msgspec.structs.replace(vm, name=new) if vm.name == name else vm for vm in session.vms)
    files = tuple((new if vm == name else vm, path) for vm, path in session.files)
    return Session(vms, new if session.current == name else session.current, files)


def change_vm(session: Session, name: str, change: Callable[[VmRequest], VmRequest]) -> Session:
    """With one VM changed."""
    return replace(session, vms=tuple(change(vm) if vm.name == name else vm for vm in session.vms))


def assign(session: Session, name: str, addresses: Iterable[str]) -> Session:
    """Give functions to a VM, in that order, behind those that it has. Whoever had them loses them."""
    wanted = list(dict.fromkeys(addresses))
    session = unassign(session, [address for address in wanted if session.owner(address) not in (None, name)])

    def give(vm: VmRequest) -> VmRequest:
        has = {function.host for function in vm.functions}
        new = tuple(FunctionRequest(host=address) for address in wanted if address not in has)
        return msgspec.structs.replace(vm, functions=vm.functions + new)

    return replace(change_vm(session, name, give), current=name)


def unassign(session: Session, addresses: Iterable[str]) -> Session:
    """Take functions away from whoever has them."""
    gone = set(addresses)

    def take(vm: VmRequest) -> VmRequest:
        kept = tuple(function for function in vm.functions if function.host not in gone)
        if len(kept) == len(vm.functions):
            return vm
        return msgspec.structs.replace(vm, functions=kept, allow_in_use=tuple(a for a in vm.allow_in_use if a not in gone))

    return replace(session, vms=tuple(map(take, session.vms)))


def open_profile(session: Session, vm: VmRequest, path: str) -> Session:
    """With a VM from a profile; one of the same name is replaced."""
    rest = tuple(other for other in session.vms if other.name != vm.name)
    files = tuple(pair for pair in session.files if pair[0] != vm.name)
    return Session((*rest, vm), vm.name, (*files, (vm.name, path)))


def step_vm(session: Session, step: int) -> Session:
    """With the VM in hand that is so many further, around the end; from the first where none is."""
    names = [vm.name for vm in session.vms]
    if not names:
        return session
    place = names.index(session.current) if session.current in names else 0
    return select(session, names[(place + step) % len(names)])


def select(session: Session, name: str | None) -> Session:
    """With another VM in hand."""
    return replace(session, current=name)
