"""One finding fixed in a request, for everything that it was found on: what a rule mends (wrongs.py), else the action that the finding carries.

It is tried before it is done: a fix after which the finding is still there, or that brings another error, is none.
"""

from __future__ import annotations

from collections import Counter
from types import NoneType
from typing import Any, get_args

import msgspec
from msgspec.structs import replace

from wizard.base.action import Act, Action
from wizard.base.address import Address
from wizard.base.finding import Finding, Item, Severity
from wizard.base.text import plural, size, visible
from wizard.existing.load import open_text
from wizard.host.model import Host
from wizard.mend.runs import mend
from wizard.mend.wrongs import MENDS
from wizard.plan.model import Plan
from wizard.plan.planner import make_plan
from wizard.plan.request import FunctionRequest, Mode, Request, VmRequest
from wizard.profile import write_profile

_BYTES = {"memory", "hugepages", "mmio_window"}
_LABELS = {"mmio_window": "MMIO window", "cpus": "CPUs", "numa": "guest NUMA", "properties.ats": "ATS", "machine.iommu": "the machine's iommu"}


class Acted(msgspec.Struct, frozen=True):
    """What a fix comes to: the request with it, its plan, and what was done in words."""

    request: Request
    plan: Plan
    does: str


class NoFix(Exception):
    """Why there is none, as a sentence."""


def offered(item: Item) -> str | None:
    """What the fix of a cause would do, in a few words; None where there is none."""
    finding = item.finding
    if finding.code in MENDS and finding.severity is Severity.ERROR:
        return MENDS[finding.code][0]
    return None if finding.action is None or finding.action.kind is Act.OPEN else _words(finding.action, item.subjects)


def act(host: Host, request: Request, plan: Plan, item: Item) -> Acted:
    """Fix one cause in every VM that it was found in. Raises ``NoFix`` where nothing can be done about it, or it would not help."""
    does = offered(item)
    if does is None:
        raise NoFix("What to do about it is somebody's to decide.")
    finding = item.finding
    if finding.code in MENDS and finding.severity is Severity.ERROR:
        wanted = _mended(host, request, finding)
    else:
        found = [(None, one) for one in plan.findings if _same(one, item)] + [
            (vm.name, one) for vm in plan.vms for one in vm.findings if _same(one, item)
        ]
        wanted = request
        for vm, one in found:
            wanted = _done(wanted, one, vm)
    if wanted == request:
        raise NoFix(f"Nothing would change: {does}.")
    after = make_plan(host, wanted)
    # Without a vIOMMU a group is given whole: the rest of it comes along, if it is nobody's.
    old = {(one.code, one.subject) for one in plan.errors}
    along = [(vm.name, one) for vm in after.vms for one in vm.findings if _is_along(one) and (one.code, one.subject) not in old]
    if along:
        for vm_name, one in along:
            wanted = _done(wanted, one, vm_name, finding.action)
        after, does = make_plan(host, wanted), f"{does}, and the rest of the group along"
    _check(plan, after, item)
    return Acted(wanted, after, does)


def _is_along(finding: Finding) -> bool:
    return finding.action is not None and finding.action.kind is Act.ALONG


def _same(finding: Finding, item: Item) -> bool:
    return finding.code == item.finding.code and finding.subject in item.subjects


def _mended(host: Host, request: Request, finding: Finding) -> Request:
    texts = {f"{vm.name}.toml": write_profile(vm) for vm in request.vms}
    mended = mend(host, texts, open_text, only=finding.code)
    vain = next((one.because for one in mended.left if one.finding.code == finding.code), None)
    if not mended.changes and vain is not None:
        raise NoFix(f"{vain[0].upper()}{vain[1:]}.")
    return replace(request, vms=mended.vms)


def _check(before: Plan, after: Plan, item: Item) -> None:
    counts = Counter(_same(one, item) for one in before.findings)[True], Counter(_same(one, item) for one in after.findings)[True]
    old = {(one.code, one.subject) for one in before.errors}
    new = [one for one in after.errors if (one.code, one.subject) not in old]
    if new:
        raise NoFix(f"It would bring another error: {new[0].what}")
    if counts[1] >= counts[0]:
        raise NoFix("It would not help here.")


# What each action does.


def _done(request: Request, finding: Finding, vm: str | None, after: Action | None = None) -> Request:
    action = finding.action
    if action is None:
        return request
    wanted = action.vm or vm
    mode = Mode(after.value) if after is not None and after.kind is Act.MODE else None  # what comes along is given as the one that it comes with
    return replace(request, vms=tuple(_changed(one, finding, action, mode) if one.name == wanted else one for one in request.vms))


def _changed(vm: VmRequest, finding: Finding, action: Action, along: Mode | None) -> VmRequest:
    about = action.function or finding.subject
    mine = [one.host for one in vm.functions if visible(one.host) == about]
    if action.kind is Act.LEAVE:
        return replace(vm, functions=tuple(one for one in vm.functions if one.host not in mine))
    if action.kind is Act.ALONG:
        there = {one.host for one in vm.functions}
        new = [address for word in action.value.split(",") if (address := str(Address.parse(word.strip()))) not in there]
        return replace(vm, functions=(*vm.functions, *(FunctionRequest(host=address, mode=along) for address in new)))
    if action.kind is Act.MODE:
        mode = Mode(action.value)
        if mine:
            return _functions(vm, mine, "mode", mode)
        return replace(vm, mode=mode)
    if action.kind is Act.OPEN:
        return vm
    if action.field.startswith("function."):
        return _functions(vm, mine, action.field.partition(".")[2], _value(FunctionRequest, action.field.partition(".")[2], action.value))
    inside, _, name = action.field.rpartition(".")
    if inside:
        part = getattr(vm, inside)
        return replace(vm, **{inside: replace(part, **{name: _value(type(part), name, action.value)})})
    return replace(vm, **{name: _value(VmRequest, name, action.value)})


def _functions(vm: VmRequest, mine: list[str], name: str, value: Any) -> VmRequest:
    return replace(vm, functions=tuple(replace(one, **{name: value}) if one.host in mine else one for one in vm.functions))


def _value(owner: type[msgspec.Struct], name: str, text: str) -> Any:
    """The text as what the field holds; "" is its default."""
    field = next(one for one in msgspec.structs.fields(owner) if one.name == name)
    if not text:
        return field.default if field.default is not msgspec.NODEFAULT else None
    kinds = [kind for kind in get_args(field.type) or (field.type,) if kind is not NoneType]
    return int(text) if int in kinds and text.isdecimal() else msgspec.convert(text, field.type, strict=False)


def _words(action: Action, subjects: tuple[str, ...]) -> str:
    """An action in a few words."""
    several = plural(len(subjects), "function") if len(subjects) > 1 else action.function or subjects[0]
    if action.kind is Act.LEAVE:
        return f"leave {several} out"
    if action.kind is Act.ALONG:
        return f"take {action.value} along"
    if action.kind is Act.ACCEPT:
        return "take the risk (assume accel)"
    if action.kind is Act.MODE:
        return f"no vIOMMU for {several}" if action.value == "none" else f"mode {action.value} for {several}"
    name = _LABELS.get(action.field, action.field.rpartition(".")[2].replace("_", " "))
    value = size(int(action.value)) if action.field in _BYTES and action.value.isdecimal() else action.value
    return f"{name}{f' of {action.vm}' if action.vm else ''} {value or 'as the planner chooses'}"
