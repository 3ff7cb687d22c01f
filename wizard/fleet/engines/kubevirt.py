"""KubeVirt: which devices may be given to VMs, and a VM that gets them. JSON, which is YAML too.

Types: ``v1.KubeVirtConfiguration.permittedHostDevices``, ``v1.PciHostDevice``, ``v1.VirtualMachine``, ``v1.VirtualMachineInstance`` and
``v1.HostDevice`` of KubeVirt's api/openapi-spec/swagger.json; its own rules are ``kubevirt_rules``. KubeVirt 1.9 builds accelerated vSMMUs for
NVIDIA Grace GPUs alone (VEP 199), one for each GPU and with properties of its own; other functions become plain VFIO devices. A plan that asks
for anything else is refused, or written without it on request (``account``). Nodes are chosen by what their labels (``nfd``) say they supply.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from wizard.base.errors import UsageError
from wizard.base.text import plural, size, visible
from wizard.fleet.engines import account, common
from wizard.fleet.engines.common import Count, tell
from wizard.fleet.engines.kubevirt_account import ACCOUNT, as_of, graces
from wizard.fleet.engines.kubevirt_rules import broken, is_grace
from wizard.fleet.engines.nfd import NAMESPACE
from wizard.fleet.summary import HostSummary
from wizard.host.devices import NVIDIA
from wizard.knowledge import tables
from wizard.plan.drivers import GRACE
from wizard.plan.model import VmPlan
from wizard.plan.properties import declared

PREFIX = "host-devices.local"
"""Of the resource names: a name that KubeVirt's own device plugin advertises, so any domain will do."""
NOTES = "smmu-wizard/notes"
LEFT_OUT = "smmu-wizard/left-out"
"""Annotations: the profile's notes, and what of the profile the object does not have."""

Names = Mapping[str, str]
"""Resource names by vendor and device, where another device plugin than KubeVirt's own advertises them."""
NO_NAMES: Names = MappingProxyType({})


def resource(ids: str, names: Names) -> str:
    """The resource name of a vendor and device: ``host-devices.local/8086-10ca`` unless it has another."""
    return names.get(ids) or f"{PREFIX}/{ids.replace(':', '-')}"


def permitted(summary: HostSummary, names: Names = NO_NAMES) -> str:
    """A merge patch of the KubeVirt resource with every kind of device of which a function can be accelerated and is free."""
    common.need_functions(summary)
    ids = sorted({count.ids for count in tell(summary).counts if count.free and (count.ids in names or not _needs_plugin(count.ids))})
    devices = [
        {"pciVendorSelector": one.upper(), "resourceName": resource(one, names)} | ({"externalResourceProvider": True} if one in names else {})
        for one in ids
    ]
    return _text({"spec": {"configuration": {"permittedHostDevices": {"pciHostDevices": devices}}}})


def remarks(summary: HostSummary, names: Names = NO_NAMES) -> list[str]:
    """Kinds that KubeVirt can't tell apart: some of their functions must not be given away; and kinds that its plugin does not advertise."""
    said = ["A merge patch replaces the list that is there: keep what else it has (kubectl get kubevirt -o json)."]
    said += common.remarks(summary)[-1:] if any(pool.accel == "unknown" for pool in summary.pools) else []
    for ids in sorted({count.ids for count in tell(summary).counts}):
        if name := _unknown_to_it(ids):
            known = tables.kubevirt()
            said.append(
                f"{ids} is a {name}, which is not in KubeVirt's own list ({known.gate}, as of {as_of()}): it becomes a plain VFIO device there, "
                "without an accelerated vSMMU and without NUMA nodes for its memory."
            )
    said += [_plugin(count.ids) for count in tell(summary).counts if count.free and count.ids not in names and _needs_plugin(count.ids)]
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


def instance(vm: VmPlan, *, partial: bool = False, names: Names = NO_NAMES) -> str:
    """A VirtualMachineInstance with the profile's host devices; disks and networks are the cluster's own matter.

    ``UsageError`` where KubeVirt would make another VM and ``partial`` was not asked for, and where its own rules refuse this one.
    """
    return _finished(vm, {"kind": "VirtualMachineInstance", "metadata": _metadata(vm), "spec": _spec(vm, partial, names)}, names)


def machine(vm: VmPlan, *, partial: bool = False, names: Names = NO_NAMES) -> str:
    """The same as a VirtualMachine, which outlives its instances; it is not started by being created."""
    template = {"metadata": {"labels": {"smmu-wizard/vm": vm.name}}, "spec": _spec(vm, partial, names)}
    return _finished(vm, {"kind": "VirtualMachine", "metadata": _metadata(vm), "spec": {"runStrategy": "Halted", "template": template}}, names)


def vm_remarks(vm: VmPlan) -> list[str]:
    """What of the profile is left out, and what the cluster has to have."""
    return [*ACCOUNT.said(vm), *(_needs(vm) if graces(vm) else ())]


