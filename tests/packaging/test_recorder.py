"""``smmu-wizard-record`` (scripts/recorder) against the program itself: the same bytes, the same sentences, on old Pythons too."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import cache as kept
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.big_host import build_tree
from tests.tools import fakesysfs
from tests.tools.cache import PROJECT, cache, skip_loudly
from tests.tools.hosts import facts
from tests.tools.processes import LIMIT
from tests.tools.systree import Sys
from wizard.cli.main import main

PARTS = PROJECT / "packaging/recorder"
DRIVER = PROJECT / "tests/tools/recorder.py"


@pytest.fixture(scope="module")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorder, built as a user builds it."""
    path = tmp_path_factory.mktemp("recorder") / "smmu-wizard-record"
    subprocess.run([sys.executable, PROJECT / "scripts/recorder", "-o", path], check=True, capture_output=True, timeout=LIMIT)
    return path


def _trees(place: Path) -> Iterator[str]:
    """Everything that `record --root` reads: trees as they are built and copied, reports, heaps of files, recordings; and what it refuses."""
    build_tree(place / "big", 60)
    yield str(place / "big")
    tree, host = place / "copied", facts("arm64-virt-canwbs")
    fakesysfs.build(host, tree)
    (tree / "dmesg").write_text("\n".join(host.log), encoding="utf-8")
    for signature, table in host.acpi.items():
        (tree / "acpi").mkdir(exist_ok=True)
        (tree / f"acpi/{signature}.bin").write_bytes(bytes.fromhex(table))
    yield str(tree)
    used = Sys(place / "used")
    used.disk("nvme0n1", "pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1")
    used.interface("eth0", "pci0000:00/0000:03:00.0/net/eth0")
    used.path("etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    used.path("etc/hostname").write_text("straße.example\n", encoding="utf-8")
    used.path("proc/self/mounts").write_text("/dev/nvme0n1 /srv/daten\\040ß xfs rw 0 0\n", encoding="utf-8")
    used.path("proc/cmdline").write_text(
        "root=UUID=0b1c2d3e-0000-4000-8000-000000000001 ip=10.0.0.7::10.0.0.1:255.255.255.0:web:eth0 x=\x7f\u2028\U0001f600"
    )
    used.path("proc/net/route").write_text("Iface\tDestination\tGateway\neth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\n")
    (used.root / "hw_info.json").write_text(
        json.dumps([{"bdf": "0000:01:00.0", "out_data_type": 2, "raw_data": "00ff", "members": {"0000:01:00.0": 1}}])
    )
    (used.root / "sys-access.json").write_text(json.dumps({"root_errors": {"/sys/class/net/eth0/address": "EIO"}}))
    yield str(used.root)
    for number, (name, text) in enumerate(_WRONG):
        tree = place / f"wrong{number}"
        (tree / "sys").mkdir(parents=True)
        (tree / name).write_text(text, encoding="utf-8")
        yield str(tree)
    (place / "empty").mkdir()
    (place / "leaves/sys/bus/pci/devices").mkdir(parents=True)
    (place / "leaves/sys/bus/pci/devices/0000:00:00.0").symlink_to("../../../../../../etc")
    (place / "unmounted/sys").mkdir(parents=True)
    yield from map(str, (place / "empty", place / "leaves", place / "unmounted", place / "is-not-there"))
    data = PROJECT / "tests"
    yield from map(
        str, (data / "host/data/not-read/sos-cleaned.tar.xz", data / "host/data/not-read/one.umockdev", data / "facts/data/arm64-virt-boot")
    )
    yield from map(str, (data / "facts/data/flattree", data / "facts/data/redaction"))
    yield from (str(PROJECT / f"fixtures/{name}.json") for name in ("arm64-virt-canwbs", "host-in-use", "tegra264", "arm64-dt", "x86-intel"))


_WRONG = (
    ("hw_info.json", '[{"bdf": 7}]'),
    ("hw_info.json", '[{"bdf": "0000:00:00"}]'),
    ("hw_info.json", '[{"error": "ENODEV"}]'),
    ("hw_info.json", '[{"bdf": "0000:01:00.0", "raw_data": "0g"}]'),
    ("hw_info.json", '[{"bdf": "0000:01:00.0", "raw_data": "0"}]'),
    ("hw_info.json", '[{"bdf": "0000:01:00.0", "out_data_type": -1}]'),
    ("hw_info.json", '[{"bdf": "0000:01:00.0", "out_data_type": true}]'),
    ("hw_info.json", '{"bdf": "0000:01:00.0"}'),
    ("hw_info.json", '[{"bdf": "0000:01:00.0"'),
    ("hw_info.json", "[] []"),
    ("sys-access.json", '{"root_errors": {"/sys": 5}}'),
    ("sys-access.json", '{"root_errors": []}'),
    ("sys-access.json", "["),
)


def _asked(place: Path) -> list[list[str]]:
    (place / "trees").mkdir()
    return [
        ["--root", tree, *more, "-o", f"{number}{'-'.join(more)}.json"]
        for number, tree in enumerate(_trees(place / "trees"))
        for more in ([], ["--no-redact"])
        if not (more and "wrong" in tree)
    ]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[str]], list[list[Any]]]:
    """(where the program itself wrote, what it was asked, its exit statuses and sentences)."""
    place = tmp_path_factory.mktemp("program")
    asked = _asked(place)
    (place / "out").mkdir()
    answers: list[list[Any]] = []
    before, said = os.getcwd(), sys.stderr
    os.chdir(place / "out")
    try:
        for words in asked:
            with (place / "err").open("w+", encoding="utf-8") as sys.stderr:
                status = main(["record", *words])
            answers.append([status, (place / "err").read_text(encoding="utf-8")])
    finally:
        sys.stderr = said
        os.chdir(before)
    return place / "out", asked, answers


