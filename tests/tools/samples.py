"""VMs of others, as they were found: the texts, and what each must be said of it (expected.tsv)."""

from __future__ import annotations

import csv
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "existing" / "data"
ROWS: dict[str, dict[str, str]] = {}
for _kind in ("xml", "qemu"):
    with (DATA / _kind / "expected.tsv").open(newline="") as _file:
        ROWS |= {f"{_kind}/{row['file']}": row for row in csv.DictReader(_file, delimiter="\t")}
ASSUMED = {"grace-cmdqv", "gb200"}
"""Hosts that were built: nobody measured whether interrupts are isolated, or what is accelerated."""
