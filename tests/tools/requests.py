"""Requests for the tests of every room that takes a plan: sets that cover what plans are made of, random ones, and texts that do harm."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from hypothesis import strategies as st
from msgspec.structs import replace

from tests.tools.hosts import E1000E, NVME, PAIR, SMMU1, VF0, VF1, facts, plan, vm
from wizard.plan.model import VmPlan
from wizard.plan.properties import Properties
from wizard.plan.request import (
    DiskRequest,
    FunctionRequest,
    HotplugRequest,
    Layout,
    Mode,
    NetworkRequest,
    NodeRequest,
    VmRequest,
    VsmmuRequest,
)
from wizard.plan.rules.guest import name_fault

GIB = 1 << 30


NASTY = [
    "a b", "a,b", "a,,b", "a'b", 'a"b', "a\nb", "$(touch /tmp/x)", "`id`", "a\\b", "\x1b[31m", "漢字 ü", "\u202eabc", "a=b", "nbd:x", "-x", "#", "~",
    "*?[", "a\tb",
]  # fmt: skip
SETS: dict[str, VmRequest] = {
    "two SMMUs": vm(NVME, VF0, E1000E, disks=(DiskRequest(path="/d,1"),), networks=(NetworkRequest(), NetworkRequest(kind="tap", source="tap0"))),
    "per function": vm(NVME, VF0, VF1, E1000E, layout=Layout.PER_FUNCTION),
    "group without": vm(*PAIR, mode=Mode.NONE),
    "beside": vm(NVME, FunctionRequest(host=E1000E, mode=Mode.NONE, ats="off", rom=False)),
    "virtio-iommu": vm(NVME, E1000E, mode=Mode.VIRTIO_IOMMU),
    "hot-plug": vm(NVME, hotplug=(HotplugRequest(functions=(VF0,), bus_reserve=2), HotplugRequest(functions=(E1000E,)))),
    "numa": vm(NVME, E1000E, cpus=5, memory=2 * GIB, hugepages=2 << 20, numa=(
        NodeRequest(memory=GIB, cpus="0,2-3"), NodeRequest(memory=GIB, cpus="1,4"), NodeRequest(memory=0, initiator="dev1"),
    )),
    "auto": vm(NVME, properties=Properties(ats="auto", ril="auto", ssidsize="auto", oas="auto", cmdqv="auto")),
    "numbers": vm(NVME, E1000E, mmio_window=1 << 40, vsmmus=(
        VsmmuRequest(id="first", smmu="smmu3.0x000000000c000000", bus="left", bus_nr=250, slot=30),
        VsmmuRequest(id="second", smmu="smmu3.0x000000000c020000", bus="right", bus_nr=1, slot=9),
    )),
}  # fmt: skip
names = st.text(min_size=1, max_size=20).filter(lambda text: name_fault(text) is None)
free = st.one_of(st.sampled_from(NASTY), st.text(max_size=30)).filter(lambda text: "\0" not in text)


def harmless(lines: Iterable[str]) -> bool:
    """No control, format or private character, and no line separator, that would do something to a terminal."""
    return all(unicodedata.category(c)[0] != "C" and unicodedata.category(c) not in ("Zl", "Zp") for line in lines for c in line)


def planned_ok(request: VmRequest, *, errors: bool = False) -> VmPlan:
    made = plan(request).vms[0]
    assert errors or made.ok, [finding.what for finding in made.errors]
    return made


ENDPOINTS = [function.address for function in facts("arm64-virt-canwbs").functions]
sizes = st.sampled_from([GIB, 2 * GIB, 3 * GIB // 2])
switches = st.sampled_from([None, "on", "off", "auto"])
widths = st.sampled_from([None, 0, 20, "auto"])
free_ports = st.builds(HotplugRequest, functions=st.sampled_from([(NVME,), (E1000E,), ()]), bus_reserve=st.integers(0, 3))
requests = st.builds(
    VmRequest,
    name=st.sampled_from(["a", "b", "web 1", "döner"]),
    functions=st.lists(st.sampled_from(ENDPOINTS), unique=True, max_size=6).map(lambda found: tuple(FunctionRequest(host=f) for f in found)),
    memory=sizes,
    cpus=st.integers(1, 8),
    mode=st.sampled_from(Mode),
    fall_back=st.booleans(),
    layout=st.sampled_from(Layout),
    split=st.sampled_from([(), (SMMU1,)]),
    properties=st.builds(Properties, ats=switches, ril=switches, ssidsize=widths, oas=st.sampled_from([None, 44, "auto"])),
    disks=st.lists(st.sampled_from(["/d", "/e"]), unique=True, max_size=2).map(lambda found: tuple(DiskRequest(path=p) for p in found)),
    networks=st.lists(st.just(NetworkRequest()), max_size=2).map(tuple),
    hotplug=st.lists(free_ports, max_size=2).map(tuple),
    hugepages=st.sampled_from([None, 2 << 20]),
    numa=st.sampled_from([None, (), (NodeRequest(memory=GIB, cpus="0"), NodeRequest(memory=GIB))]),
)


def without_contradiction(request: VmRequest) -> VmRequest:
    """What belongs to vSMMUs left out where the request has none: a plan with that error says nothing about the rest."""
    return request if request.mode is Mode.ACCEL else replace(request, layout=Layout.PER_SMMU, split=(), properties=Properties())
