"""Every field of a plan, held against every form that a VM is written in: it is in the output, or it is said to be left out, or it is none of
that form's business, with the reason. Fields are found by looking into the structs, so that a new one fails here until it has a place; and each
is changed, to see that its place is the truth. The same for what is known of a host, and the forms that hosts are written in."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from tests.fleet.hosts import bound
from tests.fleet.test_engines import planned
from tests.tools.hosts import facts as fixture
from wizard.base.errors import WizardError
from wizard.base.finding import Finding
from wizard.cli.words.planning import FORMATS
from wizard.export import openvmm_script, prepare_script, qemu_json, qemu_script, virt_install_script
from wizard.export.libvirt import libvirt_xml
from wizard.fleet.engines import OF_HOST, OF_VM, REMARKS, VM_REMARKS, kubevirt_account, opennebula_account
from wizard.fleet.engines.account import RESOLVED, Account
from wizard.fleet.summary import HostSummary, summarise
from wizard.host.build import host_of
from wizard.plan.model import OtherPlan, Plan, VirtioIommuPlan, VmPlan
from wizard.plan.properties import NAMES, Property
from wizard.plan.request import DiskRequest, KeptLibvirt, KeptQemu, Mode, NetworkRequest, NodeRequest

LEAVES = (Property, Finding)


def held(kind: Any) -> type[msgspec.Struct] | None:
    """The struct that a field holds, one or several of; None for a leaf."""
    for part in typing.get_args(kind) or (kind,):
        if isinstance(part, type) and issubclass(part, msgspec.Struct) and part not in LEAVES:
            return part
    return None


def fields_of(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    """Paths of the leaves: ``memory.nodes.cpus``. A request is looked into once: the plan has what came of its parts."""
    hints = typing.get_type_hints(struct)
    for name in struct.__struct_fields__:
        inside = held(hints[name]) if not prefix.startswith("request.") else None
        yield from fields_of(inside, f"{prefix}{name}.") if inside else (prefix + name,)


# Where "another value of the same kind" would be no value at all: what to write instead.
_BYTES = 2 << 20
OTHER: dict[str, Any] = {
    "mode": Mode.VIRTIO_IOMMU, "name": "other", "memory.hugepages": 1 << 30, "memory.mmio_window": 8 << 40, "memory.mmio_needed": 8 << 40,
    "memory.nodes.host_node": 1, "memory.nodes.cpus": (0,),
    "memory.nodes.initiator": "dev9", "machine.gic": "4", "machine.iommu": "smmuv3",
    "machine.type": "virt-11.0", "vsmmus.stage": "2",
    "ports.bus": "pcie.0", "ports.bus_reserve": 4, "ports.mem_reserve": _BYTES, "ports.pref64_reserve": _BYTES,
    "devices.host": "0008:02:00.0", "devices.ids": "10de:2348", "devices.mode": Mode.NONE, "devices.driver": "mlx5_vfio_pci", "devices.ats": "off",
    "devices.vsmmu": None, "devices.smmu": "smmu3.0x0000000016000000", "devices.bars": (8 << 40,), "others.bus_reserve": 4,
    "others.mem_reserve": _BYTES, "others.pref64_reserve": _BYTES, "others.driver": "edu", "others.bus": "pcie.9", "disks.format": "qcow2",
    "disks.bus": "pcie.9", "networks.kind": "bridge", "networks.bus": "pcie.9", "virtio_iommu.granule": "16k",
    "uuid": "11111111-2222-3333-4444-555555555555", "request.kept_qemu": KeptQemu(options=("-nodefaults",)),
    "request.kept_libvirt": KeptLibvirt(domain=("<x/>",)), "pools.accel": "unknown", "pools.smmu": -1,
    "pools.ids": "8086:1111", "pools.class_code": 0x030000,
    "smmus.kind": "smmuv2", "smmus.offers.richest": 10, "smmus.offers.told": False,
}  # fmt: skip
ABSENT: dict[str, Any] = {
    "others": (
        OtherPlan(id="pcie.9", kind="expander", driver=None, bus="pcie.0", slot=19, function=0, bus_nr=99, numa_node=0),
        OtherPlan(id="port.9", kind="port", driver=None, bus="pcie.0", slot=20, function=0, chassis=77, port=78, secondary=40, subordinate=40),
        OtherPlan(id="edu.9", kind="endpoint", driver="edu", bus="pcie.0", slot=21, function=0),
    ),
    "virtio_iommu": VirtioIommuPlan(slot=9, granule="4k", aw_bits=44),
}
"""What a sample does not have: having it is the change, of all its fields."""


def other_value(value: Any) -> Any:
    """Another value of the same kind."""
    match value:
        case Property():
            word = {"on": "off", "off": "on", "20": "10"}.get(value.written or "off", "42")
            return replace(value, written=word, resolved={"on": 1, "off": 0}.get(word, 10))
        case bool():
            return not value
        case int():
            return value * 2 if value > 1 << 20 else value + 1
        case str():
            return value + "x"
        case tuple():
            return value[1:] if value else ("x",)
    return {} if isinstance(value, dict) else "1" if value is None else None


def variants(struct: Any, path: str, whole: str = "") -> Iterator[Any]:
    """The struct with another value of one leaf, once for each place where it has that leaf."""
    whole = whole or path
    name, _, rest = path.partition(".")
    value = getattr(struct, name)
    if not rest:
        other = OTHER[whole] if whole in OTHER else other_value(value)
        if other != value:
            yield replace(struct, **{name: other})
    elif value is None or value == ():
        if name in ABSENT:
            yield replace(struct, **{name: ABSENT[name]})
    elif isinstance(value, tuple):
        for place, one in enumerate(value):
            for inside in variants(one, rest, whole):
                yield replace(struct, **{name: (*value[:place], inside, *value[place + 1 :])})
    else:
        for inside in variants(value, rest, whole):
            yield replace(struct, **{name: inside})


OWN: dict[str, Any] = {
    "disks": (DiskRequest(path="/var/disk.img"),), "networks": (NetworkRequest(kind="tap", source="tap0"),), "notes": "of web", "user": "tom",
}  # fmt: skip
KINDS = {"10de:2941": "nvidia.com/GB200", "10de:2348": "nvidia.com/GH200"}


@cache
def grace(count: int = 1) -> VmPlan:
    """GPUs of a GB200, as KubeVirt and OpenNebula would have them."""
    functions = ("0008:01:00.0", "0009:01:00.0")[:count]
    return planned(fixture("gb200"), *functions, name="grace", memory=64 << 30, hugepages=512 << 20, assume_accel=True, **OWN)


@cache
def two(target: str | None = None, *, nodes: bool = True, imported: bool = True) -> VmPlan:
    """Two functions behind two SMMUs, with NUMA nodes; for QEMU also with what an import may leave."""
    numa = (NodeRequest(memory=1 << 30, cpus="0-1", host_node=0), NodeRequest(memory=1 << 30, cpus="2-3")) if nodes else None
    facts = bound("h1", ats=True, ssidsize=20, oas=48)
    vm = planned(facts, "0000:14:00.0", "0000:41:00.0", memory=2 << 30, cpus=4, numa=numa, target=target, **OWN)
    return replace(vm, others=ABSENT["others"]) if imported and target is None else vm


@cache
def without() -> VmPlan:
    """One function without a vIOMMU."""
    return planned(bound("h1"), "0000:14:00.0", mode=Mode.NONE, **OWN)


def prepare(vm: VmPlan) -> str:
    """The script for one VM on its host."""
    return prepare_script(Plan(host=None, digest="d", vms=(vm,)), HOST)


def nothing(_: Any) -> list[str]:
    """An export says what it has to say in its own heading."""
    return []


HOST = host_of(bound("h1", ats=True, ssidsize=20, oas=48))
_PREDICTED = "ports.secondary ports.subordinate buses.last others.secondary others.subordinate"
_REST = {
    "predictions of what firmware will do": _PREDICTED,
    "the planner's own": f"{RESOLVED} request.target memory.low_mmio_needed memory.mmio_needed devices.bars devices.bars_from ports.place findings "
    "made_for.host machine.kvm machine.uefi devices.smmu devices.mode devices.host_node",
}
_PREPARED = "devices.driver devices.ids devices.serial devices.pf devices.vf_index"
_HEADING = "notes made_for.digest made_for.product"
_DEVICES = (
    "name cpus emulator memory.size memory.hugepages memory.nodes.memory memory.nodes.cpus memory.nodes.host_node "
    "machine.its vsmmus.bus vsmmus.accel buses.id buses.bus_nr buses.numa_node ports.id ports.bus ports.slot "
    "devices.host devices.port devices.iommufd disks.path disks.readonly disks.slot disks.bus networks.kind networks.source networks.slot "
    "networks.bus others.bus others.slot others.function others.bus_nr others.numa_node others.kind others.id"
)
_QEMU = (
    f"{_DEVICES} {' '.join(f'vsmmus.{name}' for name in NAMES)} machine.type machine.gic machine.acpi machine.iommu memory.nodes.id "
    "memory.nodes.initiator memory.mmio_written memory.mmio_window firmware.code firmware.code_format firmware.vars firmware.vars_format buses.slot "
    "ports.chassis ports.port ports.bus_reserve ports.mem_reserve ports.pref64_reserve devices.function devices.multifunction devices.ats "
    "devices.rom devices.slot "
    "others.chassis others.port others.bus_reserve others.mem_reserve others.pref64_reserve virtio_iommu.slot virtio_iommu.granule "
    "virtio_iommu.aw_bits disks.format networks.mac uuid request.kept_qemu"
)
_COMMENTS = "vsmmus.smmu buses.host_node devices.name devices.group devices.to_make devices.bus devices.vsmmu mode qemu"
_LIBVIRT = f"{_QEMU} devices.id firmware.vars_template {_HEADING} devices.name mode qemu request.kept_libvirt"
_NOT_LIBVIRTS = {
    **_REST,
    "libvirt names what it makes itself, has a monitor of its own, and the planner refuses any other stage": (
        "vsmmus.id disks.id networks.id iommufd qmp vsmmus.stage"
    ),
    "it makes endpoints of its own words, which kept_libvirt has": "others.driver",
    "the preparation script has it, and locks memory": f"{_PREPARED} memory.memlock",
    "the address of the function says it": "devices.vsmmu devices.bus devices.group devices.to_make vsmmus.smmu buses.host_node",
    "ports that wait are ports": "ports.hotplug ports.candidates",
}
_NOT_QEMUS = {
    **_REST,
    "the preparation script has it, and locks memory": f"{_PREPARED} memory.memlock firmware.vars_template user",
    "endpoints are words of kept_qemu": "others.driver",
    "the hot-plug commands have them": "ports.candidates",
}
_OPENVMM = (
    "mode vsmmus.smmu devices.name devices.group devices.bars request.target disks.id networks.id iommufd ports.hotplug others.driver "
    "others.chassis others.port "
    "others.bus_reserve others.mem_reserve others.pref64_reserve"
)
_REST_OPENVMM = {
    "predictions of what firmware will do": _PREDICTED,
    "the planner's own": f"{RESOLVED} devices.bars_from ports.place findings",
}
_QEMU_IDS = "vsmmus.id vsmmus.stage devices.id disks.id networks.id iommufd qmp"
_PREPARE = (
    "name memory.hugepages memory.memlock firmware.vars_template firmware.vars ports.candidates devices.host devices.driver devices.iommufd qemu "
    f"user mode {_HEADING}"
)
Samples = tuple[Callable[[], VmPlan], ...]
VM_FORMS: dict[str, tuple[Callable[[VmPlan], str], Callable[[VmPlan], list[str]], Samples, Account]] = {
    "kubevirt-vmi": (partial(OF_VM["kubevirt-vmi"], names=KINDS), VM_REMARKS["kubevirt-vmi"], (grace,), kubevirt_account.ACCOUNT),
    "kubevirt-vm": (partial(OF_VM["kubevirt-vm"], names=KINDS), VM_REMARKS["kubevirt-vm"], (grace,), kubevirt_account.ACCOUNT),
    "opennebula-template": (
        OF_VM["opennebula-template"], VM_REMARKS["opennebula-template"], (partial(grace, 2), without), opennebula_account.OWN_WORDS,
    ),
    "opennebula-raw": (
        OF_VM["opennebula-raw"], VM_REMARKS["opennebula-raw"], (partial(grace, 2), partial(two, imported=False)), opennebula_account.RAW,
    ),
    "qemu": (
        qemu_script, nothing, (two, partial(grace, 2)),
        Account(f"{_QEMU} {_QEMU_IDS} {_HEADING} {_COMMENTS} ports.hotplug request.kept_libvirt", (), _NOT_QEMUS),
    ),
    "qemu-json": (
        qemu_json, nothing, (two, partial(grace, 2)),
        Account(f"{_QEMU} {_QEMU_IDS}", (), {
            **_NOT_QEMUS, "an array of words has no comments": f"{_HEADING} {_COMMENTS} ports.hotplug request.kept_libvirt",
        }),
    ),
    "libvirt": (libvirt_xml, nothing, (two, partial(grace, 2)), Account(f"{_LIBVIRT} user", (), _NOT_LIBVIRTS)),
    "virt-install": (
        virt_install_script, nothing, (two, partial(grace, 2)),
        Account(_LIBVIRT, (), {**_NOT_LIBVIRTS, "libvirt runs it as its own user": "user"}),
    ),
    "openvmm": (
        openvmm_script, nothing, (partial(two, "openvmm"), partial(two, "openvmm", nodes=False)),
        Account(f"{_DEVICES} {_OPENVMM} vsmmus.oas {_HEADING}", (), {
            **_REST_OPENVMM,
            "refused, or said to be missing, by the planner (openvmm-cant, openvmm-goes-without)": (
                "vsmmus.ats vsmmus.ril vsmmus.ssidsize vsmmus.cmdqv vsmmus.stage machine.gic machine.acpi machine.uefi machine.iommu "
                "virtio_iommu.slot virtio_iommu.granule virtio_iommu.aw_bits disks.format networks.mac devices.ats devices.rom devices.function "
                "devices.multifunction uuid request.kept_qemu request.kept_libvirt"
            ),
            "its machine is its own, and so are its firmware and the user that starts it": (
                "machine.type machine.kvm qemu qmp user firmware.code firmware.code_format firmware.vars_template firmware.vars firmware.vars_format"
            ),
            "it has a root port for every function, and numbers ports and chassis itself": (
                "buses.slot ports.chassis ports.port ports.bus_reserve ports.mem_reserve ports.pref64_reserve ports.candidates devices.slot "
                "devices.bus devices.vsmmu vsmmus.id devices.id"
            ),
            "it adds up the memory of its nodes, and makes windows for the BARs": (
                "memory.nodes.id memory.nodes.initiator memory.mmio_window memory.mmio_written memory.low_mmio_needed memory.mmio_needed"
            ),
            "the preparation script has it, and locks memory": f"{_PREPARED} memory.memlock devices.to_make",
            "the host's side of it": "buses.host_node devices.smmu devices.mode devices.host_node made_for.host",
        }),
    ),
    "prepare": (prepare, nothing, (two,), Account(_PREPARE, (), {
        "it prepares the host, whatever the guest sees": " ".join(field for field in fields_of(VmPlan) if field not in _PREPARE.split()),
    })),
}  # fmt: skip


def answer(write: Callable[[Any], str], given: Any) -> str:
    """What is written; a refusal is an answer too. A KeyError stands for a plan that names a bus which it does not have."""
    try:
        return write(given)
    except (WizardError, KeyError) as error:
        return f"refused: {error}"


def unlike(write: Callable[[Any], str], say: Callable[[Any], list[str]], given: Any, path: str) -> set[str]:
    """How a form notices another value of a field: ``text``, ``refused``, ``said``; ``absent`` for a field of what the sample does not have."""
    before, told = answer(write, given), say(given)
    assert not before.startswith("refused"), before
    seen = set()
    for other in variants(given, path):
        after = answer(write, other)
        if after != before:
            seen.add("refused" if after.startswith("refused") else "text")
        if say(other) != told:
            seen.add("said")
    first = path.partition(".")[0]
    if seen and first in ABSENT and not getattr(given, first):
        seen.add("absent")
    return seen


def check(name: str, path: str, place: str, seen: list[set[str]], account: Account, samples: list[Any]) -> None:
    """That the place of a field is the truth."""
    every = set().union(*seen)
    if place == "written":
        assert every & {"text", "refused"}, f"{name} does not have {path}, which is said to be in it"
    elif place in ("left", "alters"):
        sentence = next(left.say for left in account.left if path in left.fields.split())
        told = [sentence(one) for sample in samples for one in (sample, *variants(sample, path))]
        assert any(told), f"{name} leaves {path} out, and says nothing"
        assert place == "left" or "refused" in every, f"{name} makes another VM by {path}, and does not refuse"
    else:
        assert not set().union(*(one for one in seen if "absent" not in one)), f"{name} has {path}, which is said to be none of its business: {place}"


@pytest.mark.parametrize("name", VM_FORMS)
def test_every_field_of_a_plan_has_its_place_in_every_form(name: str) -> None:
    write, say, makers, account = VM_FORMS[name]
    samples = [make() for make in makers]
    places = account.places()
    fields = list(fields_of(VmPlan))
    assert [field for field in fields if len(places.get(field, [])) != 1] == [], "fields with no place, or more than one"
    assert set(places) <= set(fields)
    for path in fields:
        check(name, path, places[path][0], [unlike(write, say, sample, path) for sample in samples], account, samples)


def test_every_form_has_its_account() -> None:
    assert set(VM_FORMS) == {*OF_VM, *FORMATS} - {"qmp"}  # which is no VM: commands that plug functions into one


_NOBODYS = {
    "what a VM asks of a host beside its SMMUs is for the engine's own resources": "product machine page_size memory cpus nodes",
    "whether a VM starts there is for `match` and the planner": (
        "kvm qemu qemu_accel qemu_properties smmus.cmdqv_fits smmus.cmdqv_functions pools.alone pools.assignable pools.undecided"
    ),
    "an assumption is no answer": "smmus.offers.assumed smmus.offers.compared smmus.offers.measured smmus.offers.automatic smmus.offers.source",
    "for people": "smmus.name smmus.numa_node pools.name pools.numa_node pools.code pools.reason pools.vf pools.pf",
}
_TOLD = (
    "functions_read smmus.kind smmus.offers.richest smmus.offers.told pools.accel pools.smmu pools.ids pools.blocked pools.to_make pools.addresses"
)
_KINDS = "functions_read pools.accel pools.smmu pools.ids pools.blocked pools.to_make pools.addresses"


def _only_kinds(written: str) -> dict[str, str]:
    return {"it lists the kinds of devices of which one is free, and nothing of the SMMUs": " ".join({*fields_of(HostSummary)} - {*written.split()})}


HOST_FORMS: dict[str, tuple[str, dict[str, str]]] = {
    "nfd": (f"{_TOLD} kernel smmus.granules smmus.granules_unknown pools.class_code", _NOBODYS),
    "opennebula-host": (_TOLD, _NOBODYS | {"granules are no attribute": "kernel smmus.granules smmus.granules_unknown pools.class_code"}),
    "opennebula-pci": (_KINDS + " pools.class_code", _only_kinds(_KINDS + " pools.class_code")),
    "kubevirt-permitted": (_KINDS, _only_kinds(_KINDS)),
}


@pytest.mark.parametrize("name", HOST_FORMS)
def test_every_field_of_a_summary_has_its_place_in_every_form(name: str) -> None:
    written, not_ours = HOST_FORMS[name]
    account = Account(written, (), not_ours)
    samples = [summarise(bound("h1", ats=True, ssidsize=20, oas=48))]
    fields = list(fields_of(HostSummary))
    places = account.places()
    assert [field for field in fields if len(places.get(field, [])) != 1] == []
    assert set(places) <= set(fields)
    for path in fields:
        check(name, path, places[path][0], [unlike(OF_HOST[name], REMARKS[name], sample, path) for sample in samples], account, samples)
