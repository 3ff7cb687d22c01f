"""A VM's process as /proc shows it: what it has open, what it has pinned and may lock, where its memory and its threads are.

A number is given to another process as soon as its owner is gone: every look ends with whether the process is still the one that began
at the same moment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from wizard.existing.processes import function_of, started

PROC, SYS = Path("/proc"), Path("/sys")
EVENT_QUEUE = "anon_inode:[iommufd-viommu-event]"
"""What only a vIOMMU of the kernel has (drivers/iommu/iommufd/eventq.c): one for each vSMMU that a guest has switched on, and one for each
that has a VINTF of a CMDQV from its start (IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV)."""
_VINTF = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+\s+/dev/iommu$", re.MULTILINE)
NEEDS_ROOT = "needs root"
GONE = "gone"
_SMALL, _MAPS = 1 << 20, 16 << 20  # bytes
_STOPPED = "Tt"
_NODES = re.compile(r"\bN([0-9]{1,4})=([0-9]{1,15})")
_PAGE = re.compile(r"\bkernelpagesize_kB=([0-9]{1,9})")


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the process has open. ``deleted``: the driver is being taken away, and waits for it to be closed."""

    function: str
    deleted: bool = False
    legacy: bool = False  # by its group and not by a device file of its own


class Thread(msgspec.Struct, frozen=True, kw_only=True):
    """A thread, and the processors that it may run on (``0-7``)."""

    id: int
    name: str
    cpus: str | None


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """What was read. None: not read, and ``unread`` says why. Sizes in bytes."""

    pid: int
    started: int | None  # clock ticks since the boot
    seconds: float | None = None  # the same, in the clock of the kernel's log
    state: str | None = None  # R, S, D, T …
    root: bool | None = None  # whether its user is root, which no limit of locked memory stops
    pinned: int | None = None
    locked: int | None = None
    hugepages: int | None = None  # memory in hugetlbfs
    memlock: int | None = None  # the limit, -1 for none
    iommufd: bool | None = None  # whether it has /dev/iommu open
    container: bool | None = None  # whether it has the container of the old interface open, /dev/vfio/vfio
    held: tuple[Held, ...] | None = None
    event_queues: int | None = None
    vintfs: int | None = 0  # pages of a CMDQV's VINTF that it has mapped: QEMU 11.1's tegra241_cmdqv_alloc_viommu() maps one for each vSMMU
    sockets: frozenset[str] | None = None  # inode numbers
    log: str | None = None  # the file that its standard error goes to
    log_descriptor: str | None = None
    nodes: Mapping[int, int] | None = None  # host node -> bytes of the guest's memory on it
    page_sizes: Mapping[int, int] | None = None  # page size -> bytes of the guest's memory in such pages
    threads: tuple[Thread, ...] | None = None
    replaced: bool | None = None  # whether its program was replaced since it began
    unread: Mapping[str, str] = {}

    @property
    def switched_on(self) -> int | None:
        """How many vSMMUs a guest has switched on: the event queues but those of VINTFs, which QEMU opens before any guest runs."""
        return None if self.event_queues is None or self.vintfs is None else max(0, self.event_queues - self.vintfs)

    @property
    def stopped(self) -> bool:
        """Whether somebody stopped it (SIGSTOP, a debugger): it answers nothing, and the functions go on with DMA."""
        return self.state is not None and self.state in _STOPPED


def look(pid: int, began: int | None, *, proc: Path = PROC, sys: Path = SYS) -> Process | None:
    """The process with that number, if it is the one that began then; None when it is gone."""
    place = proc / str(pid)
    unread: dict[str, str] = {}

    def text(name: str, limit: int = _SMALL) -> str | None:
        try:
            with (place / name).open("rb") as file:
                return file.read(limit).decode(errors="backslashreplace")
        except OSError as error:
            unread[f"/proc/PID/{name}"] = NEEDS_ROOT if isinstance(error, PermissionError) else error.strerror or str(error)
            return None

    stat = (text("stat") or "").rpartition(")")[2].split()
    status = _fields(text("status"))
    descriptors = _descriptors(place, unread)
    maps = text("numa_maps", _MAPS)
    guest = _guest_memory(maps) if maps is not None else (None, None)
    locked = _row(text("limits"), "Max locked memory")
    # The kernel's log counts from the boot, in seconds; /proc in ticks of user space.
    seconds = int(stat[19]) / os.sysconf("SC_CLK_TCK") if len(stat) > 19 and stat[19].isdecimal() else None
    found = Process(
        pid=pid, started=began, seconds=seconds, state=stat[0] if stat else None,
        root=status["Uid"].split()[1:2] == ["0"] if "Uid" in status else None,
        pinned=_kib(status, "VmPin"), locked=_kib(status, "VmLck"), hugepages=_kib(status, "HugetlbPages"),
        memlock=None if locked is None else -1 if locked == "unlimited" else int(locked) if locked.isdecimal() else None,
        nodes=guest[0], page_sizes=guest[1], threads=_threads(place, unread), replaced=_replaced(place), unread=unread,
    )  # fmt: skip
    found = _opened(found, place, descriptors, sys) if descriptors is not None else found
    if found.event_queues != 0:  # what has no vIOMMU has no VINTF
        mapped = text("maps", _MAPS) if descriptors is not None else None
        found = msgspec.structs.replace(found, vintfs=None if mapped is None else len(_VINTF.findall(mapped)))
    return found if started(proc, pid) == began and began is not None else None


