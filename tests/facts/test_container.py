"""Several files of one host in a directory, tar or zip; firmware's tables and device trees as files; and what is refused."""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.tools.hosts import FIXTURES
from wizard.base.errors import InputError, ProgramError
from wizard.facts.container import DEPTH, FILES
from wizard.facts.flattree import compile_source, unflatten
from wizard.facts.model import Facts
from wizard.facts.snapshot import load
from wizard.facts.source import Source, SourceKind, read_facts, recorded
from wizard.host.build import host_of

DATA = Path(__file__).parent / "data"
LSPCI = lzma.decompress((DATA / "arm64-virt-boot/lspci-xxxx.txt.xz").read_bytes())
HOST = load(str(FIXTURES / "arm64-virt.json"))
IORT = bytes.fromhex(HOST.acpi["IORT"])
DTB = (DATA / "flattree/arm64-dt.dtb").read_bytes()
FILES_OF_HOST = {"lspci.txt": LSPCI, "acpi/iort.dat": IORT, "read me.txt": b"The card in slot 3 does not come up.\n"}


def lay(directory: Path, form: str, files: dict[str, bytes]) -> str:
    """The files as a directory, tar or zip."""
    root = directory / "given"
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    if form == "directory":
        return str(root)
    path = directory / f"given.{form}"
    if form == "zip":
        with zipfile.ZipFile(path, "w") as packed:
            for name, data in files.items():
                packed.writestr(name, data)
    else:
        with tarfile.open(path, "w") as archive:
            archive.add(root, "given")
    return str(path)


def facts_of(path: str, kind: SourceKind = SourceKind.REPLAY) -> Facts:
    """What a path holds."""
    return read_facts(Source(kind, path))


@pytest.mark.parametrize("kind", [SourceKind.REPLAY, SourceKind.ROOT])
@pytest.mark.parametrize("form", ["directory", "tar", "zip"])
def test_several_files_are_one_host(tmp_path: Path, form: str, kind: SourceKind) -> None:
    facts = facts_of(lay(tmp_path, form, FILES_OF_HOST), kind)
    streams = {address: function.stream_ids for address, function in host_of(facts).functions.items()}
    assert streams == {address: function.stream_ids for address, function in host_of(HOST).functions.items()}
    below = "given/" if form == "tar" else ""
    assert isinstance(facts.rests_on, tuple)
    assert f"not understood · {below}read me.txt" in facts.rests_on
    assert f"ACPI table IORT · {below}acpi/iort.dat" in facts.rests_on


def test_files_may_be_packed_each(tmp_path: Path) -> None:
    files = {"lspci.txt.gz": gzip.compress(LSPCI), "IORT.xz": lzma.compress(IORT)}
    assert facts_of(lay(tmp_path, "directory", files)).acpi == {"IORT": HOST.acpi["IORT"]}


def test_a_tree_takes_what_it_lacks_from_the_files_beside_it(tmp_path: Path) -> None:
    """Somebody copied /sys as an ordinary user, and put the table beside it: no IORT and 64 bytes of each function."""
    [function] = [one for one in HOST.functions if one.address == "0000:14:00.0"]
    place = f"sys/devices/{function.path}"
    files = {
        f"{place}/vendor": function.vendor.encode(),
        f"{place}/device": function.device.encode(),
        f"{place}/class": function.class_.encode(),
        f"{place}/config": bytes.fromhex(function.config)[:64],
        f"sys/bus/pci/devices/{function.address}": f"../../../devices/{function.path}\n".encode(),
        "iort.bin": IORT,
    }
    facts = facts_of(lay(tmp_path, "zip", files))
    assert facts.functions[0].config_length == 64
    assert facts.acpi == {"IORT": HOST.acpi["IORT"]}
    assert "/sys/firmware/acpi/tables/IORT" not in facts.unread
    assert host_of(facts).functions[function.address].stream_ids == host_of(HOST).functions[function.address].stream_ids


WORDS = lzma.decompress((DATA / "arm64-virt-boot/lspci-nnvvv.txt.xz").read_bytes())
OTHER_WORDS = WORDS.replace(b"[1b36:0010]", b"[144d:a80a]")
OTHER_IORT = bytes.fromhex(load(str(FIXTURES / "gb200.json")).acpi["IORT"])
TWO_HOSTS = {
    "lspci of two": ({"a.txt": WORDS, "b.txt": OTHER_WORDS}, r"the function 0000:14:00.0 is 1b36:0010 in a.txt and 144d:a80a in b.txt"),
    "two tables": ({"a": IORT, "sub/b": OTHER_IORT}, r"the table IORT is of 512 bytes .* in a and of \d+ bytes .* in sub/b"),
    "two trees": ({"a/sys/x": b"1", "b/sys/x": b"1"}, r"more than one host: a, b"),
    "two device trees": ({"a.dtb": DTB, "b.dtb": (DATA / "flattree/arm64-dt-noncoherent.dtb").read_bytes()}, "the device tree is of"),
}


@pytest.mark.parametrize("kind", sorted(TWO_HOSTS))
def test_two_hosts_are_named_and_not_mixed(tmp_path: Path, kind: str) -> None:
    files, said = TWO_HOSTS[kind]
    with pytest.raises(InputError, match=said):
        facts_of(lay(tmp_path, "directory", files))


def test_nothing_understood_lists_what_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"notes.txt") as raised:
        facts_of(lay(tmp_path, "directory", {"notes.txt": b"hello\n", "x.zip": b"PK\x03\x04rest"}))
    assert "x.zip (an archive: unpack it first)" in raised.value.what
    for word in ("lspci", "IORT", ".dtb", "sos reports", "snapshots"):
        assert word in raised.value.fix


