"""Killed at random moments, everything that writes: what is there is whole, and the next run leaves nothing behind.

``SMMU_WIZARD_KILLS`` says how often, in batches of four (default: 4; 200 before a release).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from tests.tools.cache import PROJECT

BATCH = 4
BATCHES = -(-int(os.environ.get("SMMU_WIZARD_KILLS", BATCH)) // BATCH)
WRITER = """
import contextlib, io, os, sys
from pathlib import Path
from wizard.cli.main import main
from wizard.plan.request import VmRequest
from wizard.tui.config import keep_session
from wizard.tui.state import Session

def all_of_it(here):
    def run(*words):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
            status = main([str(word) for word in words])
        assert status == 0, said.getvalue()
    run("--demo", "record", "--force", "-o", here / "hosts/host.json")
    run("--demo", "plan", "--vm", "web=0000:14:00.0", "--vm", "db=0000:41:00.0", "--force", "-o", here / "profiles")
    for kind in ("prepare", "qemu", "libvirt"):
        run("--demo", "export", here / "profiles/web.toml", "--format", kind, "--force", "-o", here / f"exports/{kind}")
    (here / "hosts/host.json").touch()  # so that its row is written anew
    run("baseline", here / "hosts", "--index", here / "index/fleet.sqlite")
    keep_session(here / "state/session.json", Session((VmRequest(name="web"),), None, ()), host="h", now="2026-01-01T00:00:00Z")

here = Path(sys.argv[1])
if sys.argv[2] == "once":
    all_of_it(here)
else:
    print("ready", flush=True)
    while True:
        all_of_it(here)
"""
FILES = {
    *("hosts/host.json", "profiles/web.toml", "profiles/db.toml", "exports/prepare", "exports/qemu", "exports/libvirt", "index/fleet.sqlite"),
    "state/session.json",
}


def writer(here: Path, how: str) -> list[str]:
    return [sys.executable, "-c", WRITER, str(here), how]


def there(here: Path) -> set[str]:
    return {str(path.relative_to(here)) for path in here.rglob("*") if not path.is_dir()}


def content(here: Path, name: str) -> bytes:
    """A file's bytes, but for what is another in each run: the time of a record, the process of a session."""
    data = (here / name).read_bytes()
    if name.endswith(".json"):
        tree = msgspec.json.decode(data)
        tree.pop("moment", None)
        tree.pop("pid", None)
        return msgspec.json.encode(tree)
    return data


def until_one_is_written(here: Path) -> None:
    """Until a temporary file is there, or a journal: most of a run is reading and thinking."""
    for _ in range(200_000):
        if there(here) - FILES:
            return


@pytest.mark.parametrize("batch", range(BATCHES))
def test_killed_at_any_moment_nothing_is_damaged_and_nothing_is_left(batch: int, tmp_path: Path) -> None:
    for name in ("hosts", "profiles", "exports", "index"):
        (tmp_path / name).mkdir(mode=0o700)
    started = time.monotonic()
    subprocess.run(writer(tmp_path, "once"), check=True, cwd=PROJECT)
    a_round = time.monotonic() - started
    assert there(tmp_path) == FILES
    whole = {name: content(tmp_path, name) for name in FILES if not name.startswith("index/")}
    moments = random.Random(batch)
    left = 0
    for number in range(BATCH):
        with subprocess.Popen(writer(tmp_path, "for ever"), stdout=subprocess.PIPE, text=True, cwd=PROJECT) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            if number % 2:
                until_one_is_written(tmp_path)
            else:
                time.sleep(moments.random() * a_round)
            process.send_signal(signal.SIGKILL)
        left += len(there(tmp_path) - FILES)
        for name, data in whole.items():
            assert content(tmp_path, name) == data, f"kill {number}: {name}"
        subprocess.run(writer(tmp_path, "once"), check=True, cwd=PROJECT)
        assert there(tmp_path) == FILES, f"kill {number}"
    print(f"{BATCH} kills left {left} temporary files, and the next runs none")
