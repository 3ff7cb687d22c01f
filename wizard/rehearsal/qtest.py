"""The qtest protocol: memory and registers of a QEMU from outside, without a processor that runs (QEMU docs/devel/testing/qtest.rst)."""

from __future__ import annotations

import base64
import socket
from collections.abc import Sequence
from pathlib import Path

_BATCH = 256
"""Commands sent before their answers are read: QEMU stops reading while nobody reads what it says."""


class Qtest:
    """A connection to a QEMU's ``-qtest``; ``OSError`` when it refuses a command, goes away or is silent for ``seconds``."""

    def __init__(self, connection: socket.socket, *, seconds: float = 20) -> None:
        self._socket = connection
        self._socket.settimeout(seconds)
        self._reader = self._socket.makefile("rb")

    @classmethod
    def at(cls, path: Path) -> Qtest:
        """Connect to ``-qtest unix:PATH,server=on``."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(path))
        return cls(connection)

    def close(self) -> None:
        """Let it go."""
        self._reader.close()
        self._socket.close()

    def ask(self, lines: Sequence[str]) -> list[str]:
        """Send commands and collect their answers, without ``OK``."""
        answers: list[str] = []
        for first in range(0, len(lines), _BATCH):
            piece = lines[first : first + _BATCH]
            self._socket.sendall(("\n".join(piece) + "\n").encode())
            while len(answers) < first + len(piece):
                try:
                    line = self._reader.readline().decode()
                except TimeoutError:
                    raise ConnectionError(f"it did not answer {lines[len(answers)][:80]!r}") from None
                if line.startswith("IRQ"):
                    continue
                if not line.startswith("OK"):
                    raise OSError(f"qtest: {lines[len(answers)][:80]}: {line.strip() or 'QEMU ended'}")
                answers.append(line[2:].strip())
        return answers

    def write(self, address: int, value: int, bits: int) -> None:
        """Store 16, 32 or 64 bits."""
        self.ask([f"write{_LETTERS[bits]} {address:#x} {value:#x}"])

    def read(self, address: int, bits: int) -> int:
        """Load 16, 32 or 64 bits."""
        return int(self.ask([f"read{_LETTERS[bits]} {address:#x}"])[0], 0)

    def store(self, address: int, data: bytes) -> None:
        """Store bytes."""
        self.ask([f"b64write {address:#x} {len(data)} {base64.b64encode(data).decode()}"])

    def load(self, address: int, size: int) -> bytes:
        """Load bytes."""
        return base64.b64decode(self.ask([f"b64read {address:#x} {size}"])[0])

    def clock_step(self, nanoseconds: int) -> None:
        """Let QEMU's virtual clock go on, and with it the timers of its devices."""
        self.ask([f"clock_step {nanoseconds}"])


_LETTERS = {16: "w", 32: "l", 64: "q"}
