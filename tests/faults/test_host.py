"""A host that changes under its reader: attributes that answer EIO, functions that vanish, files that lose their permission."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.readers import SEEDS
from tests.tools.cache import PROJECT, skip_loudly
from tests.tools.processes import LIMIT

FUNCTION = "0000:14:00.0"


@pytest.fixture(scope="module")
def interposer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that lets chosen files fail as a real sysfs does."""
    compiler = shutil.which("cc")
    if compiler is None:
        skip_loudly("no attribute can be made to answer EIO", "install a C compiler (gcc)")
    library = tmp_path_factory.mktemp("eio") / "eio.so"
    source = Path(__file__).parent / "eio.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-w", "-o", library, source, "-ldl"], check=True, timeout=LIMIT)
    return library


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded arm64 host as a directory."""
    root = tmp_path_factory.mktemp("host")
    for name, value in json.loads((SEEDS / "tree.json").read_bytes()).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(value, dict) and "link" in value:
            path.symlink_to(value["link"])
        elif isinstance(value, dict):
            path.write_bytes(bytes.fromhex(value["hex"]).ljust(value["length"], b"\0"))
        else:
            path.write_text(value)
    return root


def wizard(tree: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wizard", "--root", tree, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
        timeout=LIMIT,
        env={**os.environ, **environment},
    )


def recorded(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert done.returncode == 0, done.stderr
    snapshot: dict[str, object] = json.loads(done.stdout)
    return snapshot


def functions(snapshot: dict[str, object]) -> set[str]:
    listed = snapshot["functions"]
    assert isinstance(listed, list)
    return {function["address"] for function in listed}


@pytest.mark.parametrize("name", ["config", "resource", "numa_node", "reset_method"])
def test_an_attribute_that_answers_eio_is_unread_with_its_reason(name: str, tree: Path, interposer: Path) -> None:
    whole = recorded(wizard(tree, "record"))
    hurt = recorded(wizard(tree, "record", LD_PRELOAD=str(interposer), EIO_ON=f"{FUNCTION}/{name}", EIO=name))
    relative = recorded(wizard(tree, "record", LD_PRELOAD=str(interposer), EIO_ON=name))
    assert functions(whole) == functions(hurt) == functions(relative)
    unread = relative["unread"]
    assert isinstance(unread, dict)
    assert [reason for path, reason in unread.items() if path.endswith(f"{FUNCTION}/{name}")] == ["EIO"]


def test_unread_is_unknown_and_not_no(tree: Path, interposer: Path) -> None:
    """Without its configuration space nobody knows whether a function has PASID."""
    shown = wizard(tree, "show", FUNCTION, "--json", LD_PRELOAD=str(interposer), EIO_ON="config")
    assert shown.returncode == 0, shown.stderr
    capabilities = json.loads(shown.stdout)["function"]["capabilities"]
    assert capabilities["pasid"]["value"] is None
    assert capabilities["pasid"]["source"] == "none"


@pytest.mark.parametrize("words", [("list",), ("doctor", "--json"), ("show", "0000:10:00.0"), ("record",)])
@pytest.mark.parametrize("name", ["vendor", "uevent", "iommu_group", "class", "type", "dmesg", "meminfo", "IORT"])
def test_any_file_may_fail(words: tuple[str, ...], name: str, tree: Path, interposer: Path) -> None:
    for fault in ("EIO_ON", "GONE_ON"):
        done = wizard(tree, *words, LD_PRELOAD=str(interposer), **{fault: name})
        assert done.returncode in (0, 1, 2), done.stderr
        assert "Traceback" not in done.stderr
        assert "internal error" not in done.stderr


def test_a_function_that_vanishes_between_listing_and_reading_is_left_out(tree: Path, tmp_path: Path) -> None:
    """The listing still names it; its directory is gone, as after an unplug or the end of its VFs."""
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy, symlinks=True)
    for path in copy.glob(f"sys/devices/**/{FUNCTION}"):
        shutil.rmtree(path)
    left = recorded(wizard(copy, "record"))
    assert functions(recorded(wizard(tree, "record"))) - functions(left) == {FUNCTION}


def test_a_function_that_loses_its_files_one_by_one_never_fails(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy, symlinks=True)
    [place] = copy.glob(f"sys/devices/**/{FUNCTION}")
    for path in sorted(place.iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        assert recorded(wizard(copy, "record"))


def test_what_only_root_may_read_is_said_once(tree: Path) -> None:
    if os.geteuid() != 0:
        skip_loudly("no file can be made root's own", "run the tests as root")
    for path in (tree, *tree.parents):
        if path not in (Path("/"), Path("/tmp")):
            path.chmod(path.stat().st_mode | 0o055)
    table = tree / "sys/firmware/acpi/tables/IORT"
    if not table.exists():
        table = next(tree.glob("**/IORT*"))
    before = table.stat().st_mode
    table.chmod(0o400)
    words = ["setpriv", "--reuid", "65534", "--clear-groups", "--inh-caps=-all", sys.executable, "-m", "wizard", "--root", str(tree), "record"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=PROJECT, check=False, timeout=LIMIT)
    table.chmod(before)
    if "Permission denied" in done.stderr:
        skip_loudly("another user can't run this interpreter", "put the environment where everybody may read it")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("without root") == 1
    assert "needs root" in json.loads(done.stdout)["unread"].values()
