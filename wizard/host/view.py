"""What ``list --json`` and ``show --json`` print: the model of the output, and the functions that fill it.

A field is added, never renamed. Ids are strings, addresses hex strings, groups and StreamIDs integers; an unknown value
is null with source ``none``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

import msgspec

from wizard.base.finding import Finding
from wizard.base.json import elements, within
from wizard.base.shares import in_shares
from wizard.host.bars import Bar
from wizard.host.describe import Row, smmu_assumed
from wizard.host.function import Capabilities
from wizard.host.iort import Promise, promises, ranges, smmu_at
from wizard.host.known import Known, Source
from wizard.host.model import Accel, Function, Group, Host, Smmu
from wizard.host.uses import told

SCHEMA = 1


class KnownView(msgspec.Struct, frozen=True):
    """One value and where it is known from."""

    value: bool | int | str | None
    source: Source
    note: str = ""


class HostView(msgspec.Struct, frozen=True):
    """Which host, and what it runs."""

    id: str | None
    product: str | None
    firmware: str | None
    kernel: str
    machine: str
    page_size: int | None
    digest: str
    recorded_by: str
    origin: str
    assumptions: int
    iommu: str = "none"  # smmuv3, smmuv2, intel, amd, virtio, other, or several of them with commas
    assumed: dict[str, str] = {}  # place in the snapshot -> why nobody measured what stands there
    gic: str | None = None  # the interrupt controller by the firmware's MADT: version, ITSs, frames of GICv2m
    rests_on: tuple[str, ...] = ()  # of a paste: the kinds of text and files that it held


class RegistersView(msgspec.Struct, frozen=True):
    """Raw ID registers as iommufd handed them out; ``assumed``: made up."""

    idr: tuple[str, ...]  # IDR0 to IDR5
    iidr: str
    aidr: str
    asked: str  # the function that they were asked of
    assumed: bool


class SmmuView(msgspec.Struct, frozen=True):
    """One SMMU with the functions below it."""

    name: str
    kind: str
    base: str | None
    numa_node: int | None
    segments: tuple[int, ...]
    capabilities: dict[str, KnownView]
    hardware: dict[str, KnownView]
    functions: tuple[str, ...]
    platform_devices: tuple[str, ...]
    registers: RegistersView | None = None
    features: str | None = None  # the mask of the kernel's log
    options: str | None = None
    assumed: dict[str, str] = {}


class IdRangeView(msgspec.Struct, frozen=True):
    """IDs of a segment, a platform device or reserved memory that lead to an SMMU, both ends counted."""

    subject: str
    input_first: str
    input_last: str
    stream_first: str
    stream_last: str


class FirmwareView(msgspec.Struct, frozen=True):
    """What IORT, or the device tree, says of one SMMU."""

    promises: dict[str, Promise]
    ranges: tuple[IdRangeView, ...]


class AccelView(msgspec.Struct, frozen=True):
    """The verdict and its reasons."""

    verdict: Accel
    reasons: tuple[Finding, ...]


class BarView(msgspec.Struct, frozen=True):
    """One base address register: 0 to 5, its size in bytes."""

    index: int
    size: int
    memory: bool
    wide: bool  # 64-bit
    prefetchable: bool


class FunctionView(msgspec.Struct, frozen=True):
    """One function."""

    address: str
    vendor: str
    device: str
    class_: str = msgspec.field(name="class")
    name: str = ""
    driver: str | None = None
    iommu_group: int | None = None
    smmu: str | None = None
    stream_ids: tuple[int, ...] = ()
    numa_node: int | None = None
    physfn: str | None = None
    parent: str | None = None
    in_use: tuple[str, ...] = ()
    capabilities: dict[str, KnownView] = {}
    accel: AccelView = AccelView(Accel.UNKNOWN, ())
    todo: tuple[Finding, ...] = ()
    stream_ids_source: Source = Source.NONE
    smmu_source: KnownView = KnownView(None, Source.NONE)
    assignable: bool | None = None  # to a VM at all, with acceleration or without; null: not known
    bars: tuple[BarView, ...] = ()
    vfio_dev: tuple[str, ...] = ()
    driver_override: str | None = None
    virtfns: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()
    assumed: dict[str, str] = {}  # field -> why nobody measured it
    bars_known: bool = True  # false: `bars` was not read


class RegionView(msgspec.Struct, frozen=True):
    """A reserved region; ``end`` is inclusive."""

    start: str
    end: str
    type: str


class GroupView(msgspec.Struct, frozen=True):
    """One IOMMU group."""

    id: int
    type: str | None
    functions: tuple[str, ...]
    reserved_regions: tuple[RegionView, ...] | None  # None: not read, or not all understood
    assumed: dict[str, str] = {}
    members_known: bool = True  # false: only links of functions say who is in it


class ListView(msgspec.Struct, frozen=True):
    """The output of ``list --json``."""

    schema: int
    host: HostView
    smmus: tuple[SmmuView, ...]
    functions: tuple[FunctionView, ...]
    groups: tuple[GroupView, ...]


class ShowView(msgspec.Struct, frozen=True):
    """The output of ``show --json``: one function or one SMMU, and what belongs to it."""

    schema: int
    function: FunctionView | None = None
    smmu: SmmuView | None = None
    group: GroupView | None = None
    companions: tuple[str, ...] = ()
    firmware: FirmwareView | None = None
    log: tuple[Finding, ...] = ()  # what the kernel's log says of it
    rows: tuple[Row, ...] = ()  # the same in words, as the text form and the wizard show it
    other_vmms: dict[str, AccelView] = {}  # acceleration of a function with each other VMM (openvmm)


def known_view(known: Mapping[str, Known]) -> dict[str, KnownView]:
    """Capabilities by name, in alphabetical order."""
    if not isinstance(known, Capabilities):
        return _known_view(known)
    # Most functions of a host have one mapping between a few of them: it is kept, so that nothing else is taken for it.
    whole = known.whole()
    kept, view = _VIEWS.get(id(whole), (None, {}))
    if kept is not whole:
        if len(_VIEWS) >= _MOST:
            _VIEWS.clear()
        view = _known_view(whole)
        _VIEWS[id(whole)] = whole, view
    return view


_VIEWS: dict[int, tuple[Mapping[str, Known], dict[str, KnownView]]] = {}
_MOST = 1024


def _known_view(found: Mapping[str, Known]) -> dict[str, KnownView]:
    # Source.NONE stands with a value that is not known, whatever asked for it.
    return {name: KnownView((one := found[name]).value, one.source if one.value is not None else Source.NONE, one.note) for name in sorted(found)}


def host_view(host: Host) -> HostView:
    """The host's own line."""
    facts = host.facts
    return HostView(
        id=facts.identity.host,
        product=" ".join(part for part in (facts.identity.vendor, facts.identity.product) if part) or None,
        firmware=facts.identity.firmware,
        kernel=facts.kernel.release,
        machine=facts.kernel.machine,
        page_size=host.page_size,
        digest=host.digest,
        recorded_by=facts.tool,
        origin=facts.origin,
        assumptions=len(facts.assumptions),
        iommu=",".join(sorted({smmu.kind for smmu in host.smmus.values()})) or "none",
        assumed={assumption.path: assumption.why for assumption in facts.assumptions},
        gic=host.gic.words if host.gic else None,
        rests_on=facts.rests_on or (),
    )


