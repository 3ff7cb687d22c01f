"""Mending the texts of VMs: a mend is kept only if, read and planned again, its error is gone and nothing else was found that was not there before.

texts --read--> VMs --plan--> errors --a mend--> a changed request, or a changed text --written back--> texts, and again
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from wizard.base.errors import WizardError
from wizard.base.finding import Finding, Severity
from wizard.existing.guest import Guest
from wizard.existing.load import Opened
from wizard.existing.placement import complete
from wizard.host.model import Host
from wizard.mend.changes import rewritten
from wizard.mend.edits import Beyond
from wizard.mend.guests import GUEST_MENDS
from wizard.mend.wrongs import MENDS
from wizard.plan.model import Plan, VmPlan
from wizard.plan.planner import make_plan
from wizard.plan.request import Request, VmRequest
from wizard.plan.rules.base import scene
from wizard.plan.written import written
from wizard.profile.edit import edit_profile

Read = Callable[[str, str], list[Opened]]
Permit = Callable[[Request], Request]


class Change(msgspec.Struct, frozen=True):
    """One error that was mended: the finding, and what was done."""

    finding: Finding
    does: str


Step = Callable[[Change, Mapping[str, str], Mapping[str, str]], None]


class Left(msgspec.Struct, frozen=True):
    """An error that stays, and why."""

    finding: Finding
    because: str


class Mended(msgspec.Struct, frozen=True):
    """The result: the texts as they are now, what was mended, and the errors that stay."""

    texts: dict[str, str]
    vms: tuple[VmRequest, ...]
    changes: tuple[Change, ...]
    left: tuple[Left, ...]


NO_RULE = "no rule alone mends it: somebody has to decide"
NO_HELP = "its mend does not help here"


def mendable(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Codes of errors for which there is a mend; whether it helps is known when it is tried."""
    codes = (finding.code for finding in findings if finding.severity is Severity.ERROR)
    return tuple(dict.fromkeys(code for code in codes if code in MENDS or code in GUEST_MENDS))


def mend(
    host: Host,
    texts: Mapping[str, str],
    read: Read,
    permit: Permit = lambda request: request,
    *,
    step: Step = lambda *_: None,
    only: str | None = None,
) -> Mended:
    """Every error that can be mended, one after the other, as findings are told; ``step`` is told of each, with the texts before and after it.

    ``texts`` by the names of their files; ``read`` gives the VMs of a name and a text, and ``permit`` the request with what is allowed
    beyond what is written. ``only`` is the code of the errors that are to be mended, the others stay.
    """
    look = _Look(host, dict(texts), read, permit)
    changes: list[Change] = []
    vain: dict[tuple[str, str, str], str] = {}
    while (found := _step(look, vain, only)) is not None:
        before = look.texts
        look, change = found
        step(change, before, look.texts)
        changes.append(change)
        vain.clear()
    left = tuple(Left(finding, vain.get(_key(finding), NO_RULE)) for finding in look.errors)
    return Mended(look.texts, tuple(vm.request for vm in look.vms), tuple(changes), left)


class _Look:
    """Texts as they are read and planned."""

    def __init__(self, host: Host, texts: dict[str, str], read: Read, permit: Permit) -> None:
        self.host, self.texts, self.read, self.permit = host, texts, read, permit
        self.names: list[str] = []
        self.vms: list[Opened] = []
        for name, text in texts.items():
            found = read(name, text)
            self.names += [name] * len(found)
            self.vms += found
        files = {vm.request.name: name for name, vm in zip(self.names, self.vms, strict=True)}
        self.given = permit(Request(vms=tuple(vm.request for vm in self.vms), files=files))
        self.plan: Plan = make_plan(host, self.given)
        self.findings = list(dict.fromkeys([*(finding for vm in self.vms for finding in vm.findings), *self.plan.findings]))

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity is Severity.ERROR]

    def again(self, name: str, text: str) -> _Look:
        return _Look(self.host, {**self.texts, name: text}, self.read, self.permit)

    def of(self, finding: Finding) -> list[int]:
        """The VMs that a finding is about, by their places; a finding of the request as a whole is about none."""
        return [place for place, vm in enumerate(self.plan.vms) if finding in vm.findings or finding in self.vms[place].findings]


def _key(finding: Finding) -> tuple[str, str, str]:
    return finding.code, finding.subject, finding.what


