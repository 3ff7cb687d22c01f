"""What OpenVMM compares of the host's ID registers: less than QEMU, since its vSMMU offers less.

Read in its source (resolve_host_caps() in vm/devices/iommu/smmu/src/shared.rs, microsoft/openvmm 1488a37); nothing of it was run.
"""

from __future__ import annotations

from collections.abc import Iterable

from wizard.base.finding import Area
from wizard.host.conditions.evidence import HOLDS, Answer, Behind, condition_of, fails, not_known, of_smmu, verdict_code
from wizard.host.conditions.registers import registers_unknown
from wizard.host.model import Smmu
from wizard.host.vmm import Vmm

OPENVMM_REFUSES = verdict_code(
    "openvmm-refuses-smmu", Area.HARDWARE,
    what="OpenVMM can't build its vSMMU on {smmu}: {mismatches}.",
    why="OpenVMM compares the host's ID registers when a function is attached (resolve_host_caps), and no option relaxes these fields.",
    fix="No setting changes this: use --mode none, or a host whose SMMU has them.",
)  # fmt: skip
_MIXED, _LITTLE = 0, 2  # IDR0.TTENDIAN (IHI 0070, 6.3.1)


@condition_of(Vmm.OPENVMM)
@of_smmu
def openvmm_accepts(behind: Behind) -> Answer:
    """AArch64 tables, little-endian walks and the 4K granule; stream table format and StreamID size are its own, and not compared."""
    smmu = behind.smmu
    if smmu is None or smmu.kind != "smmuv3":
        return HOLDS
    if smmu.registers is None or smmu.registers.assumed:
        return not_known(registers_unknown(smmu, Vmm.OPENVMM))
    mismatches = tuple(_mismatches(smmu))
    return fails(OPENVMM_REFUSES.at(smmu.name, smmu=smmu.name, mismatches="; ".join(mismatches))) if mismatches else HOLDS


def _mismatches(smmu: Smmu) -> Iterable[str]:
    assert smmu.registers is not None
    idr0, idr5 = smmu.registers.idr0, smmu.registers.idr5
    if not idr0.TTF & 2:
        yield "no AArch64 translation tables"
    if idr0.TTENDIAN not in (_MIXED, _LITTLE):
        yield "no little-endian translation tables"
    if not idr5.GRAN4K:
        yield "no 4K translation granule"
