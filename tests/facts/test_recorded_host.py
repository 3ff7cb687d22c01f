"""A recorded arm64 host against what lspci, udevadm and the shell said of the same moment; and the same host as a sos report."""

from __future__ import annotations

import lzma
import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from wizard.facts.model import Facts
from wizard.facts.record import from_tree
from wizard.facts.snapshot import load
from wizard.facts.source import open_tree, read_facts
from wizard.facts.source import recorded as recorded_at
from wizard.host.build import host_of
from wizard.host.model import Accel

HERE = Path(__file__).parent
FIXTURES = HERE.parents[1] / "fixtures"
MOMENTS = {"boot": "arm64-virt", "vfio": "vfio-arm64-virt"}
both = pytest.mark.parametrize("moment", sorted(MOMENTS))


def told(moment: str, name: str) -> str:
    """What a tool said at that moment."""
    path = HERE / "data" / f"arm64-virt-{moment}" / name
    return lzma.open(path, "rt").read() if path.suffix == ".xz" else path.read_text()


def recorded(moment: str) -> Facts:
    """The snapshot of that moment."""
    return load(str(FIXTURES / f"{MOMENTS[moment]}.json"))


def paragraphs(text: str) -> dict[str, str]:
    """lspci's paragraphs by address, segment included."""
    found = {}
    for paragraph in re.split(r"\n(?=(?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7] )", text.strip()):
        address = paragraph.split()[0]
        found[address if address.count(":") == 2 else f"0000:{address}"] = paragraph
    return found


@both
def test_every_function_with_its_driver_is_the_one_of_lspci(moment: str) -> None:
    """Ids, class, subsystem and driver of `lspci -nnk`."""
    listed = paragraphs(told(moment, "lspci-nnk.txt"))
    functions = {function.address: function for function in recorded(moment).functions}
    assert functions.keys() == listed.keys()
    for address, text in listed.items():
        function = functions[address]
        ids = re.search(r"\[([0-9a-f]{4})\]: .*\[([0-9a-f]{4}):([0-9a-f]{4})\]", text)
        driver = re.search(r"Kernel driver in use: (\S+)", text)
        assert ids
        assert (function.class_[2:6], function.vendor[2:], function.device[2:]) == ids.groups()
        assert function.driver == (driver[1] if driver else None)


@both
def test_every_group_is_the_one_of_sysfs(moment: str) -> None:
    """Number, type, members and reserved regions as the shell listed them."""
    lines = re.findall(r"^(\d+) (\S+) \[(.*)\] (.*)$", told(moment, "iommu-groups.txt"), re.MULTILINE)
    listed = {int(number): (kind, tuple(members.split()), tuple(filter(None, regions.split(";")))) for number, kind, members, regions in lines}
    groups = {group.id: (group.type, group.devices, tuple((group.reserved_regions or "").split("\n"))) for group in recorded(moment).groups}
    assert groups == listed


@both
def test_configuration_space_is_what_lspci_dumped(moment: str) -> None:
    """Each byte of `lspci -xxxx`, but for those of the Device Serial Number, which are redacted."""
    dumps = paragraphs(told(moment, "lspci-xxxx.txt.xz").replace("\n\n", "\n"))
    for function in recorded(moment).functions:
        dump = bytes.fromhex("".join(line.split(": ", 1)[1] for line in dumps[function.address].split("\n")[1:] if ": " in line))
        own = bytes.fromhex(function.config).ljust(function.config_length, b"\0")
        assert len(own) == len(dump)
        different = [offset for offset, pair in enumerate(zip(own, dump, strict=True)) if pair[0] != pair[1]]
        capability = int.from_bytes(own[0x140:0x142], "little") == 3
        assert set(different) <= (set(range(0x144, 0x14C)) if capability else set())


@both
def test_names_paths_and_links_are_udevs(moment: str) -> None:
    """Device path, names of the hwdb where this machine's pci.ids has them too, and who is bound."""
    database = [dict(re.findall(r"^E: (\w+)=(.*)$", block, re.MULTILINE)) for block in told(moment, "udev-export-db.txt.xz").split("\n\n")]
    devices = {entry["PCI_SLOT_NAME"]: entry for entry in database if entry.get("SUBSYSTEM") == "pci"}
    functions = {function.address: function for function in recorded(moment).functions}
    assert functions.keys() == devices.keys()
    for address, entry in devices.items():
        assert f"/devices/{functions[address].path}" == entry["DEVPATH"]
        assert functions[address].driver == entry.get("DRIVER")
        assert functions[address].modalias == entry["MODALIAS"]
    smmus = {entry["DEVPATH"].rpartition("/")[2] for entry in database if entry.get("SUBSYSTEM") == "iommu"}
    assert {iommu.name for iommu in recorded(moment).iommus} == smmus
    cdevs = {entry["DEVPATH"].rpartition("/")[2] for entry in database if entry.get("SUBSYSTEM") == "vfio-dev"}
    assert {name for function in functions.values() for name in function.vfio_dev} == cdevs


