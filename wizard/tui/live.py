"""What moves on a live host: devices that come, go or change driver, and the figures of its memory. Runs in workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from wizard.base.errors import WizardError
from wizard.base.finding import Finding, ordered
from wizard.facts.keptlog import MOMENT_LINES, split
from wizard.facts.kmsg import LogTail
from wizard.facts.model import Moment
from wizard.host.model import Host

QUIET = 0.3  # seconds without an event before the host is read again: a card with 250 VFs sends 250 events
FIGURES = 2.0  # seconds between two looks at the memory


@dataclass(frozen=True)
class Sources:
    """Where a live host is read from: the whole of it, its devices' events, its figures."""

    read: Callable[[], Host]
    changes: Callable[[threading.Event], Iterator[str]]  # addresses
    moment: Callable[[], Moment]
    log: Callable[[], Sequence[str]] = tuple  # lines of the kernel's log since the last time; the first time all that there are


def live_sources(read: Callable[[], Host]) -> Sources:
    """Those of this machine."""

    def changes(stop: threading.Event) -> Iterator[str]:
        from wizard.facts.monitor import changes as events

        return (change.address for change in events(stop))

    return Sources(read, changes, moment, LogTail().lines)


def moment() -> Moment:
    """Memory and free hugepages of this machine now."""
    from wizard.facts.live import read_figures

    return read_figures()


def differences(old: Host, new: Host) -> dict[str, str]:
    """Address -> new, gone or driver: what an administrator wants to see marked."""
    found = {address: "new" for address in new.functions if address not in old.functions}
    found |= {address: "gone" for address in old.functions if address not in new.functions}
    for address, function in new.functions.items():
        before = old.functions.get(address)
        if before is not None and before.facts.driver != function.facts.driver:
            found[address] = "driver"
    return found


def with_lines(host: Host, lines: Sequence[str]) -> Host | None:
    """The host with what the kernel has logged since it was read; None when nothing of it matters, or all of it is known."""
    facts = host.facts
    known = {*facts.log, *facts.moment.log}
    boot, moment = split(lines)
    fresh = [line for line in (*boot, *moment) if line not in known]
    if not fresh:
        return None
    # What is said now belongs to the moment, whatever it is: the host is the same one, and so is its digest.
    log = (*facts.moment.log, *fresh)[-MOMENT_LINES:]
    return msgspec.structs.replace(host, facts=msgspec.structs.replace(facts, moment=msgspec.structs.replace(facts.moment, log=log)))


def news(old: Host, new: Host) -> tuple[Finding, ...]:
    """What the log of one reading says that the other's did not, errors first."""
    return ordered(finding for key, finding in new.told.items() if key not in old.told)


def watch(sources: Sources, stop: threading.Event, changed: Callable[[Host], None], failed: Callable[[WizardError], None]) -> None:
    """Until ``stop``: read the host again when its devices have changed and are quiet. For a thread of its own."""
    due: list[float] = []
    lock = threading.Lock()

    def listen() -> None:
        try:
            for _ in sources.changes(stop):
                with lock:
                    due[:] = [time.monotonic() + QUIET]
        except WizardError as error:
            failed(error)

    threading.Thread(target=listen, name="pci-monitor", daemon=True).start()
    while not stop.wait(0.1):
        with lock:
            now = bool(due) and time.monotonic() >= due[0]
            if now:
                due.clear()
        if now:
            try:
                changed(sources.read())
            except WizardError as error:
                failed(error)


def with_moment(host: Host, moment: Moment) -> Moment:
    """The figures of now in the moment that the host was read with."""
    return msgspec.structs.replace(host.facts.moment, memory_available=moment.memory_available, hugepages_free=moment.hugepages_free)
