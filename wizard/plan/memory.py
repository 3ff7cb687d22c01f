"""Guest memory: NUMA nodes, the windows for BARs, and what the VM's process has to be allowed to lock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wizard.base.text import is_number
from wizard.facts.model import Node
from wizard.host.model import Host
from wizard.plan.model import MemoryPlan, NodePlan
from wizard.plan.regions import DEFAULT_HIGH_MMIO, LOW_WINDOW, WINDOW, Regions, high_window, power_of_two, window
from wizard.plan.request import Mode, NodeRequest, VmRequest

PVTIME_PER_CPU = 64  # PVTIME_SIZE_PER_CPU of QEMU's hw/arm/virt.c: the guest's stolen time, a page of RAM beside the guest's memory
LARGEST_PAGE = 65536  # what arm64 kernels are built with at most
_MIB = 1 << 20


def cpu_list(text: str) -> tuple[int, ...] | None:
    """CPU numbers of a list in sysfs's form (``0-3,8``); None when it is none."""
    found: list[int] = []
    for part in text.split(",") if text.strip() else ():
        first, dash, last = part.strip().partition("-")
        if not is_number(first) or (dash and not is_number(last)):
            return None
        low, high = int(first), int(last or first)
        if high < low or high - low > 4096:
            return None
        found.extend(range(low, high + 1))
    return tuple(found)


def cpu_text(cpus: Sequence[int]) -> str:
    """The same list written short."""
    parts: list[str] = []
    run: list[int] = []
    for cpu in [*sorted(cpus), -1]:
        if run and cpu != run[-1] + 1:
            parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
            run = []
        run.append(cpu)
    return ",".join(parts)


def working_nodes(host: Host) -> list[Node]:
    """The host's nodes that have both CPUs and memory."""
    return [node for node in host.facts.nodes if node.cpus and (node.memory or 0) > 0]


def guest_nodes(host: Host, request: VmRequest, used: Iterable[int | None], gpus: Sequence[tuple[str, int]]) -> tuple[NodePlan, ...]:
    """Guest NUMA nodes: as written, else one for each of the host's nodes that the functions sit on (hosts with several).

    ``gpus`` are the ids of GPUs with memory outside their BARs, and how many memory-less nodes with a generic initiator each gets.
    """
    if request.numa is not None:
        return tuple(_written(number, node, request) for number, node in enumerate(request.numa))
    working = {node.id for node in working_nodes(host)}
    places = sorted({node for node in used if node is not None and node in working}) if len(working) > 1 else []
    if not places and not gpus:
        return ()
    hosts: list[int | None] = [*places] or [None]
    shares = _that_fit(_shares(request.memory, len(hosts), request.hugepages), [_memory_of(host, node) for node in hosts], request.hugepages)
    cpus = _shares(request.cpus, len(hosts), 1)
    nodes = []
    first = 0
    for number, host_node in enumerate(hosts):
        nodes.append(NodePlan(id=number, memory=shares[number], cpus=tuple(range(first, first + cpus[number])), host_node=host_node))
        first += cpus[number]
    for gpu, count in gpus:
        nodes += [NodePlan(id=len(nodes) + n, memory=0, cpus=(), initiator=gpu) for n in range(count)]
    return tuple(nodes)


def _written(number: int, node: NodeRequest, request: VmRequest) -> NodePlan:
    cpus = cpu_list(node.cpus) or ()
    return NodePlan(id=number, memory=node.memory, cpus=cpus[: max(request.cpus, 0) + 1], host_node=node.host_node, initiator=node.initiator)


def _shares(total: int, count: int, step: int | None) -> list[int]:
    """``total`` in ``count`` even shares, each a whole number of steps (memory: 128 MiB where it can be), the rest in the first."""
    unit = step or (128 * _MIB if total % (128 * _MIB) == 0 else _MIB)
    share = max(total, 0) // count // max(unit, 1) * unit
    return [total - share * (count - 1), *[share] * (count - 1)]


def _memory_of(host: Host, node: int | None) -> int | None:
    return next((found.memory for found in host.facts.nodes if found.id == node), None)


