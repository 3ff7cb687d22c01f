"""Rows of summaries: DuckDB comes to the baseline that the command comes to; indexes are merged; summaries stand for their hosts."""

from __future__ import annotations

import importlib
import json
import re
import sqlite3
import sys
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.fleet.hosts import SMMUS, bound, fixture_names, renamed, write
from tests.tools.cache import PROJECT, skip_loudly
from tests.tools.hosts import facts
from wizard.base.errors import InputError
from wizard.cli.main import main
from wizard.facts.snapshot import encode
from wizard.fleet.baseline import conclude, part_of_fleet
from wizard.fleet.devicekind import kind_of
from wizard.fleet.gather import find, gather
from wizard.fleet.hostrows import COLUMNS, HostRow, host_rows
from wizard.fleet.merge import entries_in, merge

DOCUMENTED = (PROJECT / "docs/fleet.md").read_text()


def duckdb_here() -> Any:
    """DuckDB, and what writes Parquet."""
    try:
        importlib.import_module("pyarrow")
        return importlib.import_module("duckdb")
    except ImportError:
        skip_loudly("no DuckDB or pyarrow", "pip install duckdb pyarrow, as the extra `test` does: its documented questions were not asked")


def query(name: str) -> str:
    """A documented question, by the comment that it begins with."""
    blocks: list[str] = re.findall(r"```sql\n(.*?)```", DOCUMENTED, re.DOTALL)
    return next(block for block in blocks if block.startswith(f"-- {name}"))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unlike hosts, some with unlike SMMUs, some that can't, some of which little is known."""
    directory = tmp_path_factory.mktemp("fleet")
    vectors = list(product((False, True), (False, True), (0, 5, 20), (40, 44, 48)))
    hosts = {f"h{n:02}": bound(f"h{n}", ats=a, ril=r, ssidsize=s, oas=o, smmus=SMMUS[: 1 + n % 3]) for n, (a, r, s, o) in enumerate(vectors)}
    hosts |= {name: renamed(facts(name), name) for name in fixture_names() if name != "x86-intel"}
    write(directory, hosts)
    return directory


