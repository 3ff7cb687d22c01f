"""QEMU's trace events: the only live proof from outside that a guest translates, and the one thing that ``verify`` changes when it is asked to.

    smmuv3_accel_install_ste          what the guest configured for a function: translate, bypass, abort; at each change
    iommufd_backend_invalidate_cache  an invalidation of the guest's, done by the host's SMMU; (0) is success, else an errno
    smmuv3_read_mmio                  what the guest's driver reads of the ID registers when it probes: what ``auto`` came to

Only events that were off are switched on, and they are switched off again whatever happens meanwhile. Formats: QEMU 11.1, trace-events of hw/arm
and backends.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from wizard.arch.idr import ADDRESS_BITS, IDR0, IDR1, IDR3, IDR5
from wizard.base.text import plural, visible
from wizard.export.qemu import TRACES
from wizard.running.logs import LIBVIRT_LOGS
from wizard.running.model import TRANSLATING, Answer, Evidence, Rights, Step
from wizard.running.monitor import Monitor
from wizard.running.process import PROC, Process
from wizard.running.wire import MonitorError, Refused

_ENOUGH = 10_000  # lines: a guest under load writes a million of them a second, and the log is on somebody's disk
_LINES_BYTES = 64 << 20
_LOOK_SECONDS = 0.2
_INVALIDATED = re.compile(r"iommufd_backend_invalidate_cache\s+iommufd=\d+ id=(\d{1,9}) .*?\((-?\d{1,5})\)\s*$")
_INSTALLED = re.compile(r"smmuv3_accel_install_ste vSID=(0x[0-9a-f]{1,8}) ste type=(\w{1,20})")
_READ = re.compile(r"smmuv3_read_mmio addr: 0x([0-9a-f]{1,4}) val:0x([0-9a-f]{1,16}) size")


class Traced(msgspec.Struct, frozen=True, kw_only=True):
    """What the lines of a log say."""

    invalidated: Mapping[int, int] = {}  # number of the vIOMMU -> invalidations that the host's SMMU did
    failed: int = 0
    configured: Mapping[int, str] = {}  # StreamID in the guest -> the last that its guest configured: translate, bypass, abort
    registers: Mapping[int, int] = {}  # offset -> value, as the guest's driver read it


def read_traces(lines: Iterable[str]) -> Traced:
    """What is in a log; any other line is passed over."""
    invalidated: dict[int, int] = {}
    configured: dict[int, str] = {}
    registers: dict[int, int] = {}
    failed = 0
    for line in lines:
        if match := _INVALIDATED.search(line):
            if int(match[2]):
                failed += 1
            else:
                invalidated[int(match[1])] = invalidated.get(int(match[1]), 0) + 1
        elif match := _INSTALLED.search(line):
            configured[int(match[1], 16)] = match[2]
        elif match := _READ.search(line):
            registers[int(match[1], 16)] = int(match[2], 16) & 0xFFFFFFFF
    return Traced(invalidated=invalidated, failed=failed, configured=configured, registers=registers)


def came_to(traced: Traced) -> dict[str, str]:
    """The properties as the guest's driver read them out of the ID registers."""
    known: dict[str, tuple[int, Callable[[int], str]]] = {
        "ats": (0x0, lambda word: _switch(IDR0(word).ATS)), "ssidsize": (0x4, lambda word: str(IDR1(word).SSIDSIZE)),
        "ril": (0xC, lambda word: _switch(IDR3(word).RIL)), "oas": (0x14, lambda word: _oas(IDR5(word).OAS)),
    }  # fmt: skip
    source = "read by the guest's driver, in QEMU's trace"
    return {name: f"{value} ({source})" for name, (at, say) in known.items() if at in traced.registers and (value := say(traced.registers[at]))}


def _switch(bit: int) -> str:
    return "on" if bit else "off"


def _oas(code: int) -> str:
    return str(ADDRESS_BITS.get(code, f"code {code}"))


