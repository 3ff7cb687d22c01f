"""Translations on the simulated SMMU: against a plain walk in numpy, and against the build before (sources: design-figures), in turn within one run.

    python -m benchmarks.translate [--json] [--repeat N] [--before COMMIT]

| what                                                                                   | goal                                            |
|----------------------------------------------------------------------------------------|-------------------------------------------------|
| arrays, stage 1, 4 levels: random, dense, 10 % unmapped                                | 1 time a plain chunked numpy walk               |
| arrays, nested, 4 levels each: the same                                                | 1.6 times the same plain walk                   |
| one at a time, TLB off: stage 1, nested, and nested without a configuration cache      | 3.5, 2.8 and 3 times the build before,          |
|                                                                                        | 10 times with the compiled walk                 |
| the whole map of a 64 GiB guest's stage 2 in 4 KiB pages                               | 20 times numpy.bitwise_or.reduce                |

The plain walk is what one writes by hand: one array of words, no checks, 65,536 addresses a chunk; it walks the addresses in the order that the
row has. The map is what an isolation proof reads. ``now`` is Python's form; the
walk is compiled in a temporary folder, where Cython and a C compiler are. One at a time addresses are random over 1 GiB; in the last row over
64 GiB, where little of what is remembered (``wizard.smmu.learn``) is in a processor's caches. Each figure is processor time, the best of the
repetitions; nothing here is asserted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.before import BEFORE, PROJECT, Side, fastest, serve, sides
from wizard.smmu import Ids, Memory, Smmu, Transaction
from wizard.smmu.arrays import Snapshot, stage2_map, translate
from wizard.smmu.arrays.snapshot import U64
from wizard.smmu.context import Context
from wizard.smmu.memory import PAGE_SHIFT
from wizard.smmu.tables import (
    Allocator,
    ContextTable,
    GuestView,
    PageTable,
    StreamTable,
    context_descriptor,
    nested_entry,
    stage1_entry,
    stage2_entry,
)

IDS = Ids(idr5=0x75)
COUNT = 1 << 20
CHUNK = 1 << 16
IOVA, PAGES, TARGET = 0x1234_4000_0000, 1 << 18, 0x8000_0000
TABLES = 0x4000_0000


def stage1(holes: Iterable[int] = ()) -> tuple[Smmu, Context, PageTable]:
    """1 GiB in 4 KiB pages, 48-bit input; ``holes`` are pages that are not mapped."""
    memory, space = Memory(), Allocator(TABLES, TABLES + (256 << 20))
    table = PageTable(memory, space, stage=1)
    table.map(IOVA, TARGET, PAGES << 12, level=3)
    for page in holes:
        table.unmap(IOVA + (page << 12), 0x1000)
    contexts, streams = ContextTable(memory, space), StreamTable(memory, space, log2size=1)
    contexts.set(0, context_descriptor(table, asid=1))
    streams.set(0, stage1_entry(contexts))
    return *started(memory, streams), table


def nested(holes: Iterable[int] = (), *, cached: bool = True) -> tuple[Smmu, Context]:
    """The same in a guest, whose memory and tables are 4 KiB pages of a 48-bit stage 2."""
    memory, host = Memory(), Allocator(TABLES, TABLES + (256 << 20))
    second = PageTable(memory, host, stage=2, input_bits=48, start=0)
    second.map(0x4000_0000, 0x1_0000_0000, 2 << 30, level=3)
    guest, space = GuestView(memory, second.lookup), Allocator(0x4000_0000, 0x4800_0000)
    table = PageTable(guest, space, stage=1)
    table.map(IOVA, 0x5000_0000, PAGES << 12, level=3)
    for page in holes:
        table.unmap(IOVA + (page << 12), 0x1000)
    contexts, streams = ContextTable(guest, space), StreamTable(memory, host, log2size=1)
    contexts.set(0, context_descriptor(table, asid=1))
    streams.set(0, nested_entry(contexts, second, vmid=1))
    return started(memory, streams, cached=cached)


def guest_of_64_gib() -> tuple[Smmu, Context]:
    """Stage 2 of 64 GiB in 4 KiB pages: 32,768 last-level tables, filled with numpy since it would take a minute otherwise."""
    memory, host = Memory(), Allocator(TABLES, TABLES + (1 << 30))
    table = PageTable(memory, host, stage=2, input_bits=40)
    table.map(0x4000_0000, 0x1_0000_0000, 0x1000, level=3)
    leaf = memory.read(table.entry_address(0x4000_0000) or 0) or 0
    table.unmap(0x4000_0000, 0x1000)
    for gib in range(64):
        base = 0x4000_0000 + (gib << 30)
        for block in range(512):
            iova = base + (block << 21)
            table.map(iova, 0x1_0000_0000 + iova - 0x4000_0000, 0x1000, level=3)
            words = np.uint64(leaf) + np.uint64(iova - 0x4000_0000) + np.arange(512, dtype=np.uint64) * np.uint64(4096)
            memory.pages[(table.entry_address(iova) or 0) >> PAGE_SHIFT] = array("Q", words.tobytes())
    streams = StreamTable(memory, host, log2size=1)
    streams.set(0, stage2_entry(table, vmid=1))
    return started(memory, streams)


def started(memory: Memory, streams: StreamTable, *, cached: bool = True) -> tuple[Smmu, Context]:
    """An SMMU that is on, its TLB off, and the context of StreamID 0."""
    smmu = Smmu(IDS, memory, tlb=False, configuration_cache=cached)
    smmu.write("STRTAB_BASE", streams.base)
    smmu.write("STRTAB_BASE_CFG", streams.config)
    smmu.write("CR0", 0xD)
    return smmu, smmu.configuration.context(0, None, None)


def flat(memory: Memory) -> U64:
    """The tables' region as one array: what the plain walk indexes."""
    last = max(memory.pages) + 1
    words = np.zeros((last - (TABLES >> PAGE_SHIFT)) * 512, np.uint64)
    for number, page in memory.pages.items():
        at = (number - (TABLES >> PAGE_SHIFT)) * 512
        words[at : at + 512] = page
    return words


