"""A guest without Python: what the shell script prints is what the program itself reads, also out of a console's log."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.tools.processes import LIMIT
from wizard.base.errors import InputError
from wizard.facts.functions import read_functions
from wizard.facts.platform import read_groups, read_iommus
from wizard.facts.record import from_tree
from wizard.facts.source import decode_recording
from wizard.facts.tree import DirectoryTree
from wizard.facts.treetext import END, HEAD, read_tree, script


def printed(shell: str) -> bytes:
    return subprocess.run([*shell.split(), "-s"], input=script().encode(), capture_output=True, timeout=LIMIT, check=True).stdout


@pytest.mark.parametrize("shell", ["sh", "bash --posix"])
def test_the_script_prints_what_is_read_of_this_machine(shell: str) -> None:
    read = read_tree(printed(shell), "guest.txt")
    here = DirectoryTree("/")
    # What hangs on a function (disks, interfaces) is no matter of the guest's half.
    fields = ("address", "path", "vendor", "device", "class_", "config", "driver", "resource", "iommu", "iommu_group", "numa_node", "physfn")
    found, wanted = ([[getattr(one, field) for field in fields] for one in read_functions(tree)] for tree in (read, here))
    assert found == wanted
    assert read_groups(read) == read_groups(here)
    assert read_iommus(read) == read_iommus(here)
    # A directory that is there and empty is an answer, as it is on the machine itself.
    assert from_tree(read).unread.keys() >= {"/sys/class/iommu"} or Path("/sys/class/iommu").is_dir()


def test_it_is_a_recording_like_others() -> None:
    data = printed("sh")
    assert [one.address for one in decode_recording(data, "guest.txt").functions] == [one.address for one in read_functions(DirectoryTree("/"))]


CONSOLE = f"""\
[    1.0] Run /init as init process\r
{HEAD}\r
= /sys/bus/pci/devices/0000:09:00.0/vendor\r
|0x1b36\r
[   12.3] nvme nvme0: 1/0/0 queues\r
\r
+ /sys/firmware/acpi/tables/IORT\r
| 49 4f 52 54\r
[   12.4] random: crng init done\r
| 0a\r
> /sys/class/iommu/smmu3 ../../devices/smmu3\r
{END}\r
$ \r
""".encode()


def test_what_the_kernel_says_in_between_is_passed_over() -> None:
    tree = read_tree(CONSOLE, "console")
    assert tree.text("sys/bus/pci/devices/0000:09:00.0/vendor") == "0x1b36"
    assert tree.data("sys/firmware/acpi/tables/IORT") == b"IORT\n"
    assert tree.target("sys/class/iommu/smmu3") == "../../devices/smmu3"


@pytest.mark.parametrize("path", ["/../etc/passwd", "/sys/../../x", "sys/x", "//x", "/sys/./x", "/" + "x" * 5000])
def test_nothing_leads_out_of_the_tree(path: str) -> None:
    tree = read_tree(f"{HEAD}\n= {path}\n|1\n> {path} /etc\n{END}\n".encode(), "evil")
    assert (tree.files, tree.links) == ({}, {})


def test_a_text_that_was_cut_is_no_answer() -> None:
    with pytest.raises(InputError, match="it was cut"):
        decode_recording(CONSOLE.partition(END.encode())[0], "console")


def test_half_a_byte_is_none_of_it() -> None:
    tree = read_tree(f"{HEAD}\n+ /x\n| 4\n+ /y\n| zz\n{END}\n".encode(), "console")
    assert tree.files == {"x": b"", "y": b""}
