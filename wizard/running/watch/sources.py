"""Where what happens is read from. Each gives what came since the last time, never waits, and says what it lost."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from wizard.base.text import visible
from wizard.facts.kmsg import lines_of
from wizard.running.monitor import Foreign, MonitorError, Nonsense, listeners, peer, taken

_RECORD = 16384
_AT_ONCE = 4096  # lines: a flood does not hold the others up
_LONGEST = 1 << 20  # bytes of one line


class Lines(Protocol):
    """A log that grows. ``lost`` counts lines that were overwritten before they were read."""

    lost: int

    def fileno(self) -> int | None:
        """What to wait for; None where it has to be looked at by time."""
        ...

    def lines(self, *, old: bool = False) -> list[str]:
        """The lines since the last time; ``old``: those that are there already."""
        ...


class KernelTail:
    """The kernel's ring buffer from this moment on (Documentation/ABI/testing/dev-kmsg).

    ``unread`` says why it can't be read. A gap in its sequence numbers, or EPIPE, is what was overwritten while nobody read.
    """

    def __init__(self, path: str = "/dev/kmsg") -> None:
        self.lost = 0
        self.unread: str | None = None
        self._next: int | None = None
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._descriptor, 0, os.SEEK_END)
        except OSError as error:
            self.unread = "needs root" if isinstance(error, PermissionError) else error.strerror or str(error)

    def fileno(self) -> int | None:
        """The descriptor to wait for."""
        return self._descriptor

    def lines(self, *, old: bool = False) -> list[str]:
        """Lines as dmesg prints them."""
        if old and self._descriptor is not None:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        found: list[str] = []
        while self._descriptor is not None and len(found) < _AT_ONCE:
            try:
                record = os.read(self._descriptor, _RECORD)
            except BrokenPipeError:
                continue  # the next record's number says how many are gone
            except BlockingIOError:
                break
            except OSError as error:
                self.unread = error.strerror or str(error)
                break
            if not record:
                break
            number, told = lines_of(record)
            if number is not None:
                if self._next is not None and number > self._next:
                    self.lost += number - self._next
                self._next = number + 1
            found += told
        return found


class FileTail:
    """A log file from its end on, through rotation: the old file is read to its end before the new one is begun."""

    def __init__(self, path: Path, *, whole: bool = False) -> None:
        self.path, self.lost = path, 0
        self.unread: str | None = None
        self._file: int | None = None
        self._rest = b""
        self._open(end=not whole)

    def fileno(self) -> int | None:
        """A regular file is always ready: it is looked at by time."""
        return None

    def _open(self, *, end: bool) -> None:
        try:
            self._file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            if end:
                os.lseek(self._file, 0, os.SEEK_END)
        except OSError as error:
            self._file = None
            self.unread = "needs root" if isinstance(error, PermissionError) else error.strerror or str(error)

    def lines(self, *, old: bool = False) -> list[str]:
        """Whole lines; the last one waits until it is ended."""
        if old and self._file is not None:
            os.lseek(self._file, 0, os.SEEK_SET)
        found = self._read()
        if self._rotated():
            found += self._read()
            if self._rest:
                found.append(self._rest.decode(errors="backslashreplace"))
            self._rest = b""
            if self._file is not None:
                os.close(self._file)
            self._open(end=False)
            found += self._read()
        return found

    def _rotated(self) -> bool:
        try:
            there = os.stat(self.path)
            mine = os.fstat(self._file) if self._file is not None else None
        except OSError:
            return False
        if mine is None or (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            return True
        return self._file is not None and there.st_size < os.lseek(self._file, 0, os.SEEK_CUR)  # copytruncate

    def _read(self) -> list[str]:
        found: list[str] = []
        while self._file is not None and len(found) < _AT_ONCE:
            data = os.read(self._file, 1 << 16)
            if not data:
                break
            *whole, self._rest = (self._rest + data).split(b"\n")
            found += [one.decode(errors="backslashreplace") for one in whole]
            if len(self._rest) > _LONGEST:
                self._rest = b""
                self.lost += 1
        return found


class Events:
    """QEMU's own events by its QMP socket, which takes one client at a time: while this one is there no other gets an answer.

    Raises ``MonitorError`` where it is taken, somebody else's, or no QMP socket. ``ended`` when QEMU has closed it.
    """

    def __init__(self, path: str, pid: int, *, proc: Path) -> None:
        if taken(path, proc):
            raise MonitorError("another client has its only connection")
        self.ended = False
        self._data = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.settimeout(1)
            self._socket.connect(path)
            owner = peer(self._socket)
            if owner not in (0, pid) and not listeners(path, proc):
                raise Foreign(f"{visible(path)} belongs to process {owner}")
            # Nothing is asked but that negotiation ends, without which QEMU sends no events (QEMU, docs/interop/qmp-spec.rst).
            self._socket.sendall(b'{"execute": "qmp_capabilities"}\n')
            self._socket.setblocking(False)
        except OSError as error:
            self._socket.close()
            raise MonitorError(f"{visible(path)}: {error.strerror or error}") from error
        except MonitorError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._socket.fileno()

    def events(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Name and data of each event that came. ``Nonsense`` for what is no QMP."""
        while not self.ended:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.ended = True
            self._data += data
            if len(self._data) > _LONGEST:
                raise Nonsense(f"what it sends has no end within {_LONGEST >> 20} MiB")
        *whole, self._data = self._data.split(b"\n")
        for one in whole:
            try:
                told: Any = msgspec.json.decode(one) if one.strip() else {}
            except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
                raise Nonsense("what it sends is no JSON") from error
            name = told.get("event") if isinstance(told, dict) else None
            if isinstance(name, str):
                about = told.get("data")
                yield name, about if isinstance(about, dict) else {}

    def close(self) -> None:
        """Let the next client in."""
        self._socket.close()
