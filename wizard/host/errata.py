"""What the kernel takes away from an SMMU by its IIDR: arm_smmu_device_iidr_probe(), Linux 7.2 arm-smmu-v3.c.

MMU-600 (product 0x483): nesting from r2p0 on; MMU-700 (0x487): before r1p1 no nesting and a CMD_SYNC after every command
(errata 2268618, 2812531), which also rules a vIOMMU out.
"""

from __future__ import annotations

import msgspec

from wizard.arch.idr import IIDR

_ARM = 0x43B
_MMU_600 = 0x483
_MMU_700 = 0x487


class Errata(msgspec.Struct, frozen=True):
    """What the kernel's rules switch off."""

    no_nesting: bool = False
    no_s2fwb: bool = False
    cmdq_force_sync: bool = False


def errata_of(iidr: int) -> Errata:
    """The rules that an IIDR value falls under."""
    register = IIDR(iidr)
    if register.Implementer != _ARM:
        return Errata()
    if register.ProductID == _MMU_600:
        return Errata(no_nesting=register.Variant < 2)
    if register.ProductID == _MMU_700 and (register.Variant < 1 or register.Revision < 1):
        return Errata(no_nesting=True, cmdq_force_sync=True)
    return Errata()
