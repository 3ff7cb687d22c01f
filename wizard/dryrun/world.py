"""The simulated host of a layout: one memory, the SMMUs under Linux, one iommufd per VM, one vSMMU as planned. State, thrown away after use."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from operator import attrgetter
from typing import TYPE_CHECKING

from wizard.dryrun import owners
from wizard.dryrun.layout import HOST_TABLES, ITS_FRAME, Chunk, FunctionLayout, Layout, VmLayout, VsmmuLayout
from wizard.dryrun.rests import Guesses
from wizard.nesting import Device, Group, HostSmmu, Iommufd, KernelError, ViommuType, Vsmmu
from wizard.nesting.iommufd import Area
from wizard.nesting.qemu import Incompatible
from wizard.smmu.memory import PAGE_BYTES, PAGE_SHIFT, Memory, by_page, store_words
from wizard.smmu.tables import Allocator

if TYPE_CHECKING:
    from wizard.dryrun.grants import Interval


@dataclass(slots=True)
class Trouble:
    """Why a function did not come up: errno or QEMU's message, and who said it."""

    error: KernelError | Incompatible

    @property
    def kernel(self) -> bool:
        """Whether the kernel refused, not QEMU."""
        return isinstance(self.error, KernelError)

    def __str__(self) -> str:
        return str(self.error)


class GuestMemory:
    """Guest RAM by guest physical address, in the host's memory. Pages that were met are remembered until ``forget``."""

    __slots__ = ("_chunks", "_memory", "_pages", "_words")

    def __init__(self, memory: Memory, chunks: tuple[Chunk, ...]) -> None:
        self._memory, self._chunks = memory, chunks
        self._pages: dict[int, int] = {}
        self._words: dict[int, array[int]] = {}

    def pa(self, ipa: int) -> int | None:
        """The host's address, None outside RAM."""
        page = self._pages.get(ipa >> PAGE_SHIFT)
        if page is not None:
            return page + (ipa & PAGE_BYTES - 1)
        place = bisect_right(self._chunks, ipa, key=attrgetter("ipa")) - 1
        if place < 0:
            return None
        chunk = self._chunks[place]
        if ipa >= chunk.ipa + chunk.size:
            return None
        where = chunk.pa + ipa - chunk.ipa
        self._pages[ipa >> PAGE_SHIFT] = where & -PAGE_BYTES
        return where

    def read(self, address: int) -> int | None:
        """The word at a guest physical address, None outside RAM."""
        where = self.pa(address)
        return None if where is None else self._memory.read(where)

    def read_words(self, address: int, count: int) -> list[int] | None:
        """Words from a guest physical address on, None where any of them is outside RAM."""
        where = self.pa(address)
        if where is not None and (address & PAGE_BYTES - 1) + 8 * count <= PAGE_BYTES:
            return self._memory.read_words(where, count)
        words = [self.read(address + 8 * index) for index in range(count)]
        known = [word for word in words if word is not None]
        return known if len(known) == count else None

    def write(self, address: int, word: int) -> None:
        """Store a word; ``ValueError`` outside RAM."""
        self._page(address)[(address & PAGE_BYTES - 1) >> 3] = word

    def write_words(self, address: int, words: Iterable[int]) -> None:
        """Store words from an address on; ``ValueError`` outside RAM."""
        store_words(self._page, address, words)

    def _page(self, address: int) -> array[int]:
        words = self._words.get(address >> PAGE_SHIFT)
        if words is None:
            where = self.pa(address)
            if where is None:
                raise ValueError(f"the guest has no memory at {address:#x}")
            words = self._words[address >> PAGE_SHIFT] = self._memory.page(where & -PAGE_BYTES)
        return words

    def zero(self, address: int, size: int) -> None:
        """Zero a part of RAM, as far as there is any."""
        for part, length in by_page(address, size):
            if (where := self.pa(part)) is not None:
                self._memory.zero(where, length)

    def forget(self) -> None:
        """The host's memory was cleared underneath."""
        self._words.clear()


@dataclass(slots=True, eq=False)
class Vm:
    """One VM's process on the host."""

    layout: VmLayout
    iommufd: Iommufd
    memory: GuestMemory
    vsmmus: dict[str, Vsmmu] = field(default_factory=dict)
    trouble: dict[str, Trouble] = field(default_factory=dict)


