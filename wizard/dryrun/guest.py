"""A Linux guest's SMMUv3 driver, as far as a dry run needs it: arm-smmu-v3.c of Linux 7.2 on QEMU's vSMMU.

Stream table with 256-entry level 2 arrays, linear context descriptors, 4 KiB stage 1 tables of 48 bits, strict invalidation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from wizard.arch.cd import CD
from wizard.arch.command import Op
from wizard.arch.registers import CR0, StrtabBase, StrtabBaseCfg
from wizard.arch.ste import STE
from wizard.dryrun.layout import GUEST_RAM, FunctionLayout, VsmmuLayout
from wizard.nesting.host import MSI_IOVA, MSI_LENGTH, SPLIT
from wizard.nesting.invalidate import Words, encode
from wizard.smmu import Consumed
from wizard.smmu.memory import Writable
from wizard.smmu.tables import Allocator, ContextTable, PageTable, StreamTable, abort_entry, bypass_entry, context_descriptor, stage1_entry

PAGE = 4096
CTXDESC_LINEAR_CDMAX = 10
"""log2 of the context descriptors of a linear table of 64 KiB: the most that Linux uses without CD2L."""

DMA_LIMIT = 1 << 32
"""Linux hands out PCI IOVAs from below 4 GiB, downwards (iommu_dma_alloc_iova())."""

MAX_TLBI_OPS = PAGE >> 3
"""Pages of 4 KiB from which Linux invalidates the whole ASID where there is no RIL."""

BATCH_ENTRIES = 64
"""CMDQ_BATCH_ENTRIES: commands that the driver collects before it writes CMDQ_PROD (arm_smmu_cmdq_batch_add())."""

_RANGE_MAX = 31
_TABLES = 32 << 20


@dataclass(slots=True)
class Domain:
    """One address space of the guest: a stage 1 table under an ASID."""

    asid: int
    table: PageTable
    next_iova: int = DMA_LIMIT

    def iova(self, size: int) -> int:
        """Room for a buffer."""
        self.next_iova -= -(-size // PAGE) * PAGE
        return self.next_iova


@dataclass(slots=True)
class Stream:
    """A function as the guest's driver knows it."""

    function: FunctionLayout
    vsid: int
    domain: Domain
    contexts: ContextTable
    ats: bool
    pasid_bits: int


@dataclass(frozen=True, slots=True)
class Buffer:
    """A mapped buffer: ``iova`` for the device, ``ipa`` for the guest."""

    iova: int
    ipa: int
    size: int


class Programmed(Protocol):
    """What the driver programs: a vSMMU of the simulated host, or QEMU's own (``wizard.rehearsal``)."""

    strtab_base: StrtabBase
    strtab_cfg: StrtabBaseCfg

    @property
    def memory(self) -> Writable:
        """Guest memory, by guest physical address."""
        ...

    def write_cr0(self, value: int) -> None:
        """Write CR0."""
        ...

    def consume(self, commands: Sequence[Words]) -> Consumed:
        """Execute commands from the queue, up to the first error."""
        ...


