"""Text that people paste: what each form tells is told right, and what it can't hold is unknown."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.tools.fakesysfs import build, lspci
from tests.tools.hosts import facts, host
from tests.tools.processes import LIMIT
from tests.tools.qemu import require_iasl
from wizard.base.errors import InputError
from wizard.facts.held import Place
from wizard.facts.model import UNPLACED, Facts
from wizard.facts.paste.acpi import sound
from wizard.facts.snapshot import decode, encode
from wizard.facts.source import decode_recording
from wizard.host.build import host_of
from wizard.host.doctor import diagnose
from wizard.host.model import Host

FORMS = ("-xxxx", "-xxx", "-x", "-nnvvv", "-vvv", "-nnv", "-nn", "-n", "-nnk", "-vvvxxxx", "-Dnnvvv", "-Dvmmnn", "-mmnn", "")
RECORDED = ("arm64-virt-canwbs", "vfio-arm64-virt", "altra-ava", "gb200", "x86-intel")


@pytest.fixture(scope="module")
def buses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The recorded hosts as lspci reads them."""
    return {name: build(facts(name), tmp_path_factory.mktemp(name)) for name in RECORDED}


def pasted(data: bytes | str) -> Facts:
    """Facts of a paste, which are a snapshot's as well."""
    found = decode_recording(data if isinstance(data, bytes) else data.encode(), "paste")
    assert decode(encode(found), "again") == found
    return found


def departures(paste: Host, recorded: Host) -> list[object]:
    """Each fact and verdict of a paste that is another than that of the recording, without what is unknown in the paste."""
    wrong: list[object] = []
    for address, function in paste.functions.items():
        other = recorded.functions[address]
        for name in ("vendor", "device", "driver", "iommu_group", "physfn", "subsystem_vendor", "subsystem_device"):
            value = getattr(function.facts, name)
            wrong += [(address, name, value, getattr(other.facts, name))] if value not in (None, getattr(other.facts, name)) else []
        if not function.facts.path.startswith(UNPLACED):
            wrong += [(address, "parent", function.parent, other.parent)] if function.parent != other.parent else []
        wrong += [(address, "class", function.class_code, other.class_code)] if function.class_code >> 8 != other.class_code >> 8 else []
        wrong += [(address, "bars", function.bars, other.bars)] if function.bars_known and function.bars != other.bars else []
        for name, known in function.capabilities.items():
            if known.known and known.value != other.known(name).value:
                wrong.append((address, name, known, other.known(name)))
        mine, theirs = paste.verdict(address), recorded.verdict(address)
        wrong += [(address, mine.accel, theirs.accel)] if mine.accel not in (theirs.accel, "unknown") else []
        wrong += [(address, "assignable", mine.assignable)] if mine.assignable not in (theirs.assignable, None) else []
    return wrong


@pytest.mark.parametrize("name", RECORDED)
def test_no_verdict_of_lspci_differs_from_its_host_but_towards_unknown(name: str, buses: dict[str, Path]) -> None:
    """Every form that lspci prints of a recorded host, read back: ids, place, capabilities, BARs and verdicts."""
    recorded = host(name)
    for form in FORMS:
        paste = host_of(pasted(lspci(buses[name], *filter(None, [form]))))
        assert departures(paste, recorded) == [], form
        if "nn" in form or form.endswith("xxxx"):
            assert {function.address for function in recorded.facts.functions if function.config_length} <= paste.functions.keys(), form


def test_words_tell_what_bytes_tell(buses: dict[str, Path]) -> None:
    """What lspci -nnvvv prints of capabilities is put back where it stands: the same is known by words and by the dump."""
    words, dump = (host_of(pasted(lspci(buses["arm64-virt-canwbs"], form))) for form in ("-nnvvv", "-xxxx"))
    for address, function in dump.functions.items():
        for name in ("ats", "pasid", "pri", "acs", "sriov", "msix", "msix_vectors", "flr", "port_type", "dma_aliases", "pasid_width"):
            value = words.functions[address].known(name).value
            # lspci prints nothing where the extended list is empty, and nothing where it could not be read.
            assert value == function.known(name).value or (value is None and not function.config.extended), (address, name)


