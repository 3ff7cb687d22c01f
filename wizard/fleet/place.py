"""Where the VMs of a request go: hosts chosen by their answers, then planned for real, with the same guest platform on all of them.

Deterministic: hosts by name, functions by address. A host that the planner refuses gets fewer VMs, or none, and the reason is its miss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from wizard.base.errors import InputError
from wizard.base.finding import Finding, Severity
from wizard.base.text import plural, visible
from wizard.facts.model import Facts
from wizard.fleet.baseline import Named
from wizard.fleet.codes import fleet_code
from wizard.fleet.fit import sieve, vms_of
from wizard.fleet.gather import Progress
from wizard.fleet.match import Answer, Miss
from wizard.fleet.request import FleetRequest
from wizard.fleet.summary import summary_of
from wizard.host.build import host_of
from wizard.host.model import Host
from wizard.plan.model import Plan, VmPlan
from wizard.plan.planner import make_plan
from wizard.plan.properties import DECLARED, NAMES, Properties, declared
from wizard.plan.request import FirmwareRequest, FunctionRequest, Mode, Request
from wizard.plan.target import parse_version
from wizard.profile import write_profile

SCHEMA = 1

NOT_PLACED = fleet_code(
    "match-not-placed", Severity.ERROR,
    what="{placed} of {asked} could be placed.",
    why="{hosts} can run such a VM, together {room}. {others}",
    fix="Ask for fewer VMs, for less of each host ([place] max_per_host, [spare]), or correct what the other hosts lack.",
)  # fmt: skip
SPARE = fleet_code(
    "match-spare-lacking", Severity.ERROR,
    what="All hosts together have room for {left} more such VMs, but {asked} should stay free.",
    why="[spare] total keeps room for later VMs, or for those of a host that fails.",
    fix="Ask for fewer VMs, or give more hosts.",
)  # fmt: skip
AUTO_DIFFERS = fleet_code(
    "match-auto-differs", Severity.WARNING,
    what="{subject}=auto is not the same everywhere: {values}.",
    why="QEMU decides it when the VM starts, from the host's registers: the guest's platform then depends on the host.",
    fix="Write {subject} out in [properties]: {least} is what all of them supply.",
)  # fmt: skip
PLANNER_SAID = fleet_code(
    "match-host-refused", Severity.WARNING,
    what="{subject} seemed to have room for {asked}, but the plan for it fails: {because}",
    why="{why}",
    fix="{fix}",
)  # fmt: skip
UNREADABLE_NOW = fleet_code(
    "match-host-unreadable", Severity.WARNING,
    what="{subject} was chosen, but can't be read any more: {because}",
    why="Its summary was taken before; without the snapshot no profile can be made.",
    fix="{fix}",
)  # fmt: skip


class HostView(msgspec.Struct, frozen=True):
    """One host of the answer. ``vms`` are placed there; ``planned`` says that the planner has confirmed them."""

    name: str
    host: str | None
    product: str | None
    can: int
    vms: tuple[str, ...] = ()
    planned: bool = False
    auto: dict[str, tuple[str, ...]] = {}
    miss: Miss | None = None
    not_known: tuple[str, ...] = ()


class MatchView(msgspec.Struct, frozen=True):
    """The output of ``match --json``. ``properties`` are the same in every profile, as far as they are written."""

    schema: int
    ok: bool
    asked: int
    placed: int
    room: int
    properties: dict[str, str]
    machine: str | None
    hosts: tuple[HostView, ...]
    profiles: dict[str, str]
    skipped: dict[str, int]
    findings: tuple[Finding, ...]


_Key = tuple[int, int, Properties, str | None]
"""What a host's plan depends on: the number of its first VM, how many, their properties, the machine type."""

HOSTS_HELD = 32
"""Whole hosts in memory at a time."""


@dataclass
class _Placement:
    """What is known while VMs are placed: answers corrected by the planner, and the plans."""

    answers: dict[str, Answer]
    load: Callable[[str], Facts]
    say: Callable[[str], None] | None = None
    findings: list[Finding] = field(default_factory=list)
    plans: dict[str, tuple[_Key, Plan]] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.progress = Progress(len(self.answers), self.say, "host", "planned")

    def host(self, name: str) -> Host:
        """A host, read again unless it is one of the last few; InputError."""
        if name not in self.hosts:
            while len(self.hosts) >= HOSTS_HELD:
                del self.hosts[next(iter(self.hosts))]
            self.hosts[name] = host_of(self.load(name))
        return self.hosts[name]


