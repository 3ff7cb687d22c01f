"""Memory: how much, from which pages and nodes, reserved regions, and the windows for BARs."""

from __future__ import annotations

from collections.abc import Iterator

from wizard.base.action import set_to
from wizard.base.finding import Area, Finding
from wizard.base.text import is_number, size
from wizard.host.vmm import Vmm
from wizard.plan.codes import ERROR, INFO, WARNING, plan_code
from wizard.plan.memory import cpu_list
from wizard.plan.regions import DEFAULT_HIGH_MMIO, LOW_MMIO, RAM_BASE
from wizard.plan.rules.base import Scene, rule, rule_of
from wizard.plan.steps import LEAST_MEMORY

LEAST = 64 << 20  # UEFI does not come up with less
HIGH_BEFORE_MMIO = (64 << 20) + (256 << 20)  # VIRT_HIGH_GIC_REDIST2 and VIRT_HIGH_PCIE_ECAM come first
HUGEPAGES = {4096: (64 << 10, 2 << 20, 32 << 20, 1 << 30), 16384: (2 << 20, 32 << 20, 1 << 30), 65536: (2 << 20, 512 << 20, 16 << 30)}

MEMORY = plan_code(
    "memory-impossible", ERROR,
    what="VM {subject} asks for {size} of memory{because}.",
    why="UEFI needs 64 MiB, and QEMU takes whole MiB.",
    fix="Give a size such as 4G with --memory.",
    action=set_to("memory", "{fits}"),
)  # fmt: skip


@rule
def amount(scene: Scene) -> Iterator[Finding]:
    """-m."""
    count = scene.vm.memory.size
    if count < LEAST:
        yield MEMORY.at(scene.name, size=size(count) if count > 0 else count, because=", and the least is 64M", fits=LEAST_MEMORY)
    elif count % (1 << 20):
        yield MEMORY.at(scene.name, size=count, because=", which is not a whole number of MiB", fits=count >> 20 << 20)
    elif count >= 1 << 52:
        yield MEMORY.at(scene.name, size=size(count), because=", and no arm64 CPU has that many addresses", fits="")


HUGEPAGE_SIZE = plan_code(
    "hugepage-size", ERROR,
    what="VM {subject} asks for hugepages of {size}.",
    why="A host with {page} pages has hugepages of {sizes}.",
    fix="Write one of {sizes}.",
    action=set_to("hugepages", "{fits}"),
)  # fmt: skip
HUGEPAGE_PARTS = plan_code(
    "hugepage-parts", ERROR,
    what="VM {subject}: {what_for} is {memory}, not a whole number of {size} hugepages.",
    why="QEMU can't back a part of a hugepage.",
    fix="Give a multiple of {size}, or smaller hugepages.",
)  # fmt: skip
HUGEPAGE_FEW = plan_code(
    "hugepages-few", WARNING, area=Area.HOST,
    what="VM {subject} needs {needed} hugepages of {size} on {where}, and {free} are free.",
    why="The preparation script asks the kernel for the rest; on a host that has run for a while it may not find them.",
    fix="Reserve them at boot (hugepagesz={size} hugepages={needed} on the kernel's command line) if the script fails.",
)  # fmt: skip
HUGEPAGES_UNREAD = plan_code(
    "hugepages-not-read", INFO, area=Area.HOST,
    what="Whether the host has {needed} hugepages of {size} for VM {subject} is not known: {because}.",
    why="QEMU does not start without them.",
    fix="Look at /sys/kernel/mm/hugepages on the host, or record it again.",
)  # fmt: skip


