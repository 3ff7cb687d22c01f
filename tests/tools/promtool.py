"""Prometheus' own judgement of a textfile for node_exporter."""

from __future__ import annotations

import subprocess

from tests.tools.cache import cache, skip_loudly
from tests.tools.processes import LIMIT


def check_metrics(text: str) -> None:
    """``promtool check metrics``: that it can be parsed, and has names, types, units and help by Prometheus' conventions. Skips loudly without it."""
    promtool = cache() / "promtool/bin/promtool"
    if not promtool.exists():
        skip_loudly("no promtool", "scripts/debian-tools --with promtool unpacks it")
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