def test_access_denied_is_unknown(buses: dict[str, Path], tmp_path: Path) -> None:
    """An ordinary user's lspci shows no capability: none of them is "no"."""
    recorded = facts("arm64-virt-canwbs")
    ordinary = replace(recorded, functions=tuple(replace(one, config=one.config[:128], config_length=64) for one in recorded.functions))
    text = lspci(build(ordinary, tmp_path), "-nnvvv")
    assert b"<access denied>" in text
    found = host_of(pasted(text))
    nvme = found.functions["0000:14:00.0"]
    assert [nvme.known(name).value for name in ("ats", "pasid", "pri", "acs", "msix", "flr")] == [None] * 6
    assert departures(found, host()) == []


TEXT = """\
Hi all, the VM does not start. Here is what I have:

```console
root@node7:~# lspci -nn -s 14:00.0
14:00.0 Non-Volatile memory controller [0108]: Red Hat, Inc. QEMU NVM Express Controller [1b36:0010] (rev 02) (prog-if 02 [NVM Express])
root@node7:~# find /sys/kernel/iommu_groups/ -type l
/sys/kernel/iommu_groups/0/devices/0000:10:00.0
/sys/kernel/iommu_groups/1/devices/0000:14:00.0
root@node7:~# dmesg | grep -i -e smmu -e 14:00
[    0.000000] Linux version 6.8.0-52-generic (builder@example) (gcc 13.3.0) #53-Ubuntu SMP PREEMPT_DYNAMIC Sat Jan 11 00:02:26 UTC 2025
[    0.000000] Kernel command line: BOOT_IMAGE=/vmlinuz root=/dev/nvme0n1p2 iommu.passthrough=1
[    1.320101] arm-smmu-v3 arm-smmu-v3.0.auto: option mask 0x0
[    1.331011] arm-smmu-v3 arm-smmu-v3.0.auto: ias 48-bit, oas 48-bit (features 0x000018af)
[    1.902113] pci 0000:14:00.0: [1b36:0010] type 00 class 0x010802
[    1.902201] pci 0000:14:00.0: reg 0x10: [mem 0x10200000-0x10203fff 64bit]
[    2.120000] nvme 0000:14:00.0: Adding to iommu group 1
[   93.100000] vfio-pci 0000:14:00.0: Firmware has requested this device have a 1:1 IOMMU mapping, rejecting it.
root@node7:~#
```
"""


def quoted(text: str) -> str:
    return "".join(f"> {line}\n" for line in text.splitlines())


def stamped(text: str) -> str:
    return "".join(f"2026-05-05T10:00:00.1234567Z {line}\n" for line in text.splitlines())


def coloured(text: str) -> str:
    return text.replace("root@node7", "\x1b[01;32mroot@node7\x1b[0m").replace("arm-smmu-v3", "\x1b[33marm-smmu-v3\x1b[0m")


def with_carriage_returns(text: str) -> str:
    return text.replace("\n", "\r\n")


@pytest.mark.parametrize("around", [str, quoted, stamped, coloured, with_carriage_returns], ids=["plain", "quoted", "stamped", "coloured", "crlf"])
def test_several_kinds_in_one_text(around: object) -> None:
    """A report as people write it: prompts, fences, quotes, stamps, colours and line ends change nothing."""
    found = pasted(around(TEXT))  # type: ignore[operator]
    (function,) = (one for one in found.functions if one.address == "0000:14:00.0")
    assert (function.vendor, function.device, function.class_, function.iommu_group) == ("0x1b36", "0x0010", "0x010802", 1)
    assert function.resource.startswith("0x0000000010200000 0x0000000010203fff")
    assert function.path.startswith(UNPLACED)  # nothing says what is above bus 14
    assert found.kernel.release == "6.8.0-52-generic"
    assert found.kernel.machine == "aarch64"
    assert found.rests_on == ("lspci -nn", "a listing of IOMMU groups", "the kernel's log")
    assert {group.id: group.devices for group in found.groups} == {0: ("0000:10:00.0",), 1: ("0000:14:00.0",)}
    first = [item.finding.what for area in diagnose(host_of(found)).areas for item in area.findings][:3]
    assert any("1:1" in what for what in first), first


LS = """\
/sys/kernel/iommu_groups/1/devices:
total 0
lrwxrwxrwx 1 root root 0 May  5 10:00 0000:01:00.0 -> ../../../../devices/pci0000:00/0000:00:01.0/0000:01:00.0
"""


