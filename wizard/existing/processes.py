"""VMs that run on this host, by their processes: ``/proc/PID/cmdline``, and what its descriptors are where this user may look.

A launcher such as libvirt opens functions and taps and passes numbers: on the command line there is ``fd=36``, and only ``/proc/PID/fd/36`` says
which function that is (``/dev/vfio/devices/vfio3``, and sysfs whose that is), as fdinfo does of a tap (``iff:``, tun_chr_show_fdinfo() of
drivers/net/tun.c).
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from wizard.base.address import Address
from wizard.existing.argv import read_argv
from wizard.existing.guest import Fate, Guest, Left, Where
from wizard.existing.words.model import SCRIPT_LIMIT, Command
from wizard.existing.words.plain import read_nul
from wizard.existing.words.program import is_qemu, only_asks

_DEVICE = re.compile(r"/dev/vfio/devices/(vfio[0-9]+)")
_LOADER = re.compile(rb"ld(-linux|-musl)?[\w.-]*\.so[.0-9]*")
_SYSPATH = re.compile(r"^vfio-device-syspath:\s*(\S+)$", re.MULTILINE)
_TAP = re.compile(r"^iff:\s*(\S+)$", re.MULTILINE)
_LOCKED = re.compile(r"^Max locked memory\s+(\S+)", re.MULTILINE)
_UID = re.compile(r"^Uid:\s+([0-9]+)", re.MULTILINE)


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A VM that runs as a process. ``libvirt``: libvirt started it, and knows it better than its command line."""

    guest: Guest
    libvirt: bool = False
    hidden: bool = False  # whether what its descriptors are may not be seen
    words: tuple[str, ...] = ()  # its command line
    started: int | None = None  # clock ticks since the boot; with the number it names one process, whatever comes after it


def running(name: str | None = None, *, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> list[Process]:
    """Every VM that runs as a QEMU process of this host, or the one of that name or process number."""
    found: list[Process] = []
    for pid in sorted(int(entry) for entry in os.listdir(proc) if entry.isdecimal()) if proc.is_dir() else ():
        began = started(proc, pid)
        command = _command(proc, pid)
        if command is None:
            continue
        descriptors = _descriptors(proc / str(pid), sys)
        command = msgspec.structs.replace(command, descriptors=descriptors or {}, memlock=_memlock(proc, pid), user=_user(proc, pid))
        guest = read_argv(command, f"process {pid}")
        if began != started(proc, pid):
            continue  # it has ended meanwhile, and another has its number
        if name is not None and name not in (guest.name, str(pid)):
            continue
        left = guest.left
        if descriptors is None and any("descriptor" in one.said for one in left):
            where = Where(source=f"process {pid}", path="fd")
            said = f"what the descriptors of process {pid} are may only be seen by root"
            left = (*left, Left(fate=Fate.UNRESOLVED, where=where, name="fd", text="fd=", said=said))
        guest = msgspec.structs.replace(guest, running=pid, left=left)
        found.append(
            Process(
                guest=guest,
                libvirt=any("libvirt" in word.text for word in command.words),
                hidden=descriptors is None,
                words=(command.program.text, *(word.text for word in command.words)),
                started=began,
            )
        )
    return found


def started(proc: Path, pid: int) -> int | None:
    """When a process began (field 22 of /proc/PID/stat, proc_pid_stat(5)); None for one that is gone."""
    words = _text(proc / str(pid) / "stat").rpartition(")")[2].split()
    return int(words[19]) if len(words) > 19 and words[19].isdecimal() else None


def _command(proc: Path, pid: int) -> Command | None:
    """The command line of a process that is a VM; None for any other, and for one that has ended."""
    data = _without_loader(_read(proc / str(pid) / "cmdline", SCRIPT_LIMIT))
    if not data or not is_qemu(data.split(b"\0", 1)[0].decode(errors="replace")):
        return None
    (command,) = read_nul(data, f"process {pid}").commands
    return None if only_asks(command.words) else command


def _without_loader(data: bytes) -> bytes:
    """The program's own words, where a bundle starts it by the dynamic loader that it brings along (ld.so(8), whose long options take a value)."""
    words = data.split(b"\0")
    if not _LOADER.fullmatch(words[0].rpartition(b"/")[2]):
        return data
    at = 1
    while at < len(words) and words[at].startswith(b"--"):
        at += 2
    return b"\0".join(words[at:])


def _read(path: Path, limit: int = 1 << 16) -> bytes:
    """What a file holds; nothing when the process has ended or hides it (hidepid=)."""
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError:
        return b""


def _text(path: Path) -> str:
    return _read(path).decode(errors="replace")


def _descriptors(process: Path, sys: Path) -> dict[str, str] | None:
    """Number -> the function or the tap that it is; None without the right to look."""
    try:
        numbers = os.listdir(process / "fd")
    except PermissionError:
        return None
    except OSError:
        return {}  # the process has ended
    return dict(_known(process, sys, numbers))


def _known(process: Path, sys: Path, numbers: list[str]) -> Iterator[tuple[str, str]]:
    for number in numbers:
        try:
            target = os.readlink(process / "fd" / number)
        except OSError:
            continue  # closed meanwhile
        if function := function_of(process, number, target, sys):
            yield number, function
        elif target.startswith("/dev/net/tun") and (tap := _TAP.search(_text(process / "fdinfo" / number))):
            yield number, f"tap:{tap[1]}"


def function_of(process: Path, number: str, target: str, sys: Path) -> str | None:
    """The function that a descriptor of VFIO is; None for any other.

    By the kernel's own word where it has one (vfio_device_show_fdinfo() of drivers/vfio/vfio_main.c, posted in August 2025), which stays true
    when the device file is gone, else by the name of the device file.
    """
    if (match := _DEVICE.match(target)) is None and target != "anon_inode:[vfio-device]":
        return None
    if told := _SYSPATH.search(_text(process / "fdinfo" / number)):
        return _address(told[1])
    return _function(sys / "class/vfio-dev" / match[1] / "device") if match else None


def _address(path: str) -> str | None:
    try:
        return str(Address.parse(path.rpartition("/")[2]))
    except ValueError:
        return None


def _function(device: Path) -> str | None:
    try:
        return _address(os.path.realpath(device, strict=True))
    except OSError:
        return None


def _memlock(proc: Path, pid: int) -> int | None:
    """The limit of locked memory, -1 for none."""
    match = _LOCKED.search(_text(proc / str(pid) / "limits"))
    if match is None:
        return None
    return -1 if match[1] == "unlimited" else int(match[1]) if match[1].isdecimal() else None


def _user(proc: Path, pid: int) -> str | None:
    match = _UID.search(_text(proc / str(pid) / "status"))
    if match is None:
        return None
    try:
        return pwd.getpwuid(int(match[1])).pw_name
    except (KeyError, OverflowError):
        return match[1]
