"""Trees: the same facts whichever way they are read, and lspci's own word for a big one."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.big_host import build_tree
from tests.tools.cache import skip_loudly
from tests.tools.processes import LIMIT
from wizard.base import shares
from wizard.base.errors import InputError
from wizard.base.shares import in_shares
from wizard.facts.content import FILE_LIMIT
from wizard.facts.model import Group
from wizard.facts.record import from_tree
from wizard.facts.snapshot import decode, encode
from wizard.facts.source import open_tree
from wizard.facts.tree import DirectoryTree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A host of 60 functions: root ports, PFs with VFs, one segment."""
    build_tree(tmp_path / "host", 60)
    return tmp_path / "host"


def test_several_processes_read_what_one_reads(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A big host is read by several processes; the facts and their order are the same."""
    alone = from_tree(open_tree(str(tree)))
    monkeypatch.setattr(shares, "ENOUGH", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2})
    assert from_tree(open_tree(str(tree))) == alone
    assert len(alone.functions) == 60
    assert len(alone.groups) == 60


def test_a_share_whose_process_fails_is_read_by_the_parent(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """A child that is killed or meets an error costs time, never facts."""
    monkeypatch.setattr(shares, "ENOUGH", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    monkeypatch.setattr(threading, "active_count", lambda: 1)  # whatever threads other tests have left in this process
    parent = os.getpid()

    def read(share: Sequence[str]) -> tuple[tuple[Group, ...], dict[str, str]]:
        if os.getpid() != parent:
            os.kill(os.getpid(), 9)
        return tuple(Group(id=int(name)) for name in share), {share[0]: "read"}

    [(groups, unread), (others, also)] = in_shares(tuple[tuple[Group, ...], dict[str, str]], ["1", "2", "3", "4"], read)
    assert [group.id for group in (*groups, *others)] == [1, 2, 3, 4]
    assert unread | also == {"1": "read", "3": "read"}


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


def padded(tree: Path, path: Path, page: int, readable: int | None = None) -> None:
    """A tar of a tree as GNU tar makes it of a live /sys ("File shrank by 4089 bytes; padding with zeros"): each attribute a page long."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for file in sorted(tree.rglob("*")):
            member = archive.gettarinfo(file, str(file.relative_to(tree)))
            if member.isreg():
                whole = file.read_bytes()
                content = whole[:readable] if file.name == "config" else whole
                attribute = file.is_relative_to(tree / "sys/devices") and file.name != "config"  # which says its own length
                member.size = max(page, len(whole)) if attribute else len(whole)
                archive.addfile(member, io.BytesIO(content.ljust(member.size, b"\0")))
            else:
                archive.addfile(member)


@pytest.mark.parametrize("page", [4096, 65536])
def test_a_tar_of_a_live_sys_gives_the_same_facts(tree: Path, tmp_path: Path, page: int) -> None:
    """sysfs says that every attribute is a page long, and tar believes it: the zeros behind a number are not the number's."""
    whole = from_tree(open_tree(str(tree)))
    padded(tree, tmp_path / "sys.tar.gz", page)
    assert from_tree(open_tree(str(tmp_path / "sys.tar.gz"))) == whole
    unpacked = tmp_path / "unpacked"
    with tarfile.open(tmp_path / "sys.tar.gz") as archive:
        archive.extractall(unpacked, filter="fully_trusted")
    assert from_tree(open_tree(str(unpacked))) == whole


def test_what_an_ordinary_user_put_into_a_tar_is_no_more_than_he_could_read(tree: Path, tmp_path: Path) -> None:
    """64 bytes of configuration space and 4,032 zeros of tar's own do not say that there are no capabilities."""
    padded(tree, tmp_path / "sys.tar.gz", 4096, readable=64)
    functions = from_tree(open_tree(str(tmp_path / "sys.tar.gz"))).functions
    with_capabilities = [function for function in functions if int(function.config[12:14] or "0", 16) & 0x10]
    assert with_capabilities
    assert {function.config_length for function in with_capabilities} == {64}


def test_a_tar_of_this_machine_gives_what_is_read_directly(tmp_path: Path) -> None:
    """The real tar on the real sysfs, attributes that answer an error and all."""
    wanted = ("bus/pci/devices", "devices/system/node", "class/iommu", "class/net", "class/block")
    places = [place for place in wanted if Path("/sys", place).exists()]
    bridges = sorted(path.name for path in Path("/sys/devices").glob("pci*"))
    if not bridges or shutil.which("tar") is None:
        skip_loudly("no real /sys can be packed", "run on a machine with PCI functions, and install tar")
    devices_themselves = ["--exclude=resource[0-9]*", "--exclude=rom", "--exclude=vpd"]
    words = ["tar", "-C", "/", "-cf", str(tmp_path / "sys.tar"), *devices_themselves, *(f"sys/{place}" for place in places)]
    words += [f"sys/devices/{bridge}" for bridge in bridges]
    subprocess.run(words, check=False, stderr=subprocess.DEVNULL, timeout=LIMIT)  # 2: attributes that could not be read
    direct, packed = (from_tree(open_tree(source)) for source in ("/", str(tmp_path / "sys.tar")))
    assert packed.functions == direct.functions
    assert packed.nodes == direct.nodes
    assert packed.iommus == direct.iommus


def test_a_file_of_proc_is_read_to_its_end() -> None:
    """The kernel ends a read of a list where the next line does not fit: the modules, CPUs and mounts of a real host take many."""
    place = Path("/proc/kallsyms")
    whole = place.read_bytes()[:FILE_LIMIT] if place.exists() else b""
    if len(whole) < 65536:
        skip_loudly("no file of /proc is long enough", "run on a kernel with CONFIG_KALLSYMS")
    assert DirectoryTree("/", live=True).data("proc/kallsyms") == whole


def test_hard_links_of_a_tar_are_the_files_that_they_name(tree: Path, tmp_path: Path) -> None:
    """tar writes the second name of a file as a link to the first; one that leads out is refused as any other."""
    first = next(path for path in sorted(tree.rglob("numa_node")) if path.is_file())
    for other in sorted(tree.rglob("numa_node")):
        if other != first and other.read_bytes() == first.read_bytes():
            other.unlink()
            os.link(first, other)
    whole = from_tree(open_tree(str(tree)))
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tree, ".")
    with tarfile.open(tmp_path / "x.tar") as archive:
        assert any(member.islnk() for member in archive)
    assert from_tree(open_tree(str(tmp_path / "x.tar"))) == whole
    with tarfile.open(tmp_path / "x.tar", "a") as archive:
        member = tarfile.TarInfo("dmesg")
        member.type, member.linkname = tarfile.LNKTYPE, "../../etc/passwd"
        archive.addfile(member)
    with pytest.raises(InputError, match="can't be taken"):
        open_tree(str(tmp_path / "x.tar"))


