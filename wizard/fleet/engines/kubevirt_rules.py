"""KubeVirt's own rules for a VM with host devices, as checks of what is written for it.

Carried over from KubeVirt main d923fdb815 (2026-08-22; the same in v1.9.0 but for where it is asked): below
pkg/virt-api/webhooks/validating-webhook/admitters/ ``vmi-create-admitter.go``, ``vms-admitter.go`` and ``grace_io_virtualization.go``,
pkg/virt-api/webhooks/arm64.go, and pkg/virt-launcher/virtwrap/converter/ ``grace.go`` and ``vcpu/vcpu.go``. Each rule names its function there.
The feature gates are the cluster's, and not asked here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wizard.existing.kubevirt import quantity
from wizard.host.devices import NVIDIA
from wizard.knowledge import tables

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""RFC 1123: a name of an object whose name becomes a host name and the value of a label."""
ANNOTATIONS = 256 << 10
"""Bytes of all annotations of an object (k8s.io/apimachinery, TotalAnnotationSizeLimitB)."""

_QUALIFIED = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_ALIAS = re.compile(r"[A-Za-z0-9_-]+")
_STRATEGIES = ("Halted", "Manual", "Always", "RerunOnFailure", "Once")


@dataclass(frozen=True)
class Broken:
    """A rule that an object breaks: what, where the rule stands, and the next step."""

    what: str
    rule: str
    fix: str


def is_resource(name: str) -> bool:
    """Whether Kubernetes takes it for the name of a resource: a domain, a slash and at most 63 characters (IsQualifiedName)."""
    return "/" in name and _QUALIFIED.fullmatch(name) is not None


def is_grace(ids: str) -> bool:
    """Whether KubeVirt takes it for a GPU that gets an accelerated vSMMU: by its own list (pkg/util/hardware/grace.go), not by what the GPU is."""
    vendor, _, device = ids.partition(":")
    return int(vendor, 16) == NVIDIA and any(gpu.id == int(device, 16) for gpu in tables.kubevirt().gpu)


def broken(document: Mapping[str, Any], selectors: Mapping[str, str]) -> Iterator[Broken]:
    """The rules that a VirtualMachine or VirtualMachineInstance breaks.

    ``selectors``: the vendor and device of each resource name, as ``permittedHostDevices`` of the cluster has them.
    """
    template = document
    if document["kind"] == "VirtualMachine":
        yield from _strategy(document["spec"])
        template = document["spec"]["template"]
    spec, metadata = template["spec"], template.get("metadata", {})
    domain = spec["domain"]
    yield from _names(document, domain)
    yield from _annotations(document.get("metadata", {}))
    yield from _terms(spec)
    yield from _cpus(spec, domain)
    yield from _memory(domain)
    yield from _numa(domain)
    yield from _arm64(spec, domain)
    requested = [selectors.get(device.get("deviceName", ""), "") for kind in ("gpus", "hostDevices") for device in domain["devices"].get(kind, ())]
    yield from (
        Broken(f"The selector {one} is for every device of NVIDIA", "validateGraceIOVirtualization", "Name vendor and device.")
        for one in requested
        if one.partition(":")[0].lower() == "10de" and one.endswith(":*")
    )
    if any(is_grace(one) for one in requested if one and not one.endswith("*")):
        yield from _grace(spec, domain, metadata.get("annotations", {}))


def _strategy(spec: Mapping[str, Any]) -> Iterator[Broken]:
    if ("running" in spec) == ("runStrategy" in spec) or spec.get("runStrategy", "Halted") not in _STRATEGIES:
        yield Broken("A VirtualMachine needs one runStrategy", "validateRunStrategy", f"One of {', '.join(_STRATEGIES)}.")


def _names(document: Mapping[str, Any], domain: Mapping[str, Any]) -> Iterator[Broken]:
    name = document.get("metadata", {}).get("name", "")
    if not LABEL.fullmatch(name):
        yield Broken(f"{name} is no name of a Kubernetes object", "IsDNS1123Label", "At most 63 of a-z, 0-9 and -, a letter or digit at both ends.")
    seen = set()
    for device in (*domain["devices"].get("gpus", ()), *domain["devices"].get("hostDevices", ())):
        # The name becomes libvirt's alias ua-hostdevice-NAME; libvirt drops one with other characters, and the converter then misses the device.
        if not _ALIAS.fullmatch(device["name"]) or device["name"] in seen:
            yield Broken(
                f"{device['name']} can't be the name of a device", "verifyGraceHostDevices", "Give the function an id of letters, digits, - and _."
            )
        seen.add(device["name"])
        if not is_resource(device.get("deviceName", "")):
            yield Broken(f"{device.get('deviceName')} is no name of a resource", "IsQualifiedName", "DOMAIN/NAME, at most 63 characters after the /.")


def _annotations(metadata: Mapping[str, Any]) -> Iterator[Broken]:
    size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.get("annotations", {}).items())
    if size > ANNOTATIONS:
        yield Broken(
            f"The annotations have {size} bytes, and Kubernetes takes {ANNOTATIONS}", "ValidateAnnotationsSize", "Shorten the notes of the profile."
        )


