"""Whole arrays of addresses through one context: the same answers as ``Smmu.translate`` without caches gives one at a time."""

from __future__ import annotations

from wizard.smmu import permissions
from wizard.smmu.arrays import pages, plain
from wizard.smmu.arrays.plain import Second, Translations
from wizard.smmu.arrays.snapshot import U64, Snapshot
from wizard.smmu.context import Context
from wizard.smmu.ids import Features

FEW = 1 << 13
"""Addresses below which each is walked by itself: what regions save is then less than what they cost."""


def translate(
    snapshot: Snapshot,
    context: Context,
    features: Features,
    addresses: U64,
    *,
    write: bool = False,
    privileged: bool = False,
    instruction: bool = False,
) -> Translations:
    """Translate ``addresses`` (uint64) for accesses of one kind by a stream with ``context``. Tables are never updated."""
    privileged = privileged if context.privileged is None else context.privileged
    instruction = instruction if context.instruction is None else context.instruction
    need = permissions.NEEDED[privileged, write, instruction]
    second = Second(snapshot, context.stage2) if context.stage2 is not None else None
    way = pages.translate if addresses.size >= FEW else plain.translate
    return way(snapshot, context, features, second, addresses, need)