def place(
    answers: Iterable[Answer],
    request: FleetRequest,
    load: Callable[[str], Facts],
    *,
    findings: Sequence[Finding] = (),
    skipped: Mapping[str, int] | None = None,
    say: Callable[[str], None] | None = None,
) -> MatchView:
    """The whole answer. ``load`` reads a snapshot by its name; InputError from it costs that host only. ``say`` is told of progress."""
    state = _Placement({answer.name: answer for answer in sorted(answers, key=lambda answer: answer.name)}, load, say)
    while True:
        shares = _shares(list(state.answers.values()), request)
        common = _common([state.answers[name] for name in shares], request)
        machine = _machine([state.answers[name] for name in shares], request)
        if _planned(state, shares, request, common, machine):
            break
        _look_on(state, shares, request)
    state.progress.end()
    placed = sum(shares.values())
    views, profiles = _views(state, shares)
    room = sum(answer.can for answer in state.answers.values())
    found = [*findings, *state.findings, *_auto(state.answers.values(), request), *_short(state, request, placed, room)]
    order = {severity: place_ for place_, severity in enumerate(Severity)}
    return MatchView(
        schema=SCHEMA,
        ok=not any(finding.severity is Severity.ERROR for finding in found),
        asked=request.count,
        placed=placed,
        room=room,
        properties={name: str(value) for name, value in common.asked()} if shares else {},
        machine=machine if shares else None,
        hosts=views,
        profiles=profiles,
        skipped=dict(skipped or {}),
        findings=tuple(sorted(found, key=lambda finding: order[finding.severity])),
    )


def _shares(answers: Sequence[Answer], request: FleetRequest) -> dict[str, int]:
    """Host -> how many VMs, by ``[place] order``."""
    able = [answer for answer in answers if answer.can]
    left = request.count
    shares: dict[str, int] = {}
    if not request.spread:
        for answer in able:
            if left and (share := min(left, answer.can)):
                shares[answer.name] = share
                left -= share
        return shares
    while left and able:
        for answer in able[:left]:
            shares[answer.name] = shares.get(answer.name, 0) + 1
            left -= 1
        able = [answer for answer in able if answer.can > shares.get(answer.name, 0)]
    return shares


def _common(answers: Sequence[Answer], request: FleetRequest) -> Properties:
    """What the request writes; the rest: the richest that all chosen hosts supply, so that the guest sees one platform."""
    values: dict[str, str | int] = {}
    for one in DECLARED:
        asked = request.vm.properties.of(one.name)
        if asked is not None:
            values[one.name] = asked
        elif answers and request.vm.mode is Mode.ACCEL:
            values[one.name] = one.plain(min(answer.offers.get(one.name, one.least) for answer in answers))
    return msgspec.convert(values, Properties)


def _machine(answers: Sequence[Answer], request: FleetRequest) -> str | None:
    """The machine type of the oldest QEMU among the hosts that have one; as asked where it is asked."""
    if request.vm.machine.type is not None or request.vm.target is not None:
        return request.vm.machine.type
    versions = [version for answer in answers if answer.qemu and (version := parse_version(answer.qemu))]
    return "virt-{}.{}".format(*min(versions)) if versions else None


def _planned(state: _Placement, shares: Mapping[str, int], request: FleetRequest, common: Properties, machine: str | None) -> bool:
    """Plan every chosen host; False when some could not hold their share, and their answers were corrected."""
    first, good = 1, True
    for name, share in shares.items():
        key = (first, share, common, machine)
        first += share
        if name in state.plans and state.plans[name][0] == key:
            continue
        host = _host(state, name)
        if host is None:
            good = False
            continue
        plan = _plan(host, request, *key)
        if plan.ok:
            state.plans[name] = (key, plan)
            continue
        good = False
        _refused(state, name, plan, share, _most(host, request, *key))
    return good


def _look_on(state: _Placement, shares: Mapping[str, int], request: FleetRequest) -> None:
    """Where the planner refused a host, the others are asked for one VM until it takes one: what it says of the request it says of each."""
    for name, answer in state.answers.items():
        if not answer.can or name in shares:
            continue
        host = _host(state, name)
        if host is None:
            continue
        plan = _plan(host, request, 1, 1, _common([answer], request), _machine([answer], request))
        if plan.ok:
            return
        _refused(state, name, plan, 1, 0)


def _host(state: _Placement, name: str) -> Host | None:
    """The host, or None and the answer corrected."""
    state.progress.step(1)
    try:
        return state.host(name)
    except InputError as error:
        state.findings.append(UNREADABLE_NOW.at(visible(name), because=error.what, fix=error.fix))
        _correct(state, name, 0, Miss("host", "match-host-unreadable", error.what, 1, 0))
        return None


