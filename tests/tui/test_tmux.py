"""Once for real: the program in tmux, from its start to written profiles, with keys as a person presses them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.hosts import FIXTURES
from tests.tools.processes import LIMIT, wait_until
from tests.tui.conftest import NVME, VF

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed (apt-get install tmux)")


class Terminal:
    """A tmux server of our own with one window of 80x24."""

    def __init__(self, directory: Path) -> None:
        self.socket = str(directory / "tmux")
        self.directory = directory

    def run(self, *words: str) -> str:
        """One tmux command."""
        return subprocess.run(["tmux", "-S", self.socket, *words], capture_output=True, text=True, check=True, timeout=LIMIT).stdout

    def start(self, **environment: str) -> None:
        """A shell in the directory."""
        settings = {**os.environ, "PYTHONPATH": str(FIXTURES.parent), "TERM": "xterm-256color", "LANG": "C.UTF-8", "PS1": "$ ", **environment}
        settings.pop("TMUX", None)
        subprocess.run(
            ["tmux", "-S", self.socket, "-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "sh"],
            check=True, env=settings, cwd=self.directory, timeout=LIMIT,
        )  # fmt: skip

    def keys(self, *keys: str) -> None:
        """Keys by tmux's names, or text."""
        for key in keys:
            self.run("send-keys", key)

    def shows(self, *texts: str, within: float = LIMIT) -> str:
        """Wait until the screen shows every text; the screen."""
        screen = ""

        def shown() -> bool:
            nonlocal screen
            screen = self.run("capture-pane", "-p")
            return all(text in screen for text in texts)

        wait_until(shown, lambda: f"{texts} on the screen:\n{screen}", within)
        return screen

    def give(self, address: str, vm: str, *, others: int) -> None:
        """On the host screen: find a function by its address and give it to a new VM; ``others``: how many VMs there are already."""
        self.keys("/")
        self.keys(address, "Enter")
        self.shows(f"show {address}")
        self.keys("a")
        self.shows("a new VM", "fits")
        self.keys(*["Down"] * others, "Enter")
        self.shows("Name of the new VM")
        self.keys("C-a", "C-k", vm, "Enter")
        self.shows(f"{vm} has 1 function now")
        self.keys("Escape")
        self.shows("0000:10:00.0", "0000:40:00.0")

    def write_all(self) -> None:
        """Export everything that is planned."""
        self.keys("4")
        self.shows("storage.toml", "web.prepare.sh", "new")
        self.keys("w")
        self.shows("is on disk as planned")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(tmp_path)
    made.start()
    yield made
    made.run("kill-server")


def test_from_the_start_to_two_written_profiles(terminal: Terminal, tmp_path: Path) -> None:
    shutil.copy(FIXTURES / "arm64-virt-canwbs.json", tmp_path / "host.json")
    terminal.keys(f"{sys.executable} -m wizard --replay host.json; echo ended $?", "Enter")
    terminal.shows("1 Host", "smmu3.0x000000000c000000", "? Help")
    terminal.give(NVME, "storage", others=0)
    terminal.give(VF, "web", others=1)
    terminal.keys("2")
    terminal.shows("storage", "web", "vSMMUs")
    terminal.keys("3")
    terminal.shows("version = 1", "storage")
    terminal.write_all()
    terminal.keys("q")
    screen = terminal.shows("ended 0")
    assert "Traceback" not in screen
    for vm, address in (("storage", NVME), ("web", VF)):
        profile = tomllib.loads((tmp_path / f"{vm}.toml").read_text())
        assert profile["function"][0]["host"] == address
        assert subprocess.run(["bash", "-n", str(tmp_path / f"{vm}.sh")], check=False, timeout=LIMIT).returncode == 0
        assert subprocess.run(["bash", "-n", str(tmp_path / f"{vm}.prepare.sh")], check=False, timeout=LIMIT).returncode == 0


def test_the_mouse_does_what_the_keys_do(terminal: Terminal) -> None:
    """SGR mouse reports, as xterm sends them: a click on the tab of the doctor, on a row, on a key of the footer."""
    terminal.keys(f"{sys.executable} -m wizard --demo", "Enter")
    terminal.shows("1 Host", "? Help")

    def click(column: int, row: int) -> None:
        for end in ("M", "m"):
            terminal.run("send-keys", "-l", f"\x1b[<0;{column + 1};{row + 1}{end}")

    screen = terminal.shows("6 Doctor").splitlines()
    click(screen[0].index("6 Doctor") + 1, 0)
    terminal.shows("Hardware", "has no SMMU above it")
    click(1, 0)
    screen = terminal.shows("FUNCTION", NVME).splitlines()
    row = next(y for y, text in enumerate(screen) if NVME in text)
    click(screen[row].index(NVME) + 2, row)
    screen = terminal.shows(f"show {NVME}").splitlines()
    click(screen[-1].index("Give to a VM") + 2, len(screen) - 1)
    terminal.shows("a new VM")
    terminal.keys("Escape", "q")
