"""Peer to peer: the way between two functions as recorded hosts have it, and whether a plan's functions reach each other's BARs."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.tools.hosts import E1000E, NVME, PAIR, PF, VF0, VF1, codes, facts, host, kernel, plan, planned, qemu_program, vm
from wizard.arch.pci import ExtCap
from wizard.host.between import Way, between, neighbours
from wizard.host.build import host_of
from wizard.host.model import Host
from wizard.plan.model import VmPlan
from wizard.plan.peers import Pair, Reach, bars_mapped, pair_line, pairs_of
from wizard.plan.properties import Properties
from wizard.plan.request import FunctionRequest, Mode


# As the machines were built (topology.args of the recordings) and as their kernels grouped them.
@pytest.mark.parametrize(
    ("name", "first", "second", "way", "redirected", "path"),
    [
        ("arm64-virt-canwbs", NVME, E1000E, Way.SMMUS, True, ("0000:10:01.0", "0000:40:00.0")),
        ("arm64-virt-canwbs", NVME, PF, Way.ROOT, True, ("0000:10:01.0", "0000:10:00.0")),  # root ports with ACS
        ("arm64-virt-canwbs", PF, VF0, Way.DEVICE, True, ("0000:10:00.0",)),
        ("arm64-virt-canwbs", *PAIR, Way.DEVICE, False, ("0000:80:00.0",)),  # a card of two functions without ACS: one group
        ("arm64-virt-canwbs", "0000:83:01.0", "0000:83:02.0", Way.BUS, False, ("0000:82:00.0",)),
        ("arm64-dt", "0000:06:00.0", "0000:07:00.0", Way.SWITCH, False, ("0000:05:00.0", "0000:04:00.0", "0000:05:01.0")),  # groups 11 and 12
        ("gb200", "0009:01:00.0", "0019:01:00.0", Way.SOCKETS, True, ("0009:00:00.0", "0019:00:00.0")),
    ],
)
def test_the_way(name: str, first: str, second: str, way: Way, redirected: bool, path: tuple[str, ...]) -> None:
    """The same in both directions."""
    functions = host(name).functions
    there, back = between(functions, first, second), between(functions, second, first)
    assert (there.way, there.redirected, there.path) == (way, redirected, path)
    assert (back.way, back.redirected, back.path) == (way, redirected, path[::-1])


def with_acs(control: int) -> Host:
    """The switch of the recording, with an ACS capability at its two downstream ports as a root port there has it, its control as given."""
    old = facts("arm64-dt")
    root = host("arm64-dt").functions["0000:00:02.0"].config
    found = root.find(ExtCap.ACS)
    assert found is not None
    capability = root.data[found.offset + 4 : found.offset + 6]

    def port(config: str) -> str:
        data = bytearray(bytes.fromhex(config).ljust(4096, b"\0"))
        last = 0x100
        while next_ := int.from_bytes(data[last + 2 : last + 4], "little") >> 4:
            last = next_
        data[last + 2 : last + 4] = (int.from_bytes(data[last + 2 : last + 4], "little") & 0xF | 0xF00 << 4).to_bytes(2, "little")
        data[0xF00:0xF08] = int(ExtCap.ACS).to_bytes(2, "little") + b"\x01\x00" + capability + control.to_bytes(2, "little")
        return bytes(data).rstrip(b"\0").hex()

    ports = ("0000:05:00.0", "0000:05:01.0")
    return host_of(replace(old, functions=tuple(replace(f, config=port(f.config)) if f.address in ports else f for f in old.functions)))


# Bits of the ACS Control register (PCIe 6.0, 7.7.11.3): SV 0, TB 1, RR 2, CR 3, UF 4, EC 5, DT 6.
@pytest.mark.parametrize(("control", "redirected", "direct"), [(0x1D, True, False), (0x5D, True, True), (0x19, False, False)])
def test_acs_of_the_switch_decides(control: int, redirected: bool, direct: bool) -> None:
    found = between(with_acs(control).functions, "0000:06:00.0", "0000:07:00.0")
    assert (found.redirected, found.direct_translated) == (redirected, direct)


def test_ports_that_were_not_read_are_unknown() -> None:
    old = facts("arm64-dt")
    cut = tuple(replace(f, config=f.config[:128], config_length=64) for f in old.functions)
    assert between(host_of(replace(old, functions=cut)).functions, "0000:06:00.0", "0000:07:00.0").redirected is None


def test_a_snapshot_whose_paths_go_in_circles_is_answered() -> None:
    old = facts("arm64-dt")
    ups = {"0000:06:00.0": "0000:07:00.0", "0000:07:00.0": "0000:06:00.0"}
    turned = [replace(f, path=f"pci0000:00/{ups.get(f.address, f.address)}/{f.address}") for f in old.functions]
    functions = host_of(replace(old, functions=tuple(turned))).functions
    assert between(functions, "0000:06:00.0", "0000:07:00.0").way is Way.SWITCH
    assert [between(functions, first, second).first for first in ups for second in functions] == [first for first in ups for _ in functions]


def test_the_nearest_of_a_gpu_come_first() -> None:
    found = neighbours(host("gb200"), host("gb200").functions["0009:01:00.0"])
    assert [one.way for one in found] == sorted((one.way for one in found), key=list(Way).index)
    assert {one.second for one in found} >= {"0008:01:00.0", "0018:01:00.0", "0019:01:00.0"}
    assert neighbours(host(), host().functions[NVME]) == []  # a disk's peers are no question without a GPU


def only(made: VmPlan, on: Host) -> Pair:
    (pair,) = pairs_of(on, made)
    return pair


DMABUF = {"CONFIG_VFIO_PCI_DMABUF": "y"}


@pytest.mark.parametrize(
    ("config", "qemu", "reach", "words"),
    [
        (DMABUF, "11.1.2", Reach.CAN, "map BARs by dma-buf"),
        ({"CONFIG_VFIO_PCI_DMABUF": "n"}, "11.1.2", Reach.CANNOT, "CONFIG_VFIO_PCI_DMABUF"),
        ({}, "11.1.2", Reach.UNKNOWN, "was not read"),  # of a configuration of chosen lines
        (DMABUF, "10.2.1", Reach.CANNOT, "QEMU 10.2"),
        (DMABUF, "11.0.2", Reach.UNKNOWN, "QEMU 11.0"),
    ],
)
def test_kernel_and_qemu(config: dict[str, str], qemu: str, reach: Reach, words: str) -> None:
    made_of = kernel(4096, **config).facts
    on = host_of(replace(made_of, kernel=replace(made_of.kernel, config_partial=True), programs=(qemu_program(qemu),)))
    made = planned(NVME, E1000E, on=on)
    pair = only(made, on)
    assert pair.reach is reach
    assert words in pair.reason
    assert ("peer-to-peer-unmapped" in codes(made)) is (reach is Reach.CANNOT)
    assert (bars_mapped(on, made).value is True) is (reach is Reach.CAN)


def on_driver(*drivers: str, page_size: int = 4096) -> Host:
    old = kernel(page_size, **DMABUF).facts
    on = dict(zip((NVME, E1000E), drivers, strict=False))
    return host_of(
        replace(old, functions=tuple(replace(f, driver=on[f.address], vfio_dev=("vfio1",)) if f.address in on else f for f in old.functions))
    )


def test_a_driver_without_dma_bufs_is_reached_by_nobody() -> None:
    """vfio_pci_device_ops.get_dmabuf_phys is vfio-pci's and nvgrace_gpu_vfio_pci's alone: others answer EOPNOTSUPP."""
    for drivers, reach, only_to in (
        (("vfio-pci", "vfio-pci"), Reach.CAN, None),
        (("vfio-pci", "mlx5_vfio_pci"), Reach.ONE_WAY, NVME),
        (("mlx5_vfio_pci", "mlx5_vfio_pci"), Reach.CANNOT, None),
    ):
        on = on_driver(*drivers)
        pair = only(planned(NVME, E1000E, on=on), on)
        assert (pair.reach, pair.only_to) == (reach, only_to)


def test_a_bar_below_a_page_of_the_host_is_reached_by_nobody() -> None:
    """The recorded NVMe disk has 16 KiB, the e1000e 128 KiB: with pages of 64 KiB the first can't be mapped (VFIO_REGION_INFO_FLAG_MMAP)."""
    on = on_driver("vfio-pci", "vfio-pci", page_size=65536)
    pair = only(planned(NVME, E1000E, on=on), on)
    assert (pair.reach, pair.only_to) == (Reach.ONE_WAY, E1000E)
    assert "a page of this host 64K" in pair.reason


