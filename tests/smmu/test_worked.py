"""What one SMMU keeps between lookups and walks changes no answer: random structures through it, and through one that has kept nothing."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from tests.smmu.world import RICH, SID, VA, World, world
from wizard.arch.cd import CD
from wizard.arch.descriptor import Stage1Leaf, Stage2Leaf
from wizard.arch.ste import STE
from wizard.smmu import Smmu, Transaction, permissions, worked
from wizard.smmu.attributes import is_device
from wizard.smmu.context import LEAF1_BITS, LEAF2_BITS, MOST
from wizard.smmu.outcome import Fault
from wizard.smmu.permissions import HIERARCHICAL_BITS, STAGE1_BITS, STAGE2_BITS


def looked_up(smmu: Smmu, ssid: int | None) -> Any:
    try:
        return smmu.configuration.context(SID, ssid, None)
    except Fault as fault:
        return fault.kind, fault.reason, fault.stage2, fault.address, fault.ste


def like(w: World) -> Smmu:
    """An SMMU with the same registers and memory that has looked nothing up."""
    fresh = Smmu(RICH, w.memory, tlb=False, configuration_cache=False)
    for name in ("STRTAB_BASE", "STRTAB_BASE_CFG", "CR2", "CR0"):
        fresh.write(name, w.smmu.read(name))
    return fresh


def place(w: World) -> tuple[list[int], list[int]]:
    """The words of the stream's entry and of its context descriptor."""
    base = w.smmu.registers.strtab_base.ADDR + (SID >> 8) * 8
    entry = ((w.memory.read(base) or 0) & ((1 << 52) - 1) & ~63) + (SID & 0xFF) * 64
    ste = STE.of_words(w.memory.read_words(entry, 8) or ())
    where = ste.S1ContextPtr
    assert w.second is not None
    descriptor = w.second.lookup(where)
    assert descriptor is not None
    return [entry + 8 * index for index in range(8)], [descriptor + 8 * index for index in range(8)]


def test_structures_that_changed_in_memory_are_other_structures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worked, "MOST", 32)
    rng, kinds = Random(5), set()
    w = world("nested", cdmax=4, tlb=False)
    w.smmu.configuration.cache = None
    entry, descriptor = place(w)
    fields = [(entry, f) for name, f in STE.layout.items() if name not in ("S1ContextPtr", "S2TTB")] + [(descriptor, f) for f in CD.layout.values()]
    for _ in range(500):
        before = {at: w.memory.read(at) or 0 for at in (*entry, *descriptor)}
        for _ in range(rng.choice([0, 1, 1, 2])):
            words, field = rng.choice(fields)
            at = words[field.lo >> 6]
            held = (w.memory.read(at) or 0) & ~(field.mask << (field.lo & 63))
            w.memory.write(at, held | rng.randrange(field.mask + 1) << (field.lo & 63) & ((1 << 64) - 1))
        w.set_cr2(rng.randrange(4))
        ssid = rng.choice([None, None, 0, 1])
        found = looked_up(w.smmu, ssid)
        assert found == looked_up(like(w), ssid)
        assert found == looked_up(w.smmu, ssid)
        kinds.add(found[0] if isinstance(found, tuple) else "context")
        for at, word in before.items():
            w.memory.write(at, word)
    assert len(kinds) > 4


def test_a_walk_reads_what_memory_holds_now() -> None:
    """A stage keeps what leaves mean, never what they say."""
    rng = Random(6)
    w = world("nested", tlb=False, cd={"HA": 0, "HD": 0})
    assert w.first is not None
    assert w.second is not None
    leaf = w.second.lookup(w.first.entry_address(VA) or 0)
    assert leaf is not None
    word = w.memory.read(leaf) or 0
    for _ in range(300):
        w.memory.write(leaf, word ^ 1 << rng.choice([2, 3, 4, 6, 7, 8, 9, 10, 11, 51, 52, 53, 54]) ^ rng.getrandbits(9) << 16)
        one = Transaction(SID, VA + rng.randrange(4096), bool(rng.randrange(2)), privileged=bool(rng.randrange(2)))
        assert w.smmu.translate(one) == like(w).translate(one)


def test_what_a_stage_keeps_of_leaves_is_what_they_mean() -> None:
    rng = Random(7)
    context = world("nested").smmu.configuration.context(SID, None, None)
    assert context.stage1 is not None
    assert context.stage2 is not None
    for _ in range(60):
        flags: dict[str, Any] = {name: bool(rng.randrange(2)) for name in ("el2", "affd", "ha", "hd", "wxn", "pan", "epan")}
        one = replace(context.stage1, **flags, mair=rng.getrandbits(64))
        flags = {name: bool(rng.randrange(2)) for name in ("affd", "ha", "hd", "fwb", "xnx")}
        two = replace(context.stage2, **flags)
        for code in [rng.getrandbits(64) & (LEAF1_BITS | HIERARCHICAL_BITS) for _ in range(20)] * 2:
            allowed, clean = permissions.stage1(code & STAGE1_BITS, code & HIERARCHICAL_BITS, one.el2, one.wxn, one.pan, one.epan, one.hd)
            kept, fields = one.leaves.get(code) or one.leaf(code), Stage1Leaf(code)
            assert (kept.allowed, kept.clean, kept.globally, kept.contiguous) == (allowed, clean, not fields.nG, bool(fields.Contiguous))
            assert kept.accessed == bool(fields.AF or one.ha or one.affd)
            assert kept.stage1 == (one.mair.to_bytes(8, "little")[fields.AttrIndx], fields.SH)
        for code in [rng.getrandbits(64) & LEAF2_BITS for _ in range(20)] * 2:
            leaf, fields2 = two.leaves.get(code) or two.leaf(code), Stage2Leaf(code)
            assert (leaf.allowed, leaf.clean) == permissions.stage2(code & STAGE2_BITS, two.xnx, two.hd)
            assert leaf.accessed == bool(fields2.AF or two.ha or two.affd)
            assert (leaf.stage2, leaf.device) == ((fields2.MemAttr, fields2.SH, two.fwb), is_device(fields2.MemAttr, two.fwb))


def test_what_is_kept_is_bounded() -> None:
    context = world("1").smmu.configuration.context(SID, None, None)
    assert context.stage1 is not None
    for index in range(MOST + 10):
        context.stage1.leaf(index)
    assert 0 < len(context.stage1.leaves) <= MOST
