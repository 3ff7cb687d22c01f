"""What a condition is, and what it looks at.

A condition holds, fails or is not known, and the last two come with the finding that says so: an answer without one is refused where it
is made, so that nothing that was not read can count as a yes. Each is one short function beside the findings it can give; they are asked
in the order in which their modules are listed in the package.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import NamedTuple

import msgspec

from wizard.base.finding import SAME, Area, Definition, Finding, Kind, OnTree, Severity, define
from wizard.host.known import Known
from wizard.host.model import ARM64, Function, Group, Smmu
from wizard.host.vmm import Vmm


class Evidence(msgspec.Struct, frozen=True):
    """All that the conditions of one function look at."""

    function: Function
    smmu: Smmu | None
    group: Group | None
    none_above: bool  # it was looked at, and the kernel uses no IOMMU for it: False is "not known", never "there is one"
    sharing: tuple[tuple[int, str], ...]  # StreamIDs that another function has too, inside its group or not
    alias_refused: str | None  # the function that had its StreamID first, by the kernel's log
    smmu_failed: str | None  # why the kernel's driver gave up the SMMU that the firmware puts above it
    ats_refused: bool  # the kernel logged that it must have ATS and can't
    one_to_one: bool  # the kernel logged that firmware wants it mapped 1:1
    any_smmuv3: bool  # the host is known to have an SMMUv3
    iommus_unread: str | None  # why /sys/class/iommu was not looked at
    groups_unread: str | None  # why /sys/kernel/iommu_groups was not looked at
    iort_unread: str | None  # why the firmware's IORT was not looked at
    untranslated: Callable[[], str]  # what the SMMUs' events say of DMA like this function's; empty where they say nothing
    other_iommu: str | None  # kind of IOMMU where it is no SMMUv3
    device_tree: bool  # the firmware described the hardware by a device tree, not by ACPI
    tree_why: str  # why the device tree gives it no StreamID, in the kernel's words; empty where it does, or nobody can say
    behind_conventional: Callable[[], bool | None]  # whether a bridge above adds a requester ID of its own to its DMA
    acpi_smmus: int | None  # SMMUv3 nodes of the IORT, None without a table
    machine: str  # as uname -m names it: aarch64, x86_64; empty when not recorded
    aliases_known: bool  # every bridge above could be read, so that no requester ID is missing
    canwbs: Known
    viommu: Known  # a vIOMMU was made, or refused, for a function of the same SMMU and segment; a note alone: it failed oddly
    isolated_msi: Known
    config: Callable[[str], Known]  # kernel option -> True (y or m), False, unknown
    release: str
    made_up: tuple[str, ...]  # what the answer would rest on and nobody measured
    same: dict[object, Answer]  # what was answered already of all functions that have the same ``Behind``

    @property
    def no_such_machine(self) -> bool:
        """It is known to be no arm64 machine, and so to have no SMMUv3."""
        return bool(self.machine) and self.machine not in ARM64 and not self.any_smmuv3

    @property
    def outside(self) -> tuple[tuple[int, str], ...]:
        """Of ``sharing``, who is not in the function's own group: nothing the kernel does keeps the two apart."""
        inside = self.group.devices if self.group else ()
        return tuple((stream, other) for stream, other in self.sharing if other not in inside)


class Behind(NamedTuple):
    """What is the same for all functions of one segment behind one SMMU."""

    smmu: Smmu | None
    viommu: Known
    device_tree: bool


class Answer(msgspec.Struct, frozen=True):
    """What one condition says: made by ``HOLDS``, ``fails()`` and ``not_known()`` alone."""

    holds: bool | None
    finding: Finding | None = None

    def __post_init__(self) -> None:
        if self.holds is not True and self.holds is not False and self.holds is not None:
            raise TypeError("an answer is True, False or None, not something that counts as one")
        if (self.holds is True) is not (self.finding is None):
            raise ValueError("an answer that fails or is not known says why, and one that holds has nothing to say")


HOLDS = Answer(True)


def fails(finding: Finding) -> Answer:
    """What is known to forbid acceleration: it may rest on nothing that was assumed or not read."""
    return Answer(False, finding)


def not_known(finding: Finding) -> Answer:
    """What nobody read, or only assumed; the finding names what would tell."""
    return Answer(None, finding)


Condition = Callable[[Evidence], Answer]
REGISTERED: list[Condition] = []
ONLY: dict[Condition, Vmm] = {}
"""The conditions that one VMM alone makes; all others are the host's own."""


def condition(check: Condition) -> Condition:
    """Register a condition; they are asked in the order of ``conditions.ROOMS``, and of the lines in each."""
    REGISTERED.append(check)
    return check


def of_smmu(check: Callable[[Behind], Answer]) -> Condition:
    """A condition of the SMMU, whatever the function: it sees nothing else, and is asked once for all that are behind it."""

    @wraps(check)
    def asked(evidence: Evidence) -> Answer:
        found = evidence.same.get(check)
        if found is None:
            found = evidence.same[check] = check(Behind(evidence.smmu, evidence.viommu, evidence.device_tree))
        return found

    return asked


def condition_of(vmm: Vmm) -> Callable[[Condition], Condition]:
    """Register a condition of one VMM."""

    def register(check: Condition) -> Condition:
        ONLY[check] = vmm
        return condition(check)

    return register


def verdict_code(code: str, area: Area, *, what: str, why: str, fix: str, severity: Severity = Severity.ERROR, on_tree: OnTree = SAME) -> Definition:
    """Declare a code that decides accel."""
    return define(code, severity, Kind.VERDICT, area, what=what, why=why, fix=fix, on_tree=on_tree)
