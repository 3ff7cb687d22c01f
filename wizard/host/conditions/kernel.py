"""What the kernel brings: isolated interrupts and the options of its configuration."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from wizard.base.finding import Area, Finding, OnTree, Severity
from wizard.facts.vfio import is_vfio_driver
from wizard.host.conditions.evidence import HOLDS, Answer, Evidence, condition, fails, not_known, verdict_code
from wizard.host.devices import grace_gpu
from wizard.host.known import Known, Source
from wizard.host.log.parse import release_of
from wizard.knowledge.tables import distribution

MSI_SHARED = verdict_code(
    "msi-not-isolated", Area.HARDWARE,
    what="Interrupts of {subject} are not isolated: {because}.",
    why="A VM could forge interrupts of another; iommufd answers BIND with Operation not permitted unless allow_unsafe_interrupts is set.",
    fix="Use a host with a GIC ITS; allow_unsafe_interrupts=1 (module iommufd) ends the isolation, and this program never plans it.",
)  # fmt: skip
MSI_UNKNOWN = verdict_code(
    "msi-isolation-unknown", Area.HOST, severity=Severity.INFO,
    what="Whether interrupts of {subject} are isolated is not known.",
    why="An ITS shows in the firmware's IORT and in the kernel's log; neither was read.",
    fix="Read the host as root (`sudo smmu-wizard record`).",
    on_tree=OnTree(
        why="An ITS shows in the device tree's msi-map and in the kernel's log of the boot; neither tells.",
        fix="Read the host as root (`sudo smmu-wizard record`), soon after its boot: the kernel's log needs it.",
    ),
)  # fmt: skip
MSI_ASSUMED = verdict_code(
    "msi-isolation-assumed", Area.HOST, severity=Severity.INFO,
    what="That interrupts of {subject} are isolated is only assumed: {because}.",
    why="The host of this snapshot was built from what is published of it; nobody read the ITS of a real one here.",
    fix="Record the real host (`sudo smmu-wizard record`).",
)  # fmt: skip


@condition
def isolated_msi(evidence: Evidence) -> Answer:
    """iommu_group_has_isolated_msi(): an ITS, not GICv2m (sources: problem-33)."""
    if evidence.smmu is None or evidence.smmu.kind not in ("smmuv3", "smmuv2") or evidence.viommu.is_true:
        return HOLDS  # interrupts of other machines have other ways, which are not judged here
    if evidence.isolated_msi.refuted:
        return fails(MSI_SHARED.at(evidence.function, because=evidence.isolated_msi.note))
    if evidence.isolated_msi.is_true and not evidence.isolated_msi.proved:
        return not_known(MSI_ASSUMED.at(evidence.function, because=evidence.isolated_msi.note))
    return HOLDS if evidence.isolated_msi.proved else not_known(MSI_UNKNOWN.at(evidence.function, tree=evidence.device_tree))


KERNEL_LACKS = verdict_code(
    "kernel-lacks", Area.KCONFIG,
    what="The running kernel {release} was built without {options}.",
    why="{why}",
    fix="Install a kernel with {options} (an opt-in of distributions), or build one.{known}",
)  # fmt: skip
KERNEL_UNKNOWN = verdict_code(
    "kernel-config-unknown", Area.HOST, severity=Severity.INFO,
    what="Whether the kernel {release} has {options} is not known.",
    why="{because}",
    fix="{older}{known}A probe proves it: `smmu-wizard prepare FUNCTION`, then `sudo smmu-wizard record --probe`.",
)  # fmt: skip
OPTIONS = {
    "CONFIG_IOMMUFD": "Nesting is made through /dev/iommu.",
    "CONFIG_VFIO_DEVICE_CDEV": "QEMU reaches iommufd only through the VFIO character device of a function.",
    "CONFIG_ARM_SMMU_V3_IOMMUFD": "It holds the SMMUv3 side of nesting; it is an opt-in and off by default.",
}


@condition
def kernel_options(evidence: Evidence) -> Answer:
    """The options that nesting needs; a vIOMMU that was made proves them all (sources: problem-10)."""
    if evidence.viommu.value is True or not evidence.any_smmuv3:
        return HOLDS
    has_cdev = bool(evidence.function.facts.vfio_dev)
    key = kernel_options, has_cdev  # of the host, all functions are told the same, but for their names
    answer = evidence.same.get(key)
    if answer is None:
        answer = evidence.same[key] = _by_options(evidence, has_cdev=has_cdev)
    return answer if answer.finding is None else Answer(answer.holds, answer.finding.of(evidence.function))


def _by_options(evidence: Evidence, *, has_cdev: bool) -> Answer:
    known = {option: evidence.config(option) for option in OPTIONS}
    if has_cdev:
        known["CONFIG_VFIO_DEVICE_CDEV"] = Known(True, Source.SYSFS)
    lacking = [option for option, has in known.items() if has.refuted]
    if lacking:
        why = " ".join(OPTIONS[option] for option in lacking)
        hint = _known_of(evidence.release, tuple(lacking))
        words: dict[str, Any] = {"options": ", ".join(lacking), "why": why, "known": f" {hint}" if hint else ""}
        return fails(KERNEL_LACKS.at("", release=evidence.release, **words))
    unknown = [option for option, has in known.items() if not has.proved]
    return not_known(_unknown("", evidence.release, unknown, known[unknown[0]])) if unknown else HOLDS


def _unknown(subject: object, release: str, options: list[str], first: Known) -> Finding:
    because, older = _why_unknown(release, first)
    known = _known_of(release, tuple(options))
    words: dict[str, Any] = {"because": because, "older": older, "known": f"{known} " if known else ""}
    return KERNEL_UNKNOWN.at(subject, release=release or "(unknown)", options=", ".join(options), **words)


@lru_cache(maxsize=64)
def _known_of(release: str, options: tuple[str, ...]) -> str:
    """How the distribution whose kernel this is configures it, by those that were looked at: a hint, never an answer."""
    kernel = distribution(release) if release else None
    told = {option: kernel.options[option] for option in options if option in kernel.options} if kernel else {}
    if kernel is None or not told:
        return ""
    off = [option for option, value in told.items() if value == "n"]
    on = [option for option, value in told.items() if value != "n"]
    parts = [f"{word} {', '.join(some)}" for word, some in (("without", off), ("with", on)) if some]
    return f"{kernel.name} builds its own kernels ({kernel.versions}, looked at {kernel.date}) {' and '.join(parts)}{_note(kernel.note)}."


def _note(note: str) -> str:
    return f" ({note})" if note else ""


@lru_cache(maxsize=64)
def _why_unknown(release: str, first: Known) -> tuple[str, str]:
    """The same for every function of a host."""
    found = release_of(release)
    because = f"No configuration of the running kernel was found (/proc/config.gz, /boot/config-{release or '(unknown)'})."
    if first.known:
        because = "The configuration that stands here is only assumed."
    elif first.note:
        because = f"{first.note}."
    old = found is not None and found < (6, 13)
    older = "Mainline has all three from 6.13 on: unless your distribution brought them back, install a newer kernel. " if old else ""
    return because, older


NO_GRACE_DRIVER = verdict_code(
    "grace-gpu-driver-missing", Area.KCONFIG,
    what="{subject} is a {gpu}, and the kernel {release} was built without CONFIG_NVGRACE_GPU_VFIO_PCI.",
    why="Only that driver shows a guest the GPU's memory, which is no BAR of it; with plain vfio-pci the guest's driver does not come up.",
    fix="Install a kernel with CONFIG_NVGRACE_GPU_VFIO_PCI (an option of its own beside CONFIG_VFIO_PCI), or build one.",
)  # fmt: skip


@condition
def driver_of_grace(evidence: Evidence) -> Answer:
    """A Grace GPU needs a driver that the kernel was built without (sources: problem-8); one that it is bound to is there, whoever built it."""
    gpu, driver = grace_gpu(evidence.function), evidence.function.facts.driver
    there = is_vfio_driver(driver) and driver != "vfio-pci"
    if gpu is None or there:
        return HOLDS
    built = evidence.config("CONFIG_NVGRACE_GPU_VFIO_PCI")
    if built.refuted:
        return fails(NO_GRACE_DRIVER.at(evidence.function, gpu=gpu, release=evidence.release))
    return HOLDS if built.proved else not_known(_unknown(evidence.function, evidence.release, ["CONFIG_NVGRACE_GPU_VFIO_PCI"], built))


MADE_UP = verdict_code(
    "assumed-facts", Area.HOST, severity=Severity.INFO,
    what="No answer for {subject}: this snapshot only assumes {what_rests}.",
    why="Nobody measured or published these values; they stand in the snapshot as assumptions.",
    fix="Record the real host (`sudo smmu-wizard record --probe`).",
)  # fmt: skip


@condition
def measured(evidence: Evidence) -> Answer:
    """An assumed value never makes a yes."""
    if evidence.made_up:
        return not_known(MADE_UP.at(evidence.function, what_rests=", ".join(evidence.made_up)))
    return HOLDS
