"""The case format of ``smmu-wizard translate``, as data: what goes in and what comes out. ``docs/smmu.md`` tells it in words.

Numbers in a case are integers, or strings of decimal or of hexadecimal digits after ``0x``; addresses and words come out as hexadecimal strings.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

Number = int | Annotated[str, Meta(max_length=80)]
Memory = dict[Annotated[str, Meta(max_length=80)], list[Number]]

LARGEST_WORDS = 1 << 22
LARGEST_STEPS = 1 << 16
LARGEST_COMMANDS = LARGEST_RECORDS = LARGEST_PARTS = 1 << 18
"""Bounds of one case: 32 MiB of tables, 65,536 steps, 262,144 commands executed, event records read and 4 KiB pages accessed, of each as many."""


class Dma(Struct, kw_only=True, forbid_unknown_fields=True):
    """One access by a device of ``size`` bytes, or with ``ats`` a translation request or translated traffic.

    ``incoming`` is the memory type that it comes with, written as in ``attributes`` of an answer.
    """

    sid: Number
    iova: Number
    access: Literal["r", "w"] = "w"
    ssid: Number | None = None
    privileged: bool = False
    instruction: bool = False
    ats: Literal["request", "translated"] | None = None
    size: Number = 4
    incoming: str | None = None


class Step(Struct, kw_only=True, forbid_unknown_fields=True):
    """One step of a case: exactly one of its fields."""

    dma: Dma | UnsetType = UNSET
    mem: Memory | UnsetType = UNSET
    cmd: list[tuple[Number, Number]] | UnsetType = UNSET
    reg: dict[str, Number] | UnsetType = UNSET
    events: Literal[True] | UnsetType = UNSET
    interrupts: Literal[True] | UnsetType = UNSET
    read: Annotated[list[Annotated[str, Meta(max_length=80)]], Meta(max_length=1024)] | UnsetType = UNSET


class CaseIds(Struct, kw_only=True, forbid_unknown_fields=True):
    """ID register words that differ from the stage's own."""

    idr0: Number | UnsetType = UNSET
    idr1: Number | UnsetType = UNSET
    idr3: Number | UnsetType = UNSET
    idr5: Number | UnsetType = UNSET
    aidr: Number | UnsetType = UNSET


class Update(Struct, kw_only=True, forbid_unknown_fields=True):
    """An entry that ``hitless`` writes over a live one: ``new`` are its eight words, ``at`` is where it lies.

    ``kind`` is ``ste`` of StreamID ``sid`` or ``cd`` of its SubstreamID ``ssid``. ``order`` is Linux's, or every word that differs from the
    first (``up``) or the last on (``down``).
    """

    kind: Literal["ste", "cd"]
    at: Number
    new: Annotated[list[Number], Meta(min_length=8, max_length=8)]
    sid: Number
    ssid: Number = 0
    order: Literal["linux", "up", "down"] = "linux"


class Case(Struct, kw_only=True, forbid_unknown_fields=True):
    """A case: an SMMU, its registers and memory, and one DMA (``sid``, ``iova``, ``access`` …) or ``steps``.

    ``ram`` are the ranges (start, end) that answer with zero where ``mem`` says nothing; ``caches`` false makes every lookup go to memory.
    ``update`` is for ``hitless`` alone. ``expect``, ``qemu`` and ``qemu_agrees`` are carried along and not looked at.
    """

    name: str = ""
    note: str = ""
    stage: Literal["1", "2", "nested"] = "nested"
    ids: CaseIds = msgspec.field(default_factory=CaseIds)
    ram: Annotated[list[tuple[Number, Number]], Meta(max_length=256)] | UnsetType = UNSET
    caches: bool = True
    strtab_base: Number = 0
    strtab_base_cfg: Number = 0
    cr0: Number = 0xD
    cr2: Number = 2
    gbpa: Number = 0x1000
    mem: Memory = msgspec.field(default_factory=dict)
    steps: Annotated[list[Step], Meta(max_length=LARGEST_STEPS)] | UnsetType = UNSET
    update: Update | UnsetType = UNSET
    sid: Number | UnsetType = UNSET
    iova: Number | UnsetType = UNSET
    access: Literal["r", "w"] = "w"
    ssid: Number | None = None
    privileged: bool = False
    instruction: bool = False
    ats: Literal["request", "translated"] | None = None
    size: Number = 4
    incoming: str | None = None
    expect: Any = None
    qemu: Any = None
    qemu_agrees: bool | None = None


