"""Worlds that are broken in the hardware alone: registers, structures, tables and caches are written, and the plan's own record stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.dryrun.plans import NIC, NVME, VF, plan, two_vms, vm
from tests.tools.hosts import host
from wizard.arch.cd import CD, L1CD
from wizard.arch.descriptor import Stage1Leaf, Stage2Leaf, TableDescriptor
from wizard.arch.idr import IDR0, IDR1, IDR3, IDR5
from wizard.arch.registers import GBPA, QueueBase, StrtabBaseCfg
from wizard.arch.ste import L1STD, StreamConfig
from wizard.dryrun import lay_out
from wizard.dryrun.layout import GUEST_RAM
from wizard.dryrun.world import World
from wizard.nesting import Parent, Vdevice
from wizard.plan.request import Mode
from wizard.smmu import Smmu, Transaction
from wizard.smmu.tables import ContextTable, PageTable, StreamTable, bypass_entry, write_record
from wizard.smmu.walk import swapped

SMMU = "smmu3.0x000000000c000000"
OWN, THEIRS, NOBODYS = 0x1400, 0x1180, 0x1FF0
FAR = 0x20_0000_0000
"""Guest physical address that nothing is mapped at."""


def accel() -> World:
    """VM ``web`` with the NVMe (StreamID 0x1400) and VM ``db`` with a VF (0x1180), both behind one SMMU."""
    return World(lay_out(two_vms(), host()))


def plain() -> World:
    """The same two without vSMMUs: the host's own stage 1, a context descriptor for each VM."""
    return World(lay_out(plan(vm("web", NVME, mode=Mode.NONE), vm("db", VF, mode=Mode.NONE)), host()))


def with_ids(build: Callable[[], World], **fields: int) -> Callable[[], World]:
    """The same on an SMMU with other ID registers: fields by ``IDR0_VMID16`` and the like."""

    def built() -> World:
        layout = build().layout
        changed = {}
        for name, register in (("idr0", IDR0), ("idr1", IDR1), ("idr3", IDR3), ("idr5", IDR5)):
            mine = {field.split("_", 1)[1]: value for field, value in fields.items() if field.lower().startswith(name)}
            changed[name] = register(getattr(layout.smmu(SMMU).ids, name)).replace(**mine).value
        smmus = tuple(replace(found, ids=replace(found.ids, **changed)) if found.name == SMMU else found for found in layout.smmus)
        return World(replace(layout, smmus=smmus))

    built.__name__ = f"{build.__name__} {' '.join(f'{name}={value}' for name, value in fields.items())}"
    return built


def mapped_bars() -> World:
    """QEMU maps the BARs of its functions into the VM; ``web`` has two functions and 2 MiB more memory than a whole run of blocks."""
    layout = lay_out(plan(vm("web", NVME, NIC, memory=(1 << 30) + (2 << 20)), vm("db", VF)), host())
    return World(replace(layout, vms=tuple(replace(found, peer_to_peer=True) for found in layout.vms)))


def parent(world: World, name: str = "web") -> Parent:
    return next(found for found in world.vms[name].iommufd.parents if found.smmu.name == SMMU)


def smmu(world: World) -> Smmu:
    return world.smmus[SMMU].smmu


def memory_of(world: World, name: str) -> int:
    """A page of a VM's memory, by the host's address."""
    return world.layout.vm(name).chunks[-1].pa


def reprogram(world: World, **registers: int) -> None:
    """Write registers as a driver does: everything off, then on as it was."""
    device = smmu(world)
    enabled = device.read("CR0")
    device.write("CR0", 0)
    for name, value in registers.items():
        device.write(name, value)
    device.write("CR0", enabled)


def lands(world: World, sid: int, iova: int) -> int | None:
    """Where a write ends, by an SMMU without caches that reads the same registers and memory."""
    fresh = Smmu(world.layout.smmu(SMMU).ids, world.memory, tlb=False, configuration_cache=False)
    for name in ("GBPA", "CR2", "STRTAB_BASE", "STRTAB_BASE_CFG", "CR0"):
        fresh.write(name, smmu(world).read(name) | (GBPA.build(Update=1).value if name == "GBPA" else 0))
    return fresh.translate(Transaction(sid, iova, write=True)).pa


def cd_of(world: World, name: str = "web") -> tuple[int, CD]:
    """Where the host's context descriptor of a VM is, and what it says."""
    contexts = parent(world, name).contexts
    assert contexts is not None
    return contexts.base, CD.of_words(world.memory.read_words(contexts.base, 8) or ())


def rewrite_cd(world: World, **fields: int) -> None:
    where, cd = cd_of(world)
    write_record(world.memory, where, cd.replace(**fields))


