"""What QEMU compares of the host's ID registers before it builds a vSMMU."""

from __future__ import annotations

from collections.abc import Iterable

from wizard.base.finding import Area
from wizard.host.conditions.evidence import HOLDS, Answer, Behind, condition_of, fails, not_known, of_smmu, verdict_code
from wizard.host.conditions.registers import registers_unknown
from wizard.host.model import Smmu
from wizard.host.vmm import Vmm

QEMU_REFUSES = verdict_code(
    "qemu-refuses-smmu", Area.HARDWARE,
    what="QEMU can't build its vSMMU on {smmu}: {mismatches}.",
    why="QEMU compares the host's ID registers with its own model (smmuv3_accel_check_hw_compatible), and no property relaxes these fields.",
    fix="No setting changes this with QEMU 11.1: use --mode none, or a host whose SMMU has them.",
)  # fmt: skip


@condition_of(Vmm.QEMU)
@of_smmu
def qemu_accepts(behind: Behind) -> Answer:
    """smmuv3_accel_check_hw_compatible() of QEMU 11.1, the fields that no property relaxes."""
    if behind.smmu is None or behind.smmu.kind != "smmuv3":
        return HOLDS
    if behind.smmu.registers is None or behind.smmu.registers.assumed:
        return not_known(registers_unknown(behind.smmu))
    mismatches = tuple(_mismatches(behind.smmu))
    if mismatches:
        return fails(QEMU_REFUSES.at(behind.smmu.name, smmu=behind.smmu.name, mismatches="; ".join(mismatches)))
    return HOLDS


def _mismatches(smmu: Smmu) -> Iterable[str]:
    assert smmu.registers is not None
    idr0, idr1, idr5 = smmu.registers.idr0, smmu.registers.idr1, smmu.registers.idr5
    if idr0.ST_LEVEL != 1:
        yield f"stream table format (host STLEVEL={idr0.ST_LEVEL}, QEMU STLEVEL=1)"
    if idr0.TTENDIAN > 2:
        yield "no little-endian translation tables"
    if idr0.TTF < 2:
        yield "no AArch64 translation tables"
    if idr1.SIDSIZE < 16:
        yield f"SIDSIZE {idr1.SIDSIZE}, QEMU needs 16"
    for name in ("GRAN4K", "GRAN16K", "GRAN64K"):
        if not getattr(idr5, name):
            yield f"no {name[4:-1]}K translation granule"
