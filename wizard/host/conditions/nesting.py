"""What the SMMU, the firmware and the silicon's errata allow: nesting, coherency, ATS where it is required."""

from __future__ import annotations

from wizard.base.finding import Area, OnTree, Severity
from wizard.host.conditions.evidence import HOLDS, Answer, Behind, Evidence, condition, fails, not_known, of_smmu, verdict_code
from wizard.host.conditions.registers import registers_unknown
from wizard.host.devices import needs_ats
from wizard.host.known import UNKNOWN, Known, Source
from wizard.host.model import Function

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
    fix="Bind a function to vfio-pci (`smmu-wizard prepare FUNCTION`) and run `sudo smmu-wizard record --probe`.",
)  # fmt: skip


def _because(known: Known) -> str:
    if known.source == Source.ASSUMED:
        return f": it is only assumed ({known.note})" if known.note else ": it is only assumed"
    return f" ({known.note})" if known.note else ""


@condition
@of_smmu
def nests(behind: Behind) -> Answer:
    """FEAT_NESTING of the kernel: arm_smmu_domain_alloc_paging_flags()."""
    if behind.smmu is None or behind.viommu.value is True:
        return HOLDS
    nesting = behind.smmu.known("nesting")
    if nesting.refuted:
        return fails(NO_NESTING.at(behind.smmu.name, smmu=behind.smmu.name, because=nesting.note or f"known from {nesting.source}"))
    return HOLDS if nesting.proved else not_known(NESTING_UNKNOWN.at(behind.smmu.name, smmu=behind.smmu.name, because=_because(nesting)))


NOT_COHERENT = verdict_code(
    "smmu-not-coherent", Area.FIRMWARE,
    what="{smmu} does not walk its tables coherently with the CPUs' caches: {because}.",
    why="VFIO and iommufd refuse every device without it (IOMMU_CAP_CACHE_COHERENCY), with acceleration or without.",
    fix="Update the firmware: under ACPI the kernel takes IORT's COHACC flag for it, whatever IDR0 says.",
    on_tree=OnTree(
        fix="Where the hardware is coherent, {smmu}'s node in the device tree has to say dma-coherent: update the device tree of the board. "
        "The kernel takes that for it, whatever IDR0 says. Where it is not, none of its functions can be given to a VM.",
    ),
)  # fmt: skip


COHERENCY_UNKNOWN = verdict_code(
    "coherency-unknown", Area.HOST, severity=Severity.INFO,
    what="Whether {smmu} walks its tables coherently with the CPUs' caches is not known.",
    why="VFIO and iommufd refuse every device without it (IOMMU_CAP_CACHE_COHERENCY). The kernel's log of the boot, the firmware's IORT or a "
    "function that iommufd took would tell.",
    fix="Read the host as root (`sudo smmu-wizard record`), soon after its boot.",
    on_tree=OnTree(
        why="VFIO and iommufd refuse every device without it (IOMMU_CAP_CACHE_COHERENCY). The kernel's log of the boot, dma-coherent in the device "
        "tree or a function that iommufd took would tell.",
        fix="Record the host again (`smmu-wizard record`): every user can read the device tree.",
    ),
)  # fmt: skip


@condition
@of_smmu
def walks_coherently(behind: Behind) -> Answer:
    """IOMMU_CAP_CACHE_COHERENCY is FEAT_COHERENCY; a function that iommufd took proves it."""
    smmu = behind.smmu
    if smmu is None or smmu.kind != "smmuv3" or (smmu.registers and not smmu.registers.assumed):
        return HOLDS
    coherent = smmu.known("coherent_walks")
    if coherent.refuted:
        return fails(NOT_COHERENT.at(smmu.name, smmu=smmu.name, because=coherent.note or f"known from {coherent.source}", tree=behind.device_tree))
    return HOLDS if coherent.proved else not_known(COHERENCY_UNKNOWN.at(smmu.name, smmu=smmu.name, tree=behind.device_tree))