class Followed:
    """A log from now on. It is opened once: what is rotated away is read to its end, what is cut begins anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        self._at = os.fstat(self._file.fileno()).st_size
        self._rest = b""

    def lines(self) -> Iterator[str]:
        """The whole lines since the last time."""
        yield from self._new()
        try:
            now, mine = os.stat(self._path), os.fstat(self._file.fileno())
        except OSError:
            return  # it was moved, and no other is there yet
        if (now.st_dev, now.st_ino) != (mine.st_dev, mine.st_ino):
            self._file.close()
            self._file = self._path.open("rb")
            self._at = 0
            yield from self._new()

    def _new(self) -> Iterator[str]:
        size = os.fstat(self._file.fileno()).st_size
        self._at = self._at if self._at <= size else 0
        data = self._rest + os.pread(self._file.fileno(), min(size - self._at, _LINES_BYTES), self._at)
        self._at = min(size, self._at + _LINES_BYTES)
        whole, _, self._rest = data.rpartition(b"\n")
        yield from whole.decode(errors="backslashreplace").splitlines()

    def close(self) -> None:
        """No longer."""
        self._file.close()


def log_of(process: Process, name: str | None, *, libvirt: bool, proc: Path = PROC, logs: Path = LIBVIRT_LOGS) -> Path | None:
    """The file that QEMU's traces go to: that of -D, libvirt's log of the domain, or what its standard error is; None where it is no file."""
    written = _written_to(process, proc)
    if written is not None:
        return written
    if libvirt and name and "/" not in name:
        return logs / f"{name}.log"
    # By its descriptor, which stays true when the file is renamed.
    return proc / str(process.pid) / "fd" / process.log_descriptor if process.log and process.log_descriptor else None


def _written_to(process: Process, proc: Path) -> Path | None:
    """-D FILE of its command line, as the descriptor that it has open."""
    place = proc / str(process.pid)
    try:
        words = (place / "cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
        named = os.path.normpath(os.path.join(os.readlink(place / "cwd"), words[words.index("-D") + 1]))
        return next((place / "fd" / number for number in os.listdir(place / "fd") if os.readlink(place / "fd" / number) == named), None)
    except (OSError, ValueError, IndexError):
        return None  # not written, or not to be seen


class Trace:
    """One VM, traced for a while: ``with trace:`` switches on, and off again. ``again``: another connection, for a monitor that is lost meanwhile."""

    def __init__(self, monitor: Monitor, log: Path, again: Callable[[], Monitor]) -> None:
        self._monitor, self._again = monitor, again
        self._log = Followed(log)
        self._on: list[str] = []
        self._lines: list[str] = []
        self.missing: list[str] = []
        self.left_on: list[str] = []

    def __enter__(self) -> Trace:
        try:
            for name in TRACES:
                state = _state(self._monitor, name)
                if state is None:
                    self.missing.append(name)
                elif state == "disabled":
                    self._on.append(name)  # before it is sent: an answer that does not come says nothing of what was done
                    self._monitor.switch(name, True)
        except BaseException:
            self._off()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._off()

    def enough(self, vsmmus: int) -> bool:
        """Whether more lines would tell nothing more: each vSMMU was seen, or there are very many."""
        self._lines += self._log.lines()
        return len(self._lines) >= _ENOUGH or len(read_traces(self._lines).invalidated) >= vsmmus > 0

    def traced(self) -> Traced:
        """All of it, until now."""
        with suppress(OSError):
            self._lines += self._log.lines()
        return read_traces(self._lines)

    def _off(self) -> None:
        with _undisturbed():
            try:
                for name in list(self._on):
                    try:
                        self._monitor.switch(name, False)
                    except MonitorError:
                        self._monitor.close()
                        try:
                            self._monitor = self._again()
                            self._monitor.switch(name, False)
                        except MonitorError:
                            self.left_on.append(name)
                    self._on.remove(name)
            finally:
                self._monitor.close()


def _state(monitor: Monitor, name: str) -> str | None:
    """enabled, disabled; None: this QEMU has no such event, or was built without it."""
    try:
        told = monitor.ask("trace-event-get-state", name=name)
    except Refused:
        return None
    states = {str(one.get("state")) for one in told if isinstance(one, dict)} if isinstance(told, list) else set()
    return next((state for state in ("enabled", "disabled") if state in states), None)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C does not leave a trace on: it is heard when that is off."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interruptible() -> Iterator[None]:
    """Being told to end is an interrupt, so that what was switched on is switched off."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait(traces: Iterable[tuple[Trace, int]], seconds: float) -> None:
    """Until every trace has told enough (each with its number of vSMMUs), at most so long."""
    end = time.monotonic() + seconds
    waiting = list(traces)
    while waiting and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, _LOOK_SECONDS))
        waiting = [(trace, vsmmus) for trace, vsmmus in waiting if not trace.enough(vsmmus)]


