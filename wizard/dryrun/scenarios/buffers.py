"""Buffers mapped, unmapped and freed, and invalidations that are missing, late, or for another ASID. IHI 0070 3.17, 4.4."""

from __future__ import annotations

from wizard.arch.command import Op
from wizard.arch.event import EventType
from wizard.base.text import plural
from wizard.dryrun.bench import Bench, Failed, NotApplicable, rests_on, scenario
from wizard.dryrun.guest import PAGE, invalidation
from wizard.dryrun.model import Stopper
from wizard.dryrun.rests import Fact
from wizard.nesting.invalidate import encode
from wizard.smmu.attributes import Cache

GROUP = "buffers"
HARDWARE, NOBODY = Stopper.HARDWARE, Stopper.NOBODY
NON_CACHEABLE = 2  # AttrIndx of the guest's MAIR


@scenario("mapped", GROUP, "a mapped buffer", "IHI 0070 3.3.2", "arm_smmu_domain_finalise()")
def mapped(bench: Bench) -> str:
    """Read and write, first and last byte."""
    buffer = bench.guest().map(bench.stream, 4 * PAGE)
    for offset in (0, 4 * PAGE - 8):
        for write in (False, True):
            bench.reaches(buffer.iova + offset, bench.pa(buffer.ipa + offset), write=write, what="the buffer")
    bench.no_event("a mapped buffer")
    return f"{buffer.iova:#x} reaches {bench.pa(buffer.ipa):#x}"


@scenario("unmapped", GROUP, "an address that is not mapped", "IHI 0070 7.3.13 (F_TRANSLATION)", stops=HARDWARE)
def unmapped(bench: Bench) -> str:
    """The guest gets the event, with its own StreamID."""
    buffer = bench.guest().map(bench.stream)
    bench.stopped(buffer.iova - PAGE, EventType.F_TRANSLATION, stage2=False)
    bench.only_event(EventType.F_TRANSLATION, "an unmapped address")
    return "F_TRANSLATION, which reaches the guest"


@scenario("read-only", GROUP, "a write to a buffer that is mapped for reading", "IHI 0070 7.3.16 (F_PERMISSION)", "DDI 0487 D8.4", stops=HARDWARE)
def read_only(bench: Bench) -> str:
    """DMA_TO_DEVICE."""
    buffer = bench.guest().map(bench.stream, write=False)
    bench.reaches(buffer.iova, bench.pa(buffer.ipa), write=False, what="a read")
    bench.stopped(buffer.iova, EventType.F_PERMISSION, stage2=False, what="a write")
    bench.only_event(EventType.F_PERMISSION, "a write")
    return "reads pass, a write is F_PERMISSION"


@scenario(
    "memory-type", GROUP, "a buffer that the guest maps non-cacheable", "IHI 0070 5.2 (STE.S2FWB), 13.1", "arm_smmu_master_canwbs()", stops=HARDWARE
)  # fmt: skip
@rests_on(Fact.CANWBS, Fact.S2FWB)
def memory_type(bench: Bench) -> str:
    """VFIO cleans no caches for the guest, so its DMA must not get around them: S2FWB makes it write-back, or CANWBS makes the bus coherent."""
    guest, stream = bench.guest(), bench.stream
    buffer = guest.buffers.take(PAGE)
    iova = stream.domain.iova(PAGE)
    stream.domain.table.map(iova, buffer, PAGE, execute=False, attr=NON_CACHEABLE)
    attributes = bench.reaches(iova, bench.pa(buffer)).attributes
    coherent = attributes is not None and attributes.device is None and attributes.inner is Cache.WB and attributes.outer is Cache.WB
    bench.stopped_by = HARDWARE
    if bench.host.kernel.s2fwb:
        if not coherent:
            raise Failed(f"S2FWB is set and the access is {attributes}")
        return f"S2FWB: stage 2 makes it {attributes}"
    if not bench.function.canwbs:
        bench.stopped_by = NOBODY
        raise Failed(f"the access is {attributes} and nothing keeps it coherent")
    return f"the access is {attributes}; CANWBS: the root complex keeps it coherent all the same"


@scenario("freed", GROUP, "a freed buffer", "IHI 0070 4.4.2 (CMD_TLBI_NH_VA)", "arm_smmu_domain_inv_range()", stops=HARDWARE)
def freed(bench: Bench) -> str:
    """dma_unmap with strict invalidation."""
    guest, stream = bench.guest(), bench.stream
    buffer = guest.map(stream, 2 * PAGE)
    bench.reaches(buffer.iova, bench.pa(buffer.ipa))
    guest.unmap(stream, buffer)
    for offset in (0, PAGE):
        bench.stopped(buffer.iova + offset, EventType.F_TRANSLATION, stage2=False, what="an access after dma_unmap")
    return "F_TRANSLATION from the CMD_SYNC on"


@scenario("no-invalidation", GROUP, "an unmap without invalidation", "IHI 0070 3.17, 4.4", stops=NOBODY)
def no_invalidation(bench: Bench) -> str:
    """The stale entry serves the device, within the VM's own memory, until the invalidation comes."""
    guest, stream = bench.guest(), bench.stream
    buffer = guest.map(stream)
    bench.reaches(buffer.iova, bench.pa(buffer.ipa))
    guest.unmap(stream, buffer, invalidate=False)
    bench.reaches(buffer.iova, bench.pa(buffer.ipa), what="the stale entry")
    bench.send(guest.tlbi(stream.domain.asid, buffer.iova, buffer.size))
    bench.stopped(buffer.iova, EventType.F_TRANSLATION, stage2=False, what="an access after the invalidation")
    bench.stopped_by = NOBODY
    return "the stale entry is hit until the guest invalidates: its own memory, nobody stops it"


