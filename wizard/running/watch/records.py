"""One thing that happened while somebody watched, as a line of ``watch --json`` and of text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

from wizard.base.text import visible

Source = Literal["kernel", "trace", "qemu", "vm", "function", "watch"]


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happened: ``kind`` is an event's name (F_TRANSLATION, RESET) or a word (started, driver, lost).

    ``at`` is the time, ISO 8601 in UTC. ``count`` is how many alike it stands for. Of an event record: ``stage`` 1 or 2, ``address`` the input
    address, ``ipa`` the intermediate one, ``place`` where that lies in the VM, as ``layout`` (a profile, or the VM's command line) has it.
    ``stamp`` is the time that its source gave it: the kernel's seconds since the boot, as dmesg prints them, or what QEMU's log has before it.
    ``explain`` is what to ask for its meaning, ``trace`` for the same access on the simulated SMMU.
    """

    at: str
    source: Source
    kind: str
    text: str
    vm: str | None = None
    function: str | None = None
    smmu: str | None = None
    stream: str | None = None
    stage: int | None = None
    address: str | None = None
    ipa: str | None = None
    place: str | None = None
    layout: str | None = None
    stamp: str | None = None
    count: int = 1
    explain: str | None = None
    trace: str | None = None


def now() -> str:
    """This moment."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def line(one: Record) -> str:
    """A record as people read it."""
    about = " ".join(visible(word) for word in (one.vm, one.function, one.smmu if one.function is None else None) if word)
    times = f" ({one.count} times)" if one.count > 1 else ""
    place = f": {one.place}" if one.place else ""
    return f"{one.at[11:23]} {one.source:<8} {one.kind:<18} {f'{about}: ' if about else ''}{visible(one.text)}{place}{times}"
