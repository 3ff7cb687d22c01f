"""The guest's own word, asked for: QEMU's guest agent runs the script that reads and changes nothing (``facts/guest.sh``), and gives what it printed.

The agent is the guest's, and nobody believes it more than a guest: every wait and every answer has a bound, and what comes is read as a recording
like any other. Only the commands of ``ASKED`` are sent, and ``guest-exec`` runs ``/bin/sh`` with that script on its standard input and nothing else
(QEMU 11.1, qga/qapi-schema.json).
"""

from __future__ import annotations

import base64
import binascii
import random
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from wizard.base.text import visible
from wizard.existing.qemu.backends import Backends
from wizard.existing.qemu.options import read_options
from wizard.existing.words import Word
from wizard.facts.treetext import is_tree, script
from wizard.running.asking import WHOLE_SECONDS, Asking, by_virsh, message, returned
from wizard.running.process import PROC, look
from wizard.running.verify import Found, World, in_its_directory
from wizard.running.wire import ANSWER_SECONDS, Ended, MonitorError, Nonsense, Refused, Silent, Wire, decoded, last_line

PORT = "org.qemu.guest_agent.0"
"""The name of the virtio-serial port that the agent opens by default (qga/main.c), and libvirt's channel."""
RUNS = ("guest-exec", "guest-exec-status")
_LONGEST = 24 << 20  # bytes of an answer: the agent keeps 16 MiB of what a program prints (GUEST_EXEC_MAX_OUTPUT), in base64
_BEFORE = 1_000  # lines that may come before the answer to a synchronisation: what others were told and did not read
_POLL = 0.2  # seconds
_CAPTURED = 16 << 20


_T = TypeVar("_T")


class Blocked(MonitorError):
    """The agent is there, and may not run programs."""


class NoPort(MonitorError):
    """The VM has no way to an agent."""


class Agent(Asking):
    """An agent to ask."""

    ASKED = frozenset({"guest-sync-delimited", "guest-info", *RUNS})


class SocketAgent(Agent):
    """By the socket of the VM's character device, which takes one client at a time."""

    def __init__(
        self, path: str, pid: int, owners: Collection[str] | None = None, *,
        proc: Path = PROC, answer: float = ANSWER_SECONDS, whole: float = WHOLE_SECONDS,
    ) -> None:  # fmt: skip
        super().__init__(answer=answer, whole=whole)
        self.how = f"the guest's agent at {visible(path)}"
        self._wire = Wire(path, pid, owners, seconds=self._left(), longest=_LONGEST, proc=proc)
        try:
            self._synchronise()
        except BaseException:
            self.close()
            raise

    def _synchronise(self) -> None:
        """Until the answer to this very question, which begins with 0xFF: what is before it was somebody else's, or half an answer.

        The agent's own parser takes 0xFF as the end of whatever was begun, and complains of it in a line that is passed over.
        """
        number = random.getrandbits(53)
        asked = b"\xff" + message("guest-sync-delimited", {"id": number}).encode() + b"\n"
        self._wire.send(asked, "guest-sync-delimited", self._left())
        for _ in range(_BEFORE):
            _, mark, told = self._wire.line("an answer of the guest's agent", self._left()).rpartition(b"\xff")
            if mark and returned(decoded(told)) == number:
                return
        raise Nonsense(f"{_BEFORE} lines came, and no answer")

    def _send(self, command: str, arguments: dict[str, Any]) -> Any:
        self._wire.send(message(command, arguments).encode() + b"\n", command, self._left())
        return returned(decoded(self._wire.line(f"its answer to {command}", self._left())))

    def close(self) -> None:
        """The character device takes the next client then."""
        self._wire.close()


class VirshAgent(Agent):
    """Through libvirt (``virsh qemu-agent-command``), which marks the domain as tainted by it (VIR_DOMAIN_TAINT_CUSTOM_GA_COMMAND)."""

    def __init__(self, virsh: str, name: str, *, answer: float = ANSWER_SECONDS, whole: float = WHOLE_SECONDS) -> None:
        super().__init__(answer=answer, whole=whole)
        self.how = "the guest's agent through libvirt, which marks the domain as tainted by it (custom-ga-command)"
        self._virsh, self._words = virsh, ("qemu-agent-command", "--timeout", str(max(1, round(answer))), "--domain", name)

    def _send(self, command: str, arguments: dict[str, Any]) -> Any:
        return by_virsh(self._virsh, [*self._words, message(command, arguments)], self._left() + 1)

    def close(self) -> None:
        """Each command was a connection of its own."""


