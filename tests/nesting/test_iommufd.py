"""iommufd's objects: errno by errno, as Linux 7.2 and 7.3 decide, and the groups of domain problem 31 as seen on a real kernel."""

from __future__ import annotations

import errno
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from tests.nesting.machine import BACKING, DOORBELL, RAM, RAM_SIZE, Guest, Machine, translated
from wizard.arch.command import Op
from wizard.arch.event import EventType
from wizard.arch.ste import STE
from wizard.nesting import Group, Iommufd, Kernel, KernelError, ViommuType
from wizard.nesting.host import MSI_IOVA, MSI_LENGTH
from wizard.nesting.invalidate import encode
from wizard.nesting.iommufd import Area
from wizard.nesting.qemu import Incompatible, compare, ids_of
from wizard.smmu import Ids, Transaction


def refused(name: str, error: pytest.ExceptionInfo[KernelError]) -> bool:
    return error.value.errno == name and error.value.number == getattr(errno, name)


# -- parents and vIOMMUs ----------------------------------------------------------------------------------------------


def test_a_parent_needs_nesting() -> None:
    host = Machine()
    device = host.function(host.smmu(kernel=Kernel(nesting=False)), "a", 8)
    with pytest.raises(KernelError) as error:
        host.vm().alloc_parent(device)
    assert refused("EOPNOTSUPP", error)


@pytest.mark.parametrize(
    ("kernel", "canwbs", "works"),
    [
        ({}, True, True),
        ({"s2fwb": True}, False, True),
        ({}, False, False),
        ({"force_sync": True}, True, False),
    ],
)
def test_viommu_conditions(kernel: dict[str, Any], canwbs: bool, works: bool) -> None:
    host = Machine()
    device = host.function(host.smmu(kernel=Kernel(**kernel)), "a", 8, canwbs=canwbs)
    vm = host.vm()
    parent = vm.alloc_parent(device)
    if works:
        assert vm.alloc_viommu(device, parent).vmid == parent.vmid
        return
    with pytest.raises(KernelError) as error:
        vm.alloc_viommu(device, parent)
    assert refused("EOPNOTSUPP", error)
    assert error.value.where == "arm_smmu_get_viommu_size()"


def test_a_viommu_has_a_type() -> None:
    """iommufd_viommu_alloc_ioctl(): IOMMU_VIOMMU_TYPE_DEFAULT is 0."""
    host = Machine()
    device, vm = host.function(host.smmu(), "a", 8), host.vm()
    with pytest.raises(KernelError) as error:
        vm.alloc_viommu(device, vm.alloc_parent(device), ViommuType.DEFAULT)
    assert refused("EOPNOTSUPP", error)


def test_viommu_parent_must_nest_and_belong_to_the_smmu() -> None:
    host = Machine()
    first, second = host.smmu("a"), host.smmu("b")
    device, other = host.function(first, "f", 8), host.function(second, "g", 8)
    vm = host.vm()
    with pytest.raises(KernelError) as error:
        vm.alloc_viommu(device, vm.alloc_parent(device, nest_parent=False))
    assert refused("EINVAL", error)
    with pytest.raises(KernelError) as error:
        vm.alloc_viommu(other, vm.alloc_parent(device))
    assert refused("EINVAL", error)


def test_cmdqv_only_where_there_is_one() -> None:
    host = Machine()
    vm = host.vm()
    device = host.function(host.smmu(), "a", 8)
    with pytest.raises(KernelError) as error:
        vm.alloc_viommu(device, vm.alloc_parent(device), ViommuType.TEGRA241_CMDQV)
    assert refused("EOPNOTSUPP", error)


def test_one_vmid_per_vm_and_smmu_also_for_two_vsmmus() -> None:
    host = Machine()
    first, second = host.smmu("a"), host.smmu("b")
    f, g, h = host.function(first, "f", 8), host.function(first, "g", 16), host.function(second, "h", 8)
    vm, other = host.vm(), host.vm(BACKING + RAM_SIZE)
    one, two, three = (host.vsmmu(vm) for _ in range(3))
    one.plug(f, 8)
    two.plug(g, 16)
    three.plug(h, 8)
    assert one.viommu is not two.viommu
    assert one.viommu is not None
    assert two.viommu is not None
    assert three.viommu is not None
    assert one.viommu.vmid == two.viommu.vmid
    assert one.viommu.parent is two.viommu.parent
    assert three.viommu.parent is not one.viommu.parent
    k = host.function(first, "k", 24)
    four = host.vsmmu(other)
    four.plug(k, 8)
    assert four.viommu is not None
    assert four.viommu.vmid != one.viommu.vmid


