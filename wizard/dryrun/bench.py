"""The bench that a scenario is played on: one function of one VM, its guest, its SMMU, and what was seen.

A scenario states what must happen; what happens otherwise is ``Failed``, with the sentence that the report shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from wizard.arch.command import Op
from wizard.arch.event import Event, EventType, FaultClass
from wizard.arch.ste import STE
from wizard.dryrun.guest import LinuxGuest, Stream
from wizard.dryrun.layout import FunctionLayout, VsmmuLayout
from wizard.dryrun.model import Proof, ScenarioView, Step, Stopper
from wizard.dryrun.rests import Fact
from wizard.dryrun.world import Vm, World
from wizard.nesting import Device, HostSmmu, KernelError, Vsmmu
from wizard.nesting.invalidate import Words
from wizard.smmu import Ats, Consumed, Outcome, Transaction


class Failed(Exception):
    """The plan does not do what the scenario asks; the text is a clause."""


class NotApplicable(Exception):
    """The scenario says nothing of this function; the text is why."""


class Needs(IntEnum):
    """What has to be there before a scenario can be played."""

    LAYOUT = 0  # the plan's numbers
    FUNCTION = 1  # the function attached to its VM, with or without a vSMMU
    VSMMU = 2  # the function behind a vSMMU
    GUEST = 3  # the guest booted and its driver bound to the function


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario; ``play`` answers the sentence of its success. ``replug`` says that it takes functions away, so QEMU starts anew after it.

    ``rests`` are the facts that its outcome depends on, beside those that what it needs depends on.
    """

    view: ScenarioView
    play: Callable[[Bench], str]
    needs: Needs
    replug: bool
    rests: frozenset[Fact] = frozenset()


REGISTRY: dict[str, Scenario] = {}


_RESTS: dict[Callable[[Bench], str], frozenset[Fact]] = {}


def rests_on(*facts: Fact) -> Callable[[Callable[[Bench], str]], Callable[[Bench], str]]:
    """Declare, below ``scenario``, what the outcome depends on beside what a scenario of its needs does anyway."""

    def declare(play: Callable[[Bench], str]) -> Callable[[Bench], str]:
        _RESTS[play] = frozenset(facts)
        return play

    return declare


def scenario(
    id: str, group: str, title: str, *sources: str, stops: Stopper | None = None, needs: Needs = Needs.GUEST, replug: bool = False
) -> Callable[[Callable[[Bench], str]], Callable[[Bench], str]]:
    """Register a scenario under its id; ``sources`` are the specification sections and functions that it follows."""

    def register(play: Callable[[Bench], str]) -> Callable[[Bench], str]:
        if id in REGISTRY:
            raise ValueError(f"scenario {id} is declared twice")
        if not sources:
            raise ValueError(f"scenario {id} names no source")
        view = ScenarioView(id=id, group=group, title=title, sources=sources, stops=stops)
        REGISTRY[id] = Scenario(view, play, needs, replug, _RESTS.get(play, frozenset()))
        return play

    return register


