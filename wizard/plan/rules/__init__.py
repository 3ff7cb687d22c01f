"""Everything that a plan can break, each as one short check with a code of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from wizard.base.finding import Finding
from wizard.host.model import Host
from wizard.plan.candidate import Candidate
from wizard.plan.model import VmPlan
from wizard.plan.request import Request
from wizard.plan.rules import (
    budget,
    buses,
    devices,
    files,
    functions,
    gpus,
    guest,
    iova,
    machine,
    memory,
    openvmm,
    peers,
    properties,
    target,
    together,
    vsmmu,
)
from wizard.plan.rules.base import ONLY, RULES, SHARED, Scene, Together
from wizard.plan.rules.files import NOT_OWN
from wizard.plan.rules.functions import GROUP_NOT_WHOLE, not_usable
from wizard.plan.rules.together import SOCKET_TWICE, VARS_TWICE, divided
from wizard.plan.target import Target

ROOMS = (functions, guest, files, machine, vsmmu, properties, buses, devices, peers, memory, gpus, iova, target, openvmm, together, budget)
"""In the order in which their rules are asked, and so findings of one severity are told: what a VM gets first, what it costs last."""
_FILES = {SOCKET_TWICE.code, VARS_TWICE.code}
_PLACE = {room.__name__: place for place, room in enumerate(ROOMS)}
# Modules register their rules when they are imported, which a linter sorts by name.
ASKED = sorted(RULES, key=lambda check: _PLACE[check.__module__])
_SHARED = sorted(SHARED, key=lambda check: _PLACE[check.__module__])


def of_vm(host: Host, vm: VmPlan, target: Target, known: Mapping[str, Candidate]) -> list[Finding]:
    """Everything that is found about one VM alone; ``known`` are its functions, looked up."""
    scene = Scene(host, vm, target, known)
    return [finding for check in ASKED if ONLY.get(check, vm.vmm) is vm.vmm for finding in check(scene)]


def of_all(host: Host, vms: Sequence[VmPlan], request: Request) -> dict[int | None, list[Finding]]:
    """What is found about the VMs together: by the place of the VM, None for the request as a whole."""
    found: dict[int | None, list[Finding]] = {}
    vms_together = Together(host, vms, request)
    for check in _SHARED:
        for place, finding in check(vms_together):
            found.setdefault(place, []).append(finding)
    return found


def told_of_several(finding: Finding, together: Sequence[Finding], divided: Set[str]) -> bool:
    """Whether what is found about one VM is told of several.

    The rest of a group that is in another VM is not forgotten, but divided; and a file in another VM's place is that VM's too.
    """
    if finding.code == NOT_OWN.code:
        return any(other.code in _FILES and f" {other.subject} " in finding.what for other in together)
    return finding.code == GROUP_NOT_WHOLE.code and finding.subject in divided


__all__ = ["ROOMS", "divided", "not_usable", "of_all", "of_vm", "told_of_several"]
