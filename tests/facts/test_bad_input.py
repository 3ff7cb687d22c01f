"""Input from strangers: bounded time and memory, one sentence, status 3."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import resource
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wizard.base.errors import InputError
from wizard.facts import snapshot
from wizard.facts.content import FILE_LIMIT
from wizard.facts.functions import LIMIT, read_functions
from wizard.facts.memorytree import MemoryTree
from wizard.facts.policy import parse_policy
from wizard.facts.pseudonym import Secrets
from wizard.facts.record import from_tree
from wizard.facts.redact import redact
from wizard.facts.snapshot import decode, encode, load
from wizard.facts.source import load_recording, open_tree
from wizard.facts.umockdev import from_umockdev, to_umockdev

ROOT = Path(__file__).parents[2]
GOOD = (ROOT / "fixtures/arm64-virt.json").read_bytes()
RECORDING = to_umockdev(load(str(ROOT / "fixtures/arm64-virt.json"))).encode()
MEMORY = 1 << 30  # bytes of address space that a reader of anything has to do with


def with_function(**changes: object) -> bytes:
    """The good snapshot, with its first function changed."""
    document = json.loads(GOOD)
    document["functions"][0].update(changes)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"\x00\xff" * 1000, "not whole JSON"),
        (GOOD[: len(GOOD) // 2], "not whole JSON"),
        (b"[" * 200_000, "nested deeper than 32"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested deeper than 32"),
        (b'{"format": "something else", "version": 1}', "not a snapshot"),
        (GOOD.replace(b'"version": 1', b'"version": 99', 1), "up to version 1"),
        (GOOD.replace(b'"version": 1', b'"version": -1', 1), "no snapshot version"),
        (GOOD.replace(b"Red Hat", b"Red \xff\xfe Hat", 1), "not whole JSON|damaged"),
        (with_function(address="0000:00:00.0\n"), r"damaged.*address"),
        (with_function(address="../../etc"), r"damaged.*address"),
        (with_function(address="00000:00:00.0"), r"damaged.*address"),  # another name of 0000:00:00.0, which no kernel gives
        (with_function(config="zz"), r"damaged.*config"),
        (with_function(config="00" * 5000), r"damaged.*config"),
        (with_function(config_length=1 << 40), r"damaged.*config_length"),
        (with_function(vendor="0x" + "f" * 100), r"damaged.*vendor"),
        (with_function(**{"class": "network"}), r"damaged.*class"),
        (with_function(numa_node=-7), r"damaged.*numa_node"),
        (with_function(iommu_group=1e300), r"damaged.*iommu_group"),
        (with_function(virtfns=["x"] * 10), r"damaged.*virtfns"),
        (GOOD.replace(b'"acpi": {', b'"acpi": {"X": "abc",', 1), "damaged"),
        (GOOD.replace(b'"status": {', b'"status": {"0000:00:00.0": {"fffff": "00"},', 1), "damaged.*byte fffff"),
        (GOOD.replace(b'"status": {', b'"status": {"0000:00:00.0": {"x": "00"},', 1), "damaged"),
    ],
)
def test_a_broken_snapshot_says_what_is_broken(data: bytes, said: str) -> None:
    """The sentence names the field or the bound, and the next step."""
    with pytest.raises(InputError, match=said) as caught:
        decode(data, "x.json")
    assert caught.value.status == 3
    assert caught.value.fix


def test_unknown_fields_are_ignored_and_escapes_are_shown() -> None:
    """A newer program's fields do no harm; control characters stay data and are escaped when they are shown."""
    facts = decode(with_function(device_name="\x1b[31mred\x1b[0m", new_field={"a": [1, 2]}), "x.json")
    assert facts.functions[0].device_name == "\x1b[31mred\x1b[0m"
    with pytest.raises(InputError) as caught:
        load("/nonexistent/\x1b[2J")
    assert "\x1b" not in caught.value.what


def within_bounds(source: Path, reader: str) -> str:
    """What a reader says of a file, in a process that may take 1 GiB and 20 seconds of CPU."""
    program = f"""
import sys
from wizard.base.errors import InputError
from wizard.facts.snapshot import load
from wizard.facts.source import load_recording, open_tree
from wizard.facts.content import FILE_LIMIT
from wizard.facts.record import from_tree
from wizard.facts.source import load_recording
try:
    {reader}(sys.argv[1])
except InputError as error:
    print(error.what)
    sys.exit(3)
"""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))

    done = subprocess.run([sys.executable, "-c", program, source], capture_output=True, text=True, cwd=ROOT, preexec_fn=limit, timeout=LIMIT)
    assert done.returncode == 3, done.stderr[-2000:]
    return done.stdout


