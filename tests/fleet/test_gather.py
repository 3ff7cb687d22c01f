"""Many files: what is broken is named, the rest is answered; an index answers again without reading."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.fleet.hosts import bound, renamed, write
from tests.tools.cache import PROJECT
from tests.tools.hosts import facts as fixture
from tests.tools.processes import LIMIT, ending
from wizard.base.errors import OutputError, UsageError
from wizard.facts.snapshot import encode
from wizard.fleet import index as index_room
from wizard.fleet.entry import entry_of_file, summary_of_entry
from wizard.fleet.gather import Fleet, find, gather
from wizard.fleet.index import Index, Spare
from wizard.fleet.workers import ALONE


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
    fleet = gather(find([path, str(tmp_path / "none")]))
    assert named(fleet) == ["good"]
    assert "holds no snapshot" in fleet.findings[0].what


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


def test_a_database_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    """Even one whose table has the name of ours: `--index` may be a slip of the finger."""
    path = tmp_path / "photos.sqlite"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE files (path, stamp, entry)")
        database.execute("INSERT INTO files VALUES ('a', 'b', 'c')")
    before = path.read_bytes()
    with pytest.raises(OutputError, match="database of another program"):
        Index(path)
    assert path.read_bytes() == before


def test_a_damaged_index_that_nobody_named_is_made_anew(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.mkdir()
    write(hosts, {f"h{n}": bound(f"h{n}") for n in range(6)})
    paths = find([str(hosts)])
    path = tmp_path / "fleet.sqlite"
    whole = gather(paths, index=path)
    data = path.read_bytes()
    said: list[str] = []
    for damaged in (b"no database at all", data[:4096] + b"\xa5" * (len(data) - 4096), data[: len(data) // 2]):
        path.write_bytes(damaged)
        assert gather(paths, index=Spare(path, said.append)) == whole
        assert list(Index(path).known(paths)) == paths  # and it holds again
    assert said == []


def test_an_index_that_nobody_named_and_can_not_be_made_stops_nobody(tmp_path: Path) -> None:
    paths = find(write(tmp_path, {"one": bound("h1")}))
    (tmp_path / "file").write_text("in the way of a directory")
    said: list[str] = []
    assert gather(paths, index=Spare(tmp_path / "file" / "fleet.sqlite", said.append)).entries
    assert len(said) == 1
    assert said[0].endswith("can't be used: File exists. Every snapshot is read anew.")
    with pytest.raises(OutputError):
        gather(paths, index=tmp_path / "file" / "fleet.sqlite")


def test_two_processes_share_an_index(tmp_path: Path) -> None:
    """Both begin with none, write at once, and neither fails."""
    hosts = tmp_path / "hosts"
    hosts.mkdir()
    write(hosts, {f"h{n:02}": bound(f"h{n:02}") for n in range(12)})
    paths = find([str(hosts)])
    code = (
        "import sys; from pathlib import Path; from wizard.fleet.gather import gather;"
        "print(len(gather(sys.argv[2:], index=Path(sys.argv[1])).entries))"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "index.sqlite"), *paths]
    with ExitStack() as stack:
        both = [stack.enter_context(ending(subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=PROJECT))) for _ in range(2)]
        assert [process.communicate(timeout=LIMIT)[0] for process in both] == ["12\n", "12\n"]
        assert [process.returncode for process in both] == [0, 0]


def test_an_index_that_another_process_makes_meanwhile_is_no_strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at whose it is and the look at what is in it, the other one commits, if it is let."""
    path, other = tmp_path / "index.sqlite", tmp_path / "other.sqlite"
    Index(other).close()
    ask = index_room._answer

    def interrupted(database: sqlite3.Connection, question: str) -> object:
        answer = ask(database, question)
        if not path.stat().st_size:
            with sqlite3.connect(other) as made, closing(sqlite3.connect(path, timeout=0)) as copy, suppress(sqlite3.OperationalError):
                copy.executescript(f"BEGIN IMMEDIATE; {'; '.join(_statements(made))}; COMMIT")
        return answer

    monkeypatch.setattr(index_room, "_answer", interrupted)
    Index(path).close()
    Index(path).close()


def _statements(made: sqlite3.Connection) -> list[str]:
    application = made.execute("PRAGMA application_id").fetchone()[0]
    (program,) = made.execute("SELECT program FROM made_by").fetchone()
    tables = [row[0] for row in made.execute("SELECT sql FROM sqlite_master WHERE type = 'table'")]
    return [*tables, f"INSERT INTO made_by VALUES ('{program}')", f"PRAGMA application_id = {application}"]


def test_a_file_that_is_gone_leaves_the_index_too(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.mkdir()
    write(hosts, {"one": bound("h1"), "two": bound("h2")})
    index = tmp_path / "index.sqlite"
    gather(find([str(hosts)]), index=index)
    (hosts / "one.json").unlink()
    write(hosts, {"three": bound("h3")})
    gather(find([str(hosts)]), index=index)
    with closing(sqlite3.connect(index)) as database:
        assert [Path(row[0]).name for row in database.execute("SELECT path FROM files ORDER BY path")] == ["three.json", "two.json"]


def test_a_file_that_was_changed_behind_its_time_is_read_again(tmp_path: Path) -> None:
    """rsync -t, cp -p and touch -r set the time of modification; nothing sets the time of change."""
    one, other = bound("h1", oas=44), bound("h1", oas=48)
    path = write(tmp_path, {"one": one})[0]
    before = os.stat(path)
    index = tmp_path / "index.sqlite"
    gather([path], index=index)
    write(tmp_path, {"one": other})
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(path).st_size == before.st_size
    assert summary_of_entry(gather([path], index=index).entries[0]).smmus[0].offer("oas").richest == 48


def test_a_pipe_in_a_directory_is_named_and_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path, {"good": bound("h1")})
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "directory.json").mkdir()
    fleet = gather(find([str(tmp_path)]))
    assert named(fleet) == ["good"]
    assert said(fleet) == dict.fromkeys(["pipe.json", "directory.json"], "fleet-unreadable")


def test_the_index_is_private(tmp_path: Path) -> None:
    index = tmp_path / "cache" / "index.sqlite"
    gather(find(write(tmp_path, {"one": bound("h1")})), index=index)
    assert os.stat(index).st_mode & 0o777 == 0o600


def test_several_processes_say_what_one_says(tmp_path: Path) -> None:
    write(tmp_path, {f"host-{n:02}": renamed(bound(), f"h{n}") for n in range(ALONE + 8)})
    (tmp_path / "host-05.json").write_text("{}")
    paths = find([str(tmp_path)])
    many = gather(paths)
    one = gather(paths, read=lambda missing: ([entry_of_file(path)] for path in missing))
    assert many == one
    assert len(many.entries) == ALONE + 7


def test_a_snapshot_that_breaks_the_decoder_breaks_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours in one host is named with its place; the others are answered."""

    def fail(facts: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("wizard.fleet.entry.summary_like", fail)
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
