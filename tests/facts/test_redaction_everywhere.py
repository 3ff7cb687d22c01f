"""Redaction, every place in turn: fields of the model, files that facts are read from, options of the command line, bytes of capabilities."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from wizard.arch.pci import Cap, ExtCap
from wizard.base.finding import REGISTRY
from wizard.facts import configbytes
from wizard.facts.cmdline import FLAGS, KEPT, NAMES
from wizard.facts.model import Facts, Identity, IommuDevice, Kernel, PciFunction
from wizard.facts.pseudonym import Pseudonyms, Secrets, secrets_of
from wizard.facts.record import from_tree
from wizard.facts.redact import BYTES, DECISIONS, OUR_WORD, redact
from wizard.facts.snapshot import encode
from wizard.facts.source import open_tree
from wizard.facts.tree import DirectoryTree
from wizard.host.build import host_of
from wizard.host.doctor import diagnose

DATA = Path(__file__).parent / "data/redaction"
DOCUMENT = (Path(__file__).parents[2] / "docs/snapshot.md").read_text()
MACHINE_ID = "0123456789abcdef0123456789abcdef"
SECRETS = Secrets(
    key=MACHINE_ID.encode(), hosts=("node-of-zeus",), users=("mallory",), serials=("SER8812377",), macs=("aa:bb:cc:dd:ee:01",), disks=("vgpay",)
)
TELLING = "node-of-zeus mallory@NODE_OF_ZEUS SER8812377 aa:bb:cc:dd:ee:01 aabbccddee01 10.9.8.7 2001:db8::9 vgpay api_key=HUNTER2 by user evelyn"
TOLD = ("node-of-zeus", "node_of_zeus", "mallory", "ser8812377", "aa:bb:cc", "aabbcc", "10.9.8.7", "2001:db8", "vgpay", "hunter2", "evelyn")


def left(text: str, told: tuple[str, ...] = TOLD) -> list[str]:
    return [secret for secret in told if secret.lower() in text.lower()]


def structs(kind: type[msgspec.Struct] = Facts) -> Iterator[type[msgspec.Struct]]:
    """The model's structs, from Facts down."""
    yield kind
    for hint in typing.get_type_hints(kind).values():
        for inner in (hint, *typing.get_args(hint), *(one for arg in typing.get_args(hint) for one in typing.get_args(arg))):
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                yield from structs(inner)


def holds_text(kind: Any) -> bool:
    """Whether a value of this type can be, or hold, a text that is no struct's own field."""
    if isinstance(kind, inspect.UnionType):
        return any(map(holds_text, kind.types))
    if isinstance(kind, inspect.DictType):
        return holds_text(kind.key_type) or holds_text(kind.value_type)
    if isinstance(kind, inspect.VarTupleType):
        return holds_text(kind.item_type)
    return isinstance(kind, inspect.StrType)


def fields(kind: type[msgspec.Struct]) -> dict[str, Any]:
    found = inspect.type_info(kind)
    assert isinstance(found, inspect.StructType)
    return {field.name: field.type for field in found.fields}


def test_every_field_that_can_hold_text_has_been_decided_about() -> None:
    """A new field has to say what becomes of it before anything is recorded in it."""
    for kind in set(structs()):
        texts = {name for name, of in fields(kind).items() if holds_text(of)}
        assert texts == set(DECISIONS.get(kind, {})), kind.__name__


def filled(kind: Any, text: str) -> Any:
    """A value of a type with the text wherever the type allows any text."""
    if isinstance(kind, inspect.UnionType):
        return filled(next(one for one in kind.types if not isinstance(one, inspect.NoneType)), text)
    if isinstance(kind, inspect.StrType):
        shapes = ("0000:01:00.0", "0x1", "", "4", "/")
        return text if kind.pattern is None else next(one for one in shapes if re.match(kind.pattern, one))
    if isinstance(kind, inspect.VarTupleType):
        return (filled(kind.item_type, text),)
    if isinstance(kind, inspect.DictType):
        return {filled(kind.key_type, text): filled(kind.value_type, text)}
    if isinstance(kind, inspect.StructType):
        return kind.cls(**{field.name: filled(field.type, text) for field in kind.fields})
    if isinstance(kind, inspect.IntType):
        return kind.ge or 0
    return False