def smmu_view(host: Host, smmu: Smmu) -> SmmuView:
    """One SMMU."""
    raw = smmu.registers
    return SmmuView(
        name=smmu.name,
        kind=smmu.kind,
        base=None if smmu.base is None else f"{smmu.base:#x}",
        numa_node=smmu.numa_node,
        segments=smmu.segments,
        capabilities=known_view(smmu.capabilities),
        hardware=known_view(smmu.hardware),
        functions=smmu.functions,
        platform_devices=smmu.platform_devices,
        registers=None
        if raw is None
        else RegistersView(tuple(f"{word:#010x}" for word in raw.words), f"{raw.iidr:#010x}", f"{raw.aidr:#x}", raw.asked, raw.assumed),
        features=None if smmu.features is None else f"{smmu.features:#010x}",
        options=None if smmu.options is None else f"{smmu.options:#x}",
        assumed=smmu_assumed(host, smmu),
    )


def firmware_view(host: Host, smmu: Smmu) -> FirmwareView | None:
    """What the firmware says of one SMMU, None where it says nothing."""
    if host.by_tree and (found := host.device_tree.named(smmu.name, smmu.device)) is not None:
        return FirmwareView(
            promises=dict(host.device_tree.promises(found)),
            ranges=tuple(
                IdRangeView(one.subject, f"{one.first:#x}", f"{one.last:#x}", f"{one.stream:#x}", f"{one.stream_last:#x}")
                for one in host.device_tree.ranges(found)
            ),
        )
    node = smmu_at(host.iort, smmu.base)
    if node is None or host.iort is None:
        return None
    return FirmwareView(
        promises=promises(node),
        ranges=tuple(
            IdRangeView(
                subject=one.subject,
                input_first=f"{one.mapping.input_base:#x}",
                input_last=f"{one.mapping.input_last:#x}",
                stream_first=f"{one.mapping.output_base:#x}",
                stream_last=f"{one.mapping.output_last:#x}",
            )
            for one in ranges(host.iort)
            if one.smmu is node
        ),
    )