def _other_python(name: str) -> str:
    place = "python" if name == "python3.14" else "old-python"
    path = cache() / place / "bin" / name
    if not path.exists():
        skip_loudly(f"the recorder is not run by {name}", f"scripts/debian-tools --with {place}")
    return str(path)


@pytest.mark.parametrize("python", ["this", "python3.14", "python3.9", "pypy3"])
def test_every_tree_becomes_the_same_bytes(
    zipapp: Path, expected: tuple[Path, list[list[str]], list[list[Any]]], tmp_path: Path, python: str
) -> None:
    """The newest; CPython 3.9, and PyPy's Python 3.7: the oldest that a Debian still has. Redacted and not, and what is said of each."""
    words = sys.executable if python == "this" else _other_python(python)
    wrote, asked, answers = expected
    if python != "python3.9":  # some of them for the others: PyPy is slow for its first seconds
        fewer = [
            at for at, command in enumerate(asked) if "--no-redact" not in command and not command[1].endswith(("gb200", "dt.json", "intel.json"))
        ]
        asked, answers = [asked[at] for at in fewer], [answers[at] for at in fewer]
    cases = tmp_path / "cases.json"
    cases.write_text(json.dumps(asked), encoding="utf-8")
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        [words, DRIVER, zipapp, cases], cwd=tmp_path / "out", capture_output=True, text=True, check=False, timeout=LIMIT, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    for command, answer, before in zip(asked, json.loads(done.stdout), answers, strict=True):
        assert answer == before, command
        assert before[0] in (0, 3), before
        if before[0] == 0:
            assert (tmp_path / "out" / command[-1]).read_bytes() == (wrote / command[-1]).read_bytes(), command
    assert sum(answer[0] == 0 for answer in answers) > 9
    assert sum(answer[0] == 3 for answer in answers) > 14


