"""The isolation proof of a 64 GiB guest in 4 KiB pages against ``numpy.bitwise_or.reduce`` over the same table bytes, in one run.

    python -m benchmarks.proof [--json] [--repeat N] [--gib N]

| what                                             | goal                               |
|--------------------------------------------------|----------------------------------|
| memory in one piece                              | 20 times numpy.bitwise_or.reduce |
| memory in blocks of 2 MiB, in any order          | 20 times numpy.bitwise_or.reduce |
| the same, every other block another VM's         | 20 times numpy.bitwise_or.reduce |
| every page somewhere else                        | 20 times numpy.bitwise_or.reduce |
| all of the proof, registers to caches, in pages  | 20 times numpy.bitwise_or.reduce |
| memory that the proof takes beside the tables    | bounded, whatever the guest has    |

And a whole dry run of eight VMs with four functions each (scenarios, proofs, costs), on a recorded Kunpeng 920: goal 5 s.

Times are the best of the repetitions in processor time. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

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
GOAL = 20


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
    table = PageTable(memory, Allocator(TABLES, TABLES + (4 << 30)), stage=2, input_bits=44)
    table.map(RAM, BACKING, 0x1000, level=3)
    leaf = np.uint64((memory.read(table.entry_address(RAM) or 0) or 0) - BACKING)
    table.unmap(RAM, 0x1000)
    chosen = frames(kind, gib << 18)
    for block in range(gib << 9):
        table.map(RAM + (block << 21), BACKING, 0x1000, level=3)
        words = leaf + np.uint64(BACKING) + (chosen[block << 9 : (block + 1) << 9] << np.uint64(12))
        memory.pages[(table.entry_address(RAM + (block << 21)) or 0) >> PAGE_SHIFT] = array("Q", words.tobytes())
    return memory, table


def measure(repeat: int, gib: int) -> list[dict[str, Any]]:
    """Every row."""
    rows: list[dict[str, Any]] = []
    for kind in ("one piece", "blocks", "interleaved", "pages"):
        memory, table = guest(kind, gib)
        whole = np.concatenate([np.frombuffer(memory.pages[address >> PAGE_SHIFT], np.uint64) for address in table.tables])
        reduced = best(lambda words=whole: np.bitwise_or.reduce(words), repeat)  # type: ignore[misc]
        grant = Grant((Interval(BACKING, BACKING + (gib << 30)),))
        if kind == "interleaved":
            grant = Grant(tuple(Interval(BACKING + (n << 22), BACKING + (n << 22) + (1 << 21)) for n in range(gib << 9)))

        def proof(memory: Memory = memory, table: PageTable = table, grant: Grant = grant) -> Walked:
            walked = Walked()
            stray = check_tables(memory, table, grant, walked)
            if stray is not None or walked.leaves != gib << 18:
                raise AssertionError(f"not proved: {stray}, {walked}")
            return walked

        taken = best(proof, repeat)
        tracemalloc.start()
        proof()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        rows.append({
            "what": f"{gib} GiB, {kind}", "seconds": round(taken, 3), "times": round(taken / reduced, 1), "goal": GOAL,
            "met": taken / reduced <= GOAL, "tables_mib": whole.nbytes >> 20, "peak_mib": round(peak / (1 << 20), 1),
        })  # fmt: skip
    return rows


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


def whole_proof(repeat: int, gib: int) -> dict[str, Any]:
    """The row of all that a proof does."""
    world = one_vm(gib)
    parent = world.vms["vm"].iommufd.parents[0]
    whole = np.concatenate([np.frombuffer(world.memory.pages[address >> PAGE_SHIFT], np.uint64) for address in parent.table.tables])
    reduced = best(lambda: np.bitwise_or.reduce(whole), repeat)
    made = prove(world, "vm", parent.smmu.name)
    if not made.proved or made.pages != (gib << 18) + 1:
        raise AssertionError(f"not proved: {made.text}")
    taken = best(lambda: prove(world, "vm", parent.smmu.name), repeat)
    return {
        "what": f"{gib} GiB, all of it", "seconds": round(taken, 3), "times": round(taken / reduced, 1), "goal": GOAL,
        "met": taken / reduced <= GOAL, "tables_mib": whole.nbytes >> 20,
    }  # fmt: skip


def eight_vms() -> tuple[Plan, Host]:
    """Eight VMs of 4 GiB, each with four virtual functions."""
    host = host_of(load(str(Path(__file__).parents[1] / "fixtures/kunpeng-920.json")))
    functions = [address for address, function in host.functions.items() if function.is_vf][:32]
    vms = tuple(
        VmRequest(
            name=f"vm{number}", memory=4 << 30, assume_accel=True,
            functions=tuple(FunctionRequest(host=address) for address in functions[4 * number : 4 * number + 4]),
        )
        for number in range(8)
    )  # fmt: skip
    return make_plan(host, Request(vms=vms)), host


def whole_run(repeat: int) -> dict[str, Any]:
    """The row of the dry run."""
    plan, host = eight_vms()
    report = dry_run(plan, host)
    if not report.ok or len(report.functions) != 32:
        raise AssertionError("the dry run fails")
    taken = best(lambda: dry_run(plan, host), repeat)
    return {"what": "dry run of 8 VMs with 4 functions", "seconds": round(taken, 2), "goal": 5, "met": taken <= 5, "cells": len(report.cells)}


def main() -> int:
    """Print the rows."""
    parser = argparse.ArgumentParser(description="the isolation proof against numpy.bitwise_or.reduce over the same bytes")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--gib", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [*measure(arguments.repeat, arguments.gib), whole_proof(arguments.repeat, arguments.gib)]
    run = whole_run(max(1, arguments.repeat // 2))
    if arguments.json:
        print(json.dumps([*rows, run], indent=2))
        return 0
    for row in rows:
        beside = f", {row['peak_mib']} MiB beside them" if "peak_mib" in row else ""
        print(
            f"{row['what']:24} {row['seconds']:>8.3f} s {row['times']:>7.1f} times bitwise_or.reduce, goal {row['goal']} "
            f"{'met' if row['met'] else 'MISSED'}; {row['tables_mib']} MiB of tables{beside}"
        )
    print(f"{run['what']}: {run['seconds']:.2f} s for {run['cells']} cells, goal {run['goal']} s {'met' if run['met'] else 'MISSED'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
