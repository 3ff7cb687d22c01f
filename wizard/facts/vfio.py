"""VFIO as the host shows it: which drivers are its own, and who holds devices open (/proc/*/fd, as far as this user may look)."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # who only asks about drivers needs no tree
    from wizard.facts.tree import Tree


_NAMED = 3  # processes of one device that are named; of more the number is told
NOIOMMU = "noiommu-"
"""How the VFIO cdev of a function without an IOMMU begins (vfio_init_device() of drivers/vfio/vfio_main.c, Linux 7.3): nothing translates its DMA."""


def is_vfio_driver(name: str | None) -> bool:
    """Whether a PCI driver is vfio-pci or a variant of it (nvgrace_gpu_vfio_pci, mlx5_vfio_pci …); drivers spell it with - or _."""
    return (name or "").replace("-", "_").endswith("vfio_pci")


def holders(tree: Tree, disks: Collection[str] = (), files: Collection[str] = ()) -> dict[str, str]:
    """/dev/vfio/… -> "pid (command)" of a process that has it open; also /dev/NAME of ``disks`` that one has open for writing.

    Of ``files``, other device files, "pid (command, systemd unit)", however they are open. Several processes are joined by "and".

    Without root only own processes can be seen.
    """
    found: dict[str, dict[str, None]] = {}
    hidden = False
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except PermissionError:
            hidden = True
            continue
        except OSError:
            continue  # the process ended
        for descriptor in descriptors:
            try:
                target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
            except OSError:
                continue  # closed meanwhile
            vfio = target.startswith("/dev/vfio/") and target != "/dev/vfio/vfio"
            if vfio or (target.startswith("/dev/") and target[5:] in disks and _writes(pid, descriptor)):
                found.setdefault(target, {})[f"{pid} ({_command(pid)})"] = None
            elif target in files:
                found.setdefault(target, {})[f"{pid} ({', '.join(filter(None, (_command(pid), unit_of(pid))))})"] = None
    if hidden:
        tree.unread["/proc/*/fd"] = "needs root"
    return {path: _together(list(who)) for path, who in sorted(found.items())}


def _together(who: list[str]) -> str:
    return " and ".join(who if len(who) <= _NAMED else [*who[: _NAMED - 1], f"{len(who) - _NAMED + 1} others"])


def _writes(pid: str, descriptor: str) -> bool:
    # Who only looks (multipathd, smartd, udev) opens for reading; a virtual machine or a storage daemon writes.
    try:
        with open(f"/proc/{pid}/fdinfo/{descriptor}", encoding="ascii", errors="replace") as file:
            flags = re.search(r"^flags:\s*([0-7]+)$", file.read(4096), re.MULTILINE)
    except OSError:
        return False  # closed meanwhile
    return flags is not None and int(flags[1], 8) & os.O_ACCMODE != os.O_RDONLY


def unit_of(pid: str) -> str | None:
    """The systemd unit of a process; None where it is in none, or has ended."""
    # "0::/system.slice/nvidia-persistenced.service": the last part that is a unit of processes
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="backslashreplace") as file:
            units = re.findall(r"/([^/\n]+\.(?:service|scope))(?=/|$)", file.read(65536), re.MULTILINE)
    except OSError:
        return None
    return units[-1] if units else None


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="backslashreplace") as file:
            return file.read().strip()
    except OSError:
        return "?"


def guest_of(pid: str) -> str | None:
    """The name that a QEMU process has on its command line (``-name guest=web,…`` or ``-name web``); None for anything else."""
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="backslashreplace") as file:
            words = file.read(1 << 20).split("\0")
    except OSError:
        return None
    named = next((words[at + 1] for at, word in enumerate(words[:-1]) if word in ("-name", "--name")), None)
    if named is None:
        return None
    parts = [part.replace("\0", ",") for part in named.replace(",,", "\0").split(",")]  # QEMU's own way to write a comma
    return next((part.removeprefix("guest=") for part in parts if part.startswith("guest=")), parts[0] if "=" not in parts[0] else None)