def _that_fit(shares: list[int], there: Sequence[int | None], step: int | None) -> list[int]:
    """Even shares, or where one of them is more than its host node has, shares in the proportion of what the nodes have."""
    sizes = [size for size in there if size]
    if len(sizes) < len(shares) or all(share <= size for share, size in zip(shares, sizes, strict=True)):
        return shares
    total, unit = sum(shares), max(step or _MIB, 1)
    parts = [total * size // sum(sizes) // unit * unit for size in sizes]
    largest = sizes.index(max(sizes))
    parts[largest] += total - sum(parts)
    return parts


@dataclass(frozen=True)
class PortNeeds:
    """What is behind one root port: regions of its functions, or the reserves of a hot-plug port in bytes."""

    bus: str
    regions: Sequence[Regions] = ()
    mem: int = 0
    pref64: int = 0


def memory_plan(
    request: VmRequest, mode: Mode, nodes: tuple[NodePlan, ...], buses: Sequence[str], ports: Iterable[PortNeeds], locked: int
) -> MemoryPlan:
    """Windows from what is behind each port; ``buses`` are the root complexes in the order of their bus numbers.

    ``locked`` is what the VM's process pins (``pinned``).
    """
    high: dict[str, list[tuple[int, int]]] = {bus: [] for bus in buses}
    low = 0
    for port in ports:
        sizes = tuple(size for one in port.regions for size in one.high)
        length = window(sizes)
        # UEFI rounds a reserve up to a power of two: with AAVMF 2026.08 pref64-reserve=700G became a window of 1 TiB.
        kept, kept_low = (power_of_two(reserve) if reserve > 0 else 0 for reserve in (port.pref64, port.mem))
        low += max(LOW_WINDOW, window(tuple(size for one in port.regions for size in one.low)), kept_low)
        if length or kept:
            largest = power_of_two(max(sizes, default=0)) if length >= kept else kept
            high.setdefault(port.bus, []).append((max(length, kept), max(largest, WINDOW)))
    emulated = bool(request.disks or request.networks or any(other.kind == "endpoint" for other in request.others)) or mode is not Mode.ACCEL
    needed = high_window(high.values(), emulated=emulated)
    chosen = request.mmio_window or needed
    return MemoryPlan(
        size=request.memory,
        hugepages=request.hugepages,
        nodes=nodes,
        mmio_window=chosen,
        mmio_written=chosen != DEFAULT_HIGH_MMIO,
        mmio_needed=needed,
        low_mmio_needed=low,
        memlock=locked,
    )


def pinned(memory: int, cpus: int, page_size: int | None, spaces: int) -> int:
    """Bytes that iommufd charges a VM's process with: in each of ``spaces`` the guest's memory and QEMU's ``pvtime``.

    That is 64 bytes for each CPU, rounded up to the host's pages (virt_cpu_post_init() of hw/arm/virt.c); where their size was
    not read the largest counts. At exactly the memory a VM of an ordinary user does not start ("vfio_container_dma_map(…) = -12"), with
    the page more it does: run with QEMU 11.1.2 and Linux 7.2.13. BARs are not charged: they are mapped as dma-bufs, whose account mode
    is NONE, or not at all (drivers/iommu/iommufd/pages.c, Linux 7.2 and 7.3).
    """
    page = page_size or LARGEST_PAGE
    pvtime = -(-max(cpus, 1) * PVTIME_PER_CPU // page) * page
    return spaces * (max(memory, 0) + pvtime)


def address_spaces(mode: Mode, behind: Sequence[bool]) -> int:
    """How many IOAS hold the guest's memory; ``behind`` says of each function, and each free port, whether it is behind a vSMMU.

    QEMU makes one for each AddressSpace: one for all accelerated vSMMUs (shared_as_sysmem of hw/arm/smmuv3-accel.c), another for
    all functions without a vIOMMU (address_space_memory), and behind a virtio-iommu one for each function. Each pins for itself.
    """
    return len(behind) if mode is Mode.VIRTIO_IOMMU else len(set(behind))


def node_of(nodes: Iterable[NodePlan], host_node: int | None) -> int | None:
    """The guest node that holds the CPUs and memory of a host node."""
    if host_node is None:
        return None
    return next((node.id for node in nodes if node.host_node == host_node and node.initiator is None), None)
