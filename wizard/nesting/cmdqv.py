"""Tegra241 CMDQV: a VINTF with the guest's own command queues. Linux 7.2, drivers/iommu/arm/arm-smmu-v3/tegra241-cmdqv.c.

The hardware takes three commands without an exit, forces the VINTF's VMID, and replaces vSIDs by its SID_MATCH/SID_REPLACE pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wizard.arch.command import Command, CommandError, Op, StreamCommand, Sync, Tlbi
from wizard.nesting.errors import KernelError
from wizard.nesting.invalidate import Words
from wizard.nesting.iommufd import Vdevice, Viommu, ViommuType
from wizard.smmu import Consumed

ACCEPTED = frozenset({Op.TLBI_NH_ASID, Op.TLBI_NH_VA, Op.ATC_INV, Op.SYNC})
"""What a guest's VCMDQ takes; anything else stops it with CERROR_ILL, shown in LVCMDQ_ERR_MAP."""

MAX_SIDS = 16
"""SID_MATCH registers of a VINTF: 0x40 + 4 * index, up to 0x80."""

SID_BITS = 20


@dataclass(slots=True, eq=False)
class Vintf:
    """One virtual interface, made for a vIOMMU of type TEGRA241_CMDQV. ``sids`` is the number that the hardware has."""

    viommu: Viommu
    sids: int = MAX_SIDS

    def __post_init__(self) -> None:
        if self.viommu.type is not ViommuType.TEGRA241_CMDQV:
            raise KernelError("EOPNOTSUPP", "iommufd_hw_queue_alloc_ioctl()", "the vIOMMU is not of type TEGRA241_CMDQV")

    def slots(self) -> list[Vdevice]:
        """Pairs of vSID and StreamID in use (tegra241_vintf_init_vsid()); ``KernelError`` ENOSPC or EINVAL where they do not fit."""
        held = list(self.viommu.vdevices.values())
        if len(held) > self.sids:
            raise KernelError("ENOSPC", "tegra241_vintf_init_vsid()", f"{len(held)} functions, {self.sids} SID slots")
        for vdevice in held:
            if vdevice.vsid >> SID_BITS:
                raise KernelError("EINVAL", "tegra241_vintf_init_vsid()", f"vSID {vdevice.vsid:#x} is beyond {SID_BITS} bits")
        return held

    def submit(self, commands: Sequence[Words]) -> Consumed:
        """The guest rings its own doorbell: nothing exits. Stops at the first command that the hardware does not take."""
        pairs = {vdevice.vsid: vdevice.device.sid for vdevice in self.slots()}
        for done, words in enumerate(commands):
            record = Command.of_words(words)
            if record.Opcode not in ACCEPTED:
                return Consumed(done, CommandError.CERROR_ILL)
            if record.Opcode == Op.SYNC:
                low, high = Sync(record.value).replace(CS=0).words
            elif record.Opcode == Op.ATC_INV:
                named = StreamCommand(record.value)
                if named.StreamID not in pairs:
                    return Consumed(done, CommandError.CERROR_ILL)
                low, high = named.replace(StreamID=pairs[named.StreamID]).words
            else:
                low, high = Tlbi(record.value).replace(VMID=self.viommu.vmid).words
            result = self.viommu.smmu.smmu.submit([(low, high)])
            if result.error is not CommandError.CERROR_NONE:
                return Consumed(done, result.error)
        return Consumed(len(commands), CommandError.CERROR_NONE)
