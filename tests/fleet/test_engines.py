"""Files for other projects, held against the format that each of them publishes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from lxml import etree
from msgspec.structs import replace

from tests.fleet.hosts import SMMUS, bound, fixture_names, tuned
from tests.tools import golden
from tests.tools.hosts import facts as fixture
from wizard.base.errors import UsageError
from wizard.existing.load import read_vms
from wizard.facts.model import Facts
from wizard.fleet.engines import OF_HOST, OF_VM, REMARKS, VM_REMARKS, kubevirt, nfd, opennebula
from wizard.fleet.engines.kubevirt_rules import broken
from wizard.fleet.summary import summarise
from wizard.host.build import host_of
from wizard.plan.model import VmPlan
from wizard.plan.planner import make_plan
from wizard.plan.properties import Properties
from wizard.plan.request import DiskRequest, FunctionRequest, Layout, Mode, NodeRequest, Request, VmRequest

GOLDEN = Path(__file__).parent / "golden"
SCHEMA = json.loads((Path(__file__).parent / "data" / "kubevirt.schema.json").read_text())


def planned(facts: Facts, *functions: str, name: str = "web", **values: Any) -> VmPlan:
    request = VmRequest(name=name, functions=tuple(FunctionRequest(host=address) for address in functions), **values)
    plan = make_plan(host_of(facts), Request(vms=(request,)))
    assert plan.ok, plan.errors
    return plan.vms[0]


def valid(value: Any, definition: str) -> None:
    jsonschema.validate(value, SCHEMA | {"$ref": f"#/definitions/{definition}"})


# Kubernetes: apimachinery/pkg/util/validation, IsQualifiedName and IsValidLabelValue.
LABEL_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def parsed_features(text: str) -> dict[str, str]:
    """As NFD's guide describes it: a comment, or ``<namespace>/<name>[=<value>]``; the value is ``true`` when it is not there."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            found[key] = value if equals else "true"
    return found


@pytest.mark.parametrize("name", fixture_names())
def test_feature_files_are_what_nfd_and_kubernetes_take(name: str) -> None:
    text = nfd.feature_file(summarise(fixture(name)))
    assert not re.search(r"^# \+", text, re.MULTILINE)  # no directive of NFD's by accident
    features = parsed_features(text)
    assert features
    for key, value in features.items():
        namespace, _, label = key.partition("/")
        assert namespace.endswith("feature.node.kubernetes.io")
        assert PREFIX.fullmatch(namespace)
        assert LABEL_NAME.fullmatch(label)
        assert len(label) <= 63
        assert LABEL_NAME.fullmatch(value)
        assert len(value) <= 63


def test_labels_say_what_the_host_supplies() -> None:
    labels = dict(nfd.labels(summarise(bound("h1", ats=True, ssidsize=20, oas=48))))
    assert labels["accel"] == "yes"
    assert (labels["ats"], labels["ril"], labels["ssidsize"], labels["oas"], labels["cmdqv"]) == ("true", "true", "20", "48", "false")
    assert labels["granules"] == "4k_16k_64k"
    # Of four e1000 functions one can be accelerated: the other two of that ID share a group.
    assert (labels["pci-0200_8086_10d3.count"], labels["pci-0200_8086_10d3.accel"], labels["pci-0200_8086_10d3.free"]) == ("3", "1", "1")
    assert dict(nfd.labels(summarise(fixture("vfio-arm64-virt"))))["accel"] == "no"
    assert dict(nfd.labels(summarise(fixture("grace-1s"))))["accel"] == "unknown"
    assert "oas" not in dict(nfd.labels(summarise(fixture("grace-1s"))))  # an assumption is no label


def test_what_the_host_uses_is_not_free() -> None:
    labels = dict(nfd.labels(summarise(fixture("host-in-use"))))
    assert (labels["pci-0108_1b36_0010.accel"], labels["pci-0108_1b36_0010.free"]) == ("1", "0")


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


GPUS = {"10de:2941": "nvidia.com/GB200"}


