"""The host kernel's SMMUv3 driver, as far as nesting needs it: its objects, VMIDs, and the stream table that the hardware reads.

The simulated hardware is ``wizard.smmu``; this room writes its tables and issues its commands as Linux does. Masters, groups, HWPTs, vIOMMUs
and vDEVICEs name each other, so they are declared together here; ``Iommufd`` makes them and says who may.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property

from wizard.arch.command import CommandError, Op
from wizard.arch.event import Event
from wizard.arch.ste import STE, STE_BYTES
from wizard.nesting import invalidate
from wizard.nesting.errors import KernelError
from wizard.nesting.events import Veventq, stalled, why_not
from wizard.nesting.fields import FieldCheck
from wizard.nesting.kernel import Kernel
from wizard.nesting.vste import Vste
from wizard.smmu import Ids, Memory, Smmu
from wizard.smmu.regime import stage1_start
from wizard.smmu.tables import Allocator, ContextTable, PageTable, StreamTable, abort_entry, stage1_entry, stage2_entry

SPLIT = 8
"""STRTAB_SPLIT of Linux: 256 StreamIDs in a level 2 stream table."""

MSI_IOVA = 0x800_0000
MSI_LENGTH = 0x10_0000
"""MSI_IOVA_BASE and MSI_IOVA_LENGTH: where the kernel puts the doorbell for every VFIO device behind an SMMUv3."""


class ViommuType(IntEnum):
    """enum iommu_viommu_type."""

    DEFAULT = 0
    ARM_SMMUV3 = 1
    TEGRA241_CMDQV = 2


@dataclass(slots=True, eq=False)
class Group:
    """An IOMMU group. ``hwpt`` is what iommufd has attached the whole of it to, ``members`` the devices that a VMM attached."""

    number: int
    devices: list[Device] = field(default_factory=list)
    hwpt: Hwpt | None = None
    members: list[Device] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Device:
    """A master: a function as the SMMU driver knows it. ``canwbs`` and ``ats`` are per device, from its IORT root complex.

    ``owner`` is the iommufd context that bound it, which counts as itself alone (iommu_group_claim_dma_owner()).
    ``direct`` says that firmware asks for a 1:1 mapping, which makes it unassignable. ``pasids`` are SSIDs that the host itself uses.
    """

    name: str
    smmu: HostSmmu
    streams: tuple[int, ...]
    group: Group
    canwbs: bool = False
    ats: bool = False
    direct: bool = False
    isolated_msi: bool = True
    pasids: frozenset[int] = frozenset()
    owner: object | None = None
    vdevice: Vdevice | None = None
    vmaster: tuple[Viommu, int] | None = None
    installed: STE = field(default_factory=abort_entry)
    ats_on: bool = False

    @property
    def sid(self) -> int:
        """Its first StreamID."""
        return self.streams[0]


@dataclass(eq=False)
class Parent:
    """A paging HWPT: stage 2 of one SMMU, as a nesting parent has to be, else the host's own stage 1 (``contexts``), which Linux prefers."""

    smmu: HostSmmu
    table: PageTable
    vmid: int
    nest_parent: bool
    contexts: ContextTable | None = None
    asid: int = 0

    @cached_property
    def entry(self) -> STE:
        """The STE of a device that is attached to it (arm_smmu_make_s2_domain_ste(), arm_smmu_make_cdtable_ste())."""
        features = self.smmu.smmu.features
        if self.contexts is not None:
            return stage1_entry(self.contexts, S1CIR=1, S1COR=1, S1CSH=3)
        return stage2_entry(self.table, vmid=self.vmid, output_bits=min(features.oas, 48), S2PTW=1, S2FWB=int(self.smmu.kernel.s2fwb))


@dataclass(slots=True, eq=False)
class Nested:
    """A nested HWPT: a guest's stage 1 on a vIOMMU."""

    viommu: Viommu
    vste: Vste


Hwpt = Parent | Nested


@dataclass(slots=True, eq=False)
class Vdevice:
    """A function under the StreamID that its guest knows it by."""

    viommu: Viommu
    device: Device
    vsid: int


@dataclass(slots=True, eq=False)
class Viommu:
    """A guest's share of one SMMU: its vSID table, and the VMID that is forced on its invalidations."""

    type: ViommuType
    parent: Parent
    vdevices: dict[int, Vdevice] = field(default_factory=dict)
    veventq: Veventq | None = None

    @property
    def smmu(self) -> HostSmmu:
        """The SMMU that it is a share of."""
        return self.parent.smmu

    @property
    def vmid(self) -> int:
        """That of its parent HWPT: two vIOMMUs on one parent share it (arm_vsmmu_init())."""
        return self.parent.vmid

    def stream_of(self, vsid: int) -> int | None:
        """The StreamID of a vSID (arm_vsmmu_vsid_to_sid())."""
        vdevice = self.vdevices.get(vsid)
        return vdevice.device.sid if vdevice is not None else None


