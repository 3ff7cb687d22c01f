"""Hot-plug, unplug and reset; two vSMMUs of one SMMU. smmuv3_accel_unset_iommu_device(), arm_vsmmu_init()."""

from __future__ import annotations

from wizard.arch.command import Op
from wizard.arch.event import EventType
from wizard.arch.registers import GBPA
from wizard.arch.ste import StreamConfig
from wizard.dryrun.bench import Bench, Failed, NotApplicable, rests_on, scenario
from wizard.dryrun.layout import GUEST_RAM
from wizard.dryrun.model import Stopper
from wizard.dryrun.rests import Fact
from wizard.nesting.invalidate import encode
from wizard.smmu import Ats

GROUP = "hot-plug and reset"
HARDWARE, NOBODY, KERNEL = Stopper.HARDWARE, Stopper.NOBODY, Stopper.KERNEL


@scenario(
    "hot-plug", GROUP, "a function is plugged into a port left free", "smmuv3_accel_set_iommu_device()", "smmuv3_accel_check_hw_compatible()",
    "iommufd_cdev_autodomains_get()", stops=HARDWARE, replug=True,
)  # fmt: skip
def hot_plug(bench: Bench) -> str:
    """While the guest runs: nothing before it, then the VM's memory through stage 2, then what the guest maps; those beside it go on."""
    if not bench.function.hotplug:
        raise NotApplicable("it is there from the start")
    bench.vsmmu.unplug(bench.vsid)
    guest = bench.guest()
    bench.stopped(GUEST_RAM, None, what="an access before it is plugged")
    beside = next((f for f in bench.world.layout.assigned(bench.vm.layout.name) if f.vsmmu == bench.function.vsmmu), None)
    other = guest.probe(beside) if beside is not None else None
    bench.world.plug(bench.vm, bench.function)
    bench.say("qemu", "device_add: compared with the vSMMU, stage 2 attached")
    bench.reaches(GUEST_RAM, bench.pa(GUEST_RAM), what="the VM's memory before the guest's first entry for it")
    stream = bench.probe(guest)
    buffer = guest.map(stream)
    bench.reaches(buffer.iova, bench.pa(buffer.ipa), what="a buffer")
    bench.stopped(GUEST_RAM, EventType.F_TRANSLATION, stage2=False, what="memory that the guest did not map for it")
    if other is not None and beside is not None:
        theirs = guest.map(other)
        outcome = bench.dma(theirs.iova, sid=bench.world.devices[beside.address].sid)
        if outcome.pa != bench.pa(theirs.ipa):
            raise Failed(f"{beside.address} beside it lands at {outcome.pa}")
    vmid = bench.device.installed.S2VMID
    return f"vSID {bench.vsid:#x} behind {bench.function.vsmmu}, VMID {vmid} of the VM; until the guest's first CFGI_STE it reaches all of its memory"


@scenario(
    "hot-plug-abort", GROUP, "a function is plugged while GBPA.ABORT is set", "IHI 0070 6.3.14", "smmuv3_accel_alloc_viommu()",
    "smmuv3_accel_set_iommu_device()", stops=NOBODY, replug=True,
)  # fmt: skip
def hot_plug_abort(bench: Bench) -> str:
    """QEMU attaches GBPA's HWPT when it makes the vIOMMU, to the function that it makes it with; one that comes later stays on stage 2."""
    if not bench.function.hotplug:
        raise NotApplicable("it is there from the start: the machine's first reset attaches GBPA's HWPT to it")
    abort = GBPA.build(ABORT=1, Update=1).value
    bench.vsmmu.unplug(bench.vsid)
    first = not bench.vsmmu.behind
    bench.vsmmu.write_gbpa(abort)
    bench.world.plug(bench.vm, bench.function)
    bench.say("qemu", "device_add: " + ("a new vIOMMU, GBPA's HWPT attached" if first else "the vIOMMU is there, stage 2 attached"))
    if first:
        bench.stopped(GUEST_RAM, None, what="an access after it is plugged, GBPA.ABORT being 1")
        return f"the first behind {bench.function.vsmmu}: a silent abort, as GBPA says"
    bench.reaches(GUEST_RAM, bench.pa(GUEST_RAM), what="the VM's memory, GBPA.ABORT being 1")
    bench.stopped(bench.vm.layout.top, EventType.F_TRANSLATION, stage2=True, what="the page above RAM")
    bench.vsmmu.write_gbpa(abort)
    bench.stopped(GUEST_RAM, None, what="an access after GBPA is written again")
    bench.stopped_by = NOBODY
    return "not the first behind its vSMMU: it reaches all of the VM's memory, whatever GBPA.ABORT says, until CFGI_STE or a write to GBPA"