def leaf_of(world: World, ipa: int, name: str = "web") -> tuple[int, int]:
    """Where the stage 2 (or host's stage 1) leaf of an address is, and its word."""
    where = parent(world, name).table.entry_address(ipa)
    assert where is not None
    return where, world.memory.read(where) or 0


# -- registers and structures -----------------------------------------------------------------------------------------


def smmu_off(world: World) -> None:
    smmu(world).write("CR0", 0xC)


def commands_off(world: World) -> None:
    smmu(world).write("CR0", 0x5)


def another_stream_table(world: World) -> None:
    table = StreamTable(world.memory, world.space, log2size=16, split=8)
    for sid in (OWN, THEIRS):
        table.set(sid, world.smmus[SMMU].entry_of(sid))
    reprogram(world, STRTAB_BASE=table.base, STRTAB_BASE_CFG=table.config)


def a_linear_view_of_it(world: World) -> None:
    reprogram(world, STRTAB_BASE_CFG=StrtabBaseCfg.build(LOG2SIZE=16).value)


def another_split(world: World) -> None:
    reprogram(world, STRTAB_BASE_CFG=StrtabBaseCfg.build(LOG2SIZE=16, FMT=1, SPLIT=6).value)


def stream_table_in_guest(world: World) -> None:
    reprogram(world, STRTAB_BASE=memory_of(world, "db"))


def second_level_in_guest(world: World) -> None:
    """Nothing in it today."""
    world.memory.write(smmu(world).read("STRTAB_BASE") + 8 * 0x55, L1STD.build(Span=9, L2Ptr=memory_of(world, "db")).value)


def command_queue_in_guest(world: World) -> None:
    reprogram(world, CMDQ_BASE=QueueBase.build(ADDR=memory_of(world, "db"), LOG2SIZE=8).value)


def event_queue_in_a_bar(world: World) -> None:
    bar = next(f for f in world.layout.functions if f.address == VF).bars[0]
    reprogram(world, EVENTQ_BASE=QueueBase.build(ADDR=bar.pa, LOG2SIZE=0).value)


def event_queue_that_ends_in_guest(world: World) -> None:
    """It begins below the VM's memory, and its size is what reaches there; hardware aligns it to its size."""
    lowest = min(chunk.pa for vm in world.layout.vms for chunk in vm.chunks)
    assert lowest == 0x1_0000_0000
    reprogram(world, EVENTQ_BASE=QueueBase.build(ADDR=lowest + 0x2_0000, LOG2SIZE=15).value)


def event_queue_beyond_oas(world: World) -> None:
    """Address bits above OAS do not count (IHI 0070 3.4.3)."""
    reprogram(world, EVENTQ_BASE=QueueBase.build(ADDR=1 << 50 | memory_of(world, "web"), LOG2SIZE=4).value)


def event_queue_over_the_stream_table(world: World) -> None:
    """What a guest's faults are recorded in becomes entries: InputAddr is the guest's to choose (IHI 0070 7.3)."""
    reprogram(world, EVENTQ_BASE=QueueBase.build(ADDR=smmu(world).read("STRTAB_BASE"), LOG2SIZE=4).value)


def event_queue_over_a_table(world: World) -> None:
    reprogram(world, EVENTQ_BASE=QueueBase.build(ADDR=parent(world).table.root, LOG2SIZE=4).value)


def message_into_a_table(world: World) -> None:
    smmu(world).write("EVENTQ_IRQ_CFG0", parent(world).table.root + 0x20)


def event_queue_over_descriptors(world: World) -> None:
    reprogram(world, EVENTQ_BASE=QueueBase.build(ADDR=cd_of(world)[0] & -0x200, LOG2SIZE=4).value)


def queues_in_one_place(world: World) -> None:
    where = world.space.take(0x1000)
    reprogram(world, EVENTQ_BASE=QueueBase.build(ADDR=where, LOG2SIZE=4).value, CMDQ_BASE=QueueBase.build(ADDR=where, LOG2SIZE=5).value)


def commands_stopped(world: World) -> None:
    """A command that is none stands first in the queue, and nobody acknowledges the error: what is behind it waits (IHI 0070 7.1)."""
    where = world.space.take(0x1000)
    reprogram(world, CMDQ_BASE=QueueBase.build(ADDR=where, LOG2SIZE=4).value)
    world.memory.write(where, 0xFF)
    smmu(world).write("CMDQ_PROD", 2)
    assert smmu(world).active("CMDQ_ERR")


# -- stream table entries ---------------------------------------------------------------------------------------------


