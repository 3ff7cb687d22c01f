"""A Unix socket of a VM that runs: whose it is, and lines of JSON through it. QEMU's monitor and the guest's agent are both reached so.

Whatever is at the other end may be silent, be another program, or talk nonsense: every wait and every line has a bound, and a process is asked
who it is before it is believed.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec

from wizard.base.text import visible
from wizard.running.process import PROC

ANSWER_SECONDS = 10.0
"""For one answer. Seen: 10 ms, under emulation on a loaded machine."""
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


class Wire:
    """A connection to the process ``pid`` (None: to whoever listens). ``owners``: inode numbers of the sockets that the VM has open; None: not known.

    Raises ``MonitorError``. ``busy``: somebody was connected before; QEMU serves one client at a time.
    """

    def __init__(
        self, path: str, pid: int | None, owners: Collection[str] | None = None, *, seconds: float = ANSWER_SECONDS, longest: int = 16 << 20,
        proc: Path = PROC,
    ) -> None:  # fmt: skip
        self.data = bytearray()
        self.busy = taken(path, proc)
        self._longest = longest
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._connect(path, seconds)
            owner = peer(self.socket)
            listening = listeners(path, proc)
            # A launcher may have made the socket and handed it over: then the VM has the very socket open.
            if pid is not None and owner not in (0, pid) and not (owners is not None and listening & set(owners)):
                raise Foreign(f"{visible(path)} belongs to process {owner}{_called(owner, proc)}, not to this VM (process {pid})")
        except BaseException:
            self.close()
            raise

    def _connect(self, path: str, seconds: float) -> None:
        self.socket.settimeout(seconds)
        try:
            self.socket.connect(path)
        except (TimeoutError, BlockingIOError) as error:
            raise Silent("its queue of clients is full, and nobody takes them") from error
        except PermissionError as error:
            raise Closed(f"{visible(path)} may only be opened by root or the VM's user") from error
        except FileNotFoundError as error:
            raise MonitorError(f"there is no {visible(path)}") from error
        except OSError as error:
            raise MonitorError(f"{visible(path)}: {error.strerror or error}") from error

    def send(self, data: bytes, what: str, seconds: float) -> None:
        """All of it; ``what`` is for errors."""
        try:
            self.socket.settimeout(seconds)
            self.socket.sendall(data)
        except TimeoutError as error:
            raise Silent(f"it does not take {what}") from error
        except OSError as error:
            raise Ended("it closed the connection") from error

    def line(self, what: str, seconds: float) -> bytes:
        """The next line, without its end. ``Silent`` where it takes longer, ``Nonsense`` where it has no end."""
        end = time.monotonic() + seconds
        looked = 0  # what was looked through already
        while (at := self.data.find(b"\n", looked)) < 0:
            looked = len(self.data)
            left = end - time.monotonic()
            if left <= 0:
                raise self._silent(what, seconds)
            self.socket.settimeout(left)
            try:
                more = self.socket.recv(1 << 16)
            except TimeoutError as error:
                raise self._silent(what, seconds) from error
            except OSError as error:
                raise Ended("it closed the connection") from error
            if not more:
                raise Ended("it closed the connection")
            self.data += more
            if len(self.data) > self._longest:
                raise Nonsense(f"an answer is longer than {self._longest >> 20} MiB")
        line = bytes(self.data[:at])
        del self.data[: at + 1]
        return line

    def _silent(self, what: str, seconds: float) -> Silent:
        if self.busy:
            return Silent("another client has its only connection")
        return Silent(f"{what} did not come within {seconds:.0f} seconds")

    def close(self) -> None:
        """QEMU takes the next client then."""
        self.socket.close()


def last_line(data: bytes) -> str:
    """What a program said in the end, of its standard error."""
    lines = data.decode(errors="backslashreplace").strip().splitlines()
    return lines[-1] if lines else "nothing"


def decoded(data: bytes) -> Any:
    """What a line of QMP says. ``Nonsense`` for what is no JSON."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise Nonsense("an answer is no JSON") from error


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
