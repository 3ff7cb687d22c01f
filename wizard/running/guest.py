"""The guest's half: what a snapshot that was recorded in it says, held against its plan. Only the guest knows whether it translates.

In a guest the type of a function's group is an answer, as on the host it is none: there it is the vSMMU's own stage 1 (DMA) or bypass (identity).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from wizard.base.address import Address
from wizard.base.finding import Area, Finding, Kind, Severity, define
from wizard.base.text import plural, visible
from wizard.facts.held import Place, why_unread
from wizard.host.model import Function, Group, Host
from wizard.running.expected import Expected, WantedFunction, is_auto
from wizard.running.model import TRANSLATING, Answer, Evidence, Rights, Step

_E, _W = Severity.ERROR, Severity.WARNING
WINDOW = (0x8000000, 0x80FFFFF)
"""Where the host's MSI doorbell is in a guest's addresses (MSI_IOVA_BASE of the kernel's arm-smmu-v3), and QEMU's RMR for it."""

MISSING = define(
    "guest-function-missing", _E, Kind.RUNNING,
    what="The guest of VM {subject} has no function at {guest}, where {function} is expected.",
    why="The guest numbered its buses otherwise than planned, or the function is not in the VM. Its StreamID in the guest follows from its address.",
    fix="Look in the guest (lspci) where it is; `smmu-wizard rehearse` numbers the buses with UEFI.",
)  # fmt: skip
NO_SMMU = define(
    "guest-without-smmu", _E, Kind.RUNNING,
    what="The guest of VM {subject} has no SMMU above {guest}: its kernel does not use the vSMMU.",
    why="The function works, and reaches all of the guest's memory: nothing is isolated inside the guest.",
    fix="Use a guest kernel with CONFIG_ARM_SMMU_V3, and look in its log for arm-smmu-v3 and IORT.",
)  # fmt: skip
BYPASS = define(
    "guest-bypasses", _W, Kind.RUNNING,
    what="The guest of VM {subject} does not translate for {guest}: the type of its group is {type}.",
    why="iommu.passthrough=1, or the group's type was set: DMA goes by the vSMMU's bypass, and the function reaches all of the guest's memory.",
    fix="Leave iommu.passthrough=1 off the guest's command line, or write DMA into the group's type with the driver detached.",
)  # fmt: skip
NO_WINDOW = define(
    "guest-without-msi-window", _E, Kind.RUNNING,
    what="The guest of VM {subject} does not map the MSI window {start:#x} to {end:#x} for {guest}.",
    why="The function writes its interrupts to the host's doorbell there; with stage 1 on, an address that the guest does not map is a fault.",
    fix="Use a guest kernel of 6.0 or later, which knows the IORT's RMR nodes (ACPI, UEFI).",
)  # fmt: skip
STREAM = define(
    "guest-stream-differs", _E, Kind.RUNNING,
    what="The guest of VM {subject} knows {guest} by StreamID {found}, and its vSMMU by {said:#x}.",
    why="QEMU makes the vDEVICE with the function's requester ID: the guest would program another function's entry.",
    fix="Compare the guest's IORT with the plan (`smmu-wizard doctor --replay SNAPSHOT`).",
)  # fmt: skip
FEATURE = define(
    "guest-feature-differs", _W, Kind.RUNNING,
    what="The guest of VM {subject} uses {name}={found} of the vSMMU {vsmmu}, and {source} says {said}.",
    why="Its driver took another feature out of the ID registers than was planned.",
    fix="Look whether the VM was started by this profile; with auto, the first function decides.",
)  # fmt: skip
FAULTS = define(
    "guest-events", _W, Kind.RUNNING,
    what="The guest of VM {subject} has {count} of {guest} in its log, the last one {last}.",
    why="These are the guest's own faults, which the host never shows: its driver gave the function an address that the guest does not map.",
    fix="Give the guest's log to `smmu-wizard explain`.",
)  # fmt: skip

AGENT = define(
    "guest-not-asked", _E, Kind.RUNNING, Area.HOST,
    what="VM {subject}: the agent of its guest told nothing: {because}.",
    why="Only the guest knows whether it translates. What is seen from outside the VM stands, and says nothing of that.",
    fix="{fix}",
)  # fmt: skip


def not_asked(name: str, because: str, fix: str) -> tuple[Step, list[Finding]]:
    """The third question where the guest's agent told nothing."""
    return Step(question=TRANSLATING, answer=Answer.UNKNOWN, said=f"The agent of the guest told nothing: {because}."), [
        AGENT.at(name, because=because, fix=fix)
    ]


def hold(name: str, expected: Expected, guest: Host, places: Mapping[str, Address]) -> tuple[Step, list[Finding]]:
    """The third question by the guest's word, and what differs. ``places``: host address -> where QEMU says that the guest has it."""
    findings: list[Finding] = []
    evidence: list[Evidence] = []
    answers: list[Answer] = []
    for wanted in expected.functions:
        place = places.get(wanted.host or "") or wanted.guest
        if not expected.accelerated(wanted) or place is None:
            continue
        function = guest.functions.get(str(place))
        if function is None:
            if why_unread(guest.facts, Place.FUNCTIONS) is None:
                findings.append(MISSING.at(name, guest=place, function=wanted.host or visible(wanted.id or "?")))
                answers.append(Answer.NO)
            continue
        group = guest.groups.get(function.group) if function.group is not None else None
        answers.append(_translates(guest, function, group))
        evidence += _evidence(place, function, group)
        findings += _of_function(name, expected, wanted, guest, function, group, place)
    if not answers and not any(expected.accelerated(one) for one in expected.functions):
        return Step(question=TRANSLATING, answer=Answer.NO, said="No function should be behind an accelerated vSMMU."), findings
    return _step(answers, evidence), findings


def _translates(guest: Host, function: Function, group: Group | None) -> Answer:
    if function.smmu is None:
        return Answer.UNKNOWN if why_unread(guest.facts, Place.LINKS) else Answer.NO
    if group is None or group.type is None:
        return Answer.UNKNOWN
    if not group.type.startswith("DMA"):
        return Answer.NO  # identity: bypass; DMA and DMA-FQ have a page table
    return Answer.PARTLY if group.regions_known and not _window(group) else Answer.YES  # each of its interrupts is a fault


def _evidence(place: Address, function: Function, group: Group | None) -> Iterator[Evidence]:
    yield Evidence(f"{place} is below {visible(function.smmu or 'no SMMU')}", "guest's sysfs", Rights.ANYONE)
    if group is not None and group.type is not None:
        yield Evidence(f"the type of its group is {visible(group.type)}", "guest's sysfs", Rights.ANYONE)


def _of_function(
    name: str, expected: Expected, wanted: WantedFunction, guest: Host, function: Function, group: Group | None, place: Address
) -> Iterator[Finding]:
    if function.smmu is None:
        if why_unread(guest.facts, Place.LINKS) is None:
            yield NO_SMMU.at(name, guest=place)
        return
    if group is not None and group.type is not None and not group.type.startswith("DMA"):
        yield BYPASS.at(name, guest=place, type=visible(group.type))
    elif group is not None and group.regions_known and not _window(group):
        yield NO_WINDOW.at(name, guest=place, start=WINDOW[0], end=WINDOW[1])
    if function.stream_ids and place.rid not in function.stream_ids:
        found = ", ".join(f"{one:#x}" for one in function.stream_ids)
        yield STREAM.at(name, guest=place, found=found, said=place.rid)
    yield from _features(name, expected, wanted, guest, function)
    events = [event for event in guest.log.events if event.client == str(place)]
    if events:
        yield FAULTS.at(name, guest=place, count=plural(len(events), "event"), last=events[-1].name)


def _window(group: Group) -> bool:
    """Whether something maps it one to one: the RMR's region is ``direct``; ``msi`` alone is where the guest would put its own."""
    return any(one.type.startswith("direct") and one.start <= WINDOW[0] and one.end >= WINDOW[1] for one in group.regions)


def _features(name: str, expected: Expected, wanted: WantedFunction, guest: Host, function: Function) -> Iterator[Finding]:
    smmu, vsmmu = guest.smmu_of(function), expected.vsmmu(wanted.vsmmu)
    if smmu is None or vsmmu is None:
        return
    for prop in ("ats", "ril", "oas"):
        said = vsmmu.properties.get(prop)
        value = smmu.known(prop).value
        if said is None or is_auto(said) or value is None:
            continue
        found = ("on" if value else "off") if isinstance(value, bool) else str(value)
        if found != said:
            yield FEATURE.at(name, name=prop, found=found, said=visible(said), vsmmu=visible(vsmmu.id), source=expected.source)


def _step(answers: list[Answer], evidence: list[Evidence]) -> Step:
    kinds = set(answers)
    answer = kinds.pop() if len(kinds) == 1 else Answer.PARTLY if kinds & {Answer.YES, Answer.PARTLY} else Answer.UNKNOWN
    said = {
        Answer.YES: "By the guest's own word: its groups have page tables of their own.",
        Answer.PARTLY: "By the guest's own word: not for all of its functions, or not for their interrupts.",
        Answer.NO: "By the guest's own word: no page table is set for its functions.",
        Answer.UNKNOWN: "The snapshot of the guest does not say it.",
    }[answer]
    return Step(question=TRANSLATING, answer=answer, said=said, evidence=tuple(evidence))