def test_this_machine_is_recorded_alike(zipapp: Path, tmp_path: Path) -> None:
    """Live, but for the time and the figures of memory; by the old Python where it is there, else by this one."""
    old = cache() / "old-python/bin/python3.9"
    found = []
    for words in ([sys.executable, "-m", "wizard", "record"], [old if old.exists() else sys.executable, zipapp]):
        done = subprocess.run(
            [*words, "--no-redact"], capture_output=True, text=True, check=True, cwd=PROJECT, timeout=LIMIT, stdin=subprocess.DEVNULL
        )
        snapshot = json.loads(done.stdout)
        for name in ("time", "memory_available", "memory_free", "hugepages_free", "log", "open_devices"):
            snapshot["moment"].pop(name, None)
        snapshot["log"] = [line for line in snapshot["log"] if "process" not in line]
        snapshot["in_use"] = [use for use in snapshot["in_use"] if use["kind"] not in ("open", "held", "vm")]  # other tests' processes come and go
        snapshot["identity"].pop("digest", None)
        found.append((snapshot, done.stderr))
    assert found[0] == found[1]


# What came with 3.7 (its "What's New"), as far as ast.parse(feature_version=) does not know it: PyPy's Python has it too.
_OF_3_7 = {
    *(
        "capture_output",
        "text",
        "nullcontext",
        "asynccontextmanager",
        "fromisoformat",
        "isascii",
        "time_ns",
        "monotonic_ns",
        "perf_counter_ns",
        "breakpoint",
    ),
    *("register_at_fork", "preadv", "pwritev", "is_closed", "reconfigure", "remainder", "supports_dir_fd"),
}
_MODULES_OF_3_7 = {"dataclasses", "contextvars", "importlib.resources"}
_LOOKS_FOR = {("_older.py", "tomllib")}


def test_no_word_is_newer_than_python_3_6(zipapp: Path) -> None:
    """Its grammar, as far as ast knows that of 3.6, and the standard library that 3.7 added."""
    with zipfile.ZipFile(zipapp) as archive:
        sources = {name: archive.read(name).decode() for name in archive.namelist()}
    for name, source in sources.items():
        for node in ast.walk(ast.parse(source, name, feature_version=(3, 6))):
            assert not isinstance(node, (ast.NamedExpr, ast.JoinedStr)), (name, ast.unparse(node))
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                modules = {alias.name for alias in node.names} if isinstance(node, ast.Import) else {str(node.module)}
                modules |= {f"{node.module}.{alias.name}" for alias in node.names} if isinstance(node, ast.ImportFrom) else set()
                taken = {one for one in modules if one in _MODULES_OF_3_7 or one == "tomllib"} - {"importlib.resources"}  # --demo's alone
                assert {(name, one) for one in taken} <= _LOOKS_FOR
            if isinstance(node, ast.Call):
                assert not {keyword.arg for keyword in node.keywords} & _OF_3_7, (name, ast.unparse(node))
            if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "site", "_older")):
                assert node.attr not in _OF_3_7 - {"text"}, (name, ast.unparse(node))
    assert {"__main__.py", "msgspec.py", "wizard/facts/live.py", "wizard/facts/redact.py"} <= set(sources)
    assert not [name for name in sources if name.startswith(("wizard/tui", "wizard/host", "wizard/plan"))]


def test_two_builds_are_equal(zipapp: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    subprocess.run([sys.executable, PROJECT / "scripts/recorder", "-o", again], check=True, capture_output=True, timeout=LIMIT)
    assert again.read_bytes() == zipapp.read_bytes()
    refused = subprocess.run(
        [sys.executable, PROJECT / "scripts/recorder", "-o", tmp_path / "no/x"], check=False, capture_output=True, text=True, timeout=LIMIT
    )
    assert refused.returncode == 5
    assert "can't be written" in refused.stderr


# The stand-ins against what they stand for.


@kept
def _stand_in(name: str, place: Path = PARTS) -> ModuleType:
    """A module of packaging/recorder under a name of its own, so that the real one stays what it is."""
    sys.path.insert(0, str(place))
    try:
        specification = importlib.util.spec_from_file_location(f"recorder_{name}", place / f"{name}.py")
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        sys.modules[module.__name__] = module
        specification.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(place))


ours = _stand_in("msgspec")


_STRUCTS = """
from typing import Any

class Inner(library.Struct, frozen=True, kw_only=True, omit_defaults=True):
    number: int
    text: str | None = None
    many: tuple[str, ...] = ()
    table: dict[str, int] = {}
    class_: str = library.field(name="class", default="")

class Outer(library.Struct, frozen=True):
    name: str
    inner: Inner = Inner(number=0)
    more: tuple[Inner, ...] = ()
    flag: bool | None = None
    rests: Any = library.UNSET
"""


