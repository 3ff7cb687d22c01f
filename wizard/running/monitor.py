"""QEMU's monitor (QMP) of a VM that runs, for questions alone: its own socket, or through libvirt, which keeps the only client of its own.

Whatever is at the other end may be silent, be another program, or talk nonsense: every wait and every answer has a bound, a process is asked who
it is before it is believed, and only commands of ``ASKED`` are ever sent. The two that change something, the traces' switches, go by
``Monitor.switch`` and nowhere else.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec

from wizard.base.text import visible
from wizard.running.process import PROC

ASKED = frozenset({
    "qmp_capabilities",  # without it nothing else is answered
    "query-name", "query-status", "query-version", "query-kvm", "query-migrate", "query-pci", "query-cpus-fast", "query-memory-size-summary",
    "qom-list", "qom-get", "trace-event-get-state",
})  # fmt: skip
"""Every command that is sent without being asked for by the person. Each of them only reads (QEMU 11.1, qapi/*.json)."""
SWITCH = "trace-event-set-state"

ANSWER_SECONDS = 10.0
"""For one answer. Seen: 10 ms, under emulation on a loaded machine."""
WHOLE_SECONDS = 60.0
"""For all of one VM."""
_ANSWER_BYTES = 16 << 20
_EVENTS = 10_000  # that may come before an answer
_CONNECTED = "03"  # SS_CONNECTED; a client that QEMU has not taken yet is 02 (unix_seq_show() of net/unix/af_unix.c)


class MonitorError(Exception):
    """The monitor does not answer as one; the text is a half sentence for "QMP: …"."""


class Silent(MonitorError):
    """No answer within the time."""


class Foreign(MonitorError):
    """The socket is another process's."""


class Closed(MonitorError):
    """This user may not open the socket."""


class Nonsense(MonitorError):
    """What came is no QMP."""


class Ended(MonitorError):
    """The connection was closed: the VM has ended."""


class Refused(MonitorError):
    """QEMU answered with an error."""


class Monitor(ABC):
    """A monitor to ask. ``how`` says how it is reached, for people."""

    how = ""

    def __init__(self, *, answer: float = ANSWER_SECONDS, whole: float = WHOLE_SECONDS) -> None:
        self.answer = answer
        self._end = time.monotonic() + whole

    def ask(self, command: str, **arguments: Any) -> Any:
        """What a command of ``ASKED`` returns. Raises ``MonitorError``."""
        if command not in ASKED:
            raise ValueError(f"{command} is no question")
        return self._send(command, arguments)

    def switch(self, name: str, on: bool) -> None:
        """Switch one trace event on or off: what the person asked for and confirmed. Raises ``MonitorError``."""
        # Switching off again is never refused for the time that all of it took.
        self._end = max(self._end, time.monotonic() + self.answer)
        self._send(SWITCH, {"name": name, "enable": on})

    def extend(self, seconds: float) -> None:
        """More time for all of it: while a person's own wait goes on."""
        self._end += seconds

    @abstractmethod
    def _send(self, command: str, arguments: dict[str, Any]) -> Any: ...

    @abstractmethod
    def close(self) -> None:
        """Let the next client in."""

    def _left(self) -> float:
        left = min(self.answer, self._end - time.monotonic())
        if left <= 0:
            raise Silent(f"it took longer than the {WHOLE_SECONDS:.0f} seconds that one VM may take")
        return left


class SocketMonitor(Monitor):
    """By a socket of QEMU's own. ``owners``: the inode numbers of the sockets that the VM has open; None: not known."""

    def __init__(
        self, path: str, pid: int, owners: Collection[str] | None = None, *,
        proc: Path = PROC, answer: float = ANSWER_SECONDS, whole: float = WHOLE_SECONDS,
    ) -> None:  # fmt: skip
        super().__init__(answer=answer, whole=whole)
        self.how = f"QMP at {visible(path)}"
        self._data = bytearray()
        self._count = 0
        self._busy = taken(path, proc)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._connect(path)
            owner = peer(self._socket)
            listening = listeners(path, proc)
            # A launcher may have made the socket and handed it over: then the VM has the very socket open.
            if owner not in (0, pid) and not (owners is not None and listening & set(owners)):
                raise Foreign(f"{visible(path)} belongs to process {owner}{_called(owner, proc)}, not to this VM (process {pid})")
            greeting = self._line("its greeting")
            if not isinstance(greeting, dict) or "QMP" not in greeting:
                raise Nonsense("what listens there is no QMP monitor")
            self.ask("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    def _connect(self, path: str) -> None:
        self._socket.settimeout(self._left())
        try:
            self._socket.connect(path)
        except (TimeoutError, BlockingIOError) as error:
            raise Silent("its queue of clients is full, and nobody takes them") from error
        except PermissionError as error:
            raise Closed(f"{visible(path)} may only be opened by root or the VM's user") from error
        except FileNotFoundError as error:
            raise MonitorError(f"there is no {visible(path)}") from error
        except OSError as error:
            raise MonitorError(f"{visible(path)}: {error.strerror or error}") from error

    def _send(self, command: str, arguments: dict[str, Any]) -> Any:
        self._count += 1
        message: dict[str, Any] = {"execute": command, "id": self._count}
        if arguments:
            message["arguments"] = arguments
        try:
            self._socket.settimeout(self._left())
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except TimeoutError as error:
            raise Silent(f"it does not take {command}") from error
        except OSError as error:
            raise Ended("it closed the connection") from error
        for _ in range(_EVENTS):
            told = self._line(f"its answer to {command}")
            if not isinstance(told, dict):
                raise Nonsense("an answer is no JSON object")
            if told.get("id") == self._count:
                return _returned(told)
            if "event" not in told and "id" not in told and "error" in told:
                return _returned(told)  # an error that QEMU could give to no command
        raise Nonsense(f"{_EVENTS} events came, and no answer")

    def _line(self, what: str) -> Any:
        end = time.monotonic() + self._left()
        looked = 0  # what was looked through already
        while (at := self._data.find(b"\n", looked)) < 0:
            looked = len(self._data)
            left = end - time.monotonic()
            if left <= 0:
                raise self._silent(what)
            self._socket.settimeout(left)
            try:
                more = self._socket.recv(1 << 16)
            except TimeoutError as error:
                raise self._silent(what) from error
            except OSError as error:
                raise Ended("it closed the connection") from error
            if not more:
                raise Ended("it closed the connection")
            self._data += more
            if len(self._data) > _ANSWER_BYTES:
                raise Nonsense(f"an answer is longer than {_ANSWER_BYTES >> 20} MiB")
        line = bytes(self._data[:at])
        del self._data[: at + 1]
        return decoded(line)

    def _silent(self, what: str) -> Silent:
        if self._busy:
            return Silent("another client has its only connection")
        return Silent(f"{what} did not come within {self.answer:.0f} seconds")

    def close(self) -> None:
        """QEMU takes the next client then."""
        self._socket.close()


class VirshMonitor(Monitor):
    """Through libvirt (``virsh qemu-monitor-command``), which marks the domain as tainted by it (VIR_DOMAIN_TAINT_CUSTOM_MONITOR)."""

    def __init__(self, virsh: str, name: str, *, answer: float = ANSWER_SECONDS, whole: float = WHOLE_SECONDS) -> None:
        super().__init__(answer=answer, whole=whole)
        self.how = "QMP through libvirt, which marks the domain as tainted by it (custom-monitor)"
        self._words = [virsh, "--connect", "qemu:///system", "qemu-monitor-command", "--domain", name]

    def _send(self, command: str, arguments: dict[str, Any]) -> Any:
        message = json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})})
        try:
            done = subprocess.run([*self._words, message], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=self._left())
        except subprocess.TimeoutExpired as error:
            raise Silent(f"libvirt gave no answer within {self.answer:.0f} seconds") from error
        except OSError as error:
            raise MonitorError(f"virsh can't be run: {error.strerror or error}") from error
        if done.returncode:
            raise MonitorError(f"libvirt says: {visible(_last(done.stderr))}")
        told = decoded(done.stdout[:_ANSWER_BYTES])
        if not isinstance(told, dict):
            raise Nonsense("an answer is no JSON object")
        return _returned(told)

    def close(self) -> None:
        """Each command was a connection of its own."""


def _last(data: bytes) -> str:
    lines = data.decode(errors="backslashreplace").strip().splitlines()
    return lines[-1] if lines else "nothing"


def decoded(data: bytes) -> Any:
    """What a line of QMP says. ``Nonsense`` for what is no JSON."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise Nonsense("an answer is no JSON") from error


def _returned(told: dict[str, Any]) -> Any:
    if "return" in told:
        return told["return"]
    error = told.get("error")
    if isinstance(error, dict):
        raise Refused(visible(str(error.get("desc", error))))
    raise Nonsense("an answer says neither what it returns nor an error")


def peer(connection: socket.socket) -> int:
    """The process that listens at the other end (SO_PEERCRED, unix(7)); 0 for one of another name space."""
    pid: int = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    return pid


def listener(path: str) -> int:
    """The process that listens at a socket; 0 where that can't be told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(path)
            return peer(connection)
        except OSError:
            return 0


def _rows(path: str, proc: Path) -> Iterator[list[str]]:
    """The lines of /proc/net/unix about one path: Num RefCount Protocol Flags Type St Inode Path."""
    try:
        text = (proc / "net/unix").read_bytes().decode(errors="surrogateescape")
    except OSError:
        return
    wanted = {path, os.path.normpath(path)}
    for line in text.splitlines():
        words = line.split(maxsplit=7)
        if len(words) == 8 and words[7] in wanted:
            yield words


def listeners(path: str, proc: Path = PROC) -> set[str]:
    """Inode numbers of the sockets that have this path."""
    return {words[6] for words in _rows(path, proc)}


def taken(path: str, proc: Path = PROC) -> bool:
    """Whether somebody is connected already: QEMU's monitor serves one client at a time."""
    return any(words[5] == _CONNECTED for words in _rows(path, proc))


def _called(pid: int, proc: Path) -> str:
    try:
        return f" ({visible((proc / str(pid) / 'comm').read_text(errors='backslashreplace').strip())})"
    except OSError:
        return ""
