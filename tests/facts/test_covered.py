"""What a container shows of a host is no answer where something else is mounted, or nothing: it was not read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.cache import PROJECT, skip_loudly
from tests.tools.processes import LIMIT
from wizard.facts.covered import PLACES, covered
from wizard.facts.held import Place
from wizard.facts.record import from_tree
from wizard.facts.source import open_tree, read_facts, recorded
from wizard.facts.tree import DirectoryTree

HOST = """22 27 0:21 / /proc rw,relatime - proc proc rw
23 27 0:22 / /sys rw,relatime - sysfs sysfs rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
"""
# As runc mounts it: /sys of the container's own network namespace, read-only, and the masked paths of the OCI specification.
MASKED = HOST + "40 23 0:50 / /sys/firmware ro,relatime - tmpfs tmpfs ro,size=0k\n"
UNMOUNTED = "".join(line + "\n" for line in HOST.splitlines() if " /sys" not in line)
OVER = HOST + "41 23 0:51 / /sys ro,relatime - tmpfs tmpfs ro\n"
SHADOWED = HOST + "42 41 0:22 / /sys rw - sysfs sysfs rw\n41 27 0:51 / /sys ro,relatime - tmpfs tmpfs ro\n"
BOUND = "27 1 254:0 / / rw - ext4 /dev/vda rw\n" + "".join(
    f"{50 + n} 27 0:22 {path} /sys{path} ro - sysfs sysfs ro\n" for n, path in enumerate(("/bus", "/class", "/kernel", "/firmware"))
)
OTHERS = BOUND.replace("0:22 /class /sys/class", "0:22 /module /sys/class")
FIRMWARE = {Place.IORT, Place.DEVICE_TREE}


@pytest.mark.parametrize(
    ("mounts", "places"),
    [(HOST, set()), (MASKED, FIRMWARE), (UNMOUNTED, set(PLACES)), (OVER, set(PLACES)), (BOUND, set()), (OTHERS, {Place.IOMMUS}), ("", set())],
    ids=["host", "masked", "unmounted", "over", "bound", "others", "unknown"],
)
def test_what_is_mounted_over_sysfs_is_not_the_hosts(tmp_path: Path, mounts: str, places: set[Place]) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(mounts)
    assert set(covered(DirectoryTree(str(tmp_path), live=True))) == places


def test_the_kernels_own_table_of_mounts_is_understood() -> None:
    """Namespaces that this makes: nothing covered, then /sys/firmware, then all of /sys, with directories of the right names in it."""
    script = """
import json, subprocess, sys
from wizard.cli.main import main
from wizard.facts.covered import covered
from wizard.facts.tree import DirectoryTree
say = lambda: print(json.dumps(sorted(covered(DirectoryTree("/", live=True)).items())), flush=True)
mount = lambda place: subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
say()
mount("/sys/firmware")
say()
mount("/sys")
print(main(["list"]), flush=True)
subprocess.run(["mkdir", "-p", "/sys/bus/pci/devices", "/sys/class/iommu", "/sys/kernel/iommu_groups"], check=True)
main(["list"])
"""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False, timeout=LIMIT).returncode != 0:
        skip_loudly("no file system is mounted over /sys", "as root")
    words = ["unshare", "-m", sys.executable, "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=PROJECT, timeout=LIMIT, stdin=subprocess.DEVNULL)
    lines = done.stdout.splitlines()
    assert lines[0] == "[]", done.stderr
    assert lines[1].count("a tmpfs is mounted over /sys/firmware") == 2
    assert "IORT" in lines[1]
    assert lines[2] == "3"
    assert "This machine has no /sys to read." in done.stderr
    assert "PCI functions were not looked at here" in lines[-1]
    assert "shows no IOMMU" not in done.stdout


def test_directories_that_were_left_empty_are_no_answer(tmp_path: Path) -> None:
    """`--root /host` where the host's /sys is not mounted in the container; with devices beside them, empty directories are one."""
    for name in ("bus/pci/devices", "class/iommu", "kernel/iommu_groups"):
        (tmp_path / "sys" / name).mkdir(parents=True)
    wanted = {Place.FUNCTIONS.value, Place.IOMMUS.value, Place.GROUPS.value}
    assert wanted <= from_tree(open_tree(str(tmp_path))).unread.keys()
    (tmp_path / "sys/devices/platform").mkdir(parents=True)
    assert not wanted & from_tree(open_tree(str(tmp_path))).unread.keys()


def test_the_root_of_a_host_that_runs_is_a_tree(tmp_path: Path) -> None:
    """As a container has it at /host: nothing but /sys and its like is looked into, and /proc/net leads to the reader's own network."""
    (tmp_path / "sys/devices").mkdir(parents=True)
    (tmp_path / "proc/1/net").mkdir(parents=True)
    (tmp_path / "proc/self").symlink_to("1")
    (tmp_path / "proc/net").symlink_to("self/net")
    (tmp_path / "proc/1/net/route").write_text("Iface\tDestination\nlo\t00000000\n")
    (tmp_path / "work/a/b/c/d/e/f/g/h/i").mkdir(parents=True)
    (tmp_path / "work/a/b/c/d/e/f/g/h/i/file").write_text("[    0.000000] Linux version 9.9\n")
    facts = read_facts(recorded(str(tmp_path)))
    assert facts.kernel.release == ""
    assert not facts.log
