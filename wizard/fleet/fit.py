"""How many VMs of a request one host can hold, by its summary; and which functions they would get.

Functions of a pool are interchangeable, so VMs are packed in numbers: one VM's take is found, and repeated as often as the pools
allow, before the next is looked for. Where a wish can be met by several pools, those that the fewest other wishes want go first.
Deterministic; the planner has the last word about the functions that are chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from wizard.fleet.baseline import can_accelerate
from wizard.fleet.request import FleetRequest, Wish
from wizard.fleet.summary import HostSummary, Pool, SmmuSummary
from wizard.plan.model import PROPERTIES
from wizard.plan.request import Mode
from wizard.plan.resolve import OAS_CHOICES

VSMMUS_MAX = 16  # of one VM (domain/qemu.md M14)


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


Take = dict[int, int]
"""Place of a pool -> how many of its functions; for one wish or one VM."""


@dataclass(frozen=True)
class Vm:
    """One VM's functions, by wish."""

    wishes: tuple[tuple[str, ...], ...]

    @property
    def functions(self) -> tuple[str, ...]:
        """All of them, in the order of the wishes."""
        return tuple(address for wish in self.wishes for address in wish)


@dataclass
class _Packing:
    """State of one packing: what is left of each pool."""

    sieve: Sieve
    left: list[int] = field(default_factory=list)


def sieve(summary: HostSummary, request: FleetRequest) -> Sieve:
    """Every pool held against every wish."""
    pools = _without_conflicts(summary, request)
    serves: list[tuple[int, ...]] = []
    refused: list[tuple[tuple[Pool, Refusal], ...]] = []
    for wish in request.wishes:
        good: list[int] = []
        bad: list[tuple[Pool, Refusal]] = []
        for place, pool in enumerate(pools):
            if wish.kind.matches(pool) and wish.vf in (None, pool.vf):
                refusal = _refusal(summary, request, pool)
                if refusal is None:
                    good.append(place)
                else:
                    bad.append((pool, refusal))
        serves.append(tuple(good))
        refused.append(tuple(bad))
    return Sieve(summary, request, pools, tuple(serves), tuple(refused))


def _without_conflicts(summary: HostSummary, request: FleetRequest) -> tuple[Pool, ...]:
    """A PF is given away, or its VFs are made: who asks for VFs, or for what both are, gets VFs."""

    def wanted(pool: Pool) -> bool:
        return any(wish.kind.matches(pool) and wish.vf in (None, pool.vf) for wish in request.wishes)

    makers = {pool.pf for pool in summary.pools if pool.to_make and wanted(pool)}
    if not makers:
        return summary.pools
    asked_for = {a for pool in summary.pools if not pool.vf and _only_pf(pool, request) for a in pool.addresses}
    makers -= asked_for
    pools = []
    for pool in summary.pools:
        if pool.to_make and pool.pf in asked_for:
            continue
        left = tuple(address for address in pool.addresses if address not in makers)
        if left:
            pools.append(pool if len(left) == len(pool.addresses) else replace(pool, addresses=left))
    return tuple(pools)


def _only_pf(pool: Pool, request: FleetRequest) -> bool:
    return any(wish.kind.matches(pool) and (wish.vf is False or wish.kind.ids is not None) and wish.vf is not True for wish in request.wishes)


def _refusal(summary: HostSummary, request: FleetRequest, pool: Pool) -> Refusal | None:
    assume = request.vm.assume_accel
    subject = pool.addresses[0]
    if request.vm.mode is Mode.ACCEL:
        if pool.smmu < 0 or not can_accelerate(pool, assume=assume):
            return Refusal("accel", pool.code or "no-smmu", pool.reason or f"{subject} has no SMMU above it.")
    elif not (pool.assignable and pool.alone):
        return Refusal("accel", pool.code or "group-shared", pool.reason or f"{subject} is not alone in its IOMMU group.")
    if pool.blocked:
        return Refusal("free", pool.code or "in-use", pool.reason or f"{subject} is not free.")
    if request.vm.mode is Mode.ACCEL and (fault := property_fault(summary.smmus[pool.smmu], request)) is not None:
        return Refusal("property", *fault)
    return None


def asked_properties(request: FleetRequest) -> Iterator[tuple[str, str | int]]:
    """The properties that the request writes."""
    for name in PROPERTIES:
        value = getattr(request.vm.properties, name)
        if value is not None:
            yield name, value


def property_fault(smmu: SmmuSummary, request: FleetRequest) -> tuple[str, str] | None:
    """Code and words of the first written property that the SMMU does not supply: the planner's own comparison (host_compare)."""
    for name, value in asked_properties(request):
        if value == "auto":
            continue
        offer = smmu.offer(name)
        wanted = value if isinstance(value, int) else int(value == "on")
        least = wanted == (OAS_CHOICES[0] if name == "oas" else 0)
        shown = f"{name}={value}"
        if offer.compared is not None and wanted > offer.compared:
            has = offer.compared if name in ("oas", "ssidsize") else "on" if offer.compared else "off"
            return "property-exceeds-host", f"{smmu.name} has {name} {has}, and {shown} is asked for."
        if not offer.measured and (not least or name == "oas") and not request.vm.assume_accel:
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
    return None


def by_memory(summary: HostSummary, request: FleetRequest) -> int | None:
    """How many VMs the host's memory holds; None where it is not known."""
    return summary.memory // request.vm.memory if summary.memory and request.vm.memory else None


# --- packing ---------------------------------------------------------------------------------------------------------


Packed = list[tuple[tuple[Take, ...], int]]


