"""Exported scripts, whole, as shellcheck reads them: not even a remark on style."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.tools.cache import skip_loudly
from tests.tools.hosts import E1000E, NVME, PAIR, VF0, host, plan, vm
from tests.tools.processes import LIMIT
from tests.tools.requests import SETS
from wizard.export import bind_script, prepare_script, qemu_script
from wizard.plan.request import HotplugRequest

NASTY_NAME = "it's a vm"


def clean(text: str, tmp_path: Path) -> None:
    """Fail with what shellcheck says of a script."""
    if not shutil.which("shellcheck"):
        skip_loudly("exported scripts can't be checked", "install shellcheck")
    script = tmp_path / "script.sh"
    script.write_text(text, encoding="utf-8")
    done = subprocess.run(["shellcheck", "--norc", script], capture_output=True, text=True, check=False, timeout=LIMIT)
    assert not done.stdout, done.stdout


@pytest.mark.parametrize("name", list(SETS))
def test_the_command_line_and_its_preparation(name: str, tmp_path: Path) -> None:
    made = plan(replace(SETS[name], user="nobody"))
    clean(prepare_script(made, host()), tmp_path)
    clean(qemu_script(made.vms[0]), tmp_path)


def test_several_vms_with_everything(tmp_path: Path) -> None:
    many = (
        vm(NVME, VF0, name="a", user="qemu", hugepages=2 << 20, hotplug=(HotplugRequest(functions=(E1000E,)),), notes="two\nlines"),
        vm(*PAIR, name=NASTY_NAME, mode="none", user="other"),
    )
    clean(prepare_script(plan(*many), host()), tmp_path)


def test_a_script_that_binds(tmp_path: Path) -> None:
    clean(bind_script(host(), [NVME, E1000E]), tmp_path)
