"""Redaction: nothing that tells who, the same pseudonym everywhere, and the same one in a shell script."""

from __future__ import annotations

import hashlib
import hmac
import re
import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tools.processes import LIMIT
from wizard.facts.model import Facts, Identity, InUse, Kernel, Moment, PciFunction, Policy, Program
from wizard.facts.pseudonym import Secrets, secrets_of
from wizard.facts.redact import digest, for_writing, redact
from wizard.facts.snapshot import decode, encode
from wizard.facts.source import open_tree

ROOT = Path(__file__).parents[2]
MACHINE_ID = "5d3c0a2f9e7b41c88f0e6a1d2b3c4d5e"
SECRETS = Secrets(key=MACHINE_ID.encode(), hosts=("rack7-node3.example.org", "rack7-node3"), users=("alice",))

MAC = "52:54:00:ab:cd:ef"
SERIAL = "98-03-9b-ff-fe-12-34-56"
UUID = "c0ffee00-1234-5678-9abc-def012345678"
SECRET_TEXTS = (
    MAC, MAC.replace(":", "-"), MAC.replace(":", ""), SERIAL, UUID, "192.168.17.4", "192.168.17.1", "2001:db8::17:4", "rack7-node3", "rack7--node3",
    "alice", "S4EWNX0R123456", "bob", "build-host.example.net", "hunter2",
)  # fmt: skip


def config_with_serial(serial: str) -> str:
    """Configuration space of an endpoint whose only extended capability is the serial number (PCIe 6.0, 7.9.3)."""
    data = bytearray(0x10C)
    data[0x00:0x04] = bytes.fromhex("8680c910")
    data[0x06] = 0x10
    data[0x34] = 0x40
    data[0x40:0x44] = bytes.fromhex("10000200")
    data[0x100:0x104] = (0x00010003).to_bytes(4, "little")
    data[0x104:0x10C] = bytes.fromhex(serial.replace("-", ""))[::-1]
    return bytes(data).hex()


def telling_facts() -> Facts:
    """A host that has a secret in every kind of place."""
    nic = PciFunction(
        address="0000:14:00.0",
        path="pci0000:10/0000:14:00.0",
        vendor="0x8086",
        device="0x10c9",
        class_="0x020000",
        config=config_with_serial(SERIAL),
        config_length=4096,
        net=("enx" + MAC.replace(":", ""),),
        serial_number=SERIAL,
    )
    return Facts(
        origin="root",
        identity=Identity(vendor="Acme", product="alice rack7-node3"),
        kernel=Kernel(
            release="6.12.0",
            version="#1 SMP bob@build-host.example.net",
            cmdline=f"root=UUID={UUID} rd.luks.uuid=luks-{UUID} BOOTIF=01-{MAC.replace(':', '-')}"
            " ip=192.168.17.4::192.168.17.1:255.255.255.0:rack7-node3 systemd.hostname=rack7-node3.example.org rd.password=hunter2",
        ),
        functions=(nic,),
        log=(
            f"[    1.0] vfio: igb 0000:14:00.0 {MAC} serial: {SERIAL} 2001:db8::17:4",
            "[    1.1] pci 0000:14:00.0: Adding to iommu group 3",
            "[    1.2] arm-smmu-v3 arm-smmu-v3.0.auto: option mask 0x0",
            "[    0.0] ITS@0x0000000008080000: allocated 8192 Devices @40060000 (indirect, esz 8, psz 64K, shr 1)",
        ),
        in_use=(InUse(address="0000:14:00.0", kind="mount", detail="/dev/mapper/rack7--node3-root on /home/alice"),),
        programs=(Program(name="qemu", path="/home/alice/qemu/qemu-system-aarch64", error="alice may not"),),
        policy=(Policy(subject="0000:14:00.0", accel="off", reason="alice says so"),),
        unread={"/home/alice/x": "needs root"},
        moment=Moment(log=(f"[    9.0] vfio-pci 0000:14:00.0: {MAC}",), open_devices={"/dev/vfio/3": "7 (alice)"}),
    )


