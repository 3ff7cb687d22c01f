"""Incus: the functions of a VM's profile as an Incus profile, for ``incus profile edit NAME < FILE``.

Keys: internal/server/device/pci.go and gpu_physical.go of Incus 7; an address has a domain of four digits (shared/validate, IsPCIAddress).
Incus starts QEMU with a plain vfio-pci (internal/server/instance/drivers/driver_qemu.go): it makes no vSMMU, so a VM that is planned with one is
refused unless less is wanted.
"""

from __future__ import annotations

import re

import yaml

from wizard.base.errors import UsageError
from wizard.base.text import size
from wizard.fleet.consumers.common import Options, Output
from wizard.host.model import Host
from wizard.plan.model import VmPlan
from wizard.plan.request import Mode

ADDRESS = re.compile(r"(?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]")
_DISPLAY = 0x03  # base class of display controllers


def profile(vm: VmPlan, host: Host, options: Options) -> Output:
    """The profile: devices, CPUs and memory."""
    accelerated = vm.mode is Mode.ACCEL and any(vsmmu.accel for vsmmu in vm.vsmmus)
    if accelerated and not options.partial:
        raise UsageError(
            f"Incus makes no vSMMU, and VM {vm.name} is planned with one.",
            "Plan it with --mode none, or give --partial for a profile whose functions are passed plainly.",
        )
    devices: dict[str, dict[str, str]] = {}
    for device in vm.devices:
        if not ADDRESS.fullmatch(device.host):
            raise UsageError(f"{device.host} has a PCI domain above ffff, and Incus takes four digits.", "Leave the function out.")
        function = host.functions.get(device.host)
        if function is not None and function.class_code >> 16 == _DISPLAY:
            devices[device.id] = {"type": "gpu", "gputype": "physical", "pci": device.host}
        else:
            devices[device.id] = {"type": "pci", "address": device.host} | ({} if device.rom else {"firmware": "false"})
    config = {"limits.cpu": str(vm.cpus), "limits.memory": f"{vm.memory.size >> 20}MiB"}
    if vm.memory.hugepages:
        config["limits.memory.hugepages"] = "true"
    value = {"name": vm.name, "description": "functions by smmu-wizard", "config": config, "devices": devices}
    return Output(yaml.safe_dump(value, sort_keys=False), tuple(_lost(vm, accelerated=accelerated)))


def _lost(vm: VmPlan, *, accelerated: bool) -> list[str]:
    said = ["Not in the file: root ports, NUMA nodes, disks, networks and firmware of the profile, which are Incus' own matter."]
    if accelerated:
        names = ", ".join(vsmmu.id for vsmmu in vm.vsmmus)
        said.append(
            f"Left out: the accelerated vSMMUs ({names}) with their properties. The guest has no IOMMU, and its devices reach all of its memory."
        )
    if vm.memory.hugepages:
        said.append(f"Incus takes hugepages of any size: the {size(vm.memory.hugepages)} of the profile are not asked for.")
    return said