@lru_cache(maxsize=1024)  # those of all functions of one kind
def _bar_views(bars: tuple[Bar, ...]) -> tuple[BarView, ...]:
    return tuple(BarView(bar.index, bar.size, bar.memory, bar.wide, bar.prefetchable) for bar in bars)


@lru_cache(maxsize=1024)  # those of all functions behind one SMMU; its name is a text or None, which no number equals
def _one_view(known: Known) -> KnownView:
    return KnownView(known.value, known.source, known.note)


def function_view(host: Host, function: Function) -> FunctionView:
    """One function with its verdict."""
    verdict = host.verdict(function.facts.address)
    return FunctionView(
        address=function.facts.address,
        vendor=function.facts.vendor,
        device=function.facts.device,
        class_=function.facts.class_,
        name=function.name,
        driver=function.facts.driver,
        iommu_group=function.group,
        smmu=function.smmu,
        stream_ids=function.stream_ids,
        numa_node=function.numa_node,
        physfn=function.facts.physfn,
        parent=function.parent,
        in_use=tuple(map(told, host.uses.get(function.facts.address, ()))),
        capabilities=known_view(function.capabilities),
        accel=AccelView(verdict.accel, verdict.reasons),
        todo=verdict.todo,
        stream_ids_source=function.stream_source.source,
        smmu_source=_one_view(function.smmu_source),
        assignable=verdict.assignable,
        bars=_bar_views(function.bars),
        vfio_dev=function.facts.vfio_dev,
        driver_override=function.facts.driver_override,
        virtfns=function.facts.virtfns,
        companions=host.companion_names(function),
        assumed=host.assumed.below(f"functions.{function.facts.address}") if host.assumed else {},
        bars_known=function.bars_known,
    )


def group_view(host: Host, group: Group) -> GroupView:
    """One group."""
    regions = tuple(RegionView(f"{r.start:#x}", f"{r.end:#x}", r.type) for r in group.regions) if group.regions_known else None
    return GroupView(
        group.id, group.type, group.devices, regions, host.assumed.below(f"groups.{group.id}") if host.assumed else {}, group.members_known
    )


def list_view(host: Host, smmu: str | None = None, kept: Collection[str] | None = None) -> ListView:
    """Everything, or what belongs to one SMMU; with ``kept`` only those functions, their groups and the SMMUs above them."""
    functions = _listed(host, smmu, kept)
    frame = _frame(host, functions, smmu, kept)
    return msgspec.structs.replace(frame, functions=tuple(function_view(host, f) for f in functions))


_AT_ONCE = 1024  # functions: views of so many are held, whatever there are


def list_json(host: Host, smmu: str | None = None, kept: Collection[str] | None = None) -> Iterator[bytes]:
    """The same as JSON, indented by two, in pieces: of many functions there are never all views at once, and several processes make them."""
    functions = _listed(host, smmu, kept)

    def made(share: Sequence[Function]) -> list[bytes]:
        some = (share[at : at + _AT_ONCE] for at in range(0, len(share), _AT_ONCE))
        return [elements([function_view(host, f) for f in few]) for few in some]

    if functions:
        host.companions(functions[0])  # an index that each process would make for itself
    shares = in_shares(list[bytes], functions, made)
    frame = msgspec.json.format(msgspec.json.encode(_frame(host, functions, smmu, kept)), indent=2)
    yield from within(frame, "functions", [piece for share in shares for piece in share])


def _listed(host: Host, smmu: str | None, kept: Collection[str] | None) -> list[Function]:
    return [f for a, f in host.functions.items() if (smmu is None or f.smmu == smmu) and (kept is None or a in kept)]


def _frame(host: Host, functions: Iterable[Function], smmu: str | None, kept: Collection[str] | None) -> ListView:
    """All but the functions."""
    groups = {f.group for f in functions}
    whole = smmu is None and kept is None
    above = {f.smmu for f in functions}
    return ListView(
        schema=SCHEMA,
        host=host_view(host),
        smmus=tuple(smmu_view(host, s) for s in host.smmus.values() if (smmu is None or s.name == smmu) and (kept is None or s.name in above)),
        functions=(),
        groups=tuple(group_view(host, g) for g in host.groups.values() if whole or g.id in groups),
    )
