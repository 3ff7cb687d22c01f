"""QEMU's monitor (QMP) of a VM that runs, for questions alone: its own socket, or through libvirt, which keeps the only client of its own.

Every wait and every answer has a bound (``wire``), and only commands of ``ASKED`` and lines of ``SHOWN`` are ever sent. The two that change
something, the traces' switches, go by ``Monitor.switch`` and nowhere else.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from wizard.base.text import visible
from wizard.running.asking import WHOLE_SECONDS, Asking, by_virsh, message, returned
from wizard.running.process import PROC
from wizard.running.wire import ANSWER_SECONDS, Nonsense, Wire, decoded

SHOWN = re.compile(r"info mtree -f|xp /[1-9][0-9]{0,3}[gw]x 0x[0-9a-f]{1,16}")
"""Lines of the human monitor that may be sent: each shows something, and changes nothing (QEMU 11.1, hmp-commands.hx)."""
SWITCH = "trace-event-set-state"
_EVENTS = 10_000  # that may come before an answer


class Monitor(Asking):
    """A monitor to ask."""

    ASKED = frozenset({
        "qmp_capabilities",  # without it nothing else is answered
        "query-name", "query-status", "query-version", "query-kvm", "query-migrate", "query-pci", "query-cpus-fast", "query-memory-size-summary",
        "qom-list", "qom-get", "trace-event-get-state",
    })  # fmt: skip
    """Every command that is sent without being asked for by the person. Each of them only reads (QEMU 11.1, qapi/*.json)."""

    def show(self, line: str) -> str:
        """What a line of ``SHOWN`` shows, for whom memory was asked of. Raises ``MonitorError``."""
        if not SHOWN.fullmatch(line):
            raise ValueError(f"{line} does more than to show")
        self._end = max(self._end, time.monotonic() + self.answer)
        return str(self._send("human-monitor-command", {"command-line": line}))

    def switch(self, name: str, on: bool) -> None:
        """Switch one trace event on or off: what the person asked for and confirmed. Raises ``MonitorError``."""
        # Switching off again is never refused for the time that all of it took.
        self._end = max(self._end, time.monotonic() + self.answer)
        self._send(SWITCH, {"name": name, "enable": on})

    def extend(self, seconds: float) -> None:
        """More time for all of it: while a person's own wait goes on."""
        self._end += seconds


class SocketMonitor(Monitor):
    """By a socket of QEMU's own. ``owners``: the inode numbers of the sockets that the VM has open; None: not known.

    ``pid`` None is for a socket that the person named: whoever listens there is meant.
    """

    def __init__(
        self, path: str, pid: int | None, owners: Collection[str] | None = None, *,
        proc: Path = PROC, answer: float = ANSWER_SECONDS, whole: float = WHOLE_SECONDS,
    ) -> None:  # fmt: skip
        super().__init__(answer=answer, whole=whole)
        self.how = f"QMP at {visible(path)}"
        self._count = 0
        self._wire = Wire(path, pid, owners, seconds=self._left(), proc=proc)
        try:
            greeting = self._line("its greeting")
            if not isinstance(greeting, dict) or "QMP" not in greeting:
                raise Nonsense("what listens there is no QMP monitor")
            self.ask("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    def _send(self, command: str, arguments: dict[str, Any]) -> Any:
        self._count += 1
        self._wire.send(message(command, arguments, id=self._count).encode() + b"\n", command, self._left())
        for _ in range(_EVENTS):
            told = self._line(f"its answer to {command}")
            if not isinstance(told, dict):
                raise Nonsense("an answer is no JSON object")
            if told.get("id") == self._count:
                return returned(told)
            if "event" not in told and "id" not in told and "error" in told:
                return returned(told)  # an error that QEMU could give to no command
        raise Nonsense(f"{_EVENTS} events came, and no answer")

    def _line(self, what: str) -> Any:
        return decoded(self._wire.line(what, self._left()))

    def close(self) -> None:
        """QEMU takes the next client then."""
        self._wire.close()


class VirshMonitor(Monitor):
    """Through libvirt (``virsh qemu-monitor-command``), which marks the domain as tainted by it (VIR_DOMAIN_TAINT_CUSTOM_MONITOR)."""

    def __init__(self, virsh: str, name: str, *, answer: float = ANSWER_SECONDS, whole: float = WHOLE_SECONDS) -> None:
        super().__init__(answer=answer, whole=whole)
        self.how = "QMP through libvirt, which marks the domain as tainted by it (custom-monitor)"
        self._virsh, self._words = virsh, ("qemu-monitor-command", "--domain", name)

    def _send(self, command: str, arguments: dict[str, Any]) -> Any:
        return by_virsh(self._virsh, [*self._words, message(command, arguments)], self._left())

    def close(self) -> None:
        """Each command was a connection of its own."""
