"""One host in a few kilobytes: what of it could be given to a VM, and what its SMMUs supply.

``summarise(facts)`` is a pure function of one snapshot. Everything that ``baseline`` and ``match`` ask is asked of summaries, so that
10,000 hosts fit in memory and in an index; the planner has the last word about the hosts that are chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter

import msgspec

from wizard.base.address import Address
from wizard.base.finding import Finding, Severity
from wizard.facts.held import Place, why_unread
from wizard.facts.model import Facts
from wizard.host.build import host_of
from wizard.host.devices import vf_ids
from wizard.host.model import Accel, Function, Host, Smmu
from wizard.host.pci import extcaps
from wizard.plan.properties import NAMES
from wizard.plan.resolve import automatic, cmdqv_fits, cmdqv_param, richest, supply
from wizard.plan.target import Target, target_of

VERSION = 4
"""Of the form of a summary: an index that holds others reads the snapshots again."""

GRANULES = ("4k", "16k", "64k")
VFS_MAX = 256
"""VFs of one PF that are counted before they are made."""
VFS_OF_HOST = 65536
"""The same of a whole host: a snapshot may come from a stranger, and claim millions."""

# The planner's own set (wizard.plan.rules.functions); the tests hold summaries against plans.
_SCRIPT_DOES = frozenset({"not-on-vfio", "driver-override-left", "group-not-viable"})


class Small(msgspec.Struct, frozen=True, array_like=True):
    """Base: frozen, and encoded without the names of its fields."""


class Offer(Small, frozen=True, array_like=True):
    """One property of one SMMU, as the host's QEMU can give it. Switches are 0 or 1, widths bits.

    ``richest`` is what the planner writes when nobody asks for a value, from what was measured; ``assumed`` the same with assumptions
    taken. ``compared`` is what QEMU will compare a written value with (None: not known), ``automatic`` what ``auto`` comes to.
    ``told`` says that ``richest`` is an answer: where nothing was measured it is the least that can be written, and no word of the host.
    """

    richest: int
    assumed: int
    compared: int | None
    measured: bool
    automatic: int | None
    source: str
    told: bool = True


class SmmuSummary(Small, frozen=True, array_like=True):
    """One SMMU that has endpoints below it. ``offers`` are in the order of ``NAMES``."""

    name: str
    kind: str
    numa_node: int | None
    offers: tuple[Offer, ...]
    granules: tuple[str, ...]  # 4k, 16k, 64k: those that somebody measured
    cmdqv_fits: bool | None  # whether QEMU can use its CMDQV; None where nobody asked
    cmdqv_functions: int  # how many functions of one VM its CMDQV can match
    granules_unknown: tuple[str, ...] = ()  # those that nobody measured, neither that they are there nor that they are not

    def offer(self, name: str) -> Offer:
        """A property by its name."""
        return self.offers[NAMES.index(name)]


class Pool(Small, frozen=True, array_like=True):
    """Functions of one kind, behind one SMMU, with one verdict: interchangeable for a VM."""

    ids: str  # 8086:10ca
    class_code: int  # 24 bits
    name: str
    smmu: int  # place in the summary's list, -1 for none
    numa_node: int | None
    accel: str
    code: str | None  # of the first reason against it: verdict, else what the host needs it for
    reason: str | None  # in words, of the first function
    blocked: bool  # by what the preparation script can't mend: in use, PF with live VFs
    alone: bool  # in its IOMMU group
    assignable: bool  # nothing is known to forbid it, also without a vIOMMU
    undecided: bool  # what was not read may forbid it
    vf: bool
    to_make: bool  # VFs that the preparation script would make
    pf: str | None  # the PF of VFs
    addresses: tuple[str, ...]


class HostSummary(Small, frozen=True, array_like=True):
    """One host, without its name: hosts that are alike have equal summaries."""

    product: str | None
    machine: str
    kernel: str
    page_size: int | None
    memory: int | None
    cpus: int | None
    kvm: bool | None
    qemu: str | None  # version of the installed one
    qemu_accel: bool  # whether it, or the newest known where none is installed, has accel
    qemu_properties: tuple[str, ...]  # of an accelerated vSMMU
    nodes: tuple[tuple[int, int], ...]  # host node, bytes of memory; only nodes with CPUs and memory
    smmus: tuple[SmmuSummary, ...]
    pools: tuple[Pool, ...]
    functions_read: bool = True  # False: no list of functions was looked at, so that having none says nothing

    @property
    def not_known(self) -> tuple[str, ...]:
        """What of the host as a whole nobody read, and answers about it leave open."""
        facts = {"/dev/kvm": self.kvm, "memory": self.memory, "QEMU": self.qemu, "page size": self.page_size}
        return tuple(name for name, value in facts.items() if value is None)

    @property
    def is_arm(self) -> bool:
        """Whether it can have an SMMUv3 at all; a snapshot that does not say its machine is taken for one."""
        return self.machine in ("aarch64", "arm64", "")


def summarise(facts: Facts) -> HostSummary:
    """The summary of one snapshot."""
    return summary_of(host_of(facts))


def summary_of(host: Host) -> HostSummary:
    """The summary of a host."""
    facts = host.facts
    used = {function.smmu for function in host.functions.values() if function.smmu and not function.is_bridge}
    smmus = [smmu for smmu in host.smmus.values() if smmu.name in used]
    target = target_of(facts, None)
    return HostSummary(
        product=" ".join(part for part in (facts.identity.vendor, facts.identity.product) if part) or None,
        machine=facts.kernel.machine,
        kernel=facts.kernel.release,
        page_size=host.page_size,
        memory=facts.memory_total,
        cpus=facts.cpus,
        kvm=facts.kvm,
        qemu=target.name if target.installed else None,
        qemu_accel=target.accel,
        qemu_properties=tuple(name for name in NAMES if name in target.properties),
        nodes=nodes_of(facts),
        smmus=tuple(_smmu(host, smmu, target) for smmu in smmus),
        pools=tuple(_pools(host, {smmu.name: place for place, smmu in enumerate(smmus)})),
        functions_read=bool(facts.functions) or why_unread(facts, Place.FUNCTIONS) is None,
    )


def nodes_of(facts: Facts) -> tuple[tuple[int, int], ...]:
    """Number and bytes of memory of the nodes that a VM can run on."""
    return tuple((node.id, node.memory) for node in facts.nodes if node.cpus and node.memory)


def _smmu(host: Host, smmu: Smmu, target: Target) -> SmmuSummary:
    param = cmdqv_param(host, smmu)
    return SmmuSummary(
        name=smmu.name,
        kind=smmu.kind,
        numa_node=smmu.numa_node,
        offers=tuple(_offer(host, smmu, name, target) for name in NAMES),
        granules=tuple(size for size in GRANULES if smmu.known(f"gran{size}").proved),
        cmdqv_fits=None if param is None else cmdqv_fits(param),
        cmdqv_functions=1 << min(param.log2vsids, 16) if param else 16,
        granules_unknown=tuple(size for size in GRANULES if not smmu.known(f"gran{size}").measured),
    )


def _offer(host: Host, smmu: Smmu, name: str, target: Target) -> Offer:
    compared = supply(smmu, name).compared
    auto = automatic(host, smmu, name)
    offered = not target.accel or name in target.properties
    return Offer(
        richest=richest(host, smmu, name, assumed=False) if offered else 0,
        assumed=richest(host, smmu, name, assumed=True) if offered else 0,
        compared=int(compared.value) if isinstance(compared.value, int) else None,
        measured=compared.measured,
        automatic=None if auto is None else int(auto),
        source=str(compared.source),
        told=not offered or (compared.measured and (name != "cmdqv" or compared.is_false or cmdqv_param(host, smmu) is not None)),
    )


def _pools(host: Host, places: dict[str, int]) -> Iterator[Pool]:
    pools: dict[tuple[object, ...], list[Pool]] = {}
    left = VFS_OF_HOST
    for function in host.functions.values():
        if not function.is_bridge:
            for pool in (_pool(host, function, places), *(_to_make(host, function, places) if left > 0 else ())):
                left -= len(pool.addresses) if pool.to_make else 0
                pools.setdefault(_KIND(pool), []).append(pool)
    for same in pools.values():
        yield msgspec.structs.replace(same[0], addresses=tuple(address for pool in same for address in pool.addresses))


_KIND = attrgetter(*(name for name in Pool.__struct_fields__ if name not in ("name", "reason", "addresses")))
"""What functions of one pool have in common."""


def _pool(host: Host, function: Function, places: dict[str, int]) -> Pool:
    verdict = host.verdict(function.facts.address)
    smmu = host.smmu_of(function)
    group = host.groups.get(function.group) if function.group is not None else None
    stop = next((finding for finding in verdict.todo if stops(finding)), None)
    reason = next(iter(verdict.reasons), stop)
    return Pool(
        ids=function.ids,
        class_code=function.class_code,
        name=function.name,
        smmu=places.get(function.smmu or "", -1),
        numa_node=smmu.numa_node if smmu and smmu.numa_node is not None else function.numa_node,
        accel=str(verdict.accel),
        code=reason.code if reason else None,
        reason=reason.what if reason else None,
        blocked=stop is not None,
        alone=group is not None and len(group.devices) == 1,  # as far as is known; a list that was not read leaves it undecided
        assignable=not verdict.obstacles,
        undecided=verdict.assignable is None,
        vf=function.is_vf,
        to_make=False,
        pf=function.facts.physfn,
        addresses=(function.facts.address,),
    )


def stops(finding: Finding) -> bool:
    """What the planner refuses, and a PF whose VFs somebody may have (the planner warns; nobody is asked here)."""
    return (finding.severity is Severity.ERROR and finding.code not in _SCRIPT_DOES) or finding.code == "pf-has-vfs"


def _to_make(host: Host, pf: Function, places: dict[str, int]) -> Iterator[Pool]:
    """VFs that could be made: the PF is on its own driver and has none yet. Verdict, group and SMMU are its PF's."""
    total = pf.facts.sriov_totalvfs or 0
    if pf.is_vf or not total or pf.facts.sriov_numvfs or pf.facts.virtfns:
        return
    if (pf.facts.driver or "").replace("_", "-").endswith("vfio-pci"):
        return
    sriov = extcaps.sriov(pf.config)
    if sriov is None or (total > 1 and not sriov.stride):
        return
    addresses = []
    for index in range(min(total, VFS_MAX)):
        rid = pf.address.rid + sriov.offset + index * sriov.stride
        if rid <= 0xFFFF and (address := str(Address.of_rid(pf.address.segment, rid))) not in host.functions:
            addresses.append(address)
    if not addresses:
        return
    own = _pool(host, pf, places)
    unblocked = own.accel == str(Accel.YES)
    yield msgspec.structs.replace(
        own,
        ids=vf_ids(pf) or pf.ids,
        name=f"VF of {pf.name}",
        code=None if unblocked else own.code,
        reason=None if unblocked else own.reason,
        blocked=False,
        vf=True,
        to_make=True,
        pf=pf.facts.address,
        addresses=tuple(addresses),
    )
