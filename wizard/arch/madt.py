"""The Multiple APIC Description Table of arm64: which GIC there is, and its interrupt translation services.

Source: ACPI 6.5, 5.2.12 (table), 5.2.12.14 (GICC), 5.2.12.15 (GICD), 5.2.12.16 (GIC MSI frame), 5.2.12.18 (ITS). Bits count from the start
of each structure, whose first two bytes are its type and its length.
"""

from __future__ import annotations

from enum import IntEnum

from wizard.arch.bits import Record, field

SIGNATURE = b"APIC"
TABLE_SIZE = 44  # the header of every table, and two words that x86 uses


class MadtType(IntEnum):
    """Types of the structures that arm64 has."""

    GICC = 0x0B
    GICD = 0x0C
    MSI_FRAME = 0x0D
    GICR = 0x0E
    ITS = 0x0F


class Distributor(Record, bits=192):
    """GICD (ACPI 6.5, 5.2.12.15)."""

    BASE = field(127, 64)
    VERSION = field(167, 160, "version of the GIC; 0: nothing is said")


class Translator(Record, bits=160):
    """ITS (ACPI 6.5, 5.2.12.18)."""

    ID = field(63, 32, "the number that IORT's ITS groups use")
    BASE = field(127, 64)


class MsiFrame(Record, bits=192):
    """GIC MSI frame, GICv2m (ACPI 6.5, 5.2.12.16)."""

    ID = field(63, 32)
    BASE = field(127, 64)
