"""Profiles: round trips, edits that keep a person's text, all errors at once, the schema."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.tools.hosts import E1000E, NVME, VF0, host, planned
from tests.tools.requests import requests
from wizard.base.errors import InputError
from wizard.base.finding import Severity
from wizard.plan.planner import make_plan
from wizard.plan.properties import Properties
from wizard.plan.request import (
    DiskRequest,
    FirmwareRequest,
    FunctionRequest,
    HotplugRequest,
    KeptLibvirt,
    KeptQemu,
    MachineRequest,
    MadeFor,
    Mode,
    NetworkRequest,
    NodeRequest,
    OtherRequest,
    Request,
    VmRequest,
    VsmmuRequest,
)
from wizard.plan.written import written
from wizard.profile import edit_profile, read_profile, schema, write_profile
from wizard.profile.format import MIGRATIONS, TABLES, TOP
from wizard.profile.lines import key_lines
from wizard.profile.read import migrate

GIB = 1 << 30

EVERYTHING = VmRequest(
    name="döner 1",
    mode=Mode.ACCEL,
    functions=(
        FunctionRequest(
            host=NVME, ids="1b36:0010", serial="s", id="dev0", mode=Mode.NONE, vsmmu="smmuv3.1", port="p", slot=7, port_slot=1, chassis=2, function=0,
            driver="vfio-pci", ats="auto", iommufd=True, rom=False,
        ),
    ),
    memory=3 * GIB // 2,
    hugepages=2 << 20,
    cpus=3,
    numa=(NodeRequest(memory=GIB, cpus="0-1", host_node=1), NodeRequest(memory=0, initiator="dev0")),
    firmware=FirmwareRequest(code="/c", code_format="qcow2", vars_template="/t", vars="/v", vars_format="qcow2"),
    machine=MachineRequest(type="virt-11.1", gic="max", its=False, acpi=False, uefi=False, iommu="smmuv3"),
    disks=(DiskRequest(path="/d, 'x\"\n\t\x1b\u202e", format="qcow2", readonly=True, id="d", slot=3, bus="pcie.0"),),
    networks=(NetworkRequest(kind="bridge", source="br0", mac="52:54:00:00:00:01", id="n", slot=4, bus="pcie.0"),),
    fall_back=True,
    split=("smmu3.0x1",),
    properties=Properties(ats="on", ril="off", ssidsize=20, oas=48, cmdqv="auto"),
    vsmmus=(
        VsmmuRequest(
            id="smmuv3.1", smmu="s", bus="b", bus_nr=8, slot=2, numa_node=0, accel=False, properties=Properties(ssidsize="auto", oas="auto"),
        ),
    ),
    hotplug=(
        HotplugRequest(
            vsmmu="smmuv3.1", functions=(VF0,), port="h", port_slot=5, chassis=9, bus_reserve=1, mem_reserve=2 << 20, pref64_reserve=0,
        ),
    ),
    others=(
        OtherRequest(
            id="x", kind="port", driver="d", bus="b", slot=6, function=1, bus_nr=9, numa_node=0, chassis=3, port=4, bus_reserve=1, mem_reserve=0,
            pref64_reserve=1 << 30,
        ),
    ),
    kept_qemu=KeptQemu(options=("-rtc base=utc",), properties=("d.bootindex=1",)),
    kept_libvirt=KeptLibvirt(domain=("<cputune/>",), devices=('<rng model="virtio"/>',), inside=("os: <boot dev='hd'/>",)),
    mmio_window=1 << 40,
    user="qemu",
    target="qemu=11.1",
    qmp="/run/q",
    assume_accel=True,
    allow_in_use=(NVME,),
    uuid="5a3b6d1e-0f0c-5a0e-9c4b-3c1f6a9d2e71",
    notes='two\nlines """ \\ \x1b $(reboot) `x` \r\n漢字\n',
    made_for=MadeFor(host="host-1", digest="sha256:0", product="x"),
)  # fmt: skip


def read(text: str) -> VmRequest:
    request, findings = read_profile(text)
    assert not findings
    return request


def test_every_field_survives() -> None:
    text = write_profile(EVERYTHING)
    assert read(text) == EVERYTHING
    assert write_profile(read(text)) == text
    # Nothing in the file is a control character: an editor and a terminal show what is there.
    assert all(character.isprintable() or character == "\n" for character in text)
    # The example has a value for each key of the format, so the round trip has exercised it.
    data = tomllib.loads(text)
    tables = {"": data}
    for table in TABLES:
        group, _, name = table.name.rpartition(".")
        found = (data[group] if group else data)[name]
        tables[table.name] = found[0] if table.many else found
    missing = {f"{table.name}.{key.name}" for table in (TOP, *TABLES) for key in table.keys if key.name not in tables[table.name]}
    assert missing == {"numa.initiator", "vsmmu.ats", "vsmmu.ril", "vsmmu.cmdqv"}  # the first node has none; the vSMMU leaves them to the VM


