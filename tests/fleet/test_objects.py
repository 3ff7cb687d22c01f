"""Snapshots in object storage: a local S3 server says what a directory says."""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.fleet.hosts import bound, write
from tests.tools.cache import skip_loudly
from wizard.base.errors import InputError
from wizard.cli.main import main
from wizard.fleet import objects as room
from wizard.fleet.gather import find, gather

SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"


@pytest.fixture(scope="module")
def storage() -> Iterator[Any]:
    """A client of a server that speaks S3, which everything in this module finds by AWS's own environment."""
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("s3fs") is None:
        skip_loudly("no S3 server", "pip install 'moto[s3,server]' s3fs")
    server: Any = importlib.import_module("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3: Any = importlib.import_module("boto3")
        yield boto3.client("s3")
    server.stop()


def test_a_bucket_says_what_a_directory_says(storage: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Plain and packed objects, bad ones by name; profiles are made of what is there."""
    write(tmp_path, {f"h{n:02}": bound(f"h{n:02}", oas=44 + n % 2 * 4) for n in range(3)})
    packed = tmp_path / "h00.json"
    (tmp_path / "h00.json.gz").write_bytes(gzip.compress(packed.read_bytes()))
    packed.unlink()
    (tmp_path / "cut.json").write_bytes((tmp_path / "h01.json").read_bytes()[:999])
    (tmp_path / "bomb.json.gz").write_bytes(gzip.compress(bytes(65 << 20)))
    (tmp_path / "notes.txt").write_text("no snapshot")
    storage.create_bucket(Bucket="fleet")
    for path in tmp_path.iterdir():
        storage.upload_file(str(path), "fleet", f"site/{path.name}")
    there, here = gather(find(["s3://fleet/site/"])), gather(find([str(tmp_path)]))
    assert [replace(entry, name=entry.name.rpartition("/")[2]) for entry in there.entries] == [
        replace(entry, name=entry.name.rpartition("/")[2]) for entry in here.entries
    ]
    assert [(finding.code, finding.subject.rpartition("/")[2]) for finding in there.findings] == [
        ("fleet-unreadable", "bomb.json.gz"),
        ("fleet-unreadable", "cut.json"),
    ]
    (tmp_path / "r.toml").write_text('[[device]]\nclass = "02"\n')
    assert main(["match", str(tmp_path / "r.toml"), "s3://fleet/site/", "-o", str(tmp_path / "out"), "--no-index"]) == 0
    assert (tmp_path / "out/vm.toml").exists()
    assert SECRET not in "".join(capsys.readouterr())


def test_what_is_not_there_is_said_without_secrets(storage: Any, capsys: pytest.CaptureFixture[str]) -> None:
    storage.create_bucket(Bucket="empty")
    for url, said in (
        ("s3://nowhere/site/", "There is no object|may not be read|storage failed"),
        ("s3://empty/h.json", "There is no object"),
        ("memory://none.json", "There is no object"),
    ):
        with pytest.raises(InputError, match=said):
            room.read_object(url)
        assert main(["baseline", url, "--no-index"]) == 3
    for url in (f"s3://me:{SECRET}@fleet/h.json", f"https://host/h.json?X-Amz-Signature={SECRET}", f"simplecache::s3://{SECRET}@x/h.json"):
        assert main(["baseline", url, "--no-index"]) == 2
    assert main(["baseline", "sftp://host/h.json", "--no-index"]) == 2
    assert SECRET not in "".join(capsys.readouterr())


def test_storage_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("s3fs") is None:
        skip_loudly("no S3", "pip install s3fs")
    monkeypatch.setattr(room, "SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        importlib.import_module("s3fs").S3FileSystem.clear_instance_cache()
        with pytest.raises(InputError, match="not answered within"):
            room.read_object("s3://fleet/h.json")
    importlib.import_module("s3fs").S3FileSystem.clear_instance_cache()
