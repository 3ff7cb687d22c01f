"""Functions whose interrupts go through an ITS, as /proc/interrupts names the chip of each vector: every user can read it.

Since Linux 6.11 each PCI device has an MSI domain of its own, whose chip is called ITS-PCI-MSI-ADDRESS or ITS-PCI-MSIX-ADDRESS (its_pci_msi_prepare,
prefix "ITS-" of irq-gic-v3-its-msi-parent.c); before that all are ITS-MSI, with a number that holds the requester ID
(pci_msi_domain_calc_hwirq(): index | devid << 11 | segment << 27).
"""

from __future__ import annotations

import re

from wizard.base.address import Address
from wizard.facts.tree import Tree

_LIMIT = 64 << 20  # bytes; 3 KiB a line on 288 processors
_NEW = re.compile(rb"\sITS-PCI-MSIX?-([0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7])\s")
_OLD = re.compile(rb"\sITS-MSI\s+(\d{1,20})\s")


def behind_its(tree: Tree) -> tuple[str, ...]:
    """Addresses of the functions that have vectors of an ITS now, sorted; what can't be read is none."""
    data = tree.data("proc/interrupts", _LIMIT) or b""
    found = {match.decode() for match in _NEW.findall(data)}
    for match in _OLD.findall(data):
        number = int(match)
        if number >> 27 <= 0xFFFFFFFF:
            found.add(str(Address.of_rid(number >> 27, number >> 11 & 0xFFFF)))
    return tuple(sorted(found))
