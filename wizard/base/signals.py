"""Being told to end: what was begun is put in order, and the process then ends by that very signal, as whoever sent it expects."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from wizard.base.errors import Ended


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Within it, SIGTERM and SIGHUP are raised as ``Ended``, in the main thread; one that was ignored (nohup) stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        for other in before:  # a second one does not disturb the putting in order
            signal.signal(other, signal.SIG_IGN)
        raise Ended(number, signal.Signals(number).name)

    numbers = (number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL)
    before = dict.fromkeys(numbers, signal.SIG_DFL)
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
