"""Files read by processes of this machine: as many as it has processors, each handed a few files at a time.

None of them outlives us, however we end: each asks the kernel to be killed with its parent, and ends when its pipe closes. One that dies, or
says nothing for too long, costs the file that it was reading, which is named; the others are read by another.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, get_context
from multiprocessing.context import SpawnProcess
from typing import Generic, NamedTuple, TypeVar

from wizard.base.text import visible
from wizard.fleet.entry import Entry, entries_of_files

Made = TypeVar("Made")
Work = Callable[[tuple[str, ...]], list[Made]]

ALONE = 24  # so few files are read before a second process would have started
BATCH = 16  # files that a worker is handed at once
AHEAD = 3  # batches that it has at most
WINDOW = 128 * BATCH  # files that may be read before the first of them is
ROUND = 64  # batches that a worker lives for: what it has piled up goes with it
SILENCE = 300.0
"""Seconds for a batch, which takes one: a snapshot of 64 MiB takes ten."""

_PR_SET_PDEATHSIG = 1  # prctl(2)


def read_here(paths: Sequence[str]) -> Iterator[list[Entry]]:
    """Every file's entry, in order."""
    return spread(paths, entries_of_files, lambda name, problem, fix: Entry(name, problem=problem, fix=fix))


def spread(paths: Sequence[str], work: Work[Made], lost: Callable[[str, str, str], Made]) -> Iterator[list[Made]]:
    """``work`` done to every file, in order, in this very process when there are few files; ``work`` is a function of a module.

    ``lost`` makes what stands for a file that ended its reader, of its name, what happened, and what to do.
    """
    if len(paths) <= ALONE:
        for path in paths:
            yield work((path,))
        return
    yield from _Pool(paths, work, lost).answers()


class _Batch(NamedTuple):
    first: int  # place of the first file
    paths: tuple[str, ...]


@dataclass
class _Worker(Generic[Made]):
    process: SpawnProcess
    pipe: connection.Connection[tuple[str, ...], list[Made]]
    waiting: deque[_Batch] = field(default_factory=deque)  # batches that it has been handed and not answered
    given: int = 0
    heard: float = 0.0  # when it was handed the first of these, or answered last


class _Pool(Generic[Made]):
    def __init__(self, paths: Sequence[str], work: Work[Made], lost: Callable[[str, str, str], Made]) -> None:
        self.batches = deque(_Batch(at, tuple(paths[at : at + BATCH])) for at in range(0, len(paths), BATCH))
        self.work, self.lost = work, lost
        self.workers: list[_Worker[Made]] = []
        self.told = 0  # files
        self.early: dict[int, list[Made]] = {}  # answers that have to wait for those before them, by their first file

    def answers(self) -> Iterator[list[Made]]:
        try:
            while self._hand_out():
                self._hear()
                self._hand_out()  # they go on while the caller does what it does with these
                while (answer := self.early.pop(self.told, None)) is not None:
                    self.told += len(answer)
                    yield answer
        finally:
            self._end()

    def _hand_out(self) -> bool:
        """Give the workers what they can have ahead; whether anything is on its way."""
        wanted = min(len(os.sched_getaffinity(0)), len(self.batches) + sum(bool(worker.waiting) for worker in self.workers))
        while len(self.workers) < wanted:
            self.workers.append(self._started())
        for ahead in range(1, AHEAD + 1):
            for worker in self.workers:
                if self.batches and len(worker.waiting) < ahead and worker.given < ROUND and self.batches[0].first < self.told + WINDOW:
                    self._hand(worker, self.batches.popleft())
        return any(worker.waiting for worker in self.workers)

    def _hand(self, worker: _Worker[Made], batch: _Batch) -> None:
        if not worker.waiting:
            worker.heard = time.monotonic()
        worker.waiting.append(batch)
        worker.given += 1
        with suppress(OSError):  # it is gone: that is heard below
            worker.pipe.send(batch.paths)

    def _hear(self) -> None:
        """Take the answers that are there; waits for one, or for a worker to be given up."""
        busy = {worker.pipe: worker for worker in self.workers if worker.waiting}
        left = min(worker.heard for worker in busy.values()) + SILENCE - time.monotonic()
        ready = connection.wait(list(busy), max(0.0, left))
        for pipe, worker in busy.items():
            if pipe in ready:
                try:
                    answer = pipe.recv()
                except (OSError, EOFError):
                    self._bury(worker, None)
                    continue
                self.early[worker.waiting.popleft().first] = answer
                worker.heard = time.monotonic()
                if worker.given >= ROUND and not worker.waiting:
                    self._leave(worker)
            elif time.monotonic() - worker.heard > SILENCE:
                self._bury(worker, f"was still at it after {SILENCE:.0f} s")

    def _bury(self, worker: _Worker[Made], how: str | None) -> None:
        """What is to be done of a dead worker's batches: the first again, file by file; a file that was alone in it is the one."""
        batch, *others = worker.waiting
        worker.process.kill()
        self._leave(worker)
        self.batches.extendleft(reversed(others))
        if len(batch.paths) > 1:
            self.batches.extendleft(_Batch(batch.first + place, (path,)) for place, path in reversed([*enumerate(batch.paths)]))
            return
        code = worker.process.exitcode or 0
        how = how or f"ended ({signal.Signals(-code).name if code < 0 else f'status {code}'})"
        what = f"{visible(batch.paths[0])} can't be read: the process that read it {how}."
        fix = "The machine may be out of memory. If it is not, please report it with this line."
        self.early[batch.first] = [self.lost(batch.paths[0], what, fix)]

    def _started(self) -> _Worker[Made]:
        # "spawn": the workers get nothing of this process but the module's name, whatever threads or files it has open.
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        with _held_back():
            process = context.Process(target=_work, args=(theirs, os.getpid(), self.work), daemon=True)
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _leave(self, worker: _Worker[Made]) -> None:
        self.workers.remove(worker)
        worker.pipe.close()
        worker.process.join()

    def _end(self) -> None:
        for worker in self.workers:
            worker.process.kill()  # they hold nothing that could be left half-written
        for worker in list(self.workers):
            self._leave(worker)


def _work(pipe: connection.Connection[list[Made], tuple[str, ...]], parent: int, work: Work[Made]) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it was gone before we could ask
        return
    # What is loaded stays. A host is a circle of objects, which the collector alone frees: often, while they are in the processor's caches.
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)
    with suppress(EOFError, OSError):
        while True:
            pipe.send(work(pipe.recv()))


@contextmanager
def _held_back() -> Iterator[None]:
    """Ctrl-C goes to the whole process group: workers, which start here and inherit the mask, leave it to us, whatever they are doing."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