def bypass_of_nobody(world: World) -> None:
    world.smmus[SMMU].streams.set(NOBODYS, bypass_entry())


def second_way_into_stage_2(world: World) -> None:
    world.smmus[SMMU].streams.set(NOBODYS, parent(world, "db").entry)


def nested_of_nobody(world: World) -> None:
    world.smmus[SMMU].streams.set(NOBODYS, parent(world).entry.replace(Config=StreamConfig.NESTED, S1ContextPtr=GUEST_RAM))


def beyond_the_kernels_split(world: World) -> None:
    """A level 2 array that no function has, of fewer entries than SPLIT would have, in the host's own memory."""
    array = world.space.take(0x1000)
    world.memory.write(smmu(world).read("STRTAB_BASE") + 8 * 0x77, L1STD.build(Span=3, L2Ptr=array).value)
    write_record(world.memory, array + 3 * 64, bypass_entry())


def a_shared_second_level(world: World) -> None:
    """The descriptor of other StreamIDs leads to the array that the VM's entries are in."""
    base = smmu(world).read("STRTAB_BASE")
    world.memory.write(base + 8 * 0x60, world.memory.read(base + 8 * (OWN >> 8)) or 0)


def own_bypass(world: World) -> None:
    world.smmus[SMMU].streams.set(OWN, bypass_entry())


def their_stage_2(world: World) -> None:
    world.smmus[SMMU].streams.set(OWN, parent(world, "db").entry)


def their_tables_own_vmid(world: World) -> None:
    world.smmus[SMMU].streams.set(OWN, parent(world).entry.replace(S2TTB=parent(world, "db").entry.S2TTB))


def repeated_entry(world: World) -> None:
    """STE.CONT: hardware may take the entry for its neighbours' too."""
    world.smmus[SMMU].streams.set(OWN, parent(world).entry.replace(CONT=3))


# -- stage 2 ----------------------------------------------------------------------------------------------------------


def their_page(world: World) -> None:
    parent(world).table.map(FAR, memory_of(world, "db"), 4096)


def table_in_guest(world: World) -> None:
    where, word = world.memory.read, parent(world).table.root
    index = next(at for at in range(16, 512) if not where(word + 8 * at))
    world.memory.write(word + 8 * index, memory_of(world, "web") | 3)


def big_endian_stage_2(world: World) -> None:
    """Read the other way round the same words lead elsewhere: one descriptor of a block of the other VM's memory."""
    word = Stage2Leaf.build(Type=1, S2AP=3, AF=1, SH=3, MemAttr=15).value | memory_of(world, "db") & -(1 << 30)
    table = world.space.take(0x2000)
    world.memory.write(table + 8, swapped(word))
    web = parent(world)
    web.entry = web.entry.replace(S2TTB=table, S2ENDI=1, S2SL0=1, S2T0SZ=25)
    world.smmus[SMMU].streams.set(OWN, web.entry)


def contiguous_out_of_memory(world: World) -> None:
    """The VM's last 2 MiB say that they belong to a run of 32 MiB."""
    end = max(chunk.pa + chunk.size for chunk in world.layout.vm("web").chunks)
    pa = end - (2 << 20)
    parent(world).table.map(FAR + (pa & 0x1FF_FFFF), pa, 2 << 20, level=2, contiguous=True)


def contiguous_out_of_a_bar(world: World) -> None:
    """A page of a BAR of 16 KiB says that it belongs to a run of 64 KiB."""
    bar = next(bar for f in world.layout.functions if f.vm == "web" for bar in f.bars if bar.size < 0x1_0000)
    parent(world).table.map(FAR + (bar.pa & 0xFFFF), bar.pa, 4096, contiguous=True)


def contiguous_elsewhere(world: World) -> None:
    """The VM's own memory, mapped at another place in its run than its address has."""
    pa = memory_of(world, "web")
    parent(world).table.map(FAR, pa + 0x8000, 4096, contiguous=True)


def looped_tables(world: World) -> None:
    """Every descriptor of the start level leads to one table, and every one of that to itself: bounded, and refused."""
    table = world.space.take(0x1000)
    loop = TableDescriptor.build(Type=3).value | table
    for at in range(512):
        world.memory.write(table + 8 * at, loop)
    root = parent(world).table.root
    for at in range(16, 32):
        world.memory.write(root + 8 * at, loop)


# -- the host's own stage 1 -------------------------------------------------------------------------------------------


def their_table_by_descriptor(world: World) -> None:
    rewrite_cd(world, TTB0=parent(world, "db").table.root)


