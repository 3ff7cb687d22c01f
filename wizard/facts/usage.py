"""Which functions the host itself needs: mounted disks, swap, addresses and routes, followed down to PCI.

Only names are looked up here; where mounts and routes come from (psutil live, /proc in a tree) is the caller's.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from wizard.facts.functions import last_function
from wizard.facts.model import InUse
from wizard.facts.tree import Tree

_STACK = 16  # dm on md on loop …: deeper is no real host


def of_mounts(tree: Tree, mounts: Iterable[tuple[str, str]], kind: str = "mount", resolve: Callable[[str], str] = str) -> list[InUse]:
    """From (device, mount point) pairs: the functions below each device, also through partitions, LVM, RAID and file systems of several disks.

    ``resolve`` follows links below /dev, where there is a /dev.
    """
    found = []
    for device, point in mounts:
        # bcachefs names all of its disks, with colons between them.
        for one in device.replace(":/dev/", "\n/dev/").split("\n") if device.startswith("/dev/") else ():
            for name in _together(tree, _block_name(tree, one, resolve)):
                for address in block_functions(tree, name):
                    found.append(InUse(address=address, kind=kind, detail=f"{device} on {point}" if point else device))
    return found


def of_openers(tree: Tree, opened: Mapping[str, str]) -> list[InUse]:
    """From /dev/NAME -> process: the functions below each disk that a process writes to, a virtual machine for instance."""
    return [
        InUse(address=address, kind="open", detail=f"{who} has {path} open")
        for path, who in opened.items()
        for address in block_functions(tree, posixpath.basename(path))
    ]


def of_holders(tree: Tree, known: Iterable[InUse]) -> list[InUse]:
    """What stands on a disk or an interface without being mounted or having an address: LVM, RAID, ZFS; bonds, bridges and virtual switches.

    ``known`` is what needs no further reason.
    """
    explained = {use.address for use in known}
    reasons = [*_disk_holders(tree), *_pool_members(tree)]
    found = [(address, detail) for name, detail in reasons for address in block_functions(tree, name)]
    found += _above_interfaces(tree)
    return [InUse(address=address, kind="holder", detail=detail) for address, detail in found if address not in explained]


def _above_interfaces(tree: Tree) -> Iterator[tuple[str, str]]:
    """Bonds, teams, bridges and switches as masters; VLANs, macvlans, ipvlans and the like as what else the kernel links above (upper_*)."""
    for name in tree.names("sys/class/net"):
        path = tree.link(f"sys/class/net/{name}")
        address = last_function(path) if path else None
        if path is None or address is None:
            continue
        master = posixpath.basename(tree.link(f"{path}/master") or "")
        if master:
            yield address, f"{name} is a port of {master}"
        for entry in tree.names(path):
            upper = entry.removeprefix("upper_")
            if upper not in (entry, master):
                base = tree.link(f"sys/class/net/{upper}") or f"sys/class/net/{upper}"
                kind = re.search(r"^DEVTYPE=(\w{1,16})$", tree.text(f"{base}/uevent") or "", re.MULTILINE)
                yield address, f"the {kind[1] if kind else 'interface'} {upper} stands on {name}"


def _disk_holders(tree: Tree) -> Iterator[tuple[str, str]]:
    for name in tree.names("sys/class/block"):
        base = tree.link(f"sys/class/block/{name}")
        for holder in tree.names(f"{base}/holders") if base else ():
            mapped = tree.text(f"sys/class/block/{holder}/dm/name") or tree.text(f"{tree.link(f'sys/class/block/{holder}')}/dm/name")
            yield name, f"{f'/dev/mapper/{mapped}' if mapped else f'/dev/{holder}'} stands on /dev/{name}"


def _pool_members(tree: Tree) -> Iterator[tuple[str, str]]:
    # ZFS shows an imported pool in /proc and says nowhere which disks it has; udev knows a member by its label.
    pools = {name for name in tree.names("proc/spl/kstat/zfs") if tree.names(f"proc/spl/kstat/zfs/{name}")}
    for name in tree.names("sys/class/block") if pools else ():
        base = tree.link(f"sys/class/block/{name}")
        known = tree.text(f"run/udev/data/b{tree.text(f'{base}/dev')}") if base else None
        label = re.search(r"^E:ID_FS_LABEL=(.*)$", known or "", re.MULTILINE)
        if known and label and label[1] in pools and re.search(r"^E:ID_FS_TYPE=zfs_member$", known, re.MULTILINE):
            yield name, f"the ZFS pool {label[1]} stands on /dev/{name}"


def of_interfaces(tree: Tree, uses: Iterable[tuple[str, str, str]]) -> list[InUse]:
    """From (interface, kind, detail): the functions below each interface, also through bonds, bridges and VLANs."""
    return [InUse(address=address, kind=kind, detail=detail) for name, kind, detail in uses for address in net_functions(tree, name)]


def _together(tree: Tree, name: str) -> set[str]:
    """The disks of the file system that a disk belongs to: btrfs mounts by one of them and says in /sys which others it has."""
    for uuid in tree.names("sys/fs/btrfs"):
        members = tree.names(f"sys/fs/btrfs/{uuid}/devices")
        if name in members:
            return set(members)
    return {name}


def _block_name(tree: Tree, device: str, resolve: Callable[[str], str]) -> str:
    words = device.split("/")[2:]
    if words[0] == "mapper" or (len(words) == 2 and words[0] not in ("disk", "block", "md", "cciss", "zvol")):
        # /dev/GROUP/VOLUME is /dev/mapper/GROUP-VOLUME, with the hyphens of either doubled.
        wanted = words[-1] if words[0] == "mapper" else "-".join(word.replace("-", "--") for word in words)
        for name in tree.names("sys/class/block"):
            base = tree.link(f"sys/class/block/{name}")
            if base and name.startswith("dm-") and tree.text(f"{base}/dm/name") == wanted:
                return name
    name = posixpath.basename(resolve(device))
    return name if tree.target(f"sys/class/block/{name}") else "!".join(words)  # sysfs writes a slash as an exclamation mark


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
    found = [line.split()[:2] for line in text.splitlines() if len(line.split()) >= 2]
    pairs = [(_root_device(tree) or device if device in ("/dev/root", "rootfs") else device, point) for device, point in found]
    return [(device, re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), point)) for device, point in pairs]


def _root_device(tree: Tree) -> str | None:
    # A kernel that mounts its root file system itself calls it /dev/root; the device's number is in mountinfo (Documentation/filesystems/proc.rst).
    text = tree.text("proc/self/mountinfo") or tree.text("proc/1/mountinfo") or ""
    mounts = [words for line in text.splitlines() if len(words := line.split()) > 6]
    number = next((words[2] for words in mounts if words[4] == "/" and not words[2].startswith("0:")), None)
    target = tree.target(f"sys/dev/block/{number}") if number else None
    return f"/dev/{posixpath.basename(target)}" if target else None


def swaps_of_proc(tree: Tree) -> list[tuple[str, str]]:
    """(device, "") of /proc/swaps."""
    return [(line.split()[0], "") for line in (tree.text("proc/swaps") or "").splitlines()[1:] if line.split()]


def net_file(tree: Tree, path: str) -> str:
    """A file of /proc/net. On a running host that is a link to the reader's own process: the host's own network is that of process 1."""
    return tree.text(path) or tree.text(path.replace("/net/", "/1/net/")) or ""


def addresses_of_proc(tree: Tree) -> list[tuple[str, str, str]]:
    """(interface, "address", detail) by what /proc/net says: networks that are reached directly, and IPv6 addresses that are not the link's own."""
    found = []
    for line in net_file(tree, "proc/net/route").splitlines()[1:]:
        words = line.split()
        if len(words) > 7 and words[1] != "00000000" and words[2] == "00000000":
            found.append((words[0], "address", f"IPv4 address on {words[0]}"))
    for line in net_file(tree, "proc/net/if_inet6").splitlines():
        words = line.split()
        if len(words) == 6 and words[3] not in ("10", "20"):  # IPV6_ADDR_LOOPBACK, IPV6_ADDR_LINKLOCAL
            found.append((words[5], "address", f"IPv6 address on {words[5]}"))
    return found


def default_routes_of_proc(tree: Tree) -> list[tuple[str, str, str]]:
    """(interface, "route", detail) of the default routes in /proc/net/route and ipv6_route."""
    found = []
    for line in net_file(tree, "proc/net/route").splitlines()[1:]:
        words = line.split()
        if len(words) > 7 and words[1] == "00000000" and words[7] == "00000000":
            found.append((words[0], "route", f"default route on {words[0]}"))
    for line in net_file(tree, "proc/net/ipv6_route").splitlines():
        words = line.split()
        if len(words) == 10 and words[0] == "0" * 32 and words[1] == "00" and words[9] != "lo":
            found.append((words[9], "route", f"default IPv6 route on {words[9]}"))
    return found
