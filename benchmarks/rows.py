"""A baseline of a million summaries as rows, by the question that docs/fleet.md gives for DuckDB.

    python -m benchmarks.rows [--hosts N] [--of N] [--directory DIR]

| what                                                           | goal                                  |
|----------------------------------------------------------------|---------------------------------------|
| the documented baseline of 1,000,000 summaries out of Parquet  | 60 s with two threads and 2 GiB       |

10,000 summaries are made of recorded hosts, written by `index rows`, and varied to a million: each with a name, an amount of memory and, a hundred
of each, unlike properties of its own. DuckDB is held to two threads and 2 GiB; the peak of its process is shown. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

from benchmarks.fleet import ROOT, build, run

VARIED = """COPY (
    SELECT * REPLACE (
        snapshot || '#' || n AS snapshot, host || '#' || n AS host, memory + n * 65536 AS memory,
        CASE WHEN usable THEN 44 + 4 * (hash(snapshot, n) % 2)::BIGINT END AS supplies_oas,
        CASE WHEN usable THEN (hash(snapshot, n, 1) % 2)::BIGINT END AS supplies_ats,
        CASE WHEN usable THEN (hash(snapshot, n, 2) % 21)::BIGINT END AS supplies_ssidsize,
        CASE WHEN usable THEN (hash(snapshot, n, 3) % 2)::BIGINT END AS supplies_ril)
    FROM '{rows}', range({times}) AS times(n)
) TO '{all}' (FORMAT parquet, COMPRESSION zstd)"""
# Not ru_maxrss: a process begins with the peak of the one that started it (getrusage(2), exec_mmap() of the kernel).
ASK = """
import duckdb, re, sys, time
duckdb.sql("SET threads = 2"); duckdb.sql("SET memory_limit = '2GiB'")
before = time.perf_counter()
rows = duckdb.sql(sys.stdin.read()).fetchall()
print(rows, f"{time.perf_counter() - before:.2f} s", *re.findall("VmHWM: *(.*)", open("/proc/self/status").read()))
"""


def main() -> None:
    """Build, vary, ask, clean up."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--of", type=int, default=10_000, help="summaries that are varied")
    parser.add_argument("--hosts", type=int, default=1_000_000)
    parser.add_argument("--directory", type=Path, help="where the snapshots and rows go (default: a temporary directory, removed at the end)")
    arguments = parser.parse_args()
    directory = arguments.directory or Path(tempfile.mkdtemp(prefix="smmu-wizard-rows-"))
    snapshots, rows, everything = directory / "snapshots", directory / "fleet.parquet", directory / "all.parquet"
    try:
        if not rows.exists():
            snapshots.mkdir(parents=True, exist_ok=True)
            build(snapshots, arguments.of)
            seconds, _, status, peak = run("index", "rows", str(snapshots), "--index", str(directory / "index.sqlite"), "-o", str(rows))
            print(f"index rows of {arguments.of} snapshots, nothing read before   {seconds:8.2f} s   status {status}   {peak >> 10} MiB", flush=True)
        before = time.perf_counter()
        hosts = duckdb.sql(f"SELECT count(DISTINCT snapshot) FROM '{rows}'").fetchall()[0][0]
        duckdb.sql(VARIED.format(rows=rows, all=everything, times=-(-arguments.hosts // hosts)))
        count = duckdb.sql(f"SELECT count(*), count(DISTINCT snapshot) FROM '{everything}'").fetchall()[0]
        print(
            f"{count[1]} summaries in {count[0]} rows, varied in {time.perf_counter() - before:.2f} s, {everything.stat().st_size >> 20} MiB",
            flush=True,
        )
        documented = (ROOT / "docs/fleet.md").read_text()
        question = next(block for block in re.findall(r"```sql\n(.*?)```", documented, re.DOTALL) if block.startswith("-- baseline"))
        asked = question.replace("'fleet.parquet'", f"'{everything}'")
        subprocess.run([sys.executable, "-c", ASK], input=asked, text=True, check=True)
    finally:
        if not arguments.directory:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
