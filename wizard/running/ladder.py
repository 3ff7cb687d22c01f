"""The three questions of a VM that runs, answered one by one, each from its own evidence (sources: running-ladder).

What proves nothing is not looked at: the type of the IOMMU group and pinned memory are the same with and without acceleration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from wizard.base.text import plural, visible
from wizard.existing.guest import Guest
from wizard.running.devices import Machine
from wizard.running.expected import Expected
from wizard.running.functions import State
from wizard.running.model import CONSTRUCTED, SWITCHED_ON, TRANSLATING, Answer, Evidence, Rights, Step
from wizard.running.process import EVENT_QUEUE, Process

GUEST_TELLS = "the guest's own word (`verify --guest` with a snapshot of it)"


class Behind(msgspec.Struct, frozen=True, kw_only=True):
    """A function of the VM, and the vSMMU that it is behind. ``accel`` None: there is none, or it is not known."""

    id: str
    host: str | None
    vsmmu: str | None
    accel: bool | None


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """All that was read of one VM. ``started``: its own command line; ``machine`` None: QEMU was not asked."""

    guest: Guest
    started: Expected
    process: Process
    machine: Machine | None
    states: Mapping[str, State] = {}

    @property
    def functions(self) -> tuple[Behind, ...]:
        """Those that it has: as QEMU says, else as it was started."""
        if self.machine is None:
            return tuple(
                Behind(id=one.id or "?", host=one.host, vsmmu=one.vsmmu, accel=vsmmu.accel if (vsmmu := self.started.vsmmu(one.vsmmu)) else None)
                for one in self.started.functions
            )
        accel = {one.id: one.accel for one in self.machine.vsmmus}
        hosts = self.hosts()
        return tuple(Behind(id=one.id, host=hosts[one.id], vsmmu=one.vsmmu, accel=accel.get(one.vsmmu or "")) for one in self.machine.functions)

    def hosts(self) -> dict[str, str | None]:
        """QEMU's id of each function -> its address on the host.

        Of one that came by descriptor QEMU knows none: its command line with the descriptors does, and the last one is known by what is left.
        """
        if self.machine is None:
            return {}
        written = {one.id: one.host for one in self.started.functions}
        found = {one.id: one.host or written.get(one.id) for one in self.machine.functions}
        open_ = {held.function for held in self.process.held or ()} - set(found.values())
        nameless = [id for id, host in found.items() if host is None]
        if len(nameless) == len(open_) == 1:
            found[nameless[0]] = next(iter(open_))
        return found


def ladder(seen: Seen) -> tuple[tuple[Step, ...], dict[str, Answer]]:
    """The steps, and by construction for each function by its id."""
    answers = {one.id: _constructed(seen, one) for one in seen.functions}
    return (_construction(seen, answers), _switched_on(seen, answers), _translating(answers)), answers


def _constructed(seen: Seen, one: Behind) -> Answer:
    if one.vsmmu is None or one.accel is False:
        return Answer.NO
    if one.accel is None:
        return Answer.UNKNOWN
    held = next((held for held in seen.process.held or () if held.function == one.host), None)
    if seen.process.held is not None and one.host is not None:
        return Answer.YES if held is not None and not held.deleted and not held.legacy and seen.process.iommufd else Answer.NO
    if seen.machine is not None:
        return Answer.YES  # QEMU lives, and realized it behind that vSMMU: each step that fails ends it
    state = seen.states.get(one.host or "")
    return Answer.YES if state is not None and state.on_vfio and state.in_use else Answer.UNKNOWN


def _construction(seen: Seen, answers: Mapping[str, Answer]) -> Step:
    functions = seen.functions
    evidence = list(_construction_evidence(seen))
    more = "" if seen.machine is not None else "QEMU's monitor: what was plugged and unplugged since the start"
    if seen.process.held is None:
        more = "; ".join(filter(None, (more, "root: whether each function is open through iommufd")))
    if not functions:
        what = "QEMU has no function of the host" if seen.machine is not None else "its command line names no function of the host"
        return Step(question=CONSTRUCTED, answer=Answer.NO, said=f"{what}.", evidence=tuple(evidence), more=more)
    said = [_said(seen, one, answers[one.id]) for one in functions]
    kinds = set(answers.values())
    answer = kinds.pop() if len(kinds) == 1 else Answer.PARTLY if Answer.YES in kinds else Answer.UNKNOWN if Answer.UNKNOWN in kinds else Answer.NO
    return Step(question=CONSTRUCTED, answer=answer, said="; ".join(said) + ".", evidence=tuple(evidence), more=more)


def _said(seen: Seen, one: Behind, answer: Answer) -> str:
    who = one.host or f"function {visible(one.id)}"
    return f"{who} is behind {visible(one.vsmmu or '')}, accelerated" if answer is Answer.YES else f"{who}: {why_not(seen, one)}"


def why_not(seen: Seen, one: Behind) -> str:
    """Why a function is not accelerated by construction, or why that is not known: a half sentence."""
    if one.vsmmu is None:
        return "no vSMMU is above it"
    if one.accel is False:
        return f"{visible(one.vsmmu)} has accel=off"
    if one.accel is None:
        return f"whether {visible(one.vsmmu)} is accelerated is not known"
    held = next((held for held in seen.process.held or () if held.function == one.host), None)
    if seen.process.held is None:
        return "whether it is still open is not known"
    if held is None:
        return "the process does not have it open"
    if held.deleted:
        return "it is being taken away"
    return "it is open by its group, not through iommufd"


def _construction_evidence(seen: Seen) -> Iterator[Evidence]:
    machine, process = seen.machine, seen.process
    if machine is not None:
        for vsmmu in machine.vsmmus:
            accel = "has no accel" if vsmmu.accel is None else f"has accel={'on' if vsmmu.accel else 'off'}"
            yield Evidence(f"{visible(vsmmu.id)} {accel}", "QMP qom-get", Rights.MONITOR)
        for one in machine.functions:
            where = f"the buses above {visible(one.id)} lead to {visible(one.vsmmu)}" if one.vsmmu else f"no vSMMU is above {visible(one.id)}"
            yield Evidence(where, "QMP qom-get parent_bus", Rights.MONITOR)
        said = f"{plural(machine.blocked, 'vSMMU')} in accelerator mode (it says how many, not which)"
        yield Evidence(said, "QMP query-migrate", Rights.MONITOR)
    else:
        accelerated = sum(vsmmu.accel for vsmmu in seen.started.vsmmus)
        yield Evidence(f"{plural(accelerated, 'vSMMU')} with accel=on; QEMU ends at its start where that fails", "/proc/PID/cmdline", Rights.ANYONE)
    if process.held is not None:
        opened = ", ".join(held.function + (" (deleted)" if held.deleted else "") for held in process.held) or "no function"
        yield Evidence(f"open: {'/dev/iommu, ' if process.iommufd else ''}{opened}", "/proc/PID/fd", Rights.ROOT)
    for address, state in seen.states.items():
        if state.power or state.runtime:
            yield Evidence(f"{address} is {state.power or '?'}, {state.runtime or '?'}", "sysfs power_state, runtime_status", Rights.ANYONE)


def accelerated_vsmmus(seen: Seen, answers: Mapping[str, Answer]) -> set[str]:
    """The vSMMUs with a function that is accelerated by construction."""
    return {one.vsmmu for one in seen.functions if one.vsmmu is not None and answers[one.id] is not Answer.NO}


def driven(seen: Seen, answers: Mapping[str, Answer]) -> list[Behind]:
    """The accelerated functions whose driver in the guest runs: it has asked for message interrupts."""
    return [
        one for one in seen.functions
        if answers[one.id] is not Answer.NO and (state := seen.states.get(one.host or "")) and state.interrupts and state.interrupts.kind != "intx"
    ]  # fmt: skip


def _switched_on(seen: Seen, answers: Mapping[str, Answer]) -> Step:
    wanted, count = len(accelerated_vsmmus(seen, answers)), seen.process.switched_on
    evidence = []
    if seen.process.event_queues is not None:
        evidence.append(Evidence(f"{plural(seen.process.event_queues, 'descriptor')} {EVENT_QUEUE}", "/proc/PID/fd", Rights.ROOT))
    if seen.process.vintfs:
        pages = f"{plural(seen.process.vintfs, 'page')} of a CMDQV's VINTF, whose event queue is open from the start and says nothing of a guest"
        evidence.append(Evidence(pages, "/proc/PID/maps: /dev/iommu", Rights.ROOT))
    for one in driven(seen, answers):
        state = seen.states[one.host or ""].interrupts
        if state is not None:
            evidence.append(Evidence(f"{one.host}: {state.told}", "/proc/interrupts", Rights.ANYONE))
    seen_evidence = tuple(evidence)

    def step(answer: Answer, said: str, more: str = "") -> Step:
        return Step(question=SWITCHED_ON, answer=answer, said=said, evidence=seen_evidence, more=more)

    if count is None:
        return step(Answer.UNKNOWN, "What its descriptors are is hidden from this user.", "root")
    if count and count >= wanted:
        said = (
            "A guest has switched "
            + ("the vSMMU" if count == 1 else f"all {count} vSMMUs")
            + " on since the VM started; in this boot or an earlier one"
        )
        return step(Answer.YES, f"{said}, and not whether it translates.", GUEST_TELLS)
    if count:
        return step(Answer.PARTLY, f"A guest has switched {count} of {wanted} vSMMUs on; which is not to be seen from outside.", GUEST_TELLS)
    if not wanted:
        return step(Answer.NO, "There is no accelerated vSMMU with a function.")
    machine = seen.machine
    if machine is not None and not machine.running:
        return step(Answer.NO, f"Not yet: the VM is {machine.status}.")
    if driven(seen, answers):
        return step(Answer.NO, "The guest's driver of a function runs, and without the vSMMU: nothing is isolated inside the guest.", GUEST_TELLS)
    return step(Answer.NO, "Not yet: its firmware runs, it is booting, or its kernel has no driver for the vSMMU.", "a look in a minute")


def _translating(answers: Mapping[str, Answer]) -> Step:
    if all(answer is Answer.NO for answer in answers.values()):
        return Step(question=TRANSLATING, answer=Answer.NO, said="No function is behind an accelerated vSMMU.")
    return Step(
        question=TRANSLATING, answer=Answer.NOT_ASKED, said="Nothing outside the VM shows it without a trace: a guest that bypasses looks the same.",
        more=f"--translating SECONDS, which switches two trace events of QEMU on for that long; or {GUEST_TELLS}",
    )  # fmt: skip