def texts(value: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """(where, text, decision) of every text in Facts."""
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            for place, text, decision in texts(getattr(value, name), f"{path}.{name}"):
                yield place, text, decision or DECISIONS[type(value)][name]
    elif isinstance(value, tuple):
        for one in value:
            yield from texts(one, path)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from texts(key, path)
            yield from texts(one, path)
    elif isinstance(value, str):
        yield path, value, None


def test_a_secret_in_any_field_goes() -> None:
    """Every field that can hold text is filled with names, addresses and passwords: what the program itself writes is the only exception."""
    facts = msgspec.structs.replace(filled(inspect.type_info(Facts), TELLING), redacted=False)
    safe, _ = redact(facts, SECRETS)
    kept = {place: left(text) for place, text, decision in texts(safe) if decision not in (OUR_WORD, BYTES) and left(text)}
    assert kept == {}
    assert len([place for place, text, _ in texts(facts) if text == TELLING]) > 80


# Where facts are read from, each file with something that only its owner should know. {} stands for that. What a kernel or a maker writes
# (names of products, the modalias) has the name of the host in it instead.
PCI = "sys/devices/pci0000:00/0000:01:00.0"
FILES = {
    "etc/machine-id": "{}",
    "etc/hostname": "PayRollHost.example.org",
    "etc/passwd": "root:x:0:0::/:/bin/sh\n{}:x:1000:1000::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh",
    "proc/sys/kernel/hostname": "{}",
    "uname": "Linux {} 6.12.0-{} #1 SMP {}@build.example.net aarch64 GNU/Linux",
    "proc/version": "Linux version 6.12.0 ({}@build.example.net) (gcc) #1 SMP",
    "proc/cmdline": "quiet PASSWORD={} rd.lvm.lv={}/root netroot=iscsi:a:{}:b:{}@10.0.0.1::3260::iqn.2009-02.com.acme:{} {}"
    " {}.{}=1 iommu.passthrough=1",
    "proc/self/mounts": "/dev/mapper/{}-root /srv/{}/x ext4 rw 0 0\n/dev/{}/{} / xfs rw 0 0\n/dev/nvme0n1 /mnt/{} ext4 rw 0 0",
    "proc/swaps": "Filename\n/dev/mapper/{}-swap partition 1 0 -2",
    "proc/spl/kstat/zfs/{}/io": "1",
    "run/udev/data/b259:0": "E:ID_FS_LABEL={}\nE:ID_FS_TYPE=zfs_member",
    "proc/net/route": "Iface Destination\n{}bridge 00000000 0102030A 0003 0 0 0 00000000 0 0 0",
    "proc/misc": "1 {}",
    "proc/modules": "{} 1 0 - Live 0x0\nvfio 1 0 - Live 0x0",
    "proc/cpuinfo": "model name\t: CPU Serial Number {}",
    "kernel-config": 'CONFIG_LOCALVERSION="-{}"\nCONFIG_CMDLINE="password={}"\nCONFIG_VFIO=y',
    "dmesg": "[ 0.0] Kernel command line: psk={} {}={} quiet\n[ 1.0] vfio-pci 0000:01:00.0: S/N: {}\n[ 1.1] vfio: Asset Tag {} token:{} guest={}\n"
    "[ 1.2] iommu: Booting kernel: `{}' invalid for parameter `iommu.strict'\n[ 1.3] vfio-pci 0000:01:00.0: Serial Number {}",
    "etc/qemu/firmware/{}.json": '{"interface-types": ["uefi"], "mapping": {"executable": {"filename": "/home/{}/code.fd"}, "nvram-template":'
    ' {"filename": "/media/{}/vars.fd"}}, "targets": [{"architecture": "aarch64", "machines": ["virt"]}], "features": []}',
    "sys/class/dmi/id/product_serial": "{}",
    "sys/class/dmi/id/chassis_asset_tag": "{}",
    "sys/class/dmi/id/product_name": "Server of PayRollHost",
    "sys/class/dmi/id/sys_vendor": "Acme",
    f"{PCI}/vendor": "0x8086",
    f"{PCI}/device": "0x10c9",
    f"{PCI}/class": "0x020000",
    f"{PCI}/serial_number": "{}",
    f"{PCI}/modalias": "pci:PayRollHost",
    f"{PCI}/reset_method": "flr, PayRollHost",
    f"{PCI}/net/{{}}0/address": "52:54:00:0a:0b:0c",
    "sys/devices/virtual/block/dm-0/dm/name": "{}-root",
    "sys/devices/virtual/block/dm-0/slaves/nvme0n1/dev": "259:0",
    f"{PCI}/nvme0n1/dev": "259:0",
    f"{PCI}/nvme0n1/wwid": "eui.{}",
    f"{PCI}/nvme0n1/holders/dm-0/x": "",
    "sys/devices/virtual/net/{}bridge/address": "52:54:00:0a:0b:0d",
}
LINKS = {
    "sys/bus/pci/devices/0000:01:00.0": "../../../devices/pci0000:00/0000:01:00.0",
    "sys/class/net/{}0": "../../devices/pci0000:00/0000:01:00.0/net/{}0",
    "sys/class/net/{}bridge": "../../devices/virtual/net/{}bridge",
    "sys/devices/virtual/net/{}bridge/brif/{}0": "../../../../pci0000:00/0000:01:00.0/net/{}0",
    "sys/class/block/nvme0n1": "../../devices/pci0000:00/0000:01:00.0/nvme0n1",
    "sys/class/block/dm-0": "../../devices/virtual/block/dm-0",
}


def test_a_secret_in_any_file_goes(tmp_path: Path) -> None:
    """A tree with a secret of its own, in several spellings, in every file that facts are read from."""
    secrets: list[str] = []

    def secret(_: re.Match[str]) -> str:
        # Names of interfaces have to be the same in file and link, so those stand in groups by their file below.
        secrets.append(f"Sec{len(secrets):03d}Ret")
        return secrets[-1]

    for path, text in FILES.items():
        place = tmp_path / path.replace("{}", "PayRoll")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(
            (MACHINE_ID if path == "etc/machine-id" else re.sub(r"\{\}", "PayRoll" if path == "proc/net/route" else secret, text)) + "\n"
        )
    for path, target in LINKS.items():
        place = tmp_path / path.replace("{}", "PayRoll")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target.replace("{}", "PayRoll"))
    tree = open_tree(str(tmp_path))
    facts = from_tree(tree)
    raw = encode(facts).decode()
    assert len(left(raw, tuple(secrets))) > 20  # else nothing of it was read
    assert "PayRoll0" in raw
    assert "PayRollbridge" in raw
    text = encode(redact(facts, secrets_of(tree))[0]).decode()
    assert left(text, (*secrets, "PayRoll", MACHINE_ID)) == []
    assert "iommu.passthrough=1" in text


