"""The pytest plugin, as a driver's own tests use it: a small driver in C, its tests in a session of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.cache import skip_loudly
from tests.tools.processes import LIMIT
from wizard.smmu.client import HEADER, Client
from wizard.smmu.client.served import started

ROOT = Path(__file__).parents[2]
TESTS = """
import subprocess
import pytest

DRIVER = {driver!r}

def test_driver(smmu_server):
    done = subprocess.run([DRIVER], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "driver: fine\\n"), done.stderr

def test_driver_that_leaves_a_record(smmu_server):
    assert subprocess.run([DRIVER, "forgets"], timeout=60).returncode == 0

@pytest.mark.smmu_server(allow="events")
def test_driver_that_may(smmu_server):
    assert subprocess.run([DRIVER, "forgets"], timeout=60).returncode == 0

@pytest.mark.smmu_server("--smmu", "smmu0,gbpa=0x100000", allow=["gerror"])
def test_the_client(smmu):
    assert smmu.read(0x9050044, 4) == 0x100000
    smmu.ask("memset 0x40000000 16 0xff")
    smmu.write(0x9050090, 0x40000000, 8)
    smmu.write(0x9050020, 8, 4)
    smmu.write(0x9050098, 1, 4)
    assert smmu.status()["cmdq-error"] == 1

def test_a_global_error(smmu):
    smmu.write(0x9050090, 0x1000, 8)
    smmu.write(0x9050020, 8, 4)
    smmu.write(0x9050098, 1, 4)

@pytest.mark.smmu_server("--smmu", "no name")
def test_a_server_that_does_not_begin(smmu_server):
    pass

def test_a_server_that_dies(smmu_server):
    smmu_server.process.kill()
"""


def session(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A pytest that knows nothing of this project's configuration, with the plugin named as its entry point would."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-p", "wizard.pytest_plugin", "-p", "no:cacheprovider", "-q", "-rA", "--strict-markers", *words]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The driver, compiled with every warning an error."""
    if not (compiler := shutil.which("cc")):
        skip_loudly("the client in C can't be compiled", "install a C compiler (cc)")
    made = tmp_path_factory.mktemp("driver") / "driver"
    source = Path(__file__).parent / "data/driver.c"
    warnings = ["-std=c99", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"]
    done = subprocess.run([compiler, *warnings, "-I", HEADER.parent, source, "-o", made], capture_output=True, text=True, check=False, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    return made


def test_the_client_in_c_is_one_in_cpp_too(tmp_path: Path) -> None:
    if not (compiler := shutil.which("c++")):
        skip_loudly("the client can't be compiled as C++", "install a C++ compiler (c++)")
    source = tmp_path / "driver.cpp"
    source.write_text('#include "smmu_wizard.h"\nint main() { static struct smmu_wizard s; return smmu_wizard_open(&s, 0); }\n')
    words: list[str | Path] = [compiler, "-std=c++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", HEADER.parent, source]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LIMIT)
    assert done.returncode == 0, done.stderr


def test_a_driver_in_c_and_what_its_tests_are_told(driver: Path, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS.format(driver=str(driver)))
    done = session(tmp_path, "--smmu-coverage")
    results = {line.split("::")[1].split()[0]: line.split()[0] for line in done.stdout.splitlines() if line.startswith(("PASSED", "ERROR", "FAILED"))}
    failed = {name for name, result in results.items() if result != "PASSED"}
    assert failed == {
        "test_driver_that_leaves_a_record", "test_a_global_error", "test_a_server_that_does_not_begin", "test_a_server_that_dies",
    }, done.stdout  # fmt: skip
    said = done.stdout
    assert "smmu0: 1 event records were not read:" in said
    assert "StreamID=0x5" in said
    assert "smmu0: a global error is active and not acknowledged: CMDQ_ERR (CMDQ_CONS.ERR 2)." in said
    assert "smmu-server did not begin: smmu-wizard: 'no name' is no name" in said
    assert "The server did not answer at the end of the test" in said
    assert "Traceback" not in said
    counted = re.search(r"^(\d+) of (\d+) behaviours of the specification exercised$", said, re.MULTILINE)
    assert counted is not None
    assert 20 < int(counted[1]) < int(counted[2])
    assert "not fault.stage1.translation" not in said, "the driver takes one"
    assert "  not ats.granted: a translation request is granted something (3.9.1.2, 13.7)" in said


def test_a_server_ends_with_the_one_who_started_it() -> None:
    with started() as served:
        other = Client.at(served.path, LIMIT)
        served.client.close()
        assert other.ask("help")
        other.close()
        assert served.process.wait(LIMIT) == 0
    assert not served.path.parent.exists()


def test_unused_it_imports_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n\ndef test_it():\n    assert not [one for one in sys.modules if one.startswith('wizard.')][1:]\n"
    )
    done = session(tmp_path)
    assert "1 passed" in done.stdout, done.stdout
