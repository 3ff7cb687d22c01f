"""Trees: the same facts whichever way they are read, and lspci's own word for a big one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.big_host import build_tree
from wizard.facts import crew
from wizard.facts.crew import Part, read_together
from wizard.facts.model import Group
from wizard.facts.record import from_tree
from wizard.facts.snapshot import decode, encode
from wizard.facts.tree import open_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A host of 60 functions: root ports, PFs with VFs, one segment."""
    build_tree(tmp_path / "host", 60)
    return tmp_path / "host"


def test_several_processes_read_what_one_reads(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A big host is read by a crew; the facts and their order are the same."""
    alone = from_tree(open_tree(str(tree)))
    monkeypatch.setattr(crew, "ENOUGH", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2})
    assert from_tree(open_tree(str(tree))) == alone
    assert len(alone.functions) == 60


def test_a_share_whose_process_fails_is_read_by_the_parent(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """A child that is killed or meets an error costs time, never facts."""
    monkeypatch.setattr(crew, "ENOUGH", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    parent = os.getpid()

    def read(share: Sequence[str]) -> Part[Group]:
        if os.getpid() != parent:
            os.kill(os.getpid(), 9)
        return tuple(Group(id=int(name)) for name in share), {share[0]: "read"}

    groups, unread = read_together(Group, ["1", "2", "3", "4"], read)
    assert [group.id for group in groups] == [1, 2, 3, 4]
    assert unread == {"1": "read", "3": "read"}


def test_a_tree_without_uevent_gives_the_same_functions(tree: Path) -> None:
    """One file for seven attributes, or each out of its own: trees that were copied by hand lack some."""
    whole = from_tree(open_tree(str(tree))).functions
    for path in tree.rglob("uevent"):
        path.unlink()
    assert from_tree(open_tree(str(tree))).functions == whole


def test_a_tar_gives_the_same_facts(tree: Path, tmp_path: Path) -> None:
    """A tar of the same tree, packed or not, with or without a directory above it."""
    whole = from_tree(open_tree(str(tree)))
    for name, above in (("a.tar", "."), ("b.tar.gz", "report")):
        with tarfile.open(tmp_path / name, "w:gz" if name.endswith("gz") else "w") as archive:
            archive.add(tree, above)
        facts = from_tree(open_tree(str(tmp_path / name)))
        assert facts == whole
        assert decode(encode(facts), "x") == facts


def test_a_built_host_is_one_for_lspci_too(tree: Path) -> None:
    """lspci reads the same tree: addresses, ids, drivers and groups agree, so a benchmark compares like with like."""
    if shutil.which("lspci") is None:
        pytest.skip("lspci is not installed")
    words = ["lspci", "-Dnnvk", "-A", "linux-sysfs", "-O", f"sysfs.path={tree}/sys/bus/pci"]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    expected = {}
    for paragraph in listed.strip().split("\n\n"):
        match = re.match(r"(\S+) .*?\[([0-9a-f]{4})\]: .*\[([0-9a-f]{4}):([0-9a-f]{4})\]", paragraph)
        driver = re.search(r"Kernel driver in use: (\S+)", paragraph)
        group = re.search(r"IOMMU group (\d+)", paragraph)
        assert match
        assert group
        expected[match[1]] = (match[2], match[3], match[4], driver[1] if driver else None, int(group[1]))
    functions = from_tree(open_tree(str(tree))).functions
    assert {f.address: (f.class_[2:6], f.vendor[2:], f.device[2:], f.driver, f.iommu_group) for f in functions} == expected
