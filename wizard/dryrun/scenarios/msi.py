"""Message signalled interrupts: the device writes the SW MSI window, stage 1 maps it to itself, stage 2 to the host's ITS page.

Linux: MSI_IOVA_BASE, iommufd_sw_msi(), the guest's iommu_create_device_direct_mappings(); QEMU: one IORT RMR for each accelerated vSMMU.
"""

from __future__ import annotations

from wizard.arch.event import EventType
from wizard.dryrun.bench import Bench, Failed, Needs, NotApplicable, rests_on, scenario
from wizard.dryrun.layout import ITS_TRANSLATER, in_window
from wizard.dryrun.model import Stopper
from wizard.dryrun.rests import Fact
from wizard.nesting import Iommufd
from wizard.nesting.host import MSI_IOVA, MSI_LENGTH
from wizard.nesting.iommufd import Area

GROUP = "interrupts"
HARDWARE, KERNEL = Stopper.HARDWARE, Stopper.KERNEL


def _doorbell(bench: Bench) -> int:
    """What the host writes into the function's MSI-X table."""
    page = bench.host.kernel.page_size
    return bench.vm.iommufd.window_page(page) + ITS_TRANSLATER % page


@scenario("msi", GROUP, "an interrupt", "iommufd_sw_msi()", "IORT RMR node", "iommu_create_device_direct_mappings()")
def msi(bench: Bench) -> str:
    """Through both stages to GITS_TRANSLATER."""
    _ = bench.stream
    where = _doorbell(bench)
    bench.reaches(where, ITS_TRANSLATER, what="the MSI write")
    return f"{where:#x} through the guest's RMR to the host's ITS"


@scenario("msi-plain", GROUP, "an interrupt without a stage 1 of the guest's", "iommufd_sw_msi()", needs=Needs.FUNCTION)
def msi_plain(bench: Bench) -> str:
    """Firmware's drivers run before any stage 1."""
    bench.reaches(_doorbell(bench), ITS_TRANSLATER, what="the MSI write")
    return "through stage 2 alone" if bench.function.vsmmu is not None else "through the host's table"


@scenario("msi-no-rmr", GROUP, "a guest that ignores the RMR", "iommu_create_device_direct_mappings()", "IORT RMR node", stops=HARDWARE)
def msi_no_rmr(bench: Bench) -> str:
    """Its interrupts are lost, and its own event log says so."""
    guest = bench.guest(rmr=False)
    bench.probe(guest)
    bench.stopped(_doorbell(bench), EventType.F_TRANSLATION, stage2=False, what="the MSI write")
    bench.only_event(EventType.F_TRANSLATION, "the MSI write")
    return "interrupts are lost: F_TRANSLATION at the doorbell, which reaches the guest"


@scenario("msi-overlap", GROUP, "guest memory and the SW MSI window", "iopt_table_enforce_dev_resv_regions()", stops=KERNEL, needs=Needs.LAYOUT)
@rests_on(Fact.PAGE_SIZE)
def msi_overlap(bench: Bench) -> str:
    """Memory in the window would swallow the interrupts; iommufd refuses it."""
    vm = bench.vm.layout
    for chunk in vm.chunks:
        if in_window(chunk.ipa, chunk.size):
            raise Failed(f"guest memory at {chunk.ipa:#x} overlaps the window at {MSI_IOVA:#x} (EADDRINUSE)")
    if in_window(*vm.window):
        raise Failed(f"the PCI window at {vm.window[0]:#x} overlaps the MSI window at {MSI_IOVA:#x}")
    device = bench.world.devices.get(bench.function.address)
    if device is None:
        raise NotApplicable("the function has no IOMMU")
    wrong = Iommufd("overlap", vm.doorbell)
    wrong.map(Area(MSI_IOVA, vm.chunks[0].pa, bench.host.kernel.page_size))
    taken = set(bench.host.vmids)
    try:
        parent = wrong.alloc_parent(device, nest_parent=bench.host.kernel.nesting)
        bench.refused(lambda: wrong.attach(device, parent), "EADDRINUSE", "memory in the MSI window")
    finally:
        bench.host.vmids = taken
    return f"no memory of the VM in {MSI_IOVA:#x} to {MSI_IOVA + MSI_LENGTH - 1:#x}; the kernel would refuse it with EADDRINUSE"


@scenario("msi-pasid", GROUP, "an MSI write that carries a PASID", "PCIe 6.0 6.1.4", "IHI 0070 5.2 (substreams)", stops=HARDWARE)
@rests_on(Fact.SSIDSIZE, Fact.PASID)
def msi_pasid(bench: Bench) -> str:
    """A PASID's address space has no doorbell."""
    guest, stream = bench.guest(), bench.stream
    if not stream.pasid_bits:
        bench.stopped(_doorbell(bench), EventType.C_BAD_SUBSTREAMID, ssid=1, what="the MSI write")
        return "C_BAD_SUBSTREAMID: the stream has no substreams"
    domain = guest.new_domain()
    stream.contexts.set(1, guest.descriptor(domain))
    bench.stopped(_doorbell(bench), EventType.F_TRANSLATION, ssid=1, stage2=False, what="the MSI write")
    bench.only_event(EventType.F_TRANSLATION, "the MSI write")
    return "F_TRANSLATION in the PASID's address space"