def garbage(path: Path) -> None:
    """100 MB of noise."""
    with path.open("wb") as file:
        block = os.urandom(1 << 20)
        for _ in range(100):
            file.write(block)


def million(path: Path) -> None:
    """A million functions in less than 64 MiB."""
    with path.open("wb") as file:
        file.write(b'{"format":"smmu-wizard-snapshot","version":1,"functions":[')
        file.write(b",".join([b'{"address":"0:0","path":"","vendor":"0x1","device":"0"}'] * 1_000_000))
        file.write(b"]}")


def brackets(path: Path) -> None:
    """60 MB of empty lists: not deep, and very many."""
    path.write_bytes(b"[" + b"[],[[]]," * 7_500_000 + b"1]")


@pytest.mark.parametrize(
    ("make", "said"),
    [(garbage, "more than 64M"), (million, "1000000 functions"), (brackets, "not a snapshot|not whole|more than 4194304 values")],
)
def test_huge_snapshots_end_within_bounds(tmp_path: Path, make: Callable[[Path], None], said: str) -> None:
    """A gigabyte of memory and some seconds are enough to refuse any of them."""
    path = tmp_path / "x.json"
    make(path)
    assert any(word in within_bounds(path, "load") for word in said.split("|"))


def big(functions: list[bytes], log: bytes = b"") -> bytes:
    return b'{"format":"smmu-wizard-snapshot","version":1,"log":["' + log + b'"],"functions":[' + b",".join(functions) + b"]}"


def test_a_snapshot_is_as_large_as_its_functions(tmp_path: Path) -> None:
    """65,536 functions take twice 64 MiB and are read; nothing else of a host is that large, and no single function."""
    one = b'{"address":"0000:%02x:%02x.%d","path":"","vendor":"0x1","device":"0x2","class":"0x3","config":"%s"}'
    many = [one % (number >> 8, number >> 3 & 0x1F, number & 7, b"ab" * 4096) for number in range(8200)]
    path = tmp_path / "x.json"
    path.write_bytes(big(many))
    assert path.stat().st_size > snapshot.LIMIT
    assert len(load(str(path)).functions) == len(load_recording(str(path)).functions) == 8200
    path.write_bytes(big(many[:4096], log=b"x" * snapshot.LIMIT))
    assert "more than 64MiB beside its functions" in within_bounds(path, "load")
    path.write_bytes(big([*many, many[0].replace(b'"path":""', b'"path":"%s"' % (b"x" * snapshot.EACH_LIMIT))]))
    assert "a function of more than 1MiB" in within_bounds(path, "load")
    with path.open("wb") as file:
        file.write(big(many))
        file.truncate(snapshot.WHOLE_LIMIT + 1)
    assert "more than 256MiB" in within_bounds(path, "load")


def test_bombs_are_not_unpacked(tmp_path: Path) -> None:
    """A few kilobytes that unpack to more than the bound end there, whatever they are packed with."""
    zeros = bytes(1 << 20)
    with gzip.open(tmp_path / "x.json.gz", "wb", compresslevel=1) as packed:
        for _ in range(256):
            packed.write(zeros)
    assert "more than 64M" in within_bounds(tmp_path / "x.json.gz", "load")
    squeezer = lzma.LZMACompressor(preset=0)
    (tmp_path / "x.json.xz").write_bytes(b"".join([squeezer.compress(zeros) for _ in range(256)]) + squeezer.flush())
    assert "more than 64M" in within_bounds(tmp_path / "x.json.xz", "load")
    assert "more than 64M" in within_bounds(tmp_path / "x.json.xz", "load_recording")
    member = tarfile.TarInfo("sys/x")
    member.size = 1 << 40
    with gzip.open(tmp_path / "x.tar.gz", "wb") as packed:  # not by tarfile, which from Python 3.13 on wants all the terabyte
        packed.write(member.tobuf() + bytes(2 * tarfile.BLOCKSIZE))
    assert "unpacks to more than" in within_bounds(tmp_path / "x.tar.gz", "open_tree")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_tar_whose_headers_unpack_without_end(tmp_path: Path, kind: bytes) -> None:
    """An extended header is held in memory whole, however long it says that it is."""
    member = tarfile.TarInfo("sys/x")
    member.type, member.size = kind, 2 << 30
    with gzip.open(tmp_path / "x.tar.gz", "wb", compresslevel=1) as packed:
        packed.write(member.tobuf())
        for _ in range(256):
            packed.write(bytes(1 << 20))
    assert "headers hold more than 64M" in within_bounds(tmp_path / "x.tar.gz", "open_tree")


