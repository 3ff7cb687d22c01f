"""Worlds whose caches hold what memory no longer says: beside ``worlds``, which are broken in registers and memory."""

from __future__ import annotations

from tests.dryrun.plans import NVME
from tests.dryrun.worlds import NOBODYS, OWN, SMMU, THEIRS, cd_of, leaf_of, memory_of, parent, smmu
from wizard.arch.cd import L1CD
from wizard.arch.descriptor import Stage2Leaf
from wizard.arch.ste import L1STD, STE
from wizard.dryrun.layout import GUEST_RAM
from wizard.dryrun.world import World
from wizard.smmu import AtsResponse, Transaction
from wizard.smmu.tables import ContextTable, bypass_entry, write_record


def cached_entry(world: World) -> None:
    held = smmu(world).configuration_cache
    assert held is not None
    held.stes[OWN] = bypass_entry()


def cached_entry_of_nobody(world: World) -> None:
    """It was there once, and CMD_CFGI_STE was forgotten."""
    streams = world.smmus[SMMU].streams
    streams.set(NOBODYS, bypass_entry())
    assert smmu(world).translate(Transaction(NOBODYS, memory_of(world, "db"))).pa == memory_of(world, "db")
    streams.set(NOBODYS, STE(0))


def cached_level_1(world: World) -> None:
    held = smmu(world).configuration_cache
    assert held is not None
    held.l1stds[0x77] = L1STD.build(Span=9, L2Ptr=memory_of(world, "db"))


def cached_context(world: World) -> None:
    """The configuration that was worked out of an entry which leads to other tables."""
    device = smmu(world)
    device.translate(Transaction(THEIRS, GUEST_RAM))
    assert device.configuration_cache is not None
    device.configuration_cache.contexts[OWN] = dict(device.configuration_cache.contexts[THEIRS])


def unmapped_page(world: World) -> None:
    """The host takes a page away from stage 2 without an invalidation."""
    smmu(world).translate(Transaction(OWN, GUEST_RAM))
    parent(world).table.unmap(GUEST_RAM, 4096)


def moved_page(world: World) -> None:
    smmu(world).translate(Transaction(OWN, GUEST_RAM))
    first, second = leaf_of(world, GUEST_RAM), leaf_of(world, GUEST_RAM + 4096)
    world.memory.write(first[0], second[1])
    world.memory.write(second[0], first[1])


def read_only_page(world: World) -> None:
    smmu(world).translate(Transaction(OWN, GUEST_RAM))
    where, word = leaf_of(world, GUEST_RAM)
    world.memory.write(where, Stage2Leaf(word).replace(S2AP=1).value)


def translation_of_no_vmid(world: World) -> None:
    device = smmu(world)
    device.translate(Transaction(OWN, GUEST_RAM))
    assert device.tlb is not None
    entries = [(space, entry) for space, entry in device.tlb if space[0] == "IPA"]
    device.tlb.add(("IPA", 9, entries[0][0][2]), entries[0][1])


def remembered_table(world: World) -> None:
    """A walk cache that leads to a table which is no longer the one."""
    smmu(world).translate(Transaction(OWN, GUEST_RAM))
    tlb = smmu(world).tlb
    assert tlb is not None
    tlb.entries.clear()
    root = parent(world).table.root
    index = next(at for at in range(512) if world.memory.read(root + 8 * at))
    fresh = world.space.take(0x1000)
    old = (world.memory.read(root + 8 * index) or 0) & ~0xFFF
    world.memory.write_words(fresh, world.memory.read_words(old, 512) or ())
    world.memory.write(root + 8 * index, fresh | 3)


def cached_descriptor(world: World) -> None:
    """The host's own stage 1: the descriptor changes to what is right, and the old one stays cached."""
    where, right = cd_of(world)
    write_record(world.memory, where, right.replace(TTB0=parent(world, "db").table.root))
    smmu(world).translate(Transaction(OWN, GUEST_RAM))
    write_record(world.memory, where, right)
    assert smmu(world).configuration_cache is not None


def cached_first_descriptors(world: World) -> None:
    """A level 1 context descriptor that once led to an array in the other VM's memory."""
    contexts = ContextTable(world.memory, world.space, cdmax=8, two_level=True)
    contexts.set(0, cd_of(world)[1])
    web = parent(world)
    web.entry = web.entry.replace(S1DSS=2, **contexts.fields)
    world.smmus[SMMU].install(world.devices[NVME], web.entry)
    world.memory.write(contexts.base + 8, L1CD.build(V=1, L2Ptr=memory_of(world, "db")).value)
    smmu(world).translate(Transaction(OWN, GUEST_RAM, ssid=0x40))
    world.memory.write(contexts.base + 8, 0)
    cache = smmu(world).configuration_cache
    assert cache is not None
    cache.cds.clear()


def stage_1_translation(world: World) -> None:
    smmu(world).translate(Transaction(OWN, GUEST_RAM))
    parent(world).table.unmap(GUEST_RAM, 4096)


def old_atc(world: World) -> None:
    smmu(world).endpoints.remember(OWN, None, GUEST_RAM, AtsResponse("success", memory_of(world, "db"), 12, read=True, write=True))
