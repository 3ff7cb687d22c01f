"""The README's first command in a fresh clone, as a new user types it: from nothing installed to two VMs that QEMU accepts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.cache import PROJECT, skip_loudly
from tests.tools.processes import LIMIT
from tests.tui.conftest import NVME, VF
from tests.tui.test_tmux import Terminal

INSTALL_SECONDS = 300
NOTHING = {"PYTHONPATH": "", "SMMU_WIZARD_VENV": ""}
"""Nothing of the environment that the tests run in."""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of what is committed, with nothing installed."""
    for program in ("git", "tmux"):
        if shutil.which(program) is None:
            skip_loudly("the README's command was not typed in a fresh clone", f"install {program}")
    if not (PROJECT / ".git").exists():
        skip_loudly("the README's command was not typed in a fresh clone", "run the tests in a git checkout")
    subprocess.run(["git", "-c", "safe.directory=*", "clone", "--quiet", str(PROJECT), str(tmp_path / "clone")], check=True, timeout=LIMIT)
    return tmp_path / "clone"


@pytest.fixture
def terminal(clone: Path) -> Iterator[Terminal]:
    """A shell of 80x24 in the clone."""
    made = Terminal(clone)
    made.start(**NOTHING)
    yield made
    made.run("kill-server")


def first_command() -> str:
    """The first command line that the README shows."""
    found = re.search(r"^    (\S.*)$", (PROJECT / "README.md").read_text(encoding="utf-8"), re.M)
    assert found is not None
    return found[1]


@pytest.mark.qemu
def test_two_vms_by_keyboard_are_taken_by_qemu(terminal: Terminal, clone: Path, qemu: Path) -> None:
    terminal.keys(f"{first_command()}; echo ended $?", "Enter")
    try:
        terminal.shows("1 Host", "? Help", within=INSTALL_SECONDS)
    except AssertionError as error:
        if "pip could not install" in str(error):
            skip_loudly("the README's command was not typed in a fresh clone", "let pip reach a package index")
        raise
    terminal.give(NVME, "storage", others=0)
    terminal.give(VF, "web", others=1)
    terminal.write_all()
    terminal.keys("q")
    assert "Traceback" not in terminal.shows("ended 0")
    for vm, address in (("storage", NVME), ("web", VF)):
        assert f"host={address}" in (clone / f"{vm}.sh").read_text()
        words = ["scripts/demo", "rehearse", f"{vm}.toml", "--qemu", str(qemu)]
        done = subprocess.run(words, cwd=clone, capture_output=True, text=True, check=False, env={**os.environ, **NOTHING}, timeout=LIMIT)
        assert done.returncode == 0, done.stdout + done.stderr
