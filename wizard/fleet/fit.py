"""How many VMs of a request one host can hold, by its summary; and which functions they would get.

Functions of a pool are interchangeable, so VMs are packed in numbers (wizard.fleet.pack). Where a wish can be met by several pools,
those that the fewest other wishes want go first. Deterministic; the planner has the last word about the functions that are chosen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from msgspec.structs import replace

from wizard.fleet.baseline import can_accelerate, oas_fault
from wizard.fleet.pack import Problem, most, pack
from wizard.fleet.request import FleetRequest, Wish
from wizard.fleet.summary import HostSummary, Pool, SmmuSummary
from wizard.plan.properties import AUTO, declared
from wizard.plan.request import Mode

MOST = 65536
"""VMs of one host that are counted."""


@dataclass(frozen=True)
class Refusal:
    """Why a pool can't serve, and how far it came: the stage is its place in ``STAGES``."""

    stage: str
    code: str
    what: str


STAGES = ("device", "accel", "free", "property", "count", "place", "memory", "host", "planner")
"""In the order in which a host is asked; the later one fails, the nearer it was."""


@dataclass(frozen=True)
class Sieve:
    """What of one host serves a request: pools by place, the wishes that each may serve, and why others may not."""

    summary: HostSummary
    request: FleetRequest
    pools: tuple[Pool, ...]
    serves: tuple[tuple[int, ...], ...]  # wish -> places of pools
    refused: tuple[tuple[tuple[Pool, Refusal], ...], ...]  # wish -> pools of its kind that may not


@dataclass(frozen=True)
class Vm:
    """One VM's functions, by wish."""

    wishes: tuple[tuple[str, ...], ...]

    @property
    def functions(self) -> tuple[str, ...]:
        """All of them, in the order of the wishes."""
        return tuple(address for wish in self.wishes for address in wish)


def sieve(summary: HostSummary, request: FleetRequest) -> Sieve:
    """Every pool held against every wish."""
    serves: list[tuple[int, ...]] = []
    refused: list[tuple[tuple[Pool, Refusal], ...]] = []
    for wish in request.wishes:
        good: list[int] = []
        bad: list[tuple[Pool, Refusal]] = []
        for place, pool in enumerate(summary.pools):
            if wish.kind.matches(pool) and wish.vf in (None, pool.vf):
                refusal = _refusal(summary, request, pool)
                if refusal is None:
                    good.append(place)
                else:
                    bad.append((pool, refusal))
        serves.append(tuple(good))
        refused.append(tuple(bad))
    return _decided(Sieve(summary, request, summary.pools, tuple(serves), tuple(refused)))


# --- a PF is given away, or its VFs are made --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Makers:
    """PFs that are alike: each is an address of the same pool, and has a pool of as many VFs that serve the same wishes at the same place."""

    pool: int
    pfs: tuple[tuple[str, int], ...]  # address, place of the pool of its VFs


TRIES = 512
"""Ways to decide that are all tried; of more the best is looked for kind by kind."""


def _decided(held: Sieve) -> Sieve:
    """How many PFs of each kind are given away, and of how many the VFs are made: so that most VMs fit, and of equals more VFs."""
    kinds = _makers(held)
    if not kinds:
        return held

    def worth(choice: Sequence[int]) -> tuple[int, int]:
        return capacity(_after(held, kinds, choice), MOST), -sum(choice)

    ranges = [range(len(kind.pfs) + 1) for kind in kinds]
    if prod(map(len, ranges)) <= TRIES:
        return _after(held, kinds, max(product(*ranges), key=worth))
    starts = [[0] * len(kinds), [len(kind.pfs) for kind in kinds]]
    return _after(held, kinds, max((_climb(start, ranges, worth) for start in starts), key=worth))


def _climb(choice: list[int], ranges: Sequence[range], worth: Callable[[Sequence[int]], tuple[int, int]]) -> list[int]:
    best = worth(choice)
    while True:
        before = best
        for place, numbers in enumerate(ranges):
            for number in numbers:
                other = [*choice[:place], number, *choice[place + 1 :]]
                if (value := worth(other)) > best:
                    best, choice = value, other
        if best == before:
            return choice


def _makers(held: Sieve) -> list[_Makers]:
    if not any(held.pools[place].to_make for places in held.serves for place in places):
        return []
    wishes_of = [tuple(wish for wish, places in enumerate(held.serves) if place in places) for place in range(len(held.pools))]
    home = {address: place for place, pool in enumerate(held.pools) if not pool.to_make and wishes_of[place] for address in pool.addresses}
    kinds: dict[tuple[object, ...], list[tuple[str, int]]] = {}
    for place, pool in enumerate(held.pools):
        if pool.to_make and pool.pf in home and wishes_of[place]:
            alike = (home[pool.pf], len(pool.addresses), wishes_of[place], pool.smmu, pool.numa_node)
            kinds.setdefault(alike, []).append((pool.pf, place))
    return [_Makers(home[pfs[0][0]], tuple(sorted(pfs))) for pfs in kinds.values()]


def _after(held: Sieve, kinds: Sequence[_Makers], choice: Sequence[int]) -> Sieve:
    """The sieve once the first PFs of each kind are given away as they are, and of the others the VFs."""
    gone: set[str] = set()
    unmade: set[int] = set()
    for kind, number in zip(kinds, choice, strict=True):
        unmade |= {place for _, place in kind.pfs[:number]}
        gone |= {address for address, _ in kind.pfs[number:]}
    cut = {kind.pool for kind in kinds}
    pools = tuple(
        replace(pool, addresses=())
        if place in unmade
        else replace(pool, addresses=tuple(address for address in pool.addresses if address not in gone))
        if place in cut
        else pool
        for place, pool in enumerate(held.pools)
    )
    return dataclasses.replace(held, pools=pools)


