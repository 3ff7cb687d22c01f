"""KubeVirt's documents: what they hold is read, and what only the launcher's domain has is said."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from wizard.base.errors import InputError
from wizard.existing.kubevirt import quantity
from wizard.existing.load import read_vms

DOMAIN: dict[str, Any] = {
    "cpu": {"cores": 4, "sockets": 2, "model": "host-passthrough", "numa": {"guestMappingPassthrough": {}}},
    "memory": {"guest": "32Gi", "hugepages": {"pageSize": "512Mi"}},
    "machine": {"type": "virt"},
    "firmware": {"bootloader": {"efi": {"secureBoot": False}}},
    "devices": {"gpus": [{"name": "gpu0", "deviceName": "nvidia.com/GB200"}], "hostDevices": [{"name": "nic", "deviceName": "x.y/vf"}], "disks": []},
}
VMI = {
    "apiVersion": "kubevirt.io/v1",
    "kind": "VirtualMachineInstance",
    "metadata": {"name": "knot", "namespace": "aviary"},
    "spec": {"domain": DOMAIN},
}
VM = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "vm"}, "spec": {"template": {"spec": {"domain": DOMAIN}}}}


def test_what_a_document_holds() -> None:
    (vm,) = read_vms(json.dumps(VMI, indent=2).encode(), "knot.json")
    assert vm.kind == "kubevirt"
    assert (vm.request.name, vm.request.memory, vm.request.hugepages, vm.request.cpus) == ("aviary_knot", 32 << 30, 512 << 20, 8)
    assert vm.request.machine.uefi
    said = {finding.code: finding.what for finding in vm.findings}
    assert "only the descriptor x.y/vf" in said["import-function-unknown"]
    assert [finding.code for finding in vm.findings].count("import-function-unknown") == 2
    assert "virt-launcher" in said["import-value-missing"]
    carried = " ".join(finding.what for finding in vm.findings)
    for path in ("cpu.model", "cpu.numa.guestMappingPassthrough", "firmware.bootloader.efi", "devices.disks"):
        assert (path in carried) is (path != "firmware.bootloader.efi")


def test_lists_and_virtual_machines() -> None:
    document = {"apiVersion": "v1", "kind": "List", "items": [VM, VMI]}
    assert [vm.request.name for vm in read_vms(json.dumps(document, indent=2).encode(), "x")] == ["default_vm", "aviary_knot"]


def test_yaml_is_the_same_as_json() -> None:
    """As kubectl gives it by -o yaml, and with several documents in one file."""
    (plain,) = read_vms(json.dumps(VMI, indent=2).encode(), "x")
    text = yaml.safe_dump(VMI, sort_keys=False)
    (same,) = read_vms(text.encode(), "x")
    assert (same.request, same.findings) == (plain.request, plain.findings)
    listed = yaml.safe_dump(json.loads(json.dumps({"apiVersion": "v1", "kind": "List", "items": [VM, VMI]})), sort_keys=False)
    assert [vm.request.name for vm in read_vms(listed.encode(), "x")] == ["default_vm", "aviary_knot"]
    both = f"---\n{yaml.safe_dump(VM)}---\n{text}"
    assert [vm.request.name for vm in read_vms(both.encode(), "x")] == ["default_vm", "aviary_knot"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("a: [1", "line 3 can't be read as YAML"),
        ("spec: {}\nspec: {}\n", "line 4 can't be read as YAML: the key spec twice"),
        ("a: &a [1, 2]\nb: *a\n", "line 4 can't be read as YAML: the alias *a"),
        ("a: " + "[" * 5000, "can't be read as YAML"),
        ("a: !!python/object/apply:os.system [true]\n", "can't be read as YAML: could not determine a constructor"),
    ],
)
def test_yaml_that_is_not_taken(more: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        read_vms(f"apiVersion: kubevirt.io/v1\nkind: VirtualMachine\n{more}".encode(), "x")


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: kubevirt.io/v1\nkind: Other\n",
        '{\n"apiVersion": "kubevirt.io/v1", "kind": "Other"}',
        '{\n"apiVersion": "kubevirt.io/v1", "a": ' + "[" * 100_000,
    ],
)
def test_what_is_no_document(text: str) -> None:
    with pytest.raises(InputError, match=r"x (is no JSON|holds no VirtualMachine)"):
        read_vms(text.encode(), "x")


@pytest.mark.parametrize(
    "domain", [[], 1, {"devices": {"gpus": {"a": 1}}}, {"cpu": []}, {"memory": {"guest": "lots"}}, {"devices": {"gpus": [3, None]}}]
)
def test_odd_values_are_no_exception(domain: Any) -> None:
    document = {**VMI, "spec": {"domain": domain}}
    assert read_vms(json.dumps(document, indent=1).encode(), "x")[0].findings


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4Gi", 4 << 30), ("512M", 512_000_000), ("1024", 1024), ("1k", 1000), ("1.5Gi", 3 << 29), (".5Ki", 512), ("1e3", 1000), ("12E", 12 * 10**18),
        ("1Ei", 1 << 60), ("1500m", 2), ("0.1m", 1), ("+1Mi", 1 << 20), ("1E3", 1000), ("1.", 1), (2048, 2048),
        ("x", None), ("-1Gi", None), ("4GiB", None), ("", None), ("1K", None), ("1 Gi", None), ("٣", None), ("9" * 40, None), ("1e999", None),
        (None, None),
    ],
)  # fmt: skip
def test_quantities(text: Any, size: int | None) -> None:
    """By Kubernetes' own words on quantities: fractions are rounded up, E alone is a suffix and E3 an exponent."""
    assert quantity(text) == size
