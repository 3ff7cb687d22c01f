"""The richest vSMMU that every host can supply, and which host holds it down: ``virsh hypervisor-cpu-baseline``, for SMMUs.

A vSMMU is a point (ats, ril, ssidsize, oas, cmdqv). A host supplies every point that one of its SMMUs with a fitting function
dominates; the points that all hosts supply are the intersection, and the baseline is the richest of them. Of a host that has two
unlike SMMUs a point counts only when one SMMU supplies it whole.

    part = part_of(name, summary, kind)          one host; part_of_fleet does many
    merge(part, part)                            several; associative and commutative, so hosts may be taken in any order and anywhere
    conclude(part, kind)                         the answer
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import product
from typing import TypeVar

import msgspec

from wizard.base.finding import Finding, Severity
from wizard.base.text import plural, visible
from wizard.fleet.codes import fleet_code
from wizard.fleet.devicekind import DeviceKind
from wizard.fleet.entry import summary_of_entry
from wizard.fleet.gather import Fleet
from wizard.fleet.summary import GRANULES, HostSummary, Pool, SmmuSummary
from wizard.host.model import Accel
from wizard.plan.properties import DECLARED, declared
from wizard.plan.target import parse_version

SCHEMA = 1
NAMES = 20
"""Hosts that are named for one value; the others are counted."""

Vector = tuple[int, ...]
POINTS: tuple[Vector, ...] = tuple(product(*(one.choices for one in DECLARED)))
"""Every vSMMU there can be: 336."""

EVERY = (1 << len(POINTS)) - 1


class Named(msgspec.Struct, frozen=True):
    """How many hosts, and the first of them by name."""

    count: int = 0
    names: tuple[str, ...] = ()

    def __add__(self, other: Named) -> Named:
        return Named(self.count + other.count, tuple(sorted({*self.names, *other.names})[:NAMES]))


class Part(msgspec.Struct, frozen=True):
    """What is known after some of the hosts. There are few unlike sets of points among many hosts: hosts share their models."""

    hosts: int = 0
    functions: int = 0
    points: Mapping[int, Named] = {}  # a bit for each of ``POINTS`` that a host supplies -> which hosts supply just those
    granules: Mapping[tuple[str, ...], Named] = {}  # the same of granules
    qemus: Mapping[tuple[int, int], Named] = {}  # version of the QEMU that is installed -> which hosts
    cannot: Mapping[str, Named] = {}  # why a host can supply none -> which
    reasons: Mapping[str, str] = {}  # the same -> in words, of one of them
    not_known: Mapping[str, Named] = {}  # property or granule of which nobody knows what it is -> on which hosts


class Supplied(msgspec.Struct, frozen=True):
    """What one host supplies, whatever its name; or why it supplies none."""

    points: int = 0
    functions: int = 0
    granules: tuple[str, ...] = ()
    qemu: tuple[int, int] | None = None
    code: str | None = None
    reason: str = ""
    not_known: tuple[str, ...] = ()


def supplied_by(summary: HostSummary, kind: DeviceKind, *, assume: bool = False) -> Supplied:
    """One host. ``assume`` takes unknown verdicts and assumed values for what they say."""
    wanted = list(kind.pools(summary))
    usable = [pool for pool in wanted if pool.smmu >= 0 and can_accelerate(pool, assume=assume)]
    if not usable:
        code, reason = _why_not(wanted) if wanted or summary.functions_read else NOT_READ
        return Supplied(code=code, reason=reason)
    smmus = [summary.smmus[place] for place in sorted({pool.smmu for pool in usable})]
    faults = [fault for smmu in smmus if (fault := oas_fault(smmu, assume=assume)) is not None]
    if len(faults) == len(smmus):
        return Supplied(code=faults[0][0], reason=faults[0][1])
    usable = [pool for pool in usable if oas_fault(summary.smmus[pool.smmu], assume=assume) is None]
    smmus = [smmu for smmu in smmus if oas_fault(smmu, assume=assume) is None]
    points = 0
    for vector in {vector_of(smmu, assume=assume) for smmu in smmus}:
        points |= _below(vector)
    return Supplied(
        points=points,
        functions=sum(len(pool.addresses) for pool in usable),
        granules=tuple(size for size in GRANULES if any(size in smmu.granules for smmu in smmus)),
        qemu=parse_version(summary.qemu) if summary.qemu else None,
        not_known=tuple(_open(smmus, assume=assume)),
    )


def _open(smmus: list[SmmuSummary], *, assume: bool) -> Iterator[str]:
    """Properties and granules of which no SMMU is known to have more than the least, and one is not known at all."""
    for one in DECLARED:
        offers = [smmu.offer(one.name) for smmu in smmus]
        more = any((offer.assumed if assume else offer.richest) > one.least for offer in offers)
        if not more and any(not offer.told for offer in offers):
            yield one.name
    for size in GRANULES:
        if not any(size in smmu.granules for smmu in smmus) and any(size in smmu.granules_unknown for smmu in smmus):
            yield size


def part_of(name: str, summary: HostSummary, kind: DeviceKind, *, assume: bool = False) -> Part:
    """One host as a part: the pure per-host step."""
    return _part(((name, supplied_by(summary, kind, assume=assume)),))


def part_of_fleet(fleet: Fleet, kind: DeviceKind, *, assume: bool = False) -> Part:
    """Every host at once: the same as merging the part of each. Hosts that are alike are looked at once."""
    known: dict[bytes, Supplied] = {}

    def each() -> Iterator[tuple[str, Supplied]]:
        for entry in fleet.entries:
            assert entry.summary is not None
            found = known.get(entry.summary)
            if found is None:
                found = known[entry.summary] = supplied_by(summary_of_entry(entry), kind, assume=assume)
            yield entry.name, found

    return _part(each())


def _part(hosts: Iterable[tuple[str, Supplied]]) -> Part:
    count, functions = 0, 0
    points: dict[int, list[str]] = {}
    granules: dict[tuple[str, ...], list[str]] = {}
    qemus: dict[tuple[int, int], list[str]] = {}
    cannot: dict[str, list[str]] = {}
    reasons: dict[str, str] = {}
    not_known: dict[str, list[str]] = {}
    for name, supplied in hosts:
        count += 1
        if supplied.code is not None:
            cannot.setdefault(supplied.code, []).append(name)
            reasons[supplied.code] = min(reasons.get(supplied.code, supplied.reason), supplied.reason)
            continue
        functions += supplied.functions
        points.setdefault(supplied.points, []).append(name)
        granules.setdefault(supplied.granules, []).append(name)
        for what in supplied.not_known:
            not_known.setdefault(what, []).append(name)
        if supplied.qemu:
            qemus.setdefault(supplied.qemu, []).append(name)
    return Part(
        hosts=count,
        functions=functions,
        points={key: _named_of(names) for key, names in points.items()},
        granules={key: _named_of(names) for key, names in granules.items()},
        qemus={key: _named_of(names) for key, names in qemus.items()},
        cannot={key: _named_of(names) for key, names in cannot.items()},
        reasons=reasons,
        not_known={key: _named_of(names) for key, names in not_known.items()},
    )


def _named_of(names: list[str]) -> Named:
    return Named(len(names), tuple(heapq.nsmallest(NAMES, names)))


def can_accelerate(pool: Pool, *, assume: bool) -> bool:
    """Whether a function of the pool could be accelerated; in use by the host or not does not matter to what its SMMU supplies."""
    return pool.accel == Accel.YES or (assume and pool.accel == Accel.UNKNOWN)


def oas_fault(smmu: SmmuSummary, *, assume: bool) -> tuple[str, str] | None:
    """Code and words where the SMMU supplies not even the least: of oas that is 44 bits, and QEMU refuses it on an SMMU with fewer."""
    oas, least = smmu.offer("oas"), declared("oas").least
    if oas.compared is not None and oas.compared < least:
        return "property-exceeds-host", f"{smmu.name} has {oas.compared} address bits, and oas={least} is the least that can be written."
    if not oas.measured and not assume:
        return "property-unproven", f"How many address bits {smmu.name} has is {'assumed' if oas.compared is not None else 'not known'}."
    return None


def vector_of(smmu: SmmuSummary, *, assume: bool) -> Vector:
    """What an SMMU supplies, as a point."""
    values = []
    for one, offer in zip(DECLARED, smmu.offers, strict=True):
        values.append(one.reach(offer.assumed if assume else offer.richest))
    return tuple(values)


@cache
def _below(vector: Vector) -> int:
    """A bit for each point that is dominated."""
    return sum(1 << place for place, point in enumerate(POINTS) if all(a <= b for a, b in zip(point, vector, strict=True)))


NOT_READ = ("not-looked-at", "Its functions were not read.")


def _why_not(wanted: list[Pool]) -> tuple[str, str]:
    if not wanted:
        return "no-such-device", "It has no such device."
    pool = min(wanted, key=nearness)
    return pool.code or "no-smmu", pool.reason or "It has no SMMU above such a device."


def nearness(pool: Pool) -> tuple[object, ...]:
    """Sorts the pool that came nearest first: of what is not known something can still be learned."""
    return pool.accel != Accel.UNKNOWN, not pool.assignable, not pool.alone, pool.smmu < 0, pool.addresses


def merge(one: Part, other: Part) -> Part:
    """Two parts as one."""
    reasons = dict(one.reasons)
    for code, reason in other.reasons.items():
        reasons[code] = min(reasons.get(code, reason), reason)
    return Part(
        hosts=one.hosts + other.hosts,
        functions=one.functions + other.functions,
        points=_joined(one.points, other.points),
        granules=_joined(one.granules, other.granules),
        qemus=_joined(one.qemus, other.qemus),
        cannot=_joined(one.cannot, other.cannot),
        reasons=reasons,
        not_known=_joined(one.not_known, other.not_known),
    )


K = TypeVar("K")


def _joined(one: Mapping[K, Named], other: Mapping[K, Named]) -> dict[K, Named]:
    joined = dict(one)
    for key, named in other.items():
        joined[key] = joined[key] + named if key in joined else named
    return joined


class Held(msgspec.Struct, frozen=True):
    """One property: its value in the baseline, who holds it down (can't supply the next richer one beside the rest of the baseline), and
    what it would be without them (None: nothing is gained, since nobody is left or none supplies more). ``not_known``: of which hosts nobody
    read what they supply, or only assumed it; that they hold it down is no word of theirs.
    """

    property: str
    value: str
    held_down_by: Named
    without_them: str | None
    not_known: Named = Named()


class Unable(msgspec.Struct, frozen=True):
    """Hosts that can supply no vSMMU for such a device, by reason."""

    code: str
    reason: str
    hosts: Named


class BaselineView(msgspec.Struct, frozen=True):
    """The output of ``baseline --json``. ``baseline`` is null when not every host can; ``able`` is then that of those that can."""

    schema: int
    device: DeviceKind
    hosts: int
    functions: int
    baseline: dict[str, str] | None
    able: dict[str, str] | None
    alternatives: tuple[dict[str, str], ...]
    granules: tuple[str, ...]
    properties: tuple[Held, ...]
    granules_missing: tuple[Held, ...]  # granules that not all have, or are not known to have: by whom
    machine: str | None  # the newest machine type that every QEMU that was found has
    machine_held_down_by: Named
    unable: tuple[Unable, ...]
    skipped: dict[str, int]
    findings: tuple[Finding, ...]


UNABLE = fleet_code(
    "baseline-host-unable", Severity.ERROR,
    what="{hosts} can supply no vSMMU for {kind}: {subject}.",
    why="{reason} There is no vSMMU that every host can supply.",
    fix="Leave {names} out, or correct it there (`smmu-wizard --replay SNAPSHOT doctor`). Without: {without}.",
)  # fmt: skip
HELD = fleet_code(
    "baseline-held-down", Severity.INFO,
    what="{subject} is {value}, because of {hosts}.",
    why="No SMMU there {has} more together with the rest of the baseline{doubt}; all other hosts have {others}.",
    fix="Without {names} it would be {others}.",
)  # fmt: skip
EMPTY = fleet_code(
    "baseline-no-hosts", Severity.ERROR,
    what="No host is left to take a baseline of.",
    why="No file could be used, for the reasons above.",
    fix="Give snapshots of arm64 hosts, recorded with `smmu-wizard record`.",
)  # fmt: skip
SEVERAL = fleet_code(
    "baseline-not-the-only-one", Severity.INFO,
    what="There is more than one richest vSMMU: {subject} would do as well.",
    why="Hosts with unlike SMMUs supply one or the other, but no single SMMU of theirs supplies both at once.",
    fix="Choose by what the guest needs, and write it into the template.",
)  # fmt: skip


def conclude(part: Part, kind: DeviceKind, *, skipped: Mapping[str, int] | None = None, findings: tuple[Finding, ...] = ()) -> BaselineView:
    """The answer, once all hosts are merged."""
    unable = tuple(Unable(code, part.reasons[code], named) for code, named in sorted(part.cannot.items()))
    common = EVERY if part.points else 0
    for points in part.points:
        common &= points
    tops = sorted(_tops(common), key=_rank, reverse=True)
    able = _shown(tops[0]) if tops else None
    held = tuple(_held(part, place, tops[0]) for place in range(len(DECLARED))) if tops else ()
    has = {size: sum((named for sizes, named in part.granules.items() if size in sizes), Named()) for size in GRANULES}
    lacks = {size: sum((named for sizes, named in part.granules.items() if size not in sizes), Named()) for size in GRANULES}
    missing = tuple(
        Held(
            size,
            _lack(lacks[size], part.not_known.get(size, Named())),
            lacks[size],
            "on" if has[size].count else None,
            part.not_known.get(size, Named()),
        )
        for size in GRANULES
        if lacks[size].count
    )
    oldest = min(part.qemus, default=None)
    found = list(findings)
    without = " ".join(f"{name}={value}" for name, value in able.items()) if able else "no host is left"
    for one in unable:
        found.append(
            UNABLE.at(one.code, hosts=plural(one.hosts.count, "host"), kind=kind, reason=one.reason, names=_names(one.hosts), without=without)
        )
    found += [
        HELD.at(
            one.property,
            value=one.value if one.value == "unknown" else f"only {one.value}",
            hosts=plural(one.held_down_by.count, "host"),
            others=one.without_them,
            names=_names(one.held_down_by),
            has="is known to have" if one.not_known.count else "has",
            doubt=_doubt(one.not_known),
        )
        for one in (*held, *missing)
        if one.without_them is not None
    ]
    found += [SEVERAL.at(" ".join(f"{name}={value}" for name, value in _shown(top).items())) for top in tops[1:]]
    if not part.hosts:
        found.append(EMPTY.at("fleet"))
    order = {severity: place for place, severity in enumerate(Severity)}
    return BaselineView(
        schema=SCHEMA,
        device=kind,
        hosts=part.hosts,
        functions=part.functions,
        baseline=None if unable else able,
        able=able,
        alternatives=tuple(map(_shown, tops[1:])),
        granules=tuple(size for size in GRANULES if has[size].count and not lacks[size].count),
        properties=held,
        granules_missing=missing,
        machine=f"virt-{oldest[0]}.{oldest[1]}" if oldest else None,
        machine_held_down_by=part.qemus[oldest] if oldest else Named(),
        unable=unable,
        skipped=dict(skipped or {}),
        findings=tuple(sorted(found, key=lambda finding: order[finding.severity])),
    )


def _tops(points: int) -> Iterator[Vector]:
    """The points of the set that no other one of it dominates."""
    there = [point for place, point in enumerate(POINTS) if points >> place & 1]
    for point in there:
        if not any(other != point and all(a <= b for a, b in zip(point, other, strict=True)) for other in there):
            yield point


def _rank(point: Vector) -> tuple[int, ...]:
    """By which of several richest points is taken: first what most guests miss most."""
    return tuple(value for _, value in sorted(zip(DECLARED, point, strict=True), key=lambda pair: pair[0].rank))


def _shown(point: Vector) -> dict[str, str]:
    return {one.name: one.spell(value) for one, value in zip(DECLARED, point, strict=True)}


def _held(part: Part, place: int, chosen: Vector) -> Held:
    """Who stands against the next richer value, and the richest that all others supply: the rest of the baseline stays as it is."""
    one = DECLARED[place]
    richer = [value for value in one.choices if value > chosen[place]]
    holders, rest = Named(), EVERY
    for points, named in part.points.items():
        if richer and not _has(points, chosen, place, richer[0]):
            holders += named
        else:
            rest &= points
    gained = [value for value in richer if holders.count < sum(named.count for named in part.points.values()) and _has(rest, chosen, place, value)]
    open_ = part.not_known.get(one.name, Named())
    return Held(one.name, one.spell(chosen[place]), holders, one.spell(max(gained)) if gained else None, open_)


def _doubt(not_known: Named) -> str:
    """Words for the hosts among them that may supply more, and nobody knows."""
    return f" (of {_names(not_known)} nobody read it, or it is only assumed: `record --probe` there would tell)" if not_known.count else ""


def _lack(lacking: Named, not_known: Named) -> str:
    """Off, unless nobody knows it of those that are not known to have it."""
    return "off" if lacking.count > not_known.count else "unknown"


def _has(points: int, chosen: Vector, place: int, value: int) -> bool:
    return bool(points >> POINTS.index((*chosen[:place], value, *chosen[place + 1 :])) & 1)


def _names(named: Named) -> str:
    shown = ", ".join(map(visible, named.names[:5]))
    return shown + (f" and {named.count - min(5, len(named.names))} more" if named.count > min(5, len(named.names)) else "")
