"""Which behaviours of the specification something has exercised: ``Observed`` is an ``Smmu`` that notes them (``wizard.smmu.behaviours``).

    coverage = Coverage()
    smmu = Observed(Ids.everything(), memory, coverage=coverage)
    ...
    coverage.exercised, coverage.missing

An SMMU that is not observed knows nothing of it and pays nothing. An observed one traces every transaction and looks at what changed after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from msgspec.structs import replace

from wizard.arch.command import CfgiSteRange, Command, CommandError, Op, Resume, Tlbi, decode
from wizard.arch.event import Event, PageRequest
from wizard.arch.registers import ABSENT, CR0, GERROR, register
from wizard.smmu.behaviours import BEHAVIOURS, Behaviour
from wizard.smmu.command_queue import Consumed
from wizard.smmu.commands import Executor
from wizard.smmu.device import Smmu
from wizard.smmu.ids import Ids
from wizard.smmu.machine import Machine
from wizard.smmu.memory import Memory
from wizard.smmu.outcome import How, Outcome, Transaction
from wizard.smmu.pri import PageResponse
from wizard.smmu.queue import OutputQueue
from wizard.smmu.seen import of_transaction

__all__ = ["Coverage", "Observed", "ObservedMachine"]


@dataclass(slots=True)
class Coverage:
    """How often each behaviour was exercised, by key."""

    counts: Counter[str] = field(default_factory=Counter)

    def note(self, *keys: str) -> None:
        """Behaviours were exercised; ``KeyError`` for one that the table does not have."""
        for key in keys:
            self.counts[BEHAVIOURS[key].key] += 1

    @property
    def known(self) -> int:
        """How many behaviours the table has."""
        return len(BEHAVIOURS)

    @property
    def exercised(self) -> list[Behaviour]:
        """What was exercised, in the order of the table."""
        return [one for key, one in BEHAVIOURS.items() if self.counts[key]]

    @property
    def missing(self) -> list[Behaviour]:
        """What was not, in the order of the table."""
        return [one for key, one in BEHAVIOURS.items() if not self.counts[key]]

    def add(self, keys: Iterable[str]) -> None:
        """What another process has exercised; keys that are not known here are passed over."""
        self.note(*(key for key in keys if key in BEHAVIOURS))

    def lines(self) -> list[str]:
        """For people: how many of each group, and every one that is missing with its section and rule."""
        groups: dict[str, list[Behaviour]] = {}
        for one in BEHAVIOURS.values():
            groups.setdefault(one.key.partition(".")[0], []).append(one)
        told = [f"{len(self.exercised)} of {len(BEHAVIOURS)} behaviours of the specification exercised"]
        for group, members in groups.items():
            missing = [one for one in members if not self.counts[one.key]]
            told.append(f"{group}: {len(members) - len(missing)} of {len(members)}")
            told += [f"  not {one.key}: {one.rule} ({one.section})" for one in missing]
        return told


class Observed(Smmu):
    """An SMMU that notes in ``coverage`` what is exercised. Answers are the same as an ``Smmu``'s."""

    def __init__(
        self, ids: Ids, memory: Memory, *, coverage: Coverage, tlb: bool = True, configuration_cache: bool = True, gbpa: int | None = None
    ) -> None:
        self.coverage = coverage
        super().__init__(ids, memory, tlb=tlb, configuration_cache=configuration_cache, gbpa=gbpa)

    def _assemble(self) -> None:
        super()._assemble()
        self.executor = self.commands.executor = _Executor(self, self.executor)

    def translate(self, transaction: Transaction, *, trace: bool = False) -> Outcome:
        """As ``Smmu.translate``."""
        before = _Before(self)
        outcome = super().translate(transaction, trace=True)
        self.coverage.note(*of_transaction(self, transaction, outcome, lost=self.queue.lost > before.lost))
        before.compare(self)
        return outcome if trace else replace(outcome, trace=None)

    def write(self, name: str, value: int) -> None:
        """As ``Smmu.write``."""
        name, before = name.removeprefix("SMMU_"), _Before(self)
        found = register(name)
        refused = name not in ABSENT and not found.read_only and not self.registers.takes(name, found, value)
        if name in ABSENT:
            self.coverage.note("reg.absent")
        elif found.read_only:
            self.coverage.note("reg.read-only")
        elif refused:
            self.coverage.note("reg.gbpa-update" if name == "GBPA" else "reg.guarded")
        super().write(name, value)
        before.compare(self)

    def submit(self, commands: Iterable[tuple[int, int]]) -> Consumed:
        """As ``Smmu.submit``."""
        before = _Before(self)
        consumed = super().submit(commands)
        before.compare(self)
        return consumed

    def page_request(self, request: PageRequest) -> PageResponse | None:
        """As ``Smmu.page_request``."""
        before = _Before(self)
        response = super().page_request(request)
        if response is not None:
            self.coverage.note("priq.response")
        before.compare(self)
        return response

    def events(self) -> tuple[Event, ...]:
        """As ``Smmu.events``."""
        before = _Before(self)
        found = super().events()
        before.compare(self)
        return found