def _refused(state: _Placement, name: str, plan: Plan, share: int, holds: int) -> None:
    wrong = plan.errors[0]
    state.findings.append(PLANNER_SAID.at(visible(name), asked=plural(share, "VM"), because=wrong.what, why=wrong.why, fix=wrong.fix))
    _correct(state, name, holds, Miss("planner", wrong.code, wrong.what, share, holds))


def _correct(state: _Placement, name: str, can: int, miss: Miss) -> None:
    state.answers[name] = replace(state.answers[name], can=can, miss=None if can else miss)


def _most(host: Host, request: FleetRequest, first: int, share: int, common: Properties, machine: str | None) -> int:
    """The largest number below ``share`` that the planner accepts."""
    low, high = 0, share - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _plan(host, request, first, middle, common, machine).ok else (low, middle - 1)
    return low


def _plan(host: Host, request: FleetRequest, first: int, share: int, common: Properties, machine: str | None) -> Plan:
    summary = summary_of(host)
    vms = []
    for place_, chosen in enumerate(vms_of(sieve(summary, request), share)):
        name = name_of(request, first + place_)
        vms.append(
            replace(
                request.vm,
                name=name,
                functions=tuple(FunctionRequest(host=address) for address in chosen.functions),
                properties=common,
                machine=request.vm.machine if machine is None else replace(request.vm.machine, type=machine),
                disks=tuple(replace(disk, path=_own(disk.path, name)) for disk in request.vm.disks),
                firmware=_firmware(request.vm.firmware, name),
            )
        )
    return make_plan(host, Request(vms=tuple(vms)))


def name_of(request: FleetRequest, number: int) -> str:
    """The VM's name: numbered from 1 where there are several, all numbers of one length."""
    return request.vm.name if request.count == 1 else f"{request.vm.name}-{number:0{len(str(request.count))}}"


def _own(path: str, name: str) -> str:
    """``{name}`` in a path is the VM's name: each VM has a disk of its own."""
    return path.replace("{name}", name)


def _firmware(asked: FirmwareRequest | None, name: str) -> FirmwareRequest | None:
    return asked if asked is None or asked.vars is None else replace(asked, vars=_own(asked.vars, name))


def _views(state: _Placement, shares: Mapping[str, int]) -> tuple[tuple[HostView, ...], dict[str, str]]:
    profiles: dict[str, str] = {}
    views = []
    for name, answer in state.answers.items():
        vms: tuple[VmPlan, ...] = state.plans[name][1].vms if name in shares else ()
        profiles |= {vm.name: write_profile(vm) for vm in vms}
        views.append(
            HostView(
                name=name,
                host=answer.host,
                product=answer.product,
                can=answer.can,
                vms=tuple(vm.name for vm in vms),
                planned=bool(vms),
                auto=answer.auto,
                miss=answer.miss,
                not_known=answer.not_known,
            )
        )
    return tuple(views), profiles


def _auto(answers: Iterable[Answer], request: FleetRequest) -> Iterable[Finding]:
    """``auto`` never hides a mismatch: said of all hosts that can, chosen or not, since a VM may be started on any of them."""
    for name in NAMES:
        if getattr(request.vm.properties, name) != "auto":
            continue
        by_value: dict[str, Named] = {}
        for answer in answers:
            for value in answer.auto.get(name, ()) if answer.can else ():
                by_value[value] = by_value.get(value, Named()) + Named(1, (answer.name,))
        if len(by_value) > 1 or "unknown" in by_value:
            shown = "; ".join(f"{value} on {', '.join(map(visible, hosts.names[:3]))}{_more(hosts)}" for value, hosts in sorted(by_value.items()))
            least = min((_number(value) for value in by_value), default=0)
            yield AUTO_DIFFERS.at(name, values=shown, least=declared(name).spell(declared(name).reach(least)))


def _number(value: str) -> int:
    return int(value) if value.isdigit() else int(value == "on")


def _more(hosts: Named) -> str:
    return f" and {hosts.count - 3} more" if hosts.count > 3 else ""


def _short(state: _Placement, request: FleetRequest, placed: int, room: int) -> Iterable[Finding]:
    if placed < request.count:
        misses = [(answer.miss.near, answer) for answer in state.answers.values() if answer.miss]
        nearest = max(misses, key=lambda item: item[0], default=None)
        said = "No other host is left."
        if nearest and nearest[1].miss:
            said = f"Of the others {visible(nearest[1].name)} came nearest, and can't: {nearest[1].miss.what}"
        able = sum(1 for answer in state.answers.values() if answer.can)
        yield NOT_PLACED.at(
            request.vm.name, placed=placed, asked=plural(request.count, "VM"), hosts=plural(able, "host"), room=plural(room, "VM"), others=said
        )
    elif room - placed < request.spare_total:
        yield SPARE.at(request.vm.name, left=room - placed, asked=request.spare_total)
