"""The Debian package, built, judged and installed by Debian's own tools in a root of Debian forky."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.tools.cache import PROJECT, cache, skip_loudly
from wizard.cli.missing import PACKAGES

SCRIPT = PROJECT / "scripts/debian-package"


def test_lintian_is_silent_and_apt_installs_what_runs(tmp_path: Path) -> None:
    """As an ordinary user, its modules private, and nothing left once it is removed (scripts/debian-package --fresh: the same in new systems)."""
    if os.geteuid() != 0 or not (cache() / "packaging-root/version").exists():
        skip_loudly("no Debian package is built", "as root: scripts/debian-tools --with packaging (needs mmdebstrap)")
    done = subprocess.run([SCRIPT, "--check", tmp_path], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=900)
    assert done.returncode == 0, done.stderr
    [package] = tmp_path.glob("*.deb")
    listed = subprocess.run(["dpkg-deb", "-c", package], capture_output=True, text=True, check=True, timeout=60).stdout
    names = {line.split()[5] for line in listed.splitlines()}
    for name in (
        *("bin/smmu-wizard", "share/man/man1/smmu-wizard.1.gz", "share/bash-completion/completions/smmu-wizard"),
        *("share/zsh/vendor-completions/_smmu-wizard", "share/doc/smmu-wizard/docs/snapshot.md", "share/smmu-wizard/wizard/cli/main.py"),
    ):
        assert f"./usr/{name}" in names, name
    assert not [name for name in names if "dist-packages" in name]


def test_the_package_asks_for_what_the_program_does() -> None:
    """Each dependency of pyproject.toml, with its bound: recording and listing depends on it, or it is recommended."""
    wanted = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    core = tomllib.loads((PROJECT / "packaging/core/pyproject.toml").read_text())["project"]
    control = (PROJECT / "debian/control").read_text().split("\nPackage: ")[1]
    depends, recommends = control.split("Recommends:")[0], control.split("Recommends:")[1].split("Suggests:")[0]
    debian = dict(PACKAGES.values())
    for requirement in wanted:
        name, bound = requirement.replace("~=", ">=").split(">=")
        needed = requirement in [*core["dependencies"], *core["optional-dependencies"]["host"]]
        line = next((line for line in (depends if needed else recommends).splitlines() if line.startswith(f" {debian[name]} ")), None)
        assert line is not None, requirement
        assert bound in line, (line, requirement)


@pytest.mark.parametrize("option", ["--help", "--nonsense"])
def test_the_script_says_what_it_is_for(option: str) -> None:
    done = subprocess.run([SCRIPT, option], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60)
    assert done.returncode == (0 if option == "--help" else 2)
    assert "--fresh" in done.stdout or "--help" in done.stderr
