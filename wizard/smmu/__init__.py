"""The simulated SMMUv3: one translation at a time with its trace, and whole tables as arrays. Knows nothing of hosts and VMs.

    Smmu, Ids                  the device and its ID registers            device.py, ids.py, support.py
    Memory                     sparse physical memory                     memory.py
    Transaction, Outcome       what goes in and comes out                 outcome.py, attributes.py, trace.py
    tables.py                  builders of page tables, STEs and CDs
    arrays/                    many addresses at once, with numpy (imported only there)

A transaction takes the steps of procedure.py, each once:

    arrival -> configuration -> translation -> completion        registers.py; config.py, validity.py, context.py; stages.py, walk.py,
                             `-> report                            regime.py, permissions.py; ats.py; report.py, records.py, stalls.py

Beside them: cache (TLB), commands and command_queue, queue and pri (what the SMMU writes), interrupts (GERROR, messages), cmdqv, cases (the
case format). Imports go one way, from the device down.
"""

from __future__ import annotations

from wizard.smmu.command_queue import Consumed
from wizard.smmu.device import Smmu
from wizard.smmu.ids import Ids
from wizard.smmu.interrupts import Msi
from wizard.smmu.memory import Memory
from wizard.smmu.outcome import Ats, AtsResponse, How, Outcome, Part, Transaction

__all__ = ["Ats", "AtsResponse", "Consumed", "How", "Ids", "Memory", "Msi", "Outcome", "Part", "Smmu", "Transaction"]
