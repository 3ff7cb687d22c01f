"""Killed at random moments, everything that writes: what is there is whole, and the next run leaves nothing behind.

A moment is a call that can change a file: of os, of a file object, of SQLite. Most of the time none is made, so a clock would seldom hit one.

``SMMU_WIZARD_KILLS`` says how often, in batches of four (default: 4; 200 before a release).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.tools.cache import PROJECT
from tests.tools.processes import LIMIT

BATCH = 4
BATCHES = -(-int(os.environ.get("SMMU_WIZARD_KILLS", BATCH)) // BATCH)
WRITER = """
import contextlib, io, os, signal, sys
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

CHANGES = {
    *("open", "write", "flush", "close", "fsync", "fchmod", "fchown", "rename", "replace", "link", "unlink", "mkdir", "truncate", "utime"),
    *("execute", "executemany", "__exit__"),
}
here, last = Path(sys.argv[1]), int(sys.argv[2])
calls = 0

def touches(function):
    owner = getattr(function, "__self__", None)
    module = getattr(function, "__module__", None) or type(owner).__module__
    return module in ("posix", "_io", "sqlite3") and function.__name__ in CHANGES

def watch(frame, event, function):
    global calls
    if event == "c_call" and touches(function):
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)

sys.setprofile(watch)
all_of_it(here)
sys.setprofile(None)
print(calls)
"""
FILES = {
    *("hosts/host.json", "profiles/web.toml", "profiles/db.toml", "exports/prepare", "exports/qemu", "exports/libvirt", "index/fleet.sqlite"),
    "state/session.json",
}


def write(here: Path, last: int = 0) -> subprocess.CompletedProcess[str]:
    """Everything is written once, or up to a moment; the number of moments."""
    words = [sys.executable, "-c", WRITER, str(here), str(last)]
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False, cwd=PROJECT, timeout=LIMIT)


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


@pytest.mark.parametrize("batch", range(BATCHES))
def test_killed_at_any_moment_nothing_is_damaged_and_nothing_is_left(batch: int, tmp_path: Path) -> None:
    for name in ("hosts", "profiles", "exports", "index"):
        (tmp_path / name).mkdir(mode=0o700)
    first = write(tmp_path)
    assert first.returncode == 0
    assert there(tmp_path) == FILES
    count = int(write(tmp_path).stdout)  # over what is there already, as those below: the first has a call or two more
    assert count > 100
    whole = {name: content(tmp_path, name) for name in FILES if not name.startswith("index/")}
    moments = random.Random(batch)
    left = 0
    for _ in range(BATCH):
        moment = moments.randrange(1, count)
        assert write(tmp_path, moment).returncode == -signal.SIGKILL
        left += len(there(tmp_path) - FILES)
        for name, data in whole.items():
            assert content(tmp_path, name) == data, f"killed before call {moment}: {name}"
        assert write(tmp_path).returncode == 0
        assert there(tmp_path) == FILES, f"killed before call {moment}"
    print(f"{BATCH} kills among {count} calls left {left} temporary files, and the next runs none")
