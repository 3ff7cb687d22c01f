"""What every ``--json`` prints of every shipped host fits the schema that ``schema NAME`` gives, to the last field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.cli.conftest import CANWBS, ROOT
from tests.tools.schemas import validator
from wizard.cli.main import main
from wizard.cli.schema import NAMES, schema_of

FIXTURES = sorted((ROOT / "fixtures").glob("*.json"))


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "--json"]) in (0, 1)
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_what_is_said_of_a_host(path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = ["--replay", str(path)]
    validator("snapshot").validate(json.loads(path.read_text()))
    listed = printed(capsys, *source, "list")
    validator("list").validate(listed)
    validator("doctor").validate(printed(capsys, *source, "doctor"))
    for function in listed["functions"]:
        validator("show").validate(printed(capsys, *source, "show", function["address"]))
    for smmu in listed["smmus"]:
        validator("show").validate(printed(capsys, *source, "show", smmu["name"]))
    endpoints = [f["address"] for f in listed["functions"] if not f["class"].startswith("0x06")]
    for address in endpoints[:3]:  # may be refused, and is still described
        validator("plan").validate(printed(capsys, *source, "plan", "--vm", f"web={address}", "--assume-accel"))
    validator("diff").validate(printed(capsys, "diff", CANWBS, str(path)))
    validator("baseline").validate(printed(capsys, "baseline", CANWBS, str(path), "--no-index", "--assume-accel"))
    request = tmp_path / "request.toml"
    request.write_text('assume_accel = true\n[properties]\nats = "auto"\n[[device]]\nclass = "02"\n')
    validator("match").validate(printed(capsys, "match", str(request), CANWBS, str(path), "--no-index"))


@pytest.mark.parametrize("mode", ["accel", "none"])
def test_what_is_said_of_a_profile(mode: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--replay", CANWBS, "plan", "--vm", "web=0000:14:00.0,0000:41:00.0", "--mode", mode, "-o", str(tmp_path)]) == 0
    capsys.readouterr()
    profile = str(tmp_path / "web.toml")
    for path in FIXTURES:  # on its own host, and on others where it fails
        validator("check").validate(printed(capsys, "--replay", str(path), "check", profile))
        validator("diff").validate(printed(capsys, "diff", CANWBS, str(path), "--profile", profile))
    validator("dry-run").validate(printed(capsys, "--replay", CANWBS, "dry-run", profile))


def test_cases_and_answers(capsys: pytest.CaptureFixture[str]) -> None:
    path = next((ROOT / "fixtures" / "translation").glob("*.json"))
    cases = json.loads(path.read_text())
    for case in cases:
        validator_of_input("case").validate(case)
    assert main(["translate", str(path)]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == len(cases)
    for answer in answers:
        validator("answer").validate(answer)


def validator_of_input(name: str) -> jsonschema.Draft202012Validator:
    """Of what is read: unknown fields are ignored within a version."""
    return jsonschema.Draft202012Validator(schema_of(name))


def test_every_schema_is_one() -> None:
    for name in NAMES:
        jsonschema.Draft202012Validator.check_schema(schema_of(name))
