"""Whole tables settled by what their descriptors have in common, against the same tables leaf by leaf."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest

from wizard.dryrun import glance, tables
from wizard.dryrun.tables import Grant, Interval, Walked, check_tables
from wizard.smmu import Memory
from wizard.smmu.tables import Allocator, PageTable

OWN = 0x2_0000_0000


def test_tables_settled_at_a_glance_are_those_whose_leaves_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random tables each way: by what the descriptors of many have in common, by that of each table, and leaf by leaf."""
    rng, strays = Random(8), 0
    together, one_by_one, settled = tables._Look._together, tables._Look._one_by_one, tables._Look._settled
    counted: dict[Any, list[int]] = {together: [], one_by_one: []}

    def counting(way: Any) -> Any:
        def count(*arguments: Any) -> Any:
            found = way(*arguments)
            counted[way].append(int(found.sum()))
            return found

        return count

    def nothing(look: Any, memory: Memory, some: Any, level: Any, words: int) -> Any:
        return np.zeros(some.size, np.bool_)

    monkeypatch.setattr(tables._Look, "_one_by_one", counting(one_by_one))
    for _ in range(200):
        monkeypatch.setattr(glance, "TOGETHER", rng.choice([1, 2, 8, 32, 128]))
        granule, wide = rng.choice([(12, False), (12, False), (14, False), (16, False), (16, True), (16, True)])
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
            # All of a table alike, and wrong: no type, contiguous, and with 64 KiB pages of 52 bits an address above.
            flipped = 1 << rng.choice([1, 13, 52]) if not rng.randrange(6) else 0
            memory.write_words(base, [word - OWN + first + (frame << granule) ^ flipped for frame in order])
            if rng.randrange(2):
                where = base + 8 * rng.randrange(entries)
                memory.write(
                    where, rng.choice([0, (memory.read(where) or 0) ^ 1 << rng.choice([0, 1, 7, 8, 11, 13, 20, 22, 35, 44, 47, 48, 52, 63])])
                )
            if not rng.randrange(12):
                memory.punch(base + rng.randrange(1 << granule))
        own = [Interval(OWN, OWN + (rng.choice([1, 2, 3]) * entries << granule))]
        if rng.randrange(2):
            hole = OWN + (rng.randrange(3 * entries) << granule) + rng.choice([0, 0x800])
            own = [Interval(OWN, hole), Interval(hole + (1 << granule), OWN + (3 * entries << granule))]
        others = (Interval(OWN + (1 << 35), OWN + (1 << 36)),) if rng.randrange(2) else ()
        grant, tagged, ways = Grant(tuple(own), others), bool(rng.randrange(4) == 0), []
        for glances, all_ways in ((counting(together), settled), (nothing, settled), (nothing, nothing)):
            monkeypatch.setattr(tables._Look, "_together", glances)
            monkeypatch.setattr(tables._Look, "_settled", all_ways)
            walked = Walked()
            ways.append((check_tables(memory, table, grant, walked, tagged=tagged), walked))
        assert ways[0] == ways[1] == ways[2]
        strays += ways[0][0] is not None
    for way, least in ((together, 25), (one_by_one, 40)):
        assert sum(count > 0 for count in counted[way]) > least
    assert 40 < strays < 190


def test_a_table_that_is_more_than_is_looked_at_together_is_seen_whole() -> None:
    """16 concatenated tables of 64 KiB at the only level (DDI 0487 D8.2.2): a wrong leaf in the second half of 1 MiB."""
    memory = Memory()
    table = PageTable(memory, Allocator(0x4000_0000, 0x6000_0000), stage=2, granule=16, input_bits=33, start=3)
    table.map(0, OWN, 1 << 33, level=3)
    where = table.root + (1 << 20) - 8
    grant, wrong = Grant((Interval(OWN, OWN + (1 << 33)),)), (memory.read(where) or 0) + (1 << 33)
    assert check_tables(memory, table, grant, Walked()) is None
    memory.write(where, wrong)
    stray = check_tables(memory, table, grant, Walked())
    assert stray is not None
    assert stray.pa == OWN + (1 << 33) + (((1 << 17) - 1) << 16)