class World:
    """Everything that a layout brings into being. ``reset`` puts one VM back to power-on, as before any scenario."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.guesses = Guesses(layout.guesses)
        top = max((c.pa + c.size for vm in layout.vms for c in vm.chunks), default=HOST_TABLES[1])
        bars = [(bar.pa, bar.pa + bar.size) for function in layout.functions for bar in function.bars]
        self.memory = Memory(((HOST_TABLES[0], max(HOST_TABLES[1], top)), ITS_FRAME, *bars))
        self.space = Allocator(*HOST_TABLES)
        self.smmus = {s.name: HostSmmu(s.name, s.ids, self.memory, self.space, s.kernel) for s in layout.smmus}
        self.groups: dict[int, Group] = {}
        self.devices: dict[str, Device] = {}
        self.refused: dict[str, Trouble] = {}
        for function in layout.functions:
            self._add(function)
        self.vms = {vm.name: self._vm(vm) for vm in layout.vms}
        for name in self.vms:
            self.start(name)
        for function in layout.functions:
            if function.hotplug and function.vm is not None:
                # Its HWPT, if it needs one of its own, belongs to what a reset keeps.
                self.realize(function.vm, function)
                self.stop(function.vm)
                self.start(function.vm)
        self._kept = frozenset(self.memory.pages)

    @cached_property
    def shared(self) -> str | None:
        """Two owners of one frame, in words (``owners.shared``)."""
        return owners.shared(self.layout)

    @cached_property
    def guests(self) -> list[Interval]:
        """All that any guest can write, joined."""
        from wizard.dryrun.grants import Interval  # numpy: only a proof walks whole tables

        return [Interval(*held) for held in owners.joined(owners.writable(self.layout))]

    def _add(self, function: FunctionLayout) -> None:
        group = self.groups.setdefault(function.group, Group(function.group))
        device = Device(
            function.address, self.smmus[function.smmu], function.streams, group, canwbs=function.canwbs, ats=function.ats,
            direct=function.direct, isolated_msi=function.isolated_msi,
        )  # fmt: skip
        try:
            self.smmus[function.smmu].add(device)
        except KernelError as error:
            self.refused[function.address] = Trouble(error)
            return
        self.devices[function.address] = device

    def _vm(self, vm: VmLayout) -> Vm:
        memory = GuestMemory(self.memory, vm.chunks)
        iommufd = Iommufd(vm.name, vm.doorbell)
        made = Vm(vm, iommufd, memory)
        try:
            for chunk in _joined(vm.chunks):
                iommufd.map(Area(chunk.ipa, chunk.pa, chunk.size))
            for function in self.layout.assigned(vm.name):
                self._map_bars(made, function)
        except KernelError as error:
            made.trouble[""] = Trouble(error)
        return made

    def _areas(self, vm: Vm, function: FunctionLayout) -> list[Area]:
        """The BARs of a function that QEMU maps into the VM's IOAS; it goes on without one that is too high, and peer-to-peer DMA to it is lost."""
        aperture = 1 << min((min(s.smmu.features.oas, 48) for s in self.smmus.values()), default=48)
        bars = [bar for bar in function.bars if bar.ipa + bar.size <= aperture] if vm.layout.peer_to_peer else []
        return [Area(bar.ipa, bar.pa, bar.size, device=True) for bar in bars]

    def _map_bars(self, vm: Vm, function: FunctionLayout) -> None:
        for area in self._areas(vm, function):
            if area not in vm.iommufd.areas:
                vm.iommufd.map(area)

    def start(self, name: str) -> None:
        """Start a VM's QEMU: every function is realized, in the order of the command line; then the machine is reset for the first time."""
        vm = self.vms[name]
        trouble = vm.trouble.get("")
        vm.trouble = {"": trouble} if trouble else {}
        vm.vsmmus = {v.id: self._vsmmu(vm, v) for v in vm.layout.vsmmus}
        for function in self.layout.assigned(name):
            self.realize(name, function)
        for vsmmu in vm.vsmmus.values():
            vsmmu.reset()

    def _vsmmu(self, vm: Vm, vsmmu: VsmmuLayout) -> Vsmmu:
        return Vsmmu(vm.iommufd, vsmmu.ids, vm.memory, ViommuType.TEGRA241_CMDQV if vsmmu.cmdqv else ViommuType.ARM_SMMUV3)

    def realize(self, name: str, function: FunctionLayout) -> None:
        """Plug a function, at the start or by device_add; what goes wrong is the VM's ``trouble``."""
        vm = self.vms[name]
        try:
            self.plug(vm, function)
        except (KernelError, Incompatible) as error:
            vm.trouble[function.address] = Trouble(error)

    def plug(self, vm: Vm, function: FunctionLayout) -> None:
        """Realize one function; ``KernelError`` or ``Incompatible`` where that fails."""
        if function.address in self.refused:
            raise self.refused[function.address].error
        device = self.devices[function.address]
        vsmmu = vm.vsmmus.get(function.vsmmu or "")
        if vsmmu is None or function.vsid is None:
            vm.iommufd.bind(device)
            self._plain(vm, device)
        else:
            vsmmu.plug(device, function.vsid, self.layout.smmu(function.smmu).ids)
        if function.hotplug:
            self._map_bars(vm, function)

    def _plain(self, vm: Vm, device: Device) -> None:
        """A function without a vIOMMU: an HWPT that maps guest RAM (iommufd_cdev_autodomains_get())."""
        for parent in vm.iommufd.parents:
            if parent.smmu is device.smmu:
                vm.iommufd.attach(device, parent)
                return
        vm.iommufd.attach(device, vm.iommufd.alloc_parent(device, nest_parent=False))

    def stop(self, name: str) -> None:
        """Every function of a VM is let go; its HWPTs and VMIDs stay reserved for the next start."""
        vm = self.vms[name]
        for function in self.layout.functions_of(name):
            device = self.devices.get(function.address)
            if device is None or device.owner is not vm.iommufd:
                continue
            vm.iommufd.free_vdevice(device)
            vm.iommufd.detach(device)
        self._unmap_plugged(vm)

    def _unmap_plugged(self, vm: Vm) -> None:
        """The BARs of functions that are no longer plugged leave the IOAS."""
        for function in self.layout.functions_of(vm.layout.name):
            if function.hotplug:
                for area in self._areas(vm, function):
                    if area in vm.iommufd.areas:
                        vm.iommufd.unmap(area)

    def reset(self, name: str, *, replug: bool) -> None:
        """Back to how the world was before ``name``'s guest ran: memory, caches, queues, counters. ``replug`` also starts its QEMU again."""
        vm = self.vms[name]
        if replug:
            self.stop(name)
        else:
            for vsmmu in vm.vsmmus.values():
                vsmmu.reset()
                for behind in vsmmu.behind.values():
                    vm.iommufd.free_vdevice(behind.device)
                    if behind.device.vmaster is not None:
                        behind.device.vmaster = None
                if vsmmu.viommu is not None:
                    vsmmu.viommu.veventq = None
                vsmmu.errors.clear()
                vsmmu.events.clear()
                vsmmu.ignored.clear()
                vsmmu.forwarded = 0
        if replug:
            self.start(name)
        self._forget_pages()
        vm.memory.forget()
        for smmu in self.smmus.values():
            smmu.smmu.events()
            if smmu.smmu.tlb is not None:
                smmu.smmu.tlb.clear()
            if smmu.smmu.configuration_cache is not None:
                smmu.smmu.configuration_cache.clear()
            smmu.smmu.endpoints.held.clear()
            smmu.smmu.queue.lost = smmu.smmu.queue.merged = 0
            smmu.log.clear()
            smmu.skipped.clear()
            smmu.commands = smmu.syncs = 0

    def _forget_pages(self) -> None:
        """The pages that came into being since the world was built: behind those that were there, if none of those went."""
        pages, kept = self.memory.pages, self._kept
        fresh = list(takewhile(lambda number: number not in kept, reversed(pages)))
        if len(pages) - len(fresh) != len(kept):
            fresh = [number for number in pages if number not in kept]
        for number in fresh:
            del pages[number]

    def owner_of(self, pa: int) -> str:
        """In words: what is at a host physical address."""
        for vm in self.layout.vms:
            for chunk in vm.chunks:
                if chunk.pa <= pa < chunk.pa + chunk.size:
                    return f"memory of VM {vm.name} at {chunk.ipa + pa - chunk.pa:#x}"
        for function in self.layout.functions:
            for bar in function.bars:
                if bar.pa <= pa < bar.pa + bar.size:
                    return f"a BAR of {function.address}"
        if ITS_FRAME[0] <= pa < ITS_FRAME[1]:
            return "the host's ITS page"
        return "the host"


def _joined(chunks: tuple[Chunk, ...]) -> list[Chunk]:
    """Neighbours that continue each other, as one."""
    joined: list[Chunk] = []
    for chunk in chunks:
        if joined and joined[-1].ipa + joined[-1].size == chunk.ipa and joined[-1].pa + joined[-1].size == chunk.pa:
            joined[-1] = Chunk(joined[-1].ipa, joined[-1].pa, joined[-1].size + chunk.size)
        else:
            joined.append(chunk)
    return joined
