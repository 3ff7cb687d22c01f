"""Manual page, reference and completions say what the parser says."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.cache import PROJECT, skip_loudly
from tests.tools.processes import LIMIT, in_terminal
from wizard.cli.parser import build

OPTIONS = sorted({option for action in build()._actions for option in action.option_strings})


def test_manual_page_and_reference_are_up_to_date() -> None:
    """The completions may differ by the version of shtab that made them; the test below looks at what they do."""
    done = subprocess.run([sys.executable, PROJECT / "scripts/manpage", "--check"], capture_output=True, text=True, check=False, timeout=LIMIT)
    assert "man/" not in done.stderr, done.stderr
    assert "docs/" not in done.stderr, done.stderr


def test_the_manual_page_has_no_errors() -> None:
    if shutil.which("groff") is None:
        skip_loudly("the manual page can't be formatted", "install groff")
    words = ["groff", "-man", "-Tutf8", "-P-c", "-P-b", "-P-u", "-ww", str(PROJECT / "man/smmu-wizard.1")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LIMIT)
    assert done.stderr == ""
    for heading in ("NAME", "SYNOPSIS", "EXIT STATUS", "FILES"):
        assert heading in done.stdout


def complete(*words: str) -> list[str]:
    """What bash offers for the last word of a command."""
    script = f"""
source {PROJECT}/completions/smmu-wizard.bash
COMP_WORDS=(smmu-wizard {" ".join(words)}) COMP_CWORD={len(words)}
[ "{words[-1]}" != "''" ] || COMP_WORDS[COMP_CWORD]=
function=$(complete -p smmu-wizard | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function smmu-wizard
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd=PROJECT, timeout=LIMIT)
    return [word.strip() for word in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "offered"),
    [(["li"], "list"), (["dry"], "dry-run"), (["export", "--form"], "--format"), (["plan", "--mode", "vir"], "virtio-iommu"), (["--re"], "--replay")],
)
def test_bash_completes(words: list[str], offered: str) -> None:
    assert offered in complete(*words)


def test_bash_completes_files_where_files_are_meant() -> None:
    assert any(word.startswith("fixtures/arm64") for word in complete("list", "--replay", "fixtures/arm64"))


def test_zsh_knows_every_command() -> None:
    text = (PROJECT / "completions/_smmu-wizard").read_text(encoding="utf-8")
    assert text.startswith("#compdef smmu-wizard")
    for name in next(action.choices for action in build()._actions if action.dest == "==SUPPRESS==" or action.nargs == "A..."):  # type: ignore[union-attr]
        assert f'"{name}:' in text or f"{name})" in text
    for option in OPTIONS:
        assert option in text


FIXTURE = "fixtures/arm64-virt-canwbs.json"


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("show --replay {} 0000:14", "0000:14:00.0 "), ("--replay {} show smmu3.0x000000000c02", "smmu3.0x000000000c020000 "),
        ("show --replay={}.gz 0000:42", "0000:42:00.0 "), ("plan --replay {} --vm web=0000:42:00.0,0000:14", "web=0000:42:00.0,0000:14:00.0 "),
        ("list --replay {} acc", "accel:"), ("prepare --root {}.tree 0001:0", "0001:00:00.0 "),
    ],
)  # fmt: skip
def test_tab_in_a_real_bash_gives_names_of_the_host(line: str, completed: str, tmp_path: Path) -> None:
    """With a readline that breaks words at colons, and a snapshot whose strings would be commands."""
    text = (PROJECT / FIXTURE).read_text(encoding="utf-8").replace('"identity": {', '"name": "$(touch bad)", "address": "`touch bad`", "identity": {')
    (tmp_path / "host.json").write_text(text, encoding="utf-8")
    (tmp_path / "host.json.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "host.json.tree/sys/bus/pci/devices/0001:00:00.0").mkdir(parents=True)
    with in_terminal(["bash", "--norc", "--noprofile", "-i"], cwd=tmp_path, environment={"PS1": "$ ", "HISTFILE": ""}) as bash:
        bash.press(f"source {PROJECT}/completions/smmu-wizard.bash; echo re''ady\n".encode(), b"ready")
        typed = f"smmu-wizard {line.format('host.json')}"
        bash.press(typed.encode(), typed.encode())
        bash.press(b"\t", completed[len(line.rpartition(" ")[2]) :].encode())
        assert not (tmp_path / "bad").exists()


def test_completion_says_nothing_where_there_is_no_host() -> None:
    for words in (("show", "--replay", "/nonexistent", "''"), ("show", "--root", "/nonexistent", "''")):
        assert complete(*words) == [""]
