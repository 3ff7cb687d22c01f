"""The joined verdict of one function: every condition asked, one False is no, all True is yes, else unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from wizard.base.finding import Finding
from wizard.host.conditions import CONDITIONS, Evidence
from wizard.host.model import Accel, Verdict


def judge(evidence: Evidence, find_todo: Callable[[], tuple[Finding, ...]]) -> Verdict:
    """The verdict. A no names what is known to fail; an unknown names what is missing and how to learn it."""
    failed: list[Finding] = []
    missing: list[Finding] = []
    for check in CONDITIONS:
        answer = check(evidence)
        if answer.holds is False and answer.finding:
            failed.append(answer.finding)
        elif answer.holds is None and answer.finding:
            missing.append(answer.finding)
    if failed:
        return Verdict(Accel.NO, tuple(failed), find_todo)
    if missing:
        return Verdict(Accel.UNKNOWN, tuple(missing), find_todo)
    return Verdict(Accel.YES, (), find_todo)


UNASSIGNABLE = frozenset({
    "not-an-endpoint", "no-group", "no-smmu", "smmu-off", "smmu-failed", "smmu-not-used", "smmu-not-coherent", "no-iommu-map", "machine-not-arm64",
    "stream-id-taken", "stream-id-shared", "direct-region", "one-to-one-requested", "msi-not-isolated", "ats-required",
})  # fmt: skip
"""Codes of a verdict's reasons that forbid giving the function to a VM at all, with acceleration or without."""


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
