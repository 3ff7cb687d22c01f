"""Which lines of the kernel log are kept as facts.

Two kinds: what the boot said once of SMMUs, IORT, groups and VFIO (``log``), and what goes on being said (``moment``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_BOOT = re.compile(
    r"arm-smmu|tegra241_cmdqv|NVDA200C|CMDQV|ACPI: IORT|ACPI: .*\bIORT\b|iommu:|iommufd|Adding to iommu group|Aliasing StreamID|already in tree"
    r"|1:1 IOMMU mapping|requested this device have|vfio|VFIO|Kernel command line|Linux version|DMI:|SMCCC: SOC_ID|PCI Root Bridge|PCI host bridge"
    r"|GICv[234]|ITS@|ITS \[|gicv2m|unsafe interrupts|Default domain|TLB invalidation|SRAT:|SMMU"
)
_MOMENT = re.compile(
    r"event 0x[0-9a-f]+ received|arm-smmu-v3[^:]*: \t?0x[0-9a-f]{16}|: event: |unpriv |priv (data|inst)|CMDQ error|CMD_SYNC timeout|GERROR"
    r"|unhandled context|vfio[-_]pci [0-9a-f:.]+: (?:enabling|vgaarb)|vfio.*reset|EVTQ overflow|PRIQ overflow|unexpected (global )?error|evtq"
)
_ALLOCATED = re.compile(r"allocated \d+ entries for")
LINE = 2048  # characters: as long as the kernel's own messages get (PRINTK_MESSAGE_MAX)
MOMENT_LINES = 4096  # the last ones; a flood of events says nothing new


def split(lines: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The lines worth keeping: (of the boot, of the moment), each in order."""
    boot: list[str] = []
    moment: list[str] = []
    for whole in lines:
        line = whole[:LINE]
        if _MOMENT.search(line) and not _ALLOCATED.search(line):
            moment.append(line)
        elif _BOOT.search(line):
            boot.append(line)
    return tuple(boot), tuple(moment[-MOMENT_LINES:])
