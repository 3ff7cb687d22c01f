"""The published JSON Schema and the reader draw the same line."""

from __future__ import annotations

import tomllib

import jsonschema
import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from wizard.base.errors import InputError
from wizard.profile import read_profile, schema
from wizard.profile.format import TABLES, TOP, Key, Table

VALIDATOR = jsonschema.Draft202012Validator(schema())
REQUIRED = {"host": "0000:01:00.0", "path": "/x", "code": "/x", "id": "a", "memory": "1G", "name": "a", "kind": "port"}
KEYS = [(table, key) for table in (TOP, *TABLES) for key in table.keys]
PATTERNS = {str(found["pattern"]) for _, key in KEYS for found in (key.kind.schema, *key.kind.schema.get("anyOf", ())) if "pattern" in found}

near: st.SearchStrategy[object] = st.one_of([st.from_regex(pattern) for pattern in sorted(PATTERNS)])
ODD = """4G|4 G|4  G|4GB|4gib|4giB|٤G|4G\n| 4G||none|auto|on|accel|raw|user|100P|99P|/a\0|01:00.0|0000:01:1f.7\n|qemu=11.1\n|0-3,8|8086:10CA"""
odd: st.SearchStrategy[object] = st.sampled_from([*ODD.split("|"), "a" * 80])
plain: st.SearchStrategy[object] = st.one_of(st.integers(-5, 10**17 + 5), st.booleans(), st.text(max_size=4))
values: st.SearchStrategy[object] = st.one_of(near, odd, plain, st.lists(near | odd | plain, max_size=3))


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(KEYS), values)
def test_valid_is_accepted_and_accepted_is_valid(at: tuple[Table, Key], value: object) -> None:
    table, key = at
    entry = {one.name: REQUIRED[one.name] for one in table.keys if one.required} | {key.name: value}
    group, _, name = table.name.rpartition(".")
    held = {name: [entry] if table.many else entry}
    profile = {"name": "a", **({group: held} if group else held if name else entry)}
    try:
        text = tomlkit.dumps(profile)
        data = tomllib.loads(text)
        _, findings = read_profile(text)
    except (ValueError, InputError):
        return  # no TOML: lone surrogates, control characters, numbers beyond 64 bits
    if data == profile:
        assert VALIDATOR.is_valid(data) is not bool(findings), [finding.what for finding in findings]


NOWHERE = [
    'nme = "a"\nname = "a"\n',
    'name = "a"\n[memory]\nsze = 1\n',
    'name = "a"\n[[function]]\nid = "a"\n',
    'name = "a"\nfunction = 1\n',
    'version = 0\nname = "a"\n',
    'name = "a"\n[passthrough]\nkvm = "x"\n',
    'name = "a"\n[passthrough.qemu]\noption = ["-x"]\n',
    'name = "a"\npassthrough = 1\n',
    "",
]


@pytest.mark.parametrize("text", NOWHERE)
def test_what_belongs_nowhere_is_refused_by_both(text: str) -> None:
    assert read_profile(text)[1]
    assert not VALIDATOR.is_valid(tomllib.loads(text))
