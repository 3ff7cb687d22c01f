"""A sos report as a tree that says who uses a function.

sos copies /proc with its links (/proc/mounts leads to self/mounts, and self to the number of sos' own process) and of /sys/class next to
nothing. What stands in for it: udev's database, which disk stands on which by ``lsblk -O -P``, which interface on which by ``ip -d address``,
addresses and routes by ``ip``, mounts by ``mount -l``. ``sos clean`` gives other IP and MAC addresses; the names of interfaces and disks stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from wizard.facts.content import FILE_LIMIT, TEXT_LIMIT
from wizard.facts.memorytree import MemoryTree
from wizard.facts.tree import Tree

_COMMANDS = "sos_commands/"
_LINKS = ("proc/mounts", "proc/net", "proc/self")  # in the order in which they lead to one another
_PROC_TARGET = re.compile(r"self/\w+|\d{1,9}")
_PAIR = re.compile(r'([A-Z:%-]+)="([^"]*)"')
_NAME = re.compile(r"[\w.!@:+-]{1,64}")


class ReportTree(Tree):
    """A report; ``behind`` answers what it does not hold itself."""

    def __init__(self, tree: Tree) -> None:
        super().__init__(tree.name)
        self.unread = tree.unread
        self._tree = tree
        self.behind = MemoryTree(tree.name)

    def data(self, path: str, limit: int = FILE_LIMIT) -> bytes | None:
        """As ``Tree.data``, of the report, else of what stands behind it."""
        data = self._tree.data(self._there(path), limit)
        if data is None and path.startswith(_COMMANDS) and (real := self._tree.link(path)) and real.startswith("sos_strings/"):
            data = self._tree.data(real, limit)  # the end of what was too long
            self.unread["/" + path] = "only its end"
        return self.behind.data(path, limit) if data is None else data

    def names(self, path: str) -> list[str]:
        """As ``Tree.names``, of both."""
        return sorted({*self._tree.names(self._there(path)), *self.behind.names(path)})

    def target(self, path: str) -> str | None:
        """As ``Tree.target``, of the report, else of what stands behind it."""
        return self._tree.target(self._there(path)) or self.behind.target(path)

    def recorded_error(self, path: str) -> bool:
        """As ``Tree.recorded_error``, of the report."""
        return self._tree.recorded_error(path)

    def _there(self, path: str) -> str:
        for link in _LINKS if path.startswith(_LINKS) else ():
            if (path == link or path.startswith(link + "/")) and _PROC_TARGET.fullmatch(target := self._tree.target(link) or ""):
                path = f"proc/{target}{path[len(link) :]}"
        return path


def stand_ins(tree: Tree, database: MemoryTree, devices: Mapping[str, Mapping[str, str]]) -> None:
    """Put into udev's ``database`` what commands said of disks and interfaces, where /sys would have it."""
    for path, properties in devices.items():
        if properties.get("SUBSYSTEM") == "block" and (name := properties.get("DM_NAME")):
            _file(database, f"sys/devices/{path}/dm/name", name)
    for name, pairs in _disks(tree):
        place, below = database.link(f"sys/class/block/{name}"), pairs.get("PKNAME", "")
        if place is None or pairs.get("TYPE") in ("disk", "part", "rom") or not _NAME.fullmatch(below):
            continue
        database.enter(f"{place}/slaves/{below}")
        if lower := database.link(f"sys/class/block/{below}"):
            database.enter(f"{lower}/holders/{name}")
    for name, below, master in _interfaces(tree):
        place = database.link(f"sys/class/net/{name}")
        if place and below:
            database.enter(f"{place}/lower_{below}")
        if place and master and (above := database.link(f"sys/class/net/{master}")):
            database.links[f"{place}/master"] = f"/{above}"
            database.enter(f"{place}/master")
            database.enter(f"{above}/lower_{name}")
    mounts = re.findall(r"^(\S+) on (.+?) type \S+ \(", _said(tree, "filesys/mount_-l"), re.MULTILINE)
    _file(database, "proc/self/mounts", "\n".join(f"{device} {point.replace(' ', chr(92) + '040')} -" for device, point in mounts))


def _file(database: MemoryTree, path: str, text: str) -> None:
    if text:
        database.files[path] = text.encode()
        database.enter(path)


def _said(tree: Tree, command: str) -> str:
    return (tree.data(_COMMANDS + command, TEXT_LIMIT) or b"").decode(errors="backslashreplace")


def _disks(tree: Tree) -> Iterator[tuple[str, dict[str, str]]]:
    for line in _said(tree, "block/lsblk_-O_-P").splitlines():
        pairs = dict(_PAIR.findall(line))
        if _NAME.fullmatch(name := pairs.get("KNAME", "")):
            yield name, pairs


def _interfaces(tree: Tree) -> Iterator[tuple[str, str, str]]:
    """(interface, the one that it stands on, the one whose port it is), either empty."""
    for name, below, rest in re.findall(r"^\d+: ([\w.+-]{1,15})(?:@([\w.+-]{1,15}))?: <(.*)$", _said(tree, "networking/ip_-d_address"), re.MULTILINE):
        master = re.search(r" master ([\w.+-]{1,15}) ", rest)
        yield name, below, master[1] if master else ""


def uses(tree: Tree) -> list[tuple[str, str, str]]:
    """(interface, "address" or "route", detail) as ``wizard.facts.usage`` says it, by what ``ip`` printed."""
    found = []
    for name, family, scope in re.findall(r"^\d+: ([\w.+-]{1,15})\s+(inet6?) .*? scope (\w+)", _said(tree, "networking/ip_-o_addr"), re.MULTILINE):
        if scope not in ("host", "link"):
            found.append((name, "address", f"{'IPv6' if family == 'inet6' else 'IPv4'} address on {name}"))
    for command, words in (("networking/ip_route_show_table_all", ""), ("networking/ip_-6_route_show_table_all", "IPv6 ")):
        for line in re.findall(r"^default .*$", _said(tree, command), re.MULTILINE):
            sixth = "IPv6 " if words or re.search(r" via [0-9a-f]*:|\bpref \w+$", line) else ""
            found += [(name, "route", f"default {sixth}route on {name}") for name in re.findall(r"\bdev ([\w.+-]{1,15})", line) if name != "lo"]
    return found
