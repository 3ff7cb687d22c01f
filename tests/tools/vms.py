"""A QEMU that runs as a plan has it, for tests of who looks at VMs from outside."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.tools.processes import LIMIT, ending, wait_until
from wizard.plan.model import VmPlan
from wizard.rehearsal.standin import stand_ins


class Vm:
    """A QEMU that runs."""

    def __init__(self, process: subprocess.Popen[bytes], plan: VmPlan, directory: Path) -> None:
        self.process, self.plan, self.directory = process, plan, directory
        self.socket = directory / "q"

    def asked(self) -> list[str]:
        """The commands that reached it, by its own trace (handle_qmp_command of monitor/qmp.c)."""
        said = (self.directory / "trace").read_text(errors="replace")
        return re.findall(r'handle_qmp_command.*?"execute": *"([^"]+)"', said)


@contextmanager
def started(qemu: Path, directory: Path, plan: VmPlan, *more: str) -> Iterator[Vm]:
    words = stand_ins(plan).words
    words += ["-qmp", f"unix:{directory}/q,server=on,wait=off", "-trace", "handle_qmp_command", "-D", f"{directory}/trace", *more]
    with (
        (directory / "stderr").open("wb") as errors,
        ending(subprocess.Popen([qemu, *words], stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)) as process,
    ):
        wait_until(lambda: process.poll() is not None or _listens(directory / "q"), "its socket")
        assert process.poll() is None, (directory / "stderr").read_text()
        yield Vm(process, plan, directory)


def _listens(path: Path) -> bool:
    """Whether QEMU takes clients: it does so as soon as the machine is there."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LIMIT)
        try:
            client.connect(str(path))
            return client.recv(1) == b"{"
        except OSError:
            return False
