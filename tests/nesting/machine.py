"""A small host for the tests of nesting: memory, one or two SMMUs, functions in groups, and a guest's RAM."""

from __future__ import annotations

from dataclasses import dataclass, field

from wizard.arch.bits import Record
from wizard.arch.command import Op
from wizard.nesting import Device, Group, HostSmmu, Iommufd, Kernel, Vsmmu
from wizard.nesting.invalidate import encode
from wizard.nesting.iommufd import Area
from wizard.nesting.qemu import ids_of
from wizard.smmu import Ids, Memory
from wizard.smmu.tables import Allocator, ContextTable, GuestView, PageTable, StreamTable, context_descriptor, stage1_entry

DOORBELL = 0x0809_0040
RAM = 0x4000_0000
RAM_SIZE = 0x0100_0000
BACKING = 0x1_0000_0000
HOST = (0x8000_0000, 0x9000_0000)


@dataclass
class Machine:
    """One host with one SMMU; more are made by ``smmu()``."""

    memory: Memory = field(default_factory=lambda: Memory(((0x8000_0000, 0x2_0000_0000), (0x0808_0000, 0x080A_0000))))
    space: Allocator = field(default_factory=lambda: Allocator(*HOST))
    groups: int = 0

    def smmu(self, name: str = "smmu3.0x0", ids: Ids | None = None, kernel: Kernel | None = None) -> HostSmmu:
        return HostSmmu(name, ids or Ids(), self.memory, self.space, kernel or Kernel())

    def function(self, smmu: HostSmmu, name: str, *streams: int, group: Group | None = None, canwbs: bool = True, **more: bool) -> Device:
        if group is None:
            self.groups += 1
            group = Group(self.groups)
        return smmu.add(Device(name, smmu, streams, group, canwbs=canwbs, **more))  # type: ignore[arg-type]

    def vm(self, backing: int = BACKING, size: int = RAM_SIZE) -> Iommufd:
        iommufd = Iommufd("vm", DOORBELL)
        iommufd.map(Area(RAM, backing, size))
        return iommufd

    def vsmmu(self, iommufd: Iommufd, ids: Ids | None = None) -> Vsmmu:
        area = iommufd.areas[0]

        def translate(ipa: int) -> int | None:
            return area.pa + ipa - area.iova if area.iova <= ipa < area.iova + area.size else None

        return Vsmmu(iommufd, ids or ids_of(), GuestView(self.memory, translate))


class Guest:
    """The least that a guest's SMMU driver does: a stream table and one translated stream per function."""

    def __init__(self, vsmmu: Vsmmu) -> None:
        self.vsmmu, self.space = vsmmu, Allocator(RAM + 0x10_0000, RAM + 0x40_0000)
        self.streams = StreamTable(vsmmu.memory, self.space, log2size=16, split=8)
        vsmmu.strtab_base = vsmmu.strtab_base.replace(ADDR=self.streams.base)
        vsmmu.strtab_cfg = type(vsmmu.strtab_cfg)(self.streams.config)
        vsmmu.write_cr0(0xD)

    def table(self, vsid: int, *, asid: int = 1, **fields: int) -> PageTable:
        """Stage 1 for one stream, its STE written but not announced."""
        table = PageTable(self.vsmmu.memory, self.space, stage=1)
        contexts = ContextTable(self.vsmmu.memory, self.space)
        contexts.set(0, context_descriptor(table, asid=asid, output_bits=44))
        self.set(vsid, stage1_entry(contexts, S1DSS=2, **fields))
        return table

    def set(self, vsid: int, ste: Record) -> None:
        self.streams.set(vsid, ste)  # type: ignore[arg-type]


def translated(kernel: Kernel | None = None) -> tuple[Device, Vsmmu]:
    """A function of StreamID 0x1300 behind a vSMMU as vSID 0x900, with an empty stage 1 of its guest's."""
    host = Machine()
    device = host.function(host.smmu(kernel=kernel), "a", 0x1300)
    vsmmu = host.vsmmu(host.vm())
    vsmmu.plug(device, 0x900)
    Guest(vsmmu).table(0x900)
    vsmmu.consume([encode(Op.CFGI_STE, StreamID=0x900, Leaf=1)])
    return device, vsmmu
