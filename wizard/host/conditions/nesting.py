"""What the SMMU, the firmware and the silicon's errata allow: nesting, coherency, ATS where it is required."""

from __future__ import annotations

from wizard.base.finding import Area, Severity
from wizard.host.conditions.evidence import HOLDS, Answer, Evidence, condition, verdict_code
from wizard.host.devices import needs_ats
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
    if not nesting.measured:
        return Answer(None, NESTING_UNKNOWN.at(evidence.smmu.name, smmu=evidence.smmu.name, because=_because(nesting)))
    if nesting.value is False:
        return Answer(False, NO_NESTING.at(evidence.smmu.name, smmu=evidence.smmu.name, because=nesting.note or f"known from {nesting.source}"))
    return HOLDS


NOT_COHERENT = verdict_code(
    "smmu-not-coherent", Area.FIRMWARE,
    what="{smmu} does not walk its tables coherently with the CPUs' caches: {because}.",
    why="VFIO and iommufd refuse every device without it (IOMMU_CAP_CACHE_COHERENCY), with acceleration or without.",
    fix="Update the firmware: under ACPI the kernel takes IORT's COHACC flag for it, whatever IDR0 says.",
)  # fmt: skip


@condition
def walks_coherently(evidence: Evidence) -> Answer:
    """IOMMU_CAP_CACHE_COHERENCY is FEAT_COHERENCY; a function that iommufd took proves it."""
    if evidence.smmu is None or (evidence.smmu.registers and not evidence.smmu.registers.assumed):
        return HOLDS
    coherent = evidence.smmu.known("coherent_walks")
    if coherent.value is False and coherent.measured:
        return Answer(False, NOT_COHERENT.at(evidence.smmu.name, smmu=evidence.smmu.name, because=coherent.note or f"known from {coherent.source}"))
    return HOLDS


NO_COHERENT = verdict_code(
    "no-canwbs", Area.FIRMWARE,
    what="Nesting is refused for {subject}: neither CANWBS nor S2FWB.",
    why="A guest could make its DMA non-coherent with the host's caches; the kernel makes a vIOMMU only where the firmware's IORT sets CANWBS on the "
    "root complex of segment {segment:04x} (memory access flags bit 2) or the SMMU has S2FWB (IDR3.FWB). "
    "Else IOMMU_VIOMMU_ALLOC fails: Operation not supported.",
    fix="Ask the vendor for firmware with CANWBS (coherency ensured in IORT), or give the function without acceleration (--mode none).",
)  # fmt: skip
COHERENT_UNKNOWN = verdict_code(
    "canwbs-unknown", Area.HOST, severity=Severity.INFO,
    what="Whether the kernel would nest for {subject} coherently is not known: CANWBS {canwbs}, S2FWB {s2fwb}.",
    why="It needs CANWBS in the firmware's IORT, or S2FWB in the SMMU.{more}",
    fix="Read IORT as root (`sudo smmu-wizard record`), or probe (`sudo smmu-wizard record --probe`).",
)  # fmt: skip


@condition
def coherent(evidence: Evidence) -> Answer:
    """CANWBS, per segment, or S2FWB: arm_smmu_get_viommu_size()."""
    if evidence.smmu is None or evidence.viommu.value is True or _coherent(evidence):
        return HOLDS
    canwbs, s2fwb, function = evidence.canwbs, evidence.smmu.known("s2fwb"), evidence.function
    if canwbs.measured and s2fwb.measured:
        return Answer(False, NO_COHERENT.at(function, segment=function.address.segment))
    if evidence.viommu.value is False:
        return HOLDS  # what refused it is named by the next condition
    more = f" Of S2FWB: {s2fwb.note}." if s2fwb.note and not s2fwb.known else ""
    return Answer(None, COHERENT_UNKNOWN.at(function, canwbs=_state(canwbs), s2fwb=_state(s2fwb), more=more))


def _coherent(evidence: Evidence) -> bool:
    s2fwb = evidence.smmu.known("s2fwb") if evidence.smmu else evidence.canwbs
    return bool((evidence.canwbs.measured and evidence.canwbs) or (s2fwb.measured and s2fwb))


VIOMMU_REFUSED = verdict_code(
    "viommu-refused", Area.KCONFIG,
    what="The kernel refused a vIOMMU on {smmu} when it was asked ({tried}).",
    why="IOMMU_VIOMMU_ALLOC: Operation not supported. {because}",
    fix="Check CONFIG_ARM_SMMU_V3_IOMMUFD, the firmware's CANWBS, and the kernel's log at the time of the probe.",
)  # fmt: skip
VIOMMU_FAILED = verdict_code(
    "viommu-probe-failed", Area.HOST, severity=Severity.INFO,
    what="Whether the kernel makes a vIOMMU for {subject} is not known: {because}.",
    why="Only 'Operation not supported' is a refusal; any other error is one of that moment.",
    fix="Look at the kernel's log, and ask again: `sudo smmu-wizard record --probe`.",
)  # fmt: skip