class LinuxGuest:
    """The driver of one vSMMU. ``rmr`` False is a guest that ignores the firmware's reserved memory range."""

    def __init__(self, vsmmu: Programmed, layout: VsmmuLayout, *, memory: int, part: int = 0, rmr: bool = True) -> None:
        self.vsmmu, self.layout, self.rmr = vsmmu, layout, rmr
        quarter = min(memory // 4, _TABLES)
        start = GUEST_RAM + memory // 4 + part * quarter // 2
        self.space = Allocator(start, start + quarter // 2)
        buffers = GUEST_RAM + memory // 2 + part * (memory // 8)
        self.buffers = Allocator(buffers, buffers + memory // 8)
        self.memory = vsmmu.memory
        self.asids = 0
        self.streams: StreamTable | None = None

    # -- boot ---------------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """arm_smmu_device_reset(): stream table, queues, then SMMUEN; every entry aborts until its function is probed."""
        self.streams = StreamTable(self.memory, self.space, log2size=16, split=SPLIT)
        self.vsmmu.strtab_base = self.vsmmu.strtab_base.replace(ADDR=self.streams.base)
        self.vsmmu.strtab_cfg = StrtabBaseCfg(self.streams.config)
        self.vsmmu.write_cr0(CR0.build(CMDQEN=1).value)
        self.send([encode(Op.CFGI_STE_RANGE, Range=31), encode(Op.TLBI_NSNH_ALL)])
        self.vsmmu.write_cr0(CR0.build(CMDQEN=1, EVENTQEN=1).value)
        self.vsmmu.write_cr0(CR0.build(CMDQEN=1, EVENTQEN=1, SMMUEN=1, ATSCHK=int(self.layout.ats)).value)

    def new_domain(self) -> Domain:
        """arm_smmu_domain_finalise(): an empty table and an ASID."""
        self.asids += 1
        table = PageTable(self.memory, self.space, stage=1, granule=12, input_bits=48)
        return Domain(self.asids, table)

    def probe(self, function: FunctionLayout) -> Stream:
        """Attach the default DMA domain: context descriptor, reserved regions 1:1, then the entry. ``ValueError`` without a vSMMU."""
        if function.vsid is None:
            raise ValueError(f"{function.address} is behind no vSMMU")
        domain = self.new_domain()
        bits = min(function.pasid, self.layout.ssidsize, CTXDESC_LINEAR_CDMAX)
        contexts = ContextTable(self.memory, self.space, cdmax=bits)
        stream = Stream(function, function.vsid, domain, contexts, self.layout.ats and function.ats and function.ats_shown, bits)
        if self.rmr:
            self.map_window(domain)
        contexts.set(0, self.descriptor(domain))
        self.set(stream.vsid, abort_entry())
        self.install(stream.vsid, self.entry(stream))
        return stream

    def map_window(self, domain: Domain) -> None:
        """The IORT RMR of the vSMMU: the SW MSI window 1:1 (iommu_create_device_direct_mappings())."""
        domain.table.map(MSI_IOVA, MSI_IOVA, MSI_LENGTH, execute=False, attr=1)

    def descriptor(self, domain: Domain) -> CD:
        """arm_smmu_make_s1_cd()."""
        return context_descriptor(domain.table, asid=domain.asid, output_bits=48 if self.layout.oas >= 48 else 44)

    def entry(self, stream: Stream, **fields: int) -> STE:
        """arm_smmu_make_cdtable_ste()."""
        base = {"S1DSS": 2, "S1CIR": 1, "S1COR": 1, "S1CSH": 3, "EATS": int(stream.ats), "SHCFG": 0}
        return stage1_entry(stream.contexts, **{**base, **fields})

    def set(self, vsid: int, ste: STE) -> None:
        """Write an entry without saying so."""
        if self.streams is None:
            raise ValueError("the guest has not booted")
        self.streams.set(vsid, ste)

    def install(self, vsid: int, ste: STE) -> Consumed:
        """arm_smmu_write_ste(): write it and CFGI_STE."""
        self.set(vsid, ste)
        return self.send([encode(Op.CFGI_STE, StreamID=vsid, Leaf=1)])

    def abort(self) -> STE:
        """An entry that aborts."""
        return abort_entry()

    def bypass(self) -> STE:
        """An entry that bypasses."""
        return bypass_entry(SHCFG=0)

    # -- buffers ------------------------------------------------------------------------------------------------------

    def map(self, stream: Stream, size: int = PAGE, *, domain: Domain | None = None, write: bool = True, ipa: int | None = None) -> Buffer:
        """dma_map_*(): pages of guest RAM under an IOVA."""
        space = domain or stream.domain
        where = self.buffers.take(max(size, PAGE)) if ipa is None else ipa
        iova = space.iova(size)
        space.table.map(iova, where, -(-size // PAGE) * PAGE, write=write, execute=False)
        return Buffer(iova, where, size)

    def unmap(self, stream: Stream, buffer: Buffer, *, domain: Domain | None = None, invalidate: bool = True) -> None:
        """dma_unmap_*() with strict invalidation: clear, TLBI, and ATC_INV where ATS is on."""
        space = domain or stream.domain
        space.table.unmap(buffer.iova, -(-buffer.size // PAGE) * PAGE)
        if invalidate:
            self.send([*self.tlbi(space.asid, buffer.iova, buffer.size), *self.atc_inv(stream, buffer)])

    def tlbi(self, asid: int, iova: int, size: int) -> list[Words]:
        """Invalidation of a range of pages, as this vSMMU lets the driver do it."""
        return list(invalidation(asid, iova, size, ril=self.layout.ril))

    def atc_inv(self, stream: Stream, buffer: Buffer) -> list[Words]:
        """arm_smmu_atc_inv_to_cmd(): the smallest aligned power of two around the buffer."""
        if not stream.ats:
            return []
        first, last = buffer.iova >> 12, (buffer.iova + buffer.size - 1) >> 12
        log2 = (first ^ last).bit_length()
        return [encode(Op.ATC_INV, StreamID=stream.vsid, Address=(first >> log2 << log2) << 12, Size=log2)]

    def send(self, commands: list[Words]) -> Consumed:
        """Put commands and a CMD_SYNC on the queue."""
        return self.vsmmu.consume([*commands, encode(Op.SYNC, CS=0)])


def invalidation(asid: int, iova: int, size: int, *, ril: bool, vmid: int = 0) -> Iterator[Words]:
    """arm_smmu_inv_to_cmdq_batch() with 4 KiB leaves: ranges of at most 31 times a power of two with RIL (arm_smmu_cmdq_batch_add_range()).

    Without RIL one command a page, and from MAX_TLBI_OPS pages on the whole ASID (arm_smmu_inv_size_too_big()).
    """
    pages = -(-size // PAGE)
    if not ril and pages >= MAX_TLBI_OPS:
        yield encode(Op.TLBI_NH_ASID, ASID=asid, VMID=vmid)
        return
    if not ril:
        for number in range(pages):
            yield encode(Op.TLBI_NH_VA, ASID=asid, VMID=vmid, Address=(iova & -PAGE) + number * PAGE, Leaf=1)
        return
    at = iova & -PAGE
    while pages:
        scale = (pages & -pages).bit_length() - 1
        count = pages >> scale & _RANGE_MAX
        yield encode(Op.TLBI_NH_VA, ASID=asid, VMID=vmid, Address=at, Leaf=1, TG=1, TTL=3, SCALE=scale, NUM=count - 1)
        at += count << scale + 12
        pages -= count << scale
