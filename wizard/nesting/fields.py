"""The fields of a guest's command that Linux lets through since 7.3: arm_vsmmu_validate_user_cmd(), arm_vsmmu_validate_range().

Read in Linux 7.3.4, drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3-iommufd.c. Up to 7.2 the opcode, VMID and vSID alone are looked at, and what the
hardware finds ILLEGAL stops the queue that every function of that SMMU shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from wizard.arch.command import AtcInv, CfgiCd, Command, Op, Tlbi
from wizard.arch.idr import IDR0, IDR1, IDR3, IDR5
from wizard.nesting.errors import KernelError
from wizard.smmu import Ids

ATC_INV_SIZE_ALL = 52
"""ATC_INV's Size that means everything; above it the hardware may find the command ILLEGAL (IHI 0070 4.5.1)."""

_ASID8 = 0xFF << 48
_SCALE_TOP = 1 << 25
"""Bit 5 of SCALE, RES0 without IDR5.DS (IHI 0070 4.4.1)."""
_WORD = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class FieldCheck:
    """What of an SMMU decides which fields may be set. ``ats`` is the kernel's feature, which also needs CONFIG_PCI_ATS."""

    asid16: bool
    ril: bool
    ds: bool
    ats: bool
    substreams: bool

    @classmethod
    def of(cls, ids: Ids, *, ats: bool) -> FieldCheck:
        """By the SMMU's ID registers."""
        return cls(
            asid16=bool(IDR0(ids.idr0).ASID16), ril=bool(IDR3(ids.idr3).RIL), ds=bool(IDR5(ids.idr5).DS), ats=ats,
            substreams=bool(IDR1(ids.idr1).SSIDSIZE),
        )  # fmt: skip

    def validate(self, words: tuple[int, int]) -> None:
        """``KernelError`` EIO for a command that is not let through, whatever its vSID."""
        plain = Command.of_words(words)
        if plain.Opcode in (Op.TLBI_NH_VA, Op.TLBI_NH_VAA) and self.ril:
            self._range(Tlbi(plain.value))
        if plain.Opcode == Op.ATC_INV:
            if not self.ats:
                raise KernelError("EIO", "arm_vsmmu_validate_user_cmd()", "CMD_ATC_INV, and the SMMU has no ATS")
            if (size := AtcInv(plain.value).Size) > ATC_INV_SIZE_ALL:
                raise KernelError("EIO", "arm_vsmmu_validate_user_cmd()", f"CMD_ATC_INV has Size {size}, above {ATC_INV_SIZE_ALL}")
        allowed = _allowed(self, plain.Opcode)
        for number, (word, mask) in enumerate(zip(words, allowed, strict=True)):
            if stray := word & ~mask:
                name = f"CMD_{Op(plain.Opcode).name}" if plain.Opcode in set(Op) else f"opcode {plain.Opcode:#x}"
                raise KernelError(
                    "EIO", "arm_vsmmu_validate_user_cmd()", f"{name} has bits {stray:#x} of word {number}, which are not a guest's to set"
                )

    def _range(self, command: Tlbi) -> None:
        """Range fields that IHI 0070 4.4.1 reserves."""
        where, ranged = "arm_vsmmu_validate_range()", bool(command.NUM or command.SCALE)
        if not command.TG:
            if ranged or command.TTL:
                raise KernelError("EIO", where, "NUM, SCALE or TTL without TG")
        elif command.TG == 2 and command.TTL == 1 and not self.ds:
            raise KernelError("EIO", where, "TTL 1 of a 16 KiB granule needs IDR5.DS")
        elif not ranged and not command.TTL:
            raise KernelError("EIO", where, "TG with neither a range nor TTL")


@lru_cache(maxsize=1024)
def _allowed(check: FieldCheck, opcode: int) -> tuple[int, int]:
    """Bits of the two words that may be set for an opcode; none, not even the opcode, for one that may not pass."""
    names: dict[int, tuple[type[Command], tuple[str, ...]]] = {
        Op.TLBI_NSNH_ALL: (Tlbi, ()),
        Op.TLBI_NH_ALL: (Tlbi, ("VMID",)),
        Op.TLBI_NH_ASID: (Tlbi, ("VMID", "ASID")),
        Op.TLBI_NH_VA: (Tlbi, ("VMID", "ASID", "Leaf", "Address", *(("NUM", "SCALE", "TG", "TTL") if check.ril else ()))),
        Op.TLBI_NH_VAA: (Tlbi, ("VMID", "Leaf", "Address", *(("NUM", "SCALE", "TG", "TTL") if check.ril else ()))),
        Op.ATC_INV: (AtcInv, ("StreamID", "Size", "Address", *(("SSV", "SubstreamID", "Global") if check.substreams else ()))),
        Op.CFGI_CD: (CfgiCd, ("StreamID", "Leaf", *(("SubstreamID",) if check.substreams else ()))),
        Op.CFGI_CD_ALL: (CfgiCd, ("StreamID",)),
    }
    if opcode not in names:
        return 0, 0
    record, fields = names[opcode]
    mask = 0
    for name in ("Opcode", *fields):
        placed = record.layout[name]
        mask |= placed.mask << placed.lo
    low, high = mask & _WORD, mask >> 64
    if "ASID" in fields and not check.asid16:
        low = low & ~(0xFFFF << 48) | _ASID8
    if "SCALE" in fields and not check.ds:
        low &= ~_SCALE_TOP
    return low, high