def test_no_secret_is_left_anywhere() -> None:
    """A snapshot can be sent to a stranger: whatever tells the host, its users or its parts is gone, also from bytes."""
    facts = telling_facts()
    more = ("[    1.3] nvme: Serial Number: S4EWNX0R123456", "[ 1.4] Linux (bob@build-host.example.net)")
    facts = msgspec.structs.replace(facts, log=facts.log + more)
    text = encode(redact(facts, SECRETS)[0]).decode()
    assert [secret for secret in SECRET_TEXTS if secret.lower() in text.lower()] == []
    assert bytes.fromhex(SERIAL.replace("-", ""))[::-1].hex() not in text
    assert MACHINE_ID not in text


def test_what_is_no_secret_stays() -> None:
    """Addresses of functions, groups and masks in the log are facts; so are loopback addresses and net masks."""
    safe, _ = redact(telling_facts(), SECRETS)
    assert safe.log[1:] == telling_facts().log[1:]
    assert safe.functions[0].address == "0000:14:00.0"
    assert "255.255.255.0" in (safe.kernel.cmdline or "")
    assert safe.kernel.release == "6.12.0"


SPELLINGS = (
    # (a line, what of it must go). Each is a form that a kernel, udev, dracut, multipath or an administrator writes.
    (f"igb 0000:14:00.0 eth0: {MAC}: link is up", MAC),
    (f"ifname=enp1s0f0:{MAC}", MAC),
    (f"hwaddr:{MAC.upper()}.", MAC),
    ("mac=525400abcdef", "525400abcdef"),
    ("card 5254.00ab.cdef of a switch", "5254.00ab.cdef"),
    ("BOOTIF=01-52-54-00-AB-CD-EF", "52-54-00-ab-cd-ef"),
    ("ib0 80:00:02:08:fe:80:00:00:00:00:00:00:98:03:9b:ff:fe:12:34:56", "98:03:9b"),
    ("the bare form that this host is known by: 525400abcdef", "525400abcdef"),
    ("mlx5_core 0000:14:00.0: node guid 9803:9bff:fe12:3456", "9803:9bff"),
    ("mlx5_core 0000:14:00.0: node guid 0x98039bfffe123456 98039bfffe123456", " 98039bfffe123456"),
    ("nfs: server 192.168.17.1, trying 192.168.17.1:2049.", "192.168.17.1"),
    ("2001:db8::17:4: link", "2001:db8"),
    ("address:2001:db8::17:4, gateway [2001:db8::1]:80.", "2001:db8"),
    ("on 2001:db8:0:1::/64 fe80::5054:ff:feab:cdef%eth0.", "fe80::5054"),
    ("ip=192.168.17.4::192.168.17.1:255.255.255.0:other-host:eth0:off", "other-host"),
    ("ip=192.168.17.4::192.168.17.1:255.255.255.0:other-host:eth0:off", "192.168.17.1"),
    ("systemd.hostname=other-host", "other-host"),
    ("RACK7-NODE3 and Rack7-Node3.example.org", "rack7-node3"),
    ("/dev/mapper/vg_rack7--node3-root on /", "rack7--node3"),
    (f"root=UUID={UUID} UUID={UUID.upper()} /swap", UUID),
    (f"dev-disk-by\\x2duuid-{UUID}.device".replace("-", "\\x2d"), "c0ffee00"),
    (f"machine {UUID.replace('-', '').upper()}", UUID.replace("-", "")),
    (f"/dev/disk/by-uuid/{UUID} / ext4 defaults 0 1", UUID),
    ("PARTUUID=0a1b2c3d-02 /boot vfat", "0a1b2c3d"),
    ("LABEL=alices-disk /data xfs", "alices"),
    ("resume=/dev/disk/by-id/nvme-SAMSUNG_MZ_S4EWNX0R123456-part2", "s4ewnx0r123456"),
    ("nvme-SAMSUNG_MZ_S4EWNX0R123456", "s4ewnx0r123456"),
    ("nvme nvme0: nvme.144d-5334455" + b"S4EWNX0R123456".hex(), b"S4EWNX0R123456".hex()),
    (b"S4EWNX0R123456".hex(), b"S4EWNX0R123456".hex()),
    ("serial WD WX11 D12 on wwn-0x5000c500a1b2c3d4", "5000c500a1b2c3d4"),
    ("WD_WX11_D12", "wx11"),
    ("eui.0025385b71b0a3f5 naa.5000c500a1b2c3d4", "71b0a3f5"),
    ("/dev/mapper/3600508b1001c1b2c3d4e5f60718293a4 on /", "3600508b"),
    ("rd.iscsi.initiator=iqn.1993-08.org.debian:01:abcdef0123", "abcdef0123"),
    ("nvme.hostnqn=nqn.2014-08.org.nvmexpress:rack7", "nvmexpress"),
    ('{"serial":"ABC123XYZ"}', "abc123xyz"),
    ("serial_number=ABC123XYZ SN=ABC123XYZ S/N ABC123XYZ SerialNumber: ABC123XYZ", "abc123xyz"),
    ("/run/media/bob/stick /media/bob/stick /home/bob/x", "bob"),
    ("nfs://bob:hunter2@nfs.example.net:2049/srv", "nfs.example.net"),
    ("rd.iscsi.username=bob rd.iscsi.password=hunter2", "bob"),
)
KNOWN = msgspec.structs.replace(SECRETS, serials=("S4EWNX0R123456", "WD WX11 D12", SERIAL), macs=(MAC,))


