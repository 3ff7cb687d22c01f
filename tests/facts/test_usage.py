"""What the host itself needs: from a mount, a route, a holder down to the PCI function, on the layouts that the kernel makes in /sys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from tests.tools.cache import skip_loudly
from tests.tools.processes import LIMIT
from tests.tools.systree import NIC, NVME, OTHER, PORT, Sys
from wizard.facts.record import from_tree
from wizard.facts.snapshot import decode, encode
from wizard.facts.source import open_tree
from wizard.facts.tree import DirectoryTree
from wizard.facts.usage import of_openers
from wizard.facts.vfio import holders


@pytest.fixture
def host(tmp_path: Path) -> Sys:
    """Two NVMe disks, of which each has a partition, and two ports of a card."""
    host = Sys(tmp_path)
    for number, address in ((0, NVME), (1, OTHER)):
        place = f"pci0000:00/{address}/nvme/nvme{number}/nvme{number}n1"
        host.disk(f"nvme{number}n1", place, number=f"259:{number}")
        host.disk(f"nvme{number}n1p1", f"{place}/nvme{number}n1p1", number=f"259:{number + 2}")
    return host


@pytest.mark.parametrize("device", ["/dev/mapper/vg--a-root", "/dev/vg-a/root", "/dev/dm-1"])
def test_a_volume_on_a_crypt_device_on_a_partition(host: Sys, device: str) -> None:
    """LVM on LUKS: two layers of device mapper, by each name that mount may show."""
    host.mapped("dm-0", "luks", ("nvme0n1p1",), holders=("dm-1",))
    host.mapped("dm-1", "vg--a-root", ("dm-0",))
    host.path(f"devices/pci0000:00/{NVME}/nvme/nvme0/nvme0n1/nvme0n1p1/holders/dm-0").mkdir(parents=True)
    host.file("proc/mounts", f"{device} / ext4 rw 0 0\nproc /proc proc rw 0 0")
    assert host.uses() == {(NVME, "mount", f"{device} on /")}


def test_a_mirror_needs_both_disks(host: Sys) -> None:
    host.disk("md0", "virtual/block/md0", slaves=("nvme0n1p1", "nvme1n1p1"))
    host.file("proc/mounts", "/dev/md0 /srv\\040data xfs rw 0 0")
    assert host.uses() == {(NVME, "mount", "/dev/md0 on /srv data"), (OTHER, "mount", "/dev/md0 on /srv data")}


def test_native_multipath_of_nvme_needs_each_controller(host: Sys) -> None:
    """With nvme_core.multipath the namespace hangs below a virtual subsystem, which links to the controllers that carry it."""
    subsystem = "virtual/nvme-subsystem/nvme-subsys2"
    host.disk("nvme2n1", f"{subsystem}/nvme2n1")
    for name, address in (("nvme2", NVME), ("nvme3", OTHER)):
        host.file(f"devices/pci0000:00/{address}/nvme/{name}/state", "live")
        host.link(f"devices/{subsystem}/{name}", f"devices/pci0000:00/{address}/nvme/{name}")
    host.file("proc/mounts", "/dev/nvme2n1 / xfs rw 0 0")
    assert host.uses() == {(address, "mount", "/dev/nvme2n1 on /") for address in (NVME, OTHER)}


def test_btrfs_mounts_by_one_of_its_disks(host: Sys) -> None:
    for name in ("nvme0n1p1", "nvme1n1"):
        host.path(f"fs/btrfs/0b1e5d8a-0000-4000-8000-000000000001/devices/{name}").mkdir(parents=True)
    host.file("proc/mounts", "/dev/nvme0n1p1 / btrfs rw,subvol=/ 0 0")
    assert host.uses() == {(address, "mount", "/dev/nvme0n1p1 on /") for address in (NVME, OTHER)}


def test_bcachefs_names_all_of_its_disks(host: Sys) -> None:
    host.file("proc/mounts", "/dev/nvme0n1p1:/dev/nvme1n1 / bcachefs rw 0 0")
    assert {address for address, _, _ in host.uses()} == {NVME, OTHER}


def test_a_pool_of_zfs_is_found_by_what_udev_knows_of_its_members(host: Sys) -> None:
    """Its mounts name no device, and it is no holder in /sys; a disk of another pool, which is not imported, is free."""
    host.file("proc/mounts", "rpool/ROOT/pve-1 / zfs rw 0 0")
    host.file("proc/spl/kstat/zfs/rpool/state", "ONLINE")
    host.file("proc/spl/kstat/zfs/arcstats", "x")
    host.file("run/udev/data/b259:2", "S:disk/by-label/rpool\nE:ID_FS_LABEL=rpool\nE:ID_FS_TYPE=zfs_member")
    host.file("run/udev/data/b259:3", "E:ID_FS_LABEL=old\nE:ID_FS_TYPE=zfs_member")
    assert host.uses() == {(NVME, "holder", "the ZFS pool rpool stands on /dev/nvme0n1p1")}


def test_a_volume_that_nobody_mounted_still_stands_on_its_disk(host: Sys) -> None:
    """A volume group of a storage daemon or of another VM: nothing is mounted, and taking the disk away loses it."""
    host.mapped("dm-0", "ceph--1-osd", ("nvme0n1p1",))
    host.path(f"devices/pci0000:00/{NVME}/nvme/nvme0/nvme0n1/nvme0n1p1/holders/dm-0").mkdir(parents=True)
    assert host.uses() == {(NVME, "holder", "/dev/mapper/ceph--1-osd stands on /dev/nvme0n1p1")}


def test_a_root_that_the_kernel_mounted_itself(host: Sys) -> None:
    """/dev/root is no device; its number is."""
    host.file("proc/mounts", "/dev/root / ext4 rw 0 0")
    host.file("proc/1/mountinfo", "21 26 0:20 / /proc rw - proc proc rw\n26 1 259:2 / / rw,relatime shared:1 - ext4 /dev/root rw")
    host.link("dev/block/259:2", f"devices/pci0000:00/{NVME}/nvme/nvme0/nvme0n1/nvme0n1p1")
    assert host.uses() == {(NVME, "mount", "/dev/nvme0n1p1 on /")}


def test_who_writes_to_a_disk_has_it_and_who_looks_has_not() -> None:
    """A virtual machine on a raw disk shows nowhere but in its open files."""
    disks = [name for name in os.listdir("/sys/class/block") if name.startswith("loop") and os.path.exists(f"/dev/{name}")]
    if os.geteuid() != 0 or not disks:
        skip_loudly("no block device can be opened", "run as root where there is a loop device")
    tree = DirectoryTree("/", live=True)
    path = f"/dev/{disks[0]}"
    for flags, held in ((os.O_RDONLY, False), (os.O_RDWR, True)):
        try:
            descriptor = os.open(path, flags | os.O_CLOEXEC)
        except OSError as error:
            skip_loudly(f"{path} can't be opened ({error.strerror})", "run as root where there is a loop device")
        try:
            assert (path in holders(tree, {disks[0]})) is held
        finally:
            os.close(descriptor)


def test_what_a_process_has_open_is_of_the_moment(host: Sys) -> None:
    """Two records of an unchanged host stay equal: process numbers are in ``moment``, and come back when it is read."""
    tree = open_tree(str(host.root))
    (use,) = of_openers(tree, {"/dev/nvme0n1p1": "77 (qemu-system-aar)"})
    assert (use.address, use.detail) == (NVME, "77 (qemu-system-aar) has /dev/nvme0n1p1 open")
    facts = msgspec.structs.replace(from_tree(tree), in_use=(use,))
    written = json.loads(encode(facts))
    assert written.get("in_use", []) == []
    assert decode(encode(facts), "x").in_use == (use,)


def test_swap(host: Sys) -> None:
    host.file("proc/swaps", "Filename\t\t\tType\t\tSize\n/dev/nvme1n1p1                          partition\t8388604\t0\t-2")
    assert host.uses() == {(OTHER, "swap", "/dev/nvme1n1p1")}


def test_a_vlan_on_a_bridge_on_a_bond(host: Sys) -> None:
    """The address is three layers above the two ports that carry it."""
    host.interface("enp3s0f0", f"pci0000:00/{NIC}/net/enp3s0f0", master="bond0")
    host.interface("enp3s0f1", f"pci0000:00/{PORT}/net/enp3s0f1", master="bond0")
    host.interface("bond0", "virtual/net/bond0", lower=("enp3s0f0", "enp3s0f1"), master="br0")
    host.interface("br0", "virtual/net/br0", ports=("bond0",))
    host.interface("br0.7", "virtual/net/br0.7", lower=("br0",))
    host.file("proc/net/route", "Iface\tDestination\tGateway\nbr0.7\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0")
    assert host.uses() == {(address, "route", "default route on br0.7") for address in (NIC, PORT)}


def test_addresses_out_of_proc(host: Sys) -> None:
    """A network that is reached directly, an IPv6 address that is more than the link's own; neither loopback nor link-local counts."""
    host.interface("eth0", f"pci0000:00/{NIC}/net/eth0")
    host.interface("eth1", f"pci0000:00/{PORT}/net/eth1")
    host.file("proc/net/route", "Iface\tDestination\tGateway\neth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0")
    host.file(
        "proc/net/if_inet6",
        "fd000000000000000000000000000002 04 40 00 82     eth0\n00000000000000000000000000000001 01 80 10 80       lo\n"
        "fe8000000000000000fc00fffe000001 05 40 20 80     eth1",
    )
    assert host.uses() == {(NIC, "address", "IPv4 address on eth0"), (NIC, "address", "IPv6 address on eth0")}