OPTIONS = (DATA / "cmdline").read_text().split()
GOES = tuple((DATA / "goes").read_text().split())


def test_of_the_command_line_only_what_is_read_stays() -> None:
    """Options of installers, initial RAM disks and clouds; what is no option of theirs has not even its name told."""
    line = " ".join(OPTIONS)
    log = f"[    0.000000] Kernel command line: {line}"
    unknown = f'[    0.000000] Unknown kernel command line parameters "{line}", will be passed to user space.'
    safe, report = redact(Facts(kernel=Kernel(cmdline=line), log=(log, unknown)), SECRETS)
    told = safe.kernel.cmdline or ""
    assert left(line, GOES) == list(GOES)
    assert left(told, GOES) == []
    assert safe.log == (log.replace(line, told), unknown.replace(line, told))
    assert "console=ttyS0" in told
    assert "255.255.255.0" in told
    assert any("values of the command line" in kind for kind in report)


@pytest.mark.parametrize(
    "option",
    [
        *(f"{name}=SECRET1" for name in ("hugepagesz", "iommu.passthrough", "iommu", "vfio-pci.ids", "console", "pci", "isolcpus", "a=b", "ро")),
        *('root="SECRET1 SECRET1"', '"secret1 word"', '"SECRET1', "quiet.SECRET1", "rd.luks.uuid.SECRET1=1", "ip=[fe80::1%SECRET1]::", "x:SECRET1"),
        *("ip=[dead:beef:secret1", "netroot=iscsi:dead:beef:cafe:f00d@SECRET1", "root=%53SECRET1", "-- SECRET1", "init=/SECRET1\tSECRET1"),
    ],
)
def test_no_spelling_of_an_option_tells(option: str) -> None:
    safe, _ = redact(Facts(kernel=Kernel(cmdline=f"quiet {option} ro")), SECRETS)
    assert left(safe.kernel.cmdline or "", ("secret1", "dead", "beef", "cafe", "f00d")) == []
    assert (safe.kernel.cmdline or "").startswith("quiet ")


