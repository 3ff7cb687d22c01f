"""KubeVirt: which devices may be given to VMs, and a VM that gets them. JSON, which is YAML too.

Types: ``v1.KubeVirtConfiguration.permittedHostDevices``, ``v1.PciHostDevice``, ``v1.VirtualMachineInstance`` and ``v1.HostDevice`` of KubeVirt's
api/openapi-spec/swagger.json. KubeVirt 1.9 builds accelerated vSMMUs for NVIDIA Grace GPUs alone (VEP 199), with properties of its
own; other functions become plain VFIO devices. So the verdict and the properties go into the scheduling: a VM lands only on nodes
whose labels (``nfd``) say that they supply what its profile asks for.
"""

from __future__ import annotations

import json
import re
from typing import Any

from wizard.base.errors import UsageError
from wizard.base.text import visible
from wizard.fleet.engines import common
from wizard.fleet.engines.common import Count, tell
from wizard.fleet.engines.nfd import NAMESPACE
from wizard.fleet.summary import HostSummary
from wizard.host.devices import NVIDIA
from wizard.knowledge import tables
from wizard.plan.model import VmPlan
from wizard.plan.properties import NAMES, declared
from wizard.plan.request import Mode

PREFIX = "host-devices.local"
"""Of the resource names: a name that KubeVirt's own device plugin advertises, so any domain will do."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def resource(ids: str) -> str:
    """The resource name of a vendor and device: ``host-devices.local/8086-10ca``."""
    return f"{PREFIX}/{ids.replace(':', '-')}"


def permitted(summary: HostSummary) -> str:
    """A merge patch of the KubeVirt resource with every kind of device of which a function can be accelerated and is free."""
    ids = sorted({count.ids for count in tell(summary).counts if count.free})
    devices = [{"pciVendorSelector": one.upper(), "resourceName": resource(one)} for one in ids]
    return _text({"spec": {"configuration": {"permittedHostDevices": {"pciHostDevices": devices}}}})


def remarks(summary: HostSummary) -> list[str]:
    """Kinds that KubeVirt can't tell apart: some of their functions must not be given away."""
    said = ["A merge patch replaces the list that is there: keep what else it has (kubectl get kubevirt -o json)."]
    said += common.remarks(summary)[-1:] if any(pool.accel == "unknown" for pool in summary.pools) else []
    for ids in sorted({count.ids for count in tell(summary).counts}):
        if name := _unknown_to_it(ids):
            known = tables.kubevirt()
            newest = max(gpu.date for gpu in known.gpu)
            said.append(
                f"{ids} is a {name}, which is not in KubeVirt's own list ({known.gate}, as of {newest}): it becomes a plain VFIO device there, "
                "without an accelerated vSMMU and without NUMA nodes for its memory."
            )
    by_ids: dict[str, list[Count]] = {}
    for count in tell(summary).counts:
        by_ids.setdefault(count.ids, []).append(count)
    for ids, counts in sorted(by_ids.items()):
        free, total = sum(count.free or 0 for count in counts), sum(count.total for count in counts)
        if free and total > free:
            said.append(
                f"{ids}: only {free} of {total} functions can be given away accelerated; KubeVirt takes every one on vfio-pci, so bind only those."
            )
    return said


def instance(vm: VmPlan) -> str:
    """A VirtualMachineInstance with the profile's host devices; disks and networks are the cluster's own matter."""
    if not _LABEL.fullmatch(vm.name):
        raise UsageError(
            f"{visible(vm.name)} can't be the name of a Kubernetes object.",
            "Kubernetes takes at most 63 of a-z, 0-9 and -, a letter or digit at both ends: rename the VM in its profile.",
        )
    for device in vm.devices:
        if device.ids is None:
            raise UsageError(f"{device.host} has no vendor and device that KubeVirt could select it by.", "Plan the VM on its host again.")
    grace = any(_is_grace(device.ids or "") for device in vm.devices)
    domain: dict[str, Any] = {
        "machine": {"type": "virt"},
        "cpu": {"cores": vm.cpus} | ({"dedicatedCpuPlacement": True} if grace else {}),
        "memory": {"guest": f"{vm.memory.size >> 20}Mi"} | _hugepages(vm),
        "firmware": {"bootloader": {"efi": {"secureBoot": False}}},
        "devices": {"hostDevices": [{"name": device.id, "deviceName": resource(device.ids or "")} for device in vm.devices]},
    }
    return _text(
        {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {"name": vm.name},
            "spec": {"architecture": "arm64", "affinity": _affinity(vm), "domain": domain},
        }
    )


def _hugepages(vm: VmPlan) -> dict[str, Any]:
    size = vm.memory.hugepages
    return {"hugepages": {"pageSize": f"{size >> 30}Gi" if size % (1 << 30) == 0 else f"{size >> 20}Mi"}} if size else {}


def _is_grace(ids: str) -> bool:
    """Whether KubeVirt itself takes it for a GPU that needs an accelerated vSMMU: by its own list, not by what the GPU is."""
    vendor, _, device = ids.partition(":")
    return int(vendor, 16) == NVIDIA and any(gpu.id == int(device, 16) for gpu in tables.kubevirt().gpu)


def _unknown_to_it(ids: str) -> str | None:
    """The name of a GPU with memory outside its BARs that KubeVirt does not know."""
    vendor, _, device = ids.partition(":")
    if int(vendor, 16) != NVIDIA or _is_grace(ids):
        return None
    return next((gpu.name for gpu in tables.devices().coherent_gpu if gpu.id == int(device, 16)), None)


def _affinity(vm: VmPlan) -> dict[str, Any]:
    """Nodes whose labels say that they supply the vSMMU: verdict, and each property at least as rich as written."""
    expressions: list[dict[str, Any]] = [{"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"]}]
    if vm.mode is Mode.ACCEL and vm.vsmmus:
        expressions.append({"key": f"{NAMESPACE}/accel", "operator": "In", "values": ["yes"]})
        for name in NAMES:
            needed = max((prop.resolved or 0 for vsmmu in vm.vsmmus if not (prop := vsmmu.of(name)).auto), default=0)
            if needed and not declared(name).switch:
                expressions.append({"key": f"{NAMESPACE}/{name}", "operator": "Gt", "values": [str(needed - 1)]})
            elif needed:
                expressions.append({"key": f"{NAMESPACE}/{name}", "operator": "In", "values": ["true"]})
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": expressions}]}}}


def _text(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"
