"""Peer to peer in a plan: for each two functions of a VM, whether one can reach the BARs of the other, through what, and at what price.

In a VM a function sends guest addresses. The SMMU turns them into the host address of the other's BAR, which stage 2 holds only if QEMU
could map it: by a dma-buf of the VFIO region (VFIO_DEVICE_FEATURE_DMA_BUF, then IOMMU_IOAS_MAP_FILE; Linux 6.19 with
CONFIG_VFIO_PCI_DMABUF, QEMU's hw/vfio/region.c). From there the root complex has to carry it to the other's port, which PCI Express leaves
to each root complex (PCIe 6.0, 1.3.1). So without ATS the way is never shorter than up to the SMMU and down again, whatever switch is
between: what a switch hands over straight is an address that happens to be the other's on the host, and is a matter of isolation.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import combinations

import msgspec

from wizard.base.release import release_of
from wizard.base.text import size
from wizard.host.between import Between, Way, between
from wizard.host.devices import NVIDIA
from wizard.host.known import Known, Source
from wizard.host.model import Host
from wizard.plan.candidate import Candidate, look_up
from wizard.plan.model import DevicePlan, VmPlan
from wizard.plan.request import Mode

DMABUF_DRIVERS = frozenset({"vfio-pci", "nvgrace-gpu-vfio-pci"})
"""Who makes dma-bufs of BARs: drivers with vfio_pci_device_ops.get_dmabuf_phys (Linux 6.19 to 7.3); others answer EOPNOTSUPP."""


class Reach(StrEnum):
    """Whether peer to peer works for two functions."""

    CAN = "can"  # everything that is known here is there; the root complex has to carry it
    ONE_WAY = "one way"  # the BARs of one of them can't be mapped
    CANNOT = "cannot"
    UNKNOWN = "not known"


class Pair(msgspec.Struct, frozen=True):
    """Two functions of a VM by their host addresses.

    ``path`` are the host's bridges between them; ``isolated`` says that ACS sends everything between them up to the SMMU (None: not read).
    ``only_to`` is the one whose BARs can be reached where that is but one. The rest are sentences.
    """

    first: str
    second: str
    reach: Reach
    way: Way
    path: tuple[str, ...]
    isolated: bool | None
    only_to: str | None
    reason: str
    cost: str
    ats: str
    beside: str = ""


def pairs_of(host: Host, vm: VmPlan) -> tuple[Pair, ...]:
    """Every two functions that the VM has from the start, in the plan's order; VFs that are still to be made are left out."""
    there = [(device, found) for device in vm.devices if (found := look_up(host, device.host)) is not None and not found.to_make]
    mapped = bars_mapped(host, vm)
    return tuple(_pair(host, vm, mapped, one, other) for one, other in combinations(there, 2))


def bars_mapped(host: Host, vm: VmPlan) -> Known:
    """Whether QEMU can map BARs of assigned functions for DMA of others, by kernel and QEMU; the note is the reason."""
    built = host.facts.kernel.option("CONFIG_VFIO_PCI_DMABUF")
    if built == "n":
        return Known(False, Source.CONFIG, "the kernel has no CONFIG_VFIO_PCI_DMABUF (mainline: from 6.19 on), so BARs are not in stage 2")
    version = release_of(vm.qemu or "")
    if vm.qemu is None or version is None:
        return Known(None, Source.NONE, "what maps BARs is known of QEMU alone")
    if version < (11, 0):
        return Known(False, Source.SYSFS, f"QEMU {vm.qemu} does not map BARs by dma-buf (from 11.1 on)")
    if version < (11, 1):
        return Known(None, Source.NONE, f"whether QEMU {vm.qemu} maps BARs by dma-buf was not looked at (11.1 does)")
    if built is None:
        return Known(None, Source.NONE, "whether the kernel has CONFIG_VFIO_PCI_DMABUF was not read")
    return Known(True, Source.CONFIG, "kernel and QEMU map BARs by dma-buf")


_DISPLAY = 0x03  # base class
Side = tuple[DevicePlan, Candidate]


def _pair(host: Host, vm: VmPlan, mapped: Known, one: Side, other: Side) -> Pair:
    found = between(host.functions, one[0].host, other[0].host)
    reach, only_to, reason = _reach(host, vm, mapped, one, other)
    return Pair(
        first=found.first,
        second=found.second,
        reach=reach,
        way=found.way,
        path=found.path,
        isolated=found.redirected,
        only_to=only_to,
        reason=reason,
        cost=_cost(host, found, one[1], other[1]),
        ats=_ats(vm, found, one, other),
        beside="NVLink between GPUs is another way, beside PCI Express and past the SMMU: it is not judged here." if _nvlink(one, other) else "",
    )


