"""iommufd's objects as one VMM sees them: IOAS, HWPTs, vIOMMU, vDEVICE, vEVENTQ. Linux 7.2 and 7.3, drivers/iommu/iommufd.

One ``Iommufd`` is one open /dev/iommu with one IOAS, which is what QEMU uses for a VM. Stage 2 is per SMMU: each parent HWPT maps the whole
IOAS and has a VMID of its own, shared by every vIOMMU that is made on it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from wizard.arch.command import COMMAND_BYTES, Op
from wizard.arch.ste import STE, StreamConfig
from wizard.nesting import invalidate, vste
from wizard.nesting.errors import KernelError
from wizard.nesting.events import Veventq
from wizard.nesting.host import MSI_IOVA, MSI_LENGTH, Device, HostSmmu, Hwpt, Nested, Parent, Vdevice, Viommu, ViommuType
from wizard.nesting.vste import Vste
from wizard.smmu.tables import ContextTable, context_descriptor

DEEPEST = LONGEST = 1 << 19
"""Entries of a vEVENTQ, and commands of one invalidation, at most."""

KMALLOC_MAX = {4096: 1 << 22, 16384: 1 << 25, 65536: 1 << 29}
"""KMALLOC_MAX_SIZE on arm64, by page size: 2^MAX_PAGE_ORDER pages."""

NORMAL, NORMAL_FWB, DEVICE = 0xF, 0x6, 0x1
"""Stage 2 MemAttr of io-pgtable-arm: write-back, write-back with S2FWB, Device-nGnRE."""


@dataclass(frozen=True, slots=True)
class Area:
    """One mapping of an IOAS: ``size`` bytes from ``iova`` to the host's ``pa``."""

    iova: int
    pa: int
    size: int
    device: bool = False