@pytest.mark.parametrize(
    ("listing", "whole"),
    [
        ("/sys/kernel/iommu_groups/0/devices/0000:00:00.0\n/sys/kernel/iommu_groups/1/devices/0000:01:00.0\n", True),
        ("/sys/kernel/iommu_groups/1/devices/0000:01:00.0\n/sys/kernel/iommu_groups/0/devices/0000:00:00.0\n", True),
        ("/sys/kernel/iommu_groups/1/devices/0000:01:00.0\n/sys/kernel/iommu_groups/7/devices/0000:00:00.0\n", False),
        ("IOMMU Group 1 01:00.0 VGA compatible controller [0300]: NVIDIA Corporation GP106 [10de:1c03] (rev a1)\n", False),
        ("IOMMU Group 1:\n\t01:00.0 VGA compatible controller [0300]: NVIDIA Corporation GP106 [10de:1c03] (rev a1)\n", False),
        ("IOMMU group 1\n\t01:00.0 VGA compatible controller [0300]: NVIDIA Corporation GP106 [10de:1c03] (rev a1)\n", False),
        ("Group 1:\t[10de:1c03] [R] 01:00.0  VGA compatible controller  GP106\n", False),
        (LS, False),
        ("lrwxrwxrwx 1 root root 0 May 5 10:00 /sys/bus/pci/devices/0000:01:00.0/iommu_group -> ../../../../kernel/iommu_groups/1\n", False),
    ],
)
def test_listings_of_groups(listing: str, whole: bool) -> None:
    """Each listing names the member; one with a gap was cut, and says nothing of who else is in a group."""
    found = pasted(listing)
    assert next(group.devices for group in found.groups if group.id == 1) == ("0000:01:00.0",)
    assert (Place.GROUPS.value not in found.unread) is whole


def test_group_of_a_loop_names_its_function() -> None:
    """The loops print lspci's line behind the group: ids and group are told together."""
    (function,) = pasted("IOMMU Group 1 01:00.0 VGA compatible controller [0300]: NVIDIA Corporation GP106 [10de:1c03] (rev a1)\n").functions
    assert (function.address, function.vendor, function.device, function.iommu_group) == ("0000:01:00.0", "0x10de", "0x1c03", 1)


NODEDEV = """<device>
  <name>pci_0000_14_00_0</name>
  <path>/sys/devices/pci0000:10/0000:10:01.0/0000:14:00.0</path>
  <parent>pci_0000_10_01_0</parent>
  <driver>
    <name>vfio-pci</name>
  </driver>
  <capability type='pci'>
    <class>0x010802</class>
    <domain>0</domain>
    <bus>20</bus>
    <slot>0</slot>
    <function>0</function>
    <product id='0x0010'>QEMU NVM Express Controller</product>
    <vendor id='0x1b36'>Red Hat, Inc.</vendor>
    <iommuGroup number='3'>
      <address domain='0x0000' bus='0x14' slot='0x00' function='0x0'/>
      <address domain='0x0000' bus='0x14' slot='0x00' function='0x1'/>
    </iommuGroup>
    <numa node='1'/>
  </capability>
</device>
"""


def test_libvirts_node_devices() -> None:
    """A node device names driver, group with all its members, NUMA node and the way to the root bus; a name alone gives no ids."""
    found = pasted(NODEDEV + "pci_0000_15_00_0\n")
    (function,) = found.functions
    assert (function.driver, function.iommu_group, function.numa_node, function.path.rpartition("/")[0]) == ("vfio-pci", 3, 1, "?/0000:10:01.0")
    assert found.groups[0].devices == ("0000:14:00.0", "0000:14:00.1")
    assert found.unread["/sys/bus/pci/devices/0000:15:00.0"] == "named without its ids; lspci -nn would tell"


def test_udevs_database_has_functions() -> None:
    """``udevadm info --export-db`` holds properties and no attributes: functions, drivers and places, and no SMMU that is "not there"."""
    found = pasted(
        "P: /devices/pci0000:00/0000:00:01.0\nE: SUBSYSTEM=pci\nE: DRIVER=nvme\nE: PCI_CLASS=10802\nE: PCI_ID=1B36:0010\n"
        "E: PCI_SUBSYS_ID=1AF4:1100\nE: PCI_SLOT_NAME=0000:00:01.0\nE: MODALIAS=pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02\n"
    )
    (function,) = found.functions
    assert (function.device, function.driver, function.path) == ("0x0010", "nvme", "pci0000:00/0000:00:01.0")
    assert host_of(found).verdict(function.address).accel == "unknown"


