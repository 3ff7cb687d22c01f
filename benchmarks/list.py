"""``list`` against lspci over one big tree, and ``list`` of a snapshot against a bare Python: whole processes, in one run.

    python -m benchmarks.list [--functions 8192] [--snapshot 1000] [--runs 5]

Goals: over 8,192 functions the processor time of ``lspci -nnvvv -A linux-sysfs -O sysfs.path=…`` on the same tree and 0.65 times its wall
clock; 150 ms or less for a snapshot of 1,000 functions where a bare Python takes 15 to 20. Wall clock is the best of the runs, taken in turn;
CPU is user and system time of the process and its children, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.before import BEFORE, worktree
from benchmarks.big_host import build_tree, facts_of
from wizard.facts.snapshot import encode

ROOT = Path(__file__).resolve().parent.parent


def run(words: list[str], cwd: Path = ROOT) -> tuple[float, float]:
    """(wall clock, CPU) of one process in seconds; its output goes to a file, as a reader's would."""
    before, start = os.times(), time.perf_counter()
    with tempfile.TemporaryFile() as out:
        subprocess.run(words, stdout=out, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=True, cwd=cwd)
    wall, after = time.perf_counter() - start, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def compare(commands: dict[str, list[str]], runs: int, places: Mapping[str, Path] | None = None) -> dict[str, tuple[float, float]]:
    """The best wall clock and the best CPU time of each command, run in turn after one round that warms the caches; ``places``: in another folder."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, words in commands.items():
            one = run(words, (places or {}).get(name, ROOT))
            taken[name] += [one] if turn else []
    return {name: (min(wall for wall, _ in each), min(cpu for _, cpu in each)) for name, each in taken.items()}


def show(title: str, best: dict[str, tuple[float, float]]) -> None:
    """One line for each command."""
    print(title)
    for name, (wall, cpu) in best.items():
        print(f"  {name:28} {wall * 1000:8.0f} ms   {cpu * 1000:8.0f} ms CPU")


GOALS = {"list --json": 2.0, "doctor --json": 1.3, "record": 1.1, "diff": 1.6}
"""Of lspci's processor time; of its wall clock ``list --json``, which takes two processes, may take as much."""


def against_before(tree: Path, scratch: Path, lspci: tuple[float, float], runs: int) -> None:
    """Whole commands over the tree by this build and by the one before the work, in turn, against lspci's wall clock and processor time."""
    out = str(scratch / "recorded.json")
    subprocess.run([sys.executable, "-m", "wizard", "record", "--root", str(tree), "-o", out], cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    words = {
        "list --json": ["list", "--json", "--root", str(tree)],
        "doctor --json": ["doctor", "--json", "--root", str(tree)],
        "record": ["record", "--root", str(tree), "-o", str(scratch / "again.json"), "--force"],
        "diff": ["diff", out, out],
    }
    with worktree(BEFORE) as earlier:
        sides = ("",) if earlier is None else ("", ", before")
        commands = {f"{name}{side}": [sys.executable, "-m", "wizard", *said] for name, said in words.items() for side in sides}
        best = compare(commands, runs, {name: earlier for name in commands if earlier is not None and name.endswith(", before")})
    print(f"processor time: now, at {BEFORE}, and how many times lspci's (goal), wall clock beside it")
    for name, goal in GOALS.items():
        (wall, now), then = best[name], best.get(f"{name}, before", (0, 0))[1]
        times = f"{now / lspci[1]:.2f} times ({goal}), {wall / lspci[0]:.2f} times" if lspci[1] else "no lspci"
        print(f"  {name:28} {now * 1000:8.0f} ms   {then * 1000:8.0f} ms   {times}")


def main() -> None:
    """Build the hosts, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--functions", type=int, default=8192)
    parser.add_argument("--snapshot", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    wizard = [sys.executable, "-m", "wizard"]
    # In memory, as sysfs is: a disk would be measured for both, and half a million files take it minutes to remove.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="smmu-wizard-", dir=memory) as scratch:
        tree = Path(scratch) / "tree"
        build_tree(tree, arguments.functions)
        commands = {"list --root": [*wizard, "list", "--root", str(tree)]}
        if shutil.which("lspci"):
            commands["lspci -nnvvv"] = ["lspci", "-nnvvv", "-A", "linux-sysfs", "-O", f"sysfs.path={tree}/sys/bus/pci"]
        else:
            print("lspci is not installed (Debian: pciutils): nothing to hold the tree against", file=sys.stderr)
        best = compare(commands, arguments.runs)
        show(f"{arguments.functions} functions, a tree of /sys (goal: lspci's CPU, 0.65 times its wall clock)", best)
        if "lspci -nnvvv" in best:
            (wall, cpu), (least, bound) = best["list --root"], best["lspci -nnvvv"]
            print(f"  {wall / least:.2f} times its wall clock, {cpu / bound:.2f} times its CPU")
        against_before(tree, Path(scratch), best.get("lspci -nnvvv", (0, 0)), arguments.runs)
        snapshot = Path(scratch) / "host.json"
        snapshot.write_bytes(encode(facts_of(Path(scratch) / "small", arguments.snapshot)))
        commands = {"list --replay": [*wizard, "list", "--replay", str(snapshot)], "python -c pass": [sys.executable, "-c", "pass"]}
        best = compare(commands, arguments.runs * 4)
        show(f"{arguments.snapshot} functions, a snapshot of {snapshot.stat().st_size >> 10} KiB (goal: 150 ms where python takes 15 to 20)", best)


if __name__ == "__main__":
    main()
