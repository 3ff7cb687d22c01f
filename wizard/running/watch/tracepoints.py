"""The kernel's IOMMU tracepoints, where tracefs is there and somebody asked: in a trace instance of watch's own, which is gone when it ends.

That is a change, if a small one: nobody else's trace is touched, and reading it takes nothing away from others (Documentation/trace/ftrace.rst,
"Instances"). Without being asked ``unseen`` only says why they are not seen. They say which function came to another domain, not to which.
Formats: include/trace/events/iommu.h.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from wizard.base.address import Address
from wizard.facts.kmsg import AT_ONCE
from wizard.running.watch.events import Owner
from wizard.running.watch.records import Record, now

PLACES = ("kernel/tracing", "kernel/debug/tracing")
DOMAINS = ("add_device_to_group", "remove_device_from_group", "attach_device_to_domain", "detach_device_from_domain", "io_page_fault")
"""Rare ones. Kernels have some of them: detach_device_from_domain is gone by 6.18."""
MAPPINGS = ("map", "unmap")
"""One for each buffer that a driver of the host maps: a flood, and without a device."""
_BUFFER_KIB = "256"  # of each processor
# "          <idle>-0       [000] d..1.   577.539085: attach_device_to_domain: IOMMU: device=0000:14:00.0" (print_trace_fmt of kernel/trace/trace.c)
_LINE = re.compile(r"\s*(?P<task>.{1,40})-\d+ +(?:\([ \d-]+\) )?\[\d+\] \S+ +(?P<stamp>\d+\.\d+): (?P<name>\w+): (?P<said>.*)")
_LOST = re.compile(r"CPU:\d+ \[LOST (\d+) EVENTS\]")
_SAID = re.compile(
    r"IOMMU:(?: groupID=(?P<group>\d+))?(?: device=(?P<device>\S+))?"
    r"(?:(?P<driver>\S*) (?P<faulting>\S+) iova=(?P<fault>0x[0-9a-f]+) flags=(?P<flags>0x[0-9a-f]+))?"
    r"(?: iova=(?P<iova>0x[0-9a-f]+) - (?P<end>0x[0-9a-f]+))?(?: paddr=(?P<paddr>0x[0-9a-f]+))?"
    r"(?: size=(?P<size>\d+))?(?: unmapped_size=(?P<unmapped>\d+))?"
)
_WORDS = {
    "add_device_to_group": "it has come to IOMMU group {group}", "remove_device_from_group": "it has left IOMMU group {group}",
    "attach_device_to_domain": "it is in another domain now: which, the kernel does not say", "detach_device_from_domain": "it has left its domain",
    "io_page_fault": "a fault, flags {flags}", "map": "{size} bytes were mapped to {paddr}, for a device that the kernel does not name",
    "unmap": "{unmapped} of {size} bytes were unmapped, of a device that the kernel does not name",
}  # fmt: skip


def tracefs(sys: Path) -> Path | None:
    """Where it is mounted."""
    return next((sys / place for place in PLACES if (sys / place / "events").is_dir()), None)


def unseen(sys: Path) -> str:
    """Why the tracepoints are not seen, as a sentence."""
    place = tracefs(sys)
    if place is None:
        hidden = next((sys / one for one in PLACES if (sys / one).is_dir() and not os.access(sys / one, os.R_OK | os.X_OK)), None)
        why = (
            f"root alone may look into /sys/{hidden.relative_to(sys)}"
            if hidden is not None
            else "no tracefs is there (CONFIG_FTRACE, or it is not mounted)"
        )
    elif not (place / "events/iommu").is_dir():
        why = "this kernel has none"
    else:
        why = "they need a trace instance, which --tracepoints makes and takes away again"
    return f"IOMMU tracepoints are not seen: {why}."


class Tracepoints:
    """Those that are on, from now on. ``OSError`` where no instance can be made. ``lost`` counts what its buffer had no room for."""

    def __init__(self, sys: Path, names: tuple[str, ...], owner: Callable[[str], Owner]) -> None:
        place = tracefs(sys)
        if place is None or not (place / "events/iommu").is_dir():
            raise FileNotFoundError(unseen(sys))
        self.lost = 0
        self._owner, self._rest, self._pipe = owner, b"", -1
        self.place = place / "instances" / f"smmu-wizard-{os.getpid()}"
        self.place.mkdir()
        try:
            (self.place / "buffer_size_kb").write_text(_BUFFER_KIB)
            self.names = tuple(name for name in names if (self.place / "events/iommu" / name).is_dir())
            for name in self.names:
                (self.place / "events/iommu" / name / "enable").write_text("1")
            self._pipe = os.open(self.place / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._pipe

    def records(self) -> Iterator[Record]:
        """What came since the last time."""
        lines: list[bytes] = []
        while len(lines) < AT_ONCE:
            try:
                data = os.read(self._pipe, 1 << 16)
            except BlockingIOError:
                break
            if not data:
                break
            *whole, self._rest = (self._rest + data).split(b"\n")
            lines += whole
        for line in lines:
            yield from self.read(line.decode(errors="backslashreplace"))

    def read(self, line: str) -> Iterator[Record]:
        """One line of trace_pipe."""
        if (lost := _LOST.search(line)) is not None:
            self.lost += int(lost[1])
            yield Record(at=now(), source="trace", kind="lost", text="the buffer of the trace had no room for more", count=int(lost[1]))
        elif (found := parsed(line)) is not None:
            yield record(*found, self._owner)

    def close(self) -> None:
        """Switch off and take the instance away: the kernel does that with all in it when nobody has it open."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        with suppress(FileNotFoundError):
            self.place.rmdir()


def parsed(line: str) -> tuple[str, str, dict[str, str]] | None:
    """Name, time and fields of a line; None for one that is none of these events."""
    found = _LINE.match(line)
    if found is None or found["name"] not in _WORDS:
        return None
    said = _SAID.fullmatch(found["said"].rstrip())
    return (found["name"], found["stamp"], {name: value for name, value in said.groupdict().items() if value}) if said else None


def record(name: str, stamp: str, fields: dict[str, str], owner: Callable[[str], Owner]) -> Record:
    """The same as what happened."""
    device = fields.get("device") or fields.get("faulting")
    function = device if device is not None and _is_function(device) else None
    whose = owner(function) if function is not None else Owner()
    address = fields.get("iova") or fields.get("fault")
    where = int(address, 16) if address is not None else None
    text = _WORDS[name].format(**fields) + (f" ({device})" if device is not None and function is None else "")
    map = whose.map if where is not None else None
    return Record(
        at=now(), source="trace", kind=name, text=text, vm=whose.vm, function=function, stamp=stamp,
        address=f"{where:#x}" if where is not None else None, place=map.where(where) if map is not None and where is not None else None,
        layout=map.source if map is not None else None,
    )  # fmt: skip


def _is_function(device: str) -> bool:
    try:
        return str(Address.parse(device)) == device
    except ValueError:
        return False