def test_a_sparse_file_counts_what_it_unpacks_to(tmp_path: Path) -> None:
    """GNU tar writes a terabyte of nothing in 512 bytes; no more of it is held than of any file."""
    (tmp_path / "sys").mkdir()
    (tmp_path / "sys/x").touch()
    os.truncate(tmp_path / "sys/x", 1 << 40)
    subprocess.run(["tar", "-C", tmp_path, "--sparse", "-cf", tmp_path / "x.tar", "sys"], check=True, timeout=LIMIT)
    content = open_tree(str(tmp_path / "x.tar")).data("sys/x")
    assert content == bytes(FILE_LIMIT)


def test_a_tar_in_a_packing_that_python_lacks_says_so(tmp_path: Path) -> None:
    """zstd is what some sos packs with."""
    (tmp_path / "x.tar.zst").write_bytes(bytes.fromhex("28b52ffd") + bytes(100))
    with pytest.raises(InputError, match="packed with zstd: unpack it"):
        open_tree(str(tmp_path / "x.tar.zst"))


@pytest.mark.parametrize("suffix", ["json.gz", "json.xz"])
@pytest.mark.parametrize("keep", [0, 10, 0.5, -3])
def test_truncated_and_mislabelled_archives(tmp_path: Path, suffix: str, keep: float) -> None:
    """Cut short, empty, or not packed at all."""
    packed = gzip.compress(GOOD) if suffix == "json.gz" else lzma.compress(GOOD)
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(packed[: int(len(packed) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(InputError):
        load(str(path))
    path.write_bytes(GOOD)
    with pytest.raises(InputError):
        load(str(path))


@pytest.mark.parametrize("suffix", ["gz", "xz"])
def test_damage_inside_an_archive(tmp_path: Path, suffix: str) -> None:
    """Bytes that changed on the way: an error, never the half of a host that came before them."""
    compress = gzip.compress if suffix == "gz" else lzma.compress
    sysfs(tmp_path / "host")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "host", ".")
        for number in range(200):  # what can't be packed small, so that there is a middle
            member = tarfile.TarInfo(f"sys/{number}")
            member.size = 2000
            archive.addfile(member, io.BytesIO(os.urandom(2000)))
    for name, data in (("x.json", GOOD), ("x.tar", (tmp_path / "x.tar").read_bytes())):
        packed = bytearray(compress(data))
        whole = tmp_path / f"{name}.{suffix}"
        for place in (len(packed) // 3, len(packed) // 2, len(packed) - 5):
            damaged = bytearray(packed)
            damaged[place : place + 4] = bytes(byte ^ 0xFF for byte in damaged[place : place + 4])
            whole.write_bytes(damaged)
            with pytest.raises(InputError):
                load(str(whole)) if name == "x.json" else open_tree(str(whole))


def test_a_damaged_header_is_no_end_of_a_tar(tmp_path: Path) -> None:
    """tarfile takes the first header that it can't read for the end, and what follows for nothing."""
    sysfs(tmp_path / "host")
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        archive.add(tmp_path / "host", ".")
    with tarfile.open(tmp_path / "x.tar") as archive:
        last = archive.getmembers()[-1].offset
    data = bytearray((tmp_path / "x.tar").read_bytes())
    data[last + 148] ^= 0xFF  # the header's check sum
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(InputError, match=f"damaged at byte {last}"):
        open_tree(str(tmp_path / "x.tar"))


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress])
def test_a_snapshot_on_standard_input_may_be_packed(compress: Callable[[bytes], bytes]) -> None:
    """A pipe has no suffix: what is packed is known by its first bytes, damage is an error, and the bound holds."""

    def told(data: bytes) -> tuple[int, str]:
        words = [sys.executable, "-m", "wizard", "list", "--replay", "-"]
        done = subprocess.run(words, input=data, capture_output=True, cwd=ROOT, check=False, timeout=LIMIT)
        return done.returncode, done.stderr.decode()

    packed = compress(GOOD)
    assert told(packed)[0] == 0
    status, said = told(packed[: len(packed) // 2])
    assert (status, "standard input" in said) == (3, True)
    if compress is not bytes:
        status, said = told(compress(bytes(65 << 20)))
        assert (status, "holds more than 64MiB" in said) == (3, True)


def sysfs(root: Path) -> Path:
    """A tree with one function."""
    place = root / "sys/devices/pci0000:00/0000:00:01.0"
    place.mkdir(parents=True)
    (root / "sys/bus/pci/devices").mkdir(parents=True)
    for name, text in {"vendor": "0x8086", "device": "0x1563", "class": "0x020000"}.items():
        (place / name).write_text(text + "\n")
    (root / "sys/bus/pci/devices/0000:00:01.0").symlink_to("../../../devices/pci0000:00/0000:00:01.0")
    return place


def test_links_lead_nowhere_else(tmp_path: Path) -> None:
    """A loop is nothing; a link out of the tree is an error; a link in place of a file or a directory is not followed."""
    place = sysfs(tmp_path)
    devices = tmp_path / "sys/bus/pci/devices"
    (devices / "0000:00:02.0").symlink_to("0000:00:02.0")
    (devices / "0000:00:03.0").symlink_to("../devices/0000:00:03.0/../0000:00:03.0")
    (place / "iommu_group").symlink_to("iommu_group")
    (place / "resource").symlink_to("/etc/passwd")
    (tmp_path / "dmesg").symlink_to("/etc/passwd")
    (tmp_path / "proc").symlink_to("/proc")
    facts = from_tree(open_tree(str(tmp_path)))
    assert [function.address for function in facts.functions] == ["0000:00:01.0"]
    assert facts.functions[0].resource == ""
    assert facts.kernel.cmdline is None
    (devices / "0000:00:04.0").symlink_to("../../../../../../../../etc")
    with pytest.raises(InputError, match="leaves the tree"):
        from_tree(open_tree(str(tmp_path)))


def test_strange_files_in_a_tree(tmp_path: Path) -> None:
    """A pipe that nobody writes to, a directory in place of a file, a file in place of a directory."""
    place = sysfs(tmp_path)
    os.mkfifo(place / "config")
    (place / "resource").mkdir()
    (tmp_path / "sys/class").write_text("no directory\n")
    (place.parent / f"0{place.name}").mkdir()  # not as a kernel writes a function's name
    facts = from_tree(open_tree(str(tmp_path)))
    assert [(function.address, function.config_length) for function in facts.functions] == [(place.name, 0)]


def test_too_many_functions_are_refused() -> None:
    """One more than the bound, by name."""
    tree = MemoryTree("x")
    for number in range(LIMIT + 1):
        tree.enter(f"sys/bus/pci/devices/{number:04x}:00:00.0")
    with pytest.raises(InputError, match=f"more than {LIMIT}"):
        read_functions(tree)


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "sys/../../escape"])
def test_archives_with_paths_that_leave_are_refused(tmp_path: Path, name: str) -> None:
    """Nothing is unpacked; such a tar is no host's."""
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(InputError, match="can't be taken"):
        open_tree(str(tmp_path / "x.tar"))


@pytest.mark.parametrize(("name", "text"), [("sys-access.json", "[" * 9999), ("hw_info.json", '[{"bdf": "x"}]'), ("hw_info.json", "\xff")])
def test_broken_files_beside_sys_are_named(tmp_path: Path, name: str, text: str) -> None:
    """The sentence names the file."""
    sysfs(tmp_path)
    (tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=name):
        from_tree(open_tree(str(tmp_path)))


def test_long_lines_do_not_take_long() -> None:
    """Patterns that look at a megabyte of the same character: each of these took minutes with an unbounded repetition."""
    for piece in ("a", ":", "vfio ", "1.", "serial ", "52:", "/home/", "a@", "password", "-", "::1 "):
        tree = MemoryTree("x")
        for path in ("dmesg", "proc/cmdline", "proc/meminfo", "sys/devices/system/cpu/online", "uname", "proc/mounts", "proc/net/route"):
            tree.files[path] = (piece * (1 << 20))[: 1 << 20].encode()
            tree.enter(path)
        tree.enter("sys")
        redact(from_tree(tree), Secrets(key=b"0" * 32, hosts=("rack7",), users=("alice",)))


PATHS = (
    "vendor", "device", "class", "revision", "config", "resource", "uevent", "numa_node", "sriov_totalvfs", "sriov_numvfs", "driver_override",
    "reset_method",
)  # fmt: skip
OTHERS = (
    "dmesg", "uname", "kernel-config", "proc/meminfo", "proc/cmdline", "proc/modules", "proc/misc", "proc/mounts", "proc/swaps", "proc/net/route",
    "proc/version", "proc/cpuinfo", "sys/devices/system/cpu/online", "sys/devices/system/node/node0/meminfo",
    "sys/devices/system/node/has_generic_initiator",
    "sys/kernel/iommu_groups/1/type", "sys/kernel/iommu_groups/1/reserved_regions", "sys/firmware/acpi/tables/IORT",
    "proc/config.gz", "etc/machine-id",
    "etc/hostname", "etc/passwd", "usr/share/qemu/firmware/60.json", "sos_commands/devices/udevadm_info_--export-db", "sos_commands/pci/lspci_-nnvv",
)  # fmt: skip
PLAUSIBLE = st.text(alphabet="0123456789abcdefx-,: \n=PCI_DKMkBay", max_size=120).map(str.encode)
CONTENTS = st.one_of(st.binary(max_size=300), PLAUSIBLE, st.just(b"9" * 6000))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(PATHS), CONTENTS), st.dictionaries(st.sampled_from(OTHERS), CONTENTS), st.text(max_size=30))
def test_any_tree_gives_facts_or_an_error(function: dict[str, bytes], others: dict[str, bytes], target: str) -> None:
    """Whatever stands in the files: Facts that can be written, read back and redacted, or one InputError."""
    tree = MemoryTree("x")
    device = "sys/devices/pci0000:00/0000:00:01.0"
    for path, content in ({f"{device}/{name}": content for name, content in function.items()} | others).items():
        tree.files[path] = content
        tree.enter(path)
    for path, link in (("sys/bus/pci/devices/0000:00:01.0", "/" + device), (f"{device}/iommu_group", target), (f"{device}/driver", target)):
        tree.links[path] = link
        tree.enter(path)
    try:
        facts = from_tree(tree)
        redact(facts, Secrets())
    except InputError:
        return
    assert decode(encode(facts), "x") == facts


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_damage_to_a_snapshot_gives_facts_or_an_error(data: st.DataObject) -> None:
    """Bytes replaced, cut out and put in anywhere."""
    damaged = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(damaged) - 1))
        piece = data.draw(st.binary(max_size=20) | st.sampled_from([b"null", b"{}", b"[1e999]", b"-1"]))
        damaged[start : start + data.draw(st.integers(0, 40))] = piece
    try:
        facts = decode(bytes(damaged), "x")
    except InputError:
        return
    assert decode(encode(facts), "x") == facts


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_damage_to_a_recording_gives_facts_or_an_error(data: st.DataObject) -> None:
    """The umockdev reader, the same way."""
    damaged = bytearray(RECORDING)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(damaged) - 1))
        piece = data.draw(st.binary(max_size=20) | st.sampled_from([b"\nP: /devices/x", b"\\777", b"="]))
        damaged[start : start + data.draw(st.integers(0, 40))] = piece
    try:
        facts = from_umockdev(bytes(damaged))
    except InputError:
        return
    assert decode(encode(facts), "x") == facts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"rule = 1", "write \\[\\[rule\\]\\]"),
        (b"[[rule]]\nsubject = 'x'\naccel = 'off'\nreason = 'y'", "neither an SMMU"),
        (b"[[rule]]\nsubject = '0000:00:01.0'\naccel = 'on'\nreason = 'y'", 'only be "off"'),
        (b"[[rule]]\nsubject = '0000:00:01.0'\naccel = 'off'\nreason = ' '", "has to say why"),
        (b"[[rule]]\naccel = 'off'", "reason is missing; rule 1: subject is missing"),
        (b"[[rule]]\nsubject='0000:00:01.0'\naccel='off'\nreason='y'\n[[rule]]\nsubject='0000:00:01.0'\naccel='off'\nreason='y'", "already"),
        (b"[[rules]]\n", "rules means nothing"),
        (b"\xff", "no TOML"),
        (b"a = " + b"[" * 100_000, "no TOML"),
    ],
)
def test_a_policy_is_read_strictly(text: bytes, said: str) -> None:
    """A rule that is silently ignored would give away what somebody meant to keep."""
    with pytest.raises(InputError, match=said):
        parse_policy(text, "policy.toml")
    (rule,) = parse_policy(b"[[rule]]\nsubject = '0000:00:01.0'\naccel = 'off'\nreason = 'broken'", "policy.toml")
    assert (rule.subject, rule.accel, rule.reason) == ("0000:00:01.0", "off", "broken")
