"""The simulated SMMUv3: one translation at a time with its trace, and whole tables as arrays. Knows nothing of hosts and VMs.

    Smmu, Ids                  the device and its ID registers            device.py, ids.py, support.py
    Memory                     sparse physical memory                     memory.py
    Transaction, Outcome       what goes in and comes out                 outcome.py, attributes.py, trace.py
    tables.py                  builders of page tables, STEs and CDs
    arrays/                    many addresses at once, with numpy (imported only there)

Below them: config (STE and CD lookup), validity (C_BAD_*), context, regime (table geometry), walk, stages (stage 1, stage 2, nested),
permissions, cache (TLB), commands, guards (closed registers), stalls, queue and records (events), ats and ats_port, pri, cmdqv, cases (the
case format).
"""

from __future__ import annotations

from wizard.smmu.device import Consumed, Msi, Smmu
from wizard.smmu.ids import Ids
from wizard.smmu.memory import Memory
from wizard.smmu.outcome import Ats, AtsResponse, How, Outcome, Transaction

__all__ = ["Ats", "AtsResponse", "Consumed", "How", "Ids", "Memory", "Msi", "Outcome", "Smmu", "Transaction"]
