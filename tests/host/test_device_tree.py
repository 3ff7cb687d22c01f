"""Hosts with a device tree: StreamIDs against the stream table of the running kernel, what is refused for certain, and what is said.

Recordings of Linux 7.2.13 on QEMU's virt machine without ACPI; stream-table.txt was read out of its memory, for two maps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from tests.tools import hosts
from wizard.facts.model import Facts, IommuDevice, TreeNode
from wizard.facts.snapshot import load
from wizard.host.build import host_of
from wizard.host.devicetree import DeviceTree
from wizard.host.doctor import diagnose
from wizard.host.known import Source
from wizard.host.model import Accel, Host

DATA = Path(__file__).parent / "data" / "device-tree"
BRIDGE, SMMU_NODE, ITS = "/pcie@10000000", "/smmuv3@9050000", "/intc@8000000/its@8080000"
SMMU = "smmu3.0x0000000009050000"
NVME, NIC, PAIR = "0000:02:00.0", "0000:06:00.0", ("0000:03:00.0", "0000:03:00.1")
PHANDLE, LOST = 0x8005, 0x7777


@cache
def facts(name: str = "arm64-dt") -> Facts:
    """A recording."""
    return hosts.facts(name) if name == "arm64-dt" else load(str(DATA / f"{name}.json"))


def cells(*numbers: int) -> str:
    """Cells of a property, as the tree holds them."""
    return b"".join(number.to_bytes(4, "big") for number in numbers).hex()


def with_node(old: Facts, path: str, **properties: str | None) -> Facts:
    """Properties of one node replaced, or taken away; their names with underscores."""

    def one(node: TreeNode) -> TreeNode:
        if node.path != path:
            return node
        changed = {name.replace("_", "-"): value for name, value in properties.items()}
        return replace(node, properties={name: value for name, value in ({**node.properties, **changed}).items() if value is not None})

    assert not isinstance(old.device_tree_nodes, msgspec.UnsetType)
    return replace(old, device_tree_nodes=tuple(one(node) for node in old.device_tree_nodes))


def unlinked(old: Facts, *addresses: str) -> Facts:
    """Functions that the kernel left without an IOMMU; its log says of them what it says of nobody's group."""
    functions = tuple(replace(f, iommu=None, iommu_group=None) if f.address in addresses else f for f in old.functions)
    iommus = tuple(replace(i, members=tuple(m for m in i.members if m not in addresses)) for i in old.iommus)
    groups = tuple(replace(g, devices=tuple(d for d in g.devices if d not in addresses)) for g in old.groups)
    log = tuple(line for line in old.log if not any(f"{address}: Adding to iommu group" in line for address in addresses))
    return replace(old, functions=functions, iommus=iommus, groups=groups, log=log)


def unprobed(old: Facts) -> Facts:
    """Nobody asked iommufd."""
    return replace(old, hw_info=())


def reasons(host: Host, address: str) -> dict[str, str]:
    """Code -> what and why."""
    return {finding.code: f"{finding.what} {finding.why} {finding.fix}" for finding in host.verdict(address).reasons}


def stream_table() -> list[tuple[str, dict[int, bool]]]:
    """(the map as text, StreamID -> whether the kernel attached a domain to it) for each of the two boots."""
    found = []
    for part in re.split(r"^# (?=base|maps)", (DATA / "stream-table.txt").read_text(), flags=re.MULTILINE)[1:]:
        sids = {int(sid, 16): "CFG=5" in rest for sid, rest in re.findall(r"^sid (0x\w+): (.*)$", part, re.MULTILINE)}
        found.append((part.partition("\n")[0], sids))
    return found


