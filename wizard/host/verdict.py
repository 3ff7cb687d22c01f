"""The joined verdict of one function: every condition asked, one False is no, all True is yes, else unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from wizard.base.finding import Finding
from wizard.host.conditions import Evidence, conditions_of
from wizard.host.model import Accel, Verdict
from wizard.host.vmm import Vmm

UNASSIGNABLE = frozenset({
    "not-an-endpoint", "no-group", "no-smmu", "smmu-off", "smmu-failed", "smmu-not-used", "smmu-not-coherent", "no-iommu-map", "machine-not-arm64",
    "stream-id-taken", "stream-id-shared", "vfio-noiommu", "direct-region", "one-to-one-requested", "msi-not-isolated", "ats-required",
})  # fmt: skip
"""Codes of a verdict's reasons that forbid giving the function to a VM at all, with acceleration or without."""
UNDECIDED = frozenset({
    "smmu-unknown", "stream-ids-unknown", "dma-aliases-unknown", "group-unknown", "group-members-unknown", "reserved-regions-unknown",
    "msi-isolation-unknown", "msi-isolation-assumed", "coherency-unknown", "ats-need-unknown", "function-silent",
})  # fmt: skip
"""Codes that say that nobody knows whether the function can be given to a VM at all: what was not read may be one of the above."""
BUILT = frozenset({"msi-isolation-assumed"})
"""Of those, the ones that a host has which was built from what is published: nobody read them, and a real host has them read."""


def judge(evidence: Evidence, find_todo: Callable[[bool], tuple[Finding, ...]], vmm: Vmm = Vmm.QEMU) -> Verdict:
    """The verdict of one function with one VMM. A no names what is known to fail; an unknown names what is missing and how to learn it.

    ``find_todo`` is asked with whether the function may be given away: of one that can't be, nothing is to be done for it.
    """
    failed: list[Finding] = []
    missing: list[Finding] = []
    for check in conditions_of(vmm):
        answer = check(evidence)
        if answer.finding is not None:  # by the type, all but those that hold
            told = failed if answer.holds is False else missing
            if answer.finding not in told:
                told.append(answer.finding)
    if not failed and not missing:
        return Verdict(Accel.YES, (), lambda: find_todo(True))
    obstacles = tuple(finding for finding in failed if finding.code in UNASSIGNABLE)
    undecided = tuple(finding for finding in missing if finding.code in UNDECIDED)
    # What is not known stays beside a no where it decides whether the function can be given away at all: no other mode can do without it.
    reasons = (*failed, *(undecided if not obstacles else ())) if failed else tuple(missing)
    return Verdict(
        Accel.NO if failed else Accel.UNKNOWN,
        reasons,
        lambda: find_todo(not obstacles),
        obstacles,
        undecided,
        (*failed, *missing),
    )


_Make = Callable[[str], Verdict]


class Verdicts(Mapping[str, Verdict]):
    """Verdicts by address, worked out when asked: a big host is shown long before all are known."""

    def __init__(self, addresses: Iterable[str], make: _Make) -> None:
        self._addresses = dict.fromkeys(addresses)
        self._make = make
        self._made: dict[str, Verdict] = {}

    def __getitem__(self, address: str) -> Verdict:
        made = self._made.get(address)
        if made is None:
            if address not in self._addresses:
                raise KeyError(address)
            made = self._made[address] = self._make(address)
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._addresses)

    def __len__(self) -> int:
        return len(self._addresses)