NO_COHERENT = verdict_code(
    "no-canwbs", Area.FIRMWARE,
    what="Nesting is refused for {subject}: neither CANWBS nor S2FWB.",
    why="A guest could make its DMA non-coherent with the host's caches; the kernel makes a vIOMMU only where the firmware's IORT sets CANWBS on the "
    "root complex of segment {segment:04x} (memory access flags bit 2) or the SMMU has S2FWB (IDR3.FWB). "
    "Else IOMMU_VIOMMU_ALLOC fails: Operation not supported.",
    fix="Ask the vendor for firmware with CANWBS (coherency ensured in IORT), or give the function without acceleration (--mode none).",
    on_tree=OnTree(
        why="A guest could make its DMA non-coherent with the host's caches; the kernel makes a vIOMMU only where ACPI says CANWBS of the root "
        "complex, which a device tree has no property for, or the SMMU has S2FWB (IDR3.FWB). Else IOMMU_VIOMMU_ALLOC fails: Operation not supported.",
        fix="No setting changes this: give the function without acceleration (--mode none), or use a host whose SMMU has S2FWB, or that boots "
        "with ACPI.",
    ),
)  # fmt: skip
COHERENT_UNKNOWN = verdict_code(
    "canwbs-unknown", Area.HOST, severity=Severity.INFO,
    what="Whether the kernel would nest for {subject} coherently is not known: CANWBS {canwbs}, S2FWB {s2fwb}.",
    why="It needs CANWBS in the firmware's IORT, or S2FWB in the SMMU.{more}",
    fix="Read IORT as root (`sudo smmu-wizard record`), or probe (`sudo smmu-wizard record --probe`).",
    on_tree=OnTree(
        why="It needs S2FWB in the SMMU: a device tree can't say CANWBS.{more}",
        fix="Bind a function to vfio-pci (`smmu-wizard prepare FUNCTION`) and run `sudo smmu-wizard record --probe`.",
    ),
)  # fmt: skip


@condition
def coherent(evidence: Evidence) -> Answer:
    """CANWBS, per segment, or S2FWB: arm_smmu_get_viommu_size()."""
    if evidence.smmu is None or evidence.viommu.value is True or _coherent(evidence):
        return HOLDS
    canwbs, s2fwb, function = evidence.canwbs, evidence.smmu.known("s2fwb"), evidence.function
    if canwbs.refuted and s2fwb.refuted:
        return fails(NO_COHERENT.at(function, segment=function.address.segment, tree=evidence.device_tree))
    if evidence.viommu.value is False:
        return HOLDS  # what refused it is named by the next condition
    more = f" Of S2FWB: {s2fwb.note}." if s2fwb.note and not s2fwb.known else ""
    return not_known(COHERENT_UNKNOWN.at(function, canwbs=_state(canwbs), s2fwb=_state(s2fwb), more=more, tree=evidence.device_tree))


def _coherent(evidence: Evidence) -> bool:
    s2fwb = evidence.smmu.known("s2fwb") if evidence.smmu else evidence.canwbs
    return evidence.canwbs.proved or s2fwb.proved


VIOMMU_REFUSED = verdict_code(
    "viommu-refused", Area.KCONFIG,
    what="The kernel refused a vIOMMU on {smmu} when it was asked ({tried}).",
    why="IOMMU_VIOMMU_ALLOC: Operation not supported. {because}",
    fix="Check CONFIG_ARM_SMMU_V3_IOMMUFD, the firmware's CANWBS, and the kernel's log at the time of the probe.",
    on_tree=OnTree(fix="Check CONFIG_ARM_SMMU_V3_IOMMUFD, and the kernel's log at the time of the probe."),
)  # fmt: skip
VIOMMU_FAILED = verdict_code(
    "viommu-probe-failed", Area.HOST, severity=Severity.INFO,
    what="Whether the kernel makes a vIOMMU for {subject} is not known: {because}.",
    why="Only 'Operation not supported' means no; any other error may not come again.",
    fix="Look at the kernel's log, and ask again: `sudo smmu-wizard record --probe`.",
)  # fmt: skip


@condition
def viommu_tried(evidence: Evidence) -> Answer:
    """IOMMU_VIOMMU_ALLOC that failed: what the kernel did beats what everything else lets one expect."""
    if evidence.smmu is None or evidence.viommu.value is True:
        return HOLDS
    if evidence.viommu.value is None:
        odd = evidence.viommu.note
        return not_known(VIOMMU_FAILED.at(evidence.function, because=odd)) if odd else HOLDS
    known = {name: evidence.smmu.known(name) for name in ("nesting", "s2fwb", "cmdq_force_sync")}
    named = (
        known["nesting"].refuted
        or known["cmdq_force_sync"].proved
        or (known["s2fwb"].refuted and evidence.canwbs.refuted)
        or evidence.config("CONFIG_ARM_SMMU_V3_IOMMUFD").value is False
    )
    if named:
        return HOLDS  # another condition says why
    options = []
    if evidence.config("CONFIG_ARM_SMMU_V3_IOMMUFD").value is None:
        options.append("the kernel was built without CONFIG_ARM_SMMU_V3_IOMMUFD")
    if not _coherent(evidence):
        options.append("the SMMU has no S2FWB, and a device tree can't say CANWBS" if evidence.device_tree else "neither CANWBS nor S2FWB is in use")
    because = f"Of what was recorded it may be that {' or that '.join(options)}." if options else "Nothing recorded here explains it."
    return fails(
        VIOMMU_REFUSED.at(evidence.function, smmu=evidence.smmu.name, tried=evidence.viommu.note, because=because, tree=evidence.device_tree)
    )


