"""sos reports as sos 4.12 writes them (its own run on a Debian host gave the shapes below): who uses a function, logs, packages, what was cut."""

from __future__ import annotations

import ast
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from wizard.base.errors import InputError
from wizard.facts import archive
from wizard.facts.model import Facts
from wizard.facts.record import from_tree
from wizard.facts.source import open_tree, read_facts, recorded

NVME, NIC, SECOND, FREE = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:04:00.0"
TOP = "sosreport-host0-2026-11-30-ukkftsy"
Content = Mapping[str, str | bytes | Path]


def device(path: str, subsystem: str, **properties: str) -> str:
    """One paragraph of ``udevadm info --export-db``."""
    lines = [
        f"P: /devices/{path}",
        f"M: {path.rpartition('/')[2]}",
        "R: 0",
        f"U: {subsystem}",
        f"E: DEVPATH=/devices/{path}",
        f"E: SUBSYSTEM={subsystem}",
    ]
    return "\n".join([*lines, *(f"E: {key}={value}" for key, value in properties.items())]) + "\n\n"


def function(address: str, class_: str, driver: str) -> str:
    """One PCI function below a root port of segment 0."""
    path = f"pci0000:00/0000:00:{int(address[5:7], 16):02x}.0/{address}"
    return device(path, "pci", DRIVER=driver, PCI_CLASS=class_, PCI_ID="1AF4:1041", PCI_SUBSYS_ID="1AF4:1100", PCI_SLOT_NAME=address)


def below(address: str, rest: str) -> str:
    """A place below a function."""
    return f"pci0000:00/0000:00:{int(address[5:7], 16):02x}.0/{address}/{rest}"


DATABASE = "".join((
    function(NVME, "10802", "nvme"), *(function(address, "20000", "mlx5_core") for address in (NIC, SECOND, FREE)),
    device(below(NVME, "nvme/nvme0/nvme0n1"), "block", DEVNAME="/dev/nvme0n1"),
    device(below(NVME, "nvme/nvme0/nvme0n1/nvme0n1p3"), "block", DEVNAME="/dev/nvme0n1p3"),
    device("virtual/block/dm-0", "block", DEVNAME="/dev/dm-0", DM_NAME="vg0-root"),
    device(below(NIC, "net/enp2s0"), "net", INTERFACE="enp2s0"), device(below(SECOND, "net/enp3s0"), "net", INTERFACE="enp3s0"),
    device(below(FREE, "net/enp4s0"), "net", INTERFACE="enp4s0"),
    device("virtual/net/br0", "net", INTERFACE="br0"), device("virtual/net/ovs-system", "net", INTERFACE="ovs-system"),
    device("platform/arm-smmu-v3.0.auto", "platform"),
    device("platform/arm-smmu-v3.0.auto/iommu/smmu3.0x0000000012000000", "iommu"),
))  # fmt: skip
LSBLK = """\
ALIGNMENT="0" KNAME="nvme0n1" MAJ:MIN="259:0" NAME="nvme0n1" PATH="/dev/nvme0n1" PKNAME="" TYPE="disk" MOUNTPOINT="" FSUSE%=""
ALIGNMENT="0" KNAME="nvme0n1p3" MAJ:MIN="259:3" NAME="nvme0n1p3" PATH="/dev/nvme0n1p3" PKNAME="nvme0n1" TYPE="part" MOUNTPOINT="" FSUSE%=""
ALIGNMENT="0" KNAME="dm-0" MAJ:MIN="253:0" NAME="vg0-root" PATH="/dev/mapper/vg0-root" PKNAME="nvme0n1p3" TYPE="lvm" MOUNTPOINT="/" FSUSE%="13%"
"""
ADDRESSES = """\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00 promiscuity 0 allmulti 0
2: enp2s0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc mq master br0 state UP group default qlen 1000
    link/ether 53:4f:53:00:00:01 brd ff:ff:ff:ff:ff:ff promiscuity 1 allmulti 1
    bridge_slave state forwarding priority 32 cost 100
3: enp3s0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc mq master ovs-system state UP group default qlen 1000
    link/ether 53:4f:53:00:00:02 brd ff:ff:ff:ff:ff:ff promiscuity 1 allmulti 0
5: br0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default qlen 1000
    inet 100.0.0.1/24 brd 100.0.0.255 scope global br0
"""
ONE_LINE = """\
1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever
5: br0    inet 100.0.0.1/24 brd 100.0.0.255 scope global br0\\       valid_lft forever preferred_lft forever
5: br0    inet6 fe80::1/64 scope link \\       valid_lft forever preferred_lft forever
"""
ROUTES = "default via 101.0.0.2 dev br0 proto dhcp metric 425 \n100.0.0.0/24 dev br0 proto kernel scope link src 100.0.0.1 \n"
REPORT: Content = {
    "uname": Path("sos_commands/kernel/uname_-a"),
    "sos_commands/kernel/uname_-a": "Linux host0 6.17.0-1014-nvidia #14-Ubuntu SMP PREEMPT_DYNAMIC aarch64 aarch64 aarch64 GNU/Linux\n",
    "sos_commands/devices/udevadm_info_--export-db": DATABASE,
    "sos_commands/block/lsblk_-O_-P": LSBLK,
    "sos_commands/networking/ip_-d_address": ADDRESSES,
    "sos_commands/networking/ip_-o_addr": ONE_LINE,
    "sos_commands/networking/ip_route_show_table_all": ROUTES,
    "proc/mounts": Path("self/mounts"), "proc/net": Path("self/net"), "proc/self": Path("1106"),
    "proc/1106/mounts": "proc /proc proc rw 0 0\n/dev/mapper/vg0-root / ext4 rw,relatime 0 0\n",
}  # fmt: skip