def test_devices_and_pipes_of_a_tar_are_left_out(tree: Path, tmp_path: Path) -> None:
    """Nothing in a tar is opened; what is neither file, directory nor link is not there."""
    whole = from_tree(open_tree(str(tree)))
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tree, ".")
        for name, kind in (("dmesg", tarfile.FIFOTYPE), ("proc/cmdline", tarfile.CHRTYPE), ("uname", tarfile.BLKTYPE)):
            member = tarfile.TarInfo(name)
            member.type = kind
            archive.addfile(member)
    (tree / "dmesg").unlink(missing_ok=True)
    assert from_tree(open_tree(str(tmp_path / "x.tar"))).kernel == whole.kernel


def test_a_built_host_is_one_for_lspci_too(tree: Path) -> None:
    """lspci reads the same tree: addresses, ids, drivers and groups agree, so a benchmark compares like with like."""
    if shutil.which("lspci") is None:
        pytest.skip("lspci is not installed")
    words = ["lspci", "-Dnnvk", "-A", "linux-sysfs", "-O", f"sysfs.path={tree}/sys/bus/pci"]
    listed = subprocess.run(words, capture_output=True, text=True, check=True, timeout=LIMIT).stdout
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


def test_links_that_came_as_files_with_their_text_are_links(tree: Path, tmp_path: Path) -> None:
    """So zip, git without symbolic links and some shares carry a tree; nothing of it may be missing for that."""
    whole = from_tree(open_tree(str(tree)))
    flat = tmp_path / "flat"
    shutil.copytree(tree, flat, symlinks=True)
    links = [path for path in flat.rglob("*") if path.is_symlink()]
    assert len(links) > 100
    for path in links:
        text = os.readlink(path)
        path.unlink()
        path.write_text(text)
    assert from_tree(open_tree(str(flat))) == whole
    with tarfile.open(tmp_path / "flat.tar", "w") as archive:
        archive.add(flat, ".")
    assert from_tree(open_tree(str(tmp_path / "flat.tar"))) == whole


def test_a_link_as_a_file_leads_out_of_the_tree_no_more_than_a_real_one(tree: Path) -> None:
    function = next((tree / "sys/bus/pci/devices").iterdir())
    function.unlink()
    function.write_text("../../../../../../../etc")
    with pytest.raises(InputError, match=f"{function.name} leaves the tree"):
        from_tree(open_tree(str(tree)))
    for text in ("../" * 2000, "/etc", "../x\n../y"):  # no text of a link
        function.write_text(text)
        assert function.name not in {one.address for one in from_tree(open_tree(str(tree))).functions}
