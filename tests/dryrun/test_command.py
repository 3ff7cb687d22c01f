"""``dry-run`` as a program: text, JSON, status, traces, and input that is wrong."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.dryrun.plans import NVME, VF
from tests.tools.processes import LIMIT, ending
from wizard.base.errors import UsageError
from wizard.cli.dryrun import add_workload_options, workload_of
from wizard.dryrun import Workload

PROJECT = Path(__file__).parents[2]


def run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wizard", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env={"PYTHONPATH": str(PROJECT), "PATH": "/usr/bin:/bin"}, check=False, timeout=LIMIT
    )


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("profiles")
    done = run("--demo", "plan", "--vm", f"web={NVME}", "--vm", f"db={VF}", "-o", directory, cwd=directory)
    assert done.returncode == 0, done.stderr
    return directory


def test_text_and_status(profiles: Path) -> None:
    done = run("--demo", "dry-run", "web.toml", "db.toml", cwd=profiles)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("Every scenario that applies passes.\n")
    assert "Isolation of db" in done.stdout


def test_json_is_data_alone(profiles: Path) -> None:
    done = run("--demo", "dry-run", "web.toml", "--json", cwd=profiles)
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert (report["schema"], report["ok"], report["rehearsed"]) == (1, True, True)
    assert report["functions"][0]["stream_ids"] == [0x1400]
    assert {cell["status"] for cell in report["cells"]} == {"passed", "not-applicable"}


def test_progress_is_for_terminals_and_fits_them(profiles: Path) -> None:
    """On a terminal of 40 columns no line may wrap, or \\r would not find its start; elsewhere there is no progress at all."""
    command = [sys.executable, "-m", "wizard", "--demo", "dry-run", "web.toml"]
    environment = {"PYTHONPATH": str(PROJECT), "PATH": "/usr/bin:/bin"}
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 40))
    # What a terminal is sent is read while it runs, since its buffer is small.
    with ending(subprocess.Popen(command, cwd=profiles, env=environment, stdout=subprocess.PIPE, stderr=follower, text=True)) as running:
        os.close(follower)
        sent = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while chunk := os.read(leader, 4096):
                sent += chunk
        assert running.stdout is not None
        shown, _ = running.communicate(timeout=LIMIT)
    os.close(leader)
    lines = [line for line in sent.decode().split("\r") if re.match(r"\d+/\d+ ", line)]
    assert len(lines) > 50
    assert max(map(len, lines)) == 39
    assert running.returncode == 0
    plain = run("--demo", "dry-run", "web.toml", cwd=profiles)
    assert plain.stdout == shown
    assert "\r" not in plain.stderr


def test_a_trace(profiles: Path) -> None:
    done = run("--demo", "dry-run", "web.toml", "--trace", f"{NVME}@0x8000040", cwd=profiles)
    assert done.returncode == 0, done.stderr
    assert "the host's ITS page" in done.stdout
    wrong = run("--demo", "dry-run", "web.toml", "--trace", "there", cwd=profiles)
    assert wrong.returncode == 2
    assert "FUNCTION@IOVA" in wrong.stderr


def test_a_profile_of_another_host_names_the_function(profiles: Path) -> None:
    done = run("--replay", PROJECT / "fixtures/gb10.json", "dry-run", "web.toml", cwd=profiles)
    assert done.returncode == 1
    assert NVME in done.stderr
    assert "Nothing was rehearsed" in done.stderr
    assert "Traceback" not in done.stderr
    report = json.loads(run("--replay", PROJECT / "fixtures/gb10.json", "dry-run", "web.toml", "--json", cwd=profiles).stdout)
    assert (report["ok"], report["rehearsed"], report["cells"]) == (False, False, [])


def test_nothing_to_rehearse_is_not_called_passed(tmp_path: Path) -> None:
    """A host without an SMMUv3: plain VFIO can be planned there, and nothing of it is simulated."""
    recorded = PROJECT / "fixtures/x86-intel.json"
    made = run("--replay", recorded, "plan", "--vm", "web=0000:00:02.0", "--mode", "none", "-o", tmp_path, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    done = run("--replay", recorded, "dry-run", "web.toml", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.endswith("There is nothing to rehearse: no function of these VMs is behind an SMMUv3 of this host.\n")
    assert "passes" not in done.stdout


def test_a_plan_with_errors_shows_its_findings(profiles: Path) -> None:
    done = run("--replay", PROJECT / "fixtures/arm64-virt.json", "dry-run", "web.toml", cwd=profiles)
    assert done.returncode == 1
    assert "accel-refused" in done.stderr
    assert done.stdout == ""


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_workload_options(parser)
    return parser.parse_args(words)


def test_the_workload_is_the_administrators() -> None:
    assert workload_of(options()) == Workload()
    assert workload_of(options("--workload-buffer", "2M", "--workload-shared", "4")) == Workload(buffer=2 << 20, shared=4)


@pytest.mark.parametrize(("name", "text"), [("buffer", "much"), ("shared", "0"), ("touched", "-1"), ("mapped", "0")])
def test_what_is_no_workload(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"--workload-{name}"):
        workload_of(options(f"--workload-{name}={text}"))