def grace(*functions: str, **values: Any) -> VmPlan:
    """GPUs of a GB200 that one VM gets, with the hugepages that KubeVirt asks for."""
    given = {"memory": 64 << 30, "hugepages": 512 << 20, "assume_accel": True} | values
    return planned(fixture("gb200"), *functions or ("0008:01:00.0",), **{"name": "grace"} | given)


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


ATTRIBUTE = re.compile(r'([A-Z][A-Z0-9_]*) = (?:"((?:[^"\\]|\\")*)"|\[ (.*) \])')
INNER = re.compile(r'([A-Z][A-Z0-9_]*) = "((?:[^"\\]|\\")*)"')


def parsed_template(text: str) -> list[tuple[str, Any]]:
    """OpenNebula's template language: ``NAME = "value"`` and ``NAME = [ KEY = "value", … ]`` a line, ``\\"`` for a quotation mark."""
    found: list[tuple[str, Any]] = []
    for line in text.splitlines():
        match = ATTRIBUTE.fullmatch(line)
        assert match, line
        inner = {key: value.replace('\\"', '"') for key, value in INNER.findall(match[3])} if match[3] is not None else match[2].replace('\\"', '"')
        found.append((match[1], inner))
    return found


def test_opennebula_attributes_of_a_host() -> None:
    found = dict(parsed_template(opennebula.host_attributes(summarise(bound("h1", ssidsize=20, oas=48)))))
    assert found["SMMU_ACCEL"] == "yes"
    assert (found["SMMU_OAS"], found["SMMU_SSIDSIZE"], found["SMMU_ATS"]) == ("48", "20", "no")
    assert found["SMMU_FREE_8086_10D3"] == "1"


def test_opennebula_probe_configuration() -> None:
    """Keys are Ruby symbols, filters vendor:device:class, as in the guide's example."""
    text = opennebula.pci_conf(summarise(bound("h1")))
    filters = re.findall(r"^  - '(.*)'$", text, re.MULTILINE)
    assert filters == ["1af4:1041:0200", "1b36:0010:0108", "8086:10c9:0200", "8086:10d3:0200"]
    assert re.findall(r"^(:\w+):", text, re.MULTILINE) == [":filter", ":short_address", ":device_name"]
    assert ":filter: '0:0'" in opennebula.pci_conf(summarise(fixture("vfio-arm64-virt")))


# Of the complete template in OpenNebula's guide "NVIDIA Grace Platform Virtualization": attribute -> keys.
GRACE_GUIDE = {
    "CPU_MODEL": {"MODEL"},
    "FEATURES": {"ACPI", "APIC", "GIC", "PCIHOLE64", "RAS"},
    "IOMMU": {"MODE", "MODEL", "OPTIONS"},
    "NUMA_NODE": {"DISTANCE", "MEMORY", "TOTAL_CPUS"},
    "OS": {"ARCH", "FIRMWARE", "FIRMWARE_SECURE", "MACHINE"},
    "PCI": {"ACPI_NODES", "CLASS", "DEVICE", "IOMMU", "IOMMUFD", "ROOT", "VENDOR"},
    "TOPOLOGY": {"CORES", "HUGEPAGE_SIZE", "MEMORY_ACCESS", "PIN_POLICY", "SOCKETS", "THREADS"},
}
GRACE_GUIDE_SCALARS = {"CPU", "MEMORY", "NAME", "SCHED_REQUIREMENTS", "VCPU"}