def _terms(spec: Mapping[str, Any]) -> Iterator[Broken]:
    required = spec.get("affinity", {}).get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution", {})
    for term in required.get("nodeSelectorTerms", ()):
        for one in term["matchExpressions"]:
            values = one.get("values", [])
            numbers = one["operator"] in ("Gt", "Lt")
            whole = len(values) == 1 and re.fullmatch(r"-?\d+", values[0]) if numbers else all(map(_VALUE.fullmatch, values)) and values
            if not _QUALIFIED.fullmatch(one["key"]) or not whole:
                yield Broken(
                    f"{one['key']} {one['operator']} {', '.join(values)} selects no node",
                    "validateSpecAffinity",
                    "Labels have at most 63 characters after the /, and so have their values.",
                )


def _cpus(spec: Mapping[str, Any], domain: Mapping[str, Any]) -> Iterator[Broken]:
    cpu = domain.get("cpu", {})
    if cpu.get("dedicatedCpuPlacement") and not (cpu.get("cores") or domain.get("resources")):
        yield Broken("Dedicated CPUs need their number", "validateRequestLimitOrCoresProvidedOnDedicatedCPUPlacement", "Write cpu.cores.")
    if cpu.get("threads", 1) > 1 and spec.get("architecture") == "arm64":
        yield Broken("A core of arm64 has one thread", "validateThreadCountOnArchitecture", "Write the CPUs as cores.")


def _memory(domain: Mapping[str, Any]) -> Iterator[Broken]:
    memory = domain.get("memory", {})
    guest, pages = quantity(memory.get("guest", "")), quantity(memory.get("hugepages", {}).get("pageSize", ""))
    if guest is None and pages is None:
        yield Broken("No memory is asked for", "ValidateVirtualMachineInstanceMandatoryFields", "Write memory.guest.")
    if "hugepages" in memory and not pages:
        yield Broken("The size of the hugepages is no quantity", "validateHugepagesMemoryRequests", "For example 2Mi or 1Gi.")
    if guest is not None and pages and (guest < pages or guest % pages):
        yield Broken(f"{memory['guest']} is no multiple of the page size {memory['hugepages']['pageSize']}", "validateHugepagesMemoryRequests",
                     "Give a multiple of it.")  # fmt: skip


def _numa(domain: Mapping[str, Any]) -> Iterator[Broken]:
    cpu = domain.get("cpu", {})
    if "guestMappingPassthrough" not in cpu.get("numa", {}):
        return
    if not cpu.get("dedicatedCpuPlacement"):
        yield Broken("Guest NUMA nodes need dedicated CPUs", "validateNUMA", "Write cpu.dedicatedCpuPlacement.")
    if "hugepages" not in domain.get("memory", {}):
        yield Broken(
            "Guest NUMA nodes need hugepages", "validateNUMA", 'Write hugepages in the profile (hugepages = "512M"), or plan with --hugepages 512M.'
        )


def _arm64(spec: Mapping[str, Any], domain: Mapping[str, Any]) -> Iterator[Broken]:
    if spec.get("architecture") != "arm64":
        return
    boot = domain.get("firmware", {}).get("bootloader", {})
    if "bios" in boot:
        yield Broken("arm64 has no BIOS", "validateBootOptions", "Write firmware.bootloader.efi.")
    if boot.get("efi", {"secureBoot": False}).get("secureBoot", True):
        yield Broken("Secure Boot needs SMM, which arm64 has not", "validateDomainSpec", "Write efi.secureBoot: false.")
    if domain.get("cpu", {}).get("model", "host-passthrough") != "host-passthrough":
        yield Broken("The CPU model of arm64 is host-passthrough", "validateCPUModel", "Leave it away.")
    if not domain.get("machine", {}).get("type", "virt").startswith("virt"):
        yield Broken("The machine of arm64 is virt", "validateEmulatedMachine", "Write machine.type: virt.")


def _grace(spec: Mapping[str, Any], domain: Mapping[str, Any], annotations: Mapping[str, str]) -> Iterator[Broken]:
    rule = "validateGraceIOVirtualization"
    if spec.get("architecture") != "arm64":
        yield Broken("A Grace GPU is given to arm64 alone", rule, "Write architecture: arm64.")
    if not domain.get("machine", {}).get("type", "virt").startswith("virt"):
        yield Broken("A Grace GPU is given to the machine virt alone", rule, "Write machine.type: virt.")
    if not domain.get("cpu", {}).get("dedicatedCpuPlacement"):
        yield Broken("A Grace GPU needs dedicated CPUs", rule, "Write cpu.dedicatedCpuPlacement.")
    if "guestMappingPassthrough" not in domain.get("cpu", {}).get("numa", {}):
        yield Broken("A Grace GPU needs guest NUMA nodes that follow the host's", "cpuGuestToHostNUMAMap", "Write cpu.numa.guestMappingPassthrough.")
    for name in ("placePCIDevicesOnRootComplex", "disablePCIHole64"):
        if annotations.get(f"kubevirt.io/{name}") == "true":
            yield Broken(f"A Grace GPU does not go with {name}", "validateGraceIOVirtualizationAnnotations", "Take the annotation away.")