def test_a_container_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="directories deep"):
        facts_of(lay(tmp_path / "deep", "directory", {"d/" * (DEPTH + 1) + "x": b"x"}))
    many = tmp_path / "many.zip"
    with zipfile.ZipFile(many, "w") as packed:
        for number in range(FILES + 1):
            packed.writestr(f"f{number}", b"x")
    with pytest.raises(InputError, match=f"more than {FILES} files"):
        facts_of(str(many))


def test_nothing_is_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_bytes(LSPCI)
    root = tmp_path / "given"
    root.mkdir()
    (root / "lspci.txt").symlink_to("../secret.txt")
    with pytest.raises(InputError, match="nothing else that can be read"):
        facts_of(str(root))


HPET = b"HPET" + (36).to_bytes(4, "little") + b"\1" + bytes([-(sum(b"HPET") + 36 + 1) & 0xFF]) + bytes(26)
BAD_TABLES = {
    "checksum": (IORT[:-1] + bytes([IORT[-1] ^ 1]), "The ACPI table IORT is damaged: its checksum is wrong"),
    "cut": (IORT[:-8], "it says that it has 512 bytes, and 504 are there"),
    "another": (HPET, "The ACPI table HPET says nothing"),
    "a tree cut": (DTB[:4000], "damaged device tree"),
    "a tree of version 1": (DTB[:20] + b"\0\0\0\1" + DTB[24:], "version 1 of the format"),
    "a tree whose nodes are cut": (DTB[:36] + (64).to_bytes(4, "big") + DTB[40:], "a property lies outside of it"),
}


@pytest.mark.parametrize("kind", sorted(BAD_TABLES))
@pytest.mark.parametrize("option", [SourceKind.REPLAY, SourceKind.ROOT])
def test_a_damaged_table_is_named(tmp_path: Path, kind: str, option: SourceKind) -> None:
    data, said = BAD_TABLES[kind]
    (tmp_path / "table").write_bytes(data)
    with pytest.raises(InputError, match=said):
        facts_of(str(tmp_path / "table"), option)


def test_tables_of_one_file_are_told_apart(tmp_path: Path) -> None:
    """As `cat /sys/firmware/acpi/tables/*` makes it."""
    (tmp_path / "tables").write_bytes(HPET + IORT)
    assert facts_of(str(tmp_path / "tables")).acpi == {"IORT": HOST.acpi["IORT"]}


def test_a_flat_device_tree_is_what_the_kernel_shows_of_it() -> None:
    """The recorded host booted with this very tree: /sys/firmware/devicetree/base is held against the .dtb."""
    recorded_nodes = load(str(FIXTURES / "arm64-dt.json")).device_tree_nodes
    nodes = read_facts(recorded(str(DATA / "flattree/arm64-dt.dtb"))).device_tree_nodes
    assert nodes and recorded_nodes  # noqa: PT018
    assert {node.path: node.properties for node in nodes} == {node.path: node.properties for node in recorded_nodes}


def test_stream_ids_of_a_device_tree_beside_lspci_are_those_of_the_kernel(tmp_path: Path) -> None:
    """The running kernel's stream table had valid entries at these, 0x900 and 0x908 both of the function behind the conventional bridge."""
    whole = host_of(load(str(FIXTURES / "arm64-dt.json")))
    listing = lzma.decompress((DATA / "flattree/lspci-xxxx.txt.xz").read_bytes())
    found = host_of(facts_of(lay(tmp_path, "directory", {"lspci.txt": listing, "host.dtb": DTB})))
    assert {address: function.stream_ids for address, function in found.functions.items()} == {
        address: function.stream_ids for address, function in whole.functions.items()
    }
    every = {stream for function in found.functions.values() for stream in function.stream_ids}
    assert {0x200, 0x300, 0x301, 0x600, 0x900, 0x908} <= every
    assert {function.iort_smmu for function in found.functions.values()} == {function.iort_smmu for function in whole.functions.values()}


def test_a_source_that_takes_other_files_in_is_refused() -> None:
    for line in ('/include/ "/etc/shadow"', 'x = /incbin/("/etc/shadow");'):
        with pytest.raises(InputError, match="takes other files in"):
            compile_source("/dts-v1/;\n/ { " + line + " };\n", "x.dts")


def test_a_source_needs_dtc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "x.dts").write_text('/dts-v1/;\n/ { compatible = "x"; };\n')
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProgramError, match="dtc"):
        facts_of(str(tmp_path / "x.dts"))


@pytest.mark.skipif(shutil.which("dtc") is None, reason="dtc (device-tree-compiler) is not installed: sources of device trees are not compiled here")
def test_a_source_is_compiled_by_dtc() -> None:
    text = '/dts-v1/;\n/ { compatible = "linux,dummy-virt"; pcie@10000000 { iommu-map = <0 1 0 0x10000>; bus-range = <0 255>; }; };\n'
    tree = unflatten(compile_source(text, "x.dts"), "x.dts")
    assert tree.data("sys/firmware/devicetree/base/pcie@10000000/iommu-map") == bytes.fromhex("00000000 00000001 00000000 00010000")
    with pytest.raises(InputError, match=r"dtc does not take x\.dts"):
        compile_source("/dts-v1/;\n/ { x = <1 };\n", "x.dts")


def test_a_pipe_is_not_looked_into_before_it_is_read(tmp_path: Path) -> None:
    """A shell's <(command) can be read once: to tell what it holds must take nothing of it."""
    import os
    import threading

    path = tmp_path / "pipe"
    os.mkfifo(path)
    assert stat.S_ISFIFO(path.stat().st_mode)
    writer = threading.Thread(target=lambda: path.write_bytes((FIXTURES / "arm64-virt.json").read_bytes()), daemon=True)
    writer.start()
    assert facts_of(str(path)).acpi == HOST.acpi
    writer.join(10)
