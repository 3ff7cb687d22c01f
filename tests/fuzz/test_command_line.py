"""The real command with what strangers send, end to end: documented statuses, two sentences, no traceback, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.mutate import mutate
from tests.fuzz.readers import READERS, shown
from tests.tools.cache import PROJECT
from tests.tools.processes import LIMIT

DOCUMENTED = {0, 1, 2, 3, 4, 5}


def wizard(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run in an empty directory of its own, with its own state, so that what it leaves can be seen."""
    state = directory / "state"
    done = subprocess.run(
        [sys.executable, "-m", "wizard", *words], capture_output=True, check=False, timeout=LIMIT, cwd=directory, stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "XDG_STATE_HOME": str(state), "PYTHONIOENCODING": "utf-8"},
        text=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode in DOCUMENTED, (words, done.stderr)
    assert "Traceback" not in done.stderr, (words, done.stderr)
    assert not state.exists(), f"a crash report: {words}"
    if done.returncode > 1:
        last = done.stderr.strip().splitlines()[-2:]
        assert len(last) == 2, (words, done.stderr)
        assert last[0].startswith("smmu-wizard: "), (words, done.stderr)
    shown(done.stdout, words)
    shown(done.stderr, words)
    return done


@pytest.mark.parametrize("number", range(8))
def test_a_strangers_snapshot_through_every_command(number: int, tmp_path: Path) -> None:
    reader, random = READERS["snapshot"], Random(number)
    seed = reader.seeds()[number % 2]
    (tmp_path / "host.json").write_bytes(seed if number == 0 else mutate(seed, random, "json"))
    for words in (["list"], ["list", "--json"], ["show", "0000:14:00.0"], ["doctor"], ["record"], ["prepare", "0000:14:00.0"]):
        wizard(tmp_path, "--replay", "host.json", *words)
    wizard(tmp_path, "--replay", "host.json", "plan", "--vm", "a=0000:14:00.0", "--assume-accel", "-o", "out")
    if (tmp_path / "out" / "a.toml").exists():
        for words in (
            ["check"],
            ["dry-run"],
            *(["export", "--format", form] for form in ("qemu", "qemu-json", "libvirt", "virt-install", "openvmm", "prepare", "qmp")),
        ):
            wizard(tmp_path, "--replay", "host.json", *words, "out/a.toml")
    assert {path.name for path in tmp_path.iterdir()} <= {"host.json", "out"}


@pytest.mark.parametrize("number", range(8))
def test_a_strangers_profile_through_every_command(number: int, tmp_path: Path) -> None:
    reader, random = READERS["profile"], Random(number)
    (tmp_path / "a.toml").write_bytes(mutate(reader.seeds()[number % 2], random, "text"))
    for words in (["check"], ["check", "--json"], ["dry-run"], *(["export", "--format", form] for form in ("qemu", "libvirt", "prepare"))):
        wizard(tmp_path, "--demo", *words, "a.toml")
    assert [path.name for path in tmp_path.iterdir()] == ["a.toml"]


OTHERS = {
    "umockdev": ["--replay", "FILE", "list"],
    "policy": ["--demo", "list", "--policy", "FILE"],
    "keys": ["--demo", "--script", "FILE"],
    "translate": ["translate", "FILE"],
    "request": ["match", "FILE", str(PROJECT / "fixtures/arm64-virt.json"), "--no-index"],
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_of_strangers(name: str, tmp_path: Path) -> None:
    reader, random = READERS[name], Random(name)
    for _ in range(4):
        path = tmp_path / f"file.{name}"
        path.write_bytes(mutate(random.choice(reader.seeds()), random, reader.kind))
        if name == "keys":
            path.write_bytes(path.read_bytes().replace(b"wait", b"waits"))  # nobody wants to wait ten minutes
        wizard(tmp_path, *(str(path) if word == "FILE" else word for word in OTHERS[name]))
        path.unlink()
    assert {left.suffix for left in tmp_path.iterdir()} <= ({".svg", ".txt"} if name == "keys" else set())
