"""However a command over many files ends, no process of it stays behind, and nothing is half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.hosts import bound, write
from tests.tools.cache import PROJECT
from tests.tools.processes import LIMIT, children_of, ending, opened_by, wait_until
from wizard.fleet import workers
from wizard.fleet.entry import Entry, entries_of_files, entry_of_file
from wizard.fleet.gather import find, gather
from wizard.fleet.index import Index

TOLD = {
    signal.SIGTERM: "smmu-wizard: ended by SIGTERM; nothing is left half-written.",
    signal.SIGHUP: "ended by SIGHUP",
    signal.SIGINT: "interrupted",
}


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie: who is to collect an orphan is not ours to say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_command(number: signal.Signals, tmp_path: Path) -> None:
    """The signal goes to the main process alone, while its workers read."""
    snapshot = write(tmp_path, {"one": bound("h1")})[0]
    directory = tmp_path / "hosts"
    directory.mkdir()
    for place in range(1500):
        (directory / f"{place:04}.json").symlink_to(snapshot)
    out, index = tmp_path / "out", tmp_path / "index.sqlite"
    out.mkdir()
    words = [sys.executable, "-m", "wizard", "baseline", str(directory), "--index", str(index), "-o", str(out / "net.toml")]
    with ending(subprocess.Popen(words, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)) as process:
        wait_until(lambda: any(snapshot in opened_by(worker) for worker in children_of(process.pid)), "workers that read")
        children = children_of(process.pid)
        process.send_signal(number)
        _, err = process.communicate(timeout=LIMIT)  # the pipes close with the last process that has them
        wait_until(lambda: not any(map(runs, children)), "the workers to end")
    assert process.returncode == (130 if number is signal.SIGINT else -number)
    assert TOLD.get(number, "") in err
    assert "Traceback" not in err
    assert list(out.iterdir()) == []
    paths = find([str(directory)])
    Index(index).close()  # it is whole, and what it holds is true
    known = Index(index).known(paths)
    assert all(entry.summary == entry_of_file(snapshot).summary for entry in known.values())


def test_a_worker_that_dies_costs_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What kills it is named, the other files of its batch are read by another."""
    write(tmp_path, {f"h{number:02}": bound(f"h{number:02}") for number in range(workers.ALONE + 4)})
    deadly = tmp_path / "h05.json"
    monkeypatch.setenv("SMMU_WIZARD_TEST_DEADLY", str(deadly))
    monkeypatch.setattr(workers, "_work", deadly_work)
    fleet = gather(find([str(tmp_path)]))
    assert len(fleet.entries) == workers.ALONE + 3
    assert [Path(finding.subject).name for finding in fleet.findings] == ["h05.json"]
    assert "the process that read it ended (SIGKILL)" in fleet.findings[0].what


def test_a_worker_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, {"h": bound("h")})[0]
    monkeypatch.setenv("SMMU_WIZARD_TEST_DEADLY", path)
    monkeypatch.setenv("SMMU_WIZARD_TEST_STUCK", "1")
    monkeypatch.setattr(workers, "_work", deadly_work)
    pool = workers._Pool([path], entries_of_files, lambda name, problem, fix: Entry(name, problem=problem, fix=fix))
    try:
        assert pool._hand_out()
        child = pool.workers[0].process.pid
        pool.workers[0].heard -= 2 * workers.SILENCE  # so long it has said nothing
        pool._hear()
        assert "was still at it after 300 s" in pool.early[0][0].problem
        assert child is not None
        assert not runs(child)
        assert not pool._hand_out()
    finally:
        pool._end()


def deadly_work(pipe: Any, parent: int, work: Callable[[tuple[str, ...]], list[Entry]]) -> None:
    """As the worker of the program, with a file that is too much for it."""

    def deadly(paths: tuple[str, ...]) -> list[Entry]:
        if os.environ["SMMU_WIZARD_TEST_DEADLY"] in paths:
            if os.environ.get("SMMU_WIZARD_TEST_STUCK"):
                signal.pause()
            os.kill(os.getpid(), signal.SIGKILL)
        return work(paths)

    REAL(pipe, parent, deadly)


REAL = workers._work