def plain(words: U64, root: int, addresses: U64) -> U64:
    """A four-level walk as one writes it by hand."""
    mask, low = np.uint64((1 << 48) - 4096), np.uint64(TABLES >> 3)
    parts = []
    for begin in range(0, addresses.size, CHUNK):
        chunk = addresses[begin : begin + CHUNK]
        base: U64 | np.uint64 = np.uint64(root)
        for shift in (39, 30, 21, 12):
            index = (base >> np.uint64(3)) + ((chunk >> np.uint64(shift)) & np.uint64(511)) - low
            base = words[index.view(np.int64)] & mask
        parts.append(base | chunk & np.uint64(4095))
    return np.concatenate(parts)


ORDERS = ("random", "dense", "10 % unmapped")
SINGLE = {
    "stage 1": (8000, 8, 3.5, 10.0), "nested": (8000, 4, 2.8, 10.0), "nested, without caches": (8000, 2, 3.0, 10.0),
    "stage 2, over 64 GiB": (8000, 1, 1.0, 1.0),
}  # fmt: skip
"""One at a time: how many, and how often in a run, since in few ms a processor's caches are hardly filled again after the other builds; the goals in
Python and compiled, in times the build before."""


def one_by_one(smmu: Smmu, transactions: list[Transaction], passes: int) -> None:
    """Translate them, again and again."""
    for _ in range(passes):
        [smmu.translate(one) for one in transactions]


