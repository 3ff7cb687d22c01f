"""PASIDs and ATS. IHI 0070 3.9, 5.2, 13.6; the vSMMU's ssidsize and ats."""

from __future__ import annotations

from wizard.arch.command import Op
from wizard.arch.event import EventType
from wizard.dryrun.bench import Bench, Failed, NotApplicable, rests_on, scenario
from wizard.dryrun.guest import PAGE, Stream
from wizard.dryrun.model import Stopper
from wizard.dryrun.rests import Fact
from wizard.nesting.invalidate import encode
from wizard.smmu import Ats

GROUP = "PASID and ATS"
HARDWARE, KERNEL, NOBODY = Stopper.HARDWARE, Stopper.KERNEL, Stopper.NOBODY


@scenario("pasid-inside", GROUP, "a PASID inside ssidsize", "IHI 0070 5.2 (S1CDMax)", "arm_smmu_write_cd_entry()")
@rests_on(Fact.SSIDSIZE, Fact.PASID)
def pasid_inside(bench: Bench) -> str:
    """An address space of its own."""
    guest, stream = bench.guest(), bench.stream
    if not stream.pasid_bits:
        raise NotApplicable("the vSMMU or the function has no PASIDs")
    ssid = (1 << stream.pasid_bits) - 1
    domain = guest.new_domain()
    own, shared = guest.map(stream), guest.map(stream, domain=domain)
    stream.contexts.set(ssid, guest.descriptor(domain))
    bench.send([encode(Op.CFGI_CD, StreamID=stream.vsid, SubstreamID=ssid, SSV=1, Leaf=1)])
    bench.reaches(shared.iova, bench.pa(shared.ipa), ssid=ssid, what=f"PASID {ssid}")
    bench.reaches(own.iova, bench.pa(own.ipa), what="the same address without a PASID")
    return f"PASID {ssid} (S1CDMax {stream.pasid_bits}) has its own table"


@scenario("pasid-outside", GROUP, "a PASID outside ssidsize", "IHI 0070 7.3.9 (C_BAD_SUBSTREAMID)", stops=HARDWARE)
@rests_on(Fact.SSIDSIZE, Fact.PASID)
def pasid_outside(bench: Bench) -> str:
    """The guest hears of it."""
    guest, stream = bench.guest(), bench.stream
    buffer = guest.map(stream)
    ssid = 1 << stream.pasid_bits
    bench.stopped(buffer.iova, EventType.C_BAD_SUBSTREAMID, ssid=ssid, what=f"PASID {ssid}")
    bench.only_event(EventType.C_BAD_SUBSTREAMID, f"PASID {ssid}")
    return f"C_BAD_SUBSTREAMID for PASID {ssid}, which reaches the guest"


@scenario("ats", GROUP, "ATS: a translation request and what it grants", "IHI 0070 3.9.1, 13.7.1", "arm_smmu_ats_supported()")
@rests_on(Fact.ATS)
def ats(bench: Bench) -> str:
    """The device gets host physical addresses; the report says that it is trusted with them."""
    stream = _with_ats(bench)
    buffer = bench.guest().map(stream)
    outcome = bench.dma(buffer.iova, ats=Ats.REQUEST)
    answer, pa = outcome.ats, bench.pa(buffer.ipa)
    if answer is None or not answer.write or not answer.address <= pa < answer.address + (1 << answer.size):
        raise Failed(f"the completion is {answer}")
    translated = bench.dma(bench.pa(buffer.ipa), ats=Ats.TRANSLATED)
    if translated.pa != bench.pa(buffer.ipa):
        raise Failed(f"translated traffic does not get through: {translated.reason}")
    return f"grants 2^{answer.size} bytes of host memory; the function is trusted with host physical addresses"


@scenario("ats-off", GROUP, "ATS from a function that must not use it", "IHI 0070 3.9.1, 5.2 (EATS 0)", "CR0.ATSCHK", stops=HARDWARE)
@rests_on(Fact.ATS)
def ats_off(bench: Bench) -> str:
    """EATS is 0: requests and translated traffic are refused."""
    stream = bench.stream
    if not bench.host.kernel.ats:
        raise NotApplicable("the SMMU has no ATS: the root port refuses translated requests")
    guest = bench.guest()
    buffer = guest.map(stream)
    bench.install(guest.entry(stream, EATS=0))
    request = bench.dma(buffer.iova, ats=Ats.REQUEST)
    bench.is_stopped(request, EventType.F_BAD_ATS_TREQ, buffer.iova, "an ATS request")
    if request.ats is None or request.ats.status != "UR":
        raise Failed("an ATS request is not answered with UR")
    translated = bench.dma(bench.pa(buffer.ipa), ats=Ats.TRANSLATED)
    bench.is_stopped(translated, EventType.F_TRANSL_FORBIDDEN, bench.pa(buffer.ipa), "translated traffic")
    bench.stopped_by = HARDWARE
    return "requests: UR and F_BAD_ATS_TREQ; translated traffic: F_TRANSL_FORBIDDEN; both in the host's log only"


