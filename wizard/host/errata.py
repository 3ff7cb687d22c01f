"""What the kernel takes away from an SMMU by its IIDR: arm_smmu_device_iidr_probe(), as ``wizard/knowledge/errata.toml`` has it.

A CMD_SYNC after every command also rules a vIOMMU out.
"""

from __future__ import annotations

import msgspec

from wizard.arch.idr import IIDR
from wizard.knowledge import tables


class Errata(msgspec.Struct, frozen=True):
    """What the kernel's rules switch off."""

    no_nesting: bool = False
    no_s2fwb: bool = False
    cmdq_force_sync: bool = False


def errata_of(iidr: int) -> Errata:
    """The rules that an IIDR value falls under."""
    register = IIDR(iidr)
    if iidr == 0:
        return Errata()  # QEMU's, and whoever names nobody
    rules = [
        rule
        for rule in tables.errata().smmu
        if (rule.implementer, rule.product) == (register.Implementer, register.ProductID)
        and (register.Variant < rule.variant_below or register.Revision < rule.revision_below)
    ]
    return Errata(no_nesting=any(rule.no_nesting for rule in rules), cmdq_force_sync=any(rule.cmdq_force_sync for rule in rules))
