"""What every engine is told of a host: the verdict, what its SMMUs supply, and how many functions of each kind."""

from __future__ import annotations

from dataclasses import dataclass

from wizard.fleet.baseline import can_accelerate
from wizard.fleet.summary import HostSummary, Pool
from wizard.plan.properties import NAMES


@dataclass(frozen=True)
class Count:
    """Functions of one vendor, device and class: how many there are, can be accelerated, and are free too."""

    ids: str
    class_code: int  # base class and sub-class, 16 bits
    total: int
    accel: int
    free: int
    segments: frozenset[str]  # of the free ones


@dataclass(frozen=True)
class Told:
    """One host. ``properties``: what every SMMU with a function that can be accelerated supplies; empty when there is none."""

    accel: str  # yes, no, unknown
    smmus: int
    properties: dict[str, int]
    granules: tuple[str, ...]
    counts: tuple[Count, ...]


def tell(summary: HostSummary) -> Told:
    """What there is to tell; assumptions count as unknown."""
    able = [pool for pool in summary.pools if pool.smmu >= 0 and can_accelerate(pool, assume=False)]
    used = sorted({pool.smmu for pool in able})
    properties = {name: min(summary.smmus[smmu].offers[place].richest for smmu in used) for place, name in enumerate(NAMES) if used}
    unknown = any(pool.accel == "unknown" for pool in summary.pools)
    granules = [set(summary.smmus[smmu].granules) for smmu in used]
    return Told(
        accel="yes" if able else "unknown" if unknown else "no",
        smmus=sum(smmu.kind == "smmuv3" for smmu in summary.smmus),
        properties=properties,
        granules=tuple(size for size in ("4k", "16k", "64k") if granules and all(size in one for one in granules)),
        counts=_counts(summary),
    )


def _counts(summary: HostSummary) -> tuple[Count, ...]:
    kinds: dict[tuple[str, int], list[Pool]] = {}
    for pool in summary.pools:
        if not pool.to_make:  # what is not there yet can't be scheduled on
            kinds.setdefault((pool.ids, pool.class_code >> 8), []).append(pool)
    counts = []
    for (ids, class_code), pools in sorted(kinds.items()):
        able = [pool for pool in pools if pool.smmu >= 0 and can_accelerate(pool, assume=False)]
        free = [pool for pool in able if not pool.blocked]
        counts.append(
            Count(
                ids=ids,
                class_code=class_code,
                total=sum(len(pool.addresses) for pool in pools),
                accel=sum(len(pool.addresses) for pool in able),
                free=sum(len(pool.addresses) for pool in free),
                segments=frozenset(address.partition(":")[0] for pool in free for address in pool.addresses),
            )
        )
    return tuple(counts)