class ObservedMachine(Machine):
    """A machine whose SMMUs note in one ``coverage``."""

    def __init__(self, memory: Memory | None = None, *, coverage: Coverage) -> None:
        super().__init__(memory)
        self.coverage = coverage

    def _made(self, ids: Ids, *, caches: bool, gbpa: int | None) -> Smmu:
        return Observed(ids, self.memory, coverage=self.coverage, tlb=caches, configuration_cache=caches, gbpa=gbpa)


class _Executor(Executor):
    """The executor of an observed SMMU."""

    __slots__ = ("coverage",)

    def __init__(self, smmu: Observed, executor: Executor) -> None:
        super().__init__(executor.registers, executor.tlb, executor.configuration, executor.report, executor.endpoints, executor.again)
        self.coverage = smmu.coverage

    def execute(self, dword0: int, dword1: int) -> CommandError:
        ended = len(self.report.resumed)
        error = super().execute(dword0, dword1)
        command = decode(dword0, dword1)
        if error is CommandError.CERROR_NONE:
            self.coverage.note(*self._executed(command, ended))
        elif error is CommandError.CERROR_ILL:
            self.coverage.note("cmd.illegal")
        else:
            self.coverage.note("cmd.atc-timeout")
        return error

    def _executed(self, command: Command, ended: int) -> Iterable[str]:
        op = Op(command.Opcode)
        yield f"cmd.{op.name}"
        fields = command.fields()
        if fields.get("Leaf"):
            yield "cmd.leaf"
        if isinstance(command, CfgiSteRange) and command.Range == 31:
            yield "cmd.all"
        if isinstance(command, Tlbi) and self.features.ril and command.TG and op.name.endswith(("VA", "VAA", "IPA")):
            yield "cmd.range"
            if command.TTL:
                yield "cmd.level"
        if isinstance(command, Tlbi) and self.features.vmw and self.registers.cr0.VMW:
            yield "cmd.wildcard"
        if isinstance(command, Resume) and op is Op.RESUME and len(self.report.resumed) > ended:
            how = self.report.resumed[ended][1].how
            yield "cmd.resume-retry" if command.Action else "cmd.resume-abort" if how is How.ABORTED else "cmd.resume-razwi"


class _Before:
    """What is compared after something happened: queues, errors, interrupts, what ended."""

    __slots__ = ("active", "cr0", "edges", "error", "events", "lost", "merged", "msis", "queue", "requests", "resumed")

    def __init__(self, smmu: Smmu) -> None:
        self.events, self.requests = _output(smmu.queue), _output(smmu.requests)
        self.lost, self.merged = smmu.queue.lost, smmu.queue.merged
        self.queue, self.error = smmu.commands.indices.cons, smmu.commands.error
        self.active = smmu.read("GERROR") ^ smmu.read("GERRORN")
        self.edges, self.msis, self.resumed = len(smmu.edges), len(smmu.msis), len(smmu.resumed)
        self.cr0 = smmu.cr0

    def compare(self, smmu: Observed) -> None:
        """Note what has changed."""
        note = smmu.coverage.note
        for name, (prod, overflow, aborted), queue in (("eventq", self.events, smmu.queue), ("priq", self.requests, smmu.requests)):
            if queue.indices.prod != prod and queue.indices.prod == queue.indices.after(prod):
                note(f"{name}.written")
                if name == "eventq" and (queue.indices.prod ^ prod) >> queue.indices.log2:
                    note("eventq.wrap")
            if queue.overflow != overflow:
                note(f"{name}.overflow")
            if queue.aborted and not aborted:
                note(f"{name}.abort")
        if smmu.queue.lost > self.lost and not smmu.queue.enabled:
            note("eventq.off")
        if smmu.queue.merged > self.merged:
            note("eventq.merged")
        indices = smmu.commands.indices
        if smmu.commands.base is not None and indices.cons != self.queue:
            note("cmd.queue")
            if (indices.cons ^ self.queue) >> indices.log2:
                note("cmd.wrap")
        if smmu.commands.error is CommandError.CERROR_ABT is not self.error:
            note("cmd.abort")
        self._errors(smmu, note)
        note(*(f"irq.{edge.source}" for edge in smmu.edges[self.edges :]), *("msi.written" for _ in smmu.msis[self.msis :]))
        if any("SMMUEN" in ended.reason or "STALL_TERM" in ended.reason for _, ended in smmu.resumed[self.resumed :]):
            note("stall.terminated")
        self._enabled(smmu.cr0, note)

    def _errors(self, smmu: Smmu, note: Callable[..., None]) -> None:
        active = smmu.read("GERROR") ^ smmu.read("GERRORN")
        if self.active & ~active:
            note("gerror.acknowledged")
        fields = GERROR(active & ~self.active).fields()
        if fields["CMDQ_ERR"]:
            note("gerror.cmdq")
        if any(value for name, value in fields.items() if name.startswith("MSI_")):
            note("gerror.msi")

    def _enabled(self, cr0: CR0, note: Callable[..., None]) -> None:
        if cr0.SMMUEN != self.cr0.SMMUEN:
            note("cr0.on" if cr0.SMMUEN else "cr0.off")


def _output(queue: OutputQueue) -> tuple[int, int, bool]:
    return queue.indices.prod, queue.overflow, queue.aborted
