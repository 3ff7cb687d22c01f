"""A server that a test starts and ends, and what is wrong when it ends."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from wizard.smmu.client import VARIABLE, Client, Failed

LIMIT = 60.0
"""Seconds for the server to begin, and to end."""
ALLOWED = ("events", "gerror", "lost", "stalled")


@dataclass(slots=True)
class Served:
    """A server at ``path``; ``client`` is this side's conversation with it."""

    path: Path
    process: subprocess.Popen[bytes]
    client: Client
    errors: Path
    allowed: set[str] = field(default_factory=set)

    @property
    def environment(self) -> dict[str, str]:
        """What a program has to have in its environment to find the server."""
        return {VARIABLE: str(self.path)}

    def allow(self, *what: str) -> None:
        """What may be left at the end: ``events``, ``gerror``, ``lost``, ``stalled``; ``ValueError`` for anything else."""
        if unknown := set(what) - set(ALLOWED):
            raise ValueError(f"{', '.join(sorted(unknown))}: there is {', '.join(ALLOWED)}")
        self.allowed |= set(what)

    def exercised(self) -> set[str]:
        """The behaviours that were exercised (``--coverage``), by key; none of a server that is gone."""
        try:
            return set(self.client.ask("coverage").split()[2:])
        except OSError:
            return set()

    def end(self) -> list[str]:
        """End the server; what is wrong with its SMMUs or itself, a sentence each."""
        wrong: list[str] = []
        try:
            names = [word.partition("@")[0] for word in self.client.ask("machine").split() if not word.startswith("ram@")]
            for name in names:
                wrong += self._left(name)
        except (OSError, Failed) as error:
            wrong.append(f"The server did not answer at the end of the test: {error}.")
        self.client.close()
        self.process.terminate()
        try:
            status = self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait(LIMIT)
        said = self.errors.read_text(errors="replace").strip()
        # Where it had ended by itself already, as --once has it, the signal may come after it stopped listening for one.
        if status not in (0, -signal.SIGTERM) or said:
            wrong.append(f"The server ended with status {status}: {said or 'it said nothing'}")
        return wrong

    def _left(self, name: str) -> Iterator[str]:
        """What one SMMU has left: global errors, records, stalled accesses."""
        from wizard.arch.event import Event, decode
        from wizard.arch.registers import GERROR

        status = self.client.status(name)
        if status["gerror"] and "gerror" not in self.allowed:
            active = ", ".join(one for one, value in GERROR(status["gerror"]).fields().items() if value)
            yield f"{name}: a global error is active and not acknowledged: {active} (CMDQ_CONS.ERR {status['cmdq-error']})."
        if status["events"] and "events" not in self.allowed:
            _, *records = self.client.ask(f"events {name}").split()
            yield f"{name}: {status['events']} event records were not read:"
            yield from (f"  {decode(Event.of_bytes(bytes.fromhex(record[2:])).value)!r}" for record in records)
        if status["lost"] and "lost" not in self.allowed:
            yield f"{name}: {status['lost']} event records were lost: the queue was full, off or aborted."
        if status["stalled"] and "stalled" not in self.allowed:
            yield f"{name}: {status['stalled']} accesses are still stalled."


@contextmanager
def started(words: Sequence[str] = ()) -> Iterator[Served]:
    """A server with these words of ``smmu-server``, in a directory that goes with it. ``RuntimeError`` where it does not begin."""
    with tempfile.TemporaryDirectory(prefix="smmu-wizard-") as directory:
        path, errors = Path(directory) / "smmu", Path(directory) / "errors"
        package = str(Path(__file__).parents[3])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))}
        # -P: a directory called "wizard" where the tests run is not meant. --once: it ends with this process, however that ends.
        command = [sys.executable, "-P", "-m", "wizard", "smmu-server", "--socket", str(path), "--once", *words]
        with errors.open("wb") as file:
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=file)
        try:
            _wait(process, errors)
            with Client.at(path, LIMIT) as client:
                yield Served(path, process, client, errors)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait(LIMIT)
            if process.stdout is not None:
                process.stdout.close()


def _wait(process: subprocess.Popen[bytes], errors: Path) -> None:
    """Wait for the line that says that it listens."""
    assert process.stdout is not None
    end, said = time.monotonic() + LIMIT, b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while b"\n" not in said and (left := end - time.monotonic()) > 0:
            if selector.select(left):
                content = os.read(process.stdout.fileno(), 4096)
                said += content
                if not content:
                    break
    if not said.startswith(b"listening on "):
        raise RuntimeError(f"smmu-server did not begin: {errors.read_text(errors='replace').strip() or 'it said nothing'}")
