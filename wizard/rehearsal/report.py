"""What a rehearsal found: checks, findings, what stood in for what."""

from __future__ import annotations

import msgspec

from wizard.base.finding import Area, Finding, Kind, Severity, define

DIFFERS = define(
    "rehearsal-differs", Severity.ERROR, Kind.PLAN, Area.REQUEST,
    what="VM {subject}: {what_for} is {found} in QEMU, and {expected} in the plan.",
    why="The guest would see another topology than the one that was planned and checked.",
    fix="Report this with the profile: the plan is wrong, or this QEMU differs from those that the program knows.",
)  # fmt: skip
REFUSED = define(
    "rehearsal-refused", Severity.ERROR, Kind.PLAN, Area.REQUEST,
    what="VM {subject}: QEMU does not take the command line: {message}.",
    why="The VM would not start either. Accel and the assigned functions were not tried: stand-ins took their places.",
    fix="Correct what the message names, or use the QEMU that the plan is for.",
)  # fmt: skip
DEAD_PORT = define(
    "rehearsal-dead-port", Severity.ERROR, Kind.PLAN, Area.REQUEST,
    what="VM {subject}: UEFI gave root port {port} no bus.",
    why="What is behind it does not exist for the guest: its root complex has no bus number left.",
    fix="Move the bus numbers apart, or leave bus_nr out.",
)  # fmt: skip
DMA_DIFFERS = define(
    "rehearsal-dma-differs", Severity.ERROR, Kind.PLAN, Area.REQUEST,
    what="VM {subject}: {what_for}: it {found} in QEMU, and {expected} on the simulated SMMU.",
    why="Both had the same tables, so one of them is wrong, and the dry run of this plan may be wrong too.",
    fix="Report this with the profile; `dry-run --trace` shows how the simulated SMMU came to its answer.",
)  # fmt: skip
ENDED = define(
    "rehearsal-ended", Severity.ERROR, Kind.PLAN, Area.REQUEST,
    what="VM {subject}: QEMU stopped answering while {doing}: {message}.",
    why="It took the command line, and then ended or hung; it was stopped. The checks before that point are valid.",
    fix="Try again, with another QEMU if it happens again (--qemu PATH), and report it to QEMU with this command line.",
)  # fmt: skip


class Check(msgspec.Struct, frozen=True):
    """One thing that was asked of QEMU.

    ``part`` is topology (with UEFI's bus numbers where there is firmware), dma or reads. ``departure`` is the row of QEMU's known
    departures from the specification that explains why ``found`` is not ``expected``.
    """

    subject: str
    expected: str
    found: str
    part: str = "topology"
    departure: str | None = None

    @property
    def ok(self) -> bool:
        """Whether they agree, or why they do not is known."""
        return self.expected == self.found or self.departure is not None


class Reason(msgspec.Struct, frozen=True):
    """What may be behind a message, and the next step; ``finding`` is a code of docs/findings.md, or empty."""

    finding: str
    because: str
    fix: str


class Explained(msgspec.Struct, frozen=True):
    """A message of QEMU's that is known, in short. ``fix`` where no reason has one."""

    message: str
    means: str
    reasons: tuple[Reason, ...]
    fix: str = ""


class Report(msgspec.Struct, frozen=True):
    """What a rehearsal found. ``notes`` say what stood in for what, ``left_out`` what this QEMU could not be asked.

    ``words`` are what a QEMU wrote that refused or died; ``explained`` the first cause among them (``wizard.explain.short`` fills it in).
    """

    vm: str
    qemu: str
    firmware: bool
    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    findings: tuple[Finding, ...]
    version: str | None = None
    left_out: tuple[str, ...] = ()
    words: str = ""
    explained: Explained | None = None

    @property
    def ok(self) -> bool:
        """Whether everything that was asked is as the plan says."""
        return not self.findings


class Refused(Exception):
    """QEMU ended before it answered; the text is what it wrote."""


class Ended(Exception):
    """QEMU took its command line and then died or hung; the text is why, ``words`` are what it wrote."""

    def __init__(self, why: str, words: str = "") -> None:
        super().__init__(why)
        self.words = words
