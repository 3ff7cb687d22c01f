"""Whose is what, as the plan has it: the claim that the proof holds against what the hardware reads. Evidence of nothing by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from wizard.dryrun.grants import Grant, Interval, covers, merged, overlaps
from wizard.dryrun.layout import HOST_TABLES, ITS_TRANSLATER, FunctionLayout
from wizard.dryrun.owners import joined
from wizard.dryrun.world import Vm, World
from wizard.nesting import HostSmmu, Nested, Parent, Viommu
from wizard.smmu.inventory import Inventory, StreamEntry


@dataclass(frozen=True)
class Claim:
    """One VM on one SMMU of a world: ``found`` is what the hardware has, everything else what is said of it."""

    world: World
    vm: Vm
    host: HostSmmu
    found: Inventory

    # -- functions and tables -----------------------------------------------------------------------------------------

    @cached_property
    def parents(self) -> list[Parent]:
        """The paging HWPTs that the VM's IOAS has on this SMMU."""
        return parents_of(self.vm, self.host)

    @cached_property
    def streams(self) -> dict[int, FunctionLayout]:
        """Every StreamID of this SMMU that the plan knows, with its function."""
        return {sid: function for function in self.world.layout.functions if function.smmu == self.host.name for sid in function.streams}

    def there(self, function: FunctionLayout) -> bool:
        """Whether a function is its VM's now: always, unless it is meant for a free port and is not plugged."""
        device, vm = self.world.devices.get(function.address), self.world.vms.get(function.vm or "")
        return vm is not None and (not function.hotplug or (device is not None and device.owner is vm.iommufd))

    @cached_property
    def _groups(self) -> dict[int, frozenset[str]]:
        found: dict[int, frozenset[str]] = {}
        for function in self.world.layout.functions:
            if function.vm is not None and self.there(function):
                found[function.group] = found.get(function.group, frozenset()) | {function.vm}
        return found

    def vms_of(self, sid: int) -> frozenset[str]:
        """The VMs that a stream may belong to: its function's, or those whose functions are in its group, which is attached whole."""
        function = self.streams.get(sid)
        if function is None:
            return frozenset()
        if function.vm is not None and self.there(function):
            return frozenset({function.vm})
        return self._groups.get(function.group, frozenset())

    @property
    def own(self) -> Iterator[tuple[int, FunctionLayout]]:
        """The VM's StreamIDs."""
        return ((sid, function) for sid, function in self.streams.items() if self.vm.layout.name in self.vms_of(sid))

    def strangers(self) -> Iterator[StreamEntry]:
        """Entries that let traffic through for StreamIDs that are no VM's."""
        return (entry for entry in self.found.live() if not self.vms_of(entry.sid))

    def viommus(self, vm: Vm) -> Iterator[tuple[str, Viommu]]:
        """The vIOMMUs through which entries and commands of a VM's guest reach this SMMU, each with the vSMMU that it is behind."""
        for name, vsmmu in vm.vsmmus.items():
            held = [vsmmu.viommu, *(hwpt.viommu for hwpt in (vsmmu.bypass, vsmmu.abort) if hwpt is not None)]
            for behind in vsmmu.behind.values():
                held += [behind.hwpt.viommu if behind.hwpt is not None else None, behind.device.vmaster[0] if behind.device.vmaster else None]
                held.append(behind.device.vdevice.viommu if behind.device.vdevice is not None else None)
                held.append(hwpt.viommu if isinstance(hwpt := behind.device.group.hwpt, Nested) else None)
            for viommu in dict.fromkeys(held):
                if viommu is not None and viommu.smmu is self.host:
                    yield name, viommu

    # -- memory -------------------------------------------------------------------------------------------------------

    @cached_property
    def grant(self) -> Grant:
        """What the VM's functions may reach: its memory, the ITS page, and the BARs of its functions where QEMU maps them."""
        layout, page = self.vm.layout, self.host.kernel.page_size
        own = tuple(Interval(*held) for held in joined([(chunk.pa, chunk.pa + chunk.size) for chunk in layout.chunks]))
        its = Interval(ITS_TRANSLATER & -page, (ITS_TRANSLATER & -page) + page)
        there = [f for f in self.world.layout.functions_of(layout.name) if self.there(f)] if layout.peer_to_peer else []
        bars = tuple(Interval(bar.pa, bar.pa + bar.size) for function in there for bar in function.bars)
        written = tuple(Interval(queue.start, queue.start + queue.size) for queue in self.found.queues())
        return Grant(own, (its, *bars), Interval(*HOST_TABLES), written)

    def granted(self, start: int, size: int) -> bool:
        """Whether ``size`` bytes from ``start`` are all the VM's to reach."""
        return covers(merged((*self.grant.own, *self.grant.others)), start, size)

    @property
    def plugged(self) -> Iterator[FunctionLayout]:
        """The VM's functions of free ports that are plugged now, wherever they are."""
        return (f for f in self.world.layout.functions_of(self.vm.layout.name) if f.hotplug and self.there(f))

    def guests_have(self, start: int, size: int) -> str | None:
        """In words, whose of the guests' memory is among ``size`` bytes from ``start``; None where none is."""
        where = overlaps(self.world.guests, start, size)
        return None if where is None else f"{self.world.owner_of(where)}, which a guest can write"


def parents_of(vm: Vm, host: HostSmmu) -> list[Parent]:
    """The paging HWPTs of a VM's IOAS on an SMMU."""
    return [parent for parent in vm.iommufd.parents if parent.smmu is host]
