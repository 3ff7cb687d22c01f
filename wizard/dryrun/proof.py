"""Isolation, proved: for every stage 1, stream table entry and command that a guest can write, not for one.

What a guest's functions reach is decided by stage 2 alone, so the proof has four parts: (1) no accepted entry or register leaves stage 2
out or changes it, (2) every leaf of stage 2 is the VM's own memory, (3) no accepted command works on another VMID or StreamID, (4) each
StreamID and VMID is one VM's. Parts 1 and 3 are in ``writable``; part 2 walks every descriptor of every table, as arrays.

It is a proof of the plan as modelled, not of the running kernel, and its assumptions are part of it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from wizard.base.text import plural, size
from wizard.dryrun.layout import HOST_TABLES, ITS_TRANSLATER, FunctionLayout
from wizard.dryrun.model import Proof
from wizard.dryrun.world import ITS_FRAME, Vm, World
from wizard.dryrun.writable import beyond_host, can_use_ats, commands, entries
from wizard.nesting import Device, Parent
from wizard.smmu.context import stage2_of
from wizard.smmu.regime import Regime
from wizard.smmu.tables import PageTable

if TYPE_CHECKING:
    from wizard.dryrun.tables import Walked

ASSUMPTIONS = (
    "The hardware, the host's kernel and QEMU do what the specification and their sources say; this is a proof of the plan as modelled.",
    "The host's ITS page is shared by all VMs and isolated by DeviceID: it is the one page that is not the VM's own.",
    "ACS redirects requests on the whole path to the SMMU; peer-to-peer traffic that never reaches it is not covered.",
    "A function is reset when it is given to another VM, and drops its ATC.",
    "Which frames a VM gets is decided when it starts; the proof takes the modelled ones, each given out once.",
)
TRUSTED = (
    "A function that can use ATS is trusted with host physical addresses, since translated traffic passes by stage 2: {}. ats=on asks for it; "
    "ats=off does not forbid it, since QEMU passes EATS of the guest's entry and the kernel follows it."
)


def prove(world: World, vm: str, smmu: str) -> Proof:
    """The proof of one VM on one SMMU of the simulated host."""
    from wizard.dryrun.tables import Walked  # numpy: only a proof walks whole tables

    held = world.vms[vm]
    parents = [parent for parent in held.iommufd.parents if parent.smmu.name == smmu]
    devices = [world.devices[f.address] for f in world.layout.functions_of(vm) if f.smmu == smmu and f.address in world.devices]
    trusted = ", ".join(device.name for device in devices if can_use_ats(device))
    assumptions = (*ASSUMPTIONS, TRUSTED.format(trusted)) if trusted else ASSUMPTIONS
    if not parents:
        return Proof(
            vm=vm, smmu=smmu, proved=True, text="no stage 2 was made: no function of the VM is attached", pages=0, table_bytes=0, steps=(),
            assumptions=assumptions,
        )  # fmt: skip
    steps: list[str] = []
    walked = Walked()
    broken = (
        entries(parents, devices, steps)
        or _frames(world, held, parents, walked, steps)
        or commands(world, held, smmu, steps)
        or _identities(world, held, parents, smmu, steps)
    )
    also = "its functions' BARs and the ITS page" if held.layout.peer_to_peer else "and the ITS page"
    text = (
        f"{plural(walked.leaves, 'leaf', 'leaves')} of {_stages(parents)} lead to {size(walked.bytes)} of the VM's own memory, {also}"
        if broken is None
        else broken
    )
    return Proof(
        vm=vm, smmu=smmu, proved=broken is None, text=text, pages=walked.leaves, table_bytes=walked.table_bytes, steps=tuple(steps),
        assumptions=assumptions, counterexample=broken,
    )  # fmt: skip


# -- stage 2 -------------------------------------------------------------------------------------------------------


def _frames(world: World, vm: Vm, parents: list[Parent], walked: Walked, steps: list[str]) -> str | None:
    """Every leaf is the VM's own memory, its functions' BARs, or the ITS page; and no frame has two owners."""
    from wizard.dryrun.tables import Grant, Interval, check_tables

    if (why := _shared(world)) is not None:
        return why
    own = [Interval(chunk.pa, chunk.pa + chunk.size) for chunk in vm.layout.chunks]
    bars = [Interval(bar.pa, bar.pa + bar.size) for f in world.layout.assigned(vm.layout.name) for bar in f.bars if vm.layout.peer_to_peer]
    for parent in parents:
        page = parent.smmu.kernel.page_size
        its = Interval(ITS_TRANSLATER & -page, (ITS_TRANSLATER & -page) + page)
        grant = Grant(tuple(own), (its, *bars), Interval(*HOST_TABLES))
        found = check_tables(world.memory, _walked_by_hardware(parent), grant, walked)
        if found is not None:
            return f"stage {parent.table.stage} maps {found.ipa:#x} to {found.pa:#x}, {world.owner_of(found.pa)}: {found.why}"
    tables, leaves = plural(walked.tables, "table"), plural(walked.leaves, "leaf", "leaves")
    steps.append(f"{_stages(parents)}: {tables} of {plural(walked.table_bytes, 'byte')} together, {leaves}, each looked at")
    return None


def _walked_by_hardware(parent: Parent) -> PageTable | Regime:
    """Stage 2 as the entry describes it to the hardware; a stage 1 of the host's as it was made."""
    return stage2_of(parent.entry, parent.smmu.smmu.features).regime if parent.contexts is None else parent.table