def test_what_rules_read_of_the_command_line_is_what_stays() -> None:
    """Every reader exists, and finds the same in a redacted snapshot."""
    assert {kept.reader for kept in KEPT.values()} - {"diff"} <= REGISTRY.keys()
    lines = ("iommu.passthrough=1", "iommu.passthrough=Yes", "iommu=pt", "hugepagesz=1G", "arm-smmu.disable_bypass=0", "arm_smmu.disable_bypass=n")
    for line in lines:
        facts = Facts(
            kernel=Kernel(cmdline=f"root=/dev/sda1 {line} quiet", machine="aarch64"), iommus=(IommuDevice(name="smmu3.0x0000000000010000"),)
        )
        safe, _ = redact(facts, SECRETS)
        assert line in (safe.kernel.cmdline or "")
        assert diagnose(host_of(safe)).areas == diagnose(host_of(facts)).areas


def test_the_documentation_says_what_stays() -> None:
    """All of it: options with their values, and each kind of field."""
    table = DOCUMENT.partition("## Redaction")[2]
    assert [name for name in KEPT if f"`{name}`" not in table] == []
    stays = {decision.stays for fields in DECISIONS.values() for decision in fields.values() if decision.stays}
    assert [text for text in stays if text not in " ".join(table.split())] == []
    assert not FLAGS & KEPT.keys() - {"earlycon"}
    assert KEPT.keys() <= NAMES


def log_of(lines: Iterable[str]) -> str:
    return "\n".join(redact(Facts(log=tuple(lines)), SECRETS)[0].log)


def test_no_line_of_the_log_tells() -> None:
    """Serial numbers without a colon, addresses in every notation, GUIDs, tokens, names of VMs."""
    lines = [line for line in (DATA / "dmesg").read_text().splitlines() if "ACMEINVENTORY" not in line]
    gone = """
        aa:bb:cc aa-bb-cc aabb.ccdd aabbcc aabb:ccff vpdsn serwords sneq 12345sn s64ane 0025385b 5000c500 mallory node-of 192.168 a8bb 2001:db8 10.4.5
        81111111 91111111 payroll b8599f 10:00:00:90 20000090 a1111111
    """
    secrets = ("aa bb cc", *gone.split())
    assert left(log_of(lines), secrets) == []


def config(*capabilities: bytes, at: int = 0x40) -> PciFunction:
    """A function of vendor 8086 with its standard capabilities (PCIe 6.0, 7.9.4) one behind the other."""
    data = bytearray(0x100)
    data[0:4], data[0x06], data[0x34] = bytes.fromhex("8680c910"), 0x10, at
    for number, body in enumerate(capabilities):
        following = at + len(body) + 2 + -len(body) % 4 + 2
        data[at : at + 2 + len(body)] = bytes((Cap.VENDOR, following if number + 1 < len(capabilities) else 0)) + body
        at = following
    return PciFunction(
        address="0000:01:00.0", path="x", vendor="0x8086", device="0x10c9", class_="0x020000", config=bytes(data).hex(), config_length=256
    )


def test_what_a_vendor_wrote_into_configuration_space_goes() -> None:
    """The header of a vendor-specific capability stays, so that lspci shows it; the text in it, or behind it, does not."""
    function = config(bytes((12,)) + b"SN-4711-X", bytes((3,)))
    outside = bytearray.fromhex(function.config)
    outside[0xC0:0xCC] = b"SER8812377\0\0"
    outside[0xD0:0xDC] = b"REV-A 220 44"
    safe = configbytes.told(bytes(outside).hex(), Pseudonyms(None), configbytes.Known((b"SER8812377",)))
    data = bytes.fromhex(safe).ljust(256, b"\0")
    assert not re.search(rb"[0-9A-Z-]{4}", data[0x40:])
    assert data[:0x40] == bytes(outside[:0x40])
    assert data[0x40:0x43] == bytes(outside[0x40:0x43])