def test_the_uplink_of_a_virtual_switch_is_in_use_without_an_address(host: Sys) -> None:
    """Open vSwitch: the address is on an internal port that nothing in /sys connects with the card."""
    host.interface("eth0", f"pci0000:00/{NIC}/net/eth0", master="ovs-system")
    host.interface("ovs-system", "virtual/net/ovs-system", lower=("eth0",))
    host.interface("br-ex", "virtual/net/br-ex")
    assert host.uses() == {(NIC, "holder", "eth0 is a port of ovs-system")}


def test_the_session_is_found_through_sudo() -> None:
    """sudo leaves SSH_CONNECTION out of the environment; the shell above it still has it."""
    own = [address.address for found in psutil.net_if_addrs().values() for address in found if address.family.name == "AF_INET"]
    program = "from wizard.facts.live import _session; print(_session())"
    words = ["env", "-u", "SSH_CONNECTION", sys.executable, "-c", program]
    if not own or not os.path.exists("/proc/self/environ"):
        skip_loudly("no session can be made up", "run on Linux with an address")
    connection = f"198.51.100.7 50000 {own[0]} 22"
    # exec would replace the process that has the variable: sh has to stay above it.
    shell = ["sh", "-c", '"$@"; exit $?', "sh", *words]
    done = subprocess.run(shell, capture_output=True, text=True, check=True, env={**os.environ, "SSH_CONNECTION": connection}, timeout=LIMIT)
    assert done.stdout.strip() == str(connection.split())
