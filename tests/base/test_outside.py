"""The ground floor against what comes from outside: TOML and JSON within bounds, words of a script that a terminal can't be moved by."""

from __future__ import annotations

import subprocess
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tools.processes import LIMIT
from wizard.base import toml
from wizard.base.json import out_of_bounds
from wizard.base.text import shell_word, visible


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=8))
def test_bash_reads_back_every_word_and_the_script_shows_nothing_odd(words: list[str]) -> None:
    script = "printf '%s\\0' " + " ".join(map(shell_word, words))
    assert visible(script.replace("\n", " ")) == script.replace("\n", " ")
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True, env={"LC_ALL": "C"}, timeout=LIMIT)
    assert done.stdout.decode().split("\0")[:-1] == words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a." * 33 + "b = 1", "parts"),
        ("[" + "a." * 33 + "b]", "parts"),
        ("a = " + "[" * 40 + "]" * 40, "nested deeper"),
        ("a = 9223372036854775808", "64 bits"),
        ("a = 0x" + "f" * 5000, "64 bits"),
        ("a = " + "9" * 5000, "64 bits"),
        ("".join(f"k{number} = 1\n" for number in range(20_001)), "more than 20000"),
        ("a = ", "Invalid value"),
    ],
)
def test_toml_beyond_its_bounds_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        toml.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        'note = "' + "a." * 200 + '"',
        "note = '''" + "[" * 200 + "'''",
        'note = """' + 'x"."' * 100 + '"""',
        "# " + "a." * 100 + "\na = 1",
        "a = 9223372036854775807\nb = -9223372036854775808",
        "a.b.c = [[1], {d = 2}]",
    ],
)
def test_strings_and_remarks_do_not_count(text: str) -> None:
    assert toml.loads(text) == tomllib.loads(text)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[" * 33 + b"]" * 33, "is nested deeper than 32 levels"),
        (b"[" * 32 + b"]" * 32, None),
        (b'"' + b"[" * 100 + b'"', None),
        (b'["\\"' + b"[" * 100 + b'"]', None),
        (b'"\\\\"' + b"[" * 33, "is nested deeper than 32 levels"),
        (b"[" + b"1," * (5 << 20) + b"1]", "has more than 4194304 values"),
        (b"[" + b"{}," * (2 << 20) + b"1]", "has more than 1048576 objects"),
        (b'"' + b"," * (5 << 20) + b'"', None),
        (b'["a,b",' * 100_000, "is nested deeper than 32 levels"),
    ],
)
def test_json_is_counted_outside_its_strings(data: bytes, said: str | None) -> None:
    assert out_of_bounds(data) == said
