"""Rows of functions: both forms say the same, the documented questions are asked of the databases that they are for, and no file ends the others."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from msgspec.structs import replace

from tests.fleet.hosts import SMMUS, bound, fixture_names, write
from tests.tools.cache import PROJECT, skip_loudly
from tests.tools.commands import Output, said
from tests.tools.hosts import FIXTURES, host
from tests.tools.hosts import facts as fixture
from tests.tools.processes import LIMIT
from wizard.cli.main import main
from wizard.cli.schema import schema_of
from wizard.facts.model import Facts
from wizard.facts.snapshot import load
from wizard.fleet import listing as room
from wizard.fleet.rows import COLUMNS, as_csv, as_ndjson, columns, csv_names, rows_of
from wizard.host.build import host_of
from wizard.host.view import list_view

PAGE = (PROJECT / "docs" / "rows.md").read_text()
SQL = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.M | re.S)
NASTY = 'a "quoted", name;\r\nof two lines\x00\x1b[31m \u202e|'

# RFC 4180, section 2: a field is TEXTDATA, or is quoted with each quote doubled; every line ends with CR LF.
FIELD = r'(?:[^",\r\n]*|"(?:[^"]|"")*")'
CSV = re.compile(rf"(?:{FIELD}(?:,{FIELD})*\r\n)+")


def nasty(facts: Facts) -> Facts:
    """Names that a stranger may have written."""
    first, *rest = facts.functions
    return replace(facts, functions=(replace(first, device_name=NASTY, driver=NASTY), *rest), identity=replace(facts.identity, product=NASTY))


HOSTS = {**{name: fixture(name) for name in fixture_names()}, "nasty": nasty(bound("h1"))}


@pytest.mark.parametrize("name", HOSTS)
def test_both_forms_say_the_same_and_fit_the_schema(name: str) -> None:
    rows = list(rows_of(host_of(HOSTS[name]), f"{name}.json"))
    objects = [json.loads(line) for line in as_ndjson(rows).splitlines()]
    schema, types = schema_of("row"), {column: kind for column, kind, _ in columns()}
    validator = jsonschema.Draft202012Validator(schema)
    text = csv_names() + as_csv(rows)
    assert CSV.fullmatch(text)
    records = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    assert len(records) == len(objects) == len(HOSTS[name].functions)
    for one, record in zip(objects, records, strict=True):
        validator.validate(one)
        assert tuple(one) == tuple(record) == COLUMNS
        for column, value in one.items():
            assert value != ""
            assert isinstance(value, {"boolean": bool, "integer": int, "text": str}[types[column]] | None)
            assert record[column] == ("" if value is None else str(value).lower() if isinstance(value, bool) else str(value))
    assert not re.search(r"[\x00-\x09\x0b\x0c\x0e-\x1f\u202e]", text)


def test_a_row_is_what_list_says_of_the_function() -> None:
    for name in ("arm64-virt-canwbs", "host-in-use", "grace-1s", "x86-intel"):
        view = {f.address: f for f in list_view(host(name)).functions}
        for row in rows_of(host(name)):
            function = view[row.function]
            assert (row.accel, row.iommu_group, row.smmu, row.driver) == (
                function.accel.verdict, function.iommu_group, function.smmu, function.driver,
            )  # fmt: skip
            assert (row.accel_codes or "").split() == list(dict.fromkeys(reason.code for reason in function.accel.reasons))
            assert row.assignable is function.assignable
            assert (row.stream_ids or "").split() == [f"{stream:#x}" for stream in function.stream_ids]


def test_unknown_is_no_false_and_an_assumption_says_so() -> None:
    grace = {row.function: row for row in rows_of(host("grace-1s"))}["0002:01:00.0"]
    assert (grace.accel, grace.free, grace.ssidsize, grace.ssidsize_source, grace.granules) == ("unknown", None, None, "none", None)
    assert (grace.canwbs, grace.canwbs_source) == (True, "assumed")
    assert (grace.bar_bytes, grace.link_width) == (None, None)  # its configuration space is made up
    busy = {row.function: row for row in rows_of(host("host-in-use"))}["0000:14:00.0"]
    assert (busy.accel, busy.free, busy.used_by) == ("yes", False, "mount")
    link = {row.function: row for row in rows_of(host("vfio-arm64-virt-canwbs"))}["0000:41:00.0"]
    # QEMU's e1000e: LnkCap and LnkSta say 2.5 GT/s and one lane (lspci of the recorded host).
    assert (link.link_speed_max, link.link_width_max) == ("2.5GT/s", 1)


def test_the_page_lists_every_column_and_makes_a_table_of_them() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \|$", PAGE, re.M)
    assert rows == list(columns()), "docs/rows.md is not what wizard/fleet/rows.py declares"
    made = dict(re.findall(r"(\w+) (text|bigint|boolean)(?=,|\s*\))", SQL[0]))
    assert made == {name: {"integer": "bigint"}.get(kind, kind) for name, kind, _ in columns()}


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """Hosts, of which one is there twice, two were made from one image, and of one little is known."""
    directory = tmp_path / "fleet"
    directory.mkdir()
    hosts = {
        "old": bound("h1", oas=44, time="2026-01-01T00:00:00Z"), "one": bound("h1", oas=48, time="2026-06-01T00:00:00Z"),
        "two": bound("h2", oas=44, time="2026-06-01T00:00:00Z"), "nasty": nasty(bound("h3", smmus=SMMUS, oas=48)), "grace": fixture("grace-1s"),
    }  # fmt: skip
    hosts["twin"] = made_from_image(bound("h2", oas=48, time="2026-03-01T00:00:00Z"), "m2")
    hosts["two"] = made_from_image(hosts["two"], "m1")
    write(directory, hosts)
    return directory


def made_from_image(facts: Facts, machine: str) -> Facts:
    return replace(facts, identity=replace(facts.identity, machine=machine))


def newest(fleet: Path) -> list[dict[str, Any]]:
    """What the views should hold, by hand."""
    return [
        json.loads(line)
        for path in sorted(fleet.glob("*.json"))
        if path.stem != "old"
        for line in as_ndjson(rows_of(host_of(load(str(path))), str(path))).splitlines()
    ]


def expected(fleet: Path) -> dict[str, Any]:
    rows = newest(fleet)
    kinds: dict[tuple[str, str], list[int]] = {}
    pairs: dict[tuple[str, str], int] = {}
    codes: dict[str, int] = {}
    for row in rows:
        if row["bridge"]:
            continue
        count = kinds.setdefault((row["vendor"], row["device"]), [0, 0])
        count[0] += row["free"] is True
        count[1] += row["accel"] == "unknown"
        if row["free"] and (row["oas"] or 0) >= 48 and row["oas_source"] != "assumed":
            pairs[row["snapshot"], row["smmu"]] = pairs.get((row["snapshot"], row["smmu"]), 0) + 1
        for code in (row["accel_codes"] or "").split():
            codes[code] = codes.get(code, 0) + 1
    return {
        "kinds": sorted((*key, free, unknown) for key, (free, unknown) in kinds.items()),
        "pairs": sorted((*key, count) for key, count in pairs.items() if count >= 2),
        "codes": sorted(codes.items()),
    }


def test_duckdb_answers_the_documented_questions(fleet: Path, tmp_path: Path, capsys: Output) -> None:
    try:
        database: Any = importlib.import_module("duckdb")
    except ImportError:
        skip_loudly("no DuckDB", "pip install duckdb, as the extra `test` does: its documented queries were not run")
    status, out, err = said(capsys, "list", str(fleet), "--csv")
    assert status == 0
    assert "1 of 5 hosts stands in more than one snapshot" in err
    (tmp_path / "functions.csv").write_text(out, newline="")
    (tmp_path / "functions.ndjson").write_text(said(capsys, "list", str(fleet), "--ndjson")[1])
    create, copy, _, view, kinds, pairs, codes, netbox = SQL
    want = expected(fleet)
    assert want["pairs"]
    with database.connect() as base:
        base.execute(f"SET file_search_path = '{tmp_path}'")
        base.execute(create)
        base.execute(copy)
        base.execute(view)
        assert sorted((row[0], row[1], row[3], row[4]) for row in base.execute(kinds).fetchall()) == want["kinds"]
        assert sorted(base.execute(pairs).fetchall()) == want["pairs"]
        assert sorted(base.execute(codes).fetchall()) == want["codes"]
        base.execute(netbox.replace("'inventory.csv'", f"'{tmp_path / 'inventory.csv'}'"))
        # The other form, whose types DuckDB finds by itself, is the same table.
        same = "SELECT function, snapshot, bridge, free, oas, accel_codes FROM {} ORDER BY ALL"
        assert base.execute(same.format("functions")).fetchall() == base.execute(same.format("'functions.ndjson'")).fetchall()
    items = list(csv.DictReader((tmp_path / "inventory.csv").open(newline="")))
    # netbox/dcim/forms/bulk_import.py of 4.2: InventoryItemImportForm; `device`, `name` and `status` are wanted.
    assert set(items[0]) <= {"device", "name", "label", "status", "role", "manufacturer", "parent", "part_id", "serial", "asset_tag", "discovered",
                             "description", "tags", "component_type", "component_name"}  # fmt: skip
    assert {"grace", "one", "two", "twin", "nasty"} == {item["device"] for item in items}
    assert all(item["name"] and item["status"] == "active" and len(item["part_id"]) <= 50 and len(item["name"]) <= 64 for item in items)


def test_jq_answers_the_documented_question(fleet: Path, tmp_path: Path, capsys: Output) -> None:
    if shutil.which("jq") is None:
        skip_loudly("no jq", "install it: its documented query was not run")
    (tmp_path / "functions.ndjson").write_text(said(capsys, "list", str(fleet), "--ndjson")[1])
    (command,) = re.findall(r"^```sh\n(jq .*?)^```$", PAGE, re.M | re.S)
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=LIMIT)
    rows = map(json.loads, (tmp_path / "functions.ndjson").read_text().splitlines())
    free = [f"{row['snapshot']}\t{row['function']}\t{row['smmu']}" for row in rows if row["free"]]
    assert done.stdout.splitlines() == free != []


@pytest.fixture
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The words of a psql that talks to a server of its own, which root can't be: PostgreSQL refuses to be started by it."""
    # Debian keeps the server's programs out of PATH.
    places = os.pathsep.join([os.environ["PATH"], *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))])
    initdb, control, psql = (shutil.which(name, path=places) for name in ("initdb", "pg_ctl", "psql"))
    if not (initdb and control and psql) or (os.geteuid() == 0 and shutil.which("setpriv") is None):
        skip_loudly("no PostgreSQL", "install its server (Debian: postgresql): COPY was held to RFC 4180 alone")
    place = tmp_path_factory.mktemp("postgres")
    nobody: list[str] = []
    if os.geteuid() == 0:
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        os.chown(place, 65534, 65534)
        for above in place.parents[:-2]:
            above.chmod(above.stat().st_mode | 0o011)
    data = str(place / "data")

    def done(*words: str) -> None:
        subprocess.run([*nobody, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=place, timeout=LIMIT)

    done(initdb, "-D", data, "-N", "-A", "trust", "-U", "tester", "-E", "UTF8", "--locale=C")
    done(control, "-D", data, "-w", "-l", str(place / "log"), "-o", f"-F -c listen_addresses= -k {place}", "start")
    try:
        yield [psql, "-h", str(place), "-U", "tester", "-d", "postgres", "-qAtX", "-v", "ON_ERROR_STOP=1"]
    finally:
        done(control, "-D", data, "-w", "-m", "immediate", "stop")


def test_postgresql_answers_the_documented_questions(fleet: Path, postgres: list[str], capsys: Output) -> None:
    text = said(capsys, "list", str(fleet), "--csv")[1]
    create, _, copy, view, kinds, pairs, codes, _ = SQL

    def ask(question: str, data: str = "") -> list[list[str]]:
        done = subprocess.run([*postgres, "-F", "\t", "-c", question], input=data, capture_output=True, text=True, check=True, timeout=LIMIT)
        return [line.split("\t") for line in done.stdout.splitlines()]

    ask(create)
    ask(copy.replace("'/tmp/functions.csv'", "STDIN"), text)
    ask(view)
    want = expected(fleet)
    assert sorted((row[0], row[1], int(row[3]), int(row[4])) for row in ask(kinds)) == want["kinds"]
    assert sorted((row[0], row[1], int(row[2])) for row in ask(pairs)) == want["pairs"]
    assert sorted((row[0], int(row[1])) for row in ask(codes)) == want["codes"]
    assert ask("SELECT count(*) FROM functions WHERE driver = ''") == [["0"]]  # null came as NULL


def test_broken_files_are_named_and_the_others_written(tmp_path: Path, capsys: Output) -> None:
    write(tmp_path, {"a": bound("h1"), "c": replace(bound("h2"), functions=(), unread={"/sys/bus/pci/devices": "absent"})})
    (tmp_path / "b.json").write_text("{")
    (tmp_path / "d.json").write_text("0000:01:00.0 0200: 8086:10d3\n")  # lspci -n, and no snapshot
    status, out, err = said(capsys, "list", str(tmp_path), "--ndjson")
    assert status == 0
    assert len(out.splitlines()) == len(bound("h1").functions)
    assert "b.json was left out" in err
    assert "d.json was left out" in err
    assert f"{tmp_path / 'c.json'} gives no row: PCI functions were not read (absent)." in err


def test_nothing_is_written_where_nothing_can_be_read(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "b.json").write_text("{")
    for words in ([str(tmp_path)], [str(tmp_path / "absent.json")], [str(tmp_path), str(tmp_path / "absent.json")]):
        status, out, err = said(capsys, "list", *words, "--csv")
        assert (status, out) == (3, "")
        assert "None of" in err
    (tmp_path / "empty").mkdir()
    status, out, err = said(capsys, "list", str(tmp_path / "empty"), "--csv")
    assert (status, out) == (3, "")
    assert "holds no snapshot" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["list", "--csv", "--ndjson"], "two forms"),
        (["list", "--csv", "--json"], "--json has no use with --csv"),
        (["list", "--ndjson", "--smmu", SMMUS[0]], "--smmu has no use"),
        (["list", "--ndjson", "-q"], "--quiet has no use"),
        (["--replay", "x.json", "list", "y.json", "--csv"], "--replay has no use with snapshots"),
        (["list", "y.json", "--csv", "--policy", "p.toml"], "--policy has no use with snapshots"),
    ],
)
def test_words_that_do_not_go_together(words: list[str], says: str, capsys: Output) -> None:
    status, out, err = said(capsys, *words)
    assert (status, out) == (2, "")
    assert says in err