@settings(max_examples=60, deadline=None)
@given(requests)
def test_plans_round_trip(request: VmRequest) -> None:
    made = make_plan(host(), Request(vms=(request,))).vms[0]
    text = write_profile(made, host())
    assert read(text) == written(made)
    assert edit_profile(text, written(made)) == text
    jsonschema.validate(tomllib.loads(text), schema())


@settings(max_examples=100, deadline=None)
@given(st.text(), st.text(min_size=1))
def test_any_text_is_kept(notes: str, path: str) -> None:
    if "\0" in path:
        return
    request = VmRequest(name="a", notes=notes, disks=(DiskRequest(path="/" + path),))
    assert read(write_profile(request)) == request


def test_equal_plans_give_equal_files() -> None:
    assert write_profile(planned(NVME, E1000E), host()) == write_profile(planned(NVME, E1000E), host())


COMMENTED = """#:schema ./profile.schema.json
# the database
version = 1
user = "root"      # for now
name = "db1"

[memory]   # enough
# asked for by Ann
size = "1024M"     # the same as 1G
hugepages = "none"

# --- its disk controller
[[function]]
# slot 3, the blue cable
host = "14:00.0"   # short form
rom = true

# --- its network
[[function]]
host = "0000:41:00.0" # left port
"""


def test_an_edit_changes_what_differs_and_nothing_else() -> None:
    request = read(COMMENTED)
    assert edit_profile(COMMENTED, request).startswith(COMMENTED.rstrip("\n").split("mode")[0][:60])
    kept = [line for line in COMMENTED.splitlines() if "#" in line]
    edited = edit_profile(COMMENTED, replace(request, memory=2 * GIB, cpus=4))
    assert read(edited) == replace(request, memory=2 * GIB, cpus=4)
    for line in kept:
        assert line.replace('"1024M"  ', '"2G"     ').split("#")[1] in edited
    assert edited.index("the blue cable") < edited.index("left port")
    assert 'host = "14:00.0"   # short form' in edited  # an equal value keeps its spelling


def test_an_edit_takes_functions_away_and_adds_them() -> None:
    request = read(COMMENTED)
    without = edit_profile(COMMENTED, replace(request, functions=request.functions[1:]))
    assert read(without).functions == request.functions[1:]
    assert "left port" in without
    assert "blue cable" not in without
    more = replace(request, functions=(*request.functions, FunctionRequest(host=VF0)))
    assert read(edit_profile(COMMENTED, more)) == more
    assert "blue cable" in edit_profile(COMMENTED, more)
    turned = replace(request, functions=request.functions[::-1])
    assert read(edit_profile(COMMENTED, turned)) == turned


@settings(max_examples=60, deadline=None)
@given(requests, requests)
def test_an_edit_says_what_the_request_says(before: VmRequest, after: VmRequest) -> None:
    text = write_profile(make_plan(host(), Request(vms=(before,))).vms[0], host())
    wanted = written(make_plan(host(), Request(vms=(after,))).vms[0])
    assert read(edit_profile(text, wanted)) == wanted


WRONG = """version = 1
nme = "x"
mode = "fast"
fall_back = "yes"
[memory]
size = "lots"
hugepages = -1
[cpus]
count = 0
[[function]]
host = "0000:00:00"
chassis = 300
[[function]]
id = "9"
[[vsmmu]]
id = "s"
oas = "wide"
ats = 1
[[disk]]
path = ""
format = "vmdk"
[network]
kind = "user"
"""


def test_all_errors_at_once_with_line_key_found_and_allowed() -> None:
    _, findings = read_profile(WRONG, name="db1.toml")
    said = {finding.what.split(": ", 1)[1].split(" ")[0]: finding for finding in findings}
    lines = {finding.what.split(":")[0] for finding in findings}
    assert lines >= {f"db1.toml, line {n}" for n in (2, 3, 4, 6, 7, 9, 11, 12, 14, 17, 18, 20, 21, 22)}
    assert all(finding.severity is Severity.ERROR for finding in findings)
    assert '"accel", "virtio-iommu" or "none"' in said["mode"].fix
    assert '"fast"' in said["mode"].what
    assert any("there is no key nme (is name meant?)" in finding.what for finding in findings)
    assert any("function[2] has no host" in finding.what for finding in findings)
    assert any("the profile has no name" in finding.what for finding in findings)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = ", "line 1: this is no TOML"),
        ("a = 1\na = 2\n", "this is no TOML"),
        ("version = 99\nname = 'x'\n", "version 99"),
        ("a = " + "[" * 5000, "deeper than 32"),
        ("a = " + "9" * 5000, "this is no TOML"),
        ("# " + "x" * (1 << 20), "larger than 1024 KiB"),
        ("a = '\x00'", "this is no TOML"),
    ],
)
def test_what_cannot_be_read_ends_with_one_sentence(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        read_profile(text, name="x.toml")
    assert error.value.what.startswith("x.toml")
    assert "\x00" not in error.value.what


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        read_profile(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "d\xf6ner"\n')
    with pytest.raises(InputError, match=r"not UTF-8 \(byte 9\)"):
        read_profile(tmp_path / "latin.toml")
    with pytest.raises(InputError, match="can't be read"):
        read_profile(tmp_path)


@settings(max_examples=150, deadline=None)
@given(st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.floats()), lambda inner: st.lists(inner, max_size=2), max_leaves=3,
).map(json.dumps))  # fmt: skip
def test_any_value_anywhere_is_a_finding_and_never_an_exception(value: str) -> None:
    if "null" in value or "NaN" in value or "Infinity" in value:
        return
    for table in (TOP, *TABLES):
        header = f"[[{table.name}]]\n" if table.many else f"[{table.name}]\n" if table.name else ""
        text = 'name = "a"\n' * bool(header) + header + "".join(f"{key.name} = {value}\n" for key in table.keys)
        try:
            _, findings = read_profile(text)
        except InputError:
            continue  # a number or an escape that JSON has and TOML has not
        for finding in findings:
            assert ", line " in finding.what


