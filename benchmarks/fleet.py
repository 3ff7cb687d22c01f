"""A fleet against the figures to reach (sources: design-figures): whole processes, the first question, the second out of the index, memory.

    python -m benchmarks.fleet [--hosts N] [--directory DIR] [--json] [--dask]

| what                                                                | goal                 |
|---------------------------------------------------------------------|----------------------|
| baseline and match over 10,000 snapshots that were never read       | 60 s on two cores    |
| the second question, out of the index                               | under 1 s            |
| with --dask: by as many Dask workers as processes, files in sight     | 1.15 times the plain |
| a placement of one VM on each of 1,000 hosts, planned, with files   | (no goal; shown)     |

Hosts are the recorded arm64 machine with 21 to 23 functions, as it is and with other SMMUs, each with an identity and an amount of memory of
its own (so that no two summaries are equal, and nothing is answered once for many), and one in a hundred of them broken. Nothing is
asserted; the goals are printed beside what was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

from msgspec.structs import replace

from wizard.facts.model import Facts
from wizard.facts.snapshot import encode, load

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("vfio-arm64-virt-canwbs", "arm64-virt-canwbs", "vfio-arm64-virt", "grace-cmdqv", "host-in-use")
REQUEST = 'name = "net"\ncount = {count}\n[properties]\nril = "on"\n[place]\norder = "spread"\n[[device]]\nclass = "02"\n'


def build(directory: Path, hosts: int) -> None:
    """Write the snapshots: one in a hundred is cut short, two in a thousand are of one host."""
    kinds: list[Facts] = [load(str(ROOT / "fixtures" / f"{name}.json")) for name in KINDS]
    for number in range(hosts):
        facts = kinds[number % len(kinds)]
        machine = number - 1 if number % 500 == 499 else number
        name = f"host-{machine:05}"
        serials = tuple(replace(f, serial_number=f"serial-{machine:05}-{f.address}") if f.serial_number else f for f in facts.functions)
        memory = (facts.memory_total or 64 << 30) + number * (64 << 10)
        data = encode(replace(facts, identity=replace(facts.identity, host=name, machine=name), functions=serials, memory_total=memory))
        (directory / f"host-{number:05}.json").write_bytes(data[: len(data) // 2] if number % 100 == 57 else data)


def run(*words: str) -> tuple[float, float, int, int]:
    """(seconds, seconds of all processors, exit status, peak KiB of the largest process) of one command."""
    before = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "wizard", *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
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
    arguments = parser.parse_args()
    directory = arguments.directory or Path(tempfile.mkdtemp(prefix="smmu-wizard-fleet-"))
    try:
        (directory / "snapshots").mkdir(parents=True, exist_ok=True)
        build(directory / "snapshots", arguments.hosts)
        told = sys.stderr if arguments.json else sys.stdout
        rows = measure_dask(directory, told) if arguments.dask else measure(directory, arguments.hosts, told)
    finally:
        if not arguments.directory:
            shutil.rmtree(directory, ignore_errors=True)
    rows.append({"what": "this process", "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10})
    if arguments.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