class Iommufd:
    """One VMM's context. ``doorbell`` is the host's ITS translation register, which every attach maps into the SW MSI window."""

    def __init__(self, owner: str, doorbell: int | None) -> None:
        self.owner, self.doorbell = owner, doorbell
        self.areas: list[Area] = []
        self._window: Area | None = None  # the first area that overlaps the SW MSI window
        self.parents: list[Parent] = []
        self.ioctls = 0

    # -- IOAS ---------------------------------------------------------------------------------------------------------

    def map(self, area: Area) -> None:
        """IOMMU_IOAS_MAP; ``KernelError`` EEXIST, EADDRINUSE or EINVAL as iopt_alloc_area_pages() and iopt_check_iova() decide."""
        end = area.iova + area.size
        if area.size <= 0:
            raise KernelError("EINVAL", "iommufd_ioas_map()", "nothing to map")
        place = bisect_left(self.areas, area.iova, key=attrgetter("iova"))
        for held in self.areas[max(place - 1, 0) : place + 1]:
            if held.iova < end and area.iova < held.iova + held.size:
                raise KernelError("EEXIST", "iopt_check_iova()", f"{area.iova:#x} to {end:#x} overlaps what is mapped")
        for parent in self.parents:
            _aperture(parent, area)
        if self.parents and _overlaps_window(area):
            raise _in_window("iopt_check_iova()", area)
        self.areas.insert(place, area)
        if _overlaps_window(area):
            self._window = self._in_window()
        for parent in self.parents:
            _fill(parent, area)

    def unmap(self, area: Area) -> None:
        """IOMMU_IOAS_UNMAP of a whole mapping, with the invalidation that the driver sends; ``KernelError`` ENOENT for one that there is not.

        arm_smmu_tlb_inv_walk() of a nesting parent drops stage 1 of its VMID too, since it was built over the old stage 2.
        """
        if area not in self.areas:
            raise KernelError("ENOENT", "iopt_unmap_iova()", f"nothing is mapped at {area.iova:#x}")
        self.areas.remove(area)
        if _overlaps_window(area):
            self._window = self._in_window()
        for parent in self.parents:
            parent.table.unmap(area.iova, area.size)
            if parent.contexts is None:
                parent.smmu.submit([invalidate.encode(Op.TLBI_S12_VMALL, VMID=parent.vmid)])
            else:
                parent.smmu.submit([invalidate.encode(Op.TLBI_NH_ASID, ASID=parent.asid)])

    def _in_window(self) -> Area | None:
        """The first area that overlaps the SW MSI window; areas are in order and do not overlap each other."""
        place = bisect_left(self.areas, MSI_IOVA, key=attrgetter("iova"))
        return next((area for area in self.areas[max(place - 1, 0) : place + 1] if _overlaps_window(area)), None)

    def window_page(self, page_size: int) -> int:
        """Where in the SW MSI window the doorbell's page is: the first one, as there is one ITS page (iommufd_sw_msi_get_map())."""
        return MSI_IOVA & -page_size

    # -- devices and paging HWPTs -------------------------------------------------------------------------------------

    def bind(self, device: Device) -> None:
        """VFIO_DEVICE_BIND_IOMMUFD; EPERM without isolated MSIs, EINVAL for a 1:1 region, EBUSY when another owner has its group."""
        where = "iommufd_device_bind()"
        if not device.isolated_msi:
            raise KernelError("EPERM", where, "MSIs are not isolated (no ITS)")
        if any(member.direct for member in device.group.devices):
            raise KernelError("EINVAL", "iommu_group_claim_dma_owner()", "firmware has requested a 1:1 mapping for the group")
        if any(member.owner not in (None, self) for member in device.group.devices):
            raise KernelError("EBUSY", "iommu_group_claim_dma_owner()", "another context owns the group")
        device.owner = self

    def alloc_parent(self, device: Device, *, nest_parent: bool = True) -> Parent:
        """IOMMU_HWPT_ALLOC on the IOAS. With IOMMU_HWPT_ALLOC_NEST_PARENT EOPNOTSUPP unless the SMMU nests."""
        smmu = device.smmu
        if nest_parent and not smmu.kernel.nesting:
            raise KernelError("EOPNOTSUPP", "arm_smmu_domain_alloc_paging_flags()", f"{smmu.name} lacks FEAT_NESTING")
        parent = _new_paging(smmu, nest_parent=nest_parent)
        for area in self.areas:
            _aperture(parent, area)
        _fill_all(parent, self.areas)
        if self.doorbell is not None and self._window is None:
            page = smmu.kernel.page_size
            parent.table.map(self.window_page(page), self.doorbell & -page, page, execute=False, attr=_attribute(parent, device=True))
        self.parents.append(parent)
        return parent

    def parent_for(self, device: Device) -> Parent:
        """iommufd_cdev_autodomains_get() of QEMU: the VM's parent of that SMMU, or a new one; the device is attached to it."""
        for parent in self.parents:
            if parent.smmu is device.smmu:
                self.attach(device, parent)
                return parent
        parent = self.alloc_parent(device)
        self.attach(device, parent)
        return parent

    # -- vIOMMU and vDEVICE -------------------------------------------------------------------------------------------

    def alloc_viommu(self, device: Device, parent: Parent, type: ViommuType = ViommuType.ARM_SMMUV3) -> Viommu:
        """IOMMU_VIOMMU_ALLOC; EOPNOTSUPP where arm_smmu_get_viommu_size() is 0, EINVAL for a parent that does not fit."""
        self.ioctls += 1
        smmu, kernel, where = device.smmu, device.smmu.kernel, "arm_smmu_get_viommu_size()"
        if type is ViommuType.DEFAULT:
            raise KernelError("EOPNOTSUPP", "iommufd_viommu_alloc_ioctl()", "the type says nothing")
        if not kernel.nesting:
            raise KernelError("EOPNOTSUPP", where, f"{smmu.name} lacks FEAT_NESTING")
        if kernel.force_sync:
            raise KernelError("EOPNOTSUPP", where, f"an erratum sets CMDQ_FORCE_SYNC on {smmu.name}")
        if not device.canwbs and not kernel.s2fwb:
            raise KernelError("EOPNOTSUPP", where, f"{device.name} lacks CANWBS and {smmu.name} lacks S2FWB")
        if type is ViommuType.TEGRA241_CMDQV and not kernel.cmdqv:
            raise KernelError("EOPNOTSUPP", where, f"{smmu.name} has no CMDQV")
        if not parent.nest_parent:
            raise KernelError("EINVAL", "iommufd_viommu_alloc_ioctl()", "the HWPT is no nesting parent")
        if parent.smmu is not smmu:
            raise KernelError("EINVAL", "arm_vsmmu_init()", f"the parent belongs to {parent.smmu.name}, the function to {smmu.name}")
        return Viommu(type, parent)

    def alloc_vdevice(self, viommu: Viommu, device: Device, vsid: int) -> Vdevice:
        """IOMMU_VDEVICE_ALLOC; EINVAL for another SMMU, EEXIST for a vSID or function already used, EOPNOTSUPP for several StreamIDs."""
        self.ioctls += 1
        where = "iommufd_vdevice_alloc_ioctl()"
        if device.smmu is not viommu.smmu:
            raise KernelError("EINVAL", where, f"{device.name} is behind {device.smmu.name}, the vIOMMU on {viommu.smmu.name}")
        if device.vdevice is not None:
            raise KernelError("EEXIST", where, f"{device.name} is vSID {device.vdevice.vsid:#x} already")
        if vsid in viommu.vdevices:
            raise KernelError("EEXIST", where, f"vSID {vsid:#x} is {viommu.vdevices[vsid].device.name}'s already")
        if len(device.streams) != 1:
            raise KernelError("EOPNOTSUPP", where, f"{device.name} has {len(device.streams)} StreamIDs")
        device.vdevice = viommu.vdevices[vsid] = Vdevice(viommu, device, vsid)
        return device.vdevice

    def free_vdevice(self, device: Device) -> None:
        """IOMMU_DESTROY of a vDEVICE."""
        if device.vdevice is not None:
            device.vdevice.viommu.vdevices.pop(device.vdevice.vsid, None)
            device.vdevice = None

    def alloc_veventq(self, viommu: Viommu, depth: int) -> Veventq:
        """IOMMU_VEVENTQ_ALLOC; EEXIST for a second one, EINVAL for depth 0 or more than 2^19 (iommufd_veventq_alloc())."""
        self.ioctls += 1
        if not 0 < depth <= DEEPEST:
            raise KernelError("EINVAL", "iommufd_veventq_alloc()", f"a queue has 1 to {DEEPEST} entries, not {depth}")
        if viommu.veventq is not None:
            raise KernelError("EEXIST", "iommufd_veventq_alloc()", "the vIOMMU has a queue of this type")
        viommu.veventq = Veventq(depth)
        return viommu.veventq

    def alloc_nested(self, viommu: Viommu, words: tuple[int, int]) -> Nested:
        """IOMMU_HWPT_ALLOC with IOMMU_HWPT_DATA_ARM_SMMUV3: words 0 and 1 of a guest STE; EIO for what may not pass."""
        self.ioctls += 1
        return Nested(viommu, vste.validate(words))

    # -- attaching ----------------------------------------------------------------------------------------------------

    def attach(self, device: Device, hwpt: Hwpt) -> None:
        """VFIO_DEVICE_ATTACH_IOMMUFD_PT of a function. The whole group follows the first one; a second one may only name the same HWPT.

        A function that is attached already replaces the group's HWPT. Errors leave everything as it was.
        """
        self.ioctls += 1
        group = device.group
        if (area := self._window) is not None:
            raise _in_window("iopt_table_enforce_dev_resv_regions()", area)
        if device not in group.members and group.hwpt is not None and group.hwpt is not hwpt:
            raise KernelError("EINVAL", "iommufd_hw_pagetable_attach()", f"group {group.number} is attached to another HWPT")
        if group.hwpt is not hwpt:
            before = [(member, member.installed, member.vmaster, member.ats_on) for member in group.devices]
            try:
                for member in group.devices:
                    _attach_master(member, hwpt)
            except KernelError:
                for member, ste, vmaster, ats_on in before:
                    if member.installed != ste:
                        member.smmu.install(member, ste)
                    member.vmaster, member.ats_on = vmaster, ats_on
                raise
            group.hwpt = hwpt
        if device not in group.members:
            group.members.append(device)

    def detach(self, device: Device) -> None:
        """VFIO_DEVICE_DETACH_IOMMUFD_PT and closing the device: the group goes back to a blocked domain when the last one leaves."""
        group = device.group
        if device in group.members:
            group.members.remove(device)
        device.owner = None
        if not group.members:
            group.hwpt = None
            for member in group.devices:
                member.vmaster, member.ats_on = None, False
                member.smmu.install(member, vste.physical(Vste(STE(0), ats=False), STE(0), ats=False))

    # -- invalidation -------------------------------------------------------------------------------------------------

    def invalidate(self, viommu: Viommu, commands: Sequence[invalidate.Words]) -> int:
        """IOMMU_HWPT_INVALIDATE on a vIOMMU: answers entry_num; ``KernelError`` EIO carries it in ``done``.

        EINVAL for no command and for more than 2^19, ENOMEM for what kcalloc() can't have in one piece: there ``done`` is what was asked for.
        """
        self.ioctls += 1
        count = len(commands)
        if count > LONGEST:
            raise KernelError("EINVAL", "iommufd_hwpt_invalidate()", f"{count} commands are more than {LONGEST}")
        if count * COMMAND_BYTES > KMALLOC_MAX.get(viommu.smmu.kernel.page_size, 1 << 29):
            raise KernelError("ENOMEM", "arm_vsmmu_cache_invalidate()", f"{count} commands are more than kcalloc() has room for", done=count)
        if not count:
            raise KernelError("EINVAL", "iommu_copy_struct_from_full_user_array()", "an array without a command")
        return invalidate.issue(commands, viommu.vmid, viommu.stream_of, viommu.smmu.submit, viommu.smmu.check)


