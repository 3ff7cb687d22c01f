"""64 VMs on a host of 1,000 functions: the pure steps, and with the files.

    python -m benchmarks.plan [--functions 1000] [--vms 64] [--runs 5]

Goals: 300 ms or less for the pure steps (request to plan, and every profile and command line as text), 1 s with the files. The host is
decoded once before (it is the same for all), its verdicts are not: they are part of planning. Best of the runs. Then 1, 8 and 64 VMs with as
many functions each, verdicts known: how the processor time grows from one to the next, as an exponent (goal: 1.1 at most).
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from msgspec.structs import replace

from benchmarks.big_host import facts_of
from wizard.base.files import write_all
from wizard.export import qemu_json, qemu_script
from wizard.facts.model import Facts
from wizard.facts.snapshot import encode
from wizard.host.build import host_of
from wizard.host.model import Host
from wizard.plan.planner import make_plan
from wizard.plan.request import FunctionRequest, Request, VmRequest
from wizard.profile import read_profile, write_profile

ROOT = Path(__file__).resolve().parent.parent
VMS = (1, 8, 64)


def request_of(facts: Facts, vms: int, share: int | None = None) -> Request:
    """All VFs of the host, spread evenly over the VMs; or ``share`` of them for each."""
    vfs = [function.address for function in facts.functions if function.physfn]
    share = share or max(1, len(vfs) // vms)
    return Request(
        vms=tuple(
            VmRequest(
                name=f"vm{number}",
                memory=1 << 30,
                assume_accel=True,
                functions=tuple(FunctionRequest(host=address) for address in vfs[number * share : (number + 1) * share]),
            )
            for number in range(vms)
        )
    )


def best(step: Callable[[], object], runs: int) -> str:
    """Milliseconds of the fastest run: wall clock, and processor time, which other work on the machine disturbs less."""
    wall, cpu = [], []
    for _ in range(runs):
        before, start = os.times(), time.perf_counter()
        step()
        wall.append(time.perf_counter() - start)
        after = os.times()
        cpu.append(sum(after[:4]) - sum(before[:4]))  # of this process and of its children
    return f"{min(wall) * 1000:7.0f} ms   {min(cpu) * 1000:7.0f} ms CPU"


def growth(host: Host, facts: Facts, runs: int) -> list[str]:
    """How the steps grow with the VMs, each of which has as many functions."""
    share = max(1, sum(1 for function in facts.functions if function.physfn) // VMS[-1])
    found = []
    for name in ("plan, verdicts known", "profiles as text", "command lines, both forms"):
        taken = {}
        for vms in VMS:
            request = request_of(facts, vms, share)
            made = make_plan(host, request)
            steps: dict[str, Callable[[], object]] = {
                "plan, verdicts known": lambda asked=request: make_plan(host, asked),  # type: ignore[misc]
                "profiles as text": lambda plan=made: [write_profile(vm) for vm in plan.vms],  # type: ignore[misc]
                "command lines, both forms": lambda plan=made: [(qemu_script(vm), qemu_json(vm)) for vm in plan.vms],  # type: ignore[misc]
            }
            times = []
            for _ in range(runs):
                started = time.process_time()
                steps[name]()
                times.append(time.process_time() - started)
            taken[vms] = min(times)
        grown = [f"{math.log(taken[more] / taken[fewer]) / math.log(more / fewer):.2f} to {more}" for fewer, more in pairwise(VMS)]
        found.append(f"  {name:32} {taken[VMS[0]] * 1000:7.1f} ms for 1 VM x {share}, exponent {', '.join(grown)}")
    return found


def main() -> None:
    """Build the host, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--functions", type=int, default=1000)
    parser.add_argument("--vms", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="smmu-wizard-") as scratch:
        # A snapshot is redacted unless somebody asks for the other.
        facts = replace(facts_of(Path(scratch) / "tree", arguments.functions), redacted=True)
        request = request_of(facts, arguments.vms)
        hosts = [host_of(facts) for _ in range(arguments.runs + 1)]
        plan = make_plan(hosts.pop(), request)
        devices = sum(len(vm.devices) for vm in plan.vms)
        print(f"{len(facts.functions)} functions, {len(plan.vms)} VMs with {devices} functions, {len(plan.findings)} findings")
        fresh = iter(hosts)
        print(f"  plan, verdicts included          {best(lambda: make_plan(next(fresh), request), arguments.runs)}")
        profiles = [write_profile(vm) for vm in plan.vms]
        print(f"  profiles as text                 {best(lambda: [write_profile(vm) for vm in plan.vms], arguments.runs)}")
        print(f"  command lines, both forms        {best(lambda: [(qemu_script(vm), qemu_json(vm)) for vm in plan.vms], arguments.runs)}")
        print(f"  profiles read again              {best(lambda: [read_profile(text) for text in profiles], arguments.runs)}")

        def whole() -> None:
            made = make_plan(host_of(facts), request)
            with tempfile.TemporaryDirectory(dir=scratch) as directory:
                write_all({Path(directory) / f"{vm.name}.toml": write_profile(vm) for vm in made.vms})

        print(f"  host, plan, profiles on disk     {best(whole, arguments.runs)}")
        snapshot = Path(scratch) / "host.json"
        snapshot.write_bytes(encode(facts))
        words = [sys.executable, "-m", "wizard", "--replay", str(snapshot), "plan", "--assume-accel"]
        for vm in request.vms:
            words += ["--vm", f"{vm.name}={','.join(function.host for function in vm.functions)}"]

        def process() -> None:
            with tempfile.TemporaryDirectory(dir=scratch) as directory:
                subprocess.run([*words, "-o", directory], cwd=ROOT, capture_output=True, check=False)

        print(f"  the whole command, files written {best(process, arguments.runs)}")
        print(*growth(host_of(facts), facts, arguments.runs), sep="\n")


if __name__ == "__main__":
    main()
