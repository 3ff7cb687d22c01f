"""What host and guest build out of a plan, as frozen data: memory, windows, SMMUs, StreamIDs. Everything the simulation is made from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from wizard.base.finding import Finding
from wizard.dryrun.rests import Guess
from wizard.nesting.host import MSI_IOVA, MSI_LENGTH
from wizard.nesting.kernel import Kernel
from wizard.plan.request import Mode
from wizard.smmu.ids import Ids

GUEST_RAM = 0x4000_0000  # VIRT_MEM of QEMU's hw/arm/virt.c
LOW_MAP_END = 256 << 30  # VIRT_LOWMEMMAP_LAST: the highmem regions start at 256 GiB, or above RAM
GIB = 1 << 30

HOST_TABLES = (0x8000_0000, 0x1_0000_0000)
HOST_RAM = 0x1_0000_0000
HOST_BARS = 1 << 39
ITS_TRANSLATER = 0x0809_0040
ITS_FRAME = (ITS_TRANSLATER & ~0xFFFF, (ITS_TRANSLATER & ~0xFFFF) + 0x1_0000)
BLOCK = {12: 2 << 20, 14: 32 << 20, 16: 512 << 20}
"""Bytes of a level 2 block, by log2 of the granule: what transparent huge pages give at best."""
LEAST_MEMORY = 16 << 20
BROKEN_PAGES = 16
"""Pages at the start of RAM that are scattered one by one, so that stage 2 has every size of leaf."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Guest memory that is contiguous on the host: ``size`` bytes from ``ipa`` at ``pa``."""

    ipa: int
    pa: int
    size: int


@dataclass(frozen=True, slots=True)
class Bar:
    """A memory region of a function: where the guest has it, where the host."""

    ipa: int
    pa: int
    size: int


@dataclass(frozen=True, slots=True)
class SmmuLayout:
    """One physical SMMU: the registers that the simulation has, the raw ones that QEMU compares, what the kernel makes of them.

    ``ats_measured`` says that the kernel's word on ATS was read, not assumed.
    """

    name: str
    ids: Ids
    kernel: Kernel
    ats_measured: bool = True


@dataclass(frozen=True, slots=True)
class VsmmuLayout:
    """One virtual SMMU, its properties resolved."""

    id: str
    smmu: str
    ids: Ids
    ats: bool
    ril: bool
    ssidsize: int
    oas: int
    cmdqv: bool


@dataclass(frozen=True, slots=True)
class FunctionLayout:
    """One function on the host: assigned to a VM, or only in the group of one that is (``vm`` None).

    ``ats`` says that the host's kernel can turn ATS on at it, ``ats_shown`` that the guest sees the capability (vfio-pci's ``ats``).
    ``redirect`` says that ACS on its path sends peer-to-peer requests up to the SMMU. ``hotplug``: it is not there when QEMU starts, but may
    be plugged into a port left free; several of them may be meant for one port. ``ats_measured`` and ``bars_known`` are False where nobody
    read what ``ats`` and ``bars`` say.
    """

    address: str
    smmu: str
    group: int
    streams: tuple[int, ...]
    canwbs: bool
    ats: bool
    pasid: int
    direct: bool
    isolated_msi: bool
    redirect: bool
    vm: str | None = None
    device: str = ""
    name: str = ""
    vsmmu: str | None = None
    vsid: int | None = None
    bars: tuple[Bar, ...] = ()
    ats_shown: bool = True
    hotplug: bool = False
    ats_measured: bool = True
    bars_known: bool = True


@dataclass(frozen=True, slots=True)
class VmLayout:
    """One guest. ``window`` is its 64-bit PCI window; ``doorbell`` the host's GITS_TRANSLATER, None where nothing maps it.

    ``peer_to_peer`` says that QEMU maps its functions' BARs into the IOAS: by the dma-buf of a VFIO region (CONFIG_VFIO_PCI_DMABUF and
    QEMU 11.1), since iommufd refuses to pin them otherwise.
    """

    name: str
    mode: Mode
    memory: int
    chunks: tuple[Chunk, ...]
    window: tuple[int, int]
    doorbell: int | None
    vsmmus: tuple[VsmmuLayout, ...]
    peer_to_peer: bool = False

    @property
    def top(self) -> int:
        """The first guest physical address above RAM."""
        return GUEST_RAM + self.memory

    def pa(self, ipa: int) -> int | None:
        """Where guest memory at ``ipa`` is on the host."""
        for chunk in self.chunks:
            if chunk.ipa <= ipa < chunk.ipa + chunk.size:
                return chunk.pa + ipa - chunk.ipa
        return None


@dataclass(frozen=True, slots=True)
class Layout:
    """The whole of it. ``findings`` are memory layouts that cannot exist; ``assumptions`` what nobody measured, in sentences, and
    ``guesses`` what of it a scenario can rest on.
    """

    smmus: tuple[SmmuLayout, ...]
    vms: tuple[VmLayout, ...]
    functions: tuple[FunctionLayout, ...]
    findings: tuple[Finding, ...] = ()
    assumptions: tuple[str, ...] = ()
    guesses: tuple[Guess, ...] = ()
    _of_vms: dict[str, tuple[FunctionLayout, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        of_vms: dict[str, list[FunctionLayout]] = {}
        for function in self.functions:
            if function.vm is not None:
                of_vms.setdefault(function.vm, []).append(function)
        object.__setattr__(self, "_of_vms", {vm: tuple(functions) for vm, functions in of_vms.items()})

    def vm(self, name: str) -> VmLayout:
        """A VM by its name; ``KeyError``."""
        return next(vm for vm in self.vms if vm.name == name)

    def with_vm(self, vm: VmLayout) -> Layout:
        """The same with one VM replaced."""
        return replace(self, vms=tuple(vm if other.name == vm.name else other for other in self.vms))

    def smmu(self, name: str) -> SmmuLayout:
        """An SMMU by its name; ``KeyError``."""
        for smmu in self.smmus:
            if smmu.name == name:
                return smmu
        raise KeyError(name)

    def assigned(self, vm: str) -> tuple[FunctionLayout, ...]:
        """The functions of a VM from its start on, in the order of its command line."""
        return tuple(function for function in self.functions_of(vm) if not function.hotplug)

    def functions_of(self, vm: str) -> tuple[FunctionLayout, ...]:
        """The same and those that may be plugged later."""
        return self._of_vms.get(vm, ())


def in_window(start: int, size: int) -> bool:
    """Whether guest physical addresses overlap the SW MSI window."""
    return start < MSI_IOVA + MSI_LENGTH and start + size > MSI_IOVA
