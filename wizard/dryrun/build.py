"""From a plan and a host to a layout: what host and guests will build.

Host memory is modelled: guest RAM lies in scattered chunks above 4 GiB, one VM after the other, as an allocator could hand it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import msgspec

from wizard.base.address import Address
from wizard.base.finding import Finding
from wizard.base.text import size as size_text
from wizard.dryrun.findings import IMPOSSIBLE_MEMORY, MISSING_FUNCTION
from wizard.dryrun.guesses import of_functions
from wizard.dryrun.hardware import candidates, smmu_layout
from wizard.dryrun.layout import (
    BLOCK,
    BROKEN_PAGES,
    GIB,
    GUEST_RAM,
    HOST_BARS,
    HOST_RAM,
    ITS_TRANSLATER,
    LEAST_MEMORY,
    LOW_MAP_END,
    Bar,
    Chunk,
    FunctionLayout,
    Layout,
    SmmuLayout,
    VmLayout,
    VsmmuLayout,
)  # fmt: skip
from wizard.dryrun.rests import Fact, Guess
from wizard.host.known import Source
from wizard.host.model import Function, Host
from wizard.host.vmm import Vmm
from wizard.nesting.qemu import ids_of
from wizard.plan.model import DevicePlan, Plan, PortPlan, VmPlan, VsmmuPlan, require
from wizard.plan.peers import bars_mapped
from wizard.plan.regions import regions_of

_REDISTRIBUTORS, _ECAM = 64 << 20, 256 << 20


def playable(plan: Plan) -> Plan | None:
    """The VMs of a plan that would start, each without an error of its own; all findings stay.

    None when no VM is left, or when an error is no VM's own but of the request as a whole.
    """
    own = [finding for vm in plan.vms for finding in vm.errors]
    vms = tuple(vm for vm in plan.vms if vm.ok)
    if not vms or any(error not in own for error in plan.errors):
        return None
    return plan if len(vms) == len(plan.vms) else msgspec.structs.replace(plan, vms=vms)


def lay_out(plan: Plan, host: Host) -> Layout:
    """What host and guests build for ``plan``."""
    for vm in plan.vms:
        require(vm, Vmm.QEMU, "the dry run plays QEMU's vSMMU")
    assumptions: list[str] = []
    guesses: list[Guess] = []
    findings: list[Finding] = []
    missing = [MISSING_FUNCTION.at(d.host, vm=vm.name) for vm in plan.vms for d in vm.devices if not d.to_make and d.host not in host.functions]
    names = dict.fromkeys(d.smmu for vm in plan.vms for d in vm.devices if d.smmu is not None)
    names |= dict.fromkeys(f.smmu for vm in plan.vms for _, f in candidates(vm, host) if f.smmu is not None)
    found = [host.smmus[name] for name in names if name in host.smmus and host.smmus[name].kind == "smmuv3"]
    smmus = tuple(smmu_layout(host, smmu, plan, assumptions, guesses) for smmu in found)
    vms, taken = [], HOST_RAM
    for vm in plan.vms:
        made, findings_of_vm, taken = _vm(vm, host, smmus, taken, assumptions, guesses)
        vms.append(made)
        findings += findings_of_vm
        reach = min((min(smmu.ids.features.oas, 48) for smmu in smmus), default=48)
        if taken > 1 << reach:
            because = f"with the VMs before it, it takes more of the host's memory than the {reach} bits of an SMMU's addresses"
            findings.append(IMPOSSIBLE_MEMORY.at(vm.name, because=because))
    functions = tuple(_functions(plan, host, vms, smmus, assumptions))
    vsmmus = tuple(vsmmu for made in vms for vsmmu in made.vsmmus)
    guesses += of_functions(host, plan, functions, vsmmus)
    if host.page_size is None:
        guesses.append(Guess(Fact.PAGE_SIZE, "pages of 4 KiB"))
        assumptions.append("The host's page size was not recorded; pages of 4 KiB are taken.")
    return Layout(smmus, tuple(vms), functions, (*missing, *findings), tuple(dict.fromkeys(assumptions)), tuple(guesses))


# -- guests -----------------------------------------------------------------------------------------------------------


def window_of(memory: int, size: int) -> tuple[int, int]:
    """Base and size of the 64-bit PCI window of QEMU's virt machine (virt_set_high_memmap()): after redistributors and ECAM, aligned to itself."""
    base = max(-(-(GUEST_RAM + memory) // GIB) * GIB, LOW_MAP_END)
    base = -(-base // _REDISTRIBUTORS) * _REDISTRIBUTORS + _REDISTRIBUTORS
    base = -(-base // _ECAM) * _ECAM + _ECAM
    return -(-base // size) * size, size


def _vm(
    vm: VmPlan, host: Host, smmus: tuple[SmmuLayout, ...], taken: int, assumptions: list[str], guesses: list[Guess]
) -> tuple[VmLayout, list[Finding], int]:
    findings = []
    page = host.page_size or 4096
    memory = vm.memory.size
    if memory <= 0 or memory % page:
        findings.append(IMPOSSIBLE_MEMORY.at(vm.name, because=f"{size_text(memory)} is not a whole number of the host's pages of {size_text(page)}"))
    if 0 < memory < LEAST_MEMORY:
        findings.append(IMPOSSIBLE_MEMORY.at(vm.name, because=f"{size_text(memory)} leave a guest kernel no room for its tables"))
    hugepages = vm.memory.hugepages
    if hugepages is not None and (hugepages < page or hugepages & (hugepages - 1)):
        findings.append(IMPOSSIBLE_MEMORY.at(vm.name, because=f"huge pages of {size_text(hugepages)} are not a power of two above the host's pages"))
    nodes = sum(node.memory for node in vm.memory.nodes)
    if vm.memory.nodes and nodes != memory:
        findings.append(IMPOSSIBLE_MEMORY.at(vm.name, because=f"its NUMA nodes have {size_text(nodes)} together, the VM {size_text(memory)}"))
    window = vm.memory.mmio_window
    if window <= 0 or window & (window - 1):
        findings.append(IMPOSSIBLE_MEMORY.at(vm.name, because=f"an MMIO window of {size_text(window)} is not a power of two"))
        window = 512 * GIB
    if memory > 0 and memory.bit_length() > 52:
        findings.append(IMPOSSIBLE_MEMORY.at(vm.name, because=f"{size_text(memory)} is beyond 52-bit physical addresses"))
    chunks, taken = ((), taken) if findings else _chunks(memory, page, vm.memory.hugepages, taken)
    built = host.facts.kernel.option("CONFIG_VFIO_PCI_DMABUF")
    if len(vm.devices) + len(list(candidates(vm, host))) > 1 and built is None:
        guesses.append(Guess(Fact.DMABUF, "a kernel without dma-bufs of VFIO", vm.name))
        assumptions.append("Whether the kernel has a dma-buf for VFIO was not recorded; it is taken to have none, so that BARs are not in the IOAS.")
    vsmmus = tuple(_vsmmu(vsmmu) for vsmmu in vm.vsmmus if vsmmu.smmu is not None)
    assumptions.append("Host memory is modelled: which frames a VM gets is decided when it starts. The doorbell is one modelled ITS page.")
    made = VmLayout(
        name=vm.name,
        mode=vm.mode,
        memory=memory,
        chunks=chunks,
        window=window_of(max(memory, 0), window),
        doorbell=ITS_TRANSLATER if vm.machine.its else None,
        vsmmus=vsmmus,
        peer_to_peer=bars_mapped(host, vm).is_true,
    )
    return made, findings, taken


def _chunks(memory: int, page: int, hugepages: int | None, start: int) -> tuple[tuple[Chunk, ...], int]:
    """Guest RAM in chunks of a block or huge page, laid out last one first; the first pages one by one, also backwards."""
    granule = page.bit_length() - 1
    step = max(hugepages or 0, BLOCK.get(granule, 2 << 20))
    while memory // step > 4096:
        step *= 2
    base = -(-start // step) * step
    count = -(-memory // step)
    chunks = []
    for index in range(count):
        length = min(step, memory - index * step)
        chunks.append(Chunk(GUEST_RAM + index * step, base + (count - 1 - index) * step, length))
    broken = min(BROKEN_PAGES, chunks[0].size // page) if not hugepages else 0
    first = chunks[0]
    pages = [Chunk(first.ipa + n * page, first.pa + (broken - 1 - n) * page, page) for n in range(broken)]
    rest = Chunk(first.ipa + broken * page, first.pa + broken * page, first.size - broken * page)
    return tuple(chunk for chunk in (*pages, rest, *chunks[1:]) if chunk.size), base + count * step


def _vsmmu(vsmmu: VsmmuPlan) -> VsmmuLayout:
    oas = vsmmu.oas.resolved or 44
    ats, ril = bool(vsmmu.ats.resolved), vsmmu.ril.resolved is None or bool(vsmmu.ril.resolved)
    ssidsize = min(max(vsmmu.ssidsize.resolved or 0, 0), 20)
    return VsmmuLayout(
        vsmmu.id, vsmmu.smmu or "", ids_of(ats=ats, ril=ril, ssidsize=ssidsize, oas=48 if oas >= 48 else 44),
        ats, ril, ssidsize, oas, bool(vsmmu.cmdqv.resolved),
    )  # fmt: skip


# -- functions --------------------------------------------------------------------------------------------------------


def _functions(plan: Plan, host: Host, vms: list[VmLayout], smmus: tuple[SmmuLayout, ...], assumptions: list[str]) -> Iterator[FunctionLayout]:
    present = {smmu.name for smmu in smmus}
    assigned = {device.host for vm in plan.vms for device in vm.devices}
    companions: dict[str, None] = {}
    places = _Places(host.page_size or 4096, max(HOST_BARS, *(chunk.pa + chunk.size for vm in vms for chunk in vm.chunks), 0))
    for vm, made in zip(plan.vms, vms, strict=True):
        places.start(made)
        for device in vm.devices:
            if device.smmu not in present:
                assumptions.append(f"{device.host} is behind no SMMUv3 of this host: there is nothing to rehearse for it.")
                continue
            yield _assigned(host, vm, device, places.bars(made, device.bars), assumptions)
            group = host.groups.get(device.group) if device.group is not None else None
            companions |= dict.fromkeys(member for member in (group.devices if group else ()) if member not in assigned)
    for vm, made in zip(plan.vms, vms, strict=True):
        for port, function in candidates(vm, host):
            if function.smmu in present and str(function) not in assigned:
                assigned.add(str(function))
                yield _pluggable(host, vm, made, port, function, places, assumptions)
    for address in companions:
        companion = host.functions.get(address)
        if companion is not None and companion.smmu in present and address not in assigned:
            yield _companion(host, companion)


@dataclass(slots=True)
class _Places:
    """Where BARs are: one after the other in each guest's window, and above everything else on the host."""

    page: int
    on_host: int
    in_guest: dict[str, int] = field(default_factory=dict)

    def start(self, vm: VmLayout) -> None:
        """A guest's BARs begin with its window."""
        self.in_guest[vm.name] = vm.window[0]

    def bars(self, vm: VmLayout, sizes: Iterable[int]) -> tuple[Bar, ...]:
        """Memory regions of these sizes, the largest first."""
        bars, inside = [], self.in_guest[vm.name]
        for length in sorted(sizes, reverse=True):
            # Regions below a page of the host are not mapped one by one: each has a page of its own.
            span = max(self.page, 1 << max(0, length - 1).bit_length())
            inside, self.on_host = -(-inside // span) * span, -(-self.on_host // span) * span
            bars.append(Bar(inside, self.on_host, span))
            inside, self.on_host = inside + span, self.on_host + span
        self.in_guest[vm.name] = inside
        return tuple(bars)


def _pluggable(host: Host, vm: VmPlan, made: VmLayout, port: PortPlan, function: Function, places: _Places, assumptions: list[str]) -> FunctionLayout:
    vsmmu = next((v.id for v in vm.vsmmus if v.bus == port.bus and v.smmu is not None), None)
    regions = regions_of(host, function)
    return replace(
        _companion(host, function), vm=vm.name, device=port.id, vsmmu=vsmmu, vsid=Address(0, port.secondary, 0, 0).rid if vsmmu else None,
        canwbs=_canwbs(function, assumptions), hotplug=True, bars=places.bars(made, (*regions.high, *regions.low)),
        bars_known=regions.source != "unknown",
    )  # fmt: skip


def _assigned(host: Host, vm: VmPlan, device: DevicePlan, bars: tuple[Bar, ...], assumptions: list[str]) -> FunctionLayout:
    function = host.functions.get(device.host) or host.functions.get(device.pf or "")
    if function is None:
        raise KeyError(device.host)
    base = _companion(host, function)
    if not function.stream_ids:
        assumptions.append(f"The StreamID of {function} is not known; its requester ID is taken.")
    if device.to_make:
        assumptions.append(f"{device.host} is a VF that is still to be made: its StreamID and group are predictions.")
        rid = int(device.host[-7:-5], 16) << 8 | int(device.host[-4:-2], 16) << 3 | int(device.host[-1])
        base = replace(base, address=device.host, streams=(base.streams[0] + rid - function.address.rid,), group=-rid - 1)
    return replace(
        base, vm=vm.name, device=device.id, name=device.name, vsmmu=device.vsmmu, vsid=device.vsid, bars=bars,
        canwbs=_canwbs(function, assumptions),
        ats_shown=device.ats != "off", bars_known=device.bars_from != "unknown",
    )  # fmt: skip


def _canwbs(function: Function, assumptions: list[str]) -> bool:
    value = function.known("canwbs")
    if value.source is Source.ASSUMED or not value.known:
        assumptions.append(f"{function}: CANWBS is taken as {'no' if value.value is False else 'yes'}; the firmware's word was not recorded.")
    return value.value is not False


def _companion(host: Host, function: Function) -> FunctionLayout:
    group = host.groups.get(function.group) if function.group is not None else None
    usable = function.known("pasid_usable")
    ats, offer = function.known("ats"), function.known("root_complex_ats")
    pasid = usable.value if usable.known else function.known("pasid_width").value
    return FunctionLayout(
        address=str(function),
        smmu=function.smmu or "",
        group=function.group if function.group is not None else -1,
        streams=function.stream_ids or (function.address.rid,),
        canwbs=function.known("canwbs").value is not False,
        ats=ats.is_true and offer.value is not False,
        ats_measured=ats.measured and (offer.measured or ats.is_false),
        pasid=int(pasid) if isinstance(pasid, int) else 0,
        direct=any(region.type == "direct" for region in (group.regions if group else ())),
        isolated_msi=True,
        redirect=group is None or len(group.devices) == 1,
        name=function.name,
    )