def _needs(vm: VmPlan) -> Iterator[str]:
    known = tables.kubevirt()
    ids = {int((device.ids or "0:0").partition(":")[2], 16) for device in graces(vm)}
    since = ", ".join(f"{gpu.since} (for 10de:{gpu.id:04x})" for gpu in known.gpu if gpu.id in ids)
    yield (
        f"The cluster needs KubeVirt {since} with the feature gates {', '.join(known.gates)}, and in its virt-launcher libvirt "
        f"{known.libvirt_needed} or later and a QEMU whose arm-smmuv3 has accel (11.0, or an older one that it was brought back to): 1.9 ships "
        f"libvirt {known.libvirt_shipped} and QEMU {known.qemu_shipped}."
    )
    yield (
        f"Its nodes need hugepages of {size(vm.memory.hugepages or 0)}, kubelet's static CPU manager, CPUs for this VM on the NUMA node of every GPU "
        f"(kubelet's Topology Manager), and {plural(known.nodes * len(graces(vm)), 'NUMA node')} with generic initiators, {known.nodes} a GPU."
    )


def _finished(vm: VmPlan, document: dict[str, Any], names: Names) -> str:
    document = {"apiVersion": "kubevirt.io/v1"} | document
    selectors = {resource(device.ids, names): device.ids for device in vm.devices if device.ids}
    for rule in broken(document, selectors):
        raise UsageError(f"VM {visible(vm.name)}: KubeVirt would refuse it. {visible(rule.what)} ({rule.rule}).", rule.fix)
    return _text(document)


def _metadata(vm: VmPlan) -> dict[str, Any]:
    altered = ACCOUNT.altered(vm)
    annotations = ({NOTES: vm.notes} if vm.notes else {}) | ({LEFT_OUT: " ".join(altered)} if altered else {})
    return {"name": vm.name} | ({"annotations": annotations} if annotations else {})


def _spec(vm: VmPlan, partial: bool, names: Names) -> dict[str, Any]:
    account.settle(ACCOUNT, vm, "Plan it with --mode none if plain VFIO is enough.", partial=partial)
    for device in vm.devices:
        if device.ids is None:
            raise UsageError(f"{device.host} has no vendor and device that KubeVirt could select it by.", "Plan the VM on its host again.")
        if device.driver == GRACE and device.ids not in names:
            raise UsageError(_plugin(device.ids), f"kubectl get node -o json shows its name: --resource {device.ids}=NAME.")
    accel = bool(graces(vm))
    numa = {"dedicatedCpuPlacement": True, "numa": {"guestMappingPassthrough": {}}} if accel else {}
    domain: dict[str, Any] = {
        "machine": {"type": "virt"},
        "cpu": {"cores": vm.cpus} | numa,
        "memory": {"guest": _quantity(vm.memory.size)} | _hugepages(vm),
        "firmware": {"bootloader": {"efi": {"secureBoot": False}}} | ({"uuid": vm.uuid} if vm.uuid else {}),
        "devices": {"hostDevices": [{"name": device.id, "deviceName": resource(device.ids or "", names)} for device in vm.devices]},
    }
    return {"architecture": "arm64", "affinity": _affinity(accel), "domain": domain}


def _hugepages(vm: VmPlan) -> dict[str, Any]:
    pages = vm.memory.hugepages
    return {"hugepages": {"pageSize": _quantity(pages) if pages % (1 << 30) else f"{pages >> 30}Gi"}} if pages else {}


def _quantity(count: int) -> str:
    """Bytes as Kubernetes reads them, none of them lost."""
    return str(count) if count % (1 << 20) else f"{count >> 20}Mi"


def _coherent(ids: str) -> str | None:
    """The name of a GPU with memory outside its BARs."""
    vendor, _, device = ids.partition(":")
    return next((gpu.name for gpu in tables.devices().coherent_gpu if int(vendor, 16) == NVIDIA and gpu.id == int(device, 16)), None)


def _unknown_to_it(ids: str) -> str | None:
    return None if is_grace(ids) else _coherent(ids)


def _needs_plugin(ids: str) -> bool:
    """Whether a function of this kind is on a driver that KubeVirt's own plugin passes over."""
    return _coherent(ids) is not None


def _plugin(ids: str) -> str:
    return (
        f"{ids} needs the driver {GRACE}, and KubeVirt's own device plugin advertises functions on {tables.kubevirt().plugin_driver} alone: "
        f"NVIDIA's kubevirt-gpu-device-plugin takes it, and its name of the resource has to be given (--resource {ids}=NAME)."
    )


def _affinity(accel: bool) -> dict[str, Any]:
    """Nodes whose labels say that they supply the vSMMU: verdict, and each property at least as rich as KubeVirt writes it."""
    expressions: list[dict[str, Any]] = [{"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"]}]
    if accel:
        expressions.append({"key": f"{NAMESPACE}/accel", "operator": "In", "values": ["yes"]})
        for name, value in tables.kubevirt().vsmmu.items():
            if value and not declared(name).switch:
                expressions.append({"key": f"{NAMESPACE}/{name}", "operator": "Gt", "values": [str(value - 1)]})
            elif value:
                expressions.append({"key": f"{NAMESPACE}/{name}", "operator": "In", "values": ["true"]})
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": expressions}]}}}


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
