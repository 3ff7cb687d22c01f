"""Who else has a function: targets, storage through its ports, mediated devices, libvirt, RDMA, programs on VFIO, each as its source writes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.tools.hosts import facts as fixture
from tests.tools.processes import ending
from tests.tools.systree import NIC, NVME, OTHER, PORT, Sys
from wizard.facts.libvirtfiles import domain_of, pool_of
from wizard.facts.model import InUse
from wizard.facts.opened import of_vfio
from wizard.facts.pseudonym import Secrets
from wizard.facts.rdma import of_resources
from wizard.facts.record import from_tree
from wizard.facts.redact import redact
from wizard.facts.snapshot import encode
from wizard.facts.source import open_tree
from wizard.facts.taken import route_to
from wizard.facts.tree import DirectoryTree
from wizard.facts.vfio import guest_of, holders

VF = "0000:03:02.0"


@pytest.fixture
def host(tmp_path: Path) -> Sys:
    """Two NVMe disks and two ports of a card; the first port reaches 192.0.2.0/24 and fd00::/64, the second everything else."""
    host = Sys(tmp_path)
    for number, address in ((0, NVME), (1, OTHER)):
        place = f"pci0000:00/{address}/nvme/nvme{number}/nvme{number}n1"
        host.disk(f"nvme{number}n1", place, number=f"259:{number}")
        host.file(f"devices/pci0000:00/{address}/nvme/nvme{number}/transport", "pcie")
        host.link(f"class/nvme/nvme{number}", f"devices/pci0000:00/{address}/nvme/nvme{number}")
    host.interface("eth0", f"pci0000:00/{NIC}/net/eth0")
    host.interface("eth1", f"pci0000:00/{PORT}/net/eth1")
    return host


def routes(host: Sys) -> None:
    """As fib_route_seq_show() and rt6_info_route() print them; a /24 and what it is inside of, in the wrong order."""
    host.file(
        "proc/net/route",
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth1\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth1\t000000C0\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n"
        "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
    )
    host.file(
        "proc/net/ipv6_route",
        f"fd{'0' * 30} 40 {'0' * 32} 00 {'0' * 32} 00000100 00000001 00000000 00000001     eth0\n"
        f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} ffffffff 00000001 00000000 00200200       lo",
    )


@pytest.mark.parametrize(
    ("peer", "interface"),
    [
        ("192.0.2.9", "eth0"),
        ("192.0.3.9", "eth1"),
        ("8.8.8.8", "eth1"),
        ("fd00::9", "eth0"),
        ("2001:db8::1", None),
        ("nas", None),
        (None, None),
    ],
)
def test_the_longest_prefix_is_the_way(peer: str | None, interface: str | None, host: Sys) -> None:
    routes(host)
    assert route_to(open_tree(str(host.root)), peer) == interface


def of(host: Sys, kind: str) -> set[tuple[str, str]]:
    return {(address, detail) for address, of_kind, detail in host.uses() if of_kind == kind}


def test_disks_that_the_kernel_exports(host: Sys) -> None:
    """Neither mounts nor holders show them: nvmet and LIO open the device within the kernel. A namespace that is off has nothing open."""
    nqn = "sys/kernel/config/nvmet/subsystems/nqn.2014-08.org.example:pool"
    for number, path, enabled in ((1, "/dev/nvme0n1", "1"), (2, "/dev/nvme1n1", "0")):
        host.file(f"kernel/config/nvmet/subsystems/{nqn.rpartition('/')[2]}/namespaces/{number}/device_path", path)
        host.file(f"kernel/config/nvmet/subsystems/{nqn.rpartition('/')[2]}/namespaces/{number}/enable", enabled)
    found = of(host, "export")
    assert found == {(NVME, "exports /dev/nvme0n1 as NVMe namespace 1")}
    assert [use.owner for use in from_tree(open_tree(str(host.root))).in_use] == ["nqn.2014-08.org.example:pool"]
    host.file("kernel/config/nvmet/subsystems/all/passthru/device_path", "/dev/nvme1")
    host.file("kernel/config/nvmet/subsystems/all/passthru/enable", "1")
    assert of(host, "export") - found == {(OTHER, "passes /dev/nvme1 through")}
    host.mapped("dm-0", "vg-lun", ("nvme1n1",))
    host.file("kernel/config/target/core/iblock_0/lun/udev_path", "/dev/mapper/vg-lun")
    host.file("kernel/config/target/core/iblock_0/lun/enable", "1")
    assert (OTHER, "exports /dev/mapper/vg-lun as a SCSI disk (LIO)") in of(host, "export")


def test_storage_that_is_reached_through_a_port(host: Sys) -> None:
    """Software iSCSI hangs below a platform device, an offload card's below the function; NVMe-oF below a virtual one, FC named by its port."""
    routes(host)
    for number, place, peer in ((1, "platform/host7", "192.0.2.9"), (2, f"pci0000:00/{OTHER}/host8", "10.0.0.1")):
        base = f"{place}/session{number}"
        host.file(f"devices/{base}/iscsi_session/session{number}/targetname", f"iqn.2001-04.com.example:disk{number}")
        host.link(f"class/iscsi_session/session{number}", f"devices/{base}/iscsi_session/session{number}")
        host.file(f"devices/{base}/connection{number}:0/iscsi_connection/connection{number}:0/address", peer)
        host.link(f"class/iscsi_connection/connection{number}:0", f"devices/{base}/connection{number}:0/iscsi_connection/connection{number}:0")
    for name, transport, address in (
        ("nvme2", "tcp", "traddr=fd00::9,trsvcid=4420,src_addr=fd00::2"),
        ("nvme3", "rdma", "traddr=10.1.1.1,trsvcid=4420,host_iface=eth0"),
        ("nvme4", "fc", "traddr=nn-0x20:pn-0x21,host_traddr=nn-0x100000109b1b2c3d:pn-0x100000109b1b2c3e"),
        ("nvme5", "loop", ""),
    ):
        host.file(f"devices/virtual/nvme-fabrics/ctl/{name}/transport", transport)
        host.file(f"devices/virtual/nvme-fabrics/ctl/{name}/address", address)
        host.link(f"class/nvme/{name}", f"devices/virtual/nvme-fabrics/ctl/{name}")
    host.file(f"devices/pci0000:00/{OTHER}/host9/fc_host/host9/port_name", "0x100000109b1b2c3e")
    host.link("class/fc_host/host9", f"devices/pci0000:00/{OTHER}/host9/fc_host/host9")
    assert of(host, "storage") == {
        (NIC, "iSCSI session 1 goes through it"),
        (OTHER, "iSCSI session 2 goes through it"),
        (NIC, "the NVMe-oF controller nvme2 (tcp) is reached through it"),
        (NIC, "the NVMe-oF controller nvme3 (rdma) is reached through it"),
        (OTHER, "the NVMe-oF controller nvme4 (fc) is reached through it"),
    }


