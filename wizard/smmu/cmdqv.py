"""NVIDIA's CMDQV: a command queue that the guest fills itself, in front of the SMMU. Linux 7.2 tegra241-cmdqv.c; QEMU hw/arm/tegra241-cmdqv.

A VINTF belongs to one VM. It lets three commands (and CMD_SYNC) through: it puts the VM's VMID into TLB invalidations, and turns the virtual
StreamID of an ATC invalidation into the physical one by its table of SID_MATCH and SID_REPLACE pairs. Everything else is an illegal command.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from wizard.arch import command as commands
from wizard.arch.command import AtcInv, Command, CommandError, Op, Sync, Tlbi
from wizard.smmu.command_queue import Consumed
from wizard.smmu.device import Smmu

ALLOWED = (Op.TLBI_NH_ASID, Op.TLBI_NH_VA, Op.ATC_INV, Op.SYNC)
"""What a guest's queue may carry (tegra241_guest_vcmdq_supports_cmd; CMD_SYNC ends every batch)."""

LARGEST_SIDS = 16
"""Pairs that the register map of one VINTF has room for: SID_MATCH at 0x40 + 4 * index, up to 0x80."""

VIRTUAL_SID_BITS = 20


@dataclass(slots=True)
class Vintf:
    """One virtual interface: ``vmid`` of its VM and ``sids``, virtual to physical StreamIDs."""

    smmu: Smmu
    vmid: int
    sids: dict[int, int] = field(default_factory=dict)
    error: CommandError = CommandError.CERROR_NONE

    def match(self, virtual: int, physical: int) -> None:
        """Add a SID_MATCH and SID_REPLACE pair; ``ValueError`` for a seventeenth or for StreamIDs that do not fit."""
        if virtual not in self.sids and len(self.sids) >= LARGEST_SIDS:
            raise ValueError(f"a VINTF has {LARGEST_SIDS} StreamID pairs")
        if virtual >> VIRTUAL_SID_BITS or physical >> self.smmu.features.sidsize:
            raise ValueError(f"StreamIDs {virtual:#x} and {physical:#x} do not fit")
        self.sids[virtual] = physical

    def unmatch(self, virtual: int) -> None:
        """Remove a pair."""
        self.sids.pop(virtual, None)

    def rewritten(self, dword0: int, dword1: int) -> Command | None:
        """The command as the SMMU gets it, or None when the queue may not carry it."""
        given = commands.decode(dword0, dword1)
        if given.Opcode not in ALLOWED:
            return None
        if isinstance(given, Tlbi):
            return given.replace(VMID=self.vmid)
        if isinstance(given, AtcInv):
            physical = self.sids.get(given.StreamID)
            return None if physical is None else given.replace(StreamID=physical)
        # An MSI of the guest's own would reach a host address: its completion is polled.
        return given.replace(CS=0, MSIAddress=0, MSIData=0) if isinstance(given, Sync) else None

    def submit(self, batch: Iterable[tuple[int, int]]) -> Consumed:
        """Work off commands until one is illegal; that one is not consumed and the interface reports CERROR_ILL.

        The error is the interface's own: the host's queue goes on.
        """
        count = 0
        self.error = CommandError.CERROR_NONE
        for dword0, dword1 in batch:
            command = self.rewritten(dword0, dword1)
            self.error = CommandError.CERROR_ILL if command is None else self.smmu.execute(*command.words)
            if self.error is not CommandError.CERROR_NONE:
                break
            count += 1
        return Consumed(count, self.error)
