"""iommufd's side of nesting, simulated over ``wizard.smmu``: what the kernel lets a VMM, and through it a guest, do to an SMMU.

    Kernel                     what the kernel makes of an SMMU, and its release                     kernel.py
    HostSmmu, Device, Group    the kernel's SMMUv3 driver: stream table, masters, IOMMU groups       host.py
    Parent, Nested, Viommu     its HWPTs and vIOMMUs
    Iommufd                    one VMM's /dev/iommu: IOAS, HWPTs, vIOMMU, vDEVICE, vEVENTQ           iommufd.py
    vste.py                    which bits of a guest's STE pass, and the STE that is installed
    invalidate.py, fields.py   which commands pass, with which fields, and what is substituted in them
    events.py                  which events reach a guest, and which are lost
    Vsmmu                      QEMU's arm-smmuv3,accel=on above it: the guest's command queue        qemu.py
    Vintf                      Tegra241 CMDQV: the guest's own queue                                 cmdqv.py

Errors are ``KernelError`` with the kernel's errno. Sources are Linux 7.2 and 7.3 (the same but for ``fields.py``), and QEMU 11.1.
"""

from __future__ import annotations

from wizard.nesting.cmdqv import Vintf
from wizard.nesting.errors import KernelError
from wizard.nesting.events import Lost, Veventq
from wizard.nesting.host import Device, Group, HostSmmu, Nested, Parent, Vdevice, Viommu, ViommuType
from wizard.nesting.iommufd import Iommufd
from wizard.nesting.kernel import Kernel
from wizard.nesting.qemu import Vsmmu

__all__ = [
    "Device", "Group", "HostSmmu", "Iommufd", "Kernel", "KernelError", "Lost", "Nested", "Parent", "Vdevice", "Veventq", "Vintf", "Viommu",
    "ViommuType", "Vsmmu",
]  # fmt: skip