def test_an_accelerated_vm_in_opennebulas_own_words() -> None:
    """Two GPUs of a GB200, as the guide's example has them: its IOMMU attribute word for word, and eight nodes for each GPU."""
    vm = planned(fixture("gb200"), "0008:01:00.0", "0009:01:00.0", name="grace", memory=64 << 30, assume_accel=True)
    found = parsed_template(opennebula.template(vm))
    for name, value in found:
        if isinstance(value, dict):
            assert set(value) <= GRACE_GUIDE[name], name
        else:
            assert name in GRACE_GUIDE_SCALARS
    values = dict(found)
    assert values["IOMMU"] == {"MODE": "device", "MODEL": "smmuv3", "OPTIONS": "accel=on ats=on ril=off pasid=on oas=48"}
    pci = [value for name, value in found if name == "PCI"]
    assert [one.pop("ACPI_NODES") for one in pci] == ["1-8", "9-16"]
    assert pci == [{"DEVICE": "2941", "IOMMU": "YES", "IOMMUFD": "YES", "ROOT": "dedicated", "VENDOR": "10de"}] * 2
    nodes = [value for name, value in found if name == "NUMA_NODE"]
    assert [node["MEMORY"] for node in nodes] == ["65536", *["0"] * 16]
    assert values["FEATURES"]["PCIHOLE64"] == str(1 << 30)  # KiB: 1 TiB for two regions of 256 GiB
    assert "SMMU_FREE_10DE_2941 > 1" in values["SCHED_REQUIREMENTS"]
    assert any("ssidsize=20" in remark for remark in opennebula.template_remarks(vm))


def test_cmdqv_and_auto_in_opennebulas_options() -> None:
    facts = replace(fixture("grace-cmdqv"), kvm=True)
    vm = planned(facts, "0002:01:00.0", assume_accel=True, properties=Properties(ats="auto", cmdqv="on"))
    assert dict(parsed_template(opennebula.template(vm)))["IOMMU"]["OPTIONS"] == "accel=on ril=off pasid=on oas=48 cmdqv=on"


def test_what_opennebulas_own_words_can_not_say_is_refused_with_the_other_form() -> None:
    with pytest.raises(UsageError, match="are behind one SMMU") as caught:
        opennebula.template(planned(bound("h1"), "0000:14:00.0", "0000:11:00.0"))
    assert "opennebula-raw" in caught.value.fix
    apart = planned(bound("h1"), "0000:14:00.0", "0000:11:00.0", layout=Layout.PER_FUNCTION)
    with pytest.raises(UsageError, match="are behind one SMMU"):
        opennebula.template(apart)
    unlike = tuned(bound("h1", ats=True), "h1", ats=False, smmus=SMMUS[1:])
    vm = planned(unlike, "0000:14:00.0", "0000:41:00.0")
    if len({vsmmu.ats.written for vsmmu in vm.vsmmus}) > 1:
        with pytest.raises(UsageError, match="unlike properties"):
            opennebula.template(vm)
    with pytest.raises(UsageError, match="no accelerated vSMMU"):
        opennebula.raw(planned(bound("h1"), "0000:14:00.0", mode=Mode.NONE))


def test_an_accelerated_vm_for_opennebula_carries_its_own_devices() -> None:
    vm = planned(bound("h1", ssidsize=20), "0000:14:00.0", "0000:41:00.0", memory=2 << 30, cpus=4)
    found = parsed_template(opennebula.raw(vm))
    values = dict(found)
    assert (values["NAME"], values["VCPU"], values["MEMORY"]) == ("web", "4", "2048")
    assert values["OS"]["ARCH"] == "aarch64"
    assert values["SCHED_REQUIREMENTS"].startswith('SMMU_ACCEL = "yes" & ')
    assert "SMMU_SSIDSIZE > 19" in values["SCHED_REQUIREMENTS"]
    assert not any(name == "PCI" for name, _ in found)
    assert values["RAW"]["TYPE"] == "kvm"
    raw = etree.fromstring(f"<domain>{values['RAW']['DATA']}</domain>")
    assert len(raw.findall("devices/iommu")) == 2
    assert [h.find("source/address").get("bus") for h in raw.findall("devices/hostdev")] == ["0x14", "0x41"]  # type: ignore[union-attr]
    assert {c.get("model") for c in raw.findall("devices/controller")} >= {"pcie-expander-bus", "pcie-root-port"}


