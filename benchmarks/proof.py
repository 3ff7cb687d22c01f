"""The isolation proof of a 64 GiB guest in 4 KiB pages against ``numpy.bitwise_or.reduce`` over the same table bytes, and whole dry runs.

    python -m benchmarks.proof [--json] [--repeat N] [--gib N] [--large GIB] [--before COMMIT]

| what                                             | goal                                     |
|--------------------------------------------------|------------------------------------------|
| memory in one piece                              | 20 times numpy.bitwise_or.reduce         |
| memory in blocks of 2 MiB, in any order          | 20 times numpy.bitwise_or.reduce         |
| the same, every other block another VM's         | 20 times numpy.bitwise_or.reduce         |
| every page somewhere else                        | 4 times numpy.bitwise_or.reduce          |
| all of the proof, registers to caches, in pages  | 4 times numpy.bitwise_or.reduce          |
| memory that the proof takes beside the tables    | bounded, whatever the guest has          |
| a dry run of 8 VMs with 4 functions, both ways   | a third of the time of the build before  |
| the same of 1, 8 and 64 VMs with 3 functions     | grows with an exponent of 1.1 at most    |
| ``--large 2048``: a 2 TiB guest in pages         | 1.5 s, 512 MiB beside the tables         |

The dry runs (scenarios, proofs, costs) are on a recorded Kunpeng 920. Times are processor time, the best of the repetitions, both builds in
turn, but for the one by the clock: a dry run uses the processors that there are. The figures beside them are from this build alone. Nothing is
asserted. ``--large`` takes 5 GiB of memory and some minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
import tracemalloc
from array import array
from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.before import BEFORE, fastest, serve, sides
from wizard.dryrun import dry_run, lay_out
from wizard.dryrun.proof import prove
from wizard.dryrun.tables import Grant, Interval, Walked, check_tables
from wizard.dryrun.world import World
from wizard.facts.snapshot import load
from wizard.host.build import host_of
from wizard.host.model import Host
from wizard.plan.model import Plan
from wizard.plan.planner import make_plan
from wizard.plan.request import FunctionRequest, Request, VmRequest
from wizard.smmu import Memory
from wizard.smmu.memory import PAGE_SHIFT
from wizard.smmu.tables import Allocator, PageTable

RAM, BACKING = 0x4000_0000, 0x10_0000_0000
TABLES = 0x4000_0000
KINDS = {"one piece": 20, "blocks": 20, "interleaved": 20, "pages": 4}
VMS = (1, 8, 64)


def best(action: Callable[[], object], repeat: int) -> float:
    """Processor seconds of the fastest run."""
    fastest = float("inf")
    for _ in range(repeat):
        started = time.process_time()
        action()
        fastest = min(fastest, time.process_time() - started)
    return fastest


def frames(kind: str, pages: int) -> npt.NDArray[np.uint64]:
    """Which frame each page of the guest has."""
    if kind == "one piece":
        return np.arange(pages, dtype=np.uint64)
    if kind == "pages":
        return np.random.default_rng(1).permutation(pages).astype(np.uint64)
    order = np.random.default_rng(1).permutation(pages // 512).astype(np.uint64)
    order <<= np.uint64(kind == "interleaved")
    return (order[:, None] * np.uint64(512) + np.arange(512, dtype=np.uint64)).reshape(-1).astype(np.uint64, copy=False)


def guest(kind: str, gib: int) -> tuple[Memory, PageTable]:
    """Stage 2 of a guest in 4 KiB pages; the last level is filled with numpy, since it would take a minute otherwise."""
    memory = Memory()
    space = Allocator(TABLES, TABLES + (8 << 30))
    table = PageTable(memory, space, stage=2, input_bits=44)
    table.map(RAM, BACKING, 0x1000, level=3)
    leaf = np.uint64(memory.read(table.entry_address(RAM) or 0) or 0)
    table.unmap(RAM, 0x1000)
    chosen = frames(kind, gib << 18)
    # A table for each block in place of the block: mapping them one by one would take minutes.
    for number in range(gib):
        iova = RAM + (number << 30)
        if number:
            table.map(iova, BACKING, 1 << 30, level=2)
            where = table.entry_address(iova) or 0
        else:
            table.map(iova + (1 << 21), BACKING, (1 << 30) - (1 << 21), level=2)
            where = (table.entry_address(iova + (1 << 21)) or 0) - 8
        fresh = [space.take(0x1000) for _ in range(512)]
        memory.write_words(where, [address | 3 for address in fresh])
        words = leaf + (chosen[number << 18 : (number + 1) << 18] << np.uint64(12))
        for address, part in zip(fresh, words.reshape(512, 512), strict=True):
            memory.pages[address >> PAGE_SHIFT] = array("Q", part.tobytes())
        table.tables += fresh
    return memory, table


def granted(kind: str, gib: int) -> Grant:
    """What such a guest may reach."""
    if kind == "interleaved":
        return Grant(tuple(Interval(BACKING + (n << 22), BACKING + (n << 22) + (1 << 21)) for n in range(gib << 9)))
    return Grant((Interval(BACKING, BACKING + (gib << 30)),))


def checked(memory: Memory, table: PageTable, grant: Grant, gib: int) -> Walked:
    """The tables, proved."""
    walked = Walked()
    stray = check_tables(memory, table, grant, walked)
    if stray is not None or walked.leaves != gib << 18:
        raise AssertionError(f"not proved: {stray}, {walked}")
    return walked


def together(memory: Memory, tables: list[int]) -> npt.NDArray[np.uint64]:
    """The words of tables in one array."""
    return np.concatenate([np.frombuffer(memory.pages[address >> PAGE_SHIFT], np.uint64) for address in tables])


def peak(action: Callable[[], object]) -> float:
    """MiB that an action takes at most."""
    tracemalloc.start()
    action()
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return round(taken / (1 << 20), 1)


def actions(gib: int) -> dict[str, Callable[[], object]]:
    """Everything that is measured, once each, and made when it is first asked for."""
    found: dict[str, Callable[[], object]] = {}
    for kind in KINDS:
        found |= _of_kind(kind, gib)
    world = cache(partial(one_vm, gib))
    found["prove all"] = lambda: all_of_it(world(), gib)
    whole = cache(lambda: together(world().memory, world().vms["vm"].iommufd.parents[0].table.tables))
    found["reduce all"] = lambda: np.bitwise_or.reduce(whole())
    found["run 8 x 4"] = partial(_ran, cache(partial(planned, 8, 4)), 32)
    for count in VMS:
        found[f"run {count}"] = partial(_ran, cache(partial(planned, count, 3)), 3 * count)
    return found


def _of_kind(kind: str, gib: int) -> dict[str, Callable[[], object]]:
    made, grant = cache(partial(guest, kind, gib)), cache(partial(granted, kind, gib))
    words = cache(lambda: together(made()[0], made()[1].tables))
    return {f"prove {kind}": lambda: checked(*made(), grant(), gib), f"reduce {kind}": lambda: np.bitwise_or.reduce(words())}


def one_vm(gib: int) -> World:
    """A VM with one function on the recorded arm64 host, and every block of its stage 2 split into pages as they are."""
    host = host_of(load(str(Path(__file__).parents[1] / "fixtures/arm64-virt-canwbs.json")))
    vm = VmRequest(name="vm", memory=gib << 30, assume_accel=True, functions=(FunctionRequest(host="0000:14:00.0"),))
    world = World(lay_out(make_plan(host, Request(vms=(vm,))), host))
    table = world.vms["vm"].iommufd.parents[0].table
    for block in range(gib << 9):
        where = table.entry_address(RAM + (block << 21)) or 0
        word = world.memory.read(where) or 0
        if word & 3 == 1:
            fresh = world.space.take(0x1000)
            words = np.uint64(word | 3) + (np.arange(512, dtype=np.uint64) << np.uint64(12))
            world.memory.pages[fresh >> PAGE_SHIFT] = array("Q", words.tobytes())
            world.memory.write(where, fresh | 3)
            table.tables.append(fresh)
    return world


def all_of_it(world: World, gib: int) -> None:
    """All that a proof does."""
    made = prove(world, "vm", world.vms["vm"].iommufd.parents[0].smmu.name)
    if not made.proved or made.pages != (gib << 18) + 1:
        raise AssertionError(f"not proved: {made.text}")


def planned(count: int, each: int) -> tuple[Plan, Host]:
    """VMs of 4 GiB, each with so many virtual functions."""
    host = host_of(load(str(Path(__file__).parents[1] / "fixtures/kunpeng-920.json")))
    functions = [address for address, function in host.functions.items() if function.is_vf][: count * each]
    vms = tuple(
        VmRequest(
            name=f"vm{number}", memory=4 << 30, assume_accel=True,
            functions=tuple(FunctionRequest(host=address) for address in functions[each * number : each * (number + 1)]),
        )
        for number in range(count)
    )  # fmt: skip
    return make_plan(host, Request(vms=vms)), host


def _ran(planned: Callable[[], tuple[Plan, Host]], functions: int) -> None:
    """A dry run that finds nothing."""
    report = dry_run(*planned())
    if not report.ok or len(report.functions) != functions:
        raise AssertionError("the dry run fails")


def rows_of(repeat: int, gib: int, large: int, commit: str) -> list[dict[str, Any]]:
    """Every row: what, the figure now and before, goal, whether it is met."""
    rows: list[dict[str, Any]] = []
    kinds = {**KINDS, "all": 4}
    with sides("benchmarks.proof", commit) as builds:
        for kind in kinds:
            fastest(builds, [f"reduce {kind}", f"prove {kind}"], 1)  # what is made at first is not measured
        best = fastest(builds, [f"{what} {kind}" for kind in kinds for what in ("reduce", "prove")], repeat)
        for kind, goal in kinds.items():
            times = {side: seconds / best[f"reduce {kind}"][side] for side, seconds in best[f"prove {kind}"].items()}
            name = "all of it" if kind == "all" else kind
            rows.append(_row(f"{gib} GiB, {name}", times, goal, "times bitwise_or.reduce", times["now"] <= goal, best[f"prove {kind}"]["now"]))
        for wall in (True, False):
            taken = fastest(builds, ["run 8 x 4"], max(2, repeat // 2), wall=wall)["run 8 x 4"]
            met = taken["now"] <= taken["before"] / 3 if "before" in taken else None
            clock = "by the clock" if wall else "of processors"
            rows.append(_row(f"dry run of 8 VMs x 4, {clock}", taken, 0.33, "s, goal in times the build before", met, taken["now"]))
        grown = {count: fastest({"now": builds["now"]}, [f"run {count}"], 1)[f"run {count}"]["now"] for count in VMS}
    for fewer, more in pairwise(VMS):
        exponent = math.log(grown[more] / grown[fewer]) / math.log(more / fewer)
        rows.append(_row(f"dry run, from {fewer} to {more} VMs", {"now": exponent}, 1.1, "exponent", exponent <= 1.1, grown[more]))
    if large:
        rows += _large(large)
    return rows


def _large(gib: int) -> list[dict[str, Any]]:
    """The rows of a large guest, in this process."""
    memory, table = guest("pages", gib)
    grant = granted("pages", gib)
    taken = best(lambda: checked(memory, table, grant, gib), 3)
    beside = peak(lambda: checked(memory, table, grant, gib))
    return [
        _row(f"{gib} GiB in pages", {"now": taken}, 1.5, "s", taken <= 1.5, taken),
        _row(f"{gib} GiB in pages, beside the tables", {"now": beside}, 512, "MiB", beside <= 512, taken),
    ]


def _row(what: str, measured: dict[str, float], goal: float, unit: str, met: bool | None, seconds: float) -> dict[str, Any]:
    before = round(measured["before"], 2) if "before" in measured else None
    found = {"what": what, "measured": round(measured["now"], 2), "before": before, "goal": goal, "unit": unit, "met": met}
    return {**found, "seconds": round(seconds, 3)}


def main() -> int:
    """Print the rows."""
    parser = argparse.ArgumentParser(description="the isolation proof against numpy.bitwise_or.reduce over the same bytes, and dry runs")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--gib", type=int, default=64)
    parser.add_argument("--large", type=int, default=0, metavar="GIB", help="a guest of so much memory too")
    parser.add_argument("--before", default=BEFORE, metavar="COMMIT", help="the build to hold it against; nothing for none")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(actions(arguments.gib))
    rows = rows_of(arguments.repeat, arguments.gib, arguments.large, arguments.before)
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    print(f"{'':38} {'now':>8} {'before':>8}   goal")
    for row in rows:
        before = "-" if row["before"] is None else f"{row['before']:,.2f}"
        verdict = {True: "met", False: "MISSED", None: "not asked"}[row["met"]]
        print(f"{row['what']:38} {row['measured']:>8,.2f} {before:>8}   {row['goal']:<4} {verdict:7} ({row['unit']}; {row['seconds']:.3f} s)")
    memory, table = guest("pages", arguments.gib)
    beside = peak(lambda: checked(memory, table, granted("pages", arguments.gib), arguments.gib))
    print(f"memory beside {len(table.tables) >> 8} MiB of tables: {beside} MiB; load when it ended: {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
