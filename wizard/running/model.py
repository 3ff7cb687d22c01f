"""What ``verify`` answers of each VM that runs. Three questions, and no answer to one gives the next:

    by construction          QEMU lives, the vSMMU is accelerated, and this function is behind it
    switched on by a guest   a guest's driver has switched its vSMMU on (since the VM started, in this boot or an earlier one)
    translating              the guest's own tables translate at this moment

There is no fourth that sums them up. The type of an IOMMU group and pinned memory are the same with and without acceleration, and answer none.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from wizard.base.finding import Finding

SCHEMA = 1
CONSTRUCTED, SWITCHED_ON, TRANSLATING = "by construction", "switched on by a guest", "translating"


class Answer(StrEnum):
    """To one question."""

    YES = "yes"
    PARTLY = "partly"
    NO = "no"
    UNKNOWN = "unknown"
    NOT_ASKED = "not asked"


class Rights(StrEnum):
    """Who may see it."""

    ANYONE = "anyone"
    ROOT = "root, or the VM's user"
    MONITOR = "QEMU's monitor"
    AGENT = "the guest's agent"
    LOG = "who may read the log"


class Evidence(msgspec.Struct, frozen=True):
    """One thing that was seen: in words, where, and who may see it."""

    said: str
    where: str
    rights: Rights


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One of the three questions. ``more``: what would tell more; empty where nothing would."""

    question: str
    answer: Answer
    said: str
    evidence: tuple[Evidence, ...] = ()
    more: str = ""


class VsmmuView(msgspec.Struct, frozen=True, kw_only=True):
    """A vSMMU as QEMU has it. ``comes_to``: what a property that is ``auto`` comes to, with where that is known from."""

    id: str
    bus: str | None
    accel: bool | None
    properties: Mapping[str, str] = {}
    comes_to: Mapping[str, str] = {}


class FunctionView(msgspec.Struct, frozen=True, kw_only=True):
    """A function of the VM. None: not read."""

    id: str | None
    host: str | None
    vsmmu: str | None
    by_construction: Answer
    guest: str | None = None
    stream_id: int | None = None
    driver: str | None = None
    power: str | None = None
    link: str | None = None
    bus_master: bool | None = None
    interrupts: str | None = None  # "8 msix, 4711 so far"
    opened: str | None = None  # iommufd, group, not open


class MemoryView(msgspec.Struct, frozen=True, kw_only=True):
    """Memory in bytes; ``limit`` -1: none."""

    guest: int | None
    pinned: int | None
    limit: int | None
    hugepages: int | None
    nodes: Mapping[str, int] = {}


class VmView(msgspec.Struct, frozen=True, kw_only=True):
    """One VM that runs."""

    name: str | None
    pid: int
    user: str | None
    state: str  # QEMU's word, else that of its process
    against: str  # what it was held against
    monitor: str  # how QEMU was asked, or why it was not
    steps: tuple[Step, ...]
    vsmmus: tuple[VsmmuView, ...] = ()
    functions: tuple[FunctionView, ...] = ()
    memory: MemoryView | None = None
    unread: Mapping[str, str] = {}
    findings: tuple[Finding, ...] = ()


class VerifyView(msgspec.Struct, frozen=True):
    """The output of ``verify --json``."""

    schema: int
    ok: bool
    vms: tuple[VmView, ...]
    findings: tuple[Finding, ...]
    guest: Step | None = None  # the third question by the guest's word, where its snapshot was given
