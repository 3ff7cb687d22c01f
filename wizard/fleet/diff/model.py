"""What ``diff --json`` prints. A field is added, never renamed."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from wizard.base.finding import Finding
from wizard.host.view import HostView

SCHEMA = 1

Value = bool | int | str | None | tuple[str, ...]


class Area(StrEnum):
    """What a change is about, in the order in which they are shown."""

    HOST = "host"  # machine, firmware, memory, CPUs
    KERNEL = "kernel"
    PROGRAM = "program"  # QEMU, libvirt, firmware images for guests
    NODE = "node"  # NUMA nodes and their hugepages
    SMMU = "smmu"
    GROUP = "group"
    FUNCTION = "function"
    VERDICT = "verdict"  # accel of a function


class What(StrEnum):
    """How it changed."""

    ADDED = "added"
    REMOVED = "removed"
    MOVED = "moved"  # the same function at another address, the same SMMU at another base
    CHANGED = "changed"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One difference. ``subject`` is named as in B, of what was removed as in A; ``field`` is empty for a whole subject.

    Capabilities carry where their values are known from; other values have no source.
    """

    area: Area
    what: What
    subject: str
    field: str = ""
    before: Value = None
    after: Value = None
    before_source: str | None = None
    after_source: str | None = None


class Side(msgspec.Struct, frozen=True):
    """One of the two snapshots: its file, its host, and when it was recorded (ISO 8601, UTC)."""

    name: str
    host: HostView
    time: str | None


class ProfileView(msgspec.Struct, frozen=True):
    """One profile on both hosts: whether it can start there, and the findings that one side has and the other has not."""

    file: str
    vm: str
    before: bool
    after: bool
    new: tuple[Finding, ...]
    gone: tuple[Finding, ...]


class DiffView(msgspec.Struct, frozen=True):
    """The output of ``diff --json``. ``same_host`` is null where a snapshot does not say whose it is."""

    schema: int
    a: Side
    b: Side
    same_host: bool | None
    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]
    profiles: tuple[ProfileView, ...] = ()