def test_vmids_run_out() -> None:
    host = Machine()
    smmu = host.smmu(ids=Ids(idr0=0x0D40_101B))
    for _ in range(255):
        smmu.take_vmid()
    with pytest.raises(KernelError, match="ENOSPC"):
        smmu.take_vmid()


# -- IOAS -------------------------------------------------------------------------------------------------------------


def test_the_first_area_in_the_msi_window_is_named_wherever_it_lies() -> None:
    """``attach()`` looks where it would be, not at every area; held against looking at every area."""
    host, rng, found = Machine(), Random(3), 0
    device = host.function(host.smmu(), "a", 8)
    for _ in range(150):
        vm = Iommufd("vm", None)
        for _ in range(rng.randrange(6)):
            start = MSI_IOVA + rng.randrange(-4, 2 * MSI_LENGTH >> 16) * 0x1_0000
            with suppress(KernelError):
                vm.map(Area(start, BACKING, rng.choice([0x1000, 0x1_0000, 0x4_0000, 0x80_0000])))
        inside = [area for area in vm.areas if area.iova < MSI_IOVA + MSI_LENGTH and area.iova + area.size > MSI_IOVA]
        parent = vm.alloc_parent(device)
        if not inside:
            vm.attach(device, parent)
            vm.detach(device)
            continue
        found += 1
        with pytest.raises(KernelError, match=f"{inside[0].iova:#x} to {inside[0].iova + inside[0].size - 1:#x} "):
            vm.attach(device, parent)
    assert 30 < found < 140


def test_memory_in_the_msi_window_or_above_the_aperture_is_refused() -> None:
    host = Machine()
    device = host.function(host.smmu(), "a", 8)
    for area in (Area(1 << 44, BACKING, 0x1000), Area((1 << 44) - 0x1000, BACKING, 0x2000)):
        vm = Iommufd("vm", DOORBELL)
        vm.map(area)
        with pytest.raises(KernelError) as error:
            vm.alloc_parent(device)
        assert refused("EADDRINUSE", error)
    last = Iommufd("vm", DOORBELL)
    last.map(Area((1 << 44) - 0x1000, BACKING, 0x1000))  # the last page that 44 bits have
    last.alloc_parent(device)
    vm = Iommufd("vm", DOORBELL)
    vm.map(Area(MSI_IOVA, BACKING, 0x1000))
    parent = vm.alloc_parent(device)
    with pytest.raises(KernelError) as error:
        vm.attach(device, parent)
    assert refused("EADDRINUSE", error)
    vm = host.vm()
    vm.alloc_parent(device)
    with pytest.raises(KernelError) as error:
        vm.map(Area(RAM, BACKING, 0x1000))
    assert refused("EEXIST", error)


def test_stage_2_maps_ram_and_the_doorbell_and_nothing_else() -> None:
    host = Machine()
    device = host.function(host.smmu(), "a", 8)
    parent = host.vm().alloc_parent(device)
    assert parent.table.lookup(RAM) == BACKING
    assert parent.table.lookup(RAM + RAM_SIZE - 1) == BACKING + RAM_SIZE - 1
    assert parent.table.lookup(RAM + RAM_SIZE) is None
    assert parent.table.lookup(MSI_IOVA + 0x40) == DOORBELL
    assert parent.table.lookup(MSI_IOVA + 0x1000) is None


# -- vDEVICE ----------------------------------------------------------------------------------------------------------


def test_vdevice_errors() -> None:
    host = Machine()
    first, second = host.smmu("a"), host.smmu("b")
    f, g, far = host.function(first, "f", 8), host.function(first, "g", 16), host.function(second, "h", 8)
    aliased = host.function(first, "aliased", 0x8300, 0x8310)
    vm = host.vm()
    viommu = vm.alloc_viommu(f, vm.alloc_parent(f))
    vm.alloc_vdevice(viommu, f, 0x100)
    for device, vsid, name in ((f, 0x200, "EEXIST"), (g, 0x100, "EEXIST"), (far, 0x300, "EINVAL"), (aliased, 0x400, "EOPNOTSUPP")):
        with pytest.raises(KernelError) as error:
            vm.alloc_vdevice(viommu, device, vsid)
        assert refused(name, error)


