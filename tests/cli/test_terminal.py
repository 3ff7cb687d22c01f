"""What a person sees at a terminal: colours, signs, rows that fit, a summary, a pager; and that a pipe gets none of it."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.conftest import CANWBS, ROOT
from tests.cli.test_escapes import ACTS, poisoned
from tests.tools.processes import in_terminal
from wizard.base.glyphs import UNICODE
from wizard.cli.lines import Face, drawn, line
from wizard.cli.main import main
from wizard.cli.terminal import face_of, pager_of

SGR = re.compile(r"\x1b\[[0-9;]*m")
PLAIN = {"PAGER": "cat", "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", "NO_COLOR": ""}


def said(*words: str) -> tuple[int, str, str]:
    """Status, standard output and standard error of a command whose streams are pipes."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    return status, out.getvalue(), err.getvalue()


def at_terminal(*words: str, environment: Mapping[str, str] = {}) -> tuple[int, str]:
    """Status of a command at a terminal of 80 columns and what it shows there."""
    command = [sys.executable, "-m", "wizard", "--replay", CANWBS, *words]
    with in_terminal(command, environment={**PLAIN, **environment}) as running:
        status = running.end()
        running.drained()
        return status, running.seen.decode().replace("\r\n", "\n")


def test_a_terminal_has_colours_signs_rows_that_fit_and_a_summary_last() -> None:
    status, seen = at_terminal("doctor")
    assert status == 1
    assert "\x1b[1;31m✘ error\x1b[0m" in seen
    rows = SGR.sub("", seen).rstrip().split("\n")
    assert max(map(len, rows)) <= 80
    assert re.fullmatch(r"\d+ errors?, \d+ warnings?(, \d+ notes?)?", rows[-1])
    # At words, and without losing one: the same words as in a pipe, but for signs and summary.
    words = " ".join(rows[:-1]).replace("✘ ", "").replace("▲ ", "").replace("· info", "info").split()
    assert words == said("--replay", CANWBS, "doctor")[1].split()


def test_colours_are_taken_by_the_environment_and_given_by_the_option() -> None:
    _, plain = at_terminal("list", "--color=auto", environment={"NO_COLOR": "1"})
    assert "\x1b" not in plain
    assert "✔ yes" in plain
    assert plain.rstrip().split("\n")[-1] == "23 functions listed; endpoints: 6 yes, 5 no, 0 unknown"
    assert "\x1b[" in said("--replay", CANWBS, "list", "--color=always")[1]
    assert "\x1b" not in said("--replay", CANWBS, "--color", "auto", "list")[1]

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert not face_of(Terminal(), {"TERM": "dumb"}).colour
    assert not face_of(Terminal(), {"TERM": "xterm"}, "never").colour
    assert face_of(Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, "always").colour
    assert face_of(Terminal(), {"TERM": "xterm", "NO_COLOR": ""}).colour  # no-color.org: "when present and not an empty string"


def test_rows_break_at_words_and_hang_where_they_belong() -> None:
    face = Face(width=30)
    assert list(drawn("  a line of words that is longer than thirty", face)) == ["  a line of words that is", "    longer than thirty"]
    path = "/a/path/that/is/longer/than/any/row/of/it"
    assert list(drawn(f"see {path} there", face)) == ["see", f"  {path}", "  there"]
    assert list(drawn(line("  ", ("no", "sign"), ("error", "bad"), " x"), Face(colour=True, glyphs=UNICODE))) == ["  \x1b[1;31m✘ error\x1b[0m x"]
    assert str(line("  ", ("no", "sign"), ("error", "bad"), " x")) == "  error x"
    wide = list(drawn("機能 " * 12, Face(width=20)))
    assert all(len(row) <= 14 for row in wide)  # two cells each


@pytest.fixture
def pager(tmp_path: Path) -> Path:
    """A pager that keeps what it gets, and shows that it was there."""
    path = tmp_path / "pager"
    path.write_text(f"#!/bin/sh\ncat > {tmp_path}/paged; echo PAGED LESS=$LESS\n")
    path.chmod(0o755)
    return path


def test_what_is_longer_than_the_screen_goes_through_the_pager(pager: Path) -> None:
    """Short output does not; the exit status is the command's."""
    environment = {"SMMU_WIZARD_PAGER": str(pager), "PAGER": "false", "LESS": ""}
    status, seen = at_terminal("doctor", environment=environment)
    assert status == 1
    assert seen.strip() == "PAGED LESS="
    assert "group-shared" in (pager.parent / "paged").read_text()
    status, seen = at_terminal("list", "igb", environment=environment)
    assert status == 0
    assert "igbvf" in seen
    assert "PAGED" not in seen
    status, seen = at_terminal("doctor", "--no-pager", environment=environment)
    assert "group-shared" in seen
    assert "PAGED" not in seen


