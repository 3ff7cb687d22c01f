"""The same step on the workers of a Dask scheduler: batches of snapshots go there, summaries come back.

Workers need smmu-wizard of the same version, and no access to the files: those that see the very file read it themselves, the others are sent
its bytes. ``pip install smmu-wizard[dask]`` brings the client. Whoever reaches a port of a scheduler or worker runs code there (docs/fleet.md).
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from wizard import __version__
from wizard.base.collector import uncollected
from wizard.base.errors import InputError, ProgramError, UsageError
from wizard.base.text import visible
from wizard.fleet.entry import Entry, content_of, entry_of, entry_of_file
from wizard.fleet.gather import Read
from wizard.fleet.index import stamp_of

BATCH_BYTES = 2 << 20  # of snapshots in one task
BATCH_FILES = 64
MESSAGE_BYTES = 8 << 20  # that are sent at once: unpacked, a batch may be larger by far
AHEAD = 3  # tasks on their way for each worker
CONNECT = 5  # seconds to wait for the scheduler
LOOK = 5.0  # seconds between two looks at whether anybody is there
NOBODY = 30.0
"""Seconds without any worker before it is given up: a nanny starts a new one within some."""
SILENCE = 300.0
"""Seconds without an answer to any task, each of which takes about one."""
GREETING = 1 << 20  # bytes of its greeting; it has some hundred
_TLS = "Name certificates in Dask's configuration: distributed.comm.tls.ca-file, .client.cert and .client.key (docs/fleet.md)."


class File(NamedTuple):
    """One file of a task: by its place and stamp, or with its bytes."""

    name: str
    path: str  # absolute
    stamp: str | None
    data: bytes | None = None


def reader(address: str) -> Read:
    """How ``gather`` reads with a scheduler; ``ProgramError`` when there is no Dask, no scheduler, or no worker of this version."""
    _parts(address)
    try:
        distributed: Any = importlib.import_module("distributed")  # an optional extra, without types of its own
    except ImportError as error:
        raise ProgramError(
            "--dask needs Dask, which is not installed.", "pip install 'smmu-wizard[dask]', on this machine and on the workers."
        ) from error

    def read(paths: Sequence[str]) -> Iterator[list[Entry]]:
        if not paths:
            return
        with _client(distributed, address) as client:
            yield from _Work(distributed, client, address).answers(paths)

    return read


@contextmanager
def _client(distributed: Any, address: str) -> Iterator[Any]:
    """A connection; ProgramError where there is none, or where the scheduler goes away on the way."""
    for name in ("distributed", "tornado", "asyncio"):  # what they would say of a scheduler that is gone, we do
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    security = distributed.Security()  # of Dask's own configuration: files and environment
    _knock(address, security)
    try:
        client = distributed.Client(address, timeout=CONNECT, set_as_default=False, security=security)
    except Exception as error:
        distributed.Client.__del__ = lambda _: None  # the half-made client would complain, seconds later, while Python ends
        raise _nobody(address, str(error) or type(error).__name__) from error
    gone = (distributed.comm.CommClosedError, distributed.client.FutureCancelledError, OSError, TimeoutError)
    try:
        yield client
    except gone as error:
        raise _away(address, str(error).rstrip(".") or type(error).__name__) from error
    finally:
        with suppress(*gone):
            client.close(timeout=CONNECT)


def _away(address: str, why: str) -> ProgramError:
    return ProgramError(
        f"The Dask cluster at {visible(address)} went away: {visible(why)}.",
        "Look at the logs of its scheduler and workers; without --dask this machine reads the files itself.",
    )


def _knock(address: str, security: Any) -> None:
    """Whether a scheduler is there at all. Dask's client would wait for ever for a server that says nothing, and allocate what the first
    bytes of a stranger's answer seem to ask for. A scheduler speaks first: the length of its greeting, as 64 bits (distributed.comm.tcp).
    """
    host, port = _parts(address)
    context = None
    if address.startswith("tls:"):
        context = security.get_connection_args("client").get("ssl_context")
        if context is None:
            raise ProgramError(f"{visible(address)} speaks TLS, and no certificate is named for it.", _TLS)
    try:
        with socket.create_connection((host, port), timeout=CONNECT) as plain:
            there = plain if context is None else context.wrap_socket(plain)
            if not address.startswith("ws"):
                length = int.from_bytes(_greeting(there), "little")
                if not 0 < length <= GREETING:
                    raise _nobody(address, "what answers there is something else")
    except TimeoutError as error:
        more = "" if context is not None else "; if it speaks TLS, write tls://"
        raise _nobody(address, f"nothing answers within {CONNECT} s{more}") from error
    except OSError as error:
        if context is not None and not isinstance(error, ConnectionError):  # ssl.SSLError is an OSError
            why = getattr(error, "verify_message", None) or getattr(error, "reason", None) or str(error)
            raise ProgramError(f"TLS with the Dask scheduler at {visible(address)} failed: {visible(str(why))}.", _TLS) from error
        raise _nobody(address, error.strerror or str(error)) from error


def _greeting(there: socket.socket) -> bytes:
    """Eight bytes, however they come; fewer where the other side closes."""
    data = b""
    while len(data) < 8 and (more := there.recv(8 - len(data))):
        data += more
    return data if len(data) == 8 else b""


def _parts(address: str) -> tuple[str, int]:
    """Host and port; UsageError for what is no address of a scheduler."""
    match = re.fullmatch(r"(?:(?:tcp|tls|ws|wss)://)?(\[[^\]]+\]|[^:/\[\]]+):(\d{1,5})/?", address)
    if match is None or not 0 < int(match[2]) < 65536:
        raise UsageError(f"{visible(address)} is no address of a Dask scheduler.", "Write it as tcp://HOST:PORT; `dask scheduler` prints its own.")
    return match[1].strip("[]"), int(match[2])


def _nobody(address: str, why: str) -> ProgramError:
    return ProgramError(f"There is no Dask scheduler at {visible(address)}: {visible(why)}.", "Start one with `dask scheduler`.")


class _Work:
    """The tasks of one reading. Every wait in it ends."""

    def __init__(self, distributed: Any, client: Any, address: str) -> None:
        self.distributed, self.client, self.address = distributed, client, address
        self.seen_there = True  # workers may see our files, as far as is known
        self.waiting: dict[Any, tuple[File, ...]] = {}
        self.done: SimpleQueue[Any] = SimpleQueue()  # tasks that are over, well or not
        self.ready: deque[list[Entry]] = deque()
        self.suspects: deque[File] = deque()  # files of tasks under which workers died
        self.heard = self.seen = time.monotonic()  # when a task was answered last, and when there was a worker
        self.alone = False  # every task has one file, and no other is on its way

    def answers(self, paths: Sequence[str]) -> Iterator[list[Entry]]:
        workers = self._workers()
        if not workers:
            raise ProgramError(f"The scheduler at {visible(self.address)} has no worker.", f"Start one with `dask worker {visible(self.address)}`.")
        try:
            for batch in _batches(paths):
                self._submit(batch)
                while len(self.waiting) >= workers * AHEAD:
                    self._hear()
                while self.ready:
                    yield self.ready.popleft()
            while self.waiting or self.suspects:
                if not self.waiting:
                    self.alone = True
                    self._submit([self.suspects.popleft()])
                if self.waiting:  # else it could not even be read here
                    self._hear()
                while self.ready:
                    yield self.ready.popleft()
        finally:
            if self.waiting:
                with suppress(OSError, TimeoutError, self.distributed.comm.CommClosedError):
                    self.client.cancel(list(self.waiting), force=True)

    def _submit(self, batch: Sequence[File]) -> None:
        """A task for these; bytes go along where workers do not see our files."""
        files: list[File] = []
        sent = 0
        for file in batch:
            if file.data is None and (not self.seen_there or file.stamp is None):
                try:
                    file = file._replace(data=content_of(file.name))
                except InputError as error:
                    self.ready.append([Entry(file.name, problem=error.what, fix=error.fix)])
                    continue
            files.append(file)
            sent += len(file.data or b"")
            if sent > MESSAGE_BYTES:
                self._send(files)
                files, sent = [], 0
        if files:
            self._send(files)

    def _send(self, files: list[File]) -> None:
        future = self.client.submit(read_there, tuple(files), pure=False)
        self.waiting[future] = tuple(files)
        future.add_done_callback(self.done.put)

    def _hear(self) -> None:
        """Wait for a task, and take its answer."""
        while True:
            with suppress(Empty):
                future = self.done.get(timeout=LOOK)
                break
            self._look()
        self._take(future, self.waiting.pop(future))

    def _look(self) -> None:
        """After a wait without an answer: whether to go on waiting."""
        now = time.monotonic()
        if self.client.status not in ("running", "connecting"):
            raise _away(self.address, "its scheduler ended")
        if self._workers():
            self.seen = now
        if now - self.seen > NOBODY:
            raise _away(self.address, f"it has had no worker for {NOBODY:.0f} s")
        if now - self.heard > SILENCE:
            raise _away(self.address, f"no task was answered within {SILENCE:.0f} s")

    def _take(self, future: Any, files: tuple[File, ...]) -> None:
        gone = (self.distributed.comm.CommClosedError, self.distributed.client.FutureCancelledError, OSError)
        try:
            version, entries = future.result(timeout=LOOK)
        except TimeoutError:  # the worker that had the answer is gone: the scheduler has it made again
            self.waiting[future] = files
            future.add_done_callback(self.done.put)  # which is called at once where the client still takes the task for done
            self._look()
            return
        except ImportError as error:
            raise ProgramError("A Dask worker does not have smmu-wizard.", f"Install smmu-wizard[dask] {__version__} there.") from error
        except self.distributed.KilledWorker:
            self._again(files)
            return
        except gone:
            raise
        except Exception as error:
            raise ProgramError(
                f"The Dask cluster at {visible(self.address)} can't do the work ({type(error).__name__}: {visible(str(error))[:200]}).",
                f"Install smmu-wizard[dask] {__version__} on its scheduler and workers, with the Dask that is here.",
            ) from error
        self.heard = self.seen = time.monotonic()
        if version != __version__:
            raise ProgramError(f"A Dask worker has smmu-wizard {visible(str(version))}, and this is {__version__}.", "Install the same.")
        answered = [entry for entry in entries if entry is not None]
        if answered:
            self.ready.append(answered)
        unseen = [file for file, entry in zip(files, entries, strict=True) if entry is None]
        if unseen:
            self.seen_there = False
            self._submit(unseen)

    def _again(self, files: tuple[File, ...]) -> None:
        """Workers died while they had this task, or its neighbour: each file by itself later, and one that was alone is the one."""
        if not self.alone:
            self.suspects += files
            return
        what = f"{visible(files[0].name)} can't be read: every Dask worker that read it ended."
        self.ready.append([Entry(files[0].name, problem=what, fix="Workers may be out of memory. If they are not, please report it with this line.")])

    def _workers(self) -> int:
        try:
            return len(self.client.scheduler_info(n_workers=-1)["workers"])
        except TypeError:  # before 2025.1 it told all, and took no number
            return len(self.client.scheduler_info()["workers"])


def read_there(files: tuple[File, ...]) -> tuple[str, list[Entry | None]]:
    """What a worker does: its version, and the entry of each file; None for one that is sent without its bytes and is not the same here."""
    # A worker has much in memory: the collector would walk it again and again, and find nothing to free.
    with uncollected():
        return __version__, [_entry_there(file) for file in files]


def _entry_there(file: File) -> Entry | None:
    if file.data is not None:
        return entry_of(file.data, file.name)
    if file.stamp is None or stamp_of(file.path) != file.stamp:
        return None
    return entry_of_file(file.path, file.name)


def _batches(paths: Sequence[str]) -> Iterator[list[File]]:
    """Files by their sizes: about as much work in every task."""
    batch: list[File] = []
    size = 0
    for path in paths:
        stamp = stamp_of(path)  # an object in storage has none: it is read here, with the credentials that are here
        batch.append(File(path, os.path.abspath(path), stamp))
        size += int(stamp.partition(".")[0]) if stamp else 0
        if size >= BATCH_BYTES or len(batch) >= BATCH_FILES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