def test_three_strange_devices_stay_strange() -> None:
    """83:02.0 without an iommu link, 83:01.0 in a group with its bridge, 00:01.0 with nothing above it: recorded as they are."""
    functions = {function.address: function for function in recorded("boot").functions}
    assert functions["0000:83:02.0"].iommu is None
    assert functions["0000:83:02.0"].iommu_group is None
    assert functions["0000:83:01.0"].iommu_group == functions["0000:82:00.0"].iommu_group == 12
    assert functions["0000:00:01.0"].iommu is None
    assert any("Aliasing StreamID 0x8300" in line for line in recorded("boot").log)


def report(directory: Path, moment: str) -> Path:
    """A sos report of that moment, at the places that sos' own plugins use (devices, pci, kernel)."""
    root = directory / "sosreport-armhost-2026"
    for path, text in {
        "sos_commands/devices/udevadm_info_--export-db": told(moment, "udev-export-db.txt.xz"),
        "sos_commands/pci/lspci_-nnvv": told(moment, "lspci-nnvvv.txt.xz"),
        "sos_commands/kernel/uname_-a": "Linux armhost 7.2.13-armhost #1 SMP PREEMPT aarch64 GNU/Linux\n",
        "sos_commands/kernel/dmesg": "\n".join(recorded(moment).log),
        "proc/misc": "259 iommu\n232 kvm\n",
        "boot/config-7.2.13-armhost": "#\n# Automatically generated file; DO NOT EDIT.\n#\nCONFIG_IOMMUFD=m\n# CONFIG_VFIO_NOIOMMU is not set\n",
        "etc/machine-id": "5d3c0a2f9e7b41c88f0e6a1d2b3c4d5e\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    for address, text in paragraphs(told(moment, "lspci-xxxx.txt.xz").replace("\n\n", "\n")).items():
        place = root / "proc/bus/pci" / address[5:7] / address[8:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(bytes.fromhex("".join(line.split(": ", 1)[1] for line in text.split("\n")[1:] if ": " in line)))
    tables = root / "sys/firmware/acpi/tables"
    tables.mkdir(parents=True)
    (tables / "IORT").write_bytes(bytes.fromhex(recorded(moment).acpi["IORT"]))
    return directory


@both
@pytest.mark.parametrize("packed", [False, True])
def test_a_sos_report_tells_the_same_functions(tmp_path: Path, moment: str, packed: bool) -> None:
    """Unpacked or as a tar: what a report can hold is what the recorded /sys holds, and what it can't is named."""
    source = report(tmp_path / "report", moment)
    if packed:
        with tarfile.open(tmp_path / "report.tar.xz", "w:xz") as archive:
            archive.add(source / "sosreport-armhost-2026", "sosreport-armhost-2026")
        source = tmp_path / "report.tar.xz"
    facts, sysfs = from_tree(open_tree(str(source))), recorded(moment)
    same = ("address", "path", "vendor", "device", "class_", "revision", "driver", "iommu_group", "numa_node", "config_length", "net", "vfio_dev")
    for own, other in zip(facts.functions, sysfs.functions, strict=True):
        assert {name: getattr(own, name) for name in same} == {name: getattr(other, name) for name in same}
    assert [group.devices for group in facts.groups] == [group.devices for group in sysfs.groups]
    assert [iommu.name for iommu in facts.iommus] == [iommu.name for iommu in sysfs.iommus]
    assert facts.acpi == {"IORT": sysfs.acpi["IORT"]}
    assert facts.log == sysfs.log
    assert facts.unread["/sys/kernel/iommu_groups"] == "not in a sos report"
    assert facts.kernel.config == {"CONFIG_IOMMUFD": "m", "CONFIG_VFIO_NOIOMMU": "n"}
    assert facts.kernel.config_partial  # five lines under the head of a kernel's own: what they leave out is no "not set"
    assert facts.iommufd is True
    assert (facts.identity.host or "").startswith("host-")


@both
@pytest.mark.parametrize("form", ["report", "cleaned", "files"])
def test_no_verdict_differs_but_towards_unknown(tmp_path: Path, moment: str, form: str) -> None:
    """The same moment of the same host as a report, as a report without what `sos clean` removes, and as a zip of lspci's output and IORT."""
    if form == "files":
        path = tmp_path / "host.zip"
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr("lspci.txt", told(moment, "lspci-nnvvv.txt.xz"))
            packed.writestr("IORT", bytes.fromhex(recorded(moment).acpi["IORT"]))
    else:
        path = report(tmp_path / "report", moment)
        if form == "cleaned":
            shutil.rmtree(path / "sosreport-armhost-2026/proc/bus")
    partial, whole = host_of(read_facts(recorded_at(str(path)))), host_of(recorded(moment))
    assert partial.functions.keys() == whole.functions.keys()
    for address, function in whole.functions.items():
        verdict, before = partial.verdict(address).accel, whole.verdict(address).accel
        assert verdict in (before, Accel.UNKNOWN), (address, verdict, before)
        streams = partial.functions[address].stream_ids
        assert set(streams) <= set(function.stream_ids), address
        assert partial.functions[address].group in (function.group, None), address
