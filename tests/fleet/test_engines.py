"""Files for other projects, held against the format that each of them publishes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from msgspec.structs import replace

from tests.fleet.hosts import SMMUS, bound, fixture_names, tuned
from tests.tools import golden
from tests.tools.hosts import facts as fixture
from wizard.base.errors import UsageError
from wizard.facts.model import Facts
from wizard.fleet.engines import OF_HOST, OF_VM, REMARKS, VM_REMARKS, kubevirt, nfd, opennebula
from wizard.fleet.summary import summarise
from wizard.host.build import host_of
from wizard.plan.model import VmPlan
from wizard.plan.planner import make_plan
from wizard.plan.properties import Properties
from wizard.plan.request import DiskRequest, FunctionRequest, Layout, Mode, Request, VmRequest

GOLDEN = Path(__file__).parent / "golden"


def planned(facts: Facts, *functions: str, name: str = "web", **values: Any) -> VmPlan:
    request = VmRequest(name=name, functions=tuple(FunctionRequest(host=address) for address in functions), **values)
    plan = make_plan(host_of(facts), Request(vms=(request,)))
    assert plan.ok, plan.errors
    return plan.vms[0]


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


GPUS = {"10de:2941": "nvidia.com/GB200"}


def grace(*functions: str, **values: Any) -> VmPlan:
    """GPUs of a GB200 that one VM gets, with the hugepages that KubeVirt asks for."""
    given = {"memory": 64 << 30, "hugepages": 512 << 20, "assume_accel": True} | values
    return planned(fixture("gb200"), *functions or ("0008:01:00.0",), **{"name": "grace"} | given)


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
    from wizard.cli.words.fleet import ENGINES

    assert set(ENGINES) == {*OF_HOST, *OF_VM}