def _new_paging(smmu: HostSmmu, *, nest_parent: bool) -> Parent:
    """arm_smmu_domain_alloc_paging_flags(): stage 2 for a nesting parent or where there is no stage 1, else stage 1."""
    if nest_parent or not smmu.smmu.features.s1p:
        return Parent(smmu, smmu.new_stage2(), smmu.take_vmid(), nest_parent)
    table, asid = smmu.new_stage1(), smmu.take_asid()
    contexts = ContextTable(smmu.smmu.memory, smmu.space)
    contexts.set(0, context_descriptor(table, asid=asid, output_bits=min(smmu.smmu.features.oas, 48)))
    return Parent(smmu, table, 0, nest_parent, contexts, asid)


def _aperture(parent: Parent, area: Area) -> None:
    bits, name = parent.table.input_bits, parent.smmu.name
    if area.iova + area.size > 1 << bits:
        raise KernelError("EADDRINUSE", "iopt_table_add_domain()", f"{area.iova + area.size - 1:#x} is beyond the {bits} bits of {name}")


def _overlaps_window(area: Area) -> bool:
    return area.iova < MSI_IOVA + MSI_LENGTH and area.iova + area.size > MSI_IOVA


def _in_window(where: str, area: Area) -> KernelError:
    return KernelError("EADDRINUSE", where, f"{area.iova:#x} to {area.iova + area.size - 1:#x} overlaps the SW MSI window at {MSI_IOVA:#x}")


