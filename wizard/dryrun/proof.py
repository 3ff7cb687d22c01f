"""Isolation, proved: for every stage 1, stream table entry and command that a guest can write, not for one.

What a guest's functions reach is decided by stage 2 alone, so the proof has four parts: (1) no accepted entry or register leaves stage 2
out or changes it, (2) every leaf of stage 2 is the VM's own memory, (3) no accepted command works on another VMID or StreamID, (4) each
StreamID and VMID is one VM's. Parts 1 and 3 are decided bit by bit and opcode by opcode, which is all there is, since the kernel copies bits;
part 2 walks every descriptor of every table, as arrays.

It is a proof of the plan as modelled, not of the running kernel, and its assumptions are part of it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from wizard.arch import command
from wizard.arch.command import Op, StreamCommand, Tlbi
from wizard.arch.ste import STE, StreamConfig
from wizard.base.text import plural, size
from wizard.dryrun.layout import ITS_TRANSLATER
from wizard.dryrun.model import Proof
from wizard.dryrun.world import Vm, World
from wizard.nesting import KernelError, Parent
from wizard.nesting.invalidate import STREAM, convert
from wizard.nesting.vste import ALLOWED, physical, validate
from wizard.plan.request import Mode

if TYPE_CHECKING:
    from wizard.dryrun.tables import Walked

ASSUMPTIONS = (
    "The hardware, the host's kernel and QEMU do what the specification and their sources say; this is a proof of the plan as modelled.",
    "The host's ITS page is shared by all VMs and isolated by DeviceID: it is the one page that is not the VM's own.",
    "ACS redirects requests on the whole path to the SMMU; peer-to-peer traffic that never reaches it is not covered.",
    "A function is reset when it is given to another VM, and drops its ATC.",
    "Which frames a VM gets is decided when it starts; the proof takes the modelled ones, each given out once.",
)
TRUSTED = "A function with ats=on is trusted with host physical addresses: translated traffic passes by stage 2."
_ONES = (1 << 64) - 1


def prove(world: World, vm: str, smmu: str) -> Proof:
    """The proof of one VM on one SMMU of the simulated host."""
    from wizard.dryrun.tables import Walked  # numpy: only a proof walks whole tables

    held = world.vms[vm]
    parents = [parent for parent in held.iommufd.parents if parent.smmu.name == smmu]
    functions = [f for f in world.layout.assigned(vm) if f.smmu == smmu]
    assumptions = (*ASSUMPTIONS, TRUSTED) if any(f.ats for f in functions) and any(v.ats for v in held.layout.vsmmus) else ASSUMPTIONS
    if not parents:
        return Proof(
            vm=vm, smmu=smmu, proved=True, text="no stage 2 was made: no function of the VM is attached", pages=0, table_bytes=0, steps=(),
            assumptions=assumptions,
        )  # fmt: skip
    steps: list[str] = []
    walked = Walked()
    broken = (
        _entries(parents, steps)
        or _frames(world, held, parents, walked, steps)
        or _commands(world, held, smmu, steps)
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


# -- 1: entries -------------------------------------------------------------------------------------------------------


def _entries(parents: list[Parent], steps: list[str]) -> str | None:
    """Every accepted entry keeps stage 2: each allowed bit alone, with each Config and EATS, changes no other field than its own."""
    nesting = [parent for parent in parents if parent.nest_parent]
    if not nesting:
        steps.append("entries: none, the guest has no vSMMU to write any for")
        return None
    for parent in nesting:
        stage2 = parent.entry
        for config in range(8):
            for eats in range(4):
                base = STE.build(V=1, Config=config, EATS=eats).words
                if _accepted(base[0], base[1]) and (why := _entry(stage2, (base[0], base[1]))) is not None:
                    return why
    bits = [bit for word in ALLOWED for bit in range(64) if word >> bit & 1]
    steps.append(f"entries: {len(bits)} bits that a guest may set, 8 values of Config, 4 of EATS: stage 2 is installed as the host made it, or abort")
    return None


def _accepted(low: int, high: int) -> bool:
    """Whether the kernel takes an entry at all; Config and EATS decide that, whatever the other allowed bits are."""
    try:
        validate((low, high))
    except KernelError:
        return False
    return True


def _entry(stage2: STE, base: tuple[int, int]) -> str | None:
    for word in (0, 1):
        for bit in range(-1, 64):
            low, high = (base[0] | (1 << bit if bit >= 0 and word == 0 else 0)), (base[1] | (1 << bit if bit >= 0 and word == 1 else 0))
            try:
                vste = validate((low, high))
            except KernelError:
                continue
            for ats in (False, True) if vste.ats else (False,):
                installed = physical(vste, stage2, ats=ats)
                if installed.Config == StreamConfig.ABORT:
                    continue
                if installed.Config not in (StreamConfig.STAGE2, StreamConfig.NESTED):
                    return f"an entry {low:#x} {high:#x} is installed with Config {installed.Config}, without stage 2"
                if installed.words[2:] != stage2.words[2:]:
                    return f"an entry {low:#x} {high:#x} changes stage 2"
    return None


# -- 2: stage 2 -------------------------------------------------------------------------------------------------------


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
        found = check_tables(world.memory, parent.table, Grant(tuple(own), (its, *bars)), walked)
        if found is not None:
            return f"stage {parent.table.stage} maps {found.ipa:#x} to {found.pa:#x}, {world.owner_of(found.pa)}: {found.why}"
    leaves = plural(walked.leaves, "leaf", "leaves")
    steps.append(f"{_stages(parents)}: {plural(walked.tables, 'table')} of {size(walked.table_bytes)}, {leaves}, each looked at")
    return None


def _stages(parents: list[Parent]) -> str:
    return " and ".join(sorted({"stage 2" if parent.table.stage == 2 else "the host's stage 1" for parent in parents}))


def _shared(world: World) -> str | None:
    """Two owners of one frame."""
    held = sorted((chunk.pa, chunk.pa + chunk.size, vm.name) for vm in world.layout.vms for chunk in vm.chunks)
    for (start, end, name), (next_start, _, other) in pairwise(held):
        if next_start < end:
            whose = f"VMs {name} and {other} share" if name != other else f"VM {name} has twice"
            return f"{whose} the host's memory at {max(start, next_start):#x}"
    return None


# -- 3: commands ------------------------------------------------------------------------------------------------------


def _commands(world: World, vm: Vm, smmu: str, steps: list[str]) -> str | None:
    """Every opcode, with every other bit 0 and 1: refused, or with the VM's own VMID or StreamID.

    vDEVICEs come into being at the guest's first entry; those to come are taken as planned.
    """
    own = {sid for f in world.layout.assigned(vm.layout.name) if f.smmu == smmu for sid in f.streams}
    vsmmus = [v for v in vm.vsmmus.values() if v.viommu is not None and v.viommu.smmu.name == smmu]
    for vsmmu in vsmmus:
        table = {behind.vsid: behind.device.sid for behind in vsmmu.behind.values()}
        vmid = 0
        if vsmmu.viommu is not None:
            vmid = vsmmu.viommu.vmid
            table |= {vdevice.vsid: vdevice.device.sid for vdevice in vsmmu.viommu.vdevices.values()}
        for opcode in range(256):
            if (why := _command(opcode, vmid, table, own)) is not None:
                return why
    if vsmmus:
        steps.append("commands: 256 opcodes; what passes carries the VM's VMID or one of its own StreamIDs")
    elif vm.layout.mode is not Mode.ACCEL:
        steps.append("commands: none, the VM has no accelerated vSMMU")
    return None


def _command(opcode: int, vmid: int, table: dict[int, int], own: set[int]) -> str | None:
    for rest in (0, _ONES):
        for vsid in {0, 0xFFFF_FFFF, *table} if opcode in STREAM else {0}:
            record = StreamCommand.of_words((rest, rest)).replace(Opcode=opcode)
            if opcode in STREAM:
                record = record.replace(StreamID=vsid)
            low, high = record.words
            try:
                passed = command.decode(*convert((low, high), vmid, table.get))
            except KernelError:
                continue
            if isinstance(passed, Tlbi) and vmid != passed.VMID:
                return f"opcode {opcode:#x} goes out with VMID {passed.VMID}"
            if isinstance(passed, StreamCommand) and passed.StreamID not in own:
                return f"opcode {opcode:#x} goes out with StreamID {passed.StreamID:#x}, which is not the VM's"
            if passed.Opcode in (Op.TLBI_NSNH_ALL, Op.TLBI_S12_VMALL, Op.TLBI_S2_IPA, Op.CFGI_STE, Op.CFGI_STE_RANGE):
                return f"opcode {passed.Opcode:#x} passes to the hardware"
    return None


# -- 4: identities ----------------------------------------------------------------------------------------------------


def _identities(world: World, vm: Vm, parents: list[Parent], smmu: str, steps: list[str]) -> str | None:
    """A StreamID is one function's, a VMID one VM's, and each of the VM's streams walks the VM's own stage 2."""
    owners: dict[int, str] = {}
    for function in world.layout.functions:
        if function.smmu != smmu:
            continue
        for sid in function.streams:
            if sid in owners:
                return f"StreamID {sid:#x} of {smmu} belongs to {owners[sid]} and to {function.address}"
            owners[sid] = function.address
    vmids = {parent.vmid for parent in parents if parent.contexts is None}
    roots = {parent.table.root for parent in parents}
    contexts = {parent.contexts.base for parent in parents if parent.contexts is not None}
    for other in world.vms.values():
        if other is not vm and (taken := vmids & {p.vmid for p in other.iommufd.parents if p.smmu.name == smmu and p.contexts is None}):
            return f"VM {other.layout.name} has VMID {min(taken)} of {smmu} too"
    for function in world.layout.assigned(vm.layout.name):
        device = world.devices.get(function.address)
        if device is None or function.smmu != smmu:
            continue
        ste = device.installed
        if ste.Config == StreamConfig.STAGE1 and ste.S1ContextPtr not in contexts:
            return f"the entry of {function.address} has a stage 1 at {ste.S1ContextPtr:#x} that is not the VM's"
        if ste.Config in (StreamConfig.STAGE2, StreamConfig.NESTED) and (ste.S2VMID not in vmids or ste.S2TTB not in roots):
            return f"the entry of {function.address} has VMID {ste.S2VMID} and stage 2 at {ste.S2TTB:#x}, which are not the VM's"
    own = f", VMID {', '.join(map(str, sorted(vmids)))} this VM's alone" if vmids else ""
    steps.append(f"identities: {plural(len(owners), 'StreamID')} of {smmu} with one owner each{own}")
    return None