def lay(directory: Path, form: str, content: Content = REPORT) -> str:
    """The report as a directory, a tar or a zip; a ``Path`` is a link's target."""
    if form == "directory":
        for name, value in content.items():
            place = directory / TOP / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(value, Path):
                place.symlink_to(value)
            else:
                place.write_bytes(value if isinstance(value, bytes) else value.encode())
        return str(directory)
    path = directory / f"report.{form}"
    if form == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, value in content.items():
                entry = zipfile.ZipInfo(f"{TOP}/{name}")
                entry.external_attr = (0o120777 if isinstance(value, Path) else 0o100644) << 16
                packed.writestr(entry, str(value) if isinstance(value, Path) else value)
        return str(path)
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, value in content.items():
            member = tarfile.TarInfo(f"{TOP}/{name}")
            body = b"" if isinstance(value, Path) else value if isinstance(value, bytes) else value.encode()
            if isinstance(value, Path):
                member.type, member.linkname = tarfile.SYMTYPE, str(value)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    data = plain.getvalue()
    path.write_bytes(gzip.compress(data) if form == "tar.gz" else lzma.compress(data, preset=0) if form == "tar.xz" else data)
    return str(path)


def facts_of(directory: Path, content: Mapping[str, str | bytes | Path | None], form: str = "tar") -> Facts:
    """The facts of the usual report with other files in it; None takes one away."""
    whole = {name: value for name, value in {**REPORT, **content}.items() if value is not None}
    return from_tree(open_tree(lay(directory, form, whole)))


@pytest.mark.parametrize("form", ["directory", "tar", "tar.gz", "tar.xz", "zip"])
def test_who_uses_a_function_is_known_through_lvm_and_a_bridge(tmp_path: Path, form: str) -> None:
    facts = facts_of(tmp_path, {}, form)
    used = {(use.address, use.kind, use.detail) for use in facts.in_use}
    assert used == {
        (NVME, "mount", "/dev/mapper/vg0-root on /"),
        (NIC, "address", "IPv4 address on br0"),
        (NIC, "route", "default route on br0"),
        (SECOND, "holder", "enp3s0 is a port of ovs-system"),
    }
    assert [function.address for function in facts.functions] == [NVME, NIC, SECOND, FREE]
    assert facts.kernel.release == "6.17.0-1014-nvidia"


def test_mounts_are_known_without_proc(tmp_path: Path) -> None:
    """As in a report whose filesys plugin timed out before it came to /proc: what ``mount -l`` printed is there."""
    said = "sysfs on /sys type sysfs (rw,nosuid)\n/dev/mapper/vg0-root on / type ext4 (rw,relatime) [root]\n"
    facts = facts_of(tmp_path, {"proc/1106/mounts": None, "sos_commands/filesys/mount_-l": said})
    assert (NVME, "/dev/mapper/vg0-root on /") in {(use.address, use.detail) for use in facts.in_use}


