"""Many files: what is broken is named, the rest is answered; an index answers again without reading."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.fleet.hosts import bound, fixture, renamed, write
from wizard.base.errors import InputError, OutputError, UsageError
from wizard.facts.snapshot import encode
from wizard.fleet import gather as room
from wizard.fleet.entry import entry_of_file, summary_of_entry
from wizard.fleet.gather import Fleet, find, gather
from wizard.fleet.index import Index


def named(fleet: Fleet) -> list[str]:
    return [Path(entry.name).stem for entry in fleet.entries]


def said(fleet: Fleet) -> dict[str, str]:
    return {Path(finding.subject).name: finding.code for finding in fleet.findings}


def test_directories_and_compressed_files(tmp_path: Path) -> None:
    write(tmp_path, {"one": bound("h1")})
    (tmp_path / "two.json.gz").write_bytes(gzip.compress(encode(bound("h2"))))
    (tmp_path / "notes.txt").write_text("not a snapshot, and not looked at")
    fleet = gather(find([str(tmp_path), str(tmp_path / "one.json")]))
    assert [Path(entry.name).name for entry in fleet.entries] == ["one.json", "two.json.gz"]
    assert fleet.findings == ()


def test_bad_files_are_named_and_the_rest_answered(tmp_path: Path) -> None:
    write(tmp_path, {"good": bound("h1"), "other": bound("h2")})
    whole = encode(bound("h3")).decode()
    (tmp_path / "cut.json").write_text(whole[:5000])
    (tmp_path / "empty.json").write_text("")
    (tmp_path / "foreign.json").write_text('{"name": "package", "version": "1.0.0"}')
    (tmp_path / "newer.json").write_text(whole.replace('"version": 1,', '"version": 99,', 1))
    (tmp_path / "binary.json").write_bytes(b"\x7fELF\x02\x01\x01\0\xff\xfe")
    (tmp_path / "deep.json").write_text("[" * 100000)
    (tmp_path / "packed.json.xz").write_bytes(b"not xz at all")
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    fleet = gather(find([str(tmp_path)]))
    assert named(fleet) == ["good", "other"]
    broken = {"cut.json", "empty.json", "foreign.json", "newer.json", "binary.json", "deep.json", "packed.json.xz", "loop.json"}
    assert said(fleet) == dict.fromkeys(broken, "fleet-unreadable")
    assert fleet.skipped == {"unreadable": len(broken)}
    newer = next(finding for finding in fleet.findings if finding.subject.endswith("newer.json"))
    assert "version 99" in newer.what
    assert "Update smmu-wizard" in newer.fix


def test_a_file_that_is_gone_and_a_directory_without_any(tmp_path: Path) -> None:
    path = write(tmp_path, {"good": bound("h1")})[0]
    fleet = gather(find([path, str(tmp_path / "absent.json")]))
    assert named(fleet) == ["good"]
    assert "There is no file" in fleet.findings[0].what
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="holds no snapshot"):
        find([str(tmp_path / "none")])


def test_of_two_records_of_one_host_the_newer_counts(tmp_path: Path) -> None:
    old = bound("h1", oas=44, time="2026-01-01T00:00:00Z")
    new = bound("h1", oas=48, time="2026-06-01T00:00:00Z")
    for first, second in (("a", "b"), ("b", "a")):  # whatever the files are called
        directory = tmp_path / first
        directory.mkdir()
        write(directory, {first: old, second: new, "c": bound("h2")})
        fleet = gather(find([str(directory)]))
        assert named(fleet) == sorted([second, "c"])
        assert said(fleet) == {f"{first}.json": "fleet-duplicate-host"}
        assert summary_of_entry(next(e for e in fleet.entries if Path(e.name).stem == second)).smmus[0].offer("oas").richest == 48


def test_other_architectures_are_left_out_by_name(tmp_path: Path) -> None:
    write(tmp_path, {"arm": bound("h1"), "x86": fixture("x86-intel")})
    fleet = gather(find([str(tmp_path)]))
    assert named(fleet) == ["arm"]
    assert said(fleet) == {"x86.json": "fleet-not-arm64"}
    assert "x86_64" in fleet.findings[0].what


def test_the_index_answers_the_second_question_without_a_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = tmp_path / "hosts"
    hosts.mkdir()
    write(hosts, {"one": bound("h1"), "two": bound("h2")})
    (hosts / "bad.json").write_text("{")
    index = tmp_path / "index.sqlite"
    first = gather(find([str(hosts)]), index=index)
    asked: list[str] = []

    def read(paths: object) -> list[list[object]]:
        asked.extend(paths)  # type: ignore[arg-type]
        return [[entry_of_file(path) for path in asked]]

    again = gather(find([str(hosts)]), index=index, read=read)  # type: ignore[arg-type]
    assert asked == []
    assert (again.entries, again.findings) == (first.entries, first.findings)
    # A file that changed is read again, and only that one.
    write(hosts, {"two": bound("h2", oas=48)})
    changed = gather(find([str(hosts)]), index=index, read=read)  # type: ignore[arg-type]
    assert [Path(path).name for path in asked] == ["two.json"]
    assert summary_of_entry(changed.entries[1]).smmus[0].offer("oas").richest == 48
    # As is everything when the program itself is another.
    monkeypatch.setattr("wizard.fleet.index._program", lambda: "another")
    asked.clear()
    gather(find([str(hosts)]), index=index, read=read)  # type: ignore[arg-type]
    assert len(asked) == 3


def test_an_index_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    path.write_text("this is no database, and it is somebody's text")
    with pytest.raises(OutputError, match=r"index\.sqlite can't be used"):
        Index(path)
    assert path.read_text().startswith("this is no database")


def test_the_index_is_private(tmp_path: Path) -> None:
    index = tmp_path / "cache" / "index.sqlite"
    gather(find(write(tmp_path, {"one": bound("h1")})), index=index)
    assert os.stat(index).st_mode & 0o777 == 0o600


def test_several_processes_say_what_one_says(tmp_path: Path) -> None:
    write(tmp_path, {f"host-{n:02}": renamed(bound(), f"h{n}") for n in range(room.ALONE + 8)})
    (tmp_path / "host-05.json").write_text("{}")
    paths = find([str(tmp_path)])
    many = gather(paths)
    one = gather(paths, read=lambda missing: ([entry_of_file(path)] for path in missing))
    assert many == one
    assert len(many.entries) == room.ALONE + 7


def test_a_snapshot_that_breaks_the_decoder_breaks_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours in one host is named with its place; the others are answered."""

    def fail(facts: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("wizard.fleet.entry.summary_of", fail)
    entry = entry_of_file(write(tmp_path, {"one": bound("h1")})[0])
    assert "ZeroDivisionError at test_gather.py" in entry.problem
    assert "report it" in entry.fix


def test_odd_but_readable_snapshots(tmp_path: Path) -> None:
    """No SMMU, no functions, no memory figure, a host without a name."""
    base = fixture("vfio-arm64-virt-canwbs")
    write(
        tmp_path,
        {
            "bare": replace(base, functions=(), iommus=(), groups=(), hw_info=(), identity=replace(base.identity, host="h1")),
            "vague": replace(base, memory_total=None, cpus=None, nodes=()),
        },
    )
    fleet = gather(find([str(tmp_path)]))
    assert named(fleet) == ["bare", "vague"]
    assert json.loads(json.dumps(fleet.skipped)) == {}


def test_a_name_that_nothing_can_carry(tmp_path: Path) -> None:
    write(tmp_path, {"good": bound("h1")})
    odd = os.fsencode(tmp_path) + b"/\xff\xfe.json"
    with open(odd, "wb") as file:
        file.write(encode(bound("h2")))
    fleet = gather(find([str(tmp_path)]), index=tmp_path / "index.sqlite")
    assert named(fleet) == ["good"]
    assert "not UTF-8" in fleet.findings[0].what


def test_standard_input_is_no_fleet() -> None:
    with pytest.raises(UsageError, match="Standard input"):
        find(["-"])
