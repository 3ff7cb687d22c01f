"""VMs that run: a /proc with what processes of libvirt's look like, and this machine's own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.existing.test_samples import DATA
from tests.tools.processes import ending, wait_until, words_of
from wizard.base.errors import InputError
from wizard.existing.guest import Fate, Function, Network
from wizard.existing.processes import running
from wizard.existing.running import running_vms
from wizard.existing.words import read_commands


def _process(proc: Path, pid: int, words: list[str], links: dict[str, str], limit: str = "unlimited") -> Path:
    """What /proc shows of a process."""
    directory = proc / str(pid)
    (directory / "fd").mkdir(parents=True)
    (directory / "fdinfo").mkdir()
    (directory / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))
    (directory / "status").write_text(f"Name:\tqemu-system-aar\nUid:\t{os.getuid()}\t0\t0\t0\n")
    (directory / "limits").write_text(f"Limit  Soft Limit  Hard Limit  Units\nMax locked memory         {limit}  {limit}  bytes\n")
    for number, target in links.items():
        os.symlink(target, directory / "fd" / number)
        (directory / "fdinfo" / number).write_text("pos:\t0\n" + ("iff:\tvnet3\n" if "tun" in target else ""))
    return directory


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Path]:
    """A /proc with the VM of the sample hen as it runs, another one, and processes that are none; a /sys with the function of vfio2."""
    proc, sysfs = tmp_path / "proc", tmp_path / "sys"
    (command,) = read_commands((DATA / "hen.log").read_bytes(), "hen.log").commands
    words = [command.program.text, *(word.text for word in command.words)]
    _process(proc, 812, words, {"36": "/dev/vfio/devices/vfio2", "31": "/dev/net/tun", "33": "/dev/vhost-net", "0": "/dev/null"}, "1677721600")
    _process(proc, 90, ["/usr/bin/qemu-system-aarch64", "-name", "other", "-M", "virt"], {})
    _process(proc, 91, ["vim", "qemu-system-aarch64"], {})
    _process(proc, 92, [], {})
    _process(proc, 93, ["qemu-system-aarch64", "-version"], {})
    (proc / "self").mkdir()
    device = sysfs / "devices/pci0000:14/0000:14:00.0"
    (device / "vfio-dev/vfio2").mkdir(parents=True)
    (sysfs / "class/vfio-dev").mkdir(parents=True)
    os.symlink(device / "vfio-dev/vfio2", sysfs / "class/vfio-dev/vfio2")
    os.symlink(device, device / "vfio-dev/vfio2/device")
    return proc, sysfs


def test_descriptors_are_what_proc_says_they_are(world: tuple[Path, Path]) -> None:
    (found,) = running("hen", proc=world[0], sys=world[1])
    guest = found.guest
    assert found.libvirt
    (function,) = guest.of(Function)
    assert isinstance(function, Function)
    assert function.host == "0000:14:00.0"
    (network,) = guest.of(Network)
    assert isinstance(network, Network)
    assert (network.kind, network.source, network.mac) == ("tap", "vnet3", "52:54:00:5a:10:34")
    assert guest.running == 812
    assert guest.memory.memlock == 1677721600
    assert guest.user == pwd.getpwuid(os.getuid()).pw_name
    assert not [left for left in guest.left if left.fate is Fate.UNRESOLVED]


def test_every_vm_and_nothing_else(world: tuple[Path, Path]) -> None:
    found = running(proc=world[0], sys=world[1])
    assert [(one.guest.name, one.guest.source, one.libvirt) for one in found] == [("other", "process 90", False), ("hen", "process 812", True)]
    assert [one.guest.name for one in running("90", proc=world[0], sys=world[1])] == ["other"]
    assert running("nobody", proc=world[0], sys=world[1]) == []


@contextmanager
def nobody() -> Iterator[None]:
    """Within it, files are opened as an ordinary user even by root's tests."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_without_the_right_to_look_it_is_said(world: tuple[Path, Path]) -> None:
    (world[0] / "812/fd").chmod(0)
    with tempfile.TemporaryDirectory() as directory:  # pytest's own is closed to others
        os.chmod(directory, 0o755)
        proc = Path(shutil.move(world[0], Path(directory, "proc")))
        with nobody():
            (found,) = running("hen", proc=proc, sys=world[1])
        (proc / "812/fd").chmod(0o700)
    assert found.hidden
    assert sum("may only be seen by root" in left.said for left in found.guest.left) == 1


def test_this_machine() -> None:
    """A process that is called QEMU and waits: found by its words, with the limits that it really has."""
    words = ["qemu-system-aarch64", "-c", "import sys; sys.stdin.read()", "-name", "guest=of the tests", "-M", "virt", "-m", "2G"]
    with ending(subprocess.Popen(words, executable=sys.executable, stdin=subprocess.PIPE)) as process:
        wait_until(lambda: "of the tests" in words_of(process.pid), "its words in /proc")
        (guest,) = (one.guest for one in running("of the tests") if one.guest.running == process.pid)
    assert guest.memory.size == 2 << 30
    assert guest.user == pwd.getpwuid(os.geteuid()).pw_name
    assert guest.memory.memlock is not None


def test_libvirts_own_description_is_asked_for(world: tuple[Path, Path], tmp_path: Path) -> None:
    """Of a VM that libvirt started; every other is taken from its process."""
    virsh = tmp_path / "virsh"
    xml = "<domain type='kvm'><name>hen</name><memory>1024</memory><os><type arch='aarch64'>hvm</type></os></domain>"
    virsh.write_text(f'#!/bin/sh\n[ "$6" = hen ] && echo "{xml}"\n')
    virsh.chmod(0o700)
    found = running_vms(proc=world[0], sys=world[1], virsh=str(virsh))
    assert [(one.request.name, one.kind) for one in found] == [("other", "qemu"), ("hen", "libvirt")]
    assert [one.guest.running for one in found if one.guest is not None] == [90, 812]
    without = running_vms("hen", proc=world[0], sys=world[1], virsh="")
    assert [function.host for function in without[0].request.functions] == ["0000:14:00.0"]
    with pytest.raises(InputError, match="No QEMU that runs here is called nobody"):
        running_vms("nobody", proc=world[0], sys=world[1], virsh="")
