"""The bound of every test: nothing may wait for ever, whatever it waits for.

Not a measure of speed: ten and more times what the slowest test takes on a quiet machine.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

SECONDS = 600.0
LONGER = {"qemu": 1200.0, "armhost": 2400.0, "another_python": 2400.0}
"""By marker: a guest, a host that boots under emulation, and the rooms on another Python take longer."""
_GRACE = 60.0  # for an alarm that the main thread can't hear, since it is in a call that no signal interrupts
_stderr: list[int] = []


def keep_stderr() -> None:
    """Remember where standard error really goes: while a test runs it is captured."""
    _stderr.append(os.dup(2))


def seconds_of(item: pytest.Item) -> float:
    """The bound of one test's preparation, call and clearing up, each."""
    return max((seconds for marker, seconds in LONGER.items() if item.get_closest_marker(marker)), default=SECONDS)


@contextmanager
def bounded(seconds: float, what: str) -> Iterator[None]:
    """Fail what runs in the main thread after that time; end the process, with every thread's stack, if even that is not heard."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(_number: int, _frame: FrameType | None) -> None:
        faulthandler.dump_traceback(_stderr[0] if _stderr else 2)
        pytest.fail(f"{what} did not end within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + _GRACE, exit=True, file=_stderr[0] if _stderr else 2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left)
