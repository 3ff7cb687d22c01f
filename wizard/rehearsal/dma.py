"""DMA of every planned function through QEMU's own SMMUv3, with the tables of the dry run's guest, held against the simulated SMMU.

What a Linux guest does is done to both. QEMU's SMMU is its emulated one here (accel needs KVM): stage 1, no ATS, no substreams. The
StreamID is the one that QEMU makes of the function's place, so a vSID that was planned wrong is found too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from wizard.arch.command import Op
from wizard.arch.idr import ADDRESS_BITS, IDR3, IDR5
from wizard.dryrun.guest import LinuxGuest, Stream
from wizard.dryrun.layout import GUEST_RAM, FunctionLayout, VsmmuLayout
from wizard.nesting.invalidate import encode
from wizard.plan.model import DevicePlan, VmPlan
from wizard.rehearsal.engines import Engine
from wizard.rehearsal.qtest import Qtest
from wizard.rehearsal.report import Check
from wizard.rehearsal.twin import Differs, Mirror, Twin, described

_PAGE = 4096
_INSIDE = 0x234
"""Where in a page is accessed: not at its start, so that a lost offset shows."""
_BEYOND = 1 << 50
"""Above any output size of QEMU's SMMU."""
_SILENT = "leaves no event"

ABOVE_OAS = "13: an address beyond the output size passes a bypassing SMMU"
"""A row of QEMU's known departures (fixtures/translation/qemu-departures.md)."""


@dataclass(slots=True)
class Lane:
    """One function with an engine in its place; ``twin`` is None for a function without a vSMMU."""

    assigned: DevicePlan
    engine: Engine
    memory: Mirror
    twin: Twin | None = None

    def check(self, what: str, iova: int, *, departure: str | None = None) -> Check:
        """One access by both; ``departure`` explains QEMU where it is known to differ."""
        expected, lands = self._expected(iova)
        seen = lands is not None and self.memory.read(lands) is not None
        if lands is not None and seen:
            self.engine.prepare(lands)
        records = self.twin.records(lambda: self.engine.act(iova)) if self.twin is not None else []
        if self.twin is None:
            self.engine.act(iova)
        if records:
            found = "; ".join(described(record) for record in records)
        elif lands is None:
            found = _SILENT
        elif seen:
            found = f"reaches {lands:#x}" if self.engine.landed(iova, lands) else f"does not reach {lands:#x}, and leaves no event"
        else:
            found = expected  # nothing is there to look at: that nothing was recorded is all there is to see
        subject = f"{self.assigned.id} ({self.assigned.host}), {'write' if self.engine.writes else 'read'} {what}"
        return Check(subject, expected, found, self.engine.part, departure if expected != found else None)

    def _expected(self, iova: int) -> tuple[str, int | None]:
        if self.twin is None:
            return f"reaches {iova:#x}", iova
        outcome = self.twin.expected(self.assigned.vsid or 0, iova, write=self.engine.writes)
        if outcome.pa is not None:
            return f"reaches {outcome.pa:#x}", outcome.pa
        return (described(outcome.event) if outcome.event is not None and outcome.recorded else _SILENT), None


def dma_checks(vm: VmPlan, qtest: Qtest, engine: type[Engine], bars: Mapping[str, int], smmus: Mapping[str, int]) -> Iterator[Check]:
    """Every access of every function. ``bars``: where BAR 0 of each stand-in is; ``smmus``: where each vSMMU's registers are."""
    memory = Mirror(qtest, GUEST_RAM, vm.memory.size)
    for assigned in vm.devices:
        if assigned.vsmmu is None and assigned.id in bars:
            yield Lane(assigned, engine(qtest, bars[assigned.id]), memory).check("without a vSMMU", GUEST_RAM + _PAGE + _INSIDE)
    for vsmmu in vm.vsmmus:
        twin = Twin(qtest, smmus[vsmmu.id], memory, GUEST_RAM)
        lanes = [
            Lane(assigned, engine(qtest, bars[assigned.id]), memory, twin)
            for assigned in vm.devices
            if assigned.vsmmu == vsmmu.id and assigned.id in bars
        ]
        try:
            yield from _guest_life(vm, vsmmu.id, twin, lanes)
        except Differs as differs:
            yield Check(f"{vsmmu.id}, commands", "the simulated SMMU and QEMU's consume the same", str(differs), engine.part)
        memory.clear()


def _guest_life(vm: VmPlan, vsmmu: str, twin: Twin, lanes: list[Lane]) -> Iterator[Check]:
    """Boot, probe, map, unmap, as arm-smmu-v3.c does; what each step leaves reachable."""
    ids = twin.ids
    layout = VsmmuLayout(vsmmu, "", ids, ats=False, ril=bool(IDR3(ids.idr3).RIL), ssidsize=0, oas=ADDRESS_BITS[IDR5(ids.idr5).OAS], cmdqv=False)
    ram = GUEST_RAM + _PAGE + _INSIDE
    for lane in lanes:
        yield lane.check("before the guest switches its SMMU on", ram)
    guest = LinuxGuest(twin, layout, memory=vm.memory.size)
    guest.boot()
    for lane in lanes:
        yield lane.check("before the guest's driver knows the function", ram)
    # An SMMU may keep a structure that it found invalid (IHI 0070 3.21.3). The simulated one does, QEMU's does not.
    guest.send([encode(Op.CFGI_STE_RANGE, Range=31)])
    for lane in lanes:
        yield from _function_life(guest, lane)


def _function_life(guest: LinuxGuest, lane: Lane) -> Iterator[Check]:
    assigned = lane.assigned
    vsid = assigned.vsid or 0
    function = FunctionLayout(
        assigned.host, assigned.smmu or "", 0, (), canwbs=True, ats=False, pasid=0, direct=False, isolated_msi=True, redirect=True,
        vm="", device=assigned.id, vsmmu=assigned.vsmmu, vsid=vsid,
    )  # fmt: skip
    stream: Stream = guest.probe(function)
    buffer = guest.map(stream, 2 * _PAGE)
    yield lane.check("to a mapped buffer", buffer.iova + _INSIDE)
    yield lane.check("to its second page", buffer.iova + _PAGE + _INSIDE)
    yield lane.check("below it, where nothing is mapped", buffer.iova - _PAGE + _INSIDE)
    yield lane.check("above the input size", 1 << 48 | buffer.iova)
    if lane.engine.writes:
        fixed = guest.map(stream, write=False)
        yield lane.check("to a buffer mapped for reading", fixed.iova + _INSIDE)
    guest.unmap(stream, buffer, invalidate=False)
    yield lane.check("to the buffer after it was unmapped, without invalidation", buffer.iova + _INSIDE)
    guest.send([*guest.tlbi(stream.domain.asid, buffer.iova, buffer.size)])
    yield lane.check("to the buffer after the invalidation", buffer.iova + _INSIDE)
    guest.install(vsid, guest.abort())
    yield lane.check("with an entry that aborts", buffer.iova + _INSIDE)
    guest.install(vsid, guest.bypass())
    yield lane.check("with an entry that bypasses", GUEST_RAM + _PAGE + _INSIDE)
    yield lane.check("beyond the output size, with an entry that bypasses", _BEYOND, departure=ABOVE_OAS)
    guest.install(vsid, guest.entry(stream))
    again = guest.map(stream)
    yield lane.check("to a new buffer, its own entry back", again.iova + _INSIDE)
