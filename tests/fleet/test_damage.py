"""A directory with every kind of damage: exactly the damaged files are named, each as what it is, and the others are answered."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.fleet.damage import KINDS, build
from wizard.cli.main import main


@pytest.mark.parametrize("command", ["baseline", "match"])
def test_exactly_the_damaged_files_are_named(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "hosts"
    directory.mkdir()
    named = build(directory)
    (tmp_path / "r.toml").write_text('[[device]]\nclass = "02"\n')
    words = [command, *([str(tmp_path / "r.toml")] if command == "match" else []), str(directory), "--json", "--no-index"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)["findings"]
    found = {Path(finding["subject"]).name: finding for finding in told if finding["code"].startswith("fleet-")}
    assert sorted(found) == sorted(named)
    wrong = {
        name: (finding["code"], finding["what"])
        for name, finding in found.items()
        if finding["code"] != named[name].code or not re.search(named[name].says, finding["what"] + finding["fix"])
    }
    assert not wrong
    assert len(KINDS) >= 25
