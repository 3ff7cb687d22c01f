"""What a plan is written as: QEMU command lines, libvirt XML, preparation scripts, QMP commands.

libvirt's XML needs lxml, which is imported when it is asked for.
"""

from __future__ import annotations

from wizard.export.prepare import bind_script, prepare_script
from wizard.export.qemu import qemu_argv, qemu_json, qemu_script
from wizard.export.qmp import qmp_hotplug
from wizard.plan.model import VmPlan

__all__ = [
    "bind_script",
    "libvirt_xml",
    "openvmm_script",
    "prepare_script",
    "qemu_argv",
    "qemu_json",
    "qemu_script",
    "qmp_hotplug",
    "virt_install_script",
]


def libvirt_xml(vm: VmPlan) -> str:
    """Libvirt domain XML; see ``wizard.export.libvirt``."""
    from wizard.export.libvirt import libvirt_xml as export

    return export(vm)


def virt_install_script(vm: VmPlan) -> str:
    """A script that runs virt-install; see ``wizard.export.virt_install``."""
    from wizard.export.virt_install import virt_install_script as export

    return export(vm)


def openvmm_script(vm: VmPlan) -> str:
    """A script that starts OpenVMM; see ``wizard.export.openvmm``."""
    from wizard.export.openvmm import openvmm_script as export

    return export(vm)