@pytest.mark.parametrize("boot", [0, 1], ids=["one row", "in pieces"])
def test_stream_ids_are_those_of_the_kernels_own_stream_table(boot: int) -> None:
    """Every StreamID that was looked at is a function's if and only if the kernel has an entry for it, aliases included."""
    words, sids = stream_table()[boot]
    rows = re.findall(r"<(0x\w+|0) (?:&smmu )?(0x\w+|0) (0x\w+|0)>", words)
    assert rows
    numbers = [number for first, output, length in rows for number in (int(first, 16), PHANDLE, int(output, 16), int(length, 16))]
    host = host_of(with_node(facts(), BRIDGE, iommu_map=cells(*numbers)))
    refused = "0000:09:02.0"  # its alias was taken: the kernel has no domain for it
    given = {stream for address, function in host.functions.items() if address != refused for stream in function.stream_ids}
    assert {sid for sid in sids if sid in given} == {sid for sid, attached in sids.items() if attached}
    assert all(function.stream_source.source is Source.DEVICE_TREE for function in host.functions.values() if function.stream_ids)
    if boot == 1:
        assert host.functions[NIC].stream_ids == ()
        assert host.functions[PAIR[0]].stream_ids == (0x4300,)


def test_a_hole_is_named_by_the_kernels_own_line() -> None:
    """As the kernel says it (of_map_id()), and for a function of which one alias alone is in the hole."""
    holed = cells(0, PHANDLE, 0, 0x600, 0x700, PHANDLE, 0x700, 0x200)
    host = host_of(unlinked(with_node(facts(), BRIDGE, iommu_map=holed), NIC, "0000:09:01.0"))
    assert f"OF: {BRIDGE}: no iommu-map translation for id 0x600" in reasons(host, NIC)["no-smmu"]
    assert host.functions["0000:09:01.0"].stream_ids == ()
    assert f"OF: {BRIDGE}: no iommu-map translation for id 0x908" in reasons(host, "0000:09:01.0")["no-smmu"]
    assert host.verdict(NIC).assignable is False


def test_a_mask_that_folds_two_functions_blames_no_bridge() -> None:
    """Both are PCI Express functions; the kernel's line names who was first."""
    line = f"[    9.000000] pci {PAIR[1]}: Aliasing StreamID 0x300 (from {PAIR[0]}) unsupported"
    old = with_node(unlinked(facts(), PAIR[1]), BRIDGE, iommu_map_mask=cells(0xFFF8))
    host = host_of(replace(old, log=(*old.log, line)))
    assert [host.functions[address].stream_ids for address in PAIR] == [(0x300,), (0x300,)]
    for address, code in zip(PAIR, ("stream-id-shared", "stream-id-taken"), strict=True):
        said = reasons(host, address)[code]
        assert "conventional" not in said
        assert "iommu-map-mask" in said
    behind = reasons(host_of(facts()), "0000:09:02.0")["stream-id-taken"]
    assert "conventional PCI bridge" in behind
    assert "iommu-map-mask" not in behind


@pytest.mark.parametrize("name", ["arm64-dt", "vfio-arm64-dt"])
def test_nesting_is_refused_for_certain_whatever_is_assumed(name: str) -> None:
    """The real kernel answered EOPNOTSUPP for each (iommufd-answers of the recording): without a probe the plan knows it all the same."""
    host = host_of(unprobed(facts(name)))
    assert host.verdict(NVME).accel is Accel.NO
    assert "no-canwbs" in reasons(host, NVME)
    made = hosts.plan(hosts.vm(NVME, assume_accel=True), on=host)
    assert [finding.code for finding in made.findings if finding.severity == "error" and finding.code == "accel-refused"]


def test_what_the_tree_says_of_coherency_is_a_fact() -> None:
    """Inherited from the nearest node that says anything; absent everywhere is a no, a tree that was not read is not."""
    silent = replace(unprobed(facts()), log=(), moment=replace(facts().moment, log=()), log_complete=False)

    def walks(old: Facts) -> tuple[object, str]:
        known = host_of(old).smmus[SMMU].known("coherent_walks")
        return known.value, known.note

    without = with_node(silent, SMMU_NODE, dma_coherent=None)
    assert walks(without) == (True, "the device tree says dma-coherent at /")
    assert walks(with_node(without, "/", dma_coherent=None))[0] is False
    assert walks(with_node(without, SMMU_NODE, dma_noncoherent=""))[0] is False
    assert walks(replace(silent, device_tree_nodes=msgspec.UNSET))[0] is None
    # __of_get_dma_parent(): an interconnect called dma-mem stands in the place of the node above, be it a circle.
    ring = with_node(without, SMMU_NODE, interconnects=cells(0x8004), interconnect_names=b"dma-mem\0".hex())
    carried = with_node(with_node(ring, ITS, dma_noncoherent=""), ITS, **{"#interconnect_cells": cells(0)})
    assert walks(carried)[0] is False
    circle = with_node(ring, ITS, interconnects=cells(0x8004), interconnect_names=b"dma-mem\0".hex(), **{"#interconnect_cells": cells(0)})
    assert walks(circle)[0] is None
    host = host_of(unprobed(replace(facts("arm64-dt-noncoherent"), log=())))
    assert host.verdict(NVME).assignable is False
    assert "smmu-not-coherent" in reasons(host, NVME)