def test_binding_errors() -> None:
    host = Machine()
    smmu = host.smmu()
    with pytest.raises(KernelError) as error:
        host.vm().bind(host.function(smmu, "no its", 1, isolated_msi=False))
    assert refused("EPERM", error)
    with pytest.raises(KernelError) as error:
        host.vm().bind(host.function(smmu, "gb10", 2, direct=True))
    assert refused("EINVAL", error)
    device = host.function(smmu, "busy", 3)
    host.vm().bind(device)
    with pytest.raises(KernelError) as error:
        host.vm().bind(device)
    assert refused("EBUSY", error)


def test_a_stream_belongs_to_one_function() -> None:
    host = Machine()
    smmu = host.smmu(ids=Ids(idr1=0x0273_0020))
    host.function(smmu, "first", 67328)
    with pytest.raises(KernelError, match="stream 67328 already in tree"):
        host.function(smmu, "second", 67328)


# -- attaching --------------------------------------------------------------------------------------------------------


def test_attach_of_a_translating_entry_needs_the_vdevice() -> None:
    host = Machine()
    device = host.function(host.smmu(), "a", 8)
    vm = host.vm()
    viommu = vm.alloc_viommu(device, vm.alloc_parent(device))
    vm.attach(device, vm.alloc_nested(viommu, (0b1001, 0)))
    translating = vm.alloc_nested(viommu, (STE.build(V=1, Config=5, S1ContextPtr=RAM).words[0], 0))
    with pytest.raises(KernelError) as error:
        vm.attach(device, translating)
    assert refused("ENOENT", error)
    assert device.installed.Config == 6
    vm.alloc_vdevice(viommu, device, 0x100)
    vm.attach(device, translating)
    assert device.installed.Config == 7


def test_attach_refuses_ssids_in_use_and_another_smmu() -> None:
    host = Machine()
    first, second = host.smmu("a"), host.smmu("b")
    device, far = host.function(first, "f", 8), host.function(second, "g", 8)
    vm = host.vm()
    viommu = vm.alloc_viommu(device, vm.alloc_parent(device))
    bypass = vm.alloc_nested(viommu, (0b1001, 0))
    with pytest.raises(KernelError) as error:
        vm.attach(far, bypass)
    assert refused("EINVAL", error)
    device.pasids = frozenset({1})
    with pytest.raises(KernelError) as error:
        vm.attach(device, bypass)
    assert refused("EBUSY", error)


# As seen on Linux 7.2.13 with QEMU 11.1.2 (a two-function e1000e in one group).


def test_two_functions_of_one_group_behind_one_vsmmu() -> None:
    """``error attach 0000:81:00.0 (26) pasid 0 to id=9: Invalid argument``."""
    host = Machine()
    smmu, group = host.smmu(), Group(7)
    vsmmu = host.vsmmu(host.vm())
    first, second = host.function(smmu, "81:00.0", 0x8100, group=group), host.function(smmu, "81:00.1", 0x8101, group=group)
    vsmmu.plug(first, 0x900)
    with pytest.raises(KernelError) as error:
        vsmmu.plug(second, 0x901)
    assert refused("EINVAL", error)
    assert error.value.where == "iommufd_hw_pagetable_attach()"


def test_one_function_of_a_group_fails_at_the_guests_first_ste() -> None:
    """QEMU starts; the guest finds ``CMDQ error: Illegal command`` at its CFGI_STE, opcode 0x03."""
    host = Machine()
    smmu, group = host.smmu(), Group(7)
    vsmmu = host.vsmmu(host.vm())
    first, _ = host.function(smmu, "81:00.0", 0x8100, group=group), host.function(smmu, "81:00.1", 0x8101, group=group)
    vsmmu.plug(first, 0x900)
    guest = Guest(vsmmu)
    guest.table(0x900)
    consumed = vsmmu.consume([encode(Op.CFGI_STE, StreamID=0x900, Leaf=1), encode(Op.SYNC)])
    assert (consumed.count, consumed.error.name) == (0, "CERROR_ILL")
    assert "arm_smmu_attach_prepare_vmaster()" in vsmmu.errors[0]


# -- the whole way ----------------------------------------------------------------------------------------------------


def test_a_guests_stage_1_reaches_its_memory_and_its_fault_comes_back_with_the_vsid() -> None:
    host = Machine()
    device = host.function(host.smmu(), "a", 0x1300)
    vsmmu = host.vsmmu(host.vm())
    vsmmu.plug(device, 0x900)
    guest = Guest(vsmmu)
    table = guest.table(0x900)
    table.map(0x10_0000, RAM + 0x80_0000, 0x2000)
    assert vsmmu.consume([encode(Op.CFGI_STE, StreamID=0x900, Leaf=1)]).count == 1
    smmu = device.smmu.smmu
    assert smmu.translate(Transaction(0x1300, 0x10_1008, write=True)).pa == BACKING + 0x80_1008
    assert not smmu.translate(Transaction(0x1300, 0x20_0000, write=True)).ok
    assert device.smmu.handle_events() == 1
    (event,) = vsmmu.read_events()
    assert (event.Type, event.StreamID) == (EventType.F_TRANSLATION, 0x900)
    assert device.smmu.log == []