ODD = """a.b = 1
"quoted key" = \"\"\"
[not.a.table]
x = 1
\"\"\"
list = [
  "#", # ]
  { c = 2 }, 3,
]
[[t]]
  k = '''
[[t]]'''
[[t]] # second
k=1
[t.u]
v=2
[ "q\\u0041" . 'r' ]
s = \"\"\"one \\\"\"\" two \"\"\"\"\"
t = 1979-05-27 07:32:00 # }
"""


def test_lines_of_keys_in_odd_layouts() -> None:
    tomllib.loads(ODD)
    wanted = {
        ("a", "b"): 1, ("quoted key",): 2, ("list",): 6, ("list", 0): 7, ("list", 1): 8, ("list", 1, "c"): 8, ("list", 2): 8,
        ("t", 0): 10, ("t", 0, "k"): 11, ("t", 1): 13, ("t", 1, "u", "v"): 16, ("qA", "r", "s"): 18, ("qA", "r", "t"): 19,
    }  # fmt: skip
    for text in (ODD, ODD.replace("\n", "\r\n")):
        lines = key_lines(text)
        assert {path: lines.get(path) for path in wanted} == wanted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('name = "a"\nfunction = [\n  { host = "14:00.0" },\n  # ]\n  { host = "x", chassis = 0 },\n]\n',
         ['x, line 5: function[2].host is "x".', "x, line 5: function[2].chassis is 0."]),
        ('name = "a"\nmemory.size = "lots"\ncpus = { count = 0 }\n', ['x, line 2: memory.size is "lots".', "x, line 3: cpus.count is 0."]),
        ('\ufeffname = "a"\r\nsplit = [\r\n  "a",\r\n  2,\r\n  "",\r\n]\r\n', ["x, line 4: split[2] is 2.", 'x, line 5: split[3] is "".']),
        ('name = "a"\nnotes = """\n[memory]\nsize = 1"""\nmode = "fast"\n', ['x, line 5: mode is "fast".']),
        ('\t"name"\t=\t"a"\n\t[ memory ] # [x]\n\t\t\'size\'\t=\t"#"\n', ['x, line 3: memory.size is "#".']),
    ],
)  # fmt: skip
def test_lines_of_errors_as_people_write(text: str, says: list[str]) -> None:
    assert [finding.what for finding in read_profile(text, name="x")[1]] == says


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('name = "a"\nname = "b"\n', "line 2: this is no TOML: name stands there twice, in line 1"),
        ('name = "a"\n[memory]\nsize = 1\n[[disk]]\n[memory]\n', "line 5: this is no TOML: memory stands there twice, in line 2"),
        ('name = "a"\n[memory]\nsize = 1\n# c\nsize = 2\n', "line 5: this is no TOML: memory.size stands there twice, in line 3"),
    ],
)
def test_what_stands_twice_is_named(text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        read_profile(text, name="x")
    assert error.value.what == f"x, {says} for the first time."


def test_a_migration_keeps_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(document: tomlkit.TOMLDocument) -> None:
        document["user"] = document.pop("owner")

    monkeypatch.setitem(MIGRATIONS, 0, step)
    old = '# mine\nversion = 0\nname = "a" # kept\nowner = "qemu"\n'
    assert read(old).user == "qemu"
    new = migrate(old)
    assert "# mine" in new
    assert "# kept" in new
    assert tomllib.loads(new)["version"] == 1
    assert migrate(new) == new
    assert "# mine" in edit_profile(old, read(old))


def test_every_key_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs/profile.md").read_text(encoding="utf-8")
    example = text.split("```toml\n")[1].split("```")[0]
    request = read(example)
    assert request.functions[0].vsmmu == "smmuv3.1"
    for table in (TOP, *TABLES):
        for key in table.keys:
            assert f"`{key.name}" in text, f"{table.name}.{key.name}"


def test_the_schema_refuses_what_the_reader_refuses() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(schema())
    refused = {tuple(error.absolute_path)[:2] for error in validator.iter_errors(tomllib.loads(WRONG))}
    assert {("mode",), ("fall_back",), ("memory", "size"), ("cpus", "count"), ("function", 0), ("vsmmu", 0), ("disk", 0), ("network",)} <= refused
    validator.validate(tomllib.loads(write_profile(EVERYTHING)))