class Record(Struct, kw_only=True):
    """An event record by field; which fields there are depends on its type. ``addr2`` is the IPA or the fetch address."""

    type: int
    name: str
    sid: int
    ssv: int
    ssid: int
    addr: str | UnsetType = UNSET
    rnw: int | UnsetType = UNSET
    pnu: int | UnsetType = UNSET
    ind: int | UnsetType = UNSET
    s2: int | UnsetType = UNSET
    class_: str | int | UnsetType = msgspec.field(default=UNSET, name="class")
    stall: int | UnsetType = UNSET
    stag: int | UnsetType = UNSET
    ttrnw: int | UnsetType = UNSET
    addr2: str | UnsetType = UNSET
    raw: list[str]


class Completion(Struct, kw_only=True):
    """An ATS Translation Completion; with status ``success`` the rest is there. ``size`` in bytes."""

    status: Literal["success", "UR", "CA"]
    pa: str | UnsetType = UNSET
    size: int | UnsetType = UNSET
    read: bool | UnsetType = UNSET
    write: bool | UnsetType = UNSET
    execute: bool | UnsetType = UNSET
    privileged: bool | UnsetType = UNSET


class TraceStep(Struct, kw_only=True, omit_defaults=True):
    """One thing that happened on the way of a translation."""

    what: str
    text: str
    address: str | None = None
    words: list[str] = msgspec.field(default_factory=list)
    detail: dict[str, str] = msgspec.field(default_factory=dict)


class Commands(Struct, kw_only=True):
    """How far a batch of commands got."""

    consumed: int
    error: str | None


class Message(Struct, kw_only=True):
    """A message signalled interrupt: where it was stored, and what."""

    address: str
    data: str


class Interrupt(Struct, kw_only=True):
    """An edge on the wire of a source; ``msi`` is the message that went with it, null where none was sent or nothing took it."""

    source: Literal["SYNC", "EVENTQ", "PRIQ", "GERROR"]
    msi: Message | None


class MaskedField(Struct, kw_only=True):
    """A field of the case's ID registers that the model does not have, or only up to a smaller value."""

    register: str
    field: str
    value: int
    why: str


class Answer(Struct, kw_only=True):
    """The outcome of a case or of one step.

    ``ok`` with ``pa``, ``how`` and ``attributes``, and where a stage translates the ``size`` in bytes of what one TLB entry would cover; or
    ``fault``, null when nothing was recorded (``razwi`` when it completed all the same, ``stalled`` when it waits for software); or ``ats``;
    or ``parts``, one for each 4 KiB page of an access, each with its ``iova`` and ``bytes``; or ``cmd``; or ``events`` with whether some
    were lost, both with how stalled transactions ended meanwhile (``resumed``); or ``interrupts``; or ``values`` that were read, null where nothing
    answers; or ``steps``; or ``error``, when the case itself is wrong. ``trace`` comes with --trace, ``masked`` where the case's ``ids`` have what
    the model clears.
    """

    ok: bool | UnsetType = UNSET
    pa: str | UnsetType = UNSET
    how: Literal["success", "bypass", "disable"] | UnsetType = UNSET
    size: int | UnsetType = UNSET
    attributes: str | UnsetType = UNSET
    ats: Completion | UnsetType = UNSET
    fault: Record | UnsetType | None = UNSET
    razwi: bool | UnsetType = UNSET
    stalled: bool | UnsetType = UNSET
    cmd: Commands | UnsetType = UNSET
    resumed: list[Answer] | UnsetType = UNSET
    events: list[Record] | UnsetType = UNSET
    overflow: bool | UnsetType = UNSET
    interrupts: list[Interrupt] | UnsetType = UNSET
    values: dict[str, str | None] | UnsetType = UNSET
    parts: list[Answer] | UnsetType = UNSET
    iova: str | UnsetType = UNSET
    bytes: int | UnsetType = UNSET
    steps: list[Answer] | UnsetType = UNSET
    error: str | UnsetType = UNSET
    trace: list[TraceStep] | UnsetType = UNSET
    masked: list[MaskedField] | UnsetType = UNSET
