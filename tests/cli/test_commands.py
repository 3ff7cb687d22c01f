"""The commands as a script sees them: status, standard output, and two sentences on standard error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.cli.conftest import CANWBS, REFUSED, ROOT, failed, refused, run
from tests.tools.processes import LIMIT


def test_demo_is_the_fixture() -> None:
    shown = json.loads(run("--demo", "list", "--json").stdout)
    assert shown["host"]["kernel"] == "7.2.13-armhost"
    assert shown == json.loads(run("--replay", CANWBS, "list", "--json").stdout)


@pytest.mark.parametrize(
    "words",
    [["--replay", REFUSED, "list", "--json"], ["list", "--replay", REFUSED, "--json"], ["list", "--json", "--replay", REFUSED]],
)
def test_the_host_may_be_named_before_and_after_the_command(words: list[str]) -> None:
    """A sub-parser's default would overwrite it, and silently show the machine that this runs on."""
    shown = json.loads(run(*words).stdout)
    verdicts = {function["address"]: function["accel"]["verdict"] for function in shown["functions"]}
    assert verdicts["0000:14:00.0"] == "no"


def test_standard_input_is_a_snapshot() -> None:
    done = run("--replay", "-", "list", "--json", stdin=Path(REFUSED).read_text())
    assert done.returncode == 0
    assert json.loads(done.stdout)["schema"] == 1


def test_list_has_the_documented_form() -> None:
    shown = json.loads(run("--replay", CANWBS, "list", "--json").stdout)
    function = next(f for f in shown["functions"] if f["address"] == "0000:14:00.0")
    fields = "address vendor device class name driver iommu_group smmu stream_ids numa_node capabilities accel todo"
    assert set(fields.split()) <= set(function)
    assert (function["vendor"], function["device"], function["iommu_group"], function["stream_ids"]) == ("0x1b36", "0x0010", 3, [0x1400])
    assert function["accel"] == {"verdict": "yes", "reasons": []}
    smmu = next(s for s in shown["smmus"] if s["name"] == function["smmu"])
    assert "0000:14:00.0" in smmu["functions"]
    assert smmu["capabilities"]["nesting"] == {"value": True, "source": "probe", "note": "IOMMU_HWPT_ALLOC_NEST_PARENT succeeded"}
    group = next(g for g in shown["groups"] if g["id"] == 3)
    assert group["reserved_regions"] == [{"start": "0x8000000", "end": "0x80fffff", "type": "msi"}]


def test_show_names_the_reason_and_the_fix() -> None:
    done = run("--replay", REFUSED, "show", "14:00.0")
    assert done.returncode == 0
    assert "Acceleration: no" in done.stdout
    assert "CANWBS" in done.stdout
    assert "fix:" in done.stdout


def test_doctor_ends_with_1_when_something_stands_in_the_way() -> None:
    done = run("--replay", REFUSED, "doctor", "--json")
    assert done.returncode == 1
    diagnosis = json.loads(done.stdout)
    firmware = next(area for area in diagnosis["areas"] if area["area"] == "firmware")
    joined = next(item for item in firmware["findings"] if item["finding"]["code"] == "no-canwbs")
    assert {"0000:14:00.0", "0000:11:10.0", "0000:41:00.0"} <= set(joined["subjects"])  # one cause, told once


