"""A function that was asked for, looked up on the host: one that is there, or a VF that can be made.

The address of a VF that is still to be made follows from its PF's SR-IOV capability: RID of the PF + First VF Offset +
index × VF Stride (PCIe 6.0, 9.3.3.9; pci_iov_virtfn_bus()).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from wizard.arch.pci import ExtCap
from wizard.base.address import Address
from wizard.host.devices import coherent_gpu, unknown_gpu, vf_ids, vf_of_gpu
from wizard.host.model import Function, Group, Host, Smmu, Verdict
from wizard.host.pci import extcaps
from wizard.knowledge.tables import CoherentGpu, GpuFamily
from wizard.plan.regions import Regions, regions_of, regions_of_vf


@dataclass(frozen=True)
class Candidate:
    """``function`` is the function itself; of a VF to be made it is the PF, and ``vf_index`` says which VF."""

    host: Host
    address: str
    function: Function
    vf_index: int | None = None

    @property
    def to_make(self) -> bool:
        """A VF that the preparation script has to create."""
        return self.vf_index is not None

    @property
    def pf(self) -> str | None:
        """The PF of a VF, made or to be made."""
        return self.function.facts.address if self.to_make else self.function.facts.physfn

    @property
    def index(self) -> int | None:
        """Which VF of its PF it is."""
        if self.to_make:
            return self.vf_index
        pf = self.host.functions.get(self.pf or "")
        return pf.facts.virtfns.index(self.address) if pf and self.address in pf.facts.virtfns else None

    @property
    def is_vf(self) -> bool:
        """A virtual function, made or to be made."""
        return self.pf is not None

    @cached_property
    def smmu(self) -> Smmu | None:
        """Its SMMU; of a VF to be made its PF's."""
        return self.host.smmu_of(self.function)

    @cached_property
    def group(self) -> Group | None:
        """Its IOMMU group, None where there is none yet."""
        if self.to_make or self.function.group is None:
            return None
        return self.host.groups.get(self.function.group)

    @cached_property
    def verdict(self) -> Verdict:
        """The verdict of the function, of a VF to be made its PF's: the preparation script compares group and SMMU."""
        return self.host.verdict(self.function.facts.address)

    @cached_property
    def regions(self) -> Regions:
        """Its memory regions as the guest will see them."""
        return regions_of_vf(self.function) if self.to_make else regions_of(self.host, self.function)

    @cached_property
    def gpu(self) -> CoherentGpu | None:
        """What is known of it as a GPU whose memory nvgrace_gpu_vfio_pci shows as BARs."""
        return None if self.to_make else coherent_gpu(self.function)

    @cached_property
    def unknown_gpu(self) -> tuple[GpuFamily, str] | None:
        """The family that it looks like a member of, though its ID is nowhere, and how it looks so."""
        if not self.to_make:
            return unknown_gpu(self.host.functions, self.function)
        return vf_of_gpu(self.ids or "")

    @property
    def is_grace_gpu(self) -> bool:
        """Whether it is a GPU whose memory nvgrace_gpu_vfio_pci shows as BARs, by its ID or by all that it looks like."""
        return self.gpu is not None or self.unknown_gpu is not None

    @property
    def gpu_nodes(self) -> int:
        """How many memory-less NUMA nodes the guest's driver of such a GPU needs."""
        if self.gpu is not None:
            return self.gpu.nodes
        return self.unknown_gpu[0].nodes if self.unknown_gpu is not None else 0

    @property
    def slot(self) -> str:
        """What companion functions share; a VF shares its device with nobody."""
        return self.address if self.is_vf else Address.parse(self.address).slot

    @property
    def numa_node(self) -> int | None:
        """The host node of the SMMU, else of the function itself."""
        node = self.smmu.numa_node if self.smmu else None
        return self.function.numa_node if node is None else node

    @property
    def ids(self) -> str | None:
        """``8086:10ca``; of a VF to be made by the PF's VF device ID."""
        return vf_ids(self.function) if self.to_make else self.function.ids

    @property
    def name(self) -> str:
        """In words."""
        return f"VF {self.vf_index} of {self.function.facts.address} ({self.function.name})" if self.to_make else self.function.name


def look_up(host: Host, address: str) -> Candidate | None:
    """The function of that address, or the VF that would have it; None when the host can have neither."""
    if function := host.functions.get(address):
        return Candidate(host, address, function)
    try:
        wanted = Address.parse(address)
    except ValueError:
        return None
    for pf in host.functions.values():
        if pf.address.segment == wanted.segment and not pf.is_bridge and pf.facts.sriov_totalvfs and pf.config.find(ExtCap.SRIOV):
            index = _vf_index(pf, wanted)
            if index is not None:
                return Candidate(host, address, pf, index)
    return None


def _vf_index(pf: Function, wanted: Address) -> int | None:
    sriov = extcaps.sriov(pf.config)
    total = pf.facts.sriov_totalvfs or 0
    if sriov is None or total == 0 or (total > 1 and sriov.stride == 0):
        return None
    index, rest = divmod(wanted.rid - pf.address.rid - sriov.offset, sriov.stride or 1)
    return index if rest == 0 and 0 <= index < total else None


def canonical(address: str) -> str:
    """The address as sysfs writes it (``14:00.0`` is ``0000:14:00.0``); what is no address stays as it is."""
    try:
        return str(Address.parse(address))
    except ValueError:
        return address