@pytest.mark.parametrize("form", ["parquet", "ndjson"])
def test_duckdb_comes_to_the_same_baseline(form: str, fleet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of several fleets, among them one that all can and one that not all can."""
    duckdb = duckdb_here()
    for pattern, class_ in (("h*", "02"), ("h*", "01"), ("*", "02"), ("h0*", "02"), ("h1[0-7]*", "0108")):
        paths = [str(path) for path in sorted(fleet.glob(pattern + ".json"))]
        rows = tmp_path / f"fleet.{form}"
        assert main(["index", "rows", *paths, "--no-index", "-o", str(rows), "--force"]) == 0
        kind = kind_of(None, class_)
        view = conclude(part_of_fleet(gather(find(paths)), kind), kind)
        text = query("baseline").replace("'fleet.parquet'", f"'{rows}'").replace("'02%'", f"'{class_}%'")
        hosts, able, *values = duckdb.sql(text).fetchall()[0]
        assert hosts == view.hosts
        assert hosts - able == sum(one.hosts.count for one in view.unable)
        told = {name: {"on": 1, "off": 0}.get(value) if value in ("on", "off") else int(value) for name, value in (view.able or {}).items()}
        assert dict(zip(("ats", "ril", "ssidsize", "oas", "cmdqv"), values, strict=True)) == (
            told or dict.fromkeys(("ats", "ril", "ssidsize", "oas", "cmdqv"))
        )
        assert (view.baseline is not None) == (hosts == able)
    capsys.readouterr()


def test_every_column_is_one_of_the_schema_and_documented(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "rows", str(fleet), "--no-index"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(tuple(row) == COLUMNS for row in rows)
    assert {row["snapshot"] for row in rows} == {str(path) for path in fleet.glob("*.json")}  # each host counts, with functions or without
    assert all((row["supplies_oas"] is not None) == row["usable"] for row in rows)
    entries = gather(find([str(fleet)])).entries
    assert sum(row["functions"] for row in rows) == sum(
        len(pool.addresses) for _, summary in gather(find([str(fleet)])).summaries() for pool in summary.pools
    )
    assert isinstance(next(host_rows(entries[0])), HostRow)


def test_without_pyarrow_it_says_what_to_install(fleet: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # what Python itself does for a module that is not there
    assert main(["index", "rows", str(fleet), "--no-index", "-o", str(fleet / "x.parquet")]) == 4
    assert "smmu-wizard[parquet]" in capsys.readouterr().err


def test_which_hosts_hold_it_down(fleet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The documented question finds the hosts with the fewest address bits."""
    duckdb = duckdb_here()
    assert main(["index", "rows", *map(str, sorted(fleet.glob("h*.json"))), "--no-index", "-o", str(tmp_path / "f.parquet")]) == 0
    rows = duckdb.sql(query("held down").replace("'fleet.parquet'", f"'{tmp_path}/f.parquet'")).fetchall()
    assert rows[0][1] == 44  # of those with 40 bits none can be written
    assert [oas for _, oas in rows] == sorted(oas for _, oas in rows)


def test_indexes_of_two_sites_are_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They answer as the snapshots would, also where these are gone; of two records of a file the newer counts; damage is refused."""
    for site in ("a", "b"):
        (tmp_path / site).mkdir()
        write(tmp_path / site, {f"{site}{n}": bound(f"{site}{n}", oas=44 + 4 * n) for n in range(2)})
        assert main(["baseline", str(tmp_path / site), "--index", str(tmp_path / f"{site}.sqlite")]) == 0
    old, path = tmp_path / "old.sqlite", tmp_path / "a/a0.json"
    gather([str(path)], index=old)
    path.write_bytes(encode(bound("a0", oas=48, time="2026-11-01T00:00:00Z")))
    gather(find([str(tmp_path / "a")]), index=tmp_path / "a.sqlite")
    capsys.readouterr()
    whole = gather(find([str(tmp_path / "a"), str(tmp_path / "b")]))
    merged = tmp_path / "merged.sqlite"
    for order in (("a", "b", "old"), ("old", "b", "a")):
        merged.unlink(missing_ok=True)
        assert merge(merged, [str(tmp_path / f"{name}.sqlite") for name in order]) == 4
        assert gather([str(merged)]).entries == whole.entries
    for snapshot in (*tmp_path.glob("a/*"), *tmp_path.glob("b/*")):
        snapshot.unlink()
    assert main(["index", "merge", str(merged), str(old)]) == 0
    assert gather([str(merged)]).entries == whole.entries
    assert main(["baseline", str(merged), "--no-index"]) == 0
    assert "4 hosts" in capsys.readouterr().out
    with closing(sqlite3.connect(merged)) as database, database:
        database.execute("UPDATE files SET stamp = 'x' || stamp WHERE path LIKE '%b1.json'")
    before = merged.read_bytes()
    with pytest.raises(InputError, match="damaged row"):
        list(entries_in(str(merged)))
    assert main(["baseline", str(merged), "--no-index"]) == 3
    (tmp_path / "text.sqlite").write_text("no database")
    assert main(["index", "merge", str(tmp_path / "new.sqlite"), str(tmp_path / "text.sqlite")]) == 3
    assert (merged.read_bytes(), (tmp_path / "new.sqlite").exists()) == (before, False)


def test_a_summary_stands_for_its_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Recorded on the host it says what the snapshot says; of another version, or changed, it is not believed."""
    snapshots, summaries = tmp_path / "snapshots", tmp_path / "summaries"
    snapshots.mkdir()
    summaries.mkdir()
    for name, host in {"one": bound("h1", oas=48), "two": replace(facts("grace-cmdqv"), identity=replace(bound("h2").identity))}.items():
        path = write(snapshots, {name: host})[0]
        assert main(["--replay", path, "record", "--summary", "-o", str(summaries / f"{name}.json")]) == 0
    capsys.readouterr()
    whole = gather(find([str(snapshots)]))
    alone = gather(find([str(summaries)]))
    assert [replace(entry, name=Path(entry.name).name) for entry in alone.entries] == [
        replace(entry, name=Path(entry.name).name) for entry in whole.entries
    ]
    assert main(["--replay", str(summaries / "one.json"), "list"]) == 3
    assert "is a summary" in capsys.readouterr().err
    text = (summaries / "one.json").read_text()
    value = json.loads(text)
    broken = {
        "program": text.replace(f'"program": "{value["program"]}"', '"program": "0.0.1"', 1),
        "version": text.replace(f'"version": {value["version"]}', '"version": 1', 1),
        "host": text.replace(f'"host": "{value["host"]}"', '"host": "other"', 1),
        "memory": json.dumps({**value, "summary": [*value["summary"][:4], 1 << 64, *value["summary"][5:]]}),
        "smmu": json.dumps({**value, "summary": [*value["summary"][:11], [], *value["summary"][12:]]}),
        "cut": text[: len(text) // 2],
    }
    for name, changed in broken.items():
        assert changed != text, name
        (summaries / f"x-{name}.json").write_text(changed)
    fleet = gather(find([str(summaries)]))
    assert len(fleet.entries) == 2
    assert {Path(finding.subject).name for finding in fleet.findings} == {f"x-{name}.json" for name in broken}
