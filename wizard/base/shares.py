"""Work on thousands of things shared by several processes, where Python by itself would use one processor.

Only where it pays and is safe: thousands of things, more than one CPU, and no other threads (a fork would copy their locks). Whatever
goes wrong in a child, the parent does that share itself. What is worked on need not be packed, since a fork has it; what comes out is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from wizard.base.collector import uncollected

ENOUGH = 2048  # things; below, starting a process costs more than it saves
PROCESSES = 4  # at most

T = TypeVar("T")
R = TypeVar("R")


def in_shares(kind: Any, things: Sequence[T], work: Callable[[Sequence[T]], R], *, weigh: Callable[[T], float] = lambda _: 1) -> list[R]:
    """``work`` done on shares of ``things`` that weigh about the same, in their order; one share when it does not pay.

    ``kind`` is the type of what ``work`` answers, as msgspec is to decode it; ``weigh`` says how many things one of them counts for.
    """
    whole = sum(map(weigh, things))
    processes = min(PROCESSES, len(os.sched_getaffinity(0))) if whole >= ENOUGH and _alone() else 1
    if processes < 2:
        return [work(things)]
    shares: list[list[T]] = [[] for _ in range(processes)]
    before = 0.0
    for thing in things:
        shares[min(int(before * processes / whole), processes - 1)].append(thing)
        before += weigh(thing)
    children: list[tuple[int, int]] = []
    with uncollected():
        try:
            children += (_start(share, work) for share in shares[1:])
            done = [work(shares[0])]
            for share in shares[1:]:
                packed = _finish(children[0])
                del children[0]
                done.append(work(share) if packed is None else msgspec.msgpack.decode(packed, type=kind))
        finally:
            # Whatever ends the work here, Ctrl-C above all, ends it there.
            for process, memory in children:
                _end(process, memory)
    return done


def _end(process: int, memory: int) -> None:
    import signal

    with suppress(OSError):  # it was closed just before
        os.close(memory)
    with suppress(ProcessLookupError, ChildProcessError):  # it was waited for just before
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def _alone() -> bool:
    import threading

    return threading.active_count() == 1


def _start(share: Sequence[T], work: Callable[[Sequence[T]], object]) -> tuple[int, int]:
    """(process, memory file that it leaves what it did in)."""
    memory = os.memfd_create("share", os.MFD_CLOEXEC)
    process = os.fork()
    if process:
        return process, memory
    status = 1
    try:
        with os.fdopen(memory, "wb") as file:
            file.write(msgspec.msgpack.encode(work(share)))
        status = 0
    finally:
        # No exit handlers, no flushing of what the parent has buffered; an error is the parent's to meet when it does the share itself.
        os._exit(status)


def _finish(child: tuple[int, int]) -> bytes | None:
    process, memory = child
    _, status = os.waitpid(process, 0)
    with os.fdopen(memory, "rb") as file:
        if status:
            return None
        file.seek(0)
        return file.read()
