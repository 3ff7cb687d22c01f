"""A rule: one short function beside its code. It looks at one planned VM, or at all of them together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from wizard.base.finding import Finding
from wizard.base.text import visible
from wizard.host.model import Host, Smmu
from wizard.host.vmm import Vmm
from wizard.plan.candidate import Candidate, look_up
from wizard.plan.model import DevicePlan, PortPlan, VmPlan, VsmmuPlan
from wizard.plan.request import Request
from wizard.plan.target import Target, target_of


@dataclass(frozen=True)
class Scene:
    """One planned VM on its host, for the QEMU that it is planned for."""

    host: Host
    vm: VmPlan
    target: Target
    known: Mapping[str, Candidate] = field(default_factory=dict)  # candidates that were looked up already

    @property
    def name(self) -> str:
        """The VM's name, safe to show: the subject of what concerns the VM as a whole."""
        return visible(self.vm.name)

    @cached_property
    def candidates(self) -> dict[str, Candidate]:
        """Each device's function, by its address."""
        return {d.host: found for d in self.vm.devices if (found := self.known.get(d.host) or look_up(self.host, d.host)) is not None}

    def candidate(self, device: DevicePlan) -> Candidate | None:
        """The function behind a device of the plan."""
        return self.candidates.get(device.host)

    def pluggable(self, port: PortPlan) -> list[Candidate]:
        """The functions that may be plugged into a free port, as far as the host has them."""
        return [found for address in port.candidates if (found := self.known.get(address) or look_up(self.host, address)) is not None]

    def behind(self, vsmmu: VsmmuPlan) -> list[Candidate]:
        """Every function that is behind a vSMMU, and every one that may be plugged there."""
        found = [candidate for device in self.vm.devices_of(vsmmu) if (candidate := self.candidate(device)) is not None]
        return found + [candidate for port in self.vm.ports if port.bus == vsmmu.bus for candidate in self.pluggable(port)]

    def behind_vsmmu(self, port: PortPlan) -> bool:
        """Whether what is in a port is behind a vSMMU."""
        return any(vsmmu.bus == port.bus for vsmmu in self.vm.vsmmus)

    @cached_property
    def everything(self) -> list[Candidate]:
        """Every function that the VM gets or may get, once each."""
        found = dict(self.candidates)
        for port in self.vm.ports:
            found.update((candidate.address, candidate) for candidate in self.pluggable(port) if candidate.address not in found)
        return list(found.values())

    def smmu(self, name: str | None) -> Smmu | None:
        """An SMMU of the host."""
        return self.host.smmus.get(name or "")

    def compared_later(self, vsmmu: VsmmuPlan) -> bool:
        """Whether QEMU compares a vSMMU with the host only when a function is plugged: it has none when the VM starts."""
        later = [found.smmu for port in self.vm.ports if port.bus == vsmmu.bus for found in self.pluggable(port)]
        return not self.vm.devices_of(vsmmu) and any(smmu is not None and smmu.name == vsmmu.smmu for smmu in later)


@dataclass(frozen=True)
class Together:
    """All VMs of a request on one host. Findings go to a VM by its place, or to the request as a whole (None)."""

    host: Host
    vms: Sequence[VmPlan]
    request: Request

    def subject(self, place: int) -> str:
        """The profile that a VM came from, else its name."""
        name = self.vms[place].name
        return visible(self.request.files.get(name, name))


Rule = Callable[[Scene], Iterator[Finding]]
SharedRule = Callable[[Together], Iterator[tuple[int | None, Finding]]]
RULES: list[Rule] = []
ONLY: dict[Rule, Vmm] = {}
"""The rules of one VMM alone: what it refuses, its numbers, its words."""
SHARED: list[SharedRule] = []
T = TypeVar("T")


def rule(check: Rule) -> Rule:
    """Register a rule about one VM; they are asked in the order of ROOMS, and of the lines in each."""
    RULES.append(check)
    return check


def rule_of(vmm: Vmm) -> Callable[[Rule], Rule]:
    """Register a rule about VMs of one VMM."""

    def register(check: Rule) -> Rule:
        ONLY[check] = vmm
        return rule(check)

    return register


def shared(check: SharedRule) -> SharedRule:
    """Register a rule about all VMs together."""
    SHARED.append(check)
    return check


def scene(host: Host, vm: VmPlan, target: Target | None = None) -> Scene:
    """A scene; without a target that of the VM's own request."""
    return Scene(host, vm, target or target_of(host.facts, vm.request.target))


def repeated(values: Sequence[T]) -> list[T]:
    """The values that occur more than once, each once, in order."""
    return list(dict.fromkeys(value for place, value in enumerate(values) if value in values[:place]))
