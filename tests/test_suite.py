"""The suite itself: however it is started, on however slow a machine, it ends, and says what it did not do."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools import bound
from tests.tools.bound import bounded
from tests.tools.cache import PROJECT
from tests.tools.processes import LIMIT, ending, in_terminal, is_waiting, wait_until

# What runs in the emulated host, and what holds a process for as long as its users do.
_ELSEWHERE = ("jobs", "armhost")
_HOLDERS = {"tests/smmu/qemu/machine.py"}


def calls() -> Iterator[tuple[str, ast.Call, ast.AST | None]]:
    """Every call of the tests: where, what, and what it stands in."""
    for path in sorted((PROJECT / "tests").rglob("*.py")):
        if set(path.parts) & set(_ELSEWHERE) or path.name == "processes.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        name = str(path.relative_to(PROJECT))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield f"{name}:{node.lineno}", node, parents.get(node)


def test_what_several_rooms_tests_share_is_in_tools() -> None:
    """Recorded hosts, requests and the like have one place: a room's tests take nothing out of another room's tests."""
    found = []
    for path in sorted((PROJECT / "tests").rglob("*.py")):
        room = path.relative_to(PROJECT / "tests").parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom):
                continue
            words = (node.module or "").split(".")
            if words[:1] == ["tests"] and len(words) > 2 and words[-1].startswith("test_") and words[1] != room:
                found.append(f"{path.relative_to(PROJECT)}:{node.lineno}: {node.module}")
    assert not found, "\n".join(found)


def test_no_test_sleeps() -> None:
    found = [where for where, call, _ in calls() if ast.unparse(call.func) in ("time.sleep", "asyncio.sleep", "sleep", "threading.Event().wait")]
    assert found == []


def test_every_program_that_is_started_is_waited_for_with_a_bound() -> None:
    unbounded = []
    for where, call, parent in calls():
        name = ast.unparse(call.func)
        named = {word.arg for word in call.keywords}
        around = ast.unparse(parent.func) if isinstance(parent, ast.Call) else ""
        if (
            (name in ("subprocess.run", "subprocess.check_output", "subprocess.check_call", "subprocess.call") and "timeout" not in named)
            or (name.endswith(".communicate") and "timeout" not in named)
            or (name.endswith((".wait", ".join")) and not call.args and not call.keywords and around != "asyncio.wait_for")
            or (name == "subprocess.Popen" and around != "ending" and where.partition(":")[0] not in _HOLDERS)
            or name in ("pty.fork", "os.waitpid", "os.wait")
        ):
            unbounded.append(f"{where}: {name}")
    assert unbounded == []


DEAF = """
import signal, subprocess, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_IGN)
from tests.tools.processes import start_children_attentive
if sys.argv[1] == "mend":
    start_children_attentive()
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT):
    signal.raise_signal(number)  # the tests themselves stay deaf
words = [sys.executable, "-c", "import sys; print('ready', flush=True); sys.stdin.read()"]
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT):
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        child.stdout.readline()
        child.send_signal(number)
        child.communicate()
    print(number.name, child.returncode)
"""


def deaf(word: str) -> dict[str, int]:
    """By signal, how a child ended of a process that was started with it ignored or blocked."""
    words = [sys.executable, "-c", DEAF, word]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True, timeout=LIMIT)
    return {line.split()[0]: int(line.split()[1]) for line in done.stdout.splitlines()}


def test_children_hear_though_the_tests_were_started_deaf() -> None:
    """In the background of a script (SIGINT, SIGQUIT), under nohup (SIGHUP), by a process that blocked some."""
    assert deaf("leave") == {"SIGINT": 0, "SIGHUP": 0, "SIGTERM": 0, "SIGQUIT": 0}
    heard = deaf("mend")
    assert heard.pop("SIGINT") in (-signal.SIGINT, 1)  # a KeyboardInterrupt
    assert heard == {"SIGHUP": -signal.SIGHUP, "SIGTERM": -signal.SIGTERM, "SIGQUIT": -signal.SIGQUIT}


def test_what_waits_for_ever_is_ended_by_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stacks = (tmp_path / "stacks").open("wb", buffering=0)
    monkeypatch.setattr(bound, "_stderr", [stacks.fileno()])
    for wait in (threading.Event().wait, lambda: os.read(os.pipe()[0], 1)):
        with pytest.raises(pytest.fail.Exception, match="the wait did not end within 0 s"), bounded(0.2, "the wait"):
            wait()
    stacks.close()
    assert (tmp_path / "stacks").read_text().count("most recent call first") >= 2
    with pytest.raises(AssertionError, match="waited 0 s for nothing at all"):
        wait_until(lambda: False, "nothing at all", limit=0.1)


HANGING = """
import threading
from collections.abc import Iterator
import pytest
import tests.tools.bound
tests.tools.bound.SECONDS = 0.5
@pytest.fixture
def endless() -> Iterator[None]:
    threading.Event().wait()
    yield
def test_in_a_fixture(endless) -> None: ...
def test_in_itself() -> None:
    threading.Event().wait()
def test_after_it() -> None: ...
"""


def test_a_hanging_test_is_named_and_the_next_one_runs(tmp_path: Path) -> None:
    (tmp_path / "test_hanging.py").write_text(HANGING)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.conftest", f"--rootdir={tmp_path}", str(tmp_path)]
    done = subprocess.run(
        words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(PROJECT)}, capture_output=True, text=True, check=False, timeout=LIMIT
    )
    assert "1 failed, 1 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "test_in_itself did not end within" in done.stdout
    assert "test_in_a_fixture needs did not end within" in done.stdout


def test_what_was_started_is_over_at_the_end() -> None:
    words = [sys.executable, "-c", "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: signal.pause()"]
    with ending(subprocess.Popen(words)) as process:
        wait_until(lambda: is_waiting(process.pid), "the program to wait")
    assert process.returncode == -signal.SIGKILL
    with in_terminal(words) as running:
        wait_until(lambda: is_waiting(running.pid), "the program to wait")
    assert running.ended() == -signal.SIGHUP  # its terminal is taken away first


def test_the_files_that_begin_first_are_there() -> None:
    from tests.conftest import LONG

    assert [name for name in LONG if not (PROJECT / "tests" / name).exists()] == []
