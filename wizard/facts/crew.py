"""Many directories read by several processes: reading a device's configuration space waits for the device, and Python for itself.

Only where it pays and is safe: a directory tree, thousands of functions, more than one CPU, and no other threads (a fork would
copy their locks). Whatever goes wrong in a child, the parent reads that part itself.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

import msgspec

from wizard.facts.model import Fact

ENOUGH = 2048  # names; below, starting a process costs more than it saves
CREW = 4  # processes at most

F = TypeVar("F", bound=Fact)
Part: TypeAlias = tuple[tuple[F, ...], dict[str, str]]  # facts, and what could not be read


def read_together(kind: type[F], names: Sequence[str], read: Callable[[Sequence[str]], Part[F]]) -> Part[F]:
    """What ``read`` gives of all names, in their order: facts of one ``kind``."""
    crew = min(CREW, len(os.sched_getaffinity(0))) if len(names) >= ENOUGH and threading.active_count() == 1 else 1
    if crew < 2:
        return read(names)
    size = -(-len(names) // crew)
    shares = [names[start : start + size] for start in range(0, len(names), size)]
    children = [_start(share, read) for share in shares[1:]]
    facts, unread = read(shares[0])
    for share, child in zip(shares[1:], children, strict=True):
        more, notes = _finish(kind, child) or read(share)
        facts, unread = facts + more, unread | notes
    return facts, unread


def _start(share: Sequence[str], read: Callable[[Sequence[str]], Part[F]]) -> tuple[int, int]:
    """(process, memory file that it leaves its part in)."""
    memory = os.memfd_create("facts", os.MFD_CLOEXEC)
    process = os.fork()
    if process:
        return process, memory
    status = 1
    try:
        with os.fdopen(memory, "wb") as file:
            file.write(msgspec.msgpack.encode(read(share)))
        status = 0
    finally:
        # No exit handlers, no flushing of what the parent has buffered; an error is the parent's to meet when it reads the share again.
        os._exit(status)


def _finish(kind: type[F], child: tuple[int, int]) -> Part[F] | None:
    process, memory = child
    _, status = os.waitpid(process, 0)
    with os.fdopen(memory, "rb") as file:
        if status:
            return None
        file.seek(0)
        part: Part[F] = msgspec.msgpack.decode(file.read(), type=tuple[tuple[kind, ...], dict[str, str]])  # type: ignore[valid-type]
        return part
