"""Which lines of the kernel log are kept as facts.

Two kinds: what the boot said once of SMMUs, IORT, groups and VFIO (``log``), and what goes on being said (``moment``). Every line that a
finding reads (``wizard.host.log.lines``) is one of the two; a test holds them against each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from wizard.facts.logtext import LINE, whole

_BOOT = re.compile(
    r"arm-smmu|tegra241_cmdqv|NVDA200C|CMDQV|ACPI: IORT|ACPI: .*\bIORT\b|iommu:|iommufd|Adding to iommu group|Aliasing StreamID|already in tree"
    r"|1:1 IOMMU mapping|requested this device have|vfio|VFIO|Kernel command line|Linux version|DMI:|SMCCC: SOC_ID|PCI Root Bridge|PCI host bridge"
    r"|GICv[234]|ITS@|ITS \[|gicv2m|unsafe interrupts|Default domain|TLB invalidation|SRAT:|SMMU|iommu-map translation"
)
_MOMENT = re.compile(
    r"event 0x[0-9a-f]+ received|arm-smmu-v3[^:]*: .{0,8}0x[0-9a-f]{16}|: event: |unpriv |priv (data|inst)|CMDQ error|CMD_SYNC timeout|CMDQ timeout"
    r"|GERROR|unhandled context|vfio[-_]pci [0-9a-f:.]+: (?:enabling|vgaarb)|vfio.*reset|EVTQ|PRIQ|evtq|unexpected (?:global )?error"
    r"|unexpected PRI request|sid 0x[0-9a-f]{8}\.0x|Service Failure|retrying command|skipping command|MSI write aborted"
    r"|MSI interrupts are not secure|vfio.*(?:probe (?:of|with)|RLIMIT_MEMLOCK|interrupt remapping|request to user|request channel)"
    # Of functions, whatever driver they are on.
    r"|can't reserve|power state|not ready \d+ms|DPC: |AER: .*(?:Uncorrected|Uncorrectable|recovery failed)|pciehp: .*(?:Link Down|not present)"
    r"|incompatible domain|cannot attach to SMMU|Failed to add to iommu group|Failed to set up IOMMU|retaining platform DMA|Invalid PCI ROM header"
)
_ALLOCATED = re.compile(r"allocated \d+ entries for")
MOMENT_LINES = 4096  # the last ones; a flood of events says nothing new
_WORD = re.compile(r"0x[0-9a-f]{16}")


def split(lines: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The messages worth keeping: (of the boot, of the moment), each in order, wrapped ones on one line again."""
    boot: list[str] = []
    moment: list[str] = []
    for line in whole(lines):
        if ": Adding to iommu group " in line:  # one for each device: most of a large host's lines
            boot.append(line)
        elif (_MOMENT.search(line) and not _ALLOCATED.search(line)) or _WORD.fullmatch(line):
            moment.append(line)
        elif _BOOT.search(line):
            boot.append(line)
    return tuple(boot), tuple(moment[-MOMENT_LINES:])


__all__ = ["LINE", "MOMENT_LINES", "split"]
