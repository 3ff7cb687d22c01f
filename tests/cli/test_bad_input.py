"""Every command with input that can't be read, output that can't be written, and an impatient person: two sentences and a documented status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import CANWBS, REFUSED, ROOT, failed, refused, run
from tests.tools.processes import LIMIT, children_of, ending, opened_by, session_of, wait_until, words_of
from wizard.cli.main import main

FUNCTION = "0000:14:00.0"
REQUEST = '[[device]]\nclass = "02"\n'


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a profile, a request, and snapshots that are none."""
    directory = tmp_path_factory.mktemp("input")
    assert run("--replay", CANWBS, "plan", "--vm", f"web={FUNCTION}", "-o", str(directory)).returncode == 0
    (directory / "request.toml").write_text(REQUEST)
    whole = Path(CANWBS).read_text()
    (directory / "truncated.json").write_text(whole[:20000])
    (directory / "foreign.json").write_text('{"name": "package", "version": 1}')
    (directory / "newer.json").write_text(whole.replace('"version": 1,', '"version": 99,', 1))
    (directory / "empty.json").write_text("")
    (directory / "binary.json").write_bytes(b"\x7fELF\xff\xfe\0")
    (directory / "directory.json").mkdir()
    return directory


OF_A_HOST = {
    "explain": ["explain", "error attach 0000:14:00.0 (26) to id=9: Invalid argument"],
    "list": ["list"],
    "list --json": ["list", "--json"],
    "show": ["show", FUNCTION],
    "doctor": ["doctor"],
    "record": ["record"],
    "prepare": ["prepare", FUNCTION],
    "plan": ["plan", "--vm", f"web={FUNCTION}"],
    "check": ["check", "web.toml"],
    "export": ["export", "web.toml", "--format", "qemu"],
    "dry-run": ["dry-run", "web.toml"],
    "rehearse": ["rehearse", "web.toml"],
    "engine": ["engine", "nfd"],
    "topology": ["topology", "web.toml"],
    "report": ["report"],
}
OF_SEVERAL = {
    "diff": ["diff", CANWBS, REFUSED],
    "baseline": ["baseline", CANWBS, "--no-index"],
    "match": ["match", "request.toml", CANWBS, "--no-index"],
    "index": ["index", "rows", CANWBS, "--no-index"],
}
BAD = ["absent", "truncated", "foreign", "newer", "empty", "binary", "directory"]


def in_place(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, list[str]]:
    """A command in this very process: status, standard output, lines on standard error."""
    status = main(words)
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return status, out, err.strip().splitlines()


def test_every_command_is_here() -> None:
    listed = {line.split()[0] for line in run("--help").stdout.partition("commands:")[2].splitlines() if line.startswith("    ") and line[4] != " "}
    covered = {name.split()[0] for name in (*OF_A_HOST, *OF_SEVERAL)}
    # They read no snapshot; verify one for a VM that runs.
    assert listed - covered == {"translate", "schema", "import", "verify", "watch", "tables", "hitless", "smmu-server"}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("command", OF_A_HOST)
