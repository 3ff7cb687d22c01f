"""Which functions the host itself needs: mounted disks, swap, addresses and routes, followed down to PCI.

Only names are looked up here; where mounts and routes come from (psutil live, /proc in a tree) is the caller's.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from wizard.facts.functions import last_function
from wizard.facts.model import InUse
from wizard.facts.tree import Tree

_STACK = 16  # dm on md on loop …: deeper is no real host


def of_mounts(tree: Tree, mounts: Iterable[tuple[str, str]], kind: str = "mount") -> list[InUse]:
    """From (device, mount point) pairs: the functions below each device, also through partitions, LVM and RAID."""
    found = []
    for device, point in mounts:
        if device.startswith("/dev/"):
            for address in block_functions(tree, _block_name(tree, device)):
                found.append(InUse(address=address, kind=kind, detail=f"{device} on {point}" if point else device))
    return found


def of_interfaces(tree: Tree, uses: Iterable[tuple[str, str, str]]) -> list[InUse]:
    """From (interface, kind, detail): the functions below each interface, also through bonds, bridges and VLANs."""
    return [
        InUse(address=address, kind=kind, detail=detail) for name, kind, detail in uses for address in net_functions(tree, name)
    ]


def _block_name(tree: Tree, device: str) -> str:
    if device.startswith("/dev/mapper/"):
        wanted = device.removeprefix("/dev/mapper/")
        for name in tree.names("sys/class/block"):
            base = tree.link(f"sys/class/block/{name}")
            if base and name.startswith("dm-") and tree.text(f"{base}/dm/name") == wanted:
                return name
    return posixpath.basename(device)


def block_functions(tree: Tree, name: str, depth: int = 0) -> set[str]:
    """The PCI functions that a block device stands on."""
    path = tree.link(f"sys/class/block/{name}")
    if path is None or depth > _STACK:
        return set()
    # With native multipath an NVMe namespace hangs below a virtual subsystem; its controllers carry it.
    controllers = [link for link in tree.names(posixpath.dirname(path)) if re.fullmatch(r"nvme\d+", link)]
    through = {address for c in controllers if (target := tree.link(f"{posixpath.dirname(path)}/{c}")) and (address := last_function(target))}
    own = {address} if (address := last_function(path)) else set()
    for below in tree.names(f"{path}/slaves"):
        own |= block_functions(tree, below, depth + 1)
    if not own and not through and "/" in path:
        parent = posixpath.basename(posixpath.dirname(path))  # a partition: look at its disk
        if parent in tree.names("sys/class/block"):
            return block_functions(tree, parent, depth + 1)
    return own | through


def net_functions(tree: Tree, name: str, depth: int = 0) -> set[str]:
    """The PCI functions that a network interface stands on."""
    path = tree.link(f"sys/class/net/{name}")
    if path is None or depth > _STACK:
        return set()
    own = {address} if (address := last_function(path)) else set()
    for entry in tree.names(path):
        if entry.startswith("lower_"):
            own |= net_functions(tree, entry.removeprefix("lower_"), depth + 1)
    for port in tree.names(f"{path}/brif"):
        own |= net_functions(tree, port, depth + 1)
    return own


def mounts_of_proc(tree: Tree) -> list[tuple[str, str]]:
    """(device, mount point) of /proc/mounts; octal escapes resolved."""
    text = tree.text("proc/self/mounts") or tree.text("proc/1/mounts") or tree.text("proc/mounts") or ""
    pairs = [line.split()[:2] for line in text.splitlines() if len(line.split()) >= 2]
    return [(device, re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), point)) for device, point in pairs]


def swaps_of_proc(tree: Tree) -> list[tuple[str, str]]:
    """(device, "") of /proc/swaps."""
    return [(line.split()[0], "") for line in (tree.text("proc/swaps") or "").splitlines()[1:] if line.split()]


def default_routes_of_proc(tree: Tree) -> list[tuple[str, str, str]]:
    """(interface, "route", detail) of the default routes in /proc/net/route and ipv6_route."""
    found = []
    for line in (tree.text("proc/net/route") or "").splitlines()[1:]:
        words = line.split()
        if len(words) > 7 and words[1] == "00000000" and words[7] == "00000000":
            found.append((words[0], "route", f"default route on {words[0]}"))
    for line in (tree.text("proc/net/ipv6_route") or "").splitlines():
        words = line.split()
        if len(words) == 10 and words[0] == "0" * 32 and words[1] == "00" and words[9] != "lo":
            found.append((words[9], "route", f"default IPv6 route on {words[9]}"))
    return found
