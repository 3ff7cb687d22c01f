"""What the firmware says of functions: IORT asked by PCI address, and its defects as findings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from wizard.base.finding import Area, Definition, Finding, Kind, Severity, define
from wizard.host.iort import Defect, Iort, ItsGroup, Reserved, SmmuV3, Stream, decode_iort, reserved_regions, root_complex, stream_id
from wizard.host.log.codes import IORT_WORKED_AROUND

if TYPE_CHECKING:
    from wizard.host.madt import Gic

IORT_DAMAGED = define(
    "iort-defect", Severity.WARNING, Kind.VERDICT, Area.FIRMWARE,
    what="The firmware's IORT is flawed: {subject}: {defect}.",
    why="The kernel and this program read what they can of it; StreamIDs, CANWBS and reserved memory may be wrong.",
    fix="Update the firmware, or send the vendor this line and the table (/sys/firmware/acpi/tables/IORT).",
)  # fmt: skip

IORT_ELSEWHERE = define(
    "iort-flaw-elsewhere", Severity.INFO, Kind.VERDICT, Area.FIRMWARE,
    what="The firmware's IORT is flawed where no PCI function is concerned: {subject}: {defect}.",
    why="Only platform devices or counters of the SMMU use that part of the table; nothing of it can be given to a VM.",
    fix="Nothing to do for VMs; tell the vendor when you update the firmware.",
)  # fmt: skip
_TOLD = 4  # flaws that one note names


def _findings(defects: Iterable[Defect]) -> Iterator[Finding]:
    """What touches PCI one by one; of the rest one note for each pair of nodes."""
    joined: dict[tuple[Definition, tuple[str, ...]], list[Defect]] = {}
    for defect in defects:
        if defect.worked_around:
            joined.setdefault((IORT_WORKED_AROUND, defect.nodes), []).append(defect)
        elif defect.of_pci:
            joined.setdefault((IORT_DAMAGED, (*defect.nodes, defect.what)), []).append(defect)
        else:
            joined.setdefault((IORT_ELSEWHERE, defect.nodes), []).append(defect)
    for (definition, _), same in joined.items():
        said = "; ".join(defect.what for defect in same[:_TOLD]) + (f"; and {len(same) - _TOLD} more" if len(same) > _TOLD else "")
        where = same[0].where
        yield definition.at(where, defect=said, said=f"{where}: {said}", times="")


class Firmware:
    """IORT of one host, and its MADT; without a table every answer is None."""

    def __init__(self, table: str | None, madt: str | None = None) -> None:
        self.iort: Iort | None = None
        self._madt = madt
        self.findings: tuple[Finding, ...] = ()
        if table is None:
            return
        try:
            self.iort = decode_iort(bytes.fromhex(table))
        except ValueError as error:
            self.findings = (IORT_DAMAGED.at("IORT", defect=str(error)),)
            return
        self.findings = tuple(_findings(self.iort.defects))

    @property
    def whole(self) -> bool:
        """Whether there is a table and all of it was understood, so that its silence says something too."""
        return self.iort is not None and not self.findings

    def stream(self, segment: int, rid: int) -> Stream | None:
        """The SMMU and StreamID of a requester ID."""
        return None if self.iort is None else stream_id(self.iort, segment, rid)

    def smmu(self, base: int) -> SmmuV3 | None:
        """The node of the SMMUv3 at an address."""
        return None if self.iort is None else next((smmu for smmu in self.iort.smmus if smmu.base == base), None)

    def canwbs(self, segment: int) -> bool | None:
        """Whether the root complex promises coherency whatever stage 1 asks for."""
        found = None if self.iort is None else root_complex(self.iort, segment)
        return None if found is None else found.memory.canwbs

    def rmrs(self, segment: int, rid: int) -> tuple[Reserved, ...]:
        """Memory that RMR nodes reserve for a requester ID; the kernel need not apply it (_DSM 5)."""
        stream = self.stream(segment, rid) if self.iort is not None and self.iort.rmrs else None
        return () if self.iort is None or stream is None else reserved_regions(self.iort, stream.smmu, stream.stream_id)

    def ats(self, segment: int) -> bool | None:
        """Whether the root complex has the ATS attribute: without it the kernel never switches ATS on."""
        found = None if self.iort is None else root_complex(self.iort, segment)
        return None if found is None else found.ats

    @cached_property
    def gic(self) -> Gic | None:
        """The interrupt controller by MADT."""
        if self._madt is None:
            return None
        from wizard.host.madt import decode_madt  # only for hosts whose MADT was read

        return decode_madt(self._madt)

    @cached_property
    def its_groups(self) -> int:
        """How many ITS groups the table has."""
        return 0 if self.iort is None else sum(isinstance(node, ItsGroup) for node in self.iort.nodes)

    @property
    def its_identifiers(self) -> set[int]:
        """The numbers by which ITS groups name their services in MADT."""
        return {number for node in (self.iort.nodes if self.iort else ()) if isinstance(node, ItsGroup) for number in node.identifiers}

    @property
    def smmu_count(self) -> int | None:
        """How many SMMUv3 nodes the table has; None without a table."""
        return None if self.iort is None else len(self.iort.smmus)
