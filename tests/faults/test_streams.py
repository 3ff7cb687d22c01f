"""Closed, full and interrupted streams, a terminal that goes away, a user without a home."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tools.cache import PROJECT
from tests.tools.processes import LIMIT, ending, in_terminal, is_waiting, wait_until

WIZARD = f'"{sys.executable}" -m wizard --demo'


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, cwd=PROJECT, timeout=LIMIT, env={**os.environ, **environment}
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


@contextmanager
def answering(program: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """The program, that has answered one case and reads for the next; ``program`` runs before it."""
    code = f"{program}\nimport sys; from wizard.cli.main import entry; sys.argv = ['smmu-wizard', 'translate', '-']; sys.exit(entry())"
    words = [sys.executable, "-c", code]
    with ending(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=PROJECT)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"{}\n")
        process.stdin.flush()
        assert process.stdout.readline()
        yield process


@pytest.mark.parametrize("waiting", [False, True], ids=["at once", "while it waits"])
def test_an_interrupt_ends_with_130_and_no_traceback(waiting: bool) -> None:
    with answering() as process:
        if waiting:
            wait_until(lambda: is_waiting(process.pid), "the program to wait for the next case")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=LIMIT)
        assert process.returncode == 130
        assert said.decode() == "smmu-wizard: interrupted.\n"


def test_a_background_job_of_a_script_is_deaf_to_an_interrupt() -> None:
    """A shell starts it with SIGINT ignored, and that is respected: it goes on with its work."""
    with answering("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.send_signal(signal.SIGINT)
        process.stdin.write(b"{}\n")
        process.stdin.flush()
        assert process.stdout.readline()
        _, said = process.communicate(timeout=LIMIT)
        assert (process.returncode, said) == (3, b"")  # to its end, and {} is no case


def test_the_wizard_ends_when_its_terminal_goes_away() -> None:
    with in_terminal([sys.executable, "-m", "wizard", "--demo"], cwd=PROJECT) as wizard:
        wizard.shows(b"\x1b[?1049h")  # it took the alternate screen
        wizard.hang_up()
        assert wizard.end() == -signal.SIGHUP


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