def an_upper_half(world: World) -> None:
    """TTB1, which the kernel keeps off, with a table of another VM's."""
    upper = PageTable(world.memory, world.space, stage=1, input_bits=39, upper=True)
    upper.map(-(1 << 39) & (1 << 64) - 1, memory_of(world, "db") & -4096, 4096)
    rewrite_cd(world, **upper.cd_fields())


def shared_asid(world: World) -> None:
    rewrite_cd(world, ASID=cd_of(world, "db")[1].ASID)


def big_endian_stage_1(world: World) -> None:
    word = Stage1Leaf.build(Type=1, AP=1, AF=1, nG=1, SH=3).value | memory_of(world, "db") & -(1 << 30)
    table = world.space.take(0x1000)
    world.memory.write(table + 8, swapped(word))
    rewrite_cd(world, TTB0=table, T0SZ=25, ENDI=1)


def global_leaf(world: World) -> None:
    where, word = leaf_of(world, GUEST_RAM)
    world.memory.write(where, Stage1Leaf(word).replace(nG=0).value)


def descriptor_in_guest(world: World) -> None:
    inside = memory_of(world, "web")
    write_record(world.memory, inside, cd_of(world)[1])
    world.smmus[SMMU].streams.set(OWN, parent(world).entry.replace(S1ContextPtr=inside))


def descriptor_in_guest_as_recorded(world: World) -> None:
    """The kernel's own record says so too."""
    inside = memory_of(world, "web")
    write_record(world.memory, inside, cd_of(world)[1])
    web = parent(world)
    web.entry = web.entry.replace(S1ContextPtr=inside)
    device = world.devices[NVME]
    world.smmus[SMMU].install(device, web.entry)


def stage_1_table_in_guest(world: World) -> None:
    inside = memory_of(world, "web")
    world.memory.write(inside, 0)
    rewrite_cd(world, TTB0=inside)


def no_stage_1_without_pasid(world: World) -> None:
    """S1DSS 1: transactions without a PASID pass by stage 1; the kernel's own record says so too."""
    web = parent(world)
    web.entry = web.entry.replace(S1CDMax=1, S1DSS=1)
    world.smmus[SMMU].install(world.devices[NVME], web.entry)


def another_substream(world: World) -> None:
    """A two-level table of context descriptors, in which one of a PASID leads to the other VM's table."""
    contexts = ContextTable(world.memory, world.space, cdmax=8, two_level=True)
    contexts.set(0, cd_of(world)[1])
    contexts.set(0x43, cd_of(world)[1].replace(TTB0=parent(world, "db").table.root))
    web = parent(world)
    web.entry = web.entry.replace(S1DSS=2, **contexts.fields)
    world.smmus[SMMU].install(world.devices[NVME], web.entry)


def second_level_of_descriptors_in_guest(world: World) -> None:
    contexts = ContextTable(world.memory, world.space, cdmax=8, two_level=True)
    contexts.set(0, cd_of(world)[1])
    world.memory.write(contexts.base + 8, L1CD.build(V=1, L2Ptr=memory_of(world, "web")).value)
    web = parent(world)
    web.entry = web.entry.replace(S1DSS=2, **contexts.fields)
    world.smmus[SMMU].install(world.devices[NVME], web.entry)


def wildcard(world: World) -> None:
    """CR0.VMW 2: an invalidation with VMID 1 works on VMIDs 0 to 3."""
    smmu(world).write("CR0", 0)
    smmu(world).write("CR0", 0xD | 2 << 6)


def message_in_guest(world: World) -> None:
    smmu(world).write("EVENTQ_IRQ_CFG0", memory_of(world, "db"))


# -- identities and vIOMMUs -------------------------------------------------------------------------------------------


def viommu_on_their_parent(world: World) -> None:
    viommu = world.vms["web"].vsmmus["smmuv3.1"].viommu
    assert viommu is not None
    viommu.parent = parent(world, "db")


def their_vmid(world: World) -> None:
    """The other VM's entry and parent with this one's VMID."""
    db = parent(world, "db")
    db.entry = db.entry.replace(S2VMID=parent(world).vmid)
    world.smmus[SMMU].install(world.devices[VF], db.entry)


def vmid_that_wraps(world: World) -> None:
    """With 8 bits of VMID hardware sees 0x101 as 1."""
    parent(world, "db").vmid = 0x100 | parent(world).vmid


def commands_of_another_vmid(world: World) -> None:
    parent(world).vmid = 7


def their_vdevice(world: World) -> None:
    viommu = world.vms["web"].vsmmus["smmuv3.1"].viommu
    assert viommu is not None
    viommu.vdevices[0x900] = Vdevice(viommu, world.devices[VF], 0x900)