def test_a_whole_database_without_an_iommu_is_an_answer_and_part_of_one_is_none(tmp_path: Path) -> None:
    without = "".join(paragraph + "\n\n" for paragraph in DATABASE.split("\n\n") if paragraph and "SUBSYSTEM=iommu" not in paragraph)
    udev = "sos_commands/devices/udevadm_info_--export-db"
    whole = facts_of(tmp_path, {udev: without})
    assert "/sys/class/iommu" not in whole.unread
    # What is longer than log-size is there by its end alone, in sos_strings, which begins in the middle of a line.
    tail: dict[str, str | bytes | Path | None] = {
        udev: Path("../../sos_strings/devices/udevadm_info_--export-db.tailed"),
        "sos_strings/devices/udevadm_info_--export-db.tailed": without[40:],
    }
    cut = facts_of(tmp_path, tail)
    assert [function.address for function in cut.functions] == [NIC, SECOND, FREE]
    assert cut.unread["/sys/class/iommu"] == cut.unread["/sys/bus/pci/devices"] == "cut short in this sos report"


def test_no_iort_in_a_report_without_any_table_is_not_read(tmp_path: Path) -> None:
    tables = {"sys/firmware/acpi/pm_profile": "4\n", "sys/firmware/acpi/tables/data/BERT": ""}
    assert "/sys/firmware/acpi/tables/IORT" in facts_of(tmp_path, tables).unread
    assert "/sys/firmware/acpi/tables/IORT" not in facts_of(tmp_path, {**tables, "sys/firmware/acpi/tables/FACP": b"FACP\x14\x01\0\0"}).unread


BEGINNING = "Nov 30 04:56:53 host0 kernel: Linux version 6.17.0-1014-nvidia (build@host) #14-Ubuntu SMP\n"
SMMU_LINE = "arm-smmu-v3 arm-smmu-v3.0.auto: ias 48-bit, oas 48-bit (features 0x001c1fbf)"
JOURNAL = (
    BEGINNING
    + f"Nov 30 04:56:53 host0 kernel: {SMMU_LINE}\nNov 30 04:57:01 host0 systemd[1]: Started arm-smmu-v3 watcher.\n"
    + "Nov 30 04:57:02 host0 app: x\n" * 4000
)


@pytest.mark.parametrize("form", ["directory", "tar.xz"])
def test_a_dmesg_that_lost_its_beginning_gives_way_to_the_journal_of_this_boot(tmp_path: Path, form: str) -> None:
    lost = {"sos_commands/kernel/dmesg": "[ 9000.100000] arm-smmu-v3 arm-smmu-v3.0.auto: CMD_SYNC timeout at 0x1\n"}
    journal = {"sos_commands/logs/journalctl_--no-pager_--boot": JOURNAL}
    facts = facts_of(tmp_path, {**lost, **journal}, form)
    assert [line for line in facts.log if SMMU_LINE in line]
    assert not [line for line in facts.log if "watcher" in line]


def test_a_whole_dmesg_is_taken_before_the_journal(tmp_path: Path) -> None:
    dmesg = {"sos_commands/kernel/dmesg": "[    0.000000] Linux version 6.17.0\n[    1.100000] arm-smmu-v3 arm-smmu-v3.0.auto: option mask 0x0\n"}
    facts = facts_of(tmp_path, {**dmesg, "sos_commands/logs/journalctl_--no-pager_--boot": JOURNAL})
    assert not [line for line in facts.log if SMMU_LINE in line]


@pytest.mark.parametrize(("place", "line", "expected"), [
    ("dpkg/dpkg_-l", "ii  qemu-system-arm                1:10.2.0+ds-1ubuntu2                      arm64        QEMU full system emulation\n",
     ("qemu", "10.2.0", "/usr/bin/qemu-system-aarch64")),
    ("dpkg/dpkg_-l", "ii  libvirt-daemon  11.6.0-1ubuntu3  arm64  Virtualization daemon\n", ("libvirtd", "11.6.0", "/usr/sbin/libvirtd")),
    ("dpkg/dpkg_-l", "rc  qemu-system-arm  1:6.2+dfsg-2ubuntu6  arm64  removed, its configuration stayed\n", None),
    # These take features of later versions along: by their number nothing is lacking.
    ("dpkg/dpkg_-l", "ii  qemu-system-arm  1:10.1.0+nvidia4-1  arm64  QEMU\n", ("qemu", None, "/usr/bin/qemu-system-aarch64")),
    ("rpm/sh_-c_rpm_--nodigest_-qa_--qf_NVRA_sort_-V", "qemu-kvm-core-10.1.0-5.el10.aarch64   Mon 30 Nov 2026 04:00:00 AM UTC\n",
     ("qemu", None, "/usr/libexec/qemu-kvm")),
    ("rpm/sh_-c_rpm_--nodigest_-qa_--qf_NVRA_sort_-V", "qemu-system-aarch64-core-10.2.1-1.fc44.aarch64  Mon 30 Nov 2026\n",
     ("qemu", "10.2.1", "/usr/bin/qemu-system-aarch64")),
])  # fmt: skip
def test_qemu_and_libvirt_are_known_by_the_list_of_packages(
    tmp_path: Path, place: str, line: str, expected: tuple[str, str | None, str] | None
) -> None:
    programs = facts_of(tmp_path, {f"sos_commands/{place}": line}).programs
    assert [(program.name, program.version, program.path) for program in programs] == ([expected] if expected else [])