def test_one_host_by_its_source_and_policy(tmp_path: Path, capsys: Output) -> None:
    path = str(FIXTURES / "vfio-arm64-virt-canwbs.json")
    (tmp_path / "policy.toml").write_text(f'[[rule]]\nsubject = "{SMMUS[0]}"\naccel = "off"\nreason = "tenants"\n')
    _, plain, _ = said(capsys, "--replay", path, "list", "--ndjson")
    _, ruled, _ = said(capsys, "--replay", path, "list", "--ndjson", "--policy", str(tmp_path / "policy.toml"))

    def able(text: str) -> set[str]:
        return {row["function"] for row in map(json.loads, text.splitlines()) if row["accel"] == "yes"}

    assert set() < able(ruled) < able(plain)
    assert {row["snapshot"] for row in map(json.loads, plain.splitlines())} == {path}
    assert json.loads(said(capsys, "--demo", "list", "--ndjson")[1].splitlines()[0])["snapshot"] is None


def test_rows_are_written_before_the_next_files_are_read(fleet: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []

    def watched(paths: list[str], form: str) -> Iterator[list[room.Listed]]:
        for batch in real(paths, form):
            yield batch
            written.append(len(capsys.readouterr().out))

    real = room.listing
    monkeypatch.setattr(room, "listing", watched)
    assert main(["list", str(fleet), "--ndjson"]) == 0
    assert len(written) == 6
    assert all(written)


def test_many_files_come_in_order_from_several_processes(tmp_path: Path, capsys: Output) -> None:
    data = (FIXTURES / "vfio-arm64-virt.json").read_bytes()
    for number in range(40):
        (tmp_path / f"{number:02}.json").write_bytes(data)
    (tmp_path / "07.json").write_text("{")
    status, out, err = said(capsys, "list", str(tmp_path), "--csv")
    assert status == 0
    names = list(dict.fromkeys(Path(record["snapshot"]).stem for record in csv.DictReader(io.StringIO(out, newline=""))))
    assert names == [f"{number:02}" for number in range(40) if number != 7]
    assert err.count("was left out") == 1
