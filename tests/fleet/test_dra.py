"""Kubernetes' DRA: held against its OpenAPI schema and the rules of its API server; selectors are evaluated by a real CEL."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from msgspec.structs import replace

from tests.fleet.hosts import bound, fixture_names
from tests.tools.cache import skip_loudly
from tests.tools.hosts import facts as fixture
from tests.tools.hosts import host
from wizard.base.errors import InputError, UsageError
from wizard.facts.model import Facts
from wizard.fleet.consumers import Options, dra
from wizard.fleet.rows import rows_of
from wizard.host.build import host_of
from wizard.plan.model import VmPlan
from wizard.plan.planner import make_plan
from wizard.plan.request import FunctionRequest, Mode, Request, VmRequest

SCHEMA = json.loads((Path(__file__).parent / "data" / "kubernetes-dra.schema.json").read_text())
OPTIONS = Options(node="worker-1.example.com")
DOMAIN = dra.DRIVER

LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
# types.go, QualifiedName: a C identifier of 32 characters, in a DNS subdomain of 63 or in none.
QUALIFIED = re.compile(rf"({LABEL}(\.{LABEL})*/)?[A-Za-z_][A-Za-z0-9_]{{0,31}}")


def valid(value: Any, kind: str) -> None:
    jsonschema.Draft202012Validator(SCHEMA | {"$ref": f"#/$defs/io.k8s.api.resource.v1.{kind}"}).validate(value)


def sliced(facts: Facts) -> list[dict[str, Any]]:
    """The slices of a host, held against the schema and against what pkg/apis/resource/validation (1.37) refuses."""
    found = json.loads(dra.slices(host_of(facts), OPTIONS).text)
    assert (found["apiVersion"], found["kind"]) == ("v1", "List")
    names: list[str] = []
    for item in found["items"]:
        valid(item, "ResourceSlice")
        spec = item["spec"]
        assert spec["pool"]["resourceSliceCount"] == len(found["items"])
        assert len(spec["devices"]) <= 128
        for device in spec["devices"]:
            names.append(device["name"])
            assert re.fullmatch(LABEL, device["name"])
            assert len(device["attributes"]) + len(device.get("capacity", {})) <= 32
            for name, value in device["attributes"].items():
                assert QUALIFIED.fullmatch(name)
                assert len(value) == 1
                assert len(str(value.get("string", "")).encode()) <= 64
    assert len(names) == len(set(names))
    return [device for item in found["items"] for device in item["spec"]["devices"]]


@pytest.mark.parametrize("name", fixture_names())
def test_slices_are_what_kubernetes_takes(name: str) -> None:
    rows = {row.function: row for row in rows_of(host(name))}
    for device in sliced(fixture(name)):
        plain = {key: next(iter(value.values())) for key, value in device["attributes"].items()}
        row = rows[plain["address"]]
        assert plain["accel"] == row.accel
        assert row.assignable is True
        for key in ("oas", "ssidsize", "ats", "ril", "cmdqv"):
            measured = getattr(row, f"{key}_source") not in ("none", "assumed")
            assert plain.get(key) == (getattr(row, key) if measured else None)  # an unknown one is not there, be it a false


def test_what_is_offered_and_what_is_left_out() -> None:
    output = dra.slices(host_of(bound("h1")), OPTIONS)
    addresses = [device["attributes"]["address"]["string"] for device in sliced(bound("h1"))]
    assert "0000:14:00.0" in addresses
    assert not {"0000:81:00.0", "0000:81:00.1"} & set(addresses)
    assert "Left out: 2 functions (0000:81:00.0, 0000:81:00.1) that share their IOMMU group" in "\n".join(output.remarks)
    busy = dra.slices(host("host-in-use"), OPTIONS)
    assert "0000:14:00.0" not in busy.text  # /boot/efi is on it
    assert any("that the host needs" in remark and "0000:14:00.0" in remark for remark in busy.remarks)
    assert any("not known" in remark for remark in dra.slices(host("grace-1s"), OPTIONS).remarks)


def test_a_newer_snapshot_is_a_newer_generation() -> None:
    def generation(time: str | None) -> int:
        number: int = json.loads(dra.slices(host_of(bound("h1", time=time)), OPTIONS).text)["items"][0]["spec"]["pool"]["generation"]
        return number

    assert generation("2026-06-01T00:00:00Z") == 1780272000  # date -u -d 2026-06-01 +%s
    assert generation(None) == 1


def many(count: int) -> Facts:
    """The recorded host with so many VFs more on the bus of the first, each in a group of its own."""
    facts = fixture("arm64-virt-canwbs")
    vf = next(function for function in facts.functions if function.address == "0000:11:10.0")
    free = [f"0000:11:{slot:02x}.{number}" for slot in range(0x11, 0x20) for number in range(8)] + [
        f"0000:13:{slot:02x}.{number}" for slot in range(0x20) for number in range(8)
    ]
    made = [replace(vf, address=address, path=vf.path.replace(vf.address, address), iommu_group=1000 + at) for at, address in enumerate(free[:count])]
    group = next(group for group in facts.groups if group.id == vf.iommu_group)
    groups = tuple(replace(group, id=1000 + at, devices=(one.address,)) for at, one in enumerate(made))
    iommus = tuple(replace(one, members=one.members + (tuple(f.address for f in made) if one.name == vf.iommu else ())) for one in facts.iommus)
    return replace(facts, functions=(*facts.functions, *made), groups=facts.groups + groups, iommus=iommus)


def test_more_than_128_functions_are_several_slices_of_one_pool() -> None:
    items = json.loads(dra.slices(host_of(many(300)), OPTIONS).text)["items"]
    assert [len(item["spec"]["devices"]) for item in items][:2] == [128, 128]
    assert len({item["metadata"]["name"] for item in items}) == len(items) == 3
    assert len(sliced(many(300))) > 300


def test_limits_and_what_is_missing_are_sentences() -> None:
    facts = bound("h1")
    for options, says in (
        (Options(), "needs --node"),
        (Options(node="Node_1"), "Node_1 can't be the name of a node"),
        (Options(node=".".join(["n" * 60] * 5)), "can't be the name of a node"),
        (Options(node="n", driver="d" * 64), "can't be the name of a DRA driver"),
    ):
        with pytest.raises(UsageError, match=says):
            dra.slices(host_of(facts), options)
    long = replace(facts, functions=tuple(replace(one, driver="x" * 65) if one.address == "0000:14:00.0" else one for one in facts.functions))
    with pytest.raises(UsageError, match=r"driver of 0000:14:00.0 has 65 bytes .* holds 64"):
        dra.slices(host_of(long), OPTIONS)
    with pytest.raises(InputError, match="were not read"):
        dra.slices(host_of(replace(facts, functions=(), unread={"/sys/bus/pci/devices": "absent"})), OPTIONS)


def planned(facts: Facts, *functions: str, name: str = "web", **values: Any) -> VmPlan:
    request = VmRequest(name=name, functions=tuple(FunctionRequest(host=address) for address in functions), **values)
    plan = make_plan(host_of(facts), Request(vms=(request,)))
    assert plan.ok, plan.errors
    return plan.vms[0]


def claimed(vm: VmPlan) -> tuple[dict[str, Any], dict[str, Any]]:
    class_, template = json.loads(dra.claim(vm, Options()).text)["items"]
    valid(class_, "DeviceClass")
    valid(template, "ResourceClaimTemplate")
    return class_, template["spec"]["spec"]["devices"]


def evaluator() -> Callable[[str, dict[str, Any]], Any]:
    try:
        module: Any = importlib.import_module("cel")
    except ImportError:
        skip_loudly("no CEL", "pip install common-expression-language, as the extra `test` does: selectors were not evaluated")

    def answer(expression: str, device: dict[str, Any]) -> Any:
        # As the scheduler makes it (k8s.io/dynamic-resource-allocation/cel): attributes by domain, the driver's own without one.
        attributes: dict[str, dict[str, Any]] = {DOMAIN: {}}
        for name, value in device["attributes"].items():
            domain, _, short = name.rpartition("/")
            attributes.setdefault(domain or DOMAIN, {})[short] = next(iter(value.values()))
        return module.evaluate(expression, {"device": {"driver": DOMAIN, "attributes": attributes}})

    return answer


def test_the_selectors_find_the_functions_that_the_plan_has() -> None:
    answer = evaluator()
    facts = bound("h1", ats=True, ssidsize=20, oas=48)
    class_, devices = claimed(planned(facts, "0000:14:00.0", "0000:41:00.0", "0000:42:00.0"))
    one = sliced(facts)

    def chosen(request: dict[str, Any], devices: list[dict[str, Any]]) -> list[str]:
        expressions = [class_["spec"]["selectors"][0], *request["exactly"]["selectors"]]
        answers = {device["attributes"]["address"]["string"]: [answer(e["cel"]["expression"], device) for e in expressions] for device in devices}
        assert all(isinstance(value, bool) for values in answers.values() for value in values)  # anything else ends the allocation
        return [address for address, values in answers.items() if all(values)]

    assert [chosen(request, one) for request in devices["requests"]] == [["0000:14:00.0"], ["0000:41:00.0"], ["0000:42:00.0"]]
    # The two that the plan has behind one SMMU have to come from one; the third, behind another, is free.
    assert devices["constraints"] == [{"requests": ["functions-1", "functions-2"], "matchAttribute": f"{DOMAIN}/smmu"}]
    smmus = {device["attributes"]["address"]["string"]: device["attributes"]["smmu"]["string"] for device in one}
    assert smmus["0000:41:00.0"] == smmus["0000:42:00.0"] != smmus["0000:14:00.0"]
    # Hosts that supply less, or of which less is known, have none of them.
    for less in (bound("h2", ats=True, ssidsize=10, oas=48), bound("h3", ats=True, ssidsize=20, oas=44), fixture("vfio-arm64-virt")):
        assert [chosen(request, sliced(less)) for request in devices["requests"]] == [[], [], []]
    unknown = [{"attributes": {key: value for key, value in device["attributes"].items() if key not in ("oas", "ats")}} for device in one]
    assert [chosen(request, unknown) for request in devices["requests"]] == [[], [], []]


def test_functions_of_a_kind_are_one_request_and_stay_together() -> None:
    _, devices = claimed(planned(fixture("arm64-virt-canwbs"), "0000:11:10.0", "0000:11:10.2"))
    (request,) = devices["requests"]
    assert request["exactly"]["count"] == 2
    assert devices["constraints"] == [{"requests": ["functions-0"], "matchAttribute": f"{DOMAIN}/smmu"}]


def test_a_vm_without_acceleration_does_not_ask_for_it() -> None:
    vm = planned(bound("h1"), "0000:14:00.0", mode=Mode.NONE)
    assert "accel" not in claimed(vm)[1]["requests"][0]["exactly"]["selectors"][0]["cel"]["expression"]
    assert any("--mode none" in remark for remark in dra.claim(vm, Options()).remarks)


def test_what_a_claim_can_not_say_is_said() -> None:
    vm = planned(bound("h1"), "0000:14:00.0", "0000:41:00.0")
    said = "\n".join(dra.claim(vm, Options()).remarks)
    assert "memory, CPUs, disks, networks" in said
    assert "nothing asks that those of two are apart" in said
    with pytest.raises(UsageError, match="can't be the name of a Kubernetes object"):
        dra.claim(planned(bound("h1"), "0000:14:00.0", name="Web Büro"), Options())
    with pytest.raises(UsageError, match="33 functions, and a claim of Kubernetes gets at most 32"):
        dra.claim(replace(vm, devices=vm.devices[:1] * 33), Options())
