"""The packages of distributions, built, judged and installed by their own tools in a root of Debian forky."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.tools.cache import PROJECT, cache, skip_loudly
from wizard.cli.missing import PACKAGES

SCRIPT = PROJECT / "scripts/debian-package"
RPM = PROJECT / "scripts/rpm-package"
DEPENDENCIES = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
CORE = tomllib.loads((PROJECT / "packaging/core/pyproject.toml").read_text())["project"]
NEEDED = {*CORE["dependencies"], *CORE["optional-dependencies"]["host"]}
"""What recording and listing a host takes: a package depends on it, and recommends the rest."""


def packages_are_built() -> None:
    if os.geteuid() != 0 or not (cache() / "packaging-root/version").exists():
        skip_loudly("no packages of distributions are built", "as root: scripts/debian-tools --with packaging (needs mmdebstrap)")


def test_lintian_is_silent_and_apt_installs_what_runs(tmp_path: Path) -> None:
    """As an ordinary user, its modules private, and nothing left once it is removed (scripts/debian-package --fresh: the same in new systems)."""
    packages_are_built()
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
    control = (PROJECT / "debian/control").read_text().split("\nPackage: ")[1]
    depends, recommends = control.split("Recommends:")[0], control.split("Recommends:")[1].split("Suggests:")[0]
    debian = dict(PACKAGES.values())
    for requirement in DEPENDENCIES:
        name, bound = requirement.replace("~=", ">=").split(">=")
        line = next((line for line in (depends if requirement in NEEDED else recommends).splitlines() if line.startswith(f" {debian[name]} ")), None)
        assert line is not None, requirement
        assert bound in line, (line, requirement)


def test_rpmbuild_makes_a_package_that_asks_for_the_same(tmp_path: Path) -> None:
    packages_are_built()
    done = subprocess.run([RPM, tmp_path], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=900)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("smmu-wizard-*.noarch.rpm"))) == 1
    lines = done.stdout.splitlines()
    for requirement in DEPENDENCIES:
        name, bound = requirement.replace("~=", ">=").split(">=")
        line = next((line for line in lines if line.startswith(f"python3dist({name.replace('.', '-')}) >= ")), None)
        assert line is not None, requirement
        assert bound.startswith(line.split()[2]), (line, requirement)
    share = "/usr/share"
    for name in (
        "smmu-wizard/wizard/cli/main.py",
        "man/man1/smmu-wizard.1.gz",
        "bash-completion/completions/smmu-wizard",
        "doc/smmu-wizard/docs/snapshot.md",
    ):
        assert f"{share}/{name}" in lines, name
    assert "/usr/bin/smmu-wizard" in lines
    assert not [line for line in lines if "site-packages" in line or "__pycache__" in line]


@pytest.mark.parametrize("script", [SCRIPT, RPM], ids=lambda path: path.name)
@pytest.mark.parametrize("option", ["--help", "--nonsense"])
def test_the_script_says_what_it_is_for(script: Path, option: str) -> None:
    done = subprocess.run([script, option], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60)
    assert done.returncode == (0 if option == "--help" else 2)
    assert "DIRECTORY" in done.stdout or "--help" in done.stderr