def step_of(traced: Traced, vsmmus: int, seconds: float, missing: Iterable[str] = (), *, interrupts: int = 0) -> Step:
    """The third question, answered by a trace. ``interrupts``: how many of its functions came meanwhile."""
    evidence = [
        Evidence(f"{plural(count, 'invalidation')} of vIOMMU {id} done by the host's SMMU", f"trace {TRACES[1]}", Rights.LOG)
        for id, count in traced.invalidated.items()
    ]
    evidence += [Evidence(f"StreamID {vsid:#x}: {visible(kind)}", f"trace {TRACES[0]}", Rights.LOG) for vsid, kind in traced.configured.items()]
    if traced.failed:
        evidence.append(Evidence(f"{plural(traced.failed, 'invalidation')} failed", f"trace {TRACES[1]}", Rights.LOG))

    def step(answer: Answer, said: str, more: str = "") -> Step:
        return Step(question=TRANSLATING, answer=answer, said=said, evidence=tuple(evidence), more=more)

    seen = len(traced.invalidated)
    if seen and seen >= vsmmus:
        return step(Answer.YES, "Within the trace the host's SMMU did what the guest's tables asked of it.")
    if seen:
        return step(Answer.PARTLY, f"{seen} of {vsmmus} vSMMUs were seen at it; which is not said.", "more I/O in the guest while it is traced")
    if TRACES[1] in missing:
        return step(Answer.UNKNOWN, "This QEMU has no such trace event.", "the guest's own word (`verify --guest`)")
    said = f"No invalidation in {seconds:g} seconds: the guest had nothing to do, it bypasses, or it is in lazy mode."
    if interrupts:
        evidence.append(Evidence(f"{plural(interrupts, 'interrupt')} of its functions meanwhile", "/proc/interrupts", Rights.ANYONE))
        said = (
            f"No invalidation in {seconds:g} seconds, and the guest was not idle: it bypasses, is in lazy mode, or its drivers keep what they mapped."
        )
    return step(Answer.UNKNOWN, said, "I/O in the guest while it is traced; the guest's own word (`verify --guest`)")


def with_logged(steps: tuple[Step, ...], logged: Traced) -> tuple[Step, ...]:
    """The steps with what a log that was traced from the start has of the third question: what was, and not what is."""
    if not logged.invalidated and not logged.configured:
        return steps
    evidence = [Evidence(f"{plural(sum(logged.invalidated.values()), 'invalidation')} in QEMU's log", f"trace {TRACES[1]}", Rights.LOG)]
    evidence += [Evidence(f"StreamID {vsid:#x} was set to {kind} last", f"trace {TRACES[0]}", Rights.LOG) for vsid, kind in logged.configured.items()]
    return tuple(msgspec.structs.replace(step, evidence=(*step.evidence, *evidence)) if step.question == TRANSLATING else step for step in steps)
