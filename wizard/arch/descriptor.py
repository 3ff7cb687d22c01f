"""VMSAv8-64 translation table descriptors: Arm ARM (DDI 0487), section D8.3.

A descriptor is one 64-bit word. The output address of a leaf and the next table's address depend on granule and level; the walk applies
them (``wizard.smmu.regime``), here are the fields whose place is fixed.
"""

from __future__ import annotations

from wizard.arch.bits import Record, field

ENTRY_BYTES = 8
LAST_LEVEL = 3


class TableDescriptor(Record, bits=64):
    """Table descriptor; the hierarchical attributes exist at stage 1 only."""

    Type = field(1, 0, "descriptor type", codes={1: "block", 3: "table, or page at level 3"})
    AF = field(10, doc="access flag of the table (HAFT)")
    Wide = field(15, 12, "address bits 51:48 of 64 KiB granule descriptors with 52-bit addresses")
    PXNTable = field(59, doc="lower levels are privileged execute-never")
    UXNTable = field(60, doc="lower levels are execute-never")
    APTable = field(62, 61, "limits of lower levels", codes={0: "none", 1: "no unprivileged access", 2: "read-only", 3: "both"})
    NSTable = field(63, doc="non-secure")


class Stage1Leaf(Record, bits=64):
    """Stage 1 block or page descriptor."""

    Type = field(1, 0, "descriptor type", codes={1: "block", 3: "page"})
    AttrIndx = field(4, 2, "index into MAIR")
    NS = field(5, doc="non-secure")
    AP = field(7, 6, "access", codes={0: "privileged read-write", 1: "read-write", 2: "privileged read-only", 3: "read-only"})
    SH = field(9, 8, "shareability", codes={0: "non-shareable", 2: "outer shareable", 3: "inner shareable"})
    AF = field(10, doc="access flag")
    nG = field(11, doc="not global: tagged with the ASID")
    nT = field(16, doc="block translation entry, not to be cached")
    GP = field(50, doc="guarded page")
    DBM = field(51, doc="dirty bit modifier")
    Contiguous = field(52, doc="one of a run of entries that may be cached as one")
    PXN = field(53, doc="privileged execute-never")
    UXN = field(54, doc="execute-never")


class Stage2Leaf(Record, bits=64):
    """Stage 2 block or page descriptor."""

    Type = field(1, 0, "descriptor type", codes={1: "block", 3: "page"})
    MemAttr = field(5, 2, "memory attributes")
    S2AP = field(7, 6, "access", codes={0: "none", 1: "read-only", 2: "write-only", 3: "read-write"})
    SH = field(9, 8, "shareability", codes={0: "non-shareable", 2: "outer shareable", 3: "inner shareable"})
    AF = field(10, doc="access flag")
    nT = field(16, doc="block translation entry, not to be cached")
    DBM = field(51, doc="dirty bit modifier")
    Contiguous = field(52, doc="one of a run of entries that may be cached as one")
    XN = field(54, 53, "execute-never", codes={0: "executable", 1: "executable at EL0", 2: "not executable", 3: "executable at EL1"})
