"""Clients of the server: one in Python here, one in C beside it (``HEADER``). docs/smmu-protocol.md describes the lines.

    with Client.at("smmu.sock") as client:
        client.ask("hello 1")
        client.write(0x0905_0020, 0xD, 4)
        client.ask("dma read 8 0x1000 4"), client.told

Nothing waits for ever: an answer has ``timeout`` seconds.
"""

from __future__ import annotations

import socket
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["HEADER", "VARIABLE", "Client", "Failed"]

HEADER = Path(__file__).with_name("smmu_wizard.h")
"""The client in C: one header, C99 and POSIX."""
VARIABLE = "SMMU_WIZARD_SOCKET"
"""The environment variable that names the socket, for programs that a test starts."""

_ASYNCHRONOUS = ("EVENT ", "MSI ", "IRQ ", "ENDED ", "PRGRESP ")
_LETTERS = {1: "b", 2: "w", 4: "l", 8: "q"}


class Failed(Exception):
    """The server answered FAIL; the text is its sentence."""


class Client:
    """One conversation. ``told`` are the lines that SMMUs had to say and that nobody took yet (after ``irq on``)."""

    def __init__(self, connection: socket.socket, timeout: float = 30.0) -> None:
        self.connection = connection
        self.told: list[str] = []
        self._received = b""
        connection.settimeout(timeout)

    @classmethod
    def at(cls, path: str | Path, timeout: float = 30.0) -> Self:
        """Connect to the server at a path; ``OSError`` where none is."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout)
            connection.connect(str(path))
        except OSError:
            connection.close()
            raise
        return cls(connection, timeout)

    def close(self) -> None:
        """End the conversation."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def ask(self, line: str) -> str:
        """Send a command; what comes behind OK. ``Failed`` for FAIL, ``TimeoutError`` and ``ConnectionError`` where no answer comes."""
        self.connection.sendall(line.encode() + b"\n")
        while True:
            reply = self._line()
            if reply.startswith(_ASYNCHRONOUS):
                self.told.append(reply)
                continue
            word, _, rest = reply.partition(" ")
            if word != "OK":
                raise Failed(rest)
            return rest

    def _line(self) -> str:
        while b"\n" not in self._received:
            content = self.connection.recv(65536)
            if not content:
                raise ConnectionError("the server has ended the conversation")
            self._received += content
        line, _, self._received = self._received.partition(b"\n")
        return line.decode()

    def read(self, address: int, size: int) -> int:
        """A register, or a number in memory, of 1, 2, 4 or 8 bytes."""
        return int(self.ask(f"read{_LETTERS[size]} {address:#x}"), 16)

    def write(self, address: int, value: int, size: int) -> None:
        """The same, written."""
        self.ask(f"write{_LETTERS[size]} {address:#x} {value:#x}")

    def load(self, address: int, size: int) -> bytes:
        """Bytes of memory."""
        return bytes.fromhex(self.ask(f"read {address:#x} {size}")[2:])

    def store(self, address: int, data: bytes) -> None:
        """Bytes into memory."""
        self.ask(f"write {address:#x} {len(data)} 0x{data.hex()}")

    def status(self, smmu: str = "") -> dict[str, int]:
        """What ``status`` says, by name."""
        pairs = (word.partition("=") for word in self.ask(f"status {smmu}").split())
        return {name: int(value, 0) for name, _, value in pairs}
