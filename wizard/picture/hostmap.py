"""The host in one look: SMMUs by capability, each SMMU's functions by verdict and by VM, NUMA nodes and their memory.

    HostMap
      rows      SmmuRow: one SMMU
        cells   Cell: one capability, told as yes, no, unknown or assumed, with its value and what it is known from
        marks   Mark: one endpoint below it, with its verdict and the VM that it was given to
      outside   the endpoints that no SMMU is known to translate for
      bands     Band: one NUMA node, with its memory and what VMs are to have of it

Verdicts take work, so ``host_map`` asks for them only where ``verdict`` does: a screen that comes up fast hands in what it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import groupby

import msgspec

from wizard.host.known import Known, Source
from wizard.host.model import Accel, Host, Smmu
from wizard.picture.letters import letters
from wizard.plan.memory import cpu_list
from wizard.plan.model import VmPlan

CAPABILITIES = ("nesting", "s2fwb", "oas", "ssidsize", "ats", "ril", "cmdqv", "granules")
"""The columns, what decides most first."""
GRANULES = (("4", "gran4k"), ("16", "gran16k"), ("64", "gran64k"))


class State(StrEnum):
    """How a value is known. An assumed one is nobody's word, whatever it says: ``Cell.value`` has it."""

    YES = "yes"  # or a number above zero
    NO = "no"  # or zero
    UNKNOWN = "unknown"
    ASSUMED = "assumed"


class Cell(msgspec.Struct, frozen=True):
    """One capability of one SMMU. ``parts`` are what it was made of: itself, or the three granules."""

    name: str
    state: State
    value: str  # yes, no, unknown, bits, or granules in KiB: "4,64"
    sources: tuple[Source, ...]  # without doubles; NONE where it is unknown
    parts: tuple[tuple[str, Known], ...]


class Mark(msgspec.Struct, frozen=True):
    """One endpoint. ``verdict`` None: nobody has asked for it yet."""

    address: str
    verdict: Accel | None
    vm: str | None  # the VM that it was given to
    in_use: bool  # by the host itself
    vf: bool


class SmmuRow(msgspec.Struct, frozen=True):
    """One SMMU; another kind of IOMMU has no cells."""

    name: str
    kind: str
    node: int | None
    cells: tuple[Cell, ...]
    marks: tuple[Mark, ...]
    platform_devices: int

    @property
    def vms(self) -> tuple[str, ...]:
        """The VMs that have functions below it: it is shared where these are two."""
        return tuple(dict.fromkeys(mark.vm for mark in self.marks if mark.vm))


class Pool(msgspec.Struct, frozen=True):
    """Hugepages of one size on one node; ``free`` None: not read."""

    page: int  # bytes
    pages: int
    free: int | None


class Band(msgspec.Struct, frozen=True):
    """One NUMA node, or the whole host where its nodes were not read (``node`` None). Bytes; None: not read."""

    node: int | None
    memory: int | None
    cpus: int | None
    given: tuple[tuple[str, int], ...]  # VM -> bytes of its memory that are to come from here
    pools: tuple[Pool, ...]
    smmus: tuple[str, ...]

    @property
    def left(self) -> int | None:
        """Bytes that no VM is to have; negative where more was promised than there is."""
        return None if self.memory is None else self.memory - sum(size for _, size in self.given)


class HostMap(msgspec.Struct, frozen=True):
    """The host."""

    rows: tuple[SmmuRow, ...]
    outside: tuple[Mark, ...]
    bands: tuple[Band, ...]
    placeless: tuple[tuple[str, int], ...]  # VM -> bytes that are bound to no node of a host with several
    empty_nodes: int  # nodes without memory, CPUs and SMMUs: what a Grace GPU keeps for its partitions
    available: int | None  # bytes of the host that are free at the moment
    letters: Mapping[str, tuple[str, str]]  # VM -> (letter, role of its colour)

    def row(self, name: str) -> SmmuRow:
        """An SMMU's row; ``KeyError``."""
        for found in self.rows:
            if found.name == name:
                return found
        raise KeyError(name)


Owner = Callable[[str], str | None]
Ask = Callable[[str], Accel | None]


def host_map(
    host: Host,
    vms: Sequence[VmPlan] = (),
    *,
    names: Sequence[str] | None = None,
    owner: Owner | None = None,
    verdict: Ask | None = None,
    order: Sequence[str] | None = None,
) -> HostMap:
    """The host's picture.

    ``vms`` are what was planned; ``names`` the VMs where some are not planned yet, in the order of their letters; ``order`` the host's
    addresses sorted, where somebody has them.
    """
    held = {device.host: vm.name for vm in reversed(vms) for device in vm.devices}
    uses = {use.address for use in host.facts.in_use}
    ask = verdict or (lambda address: host.verdict(address).accel)
    whose = owner or held.get
    below: dict[str | None, list[Mark]] = {}
    for address in order or sorted(host.functions, key=lambda one: host.functions[one].address):
        function = host.functions[address]
        if not function.is_bridge:
            mark = Mark(address, ask(address), whose(address), address in uses, function.is_vf)
            below.setdefault(function.smmu if function.smmu in host.smmus else None, []).append(mark)
    rows = tuple(
        SmmuRow(smmu.name, smmu.kind, smmu.numa_node, cells(smmu), tuple(below.get(smmu.name, ())), len(smmu.platform_devices))
        for smmu in host.smmus.values()
    )
    named = names if names is not None else [vm.name for vm in vms]
    bands, placeless, empty = _bands(host, vms)
    return HostMap(rows, tuple(below.get(None, ())), bands, placeless, empty, host.facts.moment.memory_available, letters(named))


