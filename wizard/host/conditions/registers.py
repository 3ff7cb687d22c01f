"""What several conditions need and only a probe tells: the ID registers of an SMMU."""

from __future__ import annotations

from wizard.base.finding import Area, Finding, Severity
from wizard.host.conditions.evidence import verdict_code
from wizard.host.model import Smmu
from wizard.host.vmm import Vmm

REGISTERS_UNKNOWN = verdict_code(
    "id-registers-unknown", Area.HOST, severity=Severity.INFO,
    what="{vmm}'s comparison with the ID registers of {smmu} can't be made here.",
    why="Stream table format, StreamID size and granules stand only in registers, which iommufd hands out; {because}",
    fix="Bind one function of this SMMU to vfio-pci (`smmu-wizard prepare FUNCTION`) and run `sudo smmu-wizard record --probe`.",
)  # fmt: skip


def registers_unknown(smmu: Smmu, vmm: Vmm = Vmm.QEMU) -> Finding:
    """Nobody asked for them, or what stands in their place is made up: one finding, whichever condition asks."""
    because = "nobody asked it yet." if smmu.registers is None else "the registers recorded here are assumed."
    return REGISTERS_UNKNOWN.at(smmu.name, vmm=vmm.name_of_it, smmu=smmu.name, because=because)