@scenario("unplug", GROUP, "the function is unplugged", "smmuv3_accel_unset_iommu_device()", "vfio_df_iommufd_unbind()", stops=HARDWARE, replug=True)
def unplug(bench: Bench) -> str:
    """Nothing of the VM is left to it: a blocked domain."""
    buffer = bench.guest().map(bench.stream)
    bench.reaches(buffer.iova, bench.pa(buffer.ipa))
    bench.vsmmu.unplug(bench.vsid)
    bench.say("qemu", "device_del: vDEVICE freed, group detached")
    bench.stopped(buffer.iova, None, what="an access after the unplug")
    bench.stopped(GUEST_RAM, None, what="an access by guest physical address after the unplug")
    if bench.device.vdevice is not None or bench.device.vmaster is not None:
        raise Failed("its vDEVICE is still there")
    return "silent abort; its vSID names nobody"


@scenario("replug", GROUP, "unplugged and plugged again", "smmuv3_accel_set_iommu_device()", "iommufd_vdevice_alloc_ioctl()", replug=True)
def replug(bench: Bench) -> str:
    """The same vSID serves again, with a fresh vDEVICE."""
    guest = bench.guest()
    _ = bench.stream
    bench.vsmmu.unplug(bench.vsid)
    bench.world.plug(bench.vm, bench.function)
    again = guest.probe(bench.function)
    if bench.vsmmu.errors:
        raise Failed(f"the guest's entry is refused: {bench.vsmmu.errors[-1]}")
    buffer = guest.map(again)
    bench.reaches(buffer.iova, bench.pa(buffer.ipa), what="a buffer after the replug")
    return f"vSID {bench.vsid:#x} again"


@scenario("reset-atc", GROUP, "a reset with a live ATC", "arm_smmu_attach_dev_nested()", "IHI 0070 3.9.2, 5.2 (EATS)", stops=HARDWARE)
@rests_on(Fact.ATS)
def reset_atc(bench: Bench) -> str:
    """GBPA's HWPT has no ATS: the kernel turns it off at the device, and what its ATC still holds is worth nothing."""
    stream = bench.stream
    if not stream.ats:
        raise NotApplicable("the vSMMU or the function has no ATS")
    buffer = bench.guest().map(stream)
    bench.dma(buffer.iova, ats=Ats.REQUEST)
    held = bench.host.smmu.endpoints.find(bench.device.sid, None, buffer.iova)
    if held is None:
        raise Failed("the device cached nothing")
    bench.vsmmu.reset()
    bench.say("qemu", "reset: the function is on GBPA's bypass HWPT")
    outcome = bench.dma(held.address, ats=Ats.TRANSLATED)
    bench.is_stopped(outcome, EventType.F_TRANSL_FORBIDDEN, held.address, "traffic translated before the reset")
    if bench.device.ats_on:
        raise Failed("the host leaves ATS on at the device")
    bench.stopped_by = HARDWARE
    return "EATS is 0 after it: traffic translated before the reset is F_TRANSL_FORBIDDEN"