def _replaced(place: Path) -> bool | None:
    try:
        return os.readlink(place / "exe").endswith(" (deleted)")
    except OSError:
        return None  # another user's; what else of it is hidden is said by other places


def _fields(text: str | None) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in (text or "").splitlines())}


def _kib(status: Mapping[str, str], name: str) -> int | None:
    words = status.get(name, "").split()
    return int(words[0]) << 10 if words and words[0].isdecimal() else None


def _row(limits: str | None, name: str) -> str | None:
    line = next((line for line in (limits or "").splitlines() if line.startswith(name)), None)
    words = line[len(name) :].split() if line else []
    return words[0] if words else None


def _descriptors(place: Path, unread: dict[str, str]) -> dict[str, str] | None:
    try:
        numbers = os.listdir(place / "fd")
    except OSError as error:
        unread["/proc/PID/fd"] = NEEDS_ROOT if isinstance(error, PermissionError) else error.strerror or str(error)
        return None
    found = {}
    for number in numbers:
        try:
            found[number] = os.readlink(place / "fd" / number)
        except FileNotFoundError:
            continue  # closed meanwhile
        except OSError as error:
            unread["/proc/PID/fd"] = NEEDS_ROOT if isinstance(error, PermissionError) else error.strerror or str(error)
            return None
    return found


def _opened(process: Process, place: Path, descriptors: Mapping[str, str], sys: Path) -> Process:
    held = []
    for number, target in descriptors.items():
        if function := function_of(place, number, target, sys):
            held.append(Held(function=function, deleted=target.endswith(" (deleted)"), legacy=target.startswith("anon_inode:")))
    targets = list(descriptors.values())
    written = next(
        (target for number in ("2", "1") if (target := descriptors.get(number, "")).startswith("/") and not target.startswith("/dev/")), None
    )
    return msgspec.structs.replace(
        process, iommufd="/dev/iommu" in targets, container="/dev/vfio/vfio" in targets, held=tuple(sorted(held, key=lambda one: one.function)),
        event_queues=targets.count(EVENT_QUEUE), sockets=frozenset(target[8:-1] for target in targets if target.startswith("socket:[")), log=written,
        log_descriptor=next((number for number in ("2", "1") if written and descriptors.get(number) == written), None),
    )  # fmt: skip


def _guest_memory(maps: str) -> tuple[dict[int, int], dict[int, int]]:
    """What of the process's memory is the guest's: the mappings of at least 16 MiB; QEMU's own heap and stacks are smaller or the rest of it.

    ``N0=512`` counts pages of the size that stands at the line's end (Documentation/filesystems/proc.rst, numa_maps).
    """
    nodes: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for line in maps.splitlines():
        if " heap " in line or " stack " in line:
            continue
        page = _PAGE.search(line)
        size = int(page[1]) << 10 if page else 4096
        counts = {int(node): int(count) * size for node, count in _NODES.findall(line)}
        if sum(counts.values()) < 16 << 20:
            continue
        sizes[size] = sizes.get(size, 0) + sum(counts.values())
        for node, count in counts.items():
            nodes[node] = nodes.get(node, 0) + count
    return nodes, sizes


def _threads(place: Path, unread: dict[str, str]) -> tuple[Thread, ...] | None:
    try:
        ids = sorted(int(name) for name in os.listdir(place / "task") if name.isdecimal())
    except OSError as error:
        unread["/proc/PID/task"] = NEEDS_ROOT if isinstance(error, PermissionError) else error.strerror or str(error)
        return None
    found = []
    for id in ids:
        try:
            status = _fields((place / "task" / str(id) / "status").read_bytes()[:_SMALL].decode(errors="backslashreplace"))
        except OSError:
            continue  # it has ended
        found.append(Thread(id=id, name=status.get("Name", ""), cpus=status.get("Cpus_allowed_list")))
    return tuple(found)
