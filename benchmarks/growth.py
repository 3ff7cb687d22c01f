"""How commands grow with the host: 1,000, 8,192 and 65,536 functions, whole processes over trees of /sys.

    python -m benchmarks.growth [--sizes 1000 8192 65536] [--commands list record …] [--place DIR] [--cold]

For each command and size the best processor time, its wall clock and peak memory; between two sizes the exponent of the time that the
functions take, which is what is left without that of nine functions. Goals: no exponent above 1.1; at 65,536 functions 10 s and 1.5 GiB.

A tree of 65,536 functions has 2.5 million files and takes 9 GiB of memory as a tmpfs: ``--place`` names another directory. ``--cold`` empties
the kernel's caches before each run, as root; on a tmpfs there is nothing to empty.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.big_host import build_tree
from benchmarks.list import ROOT

FEW = 9  # functions: what a command takes without them
EXPONENT = 1.1
SIZES = (1000, 8192, 65536)
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "list": ("list", "--root", "{tree}"),
    "list --json": ("list", "--json", "--root", "{tree}"),
    "doctor --json": ("doctor", "--json", "--root", "{tree}"),
    "show": ("show", "0000:01:00.0", "--root", "{tree}"),
    "record": ("record", "--root", "{tree}", "-o", "{out}", "--force"),
}


class Taken(NamedTuple):
    """One run: seconds and MiB."""

    cpu: float
    wall: float
    memory: float


def run(words: list[str]) -> Taken:
    """One process; what it takes is its own and that of the processes that it waited for, its memory that of the largest of them."""
    start = time.perf_counter()
    with open(os.devnull, "wb") as nowhere:
        process = subprocess.Popen(words, stdout=nowhere, stderr=nowhere, stdin=subprocess.DEVNULL, cwd=ROOT)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise RuntimeError(f"{' '.join(words)} ended with status {process.returncode}")
    return Taken(used.ru_utime + used.ru_stime, time.perf_counter() - start, used.ru_maxrss / 1024)


def empty_caches() -> None:
    """So that files and directories are read from their disk again."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")


def main() -> None:
    """Build the hosts one after the other, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N")
    parser.add_argument("--commands", nargs="+", default=list(COMMANDS), choices=COMMANDS, metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--place", default="/dev/shm" if os.access("/dev/shm", os.W_OK) else None, metavar="DIR")
    parser.add_argument("--cold", action="store_true")
    arguments = parser.parse_args()
    best: dict[str, dict[int, Taken]] = {name: {} for name in arguments.commands}
    for size in (FEW, *arguments.sizes):
        with tempfile.TemporaryDirectory(prefix="smmu-wizard-", dir=arguments.place) as scratch:
            tree = Path(scratch) / "tree"
            build_tree(tree, size)
            for _ in range(arguments.runs):
                for name in arguments.commands:
                    if arguments.cold:
                        empty_caches()
                    said = [word.format(tree=tree, out=Path(scratch) / "host.json") for word in COMMANDS[name]]
                    one = run([sys.executable, "-m", "wizard", *said])
                    best[name][size] = min(one, best[name].get(size, one))
    print(f"{'':16}{'functions':>10}{'CPU s':>9}{'wall s':>9}{'MiB':>7}  exponent (goal {EXPONENT})")
    for name, by_size in best.items():
        bare, before = by_size[FEW].cpu, None
        for size, taken in by_size.items():
            told = ""
            if before is not None and min(taken.cpu, by_size[before].cpu) > bare:
                told = f"{math.log((taken.cpu - bare) / (by_size[before].cpu - bare)) / math.log(size / before):10.2f}"
            print(f"{name:16}{size:10}{taken.cpu:9.2f}{taken.wall:9.2f}{taken.memory:7.0f}{told}")
            before = size if size != FEW else None


if __name__ == "__main__":
    main()
