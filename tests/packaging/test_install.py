"""A wheel and a source distribution, built without network, installed alone, run by root and by anybody from where nobody can write."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import msgspec
import pytest

import wizard
from tests.tools.cache import PROJECT, skip_loudly

NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all")
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def run(*words: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=300)


def build(source: Path, target: str, into: Path) -> Path:
    done = run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", into, cwd=source)
    assert done.returncode == 0, done.stderr
    [made] = into.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that everybody can enter."""
    with tempfile.TemporaryDirectory(prefix="smmu-wizard-install-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture(scope="module")
def wheel(place: Path) -> Path:
    return build(PROJECT, "wheel", place / "wheel")


@pytest.fixture(scope="module")
def installed(place: Path, wheel: Path) -> Path:
    """The command in an environment of its own: the wheel by pip, what it depends on out of the environment of these tests."""
    fresh = place / "fresh"
    assert run(sys.executable, "-m", "venv", "--without-pip", fresh).returncode == 0
    site = next((fresh / "lib").glob("python3*/site-packages"))
    done = run(sys.executable, "-m", "pip", "--python", fresh / "bin/python", "install", "--no-deps", "--quiet", wheel, env={**os.environ, **OFFLINE})
    if done.returncode and "No module named pip" in done.stderr:
        skip_loudly("the wheel can't be installed", "install pip into the environment of the tests")
    assert done.returncode == 0, done.stderr
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    where = run(fresh / "bin/python", "-c", "import wizard; print(wizard.__file__)", cwd=place)
    assert where.stdout.startswith(str(site)), where
    return fresh / "bin/smmu-wizard"


def everybody_can_run(installed: Path) -> None:
    if os.geteuid() != 0:
        skip_loudly("no other user can be taken on", "run the tests as root")
    if run(*NOBODY, installed, "--version", cwd=Path("/")).returncode:
        skip_loudly("another user can't run this interpreter", "put Python and the environment where everybody may read them")


def test_the_source_distribution_builds_the_same_wheel(place: Path, wheel: Path) -> None:
    packed = build(PROJECT, "sdist", place / "sdist")
    with tarfile.open(packed) as archive:
        archive.extractall(place / "unpacked", filter="data")
    [source] = (place / "unpacked").iterdir()
    again = build(source, "wheel", place / "again")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert {info.filename: info.CRC for info in first.infolist()} == {info.filename: info.CRC for info in second.infolist()}
    if (PROJECT / ".git").exists():
        kept = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=PROJECT)
        missing = {name for name in kept.stdout.splitlines() if not (source / name).exists() and (PROJECT / name).exists()}
        assert missing == set(), "the source distribution is not the whole tree"


def test_two_builds_are_equal(place: Path, wheel: Path) -> None:
    """Byte for byte, from another directory, later, with another umask: who builds it again can compare the hashes."""
    packed = build(PROJECT, "sdist", place / "first")
    with tarfile.open(packed) as archive:
        archive.extractall(place / "elsewhere", filter="data")
    [source] = (place / "elsewhere").iterdir()
    for path in source.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    assert build(source, "sdist", place / "second").read_bytes() == packed.read_bytes()
    assert build(source, "wheel", place / "third").read_bytes() == wheel.read_bytes()