def test_a_reader_who_leaves_the_pager_changes_nothing_and_a_missing_one_is_done_without(tmp_path: Path) -> None:
    status, seen = at_terminal("doctor", environment={"PAGER": "true"})
    assert (status, seen) == (1, "")
    # No less either, which stands in: nothing but what the script needs that a Python may be started by.
    for program in ("readlink", "dirname"):
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    status, seen = at_terminal("doctor", environment={"PAGER": "/nonexistent/pager", "PATH": str(tmp_path)})
    assert status == 1
    assert "group-shared" in seen
    assert pager_of({"TERM": "xterm", "PAGER": "cat"}) == pager_of({"TERM": "xterm", "PAGER": ""}) == pager_of({"TERM": "dumb"}) == []
    assert pager_of({"TERM": "xterm"}) == ["less"]
    assert pager_of({"TERM": "xterm", "PAGER": "more", "SMMU_WIZARD_PAGER": "less -S"}) == ["less", "-S"]
    # No shell: what looks like one is a word.
    assert pager_of({"TERM": "xterm", "PAGER": "less; rm x"}) == ["less;", "rm", "x"]


def test_an_interrupt_is_the_pagers_while_it_has_the_screen(tmp_path: Path) -> None:
    script = tmp_path / "pager"
    lines = ("#!/bin/sh", "trap 'echo HEARD' INT", "cat > /dev/null", "echo READY", "read line < /dev/tty || read line < /dev/tty", "echo LEFT $line")
    script.write_text("\n".join(lines) + "\n")
    script.chmod(0o755)
    command = [sys.executable, "-m", "wizard", "--replay", CANWBS, "doctor"]
    with in_terminal(command, environment={**PLAIN, "PAGER": str(script)}) as running:
        running.shows(b"READY")
        running.press(b"\x03", b"HEARD")
        running.press(b"q\n", b"LEFT q")
        assert running.end() == 1
        assert b"interrupted" not in running.seen


def test_severity_and_quiet_leave_out_findings_and_change_no_status() -> None:
    whole = said("--replay", CANWBS, "doctor")
    errors = said("--replay", CANWBS, "doctor", "--severity", "error")
    quiet = said("--replay", CANWBS, "doctor", "--quiet")
    assert whole[0] == errors[0] == quiet[0] == 1
    assert "  warning [" in whole[1]
    assert "warning [" not in errors[1] + quiet[1]
    assert "Drivers:" not in errors[1]  # nothing is left in that place
    assert [row for row in errors[1].split("\n") if row.startswith("  error")] == [row for row in quiet[1].split("\n") if row.startswith("  error")]
    assert "why:" not in quiet[1]
    plan = ("--replay", CANWBS, "plan", "--vm", "web=0000:14:00.0", "--memory", "1G")
    assert "[migration-blocked]" in said(*plan)[2]
    assert said(*plan, "-q")[2] == ""
    assert said(*plan, "-q")[1] == said(*plan)[1]


@pytest.mark.parametrize("words", [("list",), ("show", "0000:14:00.0"), ("doctor",), ("list", "express"), ("show", "express")], ids=" ".join)
def test_colours_bring_no_escape_of_a_stranger(words: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "poisoned.json"
    path.write_bytes(poisoned((ROOT / "fixtures/vfio-arm64-virt-canwbs.json").read_bytes()))
    _, out, err = said("--replay", str(path), "--color=always", *words)
    assert "\x1b[" in out
    assert "\\x1b" in out
    assert ACTS.findall(SGR.sub("", out + err)) == []


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("lst",), "did you mean list?"), (("dryrun", "x"), "did you mean dry-run?"), (("list", "--jsn"), "did you mean --json?"),
        (("export", "x", "--format", "qem"), "did you mean qemu?"), (("--json", "list"), "--json comes behind list"),
        (("plan", "--mode", "acel", "--vm", "a=b"), "did you mean accel?"), (("frobnicate",), "invalid choice: 'frobnicate' (choose from list, show"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)  # fmt: skip
def test_a_mistyped_word_is_told_what_was_meant(words: tuple[str, ...], meant: str) -> None:
    status, out, err = said(*words)
    assert (status, out) == (2, "")
    assert meant in err


def test_list_and_show_take_the_wizards_filter() -> None:
    assert said("--replay", CANWBS, "list", "-q", "driver:igb")[1].split() == ["0000:11:00.0", "0000:11:10.0", "0000:11:10.2"]
    refused = said("--replay", CANWBS, "list", "--quiet", "class:02", "accel:no")[1].split()
    assert refused == ["0000:00:01.0", "0000:81:00.0", "0000:81:00.1", "0000:83:01.0", "0000:83:02.0"]
    status, out, err = said("--replay", CANWBS, "list", "nothing-has-this")
    assert status == 0
    assert "FUNCTION" not in out
    assert err == "No function is what is looked for: nothing-has-this\n"
    assert said("--replay", CANWBS, "list", "vm:web")[0] == 2
    assert said("--replay", CANWBS, "show", "nvm express", "smmu:0c000000")[1] == said("--replay", CANWBS, "show", "0000:14:00.0")[1]
    assert said("--replay", CANWBS, "show", "smmu3.0x000000000c02")[1].startswith("smmu3.0x000000000c020000\n")
    status, out, err = said("--replay", CANWBS, "show", "igb")
    assert (status, out) == (2, "")
    assert "0000:11:00.0 Intel Corporation 82576 Gigabit Network Connection" in err
