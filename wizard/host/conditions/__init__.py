"""The conditions of acceleration, in the order in which they are asked.

The verdict joins them: one that fails is no, all that hold are yes, else unknown. Only what neither plan nor preparation
script can change is here.
"""

from __future__ import annotations

from functools import cache

from wizard.host.conditions import kernel, nesting, openvmm, place, qemu
from wizard.host.conditions.evidence import ONLY, REGISTERED, Answer, Condition, Evidence
from wizard.host.vmm import Vmm

ROOMS = (place, nesting, kernel, qemu, openvmm)
"""What a function is comes before what its SMMU can do, and that before what runs on the host."""
_PLACE = {room.__name__: number for number, room in enumerate(ROOMS)}
# Modules register their conditions when they are imported, which a linter sorts by name.
CONDITIONS = tuple(sorted(REGISTERED, key=lambda check: _PLACE[check.__module__]))


@cache
def conditions_of(vmm: Vmm) -> tuple[Condition, ...]:
    """The host's own, and those of a VMM."""
    return tuple(check for check in CONDITIONS if ONLY.get(check, vmm) is vmm)


__all__ = ["CONDITIONS", "ROOMS", "Answer", "Evidence", "conditions_of", "kernel", "nesting", "openvmm", "place", "qemu"]