def test_the_wheel_has_what_a_distribution_wants(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for end in (
        "doc/smmu-wizard/docs/snapshot.md",
        "smmu-wizard/engines/ansible/galaxy.yml",
        "man/man1/smmu-wizard.1",
        "bash-completion/completions/smmu-wizard",
        "zsh/site-functions/_smmu-wizard",
        "licenses/LICENSE",
    ):
        assert any(name.endswith(end) for name in names), end
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests") or name.endswith(".so")]
    assert {"wizard/smmu/trails.py", "wizard/smmu/trails.pxd", "wizard/smmu/compile.py"} <= set(names)  # what compiles the walk after an installation


def test_the_wheel_names_the_pytest_plugin_and_has_the_client_in_c(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [points] = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "[pytest11]\nsmmu_wizard = wizard.pytest_plugin" in archive.read(points).decode()
        assert "wizard/smmu/client/smmu_wizard.h" in archive.namelist()


def test_version_names_the_formats(installed: Path, place: Path) -> None:
    done = run(installed, "--version", cwd=place)
    assert done.stdout == f"smmu-wizard {wizard.__version__} (snapshot format 1, profile format 1, output schema 1)\n"


def test_the_demo_goes_from_host_to_command_line(installed: Path, place: Path) -> None:
    out = place / "profiles"
    assert "0000:14:00.0" in run(installed, "--demo", "list", cwd=place).stdout
    assert run(installed, "--demo", "plan", "--vm", "web=0000:14:00.0", "-o", out, cwd=place).returncode == 0
    done = run(installed, "--demo", "export", "profiles/web.toml", "--format", "qemu-json", cwd=place)
    assert any("arm-smmuv3" in word for word in json.loads(done.stdout))
    for form in ("qemu", "libvirt", "prepare"):
        assert run(installed, "--demo", "export", "profiles/web.toml", "--format", form, cwd=place).returncode == 0
    assert run(installed, "--demo", "dry-run", "profiles/web.toml", cwd=place).returncode == 0


def test_the_wizard_itself_opens_from_the_wheel(installed: Path, place: Path) -> None:
    script = place / "open.keys"
    script.write_text('expect "NVM Express"\nscreenshot host.txt\n')
    done = run(installed, "--demo", "--script", script, cwd=place)
    assert done.returncode == 0, done.stderr
    assert "0000:14:00.0" in (place / "host.txt").read_text()


def test_root_under_sudo_works(installed: Path, place: Path) -> None:
    """What sudo leaves of an environment: its own PATH, root's home, and who asked."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "USER": "root", "SUDO_USER": "ada", "SUDO_UID": "1000", "TERM": "dumb"}
    done = run(installed, "--demo", "list", cwd=place, env=environment)
    assert done.returncode == 0, done.stderr
    live = run(installed, "list", "--json", cwd=place, env=environment)
    assert live.returncode == 0, live.stderr
    assert json.loads(live.stdout)["schema"] == 1


def test_anybody_runs_a_read_only_install_and_leaves_nothing(installed: Path, place: Path) -> None:
    everybody_can_run(installed)
    before = {str(path) for path in place.rglob("*")}
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C"}
    for words in (["--demo", "list"], ["--demo", "doctor"], ["list"], ["record", "-o", "host.json"]):
        done = run(*NOBODY, installed, *words, cwd=Path("/"), env=environment)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == (5 if "-o" in words else 1 if "doctor" in words else 0), (words, done.stderr)
    assert {str(path) for path in place.rglob("*")} == before


def test_no_network_is_touched(installed: Path, place: Path) -> None:
    """In a network namespace with nothing in it, not even a loopback that is up."""
    if os.geteuid() != 0 or run("unshare", "-n", "true").returncode:
        skip_loudly("no empty network can be made", "run the tests as root")
    for words in (["--demo", "list"], ["--demo", "doctor"], ["schema", "list"], ["list"]):
        done = run("unshare", "-n", installed, *words, cwd=place)
        assert done.returncode in (0, 1), done.stderr


@pytest.fixture(scope="module")
def small(place: Path) -> Path:
    """smmu-wizard-core with msgspec and nothing else."""
    made = build(PROJECT / "packaging/core", "wheel", place / "core")
    fresh = place / "small"
    assert run(sys.executable, "-m", "venv", "--without-pip", fresh).returncode == 0
    site = next((fresh / "lib").glob("python3*/site-packages"))
    with zipfile.ZipFile(made) as archive:
        archive.extractall(site)
    (site / "msgspec").symlink_to(Path(msgspec.__file__).parent)
    return fresh / "bin/python"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["list"], 0, ""),
        (["show", "0000:14:00.0"], 0, ""),
        (["doctor"], 1, ""),
        (["record"], 0, ""),
        (["topology"], 0, ""),
        (["plan", "--vm", "web=0000:14:00.0"], 4, "the Python package tomlkit, which is not installed"),
        (["--script", "keys"], 4, "the Python package textual, which is not installed"),
    ],
)
def test_a_host_needs_msgspec_alone(small: Path, place: Path, words: list[str], status: int, said: str) -> None:
    """What only reads and judges works without Textual, numpy, lxml and the rest; what doesn't names the package, never with a traceback."""
    (place / "keys").write_text("screenshot host.txt\n")
    done = run(small, "-m", "wizard", "--demo", *words, cwd=place)
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_the_model_runs_with_msgspec_and_numpy_alone(small: Path, place: Path) -> None:
    """smmu-wizard-core[smmu]: its page runs, and translate and the server too."""
    extra = tomllib.loads((PROJECT / "packaging/core/pyproject.toml").read_text())["project"]["optional-dependencies"]["smmu"]
    assert [re.split("[^a-z]", one)[0] for one in extra] == ["numpy"]
    site = next((small.parents[1] / "lib").glob("python3*/site-packages"))
    for part in {Path(str(file)).parts[0] for file in metadata.files("numpy") or () if not str(file).startswith("..")}:
        (site / part).symlink_to(Path(str(metadata.distribution("numpy").locate_file(part))))
    script = "import importlib.util; print([one for one in ('textual', 'lxml', 'psutil', 'shtab', 'pytest') if importlib.util.find_spec(one)])"
    assert run(small, "-c", script, cwd=place).stdout == "[]\n"
    blocks = re.findall(r"^```python\n(.*?)^```", (PROJECT / "docs/smmu-library.md").read_text(), re.MULTILINE | re.DOTALL)
    done = run(small, "-I", "-c", "\n".join(blocks), cwd=place)
    assert done.returncode == 0, done.stderr
    (place / "cases.json").write_text('{"sid": 1, "iova": "0x40000000", "cr0": 0}')
    assert '"how":"disable"' in run(small, "-m", "wizard", "translate", "cases.json", cwd=place).stdout
    served = run(small, "-m", "wizard", "smmu-server", "--stdio", cwd=place)
    assert (served.returncode, served.stderr) == (0, "")


def test_the_small_distribution_is_the_whole_one_in_parts() -> None:
    """packaging/core names the same packages with the same bounds: its extra `all` is what smmu-wizard depends on."""
    whole, core = (tomllib.loads((PROJECT / name / "pyproject.toml").read_text())["project"] for name in (".", "packaging/core"))
    extras = core["optional-dependencies"]
    parts = [extras[name] for name in extras if name != "all"]
    assert sorted([*core["dependencies"], *(one for part in parts for one in part)]) == sorted(whole["dependencies"])
    assert extras["all"] == [f"smmu-wizard-core[{','.join(name for name in extras if name != 'all')}]"]
    for name in ("requires-python", "license", "authors", "scripts", "entry-points"):
        assert core[name] == whole[name], name
