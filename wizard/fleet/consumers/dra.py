"""Dynamic Resource Allocation of Kubernetes: the functions of a node as ResourceSlices, and the functions of a VM as a claim for them.

resource.k8s.io/v1, as of Kubernetes 1.37. The limits are constants of staging/src/k8s.io/api/resource/v1/types.go there; names are checked
as apimachinery/pkg/util/validation does. A device has an attribute for what is known and none for what is not: a selector has to ask
whether it is there.

No counters are written: nothing of a function is divided, and what only one VM can have together (an IOMMU group, a PF and its VFs) is
left out by ``offered``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from wizard.base.errors import UsageError
from wizard.base.text import visible
from wizard.fleet.consumers.common import Options, Output, measured, needed, offered, told, unknown_remark
from wizard.fleet.rows import Row
from wizard.host.model import Host
from wizard.plan.model import DevicePlan, VmPlan
from wizard.plan.properties import NAMES, declared
from wizard.plan.request import Mode

API = "resource.k8s.io/v1"
DRIVER = "smmu.host-devices.local"
"""The name of the driver where nobody names one; attributes without a domain are in its domain."""

CLASS = "smmu-accel"
DEVICES = 128  # ResourceSliceMaxDevices
ENTRIES = 32  # ResourceSliceMaxAttributesAndCapacitiesPerDevice
TEXT = 64  # DeviceAttributeMaxValueLength, bytes
NAME = 63  # DriverNameMaxLength, and a DNS label
SUBDOMAIN = 253  # PoolNameMaxLength, and the name of an object
RESULTS = 32  # AllocationResultsMaxSize: devices of a claim
EXPRESSION = 10 << 10  # CELSelectorExpressionMaxLength, bytes

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")


def slices(host: Host, options: Options) -> Output:
    """A List of ResourceSlices: every function that may be given away, 128 in each."""
    node = _subdomain(needed(options.node, "--node", "dra-slices", "the node's name in Kubernetes"), "a node", SUBDOMAIN)
    driver = _subdomain(options.driver or DRIVER, "a DRA driver", NAME)
    found = offered(host)
    devices = [_device(row) for row in found.rows]
    parts = [devices[at : at + DEVICES] for at in range(0, len(devices), DEVICES)] or [[]]
    generation, undated = _generation(host)
    items = [
        {
            "apiVersion": API,
            "kind": "ResourceSlice",
            "metadata": {"name": _subdomain(f"{node}-smmu-{number}", "a ResourceSlice", SUBDOMAIN)},
            "spec": {
                "driver": driver,
                "nodeName": node,
                "pool": {"name": node, "generation": generation, "resourceSliceCount": len(parts)},
                "devices": part,
            },
        }
        for number, part in enumerate(parts)
    ]
    said = [f"The kubelet asks the DRA driver {driver} of the node to prepare what is allocated: without it no pod starts (--driver NAME)."]
    if undated:
        said.append("The snapshot does not say when it was made: raise spec.pool.generation by hand when these slices replace others.")
    return Output(_text({"apiVersion": "v1", "kind": "List", "items": items}), (*said, *found.remarks, *unknown_remark(found.rows)))


def _generation(host: Host) -> tuple[int, bool]:
    """A number that is higher for a newer snapshot: its time in seconds."""
    try:
        return int(datetime.fromisoformat(host.facts.moment.time or "").timestamp()), False
    except ValueError:
        return 1, True


def _device(row: Row) -> dict[str, Any]:
    attributes = {name: value for name, value in _attributes(row) if value is not None}
    capacity = {} if row.bar_bytes is None else {"bars": {"value": str(row.bar_bytes)}}
    assert len(attributes) + len(capacity) <= ENTRIES
    return {
        "name": f"pci-{re.sub('[:.]', '-', row.function)}",
        "attributes": {name: _value(row, name, value) for name, value in attributes.items()},
    } | ({"capacity": capacity} if capacity else {})


def _attributes(row: Row) -> Iterator[tuple[str, bool | int | str | None]]:
    yield "resource.kubernetes.io/pcieRoot", told(row, "pcie_root", "path")
    yield "address", row.function
    yield "vendor", row.vendor
    yield "device", row.device
    yield "class", row.class_
    yield "driver", told(row, "driver", "driver")
    yield "vfioDevice", row.vfio_device
    yield "vf", row.vf
    yield "pf", row.pf
    yield "numaNode", told(row, "numa_node", "numa_node")
    yield "iommuGroup", row.iommu_group
    yield "smmu", measured(row, "smmu")
    yield "iommu", row.iommu_kind
    yield "streamID", measured(row, "stream_ids")
    yield "accel", row.accel.value
    for name in ("oas", "ssidsize", "ats", "ril", "cmdqv", "s2fwb", "canwbs", "flr"):
        yield name, measured(row, name)
    yield "granules", row.granules
    yield "functionATS", measured(row, "function_ats")
    yield "functionPASID", measured(row, "function_pasid")
    yield "linkSpeed", row.link_speed
    yield "linkWidth", row.link_width


def _value(row: Row, name: str, value: bool | int | str) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"bool": value}
    if isinstance(value, int):
        return {"int": value}
    if len(value.encode()) > TEXT:
        raise UsageError(
            f"{name} of {row.function} has {len(value.encode())} bytes ({value[:20]}…), and an attribute of DRA holds {TEXT}.",
            "Send us the snapshot: the kernel writes no name that is so long.",
        )
    return {"string": value}


def claim(vm: VmPlan, options: Options) -> Output:
    """A DeviceClass, and a ResourceClaimTemplate of what a VM's profile gives it: functions that the plan has behind one SMMU are from one SMMU."""
    driver = _subdomain(options.driver or DRIVER, "a DRA driver", NAME)
    if not re.fullmatch(_LABEL, vm.name):
        what = f"{visible(vm.name)} can't be the name of a Kubernetes object."
        raise UsageError(what, "Kubernetes takes at most 63 of a-z, 0-9 and -, a letter or digit at both ends: rename the VM in its profile.")
    if not vm.devices:
        raise UsageError(f"VM {vm.name} has no function to claim.", "Give it one, and plan it again.")
    if len(vm.devices) > RESULTS:
        raise UsageError(
            f"VM {vm.name} has {len(vm.devices)} functions, and a claim of Kubernetes gets at most {RESULTS}.", "Make several VMs of it."
        )
    kinds: dict[tuple[str | None, str], list[DevicePlan]] = {}
    for device in vm.devices:
        if device.ids is None:
            raise UsageError(f"{device.host} of VM {vm.name} has no vendor and device to select it by.", "Plan the VM on its host again.")
        kinds.setdefault((device.smmu if device.vsmmu else None, device.ids), []).append(device)
    requests, behind = [], dict[str, list[str]]()
    for number, ((smmu, ids), devices) in enumerate(kinds.items()):
        name = f"functions-{number}"
        exactly = {
            "deviceClassName": CLASS,
            "selectors": [{"cel": {"expression": _selector(driver, vm, devices[0], ids)}}],
            "allocationMode": "ExactCount",
            "count": len(devices),
        }
        requests.append({"name": name, "exactly": exactly})
        if smmu is not None:
            behind.setdefault(smmu, []).append(name)
    together = [
        {"requests": names, "matchAttribute": f"{driver}/smmu"}
        for smmu, names in behind.items()
        if sum(device.smmu == smmu and device.vsmmu is not None for device in vm.devices) > 1
    ]
    devices_spec: dict[str, Any] = {"requests": requests} | ({"constraints": together} if together else {})
    class_ = {
        "apiVersion": API,
        "kind": "DeviceClass",
        "metadata": {"name": CLASS},
        "spec": {"selectors": [{"cel": {"expression": f'device.driver == "{driver}"'}}]},
    }
    template = {
        "apiVersion": API,
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": vm.name},
        "spec": {"spec": {"devices": devices_spec}},
    }
    return Output(_text({"apiVersion": "v1", "kind": "List", "items": [class_, template]}), tuple(_lost(vm)))


