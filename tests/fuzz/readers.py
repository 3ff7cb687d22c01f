"""The readers under fire. Each takes bytes that may come from anybody, and answers, or raises ``InputError``; nothing else is allowed.

A reader goes as far as the program does with what it read: a snapshot is listed, shown, diagnosed, planned and exported.
"""

from __future__ import annotations

import contextlib
import io
import json
import lzma
import os
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.tools.cache import PROJECT
from wizard.base.errors import InputError, WizardError
from wizard.base.exits import Exit

SEEDS = Path(__file__).parent / "seeds"
FIXTURES = PROJECT / "fixtures"
HOST = FIXTURES / "arm64-virt-canwbs.json"


@dataclass(frozen=True)
class Reader:
    """``kind`` names the mutations that suit: bytes, text or json. ``deep`` are slower, and meet more of the program."""

    name: str
    kind: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes], object]


def command(*words: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """Status, output and errors of a command, run in this process; what is no documented error comes through."""
    from wizard.cli.parser import parse

    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            arguments = parse(words)
            status = int(arguments.run(arguments))
        except WizardError as wrong:
            sentences(wrong)
            status = int(wrong.status)
    assert status in (Exit.OK, Exit.FINDINGS, Exit.USAGE, Exit.INPUT, Exit.OUTPUT), (words, status, error.getvalue())
    shown(out.getvalue(), words)
    shown(error.getvalue(), words)
    return status, out.getvalue(), error.getvalue()


def sentences(wrong: WizardError) -> None:
    """Both parts of an error are there and end as sentences do."""
    assert wrong.what.rstrip().endswith((".", "?", "!")), wrong.what
    assert wrong.fix.rstrip().endswith((".", "?", "!")), wrong.fix


def shown(text: str, words: tuple[str, ...] = ()) -> None:
    """Nothing of a stranger's reaches the terminal unescaped; scripts, TOML and XML keep their own tabs."""
    bad = {c for c in text if (ord(c) < 0x20 and c not in "\n\t") or c in "\x7f\x1b" or 0x80 <= ord(c) < 0xA0 or c in "\u202e\u2066\u2028"}
    assert not bad, (words, bad)


def _whole_program(snapshot: bytes) -> None:
    """What all the commands make of a snapshot."""
    from wizard.facts.snapshot import decode, encode

    facts = decode(snapshot, "snapshot")
    assert decode(encode(facts), "again") == facts
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "host.json")
        Path(path).write_bytes(snapshot)
        listed = command("--replay", path, "list")[1]
        command("--replay", path, "list", "--json")
        command("--replay", path, "doctor")
        command("--replay", path, "doctor", "--json")
        command("--replay", path, "record")
        for smmu in facts.iommus[:2]:
            command("--replay", path, "show", smmu.name)
        wanted = [function.address for function in facts.functions if f"{function.address}  yes" in listed]
        others = [function.address for function in facts.functions[:1] if function.address not in wanted]
        for address in [*wanted[:2], *others, *[f.address for f in facts.functions[-1:]]]:
            command("--replay", path, "show", address)
            command("--replay", path, "show", address, "--json")
        if wanted or others:
            _plan(directory, path, [*wanted[:2], *others][:3])


def _plan(directory: str, host: str, functions: list[str]) -> None:
    out = os.path.join(directory, "out")
    words = ["--replay", host, "plan", "--vm", f"a={functions[0]}", "--assume-accel", "-o", out, "--force"]
    if len(functions) > 1:
        words += ["--vm", "b=" + ",".join(functions[1:])]
    if len(json.dumps(words)) > 100_000:
        return
    command(*words, "--json")
    if Path(out, "a.toml").exists():
        _profile_file(host, os.path.join(out, "a.toml"))


def _profile_file(host: str, path: str) -> None:
    command("--replay", host, "check", path, "--assume-accel")
    command("--replay", host, "check", path, "--json")
    for form in ("qemu", "qemu-json", "libvirt", "virt-install", "openvmm", "prepare", "qmp"):
        command("--replay", host, "export", path, "--assume-accel", "--format", form)


