"""Programs started as a person at a terminal starts them, and waited for with bounds that a slow machine meets.

A test never sleeps: it waits for what it is about (``wait_until``), and every wait has an end. Whatever was started is ended on the way out.
"""

from __future__ import annotations

import asyncio
import os
import pty
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import AnyStr, TypeVar

T = TypeVar("T")

LIMIT = 240.0
"""Seconds for what takes one or two on a quiet machine. Below the bound of a whole test, so that the wait that failed is named."""
_STEP = 0.02  # seconds between two looks

ATTENDED = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT)


def start_children_attentive() -> None:
    """Children get the default dispositions, however the tests were started.

    A shell starts a background job of a script with SIGINT ignored (POSIX, 2.11), nohup ignores SIGHUP, and both pass on through exec: a
    test that interrupts a program would wait for ever. A signal with a handler is reset by exec (POSIX, ``exec``), so a handler that does
    nothing keeps the tests themselves deaf, as was asked for, and lets their children hear.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    for number in ATTENDED:
        if signal.getsignal(number) is signal.SIG_IGN or number in blocked:
            signal.signal(number, lambda _number, _frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ATTENDED)


def wait_until(found: Callable[[], T], what: str | Callable[[], str], limit: float = LIMIT) -> T:
    """Wait for something to be true, or there, and give it back; the test fails by name when it is not within ``limit`` seconds."""
    end = time.monotonic() + limit
    while not (value := found()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {limit:.0f} s for {what if isinstance(what, str) else what()}")
        time.sleep(_STEP)
    return value


async def wait_until_async(found: Callable[[], T], what: str, limit: float = LIMIT) -> T:
    """``wait_until``, in a loop that has other things to do."""
    end = time.monotonic() + limit
    while not (value := found()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {limit:.0f} s for {what}")
        await asyncio.sleep(_STEP)
    return value


@contextmanager
def ending(process: subprocess.Popen[AnyStr]) -> Iterator[subprocess.Popen[AnyStr]]:
    """A process that is over at the end, killed if it has to be, with its pipes closed."""
    try:
        yield process
    finally:
        process.kill()
        process.wait(LIMIT)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(OSError):  # what was still to be written to it
                    pipe.close()


def children_of(pid: int) -> list[int]:
    """The processes that a process has started and that still are there."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def words_of(pid: int) -> str:
    """The words that a process was started with, with spaces between them; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def command_lines() -> list[str]:
    """The words of every process."""
    return [words_of(int(name)) for name in os.listdir("/proc") if name.isdecimal()]


def session_of(pid: int) -> list[int]:
    """The processes of a session (setsid(2)), its leader among them while it is there."""
    found = []
    for name in os.listdir("/proc"):
        with suppress(OSError):
            if name.isdecimal() and os.getsid(int(name)) == pid:
                found.append(int(name))
    return found


def is_waiting(pid: int) -> bool:
    """Whether a process sleeps until something happens ("S" of proc_pid_stat(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
    except OSError:
        return False


def opened_by(pid: int) -> set[str]:
    """Paths that a process has open just now."""
    found: set[str] = set()
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.add(os.readlink(link))
    return found


class InTerminal:
    """A program in a pseudo-terminal of its own, where all that it shows is read as it comes."""

    def __init__(self, pid: int, terminal: int) -> None:
        self.pid = pid
        self.terminal = terminal
        self.seen = b""
        self._status: int | None = None
        self._gone = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while not self._gone.is_set():
            try:
                # A read that waits would hold the terminal open when it is closed.
                if select.select([self.terminal], [], [], 0.05)[0]:
                    self.seen += os.read(self.terminal, 65536)
            except (OSError, ValueError):
                return

    def shows(self, *texts: bytes, since: int = 0) -> None:
        """Wait until every text was shown, ``since`` a length of ``seen``."""
        wait_until(lambda: all(text in self.seen[since:] for text in texts), f"{texts} on the terminal")

    def press(self, keys: bytes, *texts: bytes) -> None:
        """Press keys and wait until what they bring is shown."""
        before = len(self.seen)
        os.write(self.terminal, keys)
        self.shows(*texts, since=before)

    def drained(self) -> None:
        """Wait until all that an ended program has written was read: its terminal ends with EIO then."""
        self._reader.join(LIMIT)

    def hang_up(self) -> None:
        """Take the terminal away."""
        if not self._gone.is_set():
            self._gone.set()
            self._reader.join(LIMIT)
            os.close(self.terminal)

    def ended(self) -> int | None:
        """Its status as ``os.waitstatus_to_exitcode`` gives it, None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def end(self) -> int:
        """Wait for its end; its status."""
        wait_until(lambda: self.ended() is not None, "the end of the program in the terminal")
        assert self._status is not None
        return self._status


@contextmanager
def in_terminal(
    words: Sequence[str], *, cwd: Path | None = None, environment: Mapping[str, str] = {}, ignoring: Sequence[signal.Signals] = ()
) -> Iterator[InTerminal]:
    """Run a program in a terminal of 80x24, with more environment, and with some signals ignored as nohup does."""
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            for number in ignoring:
                signal.signal(number, signal.SIG_IGN)
            if cwd is not None:
                os.chdir(cwd)
            os.execvpe(words[0], list(words), {**os.environ, "TERM": "xterm-256color", **environment})
        finally:
            os._exit(127)
    running = InTerminal(pid, terminal)
    try:
        yield running
    finally:
        running.hang_up()
        if running.ended() is None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            running.end()