class HostSmmu:
    """One physical SMMU under Linux. ``space`` is where the kernel's tables are, in ``memory`` that all SMMUs of the host share."""

    def __init__(self, name: str, ids: Ids, memory: Memory, space: Allocator, kernel: Kernel) -> None:
        self.name, self.kernel, self.space = name, kernel, space
        self.smmu = Smmu(ids, memory)
        # A kernel whose release nobody read is taken as one that checks less.
        self.check = FieldCheck.of(ids, ats=kernel.ats) if kernel.checks_fields else None
        bits = self.smmu.features.sidsize
        two_level = self.smmu.features.st_level and bits > SPLIT
        self.streams = StreamTable(memory, space, log2size=bits if two_level else min(bits, 16), split=SPLIT if two_level else None)
        self.masters: dict[int, Device] = {}
        self.vmids: set[int] = set()
        self.asids = 0
        self.log: list[Event] = []
        self.skipped: list[invalidate.Words] = []
        self.commands = 0
        self.syncs = 0
        self.smmu.write("STRTAB_BASE", self.streams.base)
        self.smmu.write("STRTAB_BASE_CFG", self.streams.config)
        self.smmu.write("CR2", 0x6)  # arm_smmu_device_reset(): PTM | RECINVSID
        self.smmu.write("CR0", 0xD | (0x10 if kernel.ats else 0))  # CMDQEN | EVTQEN | SMMUEN, ATSCHK with ATS

    # -- masters ------------------------------------------------------------------------------------------------------

    def add(self, device: Device) -> Device:
        """arm_smmu_insert_master(): its StreamIDs belong to it alone. ``KernelError`` ENODEV when one is taken."""
        for sid in device.streams:
            if sid >> self.smmu.features.sidsize:
                raise KernelError("ERANGE", "arm_smmu_init_sid_strtab()", f"StreamID {sid:#x} is beyond {self.smmu.features.sidsize} bits")
            if (other := self.masters.get(sid)) is not None:
                raise KernelError("ENODEV", "arm_smmu_insert_master()", f"stream {sid} already in tree: it is {other.name}'s")
        for sid in device.streams:
            self.masters[sid] = device
        device.group.devices.append(device)
        self.install(device, abort_entry())
        return device

    def install(self, device: Device, ste: STE) -> None:
        """arm_smmu_install_ste_for_dev(): write the entry of each StreamID and invalidate what is cached of it."""
        device.installed = ste
        for sid in device.streams:
            self.streams.set(sid, ste)
            self.submit([invalidate.encode(Op.CFGI_STE, StreamID=sid, Leaf=1)])

    def entry_of(self, sid: int) -> STE:
        """The entry of a StreamID as the hardware reads it."""
        where = self.streams.address(sid)
        return STE.of_words([self.smmu.memory.read(where + 8 * index) or 0 for index in range(STE_BYTES // 8)])

    def submit(self, commands: Iterable[invalidate.Words]) -> None:
        """arm_smmu_cmdq_issue_cmdlist() with a CMD_SYNC.

        A command that the hardware finds ILLEGAL becomes a CMD_SYNC in place and is remembered in ``skipped``; the caller is not told
        (__arm_smmu_cmdq_skip_err()).
        """
        issued = [*commands, invalidate.encode(Op.SYNC, CS=0)]
        self.commands += len(issued) - 1
        self.syncs += 1
        while issued:
            consumed = self.smmu.submit(issued)
            if consumed.error is CommandError.CERROR_NONE:
                return
            if consumed.error is CommandError.CERROR_ATC_INV_SYNC:
                issued = issued[consumed.count :]
                continue
            self.skipped.append(issued[consumed.count])
            issued = issued[consumed.count + 1 :]

    # -- VMIDs --------------------------------------------------------------------------------------------------------

    def take_vmid(self) -> int:
        """ida_alloc_range(&smmu->vmid_map, 1, …); ``KernelError`` ENOSPC when there is none left."""
        last = 0xFFFF if self.smmu.features.vmid16 else 0xFF
        vmid = next((number for number in range(1, last + 1) if number not in self.vmids), None)
        if vmid is None:
            raise KernelError("ENOSPC", "arm_smmu_domain_finalise_s2()", f"all {last} VMIDs of {self.name} are taken")
        self.vmids.add(vmid)
        return vmid

    # -- tables of the host -------------------------------------------------------------------------------------------

    def take_asid(self) -> int:
        """An ASID for a stage 1 of the host's own (arm_smmu_asid_xa)."""
        self.asids += 1
        return self.asids

    def new_stage1(self) -> PageTable:
        """An empty stage 1 table as the kernel uses it for a paging domain: 48 bits of input (arm_smmu_domain_finalise())."""
        return PageTable(self.smmu.memory, self.space, stage=1, granule=self.granule, input_bits=48)

    @property
    def granule(self) -> int:
        """log2 of stage 2's pages: the host's page size, else the next smaller one that there is, else the smallest (arm_lpae_restrict_pgsizes())."""
        host = self.kernel.page_size.bit_length() - 1
        granules = sorted(self.smmu.features.granules)
        return host if host in granules else max((g for g in granules if g < host), default=granules[0])

    def new_stage2(self) -> PageTable:
        """An empty stage 2 table as io-pgtable-arm makes it: input and output of OAS bits, concatenated only where the start level must be lower."""
        bits, granule = min(self.smmu.features.oas, 48), self.granule
        start = stage1_start(granule, bits)
        needs = {12: {40, 42}, 14: {48}}.get(granule, set())
        return PageTable(
            self.smmu.memory, self.space, stage=2, granule=granule, input_bits=bits, start=start + 1 if start == 0 and bits in needs else start
        )

    # -- events -------------------------------------------------------------------------------------------------------

    def handle_events(self) -> int:
        """arm_smmu_evtq_thread(): hand each record to its guest's vEVENTQ or to the host's log; answers how many guests' queues got."""
        passed = 0
        for event in self.smmu.events():
            if self._report(event):
                passed += 1
            else:
                self.log.append(event)
        return passed

    def _report(self, event: Event) -> bool:
        device = self.masters.get(event.StreamID)
        if device is None or device.vmaster is None or why_not(event) or stalled(event):
            return False
        viommu, vsid = device.vmaster
        if viommu.veventq is None:
            return False
        viommu.veventq.report(event.replace(StreamID=vsid))
        return True