def _selector(driver: str, vm: VmPlan, device: DevicePlan, ids: str) -> str:
    """CEL about one device. What is not known is no attribute, and asking a missing one ends the allocation: so each is asked for first."""
    here = f'device.attributes["{driver}"]'
    vendor, _, number = ids.partition(":")
    terms = [f'{here}.vendor == "{vendor}"', f'{here}.device == "{number}"']
    vsmmu = next((one for one in vm.vsmmus if one.id == device.vsmmu), None)
    if vm.mode is Mode.ACCEL and vsmmu is not None and vsmmu.accel:
        terms.append(f'{here}.accel == "yes"')
        for name in NAMES:
            prop = vsmmu.of(name)
            wanted = 0 if prop.auto else int(prop.resolved or 0)
            if wanted and declared(name).switch:
                terms.append(f'"{name}" in {here} && {here}.{name}')
            elif wanted:
                terms.append(f'"{name}" in {here} && {here}.{name} >= {wanted}')
    text = " && ".join(terms)
    if len(text) > EXPRESSION:
        raise UsageError(
            f"The selector for {device.host} has {len(text)} characters, and Kubernetes takes {EXPRESSION}.", "Give --driver a shorter name."
        )
    return text


def _lost(vm: VmPlan) -> Iterator[str]:
    yield (
        "A claim asks for functions alone: memory, CPUs, disks, networks, firmware and the guest's topology of the profile are not in it. "
        "That a vSMMU is made, and with which properties, is the matter of what starts the VM."
    )
    if len({device.smmu for device in vm.devices if device.vsmmu}) > 1:
        yield "The plan has several SMMUs: functions of one stay together, but nothing asks that those of two are apart."
    if any(prop.auto for vsmmu in vm.vsmmus for prop in map(vsmmu.of, NAMES)):
        yield "Properties on auto select nothing."
    if vm.mode is not Mode.ACCEL:
        yield f"The VM is planned with --mode {vm.mode.value}: the claim does not ask for functions that can be accelerated."


def _subdomain(text: str, what: str, most: int) -> str:
    if len(text) > most or not _SUBDOMAIN.fullmatch(text):
        raise UsageError(
            f"{visible(text)} can't be the name of {what} in Kubernetes.",
            f"It takes at most {most} characters: parts of at most 63 of a-z, 0-9 and -, a letter or digit at both ends, with dots between them.",
        )
    return text


def _text(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"