@pytest.mark.parametrize(
    ("words", "status", "named"),
    [
        (["--replay", "/nowhere/host.json", "list"], 3, "/nowhere/host.json"),
        (["--root", "/nowhere", "list"], 3, "/nowhere"),
        (["--replay", CANWBS, "show", "0000:99:00.0"], 2, "0000:99:00.0"),
        (["--replay", CANWBS, "show", "nonsense"], 2, "nonsense"),
        (["--replay", CANWBS, "list", "--smmu", "smmu3.0x1"], 2, "smmu3.0x1"),
        (["--replay", CANWBS, "--demo", "list"], 2, "--demo"),
        (["--replay", CANWBS, "record", "--probe"], 2, "--probe"),
        (["schema", "nothing"], 2, "nothing"),
    ],
)
def test_wrong_words_end_in_two_sentences(words: list[str], status: int, named: str) -> None:
    assert named in refused(run(*words), status)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "empty"),
        ("{", "not whole JSON"),
        ("[1, 2]", "not a snapshot"),
        ('{"format": "somebody-elses", "version": 1}', "not a snapshot"),
        ('{"format": "smmu-wizard-snapshot", "version": 99}', "version 99"),
        ('{"format": "smmu-wizard-snapshot", "version": 1, "functions": [{"address": 5}]}', "$.functions[0]"),
        ("[" * 1000, "nested deeper"),
    ],
)
def test_bad_snapshots_are_named(tmp_path: Path, content: str, named: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    first = refused(run("--replay", str(path), "list"), 3)
    assert named in first
    assert "bad.json" in first


def test_a_snapshot_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.json"
    path.write_bytes(Path(CANWBS).read_bytes()[:20000])
    assert "cut.json" in refused(run("--replay", str(path), "list"), 3)


def test_escape_sequences_in_names_are_shown_as_text(tmp_path: Path) -> None:
    text = Path(CANWBS).read_text().replace("QEMU NVM Express Controller", "\\u001b[2J\\u202eevil\\u0007")
    path = tmp_path / "odd.json"
    path.write_text(text)
    for command in (["list"], ["show", "0000:14:00.0"], ["doctor"]):
        done = run("--replay", str(path), *command)
        assert "\x1b" not in done.stdout
        assert "\u202e" not in done.stdout
    assert "\\x1b[2J" in run("--replay", str(path), "list").stdout


def test_a_closed_pipe_is_fine() -> None:
    words = f"{sys.executable} -m wizard --replay {CANWBS} list --json"
    done = subprocess.run(["bash", "-c", f"{words} | head -c 1; exit ${{PIPESTATUS[0]}}"], capture_output=True, check=False, cwd=ROOT, timeout=LIMIT)
    assert done.returncode == 0
    assert done.stderr == b""


def test_record_writes_whole_files_and_never_over_others(tmp_path: Path) -> None:
    target = tmp_path / "host.json"
    assert run("--replay", CANWBS, "record", "-o", str(target)).returncode == 0
    before = target.read_bytes()
    lines = failed(run("--replay", REFUSED, "record", "-o", str(target)), 2)
    assert "exists already" in lines[-2]
    assert target.read_bytes() == before
    assert run("--replay", REFUSED, "record", "-o", str(target), "--force").returncode == 0
    assert target.read_bytes() != before
    assert [path.name for path in tmp_path.iterdir()] == ["host.json"]


def test_a_umockdev_recording_lists_the_same_functions(tmp_path: Path) -> None:
    target = tmp_path / "host.umockdev"
    assert run("--replay", CANWBS, "record", "-o", str(target)).returncode == 0
    listed = [{f["address"] for f in json.loads(run("--replay", source, "list", "--json").stdout)["functions"]} for source in (CANWBS, str(target))]
    assert listed[0] == listed[1] != set()


def test_raw_snapshots_are_for_their_owner_alone(tmp_path: Path) -> None:
    target = tmp_path / "raw.json"
    assert run("record", "--no-redact", "-o", str(target)).returncode == 0
    assert target.stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_written_is_status_5(tmp_path: Path) -> None:
    done = run("--replay", CANWBS, "record", "-o", str(tmp_path / "no" / "such" / "host.json"))
    assert failed(done, 5)
    assert list(tmp_path.iterdir()) == []


def test_listing_a_recording_never_loads_the_screen_or_the_live_host() -> None:
    code = "import sys; from wizard.cli.main import main; main(['--replay', sys.argv[1], 'list']); print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, CANWBS], capture_output=True, text=True, check=True, cwd=ROOT, timeout=LIMIT)
    loaded = set(done.stdout.split())
    assert not loaded & {"textual", "rich", "pyudev", "psutil", "numpy", "lxml", "tomlkit", "qemu"}


SHOWN = {
    "list": ["--replay", CANWBS, "list"],
    "show": ["--replay", CANWBS, "show", "14:00.0"],
    "doctor": ["--replay", CANWBS, "doctor"],
    "plan": ["--replay", CANWBS, "plan", "--vm", "web=14:00.0"],
    "diff": ["diff", REFUSED, CANWBS],
    "baseline": ["baseline", CANWBS, "--no-index"],
}


@pytest.mark.parametrize("name", SHOWN)
def test_schemas_describe_what_is_printed(name: str) -> None:
    schema = json.loads(run("schema", name).stdout)
    jsonschema.validate(json.loads(run(*SHOWN[name], "--json").stdout), schema)


def test_every_snapshot_that_is_shipped_fits_its_schema() -> None:
    schema = json.loads(run("schema", "snapshot").stdout)
    for path in (ROOT / "fixtures").glob("*.json"):
        jsonschema.validate(json.loads(path.read_text()), schema)


def test_every_schema_that_is_offered_can_be_had() -> None:
    for name in run("schema").stdout.split():
        assert json.loads(run("schema", name).stdout)["$schema"]


def test_show_an_smmu_with_what_the_firmware_says() -> None:
    """The mapping as iasl disassembles it: input base 0x8000, ID count 0x3ff, output base 0x8000."""
    text = run("--replay", CANWBS, "show", "smmu3.0x000000000c040000").stdout
    assert "segment 0000, requester IDs 0x8000 to 0x83ff: StreamIDs 0x8000 to 0x83ff" in text
    shown = json.loads(run("--replay", CANWBS, "show", "smmu3.0x000000000c040000", "--json").stdout)
    told = {"subject": "segment 0000", "input_first": "0x8000", "input_last": "0x83ff", "stream_first": "0x8000", "stream_last": "0x83ff"}
    assert shown["firmware"]["ranges"] == [told]
    assert shown["firmware"]["promises"]["cohacc"] is True
