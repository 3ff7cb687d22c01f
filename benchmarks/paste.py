"""A dump of lspci against ``lspci -F FILE -nn`` on the same file: whole processes, in one run.

    python -m benchmarks.paste [--functions 8192] [--runs 3]

Goal: ``list --replay FILE`` of ``lspci -xxxx`` over 8,192 functions within twice the time of ``lspci -F FILE -nn``.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.big_host import build_tree
from benchmarks.list import compare, show


def main() -> None:
    """Build the host, dump it by the real lspci, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--functions", type=int, default=8192)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    if shutil.which("lspci") is None:
        raise SystemExit("lspci is not installed (Debian: pciutils): there is nothing to dump with, and nothing to hold against.")
    with tempfile.TemporaryDirectory(prefix="smmu-wizard-") as scratch:
        tree = Path(scratch) / "tree"
        build_tree(tree, arguments.functions)
        for form in ("-xxx", "-xxxx"):
            dump = Path(scratch) / f"dump{form}"
            with dump.open("wb") as file:
                subprocess.run(["lspci", "-D", form, "-A", "linux-sysfs", "-O", f"sysfs.path={tree}/sys/bus/pci"], stdout=file, check=True)
            commands = {
                "list --replay": [sys.executable, "-m", "wizard", "list", "--replay", str(dump)],
                "lspci -F -nn": ["lspci", "-F", str(dump), "-nn"],
            }
            best = compare(commands, arguments.runs)
            show(f"{arguments.functions} functions, lspci {form}, {dump.stat().st_size >> 20} MiB (goal: within twice lspci's time)", best)
            ratio = best["list --replay"][1] / best["lspci -F -nn"][1]
            print(f"  {ratio:.2f} times lspci's CPU, {best['list --replay'][0] / best['lspci -F -nn'][0]:.2f} times its time")


if __name__ == "__main__":
    main()