def _reach(host: Host, vm: VmPlan, mapped: Known, one: Side, other: Side) -> tuple[Reach, str | None, str]:
    blocked = {side[0].host: why for side in (one, other) if (why := _unmappable(host, side))}
    if not any(side[0].iommufd for side in (one, other)) and vm.mode is Mode.NONE:
        # vfio_iommu_type1 follows the pages of a BAR's mapping by itself (follow_fault_pfn()).
        open_, sure = True, "VFIO's own container maps BARs without dma-bufs"
    elif vm.mode is Mode.VIRTIO_IOMMU and mapped.value is not False:
        return Reach.UNKNOWN, None, "What virtio-iommu maps of a BAR was not looked at."
    elif mapped.value is False:
        return Reach.CANNOT, None, f"{mapped.note[0].upper()}{mapped.note[1:]}: DMA of one to a BAR of the other ends with a fault of stage 2."
    else:
        open_, sure = mapped.value is True, mapped.note
    if len(blocked) == 2:
        return Reach.CANNOT, None, " ".join(blocked.values())
    if not open_:
        return Reach.UNKNOWN, None, f"{sure[0].upper()}{sure[1:]}."
    if blocked:
        (stopped, why), *_ = blocked.items()
        return Reach.ONE_WAY, next(side[0].host for side in (one, other) if side[0].host != stopped), why
    return Reach.CAN, None, f"{sure[0].upper()}{sure[1:]}; the root complex has to carry requests from port to port, which nobody measured here."


def _unmappable(host: Host, side: Side) -> str:
    """Why nobody can reach a BAR of this function; empty where nothing is known against it."""
    device, candidate = side
    driver = device.driver.replace("_", "-")
    if driver.endswith("vfio-pci") and driver not in DMABUF_DRIVERS and device.iommufd:
        return f"{device.driver} makes no dma-bufs, so nobody reaches BARs of {device.host}."
    function = candidate.function
    page = host.facts.kernel.page_size or 4096
    memory = [bar.size for bar in function.bars if bar.memory]
    if not candidate.is_grace_gpu and function.bars_known and not any(bar >= page for bar in memory):
        what = f"the largest is {size(max(memory))}, and a page of this host {size(page)}" if memory else "it has none"
        return f"No BAR of {device.host} can be mapped: {what}."
    return ""


def _cost(host: Host, found: Between, one: Candidate, other: Candidate) -> str:
    up = "Each request goes up to the SMMU, where one that is in no TLB walks both stages, and down"
    if found.way is Way.DEVICE:
        return f"{up} again: the same link carries it twice."
    if found.way in (Way.SWITCH, Way.BUS):
        return f"{up} again: the link above {found.common} carries it twice, for all functions below."
    if found.way is Way.ROOT:
        return f"{up} by another port of the same root complex: each link carries it once."
    if found.way is Way.SMMUS:
        return f"{up} by another root complex: each SMMU translates what its own functions send, and the interconnect of the chip carries it."
    nodes = one.function.facts.numa_node, other.function.facts.numa_node
    row = next((node.distance for node in host.facts.nodes if node.id == nodes[0] and node.distance), "").split()
    far = f", distance {row[nodes[1]]}" if nodes[1] < len(row) else ""
    return f"{up} on another NUMA node ({nodes[0]} and {nodes[1]}{far}): what is between the nodes carries it too."


def _ats(vm: VmPlan, found: Between, one: Side, other: Side) -> str:
    if vm.mode is not Mode.ACCEL:
        return "Without an accelerated vSMMU nobody translates ahead."
    offered = {vsmmu.id for vsmmu in vm.vsmmus if vsmmu.ats.resolved}
    using = [side[0].host for side in (one, other) if side[0].vsmmu in offered and side[0].ats != "off" and side[1].function.known("ats").is_true]
    if not using:
        return "Neither has ATS in this plan: every request is translated at the SMMU."
    who = " and ".join(using)
    if found.way in (Way.DEVICE, Way.BUS, Way.SWITCH):
        if found.direct_translated:
            return f"{who} can ask ahead and send translated requests: with Direct Translated P2P on they go straight, without the SMMU."
        if found.direct_translated is False and found.redirected:
            return f"{who} can ask ahead, which saves the walk; Direct Translated P2P is off (as Linux leaves it), so even translated requests go up."
        if found.redirected is False:
            return f"{who} can ask ahead and send translated requests, which go straight to the other: nothing redirects them."
        return f"{who} can ask ahead; whether translated requests go straight could not be read (ACS of the ports)."
    return f"{who} can ask ahead, which saves the walk at the SMMU; the way stays the same."


def _nvlink(one: Side, other: Side) -> bool:
    return all(side[1].function.facts.vendor == f"{NVIDIA:#06x}" and side[1].function.class_code >> 16 == _DISPLAY for side in (one, other))


def pair_line(pair: Pair) -> str:
    """A pair in one line: ``0009:01:00.0 and 0019:01:00.0: can, over the root complex``."""
    only = f" (only to BARs of {pair.only_to})" if pair.only_to else ""
    acs = {True: "", False: "; not kept apart by ACS", None: "; ACS between them not read"}[pair.isolated]
    return f"{pair.first} and {pair.second}: {pair.reach}{only}, {pair.way}{acs}"
