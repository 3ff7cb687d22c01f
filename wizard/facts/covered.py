"""What a container shows of /sys: whether the kernel's own sysfs is where it should be, and nothing is mounted over the places that are read.

Container runtimes cover /sys/firmware with an empty file system (maskedPaths of the OCI runtime specification), and some give a container no
sysfs at all. What is empty for that reason says nothing of the host: it was not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from wizard.facts.held import Place
from wizard.facts.tree import Tree

PLACES = (Place.FUNCTIONS, Place.IOMMUS, Place.GROUPS, Place.IORT, Place.DEVICE_TREE)
_SYS = "/sys"


def covered(tree: Tree) -> dict[Place, str]:
    """Place -> why it is not the kernel's, by /proc/self/mountinfo (proc_pid_mountinfo(5)) of a live root; empty where that can't be read."""
    mounts = list(_mounts(tree.text("proc/self/mountinfo") or ""))
    return {place: why for place in PLACES if mounts and (why := _why(place.value, mounts)) is not None}


class _Mount(msgspec.Struct, frozen=True):
    number: str
    above: str  # the mount that it is mounted on
    root: str  # what of the file system is mounted
    point: str
    kind: str


def _mounts(text: str) -> Iterator[_Mount]:
    for line in text.splitlines():
        before, found, after = line.partition(" - ")
        words = before.split(" ")
        if found and len(words) > 5:
            yield _Mount(words[0], words[1], _plain(words[3]), _plain(words[4]), after.split(" ")[0])


def _plain(path: str) -> str:
    return re.sub(r"\\(040|011|012|134)", lambda found: chr(int(found[1], 8)), path)


def _below(path: str, above: str) -> bool:
    return path == above or path.startswith(above.rstrip("/") + "/")


def _where(path: str, mounts: list[_Mount]) -> _Mount | None:
    """The mount that a path leads into: as the kernel walks, from each mount into the first one on the way that is mounted on it."""
    numbers = {mount.number for mount in mounts}
    on_the_way = [mount for mount in mounts if _below(path, mount.point)]
    here = None
    nearest = [mount for mount in on_the_way if mount.above == mount.number or mount.above not in numbers]
    while nearest:
        here = min(nearest, key=lambda mount: len(mount.point))
        on_the_way.remove(here)
        nearest = [mount for mount in on_the_way if mount.above == here.number]
    return here


def _why(path: str, mounts: list[_Mount]) -> str | None:
    mount = _where(path, mounts)
    if mount is None or not _below(mount.point, _SYS):
        return "no sysfs is mounted at /sys"
    if mount.kind == "sysfs" and mount.root.rstrip("/") + path[len(mount.point) :] == path[len(_SYS) :]:
        return None
    return f"a {mount.kind} is mounted over {mount.point}"