def _profile(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "a.toml")
        Path(path).write_bytes(data)
        _profile_file(str(HOST), path)


@cache
def _existing(data: bytes) -> None:
    """A VM that exists, as a domain or a command line: imported, checked and mended as text, and what it became exported."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "vm@1.service" if b"[Service]" in data else "vm.sh")
        path.write_bytes(data)
        status, out, _ = command("import", str(path), "--json")
        if status not in (Exit.INPUT, Exit.USAGE):
            json.loads(out)
        command("--replay", str(HOST), "check", str(path), "--assume-accel", "--fix")
        printed = command("import", str(path))[1]
        if printed.count("\nname = ") + printed.startswith("name = ") == 1:
            profile = Path(directory, "profile.toml")
            profile.write_text(printed)
            command("--replay", str(HOST), "export", str(profile), "--assume-accel", "--format", "qemu")


def _vms() -> list[bytes]:
    data = PROJECT / "tests/existing/data"
    return [path.read_bytes() for kind in ("qemu", "xml") for path in sorted((data / kind).iterdir()) if path.suffix != ".tsv"]


def _some_profiles() -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as directory:
        plain = command("--demo", "plan", "--vm", "web=0000:14:00.0,0000:11:10.0", "--vm", "db=0000:41:00.0", "-o", directory)
        assert plain[0] == Exit.OK, plain
        rich = (
            "--demo", "plan", "--vm", "all of it=0000:14:00.0", "--memory", "2G", "--cpus", "4", "--hotplug", "0000:11:10.0",
            "--disk", "/srv/a,b.qcow2",
            "--network", "user", "--network", "bridge:br0", "--oas", "auto", "--ssidsize", "0", "--user", "nobody", "-o", directory,
        )  # fmt: skip
        assert command(*rich)[0] == Exit.OK
        return tuple(path.read_bytes() for path in sorted(Path(directory).glob("*.toml")))


def _iort(data: bytes) -> None:
    from wizard.host.firmware import Firmware
    from wizard.host.iort.decode import decode_iort

    with contextlib.suppress(ValueError):  # what it documents
        decode_iort(data)
    firmware = Firmware(data.hex())
    for segment, rid in ((0, 0x1400), (0, 0), (0, 0xFFFF), (1, 0x100), (0xFFFFFFFF, 0)):
        firmware.stream(segment, rid)
    for finding in firmware.findings:
        shown(finding.what + finding.why + finding.fix)


def _madt(data: bytes) -> None:
    from wizard.host.madt import decode_madt

    gic = decode_madt(data.hex())
    if gic is not None:
        shown(gic.words)


def _config(data: bytes) -> None:
    import msgspec

    from wizard.facts.model import PciFunction
    from wizard.facts.snapshot import decode, encode
    from wizard.host.build import host_of
    from wizard.host.view import function_view

    facts = decode(HOST.read_bytes(), "host")
    length = len(data) if len(data) in (64, 256, 4096) else 4096
    changed = tuple(
        msgspec.structs.replace(function, config=data[:4096].rstrip(b"\0").hex(), config_length=max(length, len(data[:4096])))
        if function.address in ("0000:14:00.0", "0000:10:00.0", "0000:11:00.0")
        else function
        for function in facts.functions
    )
    assert all(isinstance(function, PciFunction) for function in changed)
    host = host_of(msgspec.structs.replace(facts, functions=changed))
    encode(host.facts)
    for address in ("0000:14:00.0", "0000:10:00.0", "0000:11:00.0", "0000:11:10.0"):
        msgspec.json.encode(function_view(host, host.functions[address]))


def _configs() -> list[bytes]:
    from wizard.facts.snapshot import load

    facts = load(str(HOST))
    return [bytes.fromhex(f.config).ljust(f.config_length, b"\0") for f in facts.functions if f.config]


def _umockdev(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "host.umockdev")
        Path(path).write_bytes(data)
        command("--replay", path, "list")
        command("--replay", path, "list", "--json")
        command("--replay", path, "doctor")


def _umockdevs() -> list[bytes]:
    from wizard.facts.snapshot import load
    from wizard.facts.umockdev import to_umockdev

    return [to_umockdev(load(str(FIXTURES / name))).encode() for name in ("vfio-arm64-virt-canwbs.json", "x86-intel.json")]


def _tree(data: bytes) -> None:
    """``data`` is JSON: path -> text, or {"hex", "length"}, or {"link"}; laid down as a real tree and as a tar."""
    try:
        content = json.loads(data)
    except ValueError:
        return
    if not isinstance(content, dict):
        return
    with tempfile.TemporaryDirectory() as directory:
        root, tar = Path(directory, "root"), Path(directory, "host.tar")
        root.mkdir()
        with tarfile.open(tar, "w") as archive:
            for name, value in content.items():
                _lay(root, archive, name, value)
        for source in (str(root), str(tar)):
            command("--root", source, "list")
            command("--root", source, "doctor", "--json")
            command("--root", source, "record")


def _lay(root: Path, archive: tarfile.TarFile, name: str, value: object) -> None:
    # What a file system can't hold is left out; what a tar can hold and no file system would stays in the tar.
    path = root / name.lstrip("/")
    member = tarfile.TarInfo(name.replace("\0", "") or "empty")
    body = b""
    if isinstance(value, dict) and isinstance(value.get("link"), str):
        member.type, member.linkname = tarfile.SYMTYPE, value["link"].replace("\0", "")
    elif isinstance(value, dict):
        try:
            body = bytes.fromhex(str(value.get("hex", "")))[:65536].ljust(min(int(value.get("length", 0)), 65536), b"\0")
        except (ValueError, TypeError, OverflowError):
            body = b"\xff\xfe"
    else:
        body = str(value).encode(errors="replace")
    member.size = len(body)
    with contextlib.suppress(ValueError, OSError, UnicodeError):
        archive.addfile(member, io.BytesIO(body))
    if ".." in path.parts:
        return
    with contextlib.suppress(OSError, ValueError):
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.issym():
            path.symlink_to(member.linkname)
        else:
            path.write_bytes(body)


def _container(data: bytes) -> None:
    """Bytes as a file of their own and beside another, in a zip: tables, device trees, text of any kind, and archives that are damaged."""
    with tempfile.TemporaryDirectory() as directory:
        path, packed = Path(directory, "given"), Path(directory, "given.zip")
        path.write_bytes(data)
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("a", data)
            archive.writestr("b/IORT", _tables()[0])
        for source in (str(path), str(packed)):
            for option in ("--replay", "--root"):
                command(option, source, "list")
            command("--replay", source, "doctor", "--json")
            command("--replay", source, "record")


def _tables() -> list[bytes]:
    """IORT of a recorded host, a flat device tree, and small archives."""
    from wizard.facts.snapshot import load

    iort = bytes.fromhex(load(str(HOST)).acpi["IORT"])
    whole, tar = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("sub/IORT", iort)
    with tarfile.open(fileobj=tar, mode="w") as packed:
        member = tarfile.TarInfo("sosreport-x/sos_commands/devices/udevadm_info_--export-db")
        database = _umockdevs()[0][:20000]
        member.size = len(database)
        packed.addfile(member, io.BytesIO(database))
    return [iort, (PROJECT / "tests/facts/data/flattree/arm64-dt.dtb").read_bytes(), whole.getvalue(), tar.getvalue()]


def _klog(data: bytes) -> None:
    import msgspec

    from wizard.facts.keptlog import split
    from wizard.facts.snapshot import decode, encode
    from wizard.host.build import host_of
    from wizard.host.doctor import diagnose
    from wizard.host.log.findings import told
    from wizard.host.view import list_view

    facts = decode(HOST.read_bytes(), "host")
    log, moment = split(data.decode(errors="backslashreplace").splitlines())
    facts = msgspec.structs.replace(facts, log=log, moment=msgspec.structs.replace(facts.moment, log=moment), hw_info=())
    host = host_of(facts)
    msgspec.json.encode(list_view(host))
    msgspec.json.encode(diagnose(host))
    assert len(told(host)) <= len(host.log.troubles) + len(host.log.event_counts) + 2 * len(host.log.smmus) + 1
    assert decode(encode(facts), "again") == facts


def _examples() -> bytes:
    """Every kind of line that is known, and an event as newer kernels print it alone."""
    from wizard.host.log.lines import LINES

    smmu = "arm-smmu-v3 arm-smmu-v3.0.auto: "
    named = [f"{smmu}event: F_PERMISSION client: 0000:14:00.0 sid: 0x1400 ssid: 0x3 iova: 0x2000 ipa: 0x4080000",
             f'{smmu}priv inst write s2 "Stage 1 translation table fetch" ttd_read stall stag: 0x12']  # fmt: skip
    return "\n".join(f"[  900.{place:06}] {line}" for place, line in enumerate([*(kind.example for kind in LINES), *named])).encode()


def _explain(data: bytes) -> None:
    """As a paste and as a log, alone and held against a host; as text for people and as JSON; a large one takes the other way through."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "web.log")
        path.write_bytes(data)
        status, out, _ = command("explain", str(path))
        again, printed, _ = command("--replay", str(HOST), "explain", str(path), "--json")
        assert status == again
        report = json.loads(printed)
        assert (status == Exit.OK) is bool(report["messages"])
        assert 0 <= report["recognised"] <= report["lines"] or not report["messages"], out[:200]
        path.write_bytes(data + b"\n" + b"x" * 99 + b"\n" * 3000 + (b"nothing of interest on this line at all\n" * 8000))
        command("explain", str(path), "--json")