def test_what_the_devices_refer_to_is_in_the_template_once() -> None:
    """A generic initiator names guest NUMA nodes, which OpenNebula's words make; the window is on controller 0, of which libvirt takes one: RAW's."""
    found = parsed_template(opennebula.raw(grace("0008:01:00.0", "0009:01:00.0")))
    values = dict(found)
    raw = etree.fromstring(f"<domain>{values['RAW']['DATA']}</domain>")
    named = {int(part) for acpi in raw.findall("devices/hostdev/acpi") for part in re.findall(r"\d+", acpi.get("nodeset", ""))}
    assert named
    assert named < set(range(sum(name == "NUMA_NODE" for name, _ in found)))
    assert raw.find("devices/controller[@model='pcie-root']/pcihole64") is not None
    assert "PCIHOLE64" not in values["FEATURES"]


def test_a_vm_without_viommu_uses_opennebulas_own_pci() -> None:
    vm = planned(bound("h1"), "0000:14:00.0", mode=Mode.NONE)
    assert ("PCI", {"SHORT_ADDRESS": "14:00.0"}) in parsed_template(opennebula.template(vm))
    elsewhere = replace(vm, devices=(replace(vm.devices[0], host="0009:01:00.0"),))
    with pytest.raises(UsageError, match="segment 0009"):
        opennebula.template(elsewhere)


def test_no_byte_of_memory_is_lost_to_another_unit() -> None:
    vm = planned(bound("h1"), "0000:14:00.0", mode=Mode.NONE)
    odd = replace(vm, memory=replace(vm.memory, size=(1 << 30) + 4096))
    assert json.loads(kubevirt.instance(odd))["spec"]["domain"]["memory"]["guest"] == "1073745920"
    with pytest.raises(UsageError, match="counts memory in MiB, and the profile has 1073745920 bytes"):
        opennebula.template(odd)


def test_text_that_a_template_can_not_carry_is_refused_by_name() -> None:
    vm = planned(bound("h1"), "0000:14:00.0", mode=Mode.NONE, disks=(DiskRequest(path="/var/disk.img"),))
    with pytest.raises(UsageError, match="can't be written into an OpenNebula template"):
        opennebula.template(replace(vm, machine=replace(vm.machine, type="virt\nDISK = [ IMAGE_ID = 0 ]")))


ASKED: dict[str, Callable[[], VmPlan]] = {
    "two SMMUs": lambda: planned(bound("h1", ats=True, ssidsize=20, oas=48), "0000:14:00.0", "0000:41:00.0", memory=2 << 30, cpus=4),
    "grace": grace,
    "without": lambda: planned(bound("h1"), "0000:14:00.0", mode=Mode.NONE, disks=(DiskRequest(path="/var/disk.img"),)),
}


def _no_remarks(_: object) -> list[str]:
    return []


@pytest.mark.parametrize("name", ASKED)
def test_golden_vms(name: str) -> None:
    """What a VM is for each engine, with what a person is told beside it (tests/tools/golden.py)."""
    vm, path = ASKED[name](), GOLDEN / f"vm-{name.replace(' ', '-')}.txt"
    for engine, export in OF_VM.items():
        remarks = VM_REMARKS.get(engine, _no_remarks)
        try:
            options = {"names": GPUS} if engine.startswith("kubevirt") else {}
            text = export(vm, **options) + "".join(f"# {remark}\n" for remark in remarks(vm))
        except UsageError as refused:
            text = f"refused: {refused} {refused.fix}\n"
        golden.same_section(path, engine, text)
    golden.only(path, OF_VM)


@pytest.mark.parametrize("name", ["bound", "grace-cmdqv"])
def test_golden_hosts(name: str) -> None:
    summary, path = summarise(bound("h1", ats=True, ssidsize=20, oas=48) if name == "bound" else fixture(name)), GOLDEN / f"host-{name}.txt"
    for engine, export in OF_HOST.items():
        remarks = REMARKS.get(engine, _no_remarks)
        golden.same_section(path, engine, export(summary) + "".join(f"# {remark}\n" for remark in remarks(summary)))
    golden.only(path, OF_HOST)


def test_every_format_is_reachable() -> None:
    from wizard.cli.fleet import ENGINES

    assert set(ENGINES) == {*OF_HOST, *OF_VM}