def _fill(parent: Parent, area: Area) -> None:
    parent.table.map(area.iova, area.pa, area.size, execute=not area.device, attr=_attribute(parent, device=area.device))


def _fill_all(parent: Parent, areas: Sequence[Area]) -> None:
    """The same for many: guest memory often is pieces of one size, side by side, each somewhere else on the host."""
    first = 0
    while first < len(areas):
        area, last = areas[first], first + 1
        while last < len(areas) and not area.device and not areas[last].device and areas[last].size == area.size:
            if areas[last].iova != area.iova + (last - first) * area.size:
                break
            last += 1
        parent.table.map_each(
            area.iova, [piece.pa for piece in areas[first:last]], area.size, execute=not area.device, attr=_attribute(parent, device=area.device)
        )
        first = last


def _attribute(parent: Parent, *, device: bool) -> int:
    """AttrIndx at stage 1, MemAttr at stage 2."""
    if parent.contexts is not None:
        return int(device)
    return DEVICE if device else NORMAL_FWB if parent.smmu.kernel.s2fwb else NORMAL


def _attach_master(device: Device, hwpt: Hwpt) -> None:
    """arm_smmu_attach_dev() and arm_smmu_attach_dev_nested()."""
    smmu = device.smmu
    if isinstance(hwpt, Parent):
        if hwpt.smmu is not smmu:
            raise KernelError("EINVAL", "arm_smmu_attach_dev()", f"the HWPT belongs to {hwpt.smmu.name}, {device.name} to {smmu.name}")
        device.vmaster = None
        device.ats_on = device.ats and smmu.kernel.ats
        smmu.install(device, hwpt.entry.replace(EATS=int(device.ats_on)))
        return
    viommu = hwpt.viommu
    if viommu.smmu is not smmu:
        raise KernelError("EINVAL", "arm_smmu_attach_dev_nested()", f"the vIOMMU is on {viommu.smmu.name}, {device.name} behind {smmu.name}")
    if device.pasids:
        raise KernelError("EBUSY", "arm_smmu_attach_dev_nested()", f"SSIDs of {device.name} are in use")
    vdevice = device.vdevice
    if vdevice is None or vdevice.viommu is not viommu:
        # A translating entry needs the vSID for invalidations and events; abort and bypass are GBPA's.
        if hwpt.vste.config not in (StreamConfig.ABORT, StreamConfig.BYPASS):
            raise KernelError("ENOENT", "arm_smmu_attach_prepare_vmaster()", f"{device.name} has no vDEVICE on this vIOMMU")
        device.vmaster = None
    else:
        device.vmaster = viommu, vdevice.vsid
    device.ats_on = hwpt.vste.ats and device.ats and smmu.kernel.ats
    smmu.install(device, vste.physical(hwpt.vste, viommu.parent.entry, ats=device.ats_on))