@pytest.mark.parametrize(("line", "secret"), SPELLINGS)
def test_every_spelling_is_known(line: str, secret: str) -> None:
    assert secret.strip().lower() in line.lower()
    safe, _ = redact(Facts(log=(line,)), KNOWN)
    assert secret.lower() not in safe.log[0].lower()


def test_one_card_has_one_pseudonym_whatever_the_notation() -> None:
    """A reader of a redacted record still sees that two lines speak of one thing."""
    forms = (MAC, MAC.upper(), MAC.replace(":", "-"), f"{MAC}:", f"x:{MAC}", "5254.00ab.cdef", "525400abcdef", "enx525400abcdef", "mac=525400ABCDEF")
    safe, report = redact(Facts(log=forms), KNOWN)
    digits = "02" + hmac.new(MACHINE_ID.encode(), MAC.encode(), hashlib.sha256).hexdigest()[:10]
    assert [digits in re.sub("[:.-]", "", line) for line in safe.log] == [True] * len(forms)
    assert report == ("1 MAC address",)
    serials = (SERIAL, SERIAL.replace("-", ":"), "0x98039bfffe123456"[2:], "9803:9bff:fe12:3456")
    safe, report = redact(Facts(log=serials), KNOWN)
    assert len({re.sub("[:-]", "", line) for line in safe.log}) == 1
    assert report == ("1 serial number",)


def test_what_only_looks_like_a_secret_stays() -> None:
    """Facts that verdicts rest on, from the logs of real machines (and a few forms near to an address)."""
    lines = (
        "ACPI: IORT 0x0000004042AF5018 00072B (v06 NVIDIA A M I    00000001 ARMH 00010000)",
        "ACPI: IORT: SMMU-v3[100011000000] Mapped to Proximity domain 1",
        "ACPI: IORT: SMMU-v3[33ffe0000000] Mapped to Proximity domain 0",
        "arm-smmu-v3 arm-smmu-v3.10.auto: ias 48-bit, oas 48-bit (features 0x000e1fbf)",
        "pci 0008:07:00.0: stream 67328 already in tree",
        "arm-smmu-v3 arm-smmu-v3.9.auto: found companion CMDQV device: NVDA200C:04",
        "acpi NVDA200C:00: tegra241_cmdqv: Falling back to standard SMMU CMDQ",
        "SMCCC: SOC_ID: ID = jep106:036b:0241 Revision = 0x00000002",
        "Linux version 6.16.0-rc5 (Debian 14.2.0-19) 5.14.0-427.13.1.el9_4.aarch64",
        "NVRM version: 10.20.30.40 firmware 1.2.3.4 v4.3.2.1 rev. 1.0.0.1",
        "GICv3: 0x0000000010000000 ITS [mem 0x100100040000-0x10010005ffff]",
        "ITS@0x0000100100040000: allocated 65536 Devices @100080000 (indirect, esz 8, psz 64K, shr 1)",
        "smmu3.0x0000000012000000 0000:83:02.0: 83:02.0, 10de:2342 1af4:1041:0001 12:34:56 [12:34:56.789]",
        "0x0000830000000010 0x00000a0000000000 0000000008000000-00000000080fffff",
        "127.0.0.1 ::1 :: 255.255.255.0 0.0.0.0",
        "DMI: Quanta JAVA ISLAND PVT 29F0EMAZ049/Java Island, BIOS F0EJ3A13 07/01/2025",
        "/dev/disk/by-path/pci-0000:01:00.0-nvme-1 earlycon=pl011,mmio32,0x9000000 2026-11-27 06:15:07",
    )
    assert redact(Facts(log=lines), KNOWN)[0].log == lines