@scenario("same-asid", GROUP, "two vSMMUs of one SMMU use the same ASID", "arm_vsmmu_init()", "IHI 0070 3.17, 4.4", stops=NOBODY)
def same_asid(bench: Bench) -> str:
    """They share a VMID, and so an ASID space: safe where the guest's driver has one ASID space for all, as Linux does not promise to others."""
    other = next(
        (f for f in bench.world.layout.assigned(bench.vm.layout.name)
         if f.smmu == bench.function.smmu and f.vsmmu is not None and f.vsmmu != bench.function.vsmmu and f.vsid is not None), None,
    )  # fmt: skip
    if other is None or other.vsmmu is None:
        raise NotApplicable("the VM has one vSMMU on this SMMU")
    guest, stream = bench.guest(), bench.stream
    peer_guest = bench.guest(other.vsmmu)
    peer = peer_guest.probe(other)
    if peer.domain.asid != stream.domain.asid:
        raise AssertionError("two fresh drivers start with the same ASID")
    first, second = guest.map(stream), peer_guest.map(peer)
    bench.reaches(first.iova, bench.pa(first.ipa))
    sid = bench.world.devices[other.address].sid
    outcome = bench.dma(second.iova, sid=sid)
    bench.stopped_by = NOBODY
    if outcome.pa == bench.pa(second.ipa):
        raise Failed("the second vSMMU does not see the first one's entries, although both have the same VMID and ASID")
    if outcome.pa != bench.pa(first.ipa):
        raise Failed(f"the access lands at {outcome.pa:#x}, in neither buffer")
    return (
        "a translation of one vSMMU is hit through the other: both have one VMID. Linux guests number ASIDs in one space for all SMMUs "
        "(arm_smmu_asid_xa) and never meet it; others may, within their own memory"
    )


@scenario("other-vm-vmid", GROUP, "another VM on the same SMMU", "arm_smmu_domain_finalise_s2()", "IHI 0070 3.17 (VMID)", stops=HARDWARE)
def other_vm_vmid(bench: Bench) -> str:
    """Same ASID, same IOVA, different VMID: no entry is shared, and an invalidation does not cross."""
    neighbour = next(
        (f for f in bench.world.layout.functions
         if f.smmu == bench.function.smmu and f.vm not in (None, bench.vm.layout.name) and f.vsid is not None and not f.hotplug), None,
    )  # fmt: skip
    if neighbour is None or neighbour.vm is None:
        raise NotApplicable("no other VM has a function behind this SMMU")
    device = bench.world.devices.get(neighbour.address)
    if device is None or device.installed.Config not in (StreamConfig.STAGE2, StreamConfig.NESTED):
        raise NotApplicable(f"VM {neighbour.vm} did not come up")
    if device.installed.S2VMID == bench.device.installed.S2VMID or device.installed.S2TTB == bench.device.installed.S2TTB:
        raise Failed(f"VM {neighbour.vm} has the same VMID or stage 2")
    theirs = bench.world.vms[neighbour.vm].memory.pa(GUEST_RAM)
    outcome = bench.dma(GUEST_RAM, sid=device.sid)
    if outcome.pa != theirs:
        raise Failed(f"{neighbour.address} of VM {neighbour.vm} at {GUEST_RAM:#x} lands at {outcome.pa}")
    buffer = bench.guest().map(bench.stream)
    bench.reaches(buffer.iova, bench.pa(buffer.ipa))
    bench.send([encode(Op.TLBI_NSNH_ALL)])
    tlb = bench.host.smmu.tlb
    if tlb is None or tlb.find(("IPA", device.installed.S2VMID, -1), GUEST_RAM) is None:
        raise Failed(f"CMD_TLBI_NSNH_ALL of this VM took an entry of VM {neighbour.vm}")
    bench.stopped(0, EventType.F_TRANSLATION, what="address 0")
    theirs, ours = device.installed.S2VMID, bench.device.installed.S2VMID
    return f"VM {neighbour.vm} has VMID {theirs}, this one {ours}; its entries outlive this VM's TLBI_NSNH_ALL"
