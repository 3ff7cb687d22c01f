"""The kernel's log in a text: dmesg or the journal's, whatever stands around it; and the PCI functions that the kernel names in it.

Lines (drivers/pci/probe.c, setup-res.c, iommu.c): ``pci 0000:01:00.0: [10de:2342] type 00 class 0x030200 PCIe Endpoint``, its
``BAR 0 [mem 0x…-0x… 64bit pref]`` (before Linux 6.9 ``reg 0x10: [mem …]``), ``PCI bridge to [bus 01]``, ``Adding to iommu group 5``.
"""

from __future__ import annotations

import re
from typing import Any

from wizard.facts.logtext import message
from wizard.facts.model import IommuDevice
from wizard.facts.paste.piece import Piece

# Stamps of dmesg, journal and syslog, whole records of the journal, and the kernel's own words where somebody left the stamps out.
_LINE = re.compile(
    r"^[^\n]{0,120}?(?:\[ *\d{1,9}\.\d{3,9}\](?: \[ *[TC]\d+\])? |\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}\] |\bkernel: )"
    r'|^\{[^\n]{0,65536}"_TRANSPORT" ?: ?"kernel"|^\{[^\n]{0,4096}"MESSAGE" ?:|^MESSAGE='
    r"|^(?:pci|pcieport|arm-smmu-v3|arm-smmu|vfio-pci|nvgrace-gpu-vfio-pci|platform|nvme|ACPI|DMI|iommu|Kernel command line|Booting Linux)"
    r"(?: [\w:.-]{1,64})?: (?!0x)|^Linux version \d|^VFIO - "
)
_FIRST = frozenset("{MpavniADIKBLV")  # what the lines begin with that have neither of the two below
_BARE_LIMIT = 3  # lines behind a stamped one that may be its rest
_STARTS = re.compile(r"\S{0,80}[$#] |(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[01][0-9a-f]\.[0-7] |IOMMU|P: /|/sys/")
_ADDRESS = r"([0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7])"
_NAMED = re.compile(rf"pci {_ADDRESS}: \[([0-9a-f]{{4}}):([0-9a-f]{{4}})\] type [0-9a-f]{{2}} class 0x([0-9a-f]{{6}})")
_BAR = re.compile(
    rf"pci {_ADDRESS}: (?:BAR (\d)|reg 0x([12][048c])):? \[(mem|io) +(?:size )?0x([0-9a-f]{{1,16}})(?:-0x([0-9a-f]{{1,16}}))?([^\]]*)\]$"
)
_BRIDGE = re.compile(rf"pci {_ADDRESS}: PCI bridge to \[bus ([0-9a-f]{{2}})")
_ROOT = re.compile(r"PCI host bridge to bus ([0-9a-f]{4,8}):([0-9a-f]{2})$")
_GROUP = re.compile(rf"\S{{1,40}} {_ADDRESS}: Adding to iommu group (\d{{1,9}})")
_SMMU = re.compile(r"arm-smmu-v3 ([0-9a-f]{1,16})\.(?:iommu|smmuv3|smmu): (?:ias \d+-bit, )?oas \d+-bit")
_IO, _MEM, _PREFETCH, _SIZEALIGN, _MEM_64 = 0x100, 0x200, 0x2000, 0x40000, 0x100000  # IORESOURCE_* (include/linux/ioport.h)
_EMPTY = "0x0000000000000000 0x0000000000000000 0x0000000000000000"


def read(text: str) -> list[Piece]:
    """The log, and what the kernel names in it; none where there is no line of a kernel's."""
    lines = _lines(text)
    if not lines:
        return []
    functions: dict[str, dict[str, Any]] = {}
    bars: dict[str, dict[int, str]] = {}
    bridges: dict[tuple[int, int], str] = {}
    roots: set[tuple[int, int]] = set()
    smmus: dict[str, IommuDevice] = {}
    for line in lines:
        if "pci" not in line and "PCI" not in line and "iommu" not in line and "smmu" not in line:
            continue
        said = message(line)
        if match := _NAMED.match(said):
            functions.setdefault(match[1], {}).update(vendor=f"0x{match[2]}", device=f"0x{match[3]}", class_=f"0x{match[4]}")
        elif match := _BAR.match(said):
            index = int(match[2]) if match[2] else (int(match[3], 16) - 0x10) // 4
            if index < 6 and (region := _region(match)):
                bars.setdefault(match[1], {}).setdefault(index, region)
        elif match := _BRIDGE.match(said):
            bridges[int(match[1].partition(":")[0], 16), int(match[2], 16)] = match[1]
        elif match := _ROOT.search(said):
            roots.add((int(match[1], 16), int(match[2], 16)))
        elif match := _GROUP.match(said):
            functions.setdefault(match[1], {})["iommu_group"] = int(match[2])
        elif match := _SMMU.match(said):
            device = said.split(" ", 2)[1].rstrip(":")
            smmus[device] = IommuDevice(name=f"smmu3.{int(match[1], 16):#018x}", device=device, driver="arm-smmu-v3")
    for address, regions in bars.items():
        if address in functions:
            functions[address]["resource"] = "\n".join(regions.get(index, _EMPTY) for index in range(max(regions) + 1))
    return [
        Piece(kind="the kernel's log", functions=functions, bridges=bridges, roots=frozenset(roots), iommus=tuple(smmus.values()), log=tuple(lines))
    ]


def _region(match: re.Match[str]) -> str | None:
    first, last = int(match[5], 16), int(match[6], 16) if match[6] else None
    start, end = (first, last) if last is not None else (0, first - 1)
    if not 0 <= start <= end:
        return None
    wide, prefetchable = "64bit" in match[7], "pref" in match[7]
    flags = _SIZEALIGN | (_IO if match[4] == "io" else _MEM | (_PREFETCH if prefetchable else 0) | (_MEM_64 if wide else 0))
    return f"{start:#018x} {end:#018x} {flags:#018x}"


def _may_be(line: str) -> bool:
    """Whether ``_LINE`` may match: a dump of lspci has millions of lines without any of it."""
    return line[:1] in _FIRST or "[" in line or "kernel: " in line


def _lines(text: str) -> list[str]:
    """The log's lines, each with what may be its rest."""
    if ": " not in text:
        return []
    found: list[str] = []
    behind = _BARE_LIMIT
    for line in text.split("\n"):
        if (line[:1] == "[" and line[1:2] in " 0123456789") or (len(line) > 8 and _may_be(line) and ":" in line and _LINE.match(line)):
            found.append(line)
            behind = 0
        elif behind < _BARE_LIMIT and line.strip() and not _STARTS.match(line.lstrip()):
            found.append(line)
            behind += 1
        else:
            behind = _BARE_LIMIT
    return found if any(_LINE.match(line) for line in found) else []
