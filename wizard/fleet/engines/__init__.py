"""What the engines that administrators already run want to know of a host or a VM: each in that project's own format.

nfd                   labels of a node, as a feature file of Node Feature Discovery
kubevirt-permitted    a merge patch of the KubeVirt resource: permittedHostDevices
kubevirt-vmi          a VirtualMachineInstance with the host devices of a profile
kubevirt-vm           a VirtualMachine with the same
opennebula-host       attributes of a host, for onehost update --append
opennebula-pci        pci.conf of the monitoring probe
opennebula-template   a VM template of a profile, in OpenNebula's own words (IOMMU, PCI)
opennebula-raw        the same with the devices as libvirt XML
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from wizard.fleet.engines import common, kubevirt, nfd, opennebula
from wizard.plan.model import VmPlan

OF_HOST: dict[str, Callable[..., str]] = {
    "nfd": nfd.feature_file,
    "kubevirt-permitted": kubevirt.permitted,
    "opennebula-host": opennebula.host_attributes,
    "opennebula-pci": opennebula.pci_conf,
}
OF_VM: dict[str, Callable[..., str]] = {
    "kubevirt-vmi": kubevirt.instance,
    "kubevirt-vm": kubevirt.machine,
    "opennebula-template": opennebula.template,
    "opennebula-raw": opennebula.raw,
}
REMARKS: dict[str, Callable[..., list[str]]] = {
    "nfd": common.remarks,
    "kubevirt-permitted": kubevirt.remarks,
    "opennebula-host": partial(common.remarks, granules=False),
    "opennebula-pci": opennebula.remarks,
}
"""What a person has to be told beside the file: what the engine can't tell apart or can't reach."""

VM_REMARKS: dict[str, Callable[[VmPlan], list[str]]] = {
    "kubevirt-vmi": kubevirt.vm_remarks,
    "kubevirt-vm": kubevirt.vm_remarks,
    "opennebula-template": opennebula.template_remarks,
    "opennebula-raw": opennebula.raw_remarks,
}

__all__ = ["OF_HOST", "OF_VM", "REMARKS", "VM_REMARKS"]
