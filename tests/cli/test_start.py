"""What a command loads before it does anything: a start costs what is imported for it, and nobody notices one import more (benchmarks/start.py)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.conftest import ROOT
from tests.tools.processes import LIMIT
from wizard.cli.main import main

CODE = (
    "import io, os, sys; before = set(sys.modules)\n"
    "from wizard.cli.main import main\n"
    "status = main(sys.argv[1:])\n"
    "print('LOADED', *sorted(set(sys.modules) - before), file=sys.stderr)\n"
    "sys.exit(status)"
)


def loaded(*words: str, site: bool = False) -> set[str]:
    """Modules that a command line has loaded when it ends; ``site``: other packages can be had."""
    python = [sys.executable, "-c"] if site else [sys.executable, "-S", "-c"]
    done = subprocess.run([*python, CODE, *words], capture_output=True, text=True, cwd=ROOT, timeout=LIMIT, check=True)
    return set(done.stderr.split("LOADED")[1].split())


def test_the_version_needs_the_standard_library_no_more_than_python_itself() -> None:
    assert {one for one in loaded("--version") if not one.startswith("wizard")} == {"__future__", "gc"}


def test_the_version_is_the_parsers(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` alone is answered without a parser; beside other words the parser answers."""
    assert main(["--version"]) == 0
    alone = capsys.readouterr().out
    assert main(["--demo", "--version"]) == 0
    assert capsys.readouterr().out == alone
    assert alone.startswith("smmu-wizard ")


def test_help_makes_no_commands_parser() -> None:
    found = loaded("--help")
    assert "argparse" in found
    assert not {one for one in found if one.startswith(("wizard.facts", "wizard.plan", "wizard.host", "wizard.cli.words."))}
    assert not found & {"msgspec", "shlex", "json", "subprocess"}


def test_a_list_loads_nothing_that_it_does_not_use() -> None:
    found = loaded("--demo", "list", site=True)
    assert "msgspec" in found
    heavy = {"importlib.resources", "pathlib", "tempfile", "zipfile", "html", "json", "subprocess", "tomllib", "hashlib", "wizard.arch.registers"}
    assert not found & heavy
    assert not {one for one in found if one.startswith(("wizard.plan", "wizard.explain", "wizard.facts.paste", "wizard.facts.redact"))}


def test_a_profile_is_read_without_what_writes_it() -> None:
    code = "import sys; from wizard.profile import read_profile; read_profile('version = 1'); print('tomlkit' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=LIMIT, check=True)
    assert done.stdout == "False\n"
