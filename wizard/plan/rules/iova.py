"""Addresses as the host's SMMU sees them: regions that are taken, the window for MSIs, how far tables reach, page sizes."""

from __future__ import annotations

from collections.abc import Iterator

from wizard.base.action import mode_to
from wizard.base.finding import Area, Finding
from wizard.host.vmm import Vmm
from wizard.plan.codes import ERROR, INFO, WARNING, plan_code
from wizard.plan.regions import RAM_BASE, iova_bits, iova_ranges
from wizard.plan.request import Mode
from wizard.plan.rules.base import Scene, rule, rule_of

RESERVED = plan_code(
    "reserved-region", ERROR,
    what="VM {subject}: guest memory from {base:#x} to {end:#x} overlaps the {type} region {start:#x}-{last:#x} of {function}.",
    why="The host keeps that range of IOVAs for itself; IOMMU_IOAS_MAP of guest memory there fails.",
    fix="Give the VM less memory, or leave that function out.",
)  # fmt: skip
RELAXABLE = plan_code(
    "relaxable-region", INFO,
    what="{subject} has a 1:1 region {start:#x}-{last:#x} that may be dropped (direct-relaxable).",
    why="The firmware uses it before the operating system does; a VM can still have the function.",
    fix="Nothing to do.",
)  # fmt: skip


@rule_of(Vmm.QEMU)
def reserved(scene: Scene) -> Iterator[Finding]:
    """`reserved` and `msi` regions against guest memory, which begins at 1 GiB on virt."""
    end = RAM_BASE + max(scene.vm.memory.size, 1) - 1
    for device in scene.vm.devices:
        candidate = scene.candidate(device)
        for region in candidate.group.regions if candidate and candidate.group else ():
            if region.type in ("reserved", "msi") and region.start <= end and region.end >= RAM_BASE:
                yield RESERVED.at(scene.name, base=RAM_BASE, end=end, type=region.type, start=region.start, last=region.end, function=device.host)
            elif region.type == "direct-relaxable":
                yield RELAXABLE.at(device.host, start=region.start, last=region.end)


MSI_ELSEWHERE = plan_code(
    "msi-window-elsewhere", ERROR, area=Area.HARDWARE,
    what="VM {subject}: the host's window for MSIs of {function} is at {found}, not at {expected:#x}.",
    why="QEMU tells the guest of an accelerated vSMMU to map {expected:#x} to itself (its RMR), and no other place: interrupts would fault.",
    fix="Use --mode none or virtio-iommu for this function.",
    action=mode_to("none"),
)  # fmt: skip
MSI_BASE = 0x8000000  # MSI_IOVA_BASE of the kernel's SMMU driver, and the RMR of QEMU's IORT


@rule
def msi_window(scene: Scene) -> Iterator[Finding]:
    """A kernel may put its window elsewhere where firmware has reserved the usual place (sources: qemu-M12)."""
    for device in scene.vm.devices:
        candidate = scene.candidate(device)
        windows = [region.start for region in (candidate.group.regions if candidate and candidate.group else ()) if region.type == "msi"]
        if device.mode is Mode.ACCEL and device.smmu and windows and MSI_BASE not in windows:
            yield MSI_ELSEWHERE.at(scene.name, function=device.host, found=", ".join(f"{start:#x}" for start in windows), expected=MSI_BASE)


IOVA_RAM = plan_code(
    "memory-above-iova", ERROR,
    what="VM {subject}: its memory ends at {end:#x}, above the {bits} bits that the host can map for {function}.",
    why="Without nesting the host maps guest memory with tables of its own, no wider than the kernel's addresses: IOMMU_IOAS_MAP fails.",
    fix="Give the VM less memory, or use a kernel with 48-bit addresses (CONFIG_ARM64_VA_BITS).",
)  # fmt: skip


IOVA_HOLE = plan_code(
    "memory-outside-iova", ERROR,
    what="VM {subject}: guest memory from {base:#x} to {end:#x} is not all in what the kernel maps for {function}: {ranges}.",
    why="iommufd told these ranges when it was asked (IOMMU_IOAS_IOVA_RANGES); IOMMU_IOAS_MAP fails outside of them.",
    fix="Give the VM less memory, or leave that function out.",
)  # fmt: skip


@rule_of(Vmm.QEMU)
def iova(scene: Scene) -> Iterator[Finding]:
    """Guest memory against the host's IOVA range, where nothing is nested; for a virtio-iommu the ladder has looked."""
    end = RAM_BASE + max(scene.vm.memory.size, 1) - 1
    for device in scene.vm.devices:
        candidate = scene.candidate(device)
        if candidate is None or device.mode is not Mode.NONE:
            continue
        bits, told = iova_bits(scene.host, candidate.smmu, device.host), iova_ranges(scene.host, device.host)
        regions = candidate.group.regions if candidate.group else ()
        if told and not end >> bits and not any(first <= RAM_BASE and end <= last for first, last in told):
            if not any(region.start <= end and region.end >= RAM_BASE for region in regions):  # else `reserved` says it
                ranges = ", ".join(f"{first:#x}-{last:#x}" for first, last in told)
                yield IOVA_HOLE.at(scene.name, base=RAM_BASE, end=end, ranges=ranges, function=device.host)
        elif end >> bits:
            yield IOVA_RAM.at(scene.name, end=end, bits=bits, function=device.host)


VIRTIO_PAGES = plan_code(
    "virtio-iommu-guest-pages", WARNING,
    what="The guest of VM {subject} needs a kernel with pages of {granule} or more: its virtio-iommu maps nothing smaller.",
    why="The host maps by its own pages. Linux gives up a device whose IOMMU has larger pages than its own ('granule larger than system page size').",
    fix="Use such a guest kernel, a host kernel with 4K pages, or --mode accel or none.",
)  # fmt: skip


@rule
def virtio_pages(scene: Scene) -> Iterator[Finding]:
    """Page size hazards: a guest with 4K pages on a host with larger ones."""
    if scene.vm.virtio_iommu and (scene.host.page_size or 0) > 4096:
        yield VIRTIO_PAGES.at(scene.name, granule=scene.vm.virtio_iommu.granule)


VIRTIO_RANGE = plan_code(
    "virtio-iommu-locks", WARNING,
    what="VM {subject}: behind a virtio-iommu each of its {count} functions may map all of the guest's memory.",
    why="Every function has an address space of its own, and iommufd charges the pages that each one maps.",
    fix="The preparation script sets the limit for it; use --mode accel or none where memory is short.",
)  # fmt: skip


@rule
def virtio_locks(scene: Scene) -> Iterator[Finding]:
    """Each address space pins the guest anew (sources: problem-17, kernel-memlock)."""
    if scene.vm.mode is Mode.VIRTIO_IOMMU and len(scene.vm.devices) > 1:
        yield VIRTIO_RANGE.at(scene.name, count=len(scene.vm.devices))
