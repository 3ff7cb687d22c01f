"""The emulated arm64 host: boot it with the program in it, and read what came back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.tools.cache import PROJECT, cache, skip_loudly
from tests.tools.processes import LIMIT


@dataclass(frozen=True)
class Boot:
    """What one boot wrote into /out. A step NAME of a job leaves NAME.out, NAME.err and NAME.status there."""

    out: Path

    def text(self, step: str) -> str:
        """Standard output of a step."""
        return (self.out / f"{step}.out").read_text(encoding="utf-8")

    def errors(self, step: str) -> str:
        """Standard error of a step."""
        return (self.out / f"{step}.err").read_text(encoding="utf-8")

    def status(self, step: str) -> int:
        """Exit status of a step."""
        return int((self.out / f"{step}.status").read_text())

    def json(self, step: str) -> Any:
        """Standard output of a step that ended well (or with findings), as JSON."""
        assert self.status(step) in (0, 1), self.errors(step)
        return json.loads(self.text(step))


def _pack(scratch: Path, directory: Path) -> None:
    """The program as ``program.tar``, which the host's first process unpacks: file by file, its way through 9p takes minutes.

    With bytecode by the Python of the host's release, made here: half a minute there. Of another release it is not looked at, and each module
    is compiled when it is needed.
    """
    program = scratch / "program"
    shutil.copytree(PROJECT / "wizard", program / "wizard", ignore=shutil.ignore_patterns("__pycache__"))
    for python in (cache() / "python/bin").glob("python3.*"):
        words: list[str | Path] = [python, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", program]
        subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=LIMIT)
    shutil.make_archive(str(directory / "program"), "tar", program)
    shutil.rmtree(program)


def boot(job: Path, scratch: Path, options: Sequence[str] = (), limit: int = 1800, *, beside: Sequence[Path] = ()) -> Boot:
    """Boot the host, run ``job`` in it with the program in PYTHONPATH, other files ``beside`` it, and return what it wrote to /out.

    Skips loudly when the host is not built. Fails with the host's last words when it does not finish.
    """
    if os.environ.get("SMMU_WIZARD_ARMHOST") == "no" or not (cache() / "armhost/version").exists():
        skip_loudly("no emulated arm64 host", "scripts/armhost build makes one in two minutes (and build-kernel its kernel)")
    directory, out = scratch / "job", scratch / "out"
    out.mkdir()
    directory.mkdir()
    _pack(scratch, directory)
    for file in (job, *beside):
        shutil.copy(file, directory)
    directory.chmod(0o755)
    words: list[str | Path] = [PROJECT / "scripts/armhost", "run", "--out", out, "--timeout", str(limit), *options, directory / job.name]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=limit + LIMIT)
    if done.returncode:
        pytest.fail(f"the emulated host ended with status {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}", pytrace=False)
    return Boot(out)
