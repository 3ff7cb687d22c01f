"""Closed, full and interrupted streams, a terminal that goes away, a user without a home."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tools.cache import PROJECT

WIZARD = f'"{sys.executable}" -m wizard --demo'


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, cwd=PROJECT, timeout=120, env={**os.environ, **environment}
    )


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("list >/dev/full", 5),
        ("list --json >/dev/full", 5),
        ("show 0000:14:00.0 >/dev/full", 5),
        ("schema snapshot >/dev/full", 5),
        ("list >&-", 5),
        ("list 2>&-", 0),
        ("list <&-", 0),
        ("<&-", 2),
        ("show nothing 2>/dev/full", 2),
        ("show nothing 2>&-", 2),
        ("list >&- 2>&- <&-", 5),
        ("prepare 0000:14:00.0 >/dev/full", 5),
    ],
)
def test_streams_that_fail_have_their_status(command: str, status: int) -> None:
    done = shell(f"{WIZARD} {command}")
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "internal error" not in done.stderr


@pytest.mark.parametrize("words", ["list --json", "list", "schema snapshot", "record", "doctor"])
def test_a_closed_pipe_is_fine(words: str) -> None:
    done = shell(f"{WIZARD} {words} | head -n 1; echo ${{PIPESTATUS[0]}}")
    assert done.stdout.splitlines()[-1] in ("0", "1")  # doctor may have findings
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


def test_a_file_is_never_taken_for_standard_output() -> None:
    """With 1 closed, the next file opened would get its number, and what is printed."""
    before = (PROJECT / "fixtures/arm64-virt.json").read_bytes()
    shell(f'"{sys.executable}" -m wizard --replay fixtures/arm64-virt.json list >&- 2>&- <&-')
    assert (PROJECT / "fixtures/arm64-virt.json").read_bytes() == before


@pytest.mark.parametrize("after", [0.0, 0.05, 0.15, 0.3, 0.6])
def test_an_interrupt_ends_with_130_and_no_traceback(after: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "wizard", "translate", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=PROJECT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"{}\n")
    process.stdin.flush()
    process.stdout.readline()  # it runs, and waits for the next case
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.decode() == "smmu-wizard: interrupted.\n"


def test_the_wizard_ends_when_its_terminal_goes_away() -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(PROJECT)
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, [sys.executable, "-m", "wizard", "--demo"])
    seen, end = b"", time.monotonic() + 60
    while b"\x1b[?1049h" not in seen and time.monotonic() < end:  # it took the alternate screen
        seen += os.read(terminal, 65536)
    os.close(terminal)  # a hang-up
    while time.monotonic() < end:
        ended, _ = os.waitpid(child, os.WNOHANG)
        if ended:
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("it still ran a minute after its terminal was gone")


def test_no_home_and_no_place_to_write(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.write_text("a file where a directory should be")
    places = {name: str(locked / "inside") for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")}
    assert shell(f"{WIZARD} list", **places).returncode == 0
    assert shell(f"env -u HOME -u XDG_CONFIG_HOME -u XDG_STATE_HOME {WIZARD} list").returncode == 0
    if os.geteuid() == 0:  # a user that no passwd knows
        done = shell(f"cd / && env -u HOME -u XDG_STATE_HOME PYTHONPATH='{PROJECT}' setpriv --reuid 54321 --clear-groups {WIZARD} list")
        assert "Traceback" not in done.stderr
        assert done.returncode == 0 or "Permission denied" in done.stderr


@pytest.mark.parametrize("locale", ["C", "POSIX", "de_DE.ISO-8859-1"])
def test_a_terminal_without_unicode_shows_all_the_rest(locale: str) -> None:
    done = shell(f"{WIZARD} list", LC_ALL=locale, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    assert "0000:14:00.0" in done.stdout