def poorer() -> Iterator[tuple[str, Facts]]:
    """Recordings with less and less in them."""
    for name in ("arm64-dt", "vfio-arm64-dt", "arm64-dt-noncoherent"):
        whole = facts(name)
        for label, less in (
            ("whole", {}),
            ("no probe", {"hw_info": ()}),
            ("no log", {"hw_info": (), "log": (), "log_complete": False, "moment": replace(whole.moment, log=())}),
            ("no nodes", {"hw_info": (), "device_tree_nodes": msgspec.UNSET}),
            ("no iommus", {"iommus": (), "hw_info": (), "functions": unlinked(whole, *(f.address for f in whole.functions)).functions}),
            ("no groups", {"groups": (), "hw_info": (), "unread": {"/sys/kernel/iommu_groups": "absent", "/sys/class/iommu": "absent"}}),
        ):
            yield f"{name}, {label}", replace(whole, **less)


@pytest.mark.parametrize(("label", "old"), [*poorer()], ids=[label for label, _ in poorer()])
def test_nobody_is_sent_for_what_a_host_without_acpi_has_not(label: str, old: Facts) -> None:
    """No sentence asks for an IORT, its flags, or for root where every user can read the tree."""
    host = host_of(old)
    said = [finding for area in diagnose(host).areas for item in area.findings for finding in (item.finding,)]
    said += [finding for address in host.functions for finding in host.verdict(address).reasons]
    assert said
    for finding in said:
        text = " ".join((finding.what, finding.why, finding.fix))
        assert not re.search(r"IORT|COHACC|firmware table|RMR", text), (label, finding.code, text)
        assert finding.code != "stream-ids-unknown" or "sudo" not in finding.fix


def test_ats_and_interrupts_are_the_trees_word() -> None:
    """of_pci_check_device_ats(); an ITS by msi-map, and what else is no ITS."""
    assert host_of(facts()).functions[NVME].known("root_complex_ats").value is False
    assert host_of(with_node(facts(), BRIDGE, ats_supported="")).functions[NVME].known("root_complex_ats").value is True
    silent = replace(unprobed(facts()), log=())
    assert "msi-isolation-unknown" not in reasons(host_of(silent), NVME)
    v2m = with_node(silent, ITS, compatible=b"arm,gic-v2m-frame\0".hex())
    assert "msi-not-isolated" in reasons(host_of(v2m), NVME)


