"""What is written for KubeVirt, held against its schema and against its own rules, version by version."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from msgspec.structs import replace

from tests.fleet.hosts import bound, fixture_names
from tests.fleet.test_engines import GPUS, grace, parsed_features, planned
from tests.tools.hosts import facts as fixture
from tests.tools.hosts import with_function
from wizard.base.errors import UsageError
from wizard.existing.load import read_vms
from wizard.facts.model import Facts
from wizard.fleet.engines import REMARKS, kubevirt, nfd
from wizard.fleet.engines.kubevirt_rules import broken
from wizard.fleet.summary import summarise
from wizard.plan.model import VmPlan
from wizard.plan.planner import make_plan
from wizard.plan.properties import Properties
from wizard.plan.request import DiskRequest, FunctionRequest, Mode, NodeRequest, Request, VmRequest

SCHEMA = json.loads((Path(__file__).parent / "data" / "kubevirt.schema.json").read_text())


def valid(value: Any, definition: str) -> None:
    jsonschema.validate(value, SCHEMA | {"$ref": f"#/definitions/{definition}"})


@pytest.mark.parametrize("name", fixture_names())
def test_permitted_devices_are_what_kubevirt_takes(name: str) -> None:
    value = json.loads(kubevirt.permitted(summarise(fixture(name))))
    valid(value, "v1.KubeVirtSpec.patch")
    for device in value["spec"]["configuration"]["permittedHostDevices"]["pciHostDevices"]:
        assert re.fullmatch(r"[0-9A-F]{4}:[0-9A-F]{4}", device["pciVendorSelector"])  # no wildcard: VEP 199 rejects them for NVIDIA
        assert re.fullmatch(r"[a-z0-9.-]+/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", device["resourceName"])


def test_only_what_can_be_given_away_is_permitted() -> None:
    summary = summarise(bound("h1"))
    selectors = [
        d["pciVendorSelector"] for d in json.loads(kubevirt.permitted(summary))["spec"]["configuration"]["permittedHostDevices"]["pciHostDevices"]
    ]
    assert selectors == ["1AF4:1041", "1B36:0010", "8086:10C9", "8086:10D3"]
    assert any("8086:10d3: only 1 of 3 functions" in remark for remark in REMARKS["kubevirt-permitted"](summary))


def terms_of(spec: Any) -> dict[str, tuple[str, list[str]]]:
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"][0]["matchExpressions"]
    return {term["key"]: (term["operator"], term["values"]) for term in terms}


def test_a_vm_with_grace_gpus_as_kubevirt_wants_it() -> None:
    """pkg/virt-launcher/virtwrap/converter/grace.go: guest NUMA nodes, hugepages and dedicated CPUs, and the properties that it writes itself."""
    vm = grace("0008:01:00.0", "0009:01:00.0", notes="two of them")
    value = json.loads(kubevirt.machine(vm, names=GPUS))
    valid(value, "v1.VirtualMachine")
    assert value["spec"]["runStrategy"] == "Halted"
    assert value["metadata"]["annotations"] == {"smmu-wizard/notes": "two of them"}
    spec = value["spec"]["template"]["spec"]
    assert spec["domain"]["cpu"] == {"cores": 2, "dedicatedCpuPlacement": True, "numa": {"guestMappingPassthrough": {}}}
    assert spec["domain"]["memory"] == {"guest": "65536Mi", "hugepages": {"pageSize": "512Mi"}}
    assert [device["deviceName"] for device in spec["domain"]["devices"]["hostDevices"]] == ["nvidia.com/GB200"] * 2
    wanted = {key.rpartition("/")[2]: term for key, term in terms_of(spec).items()}
    assert wanted == {
        "arch": ("In", ["arm64"]), "accel": ("In", ["yes"]), "ats": ("In", ["true"]), "ssidsize": ("Gt", ["19"]), "oas": ("Gt", ["47"]),
    }  # fmt: skip
    instance = json.loads(kubevirt.instance(vm, names=GPUS))
    valid(instance, "v1.VirtualMachineInstance")
    assert instance["spec"] == spec


def test_what_is_written_for_kubevirt_is_read_again() -> None:
    vm = grace()
    (read,) = read_vms(kubevirt.machine(vm, names=GPUS).encode(), "grace.json")
    request = read.request
    assert (request.name, request.cpus, request.memory, request.hugepages, request.uuid) == ("default_grace", 2, 64 << 30, 512 << 20, vm.uuid)


def test_the_node_that_the_affinity_asks_for_is_the_one_that_nfd_labels() -> None:
    terms = terms_of(json.loads(kubevirt.instance(grace(), names=GPUS))["spec"])

    def selected(facts: Facts) -> bool:
        labels = parsed_features(nfd.feature_file(summarise(facts))) | {"kubernetes.io/arch": "arm64"}
        return all(
            key in labels and (labels[key] in values if operator == "In" else int(labels[key]) > int(values[0]))
            for key, (operator, values) in terms.items()
        )

    assert selected(bound("h1", ats=True, ssidsize=20, oas=48))
    assert not selected(bound("h2", ats=True, ssidsize=10, oas=48))
    assert not selected(bound("h3", ats=False, ssidsize=20, oas=48))
    assert not selected(fixture("vfio-arm64-virt"))


def test_other_functions_become_plain_vfio_and_that_is_asked_for() -> None:
    vm = planned(bound("h1", ats=True), "0000:14:00.0")
    with pytest.raises(UsageError, match=r"makes no accelerated vSMMU for 0000:14:00.0 \(1b36:0010\)") as caught:
        kubevirt.machine(vm)
    assert "--mode none" in caught.value.fix
    assert "--partial" in caught.value.fix
    value = json.loads(kubevirt.machine(vm, partial=True))
    valid(value, "v1.VirtualMachine")
    assert "plain VFIO device" in value["metadata"]["annotations"]["smmu-wizard/left-out"]
    spec = value["spec"]["template"]["spec"]
    assert terms_of(spec) == {"kubernetes.io/arch": ("In", ["arm64"])}
    assert spec["domain"]["cpu"] == {"cores": 2}
    plain = json.loads(kubevirt.machine(planned(bound("h1"), "0000:14:00.0", mode=Mode.NONE)))
    assert "annotations" not in plain["metadata"]
    assert plain["spec"]["template"]["spec"]["domain"]["devices"]["hostDevices"] == [{"name": "dev0", "deviceName": "host-devices.local/1b36-0010"}]


def _with(vm: VmPlan, **values: Any) -> VmPlan:
    return replace(vm, devices=(replace(vm.devices[0], **values),))


ALTERED: dict[str, tuple[Callable[[], VmPlan], str]] = {
    "properties": (lambda: grace(properties=Properties(ssidsize=10)), "KubeVirt writes ats=on ril=off ssidsize=20 oas=48 .* has ssidsize=10"),
    "auto": (lambda: grace(properties=Properties(oas="auto")), "the profile has oas=auto"),
    "window": (lambda: grace(mmio_window=4 << 40), "window for BARs 1T, and this VM has 4T"),
    "no nodes": (lambda: grace(numa=(NodeRequest(memory=64 << 30, cpus="0-1"),)), "8 NUMA nodes .* 0008:01:00.0 has 0"),
    "without a vSMMU": (lambda: grace(mode=Mode.NONE), "another layout for 0008:01:00.0"),
    "ROM": (lambda: _with(grace(), rom=False), "0008:01:00.0 rom=off"),
    "virtio-iommu": (lambda: planned(bound("h1"), "0000:14:00.0", mode=Mode.VIRTIO_IOMMU), "no words for a virtio-iommu"),
}


@pytest.mark.parametrize("name", ALTERED)
def test_what_kubevirt_would_make_otherwise_is_refused(name: str) -> None:
    make, said = ALTERED[name]
    with pytest.raises(UsageError, match=said):
        kubevirt.machine(make(), names=GPUS)
    partial = json.loads(kubevirt.machine(make(), names=GPUS, partial=True))
    assert re.search(said, partial["metadata"]["annotations"]["smmu-wizard/left-out"])


REFUSED: dict[str, tuple[Callable[[], VmPlan], str]] = {
    "name": (lambda: planned(bound("h1"), "0000:14:00.0", name="Web Büro", mode=Mode.NONE), "Web Büro is no name of a Kubernetes object"),
    "long name": (lambda: planned(bound("h1"), "0000:14:00.0", name="w" * 64, mode=Mode.NONE), "w{64} is no name of a Kubernetes object"),
    "hugepages": (lambda: grace(hugepages=None), r"Guest NUMA nodes need hugepages \(validateNUMA\)"),
    "id": (lambda: _with(planned(bound("h1"), "0000:14:00.0", mode=Mode.NONE), id="gpu.0"), "gpu.0 can't be the name of a device"),
    "notes": (lambda: grace(notes="x" * (256 << 10)), "The annotations have 262161 bytes, and Kubernetes takes 262144"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_kubernetes_or_kubevirt_would_refuse_is_refused_here(name: str) -> None:
    make, said = REFUSED[name]
    with pytest.raises(UsageError, match=f"KubeVirt would refuse it. {said}"):
        kubevirt.machine(make(), names=GPUS)


def test_a_gpu_that_kubevirts_own_plugin_does_not_advertise_needs_its_name() -> None:
    """pkg/virt-handler/device-manager/pci_device.go: vfio-pci alone, and a Grace GPU is on nvgrace_gpu_vfio_pci."""
    with pytest.raises(UsageError, match="advertises functions on vfio-pci alone"):
        kubevirt.machine(grace())
    summary = summarise(bound("h1"))
    pools = tuple(replace(pool, ids="10de:2941") if pool.ids == "1b36:0010" else pool for pool in summary.pools)
    summary = replace(summary, pools=pools)
    told = json.loads(kubevirt.permitted(summary))["spec"]["configuration"]["permittedHostDevices"]["pciHostDevices"]
    assert "10DE:2941" not in [one["pciVendorSelector"] for one in told]
    assert any("10de:2941 needs the driver nvgrace_gpu_vfio_pci" in remark for remark in kubevirt.remarks(summary))
    named = json.loads(kubevirt.permitted(summary, names=GPUS))
    valid(named, "v1.KubeVirtSpec.patch")
    assert named["spec"]["configuration"]["permittedHostDevices"]["pciHostDevices"][0] == {
        "pciVendorSelector": "10DE:2941", "resourceName": "nvidia.com/GB200", "externalResourceProvider": True,
    }  # fmt: skip


def test_what_the_cluster_has_to_have_is_said() -> None:
    said = " ".join(kubevirt.vm_remarks(grace(disks=(DiskRequest(path="/var/disk.img"),))))
    for words in ("HostDevices, CPUManager, GraceIOVirtualization, PCINUMAAwareTopology, IOMMUFD", "libvirt 12.2", "ships libvirt 11.10",
                  "hugepages of 512M", "8 NUMA nodes with generic initiators", "1 disk"):  # fmt: skip
        assert words in said


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("0x2348", "KubeVirt 1.9 (for 10de:2348) with"),
        ("0x3041", "KubeVirt main of September 2026 (for 10de:3041) with"),
        ("0x31c2", None),  # GB300: not in its list
        ("0x2345", None),
    ],
)
def test_kubevirts_list_is_by_version(device: str, said: str | None) -> None:
    functions = (FunctionRequest(host="0008:01:00.0"),)
    request = VmRequest(name="grace", functions=functions, memory=64 << 30, hugepages=512 << 20, assume_accel=True)
    vm = make_plan(with_function("0008:01:00.0", name="gb200", device=device), Request(vms=(request,))).vms[0]
    names = {f"10de:{device[2:]}": "nvidia.com/gpu"}
    if said is None:
        with pytest.raises(UsageError, match=f"makes no accelerated vSMMU for 0008:01:00.0 .10de:{device[2:]}."):
            kubevirt.machine(vm, names=names)
    else:
        valid(json.loads(kubevirt.machine(vm, names=names)), "v1.VirtualMachine")
        assert said in " ".join(kubevirt.vm_remarks(vm))


# Objects that break one rule of KubeVirt's each: the path and the value, and the function of KubeVirt's source that refuses them.
BROKEN: tuple[tuple[str, Any, str], ...] = (
    ("spec.runStrategy", None, "validateRunStrategy"),
    ("spec.runStrategy", "Sometimes", "validateRunStrategy"),
    ("spec.template.spec.architecture", "amd64", "validateGraceIOVirtualization"),
    ("spec.template.spec.domain.machine.type", "q35", "validateEmulatedMachine"),
    ("spec.template.spec.domain.cpu.dedicatedCpuPlacement", False, "validateNUMA"),
    ("spec.template.spec.domain.cpu.cores", None, "validateRequestLimitOrCoresProvidedOnDedicatedCPUPlacement"),
    ("spec.template.spec.domain.cpu.threads", 2, "validateThreadCountOnArchitecture"),
    ("spec.template.spec.domain.cpu.model", "max", "validateCPUModel"),
    ("spec.template.spec.domain.cpu.numa", {}, "cpuGuestToHostNUMAMap"),
    ("spec.template.spec.domain.memory.hugepages", None, "validateNUMA"),
    ("spec.template.spec.domain.memory.hugepages.pageSize", "much", "validateHugepagesMemoryRequests"),
    ("spec.template.spec.domain.memory.guest", "65537Mi", "validateHugepagesMemoryRequests"),
    ("spec.template.spec.domain.memory", {}, "ValidateVirtualMachineInstanceMandatoryFields"),
    ("spec.template.spec.domain.firmware.bootloader.efi.secureBoot", True, "validateDomainSpec"),
    ("spec.template.spec.domain.firmware.bootloader", {"bios": {}}, "validateBootOptions"),
    ("spec.template.metadata.annotations", {"kubevirt.io/disablePCIHole64": "true"}, "validateGraceIOVirtualizationAnnotations"),
    ("spec.template.spec.domain.devices.hostDevices", [{"name": "dev0", "deviceName": "nvidia.com/any"}], "validateGraceIOVirtualization"),
    ("spec.template.spec.domain.devices.hostDevices", [{"name": "dev0", "deviceName": "GB200"}], "IsQualifiedName"),
    ("metadata.name", "-web", "IsDNS1123Label"),
)  # fmt: skip


@pytest.mark.parametrize(("path", "value", "rule"), BROKEN)
def test_kubevirts_own_rules(path: str, value: Any, rule: str) -> None:
    document = json.loads(kubevirt.machine(grace(), names=GPUS))
    selectors = {"nvidia.com/GB200": "10de:2941", "nvidia.com/any": "10de:*"}
    assert not list(broken(document, selectors))
    *above, last = path.split(".")
    at = document
    for name in above:
        at = at.setdefault(name, {})
    if value is None:
        del at[last]
    else:
        at[last] = value
    assert rule in [one.rule for one in broken(document, selectors)]
