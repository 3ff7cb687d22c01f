"""Linters, types, the order of the rooms, spelling: all of the project, as tests. And what the package ships."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import wizard
from tests.tools.cache import PROJECT, skip_loudly
from tests.tools.processes import LIMIT


def run(*words: str | Path, cwd: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    """A command's result, whatever its status."""
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=LIMIT)


def clean(*words: str | Path) -> None:
    """Fail with what the command said unless it ended with 0."""
    done = run(*words)
    if done.returncode:
        pytest.fail(f"{done.stdout}\n{done.stderr}", pytrace=False)


def tool(name: str) -> Path:
    """A program of the environment that the tests run in."""
    return Path(sys.executable).parent / name


def tracked() -> list[Path]:
    """The files that git tracks (whoever owns the checkout)."""
    if not shutil.which("git") or not (PROJECT / ".git").exists():
        skip_loudly("tracked files can't be listed", "run the tests in a git checkout, with git installed")
    listed = run("git", "-c", "safe.directory=*", "ls-files", "-z")
    assert listed.returncode == 0, listed.stderr
    return [PROJECT / name for name in listed.stdout.split("\0") if name and (PROJECT / name).is_file()]


def prose_and_code() -> list[Path]:
    """Tracked files that people write: no recordings, no pictures."""
    return [path for path in tracked() if path.suffix not in (".json", ".xz", ".gz", ".bin", ".svg", ".txt") and "data" not in path.parts]


def test_ruff() -> None:
    clean(tool("ruff"), "check", "--no-fix", "--quiet", ".")


def test_ruff_format() -> None:
    clean(tool("ruff"), "format", "--check", "--quiet", ".")


def test_types() -> None:
    clean(sys.executable, "-m", "mypy")


def test_rooms_import_in_order() -> None:
    clean(tool("lint-imports"), "--no-cache")


def imports_inside(room: Path) -> dict[str, set[str]]:
    """Of each module of a room the modules of the same room that it imports: also in functions and for types only. A package is its ``__init__``."""
    modules = {".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__") for path in room.rglob("*.py")}
    graph: dict[str, set[str]] = {}
    for path in room.rglob("*.py"):
        module = ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")
        graph[module] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                graph[module] |= {name.name for name in node.names} & modules
            elif isinstance(node, ast.ImportFrom) and node.module in modules:
                # "from package import name": the module of that name where there is one, else the package itself
                graph[module] |= {found if (found := f"{node.module}.{name.name}") in modules else node.module for name in node.names}
        graph[module].discard(module)
    return graph


def circles(graph: dict[str, set[str]]) -> list[str]:
    """The modules of every circle, each circle as one line."""
    reach: dict[str, set[str]] = {}
    for module in graph:
        seen: set[str] = set()
        ahead = list(graph[module])
        while ahead:
            if (one := ahead.pop()) not in seen:
                seen.add(one)
                ahead += graph[one]
        reach[module] = seen
    rings = {frozenset(other for other in reach[module] if module in reach[other]) for module in graph if module in reach[module]}
    return sorted(" <-> ".join(sorted(ring)) for ring in rings)


def test_circles_are_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["b <-> c"]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("room", sorted(path.parent.name for path in (PROJECT / "wizard").glob("*/__init__.py")))
def test_imports_inside_a_room_go_one_way(room: str) -> None:
    found = circles(imports_inside(PROJECT / "wizard" / room))
    assert not found, "\n".join(found)


def test_spelling() -> None:
    clean(tool("codespell"), *(str(path.relative_to(PROJECT)) for path in prose_and_code()))


def test_scripts_parse() -> None:
    for path in prose_and_code():
        first = path.read_bytes()[:32]
        if first.startswith((b"#!/bin/bash", b"#!/bin/sh")) or path.suffix == ".sh":
            clean("bash", "-n", path)


# The fragments of a preparation script use each other's variables; whole scripts are looked at in tests/export/test_shellcheck.py.
FRAGMENTS = "SC2034,SC2154"


def test_scripts_are_shellcheck_clean() -> None:
    if not shutil.which("shellcheck"):
        skip_loudly("scripts can't be checked", "install shellcheck")
    for path in prose_and_code() + [path for path in tracked() if path.match("tests/export/data/*.sh")]:
        if path.read_bytes()[:32].startswith((b"#!/bin/bash", b"#!/bin/sh")) or path.suffix == ".sh" or path.parent.name == "bed":
            fragment = path.parent.name == "export" or path.name in ("setup", "turns")
            clean("shellcheck", "--severity=warning", "--shell=bash", f"--exclude={FRAGMENTS if fragment else 'SC1091'}", path)


def test_no_machine_path_and_no_mirror_name_in_the_repository() -> None:
    # put together here, so that this file is not what it looks for
    paths = [r"(?<![\w.])/wo" + r"rk/", r"/tmp/ve" + r"nv"]
    mirrors = [r"(?:deb|snapshot|ftp)\.deb" + r"ian\.org", r"\bfiles\.pythonho" + r"sted\b", r"\bpypi" + r"\.org/simple"]
    forbidden = re.compile("|".join(paths + mirrors))
    found = [
        f"{path.relative_to(PROJECT)}:{number}: {line.strip()[:120]}"
        for path in tracked()
        if path.suffix not in (".xz", ".gz", ".bin")
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if forbidden.search(line)
    ]
    assert not found, "\n".join(found)


def test_no_module_has_outgrown_its_room() -> None:
    long = {path.name: lines for path in tracked() if path.suffix == ".py" and (lines := path.read_text(encoding="utf-8").count("\n")) > 500}
    assert not long


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["show", "0000:14:00.0"], ["doctor"]], ids=" ".join)
def test_a_command_loads_neither_the_tui_nor_what_only_others_need(words: list[str]) -> None:
    snapshot = PROJECT / "fixtures/arm64-virt-canwbs.json"
    script = (
        "import sys; from wizard.cli.main import main\n"
        f"main({[*words, '--replay', str(snapshot)]!r})\n"
        "print('LOADED', sorted({'textual', 'rich', 'numpy', 'lxml', 'pyudev', 'qemu', 'tomlkit'} & set(sys.modules)), file=sys.stderr)"
    )
    done = run(sys.executable, "-c", script)
    assert "LOADED []" in done.stderr, done.stderr


def test_version_is_one_and_the_changelog_has_it() -> None:
    assert run(sys.executable, "-m", "hatchling", "version").stdout.strip() == wizard.__version__
    changelog = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{wizard.__version__}]" in changelog or "## [Unreleased]" in changelog


def test_the_wheel_runs_alone_and_carries_the_demo(tmp_path: Path) -> None:
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path)
    assert built.returncode == 0, built.stderr
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert {"wizard/py.typed", "wizard/demo/arm64-virt-canwbs.json"} <= set(names)
    assert all(name.startswith(("wizard/", "smmu_wizard-")) for name in names)
    script = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); from wizard.cli.main import main; sys.exit(main(['--demo', 'list']))"
    listed = run(sys.executable, "-P", "-c", script, cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "smmu3.0x000000000c000000" in listed.stdout


def test_lower_bounds_of_dependencies_are_kept_where_debian_can_follow() -> None:
    """tomlkit 0.13.3, pyudev 0.24.4 and psutil 7.1 are what Debian forky had when the bounds were set."""
    with (PROJECT / "pyproject.toml").open("rb") as file:
        wanted = tomllib.load(file)["project"]["dependencies"]
    assert {"tomlkit>=0.13.3", "pyudev>=0.24.4", "psutil>=7.1", "textual~=8.2"} <= set(wanted)