def test_vital_product_data_of_whoever_read_last_is_not_told() -> None:
    """The capability's data register keeps four bytes of what was read: of a serial number, as often as not (PCIe 6.0, 7.9.18)."""
    data = bytearray(0x50)
    data[0x00:0x04], data[0x06], data[0x34] = bytes.fromhex("8680c910"), 0x10, 0x40
    data[0x40:0x48] = bytes.fromhex("03000480") + b"S4EW"
    function = msgspec.structs.replace(telling_facts().functions[0], config=bytes(data).hex(), config_length=256)
    safe, _ = redact(Facts(functions=(function,)), SECRETS)
    assert b"S4EW".hex() not in encode(safe).decode()
    assert safe.functions[0].config.startswith(bytes(data[:0x41]).hex())


def test_the_parts_of_a_host_are_known_by_what_sysfs_says_of_them(tmp_path: Path) -> None:
    """Serial numbers and addresses out of /sys: then no spelling of them is missed. Words that firmware writes instead tell nothing."""
    for path, text in {
        "sys/class/net/eth0/address": MAC,
        "sys/class/net/lo/address": "00:00:00:00:00:00",
        "sys/class/nvme/nvme0/serial": "S4EWNX0R123456      ",
        "sys/class/block/sda/device/serial": "WD WX11 D12",
        "sys/class/block/nvme0n1/wwid": "eui.0025385b71b0a3f5",
        "sys/class/dmi/id/product_serial": "J1030000ABC",
        "sys/class/dmi/id/board_serial": "To be filled by O.E.M.",
        "sys/class/dmi/id/chassis_serial": "0123456789",
        "sys/class/dmi/id/board_asset_tag": "None",
        "etc/machine-id": MACHINE_ID,
        "uname": "Linux rack7-node3 6.12.0 #1 SMP aarch64 GNU/Linux",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text + "\n")
    secrets = secrets_of(open_tree(str(tmp_path)))
    assert secrets.serials == ("J1030000ABC", "S4EWNX0R123456", "WD WX11 D12", "eui.0025385b71b0a3f5")
    assert secrets.macs == (MAC,)
    assert secrets.hosts == ("rack7-node3",)


def test_the_same_value_has_the_same_pseudonym_in_every_spelling() -> None:
    """An interface name, a boot option and a log line speak of one card: so do their pseudonyms."""
    safe, report = redact(telling_facts(), SECRETS)
    mac = "02" + hmac.new(MACHINE_ID.encode(), MAC.encode(), hashlib.sha256).hexdigest()[:10]
    assert safe.functions[0].net == ("enx" + mac,)
    assert re.sub("(..)(?=.)", r"\1-", mac) in (safe.kernel.cmdline or "")
    assert re.sub("(..)(?=.)", r"\1:", mac) in safe.log[0]
    assert (safe.kernel.cmdline or "").count(hmac.new(MACHINE_ID.encode(), UUID.encode(), hashlib.sha256).hexdigest()[:8]) == 2
    assert "1 MAC address" in report
    assert "1 serial number" in report
    assert "1 UUID" in report