def _refusal(summary: HostSummary, request: FleetRequest, pool: Pool) -> Refusal | None:
    assume = request.vm.assume_accel
    subject = pool.addresses[0]
    if request.vm.mode is Mode.ACCEL:
        if pool.smmu < 0 or not can_accelerate(pool, assume=assume):
            return Refusal("accel", pool.code or "no-smmu", pool.reason or f"{subject} has no SMMU above it.")
    elif not (pool.assignable and pool.alone) or (pool.undecided and not assume):
        return Refusal("accel", pool.code or "group-shared", pool.reason or f"{subject} is not alone in its IOMMU group.")
    if pool.blocked:
        return Refusal("free", pool.code or "in-use", pool.reason or f"{subject} is not free.")
    if request.vm.mode is Mode.ACCEL and (fault := property_fault(summary.smmus[pool.smmu], request)) is not None:
        return Refusal("property", *fault)
    return None


def property_fault(smmu: SmmuSummary, request: FleetRequest) -> tuple[str, str] | None:
    """Code and words of the first written property that the SMMU does not supply: the planner's own comparison (host_compare)."""
    if request.vm.properties.oas is None and (fault := oas_fault(smmu, assume=request.vm.assume_accel)) is not None:
        return fault
    for name, value in request.vm.properties.asked():
        if value == AUTO:
            continue
        offer, one = smmu.offer(name), declared(name)
        wanted = one.number(str(value)) or 0
        least = wanted == one.least
        shown = f"{name}={value}"
        if offer.compared is not None and wanted > offer.compared:
            return "property-exceeds-host", f"{smmu.name} has {name} {one.spell(offer.compared)}, and {shown} is asked for."
        if not offer.measured and not (least and one.least_passes) and not request.vm.assume_accel:
            how = "assumed" if offer.compared is not None else "not known"
            return "property-unproven", f"What {smmu.name} has of {name} is {how}, and {shown} is asked for."
        if name == "cmdqv" and wanted and smmu.cmdqv_fits is False:
            return "cmdqv-unfit", f"QEMU can't use the CMDQV of {smmu.name}, and {shown} is asked for."
    return None


def host_fault(summary: HostSummary, request: FleetRequest) -> Refusal | None:
    """What of the host as a whole stands against any VM of the request."""
    if request.vm.mode is Mode.ACCEL and summary.kvm is False:
        return Refusal("host", "no-kvm", "The host has no /dev/kvm.")
    if request.vm.mode is Mode.ACCEL and not summary.qemu_accel and request.vm.target is None:
        return Refusal("host", "plan-needs-newer-qemu", f"Its QEMU {summary.qemu} has no accel (11.0 has).")
    for name, value in request.vm.properties.asked():
        one = declared(name)
        if value != one.plain(one.unset) and name not in summary.qemu_properties and request.vm.target is None and summary.qemu_accel:
            since = f"{one.since[0]}.{one.since[1]}"
            return Refusal("host", "plan-needs-newer-qemu", f"Its QEMU {summary.qemu} has no {name} ({since} has).")
    return None


def by_memory(summary: HostSummary, request: FleetRequest) -> int | None:
    """How many VMs the host's memory holds; None where it is not known."""
    return summary.memory // request.vm.memory if summary.memory and request.vm.memory else None


# --- packing ---------------------------------------------------------------------------------------------------------


def capacity(held: Sieve, limit: int) -> int:
    """How many VMs the functions allow, at most ``limit``."""
    return most(_problem(held), limit)


def vms_of(held: Sieve, limit: int) -> list[Vm]:
    """The functions of each VM: of every pool in the order of its addresses."""
    at = [0] * len(held.pools)
    vms = []
    problem = _problem(held)
    for takes, times in pack(problem, most(problem, limit)):
        for _ in range(times):
            wishes = []
            for take in takes:
                chosen: list[str] = []
                for place, count in sorted(take.items()):
                    chosen += held.pools[place].addresses[at[place] : at[place] + count]
                    at[place] += count
                wishes.append(tuple(chosen))
            vms.append(Vm(tuple(wishes)))
    return vms


def _problem(held: Sieve) -> Problem:
    """The same in numbers. A function without an SMMU, or on no known node, is together with nobody and apart from nobody of its like."""
    request, pools = held.request, held.pools
    smmu = tuple(pool.smmu if pool.smmu >= 0 else None for pool in pools)
    node = tuple(pool.numa_node for pool in pools)
    together: tuple[Hashable | None, ...] | None = None
    if request.same_smmu and request.same_numa:
        together = tuple(None if None in both else both for both in zip(smmu, node, strict=True))
    elif request.same_smmu or request.same_numa:
        together = smmu if request.same_smmu else node
    apart = node if request.same_numa is False else smmu if request.same_smmu is False else None
    wanted: dict[int, int] = {}
    for places in held.serves:
        for place in places:
            wanted[place] = wanted.get(place, 0) + 1
    # What the fewest wishes want goes first, and what is there before what would have to be made.
    serves = tuple(tuple(sorted(places, key=lambda p: (wanted[p], pools[p].to_make, p))) for places in held.serves)
    return Problem(
        capacities=tuple(len(pool.addresses) for pool in pools),
        serves=serves,
        counts=tuple(wish.count for wish in request.wishes),
        near=smmu,
        together=together,
        apart=apart,
    )


def wish_available(held: Sieve, wish: int) -> int:
    """How many functions serve a wish."""
    return sum(len(held.pools[place].addresses) for place in held.serves[wish])


__all__ = ["MOST", "STAGES", "Refusal", "Sieve", "Vm", "Wish", "by_memory", "capacity", "host_fault", "sieve", "vms_of", "wish_available"]