@dataclass(slots=True)
class Bench:
    """State of one scenario for one function. ``steps`` fill when ``tracing``."""

    world: World
    vm: Vm
    function: FunctionLayout
    prove: Callable[[str, str], Proof]
    tracing: bool = False
    steps: list[Step] = field(default_factory=list)
    stopped_by: Stopper | None = None
    _guests: dict[str, LinuxGuest] = field(default_factory=dict)
    _stream: Stream | None = None

    # -- what there is ------------------------------------------------------------------------------------------------

    @property
    def device(self) -> Device:
        """The function as the host's driver knows it."""
        return self.world.devices[self.function.address]

    @property
    def host(self) -> HostSmmu:
        """The SMMU above it."""
        return self.world.smmus[self.function.smmu]

    @property
    def vsmmu(self) -> Vsmmu:
        """The vSMMU above it in the guest."""
        if self.function.vsmmu is None:
            raise NotApplicable("the function is behind no vSMMU")
        return self.vm.vsmmus[self.function.vsmmu]

    @property
    def properties(self) -> VsmmuLayout:
        """The vSMMU's properties, resolved."""
        return next(v for v in self.vm.layout.vsmmus if v.id == self.function.vsmmu)

    @property
    def vsid(self) -> int:
        """What the guest knows the function by."""
        if self.function.vsid is None:
            raise NotApplicable("the function is behind no vSMMU")
        return self.function.vsid

    def guest(self, vsmmu: str | None = None, *, rmr: bool = True) -> LinuxGuest:
        """The guest's driver of a vSMMU (default: the function's own), booted."""
        name = vsmmu or self.function.vsmmu or ""
        if name not in self._guests:
            layout = next(v for v in self.vm.layout.vsmmus if v.id == name)
            self._guests[name] = self.boot(name, layout, len(self._guests), rmr=rmr)
        return self._guests[name]

    def boot(self, name: str, layout: VsmmuLayout, part: int = 0, *, rmr: bool = True) -> LinuxGuest:
        """A fresh guest kernel on a vSMMU; ``part`` is its half of the guest's memory, where two drivers run at once."""
        guest = LinuxGuest(self.vm.vsmmus[name], layout, memory=self.vm.layout.memory, part=part, rmr=rmr)
        guest.boot()
        return guest

    @property
    def stream(self) -> Stream:
        """The function with the guest's driver bound to it."""
        if self._stream is None:
            self._stream = self.probe(self.guest())
        return self._stream

    def probe(self, guest: LinuxGuest) -> Stream:
        """Let a guest's driver probe the function; ``Failed`` when its first entry is refused."""
        stream = guest.probe(self.function)
        self.say("guest", f"stream table entry of vSID {stream.vsid:#x}: stage 1, ASID {stream.domain.asid}")
        if self.vsmmu.errors:
            raise Failed(f"the guest's first stream table entry ends in CERROR_ILL: {self.vsmmu.errors[-1]}")
        return stream

    def pa(self, ipa: int) -> int:
        """Where the VM's memory is on the host."""
        found = self.vm.memory.pa(ipa)
        if found is None:
            raise Failed(f"the VM has no memory at {ipa:#x}")
        return found

    # -- what is done -------------------------------------------------------------------------------------------------

    def say(self, what: str, text: str, **detail: int) -> None:
        """A step of the scenario itself."""
        if self.tracing:
            self.steps.append(Step(what=what, text=text, detail={name: f"{value:#x}" for name, value in detail.items()}))

    def dma(
        self, iova: int, *, write: bool = True, ssid: int | None = None, ats: Ats = Ats.UNTRANSLATED, privileged: bool = False, sid: int | None = None
    ) -> Outcome:
        """One access by the function."""
        stream = self.device.sid if sid is None else sid
        access = "write" if write else "read"
        kind = {Ats.UNTRANSLATED: access, Ats.REQUEST: "ATS request", Ats.TRANSLATED: f"translated {access}"}
        pasid = f", PASID {ssid}" if ssid is not None else ""
        self.say("dma", f"{kind[ats]} of StreamID {stream:#x} at {iova:#x}{pasid}")
        outcome = self.host.smmu.translate(Transaction(stream, iova, write=write, ssid=ssid, ats=ats, privileged=privileged), trace=self.tracing)
        if self.tracing:
            self.steps += [Step.of(step) for step in (outcome.trace.steps if outcome.trace else ())]
            if outcome.pa is not None:
                self.say("where", self.world.owner_of(outcome.pa))
        return outcome

    def send(self, commands: Sequence[Words], guest: LinuxGuest | None = None) -> Consumed:
        """Commands of the guest, with a CMD_SYNC behind them."""
        if self.tracing:
            for low, _ in commands:
                name = Op(low & 0xFF).name if low & 0xFF in set(Op) else f"{low & 0xFF:#x}"
                self.say("command", f"CMD_{name}")
        consumed = (guest or self.guest()).send(list(commands))
        self.say("command", f"{consumed.count} consumed, {consumed.error.name}")
        return consumed

    def install(self, ste: STE) -> Consumed:
        """The guest writes its entry for the function and sends CFGI_STE."""
        self.say("guest", f"stream table entry of vSID {self.vsid:#x} = {ste.words[0]:#x} {ste.words[1]:#x}")
        return self.guest().install(self.vsid, ste)

    # -- what must be so ----------------------------------------------------------------------------------------------

    def reaches(self, iova: int, pa: int, *, write: bool = True, ssid: int | None = None, what: str = "the access") -> Outcome:
        """The access gets to ``pa``."""
        outcome = self.dma(iova, write=write, ssid=ssid)
        if not outcome.ok:
            raise Failed(f"{what} at {iova:#x} does not get through: {describe(outcome)}")
        if outcome.pa != pa:
            raise Failed(f"{what} at {iova:#x} lands at {outcome.pa:#x} ({self.world.owner_of(outcome.pa or 0)}) instead of {pa:#x}")
        return outcome

    def stopped(
        self, iova: int, kind: EventType | None, *, write: bool = True, ssid: int | None = None, stage2: bool | None = None,
        purpose: FaultClass | None = None, what: str = "the access",
    ) -> Outcome:  # fmt: skip
        """The hardware stops the access, with that event (None: silently)."""
        outcome = self.dma(iova, write=write, ssid=ssid)
        self.is_stopped(outcome, kind, iova, what)
        event = outcome.event
        if event is not None and stage2 is not None and bool(event.layout["S2"].get(event.value)) != stage2:
            raise Failed(f"{what} at {iova:#x} is stopped by stage {1 if stage2 else 2} instead of stage {2 if stage2 else 1}")
        if event is not None and purpose is not None and event.layout["CLASS"].get(event.value) != purpose:
            raise Failed(f"{what} at {iova:#x} faults with CLASS {event.layout['CLASS'].get(event.value)} instead of {purpose.name}")
        self.stopped_by = Stopper.HARDWARE
        return outcome

    def is_stopped(self, outcome: Outcome, kind: EventType | None, iova: int, what: str) -> None:
        """An outcome that is an abort with that event."""
        if outcome.ok:
            raise Failed(f"{what} at {iova:#x} gets through to {self.world.owner_of(outcome.pa or 0)}; nobody stops it")
        got = EventType(outcome.event.Type) if outcome.event is not None else None
        if got is not kind:
            raise Failed(f"{what} at {iova:#x} ends in {got.name if got else 'a silent abort'} instead of {kind.name if kind else 'a silent abort'}")

    def refused(self, call: Callable[[], object], errno: str, what: str) -> KernelError:
        """The kernel refuses."""
        try:
            call()
        except KernelError as error:
            self.say("kernel", str(error))
            if error.errno != errno:
                raise Failed(f"{what} ends in {error.errno} instead of {errno}") from error
            self.stopped_by = Stopper.KERNEL
            return error
        raise Failed(f"the kernel lets {what} pass; nobody stops it")

    # -- events -------------------------------------------------------------------------------------------------------

    def guest_events(self) -> tuple[Event, ...]:
        """Events that arrive in the guest since the last time."""
        self.host.handle_events()
        events = self.vsmmu.read_events()
        for event in events:
            self.say("event", f"guest: {event!r}")
        return events

    def only_event(self, kind: EventType, what: str) -> Event:
        """Exactly one event reached the guest, with the vSID."""
        events = self.guest_events()
        if [event.Type for event in events] != [kind]:
            raise Failed(f"{what}: the guest sees {[EventType(event.Type).name for event in events] or 'no event'} instead of one {kind.name}")
        if events[0].StreamID != self.vsid:
            raise Failed(f"{what}: the event names StreamID {events[0].StreamID:#x}, not the guest's {self.vsid:#x}")
        return events[0]

    def no_event(self, what: str) -> None:
        """Nothing reached the guest."""
        if events := self.guest_events():
            raise Failed(f"{what}: the guest sees {EventType(events[0].Type).name}")

    def host_log(self) -> list[Event]:
        """What the host's kernel prints since the last time."""
        self.host.handle_events()
        log = list(self.host.log)
        self.host.log.clear()
        for event in log:
            self.say("event", f"host's log: {event!r}")
        return log


def describe(outcome: Outcome) -> str:
    """How an access ended, in a clause."""
    if outcome.pa is not None:
        return f"it reaches {outcome.pa:#x}"
    name = EventType(outcome.event.Type).name if outcome.event is not None else "silent abort"
    return f"{name}, {outcome.reason}" if outcome.reason else name
