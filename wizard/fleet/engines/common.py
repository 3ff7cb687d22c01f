"""What every engine is told of a host: the verdict, what its SMMUs supply, and how many functions of each kind."""

from __future__ import annotations

from dataclasses import dataclass

from wizard.base.errors import InputError
from wizard.base.text import plural
from wizard.fleet.baseline import can_accelerate
from wizard.fleet.summary import GRANULES, HostSummary, Pool
from wizard.plan.properties import NAMES, declared


@dataclass(frozen=True)
class Count:
    """Functions of one vendor, device and class: how many there are, can be accelerated, and are free too.

    ``accel`` and ``free`` are None where not one is known to be able, and of some nobody knows.
    """

    ids: str
    class_code: int  # base class and sub-class, 16 bits
    total: int
    accel: int | None
    free: int | None
    segments: frozenset[str]  # of the free ones


@dataclass(frozen=True)
class Told:
    """One host. ``properties``: what every SMMU with a function that can be accelerated supplies; empty when there is none.

    What nobody read, or only assumed, is in none of these, neither as a value nor as a no: ``not_known`` names it.
    """

    accel: str  # yes, no, unknown
    smmus: int | None
    properties: dict[str, int]
    granules: tuple[str, ...]
    counts: tuple[Count, ...]
    not_known: tuple[str, ...]


def tell(summary: HostSummary) -> Told:
    """What there is to tell; assumptions count as unknown."""
    able = [pool for pool in summary.pools if pool.smmu >= 0 and can_accelerate(pool, assume=False)]
    used = sorted({pool.smmu for pool in able})
    properties = {name: least for name in NAMES if used and (least := _least(summary, used, name)) is not None}
    unknown = not summary.functions_read or any(pool.accel == "unknown" for pool in summary.pools)
    whole = summary.functions_read and not any(pool.accel == "unknown" and pool.smmu < 0 for pool in summary.pools)
    open_granules = {size for smmu in used for size in summary.smmus[smmu].granules_unknown}
    accel = "yes" if able else "unknown" if unknown else "no"
    not_known = [name for name in NAMES if used and name not in properties]
    not_known += ["accel"] * (accel == "unknown") + ["count"] * (not whole) + ["granules"] * bool(open_granules)
    return Told(
        accel=accel,
        smmus=sum(smmu.kind == "smmuv3" for smmu in summary.smmus) if whole else None,
        properties=properties,
        granules=() if open_granules or not used else tuple(size for size in GRANULES if all(size in summary.smmus[smmu].granules for smmu in used)),
        counts=_counts(summary),
        not_known=tuple(not_known),
    )


def need_functions(summary: HostSummary) -> None:
    """``InputError`` where nobody looked for functions: a list of none would take away what the cluster has."""
    if not summary.functions_read:
        raise InputError("This host's PCI functions were not read, so no list of its devices can be written.", "Record the host again, as root.")


def _least(summary: HostSummary, used: list[int], name: str) -> int | None:
    """What every one of these SMMUs supplies; None where one of them is not known, and no other has the least there is."""
    offers = [summary.smmus[smmu].offer(name) for smmu in used]
    known = [offer.richest for offer in offers if offer.told]
    return min(known) if len(known) == len(offers) or declared(name).least in known else None


def remarks(summary: HostSummary, *, granules: bool = True) -> list[str]:
    """What is left out because nobody read it, and functions that may or may not be accelerated: they are not counted as able.

    ``granules``: whether the form would have them.
    """
    told, said = tell(summary), []
    if not_known := [name for name in told.not_known if granules or name != "granules"]:
        said.append(f"Not known, and so left out or unknown: {', '.join(not_known)}. To know: sudo smmu-wizard record --probe on the host.")
    if open_ := sum(len(pool.addresses) for pool in summary.pools if pool.accel == "unknown" and not pool.to_make):
        said.append(f"Of {plural(open_, 'function')} it is not known whether they can be accelerated: they are in no count of those that can.")
    return said


def _counts(summary: HostSummary) -> tuple[Count, ...]:
    kinds: dict[tuple[str, int], list[Pool]] = {}
    for pool in summary.pools:
        if not pool.to_make:  # what is not there yet can't be scheduled on
            kinds.setdefault((pool.ids, pool.class_code >> 8), []).append(pool)
    counts = []
    for (ids, class_code), pools in sorted(kinds.items()):
        able = [pool for pool in pools if pool.smmu >= 0 and can_accelerate(pool, assume=False)]
        free = [pool for pool in able if not pool.blocked]
        undecided = not able and any(pool.accel == "unknown" for pool in pools)
        counts.append(
            Count(
                ids=ids,
                class_code=class_code,
                total=sum(len(pool.addresses) for pool in pools),
                accel=None if undecided else sum(len(pool.addresses) for pool in able),
                free=None if undecided else sum(len(pool.addresses) for pool in free),
                segments=frozenset(address.partition(":")[0] for pool in free for address in pool.addresses),
            )
        )
    return tuple(counts)
