"""The memory regions of an assigned function as the guest will see them, and the windows that they need.

Sizes come from VFIO where a probe could ask, else from the BARs. For Grace GPUs nvgrace_gpu_vfio_pci synthesises 64-bit BARs
of the GPU's memory, rounded up to a power of two: 189,471 MiB become 256 GiB; what nobody probed is assumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wizard.base.text import is_number
from wizard.host.devices import coherent_gpu, unknown_gpu
from wizard.host.known import UNKNOWN
from wizard.host.model import Function, Host, Smmu
from wizard.host.pci.bars import parse_resource

PAGE = 4096
LOW_WINDOW = 2 << 20  # what UEFI gives every port that can be plugged, below 4 GiB
WINDOW = 1 << 20  # a bridge's 32-bit window has steps of 1 MiB (PCI-to-PCI Bridge 1.2, 3.2.5)
LOW_MMIO = 0x2EFF0000  # VIRT_PCIE_MMIO of QEMU's hw/arm/virt.c: 0x10000000 to 0x3efeffff
DEFAULT_HIGH_MMIO = 512 << 30  # QEMU's highmem-mmio-size, and its least value
RAM_BASE = 1 << 30  # VIRT_MEM of QEMU's hw/arm/virt.c
VIRTIO_AW_BITS = 48  # what a stage-1 table of the host reaches without VAX: UL(48) in arm_smmu_domain_finalise_s1()
_VFIO_BARS = 6  # VFIO_PCI_BAR0_REGION_INDEX to BAR5

_RESERVED = 1 << 30  # what Grace-Hopper's MIG defect takes away into a region of its own (resmem, BAR 2)
_REGISTERS = 16 << 20  # BAR 0


@dataclass(frozen=True)
class Regions:
    """Bytes of the 64-bit prefetchable BARs and of the others, and where the sizes are from."""

    high: tuple[int, ...]
    low: tuple[int, ...]
    io: bool
    source: str  # probe, config, assumed, unknown


def regions_of(host: Host, function: Function) -> Regions:
    """The regions of a function that is there."""
    probed = _probed(host, function)
    high, low, io = [], [], False
    for bar in function.bars:
        size = probed.get(bar.index, bar.size) if probed else bar.size
        if bar.index > 5 or not size:
            continue
        if not bar.memory:
            io = True
        elif bar.wide and bar.prefetchable:
            high.append(size)
        else:
            low.append(size)
    if probed:
        known = {bar.index for bar in function.bars}
        high += [size for index, size in sorted(probed.items()) if index < _VFIO_BARS and index not in known and size]
        return Regions(tuple(high), tuple(low), io, "probe")
    if (gpu := coherent_gpu(function)) is not None:
        registers = [size for size in high if size < 1 << 30] or [_REGISTERS]
        memory = [power_of_two(gpu.memory << 20)] if gpu.memory else list(gpu.regions)
        high = [*registers, *([_RESERVED] if gpu.reserved else ()), *memory]
        return Regions(tuple(high), tuple(low), io, "assumed")
    if unknown_gpu(host.functions, function) is not None:
        return Regions(tuple(high), tuple(low), io, "unknown")
    return Regions(tuple(high), tuple(low), io, "config" if function.facts.resource else "unknown")


def _probed(host: Host, function: Function) -> dict[int, int]:
    # what VFIO said of this very function
    info = next((info for info in host.facts.hw_info if info.address == function.facts.address and info.error is None), None)
    if info is None:
        return {}
    return {int(index): size for index, size in info.regions.items() if is_number(index) and int(index) < _VFIO_BARS and size > 0}


def regions_of_vf(pf: Function) -> Regions:
    """The regions of one VF that its PF is still to make: sysfs has a VF BAR's range for all TotalVFs together."""
    facts = pf.facts
    total = facts.sriov_totalvfs or 1
    high: list[int] = []
    low: list[int] = []
    for resource in parse_resource(facts.resource):
        if resource.name.startswith("vf_bar"):
            wide = resource.flags.MEM_64 and resource.flags.PREFETCH
            (high if wide else low).append(resource.size // total)
    return Regions(tuple(high), tuple(low), False, "config" if high or low else "unknown")


def iova_ranges(host: Host, address: str) -> tuple[tuple[int, int], ...] | None:
    """(first, last) of what iommufd maps for a function without nesting, as a probe was told; None where nobody asked."""
    told = next((info.iova_ranges for info in host.facts.hw_info if info.address == address and info.error is None), None)
    return tuple((int(first, 16), int(last, 16)) for first, last in map(str.split, told.splitlines())) if told else None


def iova_bits(host: Host, smmu: Smmu | None, address: str = "") -> int:
    """How wide the addresses are that the host's kernel maps for a function below this SMMU without nesting.

    By the probe's word where there is one. Else stage 1: 48 bits, and no more than the kernel's own addresses have (VA_BITS, in
    arm_smmu_domain_finalise()). An SMMU without stage 1 maps with stage 2, whose input is no wider than its output.
    """
    if told := iova_ranges(host, address):
        return min(VIRTIO_AW_BITS, (max(last for _, last in told) + 1).bit_length() - 1)
    own = (host.facts.kernel.config or {}).get("CONFIG_ARM64_VA_BITS", "")
    stage1 = min(VIRTIO_AW_BITS, int(own)) if is_number(own) else VIRTIO_AW_BITS
    if smmu is not None and smmu.oas and smmu.hardware.get("stage1", UNKNOWN).value is False:
        return min(VIRTIO_AW_BITS, smmu.oas)
    return stage1


def power_of_two(count: int) -> int:
    """The least power of two that is not below ``count``."""
    return 1 << max(0, count - 1).bit_length() if count > 1 else 1


def window(sizes: tuple[int, ...], step: int = WINDOW) -> int:
    """Bytes of a bridge window that holds regions of these sizes, each aligned to itself; 0 without any."""
    total = sum(power_of_two(max(size, PAGE)) for size in sizes)
    return -(-total // step) * step if total else 0


def high_window(complexes: Iterable[Sequence[tuple[int, int]]], *, emulated: bool) -> int:
    """``highmem-mmio-size``, a power of two, for root complexes in the order of their bus numbers, each with its ports' windows
    as (bytes, alignment).

    As UEFI places them (seen with AAVMF 2026.08): pcie.0's own devices first, then each root complex as one block, aligned to its
    largest window. So two windows of 256 GiB fit into 512 GiB only without any ``emulated`` device on pcie.0.
    """
    at = WINDOW if emulated else 0
    for windows in complexes:
        for length, alignment in sorted(windows, key=lambda window: -window[1]):
            at = -(-at // alignment) * alignment + length
    return max(DEFAULT_HIGH_MMIO, power_of_two(at))
