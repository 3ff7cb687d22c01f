"""Snapshots in object storage, by what fsspec knows: ``s3://BUCKET/PREFIX/``, ``gs://…``, ``abfs://…``, ``https://…``.

``pip install 'smmu-wizard[objects]'`` brings fsspec and S3. Credentials and endpoints are those of the storage's own configuration (for S3
the environment and files of AWS); none is taken from a URL, and no message of a library, which might hold one, is repeated. Sizes are
bounded as of files, and every question ends.
"""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from wizard.base.errors import InputError, ProgramError, UsageError
from wizard.base.text import size, visible
from wizard.facts.snapshot import WHOLE_LIMIT, bound, unpacked

SECONDS = 120.0
"""For one object, or one listing: 64 MiB at 1 MiB/s, and a start."""
OBJECTS = 1_000_000  # of one listing

_URL = re.compile(r"(?:[a-z0-9+.-]+::)*([a-z][a-z0-9+.-]*)://")
_KNOWN = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "http", "https", "memory", "file")
_SOON: dict[str, dict[str, Any]] = {  # options by which a library gives up by itself, and does not remember listings
    kind: {"config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 2}}, "use_listings_cache": False}
    for kind in ("s3", "s3a")
}

Found = TypeVar("Found")


def is_object(path: str) -> bool:
    """Whether a path is a URL."""
    return _URL.match(path) is not None


def objects_in(url: str, suffixes: Sequence[str]) -> list[str]:
    """The objects directly below a prefix whose names have one of these ends; the URL itself where it names one, or nothing is below it."""
    system = _system(url)
    if url.endswith(tuple(suffixes)):
        return [url]
    kind = url.partition("://")[0]
    try:
        found = _bounded(lambda: system.ls(url, detail=False), url)
    except InputError:
        return [url]  # reading it says what is wrong
    names = [str(name) for name in found[:OBJECTS]]
    below = [name if is_object(name) else f"{kind}://{name.lstrip('/') if kind != 'file' else name}" for name in names]
    return [name for name in below if name.endswith(tuple(suffixes)) and not name.rpartition("/")[2].startswith(".")] or [url]


def read_object(url: str, limit: int | None = None) -> bytes:
    """The bytes of one object, unpacked, at most ``limit``, without one as many as a snapshot has; InputError."""
    most = WHOLE_LIMIT if limit is None else limit  # of what is packed its beginning says nothing
    system = _system(url)

    def read() -> bytes:
        with system.open(url, "rb", block_size=1 << 20) as file:
            return bytes(file.read(most + 1))

    data = _bounded(read, url)
    if len(data) <= most:
        data = unpacked(data, url, limit)
    if len(data) > bound(data, limit):
        raise InputError(f"{visible(url)} holds more than {size(bound(data, limit))}iB.", "A snapshot is never that large.")
    return data


def _system(url: str) -> Any:
    match = _URL.match(url)
    kind = match[1] if match else ""
    if re.search(r"[?#]|::" if kind in ("abfs", "abfss") else r"[@?#]|::", url):  # CONTAINER@ACCOUNT is a place of Azure's
        # A user, a password or a signature in it would stand in every message about it.
        hidden = f"{kind}://…"
        raise UsageError(
            f"The URL {hidden} holds more than a place (one of @ ? # ::).",
            "Credentials belong into the configuration of the storage (for S3: AWS_PROFILE, ~/.aws), never into a URL.",
        )
    if kind not in _KNOWN:
        raise UsageError(f"{visible(url)} is of no kind of storage that is read here.", f"There are: {', '.join(_KNOWN)}.")
    try:
        fsspec: Any = importlib.import_module("fsspec")
        return fsspec.filesystem(kind, **_SOON.get(kind, {}))
    except ImportError as error:
        raise ProgramError(
            f"Reading {kind}:// needs fsspec and its part for it, which are not installed.",
            "pip install 'smmu-wizard[objects]' brings S3's; gcsfs, adlfs and aiohttp are those of gs, abfs and http.",
        ) from error


def _bounded(ask: Callable[[], Found], url: str) -> Found:
    """What storage answers, within ``SECONDS``; InputError names the kind of failure, and nothing of its text."""
    answer: list[Found] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            answer.append(ask())
        except BaseException as error:  # noqa: BLE001 (told by the thread that waits)
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)  # one that hangs does not keep the process
    thread.start()
    thread.join(SECONDS)
    name = visible(url)
    if answer:
        return answer[0]
    if not failed:
        raise InputError(f"{name} was not answered within {SECONDS:.0f} s.", "Look at the storage and the network to it.")
    error = failed[0]
    if isinstance(error, FileNotFoundError | IsADirectoryError):
        raise InputError(f"There is no object {name}.", "Name an object, or a prefix that ends in / and has snapshots below it.") from error
    if isinstance(error, PermissionError):
        raise InputError(
            f"{name} may not be read with these credentials.", "Look at the configuration of the storage (for S3: AWS_PROFILE, ~/.aws)."
        ) from error
    raise InputError(
        f"{name} can't be read: the storage failed ({type(error).__name__}).", "Look at its endpoint, credentials and configuration."
    ) from error
