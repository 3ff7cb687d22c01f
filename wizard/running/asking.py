"""Questions to a VM that runs, each an object of JSON with its answer: what QEMU's monitor and the guest's agent have in common."""

from __future__ import annotations

import json
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from wizard.base.text import visible
from wizard.running.wire import ANSWER_SECONDS, MonitorError, Nonsense, Refused, Silent, decoded, last_line

WHOLE_SECONDS = 60.0
"""For all of one VM."""
LONGEST = 16 << 20  # bytes of an answer


class Asking(ABC):
    """Somebody to ask. ``ASKED`` are the commands that may be sent, ``how`` says how it is reached, for people."""

    ASKED: ClassVar[frozenset[str]] = frozenset()
    how = ""

    def __init__(self, *, answer: float = ANSWER_SECONDS, whole: float = WHOLE_SECONDS) -> None:
        self.answer = answer
        self._whole = whole
        self._end = time.monotonic() + whole

    def ask(self, command: str, **arguments: Any) -> Any:
        """What a command of ``ASKED`` returns. Raises ``MonitorError``."""
        if command not in self.ASKED:
            raise ValueError(f"{command} is no question")
        return self._send(command, arguments)

    @abstractmethod
    def _send(self, command: str, arguments: dict[str, Any]) -> Any: ...

    @abstractmethod
    def close(self) -> None:
        """Let the next client in."""

    def _left(self) -> float:
        left = min(self.answer, self._end - time.monotonic())
        if left <= 0:
            raise Silent(f"it took longer than the {self._whole:.0f} seconds that one VM may take")
        return left


def message(command: str, arguments: dict[str, Any], **more: Any) -> str:
    """A command as JSON."""
    return json.dumps({"execute": command, **({"arguments": arguments} if arguments else {}), **more})


def returned(told: Any) -> Any:
    """What an answer gives. ``Refused`` for an error, ``Nonsense`` for what is no answer."""
    if not isinstance(told, dict):
        raise Nonsense("an answer is no JSON object")
    if "return" in told:
        return told["return"]
    error = told.get("error")
    if isinstance(error, dict):
        raise Refused(visible(str(error.get("desc", error))))
    raise Nonsense("an answer says neither what it returns nor an error")


def by_virsh(virsh: str, words: Sequence[str], seconds: float) -> Any:
    """What QEMU or the agent answered to one command of virsh's."""
    try:
        done = subprocess.run(
            [virsh, "--connect", "qemu:///system", *words], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise Silent(f"libvirt gave no answer within {seconds:.0f} seconds") from error
    except OSError as error:
        raise MonitorError(f"virsh can't be run: {error.strerror or error}") from error
    if done.returncode:
        raise MonitorError(f"libvirt says: {visible(last_line(done.stderr))}")
    return returned(decoded(done.stdout[:LONGEST]))