def test_stage_2_faults_stay_in_the_hosts_log() -> None:
    host = Machine()
    device = host.function(host.smmu(), "a", 0x1300)
    vsmmu = host.vsmmu(host.vm())
    vsmmu.plug(device, 0x900)
    guest = Guest(vsmmu)
    guest.table(0x900).map(0x10_0000, RAM + RAM_SIZE, 0x1000)
    vsmmu.consume([encode(Op.CFGI_STE, StreamID=0x900, Leaf=1)])
    assert not device.smmu.smmu.translate(Transaction(0x1300, 0x10_0000)).ok
    assert device.smmu.handle_events() == 0
    assert [event.Type for event in device.smmu.log] == [EventType.F_TRANSLATION]
    assert vsmmu.read_events() == ()


def test_reset_and_unplug_leave_nothing_of_the_guest_behind() -> None:
    device, vsmmu = translated()
    vsmmu.reset()
    assert device.installed.Config == 6
    vsmmu.unplug(0x900)
    assert (device.installed.Config, device.vdevice, device.owner) == (0, None, None)
    assert not device.smmu.smmu.translate(Transaction(0x1300, RAM)).ok


# -- QEMU's comparison ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (ids_of(), None),
        (ids_of(ril=False), None),
        (ids_of(ssidsize=20), "Host SMMUv3 SSIDSIZE not compatible (host=0, QEMU=20)"),
        (ids_of(oas=48), "Host SMMUv3 supports only 44-bit IPA, but the vSMMU OAS implies 48-bit IPA"),
        (ids_of(ats=True), "Host SMMUv3 doesn't support Address Translation Services"),
    ],
)
def test_qemu_compares_with_the_raw_registers(ids: Ids, message: str | None) -> None:
    assert compare(ids, Ids()) == message


def test_qemu_refuses_a_function_before_it_makes_the_viommu() -> None:
    host = Machine()
    device = host.function(host.smmu(), "a", 8)
    vsmmu = host.vsmmu(host.vm(), ids_of(ssidsize=8))
    with pytest.raises(Incompatible, match="SSIDSIZE"):
        vsmmu.plug(device, 8, Ids())
    assert vsmmu.viommu is None


def test_without_a_vsmmu_linux_uses_stage_1_of_its_own() -> None:
    """arm_smmu_domain_alloc_paging_flags(): only a nesting parent is stage 2 where the SMMU has both."""
    host = Machine()
    device = host.function(host.smmu(), "a", 8)
    vm = host.vm()
    vm.bind(device)
    vm.attach(device, vm.alloc_parent(device, nest_parent=False))
    assert device.installed.Config == 5
    smmu = device.smmu.smmu
    assert smmu.translate(Transaction(8, RAM, write=True)).pa == BACKING
    assert smmu.translate(Transaction(8, MSI_IOVA + 0x40, write=True)).pa == DOORBELL
    outside = smmu.translate(Transaction(8, RAM + RAM_SIZE)).event
    assert outside is not None
    assert (outside.Type, outside.layout["S2"].get(outside.value)) == (EventType.F_TRANSLATION, 0)


# -- what is unmapped -------------------------------------------------------------------------------------------------


def test_memory_that_is_unmapped_is_gone_at_once_and_the_rest_stays() -> None:
    """arm_smmu_tlb_inv_walk() after the unmapping: what the TLB held of it is gone too; what was never mapped is ENOENT."""
    host = Machine()
    smmu = host.smmu()
    device, vm = host.function(smmu, "a", 8), host.vm()
    more = Area(RAM + RAM_SIZE, BACKING + RAM_SIZE, 0x20_0000)
    vm.map(more)
    vm.bind(device)
    vm.parent_for(device)

    def reaches(address: int) -> bool:
        return smmu.smmu.translate(Transaction(8, address, write=True)).ok

    assert (reaches(RAM), reaches(more.iova)) == (True, True)
    vm.unmap(more)
    assert (reaches(RAM), reaches(more.iova)) == (True, False)
    with pytest.raises(KernelError) as error:
        vm.unmap(more)
    assert refused("ENOENT", error)
    vm.map(more)
    assert reaches(more.iova)
