"""What the SMMU, the firmware and the silicon's errata allow: nesting, coherency, ATS where it is required."""

from __future__ import annotations

from wizard.base.finding import Area, Severity
from wizard.host.conditions.evidence import HOLDS, Answer, Evidence, condition, verdict_code
from wizard.host.known import Known, Source

NO_NESTING = verdict_code(
    "no-nesting", Area.HARDWARE,
    what="{smmu} does not nest: {because}.",
    why="Acceleration needs stage 1 and stage 2 in hardware, and the kernel's FEAT_NESTING (IOMMU_HWPT_ALLOC_NEST_PARENT).",
    fix="No setting changes this: use --mode none, or a host whose SMMU nests.",
)  # fmt: skip
NESTING_UNKNOWN = verdict_code(
    "nesting-unknown", Area.HOST, severity=Severity.INFO,
    what="Whether {smmu} nests is not known{because}.",
    why="SMMUv3 puts no register in sysfs: only the kernel's log or a probe tells.",
    fix="Bind a function to vfio-pci (`smmu-wizard prepare`) and run `sudo smmu-wizard record --probe`.",
)  # fmt: skip


def _because(known: Known) -> str:
    if known.source == Source.ASSUMED:
        return f": it is only assumed ({known.note})" if known.note else ": it is only assumed"
    return f" ({known.note})" if known.note else ""


@condition
def nests(evidence: Evidence) -> Answer:
    """FEAT_NESTING of the kernel: arm_smmu_domain_alloc_paging_flags()."""
    if evidence.smmu is None or evidence.viommu.value is True:
        return HOLDS
    nesting = evidence.smmu.known("nesting")
    if nesting.value is False:
        return Answer(False, NO_NESTING.at(evidence.function, smmu=evidence.smmu.name, because=nesting.note or f"known from {nesting.source}"))
    if not nesting.measured:
        return Answer(None, NESTING_UNKNOWN.at(evidence.function, smmu=evidence.smmu.name, because=_because(nesting)))
    return HOLDS


NO_COHERENT = verdict_code(
    "no-canwbs", Area.FIRMWARE,
    what="Nesting is refused for {subject}: neither CANWBS nor S2FWB.",
    why="A guest could make its DMA non-coherent with the host's caches; the kernel makes a vIOMMU only where the firmware's IORT sets CANWBS on the "
    "root complex of segment {segment:04x} (memory access flags bit 2) or the SMMU has S2FWB (IDR3.FWB). "
    "Else IOMMU_VIOMMU_ALLOC fails: Operation not supported.",
    fix="Ask the vendor for firmware with CANWBS (coherency ensured in IORT), or give the function without acceleration (--mode none).",
)  # fmt: skip
VIOMMU_REFUSED = verdict_code(
    "viommu-refused", Area.KCONFIG,
    what="The kernel refused a vIOMMU on {smmu} when it was asked.",
    why="IOMMU_VIOMMU_ALLOC failed although nothing recorded here explains it.",
    fix="Check CONFIG_ARM_SMMU_V3_IOMMUFD and the kernel's log at the time of the probe.",
)  # fmt: skip
COHERENT_UNKNOWN = verdict_code(
    "canwbs-unknown", Area.HOST, severity=Severity.INFO,
    what="Whether the kernel would nest for {subject} coherently is not known: CANWBS {canwbs}, S2FWB {s2fwb}.",
    why="It needs CANWBS in the firmware's IORT, or S2FWB in the SMMU.",
    fix="Read IORT as root (`sudo smmu-wizard record`), or probe (`sudo smmu-wizard record --probe`).",
)  # fmt: skip


@condition
def coherent(evidence: Evidence) -> Answer:
    """CANWBS, per segment, or S2FWB: arm_smmu_get_viommu_size()."""
    if evidence.smmu is None or evidence.viommu.value is True:
        return HOLDS
    s2fwb = evidence.smmu.known("s2fwb")
    function = evidence.function
    if (evidence.canwbs.measured and evidence.canwbs) or (s2fwb.measured and s2fwb):
        return Answer(False, VIOMMU_REFUSED.at(function, smmu=evidence.smmu.name)) if _refused_alone(evidence) else HOLDS
    if evidence.canwbs.value is False and s2fwb.value is False:
        return Answer(False, NO_COHERENT.at(function, segment=function.address.segment))
    if evidence.viommu.value is False and evidence.smmu.known("nesting").value is not False:
        return Answer(False, NO_COHERENT.at(function, segment=function.address.segment))
    return Answer(None, COHERENT_UNKNOWN.at(function, canwbs=_state(evidence.canwbs), s2fwb=_state(s2fwb)))


def _refused_alone(evidence: Evidence) -> bool:
    """Refused although nesting, coherency and configuration are as they should be."""
    if evidence.viommu.value is not False or evidence.smmu is None:
        return False
    blamed = evidence.smmu.known("nesting").value is False or evidence.smmu.known("cmdq_force_sync").value is True
    return not blamed and evidence.config("CONFIG_ARM_SMMU_V3_IOMMUFD").value is not False


def _state(known: Known) -> str:
    return f"{known.show()} ({known.source})" if known.known else "unknown"


ATS_REQUIRED = verdict_code(
    "ats-required", Area.FIRMWARE,
    what="{subject} can't work without ATS, and {lacking}.",
    why="It is a CXL.cache device (pci_ats_required): since Linux 7.2 the SMMU's driver refuses it (SMMU doesn't support ATS).",
    fix="Ask the vendor for firmware that sets the ATS attribute of the root complex in IORT; where the SMMU itself lacks ATS, use another slot.",
)  # fmt: skip


@condition
def ats_where_required(evidence: Evidence) -> Answer:
    """pci_ats_required() devices fail to probe when ATS can't be enabled (problems.md 37)."""
    if evidence.smmu is None or not evidence.function.known("cxl_cache") or not evidence.function.known("ats"):
        return HOLDS
    if evidence.function.known("root_complex_ats").value is False:
        return Answer(False, ATS_REQUIRED.at(evidence.function, lacking="the firmware's root complex does not offer it"))
    if evidence.smmu.known("ats").value is False:
        return Answer(False, ATS_REQUIRED.at(evidence.function, lacking=f"{evidence.smmu.name} does not offer it"))
    return HOLDS


FORCE_SYNC = verdict_code(
    "cmdq-force-sync", Area.HARDWARE,
    what="{smmu} is a part with erratum 2812531: the kernel follows every command with a CMD_SYNC.",
    why="A guest's own invalidations can't be run that way, so the kernel refuses a vIOMMU (CMDQ_FORCE_SYNC).",
    fix="No setting changes this: use --mode none, or a host with a later part (MMU-700 r1p1).",
)  # fmt: skip


@condition
def no_force_sync(evidence: Evidence) -> Answer:
    """CMDQ_FORCE_SYNC rules a vIOMMU out."""
    if evidence.smmu is not None and evidence.smmu.known("cmdq_force_sync").value is True:
        return Answer(False, FORCE_SYNC.at(evidence.function, smmu=evidence.smmu.name))
    return HOLDS
