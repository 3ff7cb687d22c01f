"""The conditions of acceleration, in the order in which they are asked.

The verdict joins them: one that fails is no, all that hold are yes, else unknown. Only what neither plan nor preparation
script can change is here.
"""

from __future__ import annotations

# Importing a module registers its conditions: what a function is comes before what its SMMU can do.
from wizard.host.conditions import place  # isort: skip
from wizard.host.conditions import nesting  # isort: skip
from wizard.host.conditions import kernel  # isort: skip
from wizard.host.conditions import qemu  # isort: skip
from wizard.host.conditions.evidence import CONDITIONS, Answer, Evidence

__all__ = ["CONDITIONS", "Answer", "Evidence", "kernel", "nesting", "place", "qemu"]