def test_what_ats_changes() -> None:
    """Of functions with ATS behind vSMMUs with ats=on: GB200's GPUs, whose published VM has both."""
    gpus, on = ("0009:01:00.0", "0019:01:00.0"), host("gb200")
    assert "can ask ahead, which saves the walk" in only(planned(*gpus, on=on, assume_accel=True), on).ats
    assert "Neither has ATS" in only(planned(*gpus, on=on, assume_accel=True, properties=Properties(ats="off")), on).ats
    assert "Without an accelerated vSMMU" in only(planned(NVME, E1000E, mode=Mode.NONE), host()).ats


def test_pairs_are_those_of_one_vm_and_of_what_is_there() -> None:
    made = plan(vm(NVME, VF0, VF1), vm(E1000E, name="web"))
    pairs = [pairs_of(host(), one) for one in made.vms]
    assert [(pair.first, pair.second) for pair in pairs[0]] == [(NVME, VF0), (NVME, VF1), (VF0, VF1)]
    assert pairs[1] == ()
    before = host("vfio-arm64-virt-canwbs")  # its VFs are still to be made
    assert pairs_of(before, planned(NVME, VF0, on=before)) == ()


def test_one_line() -> None:
    on = on_driver("vfio-pci", "mlx5_vfio_pci")
    line = pair_line(only(planned(FunctionRequest(host=NVME), E1000E, on=on), on))
    assert line == f"{NVME} and {E1000E}: one way (only to BARs of {NVME}), over two root complexes with an SMMU each"


def test_of_many_pairs_the_nearest_are_told_and_the_rest_counted() -> None:
    """Eight functions of GB200, four GPUs and four NICs: 6 pairs of GPUs and 16 with a NIC."""
    on = host("gb200")
    functions = [address for address, function in on.functions.items() if function.class_code >> 16 in (0x02, 0x03)]
    told = [finding.what for finding in planned(*functions, on=on, assume_accel=True).findings if finding.code == "peer-to-peer"]
    assert len(functions) == 8
    assert len(told) == 6
    assert all(Way.SMMUS in what for what in told)  # those on one node come before those on two
    assert told[-1].endswith("(and 16 more pairs: plan --json).")