def test_the_maker_is_known_by_dmidecode_alone(tmp_path: Path) -> None:
    text = """\
Handle 0x0001, DMI type 0, 26 bytes
BIOS Information
\tVendor: AMI
\tVersion: 2.1
\tRelease Date: 01/02/2026

Handle 0x0002, DMI type 1, 27 bytes
System Information
\tManufacturer: Supermicro
\tProduct Name: ARS-111GL-NHR
\tSerial Number: 1
"""
    identity = facts_of(tmp_path, {"sos_commands/hardware/dmidecode": text}).identity
    assert (identity.vendor, identity.product, identity.firmware, identity.board) == ("Supermicro", "ARS-111GL-NHR", "AMI 2.1 01/02/2026", None)


def test_what_is_large_and_not_asked_for_is_not_kept(tmp_path: Path) -> None:
    """300 MB of logs and of other processes: more than is ever held in memory."""
    large = b"\0" * (60 << 20)
    content = {
        f"{place}{number}": large
        for number, place in enumerate(("var/log/messages-", "sos_commands/logs/journalctl_", "proc/77/smaps", "var/lib/x", "sos_strings/logs/y"))
    }
    path = lay(tmp_path, "tar.xz", {**content, **REPORT})
    assert len(from_tree(open_tree(path)).functions) == 4


BAD_ZIPS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut": (lambda data: data[: len(data) // 2], "is not a readable zip"),
    "a directory of 65535 members": (lambda data: data[:-12] + b"\xff\xff" + data[-10:], "65535 members"),
}


@pytest.mark.parametrize("kind", sorted(BAD_ZIPS))
def test_a_damaged_zip_is_refused(tmp_path: Path, kind: str) -> None:
    damage, said = BAD_ZIPS[kind]
    path = Path(lay(tmp_path, "zip"))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=said):
        open_tree(str(path))


@pytest.mark.parametrize("name", ["../etc/passwd", "/etc/passwd", "a/" * 120 + "b"])
def test_a_zip_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(zipfile.ZipInfo(name), "x")
    with pytest.raises(InputError, match="can't be taken"):
        open_tree(str(path))


def test_nothing_that_a_reader_asks_for_is_left_out_of_an_archive() -> None:
    """Every place that the readers name, as it stands in their source (a name in its middle is any)."""
    tops = ("sys/", "proc/", "etc/", "run/", "var/", "boot/", "usr/", "lib/")
    asked = set()
    for path in Path(archive.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())) if path.name not in ("live.py", "archive.py", "kmsg.py") else ():
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in parts)
            if isinstance(node, ast.JoinedStr | ast.Constant) and text.startswith(tops) and not text.endswith("/") and " " not in text:
                asked.add(text)
    assert len(asked) > 60
    assert {text for text in asked if archive._SKIPPED.search(text) and archive._SKIPPED.search(f"{text}/x")} == set()


def test_a_report_without_udevs_database_has_its_functions_by_lspci(tmp_path: Path) -> None:
    words = "01:00.0 Non-Volatile memory controller [0108]: Samsung Electronics Co Ltd NVMe SSD [144d:a80a] (rev 02) (prog-if 02 [NVM Express])\n"
    content = {name: value for name, value in REPORT.items() if "udevadm" not in name}
    content |= {"sos_commands/pci/lspci_-nnvv": words + "\tNUMA node: 1\n\tKernel driver in use: nvme\n\n"}
    [function] = read_facts(recorded(lay(tmp_path, "tar", content))).functions
    assert (function.address, function.vendor, function.driver, function.numa_node) == (NVME, "0x144d", "nvme", 1)