@scenario("late-invalidation", GROUP, "memory reused before the invalidation", "IHI 0070 3.17", "iommu_iotlb_sync()", stops=NOBODY)
def late_invalidation(bench: Bench) -> str:
    """The IOVA is mapped anew; the device still writes to the old page."""
    guest, stream = bench.guest(), bench.stream
    old = guest.map(stream)
    bench.reaches(old.iova, bench.pa(old.ipa))
    guest.unmap(stream, old, invalidate=False)
    new = guest.buffers.take(PAGE)
    stream.domain.table.map(old.iova, new, PAGE, execute=False)
    bench.reaches(old.iova, bench.pa(old.ipa), what="the stale entry")
    bench.send(guest.tlbi(stream.domain.asid, old.iova, PAGE))
    bench.reaches(old.iova, bench.pa(new), what="the new mapping after the invalidation")
    bench.stopped_by = NOBODY
    return "the old page is written until the invalidation: the guest's own fault, in its own memory"


@scenario("wrong-asid", GROUP, "an invalidation for another ASID", "IHI 0070 4.4.2", stops=NOBODY)
def wrong_asid(bench: Bench) -> str:
    """It leaves the entry, the right one takes it."""
    guest, stream = bench.guest(), bench.stream
    buffer = guest.map(stream)
    bench.reaches(buffer.iova, bench.pa(buffer.ipa))
    guest.unmap(stream, buffer, invalidate=False)
    bench.send([encode(Op.TLBI_NH_ASID, ASID=stream.domain.asid + 1)])
    bench.reaches(buffer.iova, bench.pa(buffer.ipa), what="the stale entry")
    bench.send([encode(Op.TLBI_NH_ASID, ASID=stream.domain.asid)])
    bench.stopped(buffer.iova, EventType.F_TRANSLATION, stage2=False, what="an access after the right ASID")
    bench.stopped_by = NOBODY
    return "another ASID's entries go, this one's stay"


@scenario("ttl-tg", GROUP, "level and granule hints", "IHI 0070 4.4.1.1 (TTL, TG)", "arm_smmu_inv_to_cmdq_batch()", stops=NOBODY)
@rests_on(Fact.RIL)
def ttl_tg(bench: Bench) -> str:
    """A hint that does not fit the leaf leaves its entry."""
    guest, stream = bench.guest(), bench.stream
    if not bench.properties.ril:
        raise NotApplicable("without RIL the hints are reserved, and a guest sends none")
    buffer, asid = guest.map(stream), stream.domain.asid
    bench.reaches(buffer.iova, bench.pa(buffer.ipa))
    guest.unmap(stream, buffer, invalidate=False)
    for wrong in ({"TG": 1, "TTL": 2}, {"TG": 3, "TTL": 3}):
        bench.send([encode(Op.TLBI_NH_VA, ASID=asid, Address=buffer.iova, Leaf=1, **wrong)])
        bench.reaches(buffer.iova, bench.pa(buffer.ipa), what=f"the entry after TG {wrong['TG']}, TTL {wrong['TTL']}")
    bench.send([encode(Op.TLBI_NH_VA, ASID=asid, Address=buffer.iova, Leaf=1, TG=1, TTL=3)])
    bench.stopped(buffer.iova, EventType.F_TRANSLATION, stage2=False, what="an access after the right hint")
    bench.stopped_by = NOBODY
    return "a wrong level or granule leaves the entry, the right one takes it"


@scenario("range", GROUP, "an unmap of many pages", "IHI 0070 4.4.1.1 (range invalidation)", "IDR3.RIL", "arm_smmu_inv_to_cmdq_batch()",
          stops=HARDWARE)  # fmt: skip
@rests_on(Fact.RIL)
def range_commands(bench: Bench) -> str:
    """With RIL a few commands, without it one a page."""
    guest, stream = bench.guest(), bench.stream
    pages = 17
    buffer = guest.map(stream, pages * PAGE)
    for page in range(pages):
        bench.reaches(buffer.iova + page * PAGE, bench.pa(buffer.ipa + page * PAGE))
    before = bench.vsmmu.forwarded
    guest.unmap(stream, buffer)
    sent = bench.vsmmu.forwarded - before - len(guest.atc_inv(stream, buffer))
    for page in range(pages):
        bench.stopped(buffer.iova + page * PAGE, EventType.F_TRANSLATION, stage2=False, what=f"page {page} after the unmap")
    expected = len(list(invalidation(1, buffer.iova, buffer.size, ril=bench.properties.ril)))
    if sent != expected:
        raise Failed(f"{sent} commands reached the host instead of {expected}")
    other = len(list(invalidation(1, buffer.iova, buffer.size, ril=not bench.properties.ril)))
    with_ril, without = (sent, other) if bench.properties.ril else (other, sent)
    return f"{pages} pages: {plural(with_ril, 'command')} with RIL, {without} without; this vSMMU has {'it' if bench.properties.ril else 'none'}"
