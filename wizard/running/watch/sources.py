"""Where what happens is read from, beside the kernel's own log. Each gives what came since the last time, never waits, and says what it lost."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from wizard.facts.kmsg import AT_ONCE
from wizard.running.monitor import SocketMonitor
from wizard.running.wire import ANSWER_SECONDS, MonitorError, Nonsense, decoded, last_line, taken

_LONGEST = 1 << 20  # bytes of one line


class FileTail:
    """A log file from its end on, through rotation: the old file is read to its end before the new one is begun."""

    def __init__(self, path: Path) -> None:
        self.path, self.lost = path, 0
        self.unread: str | None = None
        self._file: int | None = None
        self._rest = b""
        self._open(end=True)

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

    def lines(self) -> list[str]:
        """Whole lines; the last one waits until it is ended."""
        found, ended = self._read()
        if ended and self._rotated():
            more, ended = self._read()  # what came between
            found += more
            if not ended:
                return found
            if self._rest:
                found.append(self._rest.decode(errors="backslashreplace"))
            self._rest = b""
            self.close()
            self._open(end=False)
            found += self._read()[0]
        return found

    def close(self) -> None:
        """No longer."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _rotated(self) -> bool:
        try:
            there = os.stat(self.path)
            mine = os.fstat(self._file) if self._file is not None else None
        except OSError:
            return False
        if mine is None or (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            return True
        return self._file is not None and there.st_size < os.lseek(self._file, 0, os.SEEK_CUR)  # copytruncate

    def _read(self) -> tuple[list[str], bool]:
        """Some lines, and whether they are all that is there now."""
        found: list[str] = []
        while self._file is not None and len(found) < AT_ONCE:
            data = os.read(self._file, 1 << 16)
            if not data:
                return found, True
            *whole, self._rest = (self._rest + data).split(b"\n")
            found += [one.decode(errors="backslashreplace") for one in whole]
            if len(self._rest) > _LONGEST:
                self._rest = b""
                self.lost += 1
        return found, self._file is None


class Events(SocketMonitor):
    """QEMU's own events by its QMP socket, which takes one client at a time: while this one is there no other gets an answer.

    Raises ``MonitorError`` where it is taken, somebody else's, or no QMP socket. Nothing is asked but that the negotiation ends, without which
    QEMU sends no events (QEMU, docs/interop/qmp-spec.rst). ``ended`` when QEMU has closed it.
    """

    def __init__(self, path: str, pid: int, owners: Collection[str] | None, *, proc: Path, answer: float = ANSWER_SECONDS) -> None:
        if taken(path, proc):
            raise MonitorError("another client has its only connection")
        super().__init__(path, pid, owners, proc=proc, answer=answer)
        self.ended = False
        self._wire.socket.setblocking(False)

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._wire.socket.fileno()

    def events(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Name and data of each event that came. ``Nonsense`` for what is no QMP."""
        while not self.ended:
            try:
                data = self._wire.socket.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.ended = True
            self._wire.data += data
            if len(self._wire.data) > _LONGEST:
                raise Nonsense(f"what it sends has no end within {_LONGEST >> 20} MiB")
        *whole, rest = bytes(self._wire.data).split(b"\n")
        self._wire.data = bytearray(rest)
        for one in filter(bytes.strip, whole):
            told = decoded(one)
            name = told.get("event") if isinstance(told, dict) else None
            if isinstance(name, str):
                about = told.get("data")
                yield name, about if isinstance(about, dict) else {}


_EVENT = re.compile(rb"event (\w+) at \d+\.\d+ for domain '.*?'(?:: (.*))?$")
"""A line of ``virsh qemu-monitor-event`` (libvirt 12.8, virshQemuEventCB() of tools/virsh-domain-event.c)."""


class LibvirtEvents:
    """QEMU's events of a domain through libvirt, which has its monitor: a ``virsh qemu-monitor-event`` beside us. It marks nothing as tainted.

    Raises ``MonitorError`` where virsh can't be run. ``ended`` when it has ended, which it does with the domain or with libvirt.
    """

    def __init__(self, virsh: str, name: str) -> None:
        words = [virsh, "--connect", "qemu:///system", "--quiet", "qemu-monitor-event", "--domain", name, "--loop"]
        try:
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        except OSError as error:
            raise MonitorError(f"virsh can't be run: {error.strerror or error}") from error
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._told, self._complains = self._process.stdout, self._process.stderr
        os.set_blocking(self._told.fileno(), False)
        self.ended = False
        self._data = b""

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._told.fileno()

    def events(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Name and data of each event that came. ``MonitorError`` with virsh's own words where it could not begin."""
        while not self.ended:
            try:
                data = os.read(self._told.fileno(), 1 << 16)
            except BlockingIOError:
                break
            self.ended = not data
            self._data += data
            if len(self._data) > _LONGEST:
                raise Nonsense(f"what virsh writes has no end within {_LONGEST >> 20} MiB")
        *whole, self._data = self._data.split(b"\n")
        for line in whole:
            if found := _EVENT.search(line):
                about = decoded(found[2]) if found[2] and found[2].startswith(b"{") else {}
                yield found[1].decode(), about if isinstance(about, dict) else {}
        if self.ended:
            try:
                status = self._process.wait(ANSWER_SECONDS)
            except subprocess.TimeoutExpired as error:
                raise MonitorError("virsh has ended its output, and does not end") from error
            if status != 0:
                raise MonitorError(f"virsh: {last_line(self._complains.read(4096))}")

    def close(self) -> None:
        """Libvirt forgets that somebody listened."""
        self._process.terminate()
        try:
            self._process.wait(ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._told.close()
        self._complains.close()
