"""The collection, built, installed from its tarball and run by ansible-core over local connections: each "host" replays a recorded machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.hosts import bound, write
from tests.tools.cache import PROJECT, skip_loudly
from tests.tools.hosts import facts
from wizard.facts.snapshot import load
from wizard.fleet.gather import find, gather

COLLECTION = PROJECT / "engines" / "ansible"
OLD = '{"an": "earlier run"}'


def program(name: str) -> str:
    """One of ansible's, of this environment, else of PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        skip_loudly(f"no {name}", "pip install ansible-core ansible-lint")
    return found


def run(place: Path, name: str, *words: str, cwd: Path | None = None, ok: tuple[int, ...] = (0,)) -> str:
    """One of ansible's programs with everything of its own below ``place``; what it printed."""
    own = {variable: str(place / variable.lower()) for variable in ("ANSIBLE_HOME", "ANSIBLE_LOCAL_TEMP", "ANSIBLE_REMOTE_TEMP")}
    plain = {
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PIPELINING": "1",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(PROJECT),
        "ANSIBLE_COLLECTIONS_PATH": str(place / "collections"),
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [program(name), *words], capture_output=True, text=True, timeout=300, check=False, cwd=cwd or place,
        env={**os.environ, **own, **plain, "PATH": path, "PWD": "/nowhere"},
    )  # fmt: skip
    assert done.returncode in ok, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with the collection in it, as somebody has it who got the tarball."""
    place = tmp_path_factory.mktemp("ansible")
    run(place, "ansible-galaxy", "collection", "build", str(COLLECTION), "--output-path", str(place))
    [tarball] = place.glob("smmu_wizard-hosts-*.tar.gz")
    run(place, "ansible-galaxy", "collection", "install", "--offline", str(tarball), "-p", str(place / "collections"))
    return place


def inventory(place: Path, hosts: dict[str, dict[str, Any]]) -> str:
    """Hosts that are this machine."""
    everywhere = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "snapshot_become": False}
    path = place / "inventory.json"
    path.write_text(json.dumps({"all": {"hosts": hosts, "vars": everywhere}}))
    return str(path)


def replaying(path: str) -> list[str]:
    return [sys.executable, "-m", "wizard", "--replay", path]


def recap(out: str) -> dict[str, dict[str, int]]:
    """Counts of each host."""
    lines = [line.partition(" : ") for line in out.partition("PLAY RECAP")[2].splitlines()[1:] if " : " in line]
    return {name.strip(): {word.partition("=")[0]: int(word.partition("=")[2]) for word in counts.split()} for name, _, counts in lines}


def test_hosts_of_which_some_fail(installed: Path, tmp_path: Path) -> None:
    """First in check mode, which writes nothing and says what would be; then in earnest, where no old snapshot passes for a new one."""
    one, other = write(tmp_path, {"one": bound("h1"), "other": facts("grace-1s")})
    hosts: dict[str, dict[str, Any]] = {
        "one": {"snapshot_command": replaying(one), "snapshot_local_facts": str(tmp_path / "facts.d")},
        "other": {"snapshot_command": replaying(other)},
        "without": {"snapshot_command": ["/nowhere/smmu-wizard"]},
        "far": {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1, "snapshot_stale": "remove"},
        "odd": {"snapshot_stale": "perhaps"},
    }
    home = tmp_path / "here" / "snapshots"
    home.mkdir(parents=True)
    for name in ("one", "without", "far", "odd"):
        (home / f"{name}.json").write_text(OLD)
    play = tmp_path / "site.yml"
    play.write_text(
        "- import_playbook: smmu_wizard.hosts.record\n"
        "- hosts: one\n  gather_facts: false\n  tasks:\n"
        f"  - ansible.builtin.copy: {{content: '{{{{ snapshot_facts }}}}', dest: {tmp_path}/facts.json, mode: '0600'}}\n"
    )
    given = inventory(tmp_path, hosts)
    words = ("ansible-playbook", "-i", given, "smmu_wizard.hosts.record")

    out = run(installed, *words, "--check", "--limit", "one,without", cwd=tmp_path / "here", ok=(2,))  # ansible's own status: a host failed
    assert len(list(home.iterdir())) == 4
    assert {path.read_text() for path in home.iterdir()} == {OLD}
    assert not (tmp_path / "facts.d").exists()
    assert {name: (counts["failed"], bool(counts["changed"])) for name, counts in recap(out).items()} == {
        "one": (0, True), "without": (1, False),
    }  # fmt: skip

    out = run(installed, "ansible-playbook", "-i", given, str(play), cwd=tmp_path / "here", ok=(2, 4, 6))
    assert {name: counts["failed"] + counts["unreachable"] for name, counts in recap(out).items()} == {
        "one": 0, "other": 0, "without": 1, "far": 1, "odd": 1,
    }  # fmt: skip
    assert "value of snapshot_stale must be one of: mark, remove, keep, got: perhaps" in out
    # One that was not asked (a wrong word is refused before anything happens) keeps what it has; one that can't be reached lost it, as it asks.
    # A relative directory starts where ansible-playbook was started, whatever PWD says and wherever the collection is.
    assert sorted(path.name for path in home.iterdir()) == ["odd.json", "one.json", "other.json", "without.json.stale"]
    assert (home / "without.json.stale").read_text() == OLD
    assert load(str(home / "one.json")) == load(one)
    assert load(str(home / "other.json")).kernel == load(other).kernel
    # What is set as facts is what `list --json` says of the snapshot that came home.
    told = json.loads(
        subprocess.run([*replaying(str(home / "one.json")), "list", "--json"], capture_output=True, check=True, cwd=PROJECT, timeout=60).stdout
    )
    assert json.loads((tmp_path / "facts.json").read_text()) == told
    assert json.loads((tmp_path / "facts.d" / "smmu_wizard.fact").read_text()) == told
    assert not list(Path(os.environ.get("TMPDIR", "/tmp")).glob("smmu-wizard.*/snapshot.json"))  # nothing is left behind
    # And what came home is a fleet.
    (home / "odd.json").unlink()
    assert len(gather(find([str(home)])).entries) == 2


def test_the_collection_passes_ansible_lints_production_profile(tmp_path: Path) -> None:
    home = tmp_path / "collections" / "ansible_collections" / "smmu_wizard" / "hosts"
    shutil.copytree(COLLECTION, home)
    assert "profile: production" in (home / ".ansible-lint").read_text()
    run(tmp_path, "ansible-lint", "--strict", "--nocolor", cwd=home)