def pack(held: Sieve, most: int) -> Packed:
    """(one VM's take by wish, how many VMs take like that), until nothing fits or ``most`` VMs are packed.

    A VM whose functions all sit behind one SMMU needs one vSMMU only, and is preferred; not where that leaves fewer VMs.
    """
    whole = _packed(held, most, lambda left: _one_vm(held, left, whole=True))
    if held.request.same_smmu is not None or held.request.same_numa is not None:
        return whole
    anywhere = _packed(held, most, lambda left: _one_vm(held, left, whole=False))
    return whole if _count(whole) >= _count(anywhere) else anywhere


def _packed(held: Sieve, most: int, one_vm: Callable[[Sequence[int]], tuple[Take, ...] | None]) -> Packed:
    left = [len(pool.addresses) for pool in held.pools]
    found: Packed = []
    packed = 0
    while packed < most and (takes := one_vm(left)) is not None:
        total: Take = {}
        for take in takes:
            for place, count in take.items():
                total[place] = total.get(place, 0) + count
        times = min(most - packed, *(left[place] // count for place, count in total.items()))
        for place, count in total.items():
            left[place] -= count * times
        packed += times
        found.append((takes, times))
    return found


def _count(packed: Packed) -> int:
    return sum(times for _, times in packed)


def capacity(held: Sieve, most: int) -> int:
    """How many VMs the functions allow, at most ``most``."""
    return _count(pack(held, most))


def vms_of(held: Sieve, most: int) -> list[Vm]:
    """The functions of each VM: of every pool in the order of its addresses."""
    at = [0] * len(held.pools)
    vms = []
    for takes, times in pack(held, most):
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


def _one_vm(held: Sieve, left: Sequence[int], *, whole: bool) -> tuple[Take, ...] | None:
    request = held.request
    smmu: Callable[[Pool], Hashable] = lambda pool: pool.smmu  # noqa: E731
    node: Callable[[Pool], Hashable] = lambda pool: pool.numa_node  # noqa: E731
    together = smmu if request.same_smmu else node if request.same_numa else None
    apart = node if request.same_numa is False else smmu if request.same_smmu is False else None
    if together is None:
        if apart is None and whole:
            for places in _domains(held, smmu):
                if (takes := _anywhere(held, left, places)) is not None:
                    return takes
        return _within(held, left, set(range(len(held.pools))), apart)
    for places in _domains(held, together):
        if (takes := _within(held, left, places, apart)) is not None:
            return takes
    return None


def _domains(held: Sieve, key: Callable[[Pool], Hashable]) -> list[set[int]]:
    """The pools by SMMU or node, in the order in which the host has them."""
    found: dict[Hashable, set[int]] = {}
    for place, pool in enumerate(held.pools):
        where = key(pool)
        if where is not None and where != -1:
            found.setdefault(where, set()).add(place)
    return list(found.values())


def _within(held: Sieve, left: Sequence[int], places: set[int], apart: Callable[[Pool], Hashable] | None) -> tuple[Take, ...] | None:
    return _anywhere(held, left, places) if apart is None else _each_elsewhere(held, left, places, apart)


def _order(held: Sieve) -> list[int]:
    """Wishes by how few pools can serve them: who has no choice goes first."""
    return sorted(range(len(held.serves)), key=lambda wish: (len(held.serves[wish]), wish))


def _demand(held: Sieve) -> Mapping[int, int]:
    demand: dict[int, int] = {}
    for places in held.serves:
        for place in places:
            demand[place] = demand.get(place, 0) + 1
    return demand


def _anywhere(held: Sieve, left: Sequence[int], places: set[int]) -> tuple[Take, ...] | None:
    demand = _demand(held)
    remaining = list(left)
    takes: list[Take] = [{} for _ in held.serves]
    for wish in _order(held):
        need = held.request.wishes[wish].count
        for place in sorted((p for p in held.serves[wish] if p in places), key=lambda p: (demand[p], held.pools[p].to_make, p)):
            count = min(need, remaining[place])
            if count:
                takes[wish][place] = count
                remaining[place] -= count
                need -= count
            if not need:
                break
        if need:
            return None
    return tuple(takes)


def _each_elsewhere(held: Sieve, left: Sequence[int], places: set[int], key: Callable[[Pool], Hashable]) -> tuple[Take, ...] | None:
    """Every function of the VM behind another SMMU (or on another node): a matching of functions to places, by augmenting paths."""
    wants = [wish for wish in _order(held) for _ in range(held.request.wishes[wish].count)]
    offers: list[dict[Hashable, int]] = []
    for wish in range(len(held.serves)):
        by_place: dict[Hashable, int] = {}
        # The fullest pool of each place first, so that many VMs fit.
        for place in sorted((p for p in held.serves[wish] if p in places and left[p]), key=lambda p: (-left[p], p)):
            by_place.setdefault(key(held.pools[place]), place)
        offers.append(dict(sorted(by_place.items(), key=lambda item: (-left[item[1]], item[1]))))
    owner: dict[Hashable, int] = {}

    def seat(unit: int, seen: set[Hashable]) -> bool:
        for where in offers[wants[unit]]:
            if where in seen:
                continue
            seen.add(where)
            if where not in owner or seat(owner[where], seen):
                owner[where] = unit
                return True
        return False

    if not all(seat(unit, set()) for unit in range(len(wants))):
        return None
    takes: list[Take] = [{} for _ in held.serves]
    for where, unit in owner.items():
        place = offers[wants[unit]][where]
        takes[wants[unit]][place] = takes[wants[unit]].get(place, 0) + 1
    return tuple(takes)


def wish_available(held: Sieve, wish: int) -> int:
    """How many functions serve a wish."""
    return sum(len(held.pools[place].addresses) for place in held.serves[wish])


__all__ = ["STAGES", "Refusal", "Sieve", "Vm", "Wish", "by_memory", "capacity", "host_fault", "pack", "sieve", "vms_of", "wish_available"]
