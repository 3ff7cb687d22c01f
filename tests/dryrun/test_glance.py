"""Whole tables settled by what their descriptors have in common, against the same tables leaf by leaf."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest

from wizard.dryrun import tables
from wizard.dryrun.tables import Grant, Interval, Walked, check_tables
from wizard.smmu import Memory
from wizard.smmu.tables import Allocator, PageTable

OWN = 0x2_0000_0000


def test_tables_settled_at_a_glance_are_those_whose_leaves_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random tables both ways: by what the descriptors of each have in common, and leaf by leaf."""
    rng, strays = Random(8), 0
    settled = tables._Look._settled
    counted: list[int] = []

    def counting(*arguments: Any) -> Any:
        found = settled(*arguments)
        counted.append(int(found.sum()))
        return found

    def nothing(look: Any, memory: Memory, some: Any, level: Any, words: int) -> Any:
        return np.zeros(some.size, np.bool_)

    for _ in range(150):
        granule, wide = rng.choice([(12, False), (12, False), (14, False), (16, False), (16, True)])
        memory = Memory()
        table = PageTable(memory, Allocator(0x4000_0000, 0x6000_0000), stage=2, granule=granule, input_bits=44, wide=wide)
        entries = 1 << granule - 3
        for number in range(rng.randrange(1, 4)):
            iova = 0x4000_0000 + (number * entries << granule)
            table.map(iova, OWN, entries << granule, level=3)
            base = (table.entry_address(iova) or 0) & -(1 << granule)
            word = memory.read(base) or 0
            first = OWN + (rng.choice([number, 0]) * entries << granule)
            order = rng.sample(range(entries), entries) if rng.randrange(2) else range(entries)
            memory.write_words(base, [word - OWN + first + (frame << granule) for frame in order])
            if rng.randrange(2):
                where = base + 8 * rng.randrange(entries)
                memory.write(where, rng.choice([0, (memory.read(where) or 0) ^ 1 << rng.choice([0, 1, 11, 13, 20, 22, 35, 44, 52])]))
        own = [Interval(OWN, OWN + (rng.choice([1, 2, 3]) * entries << granule))]
        if rng.randrange(2):
            hole = OWN + (rng.randrange(3 * entries) << granule) + rng.choice([0, 0x800])
            own = [Interval(OWN, hole), Interval(hole + (1 << granule), OWN + (3 * entries << granule))]
        others = (Interval(OWN + (1 << 35), OWN + (1 << 36)),) if rng.randrange(2) else ()
        grant, tagged, ways = Grant(tuple(own), others), bool(rng.randrange(4) == 0), []
        for way in (counting, nothing):
            monkeypatch.setattr(tables._Look, "_settled", way)
            walked = Walked()
            ways.append((check_tables(memory, table, grant, walked, tagged=tagged), walked))
        assert ways[0] == ways[1]
        strays += ways[0][0] is not None
    assert sum(count > 0 for count in counted) > 40
    assert 40 < strays < 140