def test_what_stands_on_a_port_without_an_address(host: Sys) -> None:
    """A VLAN that only a bridge of VMs has, a macvtap: no address, no master. The port of a bond is told once."""
    host.interface("eth0.7", "virtual/net/eth0.7", lower=("eth0",), master="br7")
    host.file("devices/virtual/net/eth0.7/uevent", "DEVTYPE=vlan\nINTERFACE=eth0.7")
    host.link(f"devices/pci0000:00/{NIC}/net/eth0/upper_eth0.7", "devices/virtual/net/eth0.7")
    host.interface("bond0", "virtual/net/bond0", lower=("eth1",))
    host.link(f"devices/pci0000:00/{PORT}/net/eth1/upper_bond0", "devices/virtual/net/bond0")
    host.link(f"devices/pci0000:00/{PORT}/net/eth1/master", "devices/virtual/net/bond0")
    assert of(host, "holder") == {(NIC, "the vlan eth0.7 stands on eth0"), (PORT, "eth1 is a port of bond0")}


def test_parts_of_a_gpu(host: Sys) -> None:
    """An mdev is a device below its parent (drivers/vfio/mdev); NVIDIA's vGPUs on newer kernels are VFs with a type."""
    uuid = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
    host.file(f"devices/pci0000:00/{NVME}/{uuid}/power/control", "auto")
    host.link(f"bus/mdev/devices/{uuid}", f"devices/pci0000:00/{NVME}/{uuid}")
    host.link(f"devices/pci0000:00/{NVME}/{uuid}/mdev_type", f"devices/pci0000:00/{NVME}/mdev_supported_types/nvidia-63")
    for vf, kind in ((VF, "1155"), (PORT, "0")):
        host.file(f"devices/pci0000:00/{vf}/nvidia/current_vgpu_type", kind)
        host.link(f"devices/pci0000:00/{vf}/physfn", f"devices/pci0000:00/{NIC}")
        host.link(f"bus/pci/drivers/nvidia/{vf}", f"devices/pci0000:00/{vf}")
    host.link(f"bus/pci/devices/{VF}", f"devices/pci0000:00/{VF}")
    assert of(host, "mdev") == {
        (NVME, f"mediated device {uuid} (nvidia-63) stands on it"),
        (NIC, f"its VF {VF} is a vGPU of type 1155 (current_vgpu_type)"),
    }


