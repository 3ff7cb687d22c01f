"""The playbook, run by ansible-core over local connections: each "host" replays a recorded machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fleet.hosts import bound, write
from tests.tools.cache import PROJECT, skip_loudly
from tests.tools.hosts import FIXTURES, facts
from wizard.facts.snapshot import load
from wizard.fleet.gather import find, gather

PLAYBOOK = PROJECT / "engines" / "ansible" / "record.yml"


@pytest.fixture(scope="module")
def ansible() -> str:
    """ansible-playbook of this environment, else of PATH."""
    beside = Path(sys.executable).parent / "ansible-playbook"
    found = str(beside) if beside.exists() else shutil.which("ansible-playbook")
    if found is None:
        skip_loudly("no ansible-playbook", "pip install ansible-core")
    return found


def play(ansible: str, directory: Path, hosts: dict[str, list[str]], *words: str) -> subprocess.CompletedProcess[str]:
    inventory = {
        "all": {
            "hosts": {name: {"smmu_wizard": command} for name, command in hosts.items()},
            "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "as_root": False},
        }
    }
    path = directory / "inventory.json"
    path.write_text(json.dumps(inventory))
    own = {name: str(directory / name.lower()) for name in ("ANSIBLE_HOME", "ANSIBLE_LOCAL_TEMP", "ANSIBLE_REMOTE_TEMP")}
    return subprocess.run(
        [ansible, "-i", str(path), str(PLAYBOOK), "-e", f"snapshots={directory / 'snapshots'}", *words],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=directory,
        env={**os.environ, **own, "PYTHONPATH": str(PROJECT), "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"},
    )


def replaying(path: str) -> list[str]:
    return [sys.executable, "-m", "wizard", "--replay", path]


def test_every_host_of_an_inventory_is_recorded_and_one_that_fails_stops_nobody(ansible: str, tmp_path: Path) -> None:
    one, other = write(tmp_path, {"one": bound("h1"), "other": facts("grace-1s")})
    done = play(ansible, tmp_path, {"one": replaying(one), "other": replaying(other), "without": ["/nowhere/smmu-wizard"]})
    assert done.returncode == 2, done.stdout + done.stderr  # ansible's own: a host failed
    snapshots = tmp_path / "snapshots"
    assert sorted(path.name for path in snapshots.iterdir()) == ["one.json", "other.json"], done.stdout
    assert load(str(snapshots / "one.json")) == load(one)
    assert load(str(snapshots / "other.json")).kernel == load(other).kernel
    assert "without" in done.stdout.partition("PLAY RECAP")[2]
    assert not list(Path(os.environ.get("TMPDIR", "/tmp")).glob("smmu-wizard.*/snapshot.json"))  # nothing is left behind
    # And what came home is a fleet.
    assert len(gather(find([str(snapshots)])).entries) == 2


def test_the_playbook_is_sound(ansible: str, tmp_path: Path) -> None:
    done = play(ansible, tmp_path, {"one": replaying(str(FIXTURES / "grace-1s.json"))}, "--syntax-check")
    assert done.returncode == 0, done.stdout + done.stderr