def _said() -> list[bytes]:
    data = PROJECT / "tests/explain/data"
    return [(data / "reports.txt").read_bytes(), (data / "messages.tsv").read_bytes(), (data / "unrelated.log").read_bytes(), _examples()]


def _translate(data: bytes) -> None:
    from wizard.cli.translate import run

    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(data)
        file.flush()
        for trace in (None, "text", "json"):
            out = io.StringIO()
            run(file.name, trace, out)
            shown(out.getvalue())


def _paste(data: bytes) -> None:
    """What the commands make of pasted text."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "report.txt")
        Path(path).write_bytes(data)
        status, listed, _ = command("--replay", path, "list", "--json")
        if status == Exit.OK:
            functions = json.loads(listed)["functions"]
            command("--replay", path, "doctor")
            command("--replay", path, "record")
            for function in functions[:2]:
                command("--replay", path, "show", function["address"])


_MARK = b"\n-- memory --\n"


def _dump(data: bytes) -> None:
    """A listing of registers and, after a mark, an image of memory: through every question that is asked of a dump."""
    listing, _, image = data.partition(_MARK)
    with tempfile.TemporaryDirectory() as directory:
        memory, registers = Path(directory, "memory"), Path(directory, "registers")
        memory.write_bytes(image)
        registers.write_bytes(listing)
        words = ["--mem", str(memory), "--registers", str(registers)]
        for action in ("streams", "check", "events", "diff"):
            command("tables", action, *words, *(["--to-mem", str(memory), "--to-registers", str(registers)] if action == "diff" else []))
        command("tables", "map", "0x1400", *words)
        command("translate", "0x1400", "0xffffd000", *words)


def _dumps() -> list[bytes]:
    data = PROJECT / "tests/smmu/data"
    core = lzma.decompress((data / "armhost-nvme.vmcore.xz").read_bytes())
    return [
        (data / "armhost-nvme.registers.txt").read_bytes() + _MARK + core,
        b"STRTAB_BASE = 0x1000\nSTRTAB_BASE_CFG = 0\n" + _MARK + b"1000: 0000000000000009\n",
    ]


def _cases() -> list[bytes]:
    cases = json.loads((FIXTURES / "translation" / "cases.json").read_bytes())
    return [json.dumps(case).encode() for case in (cases["cases"] if isinstance(cases, dict) else cases)]


def _policy(data: bytes) -> None:
    from wizard.facts.policy import parse_policy

    parse_policy(data, "policy.toml")


def _policies() -> list[bytes]:
    two = """[[rule]]