# As libvirt writes them (its own documentation of domains and networks): functions as hostdev, as an interface, as a disk, out of a pool.
DOMAIN = b"""<domain type='kvm'><name>web &amp; db</name><uuid>11111111-2222-3333-4444-555555555555</uuid><devices>
<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source>
<address type='pci' domain='0x0000' bus='0x07' slot='0x00' function='0x0'/></hostdev>
<interface type='hostdev'><source><address type='pci' domain='0' bus='3' slot='2' function='0'/></source></interface>
<disk type='nvme' device='disk'><source type='pci' namespace='1'><address domain='0x0000' bus='0x02' slot='0x00' function='0x0'/></source></disk>
<hostdev mode='subsystem' type='usb'><source><address bus='1' device='2'/></source></hostdev></devices></domain>"""
STATE = b"<domstatus state='running' reason='booted' pid='77'><monitor path='/x' type='unix'/>" + DOMAIN + b"</domstatus>"
POOL = b"""<network><name>fast</name><forward mode='hostdev' managed='yes'><pf dev='eth0'/>
<address type='pci' domain='0x0000' bus='0x03' slot='0x00' function='0x1'/></forward></network>"""


def test_what_libvirt_promised(host: Sys) -> None:
    host.link(f"devices/pci0000:00/{NIC}/virtfn0", f"devices/pci0000:00/{VF}")
    for path, data in (("etc/libvirt/qemu/web.xml", DOMAIN), ("etc/libvirt/qemu/networks/fast.xml", POOL)):
        host.path(path).write_bytes(data)
    host.path("etc/libvirt/qemu/networks/default.xml").write_bytes(b"<network><name>default</name><forward mode='nat'/></network>")
    found = {(use.address, use.kind, use.owner) for use in from_tree(open_tree(str(host.root))).in_use}
    pool = {(address, "pool", "fast") for address in (NIC, PORT, VF)}
    assert found == {(address, "domain", "web & db") for address in (NVME, OTHER, VF)} | pool
    host.path("run/libvirt/qemu/web.xml").write_bytes(STATE)  # it runs now, which is told once
    found = {(use.address, use.kind, use.owner) for use in from_tree(open_tree(str(host.root))).in_use}
    assert found == {(address, "vm", "web & db") for address in (NVME, OTHER, VF)} | pool


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"<domain>", b"<domain><name>x</domain>", b"<!DOCTYPE d [<!ENTITY a 'b'>]><domain><name>&a;</name></domain>", b"<a>" * 200_000],
)
def test_a_damaged_file_of_libvirts_names_nothing(data: bytes) -> None:
    assert domain_of(data).functions == ()
    assert pool_of(data).interfaces == ()


