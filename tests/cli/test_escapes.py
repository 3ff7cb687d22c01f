"""Nothing that came from outside reaches the terminal as anything but text: neither from a snapshot nor from the command's own words."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import msgspec
import pytest

from tests.tools.cache import PROJECT
from tests.tools.hostile import hostile_places
from wizard.base.errors import WizardError
from wizard.cli.main import main
from wizard.facts.snapshot import decode

HOSTILE = "\x1b]0;title\x07\x1b[31m\u202e\x9b2J"
ACTS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
FIXTURE = PROJECT / "fixtures/vfio-arm64-virt-canwbs.json"


def poisoned(snapshot: bytes) -> bytes:
    """The snapshot with escape sequences behind every text that may be any text."""
    tree = msgspec.json.decode(snapshot)
    for function in tree["functions"]:  # each of them, since one is shown
        for name in ("driver", "iommu", "device_name", "vendor_name", "class_name", "reset_method"):
            function[name] = function.get(name, "") + HOSTILE
    for group in tree["groups"]:
        group["type"] = group.get("type", "") + HOSTILE
    for path in hostile_places(tree):
        if path[0] in ("functions", "format", "log"):
            continue
        *above, last = path
        at = tree
        for key in above:
            at = at[key]
        before = at[last]
        at[last] = before + HOSTILE
        try:
            decode(msgspec.json.encode(tree), "poisoned")
        except WizardError:
            at[last] = before
    return msgspec.json.encode(tree)


def said(*words: str) -> str:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        main(words)
    return out.getvalue() + err.getvalue()


@pytest.mark.parametrize(
    "words", [("list",), ("show", "0000:14:00.0"), ("doctor",), ("plan", "--vm", "web=0000:14:00.0"), ("diff",)], ids=lambda w: str(w[0])
)
def test_a_snapshot_of_a_stranger_does_nothing_to_the_terminal(words: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "poisoned.json"
    path.write_bytes(poisoned(FIXTURE.read_bytes()))
    text = said(*words, str(FIXTURE), str(path)) if words == ("diff",) else said("--replay", str(path), *words)
    assert "\\x1b" in text  # else nothing hostile was shown at all
    assert ACTS.findall(text) == []


def test_every_smmu_is_shown_as_text(tmp_path: Path) -> None:
    path = tmp_path / "poisoned.json"
    path.write_bytes(poisoned(FIXTURE.read_bytes()))
    for function in ("smmu3.0x000000000c000000", "smmu3.0x000000000c000000" + HOSTILE):
        assert ACTS.findall(said("--replay", str(path), "show", function)) == []


@pytest.mark.parametrize(
    "words",
    [
        ("list", f"a{HOSTILE}"), ("export", "x", "--format", HOSTILE), (f"--{HOSTILE}",), (HOSTILE,), ("--replay", f"{HOSTILE}.json", "list"),
        ("translate", HOSTILE), ("schema", HOSTILE), ("plan", "--vm", HOSTILE), ("plan", "--memory", HOSTILE, "--vm", "a=0000:14:00.0"),
        ("record", "-o", f"/nonexistent/{HOSTILE}", "--replay", str(FIXTURE)), ("match", HOSTILE), ("--root", HOSTILE, "list"), ("check", HOSTILE),
    ],
)  # fmt: skip
def test_the_words_of_a_command_come_back_as_text(words: tuple[str, ...]) -> None:
    """argparse repeats what it does not understand; so do we, of files."""
    text = said(*words)
    assert text
    assert ACTS.findall(text) == []
