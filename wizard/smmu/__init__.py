"""The simulated SMMUv3: one translation at a time with its trace, and whole tables as arrays. Knows nothing of hosts and VMs.

What other people's programs may rely on is in ``__all__`` here and in that of the modules marked *public*, and is described in
docs/smmu-library.md; it needs msgspec, and numpy for ``arrays`` alone.

    Smmu, Ids                  the device and its ID registers            device.py, ids.py, support.py
    Memory                     sparse physical memory                     memory.py
    Transaction, Outcome       what goes in and comes out                 outcome.py, attributes.py, trace.py
    machine.py                 public: SMMUs at their addresses, with the data of accesses; shared.py: memory that others have mapped
    state.py                   public: save and restore
    tables.py                  public: builders of page tables, STEs and CDs
    arrays/                    public: many addresses at once, with numpy (imported only there)

A transaction takes the steps of procedure.py, each once:

    arrival -> configuration -> translation -> completion        registers.py; config.py, validity.py, context.py; stages.py, walk.py,
                             `-> report                            regime.py, permissions.py; ats.py; report.py, records.py, stalls.py

Without a TLB most of them go by what an earlier one has read: trails.py, which may be compiled (compile.py, form.py), and learn.py.

Beside them: cache (TLB), commands and command_queue, queue and pri (what the SMMU writes), interrupts (GERROR, messages), cmdqv, cases (the
case format). Imports go one way, from the device down.
"""

from __future__ import annotations

from wizard.arch.command import Command, CommandError, Op
from wizard.arch.command import build as build_command
from wizard.arch.event import Event, EventType, PageRequest
from wizard.smmu.attributes import Attributes
from wizard.smmu.command_queue import Consumed
from wizard.smmu.context import Context
from wizard.smmu.device import Smmu
from wizard.smmu.ids import Features, Ids
from wizard.smmu.interrupts import Interrupt, Msi
from wizard.smmu.memory import Memory
from wizard.smmu.outcome import Ats, AtsResponse, Fault, How, Outcome, Part, Transaction
from wizard.smmu.pri import PageResponse
from wizard.smmu.trace import Step, Trace

__all__ = [
    "Ats", "AtsResponse", "Attributes", "Command", "CommandError", "Consumed", "Context", "Event", "EventType", "Fault", "Features", "How", "Ids",
    "Interrupt", "Memory", "Msi", "Op", "Outcome", "PageRequest", "PageResponse", "Part", "Smmu", "Step", "Trace", "Transaction", "build_command",
]  # fmt: skip