subject = "smmu3.0x0000000012000000"
accel = "off"
reason = "returns stale translations under load"
[[rule]]
subject = "0009:01:00.0"
accel = "off"
reason = "ticket 4711"
"""
    return [two.encode()]


def _keys(data: bytes) -> None:
    from wizard.tui.script import parse_script, read_script

    with tempfile.NamedTemporaryFile(suffix=".keys") as file:
        file.write(data)
        file.flush()
        read_script(Path(file.name))
    parse_script(data.decode(errors="replace"), Path("x.keys"))


def _key_scripts() -> list[bytes]:
    text = b'# a remark\nsize 80 24\ntheme textual-light\nascii\npress a j enter\ntype "web server"\nclick 10 5\nresize 20 5\nwait 0.5\n'
    return [text + b'expect "NVM Express"\nscreenshot host.svg\n', *(path.read_bytes() for path in sorted((PROJECT / "screenshots").rglob("*.keys")))]


def _request(data: bytes) -> None:
    from wizard.fleet.request import read_request

    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    read_request(text, "request.toml")


def _requests() -> list[bytes]:
    return [
        b'name = "web"\n[[function]]\nids = "1b36:0010"\ncount = 2\nats = true\npasid = 8\n[properties]\noas = 44\nats = "on"\n',
        b'name = "gpu"\n[[function]]\nclass = "0302"\nname = "H100"\n',
    ]


def _files(*names: str) -> list[bytes]:
    return [(FIXTURES / name).read_bytes() for name in names]


_HOSTS = ("arm64-virt-canwbs", "grace-cmdqv", "vfio-arm64-virt-canwbs", "x86-intel", "host-in-use", "n1sdp", "gb10")
_DATA = PROJECT / "tests/host/data"

READERS = {
    reader.name: reader
    for reader in (
        Reader("snapshot", "json", lambda: _files(*(f"{name}.json" for name in _HOSTS)), _whole_program),
        Reader("profile", "text", lambda: list(_some_profiles()), _profile),
        Reader("existing", "text", _vms, _existing),
        Reader("madt", "bytes", lambda: [(_DATA / "APIC.bin").read_bytes()], _madt),
        Reader("iort", "bytes", lambda: [path.read_bytes() for path in sorted(_DATA.glob("*.IORT.bin"))], _iort),
        Reader("config", "bytes", _configs, _config),
        Reader("umockdev", "text", _umockdevs, _umockdev),
        Reader("tree", "json", lambda: [(SEEDS / "tree.json").read_bytes()], _tree),
        Reader("container", "bytes", _tables, _container),
        Reader("klog", "text", lambda: [path.read_bytes() for path in sorted(_DATA.rglob("*.dmesg"))] + [_examples()], _klog),
        Reader("explain", "text", _said, _explain),
        Reader("translate", "json", _cases, _translate),
        Reader("paste", "text", lambda: [(SEEDS / "report.txt").read_bytes()], _paste),
        Reader("dump", "bytes", _dumps, _dump),
        Reader("policy", "text", _policies, _policy),
        Reader("keys", "text", _key_scripts, _keys),
        Reader("request", "text", _requests, _request),
    )
}
"""The readers by name; ``translate``'s cases are those that other tests hold against QEMU's answers."""


def answer(reader: Reader, data: bytes) -> bool:
    """Whether the reader took it; False for a documented refusal. Anything else it raises comes through."""
    try:
        reader.read(data)
    except InputError as wrong:
        sentences(wrong)
        return False
    return True