def hexdump(table: bytes) -> str:
    lines = (f"    {at:04X}: " + " ".join(f"{byte:02X}" for byte in table[at : at + 16]) for at in range(0, len(table), 16))
    return "\n".join(lines) + "\n"


@cache
def iort() -> bytes:
    return bytes.fromhex(facts("arm64-virt-canwbs").acpi["IORT"])


def test_acpidump_gives_the_table() -> None:
    """acpidump's form, with the characters behind the bytes; a table that lost a line is not taken."""
    text = f"IORT @ 0x0000000000000000\n{hexdump(iort())}\nFACP @ 0x0000000000000000\n    0000: 46 41 43 50\n"
    assert pasted(text).acpi == {"IORT": iort().hex()}
    with pytest.raises(InputError, match="nothing that can be read"):
        pasted("\n".join(line for line in text.split("\n") if "0010:" not in line))


@pytest.mark.qemu
def test_iasls_disassembly_gives_the_same_table(tmp_path: Path) -> None:
    """What iasl -d writes of a real table, with its raw bytes and from its fields alone."""
    (tmp_path / "IORT.dat").write_bytes(iort())
    subprocess.run([require_iasl(), "-d", "IORT.dat"], cwd=tmp_path, capture_output=True, check=True, timeout=LIMIT, stdin=subprocess.DEVNULL)
    text = (tmp_path / "IORT.dsl").read_text()
    assert pasted(text).acpi == {"IORT": iort().hex()}
    assert pasted(text.partition("Raw Table Data")[0]).acpi == {"IORT": iort().hex()}
    assert sound(iort(), "IORT")


def test_what_is_not_understood_is_answered_with_what_is() -> None:
    """Status 3, and the kinds that would be."""
    with pytest.raises(InputError, match="nothing that can be read") as caught:
        pasted("Dear all,\nplease find attached my holiday pictures.\n")
    assert caught.value.status == 3
    for kind in ("lspci", "dmesg", "acpidump", "virsh nodedev", "udevadm", "iommu_groups"):
        assert kind in caught.value.fix


def test_words_that_were_cut_are_no_proof() -> None:
    """The end of a paste in the middle of a function's capabilities: what would have come is unknown."""
    text = (Path(__file__).parents[1] / "host/data/arm64-virt-boot.lspci.txt").read_text()
    at = text.index("\n", text.index("Capabilities: [100", text.index("14:00.0")))
    found = host_of(pasted(text[:at])).functions["0000:14:00.0"]
    assert found.known("ats").value is not False
    assert found.known("pasid").value is not False


def test_lspci_reads_the_same_from_a_dump(buses: dict[str, Path], tmp_path: Path) -> None:
    """``lspci -F`` on the same dump names the same functions with the same ids."""
    dump = lspci(buses["arm64-virt-canwbs"], "-D", "-xxxx")
    (tmp_path / "dump").write_bytes(dump)
    said = subprocess.run(["lspci", "-F", str(tmp_path / "dump"), "-D", "-n"], capture_output=True, text=True, check=True, timeout=LIMIT).stdout
    by_lspci = {words[0]: words[2] for words in map(str.split, said.splitlines())}
    ours = {function.address: f"{function.vendor[2:]}:{function.device[2:]}" for function in pasted(dump).functions}
    assert {address: ids for address, ids in ours.items() if by_lspci[address] != "ffff:ffff"} == {
        address: ids for address, ids in by_lspci.items() if ids != "ffff:ffff"
    }


@pytest.mark.parametrize("form", ["-t", "-tv", "-tnn"])
@pytest.mark.parametrize("name", RECORDED)
def test_the_tree_says_what_is_above(name: str, form: str, buses: dict[str, Path]) -> None:
    """Beside ``lspci -nn``, which tells no way: every parent that the real lspci draws is the recorded one, and hardly any is left out."""
    found = pasted(lspci(buses[name], "-Dnn") + b"\n\n" + lspci(buses[name], form))
    recorded = host_of(facts(name))
    paste = host_of(found)
    assert not departures(paste, recorded)
    # Of altra-ava lspci draws two of six domains: those of whose bridges the recording has the registers.
    placed = {one.address for one in found.functions if not one.path.startswith(UNPLACED)}
    assert name == "altra-ava" or len(placed) == len(found.functions)
    parents = {address: one.parent for address, one in recorded.functions.items() if one.facts.physfn is None and address in placed}
    assert {address: paste.functions[address].parent for address in parents} == parents
    assert any(parents.values())