def test_the_serial_number_in_configuration_space_is_the_one_of_the_attribute() -> None:
    """The preparation script finds a function again by either: sysfs' text or the capability's bytes, high byte first."""
    function = redact(telling_facts(), SECRETS)[0].functions[0]
    assert bytes.fromhex(function.config)[0x104:0x10C][::-1].hex("-") == function.serial_number
    assert function.serial_number == hmac.new(MACHINE_ID.encode(), SERIAL.encode(), hashlib.sha256).digest()[:8].hex("-")


def test_redaction_is_stable_and_done_once() -> None:
    """Two records of one host agree; a redacted snapshot that is recorded again keeps its pseudonyms."""
    once, _ = redact(telling_facts(), SECRETS)
    assert redact(telling_facts(), SECRETS)[0] == once
    assert redact(once, Secrets(key=b"0" * 32)) == (once, ())


def test_another_host_gives_other_pseudonyms() -> None:
    """Without the machine-id nobody can try guesses: the same serial number looks different from another host."""
    other = redact(telling_facts(), Secrets(key=b"f" * 32, hosts=SECRETS.hosts, users=SECRETS.users))[0]
    assert other.functions[0].serial_number != redact(telling_facts(), SECRETS)[0].functions[0].serial_number


def test_without_a_machine_id_values_are_numbered() -> None:
    """A tree of /sys alone has no key: equal values stay equal, nothing is guessable, and the host has no name."""
    safe, _ = redact(telling_facts(), Secrets(hosts=SECRETS.hosts, users=SECRETS.users))
    assert safe.identity.host is None
    assert SERIAL not in encode(safe).decode()
    assert safe.functions[0].serial_number == bytes.fromhex(safe.functions[0].config)[0x104:0x10C][::-1].hex("-")


def test_raw_and_redacted_snapshots_know_the_same_host() -> None:
    """A plan made from either finds its host again: identity and digest are those of the redacted facts."""
    raw, nothing = for_writing(telling_facts(), SECRETS, redacted=False)
    safe, _ = for_writing(telling_facts(), SECRETS)
    assert nothing == ()
    assert raw.identity.host == safe.identity.host
    assert MAC in encode(raw).decode()
    assert digest(decode(encode(raw), "raw")) == digest(decode(encode(safe), "safe"))


def shell(call: str, argument: str) -> str:
    """What docs/snapshot.md's own script prints, in a POSIX shell."""
    script = re.search(r"```sh\n(.*?)```", (ROOT / "docs/snapshot.md").read_text(), re.DOTALL)
    assert script is not None
    words = ["sh", "-euc", f'{script[1]}\n{call} "$1"', "sh", argument]
    done = subprocess.run(words, capture_output=True, check=True, env={"machine_id": MACHINE_ID, "PATH": "/usr/bin:/bin"}, timeout=LIMIT)
    return done.stdout.decode().strip()


def test_a_shell_script_comes_to_the_same_pseudonym() -> None:
    """The preparation script redacts what it finds with coreutils alone."""
    assert shell("serial_pseudonym", SERIAL) == redact(telling_facts(), SECRETS)[0].functions[0].serial_number
    assert "host-" + shell("pseudonym", "smmu-wizard host")[:16] == redact(telling_facts(), SECRETS)[0].identity.host


@pytest.mark.parametrize("key", ["0123456789abcdef0123456789abcdef", "f" * 32, "0" * 32, "6" * 32])
def test_the_shell_knows_every_digit_of_a_machine_id(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits that exclusive-or to zero are the ones a shell loses first."""
    monkeypatch.setattr(f"{__name__}.MACHINE_ID", key)
    value = "a value, with ' and \" and ü"
    assert shell("pseudonym", value) == hmac.new(key.encode(), value.encode(), hashlib.sha256).hexdigest()


@given(st.text(max_size=200))
def test_any_text_survives(text: str) -> None:
    """Log lines come from anywhere: redaction ends, and a second pass over its own words changes no host name back."""
    safe, _ = redact(Facts(log=(text,)), SECRETS)
    assert "rack7-node3" not in safe.log[0]
