"""The compiled form of ``trails``: made of the same file, it passes the same tests, and it runs only where it may."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.tools.cache import PROJECT, skip_loudly
from tests.tools.processes import LIMIT
from wizard.smmu import form

BOTH_WAYS = ("test_trails.py", "test_worked.py", "test_second_walker.py", "test_walks.py", "test_permissions.py", "test_updates_and_stalls.py")
"""What is asked of both forms: random worlds by trails and by the steps, the second walker, faults, permissions, hardware update."""


def run(*words: str, variable: str | Path | None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in (form.VARIABLE, "PYTEST_ADDOPTS")}
    environment |= {form.VARIABLE: str(variable)} if variable is not None else {}
    return subprocess.run(
        [sys.executable, *words], cwd=PROJECT, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT, stdin=subprocess.DEVNULL
    )


def forms(variable: str | Path | None) -> list[str]:
    """Which form a process runs, why, and the type that translates."""
    script = (
        "from wizard.smmu import Ids, Memory, Smmu, form; smmu = Smmu(Ids(), Memory(), tlb=False)\n"
        "print(form.FORM, form.WHY, type(smmu._follower).__module__, sep='\\n')"
    )
    return run("-c", script, variable=variable).stdout.splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the walk was compiled into."""
    if find_spec("Cython") is None or shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]) is None:
        skip_loudly("the walk was not compiled", "install cython, a C compiler and Python's headers")
    made = tmp_path_factory.mktemp("compiled")
    done = run("-m", "wizard.smmu.compile", "-o", str(made), variable=None)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == form.file_in(str(made))
    assert f"{form.VARIABLE}={made}" in done.stderr
    return made


def test_the_compiled_form_passes_the_same_tests(folder: Path) -> None:
    assert forms(folder) == ["compiled", form.file_in(str(folder)), form.NAME]
    tests = [f"tests/smmu/{name}" for name in BOTH_WAYS]
    done = run("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly", *tests, variable=folder)
    assert done.returncode == 0, done.stdout[-4000:]


def test_it_is_off_where_it_is_not_wanted_not_there_or_of_another_source(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, why, module = forms("no")
    assert (name, why, module) == ("Python", "SMMU_WIZARD_COMPILED is no", "wizard.smmu.trails")
    assert form.compiled(str(tmp_path)) == (None, f"there is no {form.file_in(str(tmp_path))} (python -m wizard.smmu.compile makes it)")
    broken = Path(form.file_in(str(tmp_path)))
    broken.write_bytes(b"no module at all")
    name, why, module = forms(tmp_path)
    assert (name, module) == ("Python", "wizard.smmu.trails")
    assert why.startswith(f"{broken} can't be loaded: ")
    changed = tmp_path / "trails.py"
    changed.write_bytes(Path(form.SOURCE).read_bytes() + b"# a later version\n")
    monkeypatch.setattr(form, "SOURCE", str(changed))
    module_or_none, why = form.compiled(str(folder))
    assert module_or_none is None
    assert "was made of another trails.py" in why


def test_a_compiler_that_is_not_there_is_named(tmp_path: Path) -> None:
    if find_spec("Cython") is None:
        skip_loudly("the walk was not compiled", "install cython")
    command = [sys.executable, "-m", "wizard.smmu.compile", "-o", str(tmp_path / "made")]
    done = subprocess.run(
        command, cwd=PROJECT, env={**os.environ, "CC": "no-such-compiler"}, capture_output=True, text=True, check=False, timeout=LIMIT
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == "There is no no-such-compiler. Install a C compiler (gcc or clang), or name one by CC.\n"
    assert not (tmp_path / "made").exists()
