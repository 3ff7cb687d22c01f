"""A report of 8,192 functions, whole process: 3 s and 10 MB are the goals.

    python -m benchmarks.report [--functions N] [--runs N]

Beside it stands `list` on the same snapshot, which judges every function too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.big_host import facts_of
from wizard.facts.snapshot import encode


def best(words: list[str], runs: int) -> float:
    """Seconds of the best run of a command of ours."""
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "wizard", *words], stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - begun)
    return min(times)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--functions", type=int, default=8192)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "tree").mkdir()
        snapshot, page = Path(name) / "host.json", Path(name) / "report.html"
        snapshot.write_bytes(encode(facts_of(Path(name) / "tree", arguments.functions)))
        listed = best(["--replay", str(snapshot), "list"], arguments.runs)
        seconds = best(["--replay", str(snapshot), "report", "--force", "-o", str(page)], arguments.runs)
        print(f"{arguments.functions} functions: report {seconds:.2f} s, {page.stat().st_size / 1e6:.1f} MB (goals 3 s, 10 MB); list {listed:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
