"""The rooms that need no QEMU and no boot, on a newer Python than the machine's own: what it has taken away or made stricter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.bound import LONGER
from tests.tools.cache import PROJECT, skip_loudly

# Rooms that read, parse, write and talk to the system: where a Python's own library counts. What only computes is the same on each.
ROOMS = ("arch", "base", "cli", "export", "facts", "fleet", "profile")
# What takes a minute and more, asks for programs and not for Python, or looks at the project as a whole.
SLOW = (
    *("export/test_libvirt.py", "export/test_prepare_runs.py", "export/test_shellcheck.py"),
    *("cli/test_planning.py", "cli/test_schemas.py", "cli/test_printed_commands.py", "cli/test_listing.py"),
    *("fleet/test_ansible.py", "fleet/test_cluster.py", "fleet/test_account.py", "fleet/test_hostrows.py", "export/test_virt_install.py"),
)


# The unpacked Python is started by a script of the shell, whose own commands hear a signal to everybody too, and say so.
NOT_THERE = "not an_interrupt_of_the_whole_process_group"


@pytest.mark.another_python
@pytest.mark.parametrize("version", ["3.14"])
def test_rooms_on_a_newer_python(version: str, tmp_path: Path) -> None:
    """In the environment that scripts/test makes beside this one, with a Python out of scripts/debian-tools."""
    python = Path(f"{sys.prefix}-{version}/bin/python")
    if not python.exists():
        skip_loudly(f"no tests on Python {version}", "scripts/test unpacks one of Debian forky's and installs into it")
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        pytest.skip("it is this one")
    words = [
        str(python), "-W", "error::SyntaxWarning", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not qemu and not armhost", "-k", NOT_THERE,
        "--basetemp", str(tmp_path / "tests"), *(f"--ignore=tests/{name}" for name in SLOW), *(f"tests/{room}" for room in ROOMS),
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    limit = LONGER["another_python"] - 60
    done = subprocess.run(words, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False, timeout=limit)
    if done.returncode:
        pytest.fail(f"{python} ended with {done.returncode}:\n{done.stdout[-20000:]}\n{done.stderr[-4000:]}", pytrace=False)
    assert " passed" in done.stdout.splitlines()[-1]
