"""The same step on the workers of a Dask scheduler: the bytes of snapshots go there, summaries come back.

Workers need smmu-wizard of the same version, and no access to the files. ``pip install smmu-wizard[dask]`` brings the client.
"""

from __future__ import annotations

import importlib
import logging
import re
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from wizard import __version__
from wizard.base.errors import InputError, ProgramError, UsageError
from wizard.base.text import visible
from wizard.fleet.entry import Entry, content_of, entries_of
from wizard.fleet.gather import Read
from wizard.fleet.workers import AHEAD

BATCH_BYTES = 4 << 20  # of snapshots that are sent at once
BATCH_FILES = 32
CONNECT = 5  # seconds to wait for the scheduler
GREETING = 1 << 20  # bytes of its greeting; it has some hundred


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
            yield from _through(client, paths, address)

    return read


@contextmanager
def _client(distributed: Any, address: str) -> Iterator[Any]:
    """A connection; ProgramError where there is none, or where the scheduler goes away on the way."""
    _knock(address)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client = distributed.Client(address, timeout=CONNECT, set_as_default=False)
    except Exception as error:
        distributed.Client.__del__ = lambda _: None  # the half-made client would complain, seconds later, while Python ends
        raise _nobody(address, str(error) or type(error).__name__) from error
    try:
        with client:
            yield client
    except (distributed.comm.CommClosedError, distributed.client.FutureCancelledError, distributed.KilledWorker, OSError) as error:
        raise ProgramError(
            f"The Dask cluster at {visible(address)} went away: {visible(str(error))}.", "Look at the logs of its scheduler and workers."
        ) from error


def _knock(address: str) -> None:
    """Whether a scheduler is there at all. Dask's client would wait for ever for a server that says nothing, and allocate what the first
    bytes of a stranger's answer seem to ask for. A scheduler speaks first: the length of its greeting, as 64 bits (distributed.comm.tcp).
    """
    host, port = _parts(address)
    try:
        with socket.create_connection((host, port), timeout=CONNECT) as there:
            if not address.startswith(("tls:", "ws")):
                length = int.from_bytes(there.recv(8, socket.MSG_WAITALL), "little")
                if not 0 < length <= GREETING:
                    raise _nobody(address, "what answers there is something else")
    except TimeoutError as error:
        raise _nobody(address, f"nothing answers within {CONNECT} s") from error
    except OSError as error:
        raise _nobody(address, error.strerror or str(error)) from error


def _parts(address: str) -> tuple[str, int]:
    """Host and port; UsageError for what is no address of a scheduler."""
    match = re.fullmatch(r"(?:(?:tcp|tls|ws|wss)://)?(\[[^\]]+\]|[^:/\[\]]+):(\d{1,5})/?", address)
    if match is None or not 0 < int(match[2]) < 65536:
        raise UsageError(f"{visible(address)} is no address of a Dask scheduler.", "Write it as tcp://HOST:PORT; `dask scheduler` prints its own.")
    return match[1].strip("[]"), int(match[2])


def _nobody(address: str, why: str) -> ProgramError:
    return ProgramError(f"There is no Dask scheduler at {visible(address)}: {visible(why)}.", "Start one with `dask scheduler`.")


def _through(client: Any, paths: Sequence[str], address: str) -> Iterator[list[Entry]]:
    workers = len(client.scheduler_info()["workers"])
    if not workers:
        raise ProgramError(f"The scheduler at {visible(address)} has no worker.", f"Start one with `dask worker {visible(address)}`.")
    _check_versions(client)
    waiting: deque[Any] = deque()
    for batch in _batches(paths):
        broken = [entry for entry in batch if isinstance(entry, Entry)]
        if broken:
            yield broken
        files = tuple(file for file in batch if not isinstance(file, Entry))
        if files:
            waiting.append(client.submit(entries_of, files, pure=False))
        while len(waiting) >= workers * AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _check_versions(client: Any) -> None:
    """A worker without the program, or with another version, would answer otherwise or not at all."""
    try:
        found = client.run(version_here)
    except ImportError as error:
        raise ProgramError("A Dask worker does not have smmu-wizard.", f"Install smmu-wizard[dask] {__version__} there.") from error
    for worker, version in found.items():
        if version != __version__:
            raise ProgramError(f"The Dask worker {visible(str(worker))} has smmu-wizard {version}, and this is {__version__}.", "Install the same.")


def version_here() -> str:
    """Asked of every worker."""
    return __version__


def _batches(paths: Sequence[str]) -> Iterator[list[Entry | tuple[str, bytes]]]:
    """Files by name and content; what can't be read is an entry already."""
    batch: list[Entry | tuple[str, bytes]] = []
    size = 0
    for path in paths:
        try:
            data = content_of(path)
        except InputError as error:
            batch.append(Entry(path, problem=error.what, fix=error.fix))
            continue
        batch.append((path, data))
        size += len(data)
        if size >= BATCH_BYTES or len(batch) >= BATCH_FILES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
