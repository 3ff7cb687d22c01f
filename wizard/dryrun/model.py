"""The report of a dry run: frozen, and its own JSON format (schema 1). Numbers that are addresses are hexadecimal strings.

Report
  functions    which function is behind which vSMMU, by StreamID and vSID
  scenarios    what was played, and the specification section or kernel function that it follows
  cells        one for each function and scenario: status, a sentence, who stopped a wrong access, the trace of the first failure
  proofs       isolation, one for each VM and SMMU, with assumptions
  costs        what the layout costs
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum

import msgspec

from wizard.base.finding import Finding
from wizard.smmu.trace import Step as TracedStep

Progress = Callable[[int, int, str], None]
"""Called with (done, total, label) before each piece of work, and once at the end."""


class Cancelled(Exception):
    """The caller's ``stop`` said so."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what a report is made of."""


class Status(StrEnum):
    """How a scenario ended for a function."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not-applicable"


class Stopper(StrEnum):
    """Who stops a wrong access, or answers a wrong request."""

    HARDWARE = "hardware"
    KERNEL = "kernel"
    QEMU = "qemu"
    NOBODY = "nobody"


class Step(Record, frozen=True, kw_only=True):
    """One thing that happened: a word that was read, a command, an answer."""

    what: str
    text: str
    address: str | None = None
    words: tuple[str, ...] = ()
    detail: dict[str, str] = {}

    @classmethod
    def of(cls, step: TracedStep) -> Step:
        """A step of the simulated SMMU."""
        return cls(
            what=step.what,
            text=step.text,
            address=None if step.address is None else f"{step.address:#x}",
            words=tuple(f"{word:#018x}" for word in step.words),
            detail={name: f"{value:#x}" for name, value in step.detail},
        )

    def line(self) -> str:
        """For people."""
        where = f" @{self.address}" if self.address else ""
        words = f" = {' '.join(self.words)}" if self.words else ""
        detail = f" [{', '.join(f'{name}={value}' for name, value in self.detail.items())}]" if self.detail else ""
        return f"{self.what:<9}{where}{words} {self.text}{detail}".replace("  @", " @")


class ScenarioView(Record, frozen=True, kw_only=True):
    """What is played. ``stops`` is who is expected to stop what is wrong in it; None where nothing is wrong."""

    id: str
    group: str
    title: str
    sources: tuple[str, ...]
    stops: Stopper | None = None


class FunctionView(Record, frozen=True, kw_only=True):
    """One function, assigned or (``hotplug``) meant for a free port. ``vsid`` is a prediction: the guest's firmware numbers the buses."""

    function: str
    name: str
    vm: str
    device: str
    mode: str
    smmu: str | None
    vsmmu: str | None
    stream_ids: tuple[int, ...]
    vsid: int | None
    hotplug: bool


class Cell(Record, frozen=True, kw_only=True):
    """One scenario for one function. ``trace`` is filled for a failure; ``trace_of`` gives it for any.

    ``assuming`` has the facts that nobody measured and that the status rests on, as they were taken: ``OAS 48``.
    """

    vm: str
    function: str
    scenario: str
    status: Status
    text: str
    stopped_by: Stopper | None = None
    trace: tuple[Step, ...] = ()
    assuming: tuple[str, ...] = ()


class Proof(Record, frozen=True, kw_only=True):
    """Isolation of one VM on one SMMU, for every stage 1, STE and command that its guest can write.

    ``hardware`` says what was read from the registers on, and what each of the VM's streams reaches; ``plugged`` are functions of free ports
    that were plugged when it was made.
    """

    vm: str
    smmu: str
    proved: bool
    text: str
    pages: int
    table_bytes: int
    steps: tuple[str, ...]
    assumptions: tuple[str, ...]
    hardware: tuple[str, ...] = ()
    plugged: tuple[str, ...] = ()
    counterexample: str | None = None


class Played(Record, frozen=True, kw_only=True):
    """The cells of some functions; and for those of free ports, with their address, the proofs with each plugged."""

    cells: tuple[Cell, ...]
    plugged: tuple[tuple[str, Proof], ...] = ()


class TableCost(Record, frozen=True, kw_only=True):
    """Memory of translation structures, in bytes."""

    stage2: int
    stream_table: int
    context: int
    stage1: int


class CommandCost(Record, frozen=True, kw_only=True):
    """One way to bring a guest's invalidation to the hardware, per unmap."""

    way: str
    commands: int
    syncs: int
    exits: int
    ioctls: int
    hypothetical: bool
    text: str


class LayoutCost(Record, frozen=True, kw_only=True):
    """What one arrangement of a VM's functions costs on the workload."""

    layout: str
    vsmmus: int
    commands: int
    iotlb_entries: int
    loads: int
    text: str


class Cost(Record, frozen=True, kw_only=True):
    """What a VM's translations cost. ``loads`` are memory reads of a TLB miss: the nested ones, and with walk caches warm."""

    vm: str
    tables: TableCost
    loads_per_miss: int
    loads_best: int
    unmap: tuple[CommandCost, ...]
    layouts: tuple[LayoutCost, ...]
    workload: str


class TraceView(Record, frozen=True, kw_only=True):
    """``--trace FUNCTION@IOVA``: one address, in each situation."""

    function: str
    iova: str
    situations: tuple[Situation, ...]


class Situation(Record, frozen=True, kw_only=True):
    """How one access ended in one situation; ``came_up`` is False where the function never got that far."""

    situation: str
    access: str
    outcome: str
    steps: tuple[Step, ...]
    came_up: bool = True


class Report(Record, frozen=True, kw_only=True):
    """The whole dry run."""

    schema: int
    ok: bool
    rehearsed: bool
    findings: tuple[Finding, ...] = ()
    functions: tuple[FunctionView, ...] = ()
    scenarios: tuple[ScenarioView, ...] = ()
    cells: tuple[Cell, ...] = ()
    proofs: tuple[Proof, ...] = ()
    costs: tuple[Cost, ...] = ()
    assumptions: tuple[str, ...] = ()
    trace: TraceView | None = None
    not_played: tuple[str, ...] = ()  # VMs with errors of their own, which would not start

    def cell(self, function: str, scenario: str) -> Cell | None:
        """The cell of a function and scenario."""
        return next((cell for cell in self.cells if cell.function == function and cell.scenario == scenario), None)

    def failures(self) -> Iterator[Cell]:
        """Every cell that failed."""
        return (cell for cell in self.cells if cell.status is Status.FAILED)
