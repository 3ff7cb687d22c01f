"""The same per-host step on the workers of a Dask cluster: the answers are those of one process."""

from __future__ import annotations

import importlib
import importlib.util
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.hosts import bound, fixture_names, renamed, write
from tests.tools.cache import skip_loudly
from tests.tools.hosts import facts
from tests.tools.processes import LIMIT
from wizard.base.errors import ProgramError, UsageError
from wizard.fleet import cluster as room
from wizard.fleet.baseline import Part, conclude, merge, part_of, part_of_fleet
from wizard.fleet.cluster import reader
from wizard.fleet.devicekind import DeviceKind
from wizard.fleet.entry import Entry, entry_of_file
from wizard.fleet.gather import find, gather
from wizard.fleet.match import answers_of
from wizard.fleet.request import read_request


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """A local cluster of two worker processes."""
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError:
        skip_loudly("no Dask", "pip install 'smmu-wizard[dask]'")
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", protocol="tcp")
    with cluster:
        yield cluster.scheduler_address


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Every fixture, more hosts than a batch holds, and files that are none."""
    write(tmp_path, {name: renamed(facts(name), name) for name in fixture_names()})
    write(tmp_path, {f"host-{n:02}": bound(f"h{n}", ats=n % 3 > 0, ssidsize=n % 21) for n in range(40)})
    (tmp_path / "broken.json").write_text('{"format": "smmu-wizard-snapshot", "version": 1')
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    return find([str(tmp_path)])


def test_a_cluster_says_what_one_process_says(scheduler: str, paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "BATCH_FILES", 5)  # several batches for each worker
    alone = gather(paths, read=lambda missing: ([entry_of_file(path)] for path in missing))
    together = gather(paths, read=reader(scheduler), index=tmp_path / "index.sqlite")
    assert together == alone
    assert alone.skipped == {"not arm64": 1, "unreadable": 2}
    kind = DeviceKind(class_="02")
    answers = []
    for fleet in (alone, together):
        part = part_of_fleet(fleet, kind)
        assert part == reduce(merge, (part_of(name, summary, kind) for name, summary in fleet.summaries()), Part())
        request, _ = read_request('[properties]\nats = "on"\n[[device]]\nids = "1b36:0010"\n', "r.toml")
        assert request is not None
        answers.append((conclude(part, kind), answers_of(fleet, request)))
    assert answers[0] == answers[1]
    # What the workers said is in the index, and answers without them; a file without size and time is asked for again.
    asked: list[str] = []

    def again(missing: Sequence[str]) -> Iterator[list[Entry]]:
        asked.extend(Path(path).name for path in missing)
        yield [entry_of_file(path) for path in missing]

    assert gather(paths, read=again, index=tmp_path / "index.sqlite") == alone
    assert asked == ["loop.json"]


def test_no_scheduler_there(monkeypatch: pytest.MonkeyPatch, paths: list[str]) -> None:
    """A closed port, a server that says nothing (Dask alone would wait for ever), one that speaks something else, and no address at all."""
    if importlib.util.find_spec("distributed") is None:
        skip_loudly("no Dask", "pip install 'smmu-wizard[dask]'")
    monkeypatch.setattr(room, "CONNECT", 1)
    with pytest.raises(ProgramError, match=r"no Dask scheduler at tcp:.*refused"):
        gather(paths, read=reader("tcp://127.0.0.1:1"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ProgramError, match="nothing answers within 1 s"):
            gather(paths, read=reader(address))
        server.accept()[0].close()
        thread = threading.Thread(target=lambda: server.accept()[0].sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        thread.start()
        with pytest.raises(ProgramError, match="something else"):
            gather(paths, read=reader(address))
        thread.join(LIMIT)
    for address in ("", "nonsense", "http://host:1", "tcp://host", "tcp://host:99999"):
        with pytest.raises(UsageError, match="no address of a Dask scheduler"):
            reader(address)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)  # what Python itself does for a module that is not there
    with pytest.raises(ProgramError, match="Dask, which is not installed") as caught:
        reader("tcp://127.0.0.1:8786")
    assert "smmu-wizard[dask]" in caught.value.fix


def test_a_cluster_that_goes_away_is_named(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its workers are killed while they have work: the scheduler gives up, and so do we, in two sentences."""
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError:
        skip_loudly("no Dask", "pip install 'smmu-wizard[dask]'")
    monkeypatch.setattr(room, "BATCH_FILES", 1)
    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0", protocol="tcp")
    with cluster:
        batches = reader(cluster.scheduler_address)(paths)
        next(iter(batches))
        cluster.close()
        with pytest.raises(ProgramError, match="went away"):
            list(batches)
