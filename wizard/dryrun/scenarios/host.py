"""A host that supplies less than the vSMMU promises. smmuv3_accel_check_hw_compatible()."""

from __future__ import annotations

from wizard.dryrun.bench import Bench, Failed, Needs, NotApplicable, rests_on, scenario
from wizard.dryrun.layout import SmmuLayout, VsmmuLayout
from wizard.dryrun.model import Stopper
from wizard.dryrun.rests import REGISTERS, Fact
from wizard.nesting.qemu import compare, ids_of

GROUP = "host below the vSMMU"
QEMU = Stopper.QEMU


def _pair(bench: Bench) -> tuple[VsmmuLayout, SmmuLayout]:
    if bench.function.vsmmu is None:
        raise NotApplicable("the function is behind no vSMMU")
    return bench.properties, bench.world.layout.smmu(bench.function.smmu)


@scenario("compare", GROUP, "QEMU's comparison with the raw registers", "smmuv3_accel_check_hw_compatible()", stops=QEMU, needs=Needs.LAYOUT)
@rests_on(*REGISTERS)
def whole(bench: Bench) -> str:
    """Every field, in QEMU's order."""
    vsmmu, smmu = _pair(bench)
    if why := compare(vsmmu.ids, smmu.ids):
        bench.stopped_by = QEMU
        raise Failed(f"QEMU refuses {bench.function.address}: {why}")
    return f"{smmu.name} supplies all that {vsmmu.id} promises"


@scenario("ril", GROUP, "range invalidation", "IHI 0070 6.3.4 (IDR3.RIL)", "smmuv3_accel_check_hw_compatible()", stops=QEMU, needs=Needs.LAYOUT)
@rests_on(Fact.RIL)
def ril(bench: Bench) -> str:
    """A vSMMU with RIL on a host without it would send commands that the host ignores in part."""
    vsmmu, smmu = _pair(bench)
    if vsmmu.ril and not smmu.ids.features.ril:
        bench.stopped_by = QEMU
        raise Failed(f"{vsmmu.id} has ril=on and {smmu.name} no range invalidation")
    if smmu.ids.features.ril:
        return f"{smmu.name} has it, ril={'on' if vsmmu.ril else 'off'}"
    if compare(ids_of(ril=True), smmu.ids) is None:
        raise Failed("QEMU would let ril=on pass")
    bench.stopped_by = QEMU
    return f"{smmu.name} has none, ril=off; QEMU refuses ril=on"


@scenario("oas", GROUP, "output address size", "IHI 0070 6.3.6 (IDR5.OAS)", "smmuv3_accel_check_hw_compatible()", stops=QEMU, needs=Needs.LAYOUT)
@rests_on(Fact.OAS)
def oas(bench: Bench) -> str:
    """The guest's intermediate addresses have to fit the host's stage 2."""
    vsmmu, smmu = _pair(bench)
    if vsmmu.oas > smmu.ids.features.oas:
        bench.stopped_by = QEMU
        raise Failed(f"{vsmmu.id} has oas={vsmmu.oas} and {smmu.name} {smmu.ids.features.oas} bits")
    return f"{vsmmu.oas} of {smmu.ids.features.oas} bits"


@scenario("ssidsize", GROUP, "PASID width", "IHI 0070 6.3.2 (IDR1.SSIDSIZE)", "smmuv3_accel_check_hw_compatible()", stops=QEMU, needs=Needs.LAYOUT)
@rests_on(Fact.SSIDSIZE)
def ssidsize(bench: Bench) -> str:
    """A guest's S1CDMax above the host's SSIDSIZE would be C_BAD_STE."""
    vsmmu, smmu = _pair(bench)
    if vsmmu.ssidsize > smmu.ids.features.ssidsize:
        bench.stopped_by = QEMU
        raise Failed(f"{vsmmu.id} has ssidsize={vsmmu.ssidsize} and {smmu.name} {smmu.ids.features.ssidsize} bits")
    return f"{vsmmu.ssidsize} of {smmu.ids.features.ssidsize} bits"
