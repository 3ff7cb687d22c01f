"""What the host has once for all VMs: memory, the memory of each node, hugepages, and what a user may lock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wizard.base.action import set_to
from wizard.base.finding import Area, Finding
from wizard.base.text import is_number, size, visible
from wizard.plan.codes import ERROR, INFO, WARNING, plan_code
from wizard.plan.memory import LARGEST_PAGE
from wizard.plan.model import VmPlan
from wizard.plan.rules.base import Together, shared
from wizard.plan.steps import memory_within

MEMORY_TOTAL = plan_code(
    "memory-over-host", ERROR, area=Area.HOST,
    what="{who} {asked} of memory, and the host has {total}.",
    why="Memory behind assigned functions is pinned: all of it is taken when the VM starts, and none can be swapped.",
    fix="Give less with --memory.",
    action=set_to("memory", "{fits}", vm="{largest}"),
)  # fmt: skip
MEMORY_FREE = plan_code(
    "memory-over-free", WARNING, area=Area.HOST,
    what="{who} {asked} of memory,{besides} and {free} were available when the host was recorded.",
    why="The memory is pinned when the VM starts; without enough of it the kernel kills something.",
    fix="Free memory first, or give less with --memory.",
    action=set_to("memory", "{fits}", vm="{largest}"),
)  # fmt: skip
MEMORY_UNREAD = plan_code(
    "memory-not-read", INFO, area=Area.HOST,
    what="Whether the host has the {asked} of memory that is asked for is not known: {because}.",
    why="Memory behind assigned functions is pinned: all of it is taken when the VM starts.",
    fix="Look at `free` on the host before the VM starts, or record the host again.",
)  # fmt: skip
NODE_MEMORY = plan_code(
    "memory-over-node", ERROR, area=Area.HOST,
    what="The VMs take {asked} from host node {subject}, which has {total}.",
    why="Each guest node's memory is bound to its host node, and pinned.",
    fix="Give less memory, or another host_node.",
)  # fmt: skip


@shared
def memory(together: Together) -> Iterator[tuple[int | None, Finding]]:
    """Host memory: an error against MemTotal, a warning against what is available."""
    asked = sum(max(vm.memory.size, 0) for vm in together.vms)
    wanted = asked - sum(min(free, vm_pages) for free, vm_pages in _pooled(together))
    total, free = together.host.facts.memory_total, together.host.facts.moment.memory_available
    alone = [place for place, vm in enumerate(together.vms) if total and vm.memory.size > total]
    for place in alone:
        name, count = visible(together.vms[place].name), together.vms[place].memory.size
        fits = _fits(together, place, total or 0)
        yield (
            place,
            MEMORY_TOTAL.at(name, who=f"VM {name} asks for", asked=size(count), total=_gib(total or 0), fits=fits, largest=together.vms[place].name),
        )
    largest = max(range(len(together.vms)), key=lambda place: together.vms[place].memory.size, default=0)
    names = [visible(vm.name) for vm in together.vms]
    who = f"The {len(names)} VMs ask for" if len(names) > 1 else f"VM {''.join(names)} asks for"
    if total and asked > total and not alone:
        fits, name = _fits(together, largest, total), together.vms[largest].name
        yield None, MEMORY_TOTAL.at("request", who=who, asked=size(asked), total=_gib(total), fits=fits, largest=name)
    elif free is not None and wanted > free and not (total and asked > total):
        besides = "" if wanted == asked else f" {size(wanted)} of it beside the hugepages that are free,"
        fits, name = _fits(together, largest, free + asked - wanted), together.vms[largest].name
        yield None, MEMORY_FREE.at("request", who=who, asked=size(asked), besides=besides, free=_gib(free), fits=fits, largest=name)
    unread = [what for what, value in (("how much it has", total), ("how much of it is free", free)) if value is None]
    if unread and not alone and not (total and asked > total):
        yield None, MEMORY_UNREAD.at("request", asked=size(asked), because=f"{' and '.join(unread)} was not read")
    by_node: dict[int, list[int]] = {}
    for vm in together.vms:
        for node in vm.memory.nodes:
            if node.host_node is not None:
                by_node.setdefault(node.host_node, []).append(node.memory)
    known = {node.id: node.memory for node in together.host.facts.nodes}
    for node_id, taken in by_node.items():
        there = known.get(node_id)
        if there and sum(taken) > there >= max(taken):  # of a single node that is too large another rule speaks
            yield None, NODE_MEMORY.at(node_id, asked=size(sum(taken)), total=_gib(there))


def _fits(together: Together, place: int, there: int) -> int | str:
    """Bytes that are left of what is there for one VM beside the others, as a size that people choose; "" where that is too little."""
    free = together.host.facts.moment.memory_available
    others = sum(max(vm.memory.size, 0) for at, vm in enumerate(together.vms) if at != place)
    return memory_within(min(there, free or there) - others) or ""


def _pooled(together: Together) -> Iterator[tuple[int, int]]:
    """For each size of hugepages: bytes of free ones, which are no part of what is available, and bytes that the VMs want of them."""
    for page in {vm.memory.hugepages for vm in together.vms if vm.memory.hugepages}:
        pools = together.host.facts.moment.hugepages_free.values()
        yield page * sum(pool.get(str(page >> 10), 0) for pool in pools), sum(vm.memory.size for vm in together.vms if vm.memory.hugepages == page)


HUGEPAGES_TOGETHER = plan_code(
    "hugepages-few-together", WARNING, area=Area.HOST,
    what="The VMs need {needed} hugepages of {subject} together on {where}, and {free} are free.",
    why="Each VM alone would find enough; the preparation script asks the kernel for the rest, which it may not find on a host that has run a while.",
    fix="Reserve them at boot (hugepagesz={subject} hugepages={needed} on the kernel's command line) if the script fails.",
)  # fmt: skip


@shared
def hugepages(together: Together) -> Iterator[tuple[int | None, Finding]]:
    """The sum over the VMs, for the host and for each node that memory is bound to (sources: problem-35)."""
    needs: dict[tuple[int, int | None], list[int]] = {}
    for vm in together.vms:
        page = vm.memory.hugepages
        if not page or page < 1:
            continue
        parts = [(node.host_node, node.memory) for node in vm.memory.nodes if node.memory > 0] or [(None, max(vm.memory.size, 0))]
        needs.setdefault((page, None), []).append(sum(memory for _, memory in parts) // page)
        for node in {node for node, _ in parts if node is not None}:
            needs.setdefault((page, node), []).append(sum(memory for at, memory in parts if at == node) // page)
    for (page, where), counts in needs.items():
        pools = together.host.facts.moment.hugepages_free
        known = [pool[key] for node, pool in pools.items() if where in (None, _id(node)) and (key := str(page >> 10)) in pool]
        if known and sum(counts) > sum(known) >= max(counts):
            place = "the host" if where is None else f"host node {where}"
            yield None, HUGEPAGES_TOGETHER.at(size(page), needed=sum(counts), free=sum(known), where=place)


def _id(node: str) -> int | None:
    return int(node) if is_number(node) else None


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"


MEMLOCK = plan_code(
    "memlock", INFO, area=Area.HOST,
    what="User {subject} has to be allowed to lock {kib} KiB ({needed}) for {vms}.",
    why="iommufd charges pinned memory per user, against the limit of each process: with several VMs the limit has to hold the sum of them. "
    "It is the guest's memory and QEMU's pvtime, 64 bytes for each CPU in whole pages of the host ({page}): with the memory alone QEMU does "
    "not start ('vfio_container_dma_map … = -12'). BARs are not charged.",
    fix="The preparation script sets it; by hand: `ulimit -l {kib}` or memlock in /etc/security/limits.d.",
)  # fmt: skip


@shared
def memlock(together: Together) -> Iterator[tuple[int | None, Finding]]:
    """Root, with CAP_IPC_LOCK, is charged nothing (sources: problem-34, kernel-memlock)."""
    for user, needed in memlock_of(together.vms).items():
        if user == "root":
            continue
        names = [visible(vm.name) for vm in together.vms if vm.user == user]
        page = together.host.page_size
        pages = size(page) if page else f"their size was not read; {size(LARGEST_PAGE)}, the largest, is taken"
        finding = MEMLOCK.at(visible(user), needed=_gib(needed), kib=needed >> 10, vms=", ".join(names), page=pages)
        for place, vm in enumerate(together.vms):
            if vm.user == user:
                yield place, finding


def memlock_of(vms: Sequence[VmPlan]) -> dict[str, int]:
    """Bytes that each user's processes have to be allowed to lock: the sum over the user's VMs."""
    sums: dict[str, int] = {}
    for vm in vms:
        if vm.devices or any(port.hotplug for port in vm.ports):
            sums[vm.user] = sums.get(vm.user, 0) + vm.memory.memlock
    return sums