def actions() -> dict[str, Callable[[], object]]:
    """Everything that is measured, once each."""
    rng = np.random.default_rng(1)
    random = np.uint64(IOVA) + rng.integers(0, PAGES << 12, COUNT, dtype=np.uint64)
    dense = np.uint64(IOVA) + np.arange(COUNT, dtype=np.uint64) * np.uint64((PAGES << 12) // COUNT)
    holes = rng.permutation(PAGES)[: PAGES // 10].tolist()
    (one, context, table), (guest, inner) = stage1(), nested()
    (pierced, context2, _), (guest2, inner2) = stage1(holes), nested(holes)
    words, features = flat(one.memory), one.features
    if not bool((translate(Snapshot(one.memory), context, features, random).pa == plain(words, table.root, random)).all()):
        raise AssertionError("the plain walk and the arrays differ")
    if not bool((translate(Snapshot(guest.memory), inner, features, random).kind == 0).all()):
        raise AssertionError("the nested guest faults")
    found: dict[str, Callable[[], object]] = {
        "plain, random": lambda: plain(words, table.root, random), "plain, dense": lambda: plain(words, table.root, dense),
    }  # fmt: skip
    for stages, smmu, of, broken, of_broken in (("stage 1", one, context, pierced, context2), ("nested", guest, inner, guest2, inner2)):
        whole, part = Snapshot(smmu.memory), Snapshot(broken.memory)
        found[f"{stages}, random"] = lambda w=whole, c=of: translate(w, c, features, random)  # type: ignore[misc]
        found[f"{stages}, dense"] = lambda w=whole, c=of: translate(w, c, features, dense)  # type: ignore[misc]
        found[f"{stages}, 10 % unmapped"] = lambda w=part, c=of_broken: translate(w, c, features, random)  # type: ignore[misc]
    singles = {"stage 1": one, "nested": guest, "nested, without caches": nested(cached=False)[0]}
    large, stage2 = guest_of_64_gib()
    for name, (count, passes, *_) in SINGLE.items():
        if name in singles:
            some = [Transaction(0, int(address), True) for address in random[:count]]
            found[f"single, {name}"] = lambda s=singles[name], t=some, p=passes: one_by_one(s, t, p)  # type: ignore[misc]
        else:  # others each time, in all of the guest's memory
            wide = rng.integers(0x4000_0000, 0x4000_0000 + (64 << 30), 10 * count, dtype=np.uint64)
            sets = itertools.cycle([[Transaction(0, int(address), True) for address in part] for part in wide.reshape(10, count)])
            found[f"single, {name}"] = lambda t=sets: [large.translate(one) for one in next(t)]  # type: ignore[misc]
    if stage2.stage2 is None:
        raise AssertionError("no stage 2")
    regime, tables = stage2.stage2, Snapshot(large.memory)
    if [row[1] for row in stage2_map(tables, regime).rows()] != [64 << 30]:
        raise AssertionError("the guest's memory is not one range")
    return found | {"reduce": lambda: np.bitwise_or.reduce(tables.words), "map": lambda: stage2_map(tables, regime)}


def measure(repeat: int, commit: str) -> list[dict[str, Any]]:
    """Every row: what, the figure now and before, goal, whether it is met."""
    names = ["plain, random", "plain, dense", *(f"{stages}, {order}" for stages in ("stage 1", "nested") for order in ORDERS)]
    single = [f"single, {name}" for name in SINGLE]
    variable = "SMMU_WIZARD_COMPILED"
    os.environ[variable] = "no"
    with sides("benchmarks.translate", commit) as builds, tempfile.TemporaryDirectory() as folder:
        best = fastest(builds, [*names, "reduce", "map"], repeat)
        if compiled(Path(folder)):
            builds["compiled"] = Side(PROJECT, "benchmarks.translate", {variable: folder})
        best |= fastest(builds, single, repeat)
    rows: list[dict[str, Any]] = []
    for stages, goal in (("stage 1", 1.0), ("nested", 1.6)):
        for order in ORDERS:
            base = best["plain, dense" if order == "dense" else "plain, random"]["now"]
            times = {side: seconds / base for side, seconds in best[f"{stages}, {order}"].items()}
            rows.append(_row(f"arrays, {stages}, {order}", times, goal, "times the plain walk", times["now"] <= goal))
    for name, (count, passes, goal, goal_compiled) in SINGLE.items():
        rates = {side: count * passes / seconds for side, seconds in best[f"single, {name}"].items()}
        met = rates["now"] / rates["before"] >= goal if "before" in rates else None
        rows.append(_row(f"one at a time, {name}", rates, goal, "a second, goal in times the build before", met))
        if "compiled" in rates:
            met = rates["compiled"] / rates["before"] >= goal_compiled if "before" in rates else None
            rates["now"] = rates["compiled"]
            rows.append(_row(f"compiled, {name}", rates, goal_compiled, "a second, goal in times the build before", met))
    times = {side: seconds / best["reduce"]["now"] for side, seconds in best["map"].items()}
    rows.append(_row("map of 64 GiB in 4 KiB pages", times, 20, "times bitwise_or.reduce", times["now"] <= 20))
    return rows


def compiled(folder: Path) -> bool:
    """Compile the walk into ``folder``; says so and answers False where that can't be done."""
    from wizard.smmu.compile import CompileError, compile_into  # the build before has none

    try:
        compile_into(folder)
    except CompileError as error:
        print(f"not compiled: {error}", file=sys.stderr)
        return False
    return True


def _row(what: str, measured: dict[str, float], goal: float, unit: str, met: bool | None) -> dict[str, Any]:
    before = round(measured["before"], 2) if "before" in measured else None
    return {"what": what, "measured": round(measured["now"], 2), "before": before, "goal": goal, "unit": unit, "met": met}


def main() -> int:
    """Print the rows."""
    parser = argparse.ArgumentParser(description="translations on the simulated SMMU against a plain walk and the build before")
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--before", default=BEFORE, metavar="COMMIT", help="the build to hold it against; nothing for none")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(actions())
    rows = measure(arguments.repeat, arguments.before)
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    print(f"{'':39} {'now':>12} {'before':>12}   goal")
    for row in rows:
        before = "-" if row["before"] is None else f"{row['before']:,.2f}"
        verdict = {True: "met", False: "MISSED", None: "not asked"}[row["met"]]
        print(f"{row['what']:39} {row['measured']:>12,.2f} {before:>12}   {row['goal']:<4} {verdict:7} ({row['unit']})")
    print(f"load when it ended: {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
