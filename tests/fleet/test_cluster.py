"""The same per-host step on the workers of a Dask cluster: the answers are those of one process."""

from __future__ import annotations

import importlib
import importlib.util
import os
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
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


@pytest.fixture(scope="module")
def mortal() -> Iterator[Any]:
    """A cluster of one worker that a nanny starts again, and a scheduler that blames a task for the first death under it."""
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError:
        skip_loudly("no Dask", "pip install 'smmu-wizard[dask]'")
    dask: Any = importlib.import_module("dask")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0", protocol="tcp") as cluster,
    ):
        yield cluster


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


@pytest.mark.parametrize("there", ["nothing", "another file"])
def test_workers_that_do_not_see_the_files_are_sent_them(
    there: str, scheduler: str, paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their bytes go along from then on; a file of that name that is another one is not taken for it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if there == "another file":
        for path in paths:
            (elsewhere / Path(path).name).write_text("{}")
    monkeypatch.setattr(os.path, "abspath", lambda path: str(elsewhere / Path(path).name))
    monkeypatch.setattr(room, "MESSAGE_BYTES", 200_000)
    assert gather(paths, read=reader(scheduler)) == gather(paths, read=lambda missing: ([entry_of_file(path)] for path in missing))


def test_a_snapshot_that_ends_its_worker_is_named(mortal: Any, paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The others of its task are read by the next worker."""
    cloudpickle: Any = importlib.import_module("cloudpickle")
    deadly = next(path for path in paths if path.endswith("host-07.json"))

    def read(files: tuple[Any, ...]) -> Any:
        import signal

        from wizard.fleet.cluster import read_there

        if any(file[0] == deadly for file in files):
            os.kill(os.getpid(), signal.SIGKILL)
        return read_there(files)

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(room, "read_there", read)
    some = [path for path in paths if "host-0" in path]
    fleet = gather(some, read=reader(mortal.scheduler_address))
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert len(fleet.entries) == len(some) - 1
    assert [(finding.subject, "every Dask worker that read it ended" in finding.what) for finding in fleet.findings] == [(deadly, True)]


def test_all_workers_gone_is_a_sentence(mortal: Any, paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody starts new ones, and the scheduler would keep the tasks for ever."""
    monkeypatch.setattr(room, "BATCH_FILES", 1)
    monkeypatch.setattr(room, "LOOK", 0.2)
    monkeypatch.setattr(room, "NOBODY", 0.5)
    batches = iter(reader(mortal.scheduler_address)(paths))
    next(batches)
    mortal.scale(0)
    with pytest.raises(ProgramError, match="has had no worker"):
        list(batches)


def certificate(directory: Path, name: str, issuer: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
    """A key and its certificate as files NAME.key and NAME.pem: an authority's own, or one that the issuer signed."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[1].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    signed = builder.sign(issuer[0] if issuer else key, hashes.SHA256())
    (directory / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (directory / f"{name}.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return key, signed


def test_tls_by_certificates_in_files(paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask's own configuration names them; without, and with another authority's, it is TLS that is said to be wrong, not that nobody is there."""
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError:
        skip_loudly("no Dask", "pip install 'smmu-wizard[dask]'")
    dask: Any = importlib.import_module("dask")
    keys = tmp_path / "keys"
    keys.mkdir()
    authority = certificate(keys, "authority")
    certificate(keys, "node", authority)
    certificate(keys, "stranger")

    def files(authority: str, own: str) -> dict[str, Any]:
        one = {"cert": str(keys / f"{own}.pem"), "key": str(keys / f"{own}.key")}
        whose = {f"distributed.comm.tls.{who}": one for who in ("client", "scheduler", "worker")}
        return {"distributed.comm.tls.ca-file": str(keys / f"{authority}.pem"), **whose}

    with dask.config.set(files("authority", "node")):
        security = distributed.Security(require_encryption=True)
        cluster = distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", protocol="tls", security=security
        )
    with cluster:
        address = cluster.scheduler_address
        assert address.startswith("tls://")
        with dask.config.set(files("authority", "node")):
            fleet = gather(paths[:6], read=reader(address))
            assert fleet == gather(paths[:6], read=lambda missing: ([entry_of_file(path)] for path in missing))
        with pytest.raises(ProgramError, match="no certificate is named"):
            gather(paths, read=reader(address))
        for authority_, own in (("stranger", "node"), ("authority", "stranger")):
            with dask.config.set(files(authority_, own)), pytest.raises(ProgramError, match=r"TLS with the Dask scheduler at tls://.* failed"):
                gather(paths, read=reader(address))
        monkeypatch.setattr(room, "CONNECT", 1)
        with pytest.raises(ProgramError, match=r"nothing answers within 1 s; if it speaks TLS, write tls://"):
            gather(paths, read=reader(address.replace("tls://", "tcp://")))


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