def _state(known: Known) -> str:
    return f"{known.show()} ({known.source})" if known.known else "unknown"


ATS_REQUIRED = verdict_code(
    "ats-required", Area.FIRMWARE,
    what="{subject} can't work without ATS, and {lacking}.",
    why="It is {kind} (pci_ats_required): since Linux 7.2 the SMMU's driver refuses it ({message}).",
    fix="Ask the vendor for firmware that sets the ATS attribute of the root complex in IORT; where the SMMU itself lacks ATS, use another slot.",
    on_tree=OnTree(
        fix="The host bridge's node in the device tree has to say ats-supported, where the hardware can; where the SMMU itself lacks ATS, "
        "use another slot.",
    ),
)  # fmt: skip


ATS_UNDECIDED = verdict_code(
    "ats-need-unknown", Area.HOST, severity=Severity.INFO,
    what="Whether {subject} can work here is not known: {because}.",
    why="A device that must have ATS (pci_ats_required: CXL.cache devices, GPUs like them) is refused by the SMMU's driver where it can't have it.",
    fix="Read the host as root (`sudo smmu-wizard record`): configuration space past 256 bytes and IORT tell.",
    on_tree=OnTree(fix="Read the host as root (`sudo smmu-wizard record`): configuration space past 256 bytes tells."),
)  # fmt: skip


@condition
def ats_where_required(evidence: Evidence) -> Answer:
    """pci_ats_required() devices fail to probe when ATS can't be enabled (sources: problem-37)."""
    function, above = evidence.function, evidence.smmu
    if above is None or above.kind != "smmuv3":
        return HOLDS
    tree = evidence.device_tree
    offer, smmu = function.known("root_complex_ats"), above.known("ats")
    if evidence.ats_refused:
        lacking = "the kernel's log says that it was refused"
        return fails(ATS_REQUIRED.at(function, lacking=lacking, kind="a device that must have ATS", message="SMMU doesn't support ATS", tree=tree))
    if offer.proved and smmu.proved:
        return HOLDS
    needs, kind = _needs_ats(function)
    if needs.is_false:
        return HOLDS
    if needs.proved and (offer.refuted or smmu.refuted):
        lacking = "the firmware's root complex does not offer it" if offer.refuted else f"{above.name} does not offer it"
        return fails(ATS_REQUIRED.at(function, lacking=lacking, kind=kind, message="SMMU doesn't support ATS", tree=tree))
    if needs.is_true:
        return not_known(ATS_UNDECIDED.at(function, because=f"it is {kind}, and whether SMMU and root complex offer ATS was not read", tree=tree))
    return not_known(ATS_UNDECIDED.at(function, because="whether it is a device that must have ATS was not read", tree=tree))


def _needs_ats(function: Function) -> tuple[Known, str]:
    """Whether it is such a device, and which. Without the capability itself pci_ats_required() says no to all of them."""
    # Asked in the order of what it costs: nearly every function is none by its PCI Express capability or the whole of its space.
    cache = Known(True, Source.SYSFS) if needs_ats(function) else function.known("cxl_cache")
    kind = "a GPU that works like a CXL.cache device" if needs_ats(function) else "a CXL.cache device"
    if cache.is_false:
        return cache, kind
    ats = function.known("ats")
    if ats.is_false:
        return ats, kind
    return (cache if ats.is_true and cache.known else UNKNOWN), kind


FORCE_SYNC = verdict_code(
    "cmdq-force-sync", Area.HARDWARE,
    what="{smmu} is a part with erratum 2812531: the kernel follows every command with a CMD_SYNC.",
    why="A guest's own invalidations can't be run that way, so the kernel refuses a vIOMMU (CMDQ_FORCE_SYNC).",
    fix="No setting changes this: use --mode none, or a host with a later part (MMU-700 r1p1).",
)  # fmt: skip


@condition
@of_smmu
def no_force_sync(behind: Behind) -> Answer:
    """CMDQ_FORCE_SYNC rules a vIOMMU out."""
    smmu = behind.smmu
    if smmu is None or smmu.kind != "smmuv3":
        return HOLDS
    forced = smmu.known("cmdq_force_sync")
    if forced.proved:
        return fails(FORCE_SYNC.at(smmu.name, smmu=smmu.name))
    return HOLDS if forced.refuted else not_known(registers_unknown(smmu))
