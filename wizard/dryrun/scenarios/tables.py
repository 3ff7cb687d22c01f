"""What a guest's own tables can get wrong: S1CDMax, S1DSS, and pointers to memory that stage 2 does not map."""

from __future__ import annotations

from wizard.arch.event import EventType, FaultClass
from wizard.dryrun.bench import Bench, Failed, NotApplicable, rests_on, scenario
from wizard.dryrun.model import Stopper
from wizard.dryrun.rests import Fact

GROUP = "guest tables"
HARDWARE = Stopper.HARDWARE


@scenario("s1cdmax", GROUP, "S1CDMax above the SMMU's SSIDSIZE", "IHI 0070 5.2 (STE.S1CDMax), 7.3.5", stops=HARDWARE)
@rests_on(Fact.SSIDSIZE)
def s1cdmax(bench: Bench) -> str:
    """C_BAD_STE, or an ignored field where the SMMU has no substreams."""
    guest, stream = bench.guest(), bench.stream
    buffer = guest.map(stream)
    size = bench.host.smmu.features.ssidsize
    bench.install(guest.entry(stream, S1CDMax=min(size + 1, 31)))
    if not size:
        bench.reaches(buffer.iova, bench.pa(buffer.ipa), what="the buffer")
        return "ignored: the SMMU has no substreams (SSIDSIZE 0)"
    bench.stopped(buffer.iova, EventType.C_BAD_STE)
    bench.only_event(EventType.C_BAD_STE, "S1CDMax")
    return f"C_BAD_STE, which reaches the guest (SSIDSIZE {size})"


@scenario("s1dss", GROUP, "S1DSS: transactions without a PASID", "IHI 0070 5.2 (STE.S1DSS), 7.3.7", stops=HARDWARE)
@rests_on(Fact.SSIDSIZE, Fact.PASID)
def s1dss(bench: Bench) -> str:
    """0 terminates, 1 bypasses stage 1, 2 uses context descriptor 0."""
    guest, stream = bench.guest(), bench.stream
    if not stream.pasid_bits:
        raise NotApplicable("without substreams S1DSS is ignored")
    buffer = guest.map(stream)
    bench.reaches(buffer.iova, bench.pa(buffer.ipa), what="S1DSS 2")
    bench.install(guest.entry(stream, S1DSS=1))
    bench.reaches(buffer.ipa, bench.pa(buffer.ipa), what="S1DSS 1")
    bench.install(guest.entry(stream, S1DSS=0))
    bench.stopped(buffer.iova, EventType.F_STREAM_DISABLED, what="S1DSS 0")
    bench.only_event(EventType.F_STREAM_DISABLED, "S1DSS 0")
    return "0: F_STREAM_DISABLED; 1: stage 1 bypassed; 2: descriptor 0"


@scenario("cd-unmapped", GROUP, "S1ContextPtr in memory that stage 2 does not map", "IHI 0070 7.3.13 (CLASS=CD)", stops=HARDWARE)
def cd_unmapped(bench: Bench) -> str:
    """The host's log has it; the guest hears nothing."""
    guest, stream = bench.guest(), bench.stream
    buffer = guest.map(stream)
    bench.install(guest.entry(stream, S1ContextPtr=bench.vm.layout.top))
    bench.stopped(buffer.iova, EventType.F_TRANSLATION, stage2=True, purpose=FaultClass.CD)
    return _host_only(bench)


@scenario("table-unmapped", GROUP, "a stage 1 table in memory that stage 2 does not map", "IHI 0070 7.3.13 (CLASS=TTD)", stops=HARDWARE)
def table_unmapped(bench: Bench) -> str:
    """TTB0 points above RAM."""
    guest, stream = bench.guest(), bench.stream
    buffer = guest.map(stream)
    stream.contexts.set(0, guest.descriptor(stream.domain).replace(TTB0=bench.vm.layout.top))
    bench.install(guest.entry(stream))
    bench.stopped(buffer.iova, EventType.F_TRANSLATION, stage2=True, purpose=FaultClass.TTD)
    return _host_only(bench)


@scenario("cd-invalid", GROUP, "a context descriptor that is not valid", "IHI 0070 5.4, 7.3.11 (C_BAD_CD)", stops=HARDWARE)
def cd_invalid(bench: Bench) -> str:
    """CD.V is 0."""
    guest, stream = bench.guest(), bench.stream
    buffer = guest.map(stream)
    stream.contexts.set(0, guest.descriptor(stream.domain).replace(V=0))
    bench.install(guest.entry(stream))
    bench.stopped(buffer.iova, EventType.C_BAD_CD)
    bench.only_event(EventType.C_BAD_CD, "an invalid descriptor")
    return "C_BAD_CD, which reaches the guest"


def _host_only(bench: Bench) -> str:
    bench.host.handle_events()
    if bench.vsmmu.read_events():
        raise Failed("a stage 2 fault reaches the guest")
    if not bench.host.log:
        raise Failed("the host's log has no event")
    return "stage 2 fault; in the host's log, not in the guest"