def socket_of(words: Sequence[str]) -> str | None:
    """The socket of the agent's port, out of a command line; None where it has none that has a path."""
    options, _ = read_options([Word(text=text, source="a command line", number=number) for number, text in enumerate(words)])
    chardevs = Backends(options).chardevs
    for option in options:
        if option.name == "device" and option.get("driver") == "virtserialport" and option.get("name") == PORT:
            chardev = chardevs.get(option.get("chardev") or "")
            if chardev is not None and chardev.get("backend") == "socket":
                return chardev.get("path")
    return None


def open_agent(found: Found, world: World, socket: str | None = None) -> Agent:
    """The agent of a VM: at the socket that was named, through libvirt, or at its own. Raises ``MonitorError``."""
    guest = found.process.guest
    if socket is None and found.process.libvirt and world.libvirts and guest.name:
        return VirshAgent(world.libvirts, guest.name, answer=world.answer)
    process = look(guest.running or 0, found.process.started, proc=world.proc, sys=world.sys)
    if process is None:
        raise Ended("the VM has ended")
    if process.stopped:
        raise Silent("its process is stopped")
    own = socket_of(found.process.words[1:]) if socket is None else None
    path = socket or (in_its_directory(own, process.pid, world) if own is not None else None)
    if path is None:
        raise NoPort(f"the VM has no port {PORT} with a socket")
    return SocketAgent(path, process.pid, process.sockets, proc=world.proc, answer=world.answer)


def printed(agent: Agent) -> bytes:
    """What the script prints in the guest. Raises ``MonitorError``; ``Blocked`` where the agent may not run it."""
    may = _may(agent.ask("guest-info"))
    missing = [name for name in RUNS if not may.get(name)]
    if missing:
        raise Blocked(f"it may not run programs ({' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} blocked)")
    given = {"path": "/bin/sh", "input-data": base64.b64encode(script().encode()).decode(), "capture-output": True}
    try:
        number = _member(agent.ask("guest-exec", **given), "pid", int)
        while not _member(told := agent.ask("guest-exec-status", pid=number), "exited", bool):
            time.sleep(_POLL)
    except Refused as error:
        raise Refused(f"it did not run the script: {error}") from error
    data = _bytes(told, "out-data")
    if not is_tree(data):
        because = visible(last_line(_bytes(told, "err-data")))
        raise MonitorError(f"the script printed nothing that it prints; it ended with {told.get('exitcode', 'a signal')}, and said {because[:200]}")
    return data


def next_step(error: MonitorError) -> str:
    """What to do where the agent gave nothing: a sentence."""
    by_hand = "or run what `smmu-wizard verify --guest-script` prints there yourself, and give what it printed to --guest"
    if isinstance(error, Blocked):
        where = "block-rpcs and allow-rpcs of /etc/qemu/qemu-ga.conf; on RHEL FILTER_RPC_ARGS of /etc/sysconfig/qemu-ga"
        return f"Allow {' and '.join(RUNS)} in the guest ({where}) and start its agent again; {by_hand}."
    if isinstance(error, NoPort):
        return f"Give the VM a channel {PORT} at its next start, or name the socket (--guest agent:SOCKET); {by_hand}."
    if "another client" in str(error):
        return f"End the other client of the agent's socket; {by_hand}."
    return f"Look in the guest whether its agent runs (systemctl status qemu-guest-agent); {by_hand}."


def _may(info: Any) -> dict[str, bool]:
    """Command -> whether the agent would run it."""
    commands = _member(info, "supported_commands", list)
    return {str(one.get("name")): one.get("enabled") is True for one in commands if isinstance(one, dict)}


def _member(told: Any, name: str, kind: type[_T]) -> _T:
    value = told.get(name) if isinstance(told, Mapping) else None
    if not isinstance(value, kind):
        raise Nonsense("an answer has another shape than the agent's")
    return value


def _bytes(told: Any, name: str) -> bytes:
    text = told.get(name, "") if isinstance(told, Mapping) else ""
    try:
        return base64.b64decode(text, validate=True)[:_CAPTURED]
    except (binascii.Error, TypeError, ValueError) as error:
        raise Nonsense("what the script printed is no base64") from error