def test_a_snapshot_that_can_not_be_read(
    files: Path, command: str, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever --replay stands: status 3, the file by its name, the next step, and no data."""
    monkeypatch.chdir(files)
    path = str(files / f"{kind}.json")
    for words in (["--replay", path, *OF_A_HOST[command]], [*OF_A_HOST[command], "--replay", path]):
        status, out, err = in_place(capsys, *words)
        assert (status, out, len(err)) == (3, "", 2), err
        assert f"{kind}.json" in err[0]


@pytest.mark.parametrize("kind", BAD)
def test_a_snapshot_among_several_that_can_not_be_read(
    files: Path, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """diff needs both; baseline and match answer of the others, and end with 3 only where nothing is left."""
    monkeypatch.chdir(files)
    path = f"{kind}.json"
    for words in (["diff", path, CANWBS], ["diff", CANWBS, path], ["baseline", path, "--no-index"], ["match", "request.toml", path, "--no-index"]):
        status, out, err = in_place(capsys, *words)
        assert (status, out, len(err)) == (3, "", 2), (words, err)
        assert path in err[0]
    for words in (["baseline", path, CANWBS, "--no-index"], ["match", "request.toml", path, CANWBS, "--no-index"]):
        status, out, err = in_place(capsys, *words)
        assert status == 0
        assert out
        assert any("fleet-unreadable" in line and path in line for line in err)


@pytest.mark.parametrize("option", ["--replay", "--root", "--policy"])
def test_an_option_that_names_nothing_never_shows_the_live_host(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``--replay "$SNAPSHOT"`` with a variable that is not set."""
    for words in ([option, "", "list"], ["list", option, ""]):
        status, out, err = in_place(capsys, *words)
        assert (status, out) == (2, "")
        assert err[0] == f"smmu-wizard: {option} names nothing."


@pytest.mark.parametrize(
    "words",
    [
        ["record", "-o", ""],
        ["engine", "nfd", "-o", ""],
        ["plan", "--vm", f"web={FUNCTION}", "-o", ""],
        ["baseline", CANWBS, "--index", ""],
        ["baseline", CANWBS, "--dask", ""],
        ["diff", "-", "-"],
        ["baseline", "-"],
    ],
)
def test_words_that_name_nothing_or_one_thing_twice(words: list[str]) -> None:
    refused(run(*words, stdin="{}"), 2)


def test_the_last_of_an_option_counts(files: Path) -> None:
    shown = json.loads(run("--replay", str(files / "foreign.json"), "list", "--replay", CANWBS, "--json").stdout)
    assert shown["host"]["kernel"] == "7.2.13-armhost"
    assert failed(run("--replay", CANWBS, "list", "--replay", str(files / "foreign.json")), 3)


WRITING = {
    "record": ["record"],
    "prepare": ["prepare", FUNCTION],
    "plan": ["plan", "--vm", f"web={FUNCTION}"],
    "export": ["export", "web.toml", "--format", "qemu"],
    "engine": ["engine", "nfd"],
    "topology": ["topology", "web.toml"],
    "report": ["report"],
    "baseline": OF_SEVERAL["baseline"],
    "match": OF_SEVERAL["match"],
    "index": OF_SEVERAL["index"],
}


@pytest.mark.parametrize("command", WRITING)
def test_output_that_can_not_be_written(files: Path, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that is a file: nobody may write there, root neither."""
    monkeypatch.chdir(files)
    (tmp_path / "file").write_text("somebody's")
    source = ["--replay", CANWBS] if command in OF_A_HOST else []
    words = [word if not word.endswith(".toml") else str(files / word) for word in WRITING[command]]
    lines = failed(run(*source, *words, "-o", str(tmp_path / "file" / "out")), 5)
    assert "file/out" in lines[-2]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "somebody's"


@pytest.mark.parametrize("command", [*OF_A_HOST, *OF_SEVERAL])
def test_a_full_disk_and_a_closed_pipe_on_standard_output(files: Path, command: str) -> None:
    if command == "rehearse":
        return  # starts QEMU: tests/rehearsal
    source = ["--replay", CANWBS] if command in OF_A_HOST else []
    words = [word if not word.endswith(".toml") else str(files / word) for word in (OF_A_HOST | OF_SEVERAL)[command]]
    line = [sys.executable, "-m", "wizard", *source, *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment, timeout=LIMIT)
    assert done.returncode == 5, done.stderr
    assert done.stderr.splitlines()[-2:] == [
        "smmu-wizard: Standard output can't be written: No space left on device.",
        "Make room, or send it elsewhere with -o FILE.",
    ]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(line, stdout=write, stderr=subprocess.PIPE, text=True, check=False, env=environment, timeout=LIMIT)
    os.close(write)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "pipe" not in done.stderr.lower()


def has_workers(pid: int) -> bool:
    return any("spawn_main" in words_of(child) for child in children_of(pid))  # multiprocessing's, not what a wrapper of Python starts


def workers_read(pid: int) -> bool:
    return any(CANWBS in opened_by(worker) for worker in children_of(pid))


@pytest.mark.parametrize("moment", [has_workers, workers_read])
def test_an_interrupt_of_the_whole_process_group(tmp_path: Path, moment: Callable[[int], bool]) -> None:
    """Ctrl-C while workers start, and while they read: one sentence, and nobody is left behind."""
    for number in range(1500):
        (tmp_path / f"{number:04}.json").symlink_to(CANWBS)
    with ending(subprocess.Popen(
        [sys.executable, "-m", "wizard", "baseline", str(tmp_path), "--no-index"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )) as process:  # fmt: skip
        wait_until(lambda: moment(process.pid), "the workers")
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 130, err
        assert err.splitlines()[-1] == "smmu-wizard: interrupted."
        assert "Traceback" not in err
        assert out == ""
        wait_until(lambda: not session_of(process.pid), "the workers to be gone")
