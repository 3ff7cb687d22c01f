"""VFIO as the host shows it: which drivers are its own, and who holds devices open (/proc/*/fd, as far as this user may look)."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # who only asks about drivers needs no tree
    from wizard.facts.tree import Tree


def is_vfio_driver(name: str | None) -> bool:
    """Whether a PCI driver is vfio-pci or a variant of it (nvgrace_gpu_vfio_pci, mlx5_vfio_pci …); drivers spell it with - or _."""
    return (name or "").replace("-", "_").endswith("vfio_pci")


def holders(tree: Tree, disks: Collection[str] = (), files: Collection[str] = ()) -> dict[str, str]:
    """/dev/vfio/… -> "pid (command)" of a process that has it open; also /dev/NAME of ``disks`` that one has open for writing.

    Of ``files``, other device files, "pid (command, systemd unit)", however they are open.

    Without root only own processes can be seen.
    """
    found: dict[str, str] = {}
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
                found[target] = f"{pid} ({_command(pid)})"
            elif target in files:
                found[target] = f"{pid} ({', '.join(filter(None, (_command(pid), _unit(pid))))})"
    if hidden:
        tree.unread["/proc/*/fd"] = "needs root"
    return dict(sorted(found.items()))


def _writes(pid: str, descriptor: str) -> bool:
    # Who only looks (multipathd, smartd, udev) opens for reading; a virtual machine or a storage daemon writes.
    try:
        with open(f"/proc/{pid}/fdinfo/{descriptor}", encoding="ascii", errors="replace") as file:
            flags = re.search(r"^flags:\s*([0-7]+)$", file.read(4096), re.MULTILINE)
    except OSError:
        return False  # closed meanwhile
    return flags is not None and int(flags[1], 8) & os.O_ACCMODE != os.O_RDONLY


def _unit(pid: str) -> str | None:
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
