"""A small world for the tests: a stream with tables, on an SMMU of any kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wizard.arch.registers import CR0
from wizard.smmu import Ids, Memory, Smmu, Transaction
from wizard.smmu.outcome import Outcome
from wizard.smmu.tables import (
    Allocator,
    ContextTable,
    GuestView,
    PageTable,
    StreamTable,
    context_descriptor,
    nested_entry,
    stage1_entry,
    stage2_entry,
)

SID = 8
VA, IPA, PA = 0x1234_5678_9000, 0x4100_0000, 0x9000_0000

RICH = Ids(
    # S1, S2, VMSAv8-64, HTTU with dirty state, EL2, ATS, ASID16, MSI, PRI, VMID wildcard, VMID16, CD2L, little-endian,
    # records for ATS, stall or terminate
    idr0=1 | 1 << 1 | 2 << 2 | 2 << 6 | 1 << 9 | 1 << 10 | 1 << 12 | 1 << 13 | 1 << 16 | 1 << 17 | 1 << 18 | 1 << 19 | 2 << 21 | 1 << 23 | 1 << 27,
    # 16 StreamID and 8 SubstreamID bits, queues of 2^10, attribute overrides
    idr1=16 | 8 << 6 | 10 << 11 | 10 << 16 | 10 << 21 | 1 << 26 | 1 << 27,
    # HAD, XNX, FWB, STT, RIL, E0PD, EPAN
    idr3=1 << 2 | 1 << 4 | 1 << 8 | 1 << 9 | 1 << 10 | 2 << 11 | 1 << 13 | 1 << 17,
    idr5=0x75 | 64 << 16,
    aidr=2,
)
"""An SMMU with everything that is modelled."""


@dataclass
class World:
    """One stream, nested: VA to IPA by ``first``, IPA to PA by ``second``; either may be missing."""

    smmu: Smmu
    memory: Memory
    host: Allocator
    streams: StreamTable
    contexts: ContextTable | None
    first: PageTable | None
    second: PageTable | None
    view: Memory | GuestView
    space: Allocator

    def dma(self, va: int = VA, *, write: bool = True, **fields: Any) -> Outcome:
        return self.smmu.translate(Transaction(fields.pop("sid", SID), va, write, **fields))

    def set_base(self, queue: str, base: int) -> None:
        """Write CMDQ_BASE, EVENTQ_BASE or PRIQ_BASE with that queue off, as SMMUv3.2 asks for."""
        cr0, enable = self.smmu.read("CR0"), {"CMDQ": CR0.CMDQEN, "EVENTQ": CR0.EVENTQEN, "PRIQ": CR0.PRIQEN}[queue]
        self.smmu.write("CR0", enable.put(cr0, 0))
        self.smmu.write(f"{queue}_BASE", base)
        self.smmu.write("CR0", cr0)

    def set_cr2(self, value: int) -> None:
        """Write CR2 with the SMMU off."""
        cr0 = self.smmu.read("CR0")
        self.smmu.write("CR0", CR0.SMMUEN.put(cr0, 0))
        self.smmu.write("CR2", value)
        self.smmu.write("CR0", cr0)

    def types(self) -> list[int]:
        return [event.Type for event in self.smmu.events()]


def world(
    mode: str = "nested", ids: Ids = RICH, *, cdmax: int = 0, two_level: bool = False, cd: dict[str, int] | None = None,
    ste: dict[str, int] | None = None, leaf1: dict[str, Any] | None = None, leaf2: dict[str, Any] | None = None, tlb: bool = True,
) -> World:  # fmt: skip
    memory, host = Memory(), Allocator(0x4010_0000, 0x6000_0000)
    streams = StreamTable(memory, host, log2size=16, split=8)
    first = second = contexts = None
    view: Memory | GuestView = memory
    space = host
    if mode != "1":
        second = PageTable(memory, host, stage=2, input_bits=40)
        second.map(0x4000_0000, 0x8000_0000, 16 << 20)
        second.map(IPA, PA, 1 << 20, level=3, **(leaf2 or {}))
        view, space = GuestView(memory, second.lookup), Allocator(0x4000_0000, 0x4100_0000)
    if mode != "2":
        first = PageTable(view, space, stage=1)
        first.map(VA, IPA if second is not None else PA, 0x10000, level=3, **(leaf1 or {}))
        contexts = ContextTable(view, space, cdmax=cdmax, two_level=two_level)
        contexts.set(0, context_descriptor(first, asid=1, **(cd or {})))
    fields = ste or {}
    if first is not None and contexts is not None and second is not None:
        streams.set(SID, nested_entry(contexts, second, vmid=7, **fields))
    elif contexts is not None:
        streams.set(SID, stage1_entry(contexts, **fields))
    elif second is not None:
        streams.set(SID, stage2_entry(second, vmid=7, **fields))
    smmu = Smmu(ids, memory, tlb=tlb)
    smmu.write("STRTAB_BASE", streams.base)
    smmu.write("STRTAB_BASE_CFG", streams.config)
    smmu.write("CR2", 2)
    smmu.write("CR0", 0xD)
    return World(smmu, memory, host, streams, contexts, first, second, view, space)