def _structs(library: Any) -> tuple[Any, Any]:
    """The same two structs by either."""
    space: dict[str, Any] = {"library": library, "__name__": __name__}
    source = _STRUCTS if library is msgspec else _stand_in("older", PROJECT / "scripts/lib").older(_STRUCTS, "structs")
    exec(compile(source, "structs", "exec", dont_inherit=True), space)
    return space["Inner"], space["Outer"]


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_inner = st.fixed_dictionaries(
    {"number": st.integers(-(1 << 63), (1 << 64) - 1)},
    optional={
        "text": st.none() | _text,
        "many": st.lists(_text, max_size=3).map(tuple),
        "table": st.dictionaries(_text, st.integers(-9, 9), max_size=3),
        "class_": _text,
    },
)


@settings(max_examples=150, deadline=None)
@given(name=_text, inner=_inner, more=st.lists(_inner, max_size=3), flag=st.none() | st.booleans(), rests=st.none() | _text)
def test_structs_are_written_as_msgspec_writes_them(name: str, inner: Any, more: Any, flag: Any, rests: Any) -> None:
    texts = []
    for library in (msgspec, ours):
        one, whole = _structs(library)
        value = whole(name, one(**inner), tuple(one(**each) for each in more), flag)
        if rests is not None:
            value = library.structs.replace(value, rests=rests)
        assert value == whole(name, one(**inner), tuple(one(**each) for each in more), flag, rests if rests is not None else library.UNSET)
        encoded = library.json.encode(value)
        ordered = library.json.encode(value, order="deterministic")
        texts.append(
            (encoded, ordered, library.json.format(encoded, indent=1), value.__struct_fields__, repr(value), sorted(library.structs.asdict(value)))
        )
    assert texts[0][:4] == texts[1][:4]
    assert texts[0][5] == texts[1][5]


_toml = st.dictionaries(st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True), _text | st.booleans() | st.integers(-(1 << 40), 1 << 40), max_size=4)


@settings(max_examples=100, deadline=None)
@given(rules=st.lists(_toml, max_size=3), head=_toml)
def test_a_policy_is_read_as_tomllib_reads_it(rules: list[dict[str, Any]], head: dict[str, Any]) -> None:
    import tomllib

    import tomlkit

    reader = _stand_in("_tomllib")
    head.pop("rule", None)
    text = tomlkit.dumps({**head, "rule": rules} if rules else head)
    if "\n" in text.replace("\n", "") or '"""' in text:
        return
    assert reader.loads(text) == tomllib.loads(text)


@pytest.mark.parametrize(
    "text", ["a = [1]", "a = {b = 1}", "a.b = 1", "a = 1979-05-27", 'a = """x"""', "[a.b]", "a = 1.5", "a", "a = 1\na = 2", "[a]\n[a]", "a = 0x1F"]
)
def test_what_a_policy_has_no_use_for_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="line"):
        _stand_in("_tomllib").loads(text)


def test_figures_disks_and_addresses_are_psutils() -> None:
    stand_in: Any = _stand_in("psutil")
    assert stand_in.cpu_count() == psutil.cpu_count()
    assert stand_in.virtual_memory().total == psutil.virtual_memory().total
    assert [one[:3] for one in stand_in.disk_partitions()] == [one[:3] for one in psutil.disk_partitions(all=False)]
    assert [one[:3] for one in stand_in.disk_partitions(all=True)] == [one[:3] for one in psutil.disk_partitions(all=True) if one.device]
    wanted = {
        (name, address.family.name, address.address)
        for name, all_of in psutil.net_if_addrs().items()
        for address in all_of
        if address.family.name != "AF_PACKET"
    }
    assert {(name, one.family.name, one.address) for name, all_of in stand_in.net_if_addrs().items() for one in all_of} == wanted
    parent, real = stand_in.Process().parent(), psutil.Process().parent()
    assert parent.pid == (real.pid if real else None)
    assert stand_in.Process().environ() == psutil.Process().environ()
