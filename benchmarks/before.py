"""This build and the one before some work, asked in turn: that commit in a git worktree in a temporary folder, with today's benchmarks.

A benchmark has a function that makes its actions, by name; ``serve`` runs them in a process for each build, and ``sides`` asks these.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
BEFORE = "b81ef38"
"""The commit before walks, dry runs and proofs were made faster."""

Actions = Mapping[str, Callable[[], object]]


def serve(actions: Actions) -> int:
    """Run the actions that standard input names, one a line; answer each with its seconds: of processors, children's too, and by the clock."""
    print("ready", flush=True)
    for line in sys.stdin:
        used, started = _used(), time.perf_counter()
        actions[line.rstrip("\n")]()
        print(_used() - used, time.perf_counter() - started, flush=True)
    return 0


def _used() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


class Side:
    """One build, in a process of its own."""

    def __init__(self, tree: Path, module: str, environment: Mapping[str, str] | None = None) -> None:
        command = [sys.executable, "-m", module, "--serve"]
        more = {**os.environ, **(environment or {})}
        self.process = subprocess.Popen(command, cwd=tree, env=more, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._line()

    def seconds(self, name: str, *, wall: bool = False) -> float:
        """Processor seconds of an action, or with ``wall`` seconds by the clock."""
        if self.process.stdin is None:
            raise RuntimeError("no pipe")
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()
        return float(self._line().split()[wall])

    def _line(self) -> str:
        line = self.process.stdout.readline() if self.process.stdout is not None else ""
        if not line:
            raise RuntimeError(f"the measured process ended with status {self.process.wait()}")
        return line

    def close(self) -> None:
        """End it."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


@contextmanager
def worktree(commit: str = BEFORE) -> Iterator[Path | None]:
    """A commit in a git worktree in a temporary folder; None where git does not have it."""
    with tempfile.TemporaryDirectory() as folder:
        tree, made = Path(folder) / "before", False
        git = ["git", "-c", "safe.directory=*", "-C", str(PROJECT)]
        if commit and shutil.which("git") is not None:
            done = subprocess.run([*git, "worktree", "add", "--detach", "--quiet", str(tree), commit], capture_output=True, check=False)
            made = done.returncode == 0
        try:
            yield tree if made else None
        finally:
            if made:
                subprocess.run([*git, "worktree", "remove", "--force", str(tree)], capture_output=True, check=False)


@contextmanager
def sides(module: str, commit: str = BEFORE) -> Iterator[dict[str, Side]]:
    """``now`` and, where git has the commit, ``before``."""
    with worktree(commit) as tree:
        found: dict[str, Side] = {}
        try:
            found["now"] = Side(PROJECT, module)
            if tree is not None:
                shutil.copytree(PROJECT / "benchmarks", tree / "benchmarks", dirs_exist_ok=True)
                found["before"] = Side(tree, module)
            yield found
        finally:
            for side in found.values():
                side.close()


def fastest(found: Mapping[str, Side], names: Sequence[str], repeat: int, *, wall: bool = False) -> dict[str, dict[str, float]]:
    """The least seconds of each action on each side, all of them in turn ``repeat`` times: of processors, or with ``wall`` by the clock."""
    best: dict[str, dict[str, float]] = {name: {} for name in names}
    for _ in range(repeat):
        for name in names:
            for side, process in found.items():
                best[name][side] = min(best[name].get(side, float("inf")), process.seconds(name, wall=wall))
    return best