@rule
def hugepages(scene: Scene) -> Iterator[Finding]:
    """Sizes that this page size has, and free ones per node (sources: problem-35). What was not read of either is said, and is no error."""
    memory = scene.vm.memory
    page = memory.hugepages
    if page is None:
        return
    facts = scene.host.facts
    there = {int(kib) << 10 for node in facts.nodes for kib in node.hugepages if is_number(kib)}
    possible = {size for sizes in HUGEPAGES.values() for size in sizes} if scene.host.page_size is None else HUGEPAGES.get(scene.host.page_size, ())
    sizes = sorted(there or possible)
    if page not in sizes:
        base = size(scene.host.page_size) if scene.host.page_size else "unknown"
        fits = max((one for one in sizes if one <= page), default=min(sizes, default=""))
        yield HUGEPAGE_SIZE.at(scene.name, size=size(page), page=base, sizes=", ".join(size(s) for s in sizes) or "no size at all", fits=fits)
        return
    unread = "the host's page size was not read" if not there and scene.host.page_size is None else ""
    if not facts.moment.hugepages_free:
        unread = ", and ".join(filter(None, (unread, "how many are free was not read")))
    if unread:
        yield HUGEPAGES_UNREAD.at(scene.name, needed=memory.size // page, size=size(page), because=unread)
    parts = [(f"guest node {node.id}", node.memory, node.host_node) for node in memory.nodes if node.memory] or [("its memory", memory.size, None)]
    for what, length, host_node in parts:
        if length % page:
            yield HUGEPAGE_PARTS.at(scene.name, what_for=what, memory=size(length), size=size(page))
            continue
        key = str(page >> 10)
        pools = facts.moment.hugepages_free
        counts = [p.get(key, 0) for node, p in pools.items() if host_node is None or node == str(host_node)]
        free, needed = sum(counts), length // page
        if counts and free < needed:
            where = "the host" if host_node is None else f"host node {host_node}"
            yield HUGEPAGE_FEW.at(scene.name, needed=needed, size=size(page), where=where, free=free)


NUMA_SUM = plan_code(
    "numa-sum", ERROR,
    what="VM {subject}: its NUMA nodes have {nodes}, and the VM {memory}.",
    why="QEMU: 'total memory for NUMA nodes should equal RAM size'.",
    fix="Make the nodes' memory add up, or leave numa out.",
    action=set_to("numa"),
)  # fmt: skip
NUMA_CPUS = plan_code(
    "numa-cpus", ERROR,
    what="VM {subject}: the CPUs of its NUMA nodes ({cpus}) are not CPUs 0 to {last}, each once.",
    why="QEMU wants every CPU in exactly one node.",
    fix="Write each CPU once, for instance cpus = \"0-{last}\", or leave numa out.",
    action=set_to("numa"),
)  # fmt: skip
NUMA_HOST = plan_code(
    "numa-host-node", ERROR,
    what="VM {subject}: guest node {node} takes its memory from host node {host}, which {because}.",
    why="QEMU: 'cannot bind memory to host NUMA nodes', or the guest is killed when its pages are pinned.",
    fix="Choose another host_node, give the node less memory, or leave numa out.",
    action=set_to("numa"),
)  # fmt: skip
NUMA_INITIATOR = plan_code(
    "numa-initiator", ERROR,
    what="VM {subject}: guest node {node} is the memory of {device}, which is no function of the VM, or the node has memory of its own.",
    why="An acpi-generic-initiator ties a memory-less node to an assigned function.",
    fix="Write the id of a function of this VM, and memory = 0 for the node.",
    action=set_to("numa"),
)  # fmt: skip


@rule
def numa(scene: Scene) -> Iterator[Finding]:
    """-numa."""
    nodes = scene.vm.memory.nodes
    if not nodes:
        return
    total = sum(node.memory for node in nodes)
    if total != scene.vm.memory.size or any(node.memory < 0 for node in nodes):
        yield NUMA_SUM.at(scene.name, nodes=size(total), memory=size(scene.vm.memory.size))
    cpus = [cpu for node in nodes for cpu in node.cpus]
    broken = [n.cpus for n in scene.vm.request.numa or () if cpu_list(n.cpus) is None]
    if broken or sorted(cpus) != list(range(scene.vm.cpus)):
        shown = ", ".join(repr(text) for text in broken) or ", ".join(str(cpu) for cpu in cpus[:16]) or "none"
        yield NUMA_CPUS.at(scene.name, cpus=shown, last=max(scene.vm.cpus - 1, 0))
    known = {node.id: node for node in scene.host.facts.nodes}
    # Of a function that this host does not have another rule speaks.
    ids = {device.id for device in scene.vm.devices} | {function.id for function in scene.vm.request.functions}
    for node in nodes:
        if node.host_node is not None:
            host = known.get(node.host_node)
            because = "does not exist" if host is None else "has no memory" if host.memory == 0 else None
            if host is not None and host.memory and node.memory > host.memory:
                because = f"has {size(host.memory)} in all"
            if because:
                yield NUMA_HOST.at(scene.name, node=node.id, host=node.host_node, because=because)
        if node.initiator is not None and (node.initiator not in ids or node.memory):
            yield NUMA_INITIATOR.at(scene.name, node=node.id, device=node.initiator)


NO_INITIATORS = plan_code(
    "grace-gpu-without-nodes", WARNING,
    what="VM {subject}: {function} is a Grace GPU, and no guest node is its memory.",
    why="The guest's driver brings the GPU's memory up as NUMA nodes, and needs memory-less ones with a generic initiator for it.",
    fix="Leave numa out, or write eight nodes with memory = 0 and initiator = \"{id}\".",
    action=set_to("numa"),
)  # fmt: skip


@rule
def initiators(scene: Scene) -> Iterator[Finding]:
    """A pxb's node and a generic initiator's nodes are separate things (sources: problem-21)."""
    held = {node.initiator for node in scene.vm.memory.nodes}
    for device in scene.vm.devices:
        candidate = scene.candidate(device)
        if candidate is not None and candidate.is_grace_gpu and device.id not in held:
            yield NO_INITIATORS.at(scene.name, function=device.host, id=device.id)


WINDOW = plan_code(
    "mmio-window-small", ERROR,
    what="VM {subject} has a 64-bit MMIO window of {has}, and its BARs need {needs}.",
    why="UEFI gives no addresses to what does not fit: the guest's drivers find dead devices.",
    fix="Write mmio_window = \"{needs}\", or leave it out.",
)  # fmt: skip
LOW_WINDOW = plan_code(
    "mmio-32-bit-full", ERROR,
    what="VM {subject}: the 32-bit BARs of its functions need {needs}, and virt has {has} for them.",
    why="BARs that are not 64-bit and prefetchable lie below 4 GiB, whatever highmem-mmio-size is.",
    fix="Assign fewer such functions, or spread them over several VMs.",
)  # fmt: skip
WINDOW_ASSUMED = plan_code(
    "bar-sizes-assumed", INFO,
    what="The region sizes of {subject} are assumed: {sizes}.",
    why="nvgrace_gpu_vfio_pci makes BARs of the GPU's memory, rounded up to a power of two; only VFIO knows them for certain.",
    fix="Bind it and run `smmu-wizard record --probe` to know.",
)  # fmt: skip
WINDOW_UNKNOWN = plan_code(
    "bar-sizes-unknown", WARNING,
    what="The region sizes of {subject} are not known.",
    why="Neither its BARs nor VFIO could be asked, so the MMIO window may be too small.",
    fix="Record the host as root, or write mmio_window in the profile.",
)  # fmt: skip


@rule_of(Vmm.QEMU)
def windows(scene: Scene) -> Iterator[Finding]:
    """Room for the regions of all functions (sources: problem-25)."""
    memory = scene.vm.memory
    if memory.mmio_window < memory.mmio_needed:
        yield WINDOW.at(scene.name, has=size(memory.mmio_window), needs=size(memory.mmio_needed))
    if memory.low_mmio_needed > LOW_MMIO:
        yield LOW_WINDOW.at(scene.name, needs=size(memory.low_mmio_needed), has=size(LOW_MMIO >> 20 << 20))


@rule
def regions(scene: Scene) -> Iterator[Finding]:
    """What the windows rest on."""
    for device in scene.vm.devices:
        candidate = scene.candidate(device)
        if candidate is not None and candidate.unknown_gpu is not None:
            continue  # `gpu-memory-unknown` says it
        if device.bars_from == "assumed":
            yield WINDOW_ASSUMED.at(device.host, sizes=", ".join(size(bar) for bar in device.bars))
        elif device.bars_from == "unknown":
            yield WINDOW_UNKNOWN.at(device.host)


OAS_RAM = plan_code(
    "memory-above-oas", ERROR,
    what="VM {subject}: its memory and MMIO window end at {end:#x}, above the {bits} bits of vSMMU {id}.",
    why="An address that the vSMMU can't put out is an address size fault for every DMA there.",
    fix="Write oas=48 where the host has it, or give less memory or a smaller window.",
)  # fmt: skip


@rule_of(Vmm.QEMU)
def oas(scene: Scene) -> Iterator[Finding]:
    """Memory's end and the MMIO window against OAS: virt puts the window at a multiple of its size above the memory."""
    end = _window_end(scene)
    for vsmmu in scene.vm.vsmmus:
        bits = vsmmu.oas.resolved
        if vsmmu.accel and bits is not None and 32 <= bits <= 64 and end > 1 << bits:
            yield OAS_RAM.at(scene.name, end=end - 1, bits=bits, id=vsmmu.id)


def _window_end(scene: Scene) -> int:
    """The first address behind the 64-bit window: virt puts it at a multiple of its size above the memory (virt_set_high_memmap())."""
    memory = scene.vm.memory
    base = max(RAM_BASE + max(memory.size, 0), 256 << 30) + HIGH_BEFORE_MMIO
    step = max(memory.mmio_window, DEFAULT_HIGH_MMIO)
    return -(-base // step) * step + step


CPU_WIDTH = plan_code(
    "mmio-window-above-cpu", ERROR,
    what="VM {subject}: its 64-bit MMIO window ends at {end:#x}, which takes {needs}-bit addresses; {because}.",
    why="virt puts the window at a multiple of its own size, and leaves it out without a word where the CPU does not reach it: no 64-bit BAR then "
    "gets an address.",
    fix="Write a smaller mmio_window, or spread functions with large BARs over several VMs.",
)  # fmt: skip
CPU_BITS_MOST, CPU_BITS_USUAL = 52, 48  # with FEAT_LPA or FEAT_LPA2, and without (Arm ARM, ID_AA64MMFR0_EL1.PARange)


@rule
def cpu_width(scene: Scene) -> Iterator[Finding]:
    """The window against what the guest's CPU addresses, in every mode. Nothing that is recorded says it: only what is certain is an error."""
    end = _window_end(scene)
    needs = (end - 1).bit_length()
    if not scene.vm.devices or scene.vm.memory.mmio_window <= DEFAULT_HIGH_MMIO:
        return
    told = [vsmmu for vsmmu in scene.vm.vsmmus if vsmmu.accel and vsmmu.oas.resolved is not None and needs > vsmmu.oas.resolved]
    most = max((smmu.oas for smmu in scene.host.smmus.values() if smmu.oas), default=None)
    if needs > CPU_BITS_MOST:
        yield CPU_WIDTH.at(scene.name, end=end - 1, needs=needs, because=f"no arm64 CPU has more than {CPU_BITS_MOST}")
    elif told:
        return  # it is more than its own vSMMU puts out, which is an error of its own
    elif needs > CPU_BITS_USUAL:
        because = f"only CPUs with FEAT_LPA or FEAT_LPA2 have more than {CPU_BITS_USUAL}, and whether this host's do is not known"
        yield CPU_WIDTH.at(scene.name, severity=WARNING, end=end - 1, needs=needs, because=because)
    elif most is not None and needs > most:
        because = f"this host's SMMUs have {most}, and whether its CPUs have more is not known"
        yield CPU_WIDTH.at(scene.name, severity=WARNING, end=end - 1, needs=needs, because=because)