def cells(smmu: Smmu) -> tuple[Cell, ...]:
    """What one SMMU can do, as this kernel uses it; nothing for another kind of IOMMU, which these are no matter of."""
    if smmu.kind != "smmuv3":
        return ()
    return tuple(_granules(smmu) if name == "granules" else _cell(name, smmu.known(name)) for name in CAPABILITIES)


def _state(known: Known) -> State:
    if not known.known:
        return State.UNKNOWN
    if known.source is Source.ASSUMED:
        return State.ASSUMED
    return State.YES if known.is_true else State.NO


def _cell(name: str, known: Known) -> Cell:
    return Cell(name, _state(known), known.show(), (known.source,), ((name, known),))


def _granules(smmu: Smmu) -> Cell:
    parts = tuple((name, smmu.known(name)) for _, name in GRANULES)
    states = {_state(known) for _, known in parts}
    sources = tuple(dict.fromkeys(known.source for _, known in parts))
    has = ",".join(size for size, name in GRANULES if smmu.known(name).is_true)
    if State.UNKNOWN in states:
        # One that is known does not make the others no.
        return Cell("granules", State.UNKNOWN, f"{has},?" if has else "unknown", sources, parts)
    state = State.ASSUMED if State.ASSUMED in states else State.YES if has else State.NO
    return Cell("granules", state, has or "no", sources, parts)


class Run(msgspec.Struct, frozen=True):
    """Neighbours of a strip that look alike."""

    first: Mark
    marks: tuple[Mark, ...]


def runs(marks: Sequence[Mark]) -> Iterator[Run]:
    """A strip folded: neighbours with the same verdict, VM and use by the host are one run."""
    for _, found in groupby(marks, lambda mark: (mark.vm, None if mark.vm else (mark.in_use, mark.verdict))):
        same = tuple(found)
        yield Run(same[0], same)


def kinds(marks: Sequence[Mark]) -> Iterator[Run]:
    """The same over the whole strip: what a strip that does not fit comes down to."""
    found: dict[object, list[Mark]] = {}
    for mark in marks:
        found.setdefault((mark.vm, None if mark.vm else (mark.in_use, mark.verdict)), []).append(mark)
    return (Run(same[0], tuple(same)) for same in found.values())


def _bands(host: Host, vms: Sequence[VmPlan]) -> tuple[tuple[Band, ...], tuple[tuple[str, int], ...], int]:
    given: dict[int | None, dict[str, int]] = {}
    for vm in vms:
        bound = [(node.host_node, node.memory) for node in vm.memory.nodes if node.memory]
        for place, size in bound or [(None, vm.memory.size)]:
            share = given.setdefault(place, {})
            share[vm.name] = share.get(vm.name, 0) + size
    facts = host.facts
    nodes = facts.nodes
    if len([node for node in nodes if node.memory or node.cpus]) == 1 and not any(place is not None for place in given):
        # The only node that there is to come from.
        only = next(node.id for node in nodes if node.memory or node.cpus)
        given = {only: given.get(None, {})}
    below: dict[int | None, list[str]] = {}
    for smmu in host.smmus.values():
        below.setdefault(smmu.numa_node, []).append(smmu.name)
    if not nodes:
        whole = tuple((name, size) for share in given.values() for name, size in share.items())
        return (Band(None, facts.memory_total, facts.cpus, whole, (), tuple(host.smmus)),), (), 0
    bands, empty = [], 0
    for node in nodes:
        free = facts.moment.hugepages_free.get(str(node.id), {})
        kept = sorted((int(page), count) for page, count in node.hugepages.items() if count)
        pools = tuple(Pool(page * 1024, count, free.get(str(page))) for page, count in kept)
        cpus = cpu_list(node.cpus) or ()
        # A host with one node has all of its memory there, also where the node's own figure was not read.
        memory = facts.memory_total if node.memory is None and len(nodes) == 1 else node.memory
        band = Band(node.id, memory, len(cpus), tuple(given.get(node.id, {}).items()), pools, tuple(below.get(node.id, ())))
        if memory == 0 and not cpus and not band.smmus and not band.given:
            empty += 1
        else:
            bands.append(band)
    there = {node.id for node in nodes}
    # A profile of another host may name a node that this one lacks: its memory is still to come from somewhere.
    placeless = [(name, size) for place, share in given.items() if place not in there for name, size in share.items()]
    return tuple(bands), tuple(placeless), empty