# Lines of `rdma resource show cm_id` and `qp` as iproute2 6.x prints them (rdma/res-cmid.c, res-qp.c: print_link, print_comm).
RDMA = """link mlx5_0/1 lqpn 312 qp-type RC state CONNECT ps TCP pid 0 comm [nvme_rdma] src-addr 192.0.2.2:48292 dst-addr 192.0.2.9:4420
link mlx5_0/- state LISTEN ps TCP pid 0 comm [rpcrdma] src-addr 0.0.0.0:20049 dst-addr 0.0.0.0:0
link mlx5_0/1 lqpn 1 type GSI state RTS sq-psn 0 comm [ib_core]
link mlx5_0/1 lqpn 7 type UD state RTS sq-psn 0 comm [mlx5_ib]
link mlx5_1/1 lqpn 9 type UD state RTS sq-psn 0 comm [ib_ipoib]
link mlx5_1/1 lqpn 331 rqpn 12 type RC state RTS rq-psn 0 sq-psn 0 path-mig-state MIGRATED pid 4242 comm ib_write_bw
"""


def test_users_of_rdma(host: Sys) -> None:
    """What every device has for itself is nobody's use: GSI, the driver's own queue pairs, IPoIB without an address."""
    for name, address in (("mlx5_0", NIC), ("mlx5_1", PORT)):
        host.file(f"devices/pci0000:00/{address}/infiniband/{name}/node_type", "1: CA")
        host.link(f"class/infiniband/{name}", f"devices/pci0000:00/{address}/infiniband/{name}")
    found = of_resources(open_tree(str(host.root)), RDMA)
    assert [(use.address, use.detail) for use in found] == [
        (NIC, "NVMe-oF (nvme_rdma) uses RDMA on mlx5_0"),
        (NIC, "NFS over RDMA (rpcrdma) uses RDMA on mlx5_0"),
        (PORT, "process 4242 (ib_write_bw) uses RDMA on mlx5_1"),
    ]


def test_a_vm_is_named_by_its_own_command_line(tmp_path: Path) -> None:
    """A process that has a group or a device file of VFIO open: /dev/null in the place of one."""
    words = [sys.executable, "-c", "import time; time.sleep(600)", "-machine", "virt", "-name", "guest=web,,1,debug-threads=on"]
    with open("/dev/null", "rb") as file, ending(subprocess.Popen(words, stdin=file)) as process:
        seen = holders(DirectoryTree("/", live=True), files={"/dev/null"})
        assert f"{process.pid} (" in seen["/dev/null"] or "others" in seen["/dev/null"]
        assert guest_of(str(process.pid)) == "web,1"
        assert guest_of(str(os.getpid())) is None
        functions = [
            replace(one, vfio_dev=("vfio3",), iommu_group=7) for one in fixture("arm64-virt-canwbs").functions if one.address == "0000:14:00.0"
        ]
        by_cdev = of_vfio(functions, {"/dev/vfio/devices/vfio3": f"{process.pid} (python)"}, guest_of)
        by_group = of_vfio(functions, {"/dev/vfio/7": "1 (init)"}, lambda _: None)
    assert [(use.kind, use.owner) for use in by_cdev] == [("vm", "web,1")]
    assert by_group == [InUse(address="0000:14:00.0", kind="vm", detail="process 1 (init) has /dev/vfio/7 open")]


def test_names_of_vms_and_targets_are_not_told(host: Sys) -> None:
    """Names of processes, units and devices stay; those that somebody gave a VM, a network or a target go."""
    host.path("etc/libvirt/qemu/web.xml").write_bytes(DOMAIN.replace(b"web &amp; db", b"PayRoll"))
    host.path("etc/libvirt/qemu/networks/fast.xml").write_bytes(POOL.replace(b"fast", b"PayRollNet"))
    host.file("kernel/config/nvmet/subsystems/PayRollDisks/namespaces/1/device_path", "/dev/nvme0n1")
    host.file("kernel/config/nvmet/subsystems/PayRollDisks/namespaces/1/enable", "1")
    read = from_tree(open_tree(str(host.root)))
    assert encode(read).count(b"PayRoll") > 4
    safe, _ = redact(read, Secrets(key=b"key"))
    assert b"PayRoll" not in encode(safe)
    assert {use["kind"] for use in json.loads(encode(safe))["in_use"]} == {"domain", "pool", "export"}
