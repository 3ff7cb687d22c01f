"""Edits of profiles as people write them: what an edit does not concern stays byte for byte."""

from __future__ import annotations

import difflib
import json
import random
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from wizard.plan.properties import Properties
from wizard.plan.request import (
    DiskRequest,
    FirmwareRequest,
    FunctionRequest,
    HotplugRequest,
    KeptLibvirt,
    KeptQemu,
    MadeFor,
    Mode,
    NetworkRequest,
    NodeRequest,
    VmRequest,
)
from wizard.profile import edit_profile, read_profile, write_profile

GIB = 1 << 30
HAND = """#:schema ./profile.schema.json
# the database
version = 1
name = 'db1'   # single quotes

  mode   =  "accel"

[memory]   # enough
size = '1024M'     # same as 1G

# --- its disk controller
[[function]]
# slot 3
host = "14:00.0"   # short form
rom = true

# nobody's comment

# --- its network
[[function]]
host = "0000:41:00.0" # left port
[cpus]
count = 0x2
[[disk]]
path = '/a'
# --- between other tables
[[function]]
host = "42:00.0"
# the end"""
INLINE = """name = "a"
memory = { size = "1G", hugepages = "none" } # inline
split = [
  "x", # why
  "y", # because
]
function = [
  { host = "14:00.0" }, # first
  { host = "15:00.0", rom = false }, # second
]
cpus.count = 3 # dotted
"""


def read(text: str) -> VmRequest:
    request, findings = read_profile(text)
    assert not findings, [finding.what for finding in findings]
    return request


def differences(text: str, edited: str) -> list[str]:
    return [line for line in difflib.ndiff(text.split("\n"), edited.split("\n")) if line[0] in "+-" and line[1:].strip()]


@pytest.mark.parametrize(
    ("text", "change", "differs"),
    [
        (HAND, lambda q: q, []),
        (HAND, lambda q: replace(q, memory=2 * GIB), ["- size = '1024M'     # same as 1G", "+ size = '2G'     # same as 1G"]),
        (HAND, lambda q: replace(q, cpus=4), ["- count = 0x2", "+ count = 4"]),
        (HAND, lambda q: replace(q, user="qemu"), ['+ user = "qemu"']),
        (HAND, lambda q: replace(q, functions=q.functions[1:]),
         ["- # --- its disk controller", "- [[function]]", "- # slot 3", '- host = "14:00.0"   # short form', "- rom = true"]),
        (HAND, lambda q: replace(q, functions=(q.functions[0], q.functions[2])),
         ["- # --- its network", "- [[function]]", '- host = "0000:41:00.0" # left port']),
        (HAND, lambda q: replace(q, functions=(q.functions[0], replace(q.functions[1], chassis=3), q.functions[2])), ["+ chassis = 3"]),
        (INLINE, lambda q: q, []),
        (INLINE, lambda q: replace(q, cpus=5), ["- cpus.count = 3 # dotted", "+ cpus.count = 5 # dotted"]),
        (INLINE, lambda q: replace(q, split=("x", "y", "z")), ['+   "z",']),
        (INLINE, lambda q: replace(q, split=("y",)), ['-   "x", # why']),
        (INLINE, lambda q: replace(q, functions=q.functions[1:]), ['-   { host = "14:00.0" }, # first']),
        (INLINE, lambda q: replace(q, functions=(*q.functions, FunctionRequest(host="0000:16:00.0"))),
         ['+   {host = "0000:16:00.0", iommufd = true, rom = true},']),
    ],
)  # fmt: skip
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_only_what_differs_differs(text: str, change: Callable[[VmRequest], VmRequest], differs: list[str], newline: str, bom: str) -> None:
    text = bom + text.replace("\n", newline)
    wanted = change(read(text))
    edited = edit_profile(text, wanted)
    assert read(edited) == wanted
    assert [line.rstrip("\r") for line in differences(text, edited)] == differs
    assert edited.startswith(bom)
    if newline == "\r\n":
        assert edited.count("\n") == edited.count("\r\n")


def test_functions_change_places_with_their_comments() -> None:
    request = read(HAND)
    edited = edit_profile(HAND, replace(request, functions=request.functions[::-1]))
    assert [function.host for function in read(edited).functions] == [function.host for function in request.functions[::-1]]
    assert edited.index("between other tables") < edited.index("its network") < edited.index("its disk controller")
    for name, key in (("its disk controller", "14:00.0"), ("its network", "41:00.0"), ("between other tables", "42:00.0")):
        assert key in edited.split(name)[1].split("# ---")[0]
    assert "\n# nobody's comment\n" in edited


def test_what_cannot_be_read_is_written_anew() -> None:
    text = 'name = "a"\nnme = "b" # wrong\n[memory]\nsize = "lots"\n[cpus]\ncount = 2 # kept\n'
    request, findings = read_profile(text)
    assert len(findings) == 2
    edited = edit_profile(text, request)
    assert read(edited) == request
    assert "# kept" in edited


