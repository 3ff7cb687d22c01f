"""What a function can reach: the end of RAM, the PCI window, other VMs, its peers."""

from __future__ import annotations

from wizard.arch.event import EventType
from wizard.base.text import size as size_text
from wizard.dryrun.bench import Bench, Failed, Needs, NotApplicable, rests_on, scenario
from wizard.dryrun.guest import PAGE
from wizard.dryrun.layout import FunctionLayout
from wizard.dryrun.model import Stopper
from wizard.dryrun.rests import Fact

GROUP = "reach"
HARDWARE, NOBODY = Stopper.HARDWARE, Stopper.NOBODY


@scenario(
    "end-of-memory", GROUP, "the end of RAM against OAS", "IHI 0070 6.3.6 (IDR5.OAS), 3.4", "iopt_table_add_domain()", "CD.IPS", needs=Needs.LAYOUT
)
@rests_on(Fact.OAS)
def end_of_memory(bench: Bench) -> str:
    """The last page is an address that both stages can carry."""
    top, oas = bench.vm.layout.top, bench.host.smmu.features.oas
    if top > 1 << (min(oas, 48) if bench.function.vsmmu is not None else 48):
        raise Failed(f"RAM ends at {top - 1:#x}, beyond the {oas} bits of {bench.function.smmu}: EADDRINUSE when it is attached")
    if bench.function.vsmmu is None:
        return f"RAM ends at {top - 1:#x}, within the 48 bits of the host's table"
    if top > 1 << bench.properties.oas:
        raise Failed(f"RAM ends at {top - 1:#x}, beyond the vSMMU's {bench.properties.oas} bits: the guest can't map it (CD.IPS)")
    if bench.vm.trouble or len(bench.device.group.devices) > 1:
        return f"RAM ends at {top - 1:#x}, within {oas} bits"
    buffer = bench.guest().map(bench.stream, ipa=top - PAGE)
    bench.reaches(buffer.iova, bench.pa(top - PAGE), what="the last page of RAM")
    return f"RAM ends at {top - 1:#x}; its last page is reached through both stages"


@scenario("pci-window", GROUP, "the PCI window against OAS", "IHI 0070 3.4", "virt_set_high_memmap()", needs=Needs.LAYOUT)
@rests_on(Fact.OAS, Fact.BARS, Fact.DMABUF)
def pci_window(bench: Bench) -> str:
    """BARs above OAS can't be reached by peers, nor mapped."""
    base, size = bench.vm.layout.window
    oas = bench.host.smmu.features.oas
    assigned = bench.world.layout.assigned(bench.vm.layout.name)
    end = max((bar.ipa + bar.size for f in assigned for bar in f.bars), default=base)
    if end > 1 << oas:
        if len(assigned) > 1 and bench.vm.layout.peer_to_peer:
            raise Failed(f"BARs of the VM reach {end - 1:#x}, beyond the {oas} bits of {bench.function.smmu}: peers can't reach them")
        return f"the VM's BARs end at {end - 1:#x}, beyond {oas} bits: processors reach them, DMA of a peer would not"
    beyond = "" if base + size <= 1 << oas else f"; the window of {size_text(size)} itself reaches beyond {oas} bits"
    return f"the window is at {base:#x}, the VM's BARs end at {end - 1:#x}{beyond}"


@scenario("beyond-memory", GROUP, "a guest that maps what it does not have", "IHI 0070 3.3.2", stops=HARDWARE)
def beyond_memory(bench: Bench) -> str:
    """Stage 1 may say anything; stage 2 has the last word."""
    guest, stream = bench.guest(), bench.stream
    limit = 1 << min(bench.properties.oas, bench.host.smmu.features.oas)
    targets = [ipa for ipa in (0, 0x0808_0000, bench.vm.layout.top, limit - PAGE) if ipa < limit and bench.vm.memory.pa(ipa) is None]
    for ipa in targets:
        buffer = guest.map(stream, ipa=ipa)
        bench.stopped(buffer.iova, EventType.F_TRANSLATION, stage2=True, what=f"guest physical address {ipa:#x}")
    bench.no_event("a stage 2 fault")
    return f"{len(targets)} addresses outside the VM's memory are stage 2 faults"


@scenario("isolation", GROUP, "no stage 1, entry or command reaches another's memory", "IHI 0070 3.3.2", "arm_smmu_validate_vste()", stops=HARDWARE,
          needs=Needs.FUNCTION)  # fmt: skip
@rests_on(Fact.ATS, Fact.BARS, Fact.DMABUF, Fact.CMDQV)
def isolation(bench: Bench) -> str:
    """The proof over the whole of stage 2."""
    proof = bench.prove(bench.vm.layout.name, bench.function.smmu)
    if not proof.proved:
        raise Failed(proof.counterexample or proof.text)
    bench.stopped_by = HARDWARE
    return proof.text


def _peers(bench: Bench) -> list[FunctionLayout]:
    return [f for f in bench.world.layout.assigned(bench.vm.layout.name) if f.address != bench.function.address and f.bars]


@scenario("peer-to-peer", GROUP, "DMA to a BAR of another function of the VM", "iommufd/pages.c (dma-buf)", "IHI 0070 3.3.2", stops=HARDWARE)
@rests_on(Fact.OAS, Fact.BARS, Fact.DMABUF)
def peer_to_peer(bench: Bench) -> str:
    """Works where QEMU maps BARs into the IOAS, else stage 2 stops it."""
    peers = _peers(bench)
    if not peers:
        raise NotApplicable("the VM has no other function with a BAR")
    guest, stream = bench.guest(), bench.stream
    bar = peers[0].bars[0]
    if bar.ipa + bar.size > 1 << min(bench.properties.oas, bench.host.smmu.features.oas, 48):
        raise NotApplicable("the BAR is above OAS (see pci-window)")
    buffer = guest.map(stream, ipa=bar.ipa)
    if bench.vm.layout.peer_to_peer:
        bench.reaches(buffer.iova, bar.pa, what=f"a BAR of {peers[0].address}")
        return f"reaches {peers[0].address} through both stages (its BAR is mapped by dma-buf)"
    bench.stopped(buffer.iova, EventType.F_TRANSLATION, stage2=True, what=f"a BAR of {peers[0].address}")
    return "stage 2 fault: this kernel or QEMU does not map BARs into the IOAS, so peer-to-peer DMA will not work"


@scenario("redirect", GROUP, "an address that is a peer's host BAR", "PCIe 6.0 6.12 (ACS)", "pci_device_group()", stops=HARDWARE, needs=Needs.LAYOUT)
@rests_on(Fact.GROUP)
def redirect(bench: Bench) -> str:
    """Without ACS redirect such a request goes to the peer and never reaches the SMMU; the group is what holds such peers together."""
    if not bench.function.redirect:
        bench.stopped_by = NOBODY
        return f"a request may leave group {bench.function.group} for a peer below the same switch, past the SMMU, whatever group that is in"
    bench.stopped_by = HARDWARE
    return "its group is its own: ACS redirects every request to the SMMU"
