"""What a kernel log said, as frozen data."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from wizard.arch import event as arch

AUTO = re.compile(r"arm-smmu-v3\.(\d+)\.auto")


class SmmuLog(msgspec.Struct, frozen=True):
    """What the probe of one SMMU said. None and False where a line was not there."""

    device: str
    options: int | None = None
    features: int | None = None
    ias: int | None = None  # bits; kernels up to about 6.19 print it, 7.2 does not
    oas: int | None = None  # bits
    queues: Mapping[str, int] = msgspec.field(default_factory=dict)  # cmdq, evtq, priq, vcmdqN -> entries
    msi_domain_absent: bool = False
    priq_irq_missing: bool = False
    cohacc_override: bool | None = None  # the firmware's value, where it differs from IDR0.COHACC
    httu_override: tuple[int, int] | None = None  # (what IDR0 has, what the firmware says), in positions of Feature
    strtab_covers: tuple[int, int] | None = None  # (bits covered by the stream table, SIDSIZE)
    cmdqv: str | None = None  # the companion device found: NVDA200C:00
    cmdqv_fallback: bool = False  # found, and yet not used
    failed: str | None = None  # why the driver gave the SMMU up
    errors: tuple[str, ...] = ()  # CMDQ errors, timeouts, global errors

    @property
    def number(self) -> int | None:
        """N of ``arm-smmu-v3.N.auto``."""
        match = AUTO.fullmatch(self.device)
        return int(match[1]) if match else None


class Event(msgspec.Struct, frozen=True):
    """One record of an SMMU's event queue as the kernel printed it. ``record`` is None when its words were not printed."""

    smmu: str
    number: int
    record: arch.Event | None
    client: str | None  # the device that the kernel names, from 6.13 on
    named: bool = False  # the kernel's own decoding of it was read too
    whole: bool = True  # False: only its name, StreamID and addresses were; the record's other fields are zero and say nothing

    @property
    def name(self) -> str:
        """The specification's name, or the number."""
        return arch.name_of(self.number) or f"event {self.number:#04x}"

    @property
    def stream_id(self) -> int | None:
        """StreamID of the record."""
        return None if self.record is None else self.record.StreamID


class Alias(msgspec.Struct, frozen=True):
    """A function that the kernel left without its SMMU, since another one already has the StreamID."""

    device: str
    stream_id: int
    owner: str


class Duplicate(msgspec.Struct, frozen=True):
    """``stream N already in tree``: the probe of the whole SMMU fails on kernels that print this."""

    device: str
    stream_id: int


class Complaint(msgspec.Struct, frozen=True):
    """A line of VFIO or iommufd that says that something was refused; the device is None where the line names none."""

    device: str | None
    text: str


class Trouble(msgspec.Struct, frozen=True):
    """A kind of line that means trouble (``lines``), as often as it was said of one device."""

    place: int  # of its kind in ``log_lines.LINES``
    device: str | None
    texts: tuple[str, ...]  # the first different ones
    words: Mapping[str, str]  # of the first
    count: int


class KernelLog(msgspec.Struct, frozen=True):
    """Everything that was understood of a log."""

    release: str | None = None
    command_line: str | None = None
    smmus: Mapping[str, SmmuLog] = msgspec.field(default_factory=dict)  # by device: arm-smmu-v3.N.auto, or <address>.iommu under device tree
    groups: Mapping[str, int] = msgspec.field(default_factory=dict)  # device -> IOMMU group, PCI and platform devices
    refused: tuple[Alias, ...] = ()
    duplicates: tuple[Duplicate, ...] = ()
    ats_refused: tuple[str, ...] = ()  # devices that must have ATS and were refused for the lack of it
    one_to_one: tuple[str, ...] = ()  # devices that firmware asked a 1:1 mapping for
    proximity: Mapping[int, int] = msgspec.field(default_factory=dict)  # SMMU base -> proximity domain, in IORT order
    iort_table: str | None = None  # "000200 (v05 BOCHS  BXPC ...)": length and revision
    iort_bugs: tuple[str, ...] = ()
    default_domain: str | None = None  # Translated, Passthrough
    tlb_policy: str | None = None  # strict, lazy
    its: bool = False
    gicv2m: bool = False
    complaints: tuple[Complaint, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    events: tuple[Event, ...] = ()
    event_counts: Mapping[tuple[str, int, int | None], int] = msgspec.field(default_factory=dict)  # (SMMU, number, StreamID) -> records

    def smmu(self, device: str) -> SmmuLog | None:
        """What was said of one SMMU."""
        return self.smmus.get(device)

    @property
    def aliases(self) -> Mapping[str, str]:
        """Function left without its SMMU -> the function that has its StreamID."""
        return {alias.device: alias.owner for alias in self.refused}