def _step(look: _Look, vain: dict[tuple[str, str, str], str], only: str | None) -> tuple[_Look, Change] | None:
    """The first mend that helps; what was tried in vain is remembered."""
    for finding in look.errors:
        if _key(finding) in vain or only not in (None, finding.code) or (finding.code not in MENDS and finding.code not in GUEST_MENDS):
            continue
        for place in look.of(finding):
            try:
                does, text = _text(look, place, finding)
                again = look.again(look.names[place], text)
            except Beyond as reason:
                vain[_key(finding)] = f"the mend can't be written: {reason}"
                continue
            except WizardError as error:
                vain[_key(finding)] = f"the mend can't be written: {error}"
                continue
            worse = _worse(look, again, finding)
            if worse is None:
                warned = "".join(f"; then warned of: {code}" for code in [", ".join(_unmasked(look, again))] if code)
                return again, Change(finding, does + warned)
            vain[_key(finding)] = worse
    return None


def _text(look: _Look, place: int, finding: Finding) -> tuple[str, str]:
    """What a mend does, and the text of one VM with it."""
    text, vm, plan = look.texts[look.names[place]], look.vms[place], look.plan.vms[place]
    guest = complete(vm.guest) if vm.guest is not None else None
    if guest is not None and finding.code in GUEST_MENDS:
        does, by_text = GUEST_MENDS[finding.code]
        return does, by_text(text, guest, scene(look.host, plan))
    if finding.code not in MENDS:
        raise Beyond("a profile has no such thing")
    does, how = MENDS[finding.code]
    wanted = how(scene(look.host, plan))
    if wanted == plan.request:
        raise Beyond(NO_HELP)
    return does, _written(text, guest, vm.request, _choices(look, place, plan, wanted))


def _choices(look: _Look, place: int, plan: VmPlan, wanted: VmRequest) -> VmRequest:
    """The request with what the mend left to the planner written out where the old one had it written."""
    vms = tuple(wanted if at == place else one for at, one in enumerate(look.given.vms))
    made = make_plan(look.host, replace(look.given, vms=vms)).vms[place]
    filled: VmRequest = _filled(plan.request, wanted, written(made))
    return filled


def _written(text: str, guest: Guest | None, old: VmRequest, new: VmRequest) -> str:
    # What was allowed or chosen on the command line alone is not written.
    new = replace(new, assume_accel=old.assume_accel, allow_in_use=old.allow_in_use, target=old.target)
    return edit_profile(text, new) if guest is None else rewritten(text, guest, old, new)


_BRINGS_ACCEL = frozenset({"import-accel-dropped", "import-unknown-word", "import-bus-missing"})
"""Errors that had kept acceleration from the VM: what is warned of every accelerated VM like it comes with their mend."""


def _unmasked(before: _Look, after: _Look) -> list[str]:
    """Codes of warnings that were not there before."""
    old = {finding.code for finding in before.findings}
    return list(dict.fromkeys(one.code for one in after.findings if one.severity is Severity.WARNING and one.code not in old))


def _worse(before: _Look, after: _Look, mended: Finding) -> str | None:
    """Why a mend is none; None when it is one."""
    old = {(finding.code, finding.subject) for finding in before.findings}
    told = (Severity.ERROR,) if mended.code in _BRINGS_ACCEL else (Severity.ERROR, Severity.WARNING)
    new = [finding for finding in after.findings if finding.severity in told and (finding.code, finding.subject) not in old]
    if new:
        return f"its mend would bring [{new[0].code}]"
    counts = Counter(finding.code for finding in before.errors), Counter(finding.code for finding in after.errors)
    return None if counts[1][mended.code] < counts[0][mended.code] else NO_HELP


def _filled(old: Any, new: Any, choices: Any) -> Any:
    if isinstance(old, msgspec.Struct) and type(old) is type(new) is type(choices):
        return replace(new, **{name: _filled(getattr(old, name), getattr(new, name), getattr(choices, name)) for name in new.__struct_fields__})
    if isinstance(old, tuple) and isinstance(new, tuple) and isinstance(choices, tuple) and len(old) == len(new) == len(choices):
        return tuple(_filled(one, other, choice) for one, other, choice in zip(old, new, choices, strict=True))
    return choices if new is None and old is not None else new
