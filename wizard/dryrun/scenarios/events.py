"""Which events reach the guest, which stay in the host's log, and what a flood costs. arm_smmu_handle_event(), iommufd_viommu_report_event()."""

from __future__ import annotations

from wizard.arch import event
from wizard.arch.event import EventType
from wizard.dryrun.bench import Bench, Failed, scenario
from wizard.dryrun.guest import PAGE
from wizard.dryrun.model import Stopper
from wizard.nesting import Veventq
from wizard.nesting.events import HANDLED

GROUP = "events"
HARDWARE, KERNEL = Stopper.HARDWARE, Stopper.KERNEL


@scenario("event-guest", GROUP, "a stage 1 event reaches the guest with its vSID", "arm_vmaster_report_event()", "IHI 0070 7.3", stops=HARDWARE)
def event_guest(bench: Bench) -> str:
    """Record for record as the hardware wrote it, but for the StreamID."""
    buffer = bench.guest().map(bench.stream)
    outcome = bench.stopped(buffer.iova - 0x40, EventType.F_TRANSLATION, stage2=False)
    got = bench.only_event(EventType.F_TRANSLATION, "an unmapped address")
    if outcome.event is None or got != outcome.event.replace(StreamID=bench.vsid):
        raise Failed("the record differs in more than its StreamID")
    return f"InputAddr {buffer.iova - 0x40:#x}, StreamID {bench.vsid:#x} in place of {bench.device.sid:#x}"


@scenario("event-host", GROUP, "a stage 2 event stays in the host's log", "arm_smmu_handle_event()", "arm_smmu_dump_event()", stops=HARDWARE)
def event_host(bench: Bench) -> str:
    """The guest must not learn of the host's tables."""
    guest = bench.guest()
    buffer = guest.map(bench.stream, ipa=bench.vm.layout.top)
    bench.stopped(buffer.iova, EventType.F_TRANSLATION, stage2=True)
    bench.host.handle_events()
    if bench.vsmmu.read_events():
        raise Failed("the guest sees a stage 2 fault")
    (logged,) = bench.host.log or (None,)
    if logged is None or logged.StreamID != bench.device.sid:
        raise Failed("the host's log has no event of the function")
    return f"event {logged.Type:#04x} with StreamID {logged.StreamID:#x} in the host's log"


@scenario("event-kinds", GROUP, "kinds of events that a guest never sees", "arm_smmu_handle_event()", "IHI 0070 7.3", stops=KERNEL)
def event_kinds(bench: Bench) -> str:
    """Fetch faults, walk aborts, bad StreamIDs and ATS requests: the switch in arm_smmu_handle_event() has no case for them."""
    _ = bench.stream
    reached = []
    for kind in EventType:
        bench.host.smmu.queue.put(event.build(kind, StreamID=bench.device.sid), merge=False)
        if bench.guest_events():
            reached.append(kind)
    if set(reached) != HANDLED:
        raise Failed(f"{', '.join(kind.name for kind in set(reached) ^ HANDLED)} on the wrong side")
    bench.stopped_by = KERNEL
    return f"{len(reached)} of {len(EventType)} kinds reach the guest, the others only the host's log"


@scenario("event-flood", GROUP, "a flood of faults", "IHI 0070 7.3.1 (merging)", "STRTAB_STE_1_MEV", "iommufd_vevent_handler()", stops=HARDWARE)
def event_flood(bench: Bench) -> str:
    """Same page: merged by the hardware. Many pages: a full vEVENTQ loses the rest and counts them."""
    buffer = bench.guest().map(bench.stream)
    low = buffer.iova - 64 * PAGE
    for offset in range(0, PAGE, 64):
        bench.dma(low + offset)
    merged = len(bench.guest_events())
    if merged != 1:
        raise Failed(f"64 faults of one page become {merged} events")
    viommu = bench.vsmmu.viommu
    if viommu is None:
        raise Failed("QEMU made no vIOMMU")
    # QEMU's queue is as deep as the guest's, 2^15 entries; eight show the same.
    viommu.veventq = Veventq(depth=8)
    for page in range(1, 33):
        bench.dma(low + page * PAGE)
    bench.host.handle_events()
    lost = viommu.veventq.lost
    kept = len(bench.vsmmu.read_events())
    if (kept, lost) != (8, 24):
        raise Failed(f"{kept} events kept and {lost} lost in a queue of 8")
    bench.vsmmu.errors.clear()
    bench.stopped_by = HARDWARE
    return (
        "64 faults of one page may be merged into one event (MEV); beyond the queue's depth the newest are lost and counted, "
        "and QEMU only says so on stderr"
    )