def test_vendor_specific_extended_capabilities_go_and_cxl_stays() -> None:
    """VSEC and DVSEC keep their headers (7.9.5, 7.9.6); a CXL device is still one (CXL 3.1, 8.1.3)."""
    data = bytearray.fromhex(config().config).ljust(0x180, b"\0")
    data[0x100:0x114] = (ExtCap.VSEC | 1 << 16 | 0x120 << 20).to_bytes(4, "little") + (0x1 | 20 << 20).to_bytes(4, "little") + b"VENDORTEXT!!"
    data[0x120:0x134] = (ExtCap.DVSEC | 1 << 16 | 0x140 << 20).to_bytes(4, "little") + (0x8086 | 20 << 20).to_bytes(4, "little") + b"\1\0ownersname"
    cxl = (ExtCap.DVSEC | 1 << 16).to_bytes(4, "little") + (0x1E98 | 0x3C << 20).to_bytes(4, "little") + b"\0\0\x01\0"
    data[0x140 : 0x140 + len(cxl)] = cxl
    told = bytes.fromhex(configbytes.told(bytes(data).hex(), Pseudonyms(None), configbytes.Known(()))).ljust(0x180, b"\0")
    assert told[0x108:0x114] == bytes(12)
    assert told[0x12A:0x134] == bytes(10)
    assert (told[0x100:0x108], told[0x120:0x12A], told[0x140:0x14C]) == (bytes(data[0x100:0x108]), bytes(data[0x120:0x12A]), cxl)


def test_a_password_has_no_digits_that_could_be_tried() -> None:
    """Whoever knows the machine-id could try short passwords against a pseudonym: there is none."""
    one, two = (
        redact(Facts(kernel=Kernel(cmdline=f"psk={word} inst.rootpw={word}"), log=(f"vfio: password={word}",)), SECRETS)[0] for word in ("abc", "xyz")
    )
    assert one == two


def test_names_of_products_stay() -> None:
    """What SMBIOS calls a machine looks like a serial number, and is not."""
    named = Identity(vendor="Quanta", product="JAVA ISLAND PVT 29F0EMAZ049", board="29F0EMAZ049", firmware="F0EJ3A13")
    assert redact(Facts(identity=named), Secrets())[0].identity == named


def test_names_of_ids_stay(tmp_path: Path) -> None:
    """pci.ids calls devices whatever their makers do: none of that is a secret."""
    for place in ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids"):
        if (ids := Path(place)).exists():
            names = re.findall(r"^\t?[0-9a-f]{4}  (.*)$", ids.read_text(errors="replace"), re.MULTILINE)
            break
    else:
        names = ["I350 Gigabit Network Connection", "MT2892 Family [ConnectX-6 Dx]", "NVMe SSD Controller SM981/PM981/PM983"]
    facts = Facts(
        functions=tuple(PciFunction(address="0000:01:00.0", path="x", vendor="0x1", device="0x1", class_="0x1", device_name=name) for name in names)
    )
    changed = [
        (one.device_name, two.device_name) for one, two in zip(facts.functions, redact(facts, Secrets())[0].functions, strict=True) if one != two
    ]
    assert changed == []


def test_a_live_tree_knows_its_own_names(tmp_path: Path) -> None:
    """Names on the command line are found in the log too."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cmdline").write_text(
        "ip=[2001:db8::5]::[2001:db8::1]:64:payroll-db1:eth0:none rd.luks.name=UUID-X=cryptpay root=/dev/vgpay/rootlv\n"
    )
    secrets = secrets_of(DirectoryTree(str(tmp_path)))
    assert secrets.hosts == ("payroll-db1",)
    assert set(secrets.disks) == {"cryptpay", "vgpay", "rootlv"}
    line = "iommu: payroll_db1 has /dev/mapper/vgpay-rootlv, CRYPTPAY"
    assert left(redact(Facts(log=(line,)), secrets)[0].log[0], ("payroll", "vgpay", "rootlv", "cryptpay")) == []