def _stages(parents: list[Parent]) -> str:
    return " and ".join(sorted({"stage 2" if parent.table.stage == 2 else "the host's stage 1" for parent in parents}))


def _shared(world: World) -> str | None:
    """Two owners of one frame: VMs, functions' BARs, the host's own tables, the ITS."""
    held = [(chunk.pa, chunk.pa + chunk.size, f"VM {vm.name}") for vm in world.layout.vms for chunk in vm.chunks]
    held += [(bar.pa, bar.pa + bar.size, f"a BAR of {f.address}") for f in world.layout.functions for bar in f.bars]
    held += [(*HOST_TABLES, "the host's tables"), (*ITS_FRAME, "the host's ITS")]
    for (start, end, name), (next_start, _, other) in pairwise(sorted(held)):
        if next_start < end:
            whose = f"{name} and {other} share" if name != other else f"{name} has twice"
            return f"{whose} the host's memory at {max(start, next_start):#x}"
    return None


# -- identities ----------------------------------------------------------------------------------------------------


def _identities(world: World, vm: Vm, parents: list[Parent], smmu: str, steps: list[str]) -> str | None:
    """A StreamID is one function's, a VMID one VM's, and each of the VM's streams walks the VM's own tables."""
    owners: dict[int, str] = {}
    for function in world.layout.functions:
        if function.smmu != smmu:
            continue
        for sid in function.streams:
            if sid in owners:
                return f"StreamID {sid:#x} of {smmu} belongs to {owners[sid]} and to {function.address}"
            owners[sid] = function.address
    vmids = {parent.vmid for parent in parents if parent.contexts is None}
    for other in world.vms.values():
        if other is not vm and (taken := vmids & {p.vmid for p in other.iommufd.parents if p.smmu.name == smmu and p.contexts is None}):
            return f"VM {other.layout.name} has VMID {min(taken)} of {smmu} too"
    for function in world.layout.functions_of(vm.layout.name):
        device = world.devices.get(function.address)
        if device is not None and function.smmu == smmu and (why := _walks(function, device, parents)) is not None:
            return why
    own = f", VMID {', '.join(map(str, sorted(vmids)))} this VM's alone" if vmids else ""
    steps.append(f"identities: {plural(len(owners), 'StreamID')} of {smmu} with one owner each{own}")
    return None


def _walks(function: FunctionLayout, device: Device, parents: list[Parent]) -> str | None:
    """What is wrong with the entries of a function, as the driver has them and as they are in the hardware's table."""
    for ste in (device.installed, *(device.smmu.entry_of(sid) for sid in device.streams)):
        reasons = [beyond_host(ste, parent, ats=can_use_ats(device)) for parent in parents]
        if all(reasons):
            return f"the entry of {function.address} {reasons[0]}"
    return None
