"""Tegra241 CMDQV: a VINTF with the guest's own command queues. Linux 7.2, drivers/iommu/arm/arm-smmu-v3/tegra241-cmdqv.c.

The hardware takes three commands without an exit, forces the VINTF's VMID, and replaces vSIDs by its SID_MATCH/SID_REPLACE pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wizard.nesting.errors import KernelError
from wizard.nesting.host import Vdevice, Viommu, ViommuType
from wizard.nesting.invalidate import Words
from wizard.smmu import Consumed, cmdqv
from wizard.smmu.cmdqv import LARGEST_SIDS, VIRTUAL_SID_BITS


@dataclass(slots=True, eq=False)
class Vintf:
    """One virtual interface, made for a vIOMMU of type TEGRA241_CMDQV. ``sids`` is the number that the hardware has."""

    viommu: Viommu
    sids: int = LARGEST_SIDS

    def __post_init__(self) -> None:
        if self.viommu.type is not ViommuType.TEGRA241_CMDQV:
            raise KernelError("EOPNOTSUPP", "iommufd_hw_queue_alloc_ioctl()", "the vIOMMU is not of type TEGRA241_CMDQV")

    def slots(self) -> list[Vdevice]:
        """Pairs of vSID and StreamID in use (tegra241_vintf_init_vsid()); ``KernelError`` ENOSPC or EINVAL where they do not fit."""
        held = list(self.viommu.vdevices.values())
        if len(held) > self.sids:
            raise KernelError("ENOSPC", "tegra241_vintf_init_vsid()", f"{len(held)} functions, {self.sids} SID slots")
        for vdevice in held:
            if vdevice.vsid >> VIRTUAL_SID_BITS:
                raise KernelError("EINVAL", "tegra241_vintf_init_vsid()", f"vSID {vdevice.vsid:#x} is beyond {VIRTUAL_SID_BITS} bits")
        return held

    def submit(self, commands: Sequence[Words]) -> Consumed:
        """The guest rings its own doorbell: nothing exits. Stops at the first command that the hardware does not take."""
        pairs = {vdevice.vsid: vdevice.device.sid for vdevice in self.slots()}
        return cmdqv.Vintf(self.viommu.smmu.smmu, self.viommu.vmid, pairs).submit(commands)
