"""A fleet against the figures to reach (sources: design-figures): whole processes, the first question, the second out of the index, memory.

    python -m benchmarks.fleet [--hosts N] [--directory DIR] [--json] [--dask | --before]

| what                                                                | goal                             |
|---------------------------------------------------------------------|----------------------------------|
| baseline and match over 10,000 snapshots that were never read       | 60 s on two cores                |
| the second question, out of the index                               | under 1 s                        |
| baseline of hosts of five models, nothing read before; of no model  | 0.25, 0.7 times the build before |
| with --dask: by as many Dask workers as processes, files in sight   | 1.15 times the plain             |
| a placement of one VM on each of 1,000 hosts, planned, with files   | (no goal; shown)                 |

Hosts are the recorded arm64 machine with 21 to 23 functions, as it is and with other SMMUs: five models. Each host has an identity, serial
numbers, addresses, status bits, times in its log and an amount of memory of its own, and one in a hundred is broken. Of hosts that are *unlike*
each function of each has ids and registers of its own besides, and so has the kernel. Nothing is asserted; the goals are printed beside what
was measured. ``--before`` is only the third row: this build and the one before the work in turn, of whose processor time the less of two counts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

from msgspec.structs import replace

from benchmarks.before import worktree
from wizard.arch.pci import Cap, ExtCap
from wizard.facts.capabilities import EXTENDED, capabilities
from wizard.facts.model import Facts, PciFunction
from wizard.facts.snapshot import encode, load

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("vfio-arm64-virt-canwbs", "arm64-virt-canwbs", "vfio-arm64-virt", "grace-cmdqv", "host-in-use")
REQUEST = 'name = "net"\ncount = {count}\n[properties]\nril = "on"\n[place]\norder = "spread"\n[[device]]\nclass = "02"\n'


def build(directory: Path, hosts: int, *, unlike: bool = False) -> None:
    """Write the snapshots: one in a hundred is cut short, two in a thousand are of one host."""
    kinds: list[Facts] = [load(str(ROOT / "fixtures" / f"{name}.json")) for name in KINDS]
    for number in range(hosts):
        machine = number - 1 if number % 500 == 499 else number
        facts = one_host(kinds[number % len(kinds)], machine, random.Random(number), unlike=unlike)
        data = encode(replace(facts, memory_total=(facts.memory_total or 64 << 30) + number * (64 << 10)))
        (directory / f"host-{number:05}.json").write_bytes(data[: len(data) // 2] if number % 100 == 57 else data)


def one_host(facts: Facts, machine: int, dice: random.Random, *, unlike: bool) -> Facts:
    """The model's facts as one machine of it has them; with ``unlike`` as no other machine has."""
    name, boot = f"host-{machine:05}", 1 + machine % 997 / 1000
    moved = 0x20_0000 * (1 + machine % 499)
    functions = tuple(_function(f, f"serial-{machine:05}-{f.address}", moved, dice, unlike=unlike) for f in facts.functions)
    log = tuple(_STAMP.sub(lambda found: f"[{float(found[1]) * boot:12.6f}] ", line) for line in facts.log)
    kernel = replace(facts.kernel, cmdline=f"root=UUID={dice.randbytes(8).hex()}")
    if unlike:
        kernel = replace(kernel, release=f"6.{machine % 20}.{machine}-model")
    return replace(facts, identity=replace(facts.identity, host=name, machine=name), functions=functions, log=log, kernel=kernel)


_STAMP = re.compile(r"\[ *(\d+\.\d{6})\] ")


def _function(function: PciFunction, serial: str, moved: int, dice: random.Random, *, unlike: bool) -> PciFunction:
    """Serial numbers (sysfs and configuration space), addresses and status bits of one card; with ``unlike`` its ids and registers too."""
    config = bytearray.fromhex(function.config).ljust(function.config_length, b"\0")
    for capability, offset in capabilities(bytes(config)):
        if capability == EXTENDED + ExtCap.DSN:
            config[offset + 4 : offset + 12] = dice.randbytes(8)
        elif capability == Cap.EXPRESS:
            config[offset + 0x0A] = dice.randrange(16)  # Device Status
            if unlike:
                config[offset + 0x04 : offset + 0x06] = dice.randbytes(2)  # Device Capabilities
    if any(config[0x10:0x14]) and config[0x0E] & 0x7F == 0:
        config[0x12:0x14] = (moved >> 16 & 0xFFFF).to_bytes(2, "little")
    lines = []
    for line in function.resource.split("\n"):
        first, last, flags = (int(word, 16) for word in line.split() or ("0", "0", "0"))
        lines.append(f"{first + moved:#018x} {last + moved:#018x} {flags:#018x}" if flags else line)
    more = {"config": bytes(config).rstrip(b"\0").hex(), "resource": "\n".join(lines)}
    if function.serial_number:
        more["serial_number"] = serial
    if unlike:
        more |= {"device": f"{dice.randrange(1 << 16):#06x}", "revision": f"{dice.randrange(256):#04x}"}
        more |= {"device_name": f"card {serial}", "subsystem_device": f"{dice.randrange(1 << 16):#06x}"}
    return replace(function, **more)


def run(*words: str, tree: Path = ROOT) -> tuple[float, float, int, int]:
    """(seconds, seconds of all processors, exit status, peak KiB of the largest process) of one command of the build in ``tree``."""
    before = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "wizard", *words],
        cwd=tree,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(tree)},
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return time.perf_counter() - before, usage.ru_utime + usage.ru_stime, process.returncode, usage.ru_maxrss