DAMAGE: dict[str, tuple[str, dict[str, str | None], bool | None]] = {
    # what is wrong -> (node, properties, whether it is known that the NVMe has no StreamID; None: it has one)
    "half a row": (BRIDGE, {"iommu_map": cells(0, PHANDLE, 0)}, True),
    "half a cell": (BRIDGE, {"iommu_map": cells(0, PHANDLE, 0, 0x10000) + "00"}, True),
    "nothing": (BRIDGE, {"iommu_map": ""}, True),
    "no map": (BRIDGE, {"iommu_map": None}, True),
    "a phandle of nobody": (BRIDGE, {"iommu_map": cells(0, LOST, 0, 0x10000)}, False),
    "a base outside the mask": (BRIDGE, {"iommu_map": cells(0x100, PHANDLE, 0, 0x10000), "iommu_map_mask": cells(0xFF)}, True),
    "a mask of two bytes, which does not count": (BRIDGE, {"iommu_map_mask": "ffff"}, None),
    "rows that overlap: the first one": (BRIDGE, {"iommu_map": cells(0x200, PHANDLE, 0x200, 1, 0, PHANDLE, 0x8000, 0x10000)}, None),
    "a length of nothing": (BRIDGE, {"iommu_map": cells(0, PHANDLE, 0, 0)}, True),
    "two cells for an IOMMU": (SMMU_NODE, {"#iommu_cells": cells(2)}, False),
    "an IOMMU that is switched off": (SMMU_NODE, {"status": b"disabled\0".hex()}, True),
    "an IOMMU of another kind": (SMMU_NODE, {"compatible": b"arm,mmu-500\0".hex()}, True),
    "a map that leads to the bridge itself": (BRIDGE, {"phandle": cells(0x42), "iommu_map": cells(0, 0x42, 0, 0x10000)}, True),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_maps_are_bounded_and_said(name: str) -> None:
    """As of_map_id() of Linux 7.3 ends on each; where releases differ the answer is unknown."""
    path, properties, known = DAMAGE[name]
    function = host_of(with_node(facts(), path, **properties)).functions[NVME]
    if known is None:
        assert function.stream_ids == (0x200,)
    else:
        assert function.stream_ids == ()
        assert function.stream_source.note
        assert (function.stream_source.source is Source.DEVICE_TREE) is known


def test_a_platform_device_with_the_same_stream_id_is_seen() -> None:
    """`iommus` of what else the SMMU serves: of_iommu_configure_dev()."""
    node = TreeNode(path="/gpu@0", properties={"iommus": cells(PHANDLE, 0x200, PHANDLE, 0x200)}, devices=("platform/0.gpu",))
    old = facts()
    assert not isinstance(old.device_tree_nodes, msgspec.UnsetType)
    iommus = tuple(replace(iommu, members=(*iommu.members, "0.gpu")) for iommu in old.iommus if isinstance(iommu, IommuDevice))
    host = host_of(replace(old, device_tree_nodes=(*old.device_tree_nodes, node), iommus=iommus))
    assert "0.gpu" in reasons(host, NVME)["stream-id-shared"]


BOARDS = {
    # fixture -> (function, its StreamIDs, a reason): by the device trees of Linux 7.3.4 and RID arithmetic
    "rk3588-rock-5b": ("0004:41:00.0", (0x4100,), "smmu-not-coherent"),
    "lx2160a": ("0002:01:00.0", (), "iommu-not-smmuv3"),
    "tegra264": ("0001:01:00.0", (0x10100,), "canwbs-unknown"),
    "raspberry-pi-5": ("0002:01:00.0", (), "no-iommu-map"),
}


@pytest.mark.parametrize("name", BOARDS)
def test_boards_are_read_as_their_device_trees_say(name: str) -> None:
    """And nobody is sent for an IORT there."""
    address, streams, code = BOARDS[name]
    host = hosts.host(name)
    assert host.functions[address].stream_ids == streams
    said = reasons(host, address)
    assert code in said
    assert not re.search(r"IORT|COHACC", " ".join(said.values()))


def test_a_hole_is_told_where_the_iommu_is_of_another_kind() -> None:
    """Linux's own LX2160A tree maps requester ID 0 alone, until the boot loader mends it."""
    assert "OF: /soc/pcie@3600000: no iommu-map translation for id 0x100" in reasons(hosts.host("lx2160a"), "0002:01:00.0")["iommu-not-smmuv3"]


@pytest.mark.parametrize("name", ["arm64-dt", "tegra264", "rk3588-rock-5b"])
def test_an_smmu_is_named_by_where_it_lies(name: str) -> None:
    """Without a device to link it to sysfs: of_translate_address(), through the buses above it."""
    whole = hosts.facts(name)
    assert not isinstance(whole.device_tree_nodes, msgspec.UnsetType)
    bare = replace(whole, device_tree_nodes=tuple(replace(node, devices=()) for node in whole.device_tree_nodes))
    tree = DeviceTree(bare)
    names = {tree.name_of(node) for node in tree.smmus()}
    assert {iommu.name for iommu in whole.iommus} <= names
    broken = replace(bare, device_tree_nodes=tuple(replace(node, properties={**node.properties, "reg": "00"}) for node in whole.device_tree_nodes))
    assert {DeviceTree(broken).address(node) for node in DeviceTree(broken).smmus()} == {None}