HOSTS = ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:04:00.0"]


def some(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


def several(one: Callable[[Any], Any], values: list[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(st.sampled_from(values), unique=True, max_size=4).map(lambda found: tuple(one(value) for value in found))


def with_choices(host: str) -> st.SearchStrategy[FunctionRequest]:
    return st.builds(FunctionRequest, host=st.just(host), rom=st.booleans(), chassis=some(None, 1), id=some(None, "d"))


functions = st.lists(st.sampled_from(HOSTS), unique=True, max_size=4).flatmap(lambda hosts: st.tuples(*map(with_choices, hosts)))
requests = st.builds(
    VmRequest, name=st.just("x"), memory=some(GIB, 2 * GIB), cpus=some(1, 2), user=some("root", "q"), notes=some("", "a", "a\nb", "'x'"),
    hugepages=some(None, 2 << 20), mode=some(*Mode), functions=functions, disks=several(lambda path: DiskRequest(path=path), ["/a", "/b", "/c"]),
    networks=st.lists(st.builds(NetworkRequest, id=some(None, "n1", "n2")), max_size=3).map(tuple),
    numa=st.none() | st.lists(st.builds(NodeRequest, memory=some(GIB, 2 * GIB)), max_size=3).map(tuple),
    split=several(str, ["a", "b", "c"]), properties=st.builds(Properties, ats=some(None, "on"), oas=some(None, 44, "auto")),
    hotplug=st.lists(st.builds(HotplugRequest, port=some(None, "p", "q"), functions=several(str, HOSTS)), max_size=2).map(tuple),
    firmware=some(None, FirmwareRequest(code="/c"), FirmwareRequest(code="/c", vars="/v")), made_for=some(None, MadeFor(host="h")),
)  # fmt: skip


def inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {inline(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[ # c\n" + "".join(f"  {inline(one)}, # i\n" for one in value) + "]"
    return json.dumps(value)


def as_a_person(text: str, chance: random.Random) -> str:
    """The same profile in another hand: inline and dotted tables, comments above, below and between, lists in several lines."""
    top: list[str] = []
    blocks: list[str] = []

    def block(header: str, content: dict[str, Any]) -> None:
        end = chance.choice(["", "\n", "# after\n\n", "\n# free\n\n"])
        blocks.append(f"# lead\n{header} # h\n" + "".join(f"  {key}={inline(value)}\n" for key, value in content.items()) + end)

    for key, value in tomllib.loads(text).items():
        listed = isinstance(value, list) and value and isinstance(value[0], dict)
        way = chance.randrange(3)
        if isinstance(value, dict) and way:
            top += [f"{key} = {inline(value)} # t"] if way == 1 else [f"{key}.{name} = {inline(one)}" for name, one in value.items()]
        elif listed and not way:
            for one in value:
                block(f"[[{key}]]", one)
        elif isinstance(value, dict):
            block(f"[{key}]", value)
        else:
            top.append(f"{key}={inline(value)}")
    return "\n".join(top) + "\n" + "".join(blocks)


@settings(max_examples=150, deadline=None)
@given(requests, requests, st.randoms(use_true_random=False), st.booleans())
def test_any_edit_of_any_hand_reads_as_wanted(before: VmRequest, after: VmRequest, chance: random.Random, crlf: bool) -> None:
    text = as_a_person(write_profile(before), chance)
    text = text.replace("\n", "\r\n") if crlf else text
    assert read(text) == before
    assert edit_profile(text, before) == text
    edited = edit_profile(text, after)
    assert read(edited) == after
    assert edited.count("# free") == text.count("# free")


KEPT_SPELLINGS = [
    'name = "a"\n\n# mine\n[passthrough.qemu]\noptions = ["-rtc base=utc"]  # clock\n',
    'name = "a"\n[passthrough]\nqemu = { options = ["-rtc base=utc"] } # clock\n',
    'name = "a"\npassthrough.qemu.options = ["-rtc base=utc"] # clock\n',
    'name = "a"\npassthrough = { qemu = { options = ["-rtc base=utc"] } } # clock\n',
]


@pytest.mark.parametrize("text", KEPT_SPELLINGS)
def test_what_was_kept_aside_is_edited_where_it_stands(text: str) -> None:
    request = read_profile(text)[0]
    assert request.kept_qemu == KeptQemu(options=("-rtc base=utc",))
    assert edit_profile(text, request) == text
    more = replace(request, kept_qemu=KeptQemu(options=("-rtc base=utc", "-S")), kept_libvirt=KeptLibvirt(domain=("<cputune/>",)))
    edited = edit_profile(text, more)
    assert read_profile(edited) == (more, [])
    assert "clock" in edited
    assert read_profile(edit_profile(edited, replace(more, kept_qemu=None))) == (replace(more, kept_qemu=None), [])
