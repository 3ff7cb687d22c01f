"""The ladder: acceleration, then virtio-iommu, then no vIOMMU; and how far down a request may go.

The host supplies what is asked exactly, or another way that was allowed, or the plan fails. There is no silent negotiation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from wizard.base.finding import Finding, Severity
from wizard.base.text import plural, visible
from wizard.host.known import UNKNOWN
from wizard.host.model import Accel, Host
from wizard.plan.candidate import Candidate
from wizard.plan.codes import ERROR, INFO, WARNING, plan_code
from wizard.plan.request import Mode, VmRequest

GRANULES = {4096: "4k", 16384: "16k", 65536: "64k"}
VIRTIO_AW_BITS = 48  # what a stage-1 table of the host reaches without VAX: UL(48) in arm_smmu_domain_finalise_s1()

REFUSED = plan_code(
    "accel-refused", ERROR,
    what="{subject} can't be accelerated: {because}",
    why="{why} VM {vm} asks for --mode accel, and allows nothing lower.",
    fix="{fix} Or allow a lower mode with --fall-back, or ask for one with --mode.",
)  # fmt: skip
NOT_KNOWN = plan_code(
    "accel-not-known", ERROR,
    what="Whether {subject} can be accelerated is not known: {because}",
    why="{why} VM {vm} asks for --mode accel, and a guess would end in QEMU's own error message at start.",
    fix="{fix} Or take the risk with --assume-accel.",
)  # fmt: skip
ASSUMED = plan_code(
    "accel-assumed", WARNING,
    what="Acceleration of {subject} is assumed: {because}",
    why="{why} --assume-accel takes it as given; QEMU or the guest will tell.",
    fix="{fix}",
)  # fmt: skip
FELL_BACK = plan_code(
    "fell-back", WARNING,
    what="VM {subject} falls back from accel to {mode}.",
    why="{because} --fall-back allows it.",
    fix="Leave --fall-back out to have this refused, or choose functions that can be accelerated.",
)  # fmt: skip
VIRTIO_IMPOSSIBLE = plan_code(
    "virtio-iommu-impossible", ERROR,
    what="VM {subject} can't have a virtio-iommu: {because}",
    why="Every IOVA range and page size that the guest may use has to fit the host's, for every function of the VM: the device is machine-wide.",
    fix="Use --mode none, or leave out the functions that do not fit.",
)  # fmt: skip
EMULATED_SMMU = plan_code(
    "vfio-behind-emulated-smmu", INFO,
    what="VM {subject} has no accelerated SMMU, and gets no emulated one in its place.",
    why="vfio-pci behind an emulated arm-smmuv3 can't work in QEMU: 'device requires iommu MAP notifier which is not currently supported'.",
    fix="Nothing to do; a virtio-iommu is the software vIOMMU that assigned functions can sit behind.",
)  # fmt: skip


def decide(host: Host, request: VmRequest, candidates: Sequence[tuple[Candidate, Mode | None]]) -> tuple[Mode, list[Finding]]:
    """The mode of the VM and what there is to say of it. Functions asked for without a vIOMMU are not judged."""
    findings: list[Finding] = []
    judged = [candidate for candidate, mode in candidates if mode is not Mode.NONE]
    if request.mode is Mode.ACCEL:
        findings = [finding for candidate in judged for finding in _accel(request, candidate)]
        errors = [finding for finding in findings if finding.severity is Severity.ERROR]
        if not errors or not request.fall_back:
            return Mode.ACCEL, findings
        because = " ".join(dict.fromkeys(finding.what for finding in errors))
        obstacle = virtio_obstacle(host, judged)
        mode = Mode.NONE if obstacle else Mode.VIRTIO_IOMMU
        because += f" A virtio-iommu is no way either: {obstacle}" if obstacle else ""
        return mode, [FELL_BACK.at(visible(request.name), mode=mode, because=because)]
    if request.mode is Mode.VIRTIO_IOMMU and (obstacle := virtio_obstacle(host, judged)):
        if not request.fall_back:
            return Mode.VIRTIO_IOMMU, [VIRTIO_IMPOSSIBLE.at(visible(request.name), because=obstacle)]
        return Mode.NONE, [FELL_BACK.at(visible(request.name), mode=Mode.NONE, because=obstacle)]
    if judged:
        findings.append(EMULATED_SMMU.at(visible(request.name)))
    return request.mode, findings


def _accel(request: VmRequest, candidate: Candidate) -> Iterator[Finding]:
    verdict = candidate.verdict
    if verdict.accel is Accel.YES:
        return
    # The first reason, and where the others stand: a sentence that nobody reads to its end helps nobody.
    first, others = (verdict.reasons[0] if verdict.reasons else None), len(verdict.reasons) - 1
    more = f" ({plural(others, 'more reason')}: `smmu-wizard show {candidate.function}`.)" if others > 0 else ""
    values: dict[str, Any] = {
        "because": (first.what if first else "nothing is known of it.") + more,
        "why": first.why if first else "",
        "fix": first.fix if first else "Record the host with --probe.",
        "vm": visible(request.name),
    }
    code = REFUSED if verdict.accel is Accel.NO else ASSUMED if request.assume_accel else NOT_KNOWN
    yield code.at(candidate.address, **values)


def virtio_obstacle(host: Host, candidates: Sequence[Candidate]) -> str | None:
    """Why a virtio-iommu is impossible for these functions; None when it is possible."""
    if host.page_size not in GRANULES:
        return f"the host's page size is {host.page_size or 'not known'}."
    for candidate in candidates:
        smmu = candidate.smmu
        if smmu is None:
            return f"{candidate.address} has no SMMU above it, so its DMA can't be mapped."
        if smmu.kind != "smmuv3":
            continue
        granule = smmu.known(f"gran{GRANULES[host.page_size]}")
        if granule.known and not granule:
            return f"{smmu.name} lacks the {GRANULES[host.page_size]} granule that the guest's pages would need."
        if smmu.oas is not None and smmu.oas < 32:
            return f"{smmu.name} gives out {smmu.oas}-bit addresses."
        members = [d for d in (candidate.group.devices if candidate.group else ()) if d != candidate.address and _endpoint(host, d)]
        shared = [c.address for c in candidates if c.address in members]
        if shared:
            return f"{candidate.address} and {', '.join(shared)} share an IOMMU group, which can't be in two address spaces at once."
    return None


def _endpoint(host: Host, device: str) -> bool:
    function = host.functions.get(device)
    return function is not None and not function.is_bridge


def virtio_settings(host: Host, candidates: Sequence[Candidate]) -> tuple[str, int]:
    """``granule`` and ``aw-bits``, written out so that the guest's platform does not depend on the host's own choice.

    An SMMU without stage 1 maps with stage 2, whose input is no wider than its output (arm_smmu_domain_finalise()).
    """
    narrow = [c.smmu.oas for c in candidates if c.smmu and c.smmu.hardware.get("stage1", UNKNOWN).value is False and c.smmu.oas]
    return GRANULES.get(host.page_size or 4096, "4k"), min([VIRTIO_AW_BITS, *narrow])