def measure(directory: Path, hosts: int, told: TextIO) -> list[dict[str, object]]:
    """Every row, in order, each also told as a line: each question finds what the ones before it left in the index."""
    index = directory / "index.sqlite"
    request = directory / "request.toml"
    request.write_text(REQUEST.format(count=1))
    many = directory / "many.toml"
    many.write_text(REQUEST.format(count=min(1000, hosts // 5)))
    snapshots = str(directory / "snapshots")
    questions: list[tuple[str, tuple[str, ...], str]] = [
        (f"baseline of {hosts}, nothing read before", ("baseline", snapshots, "--class", "02", "--index", str(index)), "60 s on two cores"),
        ("baseline again", ("baseline", snapshots, "--class", "02", "--index", str(index)), "1 s"),
        ("another baseline", ("baseline", snapshots, "--device", "1b36:0010", "--index", str(index)), "1 s"),
        ("match, one VM", ("match", str(request), snapshots, "--index", str(index)), "1 s"),
        (f"match of {hosts}, without an index", ("match", str(request), snapshots, "--no-index"), "60 s on two cores"),
        ("match, many VMs, planned and written", ("match", str(many), snapshots, "--index", str(index), "-o", str(directory / "out")), "-"),
    ]
    rows: list[dict[str, object]] = []
    for what, words, goal in questions:
        seconds, processor, status, peak = run(*words)
        rows.append(
            {"what": what, "seconds": round(seconds, 2), "cpu_seconds": round(processor, 2), "goal": goal, "status": status, "peak_mib": peak >> 10}
        )
        print(
            f"{what:<44} {seconds:8.2f} s  {processor:8.2f} s of CPU   goal {goal:<18} status {status}   {peak >> 10} MiB",
            file=told,
            flush=True,
        )
    rows.append({"what": "index", "bytes": index.stat().st_size})
    return rows


def measure_before(directory: Path, hosts: int, told: TextIO) -> list[dict[str, object]]:
    """The first question to hosts of a few models, and to hosts of none, by this build and the one before."""
    rows: list[dict[str, object]] = []
    with worktree() as earlier:
        for kind, goal in (("like", 0.25), ("unlike", 0.7)):
            snapshots = directory / kind
            snapshots.mkdir(exist_ok=True)
            build(snapshots, hosts, unlike=kind == "unlike")
            best: dict[str, tuple[float, float]] = {}
            for turn in range(4 if earlier else 2):
                side, tree = ("before", earlier) if earlier and turn % 2 else ("now", ROOT)
                index = directory / f"{kind}-{turn}.sqlite"
                wall, processor, _, _ = run("baseline", str(snapshots), "--class", "02", "--index", str(index), tree=tree)
                found = best.setdefault(side, (wall, processor))
                best[side] = min(found[0], wall), min(found[1], processor)
            row = {f"{side}, {what}": round(value, 2) for side, both in best.items() for what, value in zip(("wall", "cpu"), both, strict=True)}
            rows.append({"what": f"baseline of {hosts} {kind} hosts, nothing read before", "goal": goal, **row})
            times = "no build before" if earlier is None else " and ".join(f"{best['now'][n] / best['before'][n]:.2f}" for n in (0, 1))
            print(f"baseline of {hosts} {kind} hosts: {row}\n    of the build before, wall and CPU: {times} (goal {goal})", file=told, flush=True)
    return rows


def measure_dask(directory: Path, told: TextIO) -> list[dict[str, object]]:
    """The same question by processes of this machine and by as many workers of a scheduler that runs already: whole commands, best of three."""
    import distributed

    snapshots, workers = str(directory / "snapshots"), len(os.sched_getaffinity(0))
    rows: list[dict[str, object]] = []
    with distributed.LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=":0", protocol="tcp") as cluster:
        for what, words in (("plain", ()), ("Dask", ("--dask", cluster.scheduler_address))):
            best = min(run("baseline", snapshots, "--class", "02", "--no-index", *words)[0] for _ in range(3))
            rows.append({"what": what, "workers": workers, "seconds": round(best, 2)})
            print(f"baseline without an index, {what:<40} {best:8.2f} s", file=told, flush=True)
    return rows


def main() -> None:
    """Build, measure, clean up."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--hosts", type=int, default=10000)
    parser.add_argument("--directory", type=Path, help="where the snapshots go (default: a temporary directory, removed at the end)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--dask", action="store_true", help="only compare with a Dask cluster on this machine")
    parser.add_argument(
        "--before", action="store_true", help="only compare with the build before the work, hosts that are alike and hosts that are not"
    )
    arguments = parser.parse_args()
    directory = arguments.directory or Path(tempfile.mkdtemp(prefix="smmu-wizard-fleet-"))
    try:
        (directory / "snapshots").mkdir(parents=True, exist_ok=True)
        told = sys.stderr if arguments.json else sys.stdout
        rows = []
        if not arguments.before:
            build(directory / "snapshots", arguments.hosts)
            rows += measure_dask(directory, told) if arguments.dask else measure(directory, arguments.hosts, told)
        if not arguments.dask:
            rows += measure_before(directory, arguments.hosts, told)
    finally:
        if not arguments.directory:
            shutil.rmtree(directory, ignore_errors=True)
    rows.append({"what": "this process", "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10})
    if arguments.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
