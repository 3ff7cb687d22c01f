"""The commands that keep the repository: benchmarks, fuzzing; and what the task pages name."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

from tests.tools.cache import PROJECT
from tests.tools.processes import LIMIT
from wizard.base.exits import Exit


def test_every_benchmark_is_known_to_the_one_command_and_to_its_page() -> None:
    done = subprocess.run([sys.executable, PROJECT / "scripts/benchmarks", "--list"], capture_output=True, text=True, check=True, timeout=LIMIT)
    listed = {line.split()[0] for line in done.stdout.splitlines()}
    page = (PROJECT / "benchmarks/README.md").read_text(encoding="utf-8")
    assert {"list", "plan", "translate", "tui", "proof"} <= listed
    assert all(f"`{name}`" in page for name in listed)


def test_the_fuzzer_runs_from_its_own_command() -> None:
    words = [sys.executable, "-m", "tests.fuzz.engine", "policy", "50", "--seed", "1", "--dry"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=PROJECT, timeout=LIMIT)
    assert done.returncode == 0, done.stdout
    assert "policy: 50 inputs" in done.stdout


def test_findings_that_a_task_names_exist() -> None:
    """As a command prints one, ``[code]``, or in a sentence, "the finding `code`"; a name that was changed in the program alone leads nowhere."""
    known = set(re.findall(r"^### ([a-z0-9-]+)$", (PROJECT / "docs/findings.md").read_text(encoding="utf-8"), re.MULTILINE))
    text = "".join(page.read_text(encoding="utf-8") for page in sorted((PROJECT / "docs").glob("task-*.md")))
    named = {*re.findall(r"\[([a-z0-9]+(?:-[a-z0-9]+)+)\](?!\()", text), *re.findall(r"\bfindings? `([a-z0-9-]+)`", text)}
    assert len(named) > 5
    assert named <= known


def test_every_exit_status_is_documented() -> None:
    page = (PROJECT / "docs/commands.md").read_text(encoding="utf-8")
    assert {int(number) for number in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == {int(status) for status in Exit}


def test_the_lock_names_every_requirement_of_the_tests_by_its_hash() -> None:
    """pip refuses a lock in which one file has none; a requirement that is not locked would come in without a look."""
    entries = re.split(r"\n(?=\S)", (PROJECT / "requirements-dev.lock").read_text(encoding="utf-8"))
    locked = {found[1].lower() for entry in entries if (found := re.match(r"([A-Za-z0-9._-]+)==\S+", entry))}
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries if "==" in entry)
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = (*project["dependencies"], *project["optional-dependencies"]["test"], *project["optional-dependencies"]["dask"])
    names = {re.split(r"[<>=~!\[; ]", one)[0].lower().replace("_", "-").replace(".", "-") for one in wanted}
    assert names - {name.replace("_", "-").replace(".", "-") for name in locked} == set()
    assert not any("://" in entry for entry in entries)
