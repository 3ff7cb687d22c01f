"""The same step on the workers of a Dask scheduler: the bytes of snapshots go there, summaries come back.

Workers need smmu-wizard of the same version, and no access to the files. ``pip install smmu-wizard[dask]`` brings the client.
"""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from wizard import __version__
from wizard.base.errors import InputError, ProgramError
from wizard.base.text import visible
from wizard.facts.snapshot import read_bounded
from wizard.fleet.entry import Entry, entries_of
from wizard.fleet.gather import AHEAD, Read

BATCH_BYTES = 4 << 20  # of snapshots that are sent at once
BATCH_FILES = 32
CONNECT = 10  # seconds to wait for the scheduler


def reader(address: str) -> Read:
    """How ``gather`` reads with a scheduler; ``ProgramError`` when there is no Dask, no scheduler, or no worker of this version."""
    try:
        distributed: Any = importlib.import_module("distributed")  # an optional extra, without types of its own
    except ImportError as error:
        raise ProgramError(
            "--dask needs Dask, which is not installed.", "pip install 'smmu-wizard[dask]', on this machine and on the workers."
        ) from error

    def read(paths: Sequence[str]) -> Iterator[list[Entry]]:
        if not paths:
            return
        try:
            client = distributed.Client(address, timeout=CONNECT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ProgramError(
                f"There is no Dask scheduler at {visible(address)}: {visible(str(error))}.", "Start one with `dask scheduler`."
            ) from error
        with client:
            yield from _through(client, paths, address)

    return read


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
            data, _ = read_bounded(path)
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
