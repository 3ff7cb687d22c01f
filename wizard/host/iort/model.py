"""What the I/O Remapping Table says, as frozen data. Numbers that have no name stay numbers."""

from __future__ import annotations

from functools import cached_property
from typing import TypeAlias

import msgspec

from wizard.arch import iort as arch


class Defect(msgspec.Struct, frozen=True):
    """Something wrong with the table: where (a node, or the header) and what, in a sentence.

    ``between`` are the nodes that it is about, where that is not ``where`` alone.
    """

    where: str
    what: str
    between: tuple[str, ...] = ()
    of_pci: bool = True  # a PCI function may be touched by it; named components, counters and what only they use are not
    worked_around: bool = False  # by the kernel: it takes what was meant

    @property
    def nodes(self) -> tuple[str, ...]:
        """Every node that it is about."""
        return self.between or (self.where,)


class IdMapping(msgspec.Struct, frozen=True):
    """One ID mapping of a node. ``id_count`` is the table's own figure, one less than the number of IDs."""

    input_base: int
    id_count: int
    output_base: int
    output_reference: int
    single: bool

    @property
    def input_last(self) -> int:
        """The last input ID that hits."""
        return self.input_base + self.id_count

    @property
    def output_last(self) -> int:
        """The last output ID."""
        return self.output_base if self.single else self.output_base + self.id_count


class Node(msgspec.Struct, frozen=True):
    """What every node has. ``offset`` is from the start of the table and is how other nodes refer to it."""

    offset: int
    type: int
    revision: int
    identifier: int
    length: int
    mappings: tuple[IdMapping, ...]

    @property
    def name(self) -> str:
        """Kind and place: ``root complex at 0x150``."""
        return f"{arch.NODE_NAMES.get(self.type, f'node of type {self.type}')} at {self.offset:#x}"


class ItsGroup(Node, frozen=True):
    """A group of interrupt translation services, by their MADT identifiers."""

    identifiers: tuple[int, ...]


class MemoryAccess(msgspec.Struct, frozen=True):
    """Memory access properties. ``canwbs``: the device's accesses are coherent whatever stage 1 asks for."""

    coherent: bool
    cpm: bool
    dacs: bool
    canwbs: bool
    hints: frozenset[str]


class NamedComponent(Node, frozen=True):
    """A platform device, by its ACPI path."""

    stall: bool
    pasid_bits: int
    memory: MemoryAccess
    address_limit: int
    path: str


class RootComplex(Node, frozen=True):
    """A PCI root complex: one segment. ``address_limit`` (bits) and ``pasid_width`` are None in node revisions without them."""

    segment: int
    memory: MemoryAccess
    ats: bool
    pri: bool
    pasid_forward: bool
    address_limit: int | None
    pasid_width: int | None

    @property
    def canwbs_offset(self) -> int:
        """Where in the table the byte lies whose bit 2 is CANWBS: for whoever overrides the table."""
        return self.offset + arch.NODE_SIZE + arch.MEMORY_FLAGS_BYTE


class Smmu(Node, frozen=True):
    """An SMMUv1 or v2: known, so that hosts with one can be told so."""

    base: int
    span: int
    model: int
    model_name: str
    dvm: bool
    coherent_walk: bool
    global_gsivs: tuple[int, ...]
    context_gsivs: tuple[int, ...]


class SmmuV3(Node, frozen=True):
    """An SMMUv3. A GSIV of 0 means that the SMMU signals by MSI.

    ``httu`` is the override's number (0 none, 1 access flag, 2 and dirty state); ``proximity`` is None unless valid.
    ``id_mapping_index`` is the mapping that gives the SMMU's own DeviceID, None where the kernel would not use it.
    """

    base: int
    cohacc: bool
    httu: int
    proximity: int | None
    model: int
    model_name: str
    vatos: int
    event_gsiv: int
    pri_gsiv: int
    gerr_gsiv: int
    sync_gsiv: int
    id_mapping_index: int | None

    @property
    def sysfs_name(self) -> str:
        """As /sys/class/iommu names it: ``smmu3.0x0000000012000000``."""
        return f"smmu3.0x{self.base:016x}"


class Pmcg(Node, frozen=True):
    """A performance monitoring counter group and the offset of the node that it counts for."""

    page0: int
    page1: int | None
    gsiv: int
    reference: int


class RmrRegion(msgspec.Struct, frozen=True):
    """A reserved memory range: bytes ``start`` to ``end``, inclusive."""

    start: int
    end: int


class Rmr(Node, frozen=True):
    """Reserved memory: its regions must be mapped one to one for the StreamIDs that its mappings name."""

    remap_permitted: bool
    privileged: bool
    attributes: int
    attributes_name: str
    regions: tuple[RmrRegion, ...]


class UnknownNode(Node, frozen=True):
    """A node of a type that has no meaning here, or whose data is cut off: its bytes."""

    data: bytes


AnySmmu: TypeAlias = SmmuV3 | Smmu


class Iort(msgspec.Struct, frozen=True, dict=True):
    """The whole table: every node that could be read, in table order, and everything that is wrong with it."""

    revision: int
    oem_id: str
    oem_table_id: str
    oem_revision: int
    length: int
    nodes: tuple[Node, ...]
    defects: tuple[Defect, ...]

    @cached_property
    def by_offset(self) -> dict[int, Node]:
        """Nodes by the offset that references use."""
        return {node.offset: node for node in self.nodes}

    @cached_property
    def root_complexes(self) -> dict[int, RootComplex]:
        """Root complexes by segment: of two with the same segment the kernel takes the first (iort_match_node_callback())."""
        found: dict[int, RootComplex] = {}
        for node in self.nodes:
            if isinstance(node, RootComplex):
                found.setdefault(node.segment, node)
        return found

    @cached_property
    def smmus(self) -> tuple[SmmuV3, ...]:
        """SMMUv3s in table order, which is the order of their ``arm-smmu-v3.N.auto`` numbers."""
        return tuple(node for node in self.nodes if isinstance(node, SmmuV3))

    @cached_property
    def old_smmus(self) -> tuple[Smmu, ...]:
        """SMMUv1s and v2s in table order."""
        return tuple(node for node in self.nodes if isinstance(node, Smmu))

    @cached_property
    def rmrs(self) -> tuple[Rmr, ...]:
        """RMR nodes in table order."""
        return tuple(node for node in self.nodes if isinstance(node, Rmr))

    @cached_property
    def named_components(self) -> tuple[NamedComponent, ...]:
        """Named components in table order."""
        return tuple(node for node in self.nodes if isinstance(node, NamedComponent))