@scenario(
    "ats-unasked", GROUP, "an entry with EATS although the guest was given no ATS", "arm_smmu_attach_dev_nested()", "arm_smmu_ats_supported()",
    "smmuv3_accel_dev_alloc_translate() (STE1_MASK)", stops=KERNEL,
)  # fmt: skip
@rests_on(Fact.ATS)
def ats_unasked(bench: Bench) -> str:
    """QEMU passes EATS whatever ``ats`` says; whether it counts is decided by the host's SMMU, firmware and function."""
    guest, stream = bench.guest(), bench.stream
    if stream.ats:
        raise NotApplicable("the guest was given ATS")
    buffer = guest.map(stream)
    bench.install(guest.entry(stream, EATS=1))
    bench.reaches(buffer.iova, bench.pa(buffer.ipa), what="a mapped buffer")
    if not (bench.device.ats and bench.host.kernel.ats):
        if bench.device.installed.EATS:
            raise Failed("EATS is set in the hardware's entry, and the function can't use ATS")
        bench.stopped_by = KERNEL
        return "installed with EATS 0: the kernel can't turn ATS on at the function"
    answer = bench.dma(buffer.iova, ats=Ats.REQUEST).ats
    if answer is None or not answer.write:
        raise Failed(f"the completion is {answer}, although arm_smmu_attach_dev_nested() turns ATS on")
    bench.stopped_by = NOBODY
    return "the kernel turns ATS on: ats=off does not keep the guest from it, and the function is trusted with host physical addresses"


@scenario("atc-inv", GROUP, "CMD_ATC_INV after an unmap", "IHI 0070 4.5.1", "arm_smmu_domain_inv_range()")
@rests_on(Fact.ATS)
def atc_inv(bench: Bench) -> str:
    """Under its vSID the guest reaches the device's own cache."""
    stream, guest = _with_ats(bench), bench.guest()
    buffer = guest.map(stream)
    bench.dma(buffer.iova, ats=Ats.REQUEST)
    endpoints, sid = bench.host.smmu.endpoints, bench.device.sid
    if endpoints.find(sid, None, buffer.iova) is None:
        raise Failed("the device cached nothing")
    guest.unmap(stream, buffer)
    if endpoints.find(sid, None, buffer.iova) is not None:
        raise Failed("the device keeps the translation after CMD_ATC_INV")
    return "the device's translation goes with the unmap"


@scenario("atc-stale", GROUP, "an unmap without CMD_ATC_INV", "IHI 0070 3.9.1, 3.9.2", stops=NOBODY)
@rests_on(Fact.ATS)
def atc_stale(bench: Bench) -> str:
    """The device goes on with a host physical address that the guest has freed."""
    stream, guest = _with_ats(bench), bench.guest()
    buffer = guest.map(stream)
    bench.dma(buffer.iova, ats=Ats.REQUEST)
    stream.domain.table.unmap(buffer.iova, PAGE)
    bench.send(guest.tlbi(stream.domain.asid, buffer.iova, PAGE))
    held = bench.host.smmu.endpoints.find(bench.device.sid, None, buffer.iova)
    if held is None:
        raise Failed("the device dropped a translation without CMD_ATC_INV")
    outcome = bench.dma(held.address + (buffer.iova & (1 << held.size) - 1), ats=Ats.TRANSLATED)
    if outcome.pa != bench.pa(buffer.ipa):
        raise Failed("translated traffic lands elsewhere")
    bench.stopped_by = NOBODY
    return "the device's stale translation is used: the VM's own memory, nobody stops it"


def _with_ats(bench: Bench) -> Stream:
    stream = bench.stream
    if not stream.ats:
        raise NotApplicable("the vSMMU or the function has no ATS")
    if not bench.device.ats_on:
        raise Failed("the guest enables ATS, and the host's driver does not (EATS is 0 in the hardware's entry)")
    return stream