@condition
def viommu_tried(evidence: Evidence) -> Answer:
    """IOMMU_VIOMMU_ALLOC that failed: what the kernel did beats what everything else lets one expect."""
    if evidence.smmu is None or evidence.viommu.value is True:
        return HOLDS
    if evidence.viommu.value is None:
        odd = evidence.viommu.note
        return Answer(None, VIOMMU_FAILED.at(evidence.function, because=odd)) if odd else HOLDS
    known = {name: evidence.smmu.known(name) for name in ("nesting", "s2fwb", "cmdq_force_sync")}
    named = (
        (known["nesting"].measured and known["nesting"].value is False)
        or (known["cmdq_force_sync"].measured and known["cmdq_force_sync"].value is True)
        or (known["s2fwb"].measured and known["s2fwb"].value is False and evidence.canwbs.measured and evidence.canwbs.value is False)
        or evidence.config("CONFIG_ARM_SMMU_V3_IOMMUFD").value is False
    )
    if named:
        return HOLDS  # another condition says why
    options = []
    if evidence.config("CONFIG_ARM_SMMU_V3_IOMMUFD").value is None:
        options.append("the kernel was built without CONFIG_ARM_SMMU_V3_IOMMUFD")
    if not _coherent(evidence):
        options.append("neither CANWBS nor S2FWB is in use")
    because = f"Of what was recorded it may be that {' or that '.join(options)}." if options else "Nothing recorded here explains it."
    return Answer(False, VIOMMU_REFUSED.at(evidence.function, smmu=evidence.smmu.name, tried=evidence.viommu.note, because=because))


def _state(known: Known) -> str:
    return f"{known.show()} ({known.source})" if known.known else "unknown"


ATS_REQUIRED = verdict_code(
    "ats-required", Area.FIRMWARE,
    what="{subject} can't work without ATS, and {lacking}.",
    why="It is {kind} (pci_ats_required): since Linux 7.2 the SMMU's driver refuses it ({message}).",
    fix="Ask the vendor for firmware that sets the ATS attribute of the root complex in IORT; where the SMMU itself lacks ATS, use another slot.",
)  # fmt: skip


@condition
def ats_where_required(evidence: Evidence) -> Answer:
    """pci_ats_required() devices fail to probe when ATS can't be enabled (sources: problem-37)."""
    if evidence.smmu is None or not (kind := _needs_ats(evidence)):
        return HOLDS
    offer, smmu = evidence.function.known("root_complex_ats"), evidence.smmu.known("ats")
    lacking = None
    if evidence.ats_refused:
        lacking = "the kernel's log says that it was refused"
    elif offer.value is False and offer.measured:
        lacking = "the firmware's root complex does not offer it"
    elif smmu.value is False and smmu.measured:
        lacking = f"{evidence.smmu.name} does not offer it"
    if lacking is None:
        return HOLDS
    return Answer(False, ATS_REQUIRED.at(evidence.function, lacking=lacking, kind=kind, message="SMMU doesn't support ATS"))


def _needs_ats(evidence: Evidence) -> str | None:
    if evidence.ats_refused:
        return "a device that must have ATS"
    function = evidence.function
    # Asked in the order of what it costs; without the capability itself pci_ats_required() says no to all of them.
    if needs_ats(function):
        return "a GPU that works like a CXL.cache device" if function.known("ats") else None
    return "a CXL.cache device" if function.known("cxl_cache") and function.known("ats") else None


FORCE_SYNC = verdict_code(
    "cmdq-force-sync", Area.HARDWARE,
    what="{smmu} is a part with erratum 2812531: the kernel follows every command with a CMD_SYNC.",
    why="A guest's own invalidations can't be run that way, so the kernel refuses a vIOMMU (CMDQ_FORCE_SYNC).",
    fix="No setting changes this: use --mode none, or a host with a later part (MMU-700 r1p1).",
)  # fmt: skip


@condition
def no_force_sync(evidence: Evidence) -> Answer:
    """CMDQ_FORCE_SYNC rules a vIOMMU out."""
    forced = evidence.smmu.known("cmdq_force_sync") if evidence.smmu else None
    if evidence.smmu is not None and forced and forced.measured:
        return Answer(False, FORCE_SYNC.at(evidence.smmu.name, smmu=evidence.smmu.name))
    return HOLDS
