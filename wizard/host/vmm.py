"""The VMMs that give a guest an accelerated SMMUv3: what each needs of a host is its own."""

from __future__ import annotations

from enum import StrEnum


class Vmm(StrEnum):
    """A virtual machine monitor. QEMU is the one that everything else here is about."""

    QEMU = "qemu"
    OPENVMM = "openvmm"

    @property
    def name_of_it(self) -> str:
        """As it writes its own name."""
        return {"qemu": "QEMU", "openvmm": "OpenVMM"}[self.value]
