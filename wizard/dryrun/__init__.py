"""A plan on the simulated SMMU, before a VM starts: what its functions will reach, and what happens when a guest does something wrong.

report = dry_run(plan, host)                       run.py; frozen, JSON by msgspec        model.py
cell = trace_of(plan, host, function, scenario)    one cell with its trace
trace = trace_address(plan, host, function, iova)  one address in each situation           address.py
scenarios/                                         one short function each, with its source
layout.py, build.py, world.py, guest.py            what host and guest build
proof.py, tables.py                                isolation over whole tables (numpy only there)
cost.py                                            memory, loads, commands
"""

from __future__ import annotations

from wizard.dryrun.address import report_of_trace, trace_address
from wizard.dryrun.build import lay_out
from wizard.dryrun.cost import Workload
from wizard.dryrun.layout import Layout
from wizard.dryrun.model import Cancelled, Cell, Report, Status, Stopper
from wizard.dryrun.run import count_again, dry_run, trace_of
from wizard.dryrun.scenarios import SCENARIOS
from wizard.dryrun.text import report_lines

__all__ = [
    "SCENARIOS", "Cancelled", "Cell", "Layout", "Report", "Status", "Stopper", "Workload", "count_again", "dry_run", "lay_out", "report_lines",
    "report_of_trace", "trace_address", "trace_of",
]  # fmt: skip
