"""GPUs whose memory is coherent with the host's CPU: members of the family that nobody wrote down, and what of such platforms a plan has not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wizard.base.finding import Area, Finding
from wizard.plan.codes import ERROR, INFO, WARNING, plan_code
from wizard.plan.rules.base import Scene, rule

GPU_UNKNOWN = plan_code(
    "gpu-memory-unknown", ERROR,
    what="{subject} ({ids}) is not known here, and looks like a {family}: {how}.",
    why="The memory of such a GPU is no BAR of it: which regions its guest sees, and how many NUMA nodes it needs for them, stands in a table, "
    "which does not have this one. A window that is too small leaves the guest's driver a dead device.",
    fix="Bind it to {driver} (`smmu-wizard prepare {subject}`) and run `sudo smmu-wizard record --probe`: VFIO says its regions. Or write "
    "mmio_window and numa in the profile. `smmu-wizard doctor --knowledge` says how old the table is.",
)  # fmt: skip
GPU_NODES = plan_code(
    "gpu-nodes-assumed", INFO,
    what="{subject} ({ids}) is not known here, and looks like a {family}: it gets {count} memory-less NUMA nodes, as the others of its kind do.",
    why="Its regions are those that VFIO tells; how many nodes its guest's driver needs, nothing tells but a table, which does not have this one.",
    fix="Look into the platform's own guide, and write numa in the profile where it says another number.",
)  # fmt: skip


@rule
def unknown_gpus(scene: Scene) -> Iterator[Finding]:
    """A GPU of a family whose members have their memory outside their BARs, with an ID that no table has."""
    request = scene.vm.request
    for device in scene.vm.devices:
        candidate = scene.candidate(device)
        if candidate is None or candidate.unknown_gpu is None:
            continue
        family, how = candidate.unknown_gpu
        words: dict[str, Any] = {"ids": candidate.ids or "unknown", "family": family.name}
        if device.bars_from == "probe" and device.driver.replace("-", "_") == family.driver:
            if request.numa is None:
                yield GPU_NODES.at(device.host, count=candidate.gpu_nodes, **words)
        else:
            said = request.mmio_window is not None and request.numa is not None  # by a person, who knows
            yield GPU_UNKNOWN.at(device.host, how=how, driver=family.driver, severity=WARNING if said else None, **words)


EGM = plan_code(
    "egm-not-planned", INFO, area=Area.HOST,
    what="VM {subject}: its memory is the host's ordinary memory, not the GPU's extended memory (EGM), which this host offers.",
    why="{because} QEMU 11.1 has no acpi-egm-memory object, which tells a guest of it; and iommufd of mainline can't map EGM for assigned functions: "
    "nvgrace_egm maps it by remap_pfn_range(), and IOMMU_IOAS_MAP answers EFAULT ('Bad address').",
    fix="Nothing to do where the guest needs no EGM: GPU and guest work without it. For it, use NVIDIA's own kernel and QEMU.",
)  # fmt: skip
_EGM_MODULE = "nvgrace_egm"


@rule
def egm(scene: Scene) -> Iterator[Finding]:
    """Extended GPU memory of Grace: in NVIDIA's kernels alone (sources: hardware-egm)."""
    loaded = _EGM_MODULE in {module.replace("-", "_") for module in scene.host.facts.kernel.modules}
    if loaded and any(candidate.is_grace_gpu for candidate in scene.candidates.values()):
        because = f"The module {_EGM_MODULE} is loaded, and takes part of the host's memory away for VMs whose memory it is to be."
        yield EGM.at(scene.name, because=because)


DIRECT = plan_code(
    "gpu-direct-address", INFO,
    what="VM {subject}: the memory of {gpu} is at addresses of the guest, not at the host's own: a direct link from {nics} can't reach it.",
    why="UEFI places the GPU's memory, and the GPU works at any address. Only a NIC that reaches it over a link without an IOMMU (GPUDirect RDMA on "
    "GB200 and GB300) needs the host's address there, and QEMU 11.1 can't place a BAR so.",
    fix="Nothing to do without such a link. For it, use NVIDIA's own QEMU, whose guest sees that BAR at the host's address.",
)  # fmt: skip
_MELLANOX, _NETWORK = "0x15b3", 0x02


@rule
def direct_links(scene: Scene) -> Iterator[Finding]:
    """Coherent GPU memory at host addresses (sources: hardware-gpu-addresses): nobody needs it but a NIC behind no IOMMU."""
    gpus = [address for address, candidate in scene.candidates.items() if candidate.is_grace_gpu]
    nics = [
        address
        for address, candidate in scene.candidates.items()
        if candidate.function.facts.vendor == _MELLANOX and candidate.function.class_code >> 16 == _NETWORK
    ]
    if gpus and nics:
        yield DIRECT.at(scene.name, gpu=", ".join(gpus), nics=", ".join(nics))
