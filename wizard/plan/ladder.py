"""The ladder: acceleration, then virtio-iommu, then no vIOMMU; and how far down a request may go.

The host supplies what is asked exactly, or another way that was allowed, or the plan fails. There is no silent negotiation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from wizard.base.action import LEAVE_OUT, TAKE_THE_RISK, mode_to
from wizard.base.finding import Finding
from wizard.base.text import plural, visible
from wizard.host.model import Accel, Host
from wizard.plan.candidate import Candidate
from wizard.plan.codes import ERROR, INFO, WARNING, plan_code
from wizard.plan.model import VmPlan
from wizard.plan.regions import RAM_BASE, VIRTIO_AW_BITS, iova_bits
from wizard.plan.request import Mode, VmRequest
from wizard.plan.target import vmm_of

GRANULES = {4096: "4k", 16384: "16k", 65536: "64k"}
VIRTIO_AW_BITS_LEAST = 32  # QEMU: "aw-bits must be within [32,64]"
REASONS = 3  # sentences of one mode; nobody reads on

REFUSED = plan_code(
    "accel-refused", ERROR,
    what="{subject} can't be accelerated: {because}",
    why="{why} It is asked for with --mode accel, and no lower mode is allowed.",
    fix="{fix}{lower}",
    action=mode_to("none"),
)  # fmt: skip
LOWER = " Or allow a lower mode with --fall-back, or ask for one with --mode."
NOT_KNOWN = plan_code(
    "accel-not-known", ERROR,
    what="Whether {subject} can be accelerated is not known: {because}",
    why="{why} It is asked for with --mode accel. If it is wrong, QEMU ends with an error when the VM starts.",
    fix="{fix} Or take the risk with --assume-accel.",
    action=TAKE_THE_RISK,
)  # fmt: skip
ASSUMED = plan_code(
    "accel-assumed", WARNING,
    what="Acceleration of {subject} is assumed: {because}",
    why="{why} --assume-accel allows it. If it is wrong, QEMU or the guest fails.",
    fix="{fix}",
)  # fmt: skip
FELL_BACK = plan_code(
    "fell-back", WARNING,
    what="VM {subject} falls back from {asked} to {mode}.",
    why="{because} --fall-back allows it.",
    fix="Leave --fall-back out to have this refused, or choose functions that can be accelerated.",
)  # fmt: skip
NO_WAY_DOWN = plan_code(
    "no-way-down", ERROR,
    what="VM {subject} can't fall back either: {because}",
    why="--fall-back allows the lower modes, but each of them has an error too.",
    fix="Correct what is found, or ask for one mode with --mode to see everything that it lacks.",
    action=mode_to("none"),
)  # fmt: skip
VIRTIO_IMPOSSIBLE = plan_code(
    "virtio-iommu-impossible", ERROR,
    what="VM {subject} can't have a virtio-iommu: {because}",
    why="Every IOVA range and page size that the guest may use has to fit the host's, for every function: the whole VM has one virtio-iommu.",
    fix="Use --mode none, or leave out the functions that do not fit.",
    action=mode_to("none"),
)  # fmt: skip
VIRTIO_UNKNOWN = plan_code(
    "virtio-iommu-not-known", ERROR,
    what="Whether VM {subject} can have a virtio-iommu is not known: {because}",
    why="Every IOVA range and page size that the guest may use has to fit the host's, for every function: the whole VM has one virtio-iommu.",
    fix="Record the host itself with `sudo smmu-wizard record`, or use --mode none.",
    action=mode_to("none"),
)  # fmt: skip
EMULATED_SMMU = plan_code(
    "vfio-behind-emulated-smmu", INFO,
    what="VM {subject} has no accelerated SMMU, and gets no emulated one in its place.",
    why="vfio-pci behind an emulated arm-smmuv3 can't work in QEMU: 'device requires iommu MAP notifier which is not currently supported'.",
    fix="Nothing to do; a virtio-iommu is the software vIOMMU that assigned functions can sit behind.",
)  # fmt: skip


def rungs(request: VmRequest) -> list[Mode]:
    """The modes that a request may come to, the one asked for first."""
    ladder = list(Mode)
    return ladder[ladder.index(request.mode) :] if request.fall_back else [request.mode]


def judge(host: Host, request: VmRequest, mode: Mode, candidates: Sequence[tuple[Candidate, Mode | None]]) -> Iterator[Finding]:
    """What there is to say of one mode. Functions asked for without a vIOMMU are not judged beside accelerated ones."""
    if mode is Mode.ACCEL:
        for candidate, own in candidates:
            if own is not Mode.NONE:
                yield from _accel(host, request, candidate)
        return
    if mode is Mode.VIRTIO_IOMMU and host.page_size is None:
        yield VIRTIO_UNKNOWN.at(visible(request.name), because="the host's page size was not read.")
    elif mode is Mode.VIRTIO_IOMMU and (obstacle := virtio_obstacle(host, [candidate for candidate, _ in candidates], request.memory)):
        yield VIRTIO_IMPOSSIBLE.at(visible(request.name), because=obstacle)
    elif mode is request.mode and candidates:
        yield EMULATED_SMMU.at(visible(request.name))


def take(drafts: Sequence[VmPlan]) -> VmPlan:
    """The first mode that leaves no error but those that every mode has; the one asked for, where none is better.

    ``drafts`` are plans of one VM, one for each mode from the top, and end with the first that has no errors.
    """
    errors = [{(finding.code, finding.subject) for finding in draft.errors} for draft in drafts]
    common = set.intersection(*errors)
    place = next((place for place, found in enumerate(errors) if found == common), None)
    first = drafts[0]
    if place is None:
        because = " ".join(f"{draft.mode} is not possible: {_reasons(draft, common)}" for draft in drafts[1:])
        return _also(first, NO_WAY_DOWN.at(visible(first.name), because=because))
    if place == 0:
        return first
    between = "".join(f" {draft.mode} is not possible either: {_reasons(draft, common)}" for draft in drafts[1:place])
    chosen = drafts[place]
    said = FELL_BACK.at(visible(first.name), asked=first.mode, mode=chosen.mode, because=_reasons(first, common) + between)
    return _also(chosen, said)


def _reasons(draft: VmPlan, common: set[tuple[str, str]]) -> str:
    found = list(dict.fromkeys(finding.what for finding in draft.errors if (finding.code, finding.subject) not in common))
    return " ".join(found[:REASONS]) + (f" ({plural(len(found) - REASONS, 'more reason')}.)" if len(found) > REASONS else "")


def _also(vm: VmPlan, finding: Finding) -> VmPlan:
    return replace(vm, findings=(*vm.findings, finding))


def _accel(host: Host, request: VmRequest, candidate: Candidate) -> Iterator[Finding]:
    verdict = host.verdict(candidate.function.facts.address, vmm_of(request.target))
    if verdict.accel is Accel.YES:
        return
    # A group of several is an error of its own, for whatever the verdict rests on (rules/functions.py): it is told once.
    reasons = [reason for reason in verdict.reasons if reason.code != "group-shared"]
    if len(reasons) < len(verdict.reasons) and not any(reason.severity is ERROR for reason in (*verdict.obstacles, *reasons)):
        return
    # One reason, and where the others stand: a sentence that nobody reads to its end helps nobody. What forbids assignment itself weighs most.
    first = (*verdict.obstacles, *reasons)[0]  # what is no yes has reasons
    others = len(reasons) - 1
    more = f" ({plural(others, 'more reason')}: `smmu-wizard show {candidate.function}`.)" if others > 0 else ""
    values: dict[str, Any] = {
        "because": first.what + more,
        "why": first.why,
        "fix": first.fix,
        # What forbids assignment itself is no better in a lower mode.
        "lower": "" if verdict.obstacles else LOWER,
    }
    code = REFUSED if verdict.accel is Accel.NO else ASSUMED if request.assume_accel else NOT_KNOWN
    yield code.at(candidate.address, action=LEAVE_OUT if code is REFUSED and verdict.obstacles else None, **values)


def virtio_obstacle(host: Host, candidates: Sequence[Candidate], memory: int) -> str | None:
    """Why a virtio-iommu is impossible for these functions and this much guest memory; None when it is possible."""
    if host.page_size not in GRANULES:
        return f"the host's page size is {host.page_size}."
    for candidate in candidates:
        smmu = candidate.smmu
        if smmu is None and candidate.verdict.assignable is False:
            return f"{candidate.address} has no SMMU above it, so its DMA can't be mapped."
        if smmu is None or smmu.kind != "smmuv3":
            continue  # whether there is one at all is the verdict's to say
        granule = smmu.known(f"gran{GRANULES[host.page_size]}")
        if granule.is_false:
            return f"{smmu.name} lacks the {GRANULES[host.page_size]} granule that the guest's pages would need."
        members = [d for d in (candidate.group.devices if candidate.group else ()) if d != candidate.address and _endpoint(host, d)]
        shared = [c.address for c in candidates if c.address in members]
        if shared:
            return f"{candidate.address} and {', '.join(shared)} share an IOMMU group, which can't be in two address spaces at once."
    _, bits = virtio_settings(host, candidates)
    if bits < VIRTIO_AW_BITS_LEAST:
        return f"the host maps {bits}-bit addresses, and QEMU wants 32 at least."
    if RAM_BASE + memory > 1 << bits:
        # Until its driver comes up the guest's addresses are its physical ones (boot-bypass).
        return f"the guest's memory ends at {RAM_BASE + memory - 1:#x}, above the {bits} bits that the host can map."
    return None


def _endpoint(host: Host, device: str) -> bool:
    function = host.functions.get(device)
    return function is not None and not function.is_bridge


def virtio_settings(host: Host, candidates: Sequence[Candidate]) -> tuple[str, int]:
    """``granule`` and ``aw-bits``, written out so that the guest's platform does not depend on the host's own choice."""
    return GRANULES.get(host.page_size or 4096, "4k"), min(
        [VIRTIO_AW_BITS, *(iova_bits(host, candidate.smmu, candidate.address) for candidate in candidates)]
    )
